//! The fuzzer's corpus, one by one: whatever the bytes, no panic, and a policy text that is YAML.

use std::fs;
use std::path::Path;

use ringwall_diagnostic::{Colour, Sources, render};
use ringwall_import::{Stamp, decode, read, to_csv, to_policy};
use ringwall_policy_file::{Input, Values, parse};

#[test]
fn every_guide_of_the_corpus_is_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/guide");
    let mut guides = 0;
    for entry in fs::read_dir(&folder).expect("the corpus") {
        let bytes = fs::read(entry.expect("an entry").path()).expect("a readable file");
        let Ok(text) = decode("guide", bytes) else {
            continue;
        };
        for name in ["guide.md", "guide.csv"] {
            let mut sources = Sources::new();
            let source = sources.add(name, text.clone());
            let (guide, diagnostics) = read(&sources, source);
            for diagnostic in &diagnostics {
                render(diagnostic, &sources, Colour::Plain);
            }
            to_csv(&guide, &sources);
            let text = to_policy(std::slice::from_ref(&guide), &sources, &Stamp::default()).text;
            let parsed = parse(&[Input { name: "policy.yaml".into(), text }], &Values::default(), 0);
            assert!(parsed.diagnostics.iter().all(|diagnostic| diagnostic.code.0 != "RW0101"), "{name}: no YAML");
        }
        guides += 1;
    }
    assert!(guides > 30, "{guides} guides in {}", folder.display());
}
