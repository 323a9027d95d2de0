//! What is wrong or doubtful in what a policy or a ruleset does, each proved, with a packet that
//! shows it.
//!
//! In: a resolved policy, or what a reader made of somebody's rules; the work that each question may
//! take. Out: diagnostics `RW7nnn`. Never: a finding that could be false at another time, with
//! other DNS answers, or for some value of what is not understood.

mod conflicts;
mod definitions;
mod example;
mod exposed;
mod redundant;
mod rows;
mod ruleset;
mod stages;
mod wide;

use ringwall_diagnostic::Diagnostic;
use ringwall_policy::{Policy, Rule};

use crate::words::NameOf;

pub use ruleset::of_ruleset;

/// Steps that each question may take: far more than any policy seen needs, and soon over.
pub const BUDGET: u64 = 200_000;

/// How many places are shown beside a finding; more are counted.
const SHOWN: usize = 5;

/// What is known about ports, by the caller's registry.
#[derive(Clone, Copy)]
pub struct Ports<'a> {
    pub name_of: &'a NameOf<'a>,
    /// Why nobody should reach the port who does not manage the machine, as a clause; `None` where
    /// there is no such reason.
    pub risk_of: &'a NameOf<'a>,
}

/// All findings on a policy. `now` is in seconds since the epoch; `budget` is for each question.
pub fn of_policy(policy: &Policy, ports: Ports<'_>, now: u64, budget: u64) -> Vec<Diagnostic> {
    let rules = rows::Rules::new(policy, now);
    let (mut found, dead) = redundant::findings(&rules, budget);
    found.extend(conflicts::findings(&rules, &dead, ports, budget));
    found.extend(definitions::findings(policy));
    found.extend(exposed::findings(policy, ports, now, budget));
    found.extend(wide::findings(policy, now));
    found.extend(stages::findings(policy, now));
    found.sort_by_key(|diagnostic| (diagnostic.primary.as_ref().map(|label| label.span), diagnostic.code));
    found
}

/// `1 rule`, `2 rules`.
fn count(number: usize, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

/// Beside a finding: the first few, and how many more there are.
fn related(
    finding: Diagnostic,
    places: impl ExactSizeIterator<Item = (ringwall_diagnostic::Span, String)>,
) -> Diagnostic {
    let more = places.len().saturating_sub(SHOWN);
    let finding = places.take(SHOWN).fold(finding, |finding, (span, text)| finding.related(span, text));
    if more == 0 { finding } else { finding.note(format!("and {more} more")) }
}

fn unknown(question: &str, steps: u64) -> Diagnostic {
    let message = format!("{question} is unknown: {steps} steps were not enough");
    Diagnostic::info("RW7012", message)
}

/// `allow: users -> web`.
fn line(rule: &Rule) -> String {
    let arrow = if rule.both_ways { "<->" } else { "->" };
    format!("{}: {} {arrow} {}", rule.action, rule.source.text, rule.destination.text)
}
