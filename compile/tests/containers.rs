//! Containers as Docker makes them: a published port is the node's input, by the destination that the
//! caller named, and a container's own connection is the node's output.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use ringwall_lab::{Container, Host, HostRef, Lab, Topology};
use ringwall_node::kernel::{Netfilter, TableId};
use ringwall_packet::Protocol;
use ringwall_ruleset::nftables::{Confirm, Generation, Installed, learn, transaction};

const FAMILIES: [Ends; 2] = [
    Ends { node: "192.0.2.1", user: "192.0.2.9", stranger: "192.0.2.66", inside: "203.0.113.2" },
    Ends { node: "2001:db8:1::1", user: "2001:db8:1::9", stranger: "2001:db8:1::66", inside: "2001:db8:d::2" },
];

struct Ends {
    node: &'static str,
    user: &'static str,
    stranger: &'static str,
    inside: &'static str,
}

fn lab() -> Lab {
    let nets = |texts: [&str; 2]| texts.map(|text| text.parse().unwrap());
    let host = |name: &str, addresses| Host::new(name).interface("eth0", "lan", nets(addresses));
    let web = Container::new("web", "edge", "docker0", nets(["203.0.113.2/28", "2001:db8:d::2/64"]));
    let topology = Topology::new()
        .host(host("edge", ["192.0.2.1/24", "2001:db8:1::1/64"]).bridge("docker0", nets(["203.0.113.1/28", "2001:db8:d::1/64"])))
        .host(host("user", ["192.0.2.9/24", "2001:db8:1::9/64"]))
        .host(host("stranger", ["192.0.2.66/24", "2001:db8:1::66/64"]))
        .container(web.publish(Protocol::TCP, 8080, 80));
    Lab::start(&topology).unwrap()
}

/// Loads a policy of these rules on `edge`; `more` stands among the node's keys.
fn load(edge: &HostRef<'_>, more: &str, rules: &str) {
    let text = format!(
        "nodes:\n  edge: {{ addresses: [192.0.2.1, \"2001:db8:1::1\"]{more} }}\n\
         groups:\n  users: {{ addresses: [192.0.2.9, \"2001:db8:1::9\"] }}\nrules:\n{rules}"
    );
    let input = ringwall_policy_file::Input { name: "policy.yaml".into(), text: text.clone() };
    let parsed = ringwall_policy_file::parse(&[input], &Default::default(), 0);
    let policy = parsed.policy.unwrap_or_else(|| panic!("{text}\n{:?}", parsed.diagnostics));
    let (ruleset, _) = ringwall_compile::compile(&policy, "edge").unwrap();
    let text = transaction(&ruleset, Generation(1), &Installed::default(), Confirm::Never);
    edge.output("nft", &["-f", "-"], &text).unwrap();
}

fn counted(edge: &HostRef<'_>, counter: &str) -> u64 {
    let counters = edge.run(|| Netfilter::open().unwrap().counters(&TableId::inet("ringwall")).unwrap()).unwrap();
    counters[counter].packets
}

fn connect(from: &HostRef<'_>, to: SocketAddr) -> std::io::Result<TcpStream> {
    // What is dropped is never answered, so a short time is as good as a long one.
    from.run(|| TcpStream::connect_timeout(&to, Duration::from_millis(300))).unwrap()
}

fn listen(host: &HostRef<'_>, address: SocketAddr) -> TcpListener {
    host.run(|| TcpListener::bind(address).unwrap()).unwrap()
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

#[test]
fn a_published_port_is_the_node_s_input_by_the_port_that_was_asked_for() {
    let lab = lab();
    let [edge, user, stranger, web] = ["edge", "user", "stranger", "web"].map(|name| lab.host(name).unwrap());
    load(&edge, "", "  - { id: web, allow: users -> edge, services: [tcp/8080] }\n");
    for (seen, ends) in (1..).zip(&FAMILIES) {
        let listener = listen(&web, at(ends.inside, 80));
        let mut client = connect(&user, at(ends.node, 8080)).unwrap();
        let (mut served, _) = listener.accept().unwrap();
        served.write_all(b"word").unwrap();
        drop(served);
        let mut word = String::new();
        client.read_to_string(&mut word).unwrap();
        assert_eq!(word, "word");
        assert_eq!(counted(&edge, "g1_in_r_web"), seen);
        assert!(connect(&stranger, at(ends.node, 8080)).is_err(), "{} got in", ends.stranger);
        assert!(counted(&edge, "g1_in_default") >= seen);
    }
    assert_eq!(counted(&edge, "g1_fwd_default"), 0);
}

#[test]
fn the_container_s_own_port_opens_nothing() {
    let lab = lab();
    let [edge, user, web] = ["edge", "user", "web"].map(|name| lab.host(name).unwrap());
    load(&edge, "", "  - { id: inner, allow: users -> edge, services: [tcp/80] }\n");
    for ends in &FAMILIES {
        let _listener = listen(&web, at(ends.inside, 80));
        assert!(connect(&user, at(ends.node, 8080)).is_err());
    }
    assert_eq!(counted(&edge, "g1_in_r_inner"), 0);
}

#[test]
fn a_deny_of_the_published_port_beats_an_allow_of_everything() {
    let lab = lab();
    let [edge, user, web] = ["edge", "user", "web"].map(|name| lab.host(name).unwrap());
    load(
        &edge,
        "",
        "  - { id: all, allow: any -> edge, services: [any] }\n  - { id: no, deny: users -> edge, services: [tcp/8080] }\n",
    );
    for ends in &FAMILIES {
        let _listener = listen(&web, at(ends.inside, 80));
        assert!(connect(&user, at(ends.node, 8080)).is_err());
    }
    assert!(counted(&edge, "g1_in_r_no") >= 2);
    assert_eq!(counted(&edge, "g1_in_r_all"), 0);
}

#[test]
fn what_a_container_begins_is_the_node_s_output() {
    let lab = lab();
    let [edge, user, web] = ["edge", "user", "web"].map(|name| lab.host(name).unwrap());
    load(
        &edge,
        "",
        "  - { id: out, allow: edge -> users, services: [tcp/7000-7002] }\n  - { id: no, deny: edge -> users, services: [tcp/7002] }\n",
    );
    for (seen, ends) in (1..).zip(&FAMILIES) {
        let listeners = [7000, 7002, 7003].map(|port| listen(&user, at(ends.user, port)));
        connect(&web, at(ends.user, 7000)).unwrap();
        let (_, from) = listeners[0].accept().unwrap();
        assert_eq!(from.ip(), at(ends.node, 0).ip(), "it leaves with the node's address");
        assert_eq!(counted(&edge, "g1_out_r_out"), seen);
        // What goes out is rejected, so that the program learns at once.
        for port in [7002, 7003] {
            let refused = connect(&web, at(ends.user, port)).unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "port {port}");
        }
        assert_eq!((counted(&edge, "g1_out_r_no"), counted(&edge, "g1_out_default")), (seen, seen));
    }
}

