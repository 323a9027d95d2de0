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
use std::hash::Hasher;

use super::grid::{self, Grid, PROTOCOL, Region, Span};
use super::mixer::{Mixer, Quick};
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
        let mut fields = Fields::new(self.grid, &region, &rows, budget)?;
        let is_covered = !fields.open(0, &fields.all.clone(), None, budget)?;
        if is_covered {
            used.extend(rows.iter().enumerate().filter(|(at, _)| fields.used[at / 64] >> (at % 64) & 1 == 1).map(|(_, row)| *row));
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
        let mut fields = Fields::new(self.grid, region, rows, budget)?;
        let mut left = Vec::new();
        fields.open(0, &fields.all.clone(), Some(&mut left), budget)?;
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

/// A box and rows, in the classes that these rows tell apart.
struct Fields<'r> {
    region: &'r Region,
    fields: Vec<Field>,
    /// Words of a set of rows.
    words: usize,
    all: Vec<u64>,
    /// By field: rows that take all of it and of those after it.
    full_from: Vec<Vec<u64>>,
    /// By field: sets of rows that take all that is left from there on.
    covered: Vec<HashSet<Box<[u64]>, Quick>>,
    used: Vec<u64>,
    /// By field: the cases that are being looked at.
    cases: Vec<Cases>,
}

/// The classes of a field, those with the same rows left together.
#[derive(Default)]
struct Cases {
    /// The rows left, one case after the other.
    rows: Vec<u64>,
    of_class: Vec<u32>,
    /// Places of cases by their rows' hash; 0 is free, else one more than the case.
    places: Vec<u32>,
    /// In which order they are looked at.
    order: Vec<(u32, u32)>,
    /// The one that is.
    now: u32,
}

impl<'r> Fields<'r> {
    fn new(grid: &Grid, region: &'r Region, rows: &[u32], budget: &mut Budget) -> Result<Self, Exhausted> {
        let words = rows.len().div_ceil(64);
        let mut fields = Vec::new();
        for axis in 0..grid.width() {
            fields.extend(Field::new(grid, axis, region, rows, words, budget)?);
        }
        // Few cases first; protocols before all, see `left`.
        fields.sort_by_key(|field| (field.axis != PROTOCOL, field.classes, field.axis));
        let mut all = vec![!0; words];
        if !rows.len().is_multiple_of(64) {
            all[words - 1] = (1 << (rows.len() % 64)) - 1;
        }
        let mut full_from = vec![all.clone(); fields.len() + 1];
        for (at, field) in fields.iter().enumerate().rev() {
            let mut full = full_from[at + 1].clone();
            for of_class in field.rows.chunks_exact(words) {
                full.iter_mut().zip(of_class).for_each(|(full, rows)| *full &= rows);
            }
            full_from[at] = full;
        }
        let covered = fields.iter().map(|_| HashSet::default()).collect();
        let cases = fields.iter().map(|_| Cases::default()).collect();
        Ok(Self { region, fields, words, all, full_from, covered, used: vec![0; words], cases })
    }

    /// Whether anything is open from field `at` on, with these rows left. With `left`, all that is open is
    /// added to it.
    fn open(&mut self, at: usize, rows: &[u64], mut left: Option<&mut Vec<Region>>, budget: &mut Budget) -> Result<bool, Exhausted> {
        if rows.iter().all(|word| *word == 0) {
            if let Some(left) = left {
                left.push(self.so_far(at));
            }
            return Ok(true);
        }
        let full = rows.iter().zip(&self.full_from[at]).enumerate().find(|(_, (rows, full))| *rows & *full != 0);
        if let Some((word, (rows, full))) = full {
            // One is enough, the first.
            self.used[word] |= 1 << (rows & full).trailing_zeros();
            return Ok(false);
        }
        if self.covered[at].contains(rows) {
            return Ok(false);
        }
        budget.spend(u64::from(self.fields[at].classes) * self.words as u64)?;
        let mut cases = std::mem::take(&mut self.cases[at]);
        cases.fill(rows, &self.fields[at], left.is_none());
        let order = std::mem::take(&mut cases.order);
        let case_rows = std::mem::take(&mut cases.rows);
        self.cases[at] = cases;
        let mut is_open = false;
        for (_, case) in &order {
            self.cases[at].now = *case;
            let own = &case_rows[*case as usize * self.words..][..self.words];
            is_open |= self.open(at + 1, own, left.as_deref_mut(), budget)?;
            if is_open && left.is_none() {
                return Ok(true);
            }
        }
        // The next time they need not be allocated.
        self.cases[at].order = order;
        self.cases[at].rows = case_rows;
        if !is_open {
            self.covered[at].insert(rows.into());
        }
        Ok(is_open)
    }

