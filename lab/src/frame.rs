//! Packets byte by byte: what a header of any shape looks like on the wire, and back.
//!
//! In: a flow and what else the packet should say. Out: bytes with right lengths and checksums.
//! Never: a socket.
//!
//! A protocol without a layout here is its payload alone. In IPv6 some of those numbers are extension
//! headers (0, 43, 44, 51, 60, 135; RFC 8200 §4), which the kernel looks behind.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ringwall_packet::{Flow, Header, PortProtocol, Protocol, Upper};

/// A hardware address (IEEE 802).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    pub const BROADCAST: Self = Self([0xff; 6]);
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// TCP's control bits (RFC 9293 §3.1).
pub mod tcp {
    pub const FIN: u8 = 1;
    pub const SYN: u8 = 2;
    pub const RST: u8 = 4;
    pub const PSH: u8 = 8;
    pub const ACK: u8 = 16;
}

/// What a packet says beyond its flow. The default is the first packet of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Details<'a> {
    pub hop_limit: u8,
    /// Of IPv4 (RFC 791); IPv6 has none.
    pub identification: u16,
    /// See [`tcp`].
    pub tcp_flags: u8,
    pub tcp_sequence: u32,
    pub tcp_acknowledgement: u32,
    /// The second word of an ICMP header: identifier and sequence number of an echo, MTU of "too big".
    pub icmp_rest: [u8; 4],
    pub payload: &'a [u8],
}

impl Default for Details<'_> {
    fn default() -> Self {
        Self {
            hop_limit: 64,
            identification: 0,
            tcp_flags: tcp::SYN,
            tcp_sequence: 0,
            tcp_acknowledgement: 0,
            icmp_rest: [0; 4],
            payload: &[],
        }
    }
}

/// The IP packet. The payload has to leave room for headers within 65,535 octets.
pub fn packet(flow: &Flow, details: &Details<'_>) -> Vec<u8> {
    let upper = upper(flow, details);
    let protocol = flow.protocol().0;
    let mut packet = match flow {
        Flow::V4(Header { source, destination, .. }) => {
            // RFC 791 §3.1; the flag is "don't fragment".
            let mut header = vec![0x45, 0];
            header.extend(length(20 + upper.len()));
            header.extend(details.identification.to_be_bytes());
            header.extend([0x40, 0, details.hop_limit, protocol, 0, 0]);
            header.extend(source.octets());
            header.extend(destination.octets());
            let sum = checksum(&[&header]);
            header[10..12].copy_from_slice(&sum);
            header
        }
        Flow::V6(Header { source, destination, .. }) => {
            // RFC 8200 §3.
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(length(upper.len()));
            header.extend([protocol, details.hop_limit]);
            header.extend(source.octets());
            header.extend(destination.octets());
            header
        }
    };
    packet.extend(upper);
    packet
}

/// An ICMP or ICMPv6 error about a packet, which it quotes as far as both RFCs 1812 and 4443 want.
/// `None` when the two addresses are of different families.
pub fn icmp_error(source: IpAddr, destination: IpAddr, kind: u8, code: u8, about: &[u8]) -> Option<Vec<u8>> {
    // RFC 1812 §4.3.2.3: within 576 octets; RFC 4443 §2.4: within 1280.
    let room = if source.is_ipv4() { 576 - 28 } else { 1280 - 48 };
    let flow = Flow::new(source, destination, Upper::Icmp { kind, code })?;
    Some(packet(&flow, &Details { payload: &about[..about.len().min(room)], ..Details::default() }))
}

/// The packet in an Ethernet frame, its type by the packet's version.
pub fn ethernet(source: Mac, destination: Mac, packet: &[u8]) -> Vec<u8> {
    // IEEE 802 numbers: IPv6 and IPv4.
    let kind: [u8; 2] = if packet.first().is_some_and(|first| first >> 4 == 6) { [0x86, 0xdd] } else { [0x08, 0x00] };
    [&destination.0, &source.0, &kind[..], packet].concat()
}

