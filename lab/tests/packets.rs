//! Crafted packets against a real kernel: taken by its sockets, judged by its rules, seen on its wires.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use ringwall_lab::frame::{self, Details, tcp};
use ringwall_lab::{Host, Lab, Sent, Topology};
use ringwall_packet::{Family, Flow, PortProtocol, Protocol, Upper};

const SOON: Duration = Duration::from_secs(5);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn flow(source: &str, destination: &str, upper: Upper) -> Flow {
    Flow::new(ip(source), ip(destination), upper).unwrap()
}

/// A node and, at the other end of its cable, somebody.
fn pair() -> Lab {
    let host = |name, n| {
        let addresses =
            [format!("192.0.2.{n}/24"), format!("2001:db8::{n}/64")].map(|address| address.parse().unwrap());
        Host::new(name).interface("eth0", "cable", addresses)
    };
    Lab::start(&Topology::new().host(host("node", 1)).host(host("peer", 2))).unwrap()
}

#[test]
fn a_udp_socket_takes_a_crafted_packet() {
    let lab = pair();
    let (node, wire) = (lab.host("node").unwrap(), lab.host("peer").unwrap().wire("eth0").unwrap());
    for (node_address, peer_address) in [("192.0.2.1", "192.0.2.77"), ("2001:db8::1", "2001:db8::77")] {
        let socket = node.run(|| UdpSocket::bind(SocketAddr::new(ip(node_address), 53)).unwrap()).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        // A payload of each length up to a word's, for the checksum's last octet.
        for payload in [&b""[..], b"a", b"ab", b"abc"] {
            let packet = frame::packet(
                &flow(peer_address, node_address, Upper::udp(9, 53)),
                &Details { payload, ..Details::default() },
            );
            wire.send(node.mac("eth0").unwrap(), &packet).unwrap();
            let mut buffer = [0; 8];
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], payload);
            assert_eq!(from, SocketAddr::new(ip(peer_address), 9));
        }
    }
}

#[test]
fn a_tcp_listener_answers_a_crafted_syn_and_a_closed_port_resets() {
    let lab = pair();
    let (node, peer) = (lab.host("node").unwrap(), lab.host("peer").unwrap());
    // The peer's own kernel must not answer the answers.
    peer.output(
        "nft",
        &["-f", "-"],
        "table inet t { chain c { type filter hook input priority -300; tcp sport { 80, 81 } drop; }; }",
    )
    .unwrap();
    let wire = peer.wire("eth0").unwrap();
    for (node_address, peer_address) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
        let _listener = node.run(|| TcpListener::bind(SocketAddr::new(ip(node_address), 80)).unwrap()).unwrap();
        for (port, flags) in [(80, tcp::SYN | tcp::ACK), (81, tcp::RST | tcp::ACK)] {
            let syn = flow(peer_address, node_address, Upper::tcp(1234, port));
            wire.send(node.mac("eth0").unwrap(), &frame::packet(&syn, &Details::default())).unwrap();
            let answer = loop {
                let packet = wire.receive(SOON).unwrap().expect("an answer");
                if frame::read(&packet).is_some_and(|(read, _)| Some(read) == syn.reply()) {
                    break packet;
                }
            };
            let start = if ip(node_address).is_ipv4() { 20 } else { 40 };
            assert_eq!(answer[start + 13], flags, "{syn}");
        }
    }
}

#[test]
fn echo_requests_are_answered_over_a_router() {
    let nodes =
        [("a", vec![ip("192.0.2.1"), ip("2001:db8:1::1")]), ("b", vec![ip("198.51.100.1"), ip("2001:db8:2::1")])];
    let lab = Lab::start(&Topology::star("fw", [ip("203.0.113.254"), ip("2001:db8:ffff::254")], nodes)).unwrap();
    let (sender, wire) = (lab.host("a").unwrap().raw_sender().unwrap(), lab.host("a").unwrap().wire("eth0").unwrap());
    for (from, to, kind) in [("192.0.2.1", "198.51.100.1", 8), ("2001:db8:1::1", "2001:db8:2::1", 128)] {
        let request = flow(from, to, Upper::Icmp { kind, code: 0 });
        let details = Details { icmp_rest: [0, 1, 0, 2], payload: b"ping", ..Details::default() };
        assert_eq!(sender.send(&frame::packet(&request, &details)).unwrap(), Sent::Accepted);
        let answer =
            wire.find(SOON, |read, payload| (Some(read) == request.reply()).then(|| payload.to_vec())).unwrap();
        assert_eq!(answer.as_deref(), Some(&b"ping"[..]));
    }
}

#[test]
fn output_rules_judge_what_a_raw_sender_sends() {
    let lab = pair();
    let (node, wire) = (lab.host("node").unwrap(), lab.host("peer").unwrap().wire("eth0").unwrap());
    node.output(
        "nft",
        &["-f", "-"],
        "table inet t { chain c { type filter hook output priority 0; udp dport 7 drop; udp dport 8 reject; }; }",
    )
    .unwrap();
    let sender = node.raw_sender().unwrap();
    for (from, to) in [("192.0.2.99", "192.0.2.2"), ("2001:db8::99", "2001:db8::2")] {
        let send =
            |port| sender.send(&frame::packet(&flow(from, to, Upper::udp(1, port)), &Details::default())).unwrap();
        assert_eq!([7, 8, 9].map(send), [Sent::Refused, Sent::Refused, Sent::Accepted]);
        // The one that passed is the one that arrives, from an address that is not the node's.
        let first = wire.find(SOON, |read, _| (read.protocol() == Protocol::UDP).then_some(read)).unwrap();
        assert_eq!(first, Some(flow(from, to, Upper::udp(1, 9))));
        let stranger = if ip(to).is_ipv4() { "203.0.113.1" } else { "2001:db8:9::1" };
        assert_eq!(
            sender.send(&frame::packet(&flow(from, stranger, Upper::udp(1, 9)), &Details::default())).unwrap(),
            Sent::NoRoute
        );
    }
}

