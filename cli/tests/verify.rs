//! `ringwall verify` as an operator runs it: the program itself, entering each node by a command.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use ringwall_lab::{Lab, Topology};

const RINGWALL: &str = env!("CARGO_BIN_EXE_ringwall");

const POLICY: &str = r#"
internal: [192.0.2.0/24, "2001:db8::/64"]
nodes:
  app: { addresses: [192.0.2.10, "2001:db8::10"] }
  db: { addresses: [192.0.2.11, "2001:db8::11"] }
groups:
  users: { addresses: [198.51.100.0/24, "2001:db8:1::/64"] }
rules:
  - allow: users -> app
    services: [https]
  - allow: app -> db
    services: [tcp/5432, udp/4567]
"#;

struct Platform {
    lab: Lab,
    /// One link for each host, to its network namespace.
    folder: PathBuf,
    /// The links lead to these.
    _namespaces: Vec<File>,
}

impl Platform {
    fn start(name: &str) -> Self {
        let addresses = |texts: [&str; 2]| texts.map(|text| text.parse::<IpAddr>().expect("an address")).to_vec();
        let nodes = [
            ("app", addresses(["192.0.2.10", "2001:db8::10"])),
            ("db", addresses(["192.0.2.11", "2001:db8::11"])),
            ("user", addresses(["198.51.100.7", "2001:db8:1::7"])),
        ];
        let lab = Lab::start(&Topology::star("router", addresses(["192.0.2.254", "2001:db8::fe"]), nodes));
        let lab = lab.expect("root, and the tools of the lab");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("verify-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("policy.yaml"), POLICY).expect("a file");
        let mut namespaces = Vec::new();
        for host in ["app", "db", "user"] {
            let namespace = lab.host(host).expect("a host").run(|| File::open("/proc/thread-self/ns/net"));
            let namespace = namespace.expect("a namespace").expect("a file");
            let target = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
            std::os::unix::fs::symlink(target, folder.join(host)).expect("a link");
            namespaces.push(namespace);
        }
        Self { lab, folder, _namespaces: namespaces }
    }

    fn enforce(&self, node: &str) {
        let text = self.ringwall(&["compile", "--node", node]);
        assert!(text.status.success(), "{text:?}");
        self.nft(node, &String::from_utf8(text.stdout).expect("text"));
    }

    fn nft(&self, node: &str, text: &str) {
        self.lab.host(node).expect("a host").output("nft", &["-f", "-"], text).expect("nft takes it");
    }

    fn ringwall(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(RINGWALL);
        command.arg(arguments[0]).arg(self.folder.join("policy.yaml")).args(&arguments[1..]);
        command.output().expect("the program")
    }

    /// The exit code, and the JSON.
    fn verify(&self, arguments: &[&str]) -> (Option<i32>, serde_json::Value) {
        let run = format!("nsenter --net={}/{{node}} {RINGWALL}", self.folder.display());
        let output = self.ringwall(&[&["verify", "--run", &run, "-o", "json"], arguments].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}")))
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn the_exit_code_says_whether_all_is_as_declared() {
    let platform = Platform::start("exit");
    platform.enforce("app");
    platform.enforce("db");
    let user = ["--vantage", "user=198.51.100.7,2001:db8:1::7"];

    let (code, found) = platform.verify(&[&user[..], &["--denied", "all"]].concat());
    assert_eq!((code, &found["schema"]), (Some(0), &"ringwall.verify/1".into()), "{found:#}");
    // In both families: one flow of users to app, two of app to db.
    assert_eq!(found["summary"]["declared"], serde_json::json!({ "as_declared": 6, "not_as_declared": 0, "unknown": 0 }));
    assert!(found["summary"]["undeclared"]["as_declared"].as_u64() > Some(50), "{found:#}");

    // Without the vantage, nobody can say whether users reach the application.
    let (code, found) = platform.verify(&[]);
    assert_eq!(code, Some(4), "{found:#}");
    assert_eq!(found["not_probed"][0]["reason"], "no vantage: no machine of `users` can be probed from");

    platform.nft("db", "insert rule inet ringwall g1_in udp dport 443 accept; insert rule inet ringwall g1_in tcp dport 443 accept");
    let (code, found) = platform.verify(&[&user[..], &["--denied", "all"]].concat());
    assert_eq!(code, Some(1), "{found:#}");
    let surprises = found["flows"].as_array().expect("flows").iter().filter(|flow| flow["conclusion"] == "not_as_declared");
    let mut said: Vec<String> = surprises.map(|flow| format!("{} {} {}", flow["source_machine"], flow["port"], flow["reason"])).collect();
    said.sort();
    let hidden = "only the source closes it: past the source's output the destination lets it in";
    assert_eq!(said, [
        format!("\"app\" 443 \"{hidden}\""),
        format!("\"app\" 443 \"{hidden}\""),
        "\"user\" 443 \"nothing closes it\"".to_owned(),
        "\"user\" 443 \"nothing closes it\"".to_owned(),
    ]);

    // A node whose rules are gone: what it should drop is open, and the reader is told why.
    platform.nft("app", "delete table inet ringwall");
    let (code, _) = platform.verify(&user);
    assert_eq!(code, Some(1));
}

#[test]
fn what_cannot_be_run_is_said_in_one_sentence() {
    let platform = Platform::start("usage");
    let cases: [(&[&str], i32, &str); 4] = [
        (&["--run", "ssh vault"], 2, "`--run` has no `{node}`"),
        (&["--vantage", "user=198.51.100.7"], 2, "`--vantage` needs `--run`"),
        (&["--run", "nsenter --net=/nowhere/{node} ringwall"], 3, "nothing could be probed"),
        (&[], 3, "this machine has no address of any node"),
    ];
    for (arguments, code, sentence) in cases {
        let output = platform.ringwall(&[&["verify"], arguments].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(sentence), "{said}");
    }
}

/// Open, closed with a reset, filtered: three answers, of the probe and of the command that a person is told to run.
#[test]
fn r000_19_three_answers_from_the_real_source_node_and_the_commands_for_them() {
    let platform = Platform::start("r000-19");
    let policy = POLICY.replace("[tcp/5432, udp/4567]", "[tcp/5432, tcp/5433, tcp/5434]");
    std::fs::write(platform.folder.join("policy.yaml"), policy).expect("a file");
    platform.enforce("app");
    platform.enforce("db");
    platform.nft("db", "insert rule inet ringwall g1_in tcp dport 5433 reject with tcp reset; insert rule inet ringwall g1_in tcp dport 5434 drop");
    let _service = ["192.0.2.11:5432", "[2001:db8::11]:5432"].map(|at| platform.lab.host("db").expect("a host").run(|| TcpListener::bind(at)).expect("a host").expect("a port"));
    let (code, found) = platform.verify(&["--denied", "0"]);
    assert_eq!(code, Some(1), "{found:#}");
    let app = platform.lab.host("app").expect("a host");
    let mut answers = Vec::new();
    for flow in found["flows"].as_array().expect("flows").iter().filter(|flow| flow["source_machine"] == "app") {
        let (address, port) = (flow["destination"].as_str().expect("an address"), flow["port"].as_u64().expect("a port"));
        let at = SocketAddr::new(address.parse().expect("an address"), u16::try_from(port).expect("a port"));
        let connected = app.run(|| TcpStream::connect_timeout(&at, Duration::from_millis(700)).map_err(|error| error.kind()));
        let seen = match connected.expect("a host") {
            Ok(_) => ("open", 0),
            Err(ErrorKind::ConnectionRefused) => ("rejected", 1),
            Err(ErrorKind::TimedOut) => ("dropped", 124),
            Err(other) => panic!("{at}: {other}"),
        };
        assert_eq!(flow["found"], seen.0, "{flow:#}");
        // As it is printed, but for the time that it takes.
        let linux = flow["by_hand"]["linux"].as_str().expect("a command").replace("timeout 2", "timeout 0.7");
        let ended = app.command("sh").args(["-c", &linux]).stdout(Stdio::null()).stderr(Stdio::null()).status().expect("a shell");
        assert_eq!(ended.code(), Some(seen.1), "{linux}");
        assert_eq!(flow["by_hand"]["windows"], format!("Test-NetConnection -ComputerName {address} -Port {port}"));
        answers.push((port, seen.0));
    }
    answers.sort();
    answers.dedup();
    assert_eq!(answers, [(5432, "open"), (5433, "rejected"), (5434, "dropped")]);
    let run = format!("nsenter --net={}/{{node}} {RINGWALL}", platform.folder.display());
    let text = String::from_utf8(platform.ringwall(&["verify", "--run", &run, "--denied", "0"]).stdout).expect("text");
    assert!(text.contains("by hand from app: timeout 2 bash -c '</dev/tcp/192.0.2.11/5434' (Linux), Test-NetConnection -ComputerName 192.0.2.11 -Port 5434 (Windows)"), "{text}");
}
