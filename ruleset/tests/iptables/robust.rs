//! Any input: no panic, bounded work, and a place for every diagnostic.

use std::path::Path;

use proptest::prelude::*;
use ringwall_diagnostic::{Colour, Sources, render};
use ringwall_packet::Matches;
use ringwall_ruleset::filter::{FilterVerdict, Reading};
use ringwall_ruleset::iptables::{Text, read};

fn all(text: &str) -> Reading {
    let (rules, sets) = text.split_once("\n---\n").map_or((text, None), |(rules, sets)| (rules, Some(sets)));
    let mut sources = Sources::new();
    let source = sources.add("rules", rules);
    let sets = sets.map(|text| sources.add("sets", text));
    let reading = read(&sources, &[Text { source, family: None }], sets);
    for diagnostic in &reading.diagnostics {
        render(diagnostic, &sources, Colour::Plain);
    }
    let has_errors = reading.diagnostics.iter().any(|diagnostic| diagnostic.is_error());
    assert_eq!(reading.filter.is_none(), has_errors, "{:?}", reading.diagnostics);
    if let Some(filter) = &reading.filter {
        for rule in &filter.rules {
            assert_eq!(sources.position(rule.span).0, rule.line);
            assert_eq!(sources.snippet(rule.span).trim_start_matches(|c| c != '-'), rule.text);
        }
        for chain in &filter.chains {
            assert!(chain.decisions.v4.last().is_some_and(|row| row.matches == Matches::any()));
            assert!(chain.decisions.v6.last().is_some_and(|row| row.matches == Matches::any()));
            for decision in chain.decisions.v4.iter().map(|row| &row.decision).chain(chain.decisions.v6.iter().map(|row| &row.decision)) {
                assert!(decision.rule.is_none_or(|rule| rule < filter.rules.len()) && decision.effects < filter.effects.len());
                assert!(!matches!(decision.verdict, FilterVerdict::Elsewhere(unknown) if unknown >= filter.unknown.len()));
            }
        }
    }
    reading
}

#[test]
fn the_fuzzers_corpus_is_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/iptables");
    let mut texts = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("a readable file");
        let Ok(text) = String::from_utf8(bytes) else { continue };
        all(&text);
        texts += 1;
    }
    assert!(texts > 30, "{texts} texts in {}", folder.display());
}

