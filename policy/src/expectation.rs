//! The tests of a policy, in the policy: each line is proved over all its flows.
//!
//! In: a policy with its expectations, and the time. Out: for a line that does not hold, a packet
//! that shows it and what decides that packet. Never: a sample; nor a word on what DNS names add, of
//! which nothing can be proved.

use ringwall_packet::{Address, Budget, Conditions, Cover, Exhausted, Matches, Row, Table, UpperSet, Witness, cover};

use crate::meaning::Verdict;
use crate::model::{Action, Expectation, Policy};
use crate::question::Question;
use crate::table::{Decider, name_asked};

/// A line that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surprise {
    pub witness: Witness,
    pub decider: Decider,
}

/// The lines that do not hold, or that `steps` were not enough to prove.
///
/// A line that denies holds when no packet is accepted, whatever interface it uses. One that allows
/// holds when every flow is accepted on some interface and denied on none. What a node sends to
/// itself is not a matter of policy.
pub fn expectation_failures(
    policy: &Policy,
    now: u64,
    steps: u64,
) -> impl Iterator<Item = (&Expectation, Result<Surprise, Exhausted>)> {
    let rows = Rows::new(policy, now);
    policy.expectations.iter().filter_map(move |line| {
        let packets = packets(line);
        let mut budget = Budget::new(steps);
        let v4 = rows.surprise(line.action, &packets.v4, &rows.decided.v4, &rows.opened.v4, &mut budget);
        let found = match v4 {
            Ok(None) => rows.surprise(line.action, &packets.v6, &rows.decided.v6, &rows.opened.v6, &mut budget),
            other => other,
        };
        found.transpose().map(|found| (line, found))
    })
}

fn packets(line: &Expectation) -> Table<()> {
    let (source, destination) = (line.source.clone(), line.destination.clone());
    Question { source, destination, both_ways: line.both_ways, services: line.services.clone(), via: None }.packets()
}

struct Rows<'a> {
    policy: &'a Policy,
    /// The policy's table without DNS names; `None` is a node's own traffic, which comes first.
    decided: Table<Option<Decider>>,
    /// What is accepted on some interface, and a node's own traffic.
    opened: Table<()>,
}

impl<'a> Rows<'a> {
    fn new(policy: &'a Policy, now: u64) -> Self {
        let (mut decided, mut opened) = (Table::default(), Table::default());
        for node in policy.nodes.values() {
            let local = node.local();
            decided.push(&local, &local, &UpperSet::any(), &Conditions::default(), None);
            opened.push(&local, &local, &UpperSet::any(), &Conditions::default(), ());
        }
        let table = policy.table(now);
        add(policy, table.v4, &mut decided.v4, &mut opened.v4);
        add(policy, table.v6, &mut decided.v6, &mut opened.v6);
        Self { policy, decided, opened }
    }

    fn surprise<A: Address>(
        &self,
        expected: Action,
        line: &[Row<A, ()>],
        decided: &[Row<A, Option<Decider>>],
        opened: &[Row<A, ()>],
        budget: &mut Budget,
    ) -> Result<Option<Surprise>, Exhausted> {
        let surprises = |decider| match (self.policy.verdict(decider), expected, decider) {
            (_, Action::Allow, Decider::Default) => false,
            (verdict, Action::Allow, _) => verdict != Verdict::Accept,
            (verdict, Action::Deny, _) => verdict == Verdict::Accept,
        };
        for Row { matches: all, .. } in line {
            let near = decided.iter().filter_map(|row| Some((row.matches.intersection(all)?, row.decision)));
            let near: Vec<(Matches<A>, Option<Decider>)> = near.collect();
            for (at, (own, decider)) in near.iter().enumerate() {
                let Some(decider) = decider.filter(|decider| surprises(*decider)) else { continue };
                let before: Vec<&Matches<A>> = near[..at].iter().map(|(matches, _)| matches).collect();
                if let Cover::Not(left) = cover(own, &before, budget)? {
                    return Ok(Some(Surprise { witness: left.witness(), decider }));
                }
            }
            if expected == Action::Allow {
                let opened: Vec<&Matches<A>> = opened.iter().map(|row| &row.matches).collect();
                if let Cover::Not(left) = cover(all, &opened, budget)? {
                    return Ok(Some(Surprise { witness: left.witness(), decider: Decider::Default }));
                }
            }
        }
        Ok(None)
    }
}

fn add<A: Address>(
    policy: &Policy,
    rows: Vec<Row<A, Decider>>,
    decided: &mut Vec<Row<A, Option<Decider>>>,
    opened: &mut Vec<Row<A, ()>>,
) {
    for Row { matches, decision } in rows {
        if matches.conditions.iter().any(|(variable, _)| name_asked(variable).is_some()) {
            continue;
        }
        if policy.verdict(decision) == Verdict::Accept {
            opened.push(Row { matches: matches.cube.clone().into(), decision: () });
        }
        decided.push(Row { matches, decision: Some(decision) });
    }
}
