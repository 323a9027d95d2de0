//! What a drafted policy does, beside the rules that it comes from.
//!
//! In: the policy as it was read back, the filter. Out: every new connection that the policy allows
//! and the filter does not let pass, whatever is not known (there must be none), and every one that the
//! filter lets pass and the policy does not.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ringwall_packet::{
    Address, AddressSet, Budget, Change, Conditions, Exhausted, Family, IntervalSet, Matches, Protocol, Row, Table, UpperCube, Variable, Witness,
    interface,
};
use ringwall_policy::{Decider, Policy, Verdict, uses_interface};
use ringwall_ruleset::Path;
use ringwall_ruleset::filter::Filter;

use super::Host;
use super::steps::{Scope, sides};
use crate::ruleset::way::{Rows, Way, pass, shown};
use crate::words::Packets;

/// The whole difference, by way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// Allowed by the policy alone, whatever a rule that refuses them asks for. Of a draft that is not
    /// loose, a mistake of ours.
    pub opened: Vec<(Path, Packets, Witness)>,
    /// Let pass by the filter alone, between the machine's own addresses and others; without what the
    /// floor opens.
    pub closed: Vec<(Path, Packets)>,
    /// The same of what comes in for many addresses: multicast and broadcast.
    pub closed_to_many: Packets,
    /// Parts of every policy's floor of which the filter refuses something.
    pub floor: BTreeSet<&'static str>,
}

/// The addresses of a family.
pub trait Set: Address {
    fn of(set: &AddressSet) -> &IntervalSet<Self>;
    fn set(addresses: IntervalSet<Self>) -> AddressSet;
}

impl Set for Ipv4Addr {
    fn of(set: &AddressSet) -> &IntervalSet<Self> {
        &set.v4
    }
    fn set(v4: IntervalSet<Self>) -> AddressSet {
        AddressSet { v4, ..AddressSet::default() }
    }
}

impl Set for Ipv6Addr {
    fn of(set: &AddressSet) -> &IntervalSet<Self> {
        &set.v6
    }
    fn set(v6: IntervalSet<Self>) -> AddressSet {
        AddressSet { v6, ..AddressSet::default() }
    }
}

/// Compares all new connections between the machine and others.
pub fn prove(filter: &Filter, policy: &Policy, host: &Host, now: u64, budget: &mut Budget) -> Result<Proof, Exhausted> {
    let mut proof = Proof::default();
    let drafted = policy.table(now);
    let accepts = |decider: Option<&Decider>| decider.is_some_and(|decider| policy.verdict(*decider) == Verdict::Accept);
    for scope in Scope::all(filter, host) {
        let path = scope.path;
        let way = Way::new(filter, path, budget)?;
        let table = Table { v4: on_interfaces(&drafted.v4, policy, host, path), v6: on_interfaces(&drafted.v6, policy, host, path) };
        // What goes out of sight counts as refused here: the policy must not open it.
        let same = |one: Option<&Decider>, other: Option<&usize>| {
            accepts(one) == other.is_some_and(|other| way.outcome(*other).fate.accepts())
        };
        let difference = table.difference(&way.table, same, budget)?;
        let (mut opened, mut closed) = (Packets::default(), Packets::default());
        changes(&table, &difference.v4, &scope, &accepts, &mut opened, &mut closed);
        changes(&table, &difference.v6, &scope, &accepts, &mut opened, &mut closed);
        if let Some(witness) = opened.witness() {
            let witness = shown(witness, &opened, &scope.given);
            proof.opened.push((path, opened.beyond(&scope.given), witness));
        }
        let mut opened_anyway = Table::default();
        for family in Family::ALL {
            for (name, uppers, conditions) in floor(family, path) {
                let mut rows = Table::default();
                rows.push(&only(&AddressSet::full(), family), &only(&AddressSet::full(), family), &uppers.into_iter().collect(), &conditions, ());
                let all = within(&Packets::of_rows(&rows, |()| true), &scope).where_holds(&scope.given);
                if !scope.is_for_many && pass(filter, path, &all, budget)?.iter().any(|(outcome, _)| !outcome.fate.accepts()) {
                    proof.floor.insert(name);
                }
                opened_anyway.v4.extend(rows.v4);
                opened_anyway.v6.extend(rows.v6);
            }
        }
        let closed = closed.without(&opened_anyway, budget)?.beyond(&scope.given);
        match (closed.is_empty(), scope.is_for_many) {
            (true, _) => {}
            (false, true) => proof.closed_to_many.extend(&closed),
            (false, false) => proof.closed.push((path, closed)),
        }
    }
    Ok(proof)
}

