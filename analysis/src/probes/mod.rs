//! The flows to probe: what a policy declares, and a sample of what it does not; and what their ends saw of them.
//!
//! In: a policy, the machines, a seed; reports of both ends. Out: [`Case`]s, each a probe with what is expected of it,
//! what nobody can probe, and the finding of each case. Never: a clock, a socket, or a flow that is left out without a word.
//!
//! A declared flow is each enforced, unexpired rule × each address of a machine in its source × each
//! in its destination, in both families × each of its ports (see [`sample::ports`]). A group's
//! addresses that are no machine's are stood for by those that are. Destinations that are single
//! addresses of strangers are probed from here; their silence proves nothing.

mod machine;
mod reports;
mod sample;
mod target;
mod words;

pub use machine::{Machine, Vantage, VantageError, addresses, machines};
pub use reports::{Reports, by_machine};
pub use words::{decider, rule_place, rule_text};

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use ringwall_probe::{Expectation, Packet, Probe, TlsVersion};
use ringwall_packet::{AddressSet, Family, Flow, IntervalSet, Protocol, UpperSet};
use ringwall_policy::{End, Policy, Reason, Rule, RuleId, ServiceUse, Stage, Verdict, is_broadcast};

use self::machine::holders;
use self::sample::Random;
use self::target::{Target, targets};

/// Strangers (addresses that are no machine's) that are probed of one rule's destination.
const MOST_STRANGERS: usize = 4;
/// Ports that the policy never mentions, tried for each pair.
const UNMENTIONED: usize = 3;
/// Source ports: above Linux's usual ephemeral range (32768 to 60999), then below it.
const SOURCE_PORTS: [(u16, u16); 2] = [(61_000, 65_535), (10_240, 32_767)];
/// Ports that the policy never mentions are tried below all source ports: a machine's temporary
/// listener must not be in the way of its own probes.
const LAST_UNMENTIONED: usize = 10_239;

/// How much of what is not declared is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// At most so many flows for each ordered pair of machines and family.
    Some(usize),
    All,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub denied: Denied,
    /// Chooses the sample.
    pub seed: u64,
    /// Where the source ports begin, so that a run does not meet connections of the one before.
    pub nonce: u64,
    /// Seconds since the epoch: expired rules are not there.
    pub now: u64,
    /// Services of the policy that speak TLS, by name or `port/tcp`, beside the well-known ones.
    pub tls: Vec<String>,
    /// About as many cases are made at most; of more, every n-th pair stands for all.
    pub most: usize,
}

/// One flow, who can try it, and what is expected.
#[derive(Clone, Debug)]
pub struct Case {
    pub probe: Probe,
    /// Machines that may have the source address, as indices; those that can't be reached are left out later.
    pub sources: Vec<usize>,
    /// Machines that may have the destination address; empty for strangers.
    pub destinations: Vec<usize>,
    /// Their names, such as `vault-1`, `vault-1 or vault-2` for a floating address, `a stranger`.
    pub source_name: String,
    pub destination_name: String,
    pub expectation: Expectation,
    /// What decides it, by the policy's meaning.
    pub reason: Reason,
    /// Where it comes from: `source -> destination` of a rule, or of two machines.
    pub roles: String,
    /// As the rule writes it, or the port.
    pub service: String,
    /// Whether it is a flow of a rule, not of the sample of what no rule allows.
    pub declared: bool,
    /// Its place among the source ports that its pair uses; none: its rule says which port.
    slot: Option<u64>,
}

impl Case {
    /// The first packet, as any program of the source would send it.
    pub fn flow(&self) -> Option<Flow> {
        let (target, port) = match self.probe.packet {
            Packet::Tcp { source_port, port, .. } => (Target::Tcp(port), source_port),
            Packet::Udp { source_port, port, .. } => (Target::Udp(port), source_port),
            Packet::Echo { identifier } => (Target::Echo, identifier),
            Packet::Other { number } => (Target::Other(number), 0),
        };
        Flow::new(self.probe.source, self.probe.destination, target.upper(Family::of(self.probe.source), port)?)
    }
}

