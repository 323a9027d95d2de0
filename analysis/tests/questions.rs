//! `can`, `who`, `reach` and the matrix against the policy's own verdict, flow by flow, and against
//! each node's ruleset; what opens a question is tried.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;
use ringwall_analysis::can::{Answer, Can, Point, can};
use ringwall_analysis::matrix::{OTHERS, matrix, roles};
use ringwall_analysis::question::{accepted, disjoint};
use ringwall_analysis::words::Packets;
use ringwall_compile::compile;
use ringwall_packet::{Address, AddressSet, Budget, Flow, FlowSet, Matches, Protocol, Space, Upper, Variable};
use ringwall_policy::{Name, Policy, Question, Verdict, is_answer, receivable, uses_interface};
use ringwall_policy_file::{Form, Input, Values, ask, draft, parse};
use ringwall_ruleset::{Path, Ruleset};

const NOW: u64 = 1_800_000_000;
const STEPS: u64 = 10_000_000;
const DNS: &str = "ntp.example.net";

const BASE: &str = "\
internal: [192.0.2.0/24, 198.51.100.0/28, \"2001:db8::/48\"]
management: { from: admins, services: [ssh] }
nodes:
  web-1: { addresses: [192.0.2.10, \"2001:db8::10\"], interfaces: { vpn: wg0 } }
  web-2: { addresses: [192.0.2.11], stage: audit }
  db-1: { addresses: [192.0.2.20, \"2001:db8::20\"] }
  edge-1: { addresses: [192.0.2.1], routes: [192.0.2.0/24], interfaces: { vpn: wg1, wan: eth0 } }
groups:
  web: { nodes: [web-1, web-2] }
  db: { nodes: [db-1] }
  users: { addresses: [198.51.100.1, 198.51.100.2, \"2001:db8:0:1::1\"] }
  guests: { addresses: [198.51.100.2, 198.51.100.3] }
  admins: { addresses: [192.0.2.200] }
  resolver: { addresses: [192.0.2.53] }
  time: { names: [ntp.example.net] }
rules:
  - allow: web, db -> resolver
    services: [dns]
    id: resolver
";

/// All addresses of the groups, and one that nobody has in each family.
const ADDRESSES: [&str; 13] = [
    "192.0.2.10", "192.0.2.11", "192.0.2.20", "192.0.2.1", "192.0.2.53", "192.0.2.200", "198.51.100.1", "198.51.100.2",
    "198.51.100.3", "2001:db8::10", "2001:db8::20", "2001:db8:0:1::1", "203.0.113.9",
];

const ENDS: [&str; 10] = ["web", "db", "users", "guests", "web-1", "users, db", "any", "internet", "internal", "edge-1"];
const SERVICES: [&str; 8] = ["ssh", "https", "tcp/440-450", "dns", "any", "icmp/echo-request", "udp", "ntp"];
const VIAS: [Option<&str>; 3] = [None, Some("vpn"), Some("wan")];

fn rule() -> impl Strategy<Value = String> {
    let ends = (0..ENDS.len(), 0..=ENDS.len());
    let kind = (prop::bool::weighted(0.3), prop::bool::weighted(0.15), prop::bool::weighted(0.2));
    let more = (prop::bool::weighted(0.15), prop::option::weighted(0.2, any::<bool>()), prop::option::weighted(0.2, any::<bool>()));
    (ends, prop::collection::btree_set(0..SERVICES.len(), 1..3), kind, more).prop_map(
        |((from, to), services, (deny, both, reject), (audit, via, expires))| {
            let names = to == ENDS.len() && !deny && !both;
            let to = if names { "time" } else { ENDS[to % ENDS.len()] };
            let services: Vec<&str> = services.into_iter().map(|at| SERVICES[at]).collect();
            let mut text = format!("{}: {} {} {to}", if deny { "deny" } else { "allow" }, ENDS[from], if both { "<->" } else { "->" });
            text.push_str(&format!("\n    services: [{}]", services.join(", ")));
            for (is_so, line) in [
                (audit, "stage: audit"),
                (via == Some(true), "via: vpn"),
                (via == Some(false), "via: wan"),
                (expires == Some(true), "expires: 2020-01-01"),
                (expires == Some(false), "expires: 2040-01-01"),
                (reject && deny, "reject: true"),
            ] {
                if is_so {
                    text.push_str(&format!("\n    {line}"));
                }
            }
            text
        },
    )
}

fn policies() -> impl Strategy<Value = String> {
    prop::collection::btree_set(rule(), 0..7).prop_map(|rules| {
        let rules = rules.into_iter().enumerate().map(|(at, rule)| format!("  - {rule}\n    id: r{at}\n"));
        format!("{BASE}{}", rules.collect::<String>())
    })
}

fn questions() -> impl Strategy<Value = String> {
    let ends = [&ENDS[..], &["198.51.100.2", "users, 203.0.113.9", "192.0.2.0/28", "2001:db8::/64"][..]].concat();
    let services = prop::collection::btree_set(0..SERVICES.len(), 0..3);
    let via = prop::option::weighted(0.2, prop::sample::select(vec!["vpn", "wan"]));
    let end = prop::sample::select(ends);
    (end.clone(), prop_oneof![9 => end, 1 => Just("time")], prop::bool::weighted(0.15), services, via).prop_map(
        |(from, to, both, services, via)| {
            let services: Vec<&str> = services.into_iter().map(|at| SERVICES[at]).collect();
            let arrow = if both && to != "time" { "<->" } else { "->" };
            let via = via.map_or(String::new(), |via| format!("{}via {via}", if services.is_empty() { "any " } else { " " }));
            format!("{from} {arrow} {to} {}{via}", services.join(", "))
        },
    )
}

fn flows() -> Vec<Flow> {
    let uppers = [
        Upper::tcp(50_000, 22), Upper::tcp(50_000, 443), Upper::tcp(50_000, 450), Upper::udp(50_000, 53), Upper::udp(50_000, 123),
        Upper::Icmp { kind: 8, code: 0 }, Upper::Icmp { kind: 128, code: 0 }, Upper::other(Protocol::ESP).expect("no ports"),
    ];
    let address = |text: &str| text.parse::<IpAddr>().expect("a constant address");
    let pairs = ADDRESSES.iter().flat_map(|from| ADDRESSES.iter().map(move |to| (address(from), address(to))));
    pairs.flat_map(|(from, to)| uppers.iter().filter_map(move |upper| Flow::new(from, to, *upper))).collect()
}

/// The error is the codes of what is wrong.
fn parsed(texts: &[&str]) -> Result<Policy, BTreeSet<&'static str>> {
    let inputs: Vec<Input> =
        texts.iter().enumerate().map(|(at, text)| Input { name: format!("{at}.yaml"), text: (*text).to_owned() }).collect();
    let parsed = parse(&inputs, &Values::default(), NOW);
    let errors = parsed.diagnostics.iter().filter(|diagnostic| diagnostic.is_error());
    parsed.policy.ok_or_else(|| errors.map(|diagnostic| diagnostic.code.0).collect())
}

fn read(texts: &[&str]) -> Option<Policy> {
    parsed(texts).ok()
}

fn question(text: &str, policy: &str) -> Question {
    let input = Input { name: "policy.yaml".into(), text: policy.to_owned() };
    let asked = ask(text, Form::Flow, &[input], &Values::default());
    asked.question.unwrap_or_else(|| panic!("{text}: {:?}", asked.diagnostics))
}

/// What a packet has beyond its header.
#[derive(Clone, Copy)]
struct Beyond {
    via: Option<&'static str>,
    /// Whether the destination is an answer for the DNS name.
    answer: bool,
}

impl Beyond {
    const ALL: [Self; 6] = {
        const fn of(via: Option<&'static str>, answer: bool) -> Beyond {
            Beyond { via, answer }
        }
        [of(VIAS[0], false), of(VIAS[1], false), of(VIAS[2], false), of(VIAS[0], true), of(VIAS[1], true), of(VIAS[2], true)]
    };

    fn holds(self, variable: &Variable) -> bool {
        self.via.is_some_and(|via| *variable == uses_interface(via)) || (self.answer && *variable == is_answer(DNS))
    }
}

fn contains<A: Address>(packets: &[Matches<A>], flow: &Flow, beyond: Beyond, set: impl Fn(&Matches<A>) -> FlowSet) -> usize {
    let holds = |packets: &Matches<A>| {
        packets.conditions.iter().all(|(variable, values)| values.contains(u128::from(beyond.holds(variable))))
    };
    packets.iter().filter(|packets| holds(packets) && set(packets).contains(flow)).count()
}

/// In how many of the boxes it is.
fn count(packets: &Packets, flow: &Flow, beyond: Beyond) -> usize {
    contains(&packets.v4, flow, beyond, |packets| FlowSet { v4: Space::from(packets.cube.clone()), ..FlowSet::default() })
        + contains(&packets.v6, flow, beyond, |packets| FlowSet { v6: Space::from(packets.cube.clone()), ..FlowSet::default() })
}

fn to_itself(policy: &Policy, flow: &Flow) -> bool {
    policy.nodes.values().any(|node| node.local().contains(flow.source()) && node.local().contains(flow.destination()))
}

fn verdict(policy: &Policy, flow: &Flow, beyond: Beyond) -> Verdict {
    policy.judge(flow, beyond.via, NOW, |_, _| beyond.answer).verdict
}

fn answered(policy: &Policy, question: &Question) -> Can {
    can(policy, &policy.table(NOW), question, NOW, &mut Budget::new(STEPS)).expect("within the budget")
}

/// The points at which nodes meet a flow, with what their rulesets make of it.
fn met(policy: &Policy, rulesets: &[Ruleset], flow: &Flow, beyond: Beyond) -> Vec<(Beyond, Point)> {
    let mut met = Vec::new();
    for (node, ruleset) in policy.nodes.values().zip(rulesets) {
        let (from, to) = (node.local().contains(flow.source()), node.local().contains(flow.destination()));
        let many = receivable(policy.internal.as_ref()).contains(flow.destination());
        let routed = node.routes.contains(flow.source()) || node.routes.contains(flow.destination());
        let here = Beyond { via: beyond.via.filter(|via| node.interfaces.contains_key(&Name::new(via).expect("a name"))), ..beyond };
        for (path, sees) in [(Path::Input, !from && (to || many)), (Path::Output, from && !to), (Path::Forward, !from && !to && routed)] {
            // Who does not ask for a name knows no answer.
            let asks = match path {
                Path::Input => false,
                Path::Output => true,
                Path::Forward => node.routes.contains(flow.source()),
            };
            let here = Beyond { answer: here.answer && asks, ..here };
            let uses = |interface: &str| here.via.is_some_and(|via| node.interfaces.get(via).is_some_and(|name| name == interface));
            if sees {
                let (verdict, _) = ruleset.judge(path, flow, uses, NOW, |_, _| here.answer);
                let verdict = match verdict {
                    ringwall_ruleset::Verdict::Accept => Verdict::Accept,
                    ringwall_ruleset::Verdict::Drop => Verdict::Drop,
                    ringwall_ruleset::Verdict::Reject => Verdict::Reject,
                };
                let watches = node.stage == ringwall_policy::Stage::Audit;
                met.push((here, Point { path, node: node.name.clone(), verdict, watches }));
            }
        }
    }
    met
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_global_rejects: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn can_agrees_with_the_policy_and_with_each_node(text in policies(), asked in questions()) {
        let policy = read(&[&text]);
        prop_assume!(policy.is_some());
        let policy = policy.expect("assumed");
        let question = question(&asked, &text);
        let packets = disjoint(&question.packets());
        let found = answered(&policy, &question);
        let mut verdicts = BTreeSet::new();
        let compiled = |node: &Name| compile(&policy, node.as_str()).expect("a node of the policy").0.into_inner();
        let rulesets: Vec<Ruleset> = policy.nodes.keys().map(compiled).collect();
        for flow in flows() {
            for beyond in Beyond::ALL {
                let inside = count(&packets, &flow, beyond);
                prop_assert!(inside <= 1, "{flow} is there twice");
                let parts: Vec<_> = found.parts.iter().filter(|part| count(&part.packets, &flow, beyond) > 0).collect();
                if inside == 0 {
                    prop_assert!(parts.is_empty(), "{flow} was not asked about");
                    continue;
                }
                if to_itself(&policy, &flow) {
                    continue;
                }
                prop_assert_eq!(parts.len(), 1, "{}", flow);
                let judged = policy.judge(&flow, beyond.via, NOW, |_, _| beyond.answer);
                prop_assert_eq!(parts[0].verdict, judged.verdict, "{}", flow);
                prop_assert_eq!(policy.reason(parts[0].decider), judged.reason, "{}", flow);
                verdicts.insert(judged.verdict == Verdict::Accept);
                for (here, point) in met(&policy, &rulesets, &flow, beyond) {
                    if count(&packets, &flow, here) == 0 {
                        continue;
                    }
                    let part = found.parts.iter().find(|part| count(&part.packets, &flow, here) > 0).expect("it was asked about");
                    prop_assert!(part.points.contains(&point), "{flow}: {point:?} is not one of {:?}", part.points);
                }
            }
        }
        match found.answer {
            Answer::Yes => prop_assert!(!verdicts.contains(&false)),
            Answer::No => prop_assert!(!verdicts.contains(&true)),
            Answer::Partly => {}
            Answer::Nothing => prop_assert!(verdicts.is_empty()),
        }
        for part in &found.parts {
            let holds = |variable: &Variable| part.witness.conditions.iter().any(|(known, value)| known == variable && *value > 0);
            let via = VIAS.into_iter().flatten().find(|via| holds(&uses_interface(via)));
            // A packet that passes a router may use both.
            let both = VIAS.into_iter().flatten().all(|via| holds(&uses_interface(via)));
            let beyond = Beyond { via, answer: holds(&is_answer(DNS)) };
            prop_assert!(both || verdict(&policy, &part.witness.flow, beyond) == part.verdict, "{}", part.witness);
        }
    }

    #[test]
    fn a_draft_opens_the_question_and_nothing_else(text in policies(), asked in questions()) {
        let policy = read(&[&text]);
        prop_assume!(policy.is_some());
        let policy = policy.expect("assumed");
        let question = question(&asked, &text);
        let Some(opening) = answered(&policy, &question).opening else { return Ok(()) };
        if opening.missing.is_empty() {
            return Ok(());
        }
        let draft = draft(&opening.rest(&question), &policy);
        let opened = match parsed(&[&text, &draft]) {
            Ok(opened) => opened,
            // Nodes that can't ask for DNS names; a rule that says the same but for how long or where.
            Err(codes) => {
                prop_assert!(codes.is_subset(&BTreeSet::from(["RW0305", "RW0306"])), "{draft}: {codes:?}");
                return Ok(());
            }
        };
        let after = answered(&opened, &question);
        prop_assert!(after.opening.is_none_or(|opening| opening.missing.is_empty()), "{draft}");
        let nothing_in_the_way = opening.denies.is_empty() && opening.expired.is_empty() && opening.audited.is_empty();
        prop_assert!(!nothing_in_the_way || !opening.by_interface.is_empty() || after.answer == Answer::Yes, "{draft}");
        let packets = disjoint(&question.packets());
        for flow in flows() {
            for beyond in Beyond::ALL {
                if count(&packets, &flow, beyond) == 0 {
                    prop_assert_eq!(verdict(&policy, &flow, beyond), verdict(&opened, &flow, beyond), "{}: {}", draft, flow);
                }
            }
        }
    }

    #[test]
    fn who_and_reach_find_what_is_accepted(text in policies(), asked in questions()) {
        let policy = read(&[&text]);
        prop_assume!(policy.is_some());
        let policy = policy.expect("assumed");
        let packets = disjoint(&question(&asked, &text).packets());
        let pieces = accepted(&policy, &policy.table(NOW), &packets, &mut Budget::new(STEPS)).expect("within the budget");
        let ours = policy.node_addresses().union(policy.internal.as_ref().expect("it has some"));
        for flow in flows() {
            for beyond in Beyond::ALL.into_iter().filter(|beyond| !beyond.answer || !ours.contains(flow.destination())) {
                let found: usize = pieces.iter().map(|piece| count(&piece.packets, &flow, beyond)).sum();
                let is_open = count(&packets, &flow, beyond) == 1 && verdict(&policy, &flow, beyond) == Verdict::Accept;
                prop_assert_eq!(found, usize::from(is_open), "{}", flow);
            }
        }
    }

    #[test]
    fn the_matrix_has_what_is_accepted_and_marks_what_is_a_part(text in policies()) {
        let policy = read(&[&text]);
        prop_assume!(policy.is_some());
        let policy = policy.expect("assumed");
        let roles = roles(&policy);
        let cells = matrix(&policy, &policy.table(NOW), &roles, STEPS).expect("within the budget");
        let beyond = Beyond { via: None, answer: false };
        for (source, from) in roles.iter().enumerate() {
            for (destination, to) in roles.iter().enumerate() {
                if to.name == "time" || from.name == "time" {
                    continue;
                }
                let cell = cells.iter().find(|cell| (cell.source, cell.destination) == (source, destination));
                let within = |flow: &Flow| from.addresses().contains(flow.source()) && to.addresses().contains(flow.destination());
                let all: Vec<Flow> = flows().into_iter().filter(|flow| within(flow) && !to_itself(&policy, flow)).collect();
                for flow in &all {
                    let (whole, part) = cell.map_or((0, 0), |cell| (count(&cell.whole, flow, beyond), count(&cell.part, flow, beyond)));
                    let is_open = verdict(&policy, flow, beyond) == Verdict::Accept;
                    prop_assert_eq!(whole + part, usize::from(is_open), "{} -> {}: {}", from.name, to.name, flow);
                    let same = |other: &&Flow| other.upper() == flow.upper() && other.family() == flow.family();
                    let closed = |other: &Flow, via| verdict(&policy, other, Beyond { via, ..beyond }) != Verdict::Accept;
                    if whole == 1 {
                        let shut = all.iter().filter(same).find(|other| VIAS.into_iter().any(|via| closed(other, via)));
                        prop_assert!(shut.is_none(), "{} -> {}: {shut:?}", from.name, to.name);
                    }
                    // Every address of these roles is in the list.
                    let listed = |name: &str| !["internet", OTHERS].contains(&name);
                    if part == 1 && listed(&from.name) && listed(&to.name) {
                        let mut others = all.iter().filter(same);
                        prop_assert!(others.any(|other| VIAS.into_iter().any(|via| closed(other, via))), "{} -> {}: {flow} is whole", from.name, to.name);
                    }
                }
            }
        }
    }
}

#[test]
fn a_budget_that_runs_out_is_no_answer() {
    let policy = read(&[BASE]).expect("a policy");
    let question = question("any -> any", BASE);
    let table = policy.table(NOW);
    assert!(can(&policy, &table, &question, NOW, &mut Budget::new(1)).is_err());
    assert!(accepted(&policy, &table, &disjoint(&question.packets()), &mut Budget::new(1)).is_err());
    assert!(matrix(&policy, &table, &roles(&policy), 0).is_err());
}

#[test]
fn nobody_enforces_what_passes_by() {
    let policy = read(&[BASE]).expect("a policy");
    let found = answered(&policy, &question("users -> 203.0.113.9 https", BASE));
    assert_eq!(found.answer, Answer::No);
    assert!(found.parts[0].points.is_empty());
    assert_eq!(found.parts[0].unenforced.sources(), found.parts[0].packets.sources());
    let found = answered(&policy, &question("users -> web https", BASE));
    assert!(found.parts[0].unenforced.is_empty());
    let empty = AddressSet::default();
    assert_eq!(found.parts[0].foreign_destinations, empty);
}
