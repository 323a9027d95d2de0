//! IP protocol numbers and the names that people write.

use std::fmt;

/// The number in IPv4's Protocol or IPv6's last Next Header field (IANA, "Protocol Numbers").
///
/// In IPv6 no packet's protocol is 0, 43, 44 or 60: Linux looks behind these extension headers
/// (RFC 8200 §4). It stops at AH (51), which is a protocol in both families. Two numbers never get
/// as far as a rule, since conntrack calls their packets invalid: 59 in IPv6 ("no next header"),
/// and UDP-Lite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    pub const ICMP: Self = Self(1);
    pub const IGMP: Self = Self(2);
    pub const TCP: Self = Self(6);
    pub const UDP: Self = Self(17);
    pub const DCCP: Self = Self(33);
    pub const GRE: Self = Self(47);
    pub const ESP: Self = Self(50);
    pub const AH: Self = Self(51);
    pub const ICMPV6: Self = Self(58);
    pub const VRRP: Self = Self(112);
    pub const SCTP: Self = Self(132);
    pub const UDPLITE: Self = Self(136);

    /// Names in IANA's registry and nftables, in lower case. `proto/N` is the policy's spelling for
    /// a protocol without one.
    const NAMES: &'static [(Self, &'static str)] = &[
        (Self::ICMP, "icmp"),
        (Self::IGMP, "igmp"),
        (Self::TCP, "tcp"),
        (Self::UDP, "udp"),
        (Self::DCCP, "dccp"),
        (Self::GRE, "gre"),
        (Self::ESP, "esp"),
        (Self::AH, "ah"),
        (Self::ICMPV6, "icmpv6"),
        (Self::VRRP, "vrrp"),
        (Self::SCTP, "sctp"),
        (Self::UDPLITE, "udplite"),
    ];

    pub fn named(name: &str) -> Option<Self> {
        let found = Self::NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name));
        found.map(|(protocol, _)| *protocol)
    }

    pub fn name(self) -> Option<&'static str> {
        Self::NAMES.iter().find(|(protocol, _)| *protocol == self).map(|(_, name)| *name)
    }

    /// Whether its header begins with a source and a destination port of 16 bits each.
    pub fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP | Self::DCCP | Self::SCTP | Self::UDPLITE)
    }

    pub fn is_icmp(self) -> bool {
        matches!(self, Self::ICMP | Self::ICMPV6)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "proto/{}", self.0),
        }
    }
}