const WORDS: &[&str] = &[
    "-A", "INPUT", "FORWARD", "OUTPUT", "A", "B", "-s", "192.0.2.0/24", "2001:db8::/32", "10.0.2.0/255.0.255.0", "!", "-d", "-i",
    "eth+", "-o", "lo", "-p", "tcp", "udp", "icmp", "0", "-m", "multiport", "--dports", "80,90:100", "--dport", "22", "--sport",
    "conntrack", "--ctstate", "NEW,DNAT", "INVALID", "--ctorigdst", "192.0.2.1", "mark", "--mark", "0x1/0xf", "set", "--match-set",
    "x", "src", "limit", "--limit", "5/min", "comment", "--comment", "\"a b\"", "time", "--datestart", "2027-01-01", "--timestart",
    "-j", "-g", "ACCEPT", "DROP", "RETURN", "REJECT", "LOG", "MARK", "--set-xmark", "NFQUEUE", "iprange", "--src-range",
    "192.0.2.1-192.0.2.9", "tcp", "--tcp-flags", "SYN,ACK", "SYN", "\"open", "hl", "--hl-eq", "255", "addrtype", "--dst-type", "LOCAL",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read(text in "\\PC{0,400}") {
        all(&text);
    }

    #[test]
    fn any_words_are_read(lines in prop::collection::vec(prop::collection::vec(prop::sample::select(WORDS), 0..12), 0..12)) {
        let lines: String = lines.iter().map(|words| format!("-A {}\n", words.join(" "))).collect();
        all(&format!("*filter\n:INPUT DROP [0:0]\n:A - [0:0]\n:B - [0:0]\n{lines}COMMIT\n---\ncreate x hash:net\nadd x 192.0.2.0/24\n"));
    }

    #[test]
    fn rows_are_what_a_walk_says(rules in prop::collection::vec((0usize..4, 0u8..4, 0u8..4, 0usize..10), 1..24), packets in prop::collection::vec((0u8..4, 0u8..4), 16)) {
        same_as_a_walk(&rules, &packets)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// So many that chains are taken apart into more parts than are kept.
    #[test]
    fn many_returns_are_what_a_walk_says(rules in prop::collection::vec((0usize..4, 0u8..20, 0u8..20, prop_oneof![4 => 3usize..4, 1 => 0usize..10]), 100..200), packets in prop::collection::vec((0u8..20, 0u8..20), 64)) {
        same_as_a_walk(&rules, &packets)?;
    }
}

/// Chains that jump to each other, with conditions and returns: what the rows say is what a walk from
/// rule to rule says.
fn same_as_a_walk(rules: &[(usize, u8, u8, usize)], packets: &[(u8, u8)]) -> Result<(), TestCaseError> {
    let chains = ["INPUT", "a", "b", "c"];
    // A chain jumps to later ones alone.
    let target = |chain: usize, kind: usize| match kind {
        0 | 1 => "-j ACCEPT".to_owned(),
        2 => "-j DROP".into(),
        3 | 4 => "-j RETURN".into(),
        5 | 6 if chain < 3 => format!("-j {}", chains[chain + 1]),
        7 if chain < 2 => format!("-j {}", chains[chain + 2]),
        8 if chain < 3 => format!("-g {}", chains[chain + 1]),
        _ => "-j LOG".into(),
    };
    let line = |(chain, source, destination, kind): &(usize, u8, u8, usize)| {
        let source = if *source == 0 { String::new() } else { format!("-s 192.0.2.{source}/32 ") };
        let destination = if *destination == 0 { String::new() } else { format!("! -d 192.0.2.{destination}/32 ") };
        format!("-A {} {source}{destination}{}\n", chains[*chain], target(*chain, *kind))
    };
    let lines: String = rules.iter().map(line).collect();
    let text = format!("# Generated by iptables-save\n*filter\n:INPUT DROP [0:0]\n:a - [0:0]\n:b - [0:0]\n:c - [0:0]\n{lines}COMMIT\n");
    let filter = all(&text).filter.expect("it can be read");
    for (source, destination) in packets {
        let question = format!("input tcp 192.0.2.{source}:1 -> 192.0.2.{destination}:1");
        let answer = crate::packets::decide(&filter, &crate::packets::packet(&question).unwrap());
        let walked = walk(rules, &target, 0, *source, *destination).unwrap_or("drop by the policy".into());
        prop_assert_eq!(answer.split(" after ").next().unwrap(), walked, "{}\n{}", question, text);
    }
    Ok(())
}

/// What decides a packet from a chain on, rule by rule; `None` when it comes back.
fn walk(rules: &[(usize, u8, u8, usize)], target: &impl Fn(usize, usize) -> String, chain: usize, source: u8, destination: u8) -> Option<String> {
    let chains = ["INPUT", "a", "b", "c"];
    for (at, (of, from, to, kind)) in rules.iter().enumerate() {
        if *of != chain || (*from != 0 && *from != source) || (*to != 0 && *to == destination) {
            continue;
        }
        // Six lines before the first rule.
        let line = at + 7;
        let text = target(chain, *kind);
        match text.split_once(' ').unwrap() {
            ("-j", "ACCEPT") => return Some(format!("accept by line {line}")),
            ("-j", "DROP") => return Some(format!("drop by line {line}")),
            ("-j", "RETURN") => return None,
            ("-j", "LOG") => {}
            (option, name) => {
                let next = chains.iter().position(|known| *known == name).unwrap();
                match walk(rules, target, next, source, destination) {
                    None if option == "-g" => return None,
                    None => {}
                    decided => return decided,
                }
            }
        }
    }
    None
}
