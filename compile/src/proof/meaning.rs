//! What the policy says that one node does, as tables: what the text to be loaded is compared with.
//!
//! In: the policy as resolved, the node, the generation. Out: for each path through the node, an
//! ordered table over all packets: every conntrack state, every content of the sets that change at run time, every time. Never:
//! anything of `compile` or of the writer; this is the second statement of the same thing.

use std::collections::BTreeMap;

use ringwall_packet::{
    Address, AddressSet, Conditions, Family, Interval, IntervalSet, Matches, Protocol, Row, State, Table, UpperCube,
    UpperSet, Variable, interface, truth,
};
use ringwall_policy::{Action, End, Node, Policy, Rule, RuleId, Stage, receivable};
use ringwall_ruleset::nftables::frame::refused_marks;
use ringwall_ruleset::nftables::{Generation, MARK_MASK};
use ringwall_ruleset::{CLOCK_MIN, Path};

/// What becomes of a packet, and by which part of a generation.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    Loopback,
    /// A forwarded packet of a bridge that the operator declared unmanaged.
    Unmanaged,
    Invalid,
    /// It belongs to a connection that this generation, or one that it follows, accepted.
    Established,
    /// It answers a flow that the node may send, of a connection that a fallen generation accepted.
    Answer,
    /// The same, judged without any state.
    Untracked,
    Floor,
    /// A probe's exact flow passes its source's output.
    Probe,
    Rule(&'a Rule, Path),
    Management(Path),
    Default(Path),
}

/// The order is the policy language's decision 3.
pub struct Meaning<'a> {
    pub policy: &'a Policy,
    pub node: &'a Node,
    pub generation: Generation,
    pub fallen: Vec<Generation>,
    local: AddressSet,
    received: AddressSet,
    /// Deny before allow, each by id.
    rules: Vec<&'a Rule>,
    /// In the order of [`Path::ALL`].
    tables: Vec<Table<Outcome<'a>>>,
}

/// Which header fields hold what a rule names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    Request,
    /// Source and destination have changed places.
    Answer,
    /// The destination is what it was before translation.
    Published,
}

impl<'a> Meaning<'a> {
    pub fn new(policy: &'a Policy, node: &'a Node, generation: Generation, fallen: Vec<Generation>) -> Self {
        let mut rules: Vec<&Rule> = policy.rules.iter().collect();
        rules.sort_by(|a, b| (a.action == Action::Allow, &a.id).cmp(&(b.action == Action::Allow, &b.id)));
        let local = node.local();
        let received = local.union(&receivable(policy.internal.as_ref()));
        let mut meaning = Self { policy, node, generation, fallen, local, received, rules, tables: Vec::new() };
        meaning.tables = Path::ALL.map(|path| meaning.build(path)).into();
        meaning
    }

