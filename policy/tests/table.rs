//! The policy's table decides every packet as the policy itself does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;
use ringwall_diagnostic::{Sources, Span};
use ringwall_packet::{
    Address, AddressSet, Conditions, Cube, Family, Flow, FlowSet, Interval, IntervalSet, Protocol, Row, Space, Upper,
    UpperCube, UpperSet, Variable,
};
use ringwall_policy::{
    Action, Decider, End, Expectation, Floor, Judgement, Management, Name, Node, OnDrift, OnTighten, Origin, Policy, Rule, RuleId, ServiceUse,
    Reason, Stage, Surprise, Verdict, expectation_failures, is_answer, merged, uses_interface,
};

const NOW: u64 = 1_800_000_000;
const STEPS: u64 = 1_000_000;
const VIAS: [&str; 2] = ["wan", "vpn"];
const NAMES: [&str; 2] = ["ntp.example.net", "mirror.example.net"];

/// Few addresses, so that rules and flows meet.
const ADDRESSES: [&str; 8] = [
    "192.0.2.1", "192.0.2.2", "192.0.2.3", "198.51.100.1", "2001:db8::1", "2001:db8::2", "2001:db8:1::1", "203.0.113.9",
];

fn address(index: usize) -> IpAddr {
    ADDRESSES[index].parse().expect("a constant address")
}

fn origin() -> Origin {
    let span = Span { source: Sources::new().add("", ""), start: 0, end: 0 };
    Origin { span, place: String::new(), section: None }
}

fn end() -> impl Strategy<Value = End> {
    let set = prop_oneof![
        1 => Just(AddressSet::full()),
        6 => prop::collection::vec(0..ADDRESSES.len(), 0..4).prop_map(|some| some.into_iter().map(address).collect()),
    ];
    set.prop_map(|addresses| End { text: String::new(), addresses, names: BTreeSet::new() })
}

fn destination() -> impl Strategy<Value = End> {
    let names = prop::collection::btree_set(prop::sample::select(&NAMES[..]).prop_map(str::to_owned), 0..3);
    (end(), prop::option::weighted(0.3, names)).prop_map(|(end, names)| End { names: names.unwrap_or_default(), ..end })
}

fn service() -> impl Strategy<Value = ServiceUse> {
    let ports = |protocol, first: u16, last: u16| {
        let ports = Interval::new(first.min(last), first.max(last)).expect("an ordered pair");
        UpperCube::ports(protocol, ports.into()).expect("a protocol with ports")
    };
    let cube = prop_oneof![
        1 => Just(UpperCube::any()),
        3 => (0u16..5, 0u16..5).prop_map(move |(first, last)| ports(Protocol::TCP, first, last)),
        3 => (0u16..5, 0u16..5).prop_map(move |(first, last)| ports(Protocol::UDP, first, last)),
        1 => prop::sample::select(vec![Protocol::ICMP, Protocol::ICMPV6, Protocol::ESP, Protocol::TCP]).prop_map(UpperCube::protocol),
        1 => Just(UpperCube::icmp(Family::V4, 8, None)),
        1 => Just(UpperCube::icmp(Family::V6, 128, Some(0))),
    ];
    cube.prop_map(|cube| ServiceUse { text: String::new(), upper: std::iter::once(cube).collect() })
}

fn rule() -> impl Strategy<Value = Rule> {
    let ends = (end(), destination(), any::<bool>());
    let services = (prop::collection::vec(service(), 1..4), prop::option::weighted(0.1, 0u16..4));
    let stage = prop_oneof![4 => Just(Stage::Enforce), 1 => Just(Stage::Audit)];
    let when = (stage, prop::option::weighted(0.3, prop::sample::select(vec![NOW - 1, NOW, NOW + 1])));
    let via = prop::option::weighted(0.3, prop::sample::select(&VIAS[..]));
    (any::<bool>(), ends, services, when, via, any::<bool>()).prop_map(|(deny, ends, services, (stage, expires), via, reject)| {
        let (source, mut destination, both_ways) = ends;
        if deny || both_ways {
            destination.names.clear();
        }
        let has_ports = |service: &ServiceUse| {
            service.upper.cubes().iter().all(|cube| cube.with_source_ports(&IntervalSet::single(1)).is_some())
        };
        let source_ports = services.1.filter(|_| services.0.iter().all(has_ports)).map(IntervalSet::single);
        Rule {
            id: RuleId::new("r").expect("an id"),
            action: if deny { Action::Deny } else { Action::Allow },
            source,
            destination,
            both_ways,
            services: services.0,
            source_ports,
            via: via.map(|via| Name::new(via).expect("a name")),
            session_timeout: None,
            expires,
            stage,
            log: false,
            reject: reject && deny,
            note: None,
            owner: None,
            origin: origin(),
        }
    })
}

