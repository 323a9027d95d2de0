//! Our own texts, golden and random.

use std::path::Path;

use proptest::prelude::*;
use ringwall_diagnostic::Sources;
use ringwall_packet::{Family, Flow, Protocol, Row, State as Conntrack, Upper, UpperCube, Variable};
use ringwall_ruleset::filter::{Decision, Filter, FilterVerdict, Hook};
use ringwall_ruleset::nftables::read::{Installed as Known, Sets, State, TableName, chain, filter, script};
use ringwall_ruleset::nftables::{Confirm, Generation, Installed, confirm, learn, remove, rollback, transaction};
use ringwall_ruleset::{CLOCK_MIN, Decider, Entry, Floor, Forward, Path as Way, Ruleset, Verdict};

use crate::packets::Of;
use crate::rulesets::ruleset;

const OURS: TableName = TableName { family: "inet", name: "ringwall" };

/// Runs texts one after the other on what is installed, and asks something of what the kernel would hold.
fn loaded<T>(installed: &[(TableName, Known)], texts: &[&str], ask: impl FnOnce(&State) -> T) -> T {
    let mut sources = Sources::new();
    let scripts: Vec<_> = texts
        .iter()
        .map(|text| {
            let (script, diagnostics) = script(text, sources.add("ours.nft", *text));
            assert_eq!(diagnostics, [], "{text}");
            script
        })
        .collect();
    let mut state = State::with_installed(installed.iter().copied());
    for (script, text) in scripts.iter().zip(texts) {
        assert_eq!(state.apply(script), [], "{text}");
    }
    ask(&state)
}

#[test]
fn goldens_are_read_whole() {
    for node in ["edge", "web"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../compile/tests/golden/{node}.nft"));
        let text = std::fs::read_to_string(path).expect("a golden text");
        loaded(&[], &[&text], |state| {
            let all = filter(state, Sets::Free).expect("few rows");
            assert_eq!(all.unknown, [], "{node}");
            let chains: Vec<_> = all.chains.iter().map(|chain| (chain.hook, chain.priority, chain.table.as_str())).collect();
            let (blocks, policy) = ("inet ringwall_blocks", "inet ringwall");
            let expected = [
                (Hook::Prerouting, -300, blocks),
                (Hook::Input, -10, policy),
                (Hook::Forward, -10, policy),
                (Hook::Output, -300, blocks),
                (Hook::Output, -10, policy),
            ];
            assert_eq!(chains, expected);
            let armed = |row: &Row<std::net::Ipv4Addr, Decision>| {
                row.matches.conditions.values(&Variable::Holds("meta nfproto @g1_armed".into())).is_some()
            };
            assert!(all.chains[1].decisions.v4.iter().any(armed), "{node}: the switch is a free variable");
        });
    }
}

fn node(id: &str) -> Ruleset {
    let entry = Entry {
        id: id.into(),
        effect: ringwall_ruleset::Effect::Accept { session_timeout: Some(60) },
        source: ringwall_packet::AddressSet::full(),
        destination: ringwall_packet::AddressSet::full(),
        names: ["ntp.example.net".to_owned()].into(),
        upper: [UpperCube::protocol(Protocol::TCP)].into_iter().collect(),
        interface: None,
        expires: None,
        audit: false,
        log: true,
    };
    Ruleset {
        node: "n".into(),
        audit: false,
        local: ringwall_packet::AddressSet::full(),
        protected: ["192.0.2.1".parse().expect("an address")].into_iter().collect::<Vec<std::net::IpAddr>>().into_iter().collect(),
        floor: Floor { dhcp: true, neighbour_discovery: true, multicast_listener: true },
        input: vec![entry.clone()],
        output: vec![entry],
        forward: Forward::Containers { unmanaged: Default::default(), uplinks: Default::default() },
    }
}

/// Declarations of a kind that begin so.
fn named(state: &State, kind: &str, begin: &str) -> Vec<String> {
    let all = state.declarations().into_iter().filter(|of| of.kind == kind && of.name.starts_with(begin));
    all.map(|of| of.name.to_owned()).collect()
}

