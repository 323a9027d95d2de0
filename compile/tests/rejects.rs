//! What is rejected is answered, what is dropped is not, and the answer passes the node's own rules.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use ringwall_lab::{Host, HostRef, Lab, Topology};
use ringwall_ruleset::nftables::{Confirm, Generation, Installed, transaction};

const RULES: &str = "
nodes:
  node: { addresses: [192.0.2.1, \"2001:db8::1\"] }
groups:
  users: { addresses: [192.0.2.9, \"2001:db8::9\"] }
rules:
  - { id: in-no, deny: users -> node, services: [tcp/1, udp/1], reject: true }
  - { id: in-silent, deny: users -> node, services: [tcp/2, udp/2] }
  - { id: out-no, deny: node -> users, services: [tcp/3, udp/3] }
";

fn lab() -> Lab {
    let host = |name: &str, addresses: [&str; 2]| {
        Host::new(name).interface("eth0", "cable", addresses.map(|address| address.parse().unwrap()))
    };
    let topology = Topology::new()
        .host(host("node", ["192.0.2.1/24", "2001:db8::1/64"]))
        .host(host("user", ["192.0.2.9/24", "2001:db8::9/64"]));
    let lab = Lab::start(&topology).unwrap();
    let input = ringwall_policy_file::Input { name: "policy.yaml".into(), text: RULES.into() };
    let parsed = ringwall_policy_file::parse(&[input], &Default::default(), 0);
    let policy = parsed.policy.unwrap_or_else(|| panic!("{:?}", parsed.diagnostics));
    let (ruleset, _) = ringwall_compile::compile(&policy, "node").unwrap();
    let text = transaction(&ruleset, Generation(1), &Installed::default(), Confirm::Never);
    lab.host("node").unwrap().output("nft", &["-f", "-"], &text).unwrap();
    lab
}

/// How a TCP connection ends. What is dropped is never answered, so a short time is as good as any.
fn tcp(from: &HostRef<'_>, to: SocketAddr) -> ErrorKind {
    from.run(|| TcpStream::connect_timeout(&to, Duration::from_millis(300)).unwrap_err().kind()).unwrap()
}

/// What a UDP socket hears back.
fn udp(from: &HostRef<'_>, to: SocketAddr) -> ErrorKind {
    from.run(|| {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        socket.connect(to).unwrap();
        socket.send(b"word").and_then(|_| socket.recv(&mut [0])).unwrap_err().kind()
    })
    .unwrap()
}

#[test]
fn a_rejected_packet_is_answered_and_a_dropped_one_is_not() {
    let lab = lab();
    let user = lab.host("user").unwrap();
    for address in ["192.0.2.1", "2001:db8::1"] {
        let at = |port| SocketAddr::new(address.parse().unwrap(), port);
        assert_eq!(tcp(&user, at(1)), ErrorKind::ConnectionRefused, "{address}");
        assert_eq!(tcp(&user, at(2)), ErrorKind::TimedOut, "{address}");
        // "Administratively prohibited": EHOSTUNREACH in IPv4, EACCES in IPv6.
        let prohibited = if at(1).is_ipv4() { ErrorKind::HostUnreachable } else { ErrorKind::PermissionDenied };
        assert_eq!(udp(&user, at(1)), prohibited, "{address}");
        assert_eq!(udp(&user, at(2)), ErrorKind::WouldBlock, "{address}");
    }
}

#[test]
fn a_local_program_learns_at_once_what_may_not_leave() {
    let lab = lab();
    let node = lab.host("node").unwrap();
    for address in ["192.0.2.9", "2001:db8::9"] {
        // By a rule, and by the default.
        for port in [3, 4] {
            let to = SocketAddr::new(address.parse().unwrap(), port);
            assert_eq!(tcp(&node, to), ErrorKind::ConnectionRefused, "{to}");
            assert_eq!(udp(&node, to), ErrorKind::PermissionDenied, "{to}");
        }
    }
}
