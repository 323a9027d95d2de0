//! All packets that two lists decide differently.
//!
//! In: two lists, and which decisions are the same. Out: the differences in disjoint parts, with the
//! rows that decide. Never: a look at packets that a row both lists share decides in both.
//!
//! A packet that is decided differently is decided by a pair of rows, one of each list, with different
//! decisions, of which at least one is not shared. So each such pair whose rows meet is looked at: what
//! the rows before them, in either list, leave of both. Mostly that is nothing.

use super::grid::{Grid, Region};
use super::index::Index;
use super::search::Search;
use super::{Budget, Change, Exhausted, Row, align, parallel};
use crate::matches::{Address, Matches};

/// Pairs that one thread takes at a time.
const CHUNK: usize = 1024;
/// Rows that are looked at one by one rather than asked for.
const FEW: usize = 64;

pub(super) fn of<A: Address, D, E>(
    before: &[Row<A, D>],
    after: &[Row<A, E>],
    same: &impl Fn(Option<&D>, Option<&E>) -> bool,
    budget: &mut Budget,
) -> Result<Vec<Change<A>>, Exhausted> {
    let lists = Lists::new(before, after, same);
    if lists.changed.is_empty() {
        return Ok(Vec::new());
    }
    let any = Matches::any();
    let matches: Vec<&Matches<A>> = before
        .iter()
        .map(|row| &row.matches)
        .chain([&any])
        .chain(lists.added.iter().map(|at| after.get(*at).map_or(&any, |row| &row.matches)))
        .collect();
    budget.spend(matches.len() as u64)?;
    let grid = Grid::new(&matches);
    let index = Index::new(&grid);
    let is_same = |b: usize, a: usize| same(before.get(b).map(|row| &row.decision), after.get(a).map(|row| &row.decision));
    let pairs = lists.pairs(&grid, &index, is_same, budget)?;
    let found = parallel::chunks(pairs.len(), CHUNK, |chunk, found: &mut Vec<(u64, Result<Found, Exhausted>)>| {
        let mut own = budget.clone();
        let mut look = Look { lists: &lists, grid: &grid, index: &index, search: Search::new(&grid), scratch: Vec::new(), meeting: Vec::new(), of: None, rows: Vec::new() };
        let mut all = Vec::new();
        for &(b, a) in &pairs[chunk] {
            match look.at(b, a, &mut own) {
                Ok(left) => all.extend(left.into_iter().map(|left| (b, a, left))),
                Err(exhausted) => return found.push((0, Err(exhausted))),
            }
        }
        found.push((budget.left - own.left, Ok(all)));
    });
    let mut changes = Vec::new();
    for (steps, found) in found {
        budget.spend(steps)?;
        changes.extend(found?);
    }
    // In the rows' order; no row at all comes last.
    changes.sort_by_key(|(b, a, _)| (*b, *a));
    Ok(changes
        .into_iter()
        .map(|(b, a, left)| Change {
            matches: grid.matches(&left),
            before: Some(b as usize).filter(|b| *b < before.len()),
            after: Some(a as usize).filter(|a| *a < after.len()),
        })
        .collect())
}

type Found = Vec<(u32, u32, Region)>;

/// How the rows of the two lists stand in one grid: those of the first list, then one that matches
/// everything (no row decides), then those that only the second has.
struct Lists {
    /// Rows of the first list, with the one that is none.
    before: usize,
    /// For each of them its partner in the second list.
    partner: Vec<Option<usize>>,
    /// The rows of the second list that have no partner.
    added: Vec<usize>,
    /// For each row of the second list, with the one that is none: its row in the grid.
    row_of: Vec<usize>,
    /// Likewise: rows of the first list before this have partners before it.
    bound: Vec<usize>,
    /// Rows of the grid that are not shared.
    changed: Vec<usize>,
}

impl Lists {
    fn new<A: Address, D, E>(before: &[Row<A, D>], after: &[Row<A, E>], same: &impl Fn(Option<&D>, Option<&E>) -> bool) -> Self {
        let mut partner = align::partners(before, after, same);
        partner.push(same(None, None).then_some(after.len()));
        let mut row_of = vec![None; after.len() + 1];
        for (b, a) in partner.iter().enumerate() {
            if let Some(a) = a {
                row_of[*a] = Some(b);
            }
        }
        let added: Vec<usize> = (0..row_of.len()).filter(|a| row_of[*a].is_none()).collect();
        let mut bound = Vec::with_capacity(row_of.len());
        let mut shared = 0;
        for b in &row_of {
            bound.push(shared);
            shared = b.map_or(shared, |b| b + 1);
        }
        for (at, a) in added.iter().enumerate() {
            row_of[*a] = Some(partner.len() + at);
        }
        let removed = (0..partner.len()).filter(|b| partner[*b].is_none());
        let changed = removed.chain(partner.len()..partner.len() + added.len()).collect();
        let row_of = row_of.into_iter().map(|row| row.expect("shared or added")).collect();
        Self { before: partner.len(), partner, added, row_of, bound, changed }
    }

