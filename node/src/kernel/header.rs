//! The flow that a packet's first bytes belong to.
//!
//! In: bytes from the IP header on. Out: the flow, if they hold one. Never: a guess: a later fragment
//! has no ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ringwall_packet::{Flow, PortProtocol, Protocol, Upper};

/// The flow of an IPv4 or IPv6 packet.
pub(super) fn flow(packet: &[u8]) -> Option<Flow> {
    match packet.first()? >> 4 {
        4 => flow_v4(packet),
        6 => flow_v6(packet),
        _ => None,
    }
}

/// RFC 791 §3.1
fn flow_v4(packet: &[u8]) -> Option<Flow> {
    let header = packet.first_chunk::<20>()?;
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    if fragment != 0 {
        return None;
    }
    let rest = packet.get(usize::from(header[0] & 0x0f).max(5) * 4..)?;
    let address = |start: usize| header[start..].first_chunk::<4>().map(|octets| IpAddr::V4(Ipv4Addr::from(*octets)));
    let upper = upper(Protocol(header[9]), Protocol::ICMP, rest)?;
    Flow::new(address(12)?, address(16)?, upper)
}

/// RFC 8200 §§3, 4
fn flow_v6(packet: &[u8]) -> Option<Flow> {
    let (header, mut rest) = packet.split_first_chunk::<40>()?;
    let mut next = header[6];
    loop {
        let length = match next {
            // Hop-by-hop, routing and destination options; the kernel steps over no others
            // (`ipv6_ext_hdr` in net/ipv6/exthdrs_core.c).
            0 | 43 | 60 => (usize::from(*rest.get(1)?) + 1) * 8,
            44 => {
                let fragment = u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]) >> 3;
                if fragment != 0 {
                    return None;
                }
                8
            }
            // Authentication header, RFC 4302 §2.2.
            51 => (usize::from(*rest.get(1)?) + 2) * 4,
            _ => break,
        };
        next = *rest.first()?;
        rest = rest.get(length..)?;
    }
    let address = |start: usize| header[start..].first_chunk::<16>().map(|octets| IpAddr::V6(Ipv6Addr::from(*octets)));
    let upper = upper(Protocol(next), Protocol::ICMPV6, rest)?;
    Flow::new(address(8)?, address(24)?, upper)
}

fn upper(protocol: Protocol, icmp: Protocol, bytes: &[u8]) -> Option<Upper> {
    if let Some(protocol) = PortProtocol::new(protocol) {
        let [a, b, c, d] = *bytes.first_chunk()?;
        let (source, destination) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        Some(Upper::Ports { protocol, source, destination })
    } else if protocol == icmp {
        let [kind, code] = *bytes.first_chunk()?;
        Some(Upper::Icmp { kind, code })
    } else {
        Upper::other(protocol)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v4(protocol: u8, fragment: u16, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet.extend(rest);
        packet
    }

    fn v6(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, next, 64];
        for last in [1, 2] {
            packet.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        }
        packet.extend(rest);
        packet
    }

    #[test]
    fn flows_are_read() {
        let ports = [0x30, 0x39, 0x01, 0xbb];
        let fragment = |offset: u8| [&[6, 0, 0, offset, 0, 0, 0, 1][..], &ports].concat();
        let options = [&[17, 1][..], &[0; 14], &ports].concat();
        let cases = [
            ("tcp", v4(6, 0, &ports), Some("tcp 192.0.2.1:12345 -> 192.0.2.2:443")),
            ("first fragment", v4(6, 0x2000, &ports), Some("tcp 192.0.2.1:12345 -> 192.0.2.2:443")),
            ("later fragment", v4(6, 1, &ports), None),
            ("cut", v4(6, 0, &ports[..3]), None),
            ("ping", v4(1, 0, &[8, 0]), Some("icmp type 8 code 0 192.0.2.1 -> 192.0.2.2")),
            ("vrrp", v4(112, 0, &[]), Some("vrrp 192.0.2.1 -> 192.0.2.2")),
            ("icmpv6 in IPv4", v4(58, 0, &[8, 0]), None),
            ("udp after options", v6(0, &options), Some("udp [2001:db8::1]:12345 -> [2001:db8::2]:443")),
            ("first fragment, IPv6", v6(44, &fragment(1)), Some("tcp [2001:db8::1]:12345 -> [2001:db8::2]:443")),
            ("later fragment, IPv6", v6(44, &fragment(8)), None),
            ("ping, IPv6", v6(58, &[128, 0]), Some("icmpv6 type 128 code 0 2001:db8::1 -> 2001:db8::2")),
            ("no IP", vec![0x15; 60], None),
            ("nothing", vec![], None),
        ];
        for (name, packet, expected) in cases {
            assert_eq!(flow(&packet).map(|flow| flow.to_string()).as_deref(), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(mut packet in prop::collection::vec(any::<u8>(), 0..140), version in 3u8..8) {
            let _ = flow(&packet);
            if let Some(first) = packet.first_mut() {
                *first = version << 4 | *first & 0x0f;
            }
            let _ = flow(&packet);
        }
    }
}
