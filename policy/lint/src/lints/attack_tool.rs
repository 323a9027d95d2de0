//! RW2005: a name that is known for attacks.

use ringwall_diagnostic::Diagnostic;
use ringwall_services::{FactKind, facts, known_uses_of};

use crate::view::traffic;
use crate::{Row, View};

pub(super) fn lint(view: &View) -> Vec<Diagnostic> {
    view.rows.iter().flat_map(|row| check(view, row)).collect()
}

fn check(view: &View, row: &Row) -> Vec<Diagnostic> {
    let Some(label) = row.name() else { return Vec::new() };
    let finding = |why| {
        let mut finding = Diagnostic::warning("RW2005", format!("`{label}` is the name of an attack tool"))
            .at(row.span, why)
            .help("name what really listens there, so that nobody takes it for an intrusion or lets one pass");
        let uses = row.protocols().into_iter().flat_map(|protocol| {
            row.single_ports().into_iter().flat_map(move |port| known_uses_of(protocol, port).collect::<Vec<_>>())
        });
        if let Some(name) = uses.into_iter().next() {
            let told = view.cluster_between(&row.source, &row.destination).is_some();
            let certainty = if told { "the rows beside it say that" } else { "often" };
            finding = finding.note(format!("{certainty} {} is `{name}`", traffic(row)));
        }
        finding
    };
    facts(label).filter(|fact| matches!(fact.kind, FactKind::AttackTool(_))).map(|fact| finding(fact.why)).collect()
}
