//! What the doctor finds: by facts alone, and on machines of a laboratory with real sockets and tables.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use ringwall_agent::doctor::{Boot, Enforced, Facts, Finding, Identity, Others, Program, Reached, State, findings, json, table};
use ringwall_controller::change::Change;
use ringwall_controller::store::{Read as _, Store as _};
use ringwall_lab::frame;
use ringwall_node::kernel::{Listener, Missing};
use ringwall_node::reconciler::Place;
use ringwall_packet::{Flow, IntervalSet, PortProtocol, Protocol, Upper, UpperCube, UpperSet};
use ringwall_ruleset::nftables::Generation;
use ringwall_ruleset::{CLOCK_MIN, Effect, Entry, Ruleset};
use serde_json::Value;

use crate::rig::{AGENT, Rig, Running, address};

fn listener(protocol: PortProtocol, at: &str, name: &str) -> Listener {
    let at: SocketAddr = at.parse().expect("an address with a port");
    Listener { protocol, port: at.port(), address: at.ip(), process: Some((name.into(), 7)) }
}

fn entry(id: &str, effect: Effect, from: &str, upper: UpperSet) -> Entry {
    Entry {
        id: id.into(),
        effect,
        source: [from.parse::<ipnet::IpNet>().expect("a prefix")].into_iter().collect(),
        destination: address("192.0.2.10").into(),
        names: BTreeSet::new(),
        upper,
        interface: None,
        expires: None,
        audit: false,
        log: false,
    }
}

fn tcp(first: u16, last: u16) -> UpperSet {
    let ports = ringwall_packet::Interval::new(first, last).expect("in order");
    UpperCube::ports(Protocol::TCP, IntervalSet::from(ports)).into_iter().collect()
}

const ACCEPT: Effect = Effect::Accept { session_timeout: None };

fn ruleset(input: Vec<Entry>) -> Ruleset {
    Ruleset { node: "web-1".into(), local: address("192.0.2.10").into(), input, ..Ruleset::bare_floor(Vec::new()) }
}

/// A machine where all is well: SSH is open and listens.
fn facts() -> Facts {
    let ruleset = ruleset(vec![entry("management", ACCEPT, "192.0.2.200/32", tcp(22, 22))]);
    Facts {
        now: CLOCK_MIN + 1,
        node: "web-1".into(),
        addresses: [address("192.0.2.10"), address("2001:db8::10")].into(),
        listeners: vec![listener(PortProtocol::TCP, "0.0.0.0:22", "sshd")],
        ephemeral: 32768..=60999,
        enforced: Enforced::Ruleset { generation: Generation(3), ruleset: ruleset.into(), is_trial: false },
        nft: Ok((1, 0, 6)),
        missing: Some(Vec::new()),
        others: Others::default(),
        state: State {
            identity: Identity::Enrolled { fleet: "f".into(), agent: "a".into(), valid: Duration::from_secs(80_000), controllers: vec!["192.0.2.1:7443".into()] },
            controller: Some(Ok(Reached { offset: Some(0) })),
            damaged: Vec::new(),
            taken: Some((Place { epoch: 1, number: 7 }, "4".into())),
            confirmed: Some(Generation(3)),
            confirmed_place: Some(Place { epoch: 1, number: 7 }),
            is_drift: false,
            strangers: Vec::new(),
            boot: Boot { has_systemd: true, restore: true, agent: true },
        },
    }
}

/// `kind: text`, notes with a star.
fn told(facts: &Facts) -> Vec<String> {
    let word = |finding: Finding| format!("{}{}: {}", finding.kind, if finding.is_note { "*" } else { "" }, finding.text);
    findings(facts).into_iter().map(word).collect()
}

#[test]
fn a_machine_where_all_is_well_has_no_findings() {
    assert_eq!(told(&facts()), [""; 0]);
}

