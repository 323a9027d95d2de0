//! What somebody else's rules on the same node would drop of what is to be allowed.
//!
//! In: a filter of everybody else's tables there; flows that are allowed, by what allows them. Out: those that a rule of
//! these drops, or may drop, with that rule. Never: a flow that is not allowed.

use std::collections::{BTreeMap, BTreeSet};

use ringwall_packet::{Budget, Conditions, Exhausted, IntervalSet, Matches, Packets, State, Variable, Witness, interface};

use crate::filter::Filter;
use crate::meaning::Path;
use crate::way::{Fate, Outcome, Passed, Rows, on_the_way, passed};

/// Flows that are to be allowed, and that one rule of others drops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped<D> {
    pub path: Path,
    pub outcome: Outcome,
    /// What allows them.
    pub allowed_by: BTreeSet<D>,
    pub packets: Packets,
    pub witness: Witness,
    /// Whether it drops them whatever else they have, if no rule before it does. Else it hangs on what
    /// stands in the conditions of `packets`, or on where they go.
    pub is_sure: bool,
}

/// In the order in which packets meet the rules of a way.
pub fn dropped<D: Copy + Ord>(
    filter: &Filter,
    path: Path,
    allowed: impl IntoIterator<Item = (D, Packets)>,
    budget: &mut Budget,
) -> Result<Vec<Dropped<D>>, Exhausted> {
    let given = given(path);
    let mut found: BTreeMap<(Outcome, bool), usize> = BTreeMap::new();
    let mut all: Vec<Dropped<D>> = Vec::new();
    for (decider, packets) in allowed {
        for passed in passed(filter, path, &packets, &given, budget)?.into_iter().filter(|passed| !passed.outcome.fate.accepts()) {
            let Passed { outcome, said, witness, .. } = passed;
            for (is_sure, packets) in by_certainty(&said, &outcome).into_iter().filter(|(_, packets)| !packets.is_empty()) {
                let at = *found.entry((outcome.clone(), is_sure)).or_insert_with(|| {
                    let (outcome, witness) = (outcome.clone(), packets.witness().unwrap_or_else(|| witness.clone()));
                    all.push(Dropped { path, outcome, allowed_by: BTreeSet::new(), packets: Packets::default(), witness, is_sure });
                    all.len() - 1
                });
                all[at].allowed_by.insert(decider);
                all[at].packets.extend(&packets);
            }
        }
    }
    all.sort_by_key(|dropped| (dropped.outcome.told(), !dropped.is_sure));
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
