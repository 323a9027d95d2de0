//! Whether flows are allowed: `can`.
//!
//! In: a policy, its table and a question. Out: yes, no or partly, over all flows; what decides which
//! of them, what each node on the way makes of them, and what would have to change for a yes. Never:
//! an answer for some of the flows in the name of all.

use std::collections::BTreeSet;

use ringwall_packet::{
    Address, AddressSet, Budget, Conditions, Exhausted, Family, IntervalSet, Matches, Protocol, Table, UpperCube,
    UpperSet, Variable, Witness,
};
use ringwall_policy::{Action, Decider, Name, Node, Policy, Question, Rule, ServiceUse, Stage, Verdict, receivable, uses_interface};
use ringwall_ruleset::Path;

use crate::question::{Piece, decided, disjoint, is_answered};
use crate::words::Packets;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Every flow of the question is accepted.
    Yes,
    /// No flow is.
    No,
    Partly,
    /// There is no such flow: an end is empty, or the two have no family in common.
    Nothing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Can {
    pub answer: Answer,
    /// In order of precedence; together they are all flows of the question.
    pub parts: Vec<Part>,
    /// What would make it a yes; `None` when it is one.
    pub opening: Option<Opening>,
    /// What the floor of each node accepts of the rest besides.
    pub floor: BTreeSet<&'static str>,
    /// Nodes that some of the flows that are not accepted would not leave: no policy is about these.
    pub to_themselves: Vec<Name>,
}

/// Flows that one thing decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub decider: Decider,
    pub verdict: Verdict,
    pub packets: Packets,
    pub witness: Witness,
    /// Where they meet a node, by path, then by name.
    pub points: Vec<Point>,
    /// Sources that are no node's: nothing is enforced there.
    pub foreign_sources: AddressSet,
    /// Destinations that are no node's.
    pub foreign_destinations: AddressSet,
    /// Not accepted, and yet no node that enforces sees them.
    pub unenforced: Packets,
}

/// One node on the way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    pub path: Path,
    pub node: Name,
    pub verdict: Verdict,
    /// The node only counts and logs what it would drop.
    pub watches: bool,
}

/// The smallest change that makes it a yes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// Rules that stand in the way, by their place in the policy.
    pub denies: Vec<usize>,
    /// Allows that would open some of it, but have expired.
    pub expired: Vec<usize>,
    /// Allows that would open some of it, but are audited.
    pub audited: Vec<usize>,
    /// Allows that open some of it on their own interface alone.
    pub by_interface: Vec<usize>,
    /// What none of these would open: it takes a rule of its own.
    pub missing: Packets,
}

/// Answers a question. `table` is the policy's at `now`.
pub fn can(
    policy: &Policy,
    table: &Table<Decider>,
    question: &Question,
    now: u64,
    budget: &mut Budget,
) -> Result<Can, Exhausted> {
    let way = Way::new(policy);
    let (mut parts, mut closed) = (Vec::new(), Packets::default());
    for piece in decided(policy, table, &disjoint(&question.packets()), budget)? {
        if policy.verdict(piece.decider) != Verdict::Accept {
            closed.extend(&piece.packets);
        }
        let other = piece.packets.one_outside(&way.to_itself, budget)?;
        parts.extend(other.map(|witness| way.part(piece, witness)));
   }
    let accepts = |part: &Part| part.verdict == Verdict::Accept;
    let answer = match (parts.iter().any(accepts), parts.iter().all(accepts)) {
        _ if parts.is_empty() => Answer::Nothing,
        (_, true) => Answer::Yes,
        (false, _) => Answer::No,
        (true, false) => Answer::Partly,
    };
    let opening = match answer {
        Answer::Yes | Answer::Nothing => None,
        Answer::No | Answer::Partly => Some(opening(policy, &parts, &closed, now, budget)?),
    };
    let to_itself = |node: &&Node| {
        let local = node.local();
        !closed.within(&all(&local, &local)).is_empty()
    };
    let to_themselves = policy.nodes.values().filter(to_itself).map(|node| node.name.clone()).collect();
    Ok(Can { answer, parts, opening, floor: floor(policy, &closed), to_themselves })
}

