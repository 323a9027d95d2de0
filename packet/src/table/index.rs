//! Which rows meet a box.
//!
//! In: a grid. Out: the rows that may match something of a box, in order. Never: a row too few; rows
//! whose sets miss the box although their spans meet it can be among them.
//!
//! A row misses a span when it begins after it or ends before it. For each axis the rows are sorted by
//! their beginnings and by their ends, and every few rows a bit set holds all up to there; two bit sets
//! each axis, joined word by word, leave few rows to look at.

use super::grid::{Grid, Region};

pub(super) struct Index<'g> {
    grid: &'g Grid,
    /// Words of a bit set.
    words: usize,
    axes: Vec<Axis>,
}

struct Axis {
    /// By class: rows that begin at it or before, and rows that end at it or after.
    begun: Vec<u32>,
    unended: Vec<u32>,
    /// One bit set after the other: the first rows by beginning, the first by end from the last down,
    /// [`Axis::step`] rows more in each.
    by_begin: Vec<u64>,
    by_end: Vec<u64>,
    step: usize,
    /// By class the rows that have it, where rows are more than spans and this is not too large.
    by_class: Vec<u64>,
    /// For each [`BLOCK`] of classes the one that the fewest rows have.
    thinnest: Vec<u32>,
}

const BLOCK: u32 = 64;
/// Words that the bit sets by class may take for one axis.
const BY_CLASS: usize = 1 << 20;
/// Bit sets by class that are joined at most; wider regions are looked for by their span.
const JOINED: usize = 32;

impl<'g> Index<'g> {
    pub(super) fn new(grid: &'g Grid) -> Self {
        let words = grid.rows().div_ceil(64);
        Self { grid, words, axes: (0..grid.width()).map(|axis| Axis::new(grid, axis, words)).collect() }
    }

    /// The rows before `limit` that may meet `region`, added to `found` in order.
    pub(super) fn meeting(&self, region: &Region, limit: usize, scratch: &mut Vec<u64>, found: &mut Vec<u32>) {
        self.meeting_between(region, 0, limit, scratch, found);
    }

    /// A part of `region` that few rows meet: where many rows meet it, one class of a field, which few rows
    /// have. `None` where few meet it as it is.
    pub(super) fn thin(&self, region: &Region) -> Option<Region> {
        /// Rows that are quickly looked through.
        const FEW: usize = 32;
        let rows = self.grid.rows();
        let mut thin: Option<Region> = None;
        let fewest = |region: &Region| self.axes.iter().zip(&region.spans).map(|(axis, span)| axis.count(*span, rows)).min();
        if fewest(region).is_none_or(|fewest| fewest <= FEW) {
            return None;
        }
        for (at, axis) in self.axes.iter().enumerate() {
            let [first, last] = region.field(at)[0];
            if first == last {
                continue;
            }
            let best = axis.thinnest(first, last);
            thin = Some(thin.unwrap_or_else(|| region.clone()).with_field(at, vec![[best, best]]));
        }
        thin
    }

    /// The same among the rows from `from` to before `limit`.
    pub(super) fn meeting_between(&self, region: &Region, from: usize, limit: usize, scratch: &mut Vec<u64>, found: &mut Vec<u32>) {
        if from >= limit {
            return;
        }
        let rows = self.grid.rows();
        let (first, end) = (from / 64, limit.div_ceil(64));
        // The most selective first, and those that select nothing not at all.
        let mut order: [(usize, usize); 8] = [(rows, 0); 8];
        let mut used = 0;
        for (at, axis) in self.axes.iter().enumerate() {
            let count = axis.count(region.spans[at], rows);
            if count == 0 {
                return;
            }
            if count < rows || (!axis.by_class.is_empty() && region.field(at).len() > 1) {
                if used < order.len() {
                    order[used] = (count, at);
                    used += 1;
                } else if let Some(worst) = order.iter_mut().max().filter(|worst| worst.0 > count) {
                    *worst = (count, at);
                }
            }
        }
        order[..used].sort_unstable();
        scratch.clear();
        scratch.resize(end - first, !0);
        // How many are left, if the fields have nothing to do with each other.
        let mut left = (end - first) * 64;
        for (count, at) in &order[..used] {
            // Looking at a row costs about as much as joining this many words.
            const LOOK: usize = 16;
            if left * LOOK < scratch.len() {
                break;
            }
            left = left * count / rows;
            self.axes[*at].join(region.spans[*at], region.field(*at), self.words, first, scratch);
        }
        for (word, bits) in (first..).zip(scratch) {
            while *bits != 0 {
                let row = word * 64 + bits.trailing_zeros() as usize;
                *bits &= *bits - 1;
                if row >= limit {
                    return;
                }
                if row >= from && self.grid.meets(region, row) {
                    found.push(u32::try_from(row).expect("rows are u32"));
                }
            }
        }
    }
}