/// One thing after the other is wrong: it is found, and nothing else is.
#[test]
fn each_fact_has_its_finding() {
    type Wrong = fn(&mut Facts);
    let cases: &[(Wrong, &[&str])] = &[
        (|facts| facts.listeners.push(listener(PortProtocol::TCP, "0.0.0.0:8443", "python3")),
            &["closed_port: 8443/tcp: `python3` (7) listens on 0.0.0.0, and no rule opens it: nobody reaches it"]),
        (|facts| facts.listeners.push(listener(PortProtocol::TCP, "127.0.0.1:8443", "python3")), &[]),
        (|facts| facts.listeners.push(listener(PortProtocol::TCP, "[::1]:8443", "python3")), &[]),
        (|facts| facts.listeners.push(listener(PortProtocol::TCP, "[::]:22", "sshd")), &[]),
        (|facts| facts.listeners.push(listener(PortProtocol::TCP, "[2001:db8::10]:443", "nginx")),
            &["closed_port: 443/tcp: `nginx` (7) listens on 2001:db8::10, and no rule opens it: nobody reaches it"]),
        (|facts| facts.listeners.push(listener(PortProtocol::UDP, "0.0.0.0:53", "named")),
            &["closed_port: 53/udp: `named` (7) listens on 0.0.0.0, and no rule opens it: nobody reaches it"]),
        (|facts| facts.listeners.push(listener(PortProtocol::UDP, "0.0.0.0:68", "dhclient")), &[]),
        (|facts| facts.listeners.push(listener(PortProtocol::UDP, "0.0.0.0:40000", "resolver")),
            &["client_ports*: no rule opens these, which are most likely clients' own ports: 40000/udp (`resolver` (7))"]),
        (|facts| facts.listeners.clear(), &["idle_rule: rule management opens 22/tcp, and nobody listens there"]),
        (|facts| facts.listeners[0].address = address("127.0.0.1"),
            &["idle_rule: rule management opens 22/tcp, and nobody listens there; `sshd` (7) listens on 127.0.0.1 alone"]),
        (|facts| facts.enforced = Enforced::Nothing,
            &["closed_port: 22/tcp: `sshd` (7) listens on 0.0.0.0, and no rule opens it; nothing is enforced here yet, and then nobody reaches it"]),
        (|facts| facts.enforced = Enforced::Unknown { generation: Generation(3), why: "it was made by `ringwall apply`".into() },
            &["unknown_rules*: what g3 opens is not known here: it was made by `ringwall apply`"]),
        (|facts| facts.nft = Err("the program `nft` is not installed".into()), &["nft: the program `nft` is not installed"]),
        (|facts| facts.missing = Some(vec![Missing { feature: "ct timeout".into(), by: "nfnetlink_cttimeout", said: "no".into() }]),
            &["kernel: the kernel lacks ct timeout: no"]),
        (|facts| facts.missing = None, &["untried*: no network namespace can be made, so what the kernel can was not tried"]),
        (|facts| facts.others.programs.push((Program::Ufw, "chain ufw-x in table ip filter".into())),
            &["ufw*: ufw filters, too (chain ufw-x in table ip filter)"]),
        (|facts| facts.others.texts.push(Err("table ip x is too large".into())),
            &["other_tables: what other tables would drop is not known: table ip x is too large"]),
        (|facts| facts.state.identity = Identity::None, &["not_enrolled*: this node is in no fleet"]),
        (|facts| facts.state.identity = Identity::Damaged("key.pem".into()), &["identity: the identity can't be used: key.pem"]),
        (|facts| valid(facts, 0), &["certificate: the certificate has ended"]),
        (|facts| valid(facts, 3600), &["certificate: the certificate ends in 60m, and was not renewed"]),
        (|facts| facts.state.controller = Some(Err("connection refused".into())), &["controller: no controller can be reached: connection refused"]),
        (|facts| facts.state.controller = Some(Ok(Reached { offset: Some(86_400) })), &["clock: the clock is 86400 s behind the controller's"]),
        (|facts| facts.state.controller = Some(Ok(Reached { offset: Some(-61) })), &["clock: the clock is 61 s before the controller's"]),
        (|facts| facts.now = 0, &["clock: the clock was never set: rules that expire count as expired"]),
        (|facts| facts.state.damaged.push("taken.json is damaged".into()), &["damaged: taken.json is damaged"]),
        (|facts| (facts.state.is_drift, facts.state.strangers) = (true, vec!["chain `x`".into()]),
            &["drift: our table is not as it was loaded; chain `x` is not ours"]),
        (|facts| facts.state.confirmed_place = Some(Place { epoch: 1, number: 6 }),
            &["not_confirmed*: assignment 7 of epoch 1 (revision 4) was taken over and is not confirmed"]),
        (|facts| facts.state.boot.restore = false,
            &["boot: ringwall-restore.service is not enabled: after a reboot nothing is enforced until somebody loads it"]),
        (|facts| facts.state.boot = Boot::default(), &[]),
        (|facts| audited(facts), &["audit*: g3 only watches (stage: audit): every port is open to whoever reaches this node"]),
    ];
    for (wrong, expected) in cases {
        let mut facts = facts();
        wrong(&mut facts);
        assert_eq!(told(&facts), *expected);
    }
}

