//! What changes from one policy to another: every flow that is opened or closed, and all else that
//! differs.
//!
//! In: two resolved policies, the time, a function that names ports. Out: the complete difference in
//! the operator's words, or [`Exhausted`]. Never: a difference of form; the same policy in other
//! words, files or order has none.

mod others;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ringwall_packet::{Address, AddressSet, Budget, Change, Exhausted, IntervalSet, Matches, Row, Table};
use ringwall_policy::{Decider, Node, Policy, Rule, Verdict};

use crate::words::{Line, NameOf, Packets, Tags, Words};

pub use others::{About, Floor, Other, floor};

/// The complete difference of two policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Accepted afterwards, and not before.
    pub opened: Vec<Flows>,
    /// Accepted before, and not afterwards.
    pub closed: Vec<Flows>,
    /// Neither, but treated otherwise.
    pub altered: Vec<Altered>,
    /// Whatever is no matter of flows: nodes, the floor, rules.
    pub others: Vec<Other>,
    /// Flows that can't pass the node differ, too.
    pub elsewhere: bool,
}

/// Flows, and what decides them on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flows {
    pub line: Line,
    /// The rules that decide them before, and afterwards.
    pub before: Vec<By>,
    pub after: Vec<By>,
}

/// What decides flows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    Management,
    /// Its id, and `file:line`.
    Rule { id: String, place: String },
    /// No rule allows it.
    Default,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Management => f.write_str("management"),
            Self::Rule { id, place } if place.is_empty() => f.write_str(id),
            Self::Rule { id, place } => write!(f, "{id} ({place})"),
            Self::Default => f.write_str("no rule"),
        }
    }
}

/// What is done with flows otherwise, such as `session timeout 60s -> 14400s`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Altered {
    pub how: Vec<String>,
    pub flows: Vec<Flows>,
}

impl Plan {
    /// Whether the two policies do the same; a rule's other name is a difference too.
    pub fn is_empty(&self) -> bool {
        self.opened.is_empty() && self.closed.is_empty() && self.altered.is_empty() && self.others.is_empty()
    }
}

/// What a decision is beside who makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Treatment {
    verdict: Verdict,
    session_timeout: Option<u32>,
    log: bool,
}

impl Treatment {
    fn of(policy: Option<&Policy>, decider: Decider) -> Self {
        let plain = |verdict| Self { verdict, session_timeout: None, log: false };
        match (decider, policy) {
            (Decider::Management, _) => plain(Verdict::Accept),
            (Decider::Rule(index), Some(policy)) => {
                let rule = &policy.rules[index];
                Self { verdict: rule.verdict(), session_timeout: rule.session_timeout, log: rule.log }
            }
            (Decider::Default | Decider::Rule(_), _) => plain(Verdict::Drop),
        }
    }

    fn accepts(self) -> bool {
        self.verdict == Verdict::Accept
    }

    fn differs(self, after: Self) -> Vec<String> {
        let mut how = Vec::new();
        if self.verdict != after.verdict {
            how.push(format!("{} -> {}", word(self.verdict), word(after.verdict)));
        }
        if self.session_timeout != after.session_timeout {
            let text = |timeout: Option<u32>| timeout.map_or("the kernel's".to_owned(), |seconds| format!("{seconds}s"));
            how.push(format!("session timeout {} -> {}", text(self.session_timeout), text(after.session_timeout)));
        }
        if self.log != after.log {
            how.push(if after.log { "logged" } else { "no longer logged" }.to_owned());
        }
        how
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Accept => "accepted",
        Verdict::Drop => "dropped",
        Verdict::Reject => "rejected",
    }
}

