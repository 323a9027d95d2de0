//! What of a policy's allowed flows other rules on the same node would drop.
//!
//! In: the policy, its node, and a filter of everybody else's tables there. Out: flows that the policy
//! allows and a rule of these drops, or may drop, with that rule. Never: a flow that the policy does not
//! allow, or one that does not pass this node.

use ringwall_packet::{AddressSet, Budget, Conditions, Exhausted, IntervalSet, Matches, Table, UpperSet, Variable, interface};
use ringwall_policy::{Decider, Node, Policy, receivable, uses_interface};
use ringwall_ruleset::filter::Filter;
use ringwall_ruleset::{Path, others};

use super::way::Rows;
use crate::question::{accepted, disjoint};
use crate::words::Packets;

pub use others::Dropped;

/// In the order in which packets meet the rules, way by way.
pub fn dropped(
    filter: &Filter,
    policy: &Policy,
    node: &Node,
    table: &Table<Decider>,
    budget: &mut Budget,
) -> Result<Vec<Dropped<Decider>>, Exhausted> {
    let mut all = Vec::new();
    for path in Path::ALL {
        let pieces = accepted(policy, table, &scope(policy, node, path), budget)?;
        let pieces = pieces.iter().map(|piece| (piece.decider, on_interfaces(&piece.packets, node, path)));
        all.extend(others::dropped(filter, path, pieces, budget)?);
    }
    Ok(all)
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