/// Something declared that can't be probed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NotProbed {
    pub roles: String,
    pub service: String,
    pub family: Family,
    pub rule: Option<RuleId>,
    pub reason: String,
}

#[derive(Clone, Debug, Default)]
pub struct Matrix {
    pub cases: Vec<Case>,
    pub not_probed: Vec<NotProbed>,
    /// Flows that others stand for, since there are too many.
    pub left_out: usize,
    source_ports: Vec<u16>,
}

impl Matrix {
    /// The probe of a case with other source ports, so that no connection that a kernel still remembers is met again.
    pub fn shifted(&self, case: &Case, by: u64) -> Probe {
        let mut probe = case.probe;
        let Some(slot) = case.slot.filter(|_| !self.source_ports.is_empty()) else { return probe };
        let port = |slot: u64| self.source_ports[(slot.wrapping_add(by) % self.source_ports.len() as u64) as usize];
        match &mut probe.packet {
            Packet::Tcp { source_port, past_source_port, .. } | Packet::Udp { source_port, past_source_port, .. } => {
                *source_port = port(slot);
                *past_source_port = past_source_port.map(|_| port(slot + 1));
            }
            Packet::Echo { identifier } => *identifier = port(slot),
            Packet::Other { .. } => {}
        }
        probe
    }
}

/// What a rule, or the floor's management, says.
struct Line<'a> {
    id: Option<RuleId>,
    source: &'a End,
    destination: &'a AddressSet,
    destination_text: &'a str,
    has_names: bool,
    services: &'a [ServiceUse],
    upper: UpperSet,
    source_ports: Option<&'a IntervalSet<u16>>,
    via: Option<&'a str>,
}

pub fn matrix(policy: &Policy, machines: &[Machine], options: &Options) -> Matrix {
    let mentioned = mentioned(policy);
    let is_free = |port: &u16| !mentioned.contains(&Target::Tcp(*port)) && !mentioned.contains(&Target::Udp(*port));
    let mut source_ports: Vec<u16> = source_port_range().filter(is_free).collect();
    if source_ports.is_empty() {
        source_ports = source_port_range().collect();
    }
    let mut maker = Maker {
        policy,
        machines,
        options,
        random: Random::new(options.seed),
        matrix: Matrix::default(),
        seen: HashSet::new(),
        source_ports,
        used_ports: BTreeMap::new(),
        mentioned,
        interfaces: policy.nodes.values().flat_map(|node| node.interfaces.keys()).map(|name| name.as_str()).collect(),
        every: 1,
    };
    let in_force = |rule: &&Rule| rule.stage == Stage::Enforce && !rule.is_expired(options.now);
    let everywhere = policy.node_addresses();
    let lines = policy.rules.iter().filter(in_force).flat_map(rule_lines).chain(management_line(policy, &everywhere));
    let lines: Vec<Line<'_>> = lines.collect();
    let all = lines.iter().flat_map(|line| Family::ALL.map(|family| flows(line, machines, family))).fold(0, usize::saturating_add);
    maker.every = all.div_ceil(options.most.max(1)).max(1);
    for line in &lines {
        for family in Family::ALL {
            maker.declared(line, family);
        }
    }
    let per_pair = match options.denied {
        Denied::All => maker.mentioned.len() + UNMENTIONED,
        Denied::Some(count) => count + UNMENTIONED,
    };
    let all = machines.len().saturating_mul(machines.len()).saturating_mul(Family::ALL.len() * per_pair);
    // What is declared comes first, and yet some of the others are tried.
    let rest = options.most.saturating_sub(maker.matrix.cases.len()).max(options.most / 4).max(1);
    maker.every = all.div_ceil(rest).max(1);
    maker.undeclared();
    maker.matrix.source_ports = maker.source_ports;
    maker.matrix.not_probed.sort();
    maker.matrix.not_probed.dedup();
    maker.matrix
}

/// About how many flows a line declares.
fn flows(line: &Line<'_>, machines: &[Machine], family: Family) -> usize {
    let (sources, destinations) = (holders(machines, &line.source.addresses, family), holders(machines, line.destination, family));
    sources.len().saturating_mul(destinations.len()).saturating_mul(targets(&line.upper, family).0.len())
}

