//! RW2060: a destination by DNS name, for a source that may not ask a resolver.

use std::collections::HashSet;

use ringwall_diagnostic::Diagnostic;
use ringwall_packet::Protocol;

use crate::View;
use crate::view::{key, pair};

pub(super) fn lint(view: &View) -> Vec<Diagnostic> {
    let asking = view.rows.iter().filter(|row| row.opens((Protocol::UDP, 53, 53)));
    let asking: HashSet<_> = asking.map(|row| key(&row.source)).collect();
    let mut seen = HashSet::new();
    let mut findings = Vec::new();
    for row in view.rows.iter().filter(|row| view.role(&row.destination).is_some_and(|role| role.by_name)) {
        let may_ask = view.including(&row.source).iter().any(|name| asking.contains(name));
        if !may_ask && seen.insert(pair(row)) {
            let (source, destination) = (&row.source, &row.destination);
            findings.push(
                Diagnostic::error(
                    "RW2060",
                    format!("`{destination}` is written as DNS names, but `{source}` may not ask a resolver"),
                )
                .at(row.span, "its addresses can't be looked up there")
                .help(format!("allow `dns` from `{source}` to the resolvers")),
            );
        }
    }
    findings
}