#[test]
fn a_trial_its_confirmation_and_its_end_are_what_the_kernel_takes() {
    let first = transaction(&node("a"), Generation(1), &Installed::default(), Confirm::Never);
    let installed = loaded(&[], &[&first], |state| Installed {
        current: Some(Generation(1)),
        chains: named(state, "chain", "g1"),
        counters: named(state, "counter", "g1"),
        sets: named(state, "set", "g1"),
        ..Installed::default()
    });
    assert!(installed.chains.len() > 5 && installed.counters.len() > 5 && installed.sets.len() == 2);
    let trial = transaction(&node("b"), Generation(2), &installed, Confirm::Within(60));
    let both = loaded(&[], &[&first, &trial], |state| Installed {
        chains: named(state, "chain", "g"),
        counters: named(state, "counter", "g"),
        sets: named(state, "set", "g"),
        ..installed.clone()
    });
    let confirmed = confirm(&node("b"), Generation(2), &both);
    loaded(&[], &[&learn(), &first, &trial, &confirmed], |state| {
        assert_eq!(named(state, "chain", "g1"), Vec::<String>::new());
        assert_eq!(named(state, "set", "g2_armed"), Vec::<String>::new());
        let elements: Vec<_> = state.declarations().into_iter().filter(|of| of.kind == "element").collect();
        assert!(elements.iter().any(|of| of.name == "protected4" && of.text == "192.0.2.1"), "{elements:?}");
    });
    let end = rollback(Generation(2), &both);
    loaded(&[], &[&first, &trial, &end], |state| {
        assert_eq!(named(state, "chain", "g2"), Vec::<String>::new());
        assert_eq!(named(state, "chain", "g1"), installed.chains);
    });
    let removed = remove();
    loaded(&[], &[&first, &removed], |state| assert_eq!(state.declarations(), []));
    // By name alone, as the compiler knows it.
    let names = [(OURS, Known::Chain("g1_in")), (OURS, Known::Chain("g1_out")), (OURS, Known::Chain("g1_fwd"))];
    let current = Installed { current: Some(Generation(1)), ..Installed::default() };
    let trial = transaction(&node("b"), Generation(2), &current, Confirm::Within(60));
    loaded(&names, &[&trial], |state| {
        let all = filter(state, Sets::Free).expect("few rows");
        let elsewhere: Vec<_> = all.unknown.iter().map(|unknown| unknown.text.as_str()).collect();
        assert_eq!(elsewhere, ["g1_in", "g1_fwd", "g1_out"]);
        let input = all.chains.iter().find(|chain| chain.hook == Hook::Input).expect("the base chain");
        let last = input.decisions.v4.last().expect("a row");
        assert!(matches!(last.decision.verdict, FilterVerdict::Elsewhere(0)));
    });
}

#[test]
fn a_confirmation_needs_the_switch() {
    let first = transaction(&node("a"), Generation(1), &Installed::default(), Confirm::Within(60));
    let confirmed = confirm(&node("a"), Generation(1), &Installed::default());
    let late = confirmed.replacen("delete element", "flush set inet ringwall g1_armed\ndelete element", 1);
    let mut sources = Sources::new();
    let (first, _) = script(&first, sources.add("first", ""));
    let (late, _) = script(&late, sources.add("late", ""));
    let mut state = State::default();
    assert_eq!(state.apply(&first), []);
    let codes: Vec<_> = state.apply(&late).iter().map(|diagnostic| diagnostic.code.0).collect();
    assert_eq!(codes, ["RW6004"]);
}

