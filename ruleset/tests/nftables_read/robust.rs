//! Bad input: an answer or diagnostics that can be shown, in bounded work, whatever the text.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use ringwall_diagnostic::{Colour, Sources, render};
use ringwall_ruleset::filter::{Filter, Reading};
use ringwall_ruleset::nftables::read::read;

/// Reads a text and shows all that is said of it.
fn shown(text: &str) -> Reading {
    let mut sources = Sources::new();
    let source = sources.add("rules.nft", text);
    let reading = read(&sources, source);
    for diagnostic in &reading.diagnostics {
        render(diagnostic, &sources, Colour::Plain);
    }
    assert!(reading.filter.is_some() || reading.diagnostics.iter().any(|diagnostic| diagnostic.is_error()));
    reading
}

fn filter(text: &str) -> Filter {
    let reading = shown(text);
    let diagnostics = reading.diagnostics;
    reading.filter.unwrap_or_else(|| panic!("{diagnostics:?}"))
}

fn codes(text: &str) -> Vec<&'static str> {
    shown(text).diagnostics.iter().map(|diagnostic| diagnostic.code.0).collect()
}

fn corpus() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/nftables");
    let read = |path: std::path::PathBuf| String::from_utf8(fs::read(path).expect("a readable file")).ok();
    let mut paths: Vec<_> = fs::read_dir(folder).expect("the corpus").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.into_iter().filter_map(read).collect()
}

#[test]
fn every_text_of_the_corpus_is_read() {
    let texts = corpus();
    texts.iter().for_each(|text| drop(shown(text)));
    assert!(texts.len() > 30, "{} texts", texts.len());
}

#[test]
fn a_text_that_ends_anywhere_is_read_or_not() {
    for text in corpus().iter().filter(|text| text.len() < 3000) {
        for end in (0..text.len()).step_by(7).filter(|end| text.is_char_boundary(*end)) {
            shown(&text[..end]);
        }
    }
}

const WORDS: [&str; 96] = [
    "table", "inet", "ip", "ip6", "t", "{", "}", "chain", "c", "type", "filter", "nat", "hook", "input", "priority", "0", ";", "\n",
    "policy", "accept", "drop", "reject", "with", "tcp", "reset", "jump", "goto", "return", "continue", "dport", "sport", "saddr",
    "daddr", "22", "1-65535", "{ 22, 80 }", "vmap", "@s", "@th,0,16", ":", ",", ".", "-", "/", "!=", "==", "<", ">=", "&", "|", "^", "(",
    ")", "[", "]", "ct", "state", "new,established", "status", "dnat", "mark", "set", "0xff", "and", "or", "meta", "l4proto", "th", "icmp",
    "type", "limit", "rate", "10/second", "log", "prefix", "\"x\"", "counter", "name", "elements", "=", "flags", "interval", "192.0.2.1",
    "192.0.2.0/24", "2001:db8::/32", "::1", "add", "rule", "delete", "element", "flush", "define", "$x", "x", "#c\n", "map",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn words_in_any_order_are_read_or_not(words in proptest::collection::vec(0..WORDS.len(), 0..60), depth in 0..3usize) {
        let head = ["", "table inet t {\n", "table inet t { set s { type inet_service; }\nchain d {}\nchain c {\n type filter hook input priority 0;\n"][depth];
        let words: Vec<&str> = words.into_iter().map(|word| WORDS[word]).collect();
        shown(&format!("{head}{}{}", words.join(" "), ["", "\n}\n", "\n}\n}\n"][depth]));
    }

    #[test]
    fn bytes_in_any_order_are_read_or_not(text in "[ -~\\n\\u{e4}]{0,200}") {
        shown(&text);
        shown(&format!("table inet t {{\nchain c {{\ntype filter hook input priority 0;\n{text}\n}}\n}}\n"));
    }
}

#[test]
fn a_hundred_thousand_rules_are_answered() {
    let mut text = String::from("table inet t {\nchain c {\ntype filter hook input priority 0; policy drop;\n");
    for number in 0..100_000_u32 {
        let [_, a, b, c] = (number * 97).to_be_bytes();
        let verdict = if number % 3 == 0 { "drop" } else { "accept" };
        writeln!(text, "ip saddr 10.{a}.{b}.{c}/31 tcp dport {}-{} {verdict}", number % 60_000, number % 60_000 + 500).expect("a string");
    }
    text.push_str("}\n}\n");
    let filter = filter(&text);
    assert_eq!(filter.chains[0].decisions.v4.len(), 100_001);
}

