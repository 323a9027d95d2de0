//! Rows in small coordinates: all fields alike, whatever their width.
//!
//! In: rows of sets. Out: for each field the classes of points that no row tells apart, numbered in
//! order, and each row as ranges of classes. Never: rounding; what is asked of the classes is asked
//! of the points.
//!
//! Addresses of both families, ports and variables become `u32` here. A set of a million prefixes is
//! a handful of classes when few rows look into it.

use std::collections::HashMap;

use crate::flow_set::{Cube, UpperCube};
use crate::interval::{Interval, IntervalSet, Point};
use crate::matches::{Address, Conditions, Matches, Variable};

use super::mixer::Quick;

/// Classes from the first to the last, both included.
pub(super) type Span = [u32; 2];

/// The fields of the header; a variable each follow.
pub(super) const PROTOCOL: usize = 2;
const HEADER: usize = 5;

/// No set: the span says all.
const SINGLE: u32 = u32::MAX;

/// Numbers that are kept of sets of sets while classes are joined; past it they are no longer joined,
/// which costs time and not truth.
const JOINED: usize = 1 << 24;

pub(super) struct Grid {
    axes: Vec<Axis>,
    variables: Vec<Variable>,
    rows: usize,
    /// By row, then by axis: what the row's classes lie in.
    spans: Vec<Span>,
    /// In the same order: the place in the axis' `sets`. Empty when no row has one.
    set_of: Vec<u32>,
    /// Rows that match nothing, since a field has no point.
    void: Vec<bool>,
}

struct Axis {
    /// The first number of each cell, ascending from 0.
    starts: Vec<u128>,
    /// The cells of each class one after the other, and where each class begins (and the last ends).
    /// Empty when each cell is a class of its own.
    cells: Vec<u32>,
    begins: Vec<u32>,
    classes: u32,
    /// The last number of the field.
    last: u128,
    /// Classes of rows that are more than one span, in order.
    sets: Vec<Vec<Span>>,
}

/// A box: for each axis a set of classes.
#[derive(Clone, Debug)]
pub(super) struct Region {
    /// What the classes lie in.
    pub(super) spans: Vec<Span>,
    /// For each axis the spans when they are more than one. Empty when none has more.
    pub(super) sets: Vec<Vec<Span>>,
}

impl Region {
    pub(super) fn field(&self, axis: usize) -> &[Span] {
        match self.sets.get(axis) {
            Some(set) if !set.is_empty() => set,
            _ => std::slice::from_ref(&self.spans[axis]),
        }
    }

    pub(super) fn is_plain(&self) -> bool {
        self.sets.is_empty()
    }

    /// The spans of an axis, sorted and disjoint, at least one.
    pub(super) fn set_field(&mut self, axis: usize, mut field: Vec<Span>) {
        let (first, last) = (field[0], field[field.len() - 1]);
        self.spans[axis] = [first[0], last[1]];
        if field.len() == 1 {
            if let Some(set) = self.sets.get_mut(axis) {
                set.clear();
            }
            return;
        }
        if self.sets.is_empty() {
            self.sets = vec![Vec::new(); self.spans.len()];
        }
        field.shrink_to_fit();
        self.sets[axis] = field;
    }

    pub(super) fn with_field(mut self, axis: usize, field: Vec<Span>) -> Self {
        self.set_field(axis, field);
        self
    }
}

impl Grid {
    pub(super) fn new<A: Address>(rows: &[&Matches<A>]) -> Self {
        let mut variables: Vec<&Variable> = rows.iter().flat_map(|row| row.conditions.iter().map(|(variable, _)| variable)).collect();
        variables.sort_unstable();
        variables.dedup();
        let mut grid = Self {
            axes: Vec::with_capacity(HEADER + variables.len()),
            rows: rows.len(),
            spans: vec![[0; 2]; rows.len() * (HEADER + variables.len())],
            set_of: Vec::new(),
            void: vec![false; rows.len()],
            variables: variables.into_iter().cloned().collect(),
        };
        let width = HEADER + grid.variables.len();
        grid.add(0, width, rows.iter().map(|row| Some(&row.cube.source)));
        grid.add(1, width, rows.iter().map(|row| Some(&row.cube.destination)));
        grid.add(PROTOCOL, width, rows.iter().map(|row| Some(row.cube.upper.protocols())));
        grid.add(3, width, rows.iter().map(|row| Some(row.cube.upper.destination_ports())));
        grid.add(4, width, rows.iter().map(|row| Some(row.cube.upper.source_ports())));
        for (at, variable) in grid.variables.clone().iter().enumerate() {
            grid.add(HEADER + at, width, rows.iter().map(|row| row.conditions.values(variable)));
        }
        grid
    }

