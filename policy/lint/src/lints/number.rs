//! RW2001: the name beside a number belongs to another number.

use std::collections::HashSet;

use ringwall_diagnostic::{Code, Diagnostic, Severity};
use ringwall_packet::Protocol;
use ringwall_services::{Service, canonical, known_uses_of, name_of, named, registered_name_of};

use crate::view::{fits, is_anywhere, pair, plain, ports_text};
use crate::{Row, View};

/// Ports that only a privileged program may open, each assigned to one service (RFC 6335, section 6).
const SYSTEM_PORTS: std::ops::RangeInclusive<u16> = 0..=1023;

/// How a name and a number that don't fit together may have met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mismatch {
    /// The number is another service's: what the name stands for won't work.
    Slip,
    /// The number is a close relation's, which may be what is meant.
    Relation,
    /// Nobody well known has the number: a product's own choice.
    OwnPort,
}

pub(super) fn lint(view: &View) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    for one in mismatches(view) {
        let Mismatched { row, label, protocol, port } = one;
        let services = named(label);
        let severity = match classify(label, protocol, port) {
            Mismatch::Slip => Severity::Error,
            Mismatch::Relation => Severity::Warning,
            Mismatch::OwnPort => continue,
        };
        let owner = registered_name_of(protocol, port).or_else(|| known_uses_of(protocol, port).next());
        let right = ports_of(&services);
        let mut finding = Diagnostic::new(
            Code("RW2001"),
            severity,
            format!("`{label}` stands beside {port}/{protocol}, which is not its port"),
        )
        .at(row.span, format!("`{label}` is {right}"))
        .help(format!("write {right} if `{label}` is meant, or the other service's name if the number is right"));
        if let Some(owner) = owner {
            finding = finding.note(format!("{port}/{protocol} is registered for `{owner}`"));
        }
        if let (Some(span), [service]) = (row.port_span, &services[..])
            && severity == Severity::Error
        {
            finding = finding.fix(span, service.first_port.to_string());
        }
        findings.push(finding);
    }
    findings
}

/// A row that names a known service beside another's number.
pub(super) struct Mismatched<'a> {
    pub row: &'a Row,
    pub label: &'a str,
    pub protocol: Protocol,
    pub port: u16,
}

/// A wrong protocol is another lint's, and a label over several rows of which one fits is right.
pub(super) fn mismatches<'a>(view: &View<'a>) -> Vec<Mismatched<'a>> {
    let label_of = |row: &'a Row| row.name().filter(|label| !named(label).is_empty());
    let mut fitting = HashSet::new();
    let mut others = Vec::new();
    for row in view.rows {
        let (Some(label), [port, ..]) = (label_of(row), &row.single_ports()[..]) else { continue };
        let place = (pair(row), plain(label));
        if row.single_ports().iter().any(|port| fits_on_some_protocol(label, *port)) {
            fitting.insert(place);
        } else if let [protocol, ..] = row.protocols()[..] {
            others.push((place, Mismatched { row, label, protocol, port: *port }));
        }
    }
    others.into_iter().filter(|(place, _)| !fitting.contains(place)).map(|(_, one)| one).collect()
}

fn fits_on_some_protocol(label: &str, port: u16) -> bool {
    let protocols = [Protocol::TCP, Protocol::UDP, Protocol::SCTP];
    // What runs on any port still doesn't run on one that everybody knows as another's.
    let is_free = || {
        !SYSTEM_PORTS.contains(&port)
            || !protocols.iter().any(|protocol| name_of(*protocol, port).and_then(canonical).is_some())
    };
    protocols.iter().any(|protocol| fits(label, *protocol, port)) || (is_anywhere(label) && is_free())
}

pub(super) fn classify(label: &str, protocol: Protocol, port: u16) -> Mismatch {
    let services = named(label);
    if services.iter().any(|service| is_slip(service.first_port, port)) || SYSTEM_PORTS.contains(&port) {
        return Mismatch::Slip;
    }
    if known_uses_of(protocol, port).next().is_some() {
        return Mismatch::Slip;
    }
    match registered_name_of(protocol, port) {
        Some(owner) if owner.starts_with(&label.to_lowercase()) => Mismatch::Relation,
        _ => Mismatch::OwnPort,
    }
}

/// One digit too few, one too many, or two swapped. A digit in front is no slip, and neither is
/// another last digit: that is how people choose a free port (`15432`, `3307`).
fn is_slip(right: u16, written: u16) -> bool {
    let (right, written) = (right.to_string().into_bytes(), written.to_string().into_bytes());
    let without = |digits: &[u8], gone: usize| [&digits[..gone], &digits[gone + 1..]].concat();
    let swapped = |at: usize| {
        let mut digits = right.clone();
        digits.swap(at - 1, at);
        digits
    };
    let too_few = (0..right.len()).any(|gone| without(&right, gone) == written);
    let too_many = (1..written.len()).any(|gone| without(&written, gone) == right);
    written != right && (too_few || too_many || (1..right.len()).any(|at| swapped(at) == written))
}

/// `25/tcp`, `5985/tcp, 5986/tcp`.
pub(super) fn ports_of(services: &[Service]) -> String {
    let ports: Vec<_> =
        services.iter().map(|service| (service.protocol, service.first_port, service.last_port)).collect();
    ports_text(&ports)
}

#[cfg(test)]
mod tests {
    use super::is_slip;

    #[test]
    fn a_slip_is_one_digit_more_or_less_or_swapped() {
        for (right, written) in [(445, 4455), (3389, 389), (3389, 33389), (443, 434), (1812, 8112), (53, 533)] {
            assert!(is_slip(right, written), "{written} for {right}");
        }
        for (right, written) in [
            (3306, 3307),
            (25, 420),
            (1521, 7443),
            (443, 443),
            (80, 8080),
            (5432, 5433),
            (5432, 15432),
            (389, 1389),
            (445, 5445),
        ] {
            assert!(!is_slip(right, written), "{written} for {right}");
        }
    }
}