fn source_port_range() -> impl Iterator<Item = u16> {
    SOURCE_PORTS.into_iter().flat_map(|(first, last)| first..=last)
}

fn rule_lines(rule: &Rule) -> impl Iterator<Item = Line<'_>> {
    rule.directions().map(|(source, destination)| Line {
        id: Some(rule.id.clone()),
        source,
        destination: &destination.addresses,
        destination_text: &destination.text,
        has_names: !destination.names.is_empty(),
        services: &rule.services,
        upper: rule.upper(),
        source_ports: rule.source_ports.as_ref(),
        via: rule.via.as_ref().map(|name| name.as_str()),
    })
}

fn management_line<'a>(policy: &'a Policy, everywhere: &'a AddressSet) -> Option<Line<'a>> {
    let management = policy.management.as_ref().filter(|_| !policy.floor.without_management)?;
    Some(Line {
        id: None,
        source: &management.from,
        destination: everywhere,
        destination_text: "every node",
        has_names: false,
        services: &management.services,
        upper: management.services.iter().flat_map(|service| service.upper.cubes()).cloned().collect(),
        source_ports: None,
        via: None,
    })
}

/// Every TCP and UDP port that stands for a service of the policy, audited rules included.
fn mentioned(policy: &Policy) -> BTreeSet<Target> {
    let rules = policy.rules.iter().map(Rule::upper);
    let management = policy.management.iter().flat_map(|management| &management.services).map(|service| service.upper.clone());
    let uppers: Vec<UpperSet> = rules.chain(management).collect();
    let targets = uppers.iter().flat_map(|upper| targets(upper, Family::V4).0);
    targets.filter(|target| matches!(target, Target::Tcp(_) | Target::Udp(_))).collect()
}

fn of_family(set: &AddressSet, family: Family) -> AddressSet {
    match family {
        Family::V4 => AddressSet { v4: set.v4.clone(), ..AddressSet::default() },
        Family::V6 => AddressSet { v6: set.v6.clone(), ..AddressSet::default() },
    }
}

struct Maker<'a> {
    policy: &'a Policy,
    machines: &'a [Machine],
    options: &'a Options,
    random: Random,
    matrix: Matrix,
    /// Flows that are there already, with the source port where it matters.
    seen: HashSet<(IpAddr, IpAddr, Target, Option<u16>)>,
    /// Those of [`SOURCE_PORTS`] on which no machine listens for a probe (all, if there are none); not empty.
    source_ports: Vec<u16>,
    /// Where each pair's next one is.
    used_ports: BTreeMap<(IpAddr, IpAddr), u64>,
    mentioned: BTreeSet<Target>,
    interfaces: BTreeSet<&'a str>,
    /// One of so many pairs is probed.
    every: usize,
}

/// Two addresses of different machines.
struct Pair<'a> {
    source: IpAddr,
    destination: IpAddr,
    sources: &'a [usize],
    destinations: &'a [usize],
}

