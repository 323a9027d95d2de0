//! What lets everybody in: rules that accept every port from everywhere (RW7007), and chains that
//! accept what no rule decides (RW7011).
//!
//! In: the rows, what comes in and passes through. Out: a warning with a new connection from the internet
//! that is accepted. Never: what depends on an interface or on a match that is not understood.

use std::net::{Ipv4Addr, Ipv6Addr};

use ringwall_diagnostic::Diagnostic;
use ringwall_packet::{
    Address, AddressSet, Budget, Conditions, Cover, Cube, Family, IntervalSet, Matches, Protocol, State, UpperCube, Variable, cover,
    interface, not_global,
};
use ringwall_ruleset::Verdict;
use ringwall_ruleset::filter::{FilterVerdict, Hook};

use super::Rules;
use super::rows::{Chains, InTable};
use crate::exposure::is_public;
use crate::findings::example::{Global, of_box};
use crate::findings::unknown;

pub(super) fn findings(chains: &Chains<'_>, gone: &Rules, budget: u64) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut told = Rules::new();
    for (chain, (base, _)) in chains.all.iter().enumerate() {
        if matches!(base.hook, Hook::Input | Hook::Forward) {
            rules::<Ipv4Addr>(chains, chain, gone, &mut told, &mut found, budget);
            rules::<Ipv6Addr>(chains, chain, gone, &mut told, &mut found, budget);
        }
    }
    let v4 = policies::<Ipv4Addr>(chains, budget);
    let v6 = policies::<Ipv6Addr>(chains, budget);
    // What a family has no rules for is open in it, too.
    found.extend(v4.or(v6));
    found
}

/// A new connection from the internet.
fn stranger<A: InTable>() -> Matches<A>
where
    AddressSet: Sources<A>,
{
    let mut matches = Matches::<A>::any();
    matches.cube.source = not_global().complement().of();
    let new = State::New.values().into();
    let outside = interface("lo").map(|lo| IntervalSet::single(lo).complement()).unwrap_or_else(IntervalSet::full);
    let conditions = Conditions::default().and(Variable::State, &new).and_then(|c| c.and(Variable::InputInterface, &outside));
    matches.conditions = conditions.expect("two variables");
    matches
}

trait Sources<A> {
    fn of(&self) -> IntervalSet<A>;
    fn with(set: &IntervalSet<A>) -> Self;
}

impl Sources<Ipv4Addr> for AddressSet {
    fn of(&self) -> IntervalSet<Ipv4Addr> {
        self.v4.clone()
    }

    fn with(set: &IntervalSet<Ipv4Addr>) -> Self {
        Self { v4: set.clone(), ..Self::default() }
    }
}

impl Sources<Ipv6Addr> for AddressSet {
    fn of(&self) -> IntervalSet<Ipv6Addr> {
        self.v6.clone()
    }

    fn with(set: &IntervalSet<Ipv6Addr>) -> Self {
        Self { v6: set.clone(), ..Self::default() }
    }
}

fn rules<A: InTable>(
    chains: &Chains<'_>,
    chain: usize,
    gone: &Rules,
    told: &mut Rules,
    found: &mut Vec<Diagnostic>,
    budget: u64,
) where
    AddressSet: Sources<A>,
{
    let stranger = stranger::<A>();
    let (rows, outlines) = (A::rows(&chains.all[chain].1), A::outlines(chains, chain));
    for (at, row) in rows.iter().enumerate() {
        let Some(rule) = row.decision.rule.filter(|rule| !gone.contains(rule) && !told.contains(rule)) else { continue };
        if row.decision.verdict != FilterVerdict::Decided(Verdict::Accept) || !is_wide(&row.matches) {
            continue;
        }
        let Some(packets) = row.matches.intersection(&stranger).filter(|packets| is_public(&AddressSet::with(&packets.cube.source))) else { continue };
        let before = rows.iter().zip(outlines).take(at).filter(|(_, other)| outlines[at].may_meet(other));
        let before: Vec<&Matches<A>> = before.map(|(row, _)| &row.matches).collect();
        let left = match guess(&packets, &before) {
            Some(left) => Ok(Cover::Not(left)),
            None => cover(&packets, &before, &mut Budget::new(budget)),
        };
        match left {
            Ok(Cover::By(_)) => {}
            Ok(Cover::Not(left)) => {
                told.insert(rule);
                let message = "this rule accepts every port from everywhere";
                let finding = Diagnostic::warning("RW7007", message).at(chains.filter.rules[rule].span, "");
                let finding = finding.note(format!("for example, {} is accepted", of_box(&left)));
                found.push(finding.help("say who may reach which ports, or by which interface"));
            }
            Err(exhausted) => {
                told.insert(rule);
                found.push(unknown("whom this rule lets in", exhausted.steps).at(chains.filter.rules[rule].span, ""));
            }
        }
    }
}

