//! Sets of flows against a small world in which every flow can be asked for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use ringwall_packet::{
    AddressSet, Family, Flow, FlowSet, Interval, IntervalSet, PortProtocol, Protocol, Upper, UpperCube, UpperSet,
};

/// Four addresses of each family, two ports, two ICMP types with two codes, two plain protocols.
fn world() -> Vec<Flow> {
    let ports = [0, 1].into_iter().flat_map(|source| {
        [PortProtocol::TCP, PortProtocol::UDP]
            .into_iter()
            .flat_map(move |protocol| [7, 8].map(|destination| Upper::Ports { protocol, source, destination }))
    });
    let icmp = [8, 128].into_iter().flat_map(|kind| [0, 1].map(|code| Upper::Icmp { kind, code }));
    let others = [Protocol::GRE, Protocol::ESP].map(|protocol| Upper::other(protocol).unwrap());
    let uppers: Vec<Upper> = ports.chain(icmp).chain(others).collect();
    let mut flows = Vec::new();
    for (source, destination) in (0..4).flat_map(|source| (0..4).map(move |destination| (source, destination))) {
        for upper in &uppers {
            for family in Family::ALL {
                flows.push(Flow::new(address(family, source), address(family, destination), *upper).unwrap());
            }
        }
    }
    flows
}

fn address(family: Family, number: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(192, 0, 2, number).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into()).into(),
    }
}

fn addresses() -> impl Strategy<Value = AddressSet> {
    // A bit for each address of the world; all of them together are everything, outside included.
    (0u8..=16, 0u8..=16).prop_map(|(v4, v6)| {
        let of = |family: Family, bits: u8| -> AddressSet {
            let chosen = (0..4).filter(move |number| bits >> number & 1 == 1);
            chosen.map(move |number| address(family, number)).collect()
        };
        let mut set = of(Family::V4, v4).union(&of(Family::V6, v6));
        if v4 == 16 {
            set.v4 = IntervalSet::full();
        }
        if v6 == 16 {
            set.v6 = IntervalSet::full();
        }
        set
    })
}

fn upper() -> impl Strategy<Value = UpperCube> {
    let ports = (prop_oneof![Just(Protocol::TCP), Just(Protocol::UDP)], 6u16..9, 0u16..3, prop::option::of(0u16..2)).prop_map(
        |(protocol, first, more, source)| {
            let cube = UpperCube::ports(protocol, Interval::new(first, first + more).unwrap().into()).unwrap();
            match source {
                Some(port) => cube.with_source_ports(&IntervalSet::single(port)).unwrap(),
                None => cube,
            }
        },
    );
    let icmp = (prop_oneof![Just(Family::V4), Just(Family::V6)], prop_oneof![Just(8u8), Just(128)], prop::option::of(0u8..2))
        .prop_map(|(family, kind, code)| UpperCube::icmp(family, kind, code));
    let whole = prop_oneof![
        Just(Protocol::TCP), Just(Protocol::ICMP), Just(Protocol::ICMPV6), Just(Protocol::GRE), Just(Protocol::ESP),
    ]
    .prop_map(UpperCube::protocol);
    prop_oneof![4 => ports, 2 => icmp, 2 => whole, 1 => Just(UpperCube::any())]
}

fn flow_set() -> impl Strategy<Value = FlowSet> {
    let product = (addresses(), addresses(), prop::collection::vec(upper(), 0..3))
        .prop_map(|(source, destination, cubes)| FlowSet::product(&source, &destination, &cubes.into_iter().collect::<UpperSet>()));
    prop::collection::vec(product, 0..4)
        .prop_map(|products| products.iter().fold(FlowSet::default(), |all, product| all.union(product)))
}

proptest! {
    #[test]
    fn operations_are_those_on_membership(a in flow_set(), b in flow_set()) {
        let (union, common, rest) = (a.union(&b), a.intersection(&b), a.difference(&b));
        for flow in world() {
            let (in_a, in_b) = (a.contains(&flow), b.contains(&flow));
            prop_assert_eq!(union.contains(&flow), in_a || in_b, "union, {}", flow);
            prop_assert_eq!(common.contains(&flow), in_a && in_b, "intersection, {}", flow);
            prop_assert_eq!(rest.contains(&flow), in_a && !in_b, "difference, {}", flow);
        }
        prop_assert!(rest.intersection(&b).is_empty());
        prop_assert!(a.difference(&rest.union(&common)).is_empty());
        prop_assert!(rest.union(&common).difference(&a).is_empty());
    }

    #[test]
    fn a_set_is_empty_exactly_when_it_has_no_witness(a in flow_set(), b in flow_set()) {
        for set in [&a, &a.difference(&b), &a.intersection(&b), &FlowSet::full().difference(&a)] {
            prop_assert_eq!(set.witness().is_none(), set.is_empty());
            if let Some(witness) = set.witness() {
                prop_assert!(set.contains(&witness), "{}", witness);
            }
            prop_assert!(!set.is_empty() || world().iter().all(|flow| !set.contains(flow)));
        }
    }

    #[test]
    fn everything_is_in_the_whole_and_nothing_is_left_of_it(a in flow_set()) {
        let outside = FlowSet::full().difference(&a);
        for flow in world() {
            prop_assert_ne!(outside.contains(&flow), a.contains(&flow));
        }
        prop_assert!(FlowSet::full().difference(&a.union(&outside)).is_empty());
        prop_assert!(a.difference(&FlowSet::full()).is_empty());
    }

    #[test]
    fn a_flow_answers_to_its_answer(number in 0usize..448) {
        let flows = world();
        let flow = flows[number % flows.len()];
        if let Some(reply) = flow.reply() {
            prop_assert_eq!((reply.source(), reply.destination()), (flow.destination(), flow.source()));
            prop_assert_eq!(reply.family(), flow.family());
            prop_assert_eq!(reply.protocol(), flow.protocol());
        }
    }
}

/// One family's ICMP types say nothing about the other family, where the number is a protocol like any other.
#[test]
fn icmp_types_belong_to_their_family() {
    let echo = |family| FlowSet::product(&AddressSet::full(), &AddressSet::full(), &[UpperCube::icmp(family, 8, None)].into_iter().collect());
    let (v4, v6) = (echo(Family::V4), echo(Family::V6));
    let flow = |family, kind| Flow::new(address(family, 0), address(family, 1), Upper::Icmp { kind, code: 0 }).unwrap();
    assert!(v4.contains(&flow(Family::V4, 8)) && !v4.contains(&flow(Family::V6, 8)));
    assert!(v6.contains(&flow(Family::V6, 8)) && !v6.contains(&flow(Family::V4, 8)));
    assert!(v4.v6.cubes().is_empty() && v6.v4.cubes().is_empty());
}
