//! The neutral model.

use std::collections::BTreeSet;

use ringwall_packet::{AddressSet, UpperSet};

/// Seconds since the epoch: 2026-11-01. An earlier clock was never set, and can't tell whether an
/// allow has expired, so that it counts as expired. A deny that expires stays until the clock is right.
pub const CLOCK_MIN: u64 = 1_793_491_200;

/// What one node enforces, without any state of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    pub node: String,
    /// The node only watches: what would be dropped is counted and logged, and accepted.
    pub audit: bool,
    /// Every address that the node may answer on.
    pub local: AddressSet,
    /// Addresses that block lists can't touch.
    pub protected: AddressSet,
    pub floor: Floor,
    /// In order of precedence: the first enforced entry that matches decides.
    pub input: Vec<Entry>,
    /// In order of precedence.
    pub output: Vec<Entry>,
    pub forward: Forward,
}

/// The parts of the floor that are more than addresses and ports. Loopback is always accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// DHCP (RFC 2131) and DHCPv6 (RFC 8415) as a client.
    pub dhcp: bool,
    /// Neighbour and router discovery (RFC 4861), as RFC 4890 §4.4.1 demands.
    pub neighbour_discovery: bool,
    /// MLD (RFC 2710, RFC 3810) and IGMP (RFC 3376).
    pub multicast_listener: bool,
}

/// What the node does with packets that it forwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forward {
    /// It routes for others: entries in order of precedence.
    Routed(Vec<Entry>),
    /// It routes for nobody but its own containers: a published port is judged as the node's input
    /// by its original destination, a container's own connection as the node's output. What an
    /// unmanaged bridge forwards is not judged. `uplinks` are interfaces that others send on: what
    /// comes in by one of them is no container's, be it a bridge or not.
    Containers { unmanaged: BTreeSet<String>, uplinks: BTreeSet<String> },
}

/// One rule of the policy, clipped to one path through the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The rule's id, or `management`.
    pub id: String,
    pub effect: Effect,
    pub source: AddressSet,
    pub destination: AddressSet,
    /// Not empty: the destination must be an answer for one of these DNS names instead.
    pub names: BTreeSet<String>,
    pub upper: UpperSet,
    /// The kernel's name of the interface that the packet must use.
    pub interface: Option<String>,
    /// Seconds since the epoch from which on the entry matches nothing.
    pub expires: Option<u64>,
    /// Counted and logged, decides nothing.
    pub audit: bool,
    pub log: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    Accept {
        /// Seconds that an established TCP session may be idle.
        session_timeout: Option<u32>,
    },
    Drop,
    Reject,
}