/// Each on one field: what is left for the next rule would be a set that grows with every rule.
#[test]
fn rules_that_each_take_one_address_are_answered() {
    let mut text = String::from("table ip t {\nchain c {\ntype filter hook input priority 0; policy drop;\n");
    for number in 0..50_000_u32 {
        let [_, a, b, c] = (number * 2).to_be_bytes();
        writeln!(text, "ip saddr 10.{a}.{b}.{c} accept").expect("a string");
    }
    text.push_str("}\n}\n");
    assert_eq!(filter(&text).chains[0].decisions.v4.len(), 50_001);
}

#[test]
fn a_million_prefixes_are_one_field_of_one_row() {
    let mut text = String::from("table inet t {\nset s {\ntype ipv4_addr\nflags interval\nelements = { ");
    for number in 0..1_000_000_u32 {
        let [a, b, c, d] = (number * 4096).to_be_bytes();
        write!(text, "{a}.{b}.{c}.{d}/21, ").expect("a string");
    }
    text.push_str("}\n}\nchain c {\ntype filter hook input priority 0; policy drop;\nip saddr @s tcp dport 22 accept\nip saddr @s drop\n}\n}\n");
    let filter = filter(&text);
    let rows = &filter.chains[0].decisions.v4;
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0].matches.cube.source.intervals().len(), 1_000_000);
}

#[test]
fn what_is_too_much_is_said() {
    // Each chain leads to the next in two ways, for packets of overlapping boxes.
    let mut text = String::from("table inet t {\nchain c0 {\ntype filter hook input priority 0;\njump c1\n}\n");
    for number in 1..15 {
        writeln!(text, "chain c{number} {{").expect("a string");
        for port in 0..20 {
            writeln!(text, "ip saddr 10.0.0.0/{} tcp dport {port}-1000 jump c{}", 8 + port, number + 1).expect("a string");
        }
        writeln!(text, "}}").expect("a string");
    }
    text.push_str("chain c15 {\nip daddr 192.0.2.1 udp sport 5 accept\ntcp sport 7 ip daddr 192.0.2.2 accept\n}\n}\n");
    assert_eq!(codes(&text), ["RW6009"]);
    // A value of values of values.
    let mut text = String::from("define v0 = { 1, 2, 3, 4, 5, 6, 7, 8 }\n");
    for number in 1..40 {
        let before = format!("$v{}", number - 1);
        writeln!(text, "define v{number} = {{ {before}, {before}, {before}, {before} }}").expect("a string");
    }
    assert_eq!(codes(&text), ["RW6009"]);
}

#[test]
fn loops_end() {
    // Every chain leads to every other.
    let mut text = String::from("table inet t {\n");
    for number in 0..200 {
        let targets: Vec<String> = (0..200).map(|target| format!("{target} : jump c{target}")).collect();
        writeln!(text, "chain c{number} {{\ntcp dport vmap {{ {} }}\n}}", targets.join(", ")).expect("a string");
    }
    text.push_str("chain input { type filter hook input priority 0; policy accept; }\n");
    assert_eq!(codes(&format!("{text}}}\n")), Vec::<&str>::new());
    assert_eq!(codes(&format!("{text}chain forward {{ type filter hook forward priority 0; jump c7; }}\n}}\n")), ["RW6008"]);
    // A way through very many chains.
    let mut text = String::from("table inet t {\nchain input { type filter hook input priority 0; jump c0; }\n");
    for number in 0..100_000 {
        writeln!(text, "chain c{number} {{ jump c{}; }}", number + 1).expect("a string");
    }
    text.push_str("chain c100000 { accept; }\n}\n");
    assert_eq!(codes(&text), ["RW6008"]);
    let unreached = text.replace("jump c0;", "accept;");
    assert_eq!(filter(&unreached).chains[0].decisions.v4.len(), 1);
}

#[test]
fn depth_of_braces_and_parentheses_does_not_matter() {
    for (open, close) in [("{", "}"), ("(", ")"), ("[", "]")] {
        let nested = format!("{}{}", open.repeat(100_000), close.repeat(100_000));
        shown(&nested);
        shown(&format!("table inet t {{\nchain c {{\ntcp dport {nested} accept\nmeta mark set {nested}\n}}\n}}\n"));
    }
    shown(&format!("table inet t {{\nchain c {{\n{} accept\n}}\n}}\n", "vxlan ".repeat(100_000)));
    shown(&format!("table inet t {{\nchain c {{\n{} accept\n}}\n}}\n", "jhash ".repeat(100_000)));
}
