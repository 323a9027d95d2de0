//! What a revision declares beside each node's ruleset: the paths between the fleet's nodes, as probes, and the manner of
//! its enforcement.
//!
//! In: a revision's policy with the fleet in it. Out: what to probe, and the place of each rule in the policy's files. Never: more
//! than one controller can look after; of more, some stand for all, and their number is told.

use std::collections::BTreeMap;

use ringwall_analysis::probes::{self, Case, Denied, Machine, Matrix, Options, decider, rule_place, rule_text};
use ringwall_policy::{OnDrift, OnTighten, Policy, RuleId};
use ringwall_probe::Trace;
use ringwall_protocol as protocol;

use crate::id::{NodeName, RevisionNumber};
use crate::time::Time;

/// About so many paths are looked after.
const PATHS_MAX: usize = 50_000;
/// Flows that no rule allows, of each pair of nodes and family.
const DENIED: usize = 4;

#[derive(Clone, Debug)]
pub struct Declared {
    pub revision: RevisionNumber,
    pub machines: Vec<Machine>,
    /// The machines' names, where these are names of nodes.
    pub nodes: Vec<Option<NodeName>>,
    pub matrix: Matrix,
    pub manner: Manner,
    /// What decides each case by the policy's meaning, with file and line.
    pub rules: Vec<String>,
    places: BTreeMap<RuleId, String>,
}

/// What a revision says of how it is enforced, beside the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    pub on_drift: protocol::OnDrift,
    pub on_tighten: protocol::OnTighten,
}

/// As where a policy says nothing.
impl Default for Manner {
    fn default() -> Self {
        Self { on_drift: protocol::OnDrift::Heal, on_tighten: protocol::OnTighten::Cut }
    }
}

impl Manner {
    fn of(policy: &Policy) -> Self {
        let on_drift = match policy.on_drift {
            OnDrift::Heal => protocol::OnDrift::Heal,
            OnDrift::Report => protocol::OnDrift::Report,
        };
        let on_tighten = match policy.on_tighten {
            OnTighten::Cut => protocol::OnTighten::Cut,
            OnTighten::Drain => protocol::OnTighten::Drain,
        };
        Self { on_drift, on_tighten }
    }
}

impl Declared {
    pub fn of(revision: RevisionNumber, policy: &Policy, now: Time) -> Self {
        // There are no vantages beside the nodes, so that none can have another's address.
        let machines = probes::machines(policy, &[]).unwrap_or_default();
        let nodes = machines.iter().map(|machine| machine.name.parse().ok()).collect();
        let now = u64::try_from(now.as_second()).unwrap_or(0);
        let options = Options { denied: Denied::Some(DENIED), seed: revision.0, nonce: now, now, tls: Vec::new(), most: PATHS_MAX };
        let matrix = probes::matrix(policy, &machines, &options);
        let rules = matrix.cases.iter().map(|case| rule_text(policy, &case.reason)).collect();
        let places = policy.rules.iter().map(|rule| (rule.id.clone(), rule_place(policy, &rule.id))).collect();
        Self { revision, machines, nodes, matrix, manner: Manner::of(policy), rules, places }
    }

    /// The nodes at an end of a case.
    pub fn ends<'a>(&'a self, case: &'a Case) -> impl Iterator<Item = &'a NodeName> {
        case.sources.iter().chain(&case.destinations).filter_map(|machine| self.nodes[*machine].as_ref())
    }

    /// A rule's id, with file and line.
    pub fn rule(&self, id: &RuleId) -> String {
        self.places.get(id).cloned().unwrap_or_else(|| id.to_string())
    }

    /// The destination's kernel's word, in the policy's.
    pub fn decided_by(&self, trace: &Trace) -> String {
        decider(trace, |id| self.rule(id))
    }
}
