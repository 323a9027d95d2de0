//! What a [`Ruleset`] means, as tables: what the text that is written is compared with.
//!
//! In: the neutral ruleset. Out: for each path an ordered, total table over all packets and every
//! conntrack state. Never: anything of the writer; this is the second statement of the same thing.
//!
//! The order is the policy language's: loopback, invalid, established and related, the floor, untracked,
//! entries, default.

use ringwall_packet::{
    Address, AddressSet, Conditions, Family, Interval, IntervalSet, Protocol, Row, State, Table, UpperCube,
    UpperSet, Variable, interface, truth,
};

use super::asks::states;
use super::values;
use crate::meaning::{Path, Verdict};
use crate::model::{CLOCK_MIN, Effect, Entry, Forward, Ruleset};

/// What the ruleset decides on a path. On a node that routes for nobody, a packet that comes in by a bridge
/// counts like any other: the text can't tell a container's connection from a stranger's.
pub(super) fn table(ruleset: &Ruleset, path: Path) -> Table<Verdict> {
    let mut table = Table::default();
    let all = [AddressSet::full(), AddressSet::full()];
    let every = |table: &mut Table<Verdict>, conditions: &Conditions, verdict| {
        table.push(&all[0], &all[1], &UpperSet::any(), conditions, verdict);
    };
    let name = |name: &str| interface(name).map(IntervalSet::single).unwrap_or_default();
    match (path, &ruleset.forward) {
        (Path::Input, _) => every(&mut table, &one(Variable::InputInterface, &name("lo")), Verdict::Accept),
        (Path::Output, _) => every(&mut table, &one(Variable::OutputInterface, &name("lo")), Verdict::Accept),
        (Path::Forward, Forward::Containers { unmanaged, .. }) => {
            for bridge in unmanaged {
                every(&mut table, &one(Variable::InputInterface, &name(bridge)), Verdict::Accept);
                every(&mut table, &one(Variable::OutputInterface, &name(bridge)), Verdict::Accept);
            }
        }
        (Path::Forward, Forward::Routed(_)) => {}
    }
    every(&mut table, &one(Variable::State, &states([State::Invalid])), Verdict::Drop);
    every(&mut table, &one(Variable::State, &states([State::Established, State::Related])), Verdict::Accept);
    floor(ruleset, path, &mut table);
    let default = match path {
        Path::Output => Verdict::Reject,
        Path::Input | Path::Forward => Verdict::Drop,
    };
    let untracked = one(Variable::State, &states([State::Untracked]));
    if let (Path::Forward, Forward::Containers { .. }) = (path, &ruleset.forward) {
        // A published port, by the destination that it had before it was translated.
        let translated = Conditions::default().and(Variable::Holds("ct status dnat".into()), &truth(true));
        let translated = translated.and_then(|all| all.and(Variable::State, &states([State::Untracked]).complement()));
        let translated = translated.expect("two variables");
        for entry in &ruleset.input {
            push(&mut table, entry, View::Published, Path::Input, &translated, verdict(entry));
        }
    } else {
        let mut judged = Table::default();
        for entry in ruleset.entries(path) {
            push(&mut judged, entry, View::Request, path, &Conditions::default(), verdict(entry));
        }
        judged.otherwise(default);
        answers(ruleset, path, &untracked, &judged, &mut table);
        table.v4.extend(judged.v4);
        table.v6.extend(judged.v6);
    }
    table.otherwise(default);
    table
}

/// Which fields stand for an entry's ends.
#[derive(Clone, Copy, PartialEq)]
enum View {
    Request,
    /// Both pairs of ends change places.
    Answer,
    Published,
}

fn verdict(entry: &Entry) -> Verdict {
    match entry.effect {
        Effect::Accept { .. } => Verdict::Accept,
        Effect::Drop => Verdict::Drop,
        Effect::Reject => Verdict::Reject,
    }
}

fn one(variable: Variable, values: &IntervalSet<u128>) -> Conditions {
    Conditions::default().and(variable, values).expect("a value that can be")
}

fn floor(ruleset: &Ruleset, path: Path, table: &mut Table<Verdict>) {
    if path == Path::Forward {
        return;
    }
    let (any, none) = (AddressSet::full(), Conditions::default());
    let of_v4 = AddressSet { v4: IntervalSet::full(), ..AddressSet::default() };
    let link_local = prefixes(&["fe80::/10"]);
    let types = |kinds: &[u8]| -> UpperSet { kinds.iter().map(|kind| UpperCube::icmp(Family::V6, *kind, None)).collect() };
    if ruleset.floor.neighbour_discovery {
        // RFC 4861 §6.1, §7.1.
        let near = one(Variable::Field("ip6 hoplimit".into()), &Interval::new(255, u128::MAX).into_iter().collect());
        table.push(&any, &any, &types(&[133, 134, 135, 136]), &near, Verdict::Accept);
    }
    if ruleset.floor.multicast_listener {
        // RFC 2710, RFC 3810, RFC 3376.
        table.push(&prefixes(&["::/128", "fe80::/10"]), &any, &types(&[130, 131, 132, 143]), &none, Verdict::Accept);
        table.push(&of_v4, &any, &[UpperCube::protocol(Protocol::IGMP)].into_iter().collect(), &none, Verdict::Accept);
    }
    if ruleset.floor.dhcp {
        // RFC 2131 §4.1, RFC 8415 §7.2: from server to client on the way in.
        let udp = |from: u16, to: u16| -> UpperSet {
            UpperCube::new(IntervalSet::single(Protocol::UDP.0), IntervalSet::single(to), IntervalSet::single(from)).into_iter().collect()
        };
        if path == Path::Input {
            table.push(&of_v4, &any, &udp(67, 68), &none, Verdict::Accept);
            table.push(&any, &link_local, &udp(547, 546), &none, Verdict::Accept);
        } else {
            table.push(&of_v4, &any, &udp(68, 67), &none, Verdict::Accept);
            table.push(&link_local, &any, &udp(546, 547), &none, Verdict::Accept);
        }
    }
}

