//! `kill -9` of a fleet's real programs, at any moment: nothing acknowledged is lost, no node is open, all converge.
//!
//! `RINGWALL_ROUNDS=N` does so many, `RINGWALL_SEED=N` draws other moments. Root, nft.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringwall_lab::{Lab, Topology};
use serde_json::Value;

/// In the ordinary test run: half a minute.
const ROUNDS: u64 = 6;
const CONTROLLER: &str = "controller";
const NODES: [&str; 3] = ["web-1", "web-2", "web-3"];
const USER: &str = "user";
/// Open in every revision, and in none.
const ALWAYS: u16 = 5000;
const NEVER: u16 = 9999;
/// For what takes some seconds.
const SOON: Duration = Duration::from_secs(90);

fn address(host: &str) -> IpAddr {
    let at: [u8; 4] = match host {
        CONTROLLER => [192, 0, 2, 1],
        USER => [198, 51, 100, 9],
        node => [192, 0, 2, 10 + node.bytes().last().expect("a digit") - b'0'],
    };
    at.into()
}

fn policy(port: u16) -> String {
    format!(
        "groups:\n  web:   {{ labels: {{ role: web }} }}\n  users: {{ addresses: [{}] }}\nrules:\n  - {{ allow: users -> web, services: [udp/{ALWAYS}, udp/{port}] }}\n",
        address(USER)
    )
}

fn variable(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().expect("a number"))
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// A program that ends with this, at once.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The programs, in the profile of this one.
fn programs() -> PathBuf {
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--quiet", "--package", "ringwall-cli", "--package", "ringwall-controller", "--package", "ringwall-agent"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    assert!(command.status().expect("cargo runs").success(), "the programs are built");
    let own = std::env::current_exe().expect("a program");
    own.parent().and_then(|deps| deps.parent()).expect("the profile's folder").to_path_buf()
}

struct Rig {
    lab: Lab,
    programs: PathBuf,
    /// What runs, by host.
    running: Mutex<BTreeMap<&'static str, Running>>,
}