    /// One more axis, with what each row has there; `None` is everything.
    fn add<'r, P: Point + 'r>(&mut self, axis: usize, width: usize, fields: impl Iterator<Item = Option<&'r IntervalSet<P>>>) {
        let mut ends = Ends::default();
        let mut sets = Sets { of_place: HashMap::new(), of_value: HashMap::new(), all: Vec::new() };
        let mut set_of: Vec<(usize, u32)> = Vec::new();
        for (row, field) in fields.enumerate() {
            match field.map_or(&[Interval::FULL][..], IntervalSet::intervals) {
                [] => {
                    self.void[row] = true;
                    ends.push(Interval::<P>::FULL);
                }
                [one] => ends.push(*one),
                _ => {
                    let field = field.expect("full is one interval");
                    set_of.push((row, sets.number(field)));
                    ends.push(Interval::<P>::FULL);
                }
            }
        }
        let singles = self.rows;
        for set in &sets.all {
            for interval in set.intervals() {
                ends.push(*interval);
            }
        }
        let (starts, cells) = ends.cells(size_of::<P>() <= 4);
        let last = P::MAX.number();
        let mut added = Axis { cells: Vec::new(), begins: Vec::new(), classes: u32::try_from(starts.len()).expect("fewer than 2^32 ends"), starts, last, sets: Vec::new() };
        let mut of_singles = cells;
        if !sets.all.is_empty() {
            let of_sets = of_singles.split_off(singles);
            let mut rest = &of_sets[..];
            let by_set: Vec<&[Span]> = sets
                .all
                .iter()
                .map(|set| {
                    let (own, others) = rest.split_at(set.intervals().len());
                    rest = others;
                    own
                })
                .collect();
            added.join(&mut of_singles, &by_set);
        }
        for (row, span) in of_singles.iter().enumerate() {
            self.spans[row * width + axis] = *span;
        }
        for (row, set) in set_of {
            let spans = &added.sets[set as usize];
            self.spans[row * width + axis] = [spans[0][0], spans[spans.len() - 1][1]];
            if spans.len() > 1 {
                if self.set_of.is_empty() {
                    self.set_of = vec![SINGLE; self.rows * width];
                }
                self.set_of[row * width + axis] = set;
            }
        }
        self.axes.push(added);
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn width(&self) -> usize {
        self.axes.len()
    }

    pub(super) fn classes(&self, axis: usize) -> u32 {
        self.axes[axis].classes
    }

    pub(super) fn is_void(&self, row: usize) -> bool {
        self.void[row]
    }

    pub(super) fn spans(&self, row: usize) -> &[Span] {
        let width = self.axes.len();
        &self.spans[row * width..(row + 1) * width]
    }

    /// Whether each of its fields is one span.
    pub(super) fn is_plain(&self, row: usize) -> bool {
        let width = self.axes.len();
        self.set_of.is_empty() || self.set_of[row * width..(row + 1) * width].iter().all(|set| *set == SINGLE)
    }

    pub(super) fn has_one_span(&self, row: usize, axis: usize) -> bool {
        self.set_of.is_empty() || self.set_of[row * self.axes.len() + axis] == SINGLE
    }

    pub(super) fn field(&self, row: usize, axis: usize) -> &[Span] {
        let at = row * self.axes.len() + axis;
        match self.set_of.get(at) {
            Some(&set) if set != SINGLE => &self.axes[axis].sets[set as usize],
            _ => std::slice::from_ref(&self.spans[at]),
        }
    }

    /// Everything.
    pub(super) fn whole(&self) -> Region {
        Region { spans: self.axes.iter().map(|axis| [0, axis.classes - 1]).collect(), sets: Vec::new() }
    }

    pub(super) fn region(&self, row: usize) -> Region {
        let mut region = Region { spans: self.spans(row).to_vec(), sets: Vec::new() };
        if !self.is_plain(row) {
            for axis in 0..self.width() {
                if self.field(row, axis).len() > 1 {
                    region.set_field(axis, self.field(row, axis).to_vec());
                }
            }
        }
        region
    }

    /// What of a region a row matches; `None`: nothing.
    pub(super) fn clip(&self, region: &Region, row: usize) -> Option<Region> {
        let spans: Vec<Span> = region.spans.iter().zip(self.spans(row)).map(|(a, b)| [a[0].max(b[0]), a[1].min(b[1])]).collect();
        if self.void[row] || spans.iter().any(|span| span[0] > span[1]) {
            return None;
        }
        let mut both = Region { spans, sets: Vec::new() };
        if !region.is_plain() || !self.is_plain(row) {
            for axis in 0..self.width() {
                let (a, b) = (region.field(axis), self.field(row, axis));
                if a.len() > 1 || b.len() > 1 {
                    let field = intersection(a, b);
                    if field.is_empty() {
                        return None;
                    }
                    both.set_field(axis, field);
                }
            }
        }
        Some(both)
    }

    /// Whether a row matches anything of a region.
    pub(super) fn meets(&self, region: &Region, row: usize) -> bool {
        let in_spans = region.spans.iter().zip(self.spans(row)).all(|(a, b)| a[0] <= b[1] && b[0] <= a[1]);
        in_spans
            && !self.void[row]
            && ((region.is_plain() && self.is_plain(row))
                || (0..self.width()).all(|axis| {
                    let (a, b) = (region.field(axis), self.field(row, axis));
                    (a.len() == 1 && b.len() == 1) || meet(a, b)
                }))
    }

    /// Whether a row matches all of a region.
    pub(super) fn covers(&self, row: usize, region: &Region) -> bool {
        let in_spans = region.spans.iter().zip(self.spans(row)).all(|(a, b)| b[0] <= a[0] && a[1] <= b[1]);
        in_spans
            && !self.void[row]
            && (self.is_plain(row) || (0..self.width()).all(|axis| is_subset(region.field(axis), self.field(row, axis))))
    }

    /// The region as a row asks for it.
    pub(super) fn matches<A: Address>(&self, region: &Region) -> Matches<A> {
        let upper = UpperCube::of_fields(self.set(PROTOCOL, region), self.set(3, region), self.set(4, region));
        let cube = Cube { source: self.set(0, region), destination: self.set(1, region), upper };
        let all = Conditions::default();
        let conditions = self.variables.iter().enumerate().fold(all, |conditions, (at, variable)| {
            conditions.and(variable.clone(), &self.set(HEADER + at, region)).expect("no region is empty")
        });
        Matches { cube, conditions }
    }

    fn set<P: Point>(&self, axis: usize, region: &Region) -> IntervalSet<P> {
        let point = |number| P::of_number(number).expect("a number of the field");
        let interval = |[first, last]: [u128; 2]| Interval::new(point(first), point(last)).expect("an ordered pair");
        self.axes[axis].numbers(region.field(axis)).into_iter().map(interval).collect()
    }
}

impl Axis {
    /// Joins the cells that no row tells apart: between two ends of single spans, those that are in the
    /// same sets. Turns `singles` into classes, and `by_set` into `self.sets`.
    fn join(&mut self, singles: &mut [Span], by_set: &[&[Span]]) {
        let cells = self.starts.len();
        let mut is_end = vec![false; cells + 1];
        for [first, last] in singles.iter() {
            is_end[*first as usize] = true;
            is_end[*last as usize + 1] = true;
        }
        let mut turns: Vec<(u32, u32)> = Vec::new();
        for (set, spans) in (0..).zip(by_set) {
            turns.extend(spans.iter().flat_map(|[first, last]| [(*first, set), (*last + 1, set)]));
        }
        turns.sort_unstable();
        let mut turns = turns.into_iter().peekable();
        let mut seen = Signatures::default();
        let mut signature = seen.number(Vec::new());
        let mut segment = 0u32;
        // The first class of each segment.
        let mut firsts = Vec::new();
        let mut of_both: HashMap<(u32, u32), u32, Quick> = HashMap::default();
        let mut class_of = Vec::with_capacity(cells);
        let mut segment_of = Vec::with_capacity(cells);
        let mut classes = 0;
        for cell in 0..u32::try_from(cells).expect("classes are u32") {
            if is_end[cell as usize] {
                segment = u32::try_from(firsts.len()).expect("no more than cells");
                firsts.push(classes);
            }
            while let Some((_, set)) = turns.next_if(|(at, _)| *at == cell) {
                signature = seen.turned(signature, set);
            }
            let mut next = || {
                classes += 1;
                classes - 1
            };
            let class = if seen.is_full() { next() } else { *of_both.entry((segment, signature)).or_insert_with(next) };
            class_of.push(class);
            segment_of.push(segment);
        }
        firsts.push(classes);
        for span in singles.iter_mut() {
            let last = segment_of[span[1] as usize];
            *span = [firsts[segment_of[span[0] as usize] as usize], firsts[last as usize + 1] - 1];
        }
        self.sets = by_set
            .iter()
            .map(|spans| {
                let mut own: Vec<u32> = spans.iter().flat_map(|[first, last]| &class_of[*first as usize..=*last as usize]).copied().collect();
                own.sort_unstable();
                own.dedup();
                spans_of(own)
            })
            .collect();
        self.classes = classes;
        self.begins = vec![0; classes as usize + 1];
        for class in &class_of {
            self.begins[*class as usize + 1] += 1;
        }
        for class in 0..classes as usize {
            self.begins[class + 1] += self.begins[class];
        }
        let mut next = self.begins.clone();
        self.cells = vec![0; cells];
        for (cell, class) in (0..).zip(class_of) {
            let at = &mut next[class as usize];
            self.cells[*at as usize] = cell;
            *at += 1;
        }
    }

