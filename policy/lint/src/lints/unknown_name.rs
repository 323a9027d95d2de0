//! RW2002: a name that nobody knows, beside a number that everybody does.

use ringwall_diagnostic::Diagnostic;
use ringwall_services::{FactKind, canonical, custom_names, facts, name_of, named, registered_names_of};

use super::number::ports_of;
use crate::view::is_anywhere;
use crate::{Row, Transport, View};

/// A longer word is a description rather than an abbreviation.
const LONGEST_ABBREVIATION: usize = 6;

pub(super) fn lint(view: &View) -> Vec<Diagnostic> {
    view.rows.iter().filter_map(check).collect()
}

fn check(row: &Row) -> Option<Diagnostic> {
    let (label, Transport::Is(protocol), [port]) = (row.name()?, row.protocol, &row.single_ports()[..]) else {
        return None;
    };
    let is_abbreviation =
        label.len() <= LONGEST_ABBREVIATION && label.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
    let known = name_of(protocol, *port).filter(|name| canonical(name).is_some() && !is_anywhere(name))?;
    let is_tool = facts(label).any(|fact| matches!(fact.kind, FactKind::AttackTool(_)));
    let lower = label.to_lowercase();
    let mut names = registered_names_of(protocol, *port).chain([known]);
    if *port >= 1024
        || !is_abbreviation
        || is_tool
        || !named(label).is_empty()
        || names.any(|name| name.contains(&lower))
    {
        return None;
    }
    let mut finding = Diagnostic::warning("RW2002", format!("`{label}` is no name of a service that is known here"))
        .at(row.span, format!("{port}/{protocol} is `{known}`"))
        .help(format!("write `{known}` if the number is right"));
    let mut meant = custom_names().filter(|name| name.len() > lower.len() && name.ends_with(&lower));
    if let (Some(name), None) = (meant.next(), meant.next()) {
        finding = finding.help(format!("if `{name}` is meant, its ports are {}", ports_of(&named(name))));
    }
    Some(finding)
}
