//! What a ruleset does with a flow: the reference for its writers.

use std::net::IpAddr;

use ringwall_packet::Flow;

use crate::model::{CLOCK_MIN, Effect, Entry, Forward, Ruleset};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    Accept,
    Drop,
    Reject,
}

/// Which way a packet goes through the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    Input,
    Output,
    Forward,
}

impl Path {
    pub const ALL: [Self; 3] = [Self::Input, Self::Output, Self::Forward];

    /// As it stands in the names of chains and counters and in the prefix of logged packets.
    pub fn short(self) -> &'static str {
        match self {
            Self::Input => "in",
            Self::Output => "out",
            Self::Forward => "fwd",
        }
    }
}

/// What decided.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Decider {
    /// A rule's id, or `management`.
    Entry(String),
    Default,
}

impl Ruleset {
    /// Entries of a path. A node that routes for nobody has none of its own for `Forward`.
    pub fn entries(&self, path: Path) -> &[Entry] {
        match (path, &self.forward) {
            (Path::Input, _) => &self.input,
            (Path::Output, _) => &self.output,
            (Path::Forward, Forward::Routed(entries)) => entries,
            (Path::Forward, Forward::Containers { .. }) => &[],
        }
    }

    /// The verdict for the first packet of a flow on a path, before the node's own stage is
    /// looked at. `interface` says whether the packet uses one; `resolved` which DNS names an
    /// address is an answer for.
    pub fn judge(
        &self,
        path: Path,
        flow: &Flow,
        interface: impl Fn(&str) -> bool,
        now: u64,
        resolved: impl Fn(&str, IpAddr) -> bool,
    ) -> (Verdict, Decider) {
        let found = self.entries(path).iter().find(|entry| {
            !entry.audit
                && entry.is_alive(now)
                && entry.interface.as_ref().is_none_or(|name| interface(name))
                && entry.matches(flow, &resolved)
        });
        match found {
            Some(entry) => {
                let verdict = match entry.effect {
                    Effect::Accept { .. } => Verdict::Accept,
                    Effect::Drop => Verdict::Drop,
                    Effect::Reject => Verdict::Reject,
                };
                (verdict, Decider::Entry(entry.id.clone()))
            }
            // What goes out is rejected, so that a local program learns at once.
            None if path == Path::Output => (Verdict::Reject, Decider::Default),
            None => (Verdict::Drop, Decider::Default),
        }
    }
}

impl Entry {
    pub(crate) fn is_alive(&self, now: u64) -> bool {
        let is_clock_set = now >= CLOCK_MIN || !matches!(self.effect, Effect::Accept { .. });
        self.expires.is_none_or(|expires| now < expires && is_clock_set)
    }

    fn matches(&self, flow: &Flow, resolved: impl Fn(&str, IpAddr) -> bool) -> bool {
        let destination = if self.names.is_empty() {
            self.destination.contains(flow.destination())
        } else {
            self.names.iter().any(|name| resolved(name, flow.destination()))
        };
        destination && self.source.contains(flow.source()) && self.upper.contains(flow.upper(), flow.family())
    }
}
