//! The rows of a way, family by family -> allows, and the denies that they need.

use std::collections::BTreeSet;

use ringwall_packet::{
    AddressSet, Budget, Conditions, Cube, Exhausted, Family, IntervalSet, Matches, Row, State, UpperCube, Variable, interface, parts,
};
use ringwall_policy::receivable;
use ringwall_ruleset::Path;
use ringwall_ruleset::filter::Filter;

use super::proof::Set;
use super::{Draft, Host, Rule};
use crate::ruleset::way::{Fate, Outcome, Rows, Way, for_itself, on_the_way};
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

/// Packets that a policy speaks of: some of those between the machine and others.
pub(super) struct Scope {
    pub path: Path,
    source: AddressSet,
    destination: AddressSet,
    /// What all of them have.
    pub given: Conditions,
    /// They come in for multicast and broadcast addresses.
    pub is_for_many: bool,
}

impl Scope {
    pub fn cube<A: Set>(&self) -> Cube<A> {
        Cube { source: A::of(&self.source).clone(), destination: A::of(&self.destination).clone(), ..Cube::any() }
    }

    /// In for its own addresses, in for many, and out.
    pub fn all(filter: &Filter, host: &Host) -> Vec<Self> {
        let own = &host.addresses;
        let (others, many) = (own.complement(), receivable(None).difference(own));
        let given = |path| {
            let new = on_the_way(path).and(Variable::State, &State::New.values().into()).expect("two variables");
            new.and(sides(path).0, &foreign()).expect("some interface")
        };
        let for_itself = given(Path::Input).intersection(&for_itself(filter)).expect("other variables");
        vec![
            Self { path: Path::Input, source: others.clone(), destination: own.clone(), given: for_itself, is_for_many: false },
            Self { path: Path::Input, source: others.clone(), destination: many, given: given(Path::Input), is_for_many: true },
            Self { path: Path::Output, source: own.clone(), destination: others, given: given(Path::Output), is_for_many: false },
        ]
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

/// Adds the rules for packets of a family.
pub(super) fn rules<A: Rows + Set>(way: &Way, scope: &Scope, is_loose: bool, draft: &mut Draft, budget: &mut Budget) -> Result<(), Exhausted> {
    let path = scope.path;
    let whole = scope.cube::<A>();
    if whole.source.is_empty() || whole.destination.is_empty() {
        return Ok(());
    }
    let mut steps = Vec::new();
    for row in A::rows(&way.table) {
        let whole = whole_protocols(row, way, budget)?;
        let row = whole.as_ref().unwrap_or(row);
        let part = step(row, way.outcome(row.decision), scope, is_loose, &mut steps, draft);
        let Some(part) = part else { continue };
        // What is said of it narrows it to what others leave of it, and they accept that too.
        let packets = Matches { cube: part.step.cube.clone(), conditions: scope.given.clone() };
        let all = parts(A::rows(&way.table), &packets, budget)?;
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
    for part in parts(&rows, &matches(whole, None), budget)? {
        if let Some(row) = part.row {
            decided[row].push(part.matches);
        }
    }
    let mut allowed: Vec<Matches<A>> = Vec::new();
    for (step, _) in steps.iter().zip(&decided).filter(|(step, decided)| step.accepts && !decided.is_empty()) {
        if is_built_in(&step.cube.upper, A::FAMILY, path) {
            draft.built_in.extend(&step.from);
            continue;
        }
        // A rule for whatever comes in is not about what is sent to many.
        if scope.is_for_many && A::of(&scope.destination).is_subset(&step.cube.destination) {
            continue;
        }
        allowed.push(matches(step.cube.clone(), step.via));
        draft.rules.push(rule(step.cube.clone(), step.via, path, true, &step.from));
    }
    for (step, decided) in steps.iter().zip(&decided).filter(|(step, _)| !step.accepts) {
        budget.spend((decided.len() * allowed.len()) as u64)?;
        let needed: Vec<&Matches<A>> = decided.iter().filter(|refused| allowed.iter().any(|allowed| !allowed.is_disjoint(refused))).collect();
        if needed.is_empty() {
            continue;
        }
        let whole = matches(step.cube.clone(), step.via);
        let all = parts(&rows, &whole, budget)?;
        if all.iter().all(|part| part.row.is_none_or(|row| !steps[row].accepts)) {
            draft.rules.push(rule(step.cube.clone(), step.via, path, false, &step.from));
            continue;
        }
        for refused in needed {
            let only = refused.conditions.values(&own).and_then(IntervalSet::only);
            draft.rules.push(rule(refused.cube.clone(), only, path, false, &step.from));
        }
    }
    Ok(())
}

/// The row for all protocols, where others accept what it does not say: it then stands as it was meant.
fn whole_protocols<A: Rows>(row: &Row<A, usize>, way: &Way, budget: &mut Budget) -> Result<Option<Row<A, usize>>, Exhausted> {
    let upper = &row.matches.cube.upper;
    let is_cut = upper.protocols().intervals().len() > 1 && upper.destination_ports().is_full() && upper.source_ports().is_full();
    if !is_cut || !way.outcome(row.decision).fate.accepts() {
        return Ok(None);
    }
    let mut matches = row.matches.clone();
    matches.cube.upper = UpperCube::any();
    let rows = A::rows(&way.table);
    let accepts = |row: Option<usize>| row.is_some_and(|row| way.outcome(rows[row].decision).fate.accepts());
    let is_accepted = parts(rows, &matches, budget)?.iter().all(|part| accepts(part.row));
    Ok(is_accepted.then(|| Row { matches, decision: row.decision }))
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
    scope: &Scope,
    is_loose: bool,
    steps: &mut Vec<Step<A>>,
    draft: &mut Draft,
) -> Option<PartOf<A>> {
    let path = scope.path;
    let cube = row.matches.cube.intersection(&scope.cube())?;
    let from: BTreeSet<usize> = outcome.told().iter().filter_map(|by| by.rule).collect();
    let accepts = outcome.fate.accepts();
    let (own, _) = sides(path);
    let mut unsaid = Vec::new();
    let mut interfaces = foreign();
    for (variable, values) in row.matches.conditions.iter() {
        let given = scope.given.values(variable);
        if given.is_some_and(|given| given.is_disjoint(values)) && *variable != Variable::State && *variable != own {
            return None;
        }
        if *variable == Variable::State {
            // Only new connections are a matter of policy: what follows them is let through, what
            // conntrack finds invalid is not.
            if !values.contains(State::New.values().first()) {
                draft.built_in.extend(&from);
                return None;
            }
        } else if *variable == own {
            interfaces = interfaces.intersection(values);
        } else if given.is_none_or(|given| !given.is_subset(values)) {
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
    if accepts && is_built_in(&cube.upper, A::FAMILY, path) && unsaid.iter().all(|unsaid| unsaid.starts_with("ip6 hoplimit 255")) {
        draft.built_in.extend(&from);
        return None;
    }
    if !accepts && is_loose && !unsaid.is_empty() {
        let lost = unsaid.iter().map(|unsaid| format!("not closed, since a policy can't ask for this: {unsaid}"));
        draft.left_out.extend(from.iter().flat_map(|rule| lost.clone().map(|lost| (Some(*rule), lost))));
        return None;
    }
    if !accepts {
        // What is sent to many is closed but for what rules name.
        unsaid.retain(|_| !scope.is_for_many);
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

/// Whether a policy can name it: letters, digits and `. _ -`.
fn is_plain(value: u128) -> bool {
    let bytes = value.to_be_bytes();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let name = std::str::from_utf8(&bytes[..end]).unwrap_or_default();
    bytes[end..].iter().all(|byte| *byte == 0) && ringwall_policy::Name::new(name).is_some()
}

/// Neighbour discovery, multicast listeners and the DHCP client: the floor opens these.
fn is_built_in(upper: &UpperCube, family: Family, path: Path) -> bool {
    super::proof::floor(family, path).iter().any(|(_, uppers, _)| {
        let ports: IntervalSet<u16> = uppers.iter().flat_map(|floor| floor.destination_ports().intervals().to_vec()).collect();
        let is_one = |floor: &UpperCube| upper.protocols() == floor.protocols() && upper.source_ports().is_subset(floor.source_ports());
        uppers.first().is_some_and(is_one) && upper.destination_ports().is_subset(&ports)
    })
}