    /// The numbers of classes, as ranges; in order only where each cell is a class.
    fn numbers(&self, spans: &[Span]) -> Vec<[u128; 2]> {
        let end = |cell: usize| self.starts.get(cell + 1).map_or(self.last, |next| next - 1);
        if self.cells.is_empty() {
            return spans.iter().map(|[first, last]| [self.starts[*first as usize], end(*last as usize)]).collect();
        }
        if *spans == [[0, self.classes - 1]] {
            return vec![[0, self.last]];
        }
        let cells = spans.iter().flat_map(|[first, last]| {
            &self.cells[self.begins[*first as usize] as usize..self.begins[*last as usize + 1] as usize]
        });
        cells.map(|cell| [self.starts[*cell as usize], end(*cell as usize)]).collect()
    }
}

/// Ends of intervals, which become cells.
#[derive(Default)]
struct Ends {
    /// The first number of each, and the number after its last.
    numbers: Vec<(u128, u32)>,
    /// The cells, two places each.
    cells: Vec<u32>,
}

/// Instead of the number after the last one, which is none.
const NO_END: u32 = u32::MAX;

impl Ends {
    fn push<P: Point>(&mut self, interval: Interval<P>) {
        for (number, otherwise) in [(interval.first().previous().map(|_| interval.first().number()), 0), (interval.last().next().map(P::number), NO_END)] {
            let place = u32::try_from(self.cells.len()).expect("fewer than 2^31 intervals");
            self.cells.push(otherwise);
            self.numbers.extend(number.map(|number| (number, place)));
        }
    }

