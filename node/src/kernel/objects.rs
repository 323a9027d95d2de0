//! nftables' objects as values.
//!
//! In: the kernel's numbers. Out: types in nftables' own words, which print as nft writes them. Never:
//! a question to the kernel.

use std::fmt;
use std::time::Duration;

/// The family of a table, an NFPROTO number of linux/netfilter.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableFamily {
    Inet,
    Ip,
    Arp,
    Netdev,
    Bridge,
    Ip6,
    Other(u8),
}

impl TableFamily {
    pub(super) fn of(number: u8) -> Self {
        match number {
            1 => Self::Inet,
            2 => Self::Ip,
            3 => Self::Arp,
            5 => Self::Netdev,
            7 => Self::Bridge,
            10 => Self::Ip6,
            other => Self::Other(other),
        }
    }

    pub(super) fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Arp => 3,
            Self::Netdev => 5,
            Self::Bridge => 7,
            Self::Ip6 => 10,
            Self::Other(number) => number,
        }
    }
}

impl fmt::Display for TableFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Arp => "arp",
            Self::Netdev => "netdev",
            Self::Bridge => "bridge",
            Self::Ip6 => "ip6",
            Self::Other(number) => return write!(f, "family {number}"),
        })
    }
}

/// A table's full name, which nft writes as `inet ringwall`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId {
    pub family: TableFamily,
    pub name: String,
}

impl TableId {
    pub fn inet(name: &str) -> Self {
        Self { family: TableFamily::Inet, name: name.to_owned() }
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub id: TableId,
    /// NFT_TABLE_F_DORMANT: none of its chains are in force.
    pub dormant: bool,
    /// The netlink port of the program that alone may change it.
    pub owner: Option<u32>,
}

/// Where a base chain sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
    Ingress,
    Egress,
    Other(u32),
}

impl Hook {
    /// enum nf_inet_hooks (linux/netfilter.h), which bridges follow; enum nf_dev_hooks
    /// (linux/netfilter.h); linux/netfilter_arp.h.
    pub(super) fn of(family: TableFamily, number: u32) -> Self {
        match (family, number) {
            (TableFamily::Netdev, 0) => Self::Ingress,
            (TableFamily::Netdev, 1) => Self::Egress,
            (TableFamily::Arp, 0) => Self::Input,
            (TableFamily::Arp, 1) => Self::Output,
            (TableFamily::Arp, 2) => Self::Forward,
            (TableFamily::Netdev | TableFamily::Arp | TableFamily::Other(_), other) => Self::Other(other),
            (_, 0) => Self::Prerouting,
            (_, 1) => Self::Input,
            (_, 2) => Self::Forward,
            (_, 3) => Self::Output,
            (_, 4) => Self::Postrouting,
            (TableFamily::Inet, 5) => Self::Ingress,
            (_, other) => Self::Other(other),
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::Other(number) => return write!(f, "hook {number}"),
        })
    }
}

/// What becomes of a packet that a base chain leaves undecided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Policy {
    Accept,
    Drop,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accept => "accept",
            Self::Drop => "drop",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseChain {
    pub hook: Hook,
    pub priority: i32,
    pub policy: Policy,
    /// `filter`, `nat` or `route`.
    pub kind: String,
    /// Of netdev and ingress chains.
    pub devices: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub table: TableId,
    pub name: String,
    pub handle: u64,
    /// `None` for a chain that is only jumped to.
    pub base: Option<BaseChain>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub chain: String,
    pub handle: u64,
    pub comment: Option<String>,
}

/// What a named counter has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    pub packets: u64,
    pub bytes: u64,
}

/// enum nft_set_flags
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetFlags(pub u32);

impl SetFlags {
    pub const ANONYMOUS: Self = Self(0x1);
    pub const CONSTANT: Self = Self(0x2);
    pub const INTERVAL: Self = Self(0x4);
    pub const MAP: Self = Self(0x8);
    pub const TIMEOUT: Self = Self(0x10);
    /// Rules add to it.
    pub const EVAL: Self = Self(0x20);
    pub const OBJECT: Self = Self(0x40);
    pub const CONCAT: Self = Self(0x80);

    /// Whether all of `flags` are set.
    pub fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    pub name: String,
    pub flags: SetFlags,
    /// nft's own number for the key's type; the kernel does not look at it.
    pub key_type: u32,
    /// In bytes.
    pub key_length: u32,
    /// The declared `size`.
    pub size: Option<u32>,
    /// How many elements it holds; older kernels do not say.
    pub count: Option<u32>,
}

/// An element of a set, with the times of the moment when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// The key as the kernel holds it; a concatenation's fields are padded to four bytes each.
    pub key: Vec<u8>,
    /// The other end of an interval in a set of concatenated intervals.
    pub key_end: Option<Vec<u8>>,
    /// `None` where it stays until it is deleted.
    pub timeout: Option<Duration>,
    /// What is left of the timeout.
    pub expires: Option<Duration>,
    pub comment: Option<String>,
}
