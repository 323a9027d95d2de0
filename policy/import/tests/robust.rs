//! Any input: no panic, and nothing that is lost without a word.

use crate::mixture;

use mixture::piece;
use proptest::prelude::*;
use ringwall_diagnostic::{Diagnostic, Sources};
use ringwall_import::{Guide, MAX_BYTES, Stamp, decode, read, to_csv, to_policy};

fn import(name: &str, text: &str) -> (Sources, Guide, Vec<Diagnostic>) {
    let mut sources = Sources::new();
    let id = sources.add(name, text);
    let (guide, diagnostics) = read(&sources, id);
    (sources, guide, diagnostics)
}

/// Everything that can be made of a document.
fn all(name: &str, text: &str) -> String {
    let (sources, guide, diagnostics) = import(name, text);
    for span in guide.flows.iter().map(|flow| flow.span).chain(guide.undecided.iter().map(|row| row.span)) {
        assert!(span.start <= span.end && span.end <= text.len(), "{span:?}");
    }
    for label in diagnostics.iter().filter_map(|diagnostic| diagnostic.primary.as_ref()) {
        assert!(label.span.start <= label.span.end && label.span.end <= text.len(), "{label:?}");
        sources.position(label.span);
    }
    let _ = to_csv(&guide, &sources);
    to_policy(&[guide], &sources, &Stamp::default()).text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read(text in "\\PC{0,400}") {
        all("guide.md", &text);
        all("guide.csv", &text);
    }

    #[test]
    fn any_mixture_is_read(text in piece()) {
        all("guide.md", &text);
        all("guide.csv", &text);
    }

    #[test]
    fn any_bytes_are_text_or_not(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(text) = decode("guide.md", bytes) {
            all("guide.md", &text);
        }
    }

    /// Each row of a table with ports is a flow or is reported.
    #[test]
    fn no_row_is_lost(cells in prop::collection::vec("[a-zA-Z0-9/,.*<>()-]{1,12}", 1..12)) {
        let rows: String = cells.iter().map(|cell| format!("| a | b | {cell} |\n")).collect();
        let text = format!("| Source | Destination | Port |\n|---|---|---|\n| a | b | 80/tcp |\n{rows}");
        let (sources, guide, _) = import("guide.md", &text);
        for (index, cell) in cells.iter().enumerate() {
            let line = index + 4;
            let is_there = guide.flows.iter().any(|flow| sources.position(flow.span).0 == line)
                || guide.undecided.iter().any(|row| sources.position(row.span).0 == line);
            prop_assert!(is_there, "`{cell}` in line {line}");
        }
    }
}

fn has(diagnostics: &[Diagnostic], code: &str) -> bool {
    diagnostics.iter().any(|diagnostic| diagnostic.code.0 == code)
}

#[test]
fn what_is_no_text_is_refused() {
    assert_eq!(decode("g.md", b"a\n\xff".to_vec()).unwrap_err().code.0, "RW1001");
    assert_eq!(decode("g.md", vec![0; 10]).unwrap_err().code.0, "RW1001");
    assert_eq!(decode("g.md", vec![b'a'; MAX_BYTES + 1]).unwrap_err().code.0, "RW1008");
    assert_eq!(decode("g.md", b"\xef\xbb\xbf# a".to_vec()).unwrap(), "# a");
}

#[test]
fn a_document_without_ports_says_so() {
    let (_, guide, diagnostics) = import("guide.md", "# Hello\n\nNothing here.\n");
    assert!(guide.flows.is_empty() && has(&diagnostics, "RW1002"));
}

/// Inputs that invite more than linear work, each near the limit of size.
#[test]
fn hostile_documents_end() {
    let table = "| Source | Destination | Port |\n|---|---|---|\n";
    let repeat = |piece: &str, bytes: usize| piece.repeat(bytes / piece.len());
    let size = if cfg!(debug_assertions) { 1 << 16 } else { MAX_BYTES - 4096 };
    let many = |piece: &str| repeat(piece, size);
    let documents = [
        format!("{table}{}", many("| a | b | 80/tcp |\n")),
        format!("{table}{}", many("|\n")),
        format!("{table}| a | b | {} |\n", many("tcp ")),
        format!("{table}| a | b | {} |\n", many("- ")),
        format!("{table}| {} | b | 80/tcp |\n", many("a, ")),
        format!(
            "{table}{}",
            many(&format!("| {} | {} | 80/tcp |\n", repeat("a,b,c,d,", 200), repeat("e,f,g,h,", 200)))
        ),
        many("<table><tr><td>"),
        many("<table \"\n\n"),
        format!("<table><tr><th>Port</th></tr>{}", many("<tr><td rowspan=65534 colspan=1000>80/tcp</td></tr>")),
        many("<div>\n\n"),
        many("> "),
        many("- "),
        many("# port port to\n"),
        format!("# {}", many("port ")),
        many("a. b"),
        many("to from "),
        many("::: note\n"),
        many("- 80/tcp: a\n"),
        many("- **a**: b\n"),
        format!("Ports between {}:\n\n{}", "the port of a node. ".repeat(200), many("- 80/tcp: a to b\n")),
        format!("Ports:\n\n{}", many("a port x ")),
        many("[^"),
        many("*a_"),
        many("a\n\n"),
    ];
    for document in documents {
        let (sources, guide, diagnostics) = import("guide.md", &document);
        assert!(!guide.flows.is_empty() || !diagnostics.is_empty(), "{}", &document[..60]);
        let _ = to_csv(&guide, &sources);
        let _ = to_policy(&[guide], &sources, &Stamp::default());
    }
    let rows = format!("source,destination,port\n{}", many("a,b,80/tcp\n"));
    let (_, guide, diagnostics) = import("guide.csv", &rows);
    assert!(guide.flows.len() == size / 11 || has(&diagnostics, "RW1008"));
}
