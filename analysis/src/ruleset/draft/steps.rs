//! The rows of a way, family by family -> allows, and the denies that they need.

use std::collections::BTreeSet;

use ringwall_packet::{
    Budget, Conditions, Cube, Exhausted, Family, IntervalSet, Matches, Protocol, Row, State, UpperCube, Variable, interface, parts,
};
use ringwall_policy::receivable;
use ringwall_ruleset::Path;

use super::proof::Set;
use super::{Draft, Host, Rule};
use crate::ruleset::way::{Fate, Outcome, Rows, Way, on_the_way};
use crate::words::conditions;

/// A row of packets that are new connections, as far as a policy can say it.
struct Step<A> {
    cube: Cube<A>,
    /// The only interface, by its value.
    via: Option<u128>,
    accepts: bool,
    from: BTreeSet<usize>,
}

/// So many interfaces are named one by one.
const INTERFACES: usize = 16;

/// Packets that a policy speaks of on a way: between the machine and others.
pub(super) fn scope<A: Set>(host: &Host, path: Path) -> Cube<A> {
    let local = A::of(&host.addresses).clone();
    let others = local.complement();
    match path {
        Path::Output => Cube { source: local, destination: others, ..Cube::any() },
        // What is sent to many comes in as well.
        _ => Cube { source: others, destination: local.union(A::of(&receivable(None))), ..Cube::any() },
    }
}

/// The variable of the interface that packets use on a way, and the one that they do not have.
pub(super) fn sides(path: Path) -> (Variable, Variable) {
    match path {
        Path::Output => (Variable::OutputInterface, Variable::InputInterface),
        _ => (Variable::InputInterface, Variable::OutputInterface),
    }
}

/// All interfaces but the loopback, and none.
pub(super) fn foreign() -> IntervalSet<u128> {
    IntervalSet::from_iter([0, interface("lo").expect("a short name")]).complement()
}

pub(super) fn rules<A: Rows + Set>(way: &Way, host: &Host, path: Path, draft: &mut Draft, budget: &mut Budget) -> Result<(), Exhausted> {
    let scope = scope::<A>(host, path);
    if scope.source.is_empty() || scope.destination.is_empty() {
        return Ok(());
    }
    let mut steps = Vec::new();
    for row in A::rows(&way.table) {
        let part = step(row, way.outcome(row.decision), path, &scope, &mut steps, draft);
        let Some(part) = part else { continue };
        // What is said of it narrows it to what others leave of it, and they accept that too.
        let whole = Matches { cube: part.step.cube.clone(), conditions: known(path) };
        let all = parts(A::rows(&way.table), &whole, budget)?;
        let accepts = |row: Option<usize>| row.is_some_and(|row| way.outcome(A::rows(&way.table)[row].decision).fate.accepts());
        if all.iter().all(|part| accepts(part.row)) {
            steps.push(part.step);
            continue;
        }
        steps.extend(part.named.iter().map(|name| Step { via: Some(*name), cube: part.step.cube.clone(), from: part.step.from.clone(), ..part.step }));
        for unsaid in part.unsaid {
            let from: Vec<Option<usize>> = if part.step.from.is_empty() { vec![None] } else { part.step.from.iter().copied().map(Some).collect() };
            draft.left_out.extend(from.into_iter().map(|rule| (rule, format!("not opened, since a policy can't ask for this: {unsaid}"))));
        }
    }
    let (own, _) = sides(path);
    let matches = |cube: Cube<A>, via: Option<u128>| {
        let interfaces = via.map_or_else(foreign, IntervalSet::single);
        Matches { cube, conditions: Conditions::default().and(own.clone(), &interfaces).expect("some interface") }
    };
    let rows: Vec<Row<A, usize>> =
        steps.iter().enumerate().map(|(at, step)| Row { matches: matches(step.cube.clone(), step.via), decision: at }).collect();
    let mut decided: Vec<Vec<Matches<A>>> = steps.iter().map(|_| Vec::new()).collect();
    for part in parts(&rows, &matches(scope.clone(), None), budget)? {
        if let Some(row) = part.row {
            decided[row].push(part.matches);
        }
    }
    let mut allowed: Vec<Matches<A>> = Vec::new();
    for (step, _) in steps.iter().zip(&decided).filter(|(step, decided)| step.accepts && !decided.is_empty()) {
        if is_built_in(&step.cube.upper, A::FAMILY) {
            draft.built_in.extend(&step.from);
            continue;
        }
        let Some(cube) = narrowed(step, &scope, host) else { continue };
        allowed.push(matches(cube.clone(), step.via));
        draft.rules.push(rule(cube, step.via, path, true, &step.from));
    }
    let many = A::of(&receivable(None)).difference(A::of(&host.addresses));
    let is_for_many = |packets: &Matches<A>| !packets.cube.destination.is_disjoint(&many);
    // What is sent to many needs no deny where nothing of it is allowed.
    let is_own = path == Path::Input && !allowed.iter().any(is_for_many);
    let denied = |mut cube: Cube<A>, via, from: &BTreeSet<usize>| {
        if is_own {
            cube.destination = cube.destination.difference(&many);
        }
        (!cube.destination.is_empty()).then(|| rule(cube, via, path, false, from))
    };
    for (step, decided) in steps.iter().zip(&decided).filter(|(step, _)| !step.accepts) {
        budget.spend((decided.len() * allowed.len()) as u64)?;
        let needed: Vec<&Matches<A>> = decided.iter().filter(|refused| allowed.iter().any(|allowed| !allowed.is_disjoint(refused))).collect();
        if needed.is_empty() {
            continue;
        }
        let whole = matches(step.cube.clone(), step.via);
        let all = parts(&rows, &whole, budget)?;
        if all.iter().all(|part| part.row.is_none_or(|row| !steps[row].accepts)) {
            draft.rules.extend(denied(step.cube.clone(), step.via, &step.from));
            continue;
        }
        for refused in needed {
            let only = refused.conditions.values(&own).and_then(IntervalSet::only);
            draft.rules.extend(denied(refused.cube.clone(), only, &step.from));
        }
    }
    Ok(())
}

