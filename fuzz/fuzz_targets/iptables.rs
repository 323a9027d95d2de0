//! Any bytes as an iptables dump, and what follows a line of dashes as the output of `ipset save`: a
//! filter whose tables can be asked, or diagnostics that can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringwall_diagnostic::{Colour, Sources, render};
use ringwall_ruleset::iptables::{Text, is_iptables, read};

fuzz_target!(|text: &str| {
    let (rules, sets) = text.split_once("\n---\n").map_or((text, None), |(rules, sets)| (rules, Some(sets)));
    is_iptables(rules);
    let mut sources = Sources::new();
    let source = sources.add("rules", rules);
    let sets = sets.map(|text| sources.add("sets", text));
    let reading = read(&sources, &[Text { source, family: None }], sets);
    for diagnostic in &reading.diagnostics {
        render(diagnostic, &sources, Colour::Plain);
    }
    assert!(reading.filter.is_some() || !reading.diagnostics.is_empty());
    for chain in reading.filter.iter().flat_map(|filter| &filter.chains) {
        // Total: the last row takes everything.
        assert!(chain.decisions.v4.last().is_some_and(|row| row.matches == ringwall_packet::Matches::any()));
        assert!(chain.decisions.v6.last().is_some_and(|row| row.matches == ringwall_packet::Matches::any()));
    }
});