fn valid(facts: &mut Facts, seconds: u64) {
    let Identity::Enrolled { valid, .. } = &mut facts.state.identity else { unreachable!() };
    *valid = Duration::from_secs(seconds);
}

fn audited(facts: &mut Facts) {
    let Enforced::Ruleset { ruleset, .. } = &mut facts.enforced else { unreachable!() };
    ruleset.audit = true;
}

/// A denial before it, an expiry, an interface: what a rule opens is exact.
#[test]
fn a_rule_opens_what_nothing_before_it_denies() {
    let with = |entries: Vec<Entry>| {
        let mut facts = facts();
        facts.listeners = vec![listener(PortProtocol::TCP, "192.0.2.10:80", "nginx")];
        facts.enforced = Enforced::Ruleset { generation: Generation(3), ruleset: ruleset(entries).into(), is_trial: false };
        findings(&facts).into_iter().map(|finding| finding.kind).collect::<Vec<_>>()
    };
    let allow = || entry("a", ACCEPT, "198.51.100.0/24", tcp(80, 80));
    let deny = |from| entry("d", Effect::Drop, from, tcp(1, 65_535));
    assert_eq!(with(vec![allow()]), [""; 0]);
    assert_eq!(with(vec![deny("198.51.100.0/25"), allow()]), [""; 0]);
    assert_eq!(with(vec![deny("198.51.100.0/24"), allow()]), ["closed_port"]);
    assert_eq!(with(vec![Entry { expires: Some(CLOCK_MIN), ..allow() }]), ["closed_port"]);
    assert_eq!(with(vec![Entry { audit: true, ..allow() }]), ["closed_port"]);
    assert_eq!(with(vec![Entry { interface: Some("wg0".into()), ..allow() }]), [""; 0]);
    assert_eq!(with(vec![entry("r", ACCEPT, "198.51.100.0/24", tcp(70, 90))]), [""; 0]);
    assert_eq!(with(vec![entry("r", ACCEPT, "198.51.100.0/24", tcp(81, 90))]), ["closed_port", "idle_rule"]);
    assert_eq!(with(vec![entry("any", ACCEPT, "198.51.100.0/24", UpperSet::any())]), [""; 0]);
}

#[test]
fn other_tables_rules_are_found_exactly() {
    let with = |text: &str| {
        let mut facts = facts();
        facts.others.texts = vec![Ok(("nft list ruleset".into(), text.into()))];
        told(&facts)
    };
    let chain = |rules: &str| format!("table ip filter {{\n\tchain INPUT {{\n\t\ttype filter hook input priority filter; policy accept;\n{rules}\n\t}}\n}}\n");
    assert_eq!(with(&chain("\t\ttcp dport 23 drop")), [""; 0]);
    assert_eq!(with(&chain("\t\tip saddr 192.0.2.200 accept\n\t\ttcp dport 22 drop")), [""; 0], "the only source is let through");
    let found = with(&chain("\t\ttcp dport 22 drop"));
    let [found] = &found[..] else { panic!("{found:?}") };
    assert!(found.starts_with("dropped_by_others: what comes in to 22/tcp, which rule management allows, is dropped by `tcp dport 22 drop` of chain INPUT in table ip filter, such as "), "{found}");
    let found = with("table inet broken {");
    assert!(found.len() == 1 && found[0].starts_with("other_tables: "), "{found:?}");
}

