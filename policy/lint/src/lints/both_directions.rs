//! RW2025: each of two machines may log in at the other, or mount its files.

use std::collections::HashMap;

use ringwall_diagnostic::Diagnostic;
use ringwall_services::{FactKind, facts};

use crate::{Row, View};

pub(super) fn lint(view: &View) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    for &(one, other) in view.pairs() {
        let (forth, back) = (view.exactly_between(one, other), view.exactly_between(other, one));
        if back.is_empty() || view.are_peers(one, other) {
            continue;
        }
        let mut first: HashMap<&str, &Row> = HashMap::new();
        for row in forth {
            for (service, _) in row.services() {
                first.entry(service).or_insert(row);
            }
        }
        for row in back {
            for (service, _) in row.services() {
                let (Some(power), Some(first)) = (power(service), first.get(service)) else { continue };
                let finding = Diagnostic::info(
                    "RW2025",
                    format!("`{service}` is open in both directions between `{one}` and `{other}`"),
                )
                .at(row.span, format!("`{other}` may {power} `{one}`"))
                .help("keep only the direction that is used, or note the reason for the other");
                findings.push(match first.span == row.span {
                    true => finding,
                    false => finding.related(first.span, "the other direction"),
                });
            }
        }
    }
    findings
}

fn power(service: &str) -> Option<&'static str> {
    facts(service).find_map(|fact| match fact.kind {
        FactKind::Login => Some("log in at"),
        FactKind::Share => Some("use files of"),
        _ => None,
    })
}
