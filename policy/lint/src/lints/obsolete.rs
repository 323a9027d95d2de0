//! RW2004: a protocol that is registered for the service, but that its servers no longer use.

use ringwall_diagnostic::Diagnostic;
use ringwall_services::{FactKind, facts, named};

use crate::{Row, Transport, View};

pub(super) fn lint(view: &View) -> Vec<Diagnostic> {
    view.rows.iter().flat_map(check).collect()
}

fn check(row: &Row) -> Vec<Diagnostic> {
    let (Some(label), Transport::Is(protocol)) = (row.name(), row.protocol) else { return Vec::new() };
    let is_its_port = named(label).iter().any(|service| row.single_ports().contains(&service.first_port));
    let obsolete = facts(label).filter(|fact| is_its_port && fact.kind == FactKind::Obsolete(protocol));
    let finding = |why| {
        Diagnostic::info("RW2004", format!("`{label}` is hardly used on {protocol} any more"))
            .at(row.span, why)
            .help(format!("leave the {protocol} row out unless an old server needs it"))
    };
    obsolete.map(|fact| finding(fact.why)).collect()
}