impl Axis {
    fn new(grid: &Grid, axis: usize, words: usize) -> Self {
        let rows = grid.rows();
        let classes = grid.classes(axis) as usize;
        let step = (rows / 128).next_multiple_of(64).max(64);
        let begin = |row: usize| grid.spans(row)[axis][0] as usize;
        // From the last class down, so that ends are like beginnings.
        let end = |row: usize| classes - 1 - grid.spans(row)[axis][1] as usize;
        let (begun, by_begin) = sorted(rows, classes, words, step, begin);
        let (mut unended, by_end) = sorted(rows, classes, words, step, end);
        unended.reverse();
        let mut by_class = Vec::new();
        let has_sets = (0..rows).any(|row| grid.field(row, axis).len() > 1);
        if has_sets && classes * words <= BY_CLASS {
            let mut turns = vec![0u64; (classes + 1) * words];
            for row in 0..rows {
                for [first, last] in grid.field(row, axis) {
                    turns[*first as usize * words + row / 64] ^= 1 << (row % 64);
                    turns[(*last as usize + 1) * words + row / 64] ^= 1 << (row % 64);
                }
            }
            for at in words..turns.len() {
                turns[at] ^= turns[at - words];
            }
            by_class = turns;
        }
        let mut added = Self { begun, unended, by_begin, by_end, step, by_class, thinnest: Vec::new() };
        let last = grid.classes(axis) - 1;
        added.thinnest = (0..=last).step_by(BLOCK as usize).map(|first| added.thinnest_of(first..=last.min(first + BLOCK - 1))).collect();
        added
    }

    /// How many rows have a class, those whose sets leave it out between their first and last included.
    fn has(&self, class: u32) -> u32 {
        // Less the number of rows, for all classes.
        self.begun[class as usize] + self.unended[class as usize]
    }

    fn thinnest_of(&self, classes: impl IntoIterator<Item = u32>) -> u32 {
        classes.into_iter().min_by_key(|class| self.has(*class)).expect("a class")
    }

    /// A class of these that few rows have.
    fn thinnest(&self, first: u32, last: u32) -> u32 {
        /// Blocks that are looked at.
        const MOST: u32 = 512;
        let (begin, end) = (first.div_ceil(BLOCK), (last + 1) / BLOCK);
        if begin < end {
            let step = (end - begin).div_ceil(MOST) as usize;
            self.thinnest_of(self.thinnest[begin as usize..end as usize].iter().copied().step_by(step))
        } else {
            self.thinnest_of(first..=last)
        }
    }

    /// Rows whose span meets this one, exactly: all but those that begin after it or end before it.
    fn count(&self, [first, last]: [u32; 2], rows: usize) -> usize {
        self.begun[last as usize] as usize + self.unended[first as usize] as usize - rows
    }

    /// Takes rows that miss the field out of `rows`, whose first word is word `from`; some that miss
    /// it may stay.
    fn join(&self, [first, last]: [u32; 2], field: &[[u32; 2]], words: usize, from: usize, rows: &mut [u64]) {
        let join = |rows: &mut [u64], by: &[u64]| rows.iter_mut().zip(by).for_each(|(rows, by)| *rows &= by);
        if !self.by_class.is_empty() && field.iter().map(|[first, last]| (last - first) as usize + 1).sum::<usize>() <= JOINED {
            let length = rows.len();
            let of_class = |class: u32| &self.by_class[class as usize * words + from..][..length];
            let mut classes = field.iter().flat_map(|[first, last]| *first..=*last);
            let (Some(one), more) = (classes.next(), classes.next()) else { return };
            let Some(more) = more else { return join(rows, of_class(one)) };
            let mut any = of_class(one).to_vec();
            for class in std::iter::once(more).chain(classes) {
                any.iter_mut().zip(of_class(class)).for_each(|(any, rows)| *any |= rows);
            }
            return join(rows, &any);
        }
        let begun = &self.by_begin[(self.begun[last as usize] as usize).div_ceil(self.step) * words + from..];
        let unended = &self.by_end[(self.unended[first as usize] as usize).div_ceil(self.step) * words + from..];
        for ((row, begun), unended) in rows.iter_mut().zip(begun).zip(unended) {
            *row &= begun & unended;
        }
    }
}

/// Rows sorted by a class: how many are at each class or before it, and bit sets of the first `step`,
/// two times `step` and so on.
fn sorted(rows: usize, classes: usize, words: usize, step: usize, class: impl Fn(usize) -> usize) -> (Vec<u32>, Vec<u64>) {
    let mut counts = vec![0u32; classes];
    for row in 0..rows {
        counts[class(row)] += 1;
    }
    for class in 1..classes {
        counts[class] += counts[class - 1];
    }
    // From the back, so that each count is where the next row of its class goes.
    let mut next = counts.clone();
    let mut order = vec![0u32; rows];
    for row in (0..rows).rev() {
        let at = &mut next[class(row)];
        *at -= 1;
        order[*at as usize] = u32::try_from(row).expect("rows are u32");
    }
    let mut sets = vec![0u64; (rows.div_ceil(step) + 1) * words];
    for (at, chunk) in order.chunks(step).enumerate() {
        let (before, own) = sets.split_at_mut((at + 1) * words);
        own[..words].copy_from_slice(&before[at * words..]);
        for row in chunk {
            own[*row as usize / 64] |= 1 << (row % 64);
        }
    }
    (counts, sets)
}