    /// The first number of each cell, and the cells of each interval.
    fn cells(mut self, is_narrow: bool) -> (Vec<u128>, Vec<Span>) {
        let mut starts = vec![0];
        let mut place = |number: u128, place: u32, cells: &mut Vec<u32>| {
            if starts.last() != Some(&number) {
                starts.push(number);
            }
            cells[place as usize] = u32::try_from(starts.len() - 1).expect("fewer than 2^32 ends");
        };
        if is_narrow {
            // One machine word each sorts several times as fast.
            let mut words: Vec<u64> = self.numbers.iter().map(|(number, place)| (*number as u64) << 32 | u64::from(*place)).collect();
            words.sort_unstable();
            for word in words {
                place((word >> 32).into(), word as u32, &mut self.cells);
            }
        } else {
            self.numbers.sort_unstable();
            for (number, at) in &self.numbers {
                place(*number, *at, &mut self.cells);
            }
        }
        let count = u32::try_from(starts.len()).expect("fewer than 2^32 ends");
        let spans = self.cells.chunks_exact(2).map(|pair| [pair[0], if pair[1] == NO_END { count } else { pair[1] } - 1]).collect();
        (starts, spans)
    }
}

/// The different sets among those of an axis.
struct Sets<'r, P> {
    of_place: HashMap<*const Interval<P>, u32>,
    of_value: HashMap<&'r IntervalSet<P>, u32>,
    all: Vec<&'r IntervalSet<P>>,
}

