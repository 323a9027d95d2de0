//! Words for sets of packets say exactly the set, and say it as the operator would.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::read_back;

use proptest::prelude::*;
use ringwall_analysis::words::{Line, Packets, Words};
use ringwall_packet::{
    AddressSet, Budget, Conditions, Cube, Interval, IntervalSet, Matches, Protocol, Row, Table, UpperCube, UpperSet, truth,
};
use ringwall_policy::{Decider, Policy, is_answer, uses_interface};
use ringwall_policy_file::{Input, Values, parse};

const NOW: u64 = 1_800_000_000;

const BASE: &str = "\
internal: [192.0.2.0/24, 198.51.100.0/24, \"2001:db8::/32\"]
nodes:
  vault-1: { addresses: [192.0.2.10, \"2001:db8::10\"] }
  vault-2: { addresses: [192.0.2.11, \"2001:db8::11\"], interfaces: { vpn: wg0 } }
  vault-3: { addresses: [192.0.2.12] }
groups:
  primary: { nodes: [vault-1] }
  members: { nodes: [vault-2, vault-3] }
  vault:   { groups: [primary, members] }
  users:   { addresses: [198.51.100.0/24, \"2001:db8:1::/64\"] }
  admins:  { addresses: [198.51.100.9, \"2001:db8:1::9\"] }
  old:     { addresses: [192.0.2.128/25] }
services:
  galera: [tcp/4567-4568, udp/4567]
";

fn policy(rules: &str) -> Policy {
    let input = Input { name: "policy.yaml".into(), text: format!("{BASE}rules:\n{rules}") };
    let parsed = parse(&[input], &Values::default(), NOW);
    parsed.policy.unwrap_or_else(|| panic!("{:?}", parsed.diagnostics))
}

fn registered(protocol: Protocol, port: u16) -> Option<&'static str> {
    match (protocol, port) {
        (Protocol::TCP, 443) => Some("https"),
        (Protocol::TCP, 22) => Some("ssh"),
        _ => None,
    }
}

/// What the rules of `policy` are in its own words.
fn said(rules: &str) -> Vec<String> {
    let policy = policy(rules);
    let rows = Packets::of_rows(&policy.table(NOW), |decider| matches!(decider, Decider::Rule(_)));
    Words::new(&policy, &registered).lines(&rows, &rows).iter().map(Line::to_string).collect()
}

#[test]
fn a_rule_is_said_as_it_is_written() {
    let rules = "  - allow: users -> vault
    services: [https, ssh, tcp/8443, galera]
  - allow: vault <-> vault
    services: [galera, icmp]
  - allow: internet -> primary, members
    services: [icmp/echo-request, \"udp/1000-1999\"]
  - allow: any -> vault-3
    services: [any]
  - allow: vault-2 -> old
    services: [gre]
";
    let expected = [
        "any -> vault-3  any",
        "internet -> vault  1000-1999/udp, icmp/echo-request",
        "users -> vault  22/tcp (ssh), 443/tcp (https), 4567-4568/tcp (galera), 8443/tcp, 4567/udp (galera)",
        "vault -> vault  4567-4568/tcp (galera), 4567/udp (galera), icmp",
        "vault-2 -> old  gre",
    ];
    assert_eq!(said(rules), expected);
}

#[test]
fn interfaces_names_and_source_ports_are_said() {
    let rules = "  - allow: users -> primary
    services: [tcp/443]
    via: vpn
  - allow: users -> primary
    services: [udp/5060]
    source_ports: [5060, 10000-10999]
";
    let expected = ["users -> primary  443/tcp (https), via vpn", "users -> primary  5060/udp from 5060,10000-10999"];
    assert_eq!(said(rules), expected);
}

/// All from `source` to `destination` on TCP ports.
fn product(source: &AddressSet, destination: &AddressSet, ports: Interval<u16>) -> Packets {
    let upper: UpperSet = UpperCube::ports(Protocol::TCP, ports.into()).into_iter().collect();
    let mut table = Table::default();
    table.push(source, destination, &upper, &Conditions::default(), ());
    Packets::of_rows(&table, |()| true)
}

#[test]
fn parts_of_groups_are_said() {
    let policy = policy("  - allow: users -> vault\n    services: [https]\n");
    let words = Words::new(&policy, &registered);
    let group = |name: &str| policy.groups[name].addresses.clone();
    let https = Interval::single(443);
    let say = |source: &AddressSet, destination: &AddressSet| {
        let lines = words.lines(&product(source, destination, https), &Packets::default());
        lines.iter().map(Line::to_string).collect::<Vec<_>>()
    };
    let without = group("users").difference(&group("admins"));
    assert_eq!(say(&without, &group("vault")), ["users except admins -> vault  443/tcp (https)"]);
    let two = group("primary").union(&group("users"));
    assert_eq!(say(&two, &group("members")), ["primary, users -> members  443/tcp (https)"]);
    let odd: AddressSet = "203.0.113.0/29".parse::<ipnet::IpNet>().unwrap().into();
    let odd = odd.union(&"203.0.113.9".parse::<IpAddr>().unwrap().into());
    assert_eq!(say(&odd.union(&group("admins")), &group("primary")), [
        "admins, 203.0.113.0/29, 203.0.113.9 -> primary  443/tcp (https)",
    ]);
    let v4 = AddressSet { v4: group("users").v4, ..AddressSet::default() };
    assert_eq!(say(&v4, &group("vault")), ["users -> vault  443/tcp (https) (IPv4 only)"]);
    // `vault-3` has nothing but IPv4.
    assert_eq!(say(&group("users"), &policy.nodes["vault-3"].addresses), ["users -> vault-3  443/tcp (https)"]);
    let all_but = AddressSet::full().difference(&group("users"));
    assert_eq!(say(&all_but, &AddressSet::full()), ["any except users -> any  443/tcp (https)"]);
    let end = words.end(&odd.union(&group("users")));
    assert_eq!(end.short(1), "users and 2 more");
}

#[test]
fn almost_everything_is_said_by_what_is_left_out() {
    let policy = policy("  - deny: users -> vault\n    services: [https]\n");
    let users = &policy.groups["users"].addresses;
    let mut table = Table::default();
    for part in UpperCube::any_but_tcp_443() {
        table.push(users, &AddressSet::full(), &part, &Conditions::default(), ());
    }
    let packets = Packets::of_rows(&table, |()| true);
    let lines = Words::new(&policy, &registered).lines(&packets, &Packets::default());
    assert_eq!(lines.iter().map(Line::to_string).collect::<Vec<_>>(), ["users -> any  any except 443/tcp (https)"]);
}

trait But {
    fn any_but_tcp_443() -> Vec<UpperSet>;
}

impl But for UpperCube {
    fn any_but_tcp_443() -> Vec<UpperSet> {
        let https = Self::ports(Protocol::TCP, IntervalSet::single(443)).unwrap();
        let part = |upper| Cube::<Ipv4Addr> { upper, ..Cube::any() };
        let rest = part(Self::any()).difference(&part(https));
        rest.into_iter().map(|cube| std::iter::once(cube.upper).collect()).collect()
    }
}

// --- What is said is exactly what is meant: the words are read back. ---

fn table(packets: &Packets) -> Table<()> {
    let row = |matches: &Matches<Ipv4Addr>| Row { matches: matches.clone(), decision: () };
    let row6 = |matches: &Matches<Ipv6Addr>| Row { matches: matches.clone(), decision: () };
    Table { v4: packets.v4.iter().map(row).collect(), v6: packets.v6.iter().map(row6).collect() }
}

/// Disjoint parts of what some rows ask and others do not.
fn subset(rows: &Table<()>, without: &Table<()>) -> Packets {
    let difference = rows.difference(without, |one, other| one.is_some() == other.is_some(), &mut Budget::new(1_000_000)).unwrap();
    let v4 = difference.v4.into_iter().filter(|change| change.before.is_some()).map(|change| change.matches).collect();
    let v6 = difference.v6.into_iter().filter(|change| change.before.is_some()).map(|change| change.matches).collect();
    Packets { v4, v6 }
}

const ENDS: [&str; 11] =
    ["any", "internal", "internet", "vault-1", "vault-2", "vault-3", "primary", "members", "users", "admins", "old"];

fn some_rows() -> impl Strategy<Value = Table<()>> {
    let policy = policy("  - allow: users -> vault\n    services: [galera]\n");
    let internal = policy.internal.clone().unwrap();
    let mut sets: BTreeMap<&str, AddressSet> = policy.groups.iter().map(|(name, group)| (ENDS.iter().find(|end| **end == name.as_str()).copied().unwrap_or("vault"), group.addresses.clone())).collect();
    for (name, node) in &policy.nodes {
        sets.insert(ENDS.iter().find(|end| **end == name.as_str()).unwrap(), node.local());
    }
    sets.insert("any", AddressSet::full());
    sets.insert("internet", Policy::internet(&internal, &policy.node_addresses()));
    sets.insert("internal", internal);
    sets.insert("odd", ["203.0.113.0/28", "192.0.2.8/29", "2001:db8::/124"].map(|text| text.parse::<ipnet::IpNet>().unwrap()).into_iter().collect());
    let end = prop::sample::select(sets.into_values().collect::<Vec<_>>());
    let ports = prop::sample::select(vec![(443, 443), (22, 443), (4567, 4567), (4567, 4568), (4568, 4570), (0, 65535)]);
    let cube = (ports, prop::option::weighted(0.2, 0u16..4), 0..4).prop_map(|((first, last), from, protocol)| {
        let ports = IntervalSet::from(Interval::new(first, last).unwrap());
        let cube = match protocol {
            0 => UpperCube::any(),
            1 => return UpperCube::protocol(Protocol(47)),
            2 => UpperCube::ports(Protocol::UDP, ports).unwrap(),
            _ => UpperCube::ports(Protocol::TCP, ports).unwrap(),
        };
        from.and_then(|from| cube.with_source_ports(&IntervalSet::single(from))).unwrap_or(cube)
    });
    let condition = prop::sample::select(vec![
        None,
        None,
        None,
        Some((uses_interface("vpn"), true)),
        Some((uses_interface("vpn"), false)),
        Some((is_answer("ntp.example.net"), true)),
        Some((is_answer("www.example.org"), true)),
    ]);
    prop::collection::vec((end.clone(), end, cube, condition), 0..5).prop_map(|rows| {
        let mut table = Table::default();
        for (source, destination, cube, condition) in rows {
            let conditions = condition.and_then(|(variable, holds)| Conditions::default().and(variable, &truth(holds)));
            table.push(&source, &destination, &std::iter::once(cube).collect(), &conditions.unwrap_or_default(), ());
        }
        table
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn lines_say_exactly_the_set(rows in some_rows(), without in some_rows(), others in some_rows()) {
        let policy = policy("  - allow: users -> vault\n    services: [galera]\n");
        let packets = subset(&rows, &without);
        let mut hints = Packets::of_rows(&rows, |()| true);
        let others = Packets::of_rows(&others, |()| true);
        hints.v4.extend(others.v4);
        hints.v6.extend(others.v6);
        let lines = Words::new(&policy, &registered).lines(&packets, &hints);
        let mut all: Table<()> = Table::default();
        for line in &lines {
            let said = read_back::read(&policy, line);
            all.v4.extend(said.v4);
            all.v6.extend(said.v6);
        }
        let same = |one: Option<&()>, other: Option<&()>| one.is_some() == other.is_some();
        let difference = all.difference(&table(&packets), same, &mut Budget::new(10_000_000)).unwrap();
        let lines: Vec<String> = lines.iter().map(Line::to_string).collect();
        prop_assert!(difference.is_empty(), "{lines:#?}\n{difference:#?}");
        prop_assert_eq!(lines.is_empty(), packets.is_empty());
    }
}
