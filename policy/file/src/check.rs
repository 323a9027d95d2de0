//! What a policy means, where its author would want to know.
//!
//! In: the model, with how it came about. Out: diagnostics. Never: a change to the model.

use std::collections::{BTreeMap, BTreeSet};

use ringwall_diagnostic::{Diagnostic, Span};
use ringwall_packet::{
    AddressSet, Family, FlowSet, IntervalSet, Protocol, Upper, UpperCube, UpperSet,
};
use ringwall_policy::{
    Action, Decider, End, Node, Policy, Rule, RuleId, ServiceUse, Stage, Surprise, expectation_failures, merged, receivable, rule_meaning,
};

use crate::near::list;
use crate::report::Report;
use crate::resolve::{Facts, Resolved};

pub fn check(resolved: &Resolved<'_>, now: u64, report: &mut Report) {
    let Resolved { policy, rules: facts, .. } = resolved;
    if policy.nodes.is_empty() && !report.has_errors() {
        let message = "the policy names no nodes, so nothing enforces it";
        report.push(Diagnostic::warning("RW0315", message).help("each machine is an entry under `nodes:`"));
    }
    let rules: Vec<Checked<'_>> = policy.rules.iter().zip(facts).map(|(rule, facts)| Checked { rule, facts }).collect();
    for checked in &rules {
        expired(checked, now, report);
    }
    let whole: Vec<&Checked<'_>> = rules.iter().filter(|checked| !checked.facts.broken).collect();
    let whole = families(whole, report);
    enforcement_points(policy, &whole, report);
    equal_rules(&whole, report);
    session_timeouts(&whole, report);
    open_management(resolved, report);
    management(policy, &whole, report);
    resolvers(policy, &whole, now, report);
    if !report.has_errors() {
        expectations(resolved, now, report);
    }
}

struct Checked<'a> {
    rule: &'a Rule,
    facts: &'a Facts<'a>,
}

impl Checked<'_> {
    fn line(&self) -> Span {
        self.facts.def.line.span
    }
}

fn expired(Checked { rule, facts }: &Checked<'_>, now: u64, report: &mut Report) {
    if let Some((span, _)) = facts.def.expires.filter(|(_, expires)| *expires <= now) {
        let effect = match rule.action {
            Action::Allow => "it allows nothing any more",
            Action::Deny => "it denies nothing any more",
        };
        let message = format!("the rule has expired: {effect}");
        report.push(Diagnostic::warning("RW0312", message).at(span, "").related(facts.def.line.span, ""));
    }
}

/// Whether a service means anything in a family: all but the other one's ICMP.
fn concerns(upper: &UpperSet, family: Family) -> bool {
    let other = match family {
        Family::V4 => Protocol::ICMPV6,
        Family::V6 => Protocol::ICMP,
    };
    upper.cubes().iter().any(|cube| cube.protocols().only() != Some(other.0))
}

/// Returns the rules that some packet can match.
fn families<'a, 'b>(rules: Vec<&'a Checked<'b>>, report: &mut Report) -> Vec<&'a Checked<'b>> {
    let mut warned = BTreeSet::new();
    let mut possible = Vec::with_capacity(rules.len());
    for checked in rules {
        let Checked { rule, facts } = checked;
        let (source, destination) = (&rule.source, &rule.destination);
        let may_be_empty = source.addresses.is_empty() || destination.addresses.is_empty();
        if may_be_empty || !destination.names.is_empty() {
            possible.push(checked);
            continue;
        }
        let upper = rule.upper();
        let has = |end: &End, family| end.addresses.has(family) && concerns(&upper, family);
        if !Family::ALL.into_iter().any(|family| has(source, family) && has(destination, family)) {
            let message = format!("no packet can go from `{}` to `{}`", source.text, destination.text);
            let diagnostic = Diagnostic::error("RW0310", message).at(checked.line(), "");
            let addresses = |end: &End| format!("`{}` has {}", end.text, families_of(&end.addresses));
            let note = format!("{}, {}", addresses(source), addresses(destination));
            report.push(diagnostic.note(note));
            continue;
        }
        possible.push(checked);
        for family in Family::ALL.into_iter().filter(|family| concerns(&upper, *family)) {
            let (with, without, is_open) = match (has(source, family), has(destination, family)) {
                (true, false) => (source, destination, facts.source_is_open),
                (false, true) => (destination, source, facts.destination_is_open),
                _ => continue,
            };
            if !is_open && warned.insert((with.text.as_str(), without.text.as_str(), family)) {
                let message = format!("`{}` has {family}, `{}` has none", with.text, without.text);
                let text = format!("nothing of {family} follows from this");
                report.push(Diagnostic::warning("RW0309", message).at(checked.line(), text));
            }
        }
    }
    possible
}

