//! Rules that say the same of different packets, as one.
//!
//! In: rules, most of which differ in one thing. Out: the same packets in fewer rules, each where the
//! first of its parts was.

use ringwall_packet::{Family, UpperCube};

use super::Rule;

/// In few rules.
pub(super) fn merged(rules: Vec<Rule>) -> Vec<Rule> {
    let mut all = rules;
    loop {
        let before = all.len();
        // Both families first, so that services of both are put together afterwards.
        all = joined(all, |one, other| {
            let is_same = one.uppers == other.uppers && is_whole(&one.uppers) && families(one).is_disjoint(&families(other));
            is_same.then(|| united(one, other))
        });
        all = joined(all, |one, other| {
            let is_same = one.source == other.source && one.destination == other.destination && source_ports(one) == source_ports(other);
            is_same.then(|| {
                let mut both = united(one, other);
                both.uppers.extend(other.uppers.iter().filter(|upper| !one.uppers.contains(upper)).cloned());
                both
            })
        });
        all = joined(all, |one, other| (one.uppers == other.uppers && one.destination == other.destination).then(|| united(one, other)));
        all = joined(all, |one, other| (one.uppers == other.uppers && one.source == other.source).then(|| united(one, other)));
        if all.len() == before {
            return all;
        }
    }
}

/// Whether it means the same in both families: ICMP does not.
fn is_whole(uppers: &[UpperCube]) -> bool {
    let is_icmp = |upper: &UpperCube| upper.protocols().only().is_some_and(|number| ringwall_packet::Protocol(number).is_icmp());
    !uppers.iter().any(is_icmp)
}

fn families(rule: &Rule) -> std::collections::BTreeSet<Family> {
    Family::ALL.into_iter().filter(|family| rule.source.has(*family) && rule.destination.has(*family)).collect()
}

fn source_ports(rule: &Rule) -> Option<&ringwall_packet::IntervalSet<u16>> {
    rule.uppers.first().map(UpperCube::source_ports)
}

fn united(one: &Rule, other: &Rule) -> Rule {
    Rule {
        source: one.source.union(&other.source),
        destination: one.destination.union(&other.destination),
        from: one.from.union(&other.from).copied().collect(),
        ..one.clone()
    }
}

/// Puts rules together where `join` gives one for two.
fn joined(rules: Vec<Rule>, join: impl Fn(&Rule, &Rule) -> Option<Rule>) -> Vec<Rule> {
    let mut all: Vec<Rule> = Vec::new();
    for rule in rules {
        let is_near = |known: &&mut Rule| (known.allows, known.path, &known.via) == (rule.allows, rule.path, &rule.via);
        let found = all.iter_mut().filter(is_near).find_map(|known| Some((join(known, &rule)?, known)));
        match found {
            Some((both, known)) => *known = both,
            None => all.push(rule),
        }
    }
    all
}
