//! Ordered lists of rows, of which the first that matches a packet decides, and exact questions
//! about them.
//!
//! In: rows with decisions. Out: who decides what, rows that never decide, the complete difference
//! of two lists; each with the packets that show it, or [`Exhausted`]. Never: a sample, a guess.

mod align;
mod canonical;
mod difference;
mod grid;
mod index;
mod mixer;
mod normal;
mod parallel;
mod search;

use std::hash::Hash;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::address::{AddressSet, Family};
use crate::flow_set::{Cube, UpperSet};
use crate::matches::{Address, Conditions, Matches};

pub use canonical::canonical;
use grid::Grid;
use index::Index;
use search::Search;

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

    /// Takes work off it that is done elsewhere.
    pub fn spend(&mut self, steps: u64) -> Result<(), Exhausted> {
        self.left = self.left.checked_sub(steps).ok_or(Exhausted { steps: self.whole })?;
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

    /// The same table, in a form that hardly depends on how its rows were written; `key` is equal for decisions that
    /// are the same. Tables that decide alike are mostly equal then; [`Table::difference`] says whether they do.
    #[must_use]
    pub fn into_normal<K: Copy + Eq + Hash>(self, key: impl Fn(&D) -> K) -> Self
    where
        D: Clone,
    {
        Self { v4: normal::of(self.v4, &key), v6: normal::of(self.v6, &key) }
    }

    /// All packets for which `same` does not hold of what the two lists decide.
    pub fn difference<E>(
        &self,
        after: &Table<E>,
        same: impl Fn(Option<&D>, Option<&E>) -> bool,
        budget: &mut Budget,
    ) -> Result<Difference, Exhausted> {
        Ok(Difference {
            v4: difference::of(&self.v4, &after.v4, &same, budget)?,
            v6: difference::of(&self.v6, &after.v6, &same, budget)?,
        })
    }
}

/// Who decides which of `packets`, in disjoint parts that are all of them, in the rows' order.
pub fn parts<A: Address, D>(rows: &[Row<A, D>], packets: &Matches<A>, budget: &mut Budget) -> Result<Vec<Part<A>>, Exhausted> {
    budget.spend(rows.len() as u64)?;
    let mut meeting = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        if !packets.is_disjoint(&row.matches) {
            meeting.push(at);
            if packets.is_subset(&row.matches) {
                break;
            }
        }
    }
    let all: Vec<&Matches<A>> = meeting.iter().map(|at| &rows[*at].matches).chain([packets]).collect();
    let grid = Grid::new(&all);
    let index = Index::new(&grid);
    let mut search = Search::new(&grid);
    let (mut scratch, mut earlier, mut parts) = (Vec::new(), Vec::new(), Vec::new());
    let whole = grid.region(meeting.len());
    if grid.is_void(meeting.len()) {
        return Ok(parts);
    }
    for row in 0..=meeting.len() {
        let Some(region) = grid.clip(&whole, row) else { continue };
        earlier.clear();
        index.meeting(&region, row, &mut scratch, &mut earlier);
        for left in search.left(&region, &earlier, budget)? {
            parts.push(Part { matches: grid.matches(&left), row: meeting.get(row).copied() });
        }
    }
    Ok(parts)
}

/// Whether `by` take every one of `packets` together.
pub fn cover<A: Address>(packets: &Matches<A>, by: &[&Matches<A>], budget: &mut Budget) -> Result<Cover<A>, Exhausted> {
    budget.spend(by.len() as u64)?;
    let meeting: Vec<usize> = (0..by.len()).filter(|at| !packets.is_disjoint(by[*at])).collect();
    let all: Vec<&Matches<A>> = meeting.iter().map(|at| by[*at]).chain([packets]).collect();
    let grid = Grid::new(&all);
    let mut search = Search::new(&grid);
    if grid.is_void(meeting.len()) {
        return Ok(Cover::By(Vec::new()));
    }
    let region = grid.region(meeting.len());
    let rows: Vec<u32> = (0..u32::try_from(meeting.len()).expect("rows are u32")).collect();
    Ok(match search.needed(&region, &rows, budget)? {
        Some(needed) => Cover::By(needed.into_iter().map(|at| meeting[at as usize]).collect()),
        None => {
            let left = search.left(&region, &rows, budget)?;
            Cover::Not(grid.matches(left.first().expect("it is not covered")))
        }
    })
}

/// Rows that one thread takes at a time.
const CHUNK: usize = 256;

fn dead_rows<A: Address, D>(rows: &[Row<A, D>], budget: u64, dead: &mut Vec<Dead>, unknown: &mut Vec<(Family, usize)>) {
    let matches: Vec<_> = rows.iter().map(|row| &row.matches).collect();
    let grid = Grid::new(&matches);
    let index = Index::new(&grid);
    let found = parallel::chunks(rows.len(), CHUNK, |chunk, found: &mut Vec<(usize, Result<Vec<u32>, Exhausted>)>| {
        let mut search = Search::new(&grid);
        let (mut scratch, mut earlier) = (Vec::new(), Vec::new());
        for row in chunk {
            if grid.is_void(row) {
                found.push((row, Ok(Vec::new())));
                continue;
            }
            let region = grid.region(row);
            // Mostly a row is alive, and a part of it that few rows meet shows it.
            if let Some(thin) = index.thin(&region) {
                earlier.clear();
                index.meeting(&thin, row, &mut scratch, &mut earlier);
                if let Ok(false) = search.is_covered(&thin, &earlier, &mut Vec::new(), &mut Budget::new(budget)) {
                    continue;
                }
            }
            earlier.clear();
            index.meeting(&region, row, &mut scratch, &mut earlier);
            if let Some(result) = search.needed(&region, &earlier, &mut Budget::new(budget)).transpose() {
                found.push((row, result));
            }
        }
    });
    for (row, by) in found {
        match by {
            Ok(by) => dead.push(Dead { family: A::FAMILY, row, by: by.into_iter().map(|row| row as usize).collect() }),
            Err(Exhausted { .. }) => unknown.push((A::FAMILY, row)),
        }
    }
}