    fn so_far(&self, fields: usize) -> Region {
        let mut region = self.region.clone();
        for (field, cases) in self.fields[..fields].iter().zip(&self.cases) {
            let mut joined: Vec<Span> = Vec::new();
            for (class, span) in &field.spans {
                if cases.of_class[*class as usize] == cases.now {
                    match joined.last_mut() {
                        Some(last) if last[1] + 1 == span[0] => last[1] = span[1],
                        _ => joined.push(*span),
                    }
                }
            }
            region = region.with_field(field.axis, joined);
        }
        region
    }
}

impl Cases {
    fn fill(&mut self, rows: &[u64], field: &Field, few_first: bool) {
        let words = rows.len();
        let places = (field.classes as usize * 2).next_power_of_two();
        self.places.clear();
        self.places.resize(places, 0);
        self.rows.clear();
        self.of_class.clear();
        self.order.clear();
        for of_class in field.rows.chunks_exact(words) {
            let begin = self.rows.len();
            let mut mixer = Mixer::default();
            for (a, b) in rows.iter().zip(of_class) {
                self.rows.push(a & b);
                mixer.write_u64(a & b);
            }
            #[expect(clippy::cast_possible_truncation, reason = "any bits do")]
            let mut place = mixer.finish() as usize & (places - 1);
            let number = u32::try_from(begin / words).expect("no more than classes");
            loop {
                match self.places[place].checked_sub(1) {
                    None => {
                        self.places[place] = number + 1;
                        self.of_class.push(number);
                        self.order.push((0, number));
                        break;
                    }
                    Some(case) if self.rows[case as usize * words..][..words] == self.rows[begin..] => {
                        self.rows.truncate(begin);
                        self.of_class.push(case);
                        break;
                    }
                    Some(_) => place = (place + 1) & (places - 1),
                }
            }
        }
        if few_first {
            // Where few rows are left, something is open soonest.
            for (count, case) in &mut self.order {
                *count = self.rows[*case as usize * words..][..words].iter().map(|word| word.count_ones()).sum();
            }
            self.order.sort_unstable();
        }
    }
}

/// What rows make of one field.
struct Field {
    axis: usize,
    classes: u32,
    /// The rows of each class, one set after the other.
    rows: Vec<u64>,
    /// What the classes are, in order.
    spans: Vec<(u32, Span)>,
}

impl Field {
    /// `None` when each row takes all of the region's field.
    fn new(grid: &Grid, axis: usize, region: &Region, rows: &[u32], words: usize, budget: &mut Budget) -> Result<Option<Self>, Exhausted> {
        let whole = region.field(axis);
        let mut cuts: Vec<u32> = Vec::new();
        let mut is_whole = true;
        for row in rows {
            let field = grid.field(*row as usize, axis);
            let near = grid::near(field, region.spans[axis]);
            if let ([one], [own]) = (near, whole)
                && one[0] <= own[0]
                && own[1] <= one[1]
            {
                continue;
            }
            is_whole = false;
            for span in near {
                cuts.extend([span[0], span[1] + 1]);
            }
        }
        if is_whole {
            return Ok(None);
        }
        cuts.extend(whole.iter().flat_map(|span| [span[0], span[1] + 1]));
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
        let mut field = Self { axis, classes: 0, rows: Vec::new(), spans: Vec::new() };
        let mut known: HashMap<&[u64], u32, Quick> = HashMap::default();
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
        Ok(Some(field))
    }
}
