//! Rules that decide what later ones would decide alike (RW7003, RW7004).
//!
//! In: the rows without those that never decide. Out: rules whose packets get the same verdict, and
//! meet the same statements, without them. Never: a rule that only does what the chain's policy
//! does: it is there so that somebody reads it; nor one with a match that may count or remember.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ringwall_diagnostic::Diagnostic;
use ringwall_packet::{Budget, Cover, Exhausted, Family, Matches, Row, cover};
use ringwall_ruleset::filter::Decision;

use super::Rules;
use super::rows::{Chains, InTable, Outline, Place, asks_unknown};
use crate::findings::{count, related};
use crate::parallel;

/// In longer chains this is not asked: it takes time that grows with the square.
const ROWS_MAX: usize = 20_000;

pub(super) fn findings(chains: &Chains<'_>, gone: &mut Rules, budget: u64) -> Vec<Diagnostic> {
    let too_long = |place: &Place| {
        let table = &chains.all[place.chain].1;
        table.v4.len().max(table.v6.len()) > ROWS_MAX
    };
    let asked: Vec<(usize, &Vec<Place>)> =
        chains.places.iter().filter(|(rule, places)| !gone.contains(rule) && !places.iter().any(too_long)).map(|(rule, places)| (*rule, places)).collect();
    let is_candidate = parallel::each(asked.len(), |at| {
        let (rule, places) = asked[at];
        matches!(takers(chains, rule, places, gone, budget), Ok(Some(_)))
    });
    let mut found = Vec::new();
    let mut by_one: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for ((rule, places), _) in asked.into_iter().zip(is_candidate).filter(|(_, is_candidate)| *is_candidate) {
        // What was named before is as if it were out already.
        let Ok(Some(by)) = takers(chains, rule, places, gone, budget) else { continue };
        gone.insert(rule);
        match by.iter().copied().collect::<Vec<_>>()[..] {
            [one] => by_one.entry(one).or_default().push(rule),
            _ => found.push(needless(chains, rule, &by)),
        }
    }
    for (by, rules) in by_one {
        match rules[..] {
            [rule] => found.push(needless(chains, rule, &Rules::from([by]))),
            _ => found.push(generalised(chains, by, &rules)),
        }
    }
    found
}

fn needless(chains: &Chains<'_>, rule: usize, by: &Rules) -> Diagnostic {
    let rules = &chains.filter.rules;
    let text = if by.len() == 1 { "does the same with all of it" } else { "does the same with a part of it" };
    let finding = Diagnostic::info("RW7003", "this rule changes nothing: those after it do the same with all of its packets");
    related(finding.at(rules[rule].span, ""), by.iter().map(|by| (rules[*by].span, text.to_owned()))).help("take it out; or, if less was meant, make the later ones narrower")
}

fn generalised(chains: &Chains<'_>, by: usize, hidden: &[usize]) -> Diagnostic {
    let rules = &chains.filter.rules;
    let finding = Diagnostic::info("RW7004", format!("this rule makes {} before it unnecessary", count(hidden.len(), "rule")));
    let places = hidden.iter().map(|rule| (rules[*rule].span, "does nothing more".to_owned()));
    related(finding.at(rules[by].span, ""), places).help("take them out; or, if this one was not meant to take all that, make it narrower")
}

/// The rules that decide alike what one decides, when it is out; `None`: something would change.
fn takers(chains: &Chains<'_>, rule: usize, places: &[Place], gone: &Rules, budget: u64) -> Result<Option<Rules>, Exhausted> {
    let mut all = Rules::new();
    let mut budget = Budget::new(budget);
    for place in places {
        let taken = match place.family {
            Family::V4 => row_takers::<Ipv4Addr>(chains, *place, rule, gone, &mut all, &mut budget)?,
            Family::V6 => row_takers::<Ipv6Addr>(chains, *place, rule, gone, &mut all, &mut budget)?,
        };
        if !taken {
            return Ok(None);
        }
    }
    // Without any, the rule never decides, which is another finding.
    Ok((!all.is_empty()).then_some(all))
}

fn row_takers<A: InTable>(
    chains: &Chains<'_>,
    place: Place,
    rule: usize,
    gone: &Rules,
    takers: &mut Rules,
    budget: &mut Budget,
) -> Result<bool, Exhausted> {
    let at = place.row;
    let (rows, outlines) = (A::rows(&chains.all[place.chain].1), A::outlines(chains, place.chain));
    let (own, outline) = (&rows[at], &outlines[at]);
    if asks_unknown(&own.matches) {
        return Ok(false);
    }
    let meets = |(row, other): &(&Row<A, Decision>, &Outline<A>)| outline.may_meet(other) && !own.matches.is_disjoint(&row.matches);
    let is_gone = |row: &Row<A, Decision>| row.decision.rule.is_some_and(|by| gone.contains(&by));
    let mut earlier: Option<Vec<&Matches<A>>> = None;
    let mut same: Vec<(usize, &Matches<A>)> = Vec::new();
    for (row, _) in rows.iter().zip(outlines).skip(at + 1).filter(meets) {
        if row.decision.rule == Some(rule) || is_gone(row) {
            continue;
        }
        if let Some(by) = row.decision.rule.filter(|_| chains.does_the_same(row.decision, own.decision)) {
            if own.matches.is_subset(&row.matches) && same.is_empty() {
                takers.insert(by);
                return Ok(true);
            }
            same.push((by, &row.matches));
            continue;
        }
        let common = own.matches.intersection(&row.matches).expect("they are not disjoint");
        let earlier = earlier.get_or_insert_with(|| {
            let before = rows.iter().zip(outlines).take(at).filter(meets).filter(|(row, _)| !is_gone(row));
            before.map(|(row, _)| &row.matches).collect()
        });
        let by: Vec<&Matches<A>> = earlier.iter().copied().chain(same.iter().map(|(_, matches)| *matches)).collect();
        if let Cover::Not(_) = cover(&common, &by, budget)? {
            return Ok(false);
        }
        if own.matches.is_subset(&row.matches) {
            break;
        }
    }
    let earlier = earlier.unwrap_or_default();
    let by: Vec<&Matches<A>> = earlier.iter().copied().chain(same.iter().map(|(_, matches)| *matches)).collect();
    match cover(&own.matches, &by, budget)? {
        Cover::By(needed) => {
            takers.extend(needed.into_iter().filter_map(|index| Some(same.get(index.checked_sub(earlier.len())?)?.0)));
            Ok(true)
        }
        Cover::Not(_) => Ok(false),
    }
}
