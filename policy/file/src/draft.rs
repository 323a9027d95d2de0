//! Drafts of policy text: a rule that opens what a question asks for, and nothing else.
//!
//! In: a question and the policy that it is about. Out: YAML that may be one more file of the policy.
//! Never: a change to a file, or a promise that the draft is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ringwall_policy::{Name, Policy, Question};

use crate::address::{Item, item};
use crate::form::Word;

/// A rule that allows the question's flows. Addresses get a group, since a rule has names alone.
pub fn draft(question: &Question, policy: &Policy) -> String {
    let taken: BTreeSet<&str> = policy.groups.keys().chain(policy.nodes.keys()).map(Name::as_str).collect();
    let mut groups: BTreeMap<String, String> = BTreeMap::new();
    let source = end(&question.source.text, &taken, &mut groups);
    let destination = end(&question.destination.text, &taken, &mut groups);
    let mut text = String::new();
    if !groups.is_empty() {
        text.push_str("groups:\n");
    }
    for (name, addresses) in &groups {
        writeln!(text, "  {name}: {{ addresses: [{addresses}] }}").expect("a string takes all text");
    }
    let arrow = if question.both_ways { "<->" } else { "->" };
    let services: Vec<String> = question.services.iter().map(|service| quoted(&service.text)).collect();
    let services = if services.is_empty() { "any".to_owned() } else { services.join(", ") };
    writeln!(text, "rules:\n  - allow: {source} {arrow} {destination}\n    services: [{services}]").expect("a string takes all text");
    if let Some(via) = &question.via {
        writeln!(text, "    via: {via}").expect("a string takes all text");
    }
    text
}

fn end(text: &str, taken: &BTreeSet<&str>, groups: &mut BTreeMap<String, String>) -> String {
    let names = text.split(", ").map(|part| {
        let span = ringwall_diagnostic::Span { source: ringwall_diagnostic::Sources::new().add("", ""), start: 0, end: 0 };
        match item(&Word { text: part.to_owned(), span }) {
            Ok(Item::Addresses(_) | Item::Value(_)) => name(part, taken, groups),
            _ => part.to_owned(),
        }
    });
    names.collect::<Vec<_>>().join(", ")
}

/// A name for an address, a prefix, a range or a value.
fn name(part: &str, taken: &BTreeSet<&str>, groups: &mut BTreeMap<String, String>) -> String {
    let kind = if part.contains(['/', '$']) || part.split('-').count() == 2 { "net" } else { "host" };
    let plain = part.split([':', '/', '$', '-']).filter(|piece| !piece.is_empty()).collect::<Vec<_>>().join("-");
    let addresses = quoted(part);
    let candidates = (1..).map(|number| match number {
        1 => format!("{kind}-{plain}"),
        _ => format!("{kind}-{plain}-{number}"),
    });
    let is_free = |name: &String| !taken.contains(name.as_str()) && groups.get(name).is_none_or(|other| *other == addresses);
    let name = candidates.into_iter().find(is_free).expect("numbers do not end");
    groups.insert(name.clone(), addresses);
    name
}

/// Inside brackets, commas and colons mean something.
fn quoted(text: &str) -> String {
    if text.contains([',', ':']) { format!("\"{text}\"") } else { text.to_owned() }
}
