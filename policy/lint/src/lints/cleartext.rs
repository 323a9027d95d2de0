//! RW2010: what can be read on the way. RW2011: HTTP that should only lead to HTTPS.

use std::collections::HashMap;

use ringwall_diagnostic::{Code, Diagnostic, Severity};
use ringwall_services::{FactKind, facts, named};

use super::number::ports_of;
use crate::view::{Pair, end, pair, traffic};
use crate::{End, Row, View};

pub(super) fn lint(view: &View) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    // The first rows that open each encrypted sibling, for the same two and in the whole table.
    let mut beside: HashMap<(Pair, &str), Option<&Row>> = HashMap::new();
    let mut anywhere: HashMap<&str, Option<&Row>> = HashMap::new();
    for row in view.rows {
        for (service, _) in row.services() {
            for fact in facts(service) {
                let FactKind::Cleartext { encrypted } = fact.kind else { continue };
                let sibling = encrypted.map(|name| Sibling {
                    name,
                    beside: *beside.entry((pair(row), name)).or_insert_with(|| {
                        first_with(name, view.exactly_between(&row.source, &row.destination).iter().copied())
                    }),
                    anywhere: *anywhere.entry(name).or_insert_with(|| first_with(name, view.rows)),
                });
                findings.extend(check(view, row, service, sibling, fact.why));
            }
        }
    }
    findings
}

/// The service that does the same encrypted, and where it is open.
struct Sibling<'a> {
    name: &'a str,
    beside: Option<&'a Row>,
    anywhere: Option<&'a Row>,
}

fn first_with<'a>(service: &str, rows: impl IntoIterator<Item = &'a Row>) -> Option<&'a Row> {
    let ports: Vec<_> = named(service).iter().map(|one| (one.protocol, one.first_port, one.last_port)).collect();
    rows.into_iter().find(|row| !row.is_everything() && ports.iter().any(|port| row.opens(*port)))
}

fn check(view: &View, row: &Row, service: &str, sibling: Option<Sibling>, why: &str) -> Option<Diagnostic> {
    let is_beside = sibling.as_ref().is_some_and(|sibling| sibling.beside.is_some());
    let min_tls = view.context.min_tls.as_deref();
    if min_tls.is_none() && service == "http" {
        // Which sites of the internet answer without TLS is not the table's choice.
        if end(&row.destination) == End::Internet {
            return None;
        }
        // Where the table doesn't say who connects, it offers both to the same unknown.
        let is_redirect = end(&row.source) == End::Unstated
            || view.is_people(&row.source)
            || view.are_peers(&row.source, &row.destination);
        if is_beside && is_redirect {
            return Some(
                Diagnostic::info("RW2011", "HTTP stands beside HTTPS, so it can only lead there")
                    .at(row.span, "at most a redirect")
                    .help("leave the row out unless people type addresses without `https://`"),
            );
        }
    }
    let severity = if min_tls.is_some() { Severity::Error } else { Severity::Warning };
    let from = match end(&row.source) {
        End::Any | End::Internet => ", from anywhere",
        _ => "",
    };
    let mut finding =
        Diagnostic::new(Code("RW2010"), severity, format!("`{service}` is cleartext{from}")).at(row.span, why);
    if let Some(version) = min_tls {
        finding = finding.note(format!("the policy asks for TLS {version} or higher"));
    }
    match sibling {
        None => finding = finding.help("carry it in a tunnel, or keep the two ends on a network of their own"),
        Some(Sibling { name, beside, anywhere }) => {
            if let Some(other) = beside.or(anywhere).filter(|other| other.span != row.span) {
                finding = finding.related(other.span, format!("`{name}` stands here"));
            }
            finding = finding.help(match is_beside {
                true => format!("leave {} out: `{name}` is open for the same two already", traffic(row)),
                false => format!("use `{name}` ({})", ports_of(&named(name))),
            });
        }
    }
    Some(finding)
}
