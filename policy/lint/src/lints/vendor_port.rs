//! RW2007: a known service on a number of the product's own.

use std::collections::HashSet;

use ringwall_diagnostic::Diagnostic;
use ringwall_services::{canonical, named};

use super::number::{Mismatch, classify, mismatches, ports_of};
use crate::view::{fits, is_anywhere, plain};
use crate::{Row, View};

pub(super) fn lint(view: &View) -> Vec<Diagnostic> {
    let own =
        mismatches(view).into_iter().filter(|one| classify(one.label, one.protocol, one.port) == Mismatch::OwnPort);
    own.map(|one| finding(one.row, one.label, one.port)).chain(by_role(view)).collect()
}

/// Roles that bear a service's name, and none of whose rows opens that service's port.
fn by_role(view: &View) -> Vec<Diagnostic> {
    let (mut fitting, mut others) = (HashSet::new(), Vec::new());
    for row in view.rows {
        let role = row.destination.as_str();
        if canonical(role).is_none() || is_anywhere(role) {
            continue;
        }
        let ports = row.single_ports();
        if row.protocols().iter().any(|protocol| ports.iter().any(|port| fits(role, *protocol, *port))) {
            fitting.insert(plain(role));
        } else if let ([port], None) = (&ports[..], &row.label) {
            others.push((row, *port));
        }
    }
    others.retain(|(row, _)| !fitting.contains(&plain(&row.destination)));
    others.into_iter().map(|(row, port)| finding(row, &row.destination, port)).collect()
}

fn finding(row: &Row, name: &str, port: u16) -> Diagnostic {
    let right = ports_of(&named(name));
    Diagnostic::info("RW2007", format!("`{name}` on {port} is a port of the product's own"))
        .at(row.span, format!("by the registry `{name}` is {right}"))
        .help("check the number against the program's settings")
}
