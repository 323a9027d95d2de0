//! Of many packets the one that a person believes.
//!
//! In: packets. Out: one of them: TCP or an echo request where there is one, between two machines
//! with addresses of the internet where many will do.
//! Never: a packet that is not of the set.

use std::net::{Ipv4Addr, Ipv6Addr};

use ringwall_packet::{Address, Family, Interval, IntervalSet, Matches, Point, Protocol, UpperCube, Variable, Witness, interface};

use crate::words::Packets;

pub(super) fn example(packets: &Packets) -> Option<Witness> {
    first::<Ipv4Addr>(&packets.v4).or_else(|| first::<Ipv6Addr>(&packets.v6))
}

fn first<A: Global>(boxes: &[Matches<A>]) -> Option<Witness> {
    let best = boxes.iter().find(|matches| uppers(A::FAMILY).iter().any(|upper| matches.cube.upper.intersection(upper).is_some()));
    best.or(boxes.first()).map(of_box)
}

/// One packet of a box.
pub(super) fn of_box<A: Global>(matches: &Matches<A>) -> Witness {
    let mut nice = matches.clone();
    if let Some(upper) = uppers(A::FAMILY).iter().find_map(|upper| matches.cube.upper.intersection(upper)) {
        nice.cube.upper = upper;
    }
    for end in [&mut nice.cube.source, &mut nice.cube.destination] {
        if end.contains(A::global().first()) {
            *end = end.intersection(&A::global().into());
        }
    }
    // Nothing listens on port 0.
    let protocol = nice.cube.upper.protocols().only().map(Protocol);
    let ports = Interval::new(1, u16::MAX).map(IntervalSet::from);
    if let Some(upper) = protocol.zip(ports).and_then(|(protocol, ports)| UpperCube::ports(protocol, ports)?.intersection(&nice.cube.upper)) {
        nice.cube.upper = upper;
    }
    for (variable, name) in [(Variable::InputInterface, "eth0"), (Variable::OutputInterface, "eth1")] {
        let asked = nice.conditions.values(&variable).is_some();
        let usual = interface(name).and_then(|name| nice.and(variable, &IntervalSet::single(name)));
        if let Some(usual) = usual.filter(|_| asked) {
            nice = usual;
        }
    }
    // To itself a machine says what it likes.
    if let Some(destination) = nice.cube.destination.first() {
        let others = without(&nice.cube.source, destination);
        if !others.is_empty() {
            nice.cube.source = others;
            nice.cube.destination = IntervalSet::single(destination);
        } else if let Some(source) = nice.cube.source.first() {
            let others = without(&nice.cube.destination, source);
            if !others.is_empty() {
                nice.cube.destination = others;
            }
        }
    }
    nice.witness()
}

/// Where addresses of the internet begin.
pub(super) trait Global: Address {
    fn global() -> Interval<Self>;
}

impl Global for Ipv4Addr {
    fn global() -> Interval<Self> {
        Interval::new(Ipv4Addr::new(1, 0, 0, 0), Ipv4Addr::new(9, 255, 255, 255)).expect("an ordered pair")
    }
}

impl Global for Ipv6Addr {
    fn global() -> Interval<Self> {
        // 2000::/3, RFC 4291 as IANA hands it out.
        Interval::new(Ipv6Addr::from_bits(0x2 << 124), Ipv6Addr::from_bits((0x4 << 124) - 1)).expect("an ordered pair")
    }
}

fn without<A: Point>(set: &IntervalSet<A>, point: A) -> IntervalSet<A> {
    set.difference(&IntervalSet::single(point))
}

/// What people know best first.
fn uppers(family: Family) -> [UpperCube; 5] {
    let web = UpperCube::ports(Protocol::TCP, IntervalSet::single(443)).expect("TCP has ports");
    let ping = match family {
        Family::V4 => UpperCube::icmp(family, 8, Some(0)),
        Family::V6 => UpperCube::icmp(family, 128, Some(0)),
    };
    [web, UpperCube::protocol(Protocol::TCP), UpperCube::protocol(Protocol::UDP), ping, UpperCube::any()]
}
