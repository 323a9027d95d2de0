//! What is written is proved, whatever the ruleset; what is changed afterwards is not.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use ringwall_diagnostic::Sources;
use ringwall_packet::{AddressSet, Budget, Family, Protocol, UpperCube};
use ringwall_ruleset::iptables::{Text, Unwritten, read, write};
use ringwall_ruleset::{Effect, Entry, Floor, Forward, Ruleset};

use crate::rulesets::ruleset;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_ruleset_is_written_and_proved(ruleset in ruleset(7)) {
        let written = write(&ruleset);
        prop_assert!(written.is_ok(), "{:?}", written.err());
        prop_assert_eq!(written, write(&ruleset));
    }
}

/// Each rule of a text taken out, and each target turned round: nobody could load another text unnoticed.
#[test]
fn mutants_are_another_ruleset() {
    let mut runner = TestRunner::deterministic();
    let (mut caught, mut same) = (0, 0);
    for _ in 0..6 {
        let ruleset = ruleset(4).new_tree(&mut runner).unwrap().current();
        let text = write(&ruleset).unwrap();
        let lines: Vec<&str> = text.v4().lines().collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.starts_with("-A")) {
            let turned = if line.contains("-j ACCEPT") { line.replace("-j ACCEPT", "-j DROP") } else { line.replace("-j DROP", "-j ACCEPT") };
            for mutant in [String::new(), turned.clone()].into_iter().filter(|mutant| mutant != line) {
                let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
                lines[at] = mutant;
                match differs(text.v4(), &format!("{}\n", lines.join("\n"))) {
                    true => caught += 1,
                    false => same += 1,
                }
            }
        }
    }
    // Some rules are dead, or say what the policy of their chain says anyway.
    assert!(caught > 200 && same < caught / 2, "{caught} caught, {same} the same");
}

fn differs(one: &str, other: &str) -> bool {
    let mut sources = Sources::new();
    let mut filter = |text: &str| {
        let source = sources.add("text", text);
        read(&sources, &[Text { source, family: Some(Family::V4) }], None).filter.expect("it can be read")
    };
    let (one, other) = (filter(one), filter(other));
    one.chains.iter().zip(&other.chains).any(|(one, other)| {
        let same = |a: Option<&ringwall_ruleset::filter::Decision>, b: Option<&ringwall_ruleset::filter::Decision>| {
            a.map(|a| a.verdict) == b.map(|b| b.verdict)
        };
        let difference = one.decisions.difference(&other.decisions, same, &mut Budget::new(10_000_000)).expect("small tables");
        !difference.is_empty()
    })
}

fn entry(id: &str) -> Entry {
    Entry {
        id: id.into(),
        effect: Effect::Accept { session_timeout: None },
        source: AddressSet::full(),
        destination: AddressSet::full(),
        names: Default::default(),
        upper: [UpperCube::ports(Protocol::TCP, [22u16].into_iter().collect()).unwrap()].into_iter().collect(),
        interface: None,
        expires: None,
        audit: false,
        log: false,
    }
}

fn node(input: Vec<Entry>, output: Vec<Entry>) -> Ruleset {
    Ruleset {
        node: "n1".into(),
        audit: false,
        local: AddressSet::default(),
        protected: AddressSet::default(),
        floor: Floor { dhcp: true, neighbour_discovery: true, multicast_listener: true },
        input,
        output,
        forward: Forward::Routed(Vec::new()),
    }
}

#[test]
fn what_the_target_cannot_express_is_refused_by_name_all_at_once() {
    let timeout = Entry { effect: Effect::Accept { session_timeout: Some(60) }, ..entry("timeout") };
    let names = Entry { names: ["ntp.example.net".to_owned()].into(), ..entry("names") };
    let audit = Entry { audit: true, ..entry("audit") };
    let late = Entry { expires: Some(0x8000_0001), ..entry("late") };
    let zero = Entry { upper: [UpperCube::protocol(Protocol(0))].into_iter().collect(), ..entry("zero") };
    let kind = Entry { upper: [UpperCube::icmp(Family::V4, 255, None)].into_iter().collect(), ..entry("type") };
    let wild = Entry { interface: Some("eth+".into()), ..entry("wild") };
    let ruleset = Ruleset { audit: true, ..node(vec![timeout.clone(), names, audit, late, zero], vec![timeout, kind, wild]) };
    let Err(Unwritten::Refused(refusals)) = write(&ruleset) else { panic!("it is not refused") };
    let lines: Vec<String> =
        refusals.iter().map(|refusal| format!("{}: {}", refusal.entry.as_deref().unwrap_or("node"), refusal.diagnostic.message)).collect();
    assert_eq!(
        lines,
        [
            "node: iptables can't express a node that only watches (`stage: audit`)",
            "timeout: iptables can't express a rule's own `session_timeout`",
            "names: iptables can't express the DNS name ntp.example.net",
            "audit: iptables can't express a rule that only watches (`stage: audit`)",
            "late: iptables can't express an `expires` after 2038-01-19",
            "zero: iptables can't express protocol 0",
            "type: iptables can't express ICMP type 255",
            "wild: iptables can't express an interface named `eth+`",
        ]
    );
}

#[test]
fn a_text_reads_as_it_is_reviewed() {
    let ssh = Entry { source: "192.0.2.0/24".parse::<ipnet::IpNet>().unwrap().into(), ..entry("ssh") };
    let never = Entry { effect: Effect::Drop, log: true, upper: [UpperCube::any()].into_iter().collect(), source: "198.51.100.66/32".parse::<ipnet::IpNet>().unwrap().into(), ..entry("never") };
    let text = write(&node(vec![never, ssh], vec![])).unwrap();
    // `UPDATE=1` writes them anew, to be read before they are committed.
    for (text, file) in [(text.v4(), "golden.v4"), (text.v6(), "golden.v6")] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/iptables").join(file);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{file}");
    }
}
