//! R000: an integration platform with a control plane in the cloud and agents on customers' networks.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;

use ringwall_node::probe::{Packet, Plan, Probe, Settings};

use super::{example, example_path, with};
use crate::acceptance::rig::{Ran, Rig, SOON, file, findings, ip, ringwall, until};

fn hosts() -> Rig {
    let mut rig = Rig::star(&[
        ("gateway-1", &["192.0.2.10", "2001:db8:2::10"]),
        ("agent-1", &["192.0.2.65", "2001:db8:a::1"]),
        ("agent-2", &["192.0.2.66", "2001:db8:a::2"]),
        ("agent-3", &["192.0.2.129", "2001:db8:b::1"]),
        ("control", &["203.0.113.10", "203.0.113.33", "2001:db8:f000::10"]),
        ("client", &["198.51.100.7", "2001:db8:f001::7"]),
        ("stranger", &["198.51.100.8", "2001:db8:f002::8"]),
        ("database", &["192.0.2.71", "2001:db8:a::71"]),
        ("trigger", &["192.0.2.70", "2001:db8:a::70"]),
        ("admin", &["192.0.2.200", "2001:db8:2::200"]),
    ]);
    rig.place("control", "control", &["203.0.113.10", "2001:db8:f000::10"]);
    rig.place("bus", "control", &["203.0.113.33"]);
    rig
}

const NODES: [&str; 4] = ["gateway-1", "agent-1", "agent-2", "agent-3"];

fn values() -> String {
    example_path("integration/values.yaml")
}

fn policy(text: &str) -> String {
    file("policy.yaml", text)
}

fn platform() -> Rig {
    let rig = hosts();
    rig.enforce_file(&NODES, &policy(&example("integration/policy.yaml")), &["--values", &values()]);
    rig
}