/// What an allow says of a step: a rule for everybody's packets to the machine is about its own addresses.
fn narrowed<A: Set>(step: &Step<A>, scope: &Cube<A>, host: &Host) -> Option<Cube<A>> {
    let mut cube = step.cube.clone();
    if cube.destination == scope.destination {
        let own = cube.destination.intersection(A::of(&host.addresses));
        if !own.is_empty() {
            cube.destination = own;
        }
    }
    (!cube.destination.is_empty()).then_some(cube)
}

fn rule<A: Set>(cube: Cube<A>, via: Option<u128>, path: Path, allows: bool, from: &BTreeSet<usize>) -> Rule {
    let name = |value: u128| {
        let bytes = value.to_be_bytes();
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    };
    Rule {
        allows,
        path,
        source: A::set(cube.source),
        destination: A::set(cube.destination),
        uppers: vec![cube.upper],
        via: via.map(name),
        from: from.clone(),
    }
}

/// An accepting row of which a policy can't say all that it asks.
struct PartOf<A> {
    /// As if it asked for no more than what can be said.
    step: Step<A>,
    /// Interfaces on which that is all.
    named: Vec<u128>,
    unsaid: Vec<String>,
}

/// A row as steps: more than one when it names several interfaces, none when it is about no new
/// connection with others. What refuses packets is taken for more than it is, if need be.
fn step<A: Rows + Set>(
    row: &Row<A, usize>,
    outcome: &Outcome,
    path: Path,
    scope: &Cube<A>,
    steps: &mut Vec<Step<A>>,
    draft: &mut Draft,
) -> Option<PartOf<A>> {
    let cube = row.matches.cube.intersection(scope)?;
    let from: BTreeSet<usize> = outcome.told().iter().filter_map(|by| by.rule).collect();
    let accepts = outcome.fate.accepts();
    let (own, other) = sides(path);
    let mut unsaid = Vec::new();
    let mut interfaces = foreign();
    for (variable, values) in row.matches.conditions.iter() {
        if *variable == Variable::State {
            // Only new connections are a matter of policy: what follows them is let through, what
            // conntrack finds invalid is not.
            if !values.contains(State::New.values().first()) {
                draft.built_in.extend(&from);
                return None;
            }
        } else if *variable == other {
            if !values.contains(0) {
                return None;
            }
        } else if *variable == own {
            interfaces = interfaces.intersection(values);
        } else {
            unsaid.push(conditions::text(variable, values, A::FAMILY));
        }
    }
    if interfaces.is_empty() {
        draft.built_in.extend(&from);
        return None;
    }
    if let Fate::Elsewhere(_) = outcome.fate {
        unsaid.push("where it goes".into());
    }
    let step = |via| Step { cube: cube.clone(), via, accepts, from: from.clone() };
    let is_whole = interfaces == foreign();
    let singles = interfaces.intervals().iter().filter(|interval| interval.is_single() && is_plain(interval.first()));
    let mut named: Vec<u128> = if is_whole { Vec::new() } else { singles.map(|interval| interval.first()).collect() };
    named.truncate(INTERFACES);
    let is_named = named.len() == interfaces.intervals().len();
    if !accepts {
        let lost = unsaid.iter().map(|unsaid| format!("closed whatever it is, since a policy can't ask for this: {unsaid}"));
        draft.left_out.extend(from.iter().flat_map(|rule| lost.clone().map(|lost| (Some(*rule), lost))));
        match is_named {
            true => steps.extend(named.into_iter().map(|name| step(Some(name)))),
            false => steps.push(step(None)),
        }
        return None;
    }
    match (unsaid.is_empty(), is_whole, is_named) {
        (true, true, _) => steps.push(step(None)),
        (true, _, true) => steps.extend(named.into_iter().map(|name| step(Some(name)))),
        (is_said, ..) => {
            if !is_whole && !is_named {
                unsaid.push(conditions::text(&own, &interfaces.union(&foreign().complement()), A::FAMILY));
            }
            let named = if is_said { named } else { Vec::new() };
            return Some(PartOf { step: step(None), named, unsaid });
        }
    }
    None
}

/// What all packets have that a policy speaks of.
pub(super) fn known(path: Path) -> Conditions {
    let new = on_the_way(path).and(Variable::State, &State::New.values().into()).expect("two variables");
    new.and(sides(path).0, &foreign()).expect("some interface")
}

/// Whether a policy can name it: letters, digits and `. _ -`.
fn is_plain(value: u128) -> bool {
    let bytes = value.to_be_bytes();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let name = std::str::from_utf8(&bytes[..end]).unwrap_or_default();
    bytes[end..].iter().all(|byte| *byte == 0) && ringwall_policy::Name::new(name).is_some()
}

/// Neighbour discovery and multicast listeners (RFC 4890 §4.4.1): the floor opens these as far as IPv6
/// needs them.
fn is_built_in(upper: &UpperCube, family: Family) -> bool {
    const TYPES: [u8; 8] = [130, 131, 132, 133, 134, 135, 136, 143];
    if upper.protocols().only() != Some(Protocol::ICMPV6.0) || family != Family::V6 {
        return false;
    }
    let types: IntervalSet<u16> = TYPES.iter().flat_map(|kind| UpperCube::icmp(Family::V6, *kind, None).destination_ports().intervals().to_vec()).collect();
    upper.destination_ports().is_subset(&types)
}

