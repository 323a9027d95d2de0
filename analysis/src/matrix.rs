//! The service matrix of a policy: which role reaches which with what.
//!
//! In: a policy and its table. Out: for each pair of roles the packets that are accepted, those of
//! services that hold for the whole pair apart from those that hold for a part of it. Never: a
//! service that holds for a part shown as the pair's.

use ringwall_packet::{Address, AddressSet, Budget, Conditions, Cube, Exhausted, Matches, Row, Table, UpperSet, parts};
use ringwall_policy::{Decider, End, Policy, Question, Verdict};

use crate::parallel;
use crate::question::{accepted, disjoint, is_answered};
use crate::words::Packets;

/// What no group, node or `internet` holds.
pub const OTHERS: &str = "(others)";

/// A matrix's row and column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// A group's or a node's, `internet` or [`OTHERS`].
    pub name: String,
    end: End,
}

/// What one role may send to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Indices into the roles.
    pub source: usize,
    pub destination: usize,
    /// Services that every address of the one may use with every address of the other.
    pub whole: Packets,
    /// What else is accepted.
    pub part: Packets,
}

impl Role {
    fn new(name: &str, addresses: AddressSet) -> Self {
        Self { name: name.to_owned(), end: End { text: name.to_owned(), addresses, names: Default::default() } }
    }

    pub fn addresses(&self) -> &AddressSet {
        &self.end.addresses
    }
}

/// Groups, nodes that are in none, `internet`, and what is left.
pub fn roles(policy: &Policy) -> Vec<Role> {
    let mut roles: Vec<Role> = Vec::new();
    for group in policy.groups.values() {
        let mut role = Role::new(group.name.as_str(), group.addresses.clone());
        role.end.names = group.names.clone();
        roles.push(role);
    }
    let grouped = |node: &ringwall_policy::Name| policy.groups.values().any(|group| group.nodes.contains(node));
    let alone = policy.nodes.values().filter(|node| !grouped(&node.name));
    roles.extend(alone.map(|node| Role::new(node.name.as_str(), node.local())));
    if let Some(internal) = &policy.internal {
        roles.push(Role::new("internet", Policy::internet(internal, &policy.node_addresses())));
    }
    let held: AddressSet = roles.iter().map(|role| role.end.addresses.clone()).collect();
    roles.push(Role::new(OTHERS, held.complement()));
    roles.retain(|role| !role.end.addresses.is_empty() || !role.end.names.is_empty());
    roles
}

/// The cells in which anything is accepted, row by row. Each has `budget` for itself.
pub fn matrix(policy: &Policy, table: &Table<Decider>, roles: &[Role], budget: u64) -> Result<Vec<Cell>, Exhausted> {
    let mut to_itself = Table::default();
    for node in policy.nodes.values() {
        to_itself.push(&node.local(), &node.local(), &UpperSet::any(), &Conditions::default(), ());
    }
    let row = |source: usize| {
        let from = &roles[source].end;
        let near = Table {
            v4: table.v4.iter().filter(|row| !row.matches.cube.source.is_disjoint(&from.addresses.v4)).cloned().collect(),
            v6: table.v6.iter().filter(|row| !row.matches.cube.source.is_disjoint(&from.addresses.v6)).cloned().collect(),
        };
        // What a DNS name stands for is not known: to go to some addresses is not to go to it.
        let to_names = Table {
            v4: near.v4.iter().filter(|row| concerns_names(policy, row)).cloned().collect(),
            v6: near.v6.iter().filter(|row| concerns_names(policy, row)).cloned().collect(),
        };
        let mut cells = Vec::new();
        for (destination, to) in roles.iter().enumerate() {
            let rows = if to.end.names.is_empty() { &near } else { &to_names };
            let cell = cell(policy, rows, &to_itself, &pair(from, &to.end), &mut Budget::new(budget))?;
            cells.extend(cell.map(|(whole, part)| Cell { source, destination, whole, part }));
        }
        Ok(cells)
    };
    let rows: Result<Vec<Vec<Cell>>, Exhausted> = parallel::each(roles.len(), row).into_iter().collect();
    Ok(rows?.into_iter().flatten().collect())
}

fn concerns_names<A: Address>(policy: &Policy, row: &Row<A, Decider>) -> bool {
    let accepts = policy.verdict(row.decision) == Verdict::Accept;
    !accepts || is_answered(&row.matches) || row.matches.cube.destination.is_full()
}

/// All that one end could send to another.
fn pair(source: &End, destination: &End) -> Packets {
    let source = End { names: Default::default(), ..source.clone() };
    let question = Question { source, destination: destination.clone(), both_ways: false, services: Vec::new(), via: None };
    disjoint(&question.packets())
}

/// What of a pair is accepted: services of the whole pair, and the rest; `None` when nothing is.
fn cell(
    policy: &Policy,
    table: &Table<Decider>,
    to_itself: &Table<()>,
    pair: &Packets,
    budget: &mut Budget,
) -> Result<Option<(Packets, Packets)>, Exhausted> {
    let mut open = Packets::default();
    for piece in accepted(policy, table, pair, budget)? {
        open.extend(&piece.packets);
    }
    let mut rows = rows_of(&open);
    let part = open.without(to_itself, budget)?;
    if part.is_empty() {
        return Ok(None);
    }
    rows.v4.extend(to_itself.v4.iter().cloned());
    rows.v6.extend(to_itself.v6.iter().cloned());
    // A service that is missing anywhere in the pair is not one of the whole pair.
    let closed = pair.without(&rows, budget)?;
    let others = pair.without(to_itself, budget)?;
    let whole = Packets {
        v4: if others.v4.is_empty() { Vec::new() } else { of_whole_pair(&pair.v4, &closed.v4, budget)? },
        v6: if others.v6.is_empty() { Vec::new() } else { of_whole_pair(&pair.v6, &closed.v6, budget)? },
    };
    let part = part.without(&rows_of(&whole), budget)?;
    Ok(Some((whole, part)))
}

fn rows_of(packets: &Packets) -> Table<()> {
    let row = |matches: &Matches<_>| Row { matches: matches.clone(), decision: () };
    let v4 = packets.v4.iter().map(row).collect();
    let row = |matches: &Matches<_>| Row { matches: matches.clone(), decision: () };
    Table { v4, v6: packets.v6.iter().map(row).collect() }
}

fn of_whole_pair<A: Address>(
    pair: &[Matches<A>],
    closed: &[Matches<A>],
    budget: &mut Budget,
) -> Result<Vec<Matches<A>>, Exhausted> {
    let services = |matches: &Matches<A>| Matches::from(Cube { upper: matches.cube.upper.clone(), ..Cube::any() });
    let missing: Vec<Row<A, ()>> = closed.iter().map(|matches| Row { matches: services(matches), decision: () }).collect();
    let mut whole = Vec::new();
    for packets in pair {
        whole.extend(parts(&missing, packets, budget)?.into_iter().filter(|part| part.row.is_none()).map(|part| part.matches));
    }
    Ok(whole)
}
