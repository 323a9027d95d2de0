//! All packets that two lists decide differently.
//!
//! In: two lists, and which decisions are the same. Out: the differences in disjoint parts, with the
//! rows that decide. Never: a look at packets that a row both lists share decides in both.
//!
//! A packet that is decided differently is decided by a pair of rows, one of each list, with different
//! decisions, of which at least one is not shared. So each such pair whose rows meet is looked at: what
//! the rows before them, in either list, leave of both. Mostly that is nothing.

use super::grid::{self, Grid, Region, Span};
use super::index::Index;
use super::search::{Search, Short};
use super::{Budget, Change, Exhausted, Row, align, parallel};
use crate::matches::{Address, Matches};

/// Rows, and pairs of rows, that one thread takes at a time.
const ROWS: usize = 128;
const PAIRS: usize = 512;
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
    let mut suspects = lists.suspects(&grid, &index, is_same, budget)?;
    let until = parallel::chunks(suspects.len(), ROWS, |chunk, until: &mut Vec<u32>| {
        let mut search = Search::new(&grid);
        until.extend(suspects[chunk].iter().map(|suspect| lists.until_at_most(&grid, &mut search, suspect)));
    });
    lists.keep_open(&mut suspects, &until);
    let work = |chunk: std::ops::Range<usize>, budget: &mut Budget| lists.until(&grid, &suspects[chunk], budget);
    let until = spending(suspects.len(), ROWS, budget, work)?;
    lists.keep_open(&mut suspects, &until);
    let pairs = lists.pairs(&suspects);
    let mut changes = spending(pairs.len(), PAIRS, budget, |chunk, budget| {
        let mut look = Look {
            lists: &lists,
            grid: &grid,
            index: &index,
            search: Search::new(&grid),
            scratch: Vec::new(),
            meeting: Vec::new(),
            of: None,
            rows: Vec::new(),
        };
        let mut all = Vec::new();
        for &(b, a) in &pairs[chunk] {
            all.extend(look.at(b, a, budget)?.into_iter().map(|left| (b, a, left)));
        }
        Ok(all)
    })?;
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

/// Does `work` on all cores. Each part may spend all that is left; together they may not.
fn spending<T: Send>(
    items: usize,
    chunk: usize,
    budget: &mut Budget,
    work: impl Fn(std::ops::Range<usize>, &mut Budget) -> Result<Vec<T>, Exhausted> + Sync,
) -> Result<Vec<T>, Exhausted> {
    let left = budget.clone();
    let parts = parallel::chunks(items, chunk, |range, parts: &mut Vec<(u64, Result<Vec<T>, Exhausted>)>| {
        let mut own = left.clone();
        let done = work(range, &mut own);
        parts.push((left.left - own.left, done));
    });
    let mut all = Vec::new();
    for (steps, done) in parts {
        all.extend(done?);
        budget.spend(steps)?;
    }
    Ok(all)
}

