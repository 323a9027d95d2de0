//! conntrack over netlink.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket};
use ringwall_node::kernel::{Netfilter, TcpState, Tuple, TupleUpper};
use ringwall_packet::{PortProtocol, Protocol};

use crate::namespace::{connect, in_namespace, load, netfilter};

/// Tracking begins with the first rule that asks for it; the mark is what a generation would leave.
const TRACK: &str = "table inet ringwall {
    chain output { type filter hook output priority 0
        ct state new ct mark set 0x2a000000
    }
}
";

fn only(netfilter: &mut Netfilter, protocol: Protocol) -> ringwall_node::kernel::Connection {
    let mut found = netfilter.connections().expect("connections");
    found.retain(|connection| connection.original.protocol == protocol);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn a_tcp_connection_is_read_found_and_deleted() {
    in_namespace(|| {
        load(TRACK);
        let (client, _server) = connect();
        let (source, destination) = (client.local_addr().expect("bound"), client.peer_addr().expect("connected"));
        let tuple = Tuple::ports(PortProtocol::TCP, source, destination);

        let mut netfilter = netfilter();
        let connection = only(&mut netfilter, Protocol::TCP);
        assert_eq!(connection.original, tuple);
        assert_eq!(connection.reply, Tuple::ports(PortProtocol::TCP, destination, source));
        assert_eq!(connection.mark, 0x2a00_0000);
        assert_eq!(connection.tcp, Some(TcpState::Established));
        assert!(connection.status.seen_reply() && connection.status.assured());
        assert!(!connection.status.source_translated() && !connection.status.destination_translated());
        assert!(connection.timeout.is_some_and(|left| left > Duration::from_secs(300)));
        assert_eq!(
            connection.original.flow().map(|flow| flow.to_string()),
            Some(format!("tcp {source} -> {destination}"))
        );

        let found = netfilter.find_connection(&tuple).expect("asked").expect("found");
        assert_eq!((found.original, found.id, found.mark), (tuple, connection.id, connection.mark));
        let answers = netfilter.find_connection(&connection.reply).expect("asked").expect("found");
        assert_eq!(answers.original, tuple);
        assert_eq!(netfilter.connection_count().expect("a count").tracked, 1);
        assert!(netfilter.connection_count().expect("a count").limit > 1);

        // A number of another connection does not end this one.
        let mut other = connection.clone();
        other.id = other.id.map(|id| !id);
        assert!(!netfilter.delete_connection(&other).expect("asked"));
        assert!(netfilter.delete_connection(&connection).expect("asked"));
        assert!(!netfilter.delete_connection(&connection).expect("asked"));
        assert_eq!(netfilter.connections().expect("connections"), []);
        assert_eq!(netfilter.find_connection(&tuple).expect("asked"), None);
        assert_eq!(netfilter.connection_count().expect("a count").tracked, 0);
    });
}

#[test]
fn udp_and_ipv6_are_tracked_too() {
    in_namespace(|| {
        load(TRACK);
        let socket = UdpSocket::bind("[::1]:0").expect("a socket");
        let other = UdpSocket::bind("[::1]:0").expect("a socket");
        let (source, destination) = (socket.local_addr().expect("bound"), other.local_addr().expect("bound"));
        socket.send_to(&[0], destination).expect("sent");
        let mut netfilter = netfilter();
        let connection = only(&mut netfilter, Protocol::UDP);
        assert_eq!(connection.original, Tuple::ports(PortProtocol::UDP, source, destination));
        assert_eq!(connection.tcp, None);
        assert!(!connection.status.seen_reply());
        for (mark, mask, expected) in [(0x1234_5678, u32::MAX, 0x1234_5678), (0xab00_0000, 0xff00_0000, 0xab34_5678)] {
            assert!(netfilter.mark_connection(&connection, mark, mask).expect("asked"));
            assert_eq!(only(&mut netfilter, Protocol::UDP).mark, expected);
        }
        assert!(netfilter.delete_connection(&connection).expect("asked"));
        assert!(!netfilter.mark_connection(&connection, 1, 1).expect("asked"));
        assert_eq!(netfilter.connections().expect("connections"), []);
    });
}

#[test]
fn a_ping_carries_type_code_and_number() {
    in_namespace(|| {
        load(TRACK);
        let raw =
            socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), SockProtocol::Icmp).expect("a raw socket");
        // Type, code, checksum, identifier, sequence (RFC 792).
        let echo = [8, 0, 0xe5, 0xca, 0x12, 0x34, 0, 1];
        sendto(raw.as_raw_fd(), &echo, &SockaddrIn::new(127, 0, 0, 1, 0), MsgFlags::empty()).expect("sent");
        let mut netfilter = netfilter();
        let connection = only(&mut netfilter, Protocol::ICMP);
        assert_eq!(connection.original.upper, TupleUpper::Icmp { kind: 8, code: 0, id: 0x1234 });
        assert_eq!(connection.reply.upper, TupleUpper::Icmp { kind: 0, code: 0, id: 0x1234 });
        assert!(netfilter.delete_connection(&connection).expect("asked"));
    });
}

#[test]
fn thousands_are_read_whole() {
    in_namespace(|| {
        load(TRACK);
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        for port in 20_001..=25_000 {
            let _ = socket.send_to(&[0], ("127.0.0.1", port));
        }
        let mut netfilter = netfilter();
        let mut ports = BTreeSet::new();
        netfilter
            .each_connection(|connection| {
                if let TupleUpper::Ports { destination, .. } = connection.original.upper {
                    ports.insert(destination);
                }
            })
            .expect("connections");
        assert_eq!(ports, BTreeSet::from_iter(20_001..=25_000));
        assert_eq!(netfilter.connection_count().expect("a count").tracked, 5_000);
    });
}
