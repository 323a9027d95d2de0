//! A small deterministic generator: the same seed gives the same campaign on every machine.

use std::net::{Ipv4Addr, Ipv6Addr};

use ringwall_packet::{Interval, IntervalSet, Point};

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..end`, which is not empty.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.number() % end as u64).expect("less than a usize")
    }

    /// One of `first..=last`.
    pub fn within(&mut self, first: usize, last: usize) -> usize {
        first + self.below(last - first + 1)
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.below(among.len())]
    }

    /// An index by weight.
    pub fn weighted(&mut self, weights: &[usize]) -> usize {
        let mut left = self.below(weights.iter().sum());
        weights
            .iter()
            .position(|weight| {
                let here = left < *weight;
                left = left.saturating_sub(*weight);
                here
            })
            .expect("the weights have a sum")
    }

    /// Any point of the interval.
    pub fn inside<P: Coordinate>(&mut self, interval: Interval<P>) -> P {
        let (first, last) = (interval.first().bits(), interval.last().bits());
        let wide = u128::from(self.number()) << 64 | u128::from(self.number());
        let span = (last - first).checked_add(1);
        P::from_bits(first + span.map_or(wide, |span| wide % span))
    }

    /// A point of the set, or, on a boundary, the first or last of one of its intervals or the one
    /// beside it. `None` when the set is empty.
    pub fn point<P: Coordinate>(&mut self, set: &IntervalSet<P>, on_boundary: bool) -> Option<P> {
        if set.is_empty() {
            return None;
        }
        let interval = *self.pick(set.intervals());
        if !on_boundary {
            return Some(self.inside(interval));
        }
        Some(match self.below(6) {
            0 | 1 => interval.first(),
            2 | 3 => interval.last(),
            4 => interval.first().previous().unwrap_or(interval.first()),
            _ => interval.last().next().unwrap_or(interval.last()),
        })
    }
}

/// A point as a number.
pub trait Coordinate: Point {
    fn bits(self) -> u128;
    fn from_bits(bits: u128) -> Self;
}

macro_rules! coordinate {
    ($($type:ty: $to:expr, $from:expr;)*) => {$(
        impl Coordinate for $type {
            fn bits(self) -> u128 { $to(self).into() }
            fn from_bits(bits: u128) -> Self { $from(bits.try_into().expect("a number of this type")) }
        }
    )*};
}
coordinate! {
    u8: u8::from, std::convert::identity::<u8>;
    u16: u16::from, std::convert::identity::<u16>;
    Ipv4Addr: Ipv4Addr::to_bits, Ipv4Addr::from_bits;
    Ipv6Addr: Ipv6Addr::to_bits, Ipv6Addr::from_bits;
}
