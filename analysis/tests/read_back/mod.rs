//! Reads a line's words back into packets: what is said must be exactly what is meant.

use std::net::{IpAddr, Ipv4Addr};

use ringwall_analysis::words::Line;
use ringwall_packet::{AddressSet, Conditions, Cube, Family, Interval, IntervalSet, Protocol, Table, UpperCube, UpperSet, truth};
use ringwall_policy::{Policy, is_answer, uses_interface};

/// The packets that a line's words stand for.
pub fn read(policy: &Policy, line: &Line) -> Table<()> {
    let internal = || policy.internal.as_ref().unwrap();
    let one = |word: &String| -> AddressSet {
        let named = match word.as_str() {
            "any" => Some(AddressSet::full()),
            "internal" => Some(internal().clone()),
            "internet" => Some(Policy::internet(internal(), &policy.node_addresses())),
            _ => policy.groups.get(word.as_str()).map(|group| group.addresses.clone()),
        };
        let named = named.or_else(|| policy.nodes.get(word.as_str()).map(|node| node.local()));
        named.unwrap_or_else(|| match word.split_once('-') {
            Some((first, last)) => range(first.parse().unwrap(), last.parse().unwrap()),
            None => word.parse::<ipnet::IpNet>().map(AddressSet::from).unwrap_or_else(|_| word.parse::<IpAddr>().unwrap().into()),
        })
    };
    let mut conditions = Conditions::default();
    let answer = line.destination.words.first().filter(|word| word.contains(".example.")).cloned();
    let destination = match &answer {
        Some(name) => {
            conditions = conditions.and(is_answer(name), &truth(true)).unwrap();
            AddressSet::full()
        }
        None => all(&line.destination.words, one).difference(&all(&line.destination.except, one)),
    };
    let source = all(&line.source.words, one).difference(&all(&line.source.except, one));
    let source = match line.family {
        None => source,
        Some(Family::V4) => AddressSet { v6: IntervalSet::default(), ..source },
        Some(Family::V6) => AddressSet { v4: IntervalSet::default(), ..source },
    };
    for text in &line.conditions {
        let (variable, holds) = if let Some(name) = text.strip_prefix("unless ") {
            (is_answer(name.strip_suffix(" resolves to it").unwrap()), false)
        } else if let Some(name) = text.strip_prefix("if ") {
            (is_answer(name.strip_suffix(" resolves to it").unwrap()), true)
        } else if let Some(via) = text.strip_prefix("not via ") {
            (uses_interface(via), false)
        } else {
            (uses_interface(text.strip_prefix("via ").unwrap()), true)
        };
        conditions = conditions.and(variable, &truth(holds)).unwrap();
    }
    let mut table = Table::default();
    for upper in services(&line.services) {
        table.push(&source, &destination, &upper, &conditions, ());
    }
    table
}

fn all(words: &[String], one: impl Fn(&String) -> AddressSet) -> AddressSet {
    words.iter().map(one).collect()
}

fn range(first: IpAddr, last: IpAddr) -> AddressSet {
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => AddressSet { v4: Interval::new(first, last).unwrap().into(), ..AddressSet::default() },
        (IpAddr::V6(first), IpAddr::V6(last)) => AddressSet { v6: Interval::new(first, last).unwrap().into(), ..AddressSet::default() },
        _ => panic!("a range of two families"),
    }
}

fn services(items: &[String]) -> Vec<UpperSet> {
    let one = |cube: UpperCube| std::iter::once(cube).collect::<UpperSet>();
    if let [item] = items
        && let Some(but) = item.strip_prefix("any except ")
    {
        let part = |upper| Cube::<Ipv4Addr> { upper, ..Cube::any() };
        let mut rest = vec![part(UpperCube::any())];
        for cube in but.split(", ").flat_map(service) {
            rest = rest.iter().flat_map(|some| some.difference(&part(cube.clone()))).collect();
        }
        return rest.into_iter().map(|cube| one(cube.upper)).collect();
    }
    items.iter().flat_map(|item| service(item)).map(one).collect()
}

fn service(item: &str) -> Vec<UpperCube> {
    let ports = |text: &str| -> IntervalSet<u16> {
        let interval = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Interval::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
        };
        text.split(',').map(interval).collect()
    };
    let (item, from) = item.split_once(" from ").map_or((item, None), |(item, from)| (item, Some(ports(from))));
    let item = item.split(" (").next().unwrap();
    let cubes = match item {
        "any" => vec![UpperCube::any()],
        "icmp" => vec![UpperCube::protocol(Protocol::ICMP), UpperCube::protocol(Protocol::ICMPV6)],
        _ => match item.split_once('/') {
            None => vec![UpperCube::protocol(Protocol::named(item).unwrap())],
            Some(("icmp", "echo-request")) => {
                vec![UpperCube::icmp(Family::V4, 8, None), UpperCube::icmp(Family::V6, 128, None)]
            }
            Some((icmp @ ("icmp" | "icmpv6"), types)) => {
                let family = if icmp == "icmp" { Family::V4 } else { Family::V6 };
                let types = ports(types);
                let kinds = types.intervals().iter().flat_map(|kinds| kinds.first()..=kinds.last());
                kinds.map(|kind| UpperCube::icmp(family, kind.try_into().unwrap(), None)).collect()
            }
            Some(("proto", numbers)) => {
                let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
                (first.parse().unwrap()..=last.parse().unwrap()).map(|number| UpperCube::protocol(Protocol(number))).collect()
            }
            Some((numbers, protocol)) => vec![UpperCube::ports(Protocol::named(protocol).unwrap(), ports(numbers)).unwrap()],
        },
    };
    match from {
        None => cubes,
        Some(from) => cubes.iter().map(|cube| cube.with_source_ports(&from).unwrap()).collect(),
    }
}