    /// All that is enforced or watched on a path; total. A row of an audited rule decides nothing.
    pub fn table(&self, path: Path) -> &Table<Outcome<'a>> {
        let at = Path::ALL.iter().position(|of| *of == path).expect("all paths");
        &self.tables[at]
    }

    fn outcomes(&self, path: Path) -> impl Iterator<Item = &Outcome<'a>> {
        let table = self.table(path);
        table.v4.iter().map(|row| &row.decision).chain(table.v6.iter().map(|row| &row.decision))
    }

    fn build(&self, path: Path) -> Table<Outcome<'a>> {
        let mut table = Table::default();
        if path == Path::Forward && self.node.routes.is_empty() {
            self.containers(&mut table);
            return table;
        }
        let lo = name("lo");
        match path {
            Path::Input => everything(&mut table, &[(Variable::InputInterface, lo)], Outcome::Loopback),
            Path::Output => everything(&mut table, &[(Variable::OutputInterface, lo)], Outcome::Loopback),
            Path::Forward => {}
        }
        self.states(&mut table);
        let reply = (Variable::Field("ct direction".into()), truth(true));
        let established = (Variable::State, State::Established.values().into());
        let answers = self.answers(path);
        extend(&mut table, &answers, &[established, reply], Outcome::Answer);
        self.floor(&mut table, path);
        extend(&mut table, &answers, &[(Variable::State, State::Untracked.values().into())], Outcome::Untracked);
        if path == Path::Output {
            for family in Family::ALL {
                let (ip, digit) = words(family);
                let text = format!("{ip} saddr . {ip} daddr . meta l4proto . th sport . th dport @probe_pass{digit}");
                one_family(&mut table, family, &[(Variable::Holds(text.into()), truth(true))], Outcome::Probe);
            }
        }
        for rule in self.rules.iter().filter(|rule| rule.stage == Stage::Audit) {
            self.rule(&mut table, rule, path, View::Request, &[]);
        }
        self.judge(&mut table, path, View::Request, &[]);
        table.otherwise(Outcome::Default(path));
        table
    }

    /// Rules that can decide something on a path, or watch it.
    pub fn rules_on(&self, path: Path) -> BTreeMap<&'a RuleId, &'a Rule> {
        if self.is_for_containers(path) {
            return BTreeMap::new();
        }
        let rules = self.outcomes(path).filter_map(|outcome| match outcome {
            Outcome::Rule(rule, _) => Some((&rule.id, *rule)),
            _ => None,
        });
        rules.collect()
    }

    pub fn is_managed_on(&self, path: Path) -> bool {
        !self.is_for_containers(path) && self.outcomes(path).any(|outcome| matches!(outcome, Outcome::Management(_)))
    }

    /// The node routes for nobody but its containers: its rules are those of its input and output.
    pub fn is_for_containers(&self, path: Path) -> bool {
        path == Path::Forward && self.node.routes.is_empty()
    }

    /// DNS names that a rule asks for on a path.
    pub fn names_of<'r>(&self, rule: &'r Rule, path: Path) -> Vec<&'r str> {
        let from = match path {
            Path::Input => return Vec::new(),
            Path::Output => &self.local,
            Path::Forward => &self.node.routes,
        };
        let asked = rule.directions().filter(|(source, _)| !source.addresses.is_disjoint(from));
        asked.flat_map(|(_, destination)| &destination.names).map(String::as_str).collect()
    }

    fn states(&self, table: &mut Table<Outcome<'a>>) {
        everything(table, &[(Variable::State, State::Invalid.values().into())], Outcome::Invalid);
        let live = IntervalSet::from_iter([State::Established.values(), State::Related.values()]);
        let mark = Variable::Field(format!("ct mark & {MARK_MASK:#010x}").into());
        everything(table, &[(Variable::State, live), (mark, refused_marks(self.generation, &self.fallen).complement())], Outcome::Established);
    }

    fn floor(&self, table: &mut Table<Outcome<'a>>, path: Path) {
        if path == Path::Forward {
            return;
        }
        let floor = self.policy.floor;
        let any = AddressSet::full();
        if !floor.without_neighbour_discovery {
            // RFC 4861 §6.1, §7.1.
            let types = (133..=136).map(|kind| UpperCube::icmp(Family::V6, kind, None)).collect();
            let limit = all_of(&[(Variable::Field("ip6 hoplimit".into()), from(255))]).expect("one condition");
            table.push(&any, &any, &types, &limit, Outcome::Floor);
        }
        if !floor.without_multicast_listener {
            // RFC 2710, RFC 3810; RFC 3376.
            let types = [130, 131, 132, 143].map(|kind| UpperCube::icmp(Family::V6, kind, None)).into_iter().collect();
            let from = addresses(&["::/128", "fe80::/10"]);
            table.push(&from, &any, &types, &Conditions::default(), Outcome::Floor);
            let igmp = [UpperCube::protocol(Protocol::IGMP)].into_iter().collect();
            table.push(&AddressSet { v4: any.v4.clone(), ..AddressSet::default() }, &any, &igmp, &Conditions::default(), Outcome::Floor);
        }
        if !floor.without_dhcp {
            // RFC 2131 §4.1, RFC 8415 §7.2.
            let udp = |from: u16, to: u16| -> UpperSet {
                let to = UpperCube::ports(Protocol::UDP, IntervalSet::single(to)).expect("UDP has ports");
                to.with_source_ports(&IntervalSet::single(from)).into_iter().collect()
            };
            let v4 = AddressSet { v4: any.v4.clone(), ..AddressSet::default() };
            let link_local = addresses(&["fe80::/10"]);
            let none = Conditions::default();
            if path == Path::Input {
                table.push(&v4, &any, &udp(67, 68), &none, Outcome::Floor);
                table.push(&any, &link_local, &udp(547, 546), &none, Outcome::Floor);
            } else {
                table.push(&v4, &any, &udp(68, 67), &none, Outcome::Floor);
                table.push(&link_local, &any, &udp(546, 547), &none, Outcome::Floor);
            }
        }
    }

    /// A node that routes for nobody: published ports by their original destination as its input,
    /// containers' own connections as its output, anything else is dropped.
    fn containers(&self, table: &mut Table<Outcome<'a>>) {
        for bridge in &self.node.unmanaged {
            everything(table, &[(Variable::InputInterface, name(bridge))], Outcome::Unmanaged);
            everything(table, &[(Variable::OutputInterface, name(bridge))], Outcome::Unmanaged);
        }
        self.states(table);
        // What is not tracked is not translated.
        let tracked: IntervalSet<u128> = IntervalSet::from(State::Untracked.values()).complement();
        let translated = [(Variable::Holds("ct status dnat".into()), truth(true)), (Variable::State, tracked)];
        self.judge(table, Path::Input, View::Published, &translated);
        everything(table, &translated, Outcome::Default(Path::Input));
        for uplink in self.node.interfaces.values().filter(|name| !self.node.unmanaged.contains(*name)) {
            everything(table, &[(Variable::InputInterface, name(uplink))], Outcome::Default(Path::Forward));
        }
        let bridge = (Variable::Field("meta iifkind".into()), name("bridge"));
        self.egress(table, std::slice::from_ref(&bridge));
        everything(table, &[bridge], Outcome::Default(Path::Output));
        table.otherwise(Outcome::Default(Path::Forward));
    }

    /// Management, then deny before allow, each by id.
    fn judge(&self, table: &mut Table<Outcome<'a>>, path: Path, view: View, conditions: &[(Variable, IntervalSet<u128>)]) {
        self.management(table, path, view, conditions);
        for rule in self.rules.iter().filter(|rule| rule.stage == Stage::Enforce) {
            self.rule(table, rule, path, view, conditions);
        }
    }

    fn management(&self, table: &mut Table<Outcome<'a>>, path: Path, view: View, conditions: &[(Variable, IntervalSet<u128>)]) {
        let Some(management) = self.policy.management.as_ref().filter(|_| !self.policy.floor.without_management) else {
            return;
        };
        let to = self.policy.node_addresses();
        let uppers: UpperSet = management.services.iter().flat_map(|service| service.upper.cubes()).cloned().collect();
        for (sources, destinations) in self.universe(path) {
            let (from, to) = (management.from.addresses.intersection(&sources), to.intersection(&destinations));
            push(table, &from, &to, &uppers, view, conditions, Outcome::Management(path));
        }
    }

    fn rule(&self, table: &mut Table<Outcome<'a>>, rule: &'a Rule, path: Path, view: View, conditions: &[(Variable, IntervalSet<u128>)]) {
        let mut uppers = None;
        for (source, destination) in rule.directions() {
            for (sources, destinations) in self.universe(path) {
                if source.addresses.is_disjoint(&sources) || destination.addresses.is_disjoint(&destinations) {
                    continue;
                }
                let from = source.addresses.intersection(&sources);
                let to = destination.addresses.intersection(&destinations);
                let uppers = uppers.get_or_insert_with(|| rule.upper());
                for conditions in self.conditions(rule, path, view, conditions) {
                    push(table, &from, &to, uppers, view, &conditions, Outcome::Rule(rule, path));
                }
            }
            if view == View::Request {
                self.names(table, rule, source, destination, path, conditions);
            }
        }
    }

    /// Rules whose destination is a DNS name: a set that is filled at run time, on the nodes that the
    /// flow comes from or through.
    fn names(&self, table: &mut Table<Outcome<'a>>, rule: &'a Rule, source: &End, destination: &End, path: Path, conditions: &[(Variable, IntervalSet<u128>)]) {
        let from = match path {
            Path::Input => return,
            Path::Output => source.addresses.intersection(&self.local),
            Path::Forward => source.addresses.intersection(&self.node.routes),
        };
        for (name, family) in destination.names.iter().flat_map(|name| Family::ALL.map(|family| (name, family))) {
            let (ip, digit) = words(family);
            let holds = format!("{ip} daddr @{}_names{digit}_{name}", self.generation);
            let of_family = match family {
                Family::V4 => AddressSet { v4: from.v4.clone(), ..AddressSet::default() },
                Family::V6 => AddressSet { v6: from.v6.clone(), ..AddressSet::default() },
            };
            let mut with = conditions.to_vec();
            with.push((Variable::Holds(holds.into()), truth(true)));
            for conditions in self.conditions(rule, path, View::Request, &with) {
                push(table, &of_family, &AddressSet::full(), &rule.upper(), View::Request, &conditions, Outcome::Rule(rule, path));
            }
        }
    }

    /// Pairs of sources and destinations that the node judges on a path.
    fn universe(&self, path: Path) -> Vec<(AddressSet, AddressSet)> {
        let (any, routes) = (AddressSet::full(), &self.node.routes);
        match path {
            Path::Input => vec![(any, self.received.clone())],
            Path::Output => vec![(self.local.clone(), any)],
            Path::Forward => vec![(routes.clone(), any), (routes.complement(), routes.clone())],
        }
    }

    /// Interface and expiry, on top of `with`: alternatives. None when the node has no such interface.
    fn conditions(&self, rule: &Rule, path: Path, view: View, with: &[(Variable, IntervalSet<u128>)]) -> Vec<Vec<(Variable, IntervalSet<u128>)>> {
        let mut with = with.to_vec();
        if let Some(expires) = rule.expires {
            let before = IntervalSet::from_iter(expires.checked_sub(1).and_then(|last| Interval::new(0, u128::from(last))));
            let since = if rule.action == Action::Allow { u128::from(CLOCK_MIN) } else { 0 };
            with.push((Variable::Clock, before.intersection(&from(since))));
        }
        let Some(via) = &rule.via else { return vec![with] };
        let Some(kernel) = self.node.interfaces.get(via) else { return Vec::new() };
        // An answer comes by the interface of its request, the other way round.
        let variables: &[Variable] = match (path, view) {
            (Path::Input, View::Request | View::Published) => &[Variable::InputInterface],
            (Path::Output, View::Request | View::Published) => &[Variable::OutputInterface],
            (Path::Forward, _) | (_, View::Answer) => &[Variable::InputInterface, Variable::OutputInterface],
        };
        let alternatives = variables.iter().map(|variable| {
            let mut all = with.clone();
            all.push((variable.clone(), name(kernel)));
            all
        });
        alternatives.collect()
    }

    /// Packets that may be answers on a path, in disjoint parts: what the opposite path accepts as
    /// a request, turned round. DNS names and ICMP do not count: an echo reply is no request turned round.
    fn answers(&self, path: Path) -> Table<()> {
        let opposite = match path {
            Path::Input => Path::Output,
            Path::Output => Path::Input,
            Path::Forward => Path::Forward,
        };
        let mut judged = Table::default();
        self.judge(&mut judged, opposite, View::Answer, &[]);
        fn accepted<A: Address>(rows: &[Row<A, Outcome>]) -> Vec<Row<A, ()>> {
            let is_deny = |row: &&Row<A, Outcome>| matches!(row.decision, Outcome::Rule(rule, _) if rule.action == Action::Deny);
            let denied: Vec<_> = rows.iter().filter(is_deny).map(|row| &row.matches).collect();
            let mut parts = Vec::new();
            for row in rows.iter().filter(|row| !is_deny(row)) {
                let mut open = vec![row.matches.clone()];
                // The floor's management comes before every deny.
                if !matches!(row.decision, Outcome::Management(_)) {
                    for deny in &denied {
                        open = open.iter().flat_map(|matches| matches.difference(deny)).collect();
                    }
                }
                parts.extend(open.into_iter().map(|matches| Row { matches, decision: () }));
            }
            parts
        }
        Table { v4: accepted(&judged.v4), v6: accepted(&judged.v6) }
    }

    /// A container's connection leaves with an address of the node, which one is not known here: an
    /// allow counts where it holds for all of them, a deny where it holds for one.
    fn egress(&self, table: &mut Table<Outcome<'a>>, conditions: &[(Variable, IntervalSet<u128>)]) {
        let any = AddressSet::full();
        let mut all = Vec::new();
        if let Some(management) = self.policy.management.as_ref().filter(|_| !self.policy.floor.without_management) {
            let uppers: UpperSet = management.services.iter().flat_map(|service| service.upper.cubes()).cloned().collect();
            let from = management.from.addresses.intersection(&self.local);
            all.push((from, self.policy.node_addresses(), uppers, conditions.to_vec(), Outcome::Management(Path::Output), true));
        }
        for rule in self.rules.iter().filter(|rule| rule.stage == Stage::Enforce) {
            for (source, destination) in rule.directions() {
                let from = source.addresses.intersection(&self.local);
                if from.is_empty() {
                    continue;
                }
                let outcome = Outcome::Rule(rule, Path::Output);
                for conditions in self.conditions(rule, Path::Output, View::Request, conditions) {
                    let is_allow = rule.action == Action::Allow;
                    all.push((from.clone(), destination.addresses.clone(), rule.upper(), conditions.clone(), outcome, is_allow));
                    for (name, family) in destination.names.iter().flat_map(|name| Family::ALL.map(|family| (name, family))) {
                        let (ip, digit) = words(family);
                        let holds = format!("{ip} daddr @{}_names{digit}_{name}", self.generation);
                        let mut with = conditions.clone();
                        with.push((Variable::Holds(holds.into()), truth(true)));
                        let to = match family {
                            Family::V4 => AddressSet { v4: any.v4.clone(), ..AddressSet::default() },
                            Family::V6 => AddressSet { v6: any.v6.clone(), ..AddressSet::default() },
                        };
                        all.push((from.clone(), to, rule.upper(), with, outcome, is_allow));
                    }
                }
            }
        }
        for (from, to, uppers, conditions, outcome, is_allow) in all {
            let counts4 = if is_allow { self.local.v4.is_subset(&from.v4) } else { true } && !from.v4.is_empty();
            let counts6 = if is_allow { self.local.v6.is_subset(&from.v6) } else { true } && !from.v6.is_empty();
            let source = AddressSet {
                v4: if counts4 { any.v4.clone() } else { IntervalSet::default() },
                v6: if counts6 { any.v6.clone() } else { IntervalSet::default() },
            };
            push(table, &source, &to, &uppers, View::Request, &conditions, outcome);
        }
    }
}