fn families_of(addresses: &AddressSet) -> &'static str {
    match (addresses.has(Family::V4), addresses.has(Family::V6)) {
        (true, true) => "both families",
        (true, false) => "IPv4 only",
        (false, true) => "IPv6 only",
        (false, false) => "no address",
    }
}

fn enforcement_points(policy: &Policy, rules: &[&Checked<'_>], report: &mut Report) {
    if policy.nodes.is_empty() {
        return;
    }
    let routes: AddressSet = policy.nodes.values().map(|node| node.routes.clone()).collect();
    let (local, many) = (policy.node_addresses(), receivable(policy.internal.as_ref()));
    let enforced = local.union(&routes);
    for checked in rules {
        let rule = checked.rule;
        let is_empty = |end: &End| end.addresses.is_empty() && end.names.is_empty();
        if is_empty(&rule.source) || is_empty(&rule.destination) {
            continue;
        }
        let at_an_end = |(source, destination): (&End, &End)| {
            let (s, d) = (&source.addresses, &destination.addresses);
            let to = |v4: bool| if v4 { !d.v4.is_empty() } else { !d.v6.is_empty() } || !destination.names.is_empty();
            let v4 = to(true) && !s.v4.is_empty() && (!s.v4.is_disjoint(&enforced.v4) || !d.v4.is_disjoint(&enforced.v4));
            let v6 = to(false) && !s.v6.is_empty() && (!s.v6.is_disjoint(&enforced.v6) || !d.v6.is_disjoint(&enforced.v6));
            v4 || v6 || !d.is_disjoint(&many)
        };
        if rule.directions().any(at_an_end) {
            continue;
        }
        let message = format!("no node enforces this {}", rule.action);
        let note = format!("neither `{}` nor `{}` has an address of a node", rule.source.text, rule.destination.text);
        let diagnostic = match rule.action {
            Action::Allow => Diagnostic::warning("RW0308", message),
            Action::Deny => Diagnostic::error("RW0308", message),
        };
        let help = "a router between them that Ringwall manages needs `routes:`";
        report.push(diagnostic.at(checked.line(), "").note(note).help(help));
    }
}

fn equal_rules(rules: &[&Checked<'_>], report: &mut Report) {
    let mut meanings: BTreeMap<String, &Checked<'_>> = BTreeMap::new();
    let mut ids: BTreeMap<&RuleId, &Checked<'_>> = BTreeMap::new();
    for checked in rules {
        let rule = checked.rule;
        let (source, destination) = (&rule.source.text, &rule.destination.text);
        let upper = merged(&rule.upper());
        let meaning = rule_meaning(rule.action, source, destination, rule.both_ways, &upper, rule.via.as_ref());
        if let Some(first) = meanings.get(&meaning) {
            let diagnostic = Diagnostic::error("RW0306", "two rules say the same").at(checked.line(), "again here");
            report.push(diagnostic.related(first.line(), "first here").help("take one of them out"));
            continue;
        }
        meanings.insert(meaning, checked);
        if let Some(first) = ids.insert(&rule.id, checked) {
            let place = |checked: &Checked<'_>| checked.facts.def.id.as_ref().map_or(checked.line(), |(span, _)| *span);
            let message = format!("two rules have the id `{}`", rule.id);
            let diagnostic = Diagnostic::error("RW0216", message).at(place(checked), "again here");
            report.push(diagnostic.related(place(first), "first here").help("give one of them another `id:`"));
        }
    }
}

/// The addresses of two pairs of ends have something in common.
fn meet(a: (&End, &End), b: (&End, &End)) -> bool {
    !a.0.addresses.is_disjoint(&b.0.addresses) && !a.1.addresses.is_disjoint(&b.1.addresses)
}

fn session_timeouts(rules: &[&Checked<'_>], report: &mut Report) {
    let mut timed: Vec<(&Checked<'_>, u32, IntervalSet<u16>)> = Vec::new();
    for checked in rules {
        let Some((span, seconds)) = checked.facts.def.session_timeout.filter(|_| checked.rule.action == Action::Allow)
        else {
            continue;
        };
        let upper = checked.rule.upper();
        if !upper.cubes().iter().any(|cube| cube.protocols().contains(Protocol::TCP.0)) {
            let message = "a session timeout on a rule without TCP";
            let note = "other protocols have no sessions; the kernel's own timeouts hold for them";
            report.push(Diagnostic::error("RW0317", message).at(span, "").related(checked.line(), "").note(note));
            continue;
        }
        let of_tcp = upper.cubes().iter().filter(|cube| cube.protocols().contains(Protocol::TCP.0));
        timed.push((checked, seconds, of_tcp.flat_map(|cube| cube.destination_ports().intervals().to_vec()).collect()));
    }
    for (at, (first, seconds, ports)) in timed.iter().enumerate() {
        for (second, other, others) in &timed[at + 1..] {
            let apart = first.rule.via.is_some() && second.rule.via.is_some() && first.rule.via != second.rule.via;
            let near = || first.rule.directions().any(|a| second.rule.directions().any(|b| meet(a, b)));
            if seconds == other || apart || ports.is_disjoint(others) || !near() {
                continue;
            }
            let tcp = FlowSet::product(&AddressSet::full(), &AddressSet::full(), &tcp());
            let common = first.rule.flows().intersection(&second.rule.flows()).intersection(&tcp);
            if let Some(flow) = common.witness() {
                let place = |checked: &Checked<'_>| {
                    checked.facts.def.session_timeout.map_or(checked.line(), |(span, _)| span)
                };
                let message = "two rules give the same session different timeouts";
                let diagnostic = Diagnostic::error("RW0307", message).at(place(second), format!("{other} s here"));
                report.push(diagnostic.related(place(first), format!("{seconds} s here")).note(format!("both allow {flow}")));
            }
        }
    }
}

fn tcp() -> UpperSet {
    std::iter::once(UpperCube::protocol(Protocol::TCP)).collect()
}

/// What no deny closes must not be open to everybody.
fn open_management(resolved: &Resolved<'_>, report: &mut Report) {
    let policy = &resolved.policy;
    let Some(management) = &policy.management else { return };
    let from = &management.from.addresses;
    let outside = Policy::internet(policy.internal.as_ref().unwrap_or(&AddressSet::default()), &policy.node_addresses());
    let holds_outside = (!outside.v4.is_empty() && outside.v4.is_subset(&from.v4))
        || (!outside.v6.is_empty() && outside.v6.is_subset(&from.v6));
    let is_everybody = resolved.management_is_open || from.v4.is_full() || from.v6.is_full() || holds_outside;
    let error = |message: &str| Diagnostic::error("RW0321", message).at(management.origin.span, "no deny closes this");
    if is_everybody {
        let text = &management.from.text;
        let diagnostic = error(&format!("`management` is open to everybody: `{text}` holds the whole internet"));
        report.push(diagnostic.help("name the group of those who manage"));
    }
    let everything = |service: &&ServiceUse| service.upper.cubes().iter().any(|cube| cube.protocols().is_full());
    if let Some(service) = management.services.iter().find(everything) {
        let diagnostic = error(&format!("`management` opens everything: `{}` is every service", service.text));
        report.push(diagnostic.help("name the services that are used to manage, such as `services: [ssh]`"));
    }
}

fn management(policy: &Policy, rules: &[&Checked<'_>], report: &mut Report) {
    let (Some(management), kept) = (&policy.management, policy.management_flows()) else { return };
    let nodes = policy.node_addresses();
    for checked in rules.iter().filter(|checked| checked.rule.action == Action::Deny) {
        let touches = |(source, destination): (&End, &End)| {
            !source.addresses.is_disjoint(&management.from.addresses) && !destination.addresses.is_disjoint(&nodes)
        };
        if !checked.rule.directions().any(touches) {
            continue;
        }
        if let Some(flow) = checked.rule.flows().intersection(&kept).witness() {
            let diagnostic = Diagnostic::warning("RW0311", "this deny has no effect on management");
            let diagnostic = diagnostic.at(checked.line(), "").related(management.origin.span, "stronger than any rule");
            report.push(diagnostic.note(format!("{flow} stays open")));
        }
    }
}

/// Nodes that use DNS names must be able to ask for them.
fn resolvers(policy: &Policy, rules: &[&Checked<'_>], now: u64, report: &mut Report) {
    const ANY_PORT: u16 = 50_000;
    let asks = |rule: &Rule| {
        let upper = rule.upper();
        let questions = [Upper::udp(ANY_PORT, 53), Upper::tcp(ANY_PORT, 53), Upper::tcp(ANY_PORT, 853)];
        questions.into_iter().any(|question| Family::ALL.into_iter().any(|family| upper.contains(question, family)))
    };
    let opens = |rule: &Rule| rule.action == Action::Allow && rule.stage == Stage::Enforce && !rule.is_expired(now);
    let mut lacking: BTreeSet<&str> = BTreeSet::new();
    let mut users: Vec<Span> = Vec::new();
    let mut able: Option<AddressSet> = None;
    for checked in rules.iter().filter(|checked| opens(checked.rule) && !checked.rule.destination.names.is_empty()) {
        let able = able.get_or_insert_with(|| {
            let rules = rules.iter().filter(|checked| opens(checked.rule) && asks(checked.rule));
            let directions = rules.flat_map(|checked| checked.rule.directions());
            let towards = directions.filter(|(_, to)| !to.addresses.is_empty());
            towards.map(|(from, _)| from.addresses.clone()).collect()
        });
        let uses = |node: &&Node| !node.addresses.is_disjoint(&checked.rule.source.addresses);
        let nodes = policy.nodes.values().filter(uses).filter(|node| node.addresses.is_disjoint(able));
        let names: Vec<&str> = nodes.map(|node| node.name.as_str()).collect();
        if !names.is_empty() {
            users.push(checked.line());
        }
        lacking.extend(names);
    }
    if let Some((first, others)) = users.split_first() {
        let message = format!("nothing allows {} to ask a resolver", list(lacking.iter().copied()));
        let diagnostic = Diagnostic::error("RW0305", message).at(*first, "goes to DNS names");
        let diagnostic = others.iter().take(4).fold(diagnostic, |d, span| d.related(*span, "goes to DNS names"));
        report.push(diagnostic.help("add a rule such as `allow: NODES -> RESOLVERS` with `services: [dns]`"));
    }
}

fn expectations(resolved: &Resolved<'_>, now: u64, report: &mut Report) {
    let Resolved { policy, expectations, .. } = resolved;
    if expectations.is_empty() {
        return;
    }
    for (expectation, surprise) in expectation_failures(policy, now, STEPS) {
        let at = policy.expectations.iter().position(|other| std::ptr::eq(other, expectation));
        let line = at.map_or(expectation.origin.span, |at| expectations[at].def.line.span);
        let expected = format!("expected: {}", expectation.action);
        let Surprise { witness, decider } = match surprise {
            Ok(surprise) => surprise,
            Err(exhausted) => {
                report.push(Diagnostic::error("RW0313", exhausted.to_string()).at(line, expected));
                continue;
            }
        };
        let fate = match expectation.action {
            Action::Allow => "not accepted",
            Action::Deny => "accepted",
        };
        let diagnostic = Diagnostic::error("RW0313", format!("{witness} is {fate}")).at(line, expected);
        report.push(match decider {
            Decider::Rule(index) => {
                let rule = &policy.rules[index];
                diagnostic.related(rule.origin.span, format!("decided here, by rule {}", rule.id))
            }
            Decider::Management => match &policy.management {
                Some(management) => diagnostic.related(management.origin.span, "decided here: part of the floor"),
                None => diagnostic,
            },
            Decider::Default => diagnostic.note("no rule allows it"),
        });
    }
}

/// For each line of `expect:`; far more than any takes that was written by hand.
const STEPS: u64 = 100_000_000;
