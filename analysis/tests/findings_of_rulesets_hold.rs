//! What the findings say of random rulesets is so, for every packet of a small world; and what is
//! planted is found.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use proptest::prelude::*;
use ringwall_analysis::findings;
use ringwall_diagnostic::{Diagnostic, Sources, Span};
use ringwall_packet::{
    Conditions, Cube, Interval, IntervalSet, Matches, Protocol, Row, State, Table, UpperCube, Variable, truth,
};
use ringwall_ruleset::Verdict;
use ringwall_ruleset::filter::{BaseChain, Decision, Filter, FilterVerdict, Hook, RuleText, Unknown};

/// Fewer than a finding shows places, so that each is seen.
const RULES: usize = 6;
const ASKED: &str = "-m something";

#[derive(Clone, Debug)]
struct One {
    rows: Vec<(usize, Matches<Ipv4Addr>)>,
    verdict: FilterVerdict,
    effects: usize,
}

fn set() -> impl Strategy<Value = IntervalSet<Ipv4Addr>> {
    let address = |last: u8| Ipv4Addr::new(192, 0, 2, last);
    prop_oneof![
        1 => Just(IntervalSet::full()),
        3 => (0u8..4, 0u8..4).prop_map(move |(a, b)| Interval::new(address(a.min(b)), address(a.max(b))).expect("an ordered pair").into()),
    ]
}

fn matches() -> impl Strategy<Value = Matches<Ipv4Addr>> {
    let ports = (0u16..3, 0u16..3).prop_map(|(a, b)| {
        let ports = Interval::new(a.min(b), a.max(b)).expect("an ordered pair");
        UpperCube::ports(Protocol::TCP, ports.into()).expect("a protocol with ports")
    });
    let upper = prop_oneof![1 => Just(UpperCube::any()), 3 => ports];
    let state = prop::option::weighted(0.3, prop::sample::select(vec![State::New, State::Established]));
    let asked = prop::option::weighted(0.2, any::<bool>());
    (set(), set(), upper, state, asked).prop_map(|(source, destination, upper, state, asked)| {
        let mut conditions = Conditions::default();
        if let Some(state) = state {
            conditions = conditions.and(Variable::State, &state.values().into()).expect("a new variable");
        }
        if let Some(asked) = asked {
            conditions = conditions.and(Variable::Holds(ASKED.into()), &truth(asked)).expect("a new variable");
        }
        Matches { cube: Cube { source, destination, upper }, conditions }
    })
}

fn verdict() -> impl Strategy<Value = FilterVerdict> {
    prop_oneof![
        4 => Just(FilterVerdict::Decided(Verdict::Accept)),
        4 => Just(FilterVerdict::Decided(Verdict::Drop)),
        1 => Just(FilterVerdict::Elsewhere(0)),
    ]
}

fn one() -> impl Strategy<Value = One> {
    (prop::collection::vec((0usize..2, matches()), 1..3), verdict(), 0usize..2).prop_map(|(rows, verdict, effects)| One { rows, verdict, effects })
}

/// Two chains that share rules, as chains that two hooks call do.
fn filter(rules: &[One], policies: [Verdict; 2]) -> Filter {
    let span = |at: usize| Span { source: Sources::new().add("", ""), start: at, end: at };
    let text = |at: usize| RuleText { chain: String::new(), span: span(at), line: at + 1, text: String::new(), comment: None };
    let chain = |at: usize| {
        let mut table = Table::default();
        for (rule, one) in rules.iter().enumerate() {
            let decision = Decision { verdict: one.verdict, rule: Some(rule), effects: one.effects };
            table.v4.extend(one.rows.iter().filter(|(chain, _)| *chain == at).map(|(_, matches)| Row { matches: matches.clone(), decision }));
        }
        table.otherwise(Decision { verdict: FilterVerdict::Decided(policies[at]), rule: None, effects: 0 });
        let hook = [Hook::Input, Hook::Forward][at];
        BaseChain { hook, table: "filter".into(), name: format!("{hook:?}"), priority: 0, decisions: table }
    };
    Filter {
        chains: vec![chain(0), chain(1)],
        rules: (0..rules.len()).map(text).collect(),
        effects: vec![Vec::new(), vec!["-j LOG".into()]],
        unknown: vec![Unknown { text: ASKED.into(), line: 1, why: "not modelled" }],
        idle: Vec::new(),
    }
}

/// Every packet of the small world, and whether what is not known keeps it.
fn packets() -> Vec<(Matches<Ipv4Addr>, bool)> {
    let mut all = Vec::new();
    for (from, to, port) in (0..5u8).flat_map(|from| (0..5u8).flat_map(move |to| (0..4u16).map(move |port| (from, to, port)))) {
        for (state, asked, keeps) in [State::New, State::Established].into_iter().flat_map(|state| [(false, false), (false, true), (true, false), (true, true)].map(|(asked, keeps)| (state, asked, keeps))) {
            let single = |last: u8| IntervalSet::single(Ipv4Addr::new(192, 0, 2, last));
            let upper = UpperCube::ports(Protocol::TCP, IntervalSet::single(port)).and_then(|upper| upper.with_source_ports(&IntervalSet::single(9)));
            let cube = Cube { source: single(from), destination: single(to), upper: upper.expect("a protocol with ports") };
            let conditions = Conditions::default().and(Variable::State, &state.values().into()).expect("a new variable");
            let conditions = conditions.and(Variable::Holds(ASKED.into()), &truth(asked)).expect("a new variable");
            all.push((Matches { cube, conditions }, keeps));
        }
    }
    all
}

