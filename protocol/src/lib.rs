//! What controller and agents say to each other, in one version of `ringwall.v1`.
//!
//! In: what came over the wire, or our own values. Out: our own values, checked and bounded, or the field that
//! is wrong; what goes over the wire. Never: a socket, a clock, TLS, or a generated type beyond this crate's
//! edge and the two services' signatures.
//!
//! Ends are durations, never clock times: the two clocks need not agree.

mod assignment;
mod codec;
mod enrolment;
mod event;
mod field;
#[allow(clippy::all, clippy::pedantic, missing_docs)]
#[path = "generated/v1.rs"]
mod generated;
mod invitation;
mod list;
mod ruleset;
mod session;

pub use assignment::{Ack, Assignment, Confirm, OnDrift, OnTighten, Reason, Refusal, Refused, Stage};
pub use enrolment::{Enrol, Enrolled, Renew, Reply, signed_by_renewal};
pub use event::{DriftOutcome, Event, Happened};
pub use field::Invalid;
pub use invitation::{Invitation, Mistyped, Secret};
pub use list::{Change, Element, List, ListRevision};
pub use ruleset::{Digest, SCHEMA as RULESET_SCHEMA, decode as decode_ruleset, encode as encode_ruleset};
pub use session::{Facts, Hello, Order, Role, ToAgent, ToController, Versions, Welcome};

/// The place of an assignment among all that a node was ever given. A later one has the greater place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Rises when the controller's store is restored from a backup. Never 0.
    pub epoch: u64,
    /// Rises with each assignment of the node within an epoch. Never 0.
    pub number: u64,
}

/// As they go over the wire, with the services' clients and servers.
pub mod wire {
    pub use crate::generated::*;
}

/// Versions that this code speaks.
pub const VERSIONS: Versions = Versions { oldest: 1, newest: 1 };

/// The longest message of either side, in bytes: what both ends' codecs are told.
pub const MESSAGE_MAX: usize = 8 << 20;
/// The longest encoded ruleset. The rest of the message needs less than what is left.
pub const RULESET_MAX: usize = MESSAGE_MAX - (64 << 10);
/// Entries of all paths together.
pub const ENTRIES_MAX: usize = 100_000;
/// Boxes of protocols and ports that all entries together refer to.
pub const CUBES_MAX: usize = 2_000_000;
/// Intervals of addresses in all of a ruleset's tables.
pub const INTERVALS_MAX: usize = 500_000;
/// DNS names of one entry.
pub const NAMES_MAX: usize = 256;
/// Addresses of one DNS name, or of one machine.
pub const ADDRESSES_MAX: usize = 256;
/// Elements in one part of a list: what a kernel batch leaves room for.
pub const ELEMENTS_MAX: usize = 10_000;
/// Lists that a node may have.
pub const LISTS_MAX: usize = 256;
/// Bytes of a plan of probes: one line has some 200.
pub const PLAN_MAX: usize = 2 << 20;
/// Bytes of the lines in one message about probes.
pub const OBSERVATIONS_MAX: usize = 256 << 10;
/// The feature of an agent that takes lists.
pub const LISTS: &str = "lists";
/// The feature of an agent that can be an end of probes.
pub const PROBES: &str = "probes";
/// Optional abilities that an agent may name.
pub const FEATURES_MAX: usize = 64;
/// Bytes of a name of a node, rule, list, feature or revision.
pub const NAME_MAX: usize = 63;
/// Bytes of a text for people.
pub const TEXT_MAX: usize = 4096;
/// Bytes of a certificate, a request for one, or a signature.
pub const DER_MAX: usize = 16 << 10;
/// Certificates in a chain.
pub const CHAIN_MAX: usize = 4;
/// Seconds that a trial may last: `Confirm::Within` beyond an hour helps nobody.
pub const WINDOW: std::ops::RangeInclusive<u32> = 5..=3600;