/// An item of a node's floor: its name, protocols and ports, and what must hold beside.
pub(super) type Item = (&'static str, Vec<UpperCube>, Conditions);

/// What a node's floor opens on a way: ports of the DHCP client (RFC 2131 §4.1, RFC 8415 §7.2),
/// neighbour discovery and multicast listeners (RFC 4890 §4.4.1).
pub(super) fn floor(family: Family, path: Path) -> Vec<Item> {
    let types = |kinds: &[u8]| kinds.iter().map(|kind| UpperCube::icmp(Family::V6, *kind, None)).collect::<Vec<_>>();
    let udp = |from: u16, to: u16| {
        let (from, to) = if path == Path::Output { (to, from) } else { (from, to) };
        let cube = UpperCube::ports(Protocol::UDP, IntervalSet::single(to)).expect("a protocol with ports");
        vec![cube.with_source_ports(&IntervalSet::single(from)).expect("a protocol with ports")]
    };
    let always = Conditions::default();
    match family {
        Family::V4 => vec![
            ("dhcp", udp(67, 68), always.clone()),
            ("multicast-listener", vec![UpperCube::protocol(Protocol::IGMP)], always),
        ],
        Family::V6 => {
            let near = always.and(Variable::Field(Arc::from("ip6 hoplimit")), &beyond_255());
            vec![
                ("dhcp", udp(547, 546), always.clone()),
                ("neighbour-discovery", types(&[133, 134, 135, 136]), near.expect("one variable")),
                ("multicast-listener", types(&[130, 131, 132, 143]), always),
            ]
        }
    }
}

/// The last value of a field stands for all from there on.
fn beyond_255() -> IntervalSet<u128> {
    ringwall_packet::Interval::new(255, u128::MAX).into_iter().collect()
}

fn only(set: &AddressSet, family: Family) -> AddressSet {
    match family {
        Family::V4 => AddressSet { v4: set.v4.clone(), ..AddressSet::default() },
        Family::V6 => AddressSet { v6: set.v6.clone(), ..AddressSet::default() },
    }
}

fn within(packets: &Packets, scope: &Scope) -> Packets {
    fn of<A: Rows + Set>(packets: &Packets, scope: &Scope) -> Vec<Matches<A>> {
        let cube = Matches::from(scope.cube::<A>());
        A::packets(packets).iter().filter_map(|packets| packets.intersection(&cube)).collect()
    }
    Packets { v4: of(packets, scope), v6: of(packets, scope) }
}

fn changes<A: Rows + Set>(
    table: &Table<Decider>,
    changes: &[Change<A>],
    scope: &Scope,
    accepts: &dyn Fn(Option<&Decider>) -> bool,
    opened: &mut Packets,
    closed: &mut Packets,
) {
    let cube = scope.cube::<A>();
    for change in changes {
        let Some(cube) = change.matches.cube.intersection(&cube) else { continue };
        let Some(conditions) = change.matches.conditions.intersection(&scope.given) else { continue };
        let is_opened = accepts(change.before.map(|row| &A::rows(table)[row].decision));
        A::packets_mut(if is_opened { &mut *opened } else { &mut *closed }).push(Matches { cube, conditions });
    }
}

/// The policy's rows, with the kernel's names for the interfaces of its rules.
fn on_interfaces<A: Address>(rows: &[Row<A, Decider>], policy: &Policy, host: &Host, path: Path) -> Vec<Row<A, Decider>> {
    let (own, _) = sides(path);
    let interfaces = policy.nodes.get(&host.name).map(|node| &node.interfaces);
    let on = |row: &Row<A, Decider>| {
        let mut matches = row.matches.clone();
        for (name, kernel) in interfaces.into_iter().flatten() {
            let variable = uses_interface(name.as_str());
            if let Some(values) = row.matches.conditions.values(&variable) {
                let one = IntervalSet::single(interface(kernel)?);
                let names = if values.contains(0) { one.complement() } else { one };
                matches.conditions = matches.conditions.without(&variable).and(own.clone(), &names)?;
            }
        }
        Some(Row { matches, decision: row.decision })
    };
    rows.iter().filter_map(on).collect()
}
