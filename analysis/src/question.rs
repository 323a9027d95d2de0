//! Questions about a policy: which of some packets are decided by what.
//!
//! In: a policy's table, and a question. Out: for each rule that decides some of the question's
//! packets, exactly those; or [`Exhausted`]. Never: words, nodes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ringwall_packet::{Address, AddressSet, Budget, Exhausted, IntervalSet, Matches, Row, Table, parts, taken};
use ringwall_policy::{Action, Decider, Policy, Verdict, name_asked};

use crate::words::Packets;

pub use ringwall_packet::disjoint;

/// Packets that one thing decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub decider: Decider,
    /// Disjoint, not empty.
    pub packets: Packets,
}

/// Who decides which of the packets, in order of precedence; together they are all of them.
pub fn decided(
    policy: &Policy,
    table: &Table<Decider>,
    packets: &Packets,
    budget: &mut Budget,
) -> Result<Vec<Piece>, Exhausted> {
    fn of<A: Address>(
        rows: &[Row<A, Decider>],
        packets: &[Matches<A>],
        budget: &mut Budget,
    ) -> Result<Vec<(usize, Matches<A>)>, Exhausted> {
        let mut found = Vec::new();
        for packets in packets {
            for part in parts(rows, packets, budget)? {
                found.push((part.row.expect("the last row matches everything"), part.matches));
            }
        }
        Ok(found)
    }
    let v4 = of(&table.v4, &packets.v4, budget)?.into_iter().map(|(row, packets)| (table.v4[row].decision, packets));
    let v6 = of(&table.v6, &packets.v6, budget)?.into_iter().map(|(row, packets)| (table.v6[row].decision, packets));
    Ok(pieces(policy, v4, v6))
}

/// Those of the packets that a policy accepts, by what accepts them, in order of precedence.
///
/// Answers for a DNS name that are `internal` or a node's are refused where they come in, so that
/// nothing of ours counts as one.
pub fn accepted(
    policy: &Policy,
    table: &Table<Decider>,
    packets: &Packets,
    budget: &mut Budget,
) -> Result<Vec<Piece>, Exhausted> {
    let accepts = |decider| policy.verdict(decider) == Verdict::Accept;
    let ours = policy.node_addresses().union(policy.internal.as_ref().unwrap_or(&AddressSet::default()));
    let v4 = taken(&table.v4, &packets.v4, accepts, budget)?.into_iter();
    let v6 = taken(&table.v6, &packets.v6, accepts, budget)?.into_iter();
    let v4 = v4.filter_map(|(decider, packets)| Some((decider, believable(packets, &ours.v4)?)));
    let v6 = v6.filter_map(|(decider, packets)| Some((decider, believable(packets, &ours.v6)?)));
    Ok(pieces(policy, v4, v6))
}

/// Packets to addresses of ours without what they have to do with DNS; `None` when there are none.
fn believable<A: Address>(packets: Matches<A>, ours: &IntervalSet<A>) -> Option<Matches<A>> {
    if packets.conditions.is_empty() || !packets.cube.destination.is_subset(ours) {
        return Some(packets);
    }
    let names = packets.conditions.iter().map(|(variable, _)| variable).filter(|variable| name_asked(variable).is_some());
    let conditions = names.fold(packets.conditions.clone(), |conditions, name| conditions.without(name));
    (!is_answered(&packets)).then_some(Matches { cube: packets.cube, conditions })
}

/// Whether the destination is an answer for a DNS name.
pub(crate) fn is_answered<A: Address>(packets: &Matches<A>) -> bool {
    packets.conditions.iter().any(|(variable, values)| name_asked(variable).is_some() && !values.contains(0))
}

/// Puts what the same thing decides together.
fn pieces(
    policy: &Policy,
    v4: impl IntoIterator<Item = (Decider, Matches<Ipv4Addr>)>,
    v6: impl IntoIterator<Item = (Decider, Matches<Ipv6Addr>)>,
) -> Vec<Piece> {
    let mut all: BTreeMap<Decider, Packets> = BTreeMap::new();
    for (decider, packets) in v4 {
        all.entry(decider).or_default().v4.push(packets);
    }
    for (decider, packets) in v6 {
        all.entry(decider).or_default().v6.push(packets);
    }
    let mut pieces: Vec<Piece> = all.into_iter().map(|(decider, packets)| Piece { decider, packets }).collect();
    pieces.sort_by_key(|piece| match piece.decider {
        Decider::Management => (0, None),
        Decider::Rule(index) => {
            let rule = &policy.rules[index];
            (if rule.action == Action::Deny { 1 } else { 2 }, Some(&rule.id))
        }
        Decider::Default => (3, None),
    });
    pieces
}