impl<'r, P: Point> Sets<'r, P> {
    fn number(&mut self, set: &'r IntervalSet<P>) -> u32 {
        // Clones share their intervals: most are known without reading them.
        *self.of_place.entry(set.intervals().as_ptr()).or_insert_with(|| {
            *self.of_value.entry(set).or_insert_with(|| {
                self.all.push(set);
                u32::try_from(self.all.len() - 1).expect("fewer sets than rows")
            })
        })
    }
}

/// Sets of sets, each with a number.
#[derive(Default)]
struct Signatures {
    of_members: HashMap<Vec<u32>, u32>,
    members: Vec<Vec<u32>>,
    of_turn: HashMap<(u32, u32), u32, Quick>,
    kept: usize,
}

impl Signatures {
    fn is_full(&self) -> bool {
        self.kept > JOINED
    }

    fn number(&mut self, members: Vec<u32>) -> u32 {
        if let Some(known) = self.of_members.get(&members) {
            return *known;
        }
        let number = u32::try_from(self.members.len()).expect("fewer than 2^32");
        self.kept += members.len() + 1;
        self.of_members.insert(members.clone(), number);
        self.members.push(members);
        number
    }

    /// With `set` when it was without, without when it was with.
    fn turned(&mut self, signature: u32, set: u32) -> u32 {
        if self.is_full() {
            return signature;
        }
        if let Some(known) = self.of_turn.get(&(signature, set)) {
            return *known;
        }
        let mut members = self.members[signature as usize].clone();
        match members.binary_search(&set) {
            Ok(at) => drop(members.remove(at)),
            Err(at) => members.insert(at, set),
        }
        let turned = self.number(members);
        self.of_turn.insert((signature, set), turned);
        turned
    }
}

/// Sorted classes as spans.
pub(super) fn spans_of(classes: impl IntoIterator<Item = u32>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for class in classes {
        match spans.last_mut() {
            Some(span) if span[1] + 1 == class => span[1] = class,
            _ => spans.push([class, class]),
        }
    }
    spans
}

/// The part of `spans` that may meet anything from `first` to `last`.
pub(super) fn near(spans: &[Span], [first, last]: Span) -> &[Span] {
    if spans.len() == 1 {
        return spans;
    }
    let begin = spans.partition_point(|span| span[1] < first);
    let end = begin + spans[begin..].partition_point(|span| span[0] <= last);
    &spans[begin..end]
}

fn around(spans: &[Span]) -> Span {
    [spans[0][0], spans[spans.len() - 1][1]]
}

pub(super) fn intersection(a: &[Span], b: &[Span]) -> Vec<Span> {
    let (mut a, mut b) = (near(a, around(b)), near(b, around(a)));
    let mut both = Vec::new();
    while let (Some(left), Some(right)) = (a.first(), b.first()) {
        let (first, last) = (left[0].max(right[0]), left[1].min(right[1]));
        if first <= last {
            both.push([first, last]);
        }
        if left[1] < right[1] { a = &a[1..] } else { b = &b[1..] }
    }
    both
}

/// `a` without `b`, whose spans may be in any order and overlap.
pub(super) fn difference(a: &[Span], mut b: Vec<Span>) -> Vec<Span> {
    b.sort_unstable();
    let mut left = Vec::new();
    let mut b = b.into_iter().peekable();
    for [first, last] in a {
        let (mut from, mut is_done) = (*first, false);
        while let Some(taken) = b.peek().copied().filter(|taken| taken[0] <= *last) {
            if taken[0] > from {
                left.push([from, taken[0] - 1]);
            }
            if taken[1] >= *last {
                is_done = true;
                break;
            }
            from = from.max(taken[1] + 1);
            b.next();
        }
        if !is_done {
            left.push([from, *last]);
        }
    }
    left
}

fn meet(a: &[Span], b: &[Span]) -> bool {
    let (a, b) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    // The few look for themselves among the many.
    let mut rest = b;
    a.iter().any(|span| {
        rest = &rest[rest.partition_point(|other| other[1] < span[0])..];
        rest.first().is_some_and(|other| other[0] <= span[1])
    })
}

pub(super) fn is_subset(a: &[Span], b: &[Span]) -> bool {
    let mut rest = b;
    a.iter().all(|span| {
        rest = &rest[rest.partition_point(|other| other[1] < span[0])..];
        rest.first().is_some_and(|other| other[0] <= span[0] && span[1] <= other[1])
    })
}