#[test]
fn nothing_that_others_name_reaches_the_terminal_raw() {
    let mut facts = facts();
    facts.listeners.push(listener(PortProtocol::TCP, "0.0.0.0:81", "a\u{1b}[2Jb\n"));
    let found = findings(&facts);
    let text = table(&facts, &found, false);
    assert!(!text.contains('\u{1b}'), "{text}");
    let document = json(&facts, &found);
    assert_eq!((&document["schema"], &document["findings"][0]["about"]["port"]), (&"ringwall.doctor/1".into(), &81.into()));
}

/// The doctor on a host of the laboratory: its exit code, and what it says.
async fn doctor(rig: &Rig, node: &str) -> (i32, Value) {
    let mut command = rig.lab.host(node).expect("a host").command(AGENT);
    command.args(["doctor", "-o", "json"]).stderr(Stdio::piped()).stdout(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("a thread").expect("the agent runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {} {said}", output.status));
    (output.status.code().expect("a code"), document)
}

fn found<'a>(document: &'a Value, kind: &str) -> Vec<&'a Value> {
    document["findings"].as_array().expect("a list").iter().filter(|finding| finding["kind"] == kind).collect()
}

fn listen(rig: &Rig, node: &str, at: &str) -> TcpListener {
    rig.lab.host(node).expect("a host").run(|| TcpListener::bind(at)).expect("a host").expect("a port")
}

/// What it says is no test of its own: a program for others to find, which is this one.
#[test]
fn a_program_that_listens() {
    let Ok(at) = std::env::var(LISTEN) else { return };
    let _listener = TcpListener::bind(at).expect("a port");
    std::thread::park();
}

const LISTEN: &str = "RINGWALL_TEST_LISTEN";

/// A process of the host's own, which the host's proc(5) shows.
fn listening_program(rig: &Rig, host: &str, at: &str) -> Running {
    let own = std::env::current_exe().expect("a path");
    let mut command = rig.lab.host(host).expect("a host").command(own.to_str().expect("UTF-8"));
    Running(command.args(["--exact", "doctor::a_program_that_listens"]).env(LISTEN, at).stdout(Stdio::null()).spawn().expect("it runs"))
}

fn reaches(rig: &Rig, from: &str, at: &str) -> bool {
    let at: SocketAddr = at.parse().expect("an address with a port");
    rig.lab.host(from).expect("a host").run(|| TcpStream::connect_timeout(&at, Duration::from_millis(300)).is_ok()).expect("a host")
}

const POLICY: &str = "\
groups:
  web: { labels: { role: web } }
  users: { addresses: [198.51.100.9] }
rules:
  - { allow: users -> web, services: [http] }
";