/// The row that decides a packet of which all variables that are not named are 0.
fn decide<'f>(filter: &'f Filter, flow: &Flow, known: &[(Variable, u128)]) -> &'f Decision {
    fn first<'r, A: Of>(rows: &'r [Row<A, Decision>], flow: &Flow, known: &[(Variable, u128)]) -> &'r Decision {
        let value = |variable: &Variable| known.iter().find(|(name, _)| name == variable).map_or(0, |(_, value)| *value);
        let is_met = |row: &&Row<A, Decision>| {
            A::contains(row, flow) && row.matches.conditions.iter().all(|(variable, values)| values.contains(value(variable)))
        };
        &rows.iter().find(is_met).expect("a total table").decision
    }
    let table = &filter.chains[0].decisions;
    match flow.family() {
        Family::V4 => first(&table.v4, flow, known),
        Family::V6 => first(&table.v6, flow, known),
    }
}

fn flow() -> impl Strategy<Value = Flow> {
    let ported = prop_oneof![Just(Protocol::TCP), Just(Protocol::UDP), Just(Protocol::SCTP), Just(Protocol::DCCP)];
    let port = prop_oneof![Just(80u16), Just(0), Just(65_535), 0u16..1100, 20u16..43, any::<u16>()];
    let upper = prop_oneof![
        6 => (ported, port.clone(), port).prop_map(|(protocol, source, destination)| {
            let protocol = ringwall_packet::PortProtocol::new(protocol).expect("it has ports");
            Upper::Ports { protocol, source, destination }
        }),
        2 => (any::<u8>(), 0u8..4).prop_map(|(kind, code)| Upper::Icmp { kind, code }),
        1 => prop_oneof![Just(47u8), Just(50), Just(112)].prop_map(|number| Upper::other(Protocol(number)).expect("no ports")),
    ];
    let end = (any::<bool>(), 0u32..30);
    (end, 0u32..30, upper).prop_map(|((is_v6, from), to, upper)| {
        let address = |number: u32| match is_v6 {
            true => std::net::IpAddr::from(std::net::Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) + u128::from(number))),
            false => std::net::Ipv4Addr::from_bits(0xc000_0200 + number).into(),
        };
        Flow::new(address(from), address(to), upper).expect("one family")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_texts_do_what_their_ruleset_says(
        ruleset in ruleset(7),
        flows in proptest::collection::vec(flow(), 60),
        interface in prop_oneof![Just("eth0"), Just("wg0"), Just("eth1")],
        now in prop_oneof![Just(CLOCK_MIN), Just(CLOCK_MIN + 86_400), Just(0x8000_0000), Just(0x9000_0000)],
    ) {
        let no_floor = Floor { dhcp: false, neighbour_discovery: false, multicast_listener: false };
        let ruleset = Ruleset { floor: no_floor, ..ruleset };
        let text = transaction(&ruleset, Generation(1), &Installed::default(), Confirm::Within(60));
        let ways = [(Way::Input, "g1_in", true), (Way::Output, "g1_out", false), (Way::Forward, "g1_fwd", true)];
        for (way, name, is_in) in ways {
            if way == Way::Forward && matches!(ruleset.forward, Forward::Containers { .. }) {
                continue;
            }
            let filter = loaded(&[], &[&text], |state| {
                chain(state, OURS, name, Verdict::Drop, Sets::Free).expect("the chain").expect("few rows")
            });
            prop_assert!(filter.unknown.is_empty(), "{:?}", filter.unknown);
            let by = if is_in { Variable::InputInterface } else { Variable::OutputInterface };
            let known = [
                (by, ringwall_packet::interface(interface).expect("a name")),
                (Variable::Clock, now.into()),
                (Variable::State, Conntrack::New.values().first()),
            ];
            for flow in &flows {
                let (verdict, decider) = ruleset.judge(way, flow, |name| name == interface, now, |_, _| false);
                let decision = decide(&filter, flow, &known);
                prop_assert_eq!(decision.verdict, FilterVerdict::Decided(verdict), "{} {:?} {:?}\n{}", flow, decider, filter.effects[decision.effects], text);
                let effects = &filter.effects[decision.effects];
                let counter = match decider {
                    Decider::Entry(id) => format!("counter name \"{name}_r_{id}\""),
                    Decider::Default => format!("counter name \"{name}_default\""),
                };
                prop_assert!(effects.contains(&counter), "{} is not in {:?}", counter, effects);
            }
        }
    }
}
