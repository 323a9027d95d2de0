//! Which packets one ruleset lets pass and another does not: `diff A B`.
//!
//! In: two filters. Out: for each way through a host, the complete difference in few boxes, with what
//! decides on both sides and a packet that shows it; or [`Exhausted`]. Never: a difference of form.
//!
//! A match that is not understood stands for itself: with the same text in both, it is the same match.

use std::collections::{BTreeMap, BTreeSet};

use ringwall_packet::{Address, Budget, Change, Conditions, Exhausted, Row, Witness};
use ringwall_ruleset::Path;
use ringwall_ruleset::filter::Filter;

use super::way::{Fate, Outcome, Rows, Way, shown};
use crate::words::{Line, Packets, Tags, Words};

/// The difference on one way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Accepted by the first alone.
    pub before: Vec<Flows>,
    /// Accepted by the second alone.
    pub after: Vec<Flows>,
    /// One of the two does not tell what becomes of them, and the other does, or not in the same way.
    pub unknown: Vec<Flows>,
}

/// Flows, and what decides them on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flows {
    pub line: Line,
    pub before: Vec<Outcome>,
    pub after: Vec<Outcome>,
    pub witness: Witness,
}

impl Difference {
    pub fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after.is_empty() && self.unknown.is_empty()
    }
}

/// Of packets that meet the conditions.
pub fn diff(
    before: &Filter,
    after: &Filter,
    path: Path,
    conditions: &Conditions,
    words: &Words<'_>,
    budget: &mut Budget,
) -> Result<Difference, Exhausted> {
    let ways = (Way::new(before, path, budget)?, Way::new(after, path, budget)?);
    let text = |filter: &Filter, what: usize| filter.unknown[what].text.clone();
    let same = |one: Option<&usize>, other: Option<&usize>| {
        let (Some(one), Some(other)) = (one, other) else { return one.is_none() && other.is_none() };
        match (ways.0.outcome(*one).fate, ways.1.outcome(*other).fate) {
            (Fate::Elsewhere(one), Fate::Elsewhere(other)) => text(before, one) == text(after, other),
            (one, other) => one.accepts() == other.accepts() && one.refuses() == other.refuses(),
        }
    };
    let difference = ways.0.table.difference(&ways.1.table, same, budget)?;
    let mut groups: BTreeMap<(usize, usize), Packets> = BTreeMap::new();
    group(&ways, &difference.v4, conditions, &mut groups);
    group(&ways, &difference.v6, conditions, &mut groups);
    let mut all = [Group::default(), Group::default(), Group::default()];
    for (deciders, packets) in groups {
        let (one, other) = (ways.0.outcome(deciders.0).fate, ways.1.outcome(deciders.1).fate);
        let kind = if one.accepts() && other.refuses() {
            0
        } else if one.refuses() && other.accepts() {
            1
        } else {
            2
        };
        all[kind].add(deciders, packets, conditions);
    }
    let [only_before, only_after, unknown] = all.map(|group| group.flows(&ways, words, conditions));
    Ok(Difference { before: only_before, after: only_after, unknown })
}

fn group<A: Rows>(ways: &(Way, Way), changes: &[Change<A>], conditions: &Conditions, groups: &mut BTreeMap<(usize, usize), Packets>) {
    fn decision<A: Address>(rows: &[Row<A, usize>], row: Option<usize>) -> usize {
        rows[row.expect("the last row matches everything")].decision
    }
    for change in changes {
        let mut matches = change.matches.clone();
        let Some(met) = matches.conditions.intersection(conditions) else { continue };
        matches.conditions = met;
        let deciders =
            (decision(A::rows(&ways.0.table), change.before), decision(A::rows(&ways.1.table), change.after));
        A::packets_mut(groups.entry(deciders).or_default()).push(matches);
    }
}

/// Packets that are said together.
#[derive(Default)]
struct Group {
    packets: Packets,
    tags: Tags,
    /// For each tag, who decides on both sides.
    deciders: Vec<(usize, usize)>,
}

impl Group {
    fn add(&mut self, deciders: (usize, usize), packets: Packets, known: &Conditions) {
        let tag = self.deciders.len();
        self.deciders.push(deciders);
        let packets = packets.beyond(known);
        self.tags.v4.extend(packets.v4.iter().map(|_| tag));
        self.tags.v6.extend(packets.v6.iter().map(|_| tag));
        self.packets.extend(&packets);
    }

    fn flows(self, ways: &(Way, Way), words: &Words<'_>, known: &Conditions) -> Vec<Flows> {
        let deciders = |of: fn(&(usize, usize)) -> usize| -> BTreeSet<usize> { self.deciders.iter().map(of).collect() };
        let mut rows = Packets::default();
        for (way, deciders) in [(&ways.0, deciders(|both| both.0)), (&ways.1, deciders(|both| both.1))] {
            let rules: BTreeSet<usize> = deciders.into_iter().filter(|at| way.outcome(*at).by.iter().any(|by| by.rule.is_some())).collect();
            rows.extend(&Packets::of_rows(&way.table, |decision| rules.contains(decision)));
        }
        let lines = words.lines_of(&self.packets, &self.tags, &rows);
        let flows = |(line, tags, some): (Line, BTreeSet<usize>, Packets)| {
            let all = |way: &Way, of: fn(&(usize, usize)) -> usize| -> Vec<Outcome> {
                let places: BTreeSet<usize> = tags.iter().map(|tag| of(&self.deciders[*tag])).collect();
                places.into_iter().map(|at| way.outcome(at).clone()).collect()
            };
            let witness = shown(some.witness()?, &some, known);
            Some(Flows { before: all(&ways.0, |both| both.0), after: all(&ways.1, |both| both.1), line, witness })
        };
        lines.into_iter().filter_map(flows).collect()
    }
}