/// What decides a packet; rules of `without` are not there.
fn decided(filter: &Filter, chain: usize, (packet, keeps): &(Matches<Ipv4Addr>, bool), without: &BTreeSet<usize>) -> Decision {
    let rows = filter.chains[chain].decisions.v4.iter();
    let mut there = rows.filter(|row| row.decision.rule.is_none_or(|rule| !without.contains(&rule)));
    let takes = |row: &&Row<Ipv4Addr, Decision>| {
        packet.is_subset(&row.matches) && (*keeps || !matches!(row.decision.verdict, FilterVerdict::Elsewhere(_)))
    };
    there.find(takes).expect("the policy takes the rest").decision
}

fn needless(found: &[Diagnostic]) -> BTreeSet<usize> {
    let mut places = BTreeSet::new();
    for one in found {
        let own = one.primary.iter().map(|label| label.span.start);
        let others = one.related.iter().map(|label| label.span.start);
        match (one.code.0, one.message.contains("after this one")) {
            ("RW7001", true) | ("RW7004", _) => places.extend(others),
            ("RW7001" | "RW7003", _) => places.extend(own),
            _ => {}
        }
    }
    places
}

fn policies() -> impl Strategy<Value = [Verdict; 2]> {
    [prop::sample::select(vec![Verdict::Accept, Verdict::Drop]), prop::sample::select(vec![Verdict::Accept, Verdict::Drop])]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn all_that_is_named_needless_can_be_taken_out(rules in prop::collection::vec(one(), 1..=RULES), policies in policies()) {
        let filter = filter(&rules, policies);
        let found = findings::of_ruleset(&filter, findings::BUDGET);
        let needless = needless(&found);
        for packet in packets() {
            for chain in 0..2 {
                let (before, after) = (decided(&filter, chain, &packet, &BTreeSet::new()), decided(&filter, chain, &packet, &needless));
                prop_assert_eq!((before.verdict, before.effects), (after.verdict, after.effects), "{:?} without {:?}", packet, needless);
            }
        }
    }

    #[test]
    fn what_hides_a_rule_is_said_rightly(rules in prop::collection::vec(one(), 1..=RULES), policies in policies()) {
        let filter = filter(&rules, policies);
        for one in findings::of_ruleset(&filter, findings::BUDGET) {
            let says_other = one.message == "this rule never decides anything";
            let says_same = one.message.ends_with("those before it do the same with all of its packets");
            if !says_other && !says_same {
                continue;
            }
            let rule = one.primary.as_ref().unwrap().span.start;
            let mut is_other = false;
            for packet in packets() {
                for chain in 0..2 {
                    let is_asked = rules[rule].rows.iter().any(|(at, matches)| *at == chain && packet.0.is_subset(matches));
                    if !is_asked || matches!(rules[rule].verdict, FilterVerdict::Elsewhere(_)) && !packet.1 {
                        continue;
                    }
                    let by = decided(&filter, chain, &packet, &BTreeSet::new());
                    prop_assert_ne!(by.rule, Some(rule), "it decides");
                    is_other |= by.verdict != rules[rule].verdict;
                }
            }
            prop_assert!(!(says_same && is_other), "{:?}: {:?}", one, filter.chains);
        }
    }

    #[test]
    fn a_rule_that_comes_too_late_is_found(rules in prop::collection::vec(one(), 1..RULES), place in any::<prop::sample::Index>(), verdict in verdict(), policies in policies()) {
        let mut rules = rules;
        let at = place.index(rules.len());
        let hider = &mut rules[at];
        hider.verdict = FilterVerdict::Decided(Verdict::Drop);
        let mut planted = hider.clone();
        planted.verdict = verdict;
        rules.push(planted);
        let last = rules.len() - 1;
        let found = findings::of_ruleset(&filter(&rules, policies), findings::BUDGET);
        prop_assert!(needless(&found).contains(&last), "{:?}", found);
    }

    #[test]
    fn a_rule_that_a_later_one_repeats_is_found(rules in prop::collection::vec(one(), 1..RULES), policies in policies()) {
        let mut rules = rules;
        let mut first = rules[0].clone();
        for (_, matches) in &mut first.rows {
            matches.conditions = matches.conditions.without(&Variable::Holds(ASKED.into()));
        }
        first.verdict = FilterVerdict::Decided(Verdict::Accept);
        let mut wide = first.clone();
        wide.rows.push((0, Matches::any()));
        rules[0] = first;
        rules.insert(1, wide);
        let found = findings::of_ruleset(&filter(&rules, policies), findings::BUDGET);
        // Where the two are the same, it is the later one that is needless.
        let needless = needless(&found);
        prop_assert!(needless.contains(&0) || needless.contains(&1), "{:?}", found);
    }
}