fn node(index: usize) -> Node {
    let name = Name::new(&format!("n{index}")).expect("a name");
    Node {
        name,
        addresses: address(index).into(),
        floating: AddressSet::default(),
        labels: BTreeMap::new(),
        site: None,
        routes: AddressSet::default(),
        interfaces: BTreeMap::new(),
        unmanaged: BTreeSet::new(),
        stage: Stage::Enforce,
        origin: origin(),
    }
}

fn policy() -> impl Strategy<Value = Policy> {
    let management = prop::option::of((end(), prop::collection::vec(service(), 1..3)));
    let rules = prop::collection::vec((rule(), any::<u32>()), 0..9);
    (rules, management, any::<bool>()).prop_map(|(rules, management, without_management)| {
        let rules = rules.into_iter().enumerate().map(|(at, (rule, id))| {
            let id = RuleId::new(&format!("{id:08x}-{at}")).expect("an id");
            Rule { id, ..rule }
        });
        Policy {
            internal: None,
            min_tls: None,
            management: management.map(|(from, services)| Management { from, services, origin: origin() }),
            floor: Floor { without_management, ..Floor::default() },
            protected: AddressSet::default(),
            on_tighten: OnTighten::Cut,
            on_drift: OnDrift::Heal,
            nodes: [0, 1, 4].map(node).into_iter().map(|node| (node.name.clone(), node)).collect(),
            groups: BTreeMap::new(),
            rules: rules.collect(),
            expectations: Vec::new(),
            unused: Vec::new(),
        }
    })
}

fn flow() -> impl Strategy<Value = Flow> {
    let upper = prop_oneof![
        (0u16..5, 0u16..6).prop_map(|(source, destination)| Upper::tcp(source, destination)),
        (0u16..5, 0u16..6).prop_map(|(source, destination)| Upper::udp(source, destination)),
        prop::sample::select(vec![(8, 0), (8, 1), (128, 0), (128, 1)]).prop_map(|(kind, code)| Upper::Icmp { kind, code }),
        Just(Upper::other(Protocol::ESP).expect("a protocol with neither ports nor types")),
    ];
    let pair = (0..ADDRESSES.len(), 0..ADDRESSES.len());
    (pair, upper).prop_filter_map("one family", |((from, to), upper)| Flow::new(address(from), address(to), upper))
}

/// What a packet has beyond its header: the interface, and the answers for each name.
fn holds(variable: &Variable, flow: &Flow, via: Option<&str>, answers: &[BTreeSet<usize>]) -> bool {
    if let Some(via) = via
        && *variable == uses_interface(via)
    {
        return true;
    }
    NAMES.iter().zip(answers).any(|(name, answers)| {
        *variable == is_answer(name) && answers.iter().any(|answer| address(*answer) == flow.destination())
    })
}

fn first<A: Address>(
    rows: &[Row<A, Decider>],
    flow: &Flow,
    holds: impl Fn(&Variable) -> bool,
    set: impl Fn(Cube<A>) -> FlowSet,
) -> Option<Decider> {
    let all_hold = |conditions: &Conditions| {
        conditions.iter().all(|(variable, values)| values.contains(u128::from(holds(variable))))
    };
    let matching = |row: &&Row<A, Decider>| set(row.matches.cube.clone()).contains(flow) && all_hold(&row.matches.conditions);
    rows.iter().find(matching).map(|row| row.decision)
}

