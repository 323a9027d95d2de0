//! Questions about a policy: which of some packets are decided by what.
//!
//! In: a policy's table, and a question. Out: for each rule that decides some of the question's
//! packets, exactly those; or [`Exhausted`]. Never: words, nodes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ringwall_packet::{
    Address, AddressSet, Budget, Cover, Cube, Exhausted, Interval, IntervalSet, Matches, Protocol, Row, Table, UpperCube,
    Witness, cover, not_global, parts,
};
use ringwall_policy::{Action, Decider, Policy, Verdict, name_asked};

use crate::words::Packets;

/// Packets that one thing decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub decider: Decider,
    /// Disjoint, not empty.
    pub packets: Packets,
}

/// Rows that may overlap, as disjoint boxes.
pub fn disjoint(rows: &Table<()>) -> Packets {
    fn of<A: Address>(rows: &[Row<A, ()>]) -> Vec<Matches<A>> {
        let mut all: Vec<Matches<A>> = Vec::new();
        for row in rows {
            let mut open = vec![row.matches.clone()];
            for known in &all {
                open = open.iter().flat_map(|packets| packets.difference(known)).collect();
            }
            all.extend(open);
        }
        all
    }
    Packets { v4: of(&rows.v4), v6: of(&rows.v6) }
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

/// What rows of a kind take of the packets. What no such row asks for is not worked out: of a long
/// list that is far more than what they do.
fn taken<A: Address>(
    rows: &[Row<A, Decider>],
    packets: &[Matches<A>],
    is_wanted: impl Fn(Decider) -> bool,
    budget: &mut Budget,
) -> Result<Vec<(Decider, Matches<A>)>, Exhausted> {
    let mut found = Vec::new();
    for packets in packets {
        let near = |row: &Row<A, Decider>| Some(Row { matches: row.matches.intersection(packets)?, decision: row.decision });
        let near: Vec<Row<A, Decider>> = rows.iter().filter_map(near).collect();
        for (at, row) in near.iter().enumerate().filter(|(_, row)| is_wanted(row.decision)) {
            let before: Vec<Row<A, ()>> = near[..at]
                .iter()
                .filter_map(|other| Some(Row { matches: other.matches.intersection(&row.matches)?, decision: () }))
                .collect();
            let own = parts(&before, &row.matches, budget)?.into_iter().filter(|part| part.row.is_none());
            found.extend(own.map(|part| (row.decision, part.matches)));
        }
    }
    Ok(found)
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

impl Packets {
    pub fn sources(&self) -> AddressSet {
        let v4 = self.v4.iter().flat_map(|matches| matches.cube.source.intervals()).copied().collect();
        let v6 = self.v6.iter().flat_map(|matches| matches.cube.source.intervals()).copied().collect();
        AddressSet { v4, v6 }
    }

    pub fn destinations(&self) -> AddressSet {
        let v4 = self.v4.iter().flat_map(|matches| matches.cube.destination.intervals()).copied().collect();
        let v6 = self.v6.iter().flat_map(|matches| matches.cube.destination.intervals()).copied().collect();
        AddressSet { v4, v6 }
    }

    /// One of them; `None` when there is none.
    pub fn witness(&self) -> Option<Witness> {
        let global = not_global().complement();
        let v4 = self.v4.first().map(|packets| typical(packets, &global.v4));
        v4.or_else(|| self.v6.first().map(|packets| typical(packets, &global.v6)))
    }

    /// Those that are in one of the rows as well.
    pub fn within<D>(&self, rows: &Table<D>) -> Self {
        fn of<A: Address, D>(packets: &[Matches<A>], rows: &[Row<A, D>]) -> Vec<Matches<A>> {
            let pairs = packets.iter().flat_map(|packets| rows.iter().map(move |row| packets.intersection(&row.matches)));
            pairs.flatten().collect()
        }
        Self { v4: of(&self.v4, &rows.v4), v6: of(&self.v6, &rows.v6) }
    }

    /// Those that no row takes.
    pub fn without<D>(&self, rows: &Table<D>, budget: &mut Budget) -> Result<Self, Exhausted> {
        fn of<A: Address, D>(
            packets: &[Matches<A>],
            rows: &[Row<A, D>],
            budget: &mut Budget,
        ) -> Result<Vec<Matches<A>>, Exhausted> {
            let mut rest = Vec::new();
            for packets in packets {
                let left = parts(rows, packets, budget)?.into_iter().filter(|part| part.row.is_none());
                rest.extend(left.map(|part| part.matches));
            }
            Ok(rest)
        }
        Ok(Self { v4: of(&self.v4, &rows.v4, budget)?, v6: of(&self.v6, &rows.v6, budget)? })
    }

    /// One that no row takes; `None` when they take all.
    pub fn one_outside<D>(&self, rows: &Table<D>, budget: &mut Budget) -> Result<Option<Witness>, Exhausted> {
        fn of<A: Address, D>(
            packets: &[Matches<A>],
            rows: &[Row<A, D>],
            global: &IntervalSet<A>,
            budget: &mut Budget,
        ) -> Result<Option<Witness>, Exhausted> {
            let rows: Vec<&Matches<A>> = rows.iter().map(|row| &row.matches).collect();
            for packets in packets {
                if let Cover::Not(left) = cover(packets, &rows, budget)? {
                    return Ok(Some(typical(&left, global)));
                }
            }
            Ok(None)
        }
        let global = not_global().complement();
        match of(&self.v4, &rows.v4, &global.v4, budget)? {
            Some(witness) => Ok(Some(witness)),
            None => of(&self.v6, &rows.v6, &global.v6, budget),
        }
    }

    pub fn extend(&mut self, other: &Self) {
        self.v4.extend_from_slice(&other.v4);
        self.v6.extend_from_slice(&other.v6);
    }
}

/// A witness that looks like a packet that people know, where there is one.
fn typical<A: Address>(packets: &Matches<A>, global: &IntervalSet<A>) -> Witness {
    let ports = |protocol, first, last| {
        let ports = Interval::new(first, last).expect("an ordered pair");
        UpperCube::ports(protocol, ports.into()).expect("a protocol with ports")
    };
    let source = Cube { source: global.clone(), ..Cube::any() };
    let destination = Cube { destination: global.clone(), ..Cube::any() };
    let upper = |upper| Cube { upper, ..Cube::any() };
    let (https, tcp) = (ports(Protocol::TCP, 443, 443), ports(Protocol::TCP, 1, u16::MAX));
    let known = [source, destination, upper(https), upper(tcp), upper(ports(Protocol::UDP, 1, u16::MAX))];
    let narrow = |packets: Matches<A>, cube: Cube<A>| packets.intersection(&cube.into()).unwrap_or(packets);
    known.into_iter().fold(packets.clone(), narrow).witness()
}
