//! What of a box a few rows leave open.
//!
//! In: a box, and the rows that meet it. Out: that they take all of it, with those that were needed, or
//! what is left. Never: more steps than the budget has.
//!
//! First by cutting: take the row that covers most, cut the box at its faces, look into what is outside
//! it. An open box ends it at once, and most do within a few cuts. What cutting does not settle is looked
//! at field by field: the classes of a field that meet the same rows are one case, and cases with the
//! same rows left are looked at once.

use std::collections::{HashMap, HashSet};

use super::grid::{self, Grid, PROTOCOL, Region, Span};
use super::mixer::Quick;
use super::{Budget, Exhausted};

/// Cuts until looking field by field is the better way.
const CUTS: u32 = 64;

pub(super) struct Search<'g> {
    grid: &'g Grid,
    /// Rows that meet the boxes being cut, one list after the other.
    lists: Vec<u32>,
    /// The boxes, likewise.
    boxes: Vec<Span>,
    cuts: u32,
}

/// In which fields a row does not take all of a box.
pub(super) enum Short {
    Nothing,
    One(usize),
    More,
}

/// Whether a box is open somewhere.
enum Cut {
    Covered,
    Open,
    /// Too many cuts.
    Unsettled,
}

impl<'g> Search<'g> {
    pub(super) fn new(grid: &'g Grid) -> Self {
        Self { grid, lists: Vec::new(), boxes: Vec::new(), cuts: 0 }
    }

    /// Whether `rows` take all of `region` together. Those that were needed are added to `used`.
    /// INVARIANT: each of the rows meets the region.
    pub(super) fn is_covered(&mut self, region: &Region, rows: &[u32], used: &mut Vec<u32>, budget: &mut Budget) -> Result<bool, Exhausted> {
        budget.spend(rows.len() as u64 + 1)?;
        if rows.is_empty() {
            return Ok(false);
        }
        let mut slabs = Vec::new();
        for row in rows {
            match self.short_of(*row, region) {
                Short::Nothing => {
                    used.push(*row);
                    return Ok(true);
                }
                Short::One(axis) => slabs.push((axis, *row)),
                Short::More => {}
            }
        }
        let before = used.len();
        if region.is_plain() && rows.iter().all(|row| self.grid.is_plain(*row as usize)) {
            self.lists.clear();
            self.lists.extend(rows);
            self.boxes.clear();
            self.boxes.extend(&region.spans);
            self.cuts = CUTS;
            match self.cut(0, used, budget)? {
                Cut::Covered => return Ok(true),
                Cut::Open => return Ok(false),
                Cut::Unsettled => used.truncate(before),
            }
        }
        let mut region = region.clone();
        let mut rows = rows.to_vec();
        if !self.trim(&mut region, &mut rows, slabs, used, budget)? {
            return Ok(true);
        }
        if rows.is_empty() {
            return Ok(false);
        }
        let mut fields = Fields::new(self.grid, &region, &rows, false);
        let is_covered = !fields.any_open(None, budget)?;
        if is_covered {
            used.extend(rows.iter().zip(&fields.used).filter(|(_, is_used)| **is_used).map(|(row, _)| *row));
        }
        Ok(is_covered)
    }

    /// In how many fields a row does not take all of a region.
    pub(super) fn short_of(&self, row: u32, region: &Region) -> Short {
        let mut short = Short::Nothing;
        for (axis, (own, other)) in region.spans.iter().zip(self.grid.spans(row as usize)).enumerate() {
            let is_full = other[0] <= own[0]
                && own[1] <= other[1]
                && (self.grid.has_one_span(row as usize, axis) || grid::is_subset(region.field(axis), self.grid.field(row as usize, axis)));
            if !is_full {
                match short {
                    Short::Nothing => short = Short::One(axis),
                    _ => return Short::More,
                }
            }
        }
        short
    }

