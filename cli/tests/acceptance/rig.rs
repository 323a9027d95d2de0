//! A lab with `ringwall` in it: commands on its hosts, and real traffic between them.
//!
//! In: a topology, policies as text, lines of flows such as `user -> lb: tcp/80 udp/53`. Out: what
//! came of them, or a panic that names every flow that went another way than the line says.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringwall_lab::frame::{self, Details};
use ringwall_lab::{HostRef, Lab, Topology};
use ringwall_node::kernel::{Connection, Netfilter};
use ringwall_packet::{Family, Flow, Upper};

/// More than any flow that is let through needs.
pub const SOON: Duration = Duration::from_secs(5);
/// How long to wait for the answer that must not come. Answers take well below a millisecond.
const SILENCE: Duration = Duration::from_millis(300);
const TABLES: [&str; 3] = ["inet ringwall", "inet ringwall_blocks", "inet ringwall_learn"];

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A finished command.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(command: &mut Command) -> Self {
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    #[track_caller]
    pub fn done(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self
    }

    /// Ended with `code` and said each of `words` on stderr.
    #[track_caller]
    pub fn failed(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        for word in words {
            assert!(self.err.contains(word), "`{word}` is not in: {}", self.err);
        }
        self
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

/// `ringwall` outside any lab, for commands that touch no kernel.
pub fn ringwall(arguments: &[&str]) -> Ran {
    Ran::of(Command::new(env!("CARGO_BIN_EXE_ringwall")).args(arguments))
}

/// A folder of its own for each caller.
pub fn folder() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("ringwall-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// Writes a file into a new folder and gives its path.
pub fn file(name: &str, text: &str) -> String {
    let path = folder().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The diagnostics of `ringwall check -o json`: code and message.
pub fn findings(path: &str, more: &[&str]) -> Vec<(String, String)> {
    let ran = ringwall(&[&["check", path, "-o", "json"], more].concat());
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let document = ran.json();
    let found = document["diagnostics"].as_array().unwrap();
    found.iter().map(|found| (text(&found["code"]), text(&found["message"]))).collect()
}

pub struct Rig {
    pub lab: Lab,
    /// Where traffic to a name goes: the host and its addresses.
    places: BTreeMap<String, (String, Vec<IpAddr>)>,
    folder: PathBuf,
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Rig {
    pub fn start(topology: &Topology, places: &[(&str, &[&str])]) -> Self {
        let addresses = |list: &[&str]| list.iter().map(|address| ip(address)).collect();
        let places = places.iter().map(|(name, list)| ((*name).to_owned(), ((*name).to_owned(), addresses(list))));
        Self { lab: Lab::start(topology).unwrap(), places: places.collect(), folder: folder() }
    }

    /// Every host has a cable to `fw` and nothing else; `fw` is 203.0.113.254 and 2001:db8:ff::fe.
    pub fn star(places: &[(&str, &[&str])]) -> Self {
        let nodes = places.iter().map(|(name, list)| (*name, list.iter().map(|address| ip(address)).collect()));
        let topology = Topology::star("fw", [ip("203.0.113.254"), ip("2001:db8:ff::fe")], nodes);
        let mut rig = Self::start(&topology, places);
        rig.place("fw", "fw", &["203.0.113.254", "2001:db8:ff::fe"]);
        rig
    }

    /// Another name for some addresses of a host.
    pub fn place(&mut self, name: &str, host: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| ip(address)).collect();
        self.places.insert(name.to_owned(), (host.to_owned(), addresses));
    }

    pub fn host(&self, name: &str) -> HostRef<'_> {
        self.lab.host(name).unwrap()
    }

    pub fn address(&self, name: &str, family: Family) -> Option<IpAddr> {
        self.places[name].1.iter().copied().find(|address| Family::of(*address) == family)
    }

    /// The IPv4 address of a place, with a port.
    pub fn at(&self, name: &str, port: u16) -> SocketAddr {
        SocketAddr::new(self.address(name, Family::V4).unwrap(), port)
    }

    /// Keeps a policy as a file.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub fn command(&self, host: &str, arguments: &[&str]) -> Command {
        let mut command = self.host(host).command(env!("CARGO_BIN_EXE_ringwall"));
        command.args(arguments).env_remove("SSH_CONNECTION");
        command
    }

    pub fn ringwall(&self, host: &str, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(host, arguments))
    }

    /// Starts a command whose end is somebody else's matter.
    pub fn spawn(&self, host: &str, arguments: &[&str]) -> Child {
        let mut command = self.command(host, arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Enforces a policy for good on these nodes, each the host of the same name.
    #[track_caller]
    pub fn enforce(&self, nodes: &[&str], policy: &str, more: &[&str]) {
        let path = self.write("policy.yaml", policy);
        self.enforce_file(nodes, &path, more);
    }

    /// The same with a policy in a file or a folder.
    #[track_caller]
    pub fn enforce_file(&self, nodes: &[&str], path: &str, more: &[&str]) {
        let arguments = [&["apply", path, "--no-confirm", "--no-management", "--learn", "0"], more].concat();
        let run = |node: &&str| self.ringwall(node, &[&arguments[..], &["--node", node]].concat());
        let all: Vec<Ran> = thread::scope(|scope| {
            let running: Vec<_> = nodes.iter().map(|node| scope.spawn(move || run(node))).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        all.into_iter().for_each(|ran| drop(ran.done()));
    }

    pub fn status(&self, host: &str) -> serde_json::Value {
        self.ringwall(host, &["status", "-o", "json"]).json()
    }

    /// Packets that a rule, or `default`, decided on one path (`in`, `out`, `fwd`).
    pub fn packets(&self, host: &str, path: &str, id: &str) -> u64 {
        let status = self.status(host);
        let rules = status["rules"].as_array().unwrap();
        let found = rules.iter().find(|rule| rule["path"] == path && rule["id"] == id);
        found.map_or(0, |rule| rule["packets"].as_u64().unwrap())
    }

    pub fn nft(&self, host: &str, text: &str) -> String {
        self.host(host).output("nft", &["-f", "-"], text).unwrap()
    }

    /// The rules of the host, without the numbers that traffic moves.
    pub fn rules(&self, host: &str) -> String {
        let listing = self.host(host).output("nft", &["--stateless", "list", "ruleset"], "").unwrap();
        // An element's time to live counts down.
        listing.lines().filter(|line| !line.contains("expires")).map(|line| format!("{line}\n")).collect()
    }

    /// Those of our tables that are there.
    pub fn our_tables(&self, host: &str) -> Vec<String> {
        let listing = self.host(host).output("nft", &["list", "tables"], "").unwrap();
        let ours = |table: &&str| TABLES.contains(table);
        listing.lines().filter_map(|line| line.strip_prefix("table ")).filter(ours).map(str::to_owned).collect()
    }

    pub fn netfilter<T: Send>(&self, host: &str, read: impl FnOnce(&mut Netfilter) -> T + Send) -> T {
        self.host(host).run(|| read(&mut Netfilter::open().unwrap())).unwrap()
    }

    /// The tracked connection of a TCP stream, as `host` sees it.
    pub fn tracked(&self, host: &str, stream: &TcpStream) -> Option<Connection> {
        let (from, to) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        let is_it = |connection: &Connection| {
            let flow = connection.original.flow().unwrap();
            flow.source() == from.ip()
                && flow.destination() == to.ip()
                && matches!(flow.upper(), Upper::Ports { source, destination, .. } if (source, destination) == (from.port(), to.port()))
        };
        self.netfilter(host, |netfilter| netfilter.connections().unwrap()).into_iter().find(is_it)
    }

    /// All flows of the lines, in both families where both ends have them, must be accepted.
    #[track_caller]
    pub fn open(&self, lines: &[&str]) {
        self.check(lines, true);
    }

    /// None of the flows may be accepted, though something listens at each.
    #[track_caller]
    pub fn shut(&self, lines: &[&str]) {
        self.check(lines, false);
    }

    #[track_caller]
    fn check(&self, lines: &[&str], open: bool) {
        let mut wrong = Vec::new();
        let probes: Vec<Probe> = lines.iter().flat_map(|line| self.probes(line)).collect();
        assert!(!probes.is_empty(), "no flow in {lines:?}");
        for some in probes.chunks(250) {
            let outcomes = self.probe(some, if open { SOON } else { SILENCE });
            let differs = |(_, outcome): &(_, Result<(), String>)| outcome.is_ok() != open;
            wrong.extend(some.iter().zip(outcomes).filter(differs).map(|(probe, outcome)| match outcome {
                Ok(()) => format!("{probe} is open"),
                Err(why) => format!("{probe}: {why}"),
            }));
        }
        assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), probes.len(), wrong.join("\n"));
    }

    /// `a b -> c d: tcp/80 udp/53 icmp`: all sources with all destinations but themselves.
    fn probes(&self, line: &str) -> Vec<Probe> {
        let (ends, services) = line.split_once(": ").unwrap();
        let (sources, destinations) = ends.split_once(" -> ").unwrap();
        let mut probes = Vec::new();
        for from in sources.split_whitespace() {
            for to in destinations.split_whitespace().filter(|to| *to != from) {
                let (host, addresses) = self.places.get(to).unwrap_or_else(|| panic!("no place {to}"));
                for address in addresses {
                    let Some(source) = self.address(from, Family::of(*address)) else { continue };
                    for service in services.split_whitespace() {
                        let service = Service::parse(service);
                        probes.push(Probe {
                            from: from.to_owned(),
                            source,
                            to: to.to_owned(),
                            host: host.clone(),
                            address: *address,
                            service,
                        });
                    }
                }
            }
        }
        probes
    }

    /// Tries all at once, with something that answers at each destination.
    fn probe(&self, probes: &[Probe], within: Duration) -> Vec<Result<(), String>> {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            // Also when something panics: the scope waits for the threads that answer.
            let _end = End(&done);
            let mut served = BTreeSet::new();
            let mut listeners = Vec::new();
            for probe in probes {
                if served.insert((&probe.host, probe.address, probe.service)) {
                    let host = self.host(&probe.host);
                    match probe.service {
                        Service::Tcp(port) => {
                            let address = SocketAddr::new(probe.address, port);
                            listeners.push(bind(host, address, TcpListener::bind));
                        }
                        Service::Udp(port) => {
                            let address = SocketAddr::new(probe.address, port);
                            let socket = bind(host, address, UdpSocket::bind);
                            scope.spawn(|| echo(socket, &done));
                        }
                        Service::Icmp => {}
                    }
                }
            }
            let threads: Vec<_> = probes
                .iter()
                .map(|probe| {
                    let host = self.host(&self.places[&probe.from].0);
                    scope.spawn(move || match probe.service {
                        Service::Icmp => ping(host, probe.source, probe.address, within),
                        _ => host.run(|| probe.run(within)).unwrap(),
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    /// A connection that lives: both ends of it.
    #[track_caller]
    pub fn session(&self, from: &str, to: &str, port: u16) -> Session {
        let (host, addresses) = &self.places[to];
        self.session_at(from, host, SocketAddr::new(addresses[0], port), SocketAddr::new(addresses[0], port))
    }

    /// A connection to an address that is another where it is listened at.
    #[track_caller]
    pub fn session_at(&self, from: &str, host: &str, to: SocketAddr, listen: SocketAddr) -> Session {
        let listener = bind(self.host(host), listen, TcpListener::bind);
        let client = self.host(&self.places[from].0).run(|| TcpStream::connect_timeout(&to, SOON)).unwrap();
        let client = client.unwrap_or_else(|error| panic!("{from} -> {to}: {error}"));
        let (server, _) = listener.accept().unwrap();
        for end in [&client, &server] {
            end.set_nodelay(true).unwrap();
        }
        Session { client, server }
    }

    /// The TCP ports of an address that answer at all, asked from a host whose own output is free.
    pub fn answering(&self, from: &str, to: IpAddr) -> BTreeSet<u16> {
        let host = self.host(&self.places[from].0);
        let source = self.address(from, Family::of(to)).unwrap();
        let (wire, sender) = (host.wire("eth0").unwrap(), host.raw_sender().unwrap());
        let mut answers = BTreeSet::new();
        let answer = |flow: Flow, _: &[u8]| match flow.upper() {
            Upper::Ports { source: port, destination: 40_000, .. } if flow.source() == to => Some(port),
            _ => None,
        };
        for first in (1..=u16::MAX).step_by(512) {
            for port in first..=first.saturating_add(511) {
                let flow = Flow::new(source, to, Upper::tcp(40_000, port)).unwrap();
                sender.send(&frame::packet(&flow, &Details::default())).unwrap();
            }
            while let Some(port) = wire.find(Duration::from_millis(1), answer).unwrap() {
                answers.insert(port);
            }
        }
        while let Some(port) = wire.find(SILENCE, answer).unwrap() {
            answers.insert(port);
        }
        answers
    }
}

/// One flow to try.
struct Probe {
    from: String,
    source: IpAddr,
    to: String,
    host: String,
    address: IpAddr,
    service: Service,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Service {
    Tcp(u16),
    Udp(u16),
    /// An echo request.
    Icmp,
}

impl Service {
    fn parse(text: &str) -> Self {
        match text.split_once('/') {
            Some(("tcp", port)) => Self::Tcp(port.parse().unwrap()),
            Some(("udp", port)) => Self::Udp(port.parse().unwrap()),
            None if text == "icmp" => Self::Icmp,
            _ => panic!("no service {text}"),
        }
    }
}

impl std::fmt::Display for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let service = match self.service {
            Service::Tcp(port) => format!("tcp/{port}"),
            Service::Udp(port) => format!("udp/{port}"),
            Service::Icmp => "icmp".into(),
        };
        write!(f, "{} -> {} ({}): {service}", self.from, self.to, self.address)
    }
}

impl Probe {
    /// To be called in the source's network.
    fn run(&self, within: Duration) -> Result<(), String> {
        let attempt = || match self.service {
            Service::Tcp(port) => TcpStream::connect_timeout(&SocketAddr::new(self.address, port), within).map(drop),
            Service::Udp(port) => {
                let socket = UdpSocket::bind(SocketAddr::new(self.source, 0))?;
                socket.connect(SocketAddr::new(self.address, port))?;
                socket.set_read_timeout(Some(within))?;
                socket.send(b"?")?;
                socket.recv(&mut [0; 8]).map(drop)
            }
            Service::Icmp => unreachable!("sent by `ping`"),
        };
        attempt().map_err(|error| error.to_string())
    }
}

/// A program that another test starts holds a copy of each socket from its fork to its exec, so a
/// port may be in use for a moment after its listener is gone.
fn bind<T: Send>(host: HostRef<'_>, address: SocketAddr, open: impl Fn(SocketAddr) -> io::Result<T> + Sync) -> T {
    let mut last = None;
    let bound = until(SOON, || {
        last = Some(host.run(|| open(address)).unwrap());
        last.as_ref().is_some_and(Result::is_ok)
    });
    assert!(bound, "{address} of {} is in use", host.name());
    last.expect("tried at least once").expect("just bound")
}

/// Says that it is over, however that came.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Answers every datagram until it is told to stop.
fn echo(socket: UdpSocket, done: &AtomicBool) {
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut buffer = [0; 8];
    while !done.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // The host's own rules may forbid the answer; the one who asked will notice.
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
}

/// An echo request (RFC 792, RFC 4443 §4) and its answer.
pub fn ping(host: HostRef<'_>, source: IpAddr, to: IpAddr, within: Duration) -> Result<(), String> {
    let (request, reply) = if to.is_ipv4() { (8, 0) } else { (128, 129) };
    let wire = host.wire("eth0").unwrap();
    let flow = Flow::new(source, to, Upper::Icmp { kind: request, code: 0 }).unwrap();
    let sent = host.raw_sender().unwrap().send(&frame::packet(&flow, &Details { payload: b"ping", ..Details::default() }));
    sent.map_err(|error| error.to_string())?;
    let answer = |flow: Flow, _: &[u8]| {
        (flow.source() == to && flow.upper() == Upper::Icmp { kind: reply, code: 0 }).then_some(())
    };
    wire.find(within, answer).unwrap().ok_or_else(|| "no answer".to_owned())
}

pub struct Session {
    pub client: TcpStream,
    pub server: TcpStream,
}

impl Session {
    /// Whether a word gets from either end to the other within the time.
    pub fn lives_within(&mut self, within: Duration) -> bool {
        let carries = |from: &mut TcpStream, to: &mut TcpStream| {
            to.set_read_timeout(Some(within)).unwrap();
            let mut word = [0; 4];
            from.write_all(b"word").is_ok() && to.read_exact(&mut word).is_ok()
        };
        carries(&mut self.client, &mut self.server) && carries(&mut self.server, &mut self.client)
    }

    #[track_caller]
    pub fn lives(&mut self) {
        assert!(self.lives_within(SOON), "the session {:?} is dead", self.client);
    }

    #[track_caller]
    pub fn is_dead(&mut self) {
        assert!(!self.lives_within(SILENCE), "the session {:?} lives", self.client);
    }
}

/// Waits until it is so; `false` when the time is over first.
pub fn until(within: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    loop {
        if is_so() {
            return true;
        }
        if begun.elapsed() > within {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
}
