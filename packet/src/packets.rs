//! Sets of packets of both families, in boxes.
//!
//! In: boxes, rows of tables. Out: parts of them, and a packet that people know as one of them. Never: words.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::address::{AddressSet, not_global};
use crate::flow_set::{Cube, UpperCube};
use crate::interval::{Interval, IntervalSet};
use crate::matches::{Address, Conditions, Matches, Witness};
use crate::protocol::Protocol;
use crate::table::{Budget, Cover, Exhausted, Row, Table, cover, parts};

/// Packets of both families, in boxes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packets {
    pub v4: Vec<Matches<Ipv4Addr>>,
    pub v6: Vec<Matches<Ipv6Addr>>,
}

impl From<Vec<Matches<Ipv4Addr>>> for Packets {
    fn from(v4: Vec<Matches<Ipv4Addr>>) -> Self {
        Self { v4, ..Self::default() }
    }
}

impl From<Vec<Matches<Ipv6Addr>>> for Packets {
    fn from(v6: Vec<Matches<Ipv6Addr>>) -> Self {
        Self { v6, ..Self::default() }
    }
}

impl Packets {
    /// What the rows of a table ask, for the rows that are wanted.
    pub fn of_rows<D>(table: &Table<D>, is_wanted: impl Fn(&D) -> bool) -> Self {
        let v4 = table.v4.iter().filter(|row| is_wanted(&row.decision)).map(|row| row.matches.clone());
        let v6 = table.v6.iter().filter(|row| is_wanted(&row.decision)).map(|row| row.matches.clone());
        Self { v4: v4.collect(), v6: v6.collect() }
    }

    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// A row for each box.
    pub fn rows(&self) -> Table<()> {
        fn of<A: Address>(packets: &[Matches<A>]) -> Vec<Row<A, ()>> {
            packets.iter().map(|matches| Row { matches: matches.clone(), decision: () }).collect()
        }
        Table { v4: of(&self.v4), v6: of(&self.v6) }
    }

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

    /// Those that meet conditions.
    pub fn where_holds(&self, conditions: &Conditions) -> Self {
        fn of<A: Address>(packets: &[Matches<A>], conditions: &Conditions) -> Vec<Matches<A>> {
            let met = |packets: &Matches<A>| {
                Some(Matches { cube: packets.cube.clone(), conditions: packets.conditions.intersection(conditions)? })
            };
            packets.iter().filter_map(met).collect()
        }
        Self { v4: of(&self.v4, conditions), v6: of(&self.v6, conditions) }
    }

    /// Without a word of what is known anyway: in fewer words, and the same packets among those that are known.
    pub fn beyond(self, known: &Conditions) -> Self {
        fn of<A: Address>(packets: Vec<Matches<A>>, known: &Conditions) -> Vec<Matches<A>> {
            let bare = |mut packets: Matches<A>| {
                for (variable, values) in known.iter() {
                    let Some(own) = packets.conditions.values(variable).cloned() else { continue };
                    let whole = own.union(&values.complement());
                    if whole.is_full() || whole.complement().intervals().len() < own.intervals().len() {
                        let rest = packets.conditions.without(variable);
                        packets.conditions = rest.and(variable.clone(), &whole).expect("more than there was");
                    }
                }
                packets
            };
            packets.into_iter().map(bare).collect()
        }
        Self { v4: of(self.v4, known), v6: of(self.v6, known) }
    }
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

/// What rows of a kind take of the packets. What no such row asks for is not worked out: of a long
/// list that is far more than what they do.
pub fn taken<A: Address, D: Copy>(
    rows: &[Row<A, D>],
    packets: &[Matches<A>],
    is_wanted: impl Fn(D) -> bool,
    budget: &mut Budget,
) -> Result<Vec<(D, Matches<A>)>, Exhausted> {
    let mut found = Vec::new();
    for packets in packets {
        let near = |row: &Row<A, D>| Some(Row { matches: row.matches.intersection(packets)?, decision: row.decision });
        let near: Vec<Row<A, D>> = rows.iter().filter_map(near).collect();
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
