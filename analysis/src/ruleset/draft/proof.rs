//! What a drafted policy does, beside the rules that it comes from.
//!
//! In: the policy as it was read back, the filter. Out: every new connection that the policy allows
//! and the filter does not let pass, whatever is not known (there must be none), and every one that the
//! filter lets pass and the policy does not.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ringwall_packet::{
    Address, AddressSet, Budget, Change, Conditions, Exhausted, Family, IntervalSet, Matches, Protocol, Row, Table, UpperCube, UpperSet,
    Variable, Witness, interface,
};
use ringwall_policy::{Decider, Policy, Verdict, uses_interface};
use ringwall_ruleset::Path;
use ringwall_ruleset::filter::Filter;

use super::Host;
use super::steps::{known, scope, sides};
use crate::ruleset::can::shown;
use crate::ruleset::way::{Rows, Way, pass};
use crate::words::Packets;

/// The whole difference, by way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// Allowed by the policy alone. Not empty is a mistake of ours.
    pub opened: Vec<(Path, Witness)>,
    /// Let pass by the filter alone, between the machine's own addresses and others.
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
    for path in [Path::Input, Path::Output] {
        let way = Way::new(filter, path, budget)?;
        let table = Table { v4: on_interfaces(&drafted.v4, policy, host, path), v6: on_interfaces(&drafted.v6, policy, host, path) };
        let accepts = |decider: Option<&Decider>| decider.is_some_and(|decider| policy.verdict(*decider) == Verdict::Accept);
        // What goes out of sight counts as refused here: the policy must not open it.
        let same = |one: Option<&Decider>, other: Option<&usize>| {
            accepts(one) == other.is_some_and(|other| way.outcome(*other).fate.accepts())
        };
        let difference = table.difference(&way.table, same, budget)?;
        let mut closed = Packets::default();
        changes(&table, &difference.v4, host, path, &accepts, &mut proof, &mut closed);
        changes(&table, &difference.v6, host, path, &accepts, &mut proof, &mut closed);
        let closed = closed.beyond(&known(path));
        let own = match path {
            Path::Input => all(&AddressSet::full(), &host.addresses),
            _ => all(&host.addresses, &AddressSet::full()),
        };
        proof.closed_to_many.extend(&closed.without(&own, budget)?);
        let closed = closed.within(&own);
        if !closed.is_empty() {
            proof.closed.push((path, closed));
        }
    }
    for (name, path, packets) in floor(host) {
        let packets = packets.where_holds(&known(path));
        if pass(filter, path, &packets, budget)?.iter().any(|(outcome, _)| !outcome.fate.accepts()) {
            proof.floor.insert(name);
        }
    }
    Ok(proof)
}

/// What a node's floor opens of the families that the machine has: ports of the DHCP client (RFC 2131
/// §4.1, RFC 8415 §7.2), neighbour discovery and multicast listeners (RFC 4890 §4.4.1).
fn floor(host: &Host) -> Vec<(&'static str, Path, Packets)> {
    let mut items = Vec::new();
    let types = |kinds: &[u8]| kinds.iter().map(|kind| UpperCube::icmp(Family::V6, *kind, None)).collect::<Vec<_>>();
    let udp = |from: u16, to: u16| {
        let cube = UpperCube::ports(Protocol::UDP, IntervalSet::single(to)).expect("a protocol with ports");
        cube.with_source_ports(&IntervalSet::single(from)).expect("a protocol with ports")
    };
    let any = AddressSet::full();
    let hop = Conditions::default().and(Variable::Field(Arc::from("ip6 hoplimit")), &IntervalSet::single(255)).expect("one variable");
    let mut add = |name, path, family, uppers: Vec<UpperCube>, conditions: &Conditions| {
        let own = match family {
            Family::V4 => AddressSet { v4: host.addresses.v4.clone(), ..AddressSet::default() },
            Family::V6 => AddressSet { v6: host.addresses.v6.clone(), ..AddressSet::default() },
        };
        let (source, destination) = if path == Path::Output { (&own, &any) } else { (&any, &own) };
        let mut table = Table::default();
        table.push(source, destination, &uppers.into_iter().collect(), conditions, ());
        items.push((name, path, Packets::of_rows(&table, |()| true)));
    };
    let always = Conditions::default();
    for path in [Path::Input, Path::Output] {
        let (v4, v6) = if path == Path::Output { ((68, 67), (546, 547)) } else { ((67, 68), (547, 546)) };
        add("dhcp", path, Family::V4, vec![udp(v4.0, v4.1)], &always);
        add("dhcp", path, Family::V6, vec![udp(v6.0, v6.1)], &always);
        add("neighbour-discovery", path, Family::V6, types(&[133, 134, 135, 136]), &hop);
        add("multicast-listener", path, Family::V6, types(&[130, 131, 132, 143]), &always);
        add("multicast-listener", path, Family::V4, vec![UpperCube::protocol(Protocol::IGMP)], &always);
    }
    items
}

fn all(source: &AddressSet, destination: &AddressSet) -> Table<()> {
    let mut table = Table::default();
    table.push(source, destination, &UpperSet::any(), &Conditions::default(), ());
    table
}

fn changes<A: Rows + Set>(
    table: &Table<Decider>,
    changes: &[Change<A>],
    host: &Host,
    path: Path,
    accepts: &dyn Fn(Option<&Decider>) -> bool,
    proof: &mut Proof,
    closed: &mut Packets,
) {
    let known = known(path);
    let scope = scope::<A>(host, path);
    for change in changes {
        let Some(cube) = change.matches.cube.intersection(&scope) else { continue };
        let Some(conditions) = change.matches.conditions.intersection(&known) else { continue };
        let matches = Matches { cube, conditions };
        if accepts(change.before.map(|row| &A::rows(table)[row].decision)) {
            let mut packets = Packets::default();
            A::packets_mut(&mut packets).push(matches);
            proof.opened.extend(packets.witness().map(|witness| (path, shown(witness, &packets, &known))));
        } else {
            A::packets_mut(closed).push(matches);
        }
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