impl Opening {
    /// The question of what is missing: with those of its services that are not open yet.
    pub fn rest(&self, question: &Question) -> Question {
        let is_missing = |service: &ServiceUse| {
            let only = Question { services: vec![service.clone()], ..question.clone() };
            !self.missing.within(&only.packets()).is_empty()
        };
        let services = question.services.iter().filter(|service| is_missing(service)).cloned().collect();
        Question { services, ..question.clone() }
    }
}

/// All packets from one set of addresses to another.
fn all(source: &AddressSet, destination: &AddressSet) -> Table<()> {
    let mut table = Table::default();
    table.push(source, destination, &UpperSet::any(), &Conditions::default(), ());
    table
}

fn opening(
    policy: &Policy,
    parts: &[Part],
    closed: &Packets,
    now: u64,
    budget: &mut Budget,
) -> Result<Opening, Exhausted> {
    let mut opening = Opening::default();
    let mut allows = Table::default();
    for (index, rule) in policy.rules.iter().enumerate() {
        let mut rows = Table::default();
        rule.push(&mut rows, ());
        let is_there = rule.stage == Stage::Enforce && !rule.is_expired(now);
        let concerns = |rows: &Table<()>| !closed.within(rows).is_empty();
        match rule.action {
            Action::Deny if is_there && concerns(&rows) => opening.denies.push(index),
            Action::Allow if is_there => {
                if rule.via.is_some() {
                    rows = without_interface(rule);
                    opening.by_interface.extend(concerns(&rows).then_some(index));
                }
                allows.v4.extend(rows.v4);
                allows.v6.extend(rows.v6);
            }
            Action::Allow if concerns(&rows) => {
                if rule.is_expired(now) { &mut opening.expired } else { &mut opening.audited }.push(index);
                allows.v4.extend(rows.v4);
                allows.v6.extend(rows.v6);
            }
            Action::Allow | Action::Deny => {}
        }
    }
    for part in parts.iter().filter(|part| part.verdict != Verdict::Accept) {
        opening.missing.extend(&part.packets.without(&allows, budget)?);
    }
    Ok(opening)
}

fn without_interface(rule: &Rule) -> Table<()> {
    let mut rows = Table::default();
    Rule { via: None, ..rule.clone() }.push(&mut rows, ());
    rows
}

/// What packets meet between their ends.
struct Way<'a> {
    policy: &'a Policy,
    nodes: Vec<OnTheWay<'a>>,
    /// Every node's own addresses.
    local: AddressSet,
    /// What meets no node that enforces.
    unseen: Table<()>,
    /// From a node to itself, for each.
    to_itself: Table<()>,
}

struct OnTheWay<'a> {
    node: &'a Node,
    own: AddressSet,
    received: AddressSet,
    /// Names of interfaces that rules ask for and the node does not have.
    lacks: Vec<Variable>,
}

impl<'a> Way<'a> {
    fn new(policy: &'a Policy) -> Self {
        let asked: BTreeSet<&Name> = policy.rules.iter().filter_map(|rule| rule.via.as_ref()).collect();
        let many = receivable(policy.internal.as_ref());
        let of = |node: &'a Node| {
            let own = node.local();
            let lacks = asked.iter().filter(|via| !node.interfaces.contains_key(**via));
            let lacks = lacks.map(|via| uses_interface(via.as_str())).collect();
            OnTheWay { node, received: own.union(&many), own, lacks }
        };
        let nodes: Vec<OnTheWay<'a>> = policy.nodes.values().map(of).collect();
        let enforcing = || nodes.iter().filter(|on| on.node.stage == Stage::Enforce);
        let enforced: AddressSet = enforcing().map(|on| on.own.union(&on.node.routes)).collect();
        // What is sent to many is judged by each that receives it.
        let unseen_destinations = if enforcing().next().is_some() { enforced.union(&many) } else { enforced.clone() }.complement();
        let unseen = all(&enforced.complement(), &unseen_destinations);
        let mut to_itself = Table::default();
        for on in &nodes {
            to_itself.push(&on.own, &on.own, &UpperSet::any(), &Conditions::default(), ());
        }
        Self { policy, local: nodes.iter().map(|on| on.own.clone()).collect(), nodes, unseen, to_itself }
    }

    fn part(&self, piece: Piece, witness: Witness) -> Part {
        let Piece { decider, packets } = piece;
        let verdict = self.policy.verdict(decider);
        let mut points: Vec<Point> = self.nodes.iter().flat_map(|on| on.points(&packets, verdict)).collect();
        points.sort();
        Part {
            decider,
            verdict,
            witness,
            points,
            foreign_sources: packets.sources().difference(&self.local),
            foreign_destinations: packets.destinations().difference(&self.local),
            unenforced: if verdict == Verdict::Accept { Packets::default() } else { packets.within(&self.unseen) },
            packets,
        }
    }
}