impl Outcome<'_> {
    /// Equal for equal outcomes: their kind, and where the rule stands in memory.
    pub fn key(&self) -> (std::mem::Discriminant<Self>, Option<Path>, usize) {
        let (path, rule) = match self {
            Self::Rule(rule, path) => (Some(*path), std::ptr::from_ref::<Rule>(rule).addr()),
            Self::Management(path) | Self::Default(path) => (Some(*path), 0),
            _ => (None, 0),
        };
        (std::mem::discriminant(self), path, rule)
    }

    /// It is counted and logged, and the packet goes on.
    pub fn is_watched(&self) -> bool {
        matches!(self, Self::Rule(rule, _) if rule.stage == Stage::Audit)
    }

    /// The id that names it in counters, logs and comments.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Rule(rule, _) => Some(RuleId::as_str(&rule.id)),
            Self::Management(_) => Some(crate::MANAGEMENT),
            _ => None,
        }
    }
}

fn push<'a>(
    table: &mut Table<Outcome<'a>>,
    from: &AddressSet,
    to: &AddressSet,
    uppers: &UpperSet,
    view: View,
    conditions: &[(Variable, IntervalSet<u128>)],
    outcome: Outcome<'a>,
) {
    match view {
        View::Request => {
            if let Some(conditions) = all_of(conditions) {
                table.push(from, to, uppers, &conditions, outcome);
            }
        }
        View::Answer => {
            let turned: UpperSet = uppers.cubes().iter().filter_map(UpperCube::turned).collect();
            if let Some(conditions) = all_of(conditions) {
                table.push(to, from, &turned, &conditions, outcome);
            }
        }
        View::Published => {
            for family in Family::ALL {
                let of_family = uppers.of_family(family);
                for cube in of_family.cubes() {
                    let mut with = conditions.to_vec();
                    let (original, from) = match family {
                        Family::V4 => (bits(&to.v4), AddressSet { v4: from.v4.clone(), ..AddressSet::default() }),
                        Family::V6 => (bits(&to.v6), AddressSet { v6: from.v6.clone(), ..AddressSet::default() }),
                    };
                    with.push((Variable::OriginalDestination, original));
                    // ICMP has no port that could be translated.
                    let (cube, ports) = cube.without_destination_ports();
                    if let Some(ports) = ports {
                        with.push((Variable::OriginalPort, numbers(&ports)));
                    }
                    if let Some(conditions) = all_of(&with) {
                        table.push(&from, &AddressSet::full(), &[cube].into_iter().collect(), &conditions, outcome);
                    }
                }
            }
        }
    }
}