/// A packet that none of the rows takes, of a few that often are: sooner found than by looking for all.
fn guess<A: Global>(packets: &Matches<A>, before: &[&Matches<A>]) -> Option<Matches<A>> {
    const PORTS: [u16; 4] = [443, 8_080, 31_337, 61_001];
    const SOURCES: usize = 8;
    let sources = packets.cube.source.intervals();
    let usual = A::global().first();
    let destination = if packets.cube.destination.contains(usual) { usual } else { packets.cube.destination.first()? };
    let few = sources.iter().step_by(sources.len().div_ceil(SOURCES)).flat_map(|interval| [interval.first(), interval.last()]).filter(|source| *source != destination);
    let points = few.flat_map(|source| PORTS.map(|port| (source, port)));
    let mut points = points.filter_map(|(source, port)| {
        let upper = UpperCube::ports(Protocol::TCP, IntervalSet::single(port))?.intersection(&packets.cube.upper)?;
        let cube = Cube { source: IntervalSet::single(source), destination: IntervalSet::single(destination), upper };
        Some(Matches { cube, conditions: packets.conditions.clone() })
    });
    points.find(|point| before.iter().all(|row| row.is_disjoint(point)))
}

/// Whether a row has all ports of TCP, and asks nothing but conntrack's state.
fn is_wide<A: Address>(matches: &Matches<A>) -> bool {
    let upper = &matches.cube.upper;
    upper.protocols().contains(Protocol::TCP.0)
        && upper.destination_ports().is_full()
        && upper.source_ports().is_full()
        && matches.conditions.iter().all(|(variable, _)| *variable == Variable::State)
}

/// A new connection from the internet that no rule of any input chain decides, and that is accepted.
/// Whether a table, such as `ip filter`, is of the other family alone.
fn is_of_other_family<A: Address>(table: &str) -> bool {
    let other = if A::FAMILY == Family::V4 { "ip6" } else { "ip" };
    table.split_once(' ').is_some_and(|(family, _)| family == other)
}

fn policies<A: InTable>(chains: &Chains<'_>, budget: u64) -> Option<Diagnostic>
where
    AddressSet: Sources<A>,
{
    let at_input: Vec<_> = chains.all.iter().filter(|(base, _)| base.hook == Hook::Input).collect();
    let (first, _) = at_input.first()?;
    // A table of one family has a policy for the other that is none of its own.
    let is_seen = at_input.iter().any(|(base, _)| !is_of_other_family::<A>(&base.table));
    let mut decided: Vec<&Matches<A>> = Vec::new();
    for row in at_input.iter().flat_map(|(_, table)| A::rows(table)) {
        match (row.decision.rule, row.decision.verdict) {
            // What the policy accepts goes on to the next chain.
            (None, FilterVerdict::Decided(Verdict::Accept)) => {}
            // The rules of this family are not there to be judged.
            (None, FilterVerdict::Elsewhere(_)) => return None,
            _ => decided.push(&row.matches),
        }
    }
    let finding = match cover(&stranger::<A>(), &decided, &mut Budget::new(budget)) {
        Ok(Cover::By(_)) => return None,
        Ok(Cover::Not(left)) => {
            let finding = if is_seen {
                Diagnostic::warning("RW7011", format!("`{}`, the chain `{}`, accepts what no rule decides", first.table, first.name))
            } else {
                let family = if A::FAMILY == Family::V4 { "IPv4" } else { "IPv6" };
                Diagnostic::warning("RW7011", format!("no chain looks at {family} that comes in: all of it is accepted"))
            };
            finding.note(format!("for example, {} is accepted", of_box(&left)))
        }
        Err(exhausted) => return Some(unknown("whether what no rule decides is accepted", exhausted.steps)),
    };
    Some(finding.help("let the chain's policy be to drop, after a rule for those who manage the machine"))
}
