//! Rules that never decide: those before them take all of their packets, or there are none.
//!
//! In: the rows. Out: RW7001 where some of the packets are decided otherwise, RW7003 and RW7004 where
//! all have the same verdict, RW7010 for a rule that asks what no packet is. Never: a rule of which
//! one row in one chain may decide something.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{Ipv4Addr, Ipv6Addr};

use ringwall_diagnostic::{Diagnostic, Span};
use ringwall_packet::{Budget, Family, Matches, State, Variable, Witness, parts};
use ringwall_ruleset::filter::{Decision, Filter, FilterVerdict, NotMet};

use super::rows::{Chains, InTable, Place};
use super::{Rules, does, done};
use crate::findings::example::of_box;
use crate::findings::{count, related, unknown};
use crate::parallel;

/// From so many on that one rule hides, it is one finding on that rule.
const MANY: usize = 3;

/// A rule that never decides.
struct Taken {
    rule: usize,
    /// The rules that take its packets, as few as were found, and what they do; none for those that
    /// nobody gets to.
    by: BTreeMap<usize, FilterVerdict>,
    /// A packet that gets another verdict than the rule's, and from which rule.
    otherwise: Option<(Witness, Decision)>,
    /// For which packets `otherwise` was looked for in vain.
    alike: Alike,
}

/// Which of a rule's packets get the rule's own verdict from those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Alike {
    /// Not all, as far as is known.
    No,
    /// All that begin connections: what the rest of them are is a matter of the rules for states.
    New,
    All,
}

pub(super) fn findings(chains: &Chains<'_>, budget: u64) -> (Vec<Diagnostic>, Rules) {
    let (mut dead, mut open) = (HashMap::new(), BTreeSet::new());
    for (chain, (_, table)) in chains.all.iter().enumerate() {
        let (found, unknown) = table.dead(budget);
        dead.extend(found.into_iter().map(|dead| (Place { chain, family: dead.family, row: dead.row }, dead.by)));
        open.extend(unknown.into_iter().map(|(family, row)| Place { chain, family, row }));
    }
    // What is changed on the way may be seen by this row and not by those before.
    dead.retain(|place, by| {
        let decision = chains.decision(*place);
        !by.iter().any(|row| chains.changes_between(chains.decision(Place { row: *row, ..*place }), decision))
    });
    let mut found = Vec::new();
    let mut taken: Vec<(usize, &[Place])> = Vec::new();
    for (rule, places) in &chains.places {
        if places.iter().all(|place| dead.contains_key(place)) {
            taken.push((*rule, places));
        } else if places.iter().all(|place| dead.contains_key(place) || open.contains(place)) {
            found.push(unknown("whether this rule decides anything", budget).at(chains.filter.rules[*rule].span, ""));
        }
    }
    let mut all = parallel::each(taken.len(), |at| one(chains, taken[at].0, taken[at].1, &dead, budget));
    for idle in chains.filter.idle.iter().filter(|idle| !chains.places.contains_key(&idle.rule)) {
        match idle.why {
            NotMet::Never => found.push(never(chains.filter, idle.rule)),
            NotMet::After(by) => {
                let verdict = chains.places.get(&by).and_then(|places| places.first()).map(|place| chains.decision(*place).verdict);
                let by = verdict.map(|verdict| (by, verdict)).or(Some((by, FilterVerdict::Elsewhere(usize::MAX))));
                all.push(Taken { rule: idle.rule, by: by.into_iter().collect(), otherwise: None, alike: Alike::No });
            }
        }
    }
    let gone: Rules = all.iter().map(|taken| taken.rule).collect();
    found.extend(shown(chains, all));
    (found, gone)
}

fn one(chains: &Chains<'_>, rule: usize, places: &[Place], dead: &HashMap<Place, Vec<usize>>, budget: u64) -> Taken {
    let mut taken = Taken { rule, by: BTreeMap::new(), otherwise: None, alike: Alike::All };
    for place in places {
        for row in &dead[place] {
            let decision = chains.decision(Place { row: *row, ..*place });
            if let Some(by) = decision.rule.filter(|by| *by != rule) {
                taken.by.insert(by, decision.verdict);
            }
        }
        if taken.alike > Alike::No {
            let alike = match place.family {
                Family::V4 => alike::<Ipv4Addr>(chains, *place, rule, budget, &mut taken.otherwise),
                Family::V6 => alike::<Ipv6Addr>(chains, *place, rule, budget, &mut taken.otherwise),
            };
            taken.alike = taken.alike.min(alike);
        }
    }
    taken
}

