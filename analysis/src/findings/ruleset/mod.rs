//! What is wrong or doubtful in a ruleset that somebody wrote.
//!
//! In: what a reader made of its text. Out: diagnostics `RW7nnn` at the rules' lines. Never: a
//! finding that depends on what is not understood: that may be as it likes, and the finding holds.

mod needless;
mod open;
mod rows;
mod taken;
mod told;

use std::collections::BTreeSet;

use ringwall_diagnostic::Diagnostic;
use ringwall_ruleset::Verdict;
use ringwall_ruleset::filter::{Filter, FilterVerdict};

use rows::Chains;

/// All findings on a ruleset; `budget` is for each question.
pub fn of_ruleset(filter: &Filter, budget: u64) -> Vec<Diagnostic> {
    let chains = Chains::new(filter);
    let (mut found, mut gone) = taken::findings(&chains, budget);
    found.extend(needless::findings(&chains, &mut gone, budget));
    found.extend(open::findings(&chains, &gone, budget));
    found.extend(told::findings(filter));
    found.sort_by_key(|diagnostic| (diagnostic.primary.as_ref().map(|label| label.span), diagnostic.code));
    found
}

/// Indices into [`Filter::rules`].
type Rules = BTreeSet<usize>;

/// `drops all of it`.
fn does(verdict: FilterVerdict, part: &str) -> String {
    match verdict {
        FilterVerdict::Decided(Verdict::Accept) => format!("accepts {part}"),
        FilterVerdict::Decided(Verdict::Drop) => format!("drops {part}"),
        FilterVerdict::Decided(Verdict::Reject) => format!("rejects {part}"),
        FilterVerdict::Elsewhere(_) => format!("sends {part} elsewhere"),
    }
}

fn done(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Accept => "accepted",
        Verdict::Drop => "dropped",
        Verdict::Reject => "rejected",
    }
}