#[tokio::test(flavor = "multi_thread")]
async fn r000_10_a_port_that_no_rule_opens_is_a_warning_and_a_setting_opens_it() {
    let rig = Rig::with("r00010", &[("web-1", "192.0.2.11"), ("user", "198.51.100.9")]).await;
    let running = rig.controller().await;
    let _api = listening_program(&rig, "web-1", "0.0.0.0:8443");
    rig.until("it listens", async |_| reaches(&rig, "user", "192.0.2.11:8443").then_some(())).await;
    let _local = listen(&rig, "web-1", "127.0.0.1:9000");
    // A program's name, as the kernel cuts it (TASK_COMM_LEN, proc_pid_comm(5)).
    let own = std::env::current_exe().expect("a path").file_name().expect("a name").to_str().expect("UTF-8")[..15].to_owned();

    // Before it is in a fleet.
    let (code, document) = doctor(&rig, "web-1").await;
    assert_eq!((code, &document["stage"]), (1, &"none".into()), "{document:#}");
    let ports = found(&document, "closed_port");
    assert_eq!((ports.len(), &ports[0]["about"]["port"], &ports[0]["about"]["process"]["name"]), (1, &8443.into(), &own.as_str().into()), "{document:#}");
    assert_eq!(found(&document, "not_enrolled").len(), 1);
    assert_eq!(found(&document, "kernel").len() + found(&document, "nft").len(), 0, "this machine has all that is needed: {document:#}");

    let token = rig.token(1).await;
    rig.enrol("web-1", &token).await;
    let _agent = rig.start("web-1");
    rig.until("it is connected", async |_| (running.control.connected().await.expect("an answer").len() == 1).then_some(())).await;
    let revision = rig.commit(POLICY).await;
    rig.roll(&running, revision).await;
    assert!(!reaches(&rig, "user", "192.0.2.11:8443"));
    let (code, document) = doctor(&rig, "web-1").await;
    assert_eq!((code, &document["stage"], &document["controller_reached"], &document["clock_offset_seconds"]), (1, &"enforced".into(), &true.into(), &0.into()), "{document:#}");
    let ports = found(&document, "closed_port");
    assert_eq!((ports.len(), &ports[0]["about"]["port"]), (1, &8443.into()), "{document:#}");
    assert!(ports[0]["next"].as_str().expect("a text").contains("ringwall node hosts web-1 --services tcp/8443 --from"), "{document:#}");
    let idle = found(&document, "idle_rule");
    assert_eq!((idle.len(), &idle[0]["about"]["ports"]), (1, &serde_json::json!(["80/tcp"])), "{document:#}");

    // What that command does: the rule is in the central store, and the node follows.
    let value = serde_json::json!({ "services": ["tcp/8443"], "from": ["users"] });
    rig.change(Change::Set { node: "web-1".parse().expect("a name"), name: "hosts".parse().expect("a name"), value: Some(value) }).await;
    running.control.refresh();
    rig.until("the port is open", async |_| reaches(&rig, "user", "192.0.2.11:8443").then_some(())).await;
    let _web = listen(&rig, "web-1", "0.0.0.0:80");
    rig.until("the trial is over", async |_| rig.enforces("web-1").await.map(drop)).await;
    let (code, document) = doctor(&rig, "web-1").await;
    assert_eq!(code, 0, "{document:#}");

    // Somebody else's table drops what the policy allows: which rule it is, is said.
    rig.nft("web-1", &["add table ip other; add chain ip other input { type filter hook input priority 10; }; add rule ip other input tcp dport 8443 drop"]);
    let (code, document) = doctor(&rig, "web-1").await;
    let dropped = found(&document, "dropped_by_others");
    assert_eq!((code, dropped.len(), &dropped[0]["about"]["certain"]), (1, 1, &true.into()), "{document:#}");
    assert!(dropped[0]["text"].as_str().expect("a text").contains("8443/tcp") && dropped[0]["about"]["by"].as_str().expect("a text").contains("table ip other"), "{document:#}");
    assert!(!reaches(&rig, "user", "192.0.2.11:8443"), "and so it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn r000_11_a_rule_that_somebody_adds_is_drift() {
    let rig = Rig::with("r00011", &[("web-1", "192.0.2.11"), ("user", "198.51.100.9")]).await;
    let running = rig.controller().await;
    let token = rig.token(1).await;
    rig.enrol("web-1", &token).await;
    let agent = rig.start("web-1");
    rig.until("it is connected", async |_| (running.control.connected().await.expect("an answer").len() == 1).then_some(())).await;
    let _ssh = listen(&rig, "web-1", "0.0.0.0:22");
    let revision = rig.commit(POLICY).await;
    rig.roll(&running, revision).await;
    assert!(!reaches(&rig, "user", "192.0.2.11:22"));
    rig.nft("web-1", &["insert", "rule", "inet", "ringwall", "input", "tcp", "dport", "22", "accept"]);
    rig.until("the change is told", async |store| {
        let events = store.read().await.ok()?.events(Default::default(), 100).await.ok()?.events;
        let is_it = |body: &Value| body["process"] == "nft" && body["outcome"] == "healed";
        events.iter().any(|event| event.kind == "drift" && is_it(&event.body)).then_some(())
    })
    .await;
    assert!(!reaches(&rig, "user", "192.0.2.11:22"), "and what it opened is closed again");
    // With nobody there to heal it, the doctor says so.
    drop(agent);
    rig.nft("web-1", &["insert", "rule", "inet", "ringwall", "input", "tcp", "dport", "22", "accept"]);
    let (code, document) = doctor(&rig, "web-1").await;
    assert_eq!((code, &document["drift"], found(&document, "drift").len()), (1, &true.into(), 1), "{document:#}");
}

/// The ports of a host that answer at all to whoever asks each of them once.
fn answering(rig: &Rig, from: &str, to: &str) -> BTreeSet<u16> {
    let (source, to): (IpAddr, IpAddr) = (rig.addresses[from], rig.addresses[to]);
    let host = rig.lab.host(from).expect("a host");
    let (wire, sender) = (host.wire("eth0").expect("an interface"), host.raw_sender().expect("a socket"));
    let answer = |flow: Flow, _: &[u8]| match flow.upper() {
        Upper::Ports { source: port, destination: 40_000, .. } if flow.source() == to => Some(port),
        _ => None,
    };
    let mut answers = BTreeSet::new();
    let mut wait = |within| while let Some(port) = wire.find(within, answer).expect("packets") { answers.insert(port); };
    for first in (1..=u16::MAX).step_by(512) {
        for port in first..=first.saturating_add(511) {
            let flow = Flow::new(source, to, Upper::tcp(40_000, port)).expect("one family");
            sender.send(&frame::packet(&flow, &frame::Details::default())).expect("it is sent");
        }
        wait(Duration::from_millis(1));
    }
    wait(Duration::from_millis(300));
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn r000_07_an_agent_calls_out_and_nobody_calls_it_and_r000_08_the_internet_finds_no_port() {
    let rig = Rig::with("r00007", &[("web-1", "192.0.2.11"), ("internet", "203.0.113.9")]).await;
    let running = rig.controller().await;
    let token = rig.token(1).await;
    rig.enrol("web-1", &token).await;
    let _agent = rig.start("web-1");
    let is_connected = async |_: &_| (running.control.connected().await.expect("an answer").len() == 1).then_some(());
    rig.until("it is connected", is_connected).await;
    let _listeners: Vec<TcpListener> = [22, 80, 443, 7443].iter().map(|port| listen(&rig, "web-1", &format!("0.0.0.0:{port}"))).collect();
    let _udp = rig.lab.host("web-1").expect("a host").run(|| UdpSocket::bind("0.0.0.0:53")).expect("a host").expect("a port");
    assert!(!answering(&rig, "controller", "web-1").is_empty(), "who looks for open ports finds them before there is a policy");
    // All that the node may do is to reach its controller, which nobody had to write down.
    let policy = "groups:\n  web: { labels: { role: web } }\nrules:\n  - { deny: web -> any, services: [smtp] }\n";
    let revision = rig.commit(policy).await;
    rig.roll(&running, revision).await;
    for from in ["controller", "internet"] {
        assert_eq!(answering(&rig, from, "web-1"), BTreeSet::new(), "{from}");
    }
    assert!(is_connected(&*rig.store).await.is_some(), "the session is open all the time");
    assert_eq!(exposure(policy), 0);
    let (_, document) = doctor(&rig, "web-1").await;
    assert_eq!(document["controller_reached"], true, "{document:#}");
    let closed: BTreeSet<u64> = found(&document, "closed_port").iter().filter_map(|finding| finding["about"]["port"].as_u64()).collect();
    assert_eq!(closed, [22, 53, 80, 443, 7443].into(), "{document:#}");
}

/// How many ports the internet reaches on the node of the test above.
fn exposure(policy: &str) -> usize {
    let text = format!("internal: [192.0.2.0/24]\nnodes:\n  web-1: {{ addresses: [192.0.2.11], labels: {{ role: web }} }}\n{policy}");
    let files = [ringwall_policy_file::Input { name: "policy.yaml".into(), text }];
    let loaded = ringwall_policy_file::parse(&files, &Default::default(), CLOCK_MIN + 1);
    let policy = loaded.policy.expect("a policy");
    let exposed = ringwall_analysis::exposure::exposure(&policy, CLOCK_MIN + 1, 10_000_000).expect("an answer");
    exposed.values().map(|exposure| exposure.len()).sum()
}

#[test]
fn who_may_not_look_is_told_and_exits_with_3() {
    // No namespace of a user's own has rights in this one.
    let mut command = Command::new("unshare");
    command.args(["--user", "--", AGENT, "--state-dir", "/nonexistent", "doctor"]);
    let output = command.output().expect("unshare runs");
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("run as root"), "{}", String::from_utf8_lossy(&output.stderr));
}
