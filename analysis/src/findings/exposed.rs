//! What anybody on the internet reaches (RW7006).
//!
//! In: the policy and what opens its nodes. Out: for each rule that opens something to more
//! addresses than anyone owns, what and where; a warning where the port is for those who manage the
//! machine. Never: what a lint says of `any` and `internet` already: logging in (RW2040), every
//! service (RW2041, RW2043).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use ringwall_diagnostic::{Code, Diagnostic, Severity};
use ringwall_packet::{Address, AddressSet, IntervalSet, Matches, Protocol};
use ringwall_policy::{Decider, Name, Policy, Rule};

use super::example::example;
use super::{Ports, count, unknown};
use crate::exposure::{Opens, exposure, is_public};
use crate::words::{Line, Packets, Words};

pub(super) fn findings(policy: &Policy, ports: Ports<'_>, now: u64, budget: u64) -> Vec<Diagnostic> {
    let exposed = match exposure(policy, now, budget) {
        Ok(exposed) => exposed,
        Err(exhausted) => return vec![unknown("what the internet reaches", exhausted.steps)],
    };
    let mut by_rule: BTreeMap<usize, (BTreeSet<&Name>, Packets)> = BTreeMap::new();
    for (node, opened) in &exposed {
        for (opens, packets) in opened {
            if let Opens::By(Decider::Rule(index)) = opens {
                let (nodes, all) = by_rule.entry(*index).or_default();
                nodes.insert(node);
                all.v4.extend(packets.v4.iter().cloned());
                all.v6.extend(packets.v6.iter().cloned());
            }
        }
    }
    let words = Words::new(policy, ports.name_of);
    by_rule
        .into_iter()
        .filter(|(_, (_, packets))| is_public(&sources(packets)))
        .filter_map(|(index, (nodes, packets))| one(&policy.rules[index], &nodes, &packets, ports, &words))
        .collect()
}

fn one(rule: &Rule, nodes: &BTreeSet<&Name>, packets: &Packets, ports: Ports<'_>, words: &Words<'_>) -> Option<Diagnostic> {
    let reached = reached_ports(packets);
    let risks: Vec<_> = reached.iter().filter_map(|(protocol, port)| Some((*protocol, *port, (ports.risk_of)(*protocol, *port)?))).collect();
    let is_everything = packets.v4.iter().any(is_any_service) || packets.v6.iter().any(is_any_service);
    let is_said = says_so(rule) && (is_everything || !reached.is_empty() && risks.len() == reached.len());
    if is_said {
        return None;
    }
    let lines = words.lines(packets, &Packets::default());
    let asks: BTreeSet<String> = lines.iter().map(Line::asks).collect();
    let services = if asks.len() == 1 { asks.first()?.clone() } else { "several services".to_owned() };
    let whom = match nodes.len() {
        1 => format!("`{}`", nodes.first()?),
        many => count(many, "node"),
    };
    let risk = risks.first().filter(|_| !says_so(rule));
    let severity = if risk.is_some() { Severity::Warning } else { Severity::Info };
    let finding = Diagnostic::new(Code("RW7006"), severity, format!("the internet reaches {services} on {whom}"));
    let mut finding = finding.at(rule.origin.span, "opened here");
    if asks.len() > 1 {
        finding = lines.iter().take(super::SHOWN).fold(finding, |finding, line| finding.note(line.to_string()));
        if lines.len() > super::SHOWN {
            finding = finding.note(format!("and {} more", lines.len() - super::SHOWN));
        }
    }
    if let Some((protocol, port, why)) = risk {
        finding = finding.note(format!("{port}/{protocol}: {why}"));
        finding = finding.help("name the machines that use it as a group of their own, and make them the source");
    }
    let flow = example(packets)?;
    Some(finding.note(format!("for example, {flow} is accepted")))
}

/// Whether the rule itself has `any` or `internet` at an end.
fn says_so(rule: &Rule) -> bool {
    let ends = [&rule.source, &rule.destination];
    ends.into_iter().flat_map(|end| end.text.split(", ")).any(|word| matches!(word, "any" | "internet"))
}

fn sources(packets: &Packets) -> AddressSet {
    AddressSet {
        v4: packets.v4.iter().flat_map(|matches| matches.cube.source.intervals()).copied().collect::<IntervalSet<Ipv4Addr>>(),
        v6: packets.v6.iter().flat_map(|matches| matches.cube.source.intervals()).copied().collect::<IntervalSet<Ipv6Addr>>(),
    }
}

fn is_any_service<A: Address>(matches: &Matches<A>) -> bool {
    matches.cube.upper.protocols().is_full() && matches.cube.upper.destination_ports().is_full()
}

/// Ranges wider than this are no list of services.
const WIDEST: usize = 1024;

/// The single ports that are reached; those of wide ranges are left out.
fn reached_ports(packets: &Packets) -> BTreeSet<(Protocol, u16)> {
    let mut reached = BTreeSet::new();
    let uppers = packets.v4.iter().map(|m| &m.cube.upper).chain(packets.v6.iter().map(|m| &m.cube.upper));
    for upper in uppers.filter(|upper| !upper.protocols().is_full()) {
        let numbers = upper.protocols().intervals().iter().flat_map(|interval| interval.first()..=interval.last());
        for protocol in numbers.map(Protocol).filter(|protocol| protocol.has_ports()) {
            let narrow = upper.destination_ports().intervals().iter().filter(|i| usize::from(i.last() - i.first()) < WIDEST);
            reached.extend(narrow.flat_map(|i| i.first()..=i.last()).map(|port| (protocol, port)));
        }
    }
    reached
}
