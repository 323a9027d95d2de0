//! RW2020: the two directions of a pair name one service and two ports.

use std::collections::HashMap;

use ringwall_diagnostic::Diagnostic;

use crate::view::{is_anywhere, plain, traffic};
use crate::{Ports, Row, View};

pub(super) fn lint(view: &View) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    for &(one, other) in view.pairs() {
        let forth = by_label(view.exactly_between(one, other));
        for (label, back) in by_label(view.exactly_between(other, one)) {
            // Several rows of one name in a direction are several ports of one service.
            let (Some([first]), [row]) = (forth.get(&label).map(Vec::as_slice), &back[..]) else { continue };
            if matches!((&first.ports, &row.ports), (Ports::Are(a), Ports::Are(b)) if a.is_disjoint(b)) {
                let label = row.name().unwrap_or_default();
                findings.push(
                    Diagnostic::error(
                        "RW2020",
                        format!("`{label}` has other ports in the two directions between `{one}` and `{other}`"),
                    )
                    .at(row.span, traffic(row))
                    .related(first.span, traffic(first))
                    .help("one of the two is wrong: a service listens on the same port at either end"),
                );
            }
        }
    }
    findings
}

fn by_label<'a>(rows: &[&'a Row]) -> HashMap<String, Vec<&'a Row>> {
    let mut found: HashMap<String, Vec<&Row>> = HashMap::new();
    for row in rows {
        if let Some(label) = row.name().filter(|label| !is_anywhere(label)) {
            found.entry(plain(label)).or_default().push(row);
        }
    }
    found
}
