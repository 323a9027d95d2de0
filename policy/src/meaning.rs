//! What a policy means: the verdict for a flow, with its reason.
//!
//! The reference that the compiler's output and the kernel are compared with. It looks at rules one
//! by one and takes no short cut.

use std::net::IpAddr;

use ringwall_packet::{AddressSet, Flow, FlowSet, of_many};

use crate::RuleId;
use crate::model::{Action, Policy, Rule, Stage};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    Accept,
    Drop,
    Reject,
}

/// What decided a flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    Rule(RuleId),
    /// The floor's `management`.
    Management,
    /// No rule allows it.
    Default,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub verdict: Verdict,
    pub reason: Reason,
}

impl Policy {
    /// The verdict for the first packet of a flow, whatever node sees it: `management`, then deny
    /// before allow, each by the smallest id, then drop. Audited and expired rules are not there.
    ///
    /// `via` is the name of the interface that the flow uses; a rule with `via` matches no other.
    /// `resolved` says which DNS names an address is an answer for.
    pub fn judge(&self, flow: &Flow, via: Option<&str>, now: u64, resolved: impl Fn(&str, IpAddr) -> bool) -> Judgement {
        if self.is_management(flow) {
            return Judgement { verdict: Verdict::Accept, reason: Reason::Management };
        }
        let matching = |rule: &&Rule| {
            rule.stage == Stage::Enforce
                && !rule.is_expired(now)
                && rule.via.as_ref().is_none_or(|name| via == Some(name.as_str()))
                && rule.matches(flow, &resolved)
        };
        let first = self.rules.iter().filter(matching).min_by_key(|rule| (rule.action == Action::Allow, &rule.id));
        match first {
            None => Judgement { verdict: Verdict::Drop, reason: Reason::Default },
            Some(rule) => {
                let verdict = match (rule.action, rule.reject) {
                    (Action::Allow, _) => Verdict::Accept,
                    (Action::Deny, false) => Verdict::Drop,
                    (Action::Deny, true) => Verdict::Reject,
                };
                Judgement { verdict, reason: Reason::Rule(rule.id.clone()) }
            }
        }
    }

    fn is_management(&self, flow: &Flow) -> bool {
        let Some(management) = self.management.as_ref().filter(|_| !self.floor.without_management) else {
            return false;
        };
        management.from.addresses.contains(flow.source())
            && self.node_addresses().contains(flow.destination())
            && management.services.iter().any(|service| service.upper.contains(flow.upper(), flow.family()))
    }

    /// All flows that enforced, unexpired rules allow without regard to an interface, `management` included.
    pub fn allowed(&self, now: u64) -> FlowSet {
        let of = |action| {
            let rules = self.rules.iter().filter(move |rule| {
                rule.action == action && rule.stage == Stage::Enforce && !rule.is_expired(now)
            });
            rules.fold(FlowSet::default(), |flows, rule| flows.union(&rule.flows()))
        };
        of(Action::Allow).difference(&of(Action::Deny)).union(&self.management_flows())
    }

    /// What the floor keeps open for management; nothing when it has been taken out.
    pub fn management_flows(&self) -> FlowSet {
        let Some(management) = self.management.as_ref().filter(|_| !self.floor.without_management) else {
            return FlowSet::default();
        };
        let upper = management.services.iter().flat_map(|service| service.upper.cubes()).cloned().collect();
        FlowSet::product(&management.from.addresses, &self.node_addresses(), &upper)
    }
}

impl Rule {
    /// Whether the flow is one of the rule's, its interface, stage and expiry left aside.
    pub fn matches(&self, flow: &Flow, resolved: impl Fn(&str, IpAddr) -> bool) -> bool {
        let end = |end: &crate::End, address| {
            end.addresses.contains(address) || end.names.iter().any(|name| resolved(name, address))
        };
        self.upper().contains(flow.upper(), flow.family())
            && self
                .directions()
                .any(|(source, destination)| end(source, flow.source()) && end(destination, flow.destination()))
    }
}

/// Whether a packet to this address is for many: multicast (RFC 5771, RFC 4291), the limited
/// broadcast (RFC 919), or the last address of one of the `internal` prefixes (RFC 919 §7).
pub fn is_broadcast(address: IpAddr, internal: Option<&AddressSet>) -> bool {
    receivable(internal).contains(address)
}

/// The multicast and broadcast addresses, which any node may receive on.
pub fn receivable(internal: Option<&AddressSet>) -> AddressSet {
    let mut set = of_many();
    for interval in internal.iter().flat_map(|internal| internal.v4.intervals()) {
        if !interval.is_single() {
            set = set.union(&IpAddr::V4(interval.last()).into());
        }
    }
    set
}
