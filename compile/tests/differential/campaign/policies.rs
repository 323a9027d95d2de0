//! Random policies over the zones, small and large, tidy and tangled.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ringwall_diagnostic::{Sources, Span};
use ringwall_packet::{AddressSet, Family, Interval, IntervalSet, Protocol, UpperCube};
use ringwall_policy::{
    Action, End, Floor, Management, Name, Node, OnDrift, OnTighten, Origin, Policy, Rule, RuleId, ServiceUse, Stage,
};

use super::random::{Coordinate, Random};
use super::world::{FLOATING, ZONES, prefixes};

/// A policy, and what it needs to be judged.
#[derive(Clone, Debug)]
pub struct Case {
    pub policy: Policy,
    /// What each DNS name stands for.
    pub answers: BTreeMap<String, AddressSet>,
}

impl Case {
    pub fn resolved(&self, name: &str, address: IpAddr) -> bool {
        self.answers.get(name).is_some_and(|answers| answers.contains(address))
    }
}

const NAMES: [(&str, [&str; 2]); 2] = [
    ("ntp.example.net", ["198.18.0.1", "2001:db8:5::123"]),
    ("mirror.example.net", ["198.18.0.2", "2001:db8:5::80"]),
];

struct Generator<'a> {
    random: &'a mut Random,
    nodes: Vec<AddressSet>,
    internal: AddressSet,
    v4: Vec<Interval<Ipv4Addr>>,
    v6: Vec<Interval<Ipv6Addr>>,
    ports: Vec<u16>,
}

/// `now` is in seconds since the epoch.
pub fn case(random: &mut Random, now: u64) -> Case {
    let count = random.within(1, 3);
    let (rules, tangled) = match random.weighted(&[45, 35, 18, 2]) {
        0 => (random.within(1, 9), false),
        1 => (random.within(10, 40), false),
        2 => (random.within(15, 40), true),
        _ => (random.within(150, 300), false),
    };
    let nodes: Vec<Node> = (0..count).map(|zone| node(random, zone)).collect();
    let internal = prefixes(ZONES[..random.within(1, 3)].iter().flatten().copied());
    let mut generator = Generator {
        nodes: nodes.iter().map(Node::local).collect(),
        internal,
        v4: Vec::new(),
        v6: Vec::new(),
        ports: Vec::new(),
        random,
    };
    generator.fill_palette(if tangled { 8 } else { 16 });
    let mut taken = BTreeSet::new();
    let rules = (0..rules).map(|_| generator.rule(&mut taken, tangled, now)).collect();
    let management = generator.random.chance(50).then(|| Management {
        from: generator.end(),
        services: vec![generator.service()],
        origin: origin(),
    });
    let random = generator.random;
    let floor = Floor {
        without_dhcp: random.chance(20),
        without_neighbour_discovery: random.chance(20),
        without_multicast_listener: random.chance(20),
        without_management: random.chance(10),
    };
    let address = |text: &str| text.parse::<IpAddr>().expect("a constant address");
    Case {
        policy: Policy {
            internal: Some(generator.internal),
            min_tls: None,
            management,
            floor,
            protected: if random.chance(30) { prefixes(["203.0.113.128/25", "2001:db8:2:8000::/49"]) } else { AddressSet::default() },
            on_tighten: OnTighten::Cut,
            on_drift: OnDrift::Heal,
            nodes: nodes.into_iter().map(|node| (node.name.clone(), node)).collect(),
            groups: BTreeMap::new(),
            rules,
            expectations: Vec::new(),
            unused: Vec::new(),
        },
        answers: NAMES.map(|(name, texts)| (name.to_owned(), texts.map(address).into_iter().collect())).into(),
    }
}

/// Node `nZ` of zone Z.
fn node(random: &mut Random, zone: usize) -> Node {
    let own = prefixes(ZONES[zone]).difference(&prefixes(FLOATING));
    let mut addresses = AddressSet::default();
    for _ in 0..random.within(1, 4) {
        addresses = addresses.union(&some_address(random, &own, Family::V4));
        if random.chance(75) {
            addresses = addresses.union(&some_address(random, &own, Family::V6));
        }
    }
    let mut floating = AddressSet::default();
    if random.chance(30) {
        floating = Family::ALL.into_iter().map(|family| some_address(random, &prefixes(FLOATING), family)).collect();
    }
    let others = [ZONES[(zone + 1) % 3], ZONES[(zone + 2) % 3]].concat();
    let routes: AddressSet = others.into_iter().filter(|_| random.chance(45)).map(|text| prefixes([text])).collect();
    let mut interfaces = BTreeMap::new();
    for (policy, kernel) in [("inside", "west"), ("outside", "east")] {
        if random.chance(75) {
            interfaces.insert(name(policy), kernel.to_owned());
        }
    }
    Node {
        name: name(&format!("n{zone}")),
        addresses,
        floating,
        labels: BTreeMap::new(),
        site: None,
        routes,
        interfaces,
        unmanaged: BTreeSet::new(),
        stage: if random.chance(8) { Stage::Audit } else { Stage::Enforce },
        origin: origin(),
    }
}

