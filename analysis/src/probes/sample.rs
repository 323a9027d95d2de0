//! Some of many, the same ones for the same seed.

use ringwall_packet::IntervalSet;

/// Sets of ports up to this size are probed whole; of larger ones each interval's first, middle and
/// last port.
const ALL_PORTS_UP_TO: u32 = 16;

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014): SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`, which is not 0. The bias is below 2^-32 for the small bounds here.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// At most `count` of these, each equally likely, in their order.
    pub fn some<T>(&mut self, mut of: Vec<T>, count: usize) -> Vec<T> {
        let mut left = count.min(of.len());
        let mut kept = Vec::with_capacity(left);
        let mut remaining = of.len();
        for item in of.drain(..) {
            if left > 0 && self.below(remaining) < left {
                kept.push(item);
                left -= 1;
            }
            remaining -= 1;
        }
        kept
    }
}

/// Ports that stand for a set of ports; 0 is no port (RFC 6335 §6).
pub fn ports(set: &IntervalSet<u16>) -> Vec<u16> {
    let ranges = || set.intervals().iter().map(|interval| (interval.first().max(1), interval.last())).filter(|(first, last)| first <= last);
    let size: u32 = ranges().map(|(first, last)| u32::from(last - first) + 1).sum();
    let mut ports: Vec<u16> = if size <= ALL_PORTS_UP_TO {
        ranges().flat_map(|(first, last)| first..=last).collect()
    } else {
        ranges().flat_map(|(first, last)| [first, first + (last - first) / 2, last]).collect()
    };
    ports.dedup();
    ports
}

#[cfg(test)]
mod tests {
    use ringwall_packet::Interval;

    use super::*;

    #[test]
    fn small_sets_are_whole_and_large_ones_by_first_middle_and_last() {
        let set = |ranges: &[(u16, u16)]| -> IntervalSet<u16> {
            ranges.iter().filter_map(|(first, last)| Interval::new(*first, *last)).collect()
        };
        let cases = [
            (set(&[]), vec![]),
            (set(&[(443, 443), (80, 80)]), vec![80, 443]),
            (set(&[(4567, 4568)]), vec![4567, 4568]),
            (set(&[(0, 0)]), vec![]),
            (set(&[(49152, 65535), (135, 135)]), vec![135, 49152, 57343, 65535]),
            (IntervalSet::full(), vec![1, 32768, 65535]),
        ];
        for (set, expected) in cases {
            assert_eq!(ports(&set), expected);
        }
    }

    #[test]
    fn a_sample_depends_on_the_seed_alone() {
        let some = |seed| Random::new(seed).some((0..100).collect(), 7);
        assert_eq!(some(1), some(1));
        assert_ne!(some(1), some(2));
        assert_eq!(some(1).len(), 7);
        assert_eq!(Random::new(3).some(vec![1, 2], 9), vec![1, 2]);
    }
}