/// A packet's flow and its payload behind the headers that [`packet`] writes. `None` for what is no
/// whole IP packet, for a later fragment, and for IPv6 with extension headers in front of a protocol
/// with ports.
pub fn read(packet: &[u8]) -> Option<(Flow, &[u8])> {
    let (source, destination, protocol, upper): (IpAddr, IpAddr, _, _) = match packet.first()? >> 4 {
        4 => {
            let start = usize::from(packet[0] & 0xf) * 4;
            let end = usize::from(word(packet, 2)?);
            if word(packet, 6)? & 0x1fff != 0 {
                return None;
            }
            let address = |at| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
            (address(12)?.into(), address(16)?.into(), packet[9], packet.get(start..end)?)
        }
        6 => {
            let end = 40 + usize::from(word(packet, 4)?);
            let address = |at| Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
            (address(8)?.into(), address(24)?.into(), packet[6], packet.get(40..end)?)
        }
        _ => return None,
    };
    let protocol = Protocol(protocol);
    let family_icmp = if source.is_ipv4() { Protocol::ICMP } else { Protocol::ICMPV6 };
    let (fields, header) = if let Some(ports) = PortProtocol::new(protocol) {
        let header = match protocol {
            Protocol::TCP => usize::from(upper.get(12)? >> 4) * 4,
            Protocol::DCCP => usize::from(*upper.get(4)?) * 4,
            // The common header, the INIT chunk, and the head of the parameter with the payload.
            Protocol::SCTP => SCTP_HEADERS.min(upper.len()),
            _ => 8,
        };
        (Upper::Ports { protocol: ports, source: word(upper, 0)?, destination: word(upper, 2)? }, header)
    } else if protocol == family_icmp {
        (Upper::Icmp { kind: *upper.first()?, code: *upper.get(1)? }, 8)
    } else {
        (Upper::other(protocol)?, 0)
    };
    Some((Flow::new(source, destination, fields)?, upper.get(header..)?))
}