impl Maker<'_> {
    fn declared(&mut self, line: &Line<'_>, family: Family) {
        let (source, destination) = (&line.source.addresses, line.destination);
        if !source.has(family) || !(destination.has(family) || line.has_names) {
            return;
        }
        let (targets, left_out) = targets(&line.upper, family);
        for reason in left_out {
            self.not_probed(line, family, &service_text(line, None), reason);
        }
        if targets.is_empty() {
            return;
        }
        let has_ports = targets.iter().any(|target| matches!(target, Target::Tcp(_) | Target::Udp(_)));
        let machines = self.machines;
        let sources = holders(machines, source, family);
        let mut destinations = holders(machines, destination, family);
        if sources.is_empty() {
            let reason = format!("no vantage: no machine of `{}` can be probed from", line.source.text);
            return self.not_probed(line, family, &service_text(line, None), reason);
        }
        if destinations.is_empty() {
            destinations = self.strangers(destination, family);
        }
        if destinations.is_empty() {
            let reason = format!("no vantage: no machine of `{}` can be probed to", line.destination_text);
            return self.not_probed(line, family, &service_text(line, None), reason);
        }
        let mut any_pair = false;
        for (source, from) in &sources {
            for (destination, to) in &destinations {
                // A node's traffic to itself is not a matter of policy, and a floating address may be here.
                if from.iter().any(|machine| to.contains(machine)) {
                    continue;
                }
                any_pair = true;
                if self.is_left_out() {
                    self.matrix.left_out += targets.len();
                    continue;
                }
                let pair = Pair { source: *source, destination: *destination, sources: from, destinations: to };
                for target in &targets {
                    self.declared_flow(line, &pair, *target, family, has_ports);
                }
            }
        }
        let machines: AddressSet = sources.keys().chain(destinations.keys()).copied().collect();
        // A rule between one machine and itself, such as that of a cluster of one, declares no flow.
        let only_itself = of_family(&source.union(destination), family).is_subset(&machines);
        if !any_pair && !only_itself {
            let reason = "no vantage: both ends are the same machine".to_owned();
            self.not_probed(line, family, &service_text(line, None), reason);
        }
    }

    fn is_left_out(&mut self) -> bool {
        self.every > 1 && self.random.below(self.every) != 0
    }

    /// Destinations that are no machine's, where they are few single addresses: someone named them
    /// on purpose. Nothing is sent to a prefix's addresses, or to multicast ones.
    fn strangers(&self, destination: &AddressSet, family: Family) -> BTreeMap<IpAddr, Vec<usize>> {
        let single = destination.prefixes().into_iter().all(|prefix| prefix.prefix_len() == prefix.max_prefix_len());
        let found = if single { addresses(destination, family, MOST_STRANGERS) } else { Vec::new() };
        let of_one = |address: &IpAddr| !is_broadcast(*address, self.policy.internal.as_ref());
        found.into_iter().filter(of_one).map(|address| (address, Vec::new())).collect()
    }

    fn declared_flow(&mut self, line: &Line<'_>, pair: &Pair<'_>, target: Target, family: Family, has_ports: bool) {
        let allowed = line.source_ports.map(sample::ports);
        let fixed = allowed.as_ref().and_then(|ports| ports.first().copied());
        if !self.seen.insert((pair.source, pair.destination, target, fixed)) {
            return;
        }
        let (port, past, slot) = match &allowed {
            Some(ports) => match ports[..] {
                [] => return,
                [only] => (only, None, None),
                [first, .., last] => (first, Some(last), None),
            },
            None => self.two_source_ports(pair),
        };
        let Some((open, reason)) = self.expected(pair, target, port, line.via) else { return };
        // What has no ports can't be sent past the source, and would say nothing of the destination;
        // where a rule is about ports too, these stand for it.
        let (by_source, by_destination, _) = self.enforcers(pair);
        if !open && by_source && by_destination && has_ports && matches!(target, Target::Echo | Target::Other(_)) {
            return;
        }
        if line.via.is_none() && self.depends_on_interface(pair, target, port) {
            let service = service_text(line, Some(target));
            return self.not_probed(line, family, &service, "it depends on the interface that the flow takes".into());
        }
        let roles = format!("{} -> {}", line.source.text, line.destination_text);
        let service = service_text(line, Some(target));
        self.case(pair, target, (port, past, slot), open, reason, roles, service, true);
    }

    /// For each ordered pair of machines: the policy's ports that are not open, and a few others.
    fn undeclared(&mut self) {
        for source in 0..self.machines.len() {
            for destination in 0..self.machines.len() {
                if source == destination {
                    continue;
                }
                for family in Family::ALL {
                    if self.is_left_out() {
                        self.matrix.left_out += 1;
                        continue;
                    }
                    self.undeclared_pair(source, destination, family);
                }
            }
        }
    }

    fn undeclared_pair(&mut self, source: usize, destination: usize, family: Family) {
        let (machines, policy) = (self.machines, self.policy);
        // A floating address may be elsewhere; a machine's own stand for it.
        let own = |machine: &Machine| {
            let floating = policy.nodes.get(machine.name.as_str()).map(|node| node.floating.clone()).unwrap_or_default();
            let of_family = machine.addresses.iter().copied().filter(|address| Family::of(*address) == family);
            of_family.into_iter().find(|address| !floating.contains(*address))
        };
        let (Some(from), Some(to)) = (own(&machines[source]), own(&machines[destination])) else { return };
        let pair = Pair { source: from, destination: to, sources: &[source], destinations: &[destination] };
        let (by_source, by_destination, between) = self.enforcers(&pair);
        if !by_source && !by_destination && !between {
            return;
        }
        let mut candidates: Vec<Target> = self.mentioned.iter().copied().collect();
        // ICMP can't be sent past the source, so that it would tell nothing of the destination.
        if !(by_source && by_destination) {
            candidates.push(Target::Echo);
        }
        let candidates: Vec<Target> = candidates.into_iter().filter(|target| self.is_undeclared(&pair, *target)).collect();
        let mut chosen = match self.options.denied {
            Denied::All => candidates,
            Denied::Some(0) => return,
            Denied::Some(count) => self.random.some(candidates, count),
        };
        let unmentioned = (0..UNMENTIONED * 4).map(|index| {
            let port = 1 + self.random.below(LAST_UNMENTIONED) as u16;
            if index % 2 == 0 { Target::Tcp(port) } else { Target::Udp(port) }
        });
        let unmentioned: Vec<Target> = unmentioned.collect();
        chosen.extend(unmentioned.into_iter().filter(|target| !self.mentioned.contains(target) && self.is_undeclared(&pair, *target)).take(UNMENTIONED));
        for target in chosen {
            if !self.seen.insert((pair.source, pair.destination, target, None)) {
                continue;
            }
            let (port, past, slot) = self.two_source_ports(&pair);
            let Some((open, reason)) = self.expected(&pair, target, port, None) else { continue };
            let roles = format!("{} -> {}", machines[source].name, machines[destination].name);
            self.case(&pair, target, (port, past, slot), open, reason, roles, target.text(), false);
        }
    }

    fn is_undeclared(&self, pair: &Pair<'_>, target: Target) -> bool {
        let port = SOURCE_PORTS[0].0;
        matches!(self.expected(pair, target, port, None), Some((false, _)))
            && !self.depends_on_interface(pair, target, port)
            && !self.seen.contains(&(pair.source, pair.destination, target, None))
    }

    /// Whether the policy opens the flow, and what decides that.
    fn expected(&self, pair: &Pair<'_>, target: Target, port: u16, via: Option<&str>) -> Option<(bool, Reason)> {
        let upper = target.upper(Family::of(pair.source), port)?;
        let flow = Flow::new(pair.source, pair.destination, upper)?;
        let judgement = self.policy.judge(&flow, via, self.options.now, |_, _| false);
        Some((judgement.verdict == Verdict::Accept, judgement.reason))
    }

    /// Which interface the flow takes is the machines' routing, which the policy does not know.
    fn depends_on_interface(&self, pair: &Pair<'_>, target: Target, port: u16) -> bool {
        let open = |via| self.expected(pair, target, port, via).map(|(open, _)| open);
        let plain = open(None);
        self.interfaces.iter().any(|interface| open(Some(interface)) != plain)
    }

    /// Whether the source, the destination, and someone between them close what is not allowed.
    fn enforcers(&self, pair: &Pair<'_>) -> (bool, bool, bool) {
        let all = |machines: &[usize]| !machines.is_empty() && machines.iter().all(|index| self.machines[*index].enforces);
        let between = self.machines.iter().enumerate().any(|(index, machine)| {
            machine.enforces
                && !pair.sources.contains(&index)
                && !pair.destinations.contains(&index)
                && (machine.routes.contains(pair.source) || machine.routes.contains(pair.destination))
        });
        (all(pair.sources), all(pair.destinations), between)
    }

    fn names(&self, machines: &[usize]) -> String {
        let names: Vec<_> = machines.iter().map(|index| self.machines[*index].name.as_str()).collect();
        if names.is_empty() { "a stranger".into() } else { names.join(" or ") }
    }

    /// Of the two tries, with the place of the first.
    fn two_source_ports(&mut self, pair: &Pair<'_>) -> (u16, Option<u16>, Option<u64>) {
        let used = self.used_ports.entry((pair.source, pair.destination)).or_insert(self.options.nonce % self.source_ports.len() as u64);
        // All together are more than any pair needs; beyond them ports are used again.
        let port = |slot: u64| self.source_ports[(slot % self.source_ports.len() as u64) as usize];
        let slot = *used;
        *used += 2;
        (port(slot), Some(port(slot + 1)), Some(slot))
    }

    #[expect(clippy::too_many_arguments, reason = "a case's parts, each from another place")]
    fn case(
        &mut self,
        pair: &Pair<'_>,
        target: Target,
        (source_port, past, slot): (u16, Option<u16>, Option<u64>),
        open: bool,
        reason: Reason,
        roles: String,
        service: String,
        declared: bool,
    ) {
        let (source_enforces, destination_enforces, between_enforces) = self.enforcers(pair);
        let past_source_port = past.filter(|_| source_enforces);
        let min_tls = self.policy.min_tls.filter(|_| open && self.speaks_tls(target, &service)).map(|least| match least {
            ringwall_policy::TlsVersion::V1_2 => TlsVersion::V1_2,
            ringwall_policy::TlsVersion::V1_3 => TlsVersion::V1_3,
        });
        let packet = match target {
            Target::Tcp(port) => Packet::Tcp { source_port, port, past_source_port, tls: min_tls.is_some() },
            Target::Udp(port) => Packet::Udp { source_port, port, past_source_port },
            Target::Echo => Packet::Echo { identifier: source_port },
            Target::Other(number) => Packet::Other { number },
        };
        let id = u32::try_from(self.matrix.cases.len()).unwrap_or(u32::MAX);
        self.matrix.cases.push(Case {
            probe: Probe { id, source: pair.source, destination: pair.destination, packet },
            sources: pair.sources.to_vec(),
            destinations: pair.destinations.to_vec(),
            source_name: self.names(pair.sources),
            destination_name: self.names(pair.destinations),
            expectation: Expectation { open, source_enforces, destination_enforces, between_enforces, min_tls },
            reason,
            roles,
            service,
            declared,
            slot,
        });
    }

    fn speaks_tls(&self, target: Target, service: &str) -> bool {
        /// Services whose first bytes are a TLS greeting, by the registry's names.
        const NAMES: [&str; 16] = [
            "https", "ldaps", "mqtts", "secure-mqtt", "imaps", "pop3s", "smtps", "submissions", "ftps", "nntps", "ircs-u",
            "sips", "sip-tls", "amqps", "syslog-tls", "domain-s",
        ];
        let Target::Tcp(port) = target else { return false };
        let registered = ringwall_services::name_of(Protocol::TCP, port).unwrap_or_default();
        let number = format!("{port}/tcp");
        NAMES.contains(&service) || NAMES.contains(&registered)
            || self.options.tls.iter().any(|named| named == service || named == registered || *named == number)
    }

    fn not_probed(&mut self, line: &Line<'_>, family: Family, service: &str, reason: String) {
        self.matrix.not_probed.push(NotProbed {
            roles: format!("{} -> {}", line.source.text, line.destination_text),
            service: service.to_owned(),
            family,
            rule: line.id.clone(),
            reason,
        });
    }
}

/// The service as the rule writes it: the one that has the target, or all.
fn service_text(line: &Line<'_>, target: Option<Target>) -> String {
    let has = |service: &&ServiceUse| {
        target.is_some_and(|target| {
            Family::ALL.iter().any(|family| {
                target.upper(*family, SOURCE_PORTS[0].0).is_some_and(|upper| service.upper.contains(upper, *family))
            })
        })
    };
    match line.services.iter().find(has) {
        Some(service) => service.text.clone(),
        None if line.services.is_empty() => "any".into(),
        None => line.services.iter().map(|service| service.text.as_str()).collect::<Vec<_>>().join(", "),
    }
}
