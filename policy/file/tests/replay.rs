//! The fuzzer's corpus, one by one: whatever the text, diagnostics that can be shown and no panic.

use std::fs;
use std::path::Path;

use ringwall_diagnostic::{Colour, render};
use ringwall_policy_file::{Input, Values, parse};

#[test]
fn every_text_of_the_corpus_is_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/policy");
    let mut texts = 0;
    for entry in fs::read_dir(&folder).expect("the corpus") {
        let bytes = fs::read(entry.expect("an entry").path()).expect("a readable file");
        let Ok(text) = String::from_utf8(bytes) else { continue };
        let parsed = parse(&[Input { name: "policy.yaml".into(), text }], &Values::default(), 0);
        for diagnostic in &parsed.diagnostics {
            render(diagnostic, &parsed.sources, Colour::Plain);
        }
        texts += 1;
    }
    assert!(texts > 40, "{texts} texts in {}", folder.display());
}
