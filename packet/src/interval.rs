//! Inclusive intervals over an ordered, finite domain, and sets of them.
//!
//! In: first and last points. Out: sorted, disjoint, non-adjacent intervals, so that equal sets are
//! equal values. Never: a half-open range or an increment that wraps.

use std::fmt::Debug;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A point of a finite, ordered domain.
pub trait Point: Copy + Ord + Debug + std::hash::Hash {
    const MIN: Self;
    const MAX: Self;
    /// The point after this one; `None` at `MAX`.
    fn next(self) -> Option<Self>;
    /// The point before this one; `None` at `MIN`.
    fn previous(self) -> Option<Self>;
}

macro_rules! integer_point {
    ($($integer:ty),*) => {$(
        impl Point for $integer {
            const MIN: Self = <$integer>::MIN;
            const MAX: Self = <$integer>::MAX;
            fn next(self) -> Option<Self> { self.checked_add(1) }
            fn previous(self) -> Option<Self> { self.checked_sub(1) }
        }
    )*};
}
integer_point!(u8, u16, u128);

macro_rules! address_point {
    ($($address:ty),*) => {$(
        impl Point for $address {
            const MIN: Self = <$address>::from_bits(0);
            const MAX: Self = <$address>::from_bits(!0);
            fn next(self) -> Option<Self> { self.to_bits().checked_add(1).map(Self::from_bits) }
            fn previous(self) -> Option<Self> { self.to_bits().checked_sub(1).map(Self::from_bits) }
        }
    )*};
}
address_point!(Ipv4Addr, Ipv6Addr);

/// All points from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval<P> {
    first: P,
    last: P,
}

impl<P: Point> Interval<P> {
    pub const FULL: Self = Self { first: P::MIN, last: P::MAX };

    /// `None` when `first` is after `last`.
    pub fn new(first: P, last: P) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    pub fn single(point: P) -> Self {
        Self { first: point, last: point }
    }

    pub fn first(self) -> P {
        self.first
    }

    pub fn last(self) -> P {
        self.last
    }

    pub fn is_single(self) -> bool {
        self.first == self.last
    }

    pub fn contains(self, point: P) -> bool {
        self.first <= point && point <= self.last
    }

    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::new(self.first.max(other.first), self.last.min(other.last))
    }
}

/// A set of points, kept as sorted, disjoint, non-adjacent intervals.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntervalSet<P> {
    // INVARIANT: sorted; between two neighbours lies at least one point that is not in the set.
    intervals: Vec<Interval<P>>,
}

impl<P> Default for IntervalSet<P> {
    fn default() -> Self {
        Self { intervals: Vec::new() }
    }
}

impl<P: Point> IntervalSet<P> {
    pub fn full() -> Self {
        Self { intervals: vec![Interval::FULL] }
    }

    pub fn single(point: P) -> Self {
        Interval::single(point).into()
    }

    pub fn intervals(&self) -> &[Interval<P>] {
        &self.intervals
    }

    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.intervals == [Interval::FULL]
    }

    /// The smallest point: a witness that the set is not empty.
    pub fn first(&self) -> Option<P> {
        self.intervals.first().map(|interval| interval.first)
    }

    /// The only point of a set of one.
    pub fn only(&self) -> Option<P> {
        match self.intervals[..] {
            [interval] if interval.is_single() => Some(interval.first),
            _ => None,
        }
    }

    pub fn contains(&self, point: P) -> bool {
        let after = self.intervals.partition_point(|interval| interval.first <= point);
        after > 0 && self.intervals[after - 1].contains(point)
    }

    pub fn union(&self, other: &Self) -> Self {
        self.intervals.iter().chain(&other.intervals).copied().collect()
    }

    pub fn intersection(&self, other: &Self) -> Self {
        let (mut left, mut right) = (self.intervals.iter().peekable(), other.intervals.iter().peekable());
        let mut intervals = Vec::new();
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            intervals.extend(a.intersection(**b));
            if a.last < b.last {
                left.next();
            } else {
                right.next();
            }
        }
        Self { intervals }
    }

    pub fn complement(&self) -> Self {
        let mut intervals = Vec::new();
        let mut from = Some(P::MIN);
        for interval in &self.intervals {
            if let (Some(first), Some(last)) = (from, interval.first.previous()) {
                intervals.extend(Interval::new(first, last));
            }
            from = interval.last.next();
        }
        if let Some(first) = from {
            intervals.extend(Interval::new(first, P::MAX));
        }
        Self { intervals }
    }

    pub fn difference(&self, other: &Self) -> Self {
        if other.is_empty() { self.clone() } else { self.intersection(&other.complement()) }
    }

    pub fn is_subset(&self, other: &Self) -> bool {
        self.intervals.iter().all(|interval| {
            let after = other.intervals.partition_point(|candidate| candidate.first <= interval.first);
            after > 0 && other.intervals[after - 1].last >= interval.last
        })
    }

    pub fn is_disjoint(&self, other: &Self) -> bool {
        let (mut left, mut right) = (self.intervals.iter().peekable(), other.intervals.iter().peekable());
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            if a.intersection(**b).is_some() {
                return false;
            }
            if a.last < b.last {
                left.next();
            } else {
                right.next();
            }
        }
        true
    }
}

impl<P: Point> From<Interval<P>> for IntervalSet<P> {
    fn from(interval: Interval<P>) -> Self {
        Self { intervals: vec![interval] }
    }
}

impl<P: Point> FromIterator<Interval<P>> for IntervalSet<P> {
    fn from_iter<I: IntoIterator<Item = Interval<P>>>(iterator: I) -> Self {
        let mut intervals: Vec<_> = iterator.into_iter().collect();
        intervals.sort_unstable();
        let mut merged: Vec<Interval<P>> = Vec::with_capacity(intervals.len());
        for interval in intervals {
            match merged.last_mut() {
                // `next` is `None` only at the end of the domain, which touches whatever follows.
                Some(previous) if previous.last.next().is_none_or(|next| interval.first <= next) => {
                    previous.last = previous.last.max(interval.last);
                }
                _ => merged.push(interval),
            }
        }
        Self { intervals: merged }
    }
}

impl<P: Point> FromIterator<P> for IntervalSet<P> {
    fn from_iter<I: IntoIterator<Item = P>>(iterator: I) -> Self {
        iterator.into_iter().map(Interval::single).collect()
    }
}
