//! What a [`Ruleset`] means, as tables: what the texts that are written are compared with.
//!
//! In: the neutral ruleset, what the target tells apart. Out: for each path an ordered, total table over all packets
//! and every conntrack state. Never: anything of a writer; this is the second statement of the same thing.
//!
//! The order is the policy language's: loopback, invalid, established and related, answers, the floor, untracked,
//! entries, default.

use std::collections::BTreeSet;

use ringwall_packet::{
    Address, AddressSet, Conditions, Family, Interval, IntervalSet, Matches, Point, Protocol, Row, State, Table, UpperCube,
    UpperSet, Variable, interface, truth,
};

use crate::meaning::{Path, Verdict};
use crate::model::{CLOCK_MIN, Effect, Entry, Forward, Ruleset};
use crate::nftables::{Generation, MARK_MASK, frame};

/// What becomes of a packet, and by which part of the ruleset. An audited entry decides nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Accepted before the entries are asked: loopback, the floor, what belongs to a connection or answers one.
    Passed,
    Invalid,
    Entry(Effect),
    Default(Path),
}

impl Outcome {
    /// Before the node's own stage is looked at.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Passed | Self::Entry(Effect::Accept { .. }) => Verdict::Accept,
            // A local program learns at once; a stranger learns nothing.
            Self::Default(Path::Output) | Self::Entry(Effect::Reject) => Verdict::Reject,
            Self::Invalid | Self::Entry(Effect::Drop) | Self::Default(_) => Verdict::Drop,
        }
    }
}

/// What a target's text tells apart.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    /// Connections of all generations are alike. On a node that routes for nobody, a packet that comes in by a bridge
    /// counts like any other: the text can't tell a container's connection from a stranger's.
    Iptables,
    /// Connections bear their generation's mark, and probes have their sets.
    Nftables { generation: Generation, fallen: &'a BTreeSet<Generation> },
}

/// What the ruleset decides on a path.
pub(crate) fn table(ruleset: &Ruleset, path: Path, target: Target<'_>) -> Table<Outcome> {
    Meaning { ruleset, target }.table(path)
}

struct Meaning<'a> {
    ruleset: &'a Ruleset,
    target: Target<'a>,
}

/// Which fields stand for an entry's ends.
#[derive(Clone, Copy, PartialEq)]
enum View {
    Request,
    /// Both pairs of ends change places.
    Answer,
    /// The destination is what it was before translation.
    Published,
    /// Whatever the source is: the packet will leave with an address of the node.
    Egress,
}