#[test]
fn every_packet_is_whole_to_the_kernel_and_logged_with_its_rule() {
    let lab = pair();
    let (node, wire) = (lab.host("node").unwrap(), lab.host("peer").unwrap().wire("eth0").unwrap());
    let mac = node.mac("eth0").unwrap();
    // conntrack checks lengths and checksums: what is malformed is invalid.
    node.output(
        "nft",
        &["-f", "-"],
        "table inet t { chain c { type filter hook prerouting priority 0
            icmpv6 type != echo-request accept comment \"the kernels' own\"
            ct state invalid log prefix \"invalid\" group 5 drop
            ct state new log prefix \"new\" group 5 drop
            log prefix \"other\" group 5 drop
        }; }",
    )
    .unwrap();
    let mut log = node.packet_log(5).unwrap();
    for family in Family::ALL {
        let (from, to, echo) = match family {
            Family::V4 => ("192.0.2.2", "192.0.2.1", 8),
            Family::V6 => ("2001:db8::2", "2001:db8::1", 128),
        };
        // Without UDP-Lite: conntrack puts UDP's number into its pseudo-header (seen on 6.18), so that
        // even what the kernel's own UDP-Lite sockets send counts as invalid.
        let ports = [Protocol::TCP, Protocol::UDP, Protocol::DCCP, Protocol::SCTP];
        let ports = ports.map(|protocol| Upper::Ports {
            protocol: PortProtocol::new(protocol).unwrap(),
            source: 1,
            destination: 2,
        });
        let others = [
            Upper::Icmp { kind: echo, code: 0 },
            Upper::other(Protocol::ESP).unwrap(),
            Upper::other(Protocol(253)).unwrap(),
        ];
        for upper in ports.into_iter().chain(others) {
            for payload in [&b""[..], b"odd"] {
                let packet = frame::packet(&flow(from, to, upper), &Details { payload, ..Details::default() });
                wire.send(mac, &packet).unwrap();
                let logged = log.receive(SOON).unwrap().expect("a log message");
                assert_eq!(logged.packet, packet);
                assert_eq!((logged.prefix.as_str(), logged.hook), ("new", 0), "{}", flow(from, to, upper));
            }
        }
        // And the check is one: a wrong octet is seen.
        let mut packet = frame::packet(&flow(from, to, Upper::tcp(1, 2)), &Details::default());
        *packet.last_mut().unwrap() ^= 1;
        wire.send(mac, &packet).unwrap();
        assert_eq!(log.receive(SOON).unwrap().unwrap().prefix, "invalid");
    }
}

#[test]
fn an_error_about_a_known_flow_is_related() {
    let lab = pair();
    let (node, peer) = (lab.host("node").unwrap(), lab.host("peer").unwrap());
    let wire = peer.wire("eth0").unwrap();
    // The peer's kernel has errors of its own to send.
    peer.output(
        "nft",
        &["-f", "-"],
        "table inet t { chain c { type filter hook input priority 0; udp dport 6 drop; }; }",
    )
    .unwrap();
    node.output("nft", &["-f", "-"], "table inet t { chain c { type filter hook input priority 0; ct state related log prefix \"related\" group 5; }; }").unwrap();
    let (mut log, sender) = (node.packet_log(5).unwrap(), node.raw_sender().unwrap());
    for (node_address, peer_address, kind, code) in
        [("192.0.2.1", "192.0.2.2", 3, 3), ("2001:db8::1", "2001:db8::2", 1, 4)]
    {
        let ours = frame::packet(&flow(node_address, peer_address, Upper::udp(5, 6)), &Details::default());
        assert_eq!(sender.send(&ours).unwrap(), Sent::Accepted);
        let error = frame::icmp_error(ip(peer_address), ip(node_address), kind, code, &ours).unwrap();
        wire.send(node.mac("eth0").unwrap(), &error).unwrap();
        assert_eq!(log.receive(SOON).unwrap().unwrap().packet, error);
    }
}

#[test]
fn a_quiet_wire_and_a_quiet_log_say_so() {
    let lab = pair();
    let node = lab.host("node").unwrap();
    node.output("ip", &["link", "set", "dev", "eth0", "down"], "").unwrap();
    node.output("ip", &["link", "add", "name", "other", "type", "bridge"], "").unwrap();
    assert_eq!(node.packet_log(1).unwrap().receive(Duration::from_millis(1)).unwrap(), None);
    assert!(node.wire("other").is_err(), "the topology has no such interface");
    let lo = node.wire("eth0").unwrap();
    assert!(lo.receive(Duration::from_millis(1)).is_err_and(|error| error.raw_os_error() == Some(nix::libc::ENETDOWN)));
}
