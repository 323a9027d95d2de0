//! Rules that decide nothing, because others take all their packets.
//!
//! In: the rules that are there. Out: allows that denies take away (RW7001), rules that say nothing
//! new (RW7003), and rules that make several others unnecessary (RW7004). Never: two rules that each
//! rely on the other: all that are named can be taken out together.

use std::collections::{BTreeMap, BTreeSet};

use ringwall_diagnostic::Diagnostic;
use ringwall_packet::{Exhausted, Witness};
use ringwall_policy::Action;

use super::rows::{Present, Rules};
use super::{count, line, related, unknown};
use crate::parallel;

/// What becomes of a rule's packets.
enum Fate {
    /// It decides some, or none that is proved.
    Decides,
    /// Denies take all packets of an allow: these.
    Denied(Vec<usize>),
    /// Others take all.
    Taken,
    Unknown(Exhausted),
}

/// The findings, and the places in `rules` of what decides nothing.
pub(super) fn findings(rules: &Rules<'_>, budget: u64) -> (Vec<Diagnostic>, BTreeSet<usize>) {
    let fates = parallel::each(rules.all.len(), |at| fate(rules, at, budget).unwrap_or_else(Fate::Unknown));
    let mut found = Vec::new();
    let mut gone = BTreeSet::new();
    let mut taken = Vec::new();
    for (at, fate) in fates.into_iter().enumerate() {
        let one = &rules.all[at];
        match fate {
            Fate::Decides => {}
            Fate::Denied(by) => {
                gone.insert(at);
                found.push(denied(one, &by.iter().map(|at| &rules.all[*at]).collect::<Vec<_>>()));
            }
            Fate::Taken => taken.push(at),
            Fate::Unknown(Exhausted { steps }) => found.push(unknown("whether this rule decides anything", steps).at(one.span, "")),
        }
    }
    // Of two rules that say the same, the later one in the files is one too many.
    taken.sort_by_key(|at| std::cmp::Reverse(rules.all[*at].place));
    let mut alone: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for &at in &taken {
        let others = others(rules, at, &gone);
        match by(rules, at, &others, &taken, budget) {
            Ok(Some(by)) => {
                gone.insert(at);
                match by[..] {
                    [one] if rules.all[one].rule.is_some() => alone.entry(one).or_default().push(at),
                    _ => found.push(redundant(&rules.all[at], &by.iter().map(|at| &rules.all[*at]).collect::<Vec<_>>())),
                }
            }
            Ok(None) | Err(_) => {}
        }
    }
    for (by, mut hidden) in alone {
        hidden.sort_by_key(|at| rules.all[*at].place);
        let hidden: Vec<&Present<'_>> = hidden.into_iter().map(|at| &rules.all[at]).collect();
        let by = &rules.all[by];
        found.push(match hidden[..] {
            [only] => redundant(only, &[by]),
            _ => generalised(by, &hidden),
        });
    }
    (found, gone)
}

fn fate(rules: &Rules<'_>, at: usize, budget: u64) -> Result<Fate, Exhausted> {
    let one = &rules.all[at];
    if one.rule.is_none() || one.is_empty() {
        return Ok(Fate::Decides);
    }
    if one.action() == Some(Action::Allow) {
        let denies = rules.of_action(Action::Deny).map(|deny| (deny, &rules.all[deny]));
        let denies: Vec<_> = denies.filter(|(_, deny)| deny.lasts_as_long_as(one)).collect();
        if let Some(by) = one.taken_by(&denies, budget)? {
            return Ok(Fate::Denied(by));
        }
    }
    let others = others(rules, at, &BTreeSet::new());
    Ok(if one.taken_by(&others, budget)?.is_some() { Fate::Taken } else { Fate::Decides })
}

/// What may take the packets of a rule so that nothing changes without it: what is stronger, and
/// what is weaker and does the same. None when a weaker one that does otherwise is in the way.
fn others<'a, 'b>(rules: &'b Rules<'a>, at: usize, gone: &BTreeSet<usize>) -> Vec<(usize, &'b Present<'a>)> {
    let one = &rules.all[at];
    let mut others = Vec::new();
    for (place, other) in rules.all.iter().enumerate().filter(|(place, _)| *place != at && !gone.contains(place)) {
        let is_stronger = place < at;
        if is_stronger || other.does_the_same_as(one) {
            if other.lasts_as_long_as(one) {
                others.push((place, other));
            }
        } else if other.action() == one.action() && other.meets(one) {
            return Vec::new();
        }
    }
    others
}

