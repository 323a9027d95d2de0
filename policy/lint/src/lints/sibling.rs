//! RW2030: a service that needs another port to work, for the same two.

use std::collections::HashSet;

use ringwall_diagnostic::{Code, Diagnostic, Severity};
use ringwall_services::{FactKind, PortRange, facts};

use crate::view::{end, pair, ports_text};
use crate::{End, Row, View};

pub(super) fn lint(view: &View) -> Vec<Diagnostic> {
    let mut seen = HashSet::new();
    let mut findings = Vec::new();
    for row in view.rows {
        for (service, _) in row.services() {
            if facts(service).next().is_some() && seen.insert((pair(row), service)) {
                findings.extend(check(view, row, service));
            }
        }
    }
    findings
}

fn check(view: &View, row: &Row, service: &str) -> Vec<Diagnostic> {
    let opened = |port: &PortRange| view.between(&row.source, &row.destination).any(|other| other.opens(*port));
    let mut findings = Vec::new();
    for fact in facts(service) {
        let (severity, ports, is_missing) = match fact.kind {
            FactKind::Needs(ports) => (Severity::Warning, ports, !ports.iter().all(opened)),
            FactKind::OftenNeeds(ports) => (Severity::Info, ports, !ports.iter().all(opened)),
            // Any one of them will do.
            FactKind::InternetNeeds(ports) => {
                (Severity::Info, ports, end(&row.destination) == End::Internet && !ports.iter().any(opened))
            }
            _ => continue,
        };
        if is_missing {
            let ports = ports_text(ports);
            findings.push(
                Diagnostic::new(Code("RW2030"), severity, format!("`{service}` is open without {ports}"))
                    .at(row.span, fact.why)
                    .help(format!("add {ports}{}, or note why it is not needed", between(row))),
            );
        }
    }
    findings
}

fn between(row: &Row) -> String {
    match (end(&row.source), end(&row.destination)) {
        (End::Unstated, _) | (_, End::Unstated) => String::new(),
        _ => format!(" from `{}` to `{}`", row.source, row.destination),
    }
}