fn some_address(random: &mut Random, among: &AddressSet, family: Family) -> AddressSet {
    let on_boundary = random.chance(20);
    let address: Option<IpAddr> = match family {
        Family::V4 => random.point(&among.v4, on_boundary).map(IpAddr::from),
        Family::V6 => random.point(&among.v6, on_boundary).map(IpAddr::from),
    };
    address.map(AddressSet::from).unwrap_or_default().intersection(among)
}

impl Generator<'_> {
    /// Intervals and ports that rules share, so that their boxes overlap, touch and nest.
    fn fill_palette(&mut self, size: usize) {
        let all = prefixes(ZONES.iter().flatten().chain(&FLOATING).copied());
        for _ in 0..size {
            let v4 = self.interval(&all.v4, 8);
            self.v4.push(v4);
            let v6 = self.interval(&all.v6, 80);
            self.v6.push(v6);
            // Half-overlapping: from inside one to inside another.
            let ends = [self.random.pick(&self.v4).first(), self.random.pick(&self.v4).last()];
            self.v4.extend(Interval::new(ends[0], ends[1]));
            let ends = [self.random.pick(&self.v6).first(), self.random.pick(&self.v6).last()];
            self.v6.extend(Interval::new(ends[0], ends[1]));
        }
        self.ports = vec![0, 22, 53, 67, 68, 80, 443, 546, 547, 1023, 1024, 32_768, 65_535];
        for _ in 0..size / 2 {
            let port = self.random.number().to_le_bytes();
            self.ports.push(u16::from_le_bytes([port[0], port[1]]));
        }
    }

    /// A single address, a prefix, or any interval of addresses.
    fn interval<P: Coordinate>(&mut self, among: &IntervalSet<P>, host_bits: usize) -> Interval<P> {
        let within = *self.random.pick(among.intervals());
        let one = self.random.inside(within);
        match self.random.below(3) {
            0 => Interval::single(one),
            1 => {
                let mask = (1u128 << self.random.below(host_bits + 1)) - 1;
                let (first, last) = (one.bits() & !mask, one.bits() | mask);
                Interval::new(P::from_bits(first), P::from_bits(last)).expect("a prefix")
            }
            _ => {
                let two = self.random.inside(within);
                Interval::new(one.min(two), one.max(two)).expect("in order")
            }
        }
    }

    fn addresses(&mut self) -> AddressSet {
        match self.random.weighted(&[8, 8, 4, 14, 26, 40]) {
            0 => AddressSet::full(),
            1 => Policy::internet(&self.internal, &self.nodes.iter().cloned().collect()),
            2 => self.internal.clone(),
            3 => prefixes(*self.random.pick(&ZONES)),
            4 => self.random.pick(&self.nodes).clone(),
            _ => {
                let mut set = AddressSet::default();
                for _ in 0..self.random.within(1, 4) {
                    set = set.union(&self.one_of_palette());
                }
                if self.random.chance(25) {
                    let except = self.one_of_palette();
                    set = set.difference(&except);
                }
                set
            }
        }
    }

    fn one_of_palette(&mut self) -> AddressSet {
        let mut set = AddressSet::default();
        let families = self.random.weighted(&[60, 20, 20]);
        if families != 1 {
            set.v4 = (*self.random.pick(&self.v4)).into();
        }
        if families != 2 {
            set.v6 = (*self.random.pick(&self.v6)).into();
        }
        set
    }

    fn end(&mut self) -> End {
        let mut addresses = self.addresses();
        while addresses.is_empty() {
            addresses = self.addresses();
        }
        End { text: words(&addresses), addresses, names: BTreeSet::new() }
    }

    fn port_set(&mut self) -> IntervalSet<u16> {
        let mut set = IntervalSet::default();
        for _ in 0..self.random.weighted(&[0, 80, 15, 5]) {
            let (one, two) = (*self.random.pick(&self.ports), *self.random.pick(&self.ports));
            let two = if self.random.chance(60) { one } else { two };
            set = set.union(&Interval::new(one.min(two), one.max(two)).expect("in order").into());
        }
        set
    }

    fn service(&mut self) -> ServiceUse {
        const WITH_PORTS: [Protocol; 4] = [Protocol::TCP, Protocol::UDP, Protocol::SCTP, Protocol::DCCP];
        const NUMBERS: [u8; 19] = [0, 1, 2, 4, 6, 17, 41, 43, 44, 47, 50, 51, 58, 59, 60, 89, 112, 135, 255];
        let cube = match self.random.weighted(&[74, 8, 6, 6, 6]) {
            0 => {
                let protocol = WITH_PORTS[self.random.weighted(&[55, 35, 7, 3])];
                UpperCube::ports(protocol, self.port_set()).expect("it has ports")
            }
            1 => {
                let (family, kind) = *self.random.pick(&[(Family::V4, 8), (Family::V6, 128)]);
                UpperCube::icmp(family, kind, None)
            }
            2 => {
                let family = *self.random.pick(&Family::ALL);
                let kind = *self.random.pick(&[0, 3, 5, 8, 11, 13, 128, 129, 130, 133, 135, 137, 139, 143, 255]);
                let code = self.random.chance(40).then(|| *self.random.pick(&[0, 1, 255]));
                UpperCube::icmp(family, kind, code)
            }
            3 => UpperCube::protocol(Protocol(*self.random.pick(&NUMBERS))),
            _ => UpperCube::any(),
        };
        ServiceUse { text: upper_words(&cube), upper: [cube].into_iter().collect() }
    }

    fn rule(&mut self, taken: &mut BTreeSet<String>, tangled: bool, now: u64) -> Rule {
        let id = loop {
            let digits = format!("{:08x}", self.random.number() >> 32);
            let id = if self.random.chance(20) { format!("Rule-{}.{}", &digits[..2], &digits[2..4]) } else { digits };
            if taken.insert(id.clone()) {
                break RuleId::new(&id).expect("an id");
            }
        };
        let action = if self.random.chance(if tangled { 40 } else { 20 }) { Action::Deny } else { Action::Allow };
        let mut services: Vec<ServiceUse> = (0..self.random.weighted(&[0, 60, 30, 10])).map(|_| self.service()).collect();
        if action == Action::Deny && self.random.chance(30) {
            services.clear();
        }
        let source = self.end();
        let mut destination = if self.random.chance(4) { source.clone() } else { self.end() };
        let both_ways = self.random.chance(20);
        if action == Action::Allow && !both_ways && self.random.chance(6) {
            destination.names.insert(self.random.pick(&NAMES).0.to_owned());
            if self.random.chance(50) {
                destination.addresses = AddressSet::default();
            }
        }
        let have_ports = services.iter().all(|service| {
            service.upper.cubes().iter().all(|cube| cube.with_source_ports(&IntervalSet::full()).is_some())
        });
        let source_ports =
            (have_ports && !services.is_empty() && self.random.chance(12)).then(|| self.port_set());
        let via = self.random.chance(8).then(|| name(["inside", "outside", "elsewhere"][self.random.below(3)]));
        let day = u64::try_from(self.random.within(1, 400)).expect("a small number") * 86_400;
        let expires = match self.random.weighted(&[84, 8, 8]) {
            0 => None,
            1 => Some(now - day),
            _ => Some(now + day),
        };
        Rule {
            id,
            action,
            source,
            destination,
            both_ways,
            services,
            source_ports,
            via,
            session_timeout: (action == Action::Allow && self.random.chance(10)).then_some(14_400),
            expires,
            stage: if self.random.chance(10) { Stage::Audit } else { Stage::Enforce },
            log: self.random.chance(10),
            reject: action == Action::Deny && self.random.chance(30),
            note: None,
            owner: None,
            origin: origin(),
        }
    }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn origin() -> Origin {
    let source = Sources::new().add("random.yaml", "");
    Origin { span: Span { source, start: 0, end: 0 }, place: "random.yaml:1".into(), section: None }
}

