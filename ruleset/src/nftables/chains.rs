//! The chains of diagrams.
//!
//! In: diagrams of one family, and which of their nodes are asked. Out: one chain for each node that
//! needs one, and the lines that ask. Never: a line that decides where the diagram does not.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use ringwall_packet::Family;

use super::claim::Verdict;
use super::layout::{Arm, Diagrams, Lookup, Node, Target};
use super::text;

pub(super) struct Chains {
    pub diagrams: Diagrams,
    family: Family,
    /// What the names of the chains begin with.
    prefix: String,
    /// Nodes that have their chains.
    standing: BTreeSet<u32>,
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
        Self { diagrams: Diagrams::new(family), family, prefix, standing: BTreeSet::new(), text: String::new() }
    }

    /// The lines that ask a diagram; whatever follows them is next where it decides nothing.
    pub fn root(&mut self, root: Target) -> Vec<String> {
        if let Target::Node(index) = root
            && !self.diagrams.is_shared(index)
        {
            let lines = self.lines(index, Leave::Jump);
            // Who is jumped to may return, and a second decision must not be made then. Of the lines of
            // a branch only one can match.
            let most = if matches!(*self.diagrams.node(index), Node::Leaf(_)) { 1 } else { 2 };
            if lines.len() <= most {
                return lines;
            }
        }
        let mut line = String::new();
        self.verdict(&mut line, root, Leave::Jump);
        vec![line]
    }

    /// Appends where to go for a target.
    fn verdict(&mut self, line: &mut String, target: Target, leave: Leave) {
        match target {
            // No arm leads to nothing, and who asks has looked; to go on is what it would be.
            Target::Nothing => line.push_str("continue"),
            Target::Decision(number) => self.diagrams.decision(number).verdict.write(line, leave.word()),
            Target::Node(index) => {
                self.stand(index);
                self.leave_for(line, index, leave);
            }
        }
    }

    fn leave_for(&self, line: &mut String, index: u32, leave: Leave) {
        write!(line, "{} {}_{index}", leave.word(), self.prefix).expect("a string takes all text");
    }

    /// Sees that a node has a chain.
    fn stand(&mut self, index: u32) {
        if !self.standing.contains(&index) {
            let lines = self.lines(index, Leave::Goto);
            self.write(index, &lines);
        }
    }

    fn write(&mut self, index: u32, lines: &[String]) {
        writeln!(self.text, "\tchain {}_{index} {{", self.prefix).expect("a string takes all text");
        for line in lines {
            self.text.push_str("\t\t");
            self.text.push_str(line);
            self.text.push('\n');
        }
        self.text.push_str("\t}\n");
        self.standing.insert(index);
    }

    /// Appends what one line says about a target, behind other conditions.
    fn rest_of_line(&mut self, line: &mut String, target: Target, leave: Leave, lookup: Lookup) {
        let Target::Node(index) = target else { return self.verdict(line, target, leave) };
        if !self.standing.contains(&index) {
            let lines = self.lines(index, leave);
            match (&lines[..], leave) {
                ([rest], _) if rest.len() <= REPEAT_MAX || !self.diagrams.is_shared(index) => {
                    let short = rest.strip_prefix(HAS_PORTS).filter(|_| lookup == Lookup::Protocol);
                    return line.push_str(short.unwrap_or(rest));
                }
                (_, Leave::Goto) => self.write(index, &lines),
                (_, Leave::Jump) => self.stand(index),
            }
        }
        self.leave_for(line, index, leave);
    }

    /// All that a node does.
    fn lines(&mut self, index: u32, leave: Leave) -> Vec<String> {
        match &*self.diagrams.node(index) {
            Node::Leaf(decisions) => {
                let lines = decisions.iter().map(|number| self.diagrams.decision(*number).lines(leave.word()));
                lines.flatten().collect()
            }
            Node::Branch { lookup, arms } => self.branch(*lookup, arms, leave),
        }
    }

    /// One verdict map for the arms, or one set where all go to the same place. Exact keys and
    /// ranges stand apart: exact keys are found by hash.
    fn branch(&mut self, lookup: Lookup, arms: &[Arm], leave: Leave) -> Vec<String> {
        let (expression, scale) = self.expression(lookup, arms);
        let (exact, ranges): (Vec<_>, Vec<_>) = arms.iter().partition(|(first, last, _)| first / scale == last / scale);
        let parts = if exact.len() >= HASH_MIN && !ranges.is_empty() {
            vec![exact, ranges]
        } else {
            vec![arms.iter().collect()]
        };
        let has_ports = if lookup == Lookup::OriginalPort { HAS_PORTS } else { "" };
        let lines = parts.into_iter().map(|part| {
            let mut line = format!("{has_ports}{expression} ");
            let target = part[0].2;
            let is_set = part.iter().all(|arm| arm.2 == target);
            let (open, close) = match (is_set, part.len()) {
                (true, 1) => ("", ""),
                (true, _) => ("{ ", " }"),
                (false, _) => ("vmap { ", " }"),
            };
            line.push_str(open);
            for (position, (first, last, target)) in part.iter().enumerate() {
                line.push_str(if position > 0 { ", " } else { "" });
                text::write_key(&mut line, lookup, self.family, first / scale, last / scale);
                if !is_set {
                    line.push_str(" : ");
                    self.verdict(&mut line, *target, leave);
                }
            }
            line.push_str(close);
            if is_set {
                line.push(' ');
                self.rest_of_line(&mut line, target, leave, lookup);
            }
            line
        });
        lines.collect()
    }

    /// The expression for a lookup, and by what its coordinates are divided to make keys.
    fn expression(&self, lookup: Lookup, arms: &[Arm]) -> (&'static str, u128) {
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
        let mut text = String::new();
        self.write(&mut text, leave);
        text
    }

    fn write(&self, text: &mut String, leave: &str) {
        match self {
            Self::Rule(chain) => text.extend([leave, " ", chain]),
            Self::Accept => text.push_str("accept"),
            Self::Return => text.push_str("return"),
        }
    }
}
