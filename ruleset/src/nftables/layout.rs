//! Claims of one family as a decision diagram: which header field to look up, in which order.
//!
//! In: claims in order of precedence. Out: a directed acyclic graph whose branches partition one
//! field each, so that the keys of every verdict map are disjoint by construction, and whose leaves
//! hold the decisions that may be made, in order. Never: lines or chains.
//!
//! Equal sub-graphs are one node, also between the diagrams of one collection. The order of the
//! fields is chosen by size: looking at the remote address first is small where many rules share few
//! sources, at the port first where many sources share few ports.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

use ringwall_packet::{AddressSet, Family, Interval, IntervalSet, Point};

use super::claim::{Claim, Decision, Verdict, View};
use super::transaction::Generation;

/// A field of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Source,
    Destination,
    Protocol,
    /// Destination port; for ICMP, type in the high byte and code in the low one.
    Port,
}

/// Where a packet has what a field asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lookup {
    SourceAddress,
    DestinationAddress,
    /// As it was before the destination was translated.
    OriginalDestination,
    Protocol,
    SourcePort,
    DestinationPort,
    OriginalPort,
    /// Type and code, of a packet that is known to be the family's ICMP.
    Icmp,
}

/// Where an arm leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Target {
    Nothing,
    /// One decision, whatever else the packet has: an index of it.
    Decision(u32),
    /// Index into [`Diagrams::nodes`].
    Node(u32),
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum Node {
    /// Indices of decisions in order of precedence; all but the last are conditional, the last is no
    /// return.
    Leaf(Vec<u32>),
    /// Inclusive, disjoint, sorted ranges; where none of them holds, nothing is decided.
    Branch { lookup: Lookup, arms: Vec<Arm> },
}

/// First and last of a range, and where it leads.
pub(super) type Arm = (u128, u128, Target);

/// A collection of diagrams of one family, which share their nodes.
pub(super) struct Diagrams {
    family: Family,
    nodes: Vec<Rc<Node>>,
    known: HashMap<Rc<Node>, u32, Hash>,
    decisions: Vec<Decision>,
    known_decisions: HashMap<Decision, u32, Hash>,
    /// How many arms and roots lead to each node.
    references: Vec<u32>,
}

impl Diagrams {
    pub fn new(family: Family) -> Self {
        Self {
            family,
            nodes: Vec::new(),
            known: HashMap::default(),
            decisions: Vec::new(),
            known_decisions: HashMap::default(),
            references: Vec::new(),
        }
    }

    pub fn node(&self, index: u32) -> Rc<Node> {
        self.nodes[index as usize].clone()
    }

    pub fn decision(&self, number: u32) -> &Decision {
        &self.decisions[number as usize]
    }

    /// Whether more than one arm or root leads to a node.
    pub fn is_shared(&self, index: u32) -> bool {
        self.references[index as usize] > 1
    }

