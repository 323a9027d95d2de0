//! Inclusive intervals over an ordered, finite domain, and sets of them.
//!
//! In: first and last points. Out: sorted, disjoint, non-adjacent intervals, so that equal sets are
//! equal values. Never: a half-open range or an increment that wraps.

use std::fmt::{self, Debug};
use std::hash::{Hash, Hasher};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// A point of a finite, ordered domain.
pub trait Point: Copy + Ord + Debug + std::hash::Hash {
    const MIN: Self;
    const MAX: Self;
    /// The point after this one; `None` at `MAX`.
    fn next(self) -> Option<Self>;
    /// The point before this one; `None` at `MIN`.
    fn previous(self) -> Option<Self>;
    /// As a number; the order is the same.
    fn number(self) -> u128;
    /// The reverse of [`Point::number`]; `None` past `MAX`.
    fn of_number(number: u128) -> Option<Self>;
}

macro_rules! integer_point {
    ($($integer:ty),*) => {$(
        impl Point for $integer {
            const MIN: Self = <$integer>::MIN;
            const MAX: Self = <$integer>::MAX;
            fn next(self) -> Option<Self> { self.checked_add(1) }
            fn previous(self) -> Option<Self> { self.checked_sub(1) }
            fn number(self) -> u128 { self.into() }
            fn of_number(number: u128) -> Option<Self> { number.try_into().ok() }
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
            fn number(self) -> u128 { self.to_bits().into() }
            fn of_number(number: u128) -> Option<Self> { Some(Self::from_bits(number.try_into().ok()?)) }
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

/// A set of points, kept as sorted, disjoint, non-adjacent intervals. Most sets are one interval and
/// cost no allocation; the others share theirs when they are cloned.
#[derive(Clone)]
pub struct IntervalSet<P>(
    // INVARIANT: sorted; between two neighbours lies at least one point that is not in the set.
    Intervals<P>,
);

#[derive(Clone)]
enum Intervals<P> {
    None,
    One(Interval<P>),
    // INVARIANT: two or more.
    Many(Arc<[Interval<P>]>),
}

impl<P> IntervalSet<P> {
    pub fn intervals(&self) -> &[Interval<P>] {
        match &self.0 {
            Intervals::None => &[],
            Intervals::One(interval) => std::slice::from_ref(interval),
            Intervals::Many(intervals) => intervals,
        }
    }

    fn same_allocation(&self, other: &Self) -> bool {
        matches!((&self.0, &other.0), (Intervals::Many(a), Intervals::Many(b)) if Arc::ptr_eq(a, b))
    }
}

impl<P> Default for IntervalSet<P> {
    fn default() -> Self {
        Self(Intervals::None)
    }
}

impl<P: Debug> Debug for IntervalSet<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntervalSet").field("intervals", &self.intervals()).finish()
    }
}

impl<P: PartialEq> PartialEq for IntervalSet<P> {
    fn eq(&self, other: &Self) -> bool {
        self.same_allocation(other) || self.intervals() == other.intervals()
    }
}

impl<P: Eq> Eq for IntervalSet<P> {}

impl<P: PartialOrd> PartialOrd for IntervalSet<P> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.intervals().partial_cmp(other.intervals())
    }
}

impl<P: Ord> Ord for IntervalSet<P> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.intervals().cmp(other.intervals())
    }
}

impl<P: Hash> Hash for IntervalSet<P> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.intervals().hash(state);
    }
}

impl<P: Point> IntervalSet<P> {
    pub fn full() -> Self {
        Interval::FULL.into()
    }

    pub fn single(point: P) -> Self {
        Interval::single(point).into()
    }

    /// The caller sees to the invariant.
    fn of_sorted(intervals: Vec<Interval<P>>) -> Self {
        Self(match intervals[..] {
            [] => Intervals::None,
            [interval] => Intervals::One(interval),
            _ => Intervals::Many(intervals.into()),
        })
    }

    pub fn is_empty(&self) -> bool {
        matches!(self.0, Intervals::None)
    }

    pub fn is_full(&self) -> bool {
        matches!(self.0, Intervals::One(interval) if interval == Interval::FULL)
    }

    /// The smallest point: a witness that the set is not empty.
    pub fn first(&self) -> Option<P> {
        self.intervals().first().map(|interval| interval.first)
    }

