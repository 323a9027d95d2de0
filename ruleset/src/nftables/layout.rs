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
use std::rc::Rc;

use ringwall_packet::{Family, Interval, IntervalSet, Point, Protocol, UpperCube};

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

/// Index into [`Diagrams::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NodeIndex(usize);

impl NodeIndex {
    /// Stands in the name of the node's chain.
    pub fn number(self) -> usize {
        self.0
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum Node {
    /// Indices of decisions in order of precedence; all but the last are conditional, the last is no
    /// return.
    Leaf(Vec<u32>),
    /// Inclusive, disjoint, sorted ranges; where none of them holds, nothing is decided.
    Branch { lookup: Lookup, arms: Vec<(u128, u128, NodeIndex)> },
}

/// A collection of diagrams of one family, which share their nodes.
pub(super) struct Diagrams {
    family: Family,
    nodes: Vec<Rc<Node>>,
    known: HashMap<Rc<Node>, NodeIndex>,
    decisions: Vec<Decision>,
    known_decisions: HashMap<Decision, u32>,
    /// How many arms and roots lead to each node.
    references: Vec<u32>,
}

/// The node that decides nothing.
const NOTHING: NodeIndex = NodeIndex(0);

impl Diagrams {
    pub fn new(family: Family) -> Self {
        let nothing = Rc::new(Node::Leaf(Vec::new()));
        Self {
            family,
            nodes: vec![nothing.clone()],
            known: HashMap::from([(nothing, NOTHING)]),
            decisions: Vec::new(),
            known_decisions: HashMap::new(),
            references: Vec::new(),
        }
    }

    pub fn node(&self, index: NodeIndex) -> Rc<Node> {
        self.nodes[index.0].clone()
    }

    pub fn decision(&self, number: u32) -> &Decision {
        &self.decisions[number as usize]
    }

    /// Whether more than one arm or root leads to a node.
    pub fn is_shared(&self, index: NodeIndex) -> bool {
        self.references.get(index.0).is_some_and(|count| *count > 1)
    }

    /// The smallest diagram among `orders`: `None` in the result when it decides nothing. The error
    /// says that each of them needs more than `size_max` keys.
    pub fn add(
        &mut self,
        generation: Generation,
        claims: &[Claim<'_>],
        view: View,
        orders: &[[Field; 4]],
        size_max: usize,
    ) -> Result<Option<NodeIndex>, TooLarge> {
        let cells = self.cells(generation, claims, view);
        let base = self.nodes.len();
        let mut best: Option<(usize, NodeIndex, Vec<Rc<Node>>)> = None;
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
            self.known.insert(node.clone(), NodeIndex(self.nodes.len()));
            self.references.resize(self.nodes.len() + 1, 0);
            if let Node::Branch { arms, .. } = &*node {
                // Neighbours that lead to the same node are one use of it.
                let mut targets: Vec<NodeIndex> = arms.iter().map(|(.., target)| *target).collect();
                targets.sort_unstable();
                targets.dedup();
                for target in targets {
                    self.references[target.0] += 1;
                }
            }
            self.nodes.push(node);
        }
        self.references.resize(self.nodes.len(), 0);
        self.references[root.0] += 1;
        Ok((root != NOTHING).then_some(root))
    }

    fn cells(&mut self, generation: Generation, claims: &[Claim<'_>], view: View) -> Vec<Cell> {
        let family = self.family;
        let maximum = [last(family), last(family), u128::from(u8::MAX), u128::from(u16::MAX)];
        let mut cells = Vec::new();
        for claim in claims {
            let entry = claim.entry;
            let (source, destination): (Rc<[_]>, Rc<[_]>) = match family {
                Family::V4 => (ranges(&entry.source.v4), ranges(&entry.destination.v4)),
                Family::V6 => (ranges(&entry.source.v6), ranges(&entry.destination.v6)),
            };
            if source.is_empty() || destination.is_empty() {
                continue;
            }
            let source = if claim.any_source { Rc::new([(0, last(family))]) } else { source };
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
                let fields =
                    [source.clone(), destination.clone(), ranges(cube.protocols()), ranges(cube.destination_ports())];
                let is_full = std::array::from_fn(|i| fields[i][..] == [(0, maximum[i])]);
                let of = self.decision(decision);
                let (is_unconditional, is_return) = (of.is_unconditional(), of.verdict == Verdict::Return);
                cells.push(Cell { decision, is_unconditional, is_return, fields, is_full });
            }
        }
        cells
    }

    fn decide(&mut self, decision: Decision) -> u32 {
        if let Some(number) = self.known_decisions.get(&decision) {
            return *number;
        }
        let number = u32::try_from(self.decisions.len()).expect("fewer decisions than boxes, and these are in memory");
        self.known_decisions.insert(decision.clone(), number);
        self.decisions.push(decision);
        number
    }
}

/// No order of the fields makes a diagram that is small enough.
pub(super) struct TooLarge;

/// One box of a claim, in coordinates that do not depend on the family.
struct Cell {
    decision: u32,
    is_unconditional: bool,
    is_return: bool,
    /// By [`Field`].
    fields: [Rc<[(u128, u128)]>; 4],
    is_full: [bool; 4],
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

fn ranges<P: Coordinate>(set: &IntervalSet<P>) -> Rc<[(u128, u128)]> {
    let range = |interval: &Interval<P>| (interval.first().coordinate(), interval.last().coordinate());
    set.intervals().iter().map(range).collect()
}

impl View {
    /// An echo reply is no request turned round: conntrack's `established` is all that fits it.
    pub fn includes(self, cube: &UpperCube) -> bool {
        let is_icmp = || cube.protocols().only().is_some_and(|number| Protocol(number).is_icmp());
        self != Self::Answer || !is_icmp()
    }

    /// By [`Field`].
    pub fn lookups(self) -> [Lookup; 4] {
        use Lookup::{DestinationAddress, DestinationPort, OriginalDestination, OriginalPort, Protocol, SourceAddress, SourcePort};
        match self {
            Self::Request(_) => [SourceAddress, DestinationAddress, Protocol, DestinationPort],
            Self::Answer => [DestinationAddress, SourceAddress, Protocol, SourcePort],
            Self::Published => [SourceAddress, OriginalDestination, Protocol, OriginalPort],
        }
    }
}

struct Builder<'a> {
    diagrams: &'a mut Diagrams,
    cells: &'a [Cell],
    order: [Field; 4],
    lookups: [Lookup; 4],
    /// Of each cell: the depth from which on it matches whatever the fields hold.
    free_from: Vec<usize>,
    /// By depth, and whether the packet is known to be ICMP: which cells were active, and what came
    /// of it.
    done: [HashMap<Box<[u32]>, NodeIndex>; 8],
    size: usize,
    size_max: usize,
}

impl<'a> Builder<'a> {
    fn new(diagrams: &'a mut Diagrams, cells: &'a [Cell], view: View, order: [Field; 4], size_max: usize) -> Self {
        let free_from = cells.iter().map(|cell| {
            let asks = order.iter().rposition(|field| !cell.is_full[*field as usize]);
            if cell.is_unconditional { asks.map_or(0, |depth| depth + 1) } else { usize::MAX }
        });
        let free_from = free_from.collect();
        Self { diagrams, cells, order, lookups: view.lookups(), free_from, done: Default::default(), size: 0, size_max }
    }

    /// `None` when the diagram would be too large.
    fn build(&mut self) -> Option<NodeIndex> {
        let all: Vec<u32> = (0..u32::try_from(self.cells.len()).ok()?).collect();
        self.node(0, &all, false)
    }

    fn intern(&mut self, node: Node) -> Option<NodeIndex> {
        if let Some(index) = self.diagrams.known.get(&node) {
            return Some(*index);
        }
        if let Node::Branch { arms, .. } = &node {
            self.size += arms.len();
        }
        if self.size > self.size_max {
            return None;
        }
        let (index, node) = (NodeIndex(self.diagrams.nodes.len()), Rc::new(node));
        self.diagrams.nodes.push(node.clone());
        self.diagrams.known.insert(node, index);
        Some(index)
    }

    /// The node for the flows that these cells, in order of precedence, still match at `depth`.
    fn node(&mut self, depth: usize, active: &[u32], is_icmp: bool) -> Option<NodeIndex> {
        let cells = self.cells;
        // A cell that matches whatever the remaining fields hold hides all that come after it.
        let hides = active.iter().position(|index| self.free_from[*index as usize] <= depth);
        let seen = hides.map_or(active, |position| &active[..=position]);
        // To return is what happens anyway.
        let decides = seen.iter().rposition(|index| !cells[*index as usize].is_return);
        let Some(decides) = decides else { return Some(NOTHING) };
        let active = &seen[..=decides];
        let Some(field) = self.order.get(depth).map(|field| *field as usize) else {
            return self.leaf(active);
        };
        if self.free_from[active[0] as usize] <= depth {
            return self.leaf(active);
        }
        if active.iter().all(|index| cells[*index as usize].is_full[field]) {
            return self.node(depth + 1, active, is_icmp);
        }
        let done = depth * 2 + usize::from(is_icmp);
        if let Some(index) = self.done[done].get(active) {
            return Some(*index);
        }
        let arms = self.arms(depth, field, active, is_icmp)?;
        let index = match arms[..] {
            [] => NOTHING,
            [(0, end, node)] if end == self.maximum(field) => node,
            _ => {
                let lookup = if is_icmp && field == Field::Port as usize { Lookup::Icmp } else { self.lookups[field] };
                self.intern(Node::Branch { lookup, arms })?
            }
        };
        self.done[done].insert(active.into(), index);
        Some(index)
    }

    fn maximum(&self, field: usize) -> u128 {
        [last(self.diagrams.family), last(self.diagrams.family), u8::MAX.into(), u16::MAX.into()][field]
    }

    /// Sweeps over the field: between two boundaries the set of matching cells is the same.
    fn arms(
        &mut self,
        depth: usize,
        field: usize,
        active: &[u32],
        is_icmp: bool,
    ) -> Option<Vec<(u128, u128, NodeIndex)>> {
        let cells = self.cells;
        let mut boundaries: Vec<(u128, bool, u32)> = Vec::new();
        for index in active {
            for (first, last) in &*cells[*index as usize].fields[field] {
                boundaries.push((*first, true, *index));
                // A range that ends where the domain of 128 bits ends is never left.
                if let Some(after) = last.checked_add(1) {
                    boundaries.push((after, false, *index));
                }
            }
        }
        boundaries.sort_unstable();
        let icmp = icmp_number(self.diagrams.family);
        let mut inside: Vec<u32> = Vec::new();
        let mut arms: Vec<(u128, u128, NodeIndex)> = Vec::new();
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
            let node = self.node(depth + 1, &inside, below_icmp)?;
            if node == NOTHING {
                continue;
            }
            match arms.last_mut() {
                Some((_, last, same)) if *same == node && last.checked_add(1) == Some(start) => *last = end,
                _ => arms.push((start, end, node)),
            }
        }
        Some(arms)
    }

    fn leaf(&mut self, active: &[u32]) -> Option<NodeIndex> {
        let mut decisions: Vec<u32> = Vec::new();
        for index in active {
            let cell = &self.cells[*index as usize];
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
