//! RW2040: logging in from anywhere.

use ringwall_diagnostic::Diagnostic;
use ringwall_services::{FactKind, facts};

use crate::view::end;
use crate::{End, View};

pub(super) fn lint(view: &View) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    for row in view.rows.iter().filter(|row| matches!(end(&row.source), End::Any | End::Internet)) {
        for (service, _) in row.services() {
            let login = facts(service).find(|fact| fact.kind == FactKind::Login);
            findings.extend(login.map(|fact| {
                Diagnostic::error(
                    "RW2040",
                    format!("`{service}` is open from `{}` to `{}`", row.source, row.destination),
                )
                .at(row.span, fact.why)
                .help("name the machines that manage the platform as a role of their own, and make them the source")
            }));
        }
    }
    findings
}