    /// The only point of a set of one.
    pub fn only(&self) -> Option<P> {
        match self.intervals()[..] {
            [interval] if interval.is_single() => Some(interval.first),
            _ => None,
        }
    }

    pub fn contains(&self, point: P) -> bool {
        let after = self.intervals().partition_point(|interval| interval.first <= point);
        after > 0 && self.intervals()[after - 1].contains(point)
    }

    pub fn union(&self, other: &Self) -> Self {
        if other.is_empty() || self.is_full() || self.same_allocation(other) {
            return self.clone();
        }
        self.intervals().iter().chain(other.intervals()).copied().collect()
    }

    pub fn intersection(&self, other: &Self) -> Self {
        if let (Intervals::One(a), Intervals::One(b)) = (&self.0, &other.0) {
            return a.intersection(*b).map_or_else(Self::default, Self::from);
        }
        if self.is_full() || self.same_allocation(other) {
            return other.clone();
        }
        if other.is_full() {
            return self.clone();
        }
        let (mut left, mut right) = (self.near(other).iter().peekable(), other.near(self).iter().peekable());
        let mut intervals = Vec::new();
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            intervals.extend(a.intersection(**b));
            if a.last < b.last {
                left.next();
            } else {
                right.next();
            }
        }
        Self::of_sorted(intervals)
    }

    pub fn complement(&self) -> Self {
        let mut intervals = Vec::new();
        let mut from = Some(P::MIN);
        for interval in self.intervals() {
            if let (Some(first), Some(last)) = (from, interval.first.previous()) {
                intervals.extend(Interval::new(first, last));
            }
            from = interval.last.next();
        }
        if let Some(first) = from {
            intervals.extend(Interval::new(first, P::MAX));
        }
        Self::of_sorted(intervals)
    }

    pub fn difference(&self, other: &Self) -> Self {
        let near = other.near(self);
        if near.is_empty() {
            return self.clone();
        }
        let mut intervals = Vec::new();
        let mut near = near.iter().peekable();
        for own in self.intervals() {
            let mut from = Some(own.first);
            while let Some(taken) = near.peek().filter(|taken| taken.first <= own.last) {
                if let (Some(first), Some(last)) = (from, taken.first.previous()) {
                    intervals.extend(Interval::new(first, last));
                }
                if taken.last > own.last {
                    // It may reach into the next.
                    from = None;
                    break;
                }
                if taken.last >= own.first {
                    from = taken.last.next();
                }
                near.next();
            }
            intervals.extend(from.and_then(|first| Interval::new(first, own.last)));
        }
        Self::of_sorted(intervals)
    }

    /// The intervals that may meet one of `other`'s: found by halving, so that a small set's questions
    /// to a large one are cheap.
    fn near(&self, other: &Self) -> &[Interval<P>] {
        let (own, others) = (self.intervals(), other.intervals());
        let (Some(first), Some(last)) = (others.first(), others.last()) else { return &[] };
        let begin = own.partition_point(|interval| interval.last < first.first);
        let end = begin + own[begin..].partition_point(|interval| interval.first <= last.last);
        &own[begin..end]
    }

    pub fn is_subset(&self, other: &Self) -> bool {
        if let (Intervals::One(a), Intervals::One(b)) = (&self.0, &other.0) {
            return b.first <= a.first && a.last <= b.last;
        }
        other.is_full() || self.same_allocation(other) || self.intervals().iter().all(|interval| {
            let after = other.intervals().partition_point(|candidate| candidate.first <= interval.first);
            after > 0 && other.intervals()[after - 1].last >= interval.last
        })
    }

    pub fn is_disjoint(&self, other: &Self) -> bool {
        if let (Intervals::One(a), Intervals::One(b)) = (&self.0, &other.0) {
            return a.last < b.first || b.last < a.first;
        }
        let (mut left, mut right) = (self.near(other).iter().peekable(), other.near(self).iter().peekable());
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
        Self(Intervals::One(interval))
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
        Self::of_sorted(merged)
    }
}

impl<P: Point> FromIterator<P> for IntervalSet<P> {
    fn from_iter<I: IntoIterator<Item = P>>(iterator: I) -> Self {
        iterator.into_iter().map(Interval::single).collect()
    }
}
