//! Whether somebody's rules let flows pass: `can --ruleset`.
//!
//! In: a filter, a way through the host, packets. Out: yes, no or partly over all of them, by which
//! rules; and where the answer hangs on more than the packets say (a match that is not understood, an
//! interface that was not named), which flows are open whatever that is, which are closed whatever that
//! is, and which it decides. Never: the likelier of two answers.

use std::collections::BTreeSet;

use ringwall_packet::{Address, Budget, Conditions, Exhausted, Matches, Row, Table, Variable, Witness};
use ringwall_ruleset::Path;
use ringwall_ruleset::filter::Filter;

use super::way::{Fate, Outcome, Passed, Rows, passed};
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
    let open = may_pass.without(&may_not.rows(), budget)?;
    let closed = may_not.without(&may_pass.rows(), budget)?;
    let depending = disjoint(&may_pass.within(&may_not.rows()).rows());
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

/// The packets whatever else they have, each once.
fn headers(packets: &Packets) -> Packets {
    fn of<A: Address>(packets: &[Matches<A>]) -> Vec<Row<A, ()>> {
        let mut seen: BTreeSet<Matches<A>> = BTreeSet::new();
        let bare = packets.iter().map(|packets| Matches { cube: packets.cube.clone(), conditions: Conditions::default() });
        bare.filter(|bare| seen.insert(bare.clone())).map(|matches| Row { matches, decision: () }).collect()
    }
    disjoint(&Table { v4: of(&packets.v4), v6: of(&packets.v6) })
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