fn words(addresses: &AddressSet) -> String {
    if addresses.is_full() {
        return "any".into();
    }
    let interval = |first: String, last: String| if first == last { first } else { format!("{first}-{last}") };
    let v4 = addresses.v4.intervals().iter().map(|i| interval(i.first().to_string(), i.last().to_string()));
    let v6 = addresses.v6.intervals().iter().map(|i| interval(i.first().to_string(), i.last().to_string()));
    v4.chain(v6).collect::<Vec<_>>().join(" ")
}

fn numbers(set: &IntervalSet<u16>) -> String {
    let words = set.intervals().iter().map(|i| format!("{}-{}", i.first(), i.last()));
    words.collect::<Vec<_>>().join(",")
}

fn upper_words(cube: &UpperCube) -> String {
    let protocol = match cube.protocols().only() {
        Some(number) => Protocol(number).to_string(),
        None => "any".into(),
    };
    if cube.destination_ports().is_full() { protocol } else { format!("{protocol}/{}", numbers(cube.destination_ports())) }
}

/// A rule as a person would say it, for reports.
pub fn describe(rule: &Rule) -> String {
    let arrow = if rule.both_ways { "<->" } else { "->" };
    let services: Vec<&str> = rule.services.iter().map(|service| service.text.as_str()).collect();
    let mut text = format!("{} {} {} {arrow} {}", rule.id, rule.action, rule.source.text, rule.destination.text);
    for name in &rule.destination.names {
        text.push_str(&format!(" {name}"));
    }
    text.push_str(&format!(" [{}]", services.join(", ")));
    if let Some(ports) = &rule.source_ports {
        text.push_str(&format!(" from ports {}", numbers(ports)));
    }
    if let Some(via) = &rule.via {
        text.push_str(&format!(" via {via}"));
    }
    if let Some(expires) = rule.expires {
        text.push_str(&format!(" expires {expires}"));
    }
    if rule.stage == Stage::Audit {
        text.push_str(" (audited)");
    }
    text
}
