//! What the kernel makes of a text, and what its own programs print of that, mean the same.

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use ringwall_diagnostic::Sources;
use ringwall_lab::{Host, HostRef, Lab, Topology};
use ringwall_packet::Budget;
use ringwall_ruleset::filter::{Decision, Filter};
use ringwall_ruleset::iptables::{Text, read, write};

use crate::rulesets::ruleset;

fn with_host(work: impl FnOnce(HostRef<'_>)) {
    let lab = Lab::start(&Topology::new().host(Host::new("node"))).unwrap();
    work(lab.host("node").unwrap());
}

fn filter(texts: &[&str]) -> Filter {
    let mut sources = Sources::new();
    let texts: Vec<Text> = texts.iter().map(|text| Text { source: sources.add("text", *text), family: None }).collect();
    let reading = read(&sources, &texts, None);
    reading.filter.unwrap_or_else(|| panic!("{:?}", reading.diagnostics))
}

/// Where the two texts decide differently.
fn differences(one: &Filter, other: &Filter) -> Vec<String> {
    assert_eq!(one.chains.len(), other.chains.len());
    let same = |a: Option<&Decision>, b: Option<&Decision>| a.map(|a| a.verdict) == b.map(|b| b.verdict);
    let mut words = Vec::new();
    for (one, other) in one.chains.iter().zip(&other.chains) {
        assert_eq!((one.hook, &one.table), (other.hook, &other.table));
        let difference = one.decisions.difference(&other.decisions, same, &mut Budget::new(50_000_000)).unwrap();
        words.extend(difference.v4.iter().map(|change| format!("{} {}", one.name, change.matches.witness())));
        words.extend(difference.v6.iter().map(|change| format!("{} {}", one.name, change.matches.witness())));
    }
    words
}

#[test]
fn what_is_written_is_loaded_and_saved_with_the_same_meaning() {
    let mut runner = TestRunner::deterministic();
    with_host(|host| {
        for _ in 0..12 {
            let ruleset = ruleset(9).new_tree(&mut runner).unwrap().current();
            let texts = write(&ruleset).unwrap();
            host.output("iptables-restore", &[], texts.v4()).unwrap();
            host.output("ip6tables-restore", &[], texts.v6()).unwrap();
            let saved = [host.output("iptables-save", &["-t", "filter"], "").unwrap(), host.output("ip6tables-save", &["-t", "filter"], "").unwrap()];
            let differences = differences(&filter(&[texts.v4(), texts.v6()]), &filter(&[&saved[0], &saved[1]]));
            assert!(differences.is_empty(), "{differences:?}\n{}\n{}", saved[0], saved[1]);
        }
    });
}

/// The manual's own rulesets, wherever the kernel needs no set, counter or module beside them.
#[test]
fn the_manual_is_loaded_and_saved_with_the_same_meaning() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/iptables");
    let mut loaded = 0;
    with_host(|host| {
        for chapter in ["1-rules.md", "2-matches.md", "3-dumps.md"] {
            let text = std::fs::read_to_string(folder.join(chapter)).unwrap();
            for block in text.split("```iptables\n").skip(1).filter_map(|rest| rest.split("```").next()) {
                if ["--match-set", "moonphase", "nfacct", "ip6tables-save"].iter().any(|word| block.contains(word)) {
                    continue;
                }
                host.output("iptables-restore", &[], block).unwrap_or_else(|error| panic!("{error}\n{block}"));
                let tables: Vec<&str> = block.lines().filter_map(|line| line.strip_prefix('*')).collect();
                let saved: String = tables.iter().map(|table| host.output("iptables-save", &["-t", table], "").unwrap()).collect();
                let (one, other) = (filter(&[block]), filter(&[&saved]));
                // Chains of the kernel's own that the block leaves out are printed, and accept.
                let one = Filter { chains: other.chains.iter().filter_map(|chain| one.chains.iter().find(|known| known.hook == chain.hook && known.table == chain.table).cloned()).collect(), ..one };
                let differences = differences(&one, &other);
                assert!(differences.is_empty(), "{differences:?}\n{block}\n{saved}");
                loaded += 1;
            }
        }
    });
    assert!(loaded >= 15, "only {loaded}");
}

#[test]
fn families_are_told_apart_in_one_text() {
    let mut runner = TestRunner::deterministic();
    let ruleset = ruleset(5).new_tree(&mut runner).unwrap().current();
    let texts = write(&ruleset).unwrap();
    let both = format!("{}\n{}", texts.v4(), texts.v6());
    assert!(differences(&filter(&[&both]), &filter(&[texts.v4(), texts.v6()])).is_empty());
    assert!(filter(&[texts.v4()]).unknown.iter().any(|unknown| unknown.text == "ip6tables-save"));
}
