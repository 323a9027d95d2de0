//! Sets of intervals against the plainest model there is: a bit for each point.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;
use ringwall_packet::{AddressSet, Interval, IntervalSet};

/// Both ends of the domain, where increments would wrap, and a place in between.
const POINTS: [u8; 9] = [0, 1, 2, 127, 128, 129, 253, 254, 255];

fn set(points: &BTreeSet<u8>) -> IntervalSet<u8> {
    points.iter().copied().collect()
}

/// Every subset of `POINTS`.
fn all() -> Vec<BTreeSet<u8>> {
    let subset = |bits: usize| POINTS.into_iter().enumerate().filter(move |(i, _)| bits >> i & 1 == 1).map(|(_, point)| point);
    (0..1 << POINTS.len()).map(|bits| subset(bits).collect()).collect()
}

fn points(set: &IntervalSet<u8>) -> BTreeSet<u8> {
    (0..=255).filter(|point| set.contains(*point)).collect()
}

fn is_canonical(set: &IntervalSet<u8>) -> bool {
    set.intervals().windows(2).all(|pair| u16::from(pair[0].last()) + 1 < u16::from(pair[1].first()))
}

#[test]
fn each_set_of_a_small_world_is_itself() {
    let everything: BTreeSet<u8> = (0..=255).collect();
    for model in all() {
        let set = set(&model);
        assert!(is_canonical(&set), "{set:?}");
        assert_eq!(points(&set), model);
        assert_eq!(set.first(), model.first().copied());
        assert_eq!(set.is_empty(), model.is_empty());
        assert_eq!(set.only(), (model.len() == 1).then(|| *model.first().unwrap()));
        let complement = set.complement();
        assert!(is_canonical(&complement), "{complement:?}");
        assert_eq!(points(&complement), &everything - &model);
        assert_eq!(complement.complement(), set);
    }
    assert!(set(&everything).is_full());
    assert_eq!(IntervalSet::<u8>::full().complement(), IntervalSet::default());
}

#[test]
fn each_pair_of_a_small_world_follows_the_model() {
    let sets: Vec<_> = all().into_iter().map(|model| (set(&model), model)).collect();
    for (a, in_a) in &sets {
        for (b, in_b) in &sets {
            for (result, model) in [
                (a.union(b), in_a | in_b),
                (a.intersection(b), in_a & in_b),
                (a.difference(b), in_a - in_b),
            ] {
                // Equal sets are equal values, so one comparison says it all.
                assert_eq!(result, set(&model), "{a:?} {b:?}");
            }
            assert_eq!(a.is_subset(b), in_a.is_subset(in_b), "{a:?} {b:?}");
            assert_eq!(a.is_disjoint(b), in_a.is_disjoint(in_b), "{a:?} {b:?}");
        }
    }
}

#[test]
fn an_interval_upside_down_is_none() {
    assert_eq!(Interval::new(2u16, 1), None);
    assert!(Interval::new(1u16, 1).unwrap().is_single());
    assert_eq!(Interval::new(0u16, 9).unwrap().intersection(Interval::new(9, 12).unwrap()), Some(Interval::single(9)));
    assert_eq!(Interval::new(0u16, 8).unwrap().intersection(Interval::new(9, 12).unwrap()), None);
}

fn ports() -> impl Strategy<Value = IntervalSet<u16>> {
    let interval = (any::<u16>(), any::<u16>()).prop_map(|(a, b)| Interval::new(a.min(b), a.max(b)).unwrap());
    // Short ones too, which touch.
    let short = (0u16..40, 0u16..4).prop_map(|(first, length)| Interval::new(first, first + length).unwrap());
    prop::collection::vec(prop_oneof![interval, short], 0..6).prop_map(|intervals| intervals.into_iter().collect())
}

fn addresses() -> impl Strategy<Value = AddressSet> {
    let v4 = (any::<[u8; 4]>(), 0u8..=32).prop_map(|(octets, length)| IpNet::new(octets.into(), length).unwrap());
    let v6 = (any::<[u8; 16]>(), 0u8..=128).prop_map(|(octets, length)| IpNet::new(octets.into(), length).unwrap());
    prop::collection::vec(prop_oneof![v4, v6], 0..6).prop_map(|prefixes| prefixes.into_iter().collect())
}

proptest! {
    #[test]
    fn laws_of_sets_of_ports(a in ports(), b in ports(), c in ports(), point: u16) {
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        prop_assert_eq!(a.union(&b).union(&c), a.union(&b.union(&c)));
        prop_assert_eq!(a.intersection(&b.union(&c)), a.intersection(&b).union(&a.intersection(&c)));
        prop_assert_eq!(a.union(&b).complement(), a.complement().intersection(&b.complement()));
        prop_assert_eq!(a.difference(&b), a.intersection(&b.complement()));
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        prop_assert_eq!(a.is_subset(&b), a.difference(&b).is_empty());
        prop_assert_eq!(a.is_disjoint(&b), a.intersection(&b).is_empty());
        prop_assert_eq!(a.union(&b).contains(point), a.contains(point) || b.contains(point));
        prop_assert!(a.first().is_none_or(|first| a.contains(first)));
    }

    #[test]
    fn laws_of_sets_of_addresses(a in addresses(), b in addresses()) {
        prop_assert_eq!(a.union(&b).complement(), a.complement().intersection(&b.complement()));
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        prop_assert_eq!(a.is_subset(&b), a.difference(&b).is_empty());
        prop_assert_eq!(a.is_disjoint(&b), a.intersection(&b).is_empty());
        prop_assert!(a.witnesses().all(|address| a.contains(address)));
        prop_assert_eq!(a.witnesses().next().is_none(), a.is_empty());
    }

    #[test]
    fn prefixes_cover_exactly_and_do_not_overlap(a in addresses(), b in addresses()) {
        let set = a.difference(&b);
        let prefixes = set.prefixes();
        prop_assert_eq!(prefixes.iter().copied().collect::<AddressSet>(), set);
        for (at, prefix) in prefixes.iter().enumerate() {
            let rest: AddressSet = prefixes[at + 1..].iter().copied().collect();
            prop_assert!(AddressSet::from(*prefix).is_disjoint(&rest));
        }
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address(octets: [u8; 4], length in 0u8..=32) {
        let IpAddr::V4(v4) = IpAddr::from(octets) else { unreachable!() };
        let mapped = IpAddr::V6(v4.to_ipv6_mapped());
        prop_assert_eq!(AddressSet::from(mapped), AddressSet::from(IpAddr::V4(v4)));
        prop_assert!(AddressSet::from(IpAddr::V4(v4)).contains(mapped));
        let (plain, mapped) = (IpNet::new(v4.into(), length).unwrap(), IpNet::new(mapped, 96 + length).unwrap());
        prop_assert_eq!(AddressSet::from(mapped), AddressSet::from(plain));
    }
}
