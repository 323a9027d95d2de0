//! What the internet reaches on each node.
//!
//! In: a policy and the time. Out: for each node what opens it, with services and sources. Never: an
//! address that a DNS name of an allow may stand for: answers that are nodes are refused.

use std::collections::{BTreeMap, BTreeSet};

use ringwall_packet::{
    Address, AddressSet, Budget, Conditions, Cube, Exhausted, IntervalSet, Matches, Protocol, Row, UpperCube, Variable, parts, truth,
};
use ringwall_policy::{Decider, Name, Policy, Stage, Verdict, is_answer};

use crate::words::Packets;

/// What opens a node to addresses of the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Opens {
    /// The node only watches, so everything is open.
    Stage,
    By(Decider),
}

/// One node's packets from the internet, by what lets them in. They are disjoint.
pub type Exposure = BTreeMap<Opens, Packets>;

/// What is reached of a node, without the sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Of protocols that have ports.
    pub ports: BTreeMap<Protocol, IntervalSet<u16>>,
    /// Of those that have none.
    pub protocols: BTreeSet<Protocol>,
}

impl Reached {
    pub fn of(exposure: &Exposure) -> Self {
        let mut reached = Self::default();
        let v4 = exposure.values().flat_map(|packets| &packets.v4).map(|matches| &matches.cube.upper);
        let v6 = exposure.values().flat_map(|packets| &packets.v6).map(|matches| &matches.cube.upper);
        for cube in v4.chain(v6) {
            let protocols = cube.protocols();
            // All protocols at once are told by their ports.
            reached.protocols.extend(protocols.only().map(Protocol).filter(|protocol| !protocol.has_ports()));
            let numbers = protocols.intervals().iter().flat_map(|interval| interval.first()..=interval.last());
            for protocol in numbers.map(Protocol).filter(|protocol| protocol.has_ports()) {
                let own = reached.ports.entry(protocol).or_default();
                *own = own.union(cube.destination_ports());
            }
        }
        reached
    }

    /// Ports, of all protocols together.
    pub fn count(&self) -> usize {
        let intervals = self.ports.values().flat_map(|ports| ports.intervals().to_vec());
        intervals.map(|interval| usize::from(interval.last() - interval.first()) + 1).sum()
    }
}

/// For every node, in order of names; empty where nothing is reached. Packets may have conditions:
/// that they use an interface, or don't.
pub fn exposure(policy: &Policy, now: u64, budget: u64) -> Result<BTreeMap<Name, Exposure>, Exhausted> {
    let mut budget = Budget::new(budget);
    let table = policy.table(now);
    let nodes = policy.node_addresses();
    let internal = policy.internal.clone().unwrap_or_default();
    let internet = Policy::internet(&internal, &nodes);
    let names: BTreeSet<&String> = policy.rules.iter().flat_map(|rule| &rule.destination.names).collect();
    let no_answer = names.into_iter().try_fold(Conditions::default(), |all, name| all.and(is_answer(name), &truth(false)));
    let no_answer = no_answer.expect("each name is another variable");
    let v4 = opened(policy, &table.v4, &internet.v4, &nodes.v4, &no_answer, &mut budget)?;
    let v6 = opened(policy, &table.v6, &internet.v6, &nodes.v6, &no_answer, &mut budget)?;
    let of_node = |node: &ringwall_policy::Node| {
        let local = node.local();
        if node.stage == Stage::Audit {
            let all = Packets { v4: everything(&internet.v4, &local.v4), v6: everything(&internet.v6, &local.v6) };
            return Some((Opens::Stage, all)).into_iter().filter(|(_, all)| !all.is_empty()).collect();
        }
        let mut exposure = Exposure::new();
        for (decider, matches) in &v4 {
            let reached = to(matches, &local.v4);
            exposure.entry(Opens::By(*decider)).or_default().v4.extend(reached);
        }
        for (decider, matches) in &v6 {
            let reached = to(matches, &local.v6);
            exposure.entry(Opens::By(*decider)).or_default().v6.extend(reached);
        }
        exposure.retain(|_, packets| !packets.is_empty());
        exposure
    };
    Ok(policy.nodes.values().map(|node| (node.name.clone(), of_node(node))).collect())
}

fn opened<A: Address>(
    policy: &Policy,
    rows: &[Row<A, Decider>],
    internet: &IntervalSet<A>,
    nodes: &IntervalSet<A>,
    no_answer: &Conditions,
    budget: &mut Budget,
) -> Result<Vec<(Decider, Matches<A>)>, Exhausted> {
    let mut opened = Vec::new();
    for packets in everything(internet, nodes) {
        let packets = Matches { conditions: no_answer.clone(), ..packets };
        for part in parts(rows, &packets, budget)? {
            let decider = rows[part.row.expect("a policy's table decides everything")].decision;
            if policy.verdict(decider) == Verdict::Accept {
                let mut matches = part.matches;
                let names: Vec<Variable> = no_answer.iter().map(|(variable, _)| variable.clone()).collect();
                for name in &names {
                    matches.conditions = matches.conditions.without(name);
                }
                opened.push((decider, matches));
            }
        }
    }
    Ok(opened)
}

fn everything<A: Address>(from: &IntervalSet<A>, to: &IntervalSet<A>) -> Vec<Matches<A>> {
    if from.is_empty() || to.is_empty() {
        return Vec::new();
    }
    vec![Cube { source: from.clone(), destination: to.clone(), upper: UpperCube::any() }.into()]
}

fn to<A: Address>(matches: &Matches<A>, destination: &IntervalSet<A>) -> Option<Matches<A>> {
    let destination = matches.cube.destination.intersection(destination);
    let cube = Cube { destination, ..matches.cube.clone() };
    (!cube.destination.is_empty()).then(|| Matches { cube, conditions: matches.conditions.clone() })
}

/// Whether these are so many addresses that they are no one's: more than the largest blocks that
/// IANA hands out, a /8 of IPv4 and a /12 of IPv6.
pub fn is_public(sources: &AddressSet) -> bool {
    fn more_than<A: Address>(set: &IntervalSet<A>, most: u128) -> bool {
        let sizes = set.intervals().iter().map(|interval| interval.last().bits() - interval.first().bits());
        sizes.fold(0u128, |sum, size| sum.saturating_add(size).saturating_add(1)) > most
    }
    more_than(&sources.v4, 1 << 24) || more_than(&sources.v6, 1 << 116)
}
