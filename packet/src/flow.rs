//! One packet's header, as far as a policy looks at it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::Protocol;
use crate::address::Family;

/// conntrack's state of a packet, in the words of nftables' `ct state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    New,
    Established,
    Related,
    Invalid,
    Untracked,
}

/// A protocol whose header begins with two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortProtocol(Protocol);

impl PortProtocol {
    pub const TCP: Self = Self(Protocol::TCP);
    pub const UDP: Self = Self(Protocol::UDP);

    /// `None` when the protocol has no ports.
    pub fn new(protocol: Protocol) -> Option<Self> {
        protocol.has_ports().then_some(Self(protocol))
    }

    pub fn protocol(self) -> Protocol {
        self.0
    }
}

/// What follows the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Upper {
    Ports { protocol: PortProtocol, source: u16, destination: u16 },
    /// ICMP in IPv4 (RFC 792), ICMPv6 in IPv6 (RFC 4443).
    Icmp { kind: u8, code: u8 },
    /// A protocol with neither ports nor types.
    Other(OtherProtocol),
}

/// A protocol that is neither ICMP, ICMPv6 nor one with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OtherProtocol(Protocol);

impl Upper {
    /// A header of `protocol`; the ports count only where the protocol has them, and for the
    /// family's ICMP `destination` holds type and code. The other family's is a plain protocol.
    pub(crate) fn from_parts(family: Family, protocol: Protocol, destination: u16, source: u16) -> Self {
        if let Some(protocol) = PortProtocol::new(protocol) {
            Self::Ports { protocol, source, destination }
        } else if protocol == icmp_of(family) {
            let [kind, code] = destination.to_be_bytes();
            Self::Icmp { kind, code }
        } else {
            Self::Other(OtherProtocol(protocol))
        }
    }

    /// The fields as coordinates: protocol, destination port (or ICMP type and code), source port.
    pub(crate) fn parts(self, family: Family) -> (Protocol, u16, u16) {
        match self {
            Self::Ports { protocol, source, destination } => (protocol.0, destination, source),
            Self::Icmp { kind, code } => (icmp_of(family), u16::from_be_bytes([kind, code]), 0),
            Self::Other(protocol) => (protocol.0, 0, 0),
        }
    }

    pub fn tcp(source: u16, destination: u16) -> Self {
        Self::Ports { protocol: PortProtocol::TCP, source, destination }
    }

    pub fn udp(source: u16, destination: u16) -> Self {
        Self::Ports { protocol: PortProtocol::UDP, source, destination }
    }

    /// `None` for a protocol with ports or types, which need their own variants.
    pub fn other(protocol: Protocol) -> Option<Self> {
        (!protocol.has_ports() && !protocol.is_icmp()).then_some(Self::Other(OtherProtocol(protocol)))
    }
}

pub(crate) fn icmp_of(family: Family) -> Protocol {
    match family {
        Family::V4 => Protocol::ICMP,
        Family::V6 => Protocol::ICMPV6,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Header<A> {
    pub source: A,
    pub destination: A,
    pub upper: Upper,
}

/// One packet header: source, destination, protocol, ports. Both addresses are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flow {
    V4(Header<Ipv4Addr>),
    V6(Header<Ipv6Addr>),
}

impl Flow {
    /// `None` when the families differ. IPv4-mapped addresses count as IPv4.
    pub fn new(source: IpAddr, destination: IpAddr, upper: Upper) -> Option<Self> {
        match (source.to_canonical(), destination.to_canonical()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Some(Self::V4(Header { source, destination, upper })),
            (IpAddr::V6(source), IpAddr::V6(destination)) => Some(Self::V6(Header { source, destination, upper })),
            _ => None,
        }
    }

    pub fn family(&self) -> Family {
        match self {
            Self::V4(_) => Family::V4,
            Self::V6(_) => Family::V6,
        }
    }

    pub fn source(&self) -> IpAddr {
        match self {
            Self::V4(header) => header.source.into(),
            Self::V6(header) => header.source.into(),
        }
    }

    pub fn destination(&self) -> IpAddr {
        match self {
            Self::V4(header) => header.destination.into(),
            Self::V6(header) => header.destination.into(),
        }
    }

    pub fn upper(&self) -> Upper {
        match self {
            Self::V4(header) => header.upper,
            Self::V6(header) => header.upper,
        }
    }

    pub fn protocol(&self) -> Protocol {
        self.upper().parts(self.family()).0
    }

    /// The header that an answer to this one carries; `None` for what has no answer of its own shape.
    pub fn reply(&self) -> Option<Self> {
        let upper = match self.upper() {
            Upper::Ports { protocol, source, destination } => {
                Upper::Ports { protocol, source: destination, destination: source }
            }
            // Echo request to echo reply, RFC 792 and RFC 4443 §4.
            Upper::Icmp { kind: 8, code: 0 } if self.family() == Family::V4 => Upper::Icmp { kind: 0, code: 0 },
            Upper::Icmp { kind: 128, code: 0 } if self.family() == Family::V6 => Upper::Icmp { kind: 129, code: 0 },
            Upper::Icmp { .. } => return None,
            other @ Upper::Other(_) => other,
        };
        Self::new(self.destination(), self.source(), upper)
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (source, destination) = (self.source(), self.destination());
        write!(f, "{} ", self.protocol())?;
        match self.upper() {
            Upper::Ports { source: from, destination: to, .. } => {
                write!(f, "{} -> {}", SocketAddr::new(source, from), SocketAddr::new(destination, to))
            }
            Upper::Icmp { kind, code } => write!(f, "type {kind} code {code} {source} -> {destination}"),
            Upper::Other(_) => write!(f, "{source} -> {destination}"),
        }
    }
}
