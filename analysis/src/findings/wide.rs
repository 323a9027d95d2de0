//! What says more than it seems to (RW7007).
//!
//! In: the policy. Out: allows that open most of a protocol's ports, groups that hold every address.
//! Never: a rule that says `any`, which is a matter of the lints (RW2041 to RW2043).

use std::collections::BTreeSet;

use ringwall_diagnostic::{Diagnostic, Severity};
use ringwall_packet::{Protocol, UpperCube};
use ringwall_policy::{Action, Policy, Rule, ServiceUse};

/// More than half of all ports: no registered range is as wide, the dynamic ports (RFC 6335 §6)
/// are a quarter.
const MOST_PORTS: u32 = 1 << 15;

pub(super) fn findings(policy: &Policy, now: u64) -> Vec<Diagnostic> {
    let allows: Vec<&Rule> =
        policy.rules.iter().filter(|rule| rule.action == Action::Allow && !rule.is_expired(now)).collect();
    let mut found: Vec<Diagnostic> = allows.iter().filter_map(|rule| ports(rule)).collect();
    let used: BTreeSet<&str> =
        allows.iter().flat_map(|rule| [&rule.source, &rule.destination]).flat_map(|end| end.text.split(", ")).collect();
    for group in policy.groups.values().filter(|group| used.contains(group.name.as_str())) {
        let every = match (group.addresses.v4.is_full(), group.addresses.v6.is_full()) {
            (true, true) => "every address",
            (true, false) => "every IPv4 address",
            (false, true) => "every IPv6 address",
            (false, false) => continue,
        };
        let finding = Diagnostic::info("RW7007", format!("the group `{}` is {every}", group.name));
        found.push(finding.at(group.origin.span, "").help("write `any` or `internet` in its place, so that the rules say so"));
    }
    found
}

fn ports(rule: &Rule) -> Option<Diagnostic> {
    let wide: Vec<&ServiceUse> = rule.services.iter().filter(|service| service.upper.cubes().iter().any(is_wide)).collect();
    let service = wide.first()?;
    let opened = service.upper.cubes().iter().map(width).max().unwrap_or_default();
    let opened = if opened > u32::from(u16::MAX) { "every port".to_owned() } else { format!("{opened} ports") };
    let (source, destination) = (&rule.source.text, &rule.destination.text);
    let (severity, message) = match source == destination {
        true => (Severity::Info, format!("`{}` is {opened}, within `{source}`", service.text)),
        false => (Severity::Warning, format!("`{}` is {opened}, from `{source}` to `{destination}`", service.text)),
    };
    let finding = Diagnostic::new(ringwall_diagnostic::Code("RW7007"), severity, message);
    Some(finding.at(rule.origin.span, "").help("list the ports that are really used"))
}

fn is_wide(cube: &UpperCube) -> bool {
    !cube.protocols().is_full() && width(cube) > MOST_PORTS
}

/// How many destination ports of one protocol it has.
fn width(cube: &UpperCube) -> u32 {
    let protocols = cube.protocols().intervals().iter().flat_map(|interval| interval.first()..=interval.last());
    if !protocols.into_iter().any(|number| Protocol(number).has_ports()) {
        return 0;
    }
    let ports = cube.destination_ports().intervals().iter();
    ports.map(|interval| u32::from(interval.last()) - u32::from(interval.first()) + 1).sum()
}