/// Which of the others take its packets: a single one that stays, else a single one, else several.
fn by(
    rules: &Rules<'_>,
    at: usize,
    others: &[(usize, &Present<'_>)],
    taken: &[usize],
    budget: u64,
) -> Result<Option<Vec<usize>>, Exhausted> {
    let one = &rules.all[at];
    let alone = |stays: bool| {
        let mut near = others.iter().filter(|(other, rule)| taken.contains(other) != stays && rule.meets(one));
        near.find(|other| one.taken_by(std::slice::from_ref(other), budget).is_ok_and(|by| by.is_some()))
    };
    if let Some((single, _)) = alone(true).or_else(|| alone(false)) {
        return Ok(Some(vec![*single]));
    }
    one.taken_by(others, budget)
}

/// A packet that the first of them takes.
fn witness(one: &Present<'_>, by: &[&Present<'_>]) -> Option<Witness> {
    by.iter().find_map(|other| one.common(other))
}

fn denied(allow: &Present<'_>, by: &[&Present<'_>]) -> Diagnostic {
    let text = if by.len() == 1 { "this deny beats it" } else { "this deny takes a part of it" };
    let finding = Diagnostic::warning("RW7001", "this allow never opens anything").at(allow.span, "");
    let finding = related(finding, by.iter().map(|deny| (deny.span, text.to_owned())));
    let finding = match witness(allow, by) {
        Some(flow) => finding.note(format!("for example, {flow} is denied")),
        None => finding,
    };
    finding.help("take one of the two out, or leave the exception out of the deny")
}

fn redundant(one: &Present<'_>, by: &[&Present<'_>]) -> Diagnostic {
    let Some(rule) = one.rule else { unreachable!("only rules are asked about") };
    let (does, message) = match rule.action {
        Action::Allow => ("accepted", "this allow opens nothing that is not open without it"),
        Action::Deny => ("denied", "this deny closes nothing that is not closed without it"),
    };
    let part = if by.len() == 1 { "all of it" } else { "a part of it" };
    let text = |other: &Present<'_>| match other.action() {
        None => format!("`management` opens {part}"),
        Some(Action::Allow) => format!("allows {part}"),
        Some(Action::Deny) => format!("denies {part}"),
    };
    let finding = Diagnostic::info("RW7003", message).at(one.span, "");
    let mut finding = related(finding, by.iter().map(|other| (other.span, text(other))));
    let same: Vec<&Present<'_>> = by.iter().filter(|other| other.action().unwrap_or(Action::Allow) == rule.action).copied().collect();
    if let Some(flow) = witness(one, &same) {
        finding = finding.note(format!("for example, {flow} is {does} all the same"));
    }
    if rule.session_timeout.is_some() && !same.iter().any(|other| other.does_the_same_as(one)) {
        finding = finding.note("its `session_timeout` has no effect");
    }
    finding.help("take it out; or, if less was meant to be open, make the other narrower")
}

fn generalised(by: &Present<'_>, hidden: &[&Present<'_>]) -> Diagnostic {
    let Some(rule) = by.rule else { unreachable!("only rules are asked about") };
    let message = format!("this {} makes {} unnecessary", rule.action, count(hidden.len(), "other"));
    let does = match rule.action {
        Action::Allow => "opens nothing more",
        Action::Deny => "closes nothing more",
    };
    let finding = Diagnostic::info("RW7004", message).at(by.span, "");
    let finding = related(finding, hidden.iter().map(|one| (one.span, does.to_owned())));
    let finding = match hidden.first().and_then(|one| Some((one.rule?, witness(one, &[by])?))) {
        Some((one, flow)) => finding.note(format!("for example, {flow} is decided alike without `{}`", line(one))),
        None => finding,
    };
    finding.help("take the others out; or, if this was not meant to say all that, make it narrower")
}
