//! What is there for a time only, or does not enforce.
//!
//! In: the policy and the time. Out: rules that end soon (RW7008); rules and nodes that only watch
//! (RW7009). Never: a rule that has expired, which the reader of the file reports.

use ringwall_diagnostic::{Diagnostic, Span};
use ringwall_policy::{Action, Policy, Rule, Stage};

use super::{count, line, related};

const DAY: u64 = 86_400;
/// So much time is left to think about a rule that ends.
const SOON: u64 = 14 * DAY;

pub(super) fn findings(policy: &Policy, now: u64) -> Vec<Diagnostic> {
    let there: Vec<&Rule> = policy.rules.iter().filter(|rule| !rule.is_expired(now)).collect();
    let mut found: Vec<Diagnostic> = there.iter().filter_map(|rule| ends(rule, now)).collect();
    let watching: Vec<&Rule> = there.into_iter().filter(|rule| rule.stage == Stage::Audit).collect();
    if let Some((first, rest)) = watching.split_first() {
        let (message, does) = match rest.len() {
            0 => (format!("this {} only watches", first.action), "it"),
            _ => (format!("{} only watch", count(watching.len(), "rule")), "they"),
        };
        let allows = watching.iter().any(|rule| rule.action == Action::Allow);
        let denies = watching.iter().any(|rule| rule.action == Action::Deny);
        let note = match (allows, denies) {
            (true, false) => format!("{does} would open what stays closed"),
            (false, true) => format!("{does} would close what stays open"),
            _ => "what they would open stays closed, and what they would close stays open".to_owned(),
        };
        let finding = Diagnostic::info("RW7009", message).at(first.origin.span, "`stage: audit`");
        let places = rest.iter().map(|rule| (rule.origin.span, "`stage: audit`".to_owned()));
        found.push(related(finding, places).note(note));
    }
    let nodes: Vec<(Span, &str)> = policy
        .nodes
        .values()
        .filter(|node| node.stage == Stage::Audit)
        .map(|node| (node.origin.span, node.name.as_str()))
        .collect();
    if let Some(((first, name), rest)) = nodes.split_first() {
        let message = match rest.len() {
            0 => format!("nothing is dropped on `{name}`: it only watches"),
            _ => format!("nothing is dropped on {}: they only watch", count(nodes.len(), "node")),
        };
        let finding = Diagnostic::info("RW7009", message).at(*first, "");
        let finding = related(finding, rest.iter().map(|(span, _)| (*span, String::new())));
        found.push(finding.help("when what they count and log is right, take `stage: audit` out"));
    }
    found
}

fn ends(rule: &Rule, now: u64) -> Option<Diagnostic> {
    let left = rule.expires?.saturating_sub(now);
    if left > SOON {
        return None;
    }
    let when = match left.div_ceil(DAY) {
        0 | 1 => "within a day".to_owned(),
        days => format!("in {days} days"),
    };
    let effect = match rule.action {
        Action::Allow => "what it alone opens is closed then",
        Action::Deny => "what it alone closes is open then, if a rule allows it",
    };
    let finding = Diagnostic::info("RW7008", format!("`{}` ends {when}", line(rule)));
    Some(finding.at(rule.origin.span, "").note(effect).help("give it a later `expires:` if it is still needed"))
}