/// What follows the IP header.
fn upper(flow: &Flow, details: &Details<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    match flow.upper() {
        Upper::Ports { protocol, source, destination } => {
            bytes.extend(source.to_be_bytes());
            bytes.extend(destination.to_be_bytes());
            match protocol.protocol() {
                // RFC 9293 §3.1: five words of header, an open window.
                Protocol::TCP => {
                    bytes.extend(details.tcp_sequence.to_be_bytes());
                    bytes.extend(details.tcp_acknowledgement.to_be_bytes());
                    bytes.extend([0x50, details.tcp_flags, 0xff, 0xff, 0, 0, 0, 0]);
                }
                // RFC 4340 §5: a Request, five words with its service code, long sequence numbers.
                Protocol::DCCP => bytes.extend([5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]),
                // RFC 9260 §3: the verification tag of an INIT is 0, and it travels alone.
                Protocol::SCTP => {
                    bytes.extend([0; 8]);
                    bytes.extend([1, 0]);
                    let parameter = if details.payload.is_empty() { 0 } else { 4 + details.payload.len() };
                    bytes.extend(length(20 + parameter));
                    bytes.extend([0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
                    if parameter > 0 {
                        // Of a type that a receiver skips when it does not know it (§3.2.1).
                        bytes.extend([0x8f, 0xff]);
                        bytes.extend(length(parameter));
                    }
                }
                // UDP's length (RFC 768), UDP-Lite's coverage (RFC 3828).
                _ => {
                    bytes.extend(length(8 + details.payload.len()));
                    bytes.extend([0, 0]);
                }
            }
        }
        Upper::Icmp { kind, code } => {
            bytes.extend([kind, code, 0, 0]);
            bytes.extend(details.icmp_rest);
        }
        Upper::Other(_) => {}
    }
    bytes.extend(details.payload);
    seal(flow, &mut bytes);
    bytes
}

/// Writes the checksum into its place.
fn seal(flow: &Flow, upper: &mut Vec<u8>) {
    let at = match flow.protocol() {
        Protocol::TCP => 16,
        Protocol::UDP | Protocol::UDPLITE | Protocol::DCCP => 6,
        Protocol::ICMP | Protocol::ICMPV6 if matches!(flow.upper(), Upper::Icmp { .. }) => 2,
        Protocol::SCTP => {
            upper.resize(upper.len().next_multiple_of(4), 0);
            let sum = crc32c(upper).to_le_bytes();
            upper[8..12].copy_from_slice(&sum);
            return;
        }
        _ => return,
    };
    let mut sum = match flow {
        // ICMP alone has no pseudo-header in IPv4 (RFC 792).
        Flow::V4(_) if flow.protocol() == Protocol::ICMP => checksum(&[upper]),
        _ => checksum(&[&pseudo_header(flow, upper.len()), upper]),
    };
    // Zero means "no checksum" to UDP (RFC 768), and its complement is as good.
    if sum == [0, 0] && matches!(flow.protocol(), Protocol::UDP | Protocol::UDPLITE) {
        sum = [0xff, 0xff];
    }
    upper[at..at + 2].copy_from_slice(&sum);
}

/// RFC 9293 §3.1 for IPv4, RFC 8200 §8.1 for IPv6.
fn pseudo_header(flow: &Flow, length: usize) -> Vec<u8> {
    let length = u32::try_from(length).expect("a packet is shorter than 4 GiB").to_be_bytes();
    let protocol = [0, 0, 0, flow.protocol().0];
    match flow {
        Flow::V4(Header { source, destination, .. }) => {
            [&source.octets()[..], &destination.octets(), &protocol[2..], &length[2..]].concat()
        }
        Flow::V6(Header { source, destination, .. }) => {
            [&source.octets()[..], &destination.octets(), &length, &protocol].concat()
        }
    }
}

/// RFC 1071. All parts but the last have an even number of octets.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words.map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).expect("folded above")).to_be_bytes()
}

/// Castagnoli's CRC, bit by bit (RFC 9260 appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

fn length(length: usize) -> [u8; 2] {
    u16::try_from(length).expect("a packet has at most 65,535 octets").to_be_bytes()
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// Common header, INIT chunk and the head of one parameter (RFC 9260 §3).
const SCTP_HEADERS: usize = 12 + 20 + 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(source: &str, destination: &str, upper: Upper) -> Flow {
        Flow::new(source.parse().unwrap(), destination.parse().unwrap(), upper).unwrap()
    }

    fn every_upper() -> Vec<Upper> {
        let ports = [Protocol::TCP, Protocol::UDP, Protocol::UDPLITE, Protocol::DCCP, Protocol::SCTP];
        let ports =
            ports.map(|p| Upper::Ports { protocol: PortProtocol::new(p).unwrap(), source: 4660, destination: 443 });
        let others = [47, 50, 112, 253].map(|number| Upper::other(Protocol(number)).unwrap());
        [&ports[..], &others, &[Upper::Icmp { kind: 3, code: 1 }]].concat()
    }

    #[test]
    fn rfc_1071_example() {
        // §3: the sum of these octets is ddf2, the checksum its complement.
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), [0x22, 0x0d]);
    }

    #[test]
    fn castagnoli_check_value() {
        // The check value of CRC-32C in the catalogue of parametrised CRC algorithms.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        // RFC 3720 B.4: 32 octets of zeroes.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (source, destination) in [("192.0.2.1", "198.51.100.7"), ("2001:db8::1", "2001:db8:1::7")] {
            for upper in every_upper() {
                for payload in [&b""[..], b"even", b"odd"] {
                    let flow = flow(source, destination, upper);
                    let packet = packet(&flow, &Details { payload, ..Details::default() });
                    let (read, found) = read(&packet).unwrap_or_else(|| panic!("{flow} cannot be read back"));
                    assert_eq!(read, flow);
                    assert!(found.starts_with(payload), "{flow}: {found:?}");
                }
            }
        }
    }

    #[test]
    fn checksums_sum_to_zero() {
        for (source, destination) in [("192.0.2.1", "198.51.100.7"), ("2001:db8::1", "2001:db8:1::7")] {
            for upper in every_upper() {
                let flow = flow(source, destination, upper);
                let sealed = super::upper(&flow, &Details { payload: b"abc", ..Details::default() });
                let total = match flow.protocol() {
                    Protocol::ICMP if flow.family() == ringwall_packet::Family::V4 => checksum(&[&sealed]),
                    Protocol::TCP | Protocol::UDP | Protocol::UDPLITE | Protocol::DCCP | Protocol::ICMPV6 => {
                        checksum(&[&pseudo_header(&flow, sealed.len()), &sealed])
                    }
                    _ => continue,
                };
                assert_eq!(total, [0, 0], "{flow}");
            }
            let v4 = packet(&flow("192.0.2.1", "192.0.2.2", Upper::udp(1, 2)), &Details::default());
            assert_eq!(checksum(&[&v4[..20]]), [0, 0]);
        }
    }

    #[test]
    fn an_error_quotes_the_packet() {
        let about = packet(
            &flow("192.0.2.1", "192.0.2.2", Upper::udp(1, 2)),
            &Details { payload: &[7; 2000], ..Details::default() },
        );
        let error = icmp_error("192.0.2.2".parse().unwrap(), "192.0.2.1".parse().unwrap(), 3, 3, &about).unwrap();
        assert_eq!(error.len(), 576);
        let (flow, quoted) = read(&error).unwrap();
        assert_eq!(flow.upper(), Upper::Icmp { kind: 3, code: 3 });
        assert_eq!(quoted, &about[..548]);
        assert!(icmp_error("192.0.2.2".parse().unwrap(), "2001:db8::1".parse().unwrap(), 3, 3, &about).is_none());
    }

    #[test]
    fn a_piece_of_a_packet_is_no_packet() {
        let whole = packet(&flow("2001:db8::1", "2001:db8::2", Upper::tcp(1, 2)), &Details::default());
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]), None);
        }
    }
}
