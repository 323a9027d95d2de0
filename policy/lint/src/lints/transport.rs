//! RW2003: the right number on the wrong protocol.

use std::collections::HashMap;

use ringwall_diagnostic::Diagnostic;
use ringwall_packet::Protocol;
use ringwall_services::{canonical, registered_name_of};

use crate::view::{Pair, fits, pair};
use crate::{Row, Transport, View};

struct Wrong<'a> {
    row: &'a Row,
    label: &'a str,
    port: u16,
    is: Protocol,
    should_be: Protocol,
}

pub(super) fn lint(view: &View) -> Vec<Diagnostic> {
    let wrong: Vec<_> = view.rows.iter().filter_map(check).collect();
    let mut by_pair: HashMap<Pair, Vec<&Wrong>> = HashMap::new();
    for one in &wrong {
        by_pair.entry(pair(one.row)).or_default().push(one);
    }
    let mut findings = Vec::new();
    for one in &wrong {
        let Wrong { row, label, port, is, should_be } = one;
        let mut finding = Diagnostic::warning("RW2003", format!("`{label}` on {port} is {should_be}, not {is}"))
            .at(row.span, format!("{is} here"))
            .help(format!("write {should_be}, or open {port} on both where the program is known to use {is}"));
        if let Some(owner) = registered_name_of(*is, *port).filter(|name| canonical(name) != canonical(label)) {
            finding = finding.note(format!("{port}/{is} is registered for `{owner}`"));
        }
        if let Some(other) = by_pair[&pair(row)].iter().find(|other| other.is == *should_be && other.should_be == *is) {
            finding = finding.related(other.row.span, "the protocols of these two look swapped");
        }
        findings.push(finding);
    }
    findings
}

fn check(row: &Row) -> Option<Wrong<'_>> {
    let (label, Transport::Is(is), [port]) = (row.name()?, row.protocol, &row.single_ports()[..]) else { return None };
    let should_be = match is {
        Protocol::TCP => Protocol::UDP,
        Protocol::UDP => Protocol::TCP,
        _ => return None,
    };
    let is_wrong = !fits(label, is, *port) && fits(label, should_be, *port);
    is_wrong.then_some(Wrong { row, label, port: *port, is, should_be })
}