impl OnTheWay<'_> {
    /// What the node makes of the packets that it sees, if it sees any.
    fn points(&self, packets: &Packets, verdict: Verdict) -> BTreeSet<Point> {
        let Self { node, own, received, .. } = self;
        let foreign = own.complement();
        let routed = node.routes.difference(own);
        let ways = [
            (Path::Input, all(&foreign, received)),
            (Path::Output, all(own, &foreign)),
            (Path::Forward, all(&routed, &foreign)),
            (Path::Forward, all(&foreign, &routed)),
        ];
        // Who asks for a DNS name knows its answers: the source, and the router in front of it.
        let asks = [false, true, true, false];
        let seen = |rows: &Table<()>, asks: bool| {
            let packets = packets.within(rows);
            packets.v4.iter().any(|packets| self.is_possible(packets, asks))
                || packets.v6.iter().any(|packets| self.is_possible(packets, asks))
        };
        let point = |path| {
            // What is told at once is the node's own program.
            let verdict = if path == Path::Output && verdict == Verdict::Drop { Verdict::Reject } else { verdict };
            Point { path, node: node.name.clone(), verdict, watches: node.stage == Stage::Audit }
        };
        let ways = ways.iter().zip(asks).filter(|((_, rows), asks)| seen(rows, *asks));
        ways.map(|((path, _), _)| point(*path)).collect()
    }

    /// Whether packets can be what they are said to be here: none uses an interface that the node
    /// does not have, and only who `asks` takes a destination for an answer.
    fn is_possible<A: Address>(&self, packets: &Matches<A>, asks: bool) -> bool {
        let may_fail = |variable: &Variable| packets.conditions.values(variable).is_none_or(|values| values.contains(0));
        self.lacks.iter().all(may_fail) && (asks || !is_answered(packets))
    }
}

/// Parts of the floor that are more than addresses and ports, of which some of these packets may be:
/// not on the way through a router, and where more holds that a policy does not know of.
fn floor(policy: &Policy, packets: &Packets) -> BTreeSet<&'static str> {
    let udp = |from: u16, to: u16| {
        let cube = UpperCube::ports(Protocol::UDP, IntervalSet::single(to)).expect("a protocol with ports");
        cube.with_source_ports(&IntervalSet::single(from)).expect("a protocol with ports")
    };
    let types = |types: &[u8]| types.iter().map(|kind| UpperCube::icmp(Family::V6, *kind, None)).collect::<Vec<_>>();
    let mut items: Vec<(&'static str, Vec<UpperCube>)> = Vec::new();
    if !policy.floor.without_dhcp {
        items.push(("dhcp", vec![udp(67, 68), udp(68, 67), udp(546, 547), udp(547, 546)]));
    }
    if !policy.floor.without_neighbour_discovery {
        items.push(("neighbour-discovery", types(&[133, 134, 135, 136])));
    }
    if !policy.floor.without_multicast_listener {
        let mut cubes = types(&[130, 131, 132, 143]);
        cubes.push(UpperCube::protocol(Protocol::IGMP));
        items.push(("multicast-listener", cubes));
    }
    let any = AddressSet::full();
    let nodes = policy.node_addresses().union(&receivable(policy.internal.as_ref()));
    let concerns = |cubes: Vec<UpperCube>| {
        let (upper, mut rows): (UpperSet, _) = (cubes.into_iter().collect(), Table::default());
        rows.push(&any, &nodes, &upper, &Conditions::default(), ());
        rows.push(&nodes, &any, &upper, &Conditions::default(), ());
        !packets.within(&rows).is_empty()
    };
    items.into_iter().filter_map(|(name, cubes)| concerns(cubes).then_some(name)).collect()
}
