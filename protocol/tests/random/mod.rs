//! Random rulesets of every kind that the wire must carry.

use std::collections::BTreeSet;

use proptest::prelude::*;
use ringwall_packet::{AddressSet, Family, Interval, IntervalSet, Protocol, UpperCube, UpperSet};
use ringwall_ruleset::{Effect, Entry, Floor, Forward, Ruleset};

fn intervals<P: ringwall_packet::Point + 'static>(
    point: impl Strategy<Value = P> + Clone + 'static,
) -> impl Strategy<Value = IntervalSet<P>> {
    let interval = (point.clone(), point).prop_map(|(a, b)| Interval::new(a.min(b), a.max(b)).expect("in order"));
    prop_oneof![4 => prop::collection::vec(interval, 0..5).prop_map(|some| some.into_iter().collect()), 1 => Just(IntervalSet::full())]
}

fn addresses() -> impl Strategy<Value = AddressSet> {
    let v4 = any::<[u8; 4]>().prop_map(std::net::Ipv4Addr::from);
    let v6 = any::<[u8; 16]>().prop_map(std::net::Ipv6Addr::from);
    (intervals(v4), intervals(v6)).prop_map(|(v4, v6)| AddressSet { v4, v6 })
}

fn upper() -> impl Strategy<Value = UpperSet> {
    let with_ports = prop::sample::select(vec![Protocol::TCP, Protocol::UDP, Protocol::SCTP]);
    let ports = (with_ports, intervals(any::<u16>()), intervals(any::<u16>()))
        .prop_filter_map("a box", |(protocol, to, from)| UpperCube::new(IntervalSet::single(protocol.0), to, from));
    let icmp = (any::<bool>(), any::<u8>(), any::<Option<u8>>())
        .prop_map(|(v4, kind, code)| UpperCube::icmp(if v4 { Family::V4 } else { Family::V6 }, kind, code));
    let whole = intervals(any::<u8>()).prop_filter_map("a box", |protocols| UpperCube::new(protocols, IntervalSet::full(), IntervalSet::full()));
    let cube = prop_oneof![ports, icmp, whole, Just(UpperCube::any())];
    prop::collection::vec(cube, 0..4).prop_map(|cubes| cubes.into_iter().collect())
}

fn names() -> impl Strategy<Value = BTreeSet<String>> {
    prop_oneof![4 => Just(BTreeSet::new()), 1 => prop::collection::btree_set("[a-z][a-z0-9]{0,8}\\.example\\.net", 1..4)]
}

fn entry(sets: Vec<AddressSet>, uppers: Vec<UpperSet>) -> impl Strategy<Value = Entry> {
    let effect = prop_oneof![
        any::<Option<u32>>().prop_map(|session_timeout| Effect::Accept { session_timeout }),
        Just(Effect::Drop),
        Just(Effect::Reject),
    ];
    let set = prop::sample::select(sets);
    (
        ("[0-9a-f]{8}|management", effect, set.clone(), set, prop::sample::select(uppers)),
        (names(), prop::option::of("[a-z]{1,5}[0-9]{1,3}"), any::<Option<u64>>(), any::<bool>(), any::<bool>()),
    )
        .prop_map(|((id, effect, source, destination, upper), (names, interface, expires, audit, log))| Entry {
            id, effect, source, destination, names, upper, interface, expires, audit, log,
        })
}

pub fn ruleset() -> impl Strategy<Value = Ruleset> {
    let sets = prop::collection::vec(addresses(), 1..6);
    let uppers = prop::collection::vec(upper(), 1..4);
    (sets, uppers).prop_flat_map(|(sets, uppers)| {
        let entries = || prop::collection::vec(entry(sets.clone(), uppers.clone()), 0..8);
        let interfaces = || prop::collection::btree_set("[a-z]{1,4}[0-9]", 0..3);
        let forward = prop_oneof![
            entries().prop_map(Forward::Routed),
            (interfaces(), interfaces()).prop_map(|(unmanaged, uplinks)| Forward::Containers { unmanaged, uplinks }),
        ];
        let set = prop::sample::select(sets.clone());
        let floor = any::<(bool, bool, bool)>()
            .prop_map(|(dhcp, neighbour_discovery, multicast_listener)| Floor { dhcp, neighbour_discovery, multicast_listener });
        ("[a-z][a-z0-9-]{0,20}", any::<bool>(), set.clone(), set, floor, entries(), entries(), forward).prop_map(
            |(node, audit, local, protected, floor, input, output, forward)| Ruleset {
                node, audit, local, protected, floor, input, output, forward,
            },
        )
    })
}
