//! Any bytes as a guide: flows, diagnostics that can be shown, and a policy text that is YAML.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringwall_diagnostic::{Colour, Sources, render};
use ringwall_import::{Stamp, decode, read, to_csv, to_policy};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = decode("guide.md", bytes.to_vec()) else { return };
    for name in ["guide.md", "guide.csv"] {
        let mut sources = Sources::new();
        let source = sources.add(name, text.clone());
        let (guide, diagnostics) = read(&sources, source);
        for diagnostic in &diagnostics {
            render(diagnostic, &sources, Colour::Plain);
        }
        to_csv(&guide, &sources);
        let policy = to_policy(std::slice::from_ref(&guide), &sources, &Stamp::default()).text;
        let input = ringwall_policy_file::Input { name: "policy.yaml".into(), text: policy };
        let parsed = ringwall_policy_file::parse(&[input], &Default::default(), 0);
        // RW0101 is text that is no YAML: what we write is always that.
        assert!(parsed.diagnostics.iter().all(|diagnostic| diagnostic.code.0 != "RW0101"));
    }
});
