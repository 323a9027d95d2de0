//! Any bytes as nftables rules: diagnostics that can be shown, or all that they do, and never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringwall_diagnostic::{Colour, Sources, render};
use ringwall_ruleset::nftables::read::read;

fuzz_target!(|text: &str| {
    let mut sources = Sources::new();
    let source = sources.add("rules.nft", text);
    let reading = read(&sources, source);
    for diagnostic in &reading.diagnostics {
        render(diagnostic, &sources, Colour::Plain);
    }
    assert!(reading.filter.is_some() || reading.diagnostics.iter().any(|diagnostic| diagnostic.is_error()));
});
