//! `ringwall verify` as an operator runs it: the program itself, entering each node by a command.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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