/// Which of the row's packets earlier ones give its own verdict; else one that they don't.
fn alike<A: InTable>(chains: &Chains<'_>, place: Place, rule: usize, budget: u64, otherwise: &mut Option<(Witness, Decision)>) -> Alike {
    let rows = A::rows(&chains.all[place.chain].1);
    let own = &rows[place.row];
    let mut find = |packets: &Matches<A>| {
        let parts = parts(&rows[..place.row], packets, &mut Budget::new(budget)).ok()?;
        Some(parts.into_iter().find_map(|part| {
            let decision = rows[part.row?].decision;
            let is_other = decision.rule != Some(rule) && decision.verdict != own.decision.verdict;
            is_other.then(|| (of_box(&part.matches), decision))
        }))
    };
    let new = own.matches.and(Variable::State, &State::New.values().into());
    match new.as_ref().map(&mut find) {
        Some(None) => return Alike::No,
        Some(Some(Some(found))) => {
            *otherwise = Some(found);
            return Alike::No;
        }
        Some(Some(None)) | None => {}
    }
    match find(&own.matches) {
        Some(None) => Alike::All,
        Some(Some(_)) | None if new.is_some() => Alike::New,
        Some(found) => {
            *otherwise = found;
            Alike::No
        }
        None => Alike::No,
    }
}

fn shown(chains: &Chains<'_>, all: Vec<Taken>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut by_one: BTreeMap<(usize, Alike), Vec<Taken>> = BTreeMap::new();
    for taken in all {
        match taken.by.keys().copied().collect::<Vec<_>>()[..] {
            [by] => by_one.entry((by, taken.alike)).or_default().push(taken),
            _ => found.push(alone(chains, &taken)),
        }
    }
    for ((by, alike), hidden) in by_one {
        if hidden.len() < MANY {
            found.extend(hidden.iter().map(|taken| alone(chains, taken)));
        } else {
            found.push(together(chains, by, alike, hidden));
        }
    }
    found
}

fn alone(chains: &Chains<'_>, taken: &Taken) -> Diagnostic {
    let rules = &chains.filter.rules;
    let part = if taken.by.len() == 1 { "all of it" } else { "a part of it" };
    let by: Vec<(Span, String)> = taken
        .by
        .iter()
        .map(|(by, verdict)| match verdict {
            FilterVerdict::Elsewhere(_) => (rules[*by].span, "takes every packet before".to_owned()),
            decided => (rules[*by].span, does(*decided, part)),
        })
        .collect();
    let finding = match taken.alike {
        Alike::All => Diagnostic::info("RW7003", "this rule changes nothing: those before it do the same with all of its packets"),
        Alike::New => Diagnostic::info("RW7003", "this rule changes nothing: those before it do the same with every new connection"),
        Alike::No => Diagnostic::warning("RW7001", "this rule never decides anything"),
    };
    let finding = related(finding.at(rules[taken.rule].span, ""), by.into_iter());
    let finding = match &taken.otherwise {
        Some((flow, decision)) => finding.note(format!("for example, {flow} {}", before(chains.filter, *decision))),
        None => finding,
    };
    finding.help(match taken.alike {
        Alike::All | Alike::New => "take it out",
        Alike::No => "put it before those that hide it, or take it out",
    })
}

/// `is dropped by line 12`.
fn before(filter: &Filter, decision: Decision) -> String {
    let by = match decision.rule {
        Some(rule) => format!("by line {}", filter.rules[rule].line),
        None => "by the chain's policy".to_owned(),
    };
    match decision.verdict {
        FilterVerdict::Decided(verdict) => format!("is {} {by}", done(verdict)),
        FilterVerdict::Elsewhere(_) => format!("is sent elsewhere {by}"),
    }
}

fn together(chains: &Chains<'_>, by: usize, alike: Alike, mut hidden: Vec<Taken>) -> Diagnostic {
    let rules = &chains.filter.rules;
    hidden.sort_by_key(|taken| rules[taken.rule].span);
    let number = count(hidden.len(), "rule");
    let alike = alike > Alike::No;
    let finding = match alike {
        true => Diagnostic::info("RW7004", format!("this rule makes {number} after it unnecessary")),
        false => Diagnostic::warning("RW7001", format!("{number} after this one never decide anything")),
    };
    let text = if alike { "does nothing more" } else { "nothing is left for it" };
    let finding = related(finding.at(rules[by].span, "takes all of their packets"), hidden.iter().map(|taken| (rules[taken.rule].span, text.to_owned())));
    let example = hidden.iter().find_map(|taken| Some((taken.rule, taken.otherwise.as_ref()?)));
    let finding = match example {
        Some((rule, (flow, decision))) => {
            finding.note(format!("for example, {flow} {}, not by line {}", before(chains.filter, *decision), rules[rule].line))
        }
        None => finding,
    };
    finding.help(if alike { "take them out; or, if this one was not meant to take all that, make it narrower" } else { "put them before it, make it narrower, or take them out" })
}

fn never(filter: &Filter, rule: usize) -> Diagnostic {
    let finding = Diagnostic::warning("RW7010", "no packet that gets to this rule is what it asks for");
    finding.at(filter.rules[rule].span, "").help("take out what can't be true at the same time, or where the chain is called from, or take the rule out")
}
