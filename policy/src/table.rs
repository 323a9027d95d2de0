//! What a policy means, as one ordered table that exact questions can be asked of.
//!
//! In: a policy and the time. Out: rows of packets with what decides them, in order of precedence:
//! `management`, deny by id, allow by id, default. Never: a rule that is audited or has expired, nor
//! an answer for a DNS name: whether an address is one is a variable of the packet, and so is the
//! interface that a rule asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringwall_packet::{
    AddressSet, Conditions, Interval, IntervalSet, Protocol, Table, UpperCube, UpperSet, Variable, truth,
};

use crate::meaning::{Reason, Verdict};
use crate::model::{Action, End, Policy, Rule, Stage};

/// What decides a packet: [`Reason`] with the rule's place in place of its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decider {
    Management,
    /// Index into [`Policy::rules`].
    Rule(usize),
    Default,
}

/// That the packet uses the interface of this name in the policy. A packet that passes through a
/// router uses two.
pub fn uses_interface(via: &str) -> Variable {
    Variable::Holds(Arc::from(format!("via {via}")))
}

/// That the packet's destination is an answer for the DNS name.
pub fn is_answer(name: &str) -> Variable {
    Variable::Holds(Arc::from(format!("{name} resolves to the destination")))
}

/// The DNS name, when the variable is one of [`is_answer`].
pub fn name_asked(variable: &Variable) -> Option<&str> {
    match variable {
        Variable::Holds(text) => text.strip_suffix(" resolves to the destination"),
        _ => None,
    }
}

impl Policy {
    /// The policy as rows, of which the first that matches a packet decides it; every packet is
    /// decided. `now` is in seconds since the epoch.
    ///
    /// Equal to [`Policy::judge`] for each flow, interface and set of DNS answers.
    pub fn table(&self, now: u64) -> Table<Decider> {
        let mut table = Table::default();
        if let Some(management) = self.management.as_ref().filter(|_| !self.floor.without_management) {
            let upper = management.services.iter().flat_map(|service| service.upper.cubes()).cloned().collect();
            let nodes = self.node_addresses();
            table.push(&management.from.addresses, &nodes, &merged(&upper), &Conditions::default(), Decider::Management);
        }
        for (index, rule) in self.by_precedence(now) {
            rule.push(&mut table, Decider::Rule(index));
        }
        table.otherwise(Decider::Default);
        table
    }

    /// The rules that are there at this time, with their places in [`Policy::rules`]: deny before
    /// allow, each by id.
    pub fn by_precedence(&self, now: u64) -> Vec<(usize, &Rule)> {
        let is_there = |(_, rule): &(usize, &Rule)| rule.stage == Stage::Enforce && !rule.is_expired(now);
        let mut rules: Vec<(usize, &Rule)> = self.rules.iter().enumerate().filter(is_there).collect();
        rules.sort_by_key(|(_, rule)| (rule.action == Action::Allow, &rule.id));
        rules
    }

    pub fn verdict(&self, decider: Decider) -> Verdict {
        match decider {
            Decider::Management => Verdict::Accept,
            Decider::Default => Verdict::Drop,
            Decider::Rule(index) => self.rules[index].verdict(),
        }
    }

    pub fn reason(&self, decider: Decider) -> Reason {
        match decider {
            Decider::Management => Reason::Management,
            Decider::Default => Reason::Default,
            Decider::Rule(index) => Reason::Rule(self.rules[index].id.clone()),
        }
    }
}

impl Rule {
    /// What becomes of the packets that it decides.
    pub fn verdict(&self) -> Verdict {
        match (self.action, self.reject) {
            (Action::Allow, _) => Verdict::Accept,
            (Action::Deny, false) => Verdict::Drop,
            (Action::Deny, true) => Verdict::Reject,
        }
    }

    /// Adds its packets to a table, its stage and expiry left aside.
    pub fn push<D: Clone>(&self, table: &mut Table<D>, decision: D) {
        let upper = merged(&self.upper());
        let uses = |via| Conditions::default().and(uses_interface(via), &truth(true));
        let conditions = self.via.as_ref().and_then(|via| uses(via.as_str())).unwrap_or_default();
        let mut done: Vec<(&AddressSet, &End)> = Vec::new();
        for (source, destination) in self.directions() {
            // Both directions of `A <-> A` are the same.
            if done.iter().any(|(from, to)| **from == source.addresses && **to == *destination) {
                continue;
            }
            done.push((&source.addresses, destination));
            table.push(&source.addresses, &destination.addresses, &upper, &conditions, decision.clone());
            for name in &destination.names {
                let asked = conditions.and(is_answer(name), &truth(true)).expect("two variables");
                table.push(&source.addresses, &AddressSet::full(), &upper, &asked, decision.clone());
            }
        }
    }
}

/// The same set in fewer parts: the ports of a protocol in one place.
pub fn merged(upper: &UpperSet) -> UpperSet {
    let mut whole: BTreeMap<(u8, &IntervalSet<u16>), Vec<Interval<u16>>> = BTreeMap::new();
    let mut cubes: Vec<UpperCube> = Vec::new();
    for cube in upper.cubes() {
        match cube.protocols().only().filter(|number| Protocol(*number).has_ports()) {
            None if cubes.contains(cube) => {}
            None => cubes.push(cube.clone()),
            Some(number) => {
                let ports = whole.entry((number, cube.source_ports())).or_default();
                ports.extend_from_slice(cube.destination_ports().intervals());
            }
        }
    }
    let ports = whole.into_iter().filter_map(|((number, source), ports)| {
        UpperCube::ports(Protocol(number), ports.into_iter().collect())?.with_source_ports(source)
    });
    cubes.into_iter().chain(ports).collect()
}