    /// Takes out of `region` what rows take that are short of it in one field only, as long as there are
    /// some; leaves in `rows` those that meet the rest. Whether there is a rest.
    fn trim(&self, region: &mut Region, rows: &mut Vec<u32>, mut slabs: Vec<(usize, u32)>, used: &mut Vec<u32>, budget: &mut Budget) -> Result<bool, Exhausted> {
        while !slabs.is_empty() {
            budget.spend(rows.len() as u64)?;
            // By where they begin, the longest first: so that few are needed.
            let order = |(axis, row): &(usize, u32)| {
                let span = self.grid.spans(*row as usize)[*axis];
                (*axis, span[0], u32::MAX - span[1], *row)
            };
            slabs.sort_unstable_by_key(order);
            for slabs in slabs.chunk_by(|a, b| a.0 == b.0) {
                let axis = slabs[0].0;
                // Those that earlier ones reach past are not needed.
                let mut reach = None;
                let mut taken: Vec<Span> = Vec::new();
                for (_, row) in slabs {
                    let last = self.grid.spans(*row as usize)[axis][1];
                    if self.grid.has_one_span(*row as usize, axis) {
                        if reach.is_some_and(|reach| last <= reach) {
                            continue;
                        }
                        reach = Some(last);
                    }
                    used.push(*row);
                    taken.extend(self.grid.field(*row as usize, axis));
                }
                let rest = grid::difference(region.field(axis), taken);
                if rest.is_empty() {
                    return Ok(false);
                }
                region.set_field(axis, rest);
            }
            rows.retain(|row| self.grid.meets(region, *row as usize));
            slabs.clear();
            for row in rows.iter() {
                match self.short_of(*row, region) {
                    Short::Nothing => {
                        used.push(*row);
                        return Ok(false);
                    }
                    Short::One(axis) => slabs.push((axis, *row)),
                    Short::More => {}
                }
            }
        }
        Ok(true)
    }

    /// As few of `rows` as take all of `region` together, in order: none of them can be spared, and where
    /// there is a choice, earlier ones are kept. `None`: it is not covered.
    pub(super) fn needed(&mut self, region: &Region, rows: &[u32], budget: &mut Budget) -> Result<Option<Vec<u32>>, Exhausted> {
        let mut used = Vec::new();
        if !self.is_covered(region, rows, &mut used, budget)? {
            return Ok(None);
        }
        used.sort_unstable();
        used.dedup();
        let mut at = used.len();
        while at > 0 && used.len() > 1 {
            at -= 1;
            let mut others = used.clone();
            others.remove(at);
            // It is known that the row is covered: out of budget, what there is stays.
            if matches!(self.is_covered(region, &others, &mut Vec::new(), budget), Ok(true)) {
                used = others;
            }
        }
        Ok(Some(used))
    }

    /// What `rows` leave of `region`, in disjoint boxes. Protocols are told apart first, so that ports
    /// are only where all protocols have them.
    pub(super) fn left(&mut self, region: &Region, rows: &[u32], budget: &mut Budget) -> Result<Vec<Region>, Exhausted> {
        budget.spend(rows.len() as u64 + 1)?;
        if rows.is_empty() {
            return Ok(vec![region.clone()]);
        }
        if rows.iter().any(|row| self.grid.covers(*row as usize, region)) {
            return Ok(Vec::new());
        }
        let mut left = Vec::new();
        Fields::new(self.grid, region, rows, true).any_open(Some(&mut left), budget)?;
        Ok(left)
    }

    /// The box at the end of `boxes` against the rows of `lists` from `from` on.
    fn cut(&mut self, from: usize, used: &mut Vec<u32>, budget: &mut Budget) -> Result<Cut, Exhausted> {
        let width = self.grid.width();
        let at = self.boxes.len() - width;
        let end = self.lists.len();
        if from == end {
            return Ok(Cut::Open);
        }
        budget.spend((end - from) as u64)?;
        let Some(cuts) = self.cuts.checked_sub(1) else { return Ok(Cut::Unsettled) };
        self.cuts = cuts;
        // The row that takes most of the box.
        let mut best = (-1.0, 0);
        for &row in &self.lists[from..end] {
            let mut share = 1.0f32;
            for (own, other) in self.boxes[at..].iter().zip(self.grid.spans(row as usize)) {
                if other[0] > own[0] || other[1] < own[1] {
                    #[expect(clippy::cast_precision_loss, reason = "only which is more")]
                    let (both, whole) = ((own[1].min(other[1]) - own[0].max(other[0]) + 1) as f32, (own[1] - own[0] + 1) as f32);
                    share *= both / whole;
                }
            }
            if share > best.0 {
                best = (share, row);
            }
        }
        let row = best.1;
        // What is outside it, field by field, the part that is left inside the fields before.
        for axis in 0..width {
            let ([first, last], [inner_first, inner_last]) = (self.boxes[at + axis], self.grid.spans(row as usize)[axis]);
            for outside in [(first < inner_first).then(|| [first, inner_first - 1]), (inner_last < last).then(|| [inner_last + 1, last])] {
                let Some(outside) = outside else { continue };
                self.boxes.extend_from_within(at..at + width);
                self.boxes[at + width + axis] = outside;
                for place in from..end {
                    let row = self.lists[place];
                    let own = &self.boxes[at + width..];
                    if own.iter().zip(self.grid.spans(row as usize)).all(|(a, b)| a[0] <= b[1] && b[0] <= a[1]) {
                        self.lists.push(row);
                    }
                }
                let cut = self.cut(end, used, budget)?;
                self.lists.truncate(end);
                self.boxes.truncate(at + width);
                if !matches!(cut, Cut::Covered) {
                    return Ok(cut);
                }
            }
            self.boxes[at + axis] = [first.max(inner_first), last.min(inner_last)];
        }
        used.push(row);
        Ok(Cut::Covered)
    }
}

