//! The rows that two lists have in common, in the same order.
//!
//! In: two lists of rows. Out: pairs of equal rows that rise in both. Never: more than a sort of them;
//! there may be more pairs than are found.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use super::Row;
use super::mixer::{Mixer, Quick};
use crate::matches::{Address, Matches};

/// For each row of `before` its partner in `after`.
pub(super) fn partners<A: Address, D, E>(
    before: &[Row<A, D>],
    after: &[Row<A, E>],
    same: impl Fn(Option<&D>, Option<&E>) -> bool,
) -> Vec<Option<usize>> {
    let is_pair = |b: usize, a: usize| before[b].matches == after[a].matches && same(Some(&before[b].decision), Some(&after[a].decision));
    let mut partners = vec![None; before.len()];
    let shorter = before.len().min(after.len());
    let first = (0..shorter).take_while(|at| is_pair(*at, *at)).count();
    let last = (0..shorter - first).take_while(|at| is_pair(before.len() - 1 - at, after.len() - 1 - at)).count();
    for (at, partner) in partners.iter_mut().enumerate().take(first) {
        *partner = Some(at);
    }
    for at in 0..last {
        partners[before.len() - 1 - at] = Some(after.len() - 1 - at);
    }
    let (ends, after_end) = (before.len() - last, after.len() - last);
    // Of rows that are there several times, the first goes with the first.
    let mut places: HashMap<u64, Vec<usize>, Quick> = HashMap::default();
    for (at, row) in before.iter().enumerate().take(ends).skip(first).rev() {
        places.entry(mixed(&row.matches)).or_default().push(at);
    }
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for (at, row) in after.iter().enumerate().take(after_end).skip(first) {
        let Some(places) = places.get_mut(&mixed(&row.matches)) else { continue };
        if places.last().is_some_and(|place| is_pair(*place, at)) {
            pairs.extend(places.pop().map(|place| (place, at)));
        }
    }
    for (b, a) in rising(&pairs) {
        partners[b] = Some(a);
    }
    partners
}

/// The longest choice of pairs whose first places rise as well.
fn rising(pairs: &[(usize, usize)]) -> Vec<(usize, usize)> {
    // By length, the pair with the smallest end; and the pair before each.
    let (mut ends, mut previous): (Vec<usize>, Vec<Option<usize>>) = (Vec::new(), Vec::new());
    for (at, (b, _)) in pairs.iter().enumerate() {
        let length = ends.partition_point(|end| pairs[*end].0 < *b);
        previous.push(length.checked_sub(1).map(|length| ends[length]));
        if length == ends.len() { ends.push(at) } else { ends[length] = at }
    }
    let mut chosen: Vec<_> = std::iter::successors(ends.last().copied(), |at| previous[*at]).map(|at| pairs[at]).collect();
    chosen.reverse();
    chosen
}

fn mixed<A: Address>(matches: &Matches<A>) -> u64 {
    let mut mixer = Mixer::default();
    matches.hash(&mut mixer);
    mixer.finish()
}
