//! Whether somebody's rules let flows pass: `can --ruleset`.
//!
//! In: a filter, a way through the host, packets. Out: yes, no or partly over all of them, by which
//! rules; and where the answer hangs on more than the packets say (a match that is not understood, an
//! interface that was not named), which flows are open whatever that is, which are closed whatever that
//! is, and which it decides. Never: the likelier of two answers.

use std::collections::BTreeSet;

use ringwall_packet::{
    Address, AddressSet, Budget, Conditions, Exhausted, Family, Matches, Row, Table, UpperSet, Variable, Witness, interface,
};
use ringwall_policy::receivable;
use ringwall_ruleset::Path;
use ringwall_ruleset::filter::Filter;

use super::way::{Fate, Outcome, Rows, for_itself, pass};
use crate::question::disjoint;
use crate::words::Packets;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All flows pass, whatever is not known.
    Yes,
    /// No flow passes, whatever is not known.
    No,
    /// Some do and some do not.
    Partly,
    /// For all flows it hangs on what is not known.
    Depends,
    /// There is no such flow.
    Nothing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Can {
    pub path: Path,
    pub answer: Answer,
    /// By what decides them; together all packets of the question, and disjoint.
    pub parts: Vec<Part>,
    /// Flows that pass whatever is not known, that do not, and that it decides. Without conditions.
    pub open: Packets,
    pub closed: Packets,
    pub depending: Packets,
    /// What the flows of `depending` hang on: those that change the answer for one of them.
    pub on: BTreeSet<Variable>,
    /// Where they go out of sight: indices into [`Filter::unknown`].
    pub elsewhere: BTreeSet<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub outcome: Outcome,
    pub packets: Packets,
    pub witness: Witness,
}

/// Answers for one way. The packets are disjoint, without conditions. What is `given` holds for all of
/// them and is said no more, nor that what comes in for no multicast address is for an address of the
/// machine's own; all else is not known.
pub fn can(filter: &Filter, path: Path, packets: &Packets, given: &Conditions, budget: &mut Budget) -> Result<Can, Exhausted> {
    let passed = passed(filter, path, packets, given, budget)?;
    let of = |is_wanted: &dyn Fn(Fate) -> bool| {
        let mut all = Packets::default();
        passed.iter().filter(|passed| is_wanted(passed.outcome.fate)).for_each(|passed| all.extend(&passed.packets));
        all
    };
    let (accepted, refused) = (of(&|fate| !fate.refuses()), of(&|fate| !fate.accepts()));
    let (may_pass, may_not) = (headers(&accepted), headers(&refused));
    let open = may_pass.without(&rows(&may_not), budget)?;
    let closed = may_not.without(&rows(&may_pass), budget)?;
    let depending = disjoint(&rows(&may_pass.within(&rows(&may_not))));
    let answer = match (open.is_empty(), closed.is_empty(), depending.is_empty()) {
        (true, true, true) => Answer::Nothing,
        (false, true, true) => Answer::Yes,
        (true, false, true) => Answer::No,
        (true, true, false) => Answer::Depends,
        _ => Answer::Partly,
    };
    let on = if depending.is_empty() { BTreeSet::new() } else { essential(&accepted, &refused) };
    let elsewhere = passed.iter().filter_map(|passed| match passed.outcome.fate {
        Fate::Elsewhere(what) => Some(what),
        Fate::Decided(_) => None,
    });
    let elsewhere = elsewhere.collect();
    let part = |passed: Passed| Part { outcome: passed.outcome, packets: passed.said, witness: passed.witness };
    let parts = passed.into_iter().map(part).collect();
    Ok(Can { path, answer, parts, open, closed, depending, on, elsewhere })
}

/// Packets with the same outcome.
pub(super) struct Passed {
    pub outcome: Outcome,
    pub packets: Packets,
    /// The same, without what is known anyway.
    pub said: Packets,
    pub witness: Witness,
}

/// What becomes of packets of which some things are known.
pub(super) fn passed(filter: &Filter, path: Path, packets: &Packets, given: &Conditions, budget: &mut Budget) -> Result<Vec<Passed>, Exhausted> {
    let many = receivable(None);
    let to = |destination: &AddressSet| {
        let mut rows = Table::default();
        rows.push(&AddressSet::full(), destination, &UpperSet::any(), &Conditions::default(), ());
        packets.within(&rows)
    };
    let at_home = for_itself(filter);
    let (own, others) = match path == Path::Input && !at_home.is_empty() {
        true => (to(&many.complement()), to(&many)),
        false => (Packets::default(), packets.clone()),
    };
    let at_home = given.intersection(&at_home).unwrap_or_else(|| given.clone());
    let mut all: Vec<Passed> = Vec::new();
    for (packets, given) in [(own, &at_home), (others, given)] {
        for (outcome, packets) in pass(filter, path, &packets.where_holds(given), budget)? {
            let Some(witness) = packets.witness().map(|witness| shown(witness, &packets, given)) else { continue };
            let said = packets.clone().beyond(given);
            match all.iter_mut().find(|known| known.outcome == outcome) {
                Some(known) => {
                    known.packets.extend(&packets);
                    known.said.extend(&said);
                }
                None => all.push(Passed { outcome, packets, said, witness }),
            }
        }
    }
    Ok(all)
}