impl Meaning<'_> {
    fn table(&self, path: Path) -> Table<Outcome> {
        let mut table = Table::default();
        match (path, &self.ruleset.forward) {
            (Path::Input, _) => every(&mut table, one(Variable::InputInterface, &name("lo")), Outcome::Passed),
            (Path::Output, _) => every(&mut table, one(Variable::OutputInterface, &name("lo")), Outcome::Passed),
            (Path::Forward, Forward::Containers { unmanaged, .. }) => {
                for bridge in unmanaged {
                    every(&mut table, one(Variable::InputInterface, &name(bridge)), Outcome::Passed);
                    every(&mut table, one(Variable::OutputInterface, &name(bridge)), Outcome::Passed);
                }
            }
            (Path::Forward, Forward::Routed(_)) => {}
        }
        every(&mut table, one(Variable::State, &states([State::Invalid])), Outcome::Invalid);
        let mut established = one(Variable::State, &states([State::Established, State::Related]));
        if let Target::Nftables { generation, fallen } = self.target {
            let mark = Variable::Field(format!("ct mark & {MARK_MASK:#010x}").into());
            established = established.and(mark, &frame::refused_marks(generation, fallen).complement()).expect("two variables");
        }
        every(&mut table, established, Outcome::Passed);
        if let (Path::Forward, Forward::Containers { uplinks, .. }) = (path, &self.ruleset.forward) {
            self.containers(uplinks, &mut table);
            return table;
        }
        let answers = self.answers(path);
        if let Target::Nftables { .. } = self.target {
            // What a fallen generation accepted goes on where its request is allowed, whoever speaks first.
            let reply = one(Variable::State, &states([State::Established])).and(Variable::Field("ct direction".into()), &truth(true));
            extend(&mut table, &answers, &reply.expect("two variables"));
        }
        self.floor(path, &mut table);
        extend(&mut table, &answers, &one(Variable::State, &states([State::Untracked])));
        if let (Path::Output, Target::Nftables { .. }) = (path, self.target) {
            probes(&mut table);
        }
        for entry in enforced(self.ruleset.entries(path)) {
            self.push(&mut table, entry, View::Request, path, &Conditions::default());
        }
        table.otherwise(Outcome::Default(path));
        table
    }

    /// A node that routes for nobody: a published port by the destination that it had before it was translated, as the
    /// node's input; a container's own connection as its output.
    fn containers(&self, uplinks: &BTreeSet<String>, table: &mut Table<Outcome>) {
        // What is not tracked is not translated.
        let translated = one(Variable::State, &states([State::Untracked]).complement());
        let translated = translated.and(Variable::Holds("ct status dnat".into()), &truth(true)).expect("two variables");
        for entry in enforced(&self.ruleset.input) {
            self.push(table, entry, View::Published, Path::Input, &translated);
        }
        if let Target::Nftables { .. } = self.target {
            every(table, translated, Outcome::Default(Path::Input));
            for uplink in uplinks {
                every(table, one(Variable::InputInterface, &name(uplink)), Outcome::Default(Path::Forward));
            }
            let bridge = one(Variable::Field("meta iifkind".into()), &name("bridge"));
            for entry in enforced(&self.ruleset.output) {
                self.push(table, entry, View::Egress, Path::Output, &bridge);
            }
            every(table, bridge, Outcome::Default(Path::Output));
        }
        table.otherwise(Outcome::Default(Path::Forward));
    }

    fn floor(&self, path: Path, table: &mut Table<Outcome>) {
        if path == Path::Forward {
            return;
        }
        let floor = self.ruleset.floor;
        let (any, none) = (AddressSet::full(), Conditions::default());
        let of_v4 = of_family(&any, Family::V4);
        let link_local = prefixes(&["fe80::/10"]);
        let types = |kinds: &[u8]| -> UpperSet { kinds.iter().map(|kind| UpperCube::icmp(Family::V6, *kind, None)).collect() };
        if floor.neighbour_discovery {
            // RFC 4861 §6.1, §7.1.
            let near = one(Variable::Field("ip6 hoplimit".into()), &Interval::new(255, u128::MAX).into_iter().collect());
            table.push(&any, &any, &types(&[133, 134, 135, 136]), &near, Outcome::Passed);
        }
        if floor.multicast_listener {
            // RFC 2710, RFC 3810, RFC 3376.
            table.push(&prefixes(&["::/128", "fe80::/10"]), &any, &types(&[130, 131, 132, 143]), &none, Outcome::Passed);
            table.push(&of_v4, &any, &[UpperCube::protocol(Protocol::IGMP)].into_iter().collect(), &none, Outcome::Passed);
        }
        if floor.dhcp {
            // RFC 2131 §4.1, RFC 8415 §7.2: from server to client on the way in.
            let udp = |from: u16, to: u16| -> UpperSet {
                UpperCube::new(IntervalSet::single(Protocol::UDP.0), IntervalSet::single(to), IntervalSet::single(from)).into_iter().collect()
            };
            if path == Path::Input {
                table.push(&of_v4, &any, &udp(67, 68), &none, Outcome::Passed);
                table.push(&any, &link_local, &udp(547, 546), &none, Outcome::Passed);
            } else {
                table.push(&of_v4, &any, &udp(68, 67), &none, Outcome::Passed);
                table.push(&link_local, &any, &udp(546, 547), &none, Outcome::Passed);
            }
        }
    }

    /// Packets that may be answers on a path: what the opposite path accepts as a request, turned round. The first of
    /// its entries that the packet answers decides; where that denies, the packet is judged like any other. DNS names and
    /// ICMP do not count: an echo reply is no request turned round.
    fn answers(&self, path: Path) -> Table<()> {
        let opposite = match path {
            Path::Input => Path::Output,
            Path::Output => Path::Input,
            Path::Forward => Path::Forward,
        };
        let mut judged = Table::default();
        for entry in enforced(self.ruleset.entries(opposite)).filter(|entry| entry.names.is_empty()) {
            self.push(&mut judged, entry, View::Answer, path, &Conditions::default());
        }
        fn accepted<A: Address>(rows: &[Row<A, Outcome>]) -> Vec<Row<A, ()>> {
            let (mut denied, mut parts) = (Vec::new(), Vec::new());
            for row in rows {
                if row.decision.verdict() != Verdict::Accept {
                    denied.push(&row.matches);
                    continue;
                }
                let mut open = vec![row.matches.clone()];
                for deny in &denied {
                    open = open.iter().flat_map(|matches| matches.difference(deny)).collect();
                }
                parts.extend(open.into_iter().map(|matches| Row { matches, decision: () }));
            }
            parts
        }
        Table { v4: accepted(&judged.v4), v6: accepted(&judged.v6) }
    }

    /// The rows of one entry on a path.
    fn push(&self, table: &mut Table<Outcome>, entry: &Entry, view: View, path: Path, with: &Conditions) {
        let outcome = Outcome::Entry(entry.effect);
        for conditions in self.conditions(entry, view, path, with) {
            for cube in entry.upper.cubes() {
                let is_icmp = cube.protocols().only().is_some_and(|number| Protocol(number).is_icmp());
                let as_it_is: UpperSet = [cube.clone()].into_iter().collect();
                for family in Family::ALL {
                    let (source, destination) = (of_family(&entry.source, family), of_family(&entry.destination, family));
                    let Some(conditions) = self.names(entry, family, &conditions) else { continue };
                    for conditions in conditions {
                        match view {
                            View::Request => table.push(&source, &destination, &as_it_is, &conditions, outcome),
                            View::Answer if is_icmp => {}
                            View::Answer => {
                                let turned: UpperSet = cube.turned().into_iter().collect();
                                table.push(&destination, &source, &turned, &conditions, outcome);
                            }
                            View::Published => published(table, entry, cube, family, &conditions, outcome),
                            View::Egress if !self.is_of_the_node(entry, family) => {}
                            View::Egress => {
                                table.push(&of_family(&AddressSet::full(), family), &destination, &as_it_is, &conditions, outcome);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Which address of the node a container's connection leaves with is not known: an allow counts where it holds for
    /// all of them, a deny where it holds for one.
    fn is_of_the_node(&self, entry: &Entry, family: Family) -> bool {
        let local = of_family(&self.ruleset.local, family);
        let holds_for_all = local.is_subset(&of_family(&entry.source, family));
        entry.source.has(family) && (holds_for_all || !matches!(entry.effect, Effect::Accept { .. }))
    }

    /// Interface and expiry, on top of `with`: alternatives.
    fn conditions(&self, entry: &Entry, view: View, path: Path, with: &Conditions) -> Vec<Conditions> {
        let mut all = vec![with.clone()];
        if let Some(interface) = &entry.interface {
            let both: &[Variable] = &[Variable::InputInterface, Variable::OutputInterface];
            // An answer comes by the interface of its request, the other way round.
            let asked = match (path, view, self.target) {
                (Path::Forward, ..) | (_, View::Answer, Target::Nftables { .. }) => both,
                (Path::Input, ..) => &both[..1],
                (Path::Output, ..) => &both[1..],
            };
            all = asked.iter().filter_map(|variable| with.and(variable.clone(), &name(interface))).collect();
        }
        if let Some(expires) = entry.expires {
            let since = if matches!(entry.effect, Effect::Accept { .. }) { CLOCK_MIN } else { 0 };
            let last = expires.checked_sub(1).map(u128::from);
            let alive: IntervalSet<u128> = last.and_then(|last| Interval::new(since.into(), last)).into_iter().collect();
            all = all.iter().filter_map(|conditions| conditions.and(Variable::Clock, &alive)).collect();
        }
        all
    }

    /// The same, for an answer for each of the entry's names; `None` where no text can ask for one.
    fn names(&self, entry: &Entry, family: Family, conditions: &Conditions) -> Option<Vec<Conditions>> {
        if entry.names.is_empty() {
            return Some(vec![conditions.clone()]);
        }
        let Target::Nftables { generation, .. } = self.target else { return None };
        let holds = entry.names.iter().filter_map(|name| {
            let (ip, digit) = words(family);
            let text = format!("{ip} daddr @{generation}_names{digit}_{name}");
            conditions.and(Variable::Holds(text.into()), &truth(true))
        });
        Some(holds.collect())
    }
}

fn enforced(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    entries.iter().filter(|entry| !entry.audit)
}

/// A probe's exact flow passes its source's output.
fn probes(table: &mut Table<Outcome>) {
    let any = AddressSet::full();
    for family in Family::ALL {
        let (ip, digit) = words(family);
        let text = format!("{ip} saddr . {ip} daddr . meta l4proto . th sport . th dport @probe_pass{digit}");
        let probe = one(Variable::Holds(text.into()), &truth(true));
        table.push(&of_family(&any, family), &any, &UpperSet::any(), &probe, Outcome::Passed);
    }
}

/// Destination and destination port are those before translation; ICMP has its own type.
fn published(table: &mut Table<Outcome>, entry: &Entry, cube: &UpperCube, family: Family, conditions: &Conditions, outcome: Outcome) {
    let is_icmp = cube.protocols().only().is_some_and(|number| Protocol(number).is_icmp());
    let ports = if is_icmp { IntervalSet::full() } else { cube.destination_ports().clone() };
    let upper = if is_icmp { Some(cube.clone()) } else { UpperCube::new(cube.protocols().clone(), IntervalSet::full(), cube.source_ports().clone()) };
    let to = match family {
        Family::V4 => of_variable(&entry.destination.v4, std::net::Ipv4Addr::from_bits(!0), |address| address.to_bits().into()),
        Family::V6 => of_variable(&entry.destination.v6, std::net::Ipv6Addr::from_bits(!0), |address| address.to_bits()),
    };
    let conditions = conditions.and(Variable::OriginalPort, &of_variable(&ports, u16::MAX, u128::from));
    if let Some(conditions) = conditions.and_then(|conditions| conditions.and(Variable::OriginalDestination, &to)) {
        let upper: UpperSet = upper.into_iter().collect();
        table.push(&of_family(&entry.source, family), &AddressSet::full(), &upper, &conditions, outcome);
    }
}

/// A row for all packets with these conditions.
fn every(table: &mut Table<Outcome>, conditions: Conditions, outcome: Outcome) {
    table.v4.push(Row { matches: Matches { conditions: conditions.clone(), ..Matches::any() }, decision: outcome });
    table.v6.push(Row { matches: Matches { conditions, ..Matches::any() }, decision: outcome });
}

/// The rows of `answers`, with these conditions on top.
fn extend(table: &mut Table<Outcome>, answers: &Table<()>, with: &Conditions) {
    fn rows<'a, A: Address>(rows: &'a [Row<A, ()>], with: &'a Conditions) -> impl Iterator<Item = Row<A, Outcome>> + 'a {
        let row = |row: &Row<A, ()>| {
            let conditions = row.matches.conditions.intersection(with)?;
            Some(Row { matches: Matches { cube: row.matches.cube.clone(), conditions }, decision: Outcome::Passed })
        };
        rows.iter().filter_map(row)
    }
    table.v4.extend(rows(&answers.v4, with));
    table.v6.extend(rows(&answers.v6, with));
}

/// As values of a variable whose greatest number is `max`: a set that goes up to it goes on, so that
/// all of its numbers are all there are.
pub(crate) fn of_variable<P: Point>(set: &IntervalSet<P>, max: P, bits: impl Fn(P) -> u128) -> IntervalSet<u128> {
    let last = |interval: &Interval<P>| if interval.last() == max { u128::MAX } else { bits(interval.last()) };
    set.intervals().iter().filter_map(|interval| Interval::new(bits(interval.first()), last(interval))).collect()
}

fn states(states: impl IntoIterator<Item = State>) -> IntervalSet<u128> {
    states.into_iter().map(State::values).collect()
}

fn name(kernel: &str) -> IntervalSet<u128> {
    interface(kernel).map(IntervalSet::single).unwrap_or_default()
}

fn one(variable: Variable, values: &IntervalSet<u128>) -> Conditions {
    Conditions::default().and(variable, values).expect("a value that can be")
}

fn prefixes(texts: &[&str]) -> AddressSet {
    texts.iter().map(|text| text.parse::<ipnet::IpNet>().expect("a constant prefix")).collect()
}

fn of_family(set: &AddressSet, family: Family) -> AddressSet {
    match family {
        Family::V4 => AddressSet { v4: set.v4.clone(), ..AddressSet::default() },
        Family::V6 => AddressSet { v6: set.v6.clone(), ..AddressSet::default() },
    }
}

/// nftables' words for a family: its header, and the digit in our names.
fn words(family: Family) -> (&'static str, char) {
    match family {
        Family::V4 => ("ip", '4'),
        Family::V6 => ("ip6", '6'),
    }
}