/// A box and rows, looked at field by field.
struct Fields<'a> {
    grid: &'a Grid,
    region: &'a Region,
    /// The rows that meet it; below they go by their places here.
    rows: &'a [u32],
    /// Words of a set of axes.
    words: usize,
    /// By row: the axes of which it takes all.
    full: Vec<u64>,
    /// Axes that are left, and rows that take all that is left of them.
    covered: HashSet<Box<[u32]>, Quick>,
    used: Vec<bool>,
    /// The fields on the way.
    path: Vec<(usize, Vec<Span>)>,
    /// Whether protocols are told apart before all else.
    protocols_first: bool,
}

impl<'a> Fields<'a> {
    fn new(grid: &'a Grid, region: &'a Region, rows: &'a [u32], protocols_first: bool) -> Self {
        let words = grid.width().div_ceil(64);
        let mut full = vec![0; rows.len() * words];
        for (at, row) in rows.iter().enumerate() {
            for axis in 0..grid.width() {
                if grid::is_subset(region.field(axis), grid.field(*row as usize, axis)) {
                    full[at * words + axis / 64] |= 1 << (axis % 64);
                }
            }
        }
        Self { grid, region, rows, words, full, covered: HashSet::default(), used: vec![false; rows.len()], path: Vec::new(), protocols_first }
    }

    /// Whether anything is open. With `left`, all that is open is added to it.
    fn any_open(&mut self, left: Option<&mut Vec<Region>>, budget: &mut Budget) -> Result<bool, Exhausted> {
        let mut axes = vec![0; self.words];
        (0..self.grid.width()).for_each(|axis| axes[axis / 64] |= 1 << (axis % 64));
        let rows: Vec<u32> = (0..).take(self.rows.len()).collect();
        self.open(&mut axes, &rows, left, budget)
    }

    /// The same with these axes and rows left.
    fn open(&mut self, axes: &mut Vec<u64>, rows: &[u32], mut left: Option<&mut Vec<Region>>, budget: &mut Budget) -> Result<bool, Exhausted> {
        if rows.is_empty() {
            if let Some(left) = left {
                let fields = self.path.iter().cloned();
                left.push(fields.fold(self.region.clone(), |region, (axis, field)| region.with_field(axis, field)));
            }
            return Ok(true);
        }
        budget.spend(rows.len() as u64)?;
        // How many rows ask something of each axis.
        let mut asked = vec![0u32; self.grid.width()];
        for &row in rows {
            let mut is_full = true;
            for (word, axes) in axes.iter().enumerate() {
                let mut short = axes & !self.full[row as usize * self.words + word];
                is_full &= short == 0;
                while short != 0 {
                    asked[word * 64 + short.trailing_zeros() as usize] += 1;
                    short &= short - 1;
                }
            }
            if is_full {
                // One is enough, the first.
                self.used[row as usize] = true;
                return Ok(false);
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "both halves are kept")]
        let axes_left = axes.iter().flat_map(|axes| [*axes as u32, (axes >> 32) as u32]);
        let key: Box<[u32]> = axes_left.chain(rows.iter().copied()).collect();
        if self.covered.contains(&key) {
            return Ok(false);
        }
        let most_asked = || asked.iter().enumerate().max_by_key(|(axis, count)| (**count, std::cmp::Reverse(*axis))).map(|(axis, _)| axis);
        let axis = Some(PROTOCOL).filter(|axis| self.protocols_first && asked[*axis] > 0).or_else(most_asked).expect("there are axes");
        let global: Vec<u32> = rows.iter().map(|row| self.rows[*row as usize]).collect();
        let field = Field::new(self.grid, axis, self.region, &global, budget)?;
        let mut order: Vec<(u32, usize)> = (0..field.classes).map(|class| (0, class)).collect();
        if left.is_none() {
            // Where few rows are left, something is open soonest.
            for (count, class) in &mut order {
                *count = field.rows(*class).iter().map(|word| word.count_ones()).sum();
            }
            order.sort_unstable();
        }
        axes[axis / 64] ^= 1 << (axis % 64);
        let mut is_open = false;
        for (_, class) in order {
            let own: Vec<u32> = field.rows_of(class).map(|at| rows[at]).collect();
            if left.is_some() {
                self.path.push((axis, field.spans_of(class)));
            }
            is_open |= self.open(axes, &own, left.as_deref_mut(), budget)?;
            if left.is_some() {
                self.path.pop();
            } else if is_open {
                return Ok(true);
            }
        }
        axes[axis / 64] ^= 1 << (axis % 64);
        if !is_open {
            self.covered.insert(key);
        }
        Ok(is_open)
    }
}