impl Rig {
    fn command(&self, host: &str, program: &str) -> Command {
        let path = self.programs.join(program);
        let mut command = self.lab.host(host).expect("a host").command(path.to_str().expect("UTF-8"));
        for (variable, _) in std::env::vars_os().filter(|(variable, _)| variable.to_string_lossy().starts_with("RINGWALL_")) {
            command.env_remove(variable);
        }
        command.current_dir("/run").stdin(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn start(&self, host: &'static str) {
        let mut command = if host == CONTROLLER {
            let mut command = self.command(host, "ringwall-controller");
            command.args(["--folder", "/run/controller", "--host", "192.0.2.1"]);
            command
        } else {
            let mut command = self.command(host, "ringwall-agent");
            command.arg("run");
            command
        };
        let child = command.stdout(Stdio::null()).spawn().expect("it starts");
        self.running.lock().expect("nobody panicked").insert(host, Running(child));
    }

    fn kill(&self, host: &'static str) {
        let killed = self.running.lock().expect("nobody panicked").remove(host).expect("it runs");
        drop(killed);
    }

    /// `None`: it was not acknowledged.
    fn ringwall(&self, arguments: &[&str]) -> Option<String> {
        let mut command = self.command(CONTROLLER, "ringwall");
        command.env("RINGWALL_CONTROLLER", "https://192.0.2.1:7444");
        command.env("RINGWALL_CA_FILE", "/run/controller/ca-certificate.pem").env("RINGWALL_KEY_FILE", "/run/controller/first-key");
        let output = command.args(arguments).output().expect("`ringwall` runs");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn json(&self, arguments: &[&str]) -> Option<Value> {
        let text = self.ringwall(&[arguments, &["-o", "json"]].concat())?;
        Some(serde_json::from_str(&text).expect("JSON"))
    }

    /// Whoever asks goes on until there is an answer.
    fn insist<T>(&self, what: &str, ask: impl Fn() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            assert!(begun.elapsed() < SOON, "not in time: {what}: {:#?}", self.json(&["rollout", "status"]));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The number that a revision got, if it was acknowledged.
    fn commit(&self, port: u16) -> Option<u64> {
        let write = ["-c", "mkdir -p /run/policy && cat > /run/policy/policy.yaml"];
        self.lab.host(CONTROLLER).expect("a host").output("sh", &write, &policy(port)).expect("a file");
        Some(self.json(&["revision", "commit", "policy/"])?["number"].as_u64().expect("a number"))
    }

    fn roll(&self, revision: u64) -> Option<u64> {
        let started = self.json(&["rollout", "start", &revision.to_string(), "--window", "5s"])?;
        Some(started["number"].as_u64().expect("a number"))
    }

    /// Whether the controller knows of each node that it has it, and that nothing else is on its way.
    fn is_confirmed(&self, revision: u64) -> bool {
        let Some(nodes) = self.json(&["nodes"]) else { return false };
        let is_it = |node: &Value| node["assignment"]["revision"] == revision && node["assignment"]["state"] == "confirmed";
        nodes["nodes"].as_array().is_some_and(|nodes| nodes.len() == NODES.len() && nodes.iter().all(is_it))
    }

    /// Whether a packet of the user's gets to a program on each of the nodes.
    fn is_open(&self, port: u16) -> bool {
        NODES.iter().all(|node| self.is_open_on(node, port))
    }

    fn is_open_on(&self, node: &str, port: u16) -> bool {
        let to = SocketAddr::new(address(node), port);
        let bound = self.lab.host(node).expect("a host").run(|| UdpSocket::bind(to)).expect("a host").expect("a port");
        bound.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
        let from = self.user();
        from.send_to(b"probe", to).expect("it is sent");
        bound.recv(&mut [0; 16]).is_ok()
    }

    fn user(&self) -> UdpSocket {
        self.lab.host(USER).expect("a host").run(|| UdpSocket::bind((address(USER), 0))).expect("a host").expect("a port")
    }

    /// Every node has the revision that opens the port, by its own rollout or a later one.
    fn converge(&self, revision: u64, port: u16) {
        self.insist("all nodes enforce the last revision", || {
            // On trial it may be open, too, and fall.
            if self.is_confirmed(revision) && self.is_open(port) {
                return Some(());
            }
            // What was killed may have made it go back: it is wanted again.
            let is_over = self.json(&["rollout", "status"]).is_none_or(|status| matches!(status["state"].as_str(), Some("done" | "stopped")));
            if is_over {
                self.roll(revision);
            }
            None
        });
    }
}

/// Says so when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends to all nodes all the time: to the port that is open, and the one that must never be.
struct Knocking {
    always: Vec<UdpSocket>,
    never: Vec<UdpSocket>,
}

impl Knocking {
    fn new(rig: &Rig) -> Self {
        let bind = |port| {
            let bind_on = |node: &&str| {
                let to = SocketAddr::new(address(node), port);
                let bound = rig.lab.host(node).expect("a host").run(|| UdpSocket::bind(to)).expect("a host").expect("a port");
                bound.set_nonblocking(true).expect("a socket");
                bound
            };
            NODES.iter().map(bind_on).collect()
        };
        Self { always: bind(ALWAYS), never: bind(NEVER) }
    }

    fn run(from: &UdpSocket, is_over: &AtomicBool) {
        while !is_over.load(Ordering::Relaxed) {
            for node in NODES {
                for port in [ALWAYS, NEVER] {
                    let _ = from.send_to(b"knock", SocketAddr::new(address(node), port));
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn heard(sockets: &[UdpSocket]) -> Vec<u64> {
        let count = |socket: &UdpSocket| {
            let mut count = 0;
            loop {
                match socket.recv(&mut [0; 16]) {
                    Ok(_) => count += 1,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return count,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        sockets.iter().map(count).collect()
    }

    /// Since the last time.
    fn check(&self) {
        let (always, never) = (Self::heard(&self.always), Self::heard(&self.never));
        assert!(always.iter().all(|heard| *heard > 0), "what is allowed got through: {always:?}");
        assert!(never.iter().all(|heard| *heard == 0), "a node was open: {never:?}");
    }
}

#[test]
fn killing_any_program_at_any_moment_loses_nothing_and_opens_nothing() {
    let rounds = variable("RINGWALL_ROUNDS").unwrap_or(ROUNDS);
    let mut random = Random(variable("RINGWALL_SEED").unwrap_or(1));
    let hosts = [CONTROLLER].into_iter().chain(NODES).chain([USER]);
    let machines: Vec<_> = hosts.map(|host| (host, vec![address(host)])).collect();
    let lab = Lab::start(&Topology::star("router", [IpAddr::from([192, 0, 2, 254])], machines)).expect("a laboratory");
    let rig = Rig { lab, programs: programs(), running: Mutex::default() };
    rig.start(CONTROLLER);
    rig.insist("the controller answers", || rig.ringwall(&["nodes"]));
    let token = rig.ringwall(&["token", "create", "--labels", "role=web", "--uses", "3", "--prefix", "192.0.2.0/24"]).expect("a token");
    let word = token.lines().find(|line| line.starts_with("rwt1_")).expect("a word");
    for node in NODES {
        let mut command = rig.command(node, "ringwall-agent");
        assert!(command.args(["enrol", word, "--node", node]).stdout(Stdio::null()).status().expect("it runs").success(), "{node} is let in");
        rig.start(node);
    }
    // It would be seen.
    assert!(NODES.iter().all(|node| rig.is_open_on(node, NEVER)), "nothing is enforced before there is a policy");
    let (mut revisions, mut rollouts) = (Vec::new(), Vec::new());
    let mut port = 6000;
    revisions.push((rig.commit(port).expect("it is acknowledged"), port));
    rig.converge(revisions[0].0, port);

    let knocking = Knocking::new(&rig);
    let (from, is_over) = (rig.user(), AtomicBool::new(false));
    // Nothing is open now: what is heard from here on counts.
    Knocking::heard(&knocking.never);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| Knocking::run(&from, &is_over));
        let _over = Over(&is_over);
        for round in 1..=rounds {
            let before = port;
            port = 6000 + u16::try_from(round % 2000).expect("small");
            // One program, or two; at a moment of the change that a seed draws.
            let all: Vec<&'static str> = [CONTROLLER, CONTROLLER].into_iter().chain(NODES).collect();
            let mut victims = vec![all[usize::try_from(random.below(5)).expect("5")]];
            if random.below(3) == 0 {
                victims.push(all[usize::try_from(1 + random.below(4)).expect("4")]);
                victims.dedup();
            }
            let (wait, pause) = (random.below(900), random.below(300));
            let (committed, rolled) = std::thread::scope(|change| {
                let operator = change.spawn(|| {
                    let revision = rig.commit(port);
                    (revision, revision.and_then(|revision| rig.roll(revision)))
                });
                std::thread::sleep(Duration::from_millis(wait));
                victims.iter().for_each(|victim| rig.kill(victim));
                std::thread::sleep(Duration::from_millis(pause));
                victims.iter().for_each(|victim| rig.start(victim));
                operator.join().expect("an operator")
            });
            revisions.extend(committed.map(|revision| (revision, port)));
            rollouts.extend(rolled);
            // What was not acknowledged may be there or not; it is asked for again.
            let revision = committed.unwrap_or_else(|| {
                let revision = rig.insist("a revision is committed", || rig.commit(port));
                revisions.push((revision, port));
                revision
            });
            rig.converge(revision, port);
            assert!(NODES.iter().all(|node| !rig.is_open_on(node, before)), "round {round}: what the revision before opened is closed");
            knocking.check();
        }
    });
    // All that was acknowledged is there.
    for (revision, port) in &revisions {
        let shown = rig.json(&["revision", "show", &revision.to_string()]).unwrap_or_else(|| panic!("the revision {revision} is lost"));
        assert!(shown.to_string().contains(&format!("udp/{port}]")), "the revision {revision} is another: {shown}");
    }
    for rollout in &rollouts {
        assert!(rig.json(&["rollout", "status", &rollout.to_string()]).is_some(), "the rollout {rollout} is lost");
    }
    println!(
        "{rounds} rounds in {} s: {} revisions and {} rollouts acknowledged, none lost; no node open",
        begun.elapsed().as_secs(), revisions.len(), rollouts.len()
    );
}
