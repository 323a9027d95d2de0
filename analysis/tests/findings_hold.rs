//! What the findings say of random policies is so, for every packet of a small world; and what is
//! planted is found.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;
use ringwall_analysis::findings::{self, Ports};
use ringwall_diagnostic::{Diagnostic, Sources, Span};
use ringwall_packet::{AddressSet, Family, Flow, Interval, Protocol, Upper, UpperCube};
use ringwall_policy::{
    Action, End, Floor, Judgement, Management, Name, Node, OnDrift, OnTighten, Origin, Policy, Reason, Rule, RuleId,
    ServiceUse, Stage,
};

const NOW: u64 = 1_800_000_000;
const VIAS: [&str; 2] = ["wan", "vpn"];
const NAMES: [&str; 2] = ["ntp.example.net", "mirror.example.net"];
/// Fewer than a finding shows places, so that each is seen.
const RULES: usize = 6;

/// Few addresses, so that rules and flows meet.
const ADDRESSES: [&str; 6] = ["192.0.2.1", "192.0.2.2", "198.51.100.1", "2001:db8::1", "2001:db8::2", "203.0.113.9"];

fn address(index: usize) -> IpAddr {
    ADDRESSES[index].parse().expect("a constant address")
}

/// The rule's place in the policy is where its span starts.
fn origin(at: usize) -> Origin {
    let source = Sources::new().add("", "");
    Origin { span: Span { source, start: at, end: at }, place: String::new(), section: None }
}

fn end() -> impl Strategy<Value = End> {
    let set = prop_oneof![
        1 => Just(AddressSet::full()),
        6 => prop::collection::vec(0..ADDRESSES.len(), 1..4).prop_map(|some| some.into_iter().map(address).collect()),
    ];
    set.prop_map(|addresses| End { text: String::new(), addresses, names: BTreeSet::new() })
}

fn destination() -> impl Strategy<Value = End> {
    let names = prop::collection::btree_set(prop::sample::select(&NAMES[..]).prop_map(str::to_owned), 0..3);
    (end(), prop::option::weighted(0.2, names)).prop_map(|(end, names)| End { names: names.unwrap_or_default(), ..end })
}

fn ports(protocol: Protocol, first: u16, last: u16) -> UpperCube {
    let ports = Interval::new(first.min(last), first.max(last)).expect("an ordered pair");
    UpperCube::ports(protocol, ports.into()).expect("a protocol with ports")
}

fn service() -> impl Strategy<Value = ServiceUse> {
    let cube = prop_oneof![
        1 => Just(UpperCube::any()),
        4 => (0u16..3, 0u16..3).prop_map(move |(first, last)| ports(Protocol::TCP, first, last)),
        2 => (0u16..3, 0u16..3).prop_map(move |(first, last)| ports(Protocol::UDP, first, last)),
        1 => prop::sample::select(vec![Protocol::ICMP, Protocol::ICMPV6, Protocol::TCP]).prop_map(UpperCube::protocol),
        1 => Just(UpperCube::icmp(Family::V4, 8, None)),
    ];
    (cube, 0u8..9).prop_map(|(cube, text)| ServiceUse { text: format!("s{text}"), upper: std::iter::once(cube).collect() })
}

