//! What of a policy's allowed flows other rules on the same node would drop.
//!
//! In: the policy, its node, and a filter of everybody else's tables there. Out: flows that the policy
//! allows and a rule of these drops, or may drop, with that rule. Never: a flow that the policy does not
//! allow, or one that does not pass this node.

use std::collections::{BTreeMap, BTreeSet};

use ringwall_packet::{AddressSet, Budget, Conditions, Exhausted, IntervalSet, Matches, State, Table, UpperSet, Variable, Witness, interface};
use ringwall_policy::{Decider, Node, Policy, receivable, uses_interface};
use ringwall_ruleset::Path;
use ringwall_ruleset::filter::Filter;

use super::can::{Passed, passed};
use super::way::{Fate, Outcome, Rows, on_the_way};
use crate::question::{accepted, disjoint};
use crate::words::Packets;

/// Flows of the policy that one rule of others drops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    pub path: Path,
    pub outcome: Outcome,
    /// What allows them in the policy.
    pub allowed_by: BTreeSet<Decider>,
    pub packets: Packets,
    pub witness: Witness,
    /// Whether it drops them whatever else they have, if no rule before it does. Else it hangs on what
    /// stands in the conditions of `packets`, or on where they go.
    pub is_sure: bool,
}

/// In the order in which packets meet the rules, way by way.
pub fn dropped(filter: &Filter, policy: &Policy, node: &Node, table: &Table<Decider>, budget: &mut Budget) -> Result<Vec<Dropped>, Exhausted> {
    let mut all = Vec::new();
    for path in Path::ALL {
        let given = given(path);
        let mut found: BTreeMap<(Outcome, bool), usize> = BTreeMap::new();
        let mut here: Vec<Dropped> = Vec::new();
        for piece in accepted(policy, table, &scope(policy, node, path), budget)? {
            let packets = on_interfaces(&piece.packets, node, path);
            for passed in passed(filter, path, &packets, &given, budget)?.into_iter().filter(|passed| !passed.outcome.fate.accepts()) {
                let Passed { outcome, said, witness, .. } = passed;
                for (is_sure, packets) in by_certainty(&said, &outcome).into_iter().filter(|(_, packets)| !packets.is_empty()) {
                    let at = *found.entry((outcome.clone(), is_sure)).or_insert_with(|| {
                        let (outcome, witness) = (outcome.clone(), packets.witness().unwrap_or_else(|| witness.clone()));
                        here.push(Dropped { path, outcome, allowed_by: BTreeSet::new(), packets: Packets::default(), witness, is_sure });
                        here.len() - 1
                    });
                    here[at].allowed_by.insert(piece.decider);
                    here[at].packets.extend(&packets);
                }
            }
        }
        here.sort_by_key(|dropped| (dropped.outcome.told(), !dropped.is_sure));
        all.extend(here);
    }
    Ok(all)
}

/// Those that are dropped whatever else they have, and the others.
fn by_certainty(packets: &Packets, outcome: &Outcome) -> [(bool, Packets); 2] {
    fn split<A: Rows>(packets: &Packets, is_known: bool) -> (Vec<Matches<A>>, Vec<Matches<A>>) {
        A::packets(packets).iter().cloned().partition(|packets| is_known && packets.conditions.is_empty())
    }
    let is_known = !matches!(outcome.fate, Fate::Elsewhere(_));
    let ((v4, others_v4), (v6, others_v6)) = (split(packets, is_known), split(packets, is_known));
    [(true, Packets { v4, v6 }), (false, Packets { v4: others_v4, v6: others_v6 })]
}

/// New connections with others.
fn given(path: Path) -> Conditions {
    let loopback = IntervalSet::single(interface("lo").expect("a short name"));
    let mut conditions = on_the_way(path).and(Variable::State, &State::New.values().into()).expect("two variables");
    for variable in [Variable::InputInterface, Variable::OutputInterface] {
        if let Some(met) = conditions.and(variable, &loopback.complement()) {
            conditions = met;
        }
    }
    conditions
}

/// What passes the node on a way.
fn scope(policy: &Policy, node: &Node, path: Path) -> Packets {
    let own = node.local();
    let foreign = own.complement();
    let mut rows = Table::default();
    let mut push = |source: &AddressSet, destination: &AddressSet| {
        rows.push(source, destination, &UpperSet::any(), &Conditions::default(), ());
    };
    match path {
        Path::Input => push(&foreign, &own.union(&receivable(policy.internal.as_ref()))),
        Path::Output => push(&own, &foreign),
        Path::Forward => {
            let routed = node.routes.difference(&own);
            push(&routed, &foreign);
            push(&foreign, &routed);
        }
    }
    disjoint(&rows)
}

/// With the kernel's names for the interfaces that the policy's rules ask for.
fn on_interfaces(packets: &Packets, node: &Node, path: Path) -> Packets {
    fn of<A: Rows>(packets: &Packets, node: &Node, path: Path) -> Vec<Matches<A>> {
        let own = if path == Path::Output { Variable::OutputInterface } else { Variable::InputInterface };
        let on = |packets: &Matches<A>| {
            let mut matches = packets.clone();
            // A router uses two interfaces, of which the rule means either.
            for (name, kernel) in node.interfaces.iter().filter(|_| path != Path::Forward) {
                let variable = uses_interface(name.as_str());
                if let Some(values) = packets.conditions.values(&variable) {
                    let one = IntervalSet::single(interface(kernel)?);
                    let names = if values.contains(0) { one.complement() } else { one };
                    matches.conditions = matches.conditions.without(&variable).and(own.clone(), &names)?;
                }
            }
            Some(matches)
        };
        A::packets(packets).iter().filter_map(on).collect()
    }
    Packets { v4: of(packets, node, path), v6: of(packets, node, path) }
}
