//! Rows as binary decision diagrams, by a crate that knows nothing of ours: what another method says.
//!
//! In: rows. Out: one diagram each, over the bits of all fields. Never: an interval, a box, or anything
//! else that the engine's answers come from.

#![allow(dead_code, reason = "each program that has it uses a part")]

use oxidd::bcdd::{BCDDFunction, BCDDManagerRef};
use oxidd::{BooleanFunction, Manager, ManagerRef};
use ringwall_packet::{Address, IntervalSet, Matches, Point, Row, Variable};

pub type Diagram = BCDDFunction;

/// A field of the header, or a variable.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    Source,
    Destination,
    Protocol,
    DestinationPort,
    SourcePort,
    Variable(Variable),
}

/// An order of fields; no one order is good for all lists.
pub const PORTS_FIRST: [Part; 5] = [Part::Protocol, Part::DestinationPort, Part::SourcePort, Part::Destination, Part::Source];
pub const ADDRESSES_FIRST: [Part; 5] = [Part::Destination, Part::Source, Part::Protocol, Part::DestinationPort, Part::SourcePort];

pub struct World {
    manager: BCDDManagerRef,
    /// Each part with its bits, the highest first.
    parts: Vec<(Part, Vec<Diagram>)>,
}

const MEMORY: &str = "memory for the diagrams";

impl World {
    /// Of packets with addresses of type `A`; room for `nodes`.
    pub fn new<A: Address>(parts: impl IntoIterator<Item = Part>, nodes: usize) -> Self {
        let manager = oxidd::bcdd::new_manager(nodes, nodes / 2, 1);
        let parts = parts
            .into_iter()
            .map(|part| {
                let bits = match part {
                    Part::Source | Part::Destination => 8 * size_of::<A>(),
                    Part::Protocol => 8,
                    Part::DestinationPort | Part::SourcePort => 16,
                    Part::Variable(_) => 128,
                };
                let bits = manager.with_manager_exclusive(|manager| {
                    let numbers = manager.add_vars(u32::try_from(bits).expect("a few"));
                    numbers.map(|number| Diagram::var(manager, number).expect(MEMORY)).collect()
                });
                (part, bits)
            })
            .collect();
        Self { manager, parts }
    }

    pub fn constant(&self, value: bool) -> Diagram {
        self.manager.with_manager_shared(|manager| if value { Diagram::t(manager) } else { Diagram::f(manager) })
    }

    pub fn of<A: Address>(&self, matches: &Matches<A>) -> Diagram {
        let upper = &matches.cube.upper;
        // From the last part up, so that each step works at the top.
        self.parts.iter().rev().fold(self.constant(true), |all, (part, bits)| {
            let own = match part {
                Part::Source => self.set(bits, &matches.cube.source),
                Part::Destination => self.set(bits, &matches.cube.destination),
                Part::Protocol => self.set(bits, upper.protocols()),
                Part::DestinationPort => self.set(bits, upper.destination_ports()),
                Part::SourcePort => self.set(bits, upper.source_ports()),
                Part::Variable(variable) => match matches.conditions.values(variable) {
                    Some(values) => self.set(bits, values),
                    None => return all,
                },
            };
            own.and(&all).expect(MEMORY)
        })
    }

    fn set<P: Point>(&self, bits: &[Diagram], set: &IntervalSet<P>) -> Diagram {
        let intervals = set.intervals().iter();
        intervals.fold(self.constant(false), |all, interval| {
            let (first, last) = (interval.first().number(), interval.last().number());
            let both = self.bound(bits, first, false).and(&self.bound(bits, last, true)).expect(MEMORY);
            all.or(&both).expect(MEMORY)
        })
    }

    /// Numbers up to `bound`, or from it on.
    fn bound(&self, bits: &[Diagram], bound: u128, is_up_to: bool) -> Diagram {
        bits.iter().rev().enumerate().fold(self.constant(true), |below, (place, bit)| {
            let is_set = bound >> place & 1 == 1;
            let bit = if is_up_to { bit.not().expect(MEMORY) } else { bit.clone() };
            // Where the bound's bit is the one that may not be passed, the rest decides; else both may.
            if is_set == is_up_to { bit.or(&below).expect(MEMORY) } else { bit.and(&below).expect(MEMORY) }
        })
    }

    /// Which rows are dead: halves first, so that large diagrams are joined a few times and not with every
    /// row.
    pub fn dead<A: Address, D>(&self, rows: &[Row<A, D>]) -> Vec<usize> {
        let mut dead = Vec::new();
        self.dead_from(rows, 0, &self.constant(false), &mut dead);
        dead
    }

    /// What `rows` take together, the first of which is row `first`; `before` is what those before them take.
    fn dead_from<A: Address, D>(&self, rows: &[Row<A, D>], first: usize, before: &Diagram, dead: &mut Vec<usize>) -> Diagram {
        match rows {
            [] => self.constant(false),
            [row] => {
                let own = self.of(&row.matches);
                if !own.and(&before.not().expect(MEMORY)).expect(MEMORY).satisfiable() {
                    dead.push(first);
                }
                own
            }
            _ => {
                let (left, right) = rows.split_at(rows.len() / 2);
                let left_takes = self.dead_from(left, first, before, dead);
                let before = before.or(&left_takes).expect(MEMORY);
                let right_takes = self.dead_from(right, first + left.len(), &before, dead);
                left_takes.or(&right_takes).expect(MEMORY)
            }
        }
    }

    /// What rows decide so, all of it and what of it `is_wanted`.
    pub fn decided<A: Address, D>(&self, rows: &[Row<A, D>], is_wanted: &impl Fn(&D) -> bool) -> (Diagram, Diagram) {
        match rows {
            [] => (self.constant(false), self.constant(false)),
            [row] => {
                let own = self.of(&row.matches);
                let wanted = if is_wanted(&row.decision) { own.clone() } else { self.constant(false) };
                (own, wanted)
            }
            _ => {
                let (left, right) = rows.split_at(rows.len() / 2);
                let (left, right) = (self.decided(left, is_wanted), self.decided(right, is_wanted));
                let open = left.0.not().expect(MEMORY);
                (left.0.or(&right.0).expect(MEMORY), left.1.or(&right.1.and(&open).expect(MEMORY)).expect(MEMORY))
            }
        }
    }

    pub fn any_of<A: Address>(&self, all: &[Matches<A>]) -> Diagram {
        match all {
            [] => self.constant(false),
            [one] => self.of(one),
            _ => {
                let (left, right) = all.split_at(all.len() / 2);
                self.any_of(left).or(&self.any_of(right)).expect(MEMORY)
            }
        }
    }

    pub fn nodes(&self) -> usize {
        self.manager.with_manager_shared(|manager| manager.num_inner_nodes())
    }
}
