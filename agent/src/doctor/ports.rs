//! Ports on which somebody listens and that no rule opens, and the other way round.
//!
//! In: listeners, and the ruleset that is enforced. Out: findings. Never: a socket that is for this machine alone.

use std::collections::{BTreeMap, BTreeSet};

use ringwall_node::kernel::Listener;
use ringwall_packet::{
    AddressSet, Budget, Conditions, Family, IntervalSet, Packets, PortProtocol, Protocol, Table, UpperCube, UpperSet, of_many,
};
use ringwall_ruleset::{Path, Ruleset};
use serde_json::json;

use super::{Enforced, Facts, Finding, Identity};

/// Boxes that one question may look at: a second or two.
pub(super) const STEPS: u64 = 20_000_000;
/// So many are told one by one.
const TOLD: usize = 20;

pub(super) fn findings(facts: &Facts, all: &mut Vec<Finding>) {
    let (ruleset, generation) = match &facts.enforced {
        Enforced::Unknown { generation, why } => {
            let text = format!("what {generation} opens is not known here: {why}");
            return all.push(Finding::new("unknown_rules", text, json!({})).note().next("ringwall status"));
        }
        Enforced::Nothing => return closed(facts, &[], None, all),
        Enforced::Ruleset { ruleset, generation, .. } => (ruleset, generation),
    };
    if ruleset.audit {
        let text = format!("{generation} only watches (stage: audit): every port is open to whoever reaches this node");
        all.push(Finding::new("audit", text, json!({})).note());
    }
    match ruleset.accepted(Path::Input, facts.now, &mut Budget::new(STEPS)) {
        Ok(accepted) => {
            closed(facts, &accepted, Some(ruleset), all);
            idle(facts, &accepted, ruleset, all);
        }
        Err(exhausted) => all.push(Finding::new("unknown_rules", format!("which ports are open is not known: {exhausted}"), json!({})).note()),
    }
}

/// Listeners that nobody reaches.
fn closed(facts: &Facts, accepted: &[(usize, Packets)], ruleset: Option<&Ruleset>, all: &mut Vec<Finding>) {
    let opened = |listener: &Listener| {
        let mut rows = Table::default();
        rows.push(&AddressSet::full(), &bound(facts, listener), &port(listener.protocol, listener.port), &Conditions::default(), ());
        accepted.iter().any(|(_, packets)| !packets.within(&rows).is_empty())
    };
    let waiting = facts.listeners.iter().filter(|listener| !listener.address.is_loopback());
    let closed: Vec<&Listener> = waiting.filter(|listener| !is_of_the_floor(ruleset, listener) && !opened(listener)).collect();
    let (clients, servers): (Vec<&Listener>, Vec<&Listener>) =
        closed.into_iter().partition(|listener| listener.protocol == PortProtocol::UDP && facts.ephemeral.contains(&listener.port));
    let mut by_port: BTreeMap<(PortProtocol, u16), Vec<&Listener>> = BTreeMap::new();
    for listener in servers {
        by_port.entry((listener.protocol, listener.port)).or_default().push(listener);
    }
    for ((protocol, port), listeners) in &by_port {
        // Another socket of the same port may be open.
        let (name, who) = (word(*protocol, *port), process(listeners[0]));
        let addresses: BTreeSet<String> = listeners.iter().map(|listener| listener.address.to_string()).collect();
        let at = addresses.iter().map(String::as_str).collect::<Vec<_>>().join(" and ");
        let text = match ruleset {
            Some(ruleset) if !ruleset.audit => format!("{name}: {who} listens on {at}, and no rule opens it: nobody reaches it"),
            Some(_) => format!("{name}: {who} listens on {at}, and no rule opens it: nobody reaches it once the rules are enforced"),
            None => format!("{name}: {who} listens on {at}, and no rule opens it; nothing is enforced here yet, and then nobody reaches it"),
        };
        let about = json!({ "port": port, "protocol": protocol.protocol().to_string(), "addresses": addresses,
            "process": listeners[0].process.as_ref().map(|(name, id)| json!({ "name": name, "pid": id })) });
        all.push(Finding::new("closed_port", text, about).next(open(facts, *protocol, *port)));
    }
    if !clients.is_empty() {
        let told: Vec<String> = clients.iter().take(TOLD).map(|listener| format!("{} ({})", word(listener.protocol, listener.port), process(listener))).collect();
        let text = format!("no rule opens these, which are most likely clients' own ports: {}", told.join(", "));
        all.push(Finding::new("client_ports", text, json!({ "ports": clients.iter().map(|listener| listener.port).collect::<Vec<_>>() })).note());
    }
}

