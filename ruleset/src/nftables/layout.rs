//! Entries of one path and family as a decision diagram: which field to look at, in which order.
//!
//! In: entries in order of precedence. Out: a directed acyclic graph whose branches partition one
//! field each, so that the keys of every verdict map are disjoint by construction, and whose leaves
//! name the entries that may decide, in order. Never: nftables text.
//!
//! Equal sub-graphs are one node. The order of the fields is chosen by size: looking at the remote
//! address first is small where many rules share few sources, at the port first where many sources
//! share few ports.

use std::collections::HashMap;

use ringwall_packet::{Family, Interval, IntervalSet, Point};

use crate::model::Entry;

/// A header field that a branch looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Field {
    Source,
    Destination,
    Protocol,
    /// Destination port; for ICMP, type in the high byte and code in the low one.
    Port,
}

/// Index into [`Diagram::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct NodeIndex(usize);

impl NodeIndex {
    /// Stands in the name of the node's chain.
    pub fn number(self) -> usize {
        self.0
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Node {
    /// Candidates in order of precedence; all but the last are conditional. Empty: the default.
    Leaf(Vec<Candidate>),
    /// Inclusive, disjoint, sorted ranges; what is in none of them is the default's.
    Branch { field: Field, arms: Vec<(u128, u128, NodeIndex)> },
}

/// An entry that decides where its conditions hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Candidate {
    /// Index into the entries.
    pub entry: usize,
    /// Source ports that it asks for, unless it takes all.
    pub source_ports: Option<IntervalSet<u16>>,
}

pub(super) struct Diagram {
    nodes: Vec<Node>,
    root: NodeIndex,
    /// Number of keys in all branches.
    pub size: usize,
}

impl Diagram {
    pub fn root(&self) -> NodeIndex {
        self.root
    }

    pub fn node(&self, index: NodeIndex) -> &Node {
        &self.nodes[index.0]
    }

    /// The smallest diagram among `orders`. `include` picks the entries. `None` when each of them
    /// needs more than `size_max` keys.
    pub fn smallest(
        entries: &[Entry],
        include: impl Fn(&Entry) -> bool,
        family: Family,
        orders: &[[Field; 4]],
        size_max: usize,
    ) -> Option<Self> {
        let cells = cells(entries, include, family);
        let diagrams = orders.iter().filter_map(|order| Builder::new(&cells, *order, size_max).build());
        diagrams.min_by_key(|diagram| diagram.size)
    }
}

/// One box of an entry, in coordinates that do not depend on the family.
struct Cell {
    entry: usize,
    is_unconditional: bool,
    source_ports: Option<IntervalSet<u16>>,
    fields: [Vec<(u128, u128)>; 4],
    is_full: [bool; 4],
}

fn cells(entries: &[Entry], include: impl Fn(&Entry) -> bool, family: Family) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| include(entry)) {
        let (source, destination) = match family {
            Family::V4 => (ranges(&entry.source.v4), ranges(&entry.destination.v4)),
            Family::V6 => (ranges(&entry.source.v6), ranges(&entry.destination.v6)),
        };
        if source.is_empty() || destination.is_empty() {
            continue;
        }
        for cube in entry.upper.of_family(family).cubes() {
            let source_ports = (!cube.source_ports().is_full()).then(|| cube.source_ports().clone());
            let fields =
                [source.clone(), destination.clone(), ranges(cube.protocols()), ranges(cube.destination_ports())];
            let maximum = [last(family), last(family), u128::from(u8::MAX), u128::from(u16::MAX)];
            let is_full = std::array::from_fn(|i| fields[i] == [(0, maximum[i])]);
            let is_unconditional = entry.is_unconditional() && source_ports.is_none();
            cells.push(Cell { entry: index, is_unconditional, source_ports, fields, is_full });
        }
    }
    cells
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

fn ranges<P: Coordinate>(set: &IntervalSet<P>) -> Vec<(u128, u128)> {
    let range = |interval: &Interval<P>| (interval.first().coordinate(), interval.last().coordinate());
    set.intervals().iter().map(range).collect()
}

