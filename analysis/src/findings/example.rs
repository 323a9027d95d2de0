//! Of many packets the one that a person believes.
//!
//! In: packets. Out: one of them: TCP or an echo request where there is one, between two machines.
//! Never: a packet that is not of the set.

use std::net::{Ipv4Addr, Ipv6Addr};

use ringwall_packet::{Address, Family, IntervalSet, Matches, Point, Protocol, UpperCube, Witness};

use crate::words::Packets;

pub(super) fn example(packets: &Packets) -> Option<Witness> {
    first::<Ipv4Addr>(&packets.v4).or_else(|| first::<Ipv6Addr>(&packets.v6))
}

fn first<A: Address>(boxes: &[Matches<A>]) -> Option<Witness> {
    let best = boxes.iter().find(|matches| uppers(A::FAMILY).iter().any(|upper| matches.cube.upper.intersection(upper).is_some()));
    best.or(boxes.first()).map(of_box)
}

/// One packet of a box.
pub(super) fn of_box<A: Address>(matches: &Matches<A>) -> Witness {
    let mut nice = matches.clone();
    if let Some(upper) = uppers(A::FAMILY).iter().find_map(|upper| matches.cube.upper.intersection(upper)) {
        nice.cube.upper = upper;
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
