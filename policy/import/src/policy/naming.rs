//! Protocols and ports → the services of a rule.
//!
//! In: what a row says. Out: names that people use, or `tcp/8443`. Never: a name that means more than the
//! row, or that contradicts what the guide calls it.

use crate::guide::{Ports, Transport};
use ringwall_packet::{IntervalSet, Protocol};
use std::collections::{BTreeMap, BTreeSet};

/// Services as a policy names them: by a name that people use where it stands for exactly this, else by
/// protocol and port.
pub(crate) fn service_names(services: &[(Transport, &Ports)], label: &str) -> Vec<String> {
    let mut ranges = Vec::new();
    let mut singles = Vec::new();
    for (transport, ports) in services {
        match (transport, ports) {
            (Transport::Is(_) | Transport::Unstated, Ports::List(list)) => {
                let protocol = transport.protocol().unwrap_or(Protocol::TCP);
                ranges.extend(list.iter().map(|interval| (protocol, interval.first(), interval.last())));
            }
            (Transport::Is(protocol), Ports::Types(types)) => {
                singles.extend(types.iter().map(|kind| icmp_name(*protocol, *kind)));
            }
            (Transport::Is(protocol), _) => singles.push(match protocol.name() {
                Some(name) if protocol.has_ports() || protocol.is_icmp() => name.to_owned(),
                _ => format!("proto/{}", protocol.0),
            }),
            (Transport::Unstated, _) => singles.push("tcp".to_owned()),
            (Transport::Any, Ports::List(_)) => singles.extend([format!("tcp/{ports}"), format!("udp/{ports}")]),
            (Transport::Any, _) => singles.push("any".to_owned()),
        }
    }
    let mut names = Vec::new();
    let mut left = ranges;
    while let Some(first) = left.first().copied() {
        // All protocols of one port first, so that 53 by TCP and UDP is `dns`.
        let together: Vec<_> = left.iter().copied().filter(|range| (range.1, range.2) == (first.1, first.2)).collect();
        if together.len() > 1
            && let Some(name) = friendly(&together, label)
        {
            names.push(name.to_owned());
            left.retain(|range| !together.contains(range));
            continue;
        }
        left.remove(0);
        names.push(friendly(&[first], label).map_or_else(|| range_name(first), str::to_owned));
    }
    names.append(&mut singles);
    let mut unique = Vec::new();
    for name in names {
        if !unique.contains(&name) {
            unique.push(name);
        }
    }
    unique
}

/// Services by protocol and port alone, ports merged.
pub(crate) fn plain_names(services: &[(Transport, &Ports)]) -> BTreeSet<String> {
    let mut sets: BTreeMap<u8, IntervalSet<u16>> = BTreeMap::new();
    let mut names = BTreeSet::new();
    for (transport, ports) in services {
        match (transport, ports) {
            (Transport::Is(Protocol::TCP | Protocol::UDP), Ports::Any)
            | (Transport::Is(_) | Transport::Unstated, Ports::List(_)) => {
                let set = sets.entry(transport.protocol().unwrap_or(Protocol::TCP).0).or_default();
                *set = set.union(&ports.set());
            }
            (transport, ports) => names.extend(service_names(&[(*transport, ports)], "")),
        }
    }
    names.extend(sets.into_iter().map(|(protocol, set)| format!("{protocol} {set:?}")));
    names
}

/// Registered names that nobody uses would hide what the rule is about, and so would a name that
/// contradicts the guide's: "420/SMTP" stays a number.
fn friendly(ports: &[(Protocol, u16, u16)], label: &str) -> Option<&'static str> {
    let name = ringwall_services::exact_name(ports).filter(|name| ringwall_services::canonical(name).is_some())?;
    let said = ringwall_services::named(label);
    let agrees =
        ports.iter().any(|(protocol, first, _)| said.iter().any(|service| service.contains(*protocol, *first)));
    (said.is_empty() || agrees).then_some(name)
}

fn range_name((protocol, first, last): (Protocol, u16, u16)) -> String {
    if (first, last) == (0, u16::MAX) {
        return protocol.to_string();
    }
    if first == last { format!("{protocol}/{first}") } else { format!("{protocol}/{first}-{last}") }
}

/// Whether ICMP types are in use (IANA, "ICMP Type Numbers" and "ICMPv6 type Numbers"), and ports
/// stand beside a protocol that has them.
pub(crate) fn are_assigned(transport: Transport, ports: &Ports) -> bool {
    let types = match ports {
        Ports::Types(types) => types,
        Ports::List(_) => return transport.protocol().is_none_or(Protocol::has_ports),
        Ports::Unstated | Ports::Any => return true,
    };
    let is_assigned = |kind: u8| match transport.protocol() {
        Some(Protocol::ICMPV6) => matches!(kind, 1..=4 | 128..=138 | 141..=143),
        _ => matches!(kind, 0 | 3..=5 | 8..=18),
    };
    types.iter().all(|kind| is_assigned(*kind))
}

fn icmp_name(protocol: Protocol, kind: u8) -> String {
    // RFC 792 for ICMP, RFC 4443 for ICMPv6.
    match (protocol, kind) {
        (Protocol::ICMP, 8) | (Protocol::ICMPV6, 128) => format!("{protocol}/echo-request"),
        (Protocol::ICMP, 0) | (Protocol::ICMPV6, 129) => format!("{protocol}/echo-reply"),
        _ => format!("{protocol}/{kind}"),
    }
}
