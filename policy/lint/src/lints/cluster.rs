//! RW2021: the rows tell a cluster. RW2022: its members lack rows among each other. RW2023: a row of
//! it stands in one direction only.

use ringwall_diagnostic::Diagnostic;
use ringwall_services::{FactKind, canonical};

use crate::view::{Opened, count, on_all, traffic};
use crate::{Direction, Row, View};

pub(super) fn lint(view: &View) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    for &(one, other) in view.pairs() {
        let Some((name, fact)) = view.cluster_between(one, other) else { continue };
        let FactKind::Cluster(ports) = fact.kind else { continue };
        let (forth, back) = (view.exactly_between(one, other), view.exactly_between(other, one));
        // A row for both directions is in either list.
        let one_way = back.iter().filter(|row| row.direction != Direction::Both);
        let both: Vec<&Row> = forth.iter().chain(one_way).copied().collect();
        let told: Vec<_> = both.iter().copied().filter(|row| ports.iter().any(|port| row.opens(*port))).collect();
        let is_named =
            both.iter().any(|row| row.name().and_then(canonical).is_some_and(|label| label.starts_with(name)));
        if !is_named {
            let numbers: Vec<_> = ports.iter().map(|(_, first, _)| first.to_string()).collect();
            let finding = Diagnostic::info(
                "RW2021",
                format!("{} together are the ports of a `{name}` cluster", numbers.join(", ")),
            )
            .help("all its members need the same ports, each to each, in both directions");
            findings.push(on_all(finding, &told, |_| fact.why.to_owned()));
        }
        findings.extend([(one, forth), (other, back)].iter().filter_map(|(role, rows)| mesh(view, role, rows, &both)));
        if !forth.is_empty() && !back.is_empty() {
            findings.extend(one_direction((other, one), forth, back));
            findings.extend(one_direction((one, other), back, forth));
        }
    }
    findings
}

/// What several machines of a role lack among each other.
fn mesh(view: &View, role: &str, from: &[&Row], both: &[&Row]) -> Option<Diagnostic> {
    let needed = if from.is_empty() { both } else { from };
    let own: Opened = view.between(role, role).collect();
    let missing: Vec<_> = needed.iter().filter(|row| !own.covers(row)).collect();
    let first = missing.first().filter(|_| view.is_several(role))?;
    let lines: Vec<_> = missing.iter().map(|row| traffic(row)).collect();
    Some(
        Diagnostic::error(
            "RW2022",
            format!("{} missing among the members of `{role}`", count(missing.len(), "row is", "rows are")),
        )
        .at(first.span, format!("`{role}` is several machines of one cluster"))
        .note(format!("missing: `{role}` -> `{role}`: {}", lines.join(", ")))
        .help(format!("add these rows from `{role}` to `{role}`, or one rule `{role} <-> {role}` with their services")),
    )
}

/// Rows of one direction that the other direction lacks.
fn one_direction((source, destination): (&str, &str), rows: &[&Row], counterparts: &[&Row]) -> Vec<Diagnostic> {
    let counterparts: Opened = counterparts.iter().copied().collect();
    let alone = rows.iter().filter(|row| !counterparts.covers(row));
    let finding = |row: &&Row| {
        Diagnostic::warning("RW2023", format!("{} is open in one direction only", traffic(row)))
            .at(row.span, format!("no such row from `{source}` to `{destination}`"))
            .help("members of a cluster reach each other in both directions: add the row")
    };
    alone.map(finding).collect()
}
