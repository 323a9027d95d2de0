//! What of a service is sent: protocols and ports that stand for it.
//!
//! In: a service's protocols and ports. Out: [`Target`]s. Never: a part that is left out without a word.

use std::collections::BTreeSet;

use ringwall_packet::{Family, PortProtocol, Protocol, Upper, UpperCube, UpperSet};

use super::sample;

/// A protocol and its destination port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    Tcp(u16),
    Udp(u16),
    Echo,
    Other(u8),
}

/// What stands for a service in a family, and in words what of it is never probed.
pub fn targets(upper: &UpperSet, family: Family) -> (BTreeSet<Target>, BTreeSet<String>) {
    let (mut found, mut left_out) = (BTreeSet::new(), BTreeSet::new());
    for cube in upper.cubes() {
        // A cube of very many protocols means "any": one of each kind stands for them.
        let any = cube.protocols().intervals().iter().any(|interval| interval.last() - interval.first() >= 64);
        // RFC 3692: 253 is for experiments, so that no other program minds it.
        let kinds = [Protocol::TCP, Protocol::UDP, icmp(family), Protocol(253)];
        let protocols: Vec<Protocol> = if any {
            kinds.into_iter().filter(|protocol| cube.protocols().contains(protocol.0)).collect()
        } else {
            cube.protocols().intervals().iter().flat_map(|interval| interval.first()..=interval.last()).map(Protocol).collect()
        };
        for protocol in protocols {
            match protocol {
                Protocol::TCP => found.extend(sample::ports(cube.destination_ports()).into_iter().map(Target::Tcp)),
                Protocol::UDP => found.extend(sample::ports(cube.destination_ports()).into_iter().map(Target::Udp)),
                _ if protocol == icmp(family) => {
                    if is_echo(cube, family) {
                        found.insert(Target::Echo);
                    } else {
                        left_out.insert("of ICMP only echo requests are probed".to_owned());
                    }
                }
                _ if protocol.is_icmp() => {}
                _ if protocol.has_ports() => {
                    left_out.insert(format!("{protocol} is not probed"));
                }
                _ => {
                    found.insert(Target::Other(protocol.0));
                }
            }
        }
    }
    (found, left_out)
}

fn icmp(family: Family) -> Protocol {
    match family {
        Family::V4 => Protocol::ICMP,
        Family::V6 => Protocol::ICMPV6,
    }
}

/// Type of an echo request: RFC 792, RFC 4443 §4.1.
fn echo_type(family: Family) -> u8 {
    match family {
        Family::V4 => 8,
        Family::V6 => 128,
    }
}

fn is_echo(cube: &UpperCube, family: Family) -> bool {
    cube.destination_ports().contains(u16::from_be_bytes([echo_type(family), 0]))
}

impl Target {
    pub fn upper(self, family: Family, source_port: u16) -> Option<Upper> {
        Some(match self {
            Self::Tcp(port) => Upper::Ports { protocol: PortProtocol::TCP, source: source_port, destination: port },
            Self::Udp(port) => Upper::Ports { protocol: PortProtocol::UDP, source: source_port, destination: port },
            Self::Echo => Upper::Icmp { kind: echo_type(family), code: 0 },
            Self::Other(number) => Upper::other(Protocol(number))?,
        })
    }

    pub fn text(self) -> String {
        let named = |port, protocol| match ringwall_services::name_of(protocol, port) {
            Some(name) => format!("{port}/{protocol} ({name})"),
            None => format!("{port}/{protocol}"),
        };
        match self {
            Self::Tcp(port) => named(port, Protocol::TCP),
            Self::Udp(port) => named(port, Protocol::UDP),
            Self::Echo => "icmp echo".into(),
            Self::Other(number) => Protocol(number).to_string(),
        }
    }
}
