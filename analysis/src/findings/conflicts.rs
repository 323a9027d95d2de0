//! Allows of which denies take a part (RW7002).
//!
//! In: the rules that are there, without those that decide nothing. Out: services of an allow that
//! never open, each a warning; and for each deny what else it takes from allows, a remark, since an
//! exception is what a deny is for. Never: what `management` keeps open all the same.

use std::collections::BTreeSet;

use ringwall_diagnostic::Diagnostic;
use ringwall_packet::{Exhausted, Witness};
use ringwall_policy::{Action, Rule};

use super::example::example;
use super::rows::{Present, Rules};
use super::{Ports, count, line, related, unknown};
use crate::parallel;
use crate::words::{Packets, Words};

/// A service of an allow, and the denies that take all of it.
struct Closed<'a> {
    service: &'a str,
    by: Vec<usize>,
    witness: Option<Witness>,
}

pub(super) fn findings(rules: &Rules<'_>, dead: &BTreeSet<usize>, ports: Ports<'_>, budget: u64) -> Vec<Diagnostic> {
    let denies: Vec<usize> = rules.of_action(Action::Deny).filter(|at| !dead.contains(at)).collect();
    if denies.is_empty() {
        return Vec::new();
    }
    let allows: Vec<usize> = rules.of_action(Action::Allow).filter(|at| !dead.contains(at)).collect();
    let closed = parallel::each(allows.len(), |at| closed(rules, allows[at], budget));
    let mut found = Vec::new();
    let mut left: Vec<Present<'_>> = Vec::new();
    for (at, closed) in allows.iter().zip(closed) {
        let allow = &rules.all[*at];
        match closed {
            Ok(closed) if closed.is_empty() => {}
            Ok(closed) => {
                let rest = allow.without_services(|text| closed.iter().any(|closed| closed.service == text));
                found.push(never_opens(rules, allow, &closed));
                left.push(rest);
                continue;
            }
            Err(Exhausted { steps }) => {
                found.push(unknown("whether each service of this allow opens anything", steps).at(allow.span, ""));
            }
        }
        left.push(allow.clone());
    }
    let words = Words::new(rules.policy, ports.name_of);
    let management = rules.all.first().filter(|first| first.rule.is_none());
    found.extend(parallel::each(denies.len(), |at| takes(&rules.all[denies[at]], &left, management, &words)).into_iter().flatten());
    found
}

/// The services of an allow that denies take whole, though not all of its services.
fn closed<'a>(rules: &Rules<'a>, at: usize, budget: u64) -> Result<Vec<Closed<'a>>, Exhausted> {
    let allow = &rules.all[at];
    let Some(rule) = allow.rule.filter(|rule| rule.services.len() > 1) else { return Ok(Vec::new()) };
    let denies = rules.of_action(Action::Deny).map(|deny| (deny, &rules.all[deny]));
    let denies: Vec<_> = denies.filter(|(_, deny)| deny.lasts_as_long_as(allow) && deny.meets(allow)).collect();
    let mut closed = Vec::new();
    if denies.is_empty() {
        return Ok(closed);
    }
    for service in &rule.services {
        let only = allow.without_services(|text| text != service.text);
        if only.is_empty() {
            continue;
        }
        if let Some(by) = only.taken_by(&denies, budget)? {
            let witness = by.iter().find_map(|deny| only.common(&rules.all[*deny]));
            closed.push(Closed { service: &service.text, by, witness });
        }
    }
    Ok(closed)
}

fn never_opens(rules: &Rules<'_>, allow: &Present<'_>, closed: &[Closed<'_>]) -> Diagnostic {
    let services: Vec<String> = closed.iter().map(|closed| format!("`{}`", closed.service)).collect();
    let by: BTreeSet<usize> = closed.iter().flat_map(|closed| closed.by.iter().copied()).collect();
    let finding = Diagnostic::warning("RW7002", format!("this allow never opens {}", services.join(", ")));
    let text = if by.len() == 1 { "this deny takes all of that" } else { "this deny takes a part of that" };
    let finding = related(finding.at(allow.span, ""), by.iter().map(|deny| (rules.all[*deny].span, text.to_owned())));
    let finding = match closed.iter().find_map(|closed| closed.witness.as_ref()) {
        Some(flow) => finding.note(format!("for example, {flow} is denied")),
        None => finding,
    };
    finding.help("take what is denied out of the allow, or leave the exception out of the deny")
}

fn takes(deny: &Present<'_>, allows: &[Present<'_>], management: Option<&Present<'_>>, words: &Words<'_>) -> Option<Diagnostic> {
    let mut taken: Vec<(&Present<'_>, &Rule, Packets)> = Vec::new();
    for allow in allows.iter().filter(|allow| allow.meets(deny)) {
        let mut packets = allow.overlap(deny);
        if let Some(management) = management {
            packets = management.out_of(packets);
        }
        if !packets.is_empty() {
            taken.push((allow, allow.rule?, packets));
        }
    }
    taken.sort_by_key(|(allow, ..)| allow.place);
    let (_, _, first) = taken.first()?;
    let flow = example(first)?;
    let message = format!("this deny takes a part of {}", count(taken.len(), "allow"));
    let labels: Vec<_> = taken.iter().take(super::SHOWN).map(|(allow, rule, packets)| (allow.span, part(rule, packets, words))).collect();
    let more = taken.len() - labels.len();
    let finding = related(Diagnostic::info("RW7002", message).at(deny.span, ""), labels.into_iter());
    let finding = if more == 0 { finding } else { finding.note(format!("and {more} more")) };
    Some(finding.note(format!("for example, {flow} is denied")))
}

/// `but not guests -> web  443/tcp (https)`.
fn part(rule: &Rule, packets: &Packets, words: &Words<'_>) -> String {
    let lines = words.lines(packets, &Packets::default());
    match &lines[..] {
        [] => format!("a part of `{}`", line(rule)),
        [one] => format!("but not {one}"),
        [one, rest @ ..] => format!("but not {one}, and {} more", rest.len()),
    }
}
