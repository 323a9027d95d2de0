//! RW2010: what can be read on the way. RW2011: HTTP that should only lead to HTTPS.

use std::collections::HashMap;

use ringwall_diagnostic::{Code, Diagnostic, Severity};
use ringwall_services::{FactKind, facts, named};

use crate::view::{end, traffic};
use crate::{End, Row, View};

pub(super) fn lint(view: &View) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    // The first row of the whole table that opens each encrypted sibling.
    let mut first_with: HashMap<&str, Option<&Row>> = HashMap::new();
    for row in view.rows {
        for (service, _) in row.services() {
            for fact in facts(service) {
                let FactKind::Cleartext { encrypted } = fact.kind else { continue };
                let find = |name| {
                    *first_with.entry(name).or_insert_with(|| view.rows.iter().find(|other| opens(other, Some(name))))
                };
                let elsewhere = encrypted.and_then(find);
                findings.extend(check(view, row, service, (encrypted, elsewhere), fact.why));
            }
        }
    }
    findings
}

fn opens(row: &Row, service: Option<&str>) -> bool {
    let ports = service.map(named).unwrap_or_default();
    !row.is_everything()
        && ports.iter().any(|service| row.opens((service.protocol, service.first_port, service.last_port)))
}

fn check(
    view: &View,
    row: &Row,
    service: &str,
    (encrypted, elsewhere): (Option<&str>, Option<&Row>),
    why: &str,
) -> Option<Diagnostic> {
    let beside =
        view.exactly_between(&row.source, &row.destination).iter().copied().find(|other| opens(other, encrypted));
    let min_tls = view.context.min_tls.as_deref();
    if min_tls.is_none() && service == "http" {
        // Which sites of the internet answer without TLS is not the table's choice.
        if end(&row.destination) == End::Internet {
            return None;
        }
        if beside.is_some() && (view.is_people(&row.source) || view.are_peers(&row.source, &row.destination)) {
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
    match encrypted {
        None => finding = finding.help("carry it in a tunnel, or keep the two ends on a network of their own"),
        Some(name) => {
            if let Some(other) = beside.or(elsewhere).filter(|other| other.span != row.span) {
                finding = finding.related(other.span, format!("`{name}` stands here"));
            }
            let ports: Vec<_> =
                named(name).iter().map(|service| format!("{}/{}", service.first_port, service.protocol)).collect();
            finding = finding.help(match beside {
                Some(_) => format!("leave {} out: `{name}` is open for the same two already", traffic(row)),
                None => format!("use `{name}` ({})", ports.join(", ")),
            });
        }
    }
    Some(finding)
}
