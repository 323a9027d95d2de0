//! Random rulesets: few addresses, ports at the borders, every protocol, all that this target expresses.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use ringwall_packet::{AddressSet, Family, Interval, IntervalSet, Protocol, UpperCube, UpperSet};
use ringwall_ruleset::{CLOCK_MIN, Effect, Entry, Floor, Forward, Ruleset};

/// Ends of IPv4 and IPv6 that meet each other often. Single addresses, prefixes and ranges that are none.
pub fn addresses() -> impl Strategy<Value = AddressSet> {
    let interval = (0u8..4, 0u32..6, 0u32..6);
    let v4 = |(kind, from, size): (u8, u32, u32)| {
        let base = u32::from(Ipv4Addr::new(192, 0, 2, 0)) + from * 3;
        let last = if kind == 0 { base } else { base + size };
        Interval::new(Ipv4Addr::from_bits(base), Ipv4Addr::from_bits(last)).expect("an ordered pair")
    };
    let v6 = |(kind, from, size): (u8, u32, u32)| {
        let base = u128::from_be_bytes([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) + u128::from(from) * 5;
        let last = if kind == 0 { base } else { base + u128::from(size) };
        Interval::new(Ipv6Addr::from_bits(base), Ipv6Addr::from_bits(last)).expect("an ordered pair")
    };
    prop_oneof![
        1 => Just(AddressSet::full()),
        1 => vec(interval.clone(), 0..5).prop_map(move |all| AddressSet { v4: all.into_iter().map(v4).collect(), ..AddressSet::default() }),
        6 => (vec(interval.clone(), 0..5), vec(interval, 0..5)).prop_map(move |(all4, all6)| AddressSet {
            v4: all4.into_iter().map(v4).collect(),
            v6: all6.into_iter().map(v6).collect(),
        }),
    ]
}

fn ports(count: usize) -> impl Strategy<Value = IntervalSet<u16>> {
    let one = prop_oneof![Just((80u16, 0u16)), Just((0, 0)), Just((65_535, 0)), Just((0, 1023)), (20u16..40, 0u16..3), (1000u16..30_000, 0u16..2000)];
    vec(one, 1..count).prop_map(|all| all.into_iter().map(|(first, size)| Interval::new(first, first.saturating_add(size)).expect("an ordered pair")).collect())
}

fn cube() -> impl Strategy<Value = UpperCube> {
    let ported = prop_oneof![6 => Just(Protocol::TCP), 3 => Just(Protocol::UDP), 1 => Just(Protocol::SCTP), 1 => Just(Protocol::DCCP)];
    prop_oneof![
        1 => Just(UpperCube::any()),
        8 => (ported.clone(), ports(24)).prop_map(|(protocol, ports)| UpperCube::ports(protocol, ports).expect("it has ports")),
        2 => (ported, ports(3), ports(3)).prop_map(|(protocol, to, from)| {
            UpperCube::ports(protocol, to).and_then(|cube| cube.with_source_ports(&from)).expect("it has ports")
        }),
        1 => prop_oneof![Just(47u8), Just(50), Just(51), Just(112), Just(1), Just(58), 1u8..=255].prop_map(|number| UpperCube::protocol(Protocol(number))),
        1 => (0u8..255, option::of(0u8..4)).prop_map(|(kind, code)| UpperCube::icmp(Family::V4, kind, code)),
        1 => (any::<u8>(), option::of(0u8..4)).prop_map(|(kind, code)| UpperCube::icmp(Family::V6, kind, code)),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let effect = prop_oneof![4 => Just(Effect::Accept { session_timeout: None }), 1 => Just(Effect::Drop), 1 => Just(Effect::Reject)];
    let interface = prop_oneof![6 => Just(None), 1 => Just(Some("eth0".to_owned())), 1 => Just(Some("wg0".to_owned()))];
    let expires = prop_oneof![8 => Just(None), 1 => (0u64..3).prop_map(|day| Some(CLOCK_MIN + day * 86_400)), 1 => Just(Some(0x8000_0000))];
    (effect, addresses(), addresses(), vec(cube(), 1..3), interface, expires, any::<bool>()).prop_map(
        |(effect, source, destination, upper, interface, expires, log)| Entry {
            id: String::new(),
            effect,
            source,
            destination,
            names: Default::default(),
            upper: UpperSet::from_iter(upper),
            interface,
            expires,
            audit: false,
            log,
        },
    )
}

fn entries(count: usize) -> impl Strategy<Value = Vec<Entry>> {
    vec(entry(), 0..count).prop_map(|mut entries| {
        for (index, entry) in entries.iter_mut().enumerate() {
            entry.id = format!("r{index}");
        }
        entries
    })
}

pub fn ruleset(count: usize) -> impl Strategy<Value = Ruleset> {
    let forward = prop_oneof![
        entries(count).prop_map(Forward::Routed),
        any::<bool>().prop_map(|has_bridge| Forward::Containers {
            unmanaged: if has_bridge { ["br0".to_owned()].into() } else { Default::default() },
            uplinks: ["eth0".to_owned()].into(),
        }),
    ];
    (any::<[bool; 3]>(), entries(count), entries(count), forward).prop_map(|([dhcp, neighbour_discovery, multicast_listener], input, output, forward)| Ruleset {
        node: "n1".into(),
        audit: false,
        local: AddressSet::default(),
        protected: AddressSet::default(),
        floor: Floor { dhcp, neighbour_discovery, multicast_listener },
        input,
        output,
        forward,
    })
}