struct Builder<'a> {
    cells: &'a [Cell],
    order: [Field; 4],
    nodes: Vec<Node>,
    known: HashMap<Node, NodeIndex>,
    /// Which cells were active at which depth, and what came of it.
    done: HashMap<(usize, Vec<u32>), NodeIndex>,
    size: usize,
    size_max: usize,
}

impl<'a> Builder<'a> {
    fn new(cells: &'a [Cell], order: [Field; 4], size_max: usize) -> Self {
        Self { cells, order, nodes: Vec::new(), known: HashMap::new(), done: HashMap::new(), size: 0, size_max }
    }

    fn build(mut self) -> Option<Diagram> {
        let all = (0..u32::try_from(self.cells.len()).ok()?).collect();
        let root = self.node(0, all)?;
        Some(Diagram { nodes: self.nodes, root, size: self.size })
    }

    fn intern(&mut self, node: Node) -> Option<NodeIndex> {
        if let Some(index) = self.known.get(&node) {
            return Some(*index);
        }
        if let Node::Branch { arms, .. } = &node {
            self.size += arms.len();
        }
        if self.size > self.size_max {
            return None;
        }
        let index = NodeIndex(self.nodes.len());
        self.nodes.push(node.clone());
        self.known.insert(node, index);
        Some(index)
    }

    /// The node for the flows that these cells, in order of precedence, still match at `depth`.
    fn node(&mut self, depth: usize, mut active: Vec<u32>) -> Option<NodeIndex> {
        // A cell that matches whatever the remaining fields hold hides all that come after it.
        let hides = |cell: &Cell| {
            cell.is_unconditional && self.order[depth..].iter().all(|field| cell.is_full[*field as usize])
        };
        if let Some(position) = active.iter().position(|index| hides(&self.cells[*index as usize])) {
            active.truncate(position + 1);
        }
        let Some(field) = self.order.get(depth).map(|field| *field as usize) else {
            return self.leaf(&active);
        };
        if active.is_empty() || (active.len() == 1 && hides(&self.cells[active[0] as usize])) {
            return self.leaf(&active);
        }
        if active.iter().all(|index| self.cells[*index as usize].is_full[field]) {
            return self.node(depth + 1, active);
        }
        let key = (depth, active);
        if let Some(index) = self.done.get(&key) {
            return Some(*index);
        }
        let arms = self.arms(depth, field, &key.1)?;
        let index = self.intern(Node::Branch { field: self.order[depth], arms })?;
        self.done.insert(key, index);
        Some(index)
    }

    /// Sweeps over the field: between two boundaries the set of matching cells is the same.
    fn arms(&mut self, depth: usize, field: usize, active: &[u32]) -> Option<Vec<(u128, u128, NodeIndex)>> {
        let mut boundaries: Vec<(u128, bool, u32)> = Vec::new();
        for index in active {
            for (first, last) in &self.cells[*index as usize].fields[field] {
                boundaries.push((*first, true, *index));
                // A range that ends where the domain of 128 bits ends is never left.
                if let Some(after) = last.checked_add(1) {
                    boundaries.push((after, false, *index));
                }
            }
        }
        boundaries.sort_unstable();
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
            let node = self.node(depth + 1, inside.clone())?;
            match arms.last_mut() {
                Some((_, last, same)) if *same == node && last.checked_add(1) == Some(start) => *last = end,
                _ => arms.push((start, end, node)),
            }
        }
        Some(arms)
    }

    fn leaf(&mut self, active: &[u32]) -> Option<NodeIndex> {
        let mut candidates: Vec<Candidate> = Vec::new();
        for index in active {
            let cell = &self.cells[*index as usize];
            let candidate = Candidate { entry: cell.entry, source_ports: cell.source_ports.clone() };
            if candidates.last() != Some(&candidate) {
                candidates.push(candidate);
            }
            if cell.is_unconditional {
                break;
            }
        }
        self.intern(Node::Leaf(candidates))
    }
}