/// Rules that open ports on which nobody listens.
fn idle(facts: &Facts, accepted: &[(usize, Packets)], ruleset: &Ruleset, all: &mut Vec<Finding>) {
    let own = own(facts);
    // Whatever rule opens it.
    let mut told: BTreeMap<&str, (Vec<String>, Vec<String>)> = BTreeMap::new();
    for (at, packets) in accepted {
        for (protocol, ports, destination) in asked(packets, &own) {
            for interval in ports.intervals().iter().filter(|interval| interval.first() != 0 || interval.last() != u16::MAX) {
                let listens = |listener: &&Listener| listener.protocol.protocol() == protocol && interval.contains(listener.port);
                let reached = |listener: &Listener| !listener.address.is_loopback() && !bound(facts, listener).is_disjoint(&destination);
                let mut listeners = facts.listeners.iter().filter(listens);
                if listeners.clone().any(reached) {
                    continue;
                }
                let (ports, local) = told.entry(ruleset.input[*at].id.as_str()).or_default();
                let name = match interval.is_single() {
                    true => format!("{}/{protocol}", interval.first()),
                    false => format!("{}-{}/{protocol}", interval.first(), interval.last()),
                };
                if !ports.contains(&name) {
                    local.extend(listeners.next().map(|listener| format!("; {} listens on {} alone", process(listener), listener.address)));
                    ports.push(name);
                }
            }
        }
    }
    for (id, (ports, local)) in told {
        let text = format!("rule {id} opens {}, and nobody listens there{}", ports.join(", "), local.concat());
        let about = json!({ "rule": id, "ports": ports });
        all.push(Finding::new("idle_rule", text, about).next("start the service, or take the port out of the policy"));
    }
}

/// Protocols and ports of packets to these addresses, where a rule asks for them.
fn asked(packets: &Packets, own: &AddressSet) -> Vec<(Protocol, IntervalSet<u16>, AddressSet)> {
    let of = |upper: &UpperCube, destination: AddressSet| {
        let protocols = [Protocol::TCP, Protocol::UDP].into_iter().filter(|protocol| upper.protocols().contains(protocol.0));
        protocols.map(|protocol| (protocol, upper.destination_ports().clone(), destination.clone())).collect::<Vec<_>>()
    };
    let v4 = packets.v4.iter().map(|packets| (&packets.cube.upper, AddressSet { v4: packets.cube.destination.clone(), ..AddressSet::default() }));
    let v6 = packets.v6.iter().map(|packets| (&packets.cube.upper, AddressSet { v6: packets.cube.destination.clone(), ..AddressSet::default() }));
    let to_us = v4.chain(v6).map(|(upper, destination)| (upper, destination.intersection(own))).filter(|(_, destination)| !destination.is_empty());
    to_us.flat_map(|(upper, destination)| of(upper, destination)).collect()
}

fn own(facts: &Facts) -> AddressSet {
    facts.addresses.iter().copied().collect()
}

/// The addresses that a socket takes packets for. `::` may be of both families: then either is enough.
fn bound(facts: &Facts, listener: &Listener) -> AddressSet {
    if !listener.address.is_unspecified() {
        return listener.address.into();
    }
    let all = own(facts).union(&of_many());
    match Family::of(listener.address) {
        Family::V4 => AddressSet { v4: all.v4, ..AddressSet::default() },
        Family::V6 => all,
    }
}

fn port(protocol: PortProtocol, port: u16) -> UpperSet {
    UpperCube::ports(protocol.protocol(), IntervalSet::single(port)).into_iter().collect()
}

/// DHCP clients (RFC 2131, RFC 8415): no entry opens these.
fn is_of_the_floor(ruleset: Option<&Ruleset>, listener: &Listener) -> bool {
    let is_client = listener.protocol == PortProtocol::UDP && matches!(listener.port, 68 | 546);
    is_client && ruleset.is_none_or(|ruleset| ruleset.floor.dhcp)
}

fn word(protocol: PortProtocol, port: u16) -> String {
    format!("{port}/{}", protocol.protocol())
}

fn process(listener: &Listener) -> String {
    listener.process.as_ref().map_or_else(|| "the kernel or another's process".to_owned(), |(name, id)| format!("`{name}` ({id})"))
}

/// The command that opens it, against the controller; without one, the policy's line.
fn open(facts: &Facts, protocol: PortProtocol, port: u16) -> String {
    let service = format!("{}/{port}", protocol.protocol());
    match facts.state.identity {
        Identity::Enrolled { .. } => format!("if others should: {}", super::show::opens(&facts.node, &service)),
        _ => format!("if others should, in the policy: {{ allow: FROM -> {}, services: [{service}] }}", facts.node),
    }
}