impl Packets {
    /// Those that meet conditions.
    pub fn where_holds(&self, conditions: &Conditions) -> Self {
        fn of<A: Address>(packets: &[Matches<A>], conditions: &Conditions) -> Vec<Matches<A>> {
            let met = |packets: &Matches<A>| {
                Some(Matches { cube: packets.cube.clone(), conditions: packets.conditions.intersection(conditions)? })
            };
            packets.iter().filter_map(met).collect()
        }
        Self { v4: of(&self.v4, conditions), v6: of(&self.v6, conditions) }
    }

    /// Without a word of what is known anyway: in fewer words, and the same packets among those that are known.
    pub fn beyond(self, known: &Conditions) -> Self {
        fn of<A: Address>(packets: Vec<Matches<A>>, known: &Conditions) -> Vec<Matches<A>> {
            let bare = |mut packets: Matches<A>| {
                for (variable, values) in known.iter() {
                    let Some(own) = packets.conditions.values(variable).cloned() else { continue };
                    let whole = own.union(&values.complement());
                    if whole.is_full() || whole.complement().intervals().len() < own.intervals().len() {
                        let rest = packets.conditions.without(variable);
                        packets.conditions = rest.and(variable.clone(), &whole).expect("more than there was");
                    }
                }
                packets
            };
            packets.into_iter().map(bare).collect()
        }
        Self { v4: of(self.v4, known), v6: of(self.v6, known) }
    }
}

/// Names that interfaces have.
const INTERFACES: [&str; 4] = ["eth0", "eth1", "eth2", "other0"];

/// A witness without what all packets have, and with an interface's name that people know.
pub fn shown(mut witness: Witness, packets: &Packets, known: &Conditions) -> Witness {
    let first = |family| match family {
        Family::V4 => packets.v4.first().map(|packets| &packets.conditions),
        Family::V6 => packets.v6.first().map(|packets| &packets.conditions),
    };
    let Some(conditions) = first(witness.flow.family()) else { return witness };
    witness.conditions.retain(|(variable, _)| conditions.values(variable) != known.values(variable));
    for (variable, value) in &mut witness.conditions {
        let (Variable::InputInterface | Variable::OutputInterface) = variable else { continue };
        let names = INTERFACES.iter().filter_map(|name| interface(name));
        let mut fitting = names.filter(|name| conditions.values(variable).is_some_and(|values| values.contains(*name)));
        *value = fitting.next().unwrap_or(*value);
    }
    witness
}

/// The packets whatever else they have, each once.
fn headers(packets: &Packets) -> Packets {
    fn of<A: Address>(packets: &[Matches<A>]) -> Vec<Row<A, ()>> {
        let mut seen: BTreeSet<Matches<A>> = BTreeSet::new();
        let bare = packets.iter().map(|packets| Matches { cube: packets.cube.clone(), conditions: Conditions::default() });
        bare.filter(|bare| seen.insert(bare.clone())).map(|matches| Row { matches, decision: () }).collect()
    }
    disjoint(&Table { v4: of(&packets.v4), v6: of(&packets.v6) })
}

pub(super) fn rows(packets: &Packets) -> Table<()> {
    fn of<A: Address>(packets: &[Matches<A>]) -> Vec<Row<A, ()>> {
        packets.iter().map(|matches| Row { matches: matches.clone(), decision: () }).collect()
    }
    Table { v4: of(&packets.v4), v6: of(&packets.v6) }
}

/// Variables that make the difference between a packet that may pass and one that may not.
fn essential(accepted: &Packets, refused: &Packets) -> BTreeSet<Variable> {
    let mut all = BTreeSet::new();
    of::<std::net::Ipv4Addr>(accepted, refused, &mut all);
    of::<std::net::Ipv6Addr>(accepted, refused, &mut all);
    return all;

    fn of<A: Rows>(accepted: &Packets, refused: &Packets, all: &mut BTreeSet<Variable>) {
        for one in A::packets(accepted) {
            for other in A::packets(refused).iter().filter(|other| !one.cube.is_disjoint(&other.cube)) {
                // Of two that differ in one variable alone, that one decides.
                let mut differing = one.conditions.iter().filter(|(variable, values)| {
                    other.conditions.values(variable).is_some_and(|others| values.is_disjoint(others))
                });
                if let (Some((variable, _)), None) = (differing.next(), differing.next()) {
                    all.insert(variable.clone());
                }
            }
        }
    }
}