/// From `before` to `after`, at a time in seconds since the epoch. Without `before` nothing is known
/// of the flows' fate, and all that are accepted afterwards count as opened.
///
/// With a node, only what can pass it: flows from and to its addresses and the prefixes that it routes.
pub fn plan(
    before: Option<&Policy>,
    after: &Policy,
    now: u64,
    node: Option<&str>,
    name_of: &NameOf<'_>,
    budget: &mut Budget,
) -> Result<Plan, Exhausted> {
    let nothing = || {
        let mut table = Table::default();
        table.otherwise(Decider::Default);
        table
    };
    let tables = (before.map_or_else(nothing, |policy| policy.table(now)), after.table(now));
    let renamed = rules::renamed(before, after);
    let same = |one: Option<&Decider>, other: Option<&Decider>| {
        let (Some(one), Some(other)) = (one, other) else { return one.is_none() && other.is_none() };
        let treatments = (Treatment::of(before, *one), Treatment::of(Some(after), *other));
        // Whom no counter and no log names may change at will.
        treatments.0 == treatments.1 && (!treatments.0.accepts() || is_same_rule(before, after, &renamed, *one, *other))
    };
    let difference = tables.0.difference(&tables.1, same, budget)?;
    let scope = node.map(|name| passing(before.and_then(|policy| policy.nodes.get(name)), after.nodes.get(name)));
    let mut sorted = Sorted::default();
    sorted.sort(&tables.0.v4, &tables.1.v4, &difference.v4, scope.as_ref().map(|scope| &scope.v4));
    sorted.sort(&tables.0.v6, &tables.1.v6, &difference.v6, scope.as_ref().map(|scope| &scope.v6));
    // Also of flows that can't pass the node: what is new or gone of these rules needs no other word.
    let rules = |of: fn(&(Decider, Decider)) -> Decider| -> BTreeSet<usize> {
        let index = |deciders| if let Decider::Rule(index) = of(deciders) { Some(index) } else { None };
        sorted.deciders.iter().filter_map(index).collect()
    };
    let told = (rules(|deciders| deciders.0), rules(|deciders| deciders.1));
    let mut plan = Plan { elsewhere: sorted.elsewhere, ..Plan::default() };
    let scope = scope.as_ref();
    let to = Side { policy: Some(after), table: &tables.1, words: Words::new(after, name_of), scope };
    let from = Side { policy: before, table: &tables.0, words: Words::new(before.unwrap_or(after), name_of), scope };
    let mut treated: BTreeMap<(Treatment, Treatment), Group> = BTreeMap::new();
    let mut closed = Group::default();
    let mut opened = Group::default();
    let mut taken: BTreeSet<(By, By)> = BTreeSet::new();
    for (deciders, packets) in sorted.groups {
        let treatments = (Treatment::of(before, deciders.0), Treatment::of(Some(after), deciders.1));
        let group = match (treatments.0.accepts(), treatments.1.accepts()) {
            (false, true) => &mut opened,
            (true, false) => &mut closed,
            _ if treatments.0 == treatments.1 => {
                taken.insert((from.by(deciders.0), to.by(deciders.1)));
                continue;
            }
            _ => treated.entry(treatments).or_default(),
        };
        group.add(deciders, packets);
    }
    plan.opened = opened.flows(&to, &from, &to);
    plan.closed = closed.flows(&from, &from, &to);
    for ((one, other), group) in treated {
        plan.altered.push(Altered { how: one.differs(other), flows: group.flows(&to, &from, &to) });
    }
    plan.others = others::others(before, after, node, &from.words, &to.words);
    let concerns = |rule: &Rule| scope.is_none_or(|scope| touches(rule, scope));
    plan.others.extend(rules::others(before, after, &renamed, now, &told, concerns));
    let ids = |policy: &Policy| -> BTreeSet<String> { policy.rules.iter().map(|rule| rule.id.to_string()).collect() };
    let (old, new) = (before.map(ids).unwrap_or_default(), ids(after));
    for (one, other) in taken {
        let (By::Rule { id, .. }, By::Rule { id: next, .. }) = (&one, &other) else { continue };
        let text = if !new.contains(id) && !old.contains(next) {
            format!("takes the place of {one}")
        } else {
            format!("now decides flows that {one} decided, and does the same with them")
        };
        plan.others.push(Other { about: About::Rule, name: other.to_string(), before: None, after: Some(text) });
    }
    Ok(plan)
}

/// Whether the rule speaks of some of these addresses.
fn touches(rule: &Rule, addresses: &AddressSet) -> bool {
    let mut ends = rule.directions().flat_map(|(source, destination)| [source, destination]);
    ends.any(|end| !end.addresses.is_disjoint(addresses))
}

fn is_same_rule(before: Option<&Policy>, after: &Policy, renamed: &BTreeMap<usize, usize>, one: Decider, other: Decider) -> bool {
    match (one, other, before) {
        (Decider::Rule(one), Decider::Rule(other), Some(before)) => {
            before.rules[one].id == after.rules[other].id || renamed.get(&one) == Some(&other)
        }
        (one, other, _) => one == other,
    }
}

/// Addresses that a node's packets come from or go to, before and afterwards.
fn passing(before: Option<&Node>, after: Option<&Node>) -> AddressSet {
    let nodes = before.into_iter().chain(after);
    nodes.flat_map(|node| [node.local(), node.routes.clone()]).collect()
}

/// The difference by what decides on both sides.
#[derive(Default)]
struct Sorted {
    groups: BTreeMap<(Decider, Decider), Packets>,
    /// Those of the whole difference.
    deciders: BTreeSet<(Decider, Decider)>,
    elsewhere: bool,
}

trait Boxes<A> {
    fn boxes(&mut self) -> &mut Vec<Matches<A>>;
}