proptest! {
    #[test]
    fn the_table_decides_as_the_policy_does(
        policy in policy(),
        flows in prop::collection::vec(flow(), 30),
        answers in prop::collection::vec(prop::collection::btree_set(0..ADDRESSES.len(), 0..3), NAMES.len()),
    ) {
        let table = policy.table(NOW);
        for flow in &flows {
            for via in [None, Some(VIAS[0]), Some(VIAS[1])] {
                let holds = |variable: &Variable| holds(variable, flow, via, &answers);
                let found = match flow.family() {
                    Family::V4 => first(&table.v4, flow, holds, |cube| FlowSet { v4: Space::from(cube), ..FlowSet::default() }),
                    Family::V6 => first(&table.v6, flow, holds, |cube| FlowSet { v6: Space::from(cube), ..FlowSet::default() }),
                };
                let found = found.expect("the last row matches everything");
                let resolved = |name: &str, asked: IpAddr| {
                    let at = NAMES.iter().position(|known| *known == name).expect("one of the names");
                    answers[at].iter().any(|answer| address(*answer) == asked)
                };
                let judged = policy.judge(flow, via, NOW, resolved);
                prop_assert_eq!(policy.reason(found), judged.reason, "{}", flow);
                prop_assert_eq!(policy.verdict(found), judged.verdict, "{}", flow);
            }
        }
    }

    #[test]
    fn a_line_that_holds_holds_for_every_flow(
        policy in policy(),
        line in (any::<bool>(), end(), end(), any::<bool>(), prop::collection::vec(service(), 0..3)),
        flows in prop::collection::vec(flow(), 200),
    ) {
        let (allow, source, destination, both_ways, services) = line;
        let action = if allow { Action::Allow } else { Action::Deny };
        let line = Expectation { action, source, destination, both_ways, services, origin: origin() };
        let policy = Policy { expectations: vec![line.clone()], ..policy };
        let Some((_, found)) = expectation_failures(&policy, NOW, STEPS).next() else {
            let ends = |from: &End, to: &End, flow: &Flow| from.addresses.contains(flow.source()) && to.addresses.contains(flow.destination());
            let upper = |flow: &Flow| line.services.is_empty() || line.services.iter().any(|one| one.upper.contains(flow.upper(), flow.family()));
            let to_itself = |flow: &Flow| policy.nodes.values().any(|node| {
                node.addresses.contains(flow.source()) && node.addresses.contains(flow.destination())
            });
            let about = |flow: &&Flow| {
                let there = ends(&line.source, &line.destination, flow) || (line.both_ways && ends(&line.destination, &line.source, flow));
                there && upper(flow) && !to_itself(flow)
            };
            for flow in flows.iter().filter(about) {
                let judged = [None, Some(VIAS[0]), Some(VIAS[1])].map(|via| policy.judge(flow, via, NOW, |_, _| false));
                let accepted = |one: &Judgement| one.verdict == Verdict::Accept;
                let denied = |one: &Judgement| !accepted(one) && one.reason != Reason::Default;
                match action {
                    Action::Deny => prop_assert!(!judged.iter().any(accepted), "{flow}"),
                    Action::Allow => prop_assert!(judged.iter().any(accepted) && !judged.iter().any(denied), "{flow}"),
                }
            }
            return Ok(());
        };
        let Surprise { witness, decider } = found.expect("within the budget");
        let holds = |via: &&str| witness.conditions.iter().any(|(known, value)| *known == uses_interface(via) && *value > 0);
        let vias: Vec<&str> = VIAS.into_iter().filter(holds).collect();
        if vias.len() < 2 {
            let judged = policy.judge(&witness.flow, vias.first().copied(), NOW, |_, _| false);
            prop_assert_eq!(policy.reason(decider), judged.reason, "{}", witness);
            prop_assert_eq!(judged.verdict == Verdict::Accept, action == Action::Deny, "{}", witness);
        }
        prop_assert!(expectation_failures(&policy, NOW, 0).next().is_some_and(|(_, found)| found.is_err()));
    }

    #[test]
    fn merging_changes_no_set(services in prop::collection::vec(service(), 0..6), flows in prop::collection::vec(flow(), 30)) {
        let upper: UpperSet = services.iter().flat_map(|service| service.upper.cubes()).cloned().collect();
        let merged = merged(&upper);
        prop_assert!(merged.cubes().len() <= upper.cubes().len());
        for flow in &flows {
            prop_assert_eq!(merged.contains(flow.upper(), flow.family()), upper.contains(flow.upper(), flow.family()));
        }
    }
}
