//! The rules of a policy that are there now, with their packets.
//!
//! In: a policy and the time. Out: for each rule its rows, and which others can take its packets for
//! as long as it is there. Never: an audited or expired rule.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use ringwall_diagnostic::Span;
use ringwall_packet::{Address, Budget, Conditions, Cover, Exhausted, Matches, Table, Witness, cover};
use ringwall_policy::{Action, Policy, Rule};

use super::example::example;
use crate::words::Packets;

pub(super) struct Rules<'a> {
    pub policy: &'a Policy,
    /// In order of precedence: `management`, deny by id, allow by id.
    pub all: Vec<Present<'a>>,
}

/// A rule, or `management`.
#[derive(Clone)]
pub(super) struct Present<'a> {
    /// `None` for `management`.
    pub rule: Option<&'a Rule>,
    /// Where it stands in the order of the files; `management` before all.
    pub place: usize,
    pub span: Span,
    v4: Vec<Matches<Ipv4Addr>>,
    v6: Vec<Matches<Ipv6Addr>>,
}

/// The rows of one family.
pub(super) trait Rows<A> {
    fn rows(&self) -> &[Matches<A>];
}

impl Rows<Ipv4Addr> for Present<'_> {
    fn rows(&self) -> &[Matches<Ipv4Addr>] {
        &self.v4
    }
}

impl Rows<Ipv6Addr> for Present<'_> {
    fn rows(&self) -> &[Matches<Ipv6Addr>] {
        &self.v6
    }
}

impl<'a> Rules<'a> {
    pub fn new(policy: &'a Policy, now: u64) -> Self {
        let mut all = Vec::new();
        if let Some(management) = policy.management.as_ref().filter(|_| !policy.floor.without_management) {
            let upper = management.services.iter().flat_map(|service| service.upper.cubes()).cloned().collect();
            let mut table = Table::default();
            table.push(&management.from.addresses, &policy.node_addresses(), &upper, &Conditions::default(), ());
            all.push(Present::new(None, 0, management.origin.span, table));
        }
        for (index, rule) in policy.by_precedence(now) {
            let mut table = Table::default();
            rule.push(&mut table, ());
            all.push(Present::new(Some(rule), index + 1, rule.origin.span, table));
        }
        Self { policy, all }
    }

    /// Places in `all` of the rules with this action.
    pub fn of_action(&self, action: Action) -> impl Iterator<Item = usize> {
        self.all.iter().enumerate().filter(move |(_, one)| one.action() == Some(action)).map(|(at, _)| at)
    }
}

impl<'a> Present<'a> {
    fn new(rule: Option<&'a Rule>, place: usize, span: Span, table: Table<()>) -> Self {
        let v4 = table.v4.into_iter().map(|row| row.matches).collect();
        let v6 = table.v6.into_iter().map(|row| row.matches).collect();
        Self { rule, place, span, v4, v6 }
    }

    pub fn action(&self) -> Option<Action> {
        self.rule.map(|rule| rule.action)
    }

    /// An end may be empty where the policy says so.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether it is there wherever and as long as the other is, whatever becomes of both.
    pub fn lasts_as_long_as(&self, other: &Self) -> bool {
        let (Some(own), Some(rule)) = (self.rule, other.rule) else { return self.rule.is_none() };
        let to_the_end = own.expires.is_none_or(|end| rule.expires.is_some_and(|other| other <= end));
        to_the_end && (own.via.is_none() || own.via == rule.via)
    }

    /// Whether it does the same with a packet that it decides.
    pub fn does_the_same_as(&self, other: &Self) -> bool {
        match (self.rule, other.rule) {
            (Some(a), Some(b)) => {
                a.action == b.action && (a.session_timeout, a.log, a.reject) == (b.session_timeout, b.log, b.reject)
            }
            _ => self.rule.is_none() && other.rule.is_none(),
        }
    }

    /// Packets of both, in boxes that may overlap.
    pub fn overlap(&self, other: &Self) -> Packets {
        Packets { v4: overlap(&self.v4, &other.v4), v6: overlap(&self.v6, &other.v6) }
    }

    /// A packet of both.
    pub fn common(&self, other: &Self) -> Option<Witness> {
        example(&self.overlap(other))
    }

    /// What is left of some packets without its own.
    pub fn out_of(&self, packets: Packets) -> Packets {
        Packets { v4: out_of(&self.v4, packets.v4), v6: out_of(&self.v6, packets.v6) }
    }