impl Boxes<std::net::Ipv4Addr> for Packets {
    fn boxes(&mut self) -> &mut Vec<Matches<std::net::Ipv4Addr>> {
        &mut self.v4
    }
}

impl Boxes<std::net::Ipv6Addr> for Packets {
    fn boxes(&mut self) -> &mut Vec<Matches<std::net::Ipv6Addr>> {
        &mut self.v6
    }
}

impl Sorted {
    fn sort<A: Address>(
        &mut self,
        before: &[Row<A, Decider>],
        after: &[Row<A, Decider>],
        changes: &[Change<A>],
        scope: Option<&IntervalSet<A>>,
    ) where
        Packets: Boxes<A>,
    {
        let decider = |rows: &[Row<A, Decider>], row: Option<usize>| row.map_or(Decider::Default, |row| rows[row].decision);
        for change in changes {
            let deciders = (decider(before, change.before), decider(after, change.after));
            self.deciders.insert(deciders);
            let inside = within(change.matches.clone(), scope);
            let is_outside = |addresses: &IntervalSet<A>| scope.is_some_and(|scope| !addresses.is_subset(scope));
            self.elsewhere |= is_outside(&change.matches.cube.source) && is_outside(&change.matches.cube.destination);
            if !inside.is_empty() {
                self.groups.entry(deciders).or_default().boxes().extend(inside);
            }
        }
    }
}

/// The packets that come from some addresses or go to them; all of them without any.
fn within<A: Address>(packets: Matches<A>, addresses: Option<&IntervalSet<A>>) -> Vec<Matches<A>> {
    let Some(addresses) = addresses else { return vec![packets] };
    let part = |source, destination| {
        let mut part = packets.clone();
        (part.cube.source, part.cube.destination) = (source, destination);
        (!part.cube.source.is_empty() && !part.cube.destination.is_empty()).then_some(part)
    };
    let (source, destination) = (&packets.cube.source, &packets.cube.destination);
    let from = part(source.intersection(addresses), destination.clone());
    let to = part(source.difference(addresses), destination.intersection(addresses));
    from.into_iter().chain(to).collect()
}

/// One of the two policies.
struct Side<'a> {
    policy: Option<&'a Policy>,
    table: &'a Table<Decider>,
    words: Words<'a>,
    scope: Option<&'a AddressSet>,
}

impl Side<'_> {
    fn by(&self, decider: Decider) -> By {
        match (decider, self.policy) {
            (Decider::Management, _) => By::Management,
            (Decider::Rule(index), Some(policy)) => {
                let rule = &policy.rules[index];
                By::Rule { id: rule.id.to_string(), place: rule.origin.place.clone() }
            }
            (Decider::Default | Decider::Rule(_), _) => By::Default,
        }
    }
}

/// Packets that are said together, with who decides which of them.
#[derive(Default)]
struct Group {
    packets: Packets,
    tags: Tags,
    deciders: Vec<(Decider, Decider)>,
}

impl Group {
    fn add(&mut self, deciders: (Decider, Decider), packets: Packets) {
        let tag = self.deciders.len();
        self.deciders.push(deciders);
        self.tags.v4.extend(packets.v4.iter().map(|_| tag));
        self.tags.v6.extend(packets.v6.iter().map(|_| tag));
        self.packets.v4.extend(packets.v4);
        self.packets.v6.extend(packets.v6);
    }

    /// In the words of one side, with what decides on both.
    fn flows(&self, words: &Side<'_>, before: &Side<'_>, after: &Side<'_>) -> Vec<Flows> {
        let mut rows = Packets::default();
        for (side, is_after) in [(before, false), (after, true)] {
            let deciders: BTreeSet<Decider> =
                self.deciders.iter().map(|(one, other)| if is_after { *other } else { *one }).collect();
            let found = Packets::of_rows(side.table, |decider| *decider != Decider::Default && deciders.contains(decider));
            rows.v4.extend(found.v4.into_iter().flat_map(|row| within(row, side.scope.map(|scope| &scope.v4))));
            rows.v6.extend(found.v6.into_iter().flat_map(|row| within(row, side.scope.map(|scope| &scope.v6))));
        }
        let lines = words.words.lines_of(&self.packets, &self.tags, &rows);
        let by = |tags: &BTreeSet<usize>, of: &dyn Fn(&(Decider, Decider)) -> By| {
            let all: BTreeSet<By> = tags.iter().map(|tag| of(&self.deciders[*tag])).collect();
            all.into_iter().collect()
        };
        let flows = |(line, tags, _): (Line, BTreeSet<usize>, Packets)| Flows {
            line,
            before: by(&tags, &|deciders| before.by(deciders.0)),
            after: by(&tags, &|deciders| after.by(deciders.1)),
        };
        lines.into_iter().map(flows).collect()
    }
}
