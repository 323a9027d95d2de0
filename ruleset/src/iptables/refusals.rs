//! What iptables can't express, by name.
//!
//! In: a ruleset. Out: every part of it that has no exact rules there. Never: the nearest thing that there is.

use ringwall_diagnostic::Diagnostic;
use ringwall_packet::{Family, Protocol, UpperCube};

use super::modules::LAST_TIME;
use crate::meaning::Path;
use crate::model::{Effect, Entry, Forward, Ruleset};

/// What the target can't express.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The id of the entry that asks for it; `None` when the whole node does.
    pub entry: Option<String>,
    /// Without a place: the entry's rule knows it.
    pub diagnostic: Diagnostic,
}

/// What the text does not say although the ruleset does, without opening anything: it is to be shown.
pub fn warnings(ruleset: &Ruleset) -> Vec<Diagnostic> {
    match &ruleset.forward {
        Forward::Routed(_) => Vec::new(),
        Forward::Containers { .. } => {
            let message = format!("what containers on `{}` send is dropped: iptables can't tell their packets from others", ruleset.node);
            let help = "use the nftables target on machines with containers, or declare their bridge `unmanaged`";
            vec![Diagnostic::warning("RW6122", message).help(help)]
        }
    }
}

pub(super) fn refusals(ruleset: &Ruleset) -> Vec<Refusal> {
    let mut refusals: Vec<Refusal> = Vec::new();
    let mut refuse = |entry: Option<&Entry>, what: &str, help: &str| {
        let message = format!("iptables can't express {what}");
        let refusal = Refusal { entry: entry.map(|entry| entry.id.clone()), diagnostic: Diagnostic::error("RW6120", message).help(help) };
        // An entry on several paths, or in several parts, is refused once.
        if !refusals.contains(&refusal) {
            refusals.push(refusal);
        }
    };
    if ruleset.audit {
        refuse(None, "a node that only watches (`stage: audit`)", "enforce it, or use the nftables target");
    }
    if let Forward::Containers { unmanaged, .. } = &ruleset.forward {
        for bridge in unmanaged.iter().filter(|name| !is_name(name)) {
            refuse(None, &format!("an interface named `{bridge}`"), "`+` at the end of a name stands for any end");
        }
    }
    for entry in Path::ALL.iter().flat_map(|path| ruleset.entries(*path)) {
        if entry.audit {
            refuse(Some(entry), "a rule that only watches (`stage: audit`)", "enforce the rule, or use the nftables target");
            continue;
        }
        if !entry.names.is_empty() {
            let names: Vec<_> = entry.names.iter().map(String::as_str).collect();
            refuse(Some(entry), &format!("the DNS name {}", names.join(", ")), "its answers change at run time; name addresses, or use the nftables target");
        }
        if let Effect::Accept { session_timeout: Some(_) } = entry.effect {
            refuse(Some(entry), "a rule's own `session_timeout`", "take it out, or use the nftables target");
        }
        if let Some(name) = entry.interface.as_ref().filter(|name| !is_name(name)) {
            refuse(Some(entry), &format!("an interface named `{name}`"), "`+` at the end of a name stands for any end");
        }
        if entry.expires.is_some_and(|expires| expires > LAST_TIME + 1) {
            refuse(Some(entry), "an `expires` after 2038-01-19", "the time match counts seconds in 32 bits; choose an earlier day");
        }
        for cube in entry.upper.cubes() {
            if !cube.protocols().is_full() && cube.protocols().contains(0) {
                refuse(Some(entry), "protocol 0", "`-p 0` is every protocol; name the protocols that are meant");
            }
            let any_code = UpperCube::icmp(Family::V4, 255, None).destination_ports().clone();
            let is_ping = cube.protocols().only() == Some(Protocol::ICMP.0);
            if is_ping && !cube.destination_ports().is_full() && !cube.destination_ports().is_disjoint(&any_code) {
                refuse(Some(entry), "ICMP type 255", "`--icmp-type 255` is every type; name the types that are meant");
            }
        }
    }
    refusals
}

/// Whether `-i NAME` is this interface and no other.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() < 16 && !name.ends_with('+') && name.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '!'))
}
