//! RW2052: the text promises connections between kinds of nodes, and its rows name none.

use std::collections::HashMap;

use ringwall_diagnostic::Diagnostic;

use crate::view::{end, plain, words};
use crate::{End, Row, View};

/// What guides call the parts of a platform.
const KINDS: &[&str] =
    &["node types", "kinds of nodes", "types of nodes", "roles", "components", "tiers", "node kinds", "server types"];

pub(super) fn lint(view: &View) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    // Whether a section has a row that connects two roles; sections without rows are not in it.
    let mut sections: HashMap<&str, bool> = HashMap::new();
    for row in view.rows {
        *sections.entry(&row.section).or_default() |= connects_roles(row);
    }
    for prose in &view.context.prose {
        let text = plain(&prose.text);
        let promises = text.contains(" between ")
            && KINDS.iter().any(|kind| text.contains(kind))
            && words(&text).any(|word| word == "table" || word == "tables");
        if promises && sections.get(prose.section.as_str()) == Some(&false) {
            findings.push(
                Diagnostic::warning(
                    "RW2052",
                    "the text announces connections between kinds of nodes, but no row names two of them",
                )
                .at(prose.span, "announced here")
                .help("ask the vendor which kinds of nodes connect to which, or watch the traffic in the audit stage"),
            );
        }
    }
    findings
}

/// From one role to another, in the row's own cells.
fn connects_roles(row: &Row) -> bool {
    let named = matches!((end(&row.source), end(&row.destination)), (End::Role(_), End::Role(_)));
    named && plain(&row.source) != plain(&row.destination) && !row.inferred.source && !row.inferred.destination
}
