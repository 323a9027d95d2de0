//! What is known about services beyond their ports, from `data/facts.tsv`.
//!
//! In: a service's name. Out: facts, each with its reason in words. Never: an opinion on a row.

use ringwall_packet::Protocol;

use crate::{FACTS, canonical, fold};

/// Protocol, first and last port.
pub type PortRange = (Protocol, u16, u16);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact {
    pub kind: FactKind,
    /// A clause for a message: lower case, no final period.
    pub why: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactKind {
    /// Readable on the way; the name of the service that does the same encrypted.
    Cleartext {
        encrypted: Option<&'static str>,
    },
    /// Ports that the same pair of ends must open too, any one of a range being enough.
    Needs(&'static [PortRange]),
    OftenNeeds(&'static [PortRange]),
    /// What goes with it when the destination is the internet.
    InternetNeeds(&'static [PortRange]),
    /// Whoever reaches it can log in or change the machine.
    Login,
    /// A file share.
    Share,
    /// Spoken on any port, so that the name beside another number says nothing.
    Anywhere,
    /// Ports that the same name is rightly written beside.
    Also(&'static [PortRange]),
    /// A protocol of the registry that today's servers no longer use.
    Obsolete(Protocol),
    /// The name is known for attacks; its default ports.
    AttackTool(&'static [PortRange]),
    /// The ports that together tell this program, whose members all talk to each other.
    Cluster(&'static [PortRange]),
}

/// The facts about a service, by any of its names.
pub fn facts(name: &str) -> impl Iterator<Item = &'static Fact> {
    let folded = fold(canonical(name).unwrap_or(name));
    let first = FACTS.partition_point(|(key, _)| *key < folded.as_str());
    FACTS[first..].iter().take_while(move |(key, _)| *key == folded).map(|(_, fact)| fact)
}

/// Every fact, with the folded name of its service.
pub fn with_fact() -> impl Iterator<Item = (&'static str, &'static Fact)> {
    FACTS.iter().map(|(key, fact)| (*key, fact))
}
