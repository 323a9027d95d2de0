//! What became of rules where no flow tells it: other ids, stages, days of expiry.

use std::collections::{BTreeMap, BTreeSet};

use ringwall_policy::{Policy, Rule, RuleId, Stage, merged};

use super::{About, Other};

/// Rules of `before` that `after` has under another id: their places in each.
pub(super) fn renamed(before: Option<&Policy>, after: &Policy) -> BTreeMap<usize, usize> {
    let Some(before) = before else { return BTreeMap::new() };
    let ids = |policy: &Policy| -> BTreeSet<RuleId> { policy.rules.iter().map(|rule| rule.id.clone()).collect() };
    let (old, new) = (ids(before), ids(after));
    let mut left: Vec<usize> = (0..after.rules.len()).filter(|at| !old.contains(&after.rules[*at].id)).collect();
    let mut renamed = BTreeMap::new();
    for (at, rule) in before.rules.iter().enumerate().filter(|(_, rule)| !new.contains(&rule.id)) {
        if let Some(found) = left.iter().position(|other| does_the_same(rule, &after.rules[*other])) {
            renamed.insert(at, left.swap_remove(found));
        }
    }
    renamed
}

/// Whether two rules match the same packets, whatever they do with them.
fn matches_the_same(one: &Rule, other: &Rule) -> bool {
    let ends = |rule: &Rule| {
        let pair = |(from, to): (&ringwall_policy::End, &ringwall_policy::End)| {
            (from.addresses.clone(), to.addresses.clone(), to.names.clone())
        };
        let mut all: Vec<_> = rule.directions().map(pair).collect();
        all.sort();
        all.dedup();
        all
    };
    let upper = |rule: &Rule| {
        let mut cubes = merged(&rule.upper()).cubes().to_vec();
        cubes.sort();
        cubes
    };
    one.via == other.via && ends(one) == ends(other) && upper(one) == upper(other)
}

fn does_the_same(one: &Rule, other: &Rule) -> bool {
    one.action == other.action
        && one.stage == other.stage
        && one.expires == other.expires
        && one.session_timeout == other.session_timeout
        && one.log == other.log
        && one.reject == other.reject
        && matches_the_same(one, other)
}

/// `told` are the places of rules, before and afterwards, that flows have told of already.
pub(super) fn others(
    before: Option<&Policy>,
    after: &Policy,
    renamed: &BTreeMap<usize, usize>,
    now: u64,
    told: &(BTreeSet<usize>, BTreeSet<usize>),
    concerns: impl Fn(&Rule) -> bool,
) -> Vec<Other> {
    let Some(before) = before else { return Vec::new() };
    let of_after: BTreeMap<&RuleId, &Rule> = after.rules.iter().map(|rule| (&rule.id, rule)).collect();
    let of_before: BTreeSet<&RuleId> = before.rules.iter().map(|rule| &rule.id).collect();
    let mut others = Vec::new();
    let mut say = |rule: &Rule, before: Option<String>, after: Option<String>| {
        others.push(Other { about: About::Rule, name: rule.id.to_string(), before, after });
    };
    for (at, rule) in before.rules.iter().enumerate().filter(|(_, rule)| concerns(rule)) {
        if let Some(other) = renamed.get(&at) {
            say(rule, None, Some(format!("is {} now, and does the same", after.rules[*other].id)));
            continue;
        }
        match of_after.get(&rule.id) {
            None if told.0.contains(&at) => {}
            None => say(rule, Some(what(rule, now)), None),
            Some(other) => {
                if rule.stage != other.stage {
                    say(rule, Some(format!("stage {}", stage(rule))), Some(format!("stage {}", stage(other))));
                }
                if rule.expires != other.expires {
                    say(rule, Some(expiry(rule)), Some(expiry(other)));
                }
                // What only watches shows in no flow.
                if rule.stage == Stage::Audit && other.stage == Stage::Audit && !matches_the_same(rule, other) {
                    say(rule, None, Some("watches other flows".into()));
                }
            }
        }
    }
    let known: BTreeSet<usize> = renamed.values().copied().collect();
    for (at, rule) in after.rules.iter().enumerate().filter(|(_, rule)| concerns(rule)) {
        if !of_before.contains(&rule.id) && !known.contains(&at) && !told.1.contains(&at) {
            say(rule, None, Some(what(rule, now)));
        }
    }
    others
}

fn stage(rule: &Rule) -> &'static str {
    match rule.stage {
        Stage::Audit => "audit",
        Stage::Enforce => "enforce",
    }
}

/// A day, as the policy has it, is kept as its end.
fn expiry(rule: &Rule) -> String {
    rule.expires.map_or("does not expire".into(), |expires| format!("expires {}", day(expires.saturating_sub(1))))
}

/// Why a rule shows in no flow.
fn what(rule: &Rule, now: u64) -> String {
    let words = format!("{} {} {} {}", rule.action, rule.source.text, if rule.both_ways { "<->" } else { "->" }, rule.destination.text);
    let why = if rule.stage == Stage::Audit {
        "only watches"
    } else if rule.is_expired(now) {
        "has expired"
    } else {
        "other rules say the same"
    };
    format!("{words}: {why}")
}

/// The day of a time in UTC, as RFC 3339 writes it. From days to a date as in Howard Hinnant's
/// "chrono-Compatible Low-Level Date Algorithms": years begin with March, eras have 400 of them.
fn day(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, year) = if month < 10 { (month + 3, year) } else { (month - 9, year + 1) };
    format!("{:04}-{month:02}-{day:02}", year + era * 400)
}

#[cfg(test)]
mod tests {
    #[test]
    fn days_are_dates() {
        for (seconds, date) in [
            (0, "1970-01-01"),
            (86_399, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_814_399_999, "2027-06-30"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(super::day(seconds), date);
        }
    }
}