    /// Itself, as if some of its services were not in it.
    pub fn without_services(&self, is_left_out: impl Fn(&str) -> bool) -> Self {
        let mut one = self.clone();
        if let Some(rule) = self.rule {
            let mut rule = rule.clone();
            rule.services.retain(|service| !is_left_out(&service.text));
            let mut table = Table::default();
            // A rule without services would mean all of them.
            if !rule.services.is_empty() {
                rule.push(&mut table, ());
            }
            one.v4 = table.v4.into_iter().map(|row| row.matches).collect();
            one.v6 = table.v6.into_iter().map(|row| row.matches).collect();
        }
        one
    }

    pub fn meets(&self, other: &Self) -> bool {
        meet(&self.v4, &other.v4) || meet(&self.v6, &other.v6)
    }

    /// Which of these take every one of its packets together, as few as were found; `None` when they
    /// don't.
    pub fn taken_by(&self, others: &[(usize, &Self)], budget: u64) -> Result<Option<Vec<usize>>, Exhausted> {
        let mut taken = BTreeSet::new();
        let mut budget = Budget::new(budget);
        if !family::<Ipv4Addr>(self, others, &mut taken, &mut budget)? || !family::<Ipv6Addr>(self, others, &mut taken, &mut budget)? {
            return Ok(None);
        }
        Ok(Some(fewer(self, others, taken, &mut budget)))
    }
}

fn out_of<A: Address>(own: &[Matches<A>], packets: Vec<Matches<A>>) -> Vec<Matches<A>> {
    own.iter().fold(packets, |rest, row| rest.iter().flat_map(|part| part.difference(row)).collect())
}

fn overlap<A: Address>(rows: &[Matches<A>], others: &[Matches<A>]) -> Vec<Matches<A>> {
    rows.iter().flat_map(|row| others.iter().filter_map(|other| row.intersection(other))).collect()
}

fn meet<A: Address>(rows: &[Matches<A>], others: &[Matches<A>]) -> bool {
    rows.iter().any(|row| others.iter().any(|other| is_near(row, other) && row.intersection(other).is_some()))
}

/// Cheaper than the intersection, and enough for most pairs.
fn is_near<A: Address>(row: &Matches<A>, other: &Matches<A>) -> bool {
    !row.cube.destination.is_disjoint(&other.cube.destination)
        && !row.cube.upper.destination_ports().is_disjoint(other.cube.upper.destination_ports())
        && !row.cube.source.is_disjoint(&other.cube.source)
}

fn family<'a, A: Address>(
    rule: &Present<'a>,
    others: &[(usize, &Present<'a>)],
    taken: &mut BTreeSet<usize>,
    budget: &mut Budget,
) -> Result<bool, Exhausted>
where
    Present<'a>: Rows<A>,
{
    for row in rule.rows() {
        let rows = others.iter().flat_map(|(at, other)| other.rows().iter().map(|matches| (*at, matches)));
        let (places, near): (Vec<usize>, Vec<&Matches<A>>) = rows.filter(|(_, matches)| is_near(row, matches)).unzip();
        match cover(row, &near, budget)? {
            Cover::By(by) => taken.extend(by.into_iter().map(|index| places[index])),
            Cover::Not(_) => return Ok(false),
        }
    }
    Ok(true)
}

/// More blockers than this are not made fewer one by one.
const FEW: usize = 32;

/// Without those that the others can do without.
fn fewer<'a>(rule: &Present<'a>, others: &[(usize, &Present<'a>)], taken: BTreeSet<usize>, budget: &mut Budget) -> Vec<usize> {
    let mut needed: Vec<usize> = taken.into_iter().collect();
    if needed.len() > FEW {
        return needed;
    }
    // The last ones first: what stands before them is stronger, and says more.
    for at in (0..needed.len()).rev() {
        let rest: Vec<(usize, &Present<'a>)> =
            others.iter().filter(|(other, _)| *other != needed[at] && needed.contains(other)).copied().collect();
        let mut unused = BTreeSet::new();
        let mut does = |_: ()| -> Result<bool, Exhausted> {
            Ok(family::<Ipv4Addr>(rule, &rest, &mut unused, budget)? && family::<Ipv6Addr>(rule, &rest, &mut unused, budget)?)
        };
        if does(()) == Ok(true) {
            needed.remove(at);
        }
    }
    needed
}
