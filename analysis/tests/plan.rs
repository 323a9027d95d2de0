//! A plan is the whole difference of what two policies do, and nothing of how they are written.

use crate::read_back;

use std::net::IpAddr;

use proptest::prelude::*;
use ringwall_analysis::plan::{About, Flows, Other, Plan, plan};
use ringwall_packet::{Address, Budget, Family, Flow, Protocol, Row, Table, Upper, UpperSet, Variable};
use ringwall_policy::{Judgement, Policy, Verdict, name_asked};
use ringwall_policy_file::{Input, Values, parse};

const NOW: u64 = 1_800_000_000;

const BASE: &str = "\
internal: [192.0.2.0/24, 198.51.100.0/24, \"2001:db8::/32\"]
nodes:
  web-1: { addresses: [192.0.2.1, \"2001:db8::1\"], interfaces: { vpn: wg0 } }
  web-2: { addresses: [192.0.2.2, \"2001:db8::2\"], interfaces: { vpn: wg0 } }
groups:
  web:    { nodes: [web-1, web-2] }
  users:  { addresses: [198.51.100.1, 198.51.100.2, \"2001:db8:1::1\"] }
  admins: { addresses: [198.51.100.2, \"2001:db8:1::1\"] }
  dns:    { addresses: [203.0.113.53] }
  time:   { names: [ntp.example.net] }
";

fn resolved(text: &str) -> Policy {
    let parsed = parse(&[Input { name: "policy.yaml".into(), text: text.into() }], &Values::default(), NOW);
    parsed.policy.unwrap_or_else(|| panic!("{text}\n{:#?}", parsed.diagnostics))
}

fn policy(rules: &str) -> Policy {
    resolved(&format!("{BASE}rules:\n{rules}"))
}

fn no_names(_: Protocol, _: u16) -> Option<&'static str> {
    None
}

fn plan_of(before: &Policy, after: &Policy) -> Plan {
    plan(Some(before), after, NOW, None, &no_names, &mut Budget::new(10_000_000)).unwrap()
}

fn lines(flows: &[Flows]) -> Vec<String> {
    flows.iter().map(|flows| flows.line.to_string()).collect()
}

fn others(plan: &Plan) -> Vec<String> {
    plan.others.iter().map(Other::to_string).collect()
}

const RULES: &str = "  - allow: users -> web
    services: [tcp/443]
    id: web
  - allow: admins -> web
    services: [tcp/22]
    id: ssh
";

#[test]
fn what_is_opened_and_closed_is_said_by_rules() {
    let before = policy(RULES);
    let after = policy("  - allow: users -> web
    services: [tcp/443, tcp/80]
    id: web
  - allow: web -> dns
    services: [udp/53]
    id: dns
");
    let plan = plan_of(&before, &after);
    assert_eq!(lines(&plan.opened), ["users -> web  80/tcp", "web -> dns  53/udp"]);
    assert_eq!(lines(&plan.closed), ["admins -> web  22/tcp"]);
    assert_eq!(plan.opened[1].after[0].to_string(), "dns (policy.yaml:15)");
    assert_eq!(plan.closed[0].before[0].to_string(), "ssh (policy.yaml:15)");
    assert_eq!(plan.closed[0].after[0].to_string(), "no rule");
    assert_eq!(others(&plan), [""; 0]);
}

#[test]
fn a_deny_closes_what_was_open() {
    let before = policy(RULES);
    let after = policy(&format!("{RULES}  - deny: admins -> web-1\n    id: off\n"));
    let plan = plan_of(&before, &after);
    assert_eq!(lines(&plan.closed), ["admins -> web-1  22/tcp, 443/tcp"]);
    assert_eq!(plan.closed[0].after[0].to_string(), "off (policy.yaml:18)");
    assert!(plan.opened.is_empty() && plan.altered.is_empty(), "{plan:?}");
    assert_eq!(lines(&plan_of(&after, &before).opened), ["admins -> web-1  22/tcp, 443/tcp"]);
}

#[test]
fn a_rewritten_file_is_no_difference() {
    let before = resolved(&format!("{BASE}rules:\n{RULES}"));
    let rearranged = "
rules:
  # the admins first
  - { allow: admins -> web, services: [\"tcp/22\"], id: ssh, note: by hand, owner: me }
  - { allow: users -> web-2 , id: web-b, services: [tcp/443] }
  - { allow: users -> web-1 , id: web, services: [tcp/443] }
";
    let same = resolved(&format!("{BASE}{}", rearranged.replace("web-2 , id: web-b", "web, id: web").replace("  - { allow: users -> web-1 , id: web, services: [tcp/443] }\n", "")));
    assert!(plan_of(&before, &same).is_empty());
    let mut members: Vec<&str> = BASE.lines().collect();
    members[5..].sort();
    let shuffled = resolved(&format!("{}\nsections:\n  - name: All\n    rules:\n{}", members.join("\n"), RULES.lines().map(|line| format!("  {line}\n")).collect::<String>()));
    assert!(plan_of(&before, &shuffled).is_empty());
    // One rule in two parts opens nothing, and has another name in counters and logs.
    let split = plan_of(&before, &resolved(&format!("{BASE}{rearranged}")));
    assert!(split.opened.is_empty() && split.closed.is_empty() && split.altered.is_empty(), "{split:?}");
    assert_eq!(others(&split), ["rule web-b (policy.yaml:15): now decides flows that web (policy.yaml:12) decided, and does the same with them"]);
}

#[test]
fn another_id_is_one_line() {
    let before = policy(RULES);
    let plan = plan_of(&before, &policy(&RULES.replace("id: ssh", "id: login")));
    assert_eq!(others(&plan), ["rule ssh: is login now, and does the same"]);
    assert!(plan.opened.is_empty() && plan.closed.is_empty() && plan.altered.is_empty(), "{plan:?}");
}

#[test]
fn what_is_done_otherwise_is_said() {
    let before = policy(&format!("{RULES}  - deny: users -> web\n    services: [tcp/23]\n    id: no-telnet\n"));
    let after = policy("  - allow: users -> web
    services: [tcp/443]
    id: web
    session_timeout: 4h
    log: true
  - allow: admins -> web
    services: [tcp/22]
    id: ssh
    expires: 2027-06-30
  - deny: users -> web
    services: [tcp/23]
    id: no-telnet
    reject: true
  - allow: dns -> web
    services: [udp/53]
    id: later
    stage: audit
");
    let plan = plan_of(&before, &after);
    assert!(plan.opened.is_empty() && plan.closed.is_empty(), "{plan:?}");
    let altered: Vec<_> = plan.altered.iter().map(|altered| (altered.how.join(", "), lines(&altered.flows))).collect();
    assert_eq!(altered, [
        ("session timeout the kernel's -> 14400s, logged".to_owned(), vec!["users -> web  443/tcp".to_owned()]),
        ("dropped -> rejected".to_owned(), vec!["users -> web  23/tcp".to_owned()]),
    ]);
    assert_eq!(others(&plan), [
        "rule ssh: does not expire -> expires 2027-06-30",
        "rule later: allow dns -> web: only watches",
    ]);
}

#[test]
fn nodes_floor_and_settings_are_said() {
    let before = policy(RULES);
    let text = format!("{BASE}rules:\n{RULES}")
        .replace("  web-2: { addresses: [192.0.2.2, \"2001:db8::2\"], interfaces: { vpn: wg0 } }", "  web-2: { addresses: [192.0.2.2, \"2001:db8::2\"], interfaces: { vpn: wg1 }, stage: audit, unmanaged: [docker0] }\n  web-3: { addresses: [192.0.2.3] }")
        + "protected: [admins]\non_tighten: drain\nmin_tls: \"1.3\"\nfloor: { without: [dhcp] }\nmanagement: { from: admins, services: [tcp/2222] }\n";
    let plan = plan_of(&before, &resolved(&text));
    assert_eq!(lines(&plan.opened), ["admins -> web, web-3  2222/tcp"]);
    assert_eq!(others(&plan), [
        "node web-2: interfaces vpn: wg0 -> interfaces vpn: wg1",
        "node web-2: unmanaged bridges none -> unmanaged bridges docker0",
        "node web-2: stage enforce (what no rule allows is dropped) -> stage audit (nothing is dropped)",
        "node web-3: new, with 192.0.2.3: it enforces from its first apply on",
        "floor dhcp: kept open -> taken out",
        "protected: nobody -> admins",
        "setting min_tls: not said -> 1.3",
        "setting on_tighten: cut -> drain",
    ]);
    assert!(plan.others.iter().any(|other| other.about == About::Floor));
}

#[test]
fn a_node_is_told_what_can_pass_it() {
    let before = policy(RULES);
    let after = policy(&RULES.replace("tcp/443", "tcp/443, tcp/80"));
    let on = |node| plan(Some(&before), &after, NOW, Some(node), &no_names, &mut Budget::new(1_000_000)).unwrap();
    assert_eq!(lines(&on("web-1").opened), ["users -> web-1  80/tcp"]);
    assert!(!on("web-1").is_empty() && on("web-1").elsewhere);
    let only_two = policy(&format!("{RULES}  - allow: users -> web-2\n    services: [tcp/80]\n"));
    let plan = plan(Some(&before), &only_two, NOW, Some("web-1"), &no_names, &mut Budget::new(1_000_000)).unwrap();
    assert!(plan.is_empty() && plan.elsewhere, "{plan:?}");
}

#[test]
fn a_rule_that_matters_elsewhere_is_not_called_needless() {
    let before = policy(&format!("{RULES}  - allow: users -> web-2\n    services: [tcp/80]\n    id: two\n"));
    let after = policy(&RULES.replace("id: ssh", "id: ssh\n    expires: 2099-06-30"));
    let on = |node| plan(Some(&before), &after, NOW, Some(node), &no_names, &mut Budget::new(1_000_000)).unwrap();
    assert_eq!(others(&on("web-1")), ["rule ssh: does not expire -> expires 2099-06-30"]);
    assert_eq!(lines(&on("web-2").closed), ["users -> web-2  80/tcp"]);
    // What says nothing of a node is no difference on it.
    let needless = policy(&format!("{RULES}  - allow: users -> web-2\n    services: [tcp/443]\n    id: two\n"));
    let on = |node| plan(Some(&needless), &policy(RULES), NOW, Some(node), &no_names, &mut Budget::new(1_000_000)).unwrap();
    assert!(on("web-1").is_empty());
    assert_eq!(others(&on("web-2")), ["rule web (policy.yaml:12): now decides flows that two (policy.yaml:18) decided, and does the same with them"]);
}

#[test]
fn from_nothing_all_that_is_accepted_is_new() {
    let after = policy(RULES);
    let plan = plan(None, &after, NOW, None, &no_names, &mut Budget::new(1_000_000)).unwrap();
    assert_eq!(lines(&plan.opened), ["admins -> web  22/tcp", "users -> web  443/tcp"]);
    assert!(plan.closed.is_empty() && plan.others.is_empty(), "{plan:?}");
}

#[test]
fn a_small_budget_is_no_answer() {
    let found = plan(Some(&policy(RULES)), &policy("  []\n"), NOW, None, &no_names, &mut Budget::new(1));
    assert_eq!(found.unwrap_err().to_string(), "unknown: 1 steps were not enough for an exact answer");
}

// --- Random policies of a small world, every flow of it judged. ---

const RULE: [&str; 4] = ["allow", "allow", "allow", "deny"];
const ENDS: [&str; 8] = ["web", "web-1", "web-2", "users", "admins", "dns", "any", "internet"];
const SERVICES: [&str; 7] = ["tcp/1", "tcp/1-2", "udp/1", "tcp/2-3", "icmp/echo-request", "any", "tcp"];

/// The text of a rule; not all that come out are ones that the reader takes.
fn rule() -> impl Strategy<Value = String> {
    let ends = (prop::sample::select(&ENDS[..]), prop::sample::select(&ENDS[..]));
    let more = prop::sample::select(vec!["", "", "", "", "\n    via: vpn", "\n    log: true", "\n    stage: audit", "\n    expires: 2020-01-01", "\n    session_timeout: 60s"]);
    (prop::sample::select(&RULE[..]), ends, prop::sample::select(&SERVICES[..]), any::<bool>(), more).prop_map(
        |(action, (source, destination), service, is_name, more)| {
            let more = if action == "deny" && more.contains("session") { "\n    reject: true" } else { more };
            let to_name = action == "allow" && is_name && source.starts_with("web");
            let destination = if to_name { "time" } else { destination };
            format!("  - {action}: {source} -> {destination}\n    services: [{service}]{more}\n")
        },
    )
}

fn some_policy() -> impl Strategy<Value = Policy> {
    let management = prop::sample::select(vec!["", "management: { from: admins, services: [tcp/1] }\n"]);
    let rules = prop::collection::vec(rule(), 0..6);
    (rules, management).prop_filter_map("a policy without mistakes", |(rules, management)| {
        let dns = "  - allow: web -> dns\n    services: [udp/53]\n";
        let text = format!("{BASE}{management}rules:\n{dns}{}", rules.concat());
        parse(&[Input { name: "policy.yaml".into(), text }], &Values::default(), NOW).policy
    })
}

/// Members of every group, and somebody else.
const WORLD: [&str; 11] = [
    "192.0.2.1", "192.0.2.2", "198.51.100.1", "198.51.100.2", "203.0.113.53", "203.0.113.1", "10.0.0.1", "2001:db8::1", "2001:db8::2",
    "2001:db8:1::1", "2001:4860::1",
];

fn flows() -> Vec<Flow> {
    let address = |text: &&str| -> IpAddr { text.parse().unwrap() };
    let uppers = |family| {
        let echo = match family {
            Family::V4 => Upper::Icmp { kind: 8, code: 0 },
            Family::V6 => Upper::Icmp { kind: 128, code: 0 },
        };
        [Upper::tcp(9, 1), Upper::tcp(9, 2), Upper::tcp(9, 3), Upper::tcp(9, 4), Upper::udp(9, 1), Upper::udp(9, 53), echo, Upper::other(Protocol::GRE).unwrap()]
    };
    let pairs = WORLD.iter().flat_map(|from| WORLD.iter().map(move |to| (address(from), address(to))));
    let pairs = pairs.filter(|(from, to)| from.is_ipv4() == to.is_ipv4());
    pairs.flat_map(|(from, to)| uppers(Family::of(from)).into_iter().filter_map(move |upper| Flow::new(from, to, upper))).collect()
}

/// The packets of all lines.
fn read(policy: &Policy, flows: &[Flows]) -> Table<()> {
    let mut all = Table::default();
    for said in flows.iter().map(|flows| read_back::read(policy, &flows.line)) {
        all.v4.extend(said.v4);
        all.v6.extend(said.v6);
    }
    all
}

/// Whether the flow is one of them, when it uses `via` and its destination is, or is no, answer.
fn says(said: &Table<()>, flow: &Flow, via: bool, is_answer: bool) -> bool {
    match flow {
        Flow::V4(header) => said.v4.iter().any(|row| has(row, header.source, header.destination, flow, via, is_answer)),
        Flow::V6(header) => said.v6.iter().any(|row| has(row, header.source, header.destination, flow, via, is_answer)),
    }
}

fn has<A: Address>(row: &Row<A, ()>, source: A, destination: A, flow: &Flow, via: bool, is_answer: bool) -> bool {
    let cube = &row.matches.cube;
    let upper: UpperSet = std::iter::once(cube.upper.clone()).collect();
    let holds = |variable: &Variable| if name_asked(variable).is_some() { is_answer } else { via };
    cube.source.contains(source)
        && cube.destination.contains(destination)
        && upper.contains(flow.upper(), flow.family())
        && row.matches.conditions.iter().all(|(variable, values)| values.contains(holds(variable).into()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_plan_is_the_difference_of_judgements(before in some_policy(), after in some_policy()) {
        let plan = plan_of(&before, &after);
        let mut is_any = false;
        let (opened, closed) = (read(&after, &plan.opened), read(&before, &plan.closed));
        for flow in flows() {
            for (via, is_answer) in [(false, false), (true, false), (false, true), (true, true)] {
                let judge = |policy: &Policy| -> Judgement { policy.judge(&flow, via.then_some("vpn"), NOW, |_, _| is_answer) };
                let (was, is) = (judge(&before).verdict, judge(&after).verdict);
                let (was, is) = (was == Verdict::Accept, is == Verdict::Accept);
                is_any |= was != is;
                let said = (says(&opened, &flow, via, is_answer), says(&closed, &flow, via, is_answer));
                prop_assert_eq!(said, (!was && is, was && !is), "{} via {} answer {}\n{:#?}\n{:#?}", flow, via, is_answer, lines(&plan.opened), lines(&plan.closed));
            }
        }
        let is_said = !plan.opened.is_empty() || !plan.closed.is_empty();
        prop_assert_eq!(is_any, is_said, "{:?} {:?}", lines(&plan.opened), lines(&plan.closed));
        prop_assert!(plan_of(&after, &after).is_empty());
    }
}