    /// The smallest diagram among `orders`. The error says that each of them needs more than
    /// `size_max` keys.
    pub fn add(
        &mut self,
        generation: Generation,
        claims: &[Claim<'_>],
        view: View,
        orders: &[[Field; 4]],
        size_max: usize,
    ) -> Result<Target, TooLarge> {
        let cells = self.cells(generation, claims, view);
        let base = self.nodes.len();
        let mut best: Option<(usize, Target, Vec<Rc<Node>>)> = None;
        for order in orders {
            let size_max = match &best {
                None => size_max,
                Some((0, ..)) => break,
                Some((size, ..)) => size - 1,
            };
            let mut builder = Builder::new(self, &cells, view, *order, size_max);
            let root = builder.build();
            let size = builder.size;
            let nodes = self.nodes.split_off(base);
            for node in &nodes {
                self.known.remove(node);
            }
            if let Some(root) = root {
                best = Some((size, root, nodes));
            }
        }
        let (_, root, nodes) = best.ok_or(TooLarge)?;
        for node in nodes {
            self.references.push(0);
            if let Node::Branch { arms, .. } = &*node {
                // Arms of one branch that lead to the same node are one use of it.
                let mut targets: Vec<Target> = arms.iter().map(|(.., target)| *target).collect();
                targets.sort_unstable();
                targets.dedup();
                targets.into_iter().for_each(|target| self.refer(target));
            }
            self.known.insert(node.clone(), number(self.nodes.len()));
            self.nodes.push(node);
        }
        self.refer(root);
        Ok(root)
    }

    fn refer(&mut self, target: Target) {
        if let Target::Node(index) = target {
            self.references[index as usize] += 1;
        }
    }

    fn cells(&mut self, generation: Generation, claims: &[Claim<'_>], view: View) -> Cells {
        let family = self.family;
        let any = AddressSet::full();
        let mut cells = Cells::default();
        for claim in claims {
            let entry = claim.entry;
            if !entry.source.has(family) || !entry.destination.has(family) {
                continue;
            }
            let source = if claim.any_source { &any } else { &entry.source };
            let (source, destination) = match family {
                Family::V4 => (cells.ranges(&source.v4), cells.ranges(&entry.destination.v4)),
                Family::V6 => (cells.ranges(&source.v6), cells.ranges(&entry.destination.v6)),
            };
            let mut plain = None;
            for cube in entry.upper.of_family(family).cubes().iter().filter(|cube| view.includes(cube)) {
                let ports = (!cube.source_ports().is_full()).then(|| cube.source_ports());
                let decision = match (ports, plain) {
                    (None, Some(decision)) => decision,
                    _ => self.decide(Decision::new(generation, claim, ports, family, view)),
                };
                if ports.is_none() {
                    plain = Some(decision);
                }
                let (protocols, ports) = (cells.ranges(cube.protocols()), cells.ranges(cube.destination_ports()));
                let fields = [source, destination, protocols, ports];
                let of = self.decision(decision);
                let (is_unconditional, is_return) = (of.is_unconditional(), of.verdict == Verdict::Return);
                cells.all.push(Cell { decision, is_unconditional, is_return, fields });
            }
        }
        cells
    }

    fn decide(&mut self, decision: Decision) -> u32 {
        if let Some(number) = self.known_decisions.get(&decision) {
            return *number;
        }
        let number = number(self.decisions.len());
        self.known_decisions.insert(decision.clone(), number);
        self.decisions.push(decision);
        number
    }
}

/// FNV-1a over words instead of bytes: nodes are many and small, and whoever writes the policy gains
/// nothing by making their hashes collide.
#[derive(Clone)]
struct Words(u64);

type Hash = BuildHasherDefault<Words>;

impl Default for Words {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Words {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        // The product's high half spreads upwards only, so it is folded into the low one.
        let product = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15;
        #[expect(clippy::cast_possible_truncation, reason = "both halves are wanted")]
        let (low, high) = (product as u64, (product >> 64) as u64);
        self.0 = low ^ high;
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// No order of the fields makes a diagram that is small enough.
pub(super) struct TooLarge;

/// An index of something of which fewer than 2^32 fit into memory beside their text.
fn number(index: usize) -> u32 {
    u32::try_from(index).expect("fewer than 2^32 nodes and decisions")
}

/// The boxes of all claims, in order of precedence.
#[derive(Default)]
struct Cells {
    all: Vec<Cell>,
    ranges: Vec<(u128, u128)>,
}

/// One box of a claim, in coordinates that do not depend on the family.
struct Cell {
    decision: u32,
    is_unconditional: bool,
    is_return: bool,
    /// By [`Field`].
    fields: [Ranges; 4],
}

/// Which of [`Cells::ranges`] a field takes.
#[derive(Clone, Copy)]
struct Ranges {
    from: usize,
    to: usize,
    is_full: bool,
}

impl Cells {
    fn ranges<P: Coordinate>(&mut self, set: &IntervalSet<P>) -> Ranges {
        let range = |interval: &Interval<P>| (interval.first().coordinate(), interval.last().coordinate());
        let from = self.ranges.len();
        self.ranges.extend(set.intervals().iter().map(range));
        Ranges { from, to: self.ranges.len(), is_full: set.is_full() }
    }

    fn field(&self, cell: u32, field: usize) -> &[(u128, u128)] {
        let ranges = self.all[cell as usize].fields[field];
        &self.ranges[ranges.from..ranges.to]
    }
}

fn last(family: Family) -> u128 {
    match family {
        Family::V4 => u128::from(u32::MAX),
        Family::V6 => u128::MAX,
    }
}

trait Coordinate: Point {
    fn coordinate(self) -> u128;
}

impl Coordinate for u8 {
    fn coordinate(self) -> u128 {
        self.into()
    }
}

impl Coordinate for u16 {
    fn coordinate(self) -> u128 {
        self.into()
    }
}

impl Coordinate for std::net::Ipv4Addr {
    fn coordinate(self) -> u128 {
        self.to_bits().into()
    }
}

impl Coordinate for std::net::Ipv6Addr {
    fn coordinate(self) -> u128 {
        self.to_bits()
    }
}

struct Builder<'a> {
    diagrams: &'a mut Diagrams,
    cells: &'a Cells,
    order: [Field; 4],
    lookups: [Lookup; 4],
    /// Of each cell: the depth from which on it matches whatever the fields hold.
    free_from: Vec<u8>,
    /// Of each cell: a bit for each field that it takes whole.
    full: Vec<u8>,
    /// By depth, and whether the packet is known to be ICMP: which cells were active, and what came
    /// of it.
    done: [HashMap<Box<[u32]>, Target, Hash>; 8],
    size: usize,
    size_max: usize,
}

impl<'a> Builder<'a> {
    fn new(diagrams: &'a mut Diagrams, cells: &'a Cells, view: View, order: [Field; 4], size_max: usize) -> Self {
        let free_from = cells.all.iter().map(|cell| {
            let free = order.iter().rev().take_while(|field| cell.fields[**field as usize].is_full).count();
            if cell.is_unconditional { u8::try_from(order.len() - free).expect("four fields") } else { u8::MAX }
        });
        let full = cells.all.iter().map(|cell| (0..4).map(|field| u8::from(cell.fields[field].is_full) << field).sum());
        let (free_from, full) = (free_from.collect(), full.collect());
        Self { diagrams, cells, order, lookups: view.lookups(), free_from, full, done: Default::default(), size: 0, size_max }
    }

    /// `None` when the diagram would be too large.
    fn build(&mut self) -> Option<Target> {
        let all: Vec<u32> = (0..number(self.cells.all.len())).collect();
        self.target(0, &all, false)
    }

    fn intern(&mut self, node: Node) -> Option<Target> {
        if let Some(index) = self.diagrams.known.get(&node) {
            return Some(Target::Node(*index));
        }
        if let Node::Branch { arms, .. } = &node {
            self.size += arms.len();
        }
        if self.size > self.size_max {
            return None;
        }
        let (index, node) = (number(self.diagrams.nodes.len()), Rc::new(node));
        self.diagrams.nodes.push(node.clone());
        self.diagrams.known.insert(node, index);
        Some(Target::Node(index))
    }

    /// What becomes of the flows that these cells, in order of precedence, still match at `depth`.
    fn target(&mut self, depth: usize, active: &[u32], is_icmp: bool) -> Option<Target> {
        let cells = self.cells;
        // A cell that matches whatever the remaining fields hold hides all that come after it.
        let is_free = |index: &u32| usize::from(self.free_from[*index as usize]) <= depth;
        let seen = active.iter().position(is_free).map_or(active, |position| &active[..=position]);
        // To return is what happens anyway.
        let Some(decides) = seen.iter().rposition(|index| !cells.all[*index as usize].is_return) else {
            return Some(Target::Nothing);
        };
        let active = &seen[..=decides];
        if is_free(&active[0]) {
            return Some(Target::Decision(cells.all[active[0] as usize].decision));
        }
        let Some(field) = self.order.get(depth).map(|field| *field as usize) else {
            return self.leaf(active);
        };
        if active.iter().all(|index| self.full[*index as usize] >> field & 1 == 1) {
            return self.target(depth + 1, active, is_icmp);
        }
        let done = depth * 2 + usize::from(is_icmp);
        if let Some(target) = self.done[done].get(active) {
            return Some(*target);
        }
        let arms = self.arms(depth, field, active, is_icmp)?;
        let target = match arms[..] {
            [] => Target::Nothing,
            [(0, end, target)] if end == self.maximum(field) => target,
            _ => {
                let lookup = if is_icmp && field == Field::Port as usize { Lookup::Icmp } else { self.lookups[field] };
                self.intern(Node::Branch { lookup, arms })?
            }
        };
        self.done[done].insert(active.into(), target);
        Some(target)
    }

    fn maximum(&self, field: usize) -> u128 {
        [last(self.diagrams.family), last(self.diagrams.family), u8::MAX.into(), u16::MAX.into()][field]
    }

    /// Sweeps over the field: between two boundaries the set of matching cells is the same.
    fn arms(&mut self, depth: usize, field: usize, active: &[u32], is_icmp: bool) -> Option<Vec<Arm>> {
        let cells = self.cells;
        let mut boundaries: Vec<(u128, bool, u32)> = Vec::with_capacity(active.len() * 2);
        for index in active {
            for (first, last) in cells.field(*index, field) {
                boundaries.push((*first, true, *index));
                // A range that ends where the domain of 128 bits ends is never left.
                if let Some(after) = last.checked_add(1) {
                    boundaries.push((after, false, *index));
                }
            }
        }
        boundaries.sort_unstable();
        let icmp = icmp_number(self.diagrams.family);
        let mut inside: Vec<u32> = Vec::with_capacity(active.len());
        let mut arms: Vec<Arm> = Vec::new();
        let mut position = 0;
        while position < boundaries.len() {
            let start = boundaries[position].0;
            while let Some((_, enters, index)) = boundaries.get(position).filter(|(at, ..)| *at == start) {
                match inside.binary_search(index) {
                    Ok(place) if !*enters => drop(inside.remove(place)),
                    Err(place) if *enters => inside.insert(place, *index),
                    // Two ranges of one cell never touch, so a cell is left before it is entered.
                    _ => {}
                }
                position += 1;
            }
            if inside.is_empty() {
                continue;
            }
            let end = boundaries.get(position).map_or(u128::MAX, |(next, ..)| next - 1);
            let below_icmp = is_icmp || field == Field::Protocol as usize && start == icmp && end == icmp;
            let target = self.target(depth + 1, &inside, below_icmp)?;
            if target == Target::Nothing {
                continue;
            }
            match arms.last_mut() {
                Some((_, last, same)) if *same == target && last.checked_add(1) == Some(start) => *last = end,
                _ => arms.push((start, end, target)),
            }
        }
        Some(arms)
    }

    fn leaf(&mut self, active: &[u32]) -> Option<Target> {
        let mut decisions: Vec<u32> = Vec::new();
        for index in active {
            let cell = &self.cells.all[*index as usize];
            if decisions.last() != Some(&cell.decision) {
                decisions.push(cell.decision);
            }
            if cell.is_unconditional {
                break;
            }
        }
        self.intern(Node::Leaf(decisions))
    }
}

fn icmp_number(family: Family) -> u128 {
    match family {
        Family::V4 => 1,
        Family::V6 => 58,
    }
}
