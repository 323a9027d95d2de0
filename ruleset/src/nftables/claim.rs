//! What an entry asks of packets: of its requests, of their answers, of those to a published port, of
//! those that containers send.
//!
//! In: entries. Out: claims in order of precedence, and what comes of one that holds. Never: the
//! order in which fields are looked up.

use std::rc::Rc;

use ringwall_packet::{AddressSet, Family, IntervalSet, Protocol, UpperCube};

use super::body::name_set;
use super::layout::Lookup;
use super::transaction::Generation;
use super::text;
use crate::meaning::Path;
use crate::model::{CLOCK_MIN, Effect, Entry};

/// Which header fields stand for source, destination and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Request(Path),
    /// The answer to a request: both pairs have changed places.
    Answer,
    /// A published port, by the destination that the packet had before it was translated.
    Published,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Verdict {
    /// The chain of a rule.
    Rule(Rc<str>),
    Accept,
    Return,
}

/// An entry that decides packets of one view.
pub(super) struct Claim<'a> {
    pub entry: &'a Entry,
    /// Whatever the source is, provided that the entry has one of the family.
    pub any_source: bool,
    pub verdict: Verdict,
}

/// What is decided where one of the conditions holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Decision {
    /// Alternatives, each with a space after it; none of them is none needed.
    conditions: Vec<String>,
    pub verdict: Verdict,
}

impl Decision {
    pub fn new(
        generation: Generation,
        claim: &Claim<'_>,
        source_ports: Option<&IntervalSet<u16>>,
        family: Family,
        view: View,
    ) -> Self {
        let entry = claim.entry;
        let is_unconditional =
            source_ports.is_none() && entry.names.is_empty() && entry.interface.is_none() && entry.expires.is_none();
        let conditions =
            if is_unconditional { Vec::new() } else { conditions(generation, entry, source_ports, family, view) };
        Self { conditions, verdict: claim.verdict.clone() }
    }

    pub fn is_unconditional(&self) -> bool {
        self.conditions.is_empty()
    }

    /// One line for each alternative. `leave` is `goto` or `jump`.
    pub fn lines(&self, leave: &str) -> Vec<String> {
        let verdict = self.verdict.text(leave);
        match &self.conditions[..] {
            [] => vec![verdict],
            some => some.iter().map(|condition| format!("{condition}{verdict}")).collect(),
        }
    }
}

impl View {
    /// An echo reply is no request turned round: conntrack's `established` is all that fits it.
    pub fn includes(self, cube: &UpperCube) -> bool {
        let is_icmp = || cube.protocols().only().is_some_and(|number| Protocol(number).is_icmp());
        self != Self::Answer || !is_icmp()
    }

    /// Where source, destination, protocol and port stand: by [`Field`](super::layout::Field).
    pub fn lookups(self) -> [Lookup; 4] {
        use Lookup::{DestinationAddress, DestinationPort, OriginalDestination, OriginalPort, Protocol, SourceAddress, SourcePort};
        match self {
            Self::Request(_) => [SourceAddress, DestinationAddress, Protocol, DestinationPort],
            Self::Answer => [DestinationAddress, SourceAddress, Protocol, SourcePort],
            Self::Published => [SourceAddress, OriginalDestination, Protocol, OriginalPort],
        }
    }

    pub fn source_port(self) -> Lookup {
        match self {
            Self::Request(_) | Self::Published => Lookup::SourcePort,
            Self::Answer => Lookup::DestinationPort,
        }
    }
}

/// The entries that one stage of a path asks.
pub(super) fn requests<'a>(entries: &'a [Entry], is_audited: bool, name: &str) -> Vec<Claim<'a>> {
    let suffix = if is_audited { "_audit" } else { "" };
    let included = entries.iter().filter(|entry| entry.audit == is_audited);
    let claim = |entry: &'a Entry| Claim {
        entry,
        any_source: false,
        verdict: Verdict::Rule(format!("{name}_r_{}{suffix}", entry.id).into()),
    };
    included.map(claim).collect()
}

/// Accepts answers to what the entries allow; a denied flow's answer returns.
pub(super) fn answers<'a>(entries: &'a [Entry]) -> Vec<Claim<'a>> {
    let enforced = entries.iter().filter(|entry| !entry.audit && entry.names.is_empty());
    let claim = |entry: &'a Entry| {
        let is_accept = matches!(entry.effect, Effect::Accept { .. });
        Claim { entry, any_source: false, verdict: if is_accept { Verdict::Accept } else { Verdict::Return } }
    };
    enforced.map(claim).collect()
}

/// Entries of the output whose source is one of the node's addresses, for packets that a
/// container sends: they leave with the node's address.
pub(super) fn egress<'a>(
    entries: &'a [Entry],
    family: Family,
    local: &AddressSet,
    output: &str,
) -> Vec<Claim<'a>> {
    let enforced = entries.iter().filter(|entry| {
        // Which address of the node they leave with is not known here. An allow counts only where
        // it holds for all of them, a deny where it holds for one.
        !entry.audit
            && match entry.effect {
                Effect::Accept { .. } => match family {
                    Family::V4 => local.v4.is_subset(&entry.source.v4),
                    Family::V6 => local.v6.is_subset(&entry.source.v6),
                },
                Effect::Drop | Effect::Reject => true,
            }
    });
    let claim = |entry: &'a Entry| Claim {
        entry,
        any_source: true,
        verdict: Verdict::Rule(format!("{output}_r_{}", entry.id).into()),
    };
    enforced.map(claim).collect()
}

/// The conditions of an entry beside its addresses and ports, each with a space after it: several
/// alternatives where nft can't say "or", and `""` for none.
pub(super) fn conditions(
    generation: Generation,
    entry: &Entry,
    source_ports: Option<&IntervalSet<u16>>,
    family: Family,
    view: View,
) -> Vec<String> {
    let mut fixed = String::new();
    if let Some(ports) = source_ports {
        fixed.push_str(&format!("{} {} ", text::expression(view.source_port(), family), text::ports(ports)));
    }
    if let Some(expires) = entry.expires {
        if matches!(entry.effect, Effect::Accept { .. }) {
            fixed.push_str(&format!("meta time >= {CLOCK_MIN} "));
        }
        fixed.push_str(&format!("meta time < {expires} "));
    }
    let interfaces = match (&entry.interface, view) {
        (None, _) => vec![String::new()],
        (Some(name), View::Request(Path::Input) | View::Published) => vec![format!("iifname \"{name}\" ")],
        (Some(name), View::Request(Path::Output)) => vec![format!("oifname \"{name}\" ")],
        // An answer uses the interface of its request the other way round.
        (Some(name), View::Request(Path::Forward) | View::Answer) => {
            vec![format!("iifname \"{name}\" "), format!("oifname \"{name}\" ")]
        }
    };
    let names = if entry.names.is_empty() {
        vec![String::new()]
    } else {
        let ip = text::ip(family);
        entry.names.iter().map(|name| format!("{ip} daddr @{} ", name_set(generation, name, family))).collect()
    };
    let pairs = interfaces.iter().flat_map(|interface| names.iter().map(move |name| (interface, name)));
    pairs.map(|(interface, name)| format!("{interface}{name}{fixed}")).collect()
}