#[test]
fn nobody_routes_through_the_node() {
    let lab = lab();
    let [edge, user, web] = ["edge", "user", "web"].map(|name| lab.host(name).unwrap());
    load(&edge, "", "  - { id: all, allow: any -> any, services: [any] }\n");
    user.output("ip", &["route", "add", "203.0.113.0/28", "via", "192.0.2.1"], "").unwrap();
    let _listener = listen(&web, at("203.0.113.2", 80));
    assert!(connect(&user, at("203.0.113.2", 80)).is_err(), "past the published port");
    assert!(counted(&edge, "g1_fwd_default") >= 1);
}

#[test]
fn an_unmanaged_bridge_is_not_judged() {
    let lab = lab();
    let [edge, user, web] = ["edge", "user", "web"].map(|name| lab.host(name).unwrap());
    load(&edge, ", unmanaged: [docker0]", "  - { id: nothing, allow: edge -> users, services: [tcp/1] }\n");
    for ends in &FAMILIES {
        let _out = listen(&user, at(ends.user, 7000));
        connect(&web, at(ends.user, 7000)).unwrap();
        let _in = listen(&web, at(ends.inside, 80));
        connect(&user, at(ends.node, 8080)).unwrap();
    }
}

/// Both ends of sessions talk on across the first load: to a container, and to the node itself.
#[test]
fn live_sessions_survive_the_first_apply() {
    let lab = lab();
    let [edge, user, web] = ["edge", "user", "web"].map(|name| lab.host(name).unwrap());
    let mut sessions = Vec::new();
    for ends in &FAMILIES {
        for (listener, to) in [
            (listen(&web, at(ends.inside, 80)), at(ends.node, 8080)),
            (listen(&edge, at(ends.node, 22)), at(ends.node, 22)),
        ] {
            let client = connect(&user, to).unwrap();
            let (server, _) = listener.accept().unwrap();
            sessions.push((client, server));
        }
    }
    talk(&mut sessions);
    edge.output("nft", &["-f", "-"], &learn()).unwrap();
    talk(&mut sessions);
    load(&edge, "", "  - { id: web, allow: users -> edge, services: [tcp/8080, ssh] }\n");
    talk(&mut sessions);
    assert_eq!(counted(&edge, "g1_in_default"), 0);
    assert_eq!(counted(&edge, "g1_out_default"), 0);
}

fn talk(sessions: &mut [(TcpStream, TcpStream)]) {
    let word = |mut from: &TcpStream, mut to: &TcpStream| {
        to.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        from.write_all(b"x").unwrap();
        to.read_exact(&mut [0]).unwrap();
    };
    for (client, server) in sessions {
        word(client, server);
        word(server, client);
    }
}

#[test]
fn a_bridge_that_is_named_as_an_interface_is_an_uplink_and_no_container_s() {
    let lab = lab();
    let [edge, user, web] = ["edge", "user", "web"].map(|name| lab.host(name).unwrap());
    // The same bridge as before, but the policy says that others send through it.
    load(&edge, ", interfaces: { uplink: docker0 }", "  - { id: out, allow: edge -> any, services: [any] }\n");
    for ends in &FAMILIES {
        let _listener = listen(&user, at(ends.user, 7000));
        assert!(connect(&web, at(ends.user, 7000)).is_err(), "the node routes for others");
    }
    assert_eq!(counted(&edge, "g1_out_r_out"), 0);
    assert!(counted(&edge, "g1_fwd_default") >= 2);
}
