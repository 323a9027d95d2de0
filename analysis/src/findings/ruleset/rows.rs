//! A ruleset's rows, so that they can be asked about.
//!
//! In: the tables of a filter. Out: the same, but a row whose end is not known takes nothing for
//! certain; and for each rule where its rows stand. Never: a row left out.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ringwall_packet::{Cube, Family, IntervalSet, Matches, Point, Row, Table, Variable, truth};
use ringwall_ruleset::filter::{BaseChain, Decision, Filter, FilterVerdict};

use crate::findings::example::Global;

pub(super) struct Chains<'a> {
    pub filter: &'a Filter,
    pub all: Vec<(&'a BaseChain, Table<Decision>)>,
    /// By rule, where its rows are.
    pub places: BTreeMap<usize, Vec<Place>>,
    /// By chain, for each row.
    outlines: Vec<(Vec<Outline<Ipv4Addr>>, Vec<Outline<Ipv6Addr>>)>,
}

/// Between which ends a row's fields lie: most pairs of rows that have nothing in common are told by
/// this, some twenty times faster than by their sets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outline<A> {
    source: (A, A),
    destination: (A, A),
    ports: (u16, u16),
    protocols: (u8, u8),
}

impl<A: Point> Outline<A> {
    pub fn of(matches: &Matches<A>) -> Self {
        fn ends<P: Point>(set: &IntervalSet<P>) -> (P, P) {
            match set.intervals() {
                [first, .., last] => (first.first(), last.last()),
                [only] => (only.first(), only.last()),
                [] => (P::MAX, P::MIN),
            }
        }
        let Cube { source, destination, upper } = &matches.cube;
        let (ports, protocols) = (ends(upper.destination_ports()), ends(upper.protocols()));
        Self { source: ends(source), destination: ends(destination), ports, protocols }
    }

    pub fn may_meet(&self, other: &Self) -> bool {
        fn meet<P: Ord>(one: &(P, P), other: &(P, P)) -> bool {
            one.0 <= other.1 && other.0 <= one.1
        }
        meet(&self.destination, &other.destination)
            && meet(&self.source, &other.source)
            && meet(&self.ports, &other.ports)
            && meet(&self.protocols, &other.protocols)
    }
}

/// Of a row: which chain, which family, which row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub chain: usize,
    pub family: Family,
    pub row: usize,
}

/// The rows of one family.
pub(super) trait InTable: Global {
    fn rows(table: &Table<Decision>) -> &[Row<Self, Decision>];
    fn outlines<'c>(chains: &'c Chains<'_>, chain: usize) -> &'c [Outline<Self>];
}

impl InTable for Ipv4Addr {
    fn rows(table: &Table<Decision>) -> &[Row<Self, Decision>] {
        &table.v4
    }

    fn outlines<'c>(chains: &'c Chains<'_>, chain: usize) -> &'c [Outline<Self>] {
        &chains.outlines[chain].0
    }
}

impl InTable for Ipv6Addr {
    fn rows(table: &Table<Decision>) -> &[Row<Self, Decision>] {
        &table.v6
    }

    fn outlines<'c>(chains: &'c Chains<'_>, chain: usize) -> &'c [Outline<Self>] {
        &chains.outlines[chain].1
    }
}

impl<'a> Chains<'a> {
    pub fn new(filter: &'a Filter) -> Self {
        let mut places: BTreeMap<usize, Vec<Place>> = BTreeMap::new();
        let (mut all, mut outlines) = (Vec::new(), Vec::new());
        for (chain, base) in filter.chains.iter().enumerate() {
            let mut table = base.decisions.clone();
            uncertain(&mut table.v4);
            uncertain(&mut table.v6);
            for (family, decisions) in [
                (Family::V4, table.v4.iter().map(|row| row.decision).collect::<Vec<_>>()),
                (Family::V6, table.v6.iter().map(|row| row.decision).collect()),
            ] {
                for (row, decision) in decisions.into_iter().enumerate() {
                    if let Some(rule) = decision.rule {
                        places.entry(rule).or_default().push(Place { chain, family, row });
                    }
                }
            }
            let v4 = table.v4.iter().map(|row| Outline::of(&row.matches)).collect();
            outlines.push((v4, table.v6.iter().map(|row| Outline::of(&row.matches)).collect()));
            all.push((base, table));
        }
        Self { filter, all, places, outlines }
    }

    pub fn decision(&self, place: Place) -> Decision {
        let table = &self.all[place.chain].1;
        match place.family {
            Family::V4 => table.v4[place.row].decision,
            Family::V6 => table.v6[place.row].decision,
        }
    }

    /// Whether something happens to a packet between two decisions that later rules may see.
    pub fn changes_between(&self, before: Decision, after: Decision) -> bool {
        let (before, after) = (&self.filter.effects[before.effects], &self.filter.effects[after.effects]);
        let common = before.iter().zip(after).take_while(|(a, b)| a == b).count();
        after[common..].iter().any(|effect| !only_tells(effect))
    }

    pub fn does_the_same(&self, one: Decision, other: Decision) -> bool {
        one.verdict == other.verdict
            && (one.effects == other.effects || self.filter.effects[one.effects] == self.filter.effects[other.effects])
    }
}

/// What happens to packets of such a row is not known, so it may hand them back.
fn uncertain<A: Global>(rows: &mut [Row<A, Decision>]) {
    for row in rows {
        if let FilterVerdict::Elsewhere(at) = row.decision.verdict {
            let kept = Variable::Holds(Arc::from(format!("what is not known ({at}) keeps the packet")));
            row.matches = row.matches.and(kept, &truth(true)).expect("a variable that was not there");
        }
    }
}

/// Statements that only count or tell.
fn only_tells(effect: &str) -> bool {
    if effect.starts_with("comment ") {
        return true;
    }
    let words: Vec<&str> = effect.split_whitespace().collect();
    let target = words.iter().rposition(|word| *word == "-j").and_then(|at| words.get(at + 1));
    match target {
        Some(target) => matches!(*target, "LOG" | "NFLOG" | "ULOG" | "TRACE" | "AUDIT"),
        None => words.iter().any(|word| matches!(*word, "log" | "counter")) && !words.contains(&"set"),
    }
}

/// Whether a match of the row is not understood.
pub(super) fn asks_unknown<A>(matches: &Matches<A>) -> bool {
    matches.conditions.iter().any(|(variable, _)| matches!(variable, Variable::Holds(_)))
}
