//! RW2050: no protocol. RW2051: no source or no destination.

use ringwall_diagnostic::Diagnostic;

use crate::view::{count, end, on_all};
use crate::{End, Row, Transport, View};

pub(super) fn lint(view: &View) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    for (told_by, what) in
        [(Told::Row, "no protocol"), (Told::Words, "no protocol, and source or destination only in words around them")]
    {
        let rows: Vec<_> = view.rows.iter().filter(|row| lacks_protocol(row) == Some(told_by)).collect();
        if !rows.is_empty() {
            let message = format!("{} {what}", count(rows.len(), "row has", "rows have"));
            let help = "ask the vendor, or write the protocol that the service is known to use";
            findings.push(on_all(Diagnostic::warning("RW2050", message).help(help), &rows, |_| {
                "TCP or UDP is not said".to_owned()
            }));
        }
    }
    let rows: Vec<_> = view.rows.iter().filter(|row| missing_ends(row).is_some()).collect();
    if !rows.is_empty() {
        let message = format!("{} not say who connects to whom", count(rows.len(), "row does", "rows do"));
        let finding = Diagnostic::info("RW2051", message).help("write the role: a row without one can't become a rule");
        findings.push(on_all(finding, &rows, |row| format!("{} is not said", missing_ends(row).unwrap_or_default())));
    }
    findings
}

/// Where a row's ends are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Row,
    Words,
}

/// A protocol that stands neither in the row nor clearly elsewhere: one that was guessed along with
/// the ends counts as missing.
fn lacks_protocol(row: &Row) -> Option<Told> {
    let words = row.inferred.source || row.inferred.destination;
    match row.protocol {
        Transport::Unstated if row.is_everything() => None,
        Transport::Unstated => Some(if words { Told::Words } else { Told::Row }),
        Transport::Is(_) => (row.inferred.protocol && words).then_some(Told::Words),
        Transport::Any => None,
    }
}

fn missing_ends(row: &Row) -> Option<&'static str> {
    match (end(&row.source), end(&row.destination)) {
        (End::Unstated, End::Unstated) => Some("either end"),
        (End::Unstated, _) => Some("the source"),
        (_, End::Unstated) => Some("the destination"),
        _ => None,
    }
}
