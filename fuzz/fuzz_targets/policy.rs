//! Any bytes as a policy file: diagnostics, each of which can be shown, and never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringwall_diagnostic::{Colour, render};
use ringwall_policy_file::{Input, Values, parse};

fuzz_target!(|text: &str| {
    let input = Input { name: "policy.yaml".into(), text: text.into() };
    let parsed = parse(&[input], &Values::default(), 0);
    for diagnostic in &parsed.diagnostics {
        render(diagnostic, &parsed.sources, Colour::Plain);
    }
});
