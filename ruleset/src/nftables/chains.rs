//! The chains of diagrams.
//!
//! In: diagrams of one family, and which of their nodes are asked. Out: one chain for each node that
//! needs one, and the lines that ask. Never: a line that decides where the diagram does not.

use std::collections::HashMap;
use std::fmt::Write as _;

use ringwall_packet::Family;

use super::claim::Verdict;
use super::layout::{Diagrams, Lookup, Node, NodeIndex};
use super::text;

pub(super) struct Chains {
    pub diagrams: Diagrams,
    family: Family,
    /// What the names of the chains begin with.
    prefix: String,
    /// By node; the names of chains that stand already.
    names: HashMap<NodeIndex, String>,
    /// Chains that nobody has taken yet.
    pub text: String,
}

/// From this many exact keys on, a map of their own is faster than sharing one with ranges.
const HASH_MIN: usize = 16;

/// A line of at most so many bytes is repeated where it is needed, instead of gone to.
const REPEAT_MAX: usize = 80;

/// nft knows `ct original proto-dst` only where the line says that the protocol has ports.
const HAS_PORTS: &str = "meta l4proto { tcp, udp, dccp, sctp, udplite } ";

/// Whether the place that a verdict leads away from is come back to where nothing is decided.
#[derive(Clone, Copy)]
enum Leave {
    Jump,
    Goto,
}

impl Leave {
    fn word(self) -> &'static str {
        match self {
            Self::Jump => "jump",
            Self::Goto => "goto",
        }
    }
}

impl Chains {
    pub fn new(prefix: String, family: Family) -> Self {
        Self { diagrams: Diagrams::new(family), family, prefix, names: HashMap::new(), text: String::new() }
    }

    /// The lines that ask a diagram; whatever follows them is next where it decides nothing.
    pub fn root(&mut self, root: NodeIndex) -> Vec<String> {
        if !self.diagrams.is_shared(root) {
            let lines = self.lines(root, Leave::Jump);
            // Who is jumped to may return, and a second decision must not be made then. Of the lines of
            // a branch only one can match.
            let most = if matches!(*self.diagrams.node(root), Node::Leaf(_)) { 1 } else { 2 };
            if lines.len() <= most {
                return lines;
            }
        }
        vec![self.verdict(root, Leave::Jump)]
    }

    /// Where to go for a node.
    fn verdict(&mut self, index: NodeIndex, leave: Leave) -> String {
        self.only_verdict(index, leave).unwrap_or_else(|| format!("{} {}", leave.word(), self.chain(index)))
    }

    /// Of a node that makes one decision on any packet.
    fn only_verdict(&self, index: NodeIndex, leave: Leave) -> Option<String> {
        let Node::Leaf(decisions) = &*self.diagrams.node(index) else { return None };
        let [only] = decisions[..] else { return None };
        let decision = self.diagrams.decision(only);
        decision.is_unconditional().then(|| decision.verdict.text(leave.word()))
    }

    /// The name of a node's chain, which stands from then on.
    fn chain(&mut self, index: NodeIndex) -> String {
        if let Some(name) = self.names.get(&index) {
            return name.clone();
        }
        let lines = self.lines(index, Leave::Goto);
        self.write(index, &lines)
    }

    fn write(&mut self, index: NodeIndex, lines: &[String]) -> String {
        let name = format!("{}_{}", self.prefix, index.number());
        writeln!(self.text, "\tchain {name} {{").expect("a string takes all text");
        for line in lines {
            writeln!(self.text, "\t\t{line}").expect("a string takes all text");
        }
        self.text.push_str("\t}\n");
        self.names.insert(index, name.clone());
        name
    }

    /// What one line says about a node, behind other conditions.
    fn rest_of_line(&mut self, index: NodeIndex, leave: Leave) -> String {
        if let Some(verdict) = self.only_verdict(index, leave) {
            return verdict;
        }
        if let Some(name) = self.names.get(&index) {
            return format!("{} {name}", leave.word());
        }
        let lines = self.lines(index, leave);
        match (&lines[..], leave) {
            ([line], _) if line.len() <= REPEAT_MAX || !self.diagrams.is_shared(index) => line.clone(),
            (_, Leave::Goto) => format!("goto {}", self.write(index, &lines)),
            (_, Leave::Jump) => format!("jump {}", self.chain(index)),
        }
    }

    /// All that a node does.
    fn lines(&mut self, index: NodeIndex, leave: Leave) -> Vec<String> {
        match &*self.diagrams.node(index) {
            Node::Leaf(decisions) => {
                let decisions = decisions.iter().map(|number| self.diagrams.decision(*number));
                let lines = decisions.flat_map(|decision| {
                    let verdict = decision.verdict.text(leave.word());
                    decision.conditions.iter().map(move |condition| format!("{condition}{verdict}"))
                });
                lines.collect()
            }
            Node::Branch { lookup, arms } => self.branch(*lookup, arms, leave),
        }
    }

    /// One verdict map for the arms, or one set where all go to the same place. Exact keys and
    /// ranges stand apart: exact keys are found by hash.
    fn branch(&mut self, lookup: Lookup, arms: &[(u128, u128, NodeIndex)], leave: Leave) -> Vec<String> {
        let (expression, scale) = self.expression(lookup, arms);
        let has_ports = if lookup == Lookup::OriginalPort { HAS_PORTS } else { "" };
        let (exact, ranges): (Vec<_>, Vec<_>) = arms.iter().partition(|(first, last, _)| first / scale == last / scale);
        let parts = if exact.len() >= HASH_MIN && !ranges.is_empty() {
            vec![exact, ranges]
        } else {
            vec![arms.iter().collect()]
        };
        let lines = parts.into_iter().map(|part| {
            let key = |(first, last, _): &(u128, u128, _)| text::key(lookup, self.family, first / scale, last / scale);
            let target = part[0].2;
            if part.iter().all(|arm| arm.2 == target) {
                let keys: Vec<String> = part.iter().map(|arm| key(arm)).collect();
                let rest = self.rest_of_line(target, leave);
                let rest = rest.strip_prefix(HAS_PORTS).filter(|_| lookup == Lookup::Protocol).unwrap_or(&rest);
                format!("{has_ports}{expression} {} {rest}", text::set(&keys))
            } else {
                let keys: Vec<String> = part.iter().map(|arm| key(arm)).collect();
                let arms = part.iter().zip(keys).map(|(arm, key)| format!("{key} : {}", self.verdict(arm.2, leave)));
                format!("{has_ports}{expression} vmap {{ {} }}", arms.collect::<Vec<_>>().join(", "))
            }
        });
        lines.collect()
    }

    /// The expression for a lookup, and by what its coordinates are divided to make keys.
    fn expression(&self, lookup: Lookup, arms: &[(u128, u128, NodeIndex)]) -> (&'static str, u128) {
        let whole_types = || arms.iter().all(|(first, last, _)| first % 256 == 0 && last % 256 == 255);
        match (lookup, self.family) {
            (Lookup::Icmp, Family::V4) if whole_types() => ("icmp type", 256),
            (Lookup::Icmp, Family::V6) if whole_types() => ("icmpv6 type", 256),
            _ => (text::expression(lookup, self.family), 1),
        }
    }
}

impl Verdict {
    /// `leave` is `goto` or `jump`.
    pub fn text(&self, leave: &str) -> String {
        match self {
            Self::Rule(chain) => format!("{leave} {chain}"),
            Self::Accept => "accept".into(),
            Self::Return => "return".into(),
        }
    }
}
