//! A lab leaves nothing, however it ends. The tests run themselves again as a program to kill.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringwall_lab::{Lab, Topology};

/// Set in the environment of the program to kill.
const HOLDER: &str = "RINGWALL_LAB_TEST_HOLDER";

fn topology() -> Topology {
    let node = |n: u8| {
        (format!("n{n}"), vec![format!("192.0.2.{n}").parse().unwrap(), format!("2001:db8::{n}").parse().unwrap()])
    };
    Topology::star("fw", ["203.0.113.254".parse().unwrap(), "2001:db8:ffff::1".parse().unwrap()], (1..=3).map(node))
}

/// A lab with programs in it that nobody waits for.
fn busy_lab() -> (Lab, Child) {
    let lab = Lab::start(&topology()).unwrap();
    let host = lab.host("n1").unwrap();
    let child = host.command("sleep").arg("1000").spawn().unwrap();
    host.output("sh", &["-c", "sleep 1000 >/dev/null 2>&1 & setsid sleep 1000 >/dev/null 2>&1 &"], "").unwrap();
    let mut killed = lab.host("n2").unwrap().command("sleep").arg("1000").spawn().unwrap();
    killed.kill().unwrap();
    killed.wait().unwrap();
    (lab, child)
}

/// The lab's namespaces, as the kernel names them.
fn namespaces(lab: &Lab) -> BTreeSet<String> {
    let kinds = ["net", "mnt", "pid", "uts", "ipc"];
    let first =
        kinds.map(|kind| fs::read_link(format!("/proc/{}/ns/{kind}", lab.pid())).unwrap().to_str().unwrap().to_owned());
    let hosts = lab.hosts().flat_map(|host| {
        ["net", "mnt", "uts"]
            .map(|kind| host.output("readlink", &[&format!("/proc/self/ns/{kind}")], "").unwrap().trim().to_owned())
    });
    let all: BTreeSet<String> = first.into_iter().chain(hosts).collect();
    assert_eq!(all.len(), 5 + 4 * 3, "namespaces are shared: {all:?}");
    all
}

/// Processes that are in one of the namespaces, or hold it open.
fn holders(namespaces: &BTreeSet<String>) -> BTreeSet<String> {
    let mut holders = BTreeSet::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        for folder in ["ns", "fd"] {
            let links = fs::read_dir(process.path().join(folder)).into_iter().flatten().flatten();
            let mut links = links.filter_map(|link| fs::read_link(link.path()).ok());
            if links.any(|link| namespaces.contains(link.to_str().unwrap_or_default())) {
                holders.insert(process.file_name().to_str().unwrap().to_owned());
            }
        }
    }
    holders
}

/// The machine's own interfaces, rules, named namespaces, mounts and forwarding.
fn machine() -> Vec<String> {
    let say = |program: &str, arguments: &[&str]| {
        let output =
            Command::new(program).args(arguments).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    vec![
        say("ip", &["-o", "address"]),
        say("ip", &["-o", "link"]).lines().map(|line| line.split(" qlen").next().unwrap().to_owned() + "\n").collect(),
        say("ip", &["netns", "list"]),
        say("nft", &["list", "tables"]),
        fs::read_to_string("/proc/self/mountinfo").unwrap(),
        fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(),
        fs::read_to_string("/proc/sys/net/ipv6/conf/all/forwarding").unwrap(),
        fs::read_to_string("/proc/sys/kernel/hostname").unwrap(),
        format!("{}", fs::exists("/var/lib/ringwall").unwrap()),
    ]
}

fn assert_gone(namespaces: &BTreeSet<String>) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let left = holders(namespaces);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "processes {left:?} still hold {namespaces:?}");
        std::thread::yield_now();
    }
}

/// Runs `test` of this file again as a program that holds a lab; its lab's namespaces.
fn start_holder(test: &str) -> (Child, BTreeSet<String>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(HOLDER, "1").process_group(0);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let namespaces: BTreeSet<String> =
        lines.skip_while(|line| line != "begin").skip(1).take_while(|line| line != "end").collect();
    assert!(!holders(&namespaces).is_empty());
    (child, namespaces)
}

fn hold() -> ! {
    let (lab, _child) = busy_lab();
    println!("\nbegin");
    namespaces(&lab).iter().for_each(|namespace| println!("{namespace}"));
    println!("end");
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read(&mut [0]);
    unreachable!("killed before this");
}