/// A row that is not shared, and those that it meets.
struct Suspect {
    row: usize,
    meeting: Vec<u32>,
    /// Places in the other list of rows that do not decide the same, in order.
    others: Vec<u32>,
}

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

    /// The rows that are not shared, with the rows of the other list that meet them and do not decide
    /// the same.
    fn suspects(&self, grid: &Grid, index: &Index<'_>, same: impl Fn(usize, usize) -> bool, budget: &mut Budget) -> Result<Vec<Suspect>, Exhausted> {
        let mut suspects = spending(self.changed.len(), ROWS, budget, |chunk, budget| {
            let mut scratch = Vec::new();
            let of = |row: &usize| {
                let mut meeting = Vec::new();
                if !grid.is_void(*row) {
                    index.meeting(&grid.region(*row), grid.rows(), &mut scratch, &mut meeting);
                }
                budget.spend(meeting.len() as u64 + 1)?;
                Ok(Suspect { row: *row, meeting, others: Vec::new() })
            };
            self.changed[chunk].iter().map(of).collect()
        })?;
        for suspect in &mut suspects {
            let meeting = suspect.meeting.iter().map(|other| *other as usize);
            if suspect.row < self.before {
                let others = meeting.filter_map(|other| self.after(other));
                suspect.others = others.filter(|a| !same(suspect.row, *a)).map(number).collect();
            } else {
                let a = self.added[suspect.row - self.before];
                suspect.others = meeting.filter(|other| *other < self.before && !same(*other, a)).map(number).collect();
            }
            suspect.others.sort_unstable();
        }
        suspects.retain(|suspect| !suspect.others.is_empty());
        Ok(suspects)
    }

    /// By its place in the list that a suspect is not of: whether a row is before it in its own list, and its
    /// place in the other.
    fn place(&self, suspect: &Suspect, row: u32) -> (bool, Option<usize>) {
        let row = row as usize;
        match suspect.row.checked_sub(self.before) {
            None => (row < suspect.row, self.after(row)),
            Some(at) => (self.after(row).is_some_and(|after| after < self.added[at]), Some(row).filter(|row| *row < self.before)),
        }
    }

    /// A place in the other list from which on nothing of a row is open: those before it in its own list and
    /// those before the place have taken all of it. The first such place where one row does it, or rows that
    /// are short of it in one field; [`u32::MAX`] if none do.
    fn until_at_most(&self, grid: &Grid, search: &mut Search<'_>, suspect: &Suspect) -> u32 {
        /// Rows that are short in one field that are put together.
        const MOST: usize = 64;
        let region = grid.region(suspect.row);
        let mut until = u32::MAX;
        let mut slabs: Vec<(u32, usize, u32)> = Vec::new();
        for &row in &suspect.meeting {
            let from = match self.place(suspect, row) {
                (true, _) => 0,
                (false, Some(place)) => number(place) + 1,
                (false, None) => continue,
            };
            if from < until {
                match search.short_of(row, &region) {
                    Short::Nothing => until = from,
                    Short::One(axis) => slabs.push((from, axis, row)),
                    Short::More => {}
                }
            }
        }
        slabs.retain(|(from, ..)| *from < until);
        slabs.sort_unstable();
        slabs.truncate(MOST);
        let mut left: Vec<(usize, Vec<Span>)> = Vec::new();
        for (from, axis, row) in slabs {
            let at = left.iter().position(|(known, _)| *known == axis).unwrap_or_else(|| {
                left.push((axis, region.field(axis).to_vec()));
                left.len() - 1
            });
            left[at].1 = grid::difference(&left[at].1, grid.field(row as usize, axis).to_vec());
            if left[at].1.is_empty() {
                return from;
            }
        }
        until
    }

    /// The same, as exactly as looking into it tells.
    fn until(&self, grid: &Grid, suspects: &[Suspect], budget: &mut Budget) -> Result<Vec<u32>, Exhausted> {
        /// Others that are rather looked at one by one.
        const FEW: usize = 2;
        let mut all = Vec::new();
        let mut search = Search::new(grid);
        for suspect in suspects {
            let region = grid.region(suspect.row);
            let others = &suspect.others;
            let mut is_covered = |until: u32| {
                let is_earlier = |row: &&u32| {
                    let (is_earlier, place) = self.place(suspect, **row);
                    is_earlier || place.is_some_and(|place| place < until as usize)
                };
                let rows: Vec<u32> = suspect.meeting.iter().filter(is_earlier).copied().collect();
                search.is_covered(&region, &rows, &mut Vec::new(), budget)
            };
            if others.len() <= FEW {
                all.push(u32::MAX);
            } else if is_covered(others[0])? {
                all.push(others[0]);
            } else if is_covered(others[others.len() - 1])? {
                let (mut open, mut covered) = (0, others.len() - 1);
                while open + 1 < covered {
                    let middle = open.midpoint(covered);
                    if is_covered(others[middle])? { covered = middle } else { open = middle }
                }
                all.push(others[covered]);
            } else {
                all.push(u32::MAX);
            }
        }
        Ok(all)
    }

    /// Takes out of each row's others those that find nothing of it open, and those of which it finds
    /// nothing open.
    fn keep_open(&self, suspects: &mut Vec<Suspect>, until: &[u32]) {
        // Rows that are no suspects, and others that are shared, are open all the way.
        let mut of_row = vec![u32::MAX; self.before + self.added.len()];
        for (suspect, until) in suspects.iter().zip(until) {
            of_row[suspect.row] = *until;
        }
        for suspect in suspects.iter_mut() {
            let until = of_row[suspect.row];
            let is_first = suspect.row < self.before;
            let own = if is_first { suspect.row } else { self.added[suspect.row - self.before] };
            suspect.others.retain(|other| {
                let row = if is_first { self.row_of[*other as usize] } else { *other as usize };
                *other < until && (own < of_row[row] as usize)
            });
        }
        suspects.retain(|suspect| !suspect.others.is_empty());
    }

    /// The pairs of rows that are left, a place in each list. One of which neither is shared stands here
    /// once.
    fn pairs(&self, suspects: &[Suspect]) -> Vec<(u32, u32)> {
        let mut pairs = Vec::new();
        for suspect in suspects {
            let others = suspect.others.iter().copied();
            if suspect.row < self.before {
                pairs.extend(others.map(|a| (number(suspect.row), a)));
            } else {
                let a = number(self.added[suspect.row - self.before]);
                pairs.extend(others.filter(|b| self.partner[*b as usize].is_some()).map(|b| (b, a)));
            }
        }
        pairs
    }
}

fn number(at: usize) -> u32 {
    u32::try_from(at).expect("rows are u32")
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
