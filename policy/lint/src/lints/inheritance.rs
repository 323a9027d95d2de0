//! RW2024: the text says that one role needs another's rows too, and they are not there.

use std::collections::{BTreeMap, HashMap};

use ringwall_diagnostic::{Diagnostic, Span};

use crate::view::{Opened, plain, traffic};
use crate::{Role, Row, View};

/// Words may stand between `for` or `on` and the role, such as an article.
const NEAR: usize = 12;

pub(super) fn lint(view: &View) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    for prose in &view.context.prose {
        if let Some((from, to)) = demand(view, &prose.text)
            && !findings.iter().any(|(known, _)| *known == (from, to))
            && let Some(finding) = check(view, from, to, prose.span)
        {
            findings.push(((from, to), finding));
        }
    }
    findings.into_iter().map(|(_, finding)| finding).collect()
}

/// "rules for the A ... on B": the roles A and B.
fn demand<'a>(view: &View<'a>, text: &str) -> Option<(&'a str, &'a str)> {
    let text = plain(text);
    let (_, after) = text.split_once("rules for ")?;
    let found = |text: &str, role: &Role| {
        phrases(role).into_iter().find_map(|phrase| {
            let at = text.find(&phrase)?;
            (at <= NEAR).then_some(at + phrase.len())
        })
    };
    let (from, length) = view.context.roles.iter().find_map(|role| Some((role, found(after, role)?)))?;
    let (_, after) = after[length..].split_once(" on ")?;
    let to = view.context.roles.iter().find(|role| found(after, role).is_some() && role.name != from.name)?;
    Some((&from.name, &to.name))
}

/// The ways to write a role: its name, its description, and the description's beginning.
fn phrases(role: &Role) -> Vec<String> {
    let description = plain(role.description.as_deref().unwrap_or_default());
    let description = description.trim_end_matches('.').to_owned();
    let beginning = [" of ", " in ", " for ", " that ", ", "]
        .iter()
        .filter_map(|end| description.split_once(end))
        .map(|(begin, _)| begin.to_owned());
    let mut phrases: Vec<_> = beginning.filter(|phrase| phrase.contains(' ')).collect();
    phrases.push(description);
    phrases.push(plain(&role.name));
    phrases.retain(|phrase| phrase.len() > 2);
    phrases
}

fn check(view: &View, from: &str, to: &str, demanded: Span) -> Option<Diagnostic> {
    let of = |text: &str, role: &str| plain(text) == plain(role);
    let mut missing: BTreeMap<(&str, &str), Vec<&Row>> = BTreeMap::new();
    let mut opened: HashMap<(&str, &str), Opened> = HashMap::new();
    let (mut count, mut first) = (0, None);
    for row in view.rows {
        let ends = match (of(&row.source, from), of(&row.destination, from)) {
            (true, false) if !of(&row.destination, to) => (to, row.destination.as_str()),
            (false, true) if !of(&row.source, to) => (row.source.as_str(), to),
            _ => continue,
        };
        let opened = opened.entry(ends).or_insert_with(|| view.between(ends.0, ends.1).collect());
        if !opened.covers(row) {
            missing.entry(ends).or_default().push(row);
            first = first.or(Some(row));
            count += 1;
        }
    }
    let finding = Diagnostic::error("RW2024", format!("{count} rows of `{from}` are not repeated for `{to}`"))
        .at(demanded, format!("this asks for the rules of `{from}` on `{to}`"))
        .related(first?.span, "the first of them")
        .help(format!("in the policy, let the group of `{to}` include the rules of `{from}` (`includes_rules_of`)"));
    let line = |(ends, rows): (&(&str, &str), &Vec<&Row>)| {
        let traffic: Vec<_> = rows.iter().map(|row| traffic(row)).collect();
        format!("missing: `{}` -> `{}`: {}", ends.0, ends.1, traffic.join(", "))
    };
    Some(missing.iter().map(line).fold(finding, Diagnostic::note))
}
