//! Containers, as Docker makes them: judged as the host that they run on.

use std::net::SocketAddr;

use ipnet::IpNet;
use ringwall_lab::{Container, Host, Topology};
use ringwall_packet::Protocol;

use crate::acceptance::rig::{Rig, ip};

fn nets<const N: usize>(texts: [&str; N]) -> [IpNet; N] {
    texts.map(|text| text.parse().unwrap())
}

/// `edge` publishes port 8080 of the container `web` and 9090 of `tool`, which is on a bridge of its own.
fn docker() -> Rig {
    let topology = Topology::new()
        .host(
            Host::new("edge")
                .interface("eth0", "lan", nets(["192.0.2.1/24", "2001:db8:1::1/64"]))
                .bridge("docker0", nets(["203.0.113.1/28", "2001:db8:d::1/64"]))
                .bridge("virbr0", nets(["203.0.113.17/28", "2001:db8:e::1/64"])),
        )
        .host(Host::new("user").interface("eth0", "lan", nets(["192.0.2.9/24", "2001:db8:1::9/64"])))
        .host(Host::new("guest").interface("eth0", "lan", nets(["192.0.2.8/24", "2001:db8:1::8/64"])))
        .container(
            Container::new("web", "edge", "docker0", nets(["203.0.113.2/28", "2001:db8:d::2/64"])).publish(Protocol::TCP, 8080, 80),
        )
        .container(
            Container::new("tool", "edge", "virbr0", nets(["203.0.113.18/28", "2001:db8:e::2/64"])).publish(Protocol::TCP, 9090, 80),
        );
    Rig::start(
        &topology,
        &[
            ("edge", &["192.0.2.1", "2001:db8:1::1"]),
            ("user", &["192.0.2.9", "2001:db8:1::9"]),
            ("guest", &["192.0.2.8", "2001:db8:1::8"]),
            ("web", &["203.0.113.2", "2001:db8:d::2"]),
            ("tool", &["203.0.113.18", "2001:db8:e::2"]),
        ],
    )
}

fn policy(unmanaged: &str, rules: &str) -> String {
    format!(
        "\
internal: [192.0.2.0/24, \"2001:db8:1::/64\"]
nodes:
  edge: {{ addresses: [192.0.2.1, \"2001:db8:1::1\"]{unmanaged} }}
groups:
  users: {{ addresses: [192.0.2.9, \"2001:db8:1::9\"] }}
  guests: {{ addresses: [192.0.2.8, \"2001:db8:1::8\"] }}
rules:
{rules}"
    )
}

const RULES: &str = "  - allow: users -> edge
    services: [tcp/8080]
    id: published
  - allow: edge -> users
    services: [https]
    id: egress
";

const FAMILIES: [(&str, &str, &str); 2] =
    [("192.0.2.1", "203.0.113.2", "203.0.113.18"), ("2001:db8:1::1", "2001:db8:d::2", "2001:db8:e::2")];

/// Whether a host gets through to a container by the port that the edge publishes.
fn published(rig: &Rig, from: &str, container: &str, edge: &str, port: u16, inside: &str) -> bool {
    let listen = SocketAddr::new(ip(inside), 80);
    let listener = rig.host(container).run(|| std::net::TcpListener::bind(listen).unwrap()).unwrap();
    let to = SocketAddr::new(ip(edge), port);
    let within = std::time::Duration::from_millis(500);
    let reached = rig.host(from).run(|| std::net::TcpStream::connect_timeout(&to, within).is_ok()).unwrap();
    drop(listener);
    reached
}

#[test]
fn a_published_port_is_the_node_s_input_and_egress_is_its_output() {
    let rig = docker();
    for (edge, web, _) in FAMILIES {
        assert!(published(&rig, "guest", "web", edge, 8080, web), "{edge} before");
    }
    rig.enforce(&["edge"], &policy("", RULES), &[]);
    for (edge, web, tool) in FAMILIES {
        // Judged by the published port, not by the container's.
        assert!(published(&rig, "user", "web", edge, 8080, web), "{edge}");
        assert!(!published(&rig, "guest", "web", edge, 8080, web), "{edge}");
        assert!(!published(&rig, "user", "tool", edge, 9090, tool), "{edge}");
    }
    rig.open(&["web -> user: tcp/443", "edge -> user: tcp/443"]);
    rig.shut(&["web -> user: tcp/80 udp/53", "web -> guest: tcp/443", "edge -> guest: tcp/443"]);
    assert!(rig.packets("edge", "in", "published") >= 2);
    assert!(rig.packets("edge", "out", "egress") >= 4);
}

#[test]
fn who_has_a_route_does_not_get_past_the_published_port() {
    let rig = docker();
    rig.enforce(&["edge"], &policy("", &RULES.replace("[tcp/8080]", "[any]")), &[]);
    rig.host("user").output("ip", &["route", "add", "203.0.113.0/27", "via", "192.0.2.1"], "").unwrap();
    rig.shut(&["user -> web: tcp/80 tcp/8080"]);
}

#[test]
fn an_unmanaged_bridge_is_left_alone_and_shown() {
    let rig = docker();
    rig.enforce(&["edge"], &policy(", unmanaged: [virbr0]", RULES), &[]);
    for (edge, web, tool) in FAMILIES {
        assert!(published(&rig, "guest", "tool", edge, 9090, tool), "{edge}");
        assert!(!published(&rig, "guest", "web", edge, 8080, web), "{edge}");
    }
    rig.open(&["tool -> guest: tcp/80", "web -> user: tcp/443"]);
    rig.shut(&["web -> guest: tcp/80"]);
}

#[test]
fn a_container_s_sessions_survive_the_first_apply_and_later_ones() {
    let rig = docker();
    let mut incoming = rig.session_at("user", "web", "192.0.2.1:8080".parse().unwrap(), "203.0.113.2:80".parse().unwrap());
    let mut outgoing = rig.session("web", "user", 443);
    let mut forbidden = rig.session("web", "guest", 443);
    for session in [&mut incoming, &mut outgoing, &mut forbidden] {
        session.lives();
    }
    let path = rig.write("policy.yaml", &policy("", RULES));
    let apply = |learn: &str| {
        rig.ringwall("edge", &["apply", &path, "--no-management", "--learn", learn]).done();
        rig.ringwall("edge", &["confirm"]).done();
    };
    apply("1s");
    incoming.lives();
    outgoing.lives();
    forbidden.is_dead();
    apply("0s");
    incoming.lives();
    outgoing.lives();
}