/// A row for all packets with these conditions.
fn everything<'a>(table: &mut Table<Outcome<'a>>, conditions: &[(Variable, IntervalSet<u128>)], outcome: Outcome<'a>) {
    for family in Family::ALL {
        one_family(table, family, conditions, outcome);
    }
}

fn one_family<'a>(table: &mut Table<Outcome<'a>>, family: Family, conditions: &[(Variable, IntervalSet<u128>)], outcome: Outcome<'a>) {
    let Some(conditions) = all_of(conditions) else { return };
    match family {
        Family::V4 => table.v4.push(Row { matches: Matches { conditions, ..Matches::any() }, decision: outcome }),
        Family::V6 => table.v6.push(Row { matches: Matches { conditions, ..Matches::any() }, decision: outcome }),
    }
}

/// The rows of `answers`, with these conditions on top.
fn extend<'a>(table: &mut Table<Outcome<'a>>, answers: &Table<()>, conditions: &[(Variable, IntervalSet<u128>)], outcome: Outcome<'a>) {
    fn with<A: Address>(matches: &Matches<A>, conditions: &[(Variable, IntervalSet<u128>)]) -> Option<Matches<A>> {
        conditions.iter().try_fold(matches.clone(), |matches, (variable, values)| matches.and(variable.clone(), values))
    }
    let v4 = answers.v4.iter().filter_map(|row| with(&row.matches, conditions));
    table.v4.extend(v4.map(|matches| Row { matches, decision: outcome }));
    let v6 = answers.v6.iter().filter_map(|row| with(&row.matches, conditions));
    table.v6.extend(v6.map(|matches| Row { matches, decision: outcome }));
}