/// What rows make of one field.
pub(super) struct Field {
    pub(super) classes: usize,
    /// Words of a set of rows.
    words: usize,
    /// The rows of each class, one set after the other.
    rows: Vec<u64>,
    /// What the classes are, in order.
    spans: Vec<(usize, Span)>,
}

impl Field {
    pub(super) fn new(grid: &Grid, axis: usize, region: &Region, rows: &[u32], budget: &mut Budget) -> Result<Self, Exhausted> {
        let words = rows.len().div_ceil(64);
        let whole = region.field(axis);
        let mut cuts: Vec<u32> = whole.iter().flat_map(|span| [span[0], span[1] + 1]).collect();
        for row in rows {
            let near = grid::near(grid.field(*row as usize, axis), region.spans[axis]);
            match (near, whole) {
                ([one], [own]) if one[0] <= own[0] && own[1] <= one[1] => {}
                _ => cuts.extend(near.iter().flat_map(|span| [span[0], span[1] + 1])),
            }
        }
        cuts.sort_unstable();
        cuts.dedup();
        // Before memory is taken: eight bytes a step.
        budget.spend((cuts.len() * words) as u64)?;
        let mut turns = vec![0u64; cuts.len() * words];
        for (at, row) in rows.iter().enumerate() {
            for span in grid::near(grid.field(*row as usize, axis), region.spans[axis]) {
                // Ends outside the region's are not among the cuts when the row takes all of it.
                let begin = cuts.partition_point(|cut| *cut < span[0]);
                let end = begin + cuts[begin..].partition_point(|cut| *cut <= span[1]);
                turns[begin * words + at / 64] ^= 1 << (at % 64);
                if end < cuts.len() {
                    turns[end * words + at / 64] ^= 1 << (at % 64);
                }
            }
        }
        for at in words..turns.len() {
            turns[at] ^= turns[at - words];
        }
        let mut field = Self { classes: 0, words, rows: Vec::new(), spans: Vec::new() };
        let mut known: HashMap<&[u64], usize, Quick> = HashMap::default();
        let mut rest = whole;
        for (at, pair) in cuts.windows(2).enumerate() {
            let span = [pair[0], pair[1] - 1];
            while rest.first().is_some_and(|own| own[1] < span[0]) {
                rest = &rest[1..];
            }
            let Some(own) = rest.first() else { break };
            if span[1] < own[0] {
                continue;
            }
            let of_span = &turns[at * words..(at + 1) * words];
            let class = *known.entry(of_span).or_insert_with(|| {
                field.rows.extend(of_span);
                field.classes += 1;
                field.classes - 1
            });
            field.spans.push((class, span));
        }
        Ok(field)
    }

    fn rows(&self, class: usize) -> &[u64] {
        &self.rows[class * self.words..(class + 1) * self.words]
    }

    /// The places of the rows of a class.
    pub(super) fn rows_of(&self, class: usize) -> impl Iterator<Item = usize> {
        let bits = |(at, mut word): (usize, u64)| {
            std::iter::from_fn(move || {
                let bit = (word != 0).then(|| at * 64 + word.trailing_zeros() as usize);
                word &= word.wrapping_sub(1);
                bit
            })
        };
        self.rows(class).iter().copied().enumerate().flat_map(bits)
    }

    pub(super) fn spans_of(&self, class: usize) -> Vec<Span> {
        let mut joined: Vec<Span> = Vec::new();
        for (_, span) in self.spans.iter().filter(|(of, _)| *of == class) {
            match joined.last_mut() {
                Some(last) if last[1] + 1 == span[0] => last[1] = span[1],
                _ => joined.push(*span),
            }
        }
        joined
    }
}
