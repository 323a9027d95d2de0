//! Ordered lists of rows, of which the first that matches a packet decides, and exact questions
//! about them.
//!
//! In: rows with decisions. Out: who decides what, rows that never decide, the complete difference
//! of two lists; each with the packets that show it, or [`Exhausted`]. Never: a sample, a guess.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::address::{AddressSet, Family};
use crate::flow_set::{Cube, UpperSet};
use crate::matches::{Address, Conditions, Matches};

/// One row: what it asks, and what it decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<A, D> {
    pub matches: Matches<A>,
    pub decision: D,
}

/// The rows of both families, each in order of precedence. What no row matches is undecided; a list
/// that has a default ends with a row that matches everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table<D> {
    pub v4: Vec<Row<Ipv4Addr, D>>,
    pub v6: Vec<Row<Ipv6Addr, D>>,
}

impl<D> Default for Table<D> {
    fn default() -> Self {
        Self { v4: Vec::new(), v6: Vec::new() }
    }
}

/// Work that a question may take, counted in boxes looked at.
#[derive(Clone, Debug)]
pub struct Budget {
    whole: u64,
    left: u64,
}

/// The budget ran out: the answer is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown: {steps} steps were not enough for an exact answer")]
pub struct Exhausted {
    pub steps: u64,
}

impl Budget {
    pub fn new(steps: u64) -> Self {
        Self { whole: steps, left: steps }
    }

    fn step(&mut self) -> Result<(), Exhausted> {
        self.left = self.left.checked_sub(1).ok_or(Exhausted { steps: self.whole })?;
        Ok(())
    }
}

/// Packets of which the same row decides all; `None`: no row does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<A> {
    pub matches: Matches<A>,
    pub row: Option<usize>,
}

/// Packets that two lists decide differently, and the rows that do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<A> {
    pub matches: Matches<A>,
    pub before: Option<usize>,
    pub after: Option<usize>,
}

/// The complete difference of two lists, in disjoint parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    pub v4: Vec<Change<Ipv4Addr>>,
    pub v6: Vec<Change<Ipv6Addr>>,
}

impl Difference {
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// Whether other rows take every packet of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cover<A> {
    /// By these together, in order; as few as the search found.
    By(Vec<usize>),
    /// Not these.
    Not(Matches<A>),
}

/// A row that decides nothing, since those before it do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dead {
    pub family: Family,
    pub row: usize,
    /// Rows that take its packets together, in order; as few as the search found.
    pub by: Vec<usize>,
}

impl<D: Clone> Table<D> {
    /// Adds rows for all packets from `source` to `destination` with these protocols and ports.
    pub fn push(
        &mut self,
        source: &AddressSet,
        destination: &AddressSet,
        upper: &UpperSet,
        conditions: &Conditions,
        decision: D,
    ) {
        for family in Family::ALL {
            let uppers = upper.of_family(family);
            for upper in uppers.cubes() {
                let (conditions, decision) = (conditions.clone(), decision.clone());
                match family {
                    Family::V4 if !source.v4.is_empty() && !destination.v4.is_empty() => {
                        let cube = Cube { source: source.v4.clone(), destination: destination.v4.clone(), upper: upper.clone() };
                        self.v4.push(Row { matches: Matches { cube, conditions }, decision });
                    }
                    Family::V6 if !source.v6.is_empty() && !destination.v6.is_empty() => {
                        let cube = Cube { source: source.v6.clone(), destination: destination.v6.clone(), upper: upper.clone() };
                        self.v6.push(Row { matches: Matches { cube, conditions }, decision });
                    }
                    Family::V4 | Family::V6 => {}
                }
            }
        }
    }

    /// Adds a row that matches everything.
    pub fn otherwise(&mut self, decision: D) {
        self.v4.push(Row { matches: Matches::any(), decision: decision.clone() });
        self.v6.push(Row { matches: Matches::any(), decision });
    }
}

