//! Addresses as numbers, and prefixes as one number each.
//!
//! In: addresses, lengths. Out: the numbers that lists hold and sets have as elements, which are those
//! of `ringwall_ruleset::nftables::blocks`. Never: a list.

use std::fmt::Debug;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ringwall_packet::Family;
use ringwall_ruleset::nftables::blocks;

/// An address of one family: `u32` or `u128`.
pub trait Word: Copy + Ord + Debug + Hash {
    const FAMILY: Family;
    /// How many bits it has; also the length of a prefix that is one address.
    const BITS: u8;
    /// Lengths in the set of prefixes are so far apart.
    const STEP: u8;

    fn address(self) -> IpAddr;
    /// The next address; after the last, the first.
    fn next(self) -> Self;
    /// The first address of the prefix of this length around it.
    fn first(self, length: u8) -> Self;
    /// The last one.
    fn last(self, length: u8) -> Self;
    /// A prefix shorter than `BITS` as one number: its first bits, then a one.
    fn mark(self, length: u8) -> Self;
    /// The reverse: the prefix's first address and its length.
    fn unmark(self) -> (Self, u8);
    fn number(self) -> u128;

    /// The length that a prefix has in the set of prefixes, which takes several elements if it is longer;
    /// `BITS`: it is in the set of addresses.
    fn level(length: u8) -> u8 {
        length.next_multiple_of(Self::STEP).min(Self::BITS)
    }
}

macro_rules! word {
    ($word:ty, $family:ident, $ip:ty, $step:expr) => {
        impl Word for $word {
            const FAMILY: Family = Family::$family;
            const BITS: u8 = <$ip>::BITS as u8;
            const STEP: u8 = $step;

            fn address(self) -> IpAddr {
                IpAddr::$family(<$ip>::from_bits(self))
            }

            fn next(self) -> Self {
                self.wrapping_add(1)
            }

            fn first(self, length: u8) -> Self {
                self & !Self::MAX.checked_shr(length.into()).unwrap_or(0)
            }

            fn last(self, length: u8) -> Self {
                self | Self::MAX.checked_shr(length.into()).unwrap_or(0)
            }

            fn mark(self, length: u8) -> Self {
                self.first(length) | (1 as $word).wrapping_shl(u32::from(<Self as Word>::BITS - 1).saturating_sub(length.into()))
            }

            fn unmark(self) -> (Self, u8) {
                let length = (<Self as Word>::BITS - 1).saturating_sub(self.trailing_zeros() as u8);
                (self.first(length), length)
            }

            fn number(self) -> u128 {
                self.into()
            }
        }
    };
}

word!(u32, V4, Ipv4Addr, 2);
word!(u128, V6, Ipv6Addr, 4);

/// The covers that a prefix needs in order to be found, where it is in the set of prefixes: length and first
/// address of each.
pub fn covers<W: Word>(first: W, length: u8) -> impl Iterator<Item = (W, u8)> {
    let level = W::level(length);
    let tiers = blocks::cover_lengths(W::FAMILY).iter().enumerate();
    let needed = tiers.filter(move |(tier, cover)| level < W::BITS && (*tier == 0 || level > **cover));
    needed.flat_map(move |(_, cover)| parts(first, length, *cover).map(|first| (first, *cover)))
}

/// The prefixes of length `into` that a prefix consists of, or the one that it is in.
pub fn parts<W: Word>(first: W, length: u8, into: u8) -> impl Iterator<Item = W> {
    let mut next = Some(first.first(into));
    let last = first.last(length);
    std::iter::from_fn(move || {
        let this = next?;
        let end = this.last(into);
        next = (end < last).then(|| end.next());
        Some(this)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_numbers_are_those_of_the_table() {
        for family in Family::ALL {
            let (step, bits) = match family {
                Family::V4 => (u32::STEP, 32),
                Family::V6 => (u128::STEP, 128),
            };
            let lengths: Vec<u8> = blocks::lengths(family).collect();
            assert!(lengths.iter().all(|length| length % step == 0));
            assert!(lengths.windows(2).all(|pair| pair[1] - pair[0] == step));
            assert_eq!(lengths.last().map(|last| last + step), Some(bits));
        }
        for length in 0..32 {
            let first = 0xdead_beef_u32.first(length);
            assert_eq!(first.mark(length), blocks::mark4(first, length));
            assert_eq!(first.mark(length).unmark(), (first, length));
        }
        for length in 0..128 {
            let first = (0x2001_0db8_dead_beef_u128 << 64 | 77).first(length);
            assert_eq!(first.mark(length), blocks::mark6(first, length));
            assert_eq!(first.mark(length).unmark(), (first, length));
        }
    }

    #[test]
    fn a_prefix_has_its_covers_and_parts() {
        let v4 = |text: &str| text.parse::<Ipv4Addr>().expect("an address").to_bits();
        assert_eq!(covers(v4("192.0.2.0"), 24).collect::<Vec<_>>(), [(v4("192.0.0.0"), 16)]);
        assert_eq!(covers(v4("10.0.0.0"), 8).count(), 256);
        assert_eq!(covers(v4("192.0.2.0"), 31).count(), 0);
        assert_eq!(parts(v4("192.0.2.0"), 23, 24).collect::<Vec<_>>(), [v4("192.0.2.0"), v4("192.0.3.0")]);
        assert_eq!(parts(v4("255.255.255.254"), 31, 32).count(), 2);
        assert_eq!(parts(0u32, 0, 8).count(), 256);
        let v6 = |text: &str| text.parse::<Ipv6Addr>().expect("an address").to_bits();
        assert_eq!(covers(v6("2001:db8::"), 48).collect::<Vec<_>>(), [(v6("2001:db8::"), 32)]);
        let long: Vec<_> = covers(v6("2001:db8:0:1::"), 66).collect();
        assert_eq!(long, [(v6("2001:db8::"), 32), (v6("2001:db8:0:1::"), 64)]);
        assert_eq!(parts(v6("2001:db8::"), 33, 36).count(), 8);
    }
}