fn is_holder() -> bool {
    std::env::var_os(HOLDER).is_some()
}

#[test]
fn dropped_it_leaves_nothing() {
    let before = machine();
    let (lab, mut child) = busy_lab();
    let namespaces = namespaces(&lab);
    assert_eq!(machine(), before);
    drop(lab);
    assert_gone(&namespaces);
    assert!(!child.wait().unwrap().success());
    assert_eq!(machine(), before);
}

#[test]
fn killed_it_leaves_nothing() {
    if is_holder() {
        hold();
    }
    let before = machine();
    let (mut child, namespaces) = start_holder("lifecycle::killed_it_leaves_nothing");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_gone(&namespaces);
    assert_eq!(machine(), before);
}

#[test]
fn interrupted_it_leaves_nothing() {
    if is_holder() {
        hold();
    }
    let before = machine();
    let (mut child, namespaces) = start_holder("lifecycle::interrupted_it_leaves_nothing");
    // As a terminal does it: to the whole process group.
    kill(Pid::from_raw(-child.id().cast_signed()), Signal::SIGINT).unwrap();
    child.wait().unwrap();
    assert_gone(&namespaces);
    assert_eq!(machine(), before);
}

#[test]
fn killed_while_it_is_made_it_leaves_nothing() {
    const TEST: &str = "lifecycle::killed_while_it_is_made_it_leaves_nothing";
    if is_holder() {
        loop {
            drop(busy_lab());
        }
    }
    let before = machine();
    for delay in [5, 20, 40, 60, 80] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mark = format!("{}-{delay}", std::process::id());
        command.args(["--exact", TEST]).env(HOLDER, &mark).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        // Some moment in the making; which one it is does not decide the outcome.
        std::thread::sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9), "it went on making labs until then");
        // Everything that the program started has its environment.
        let mark = format!("{HOLDER}={mark}");
        let deadline = Instant::now() + Duration::from_secs(20);
        let is_marked = |pid: &str| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|all| all.split(|b| *b == 0).any(|one| one == mark.as_bytes()))
        };
        while fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .any(|process| process.file_name().to_str().is_some_and(is_marked))
        {
            assert!(Instant::now() < deadline, "processes of a killed program are left");
            std::thread::yield_now();
        }
    }
    assert_eq!(machine(), before);
}

/// As somebody who is not root, where the machine allows it, and with the reason where it doesn't.
#[test]
fn without_root_a_lab_runs_in_a_user_namespace() {
    const TEST: &str = "lifecycle::without_root_a_lab_runs_in_a_user_namespace";
    const ALLOWED: &str = "RINGWALL_LAB_TEST_USERNS";
    if let Ok(allowed) = std::env::var(ALLOWED) {
        let lab = Lab::start(&topology());
        if allowed == "no" {
            assert!(lab.unwrap_err().to_string().contains("run as root, or allow user namespaces"));
            return;
        }
        let lab = lab.unwrap();
        let host = lab.host("n1").unwrap();
        assert_eq!(
            host.output("ip", &["-br", "link", "show", "eth0"], "").unwrap().split_whitespace().nth(1),
            Some("UP")
        );
        host.output("nft", &["-f", "-"], "table inet t { chain c { type filter hook input priority 0; }; }").unwrap();
        assert!(host.output("nft", &["list", "tables"], "").unwrap().contains("table inet t"));
        host.sysctl("net.ipv4.ip_forward", "1").unwrap();
        host.output("tee", &["/var/lib/ringwall/file"], "").unwrap();
        assert_eq!(host.output("hostname", &[], "").unwrap(), "n1\n");
        assert!(host.run(|| ()).unwrap_err().to_string().contains("runs commands only"));
        return;
    }
    let nobody = |program: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", program]).current_dir("/");
        command
    };
    let allowed =
        nobody("unshare").args(["--user", "--map-root-user", "--net", "true"]).output().unwrap().status.success();
    // The folder of the build may be closed to others.
    let folder = std::env::temp_dir().join(format!("ringwall-lab-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.join("test");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut command = nobody(copy.to_str().unwrap());
    command.args(["--exact", TEST]).env(ALLOWED, if allowed { "yes" } else { "no" });
    let output = command.output().unwrap();
    fs::remove_dir_all(&folder).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