    /// The place in the second list of a row of the grid that it has.
    fn after(&self, row: usize) -> Option<usize> {
        row.checked_sub(self.before).map_or_else(|| self.partner[row], |at| Some(self.added[at]))
    }

    fn is_before(&self, row: usize) -> bool {
        row < self.before
    }

    /// Pairs of rows, a place in each list, that meet, are not shared and do not decide the same.
    fn pairs(&self, grid: &Grid, index: &Index<'_>, same: impl Fn(usize, usize) -> bool, budget: &mut Budget) -> Result<Vec<(u32, u32)>, Exhausted> {
        let number = |at: usize| u32::try_from(at).expect("rows are u32");
        let (mut pairs, mut scratch, mut meeting) = (Vec::new(), Vec::new(), Vec::new());
        for &row in &self.changed {
            if grid.is_void(row) {
                continue;
            }
            let region = grid.region(row);
            meeting.clear();
            index.meeting(&region, grid.rows(), &mut scratch, &mut meeting);
            budget.spend(meeting.len() as u64)?;
            let others = meeting.iter().map(|other| *other as usize);
            if self.is_before(row) {
                // One row before it that takes all of it: it decides nothing.
                if others.clone().take_while(|other| *other < row).any(|other| grid.covers(other, &region)) {
                    continue;
                }
                pairs.extend(others.filter_map(|other| self.after(other)).filter(|a| !same(row, *a)).map(|a| (number(row), number(a))));
            } else {
                let a = self.added[row - self.before];
                if others.clone().any(|other| self.after(other).is_some_and(|other| other < a) && grid.covers(other, &region)) {
                    continue;
                }
                // Pairs of which neither is shared are there already.
                let shared = others.filter(|other| self.is_before(*other) && self.partner[*other].is_some());
                pairs.extend(shared.filter(|b| !same(*b, a)).map(|b| (number(b), number(a))));
            }
        }
        Ok(pairs)
    }
}

/// What is needed for one pair after the other.
struct Look<'g> {
    lists: &'g Lists,
    grid: &'g Grid,
    index: &'g Index<'g>,
    search: Search<'g>,
    scratch: Vec<u64>,
    /// The row that `meeting` is of, and the rows that it meets.
    of: Option<usize>,
    meeting: Vec<u32>,
    rows: Vec<u32>,
}

impl Look<'_> {
    /// What the rows before these two leave of both.
    fn at(&mut self, b: u32, a: u32, budget: &mut Budget) -> Result<Vec<Region>, Exhausted> {
        let (lists, grid) = (self.lists, self.grid);
        let (b, a) = (b as usize, a as usize);
        let other = lists.row_of[a];
        let region = grid.clip(&grid.region(b), other).expect("the two meet");
        let bound = lists.bound[a];
        // Rows that only the second list has, before this one.
        let added = lists.before + lists.added.partition_point(|at| *at < a);
        // The rows before `b` and the shared ones with partners before `a`.
        let is_earlier = |row: &u32| {
            let row = *row as usize;
            row < b || (row < bound && lists.partner[row].is_some()) || (row >= lists.before && row < added)
        };
        // Pairs stand by the row that is not shared.
        let own = if lists.partner[b].is_none() { b } else { other };
        if self.of != Some(own) {
            self.of = Some(own);
            self.meeting.clear();
            self.index.meeting(&grid.region(own), grid.rows(), &mut self.scratch, &mut self.meeting);
        }
        self.rows.clear();
        if self.meeting.len() <= FEW {
            self.rows.extend(self.meeting.iter().filter(|row| is_earlier(row) && grid.meets(&region, **row as usize)));
        } else {
            self.index.meeting(&region, b.max(bound), &mut self.scratch, &mut self.rows);
            self.index.meeting_between(&region, lists.before, added, &mut self.scratch, &mut self.rows);
            self.rows.retain(is_earlier);
        }
        if self.search.is_covered(&region, &self.rows, &mut Vec::new(), budget)? {
            return Ok(Vec::new());
        }
        self.search.left(&region, &self.rows, budget)
    }
}