/// `None` when they exclude each other.
fn all_of(conditions: &[(Variable, IntervalSet<u128>)]) -> Option<Conditions> {
    conditions.iter().try_fold(Conditions::default(), |all, (variable, values)| all.and(variable.clone(), values))
}

fn name(kernel: &str) -> IntervalSet<u128> {
    // The policy's reader refuses longer names; one that got here would match nothing.
    interface(kernel).map(IntervalSet::single).unwrap_or_default()
}

/// All values from one on; a field's greatest value stands for all numbers from there.
fn from(value: u128) -> IntervalSet<u128> {
    Interval::new(value, u128::MAX).into_iter().collect()
}

/// Addresses as numbers; a set that reaches the end of its family reaches the end of all numbers.
fn bits<A: Address>(set: &IntervalSet<A>) -> IntervalSet<u128> {
    let interval = |interval: &Interval<A>| {
        let end = if interval.last() == A::MAX { u128::MAX } else { interval.last().bits() };
        Interval::new(interval.first().bits(), end).expect("an interval is ordered")
    };
    set.intervals().iter().map(interval).collect()
}

fn numbers(ports: &IntervalSet<u16>) -> IntervalSet<u128> {
    let interval = |interval: &Interval<u16>| {
        let end = if interval.last() == u16::MAX { u128::MAX } else { interval.last().into() };
        Interval::new(interval.first().into(), end).expect("an interval is ordered")
    };
    ports.intervals().iter().map(interval).collect()
}

fn addresses(prefixes: &[&str]) -> AddressSet {
    prefixes.iter().map(|prefix| prefix.parse::<ipnet::IpNet>().expect("a constant prefix")).collect()
}

/// nftables' words for a family: its header, and the digit in our names.
fn words(family: Family) -> (&'static str, char) {
    match family {
        Family::V4 => ("ip", '4'),
        Family::V6 => ("ip6", '6'),
    }
}