#[test]
fn r000_01_one_inventory_for_all_sites() {
    let text = with(
        &example("integration/policy.yaml"),
        "  gateway-1: { addresses: $GATEWAY_1_IPS, site: cloud, labels: { tier: public } }\n",
        "  gateway-1: { addresses: $GATEWAY_1_IPS, site: cloud, labels: { tier: public } }\n  gateway-2: { addresses: [192.0.2.130], site: customer-b, labels: { tier: public } }\n",
    );
    let path = policy(&text);
    let nodes = |site: &str| {
        let ran = ringwall(&["nodes", &path, "--values", &values(), "--site", site, "-o", "json"]).done().json();
        assert_eq!(ran["schema"], "ringwall.nodes/1");
        let names = ran["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(nodes("customer-a"), ["agent-1", "agent-2"]);
    assert_eq!(nodes("customer-b"), ["agent-3", "gateway-2"]);
    assert_eq!(nodes("nowhere"), Vec::<String>::new());
    let table = ringwall(&["nodes", &path, "--values", &values(), "--site", "customer-a"]).done().out;
    assert!(table.starts_with("NODE") && table.contains("192.0.2.65") && table.contains("tier=internal"), "{table}");
    // One policy, a ruleset for each.
    let mut texts = BTreeSet::new();
    for node in ["agent-1", "agent-2", "agent-3", "gateway-1", "gateway-2"] {
        texts.insert(ringwall(&["compile", &path, "--values", &values(), "--node", node]).done().out);
    }
    assert_eq!(texts.len(), 5);
}

#[test]
fn r000_02_nothing_from_public_to_internal_without_a_rule() {
    let rig = platform();
    rig.shut(&[
        "client stranger -> agent-1 agent-2 agent-3: tcp/22 tcp/80 tcp/443 tcp/1433 tcp/5671 udp/53 udp/443 icmp",
        "gateway-1 -> agent-1 agent-2: tcp/22 tcp/80 tcp/1433 udp/443",
        "gateway-1 -> agent-3 database: tcp/443 tcp/1433",
        "agent-1 -> gateway-1: tcp/443 tcp/22",
    ]);
    rig.open(&["gateway-1 -> agent-1 agent-2: tcp/443"]);
}

#[test]
fn r000_03_tls_from_1_2_on() {
    // A cleartext service under `min_tls` is an error.
    let text = with(&example("integration/policy.yaml"), "      - allow: api-clients -> gateways\n        services: [https]", "      - allow: api-clients -> gateways\n        services: [https, http]");
    let text = text.split("\nexpect:").next().unwrap();
    let ran = ringwall(&["check", &policy(text), "--values", &values(), "-o", "json"]).failed(1, &[]);
    let found = ran.json();
    let is_it = |found: &serde_json::Value| {
        found["severity"] == "error" && found["message"].as_str().unwrap().contains("http") && found["message"].as_str().unwrap().contains("cleartext")
    };
    assert!(found["diagnostics"].as_array().unwrap().iter().any(is_it), "{found:#}");
    assert!(findings(&policy(&example("integration/policy.yaml")), &["--values", &values()]).iter().all(|(_, message)| !message.contains("cleartext")));

    // A server that agrees to 1.1 at most fails, one that agrees to 1.2 passes.
    let rig = platform();
    let listener = rig.host("agent-1").run(|| TcpListener::bind("192.0.2.65:443").unwrap()).unwrap();
    for (version, passes) in [(0x0302, false), (0x0303, true)] {
        let plan = tls_plan();
        let report = std::thread::scope(|scope| {
            scope.spawn(|| answer_hellos(&listener, version));
            let out = rig.host("gateway-1").output(env!("CARGO_BIN_EXE_ringwall"), &["probe"], &plan).unwrap();
            // A connection that says nothing ends it.
            let _ = rig.host("agent-1").run(|| std::net::TcpStream::connect("192.0.2.65:443"));
            out
        });
        assert_eq!(report.contains("\"1.2\""), passes, "{version:#x}: {report}");
        assert_eq!(report.contains("too_old"), !passes, "{version:#x}: {report}");
    }
}

/// One probe: is 443 of `agent-1` open to `gateway-1`, and which version of TLS is agreed to there?
fn tls_plan() -> String {
    let packet = Packet::Tcp { source_port: 50_001, port: 443, past_source_port: None, tls: true };
    let probe = Probe { id: 1, source: ip("192.0.2.10"), destination: ip("192.0.2.65"), packet };
    let mut text = Vec::new();
    Plan { settings: Settings::default(), probes: vec![probe] }.write(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// Answers each ClientHello with a ServerHello of this version (RFC 5246 §7.4.1.3), until one who says nothing comes.
fn answer_hellos(listener: &TcpListener, version: u16) {
    let [major, minor] = version.to_be_bytes();
    // TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, which both sides of 1.2 know; no extensions.
    let hello = [&[major, minor][..], &[7; 32], &[0], &[0xc0, 0x2f], &[0]].concat();
    let length = u8::try_from(hello.len()).unwrap();
    let handshake = [&[2, 0, 0, length][..], &hello].concat();
    let length = u8::try_from(handshake.len()).unwrap();
    let record = [&[22, major, minor, 0, length][..], &handshake].concat();
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        if !matches!(stream.read(&mut [0; 2048]), Ok(1..)) {
            return;
        }
        let _ = stream.write_all(&record);
        let _ = stream.read(&mut [0; 2048]);
    }
}

#[test]
fn r000_04_sources_are_restricted_for_each_customer() {
    let rules = "  - allow: customer-a -> agent-1
    services: [https]
    source_ports: [1024-65535]
  - allow: customer-b -> agent-1
    services: [tcp/8443]
";
    let text = with(&example("integration/policy.yaml"), "groups:\n", "groups:\n  customer-a: { addresses: [198.51.100.7, \"2001:db8:f001::7\"] }\n  customer-b: { addresses: [198.51.100.8/29, \"2001:db8:f002::/48\"] }\n");
    let text = with(&text, "sections:\n", &format!("rules:\n{rules}sections:\n"));
    let text = text.split("\nexpect:").next().unwrap();
    let rig = hosts();
    rig.enforce_file(&["agent-1"], &policy(text), &["--values", &values()]);
    rig.open(&["client -> agent-1: tcp/443", "stranger -> agent-1: tcp/8443"]);
    rig.shut(&["client -> agent-1: tcp/8443", "stranger -> agent-1: tcp/443", "control -> agent-1: tcp/443 tcp/8443"]);
}

#[test]
fn r000_07_an_agent_calls_out_and_nobody_calls_it() {
    let rig = platform();
    let mut session = rig.session("agent-1", "control", 443);
    session.lives();
    rig.shut(&["control -> agent-1: tcp/443 tcp/22 tcp/80 tcp/5671 tcp/32768 udp/443 udp/53 icmp"]);
    assert_eq!(rig.answering("control", ip("192.0.2.65")), BTreeSet::new());
    session.lives();
    rig.open(&["agent-1 agent-3 -> control: tcp/443", "agent-1 -> bus: tcp/5671"]);
    rig.shut(&["agent-1 -> control: tcp/80 tcp/22 udp/443", "agent-1 -> client stranger: tcp/443"]);
}

#[test]
fn r000_08_no_port_is_open_to_the_internet() {
    let rig = platform();
    let refused = rig.packets("agent-1", "in", "default");
    assert_eq!(rig.answering("stranger", ip("192.0.2.65")), BTreeSet::new());
    assert!(until(SOON, || rig.packets("agent-1", "in", "default") >= refused + 65_535));
    let path = policy(&example("integration/policy.yaml"));
    let exposure = |more: &[&str]| -> Ran { ringwall(&[&["exposure", &path, "--values", &values()], more].concat()).done() };
    let found = exposure(&["-o", "json"]).json();
    assert_eq!(found["schema"], "ringwall.exposure/1");
    let ports = |node: &str| found["nodes"].as_array().unwrap().iter().find(|found| found["node"] == node).unwrap()["ports"].clone();
    for agent in ["agent-1", "agent-2", "agent-3"] {
        assert_eq!(ports(agent), 0);
    }
    // One client of the API is on the internet.
    assert_eq!(ports("gateway-1"), 1);
    let alone = with(&example("integration/policy.yaml"), "      - allow: api-clients -> gateways\n        services: [https]\n", "");
    let alone = ringwall(&["exposure", &policy(&alone), "--values", &values()]).done().out;
    assert!(alone.ends_with("exposure: 0\n"), "{alone}");
    let wide = with(&example("integration/policy.yaml"), "open-api: false", "open-api: true");
    let wide = ringwall(&["exposure", &policy(&wide), "--values", &values()]).done().out;
    assert!(wide.contains("443/tcp (https)") && wide.ends_with("exposure: 1\n"), "{wide}");
}

/// The host firewall at the source, the network's in between, the host's at the target: a path is open when all are,
/// and the one that is not is named, with the rule that it lacks.
#[test]
fn r000_18_a_path_is_told_hop_by_hop() {
    let policy = |services: &str, router: &str| {
        file("policy.yaml", &format!("\
nodes:
  gateway: {{ addresses: [192.0.2.10] }}
  agent: {{ addresses: [198.51.100.10] }}
  router: {{ addresses: [192.0.2.1, 198.51.100.1], routes: [192.0.2.0/24, 198.51.100.0/24]{router} }}
rules:
  - {{ allow: gateway -> agent, services: [{services}] }}
"))
    };
    let asked = |path: &str| ringwall(&["can", "gateway -> agent tcp/8443", path]);
    let open = asked(&policy("https, tcp/8443", "")).done().out;
    for hop in ["output of gateway: accept", "forward of router: accept", "input of agent: accept"] {
        assert!(open.contains(hop), "{hop}: {open}");
    }
    let shut = asked(&policy("https", "")).failed(1, &[]).out;
    for part in ["output of gateway: reject", "forward of router: drop", "input of agent: drop", "tcp/8443"] {
        assert!(shut.contains(part), "{part}: {shut}");
    }
    // The router has not got the rule yet, and each end has: its own ruleset says so, before any packet is lost.
    let old = ringwall(&["compile", &policy("https", ""), "--node", "router"]).done().out;
    let path = file("router.nft", &old);
    let of_router = ringwall(&["can", "192.0.2.10 -> 198.51.100.10 tcp/8443", "--ruleset", &path]).failed(1, &[]).out;
    assert!(of_router.contains("forward") && of_router.contains("drop"), "{of_router}");
    let new = file("router.nft", &ringwall(&["compile", &policy("https, tcp/8443", ""), "--node", "router"]).done().out);
    assert!(ringwall(&["diff", &path, &new]).failed(1, &[]).out.contains("8443"));
}