fn prefixes(texts: &[&str]) -> AddressSet {
    texts.iter().map(|text| text.parse::<ipnet::IpNet>().expect("a constant prefix")).collect()
}

/// An untracked packet may be the answer to what the opposite path allows: the first of its entries
/// that the packet answers decides. Where that denies, the packet is judged like any other.
fn answers(ruleset: &Ruleset, path: Path, untracked: &Conditions, judged: &Table<Verdict>, table: &mut Table<Verdict>) {
    let opposite = match path {
        Path::Input => Path::Output,
        Path::Output => Path::Input,
        Path::Forward => Path::Forward,
    };
    for entry in ruleset.entries(opposite) {
        if let Effect::Accept { .. } = entry.effect {
            push(table, entry, View::Answer, path, untracked, Verdict::Accept);
            continue;
        }
        let mut denied = Table::default();
        push(&mut denied, entry, View::Answer, path, untracked, ());
        within(&denied.v4, &judged.v4, &mut table.v4);
        within(&denied.v6, &judged.v6, &mut table.v6);
    }
}

/// `rows` for the packets of `regions` alone.
fn within<A: Address>(regions: &[Row<A, ()>], rows: &[Row<A, Verdict>], out: &mut Vec<Row<A, Verdict>>) {
    for region in regions {
        let cut = |row: &Row<A, Verdict>| Some(Row { matches: row.matches.intersection(&region.matches)?, decision: row.decision });
        out.extend(rows.iter().filter_map(cut));
    }
}

/// The rows of one entry on `path`.
fn push<D: Clone>(table: &mut Table<D>, entry: &Entry, view: View, path: Path, with: &Conditions, decision: D) {
    let mut conditions = vec![with.clone()];
    if let Some(name) = &entry.interface {
        let values = interface(name).map(IntervalSet::single).unwrap_or_default();
        let variables: &[Variable] = match path {
            Path::Input => &[Variable::InputInterface],
            Path::Output => &[Variable::OutputInterface],
            Path::Forward => &[Variable::InputInterface, Variable::OutputInterface],
        };
        conditions = variables.iter().filter_map(|variable| with.and(variable.clone(), &values)).collect();
    }
    if let Some(expires) = entry.expires {
        let since = if matches!(entry.effect, Effect::Accept { .. }) { CLOCK_MIN } else { 0 };
        let last = expires.checked_sub(1).map(u128::from);
        let alive: IntervalSet<u128> = last.and_then(|last| Interval::new(since.into(), last)).into_iter().collect();
        conditions = conditions.iter().filter_map(|all| all.and(Variable::Clock, &alive)).collect();
    }
    for cube in entry.upper.cubes() {
        let is_icmp = cube.protocols().only().is_some_and(|number| Protocol(number).is_icmp());
        for conditions in &conditions {
            match view {
                View::Request => {
                    let upper: UpperSet = [cube.clone()].into_iter().collect();
                    table.push(&entry.source, &entry.destination, &upper, conditions, decision.clone());
                }
                View::Answer if is_icmp => {}
                View::Answer => {
                    let upper: UpperSet = cube.turned().into_iter().collect();
                    table.push(&entry.destination, &entry.source, &upper, conditions, decision.clone());
                }
                View::Published => published(table, entry, cube, is_icmp, conditions, &decision),
            }
        }
    }
}

/// Destination and destination port are those before translation; ICMP has its own type.
fn published<D: Clone>(table: &mut Table<D>, entry: &Entry, cube: &UpperCube, is_icmp: bool, conditions: &Conditions, decision: &D) {
    let ports = if is_icmp { IntervalSet::full() } else { cube.destination_ports().clone() };
    let upper = if is_icmp { Some(cube.clone()) } else { UpperCube::new(cube.protocols().clone(), IntervalSet::full(), cube.source_ports().clone()) };
    let upper: UpperSet = upper.into_iter().collect();
    let ports = values::of_variable(&ports, u16::MAX, u128::from);
    let Some(conditions) = conditions.and(Variable::OriginalPort, &ports) else { return };
    for family in Family::ALL {
        let (to, source, destination) = match family {
            Family::V4 => {
                let to = values::of_variable(&entry.destination.v4, std::net::Ipv4Addr::from_bits(!0), |address| address.to_bits().into());
                (to, AddressSet { v4: entry.source.v4.clone(), ..AddressSet::default() }, AddressSet { v4: IntervalSet::full(), ..AddressSet::default() })
            }
            Family::V6 => {
                let to = values::of_variable(&entry.destination.v6, std::net::Ipv6Addr::from_bits(!0), |address| address.to_bits());
                (to, AddressSet { v6: entry.source.v6.clone(), ..AddressSet::default() }, AddressSet { v6: IntervalSet::full(), ..AddressSet::default() })
            }
        };
        if let Some(conditions) = conditions.and(Variable::OriginalDestination, &to) {
            table.push(&source, &destination, &upper, &conditions, decision.clone());
        }
    }
}