impl<D> Table<D> {
    /// The rows that never decide, IPv4 first, in order. Each row has `budget` for itself; those for
    /// which it was not enough are the second list.
    pub fn dead(&self, budget: u64) -> (Vec<Dead>, Vec<(Family, usize)>) {
        let (mut dead, mut unknown) = (Vec::new(), Vec::new());
        dead_rows(&self.v4, budget, &mut dead, &mut unknown);
        dead_rows(&self.v6, budget, &mut dead, &mut unknown);
        (dead, unknown)
    }

    /// All packets for which `same` does not hold of what the two lists decide.
    pub fn difference<E>(
        &self,
        after: &Table<E>,
        same: impl Fn(Option<&D>, Option<&E>) -> bool,
        budget: &mut Budget,
    ) -> Result<Difference, Exhausted> {
        Ok(Difference {
            v4: difference(&self.v4, &after.v4, &same, budget)?,
            v6: difference(&self.v6, &after.v6, &same, budget)?,
        })
    }
}

/// Who decides which of `packets`, in disjoint parts that are all of them.
pub fn parts<A: Address, D>(rows: &[Row<A, D>], packets: &Matches<A>, budget: &mut Budget) -> Result<Vec<Part<A>>, Exhausted> {
    let (mut open, mut parts) = (vec![packets.clone()], Vec::new());
    for (index, row) in rows.iter().enumerate() {
        let mut rest = Vec::new();
        for packets in open {
            budget.step()?;
            match packets.intersection(&row.matches) {
                None => rest.push(packets),
                Some(matches) => {
                    parts.push(Part { matches, row: Some(index) });
                    rest.extend(packets.difference(&row.matches));
                }
            }
        }
        open = rest;
    }
    parts.extend(open.into_iter().map(|matches| Part { matches, row: None }));
    Ok(parts)
}

/// Whether `by` take every one of `packets` together.
pub fn cover<A: Address>(packets: &Matches<A>, by: &[&Matches<A>], budget: &mut Budget) -> Result<Cover<A>, Exhausted> {
    let (mut open, mut used) = (vec![packets.clone()], Vec::new());
    for (index, other) in by.iter().enumerate() {
        let mut rest = Vec::new();
        let mut is_used = false;
        for packets in open {
            budget.step()?;
            is_used |= packets.intersection(other).is_some();
            rest.extend(packets.difference(other));
        }
        if is_used {
            used.push(index);
        }
        open = rest;
    }
    Ok(match open.pop() {
        None => Cover::By(used),
        Some(packets) => Cover::Not(packets),
    })
}

fn dead_rows<A: Address, D>(rows: &[Row<A, D>], budget: u64, dead: &mut Vec<Dead>, unknown: &mut Vec<(Family, usize)>) {
    let matches: Vec<_> = rows.iter().map(|row| &row.matches).collect();
    for (row, own) in matches.iter().enumerate() {
        match cover(own, &matches[..row], &mut Budget::new(budget)) {
            Ok(Cover::By(by)) => dead.push(Dead { family: A::FAMILY, row, by }),
            Ok(Cover::Not(_)) => {}
            Err(Exhausted { .. }) => unknown.push((A::FAMILY, row)),
        }
    }
}

fn difference<A: Address, D, E>(
    before: &[Row<A, D>],
    after: &[Row<A, E>],
    same: &impl Fn(Option<&D>, Option<&E>) -> bool,
    budget: &mut Budget,
) -> Result<Vec<Change<A>>, Exhausted> {
    let mut changes = Vec::new();
    for old in parts(before, &Matches::any(), budget)? {
        for new in parts(after, &old.matches, budget)? {
            let decisions = (old.row.map(|row| &before[row].decision), new.row.map(|row| &after[row].decision));
            if !same(decisions.0, decisions.1) {
                changes.push(Change { matches: new.matches, before: old.row, after: new.row });
            }
        }
    }
    Ok(changes)
}
