//! Guides and policies as the linter's rows.

use ringwall_diagnostic::{Diagnostic, Sources};
use ringwall_import::{Field, Guide};
use ringwall_lint::{Context, Direction, Inferred, Ports, Role, Row, Timeout, Transport, lint, paragraphs};
use ringwall_packet::Protocol;
use ringwall_policy::{Action, Group, Policy, Rule};

/// What the linter says about a guide.
pub fn of_guide(guide: &Guide, sources: &Sources) -> Vec<Diagnostic> {
    let rows: Vec<Row> = guide.flows.iter().filter(|flow| flow.action == ringwall_import::Action::Allow).map(|flow| row(guide, flow)).collect();
    let context = Context {
        min_tls: None,
        roles: guide
            .legend
            .iter()
            .map(|entry| Role {
                name: entry.short.clone(),
                description: Some(entry.meaning.clone()),
                span: Some(entry.span),
                ..Role::default()
            })
            .collect(),
        prose: paragraphs(guide.source, sources.text(guide.source)),
        timeouts: guide
            .timeouts
            .iter()
            .map(|timeout| Timeout {
                section: guide.section_title(timeout.section),
                seconds: timeout.seconds,
                span: timeout.span,
            })
            .collect(),
    };
    lint(&rows, &context)
}

fn row(guide: &Guide, flow: &ringwall_import::Flow) -> Row {
    use ringwall_import as guide_words;
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Row {
        section: guide.section_title(flow.section),
        source: flow.source.to_string(),
        destination: flow.destination.to_string(),
        protocol: match flow.protocol {
            guide_words::Transport::Unstated => Transport::Unstated,
            guide_words::Transport::Any => Transport::Any,
            guide_words::Transport::Is(protocol) => Transport::Is(protocol),
        },
        ports: match &flow.port {
            guide_words::Ports::Unstated | guide_words::Ports::Types(_) => Ports::Unstated,
            guide_words::Ports::Any => Ports::Any,
            list @ guide_words::Ports::List(_) => Ports::Are(list.set()),
        },
        label: text(&flow.label),
        direction: match flow.direction {
            guide_words::Direction::OneWay => Direction::OneWay,
            guide_words::Direction::Both => Direction::Both,
            guide_words::Direction::Local => Direction::Local,
            guide_words::Direction::Unknown => Direction::Unknown,
        },
        inferred: Inferred {
            source: flow.inferred.contains(&Field::Source),
            destination: flow.inferred.contains(&Field::Destination),
            protocol: flow.inferred.contains(&Field::Protocol),
        },
        span: flow.span,
        port_span: None,
    }
}

/// What the linter says about a policy.
pub fn of_policy(policy: &Policy) -> Vec<Diagnostic> {
    let allows = policy.rules.iter().filter(|rule| rule.action == Action::Allow);
    let rows: Vec<Row> = allows.flat_map(rule_rows).collect();
    let context = Context {
        min_tls: policy.min_tls.map(|version| version.to_string()),
        roles: policy.groups.values().map(|group| role(policy, group)).collect(),
        prose: Vec::new(),
        timeouts: Vec::new(),
    };
    lint(&rows, &context)
}

/// One row for each pair of groups, protocol and service of a rule.
fn rule_rows(rule: &Rule) -> Vec<Row> {
    let mut rows = Vec::new();
    for service in &rule.services {
        // A name that the policy itself gives to other ports says nothing about the registry's.
        let is_registered = ringwall_services::canonical(&service.text).is_some()
            || !ringwall_services::registered(&service.text).is_empty();
        for cube in service.upper.cubes() {
            for protocol in protocols(cube) {
                let ports = match protocol {
                    Transport::Is(protocol) if !protocol.has_ports() => Ports::Unstated,
                    _ if cube.destination_ports().is_full() => Ports::Any,
                    _ => Ports::Are(cube.destination_ports().clone()),
                };
                for (source, destination) in ends(rule) {
                    rows.push(Row {
                        section: rule.origin.section.clone().unwrap_or_default(),
                        source: source.to_owned(),
                        destination: destination.to_owned(),
                        protocol,
                        ports: ports.clone(),
                        label: is_registered.then(|| service.text.clone()),
                        direction: if rule.both_ways { Direction::Both } else { Direction::OneWay },
                        inferred: Inferred::default(),
                        span: rule.origin.span,
                        port_span: None,
                    });
                }
            }
        }
    }
    rows
}

fn ends(rule: &Rule) -> Vec<(&str, &str)> {
    let sources = rule.source.text.split(',').map(str::trim);
    sources.flat_map(|source| rule.destination.text.split(',').map(move |to| (source, to.trim()))).collect()
}

/// A group is a part of every other that has all its addresses.
fn role(policy: &Policy, group: &Group) -> Role {
    let holds = |other: &&Group| {
        other.name != group.name && !group.addresses.is_empty() && group.addresses.is_subset(&other.addresses)
    };
    Role {
        name: group.name.to_string(),
        description: None,
        members: (!group.nodes.is_empty()).then_some(group.nodes.len()),
        part_of: policy.groups.values().filter(holds).map(|other| other.name.to_string()).collect(),
        by_name: !group.names.is_empty(),
        span: Some(group.origin.span),
    }
}

fn protocols(cube: &ringwall_packet::UpperCube) -> Vec<Transport> {
    if cube.protocols().is_full() {
        return vec![Transport::Any];
    }
    let numbers = cube.protocols().intervals().iter().flat_map(|interval| interval.first()..=interval.last());
    numbers.map(|number| Transport::Is(Protocol(number))).collect()
}