fn rule() -> impl Strategy<Value = Rule> {
    let ends = (end(), destination(), any::<bool>());
    let expires = prop::option::weighted(0.2, prop::sample::select(vec![NOW, NOW + 1, NOW + 2]));
    let via = prop::option::weighted(0.2, prop::sample::select(&VIAS[..]));
    let does = (prop::bool::weighted(0.3), prop::bool::weighted(0.2), prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    (ends, prop::collection::vec(service(), 1..3), prop::bool::weighted(0.2), expires, via, does).prop_map(
        |(ends, mut services, audit, expires, via, (deny, reject, log, timeout))| {
            let (source, mut destination, both_ways) = ends;
            if deny || both_ways {
                destination.names.clear();
            }
            services.dedup_by(|a, b| a.text == b.text);
            Rule {
                id: RuleId::new("r").expect("an id"),
                action: if deny { Action::Deny } else { Action::Allow },
                source,
                destination,
                both_ways,
                services,
                source_ports: None,
                via: via.map(|via| Name::new(via).expect("a name")),
                session_timeout: (timeout && !deny).then_some(60),
                expires,
                stage: if audit { Stage::Audit } else { Stage::Enforce },
                log,
                reject: reject && deny,
                note: None,
                owner: None,
                origin: origin(0),
            }
        },
    )
}

/// A rule that is there for ever, everywhere, and does nothing but decide.
fn plain() -> impl Strategy<Value = Rule> {
    rule().prop_map(|rule| Rule {
        expires: None,
        via: None,
        stage: Stage::Enforce,
        log: false,
        reject: false,
        session_timeout: None,
        ..rule
    })
}

fn node(index: usize) -> Node {
    Node {
        name: Name::new(&format!("n{index}")).expect("a name"),
        addresses: address(index).into(),
        floating: AddressSet::default(),
        labels: BTreeMap::new(),
        site: None,
        routes: AddressSet::default(),
        interfaces: BTreeMap::new(),
        unmanaged: BTreeSet::new(),
        stage: Stage::Enforce,
        origin: origin(1000),
    }
}

/// With ids in an order that is not the file's.
fn in_place(rules: Vec<(Rule, u32)>) -> Vec<Rule> {
    let one = |(at, (rule, id)): (usize, (Rule, u32))| {
        let id = RuleId::new(&format!("{id:08x}-{at}")).expect("an id");
        Rule { id, origin: origin(at), ..rule }
    };
    rules.into_iter().enumerate().map(one).collect()
}

fn of_rules(rules: Vec<Rule>, management: Option<Management>) -> Policy {
    Policy {
        internal: None,
        min_tls: None,
        management,
        floor: Floor::default(),
        protected: AddressSet::default(),
        on_tighten: OnTighten::Cut,
        on_drift: OnDrift::Heal,
        nodes: [0, 3].map(node).into_iter().map(|node| (node.name.clone(), node)).collect(),
        groups: BTreeMap::new(),
        rules,
        expectations: Vec::new(),
        unused: Vec::new(),
    }
}

fn policy() -> impl Strategy<Value = Policy> {
    let management = prop::option::weighted(0.3, (end(), prop::collection::vec(service(), 1..3)));
    let rules = prop::collection::vec((rule(), any::<u32>()), 1..=RULES);
    (rules, management).prop_map(|(rules, management)| {
        let management = management.map(|(from, services)| Management { from, services, origin: origin(1001) });
        of_rules(in_place(rules), management)
    })
}

fn flows() -> Vec<Flow> {
    let mut uppers: Vec<Upper> = (0..4).flat_map(|port| [Upper::tcp(9, port), Upper::udp(9, port)]).collect();
    uppers.extend([(8, 0), (0, 0)].map(|(kind, code)| Upper::Icmp { kind, code }));
    uppers.push(Upper::other(Protocol::ESP).expect("a protocol with neither ports nor types"));
    let pairs = (0..ADDRESSES.len()).flat_map(|from| (0..ADDRESSES.len()).map(move |to| (from, to)));
    pairs.flat_map(|(from, to)| uppers.iter().filter_map(move |upper| Flow::new(address(from), address(to), *upper))).collect()
}

fn found(policy: &Policy) -> Vec<Diagnostic> {
    let ports = Ports { name_of: &|_, _| None, risk_of: &|_, _| None };
    findings::of_policy(policy, ports, NOW, findings::BUDGET)
}

/// Places of rules that can all be taken out, as the findings say.
fn needless(found: &[Diagnostic]) -> BTreeSet<usize> {
    let mut places = BTreeSet::new();
    for one in found {
        match one.code.0 {
            "RW7001" | "RW7003" => places.extend(one.primary.iter().map(|label| label.span.start)),
            "RW7004" => places.extend(one.related.iter().map(|label| label.span.start)),
            _ => {}
        }
    }
    places
}

/// What happens to a packet: the verdict, and what else the deciding rule does.
fn fate(policy: &Policy, Judgement { verdict, reason }: Judgement) -> impl PartialEq + std::fmt::Debug {
    let rule = match &reason {
        Reason::Rule(id) => policy.rule(id),
        Reason::Management | Reason::Default => None,
    };
    (verdict, rule.map(|rule| (rule.log, rule.session_timeout)))
}

/// Some packet that the two policies treat differently, at some time from now on.
fn differ(one: &Policy, other: &Policy, answers: &[BTreeSet<usize>]) -> Option<String> {
    let resolved = |name: &str, address: IpAddr| {
        let at = NAMES.iter().position(|known| *known == name).expect("a known name");
        answers[at].iter().any(|index| self::address(*index) == address)
    };
    for flow in flows() {
        for via in [None, Some("wan"), Some("vpn")] {
            for now in [NOW, NOW + 1, NOW + 2] {
                let (a, b) = (one.judge(&flow, via, now, resolved), other.judge(&flow, via, now, resolved));
                let text = format!("{flow} via {via:?} at {now}: {a:?}, {b:?}");
                if fate(one, a) != fate(other, b) {
                    return Some(text);
                }
            }
        }
    }
    None
}

fn answers() -> impl Strategy<Value = Vec<BTreeSet<usize>>> {
    prop::collection::vec(prop::collection::btree_set(0..ADDRESSES.len(), 0..4), NAMES.len())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn all_that_is_named_needless_can_be_taken_out(policy in policy(), answers in answers()) {
        let found = found(&policy);
        prop_assert!(found.iter().all(|one| one.code.0 != "RW7012"));
        let needless = needless(&found);
        let mut rest = policy.clone();
        let mut at = 0;
        rest.rules.retain(|_| { at += 1; !needless.contains(&(at - 1)) });
        prop_assert_eq!(differ(&policy, &rest, &answers), None, "{:?}", needless);
    }

    #[test]
    fn a_service_that_never_opens_can_be_taken_out(policy in policy(), answers in answers()) {
        let mut rest = policy.clone();
        for one in found(&policy).iter().filter(|one| one.message.starts_with("this allow never opens `")) {
            let rule = &mut rest.rules[one.primary.as_ref().unwrap().span.start];
            let named: Vec<&str> = one.message.split('`').skip(1).step_by(2).collect();
            rule.services.retain(|service| !named.contains(&service.text.as_str()));
            prop_assert!(!rule.services.is_empty());
        }
        prop_assert_eq!(differ(&policy, &rest, &answers), None);
    }

    #[test]
    fn a_part_of_an_allow_is_found(rules in prop::collection::vec((plain(), any::<u32>()), 1..RULES), id in any::<u32>(), place in any::<prop::sample::Index>()) {
        let mut rules = rules;
        let (mut planted, _) = rules[place.index(rules.len())].clone();
        planted.destination.names.clear();
        planted.both_ways = false;
        planted.services.truncate(1);
        prop_assume!(!planted.flows().is_empty());
        rules.push((planted, id));
        let last = rules.len() - 1;
        let policy = of_rules(in_place(rules), None);
        let needless = needless(&found(&policy));
        prop_assert!(needless.contains(&last), "{:?}", needless);
    }

    #[test]
    fn what_others_open_together_is_found(rules in prop::collection::vec((plain(), any::<u32>()), 1..RULES - 1), ids in any::<(u32, u32)>(), parts in (end(), end(), end(), service())) {
        let mut rules = rules;
        let (one, other, to, service) = parts;
        let mut part = rules[0].0.clone();
        (part.source, part.destination, part.services, part.both_ways) = (one.clone(), to.clone(), vec![service], false);
        let mut rest = part.clone();
        rest.source = other.clone();
        let mut whole = part.clone();
        whole.source.addresses = one.addresses.union(&other.addresses);
        prop_assume!(!whole.flows().is_empty());
        rules.push((part, ids.0));
        rules.push((rest, ids.1));
        rules.push((whole, ids.0 ^ 1));
        let last = rules.len() - 1;
        let policy = of_rules(in_place(rules), None);
        let needless = needless(&found(&policy));
        prop_assert!(needless.contains(&last), "{:?}", needless);
    }

    #[test]
    fn an_allow_that_denies_share_is_found(rules in prop::collection::vec((plain(), any::<u32>()), 1..RULES - 2), ids in any::<(u32, u32)>(), parts in (end(), end(), end(), service())) {
        let mut rules = rules;
        let (one, other, to, service) = parts;
        let mut allow = rules[0].0.clone();
        (allow.action, allow.destination, allow.services, allow.both_ways) = (Action::Allow, to, vec![service], false);
        allow.source.addresses = one.addresses.union(&other.addresses);
        let mut part = allow.clone();
        (part.action, part.source) = (Action::Deny, one);
        let mut rest = part.clone();
        rest.source = other;
        prop_assume!(!allow.flows().is_empty());
        rules.extend([(part, ids.0), (rest, ids.1), (allow, ids.0)]);
        let last = rules.len() - 1;
        let found = found(&of_rules(in_place(rules), None));
        let is_named = |one: &Diagnostic| one.code.0 == "RW7001" && one.primary.as_ref().is_some_and(|label| label.span.start == last);
        prop_assert!(found.iter().any(is_named));
    }
}
