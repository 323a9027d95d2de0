//! The chapters of `spec/nftables` are the reader's manual, and this runs their examples.
//!
//! A block `nft` is read. The blocks behind it say what comes of it: `packets`, each with what becomes
//! of it; `rows`, all that the text does; `unknown`, all that is not followed; `diagnostics`, all of them,
//! none when the block is missing. What is no mistake is also loaded into a kernel, listed and read
//! again, unless the block is `nft listed`. `UPDATE=1` writes what comes instead, to be read before it
//! is committed.

use std::path::Path;

use ringwall_diagnostic::{Diagnostic, Sources};
use ringwall_ruleset::filter::Reading;
use ringwall_ruleset::nftables::read::read;

use crate::nftables_read::{kernel, packets, words};

struct Example {
    text: String,
    is_loadable: bool,
    sources: Sources,
    reading: Reading,
    is_diagnosed: bool,
}

impl Example {
    fn new(text: &str, is_loadable: bool) -> Self {
        let mut sources = Sources::new();
        let source = sources.add("rules.nft", text);
        let reading = read(&sources, source);
        Self { text: text.into(), is_loadable, sources, reading, is_diagnosed: false }
    }

    fn diagnostics(&self) -> String {
        let line = |diagnostic: &Diagnostic| {
            let place = diagnostic.primary.as_ref().map(|label| format!("{}: ", self.sources.place(label.span)));
            let label = diagnostic.primary.as_ref().map(|label| format!("    `{}` {}\n", self.sources.snippet(label.span).trim(), label.text));
            let (place, label) = (place.unwrap_or_default(), label.unwrap_or_default());
            format!("{place}{} {}: {}\n{label}", diagnostic.severity, diagnostic.code, diagnostic.message)
        };
        self.reading.diagnostics.iter().map(line).collect()
    }

    fn packets(&self, asked: &str) -> String {
        let Some(filter) = &self.reading.filter else { return "the text can't be read\n".into() };
        let lines: Vec<(&str, String)> = asked
            .lines()
            .map(|line| {
                let question = line.split("=>").next().unwrap_or_default().trim();
                let packet = packets::packet(question).unwrap_or_else(|| panic!("`{question}` is no packet"));
                (question, packets::decide(filter, &packet))
            })
            .collect();
        let width = lines.iter().map(|(question, _)| question.chars().count()).max().unwrap_or(0);
        lines.iter().map(|(question, answer)| format!("{question:width$} => {answer}\n")).collect()
    }

    fn rows(&self) -> String {
        self.reading.filter.as_ref().map_or("the text can't be read\n".into(), words::decisions)
    }

    fn unknown(&self) -> String {
        let Some(filter) = &self.reading.filter else { return "the text can't be read\n".into() };
        filter.unknown.iter().map(|unknown| format!("line {}: {}\n    {}\n", unknown.line, unknown.text, unknown.why)).collect()
    }

    fn finish(&self, name: &str, failures: &mut Vec<String>) {
        if !self.is_diagnosed && !self.reading.diagnostics.is_empty() {
            failures.push(format!("{name}: an example has diagnostics and no block for them:\n{}", self.diagnostics()));
        }
        match &self.reading.filter {
            Some(filter) if self.is_loadable => {
                if let Err(why) = kernel::round_trip(&self.text, filter) {
                    failures.push(format!("{name}: {why}\n{}", self.text));
                }
            }
            // What is an error here is one for nft, too; a file that is included is not there.
            None if self.is_loadable && kernel::listing(&self.text).is_ok() => {
                failures.push(format!("{name}: the kernel takes it:\n{}", self.text));
            }
            _ => {}
        }
    }
}

#[test]
fn the_manual_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/nftables");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    files.sort();
    let is_updating = std::env::var("UPDATE").is_ok();
    let mut failures = Vec::new();
    let mut examples = 0;
    for path in &files {
        let text = std::fs::read_to_string(path).unwrap();
        let (updated, count) = run(&text, &format!("{}", path.file_name().unwrap().display()), &mut failures);
        examples += count;
        if is_updating && updated != text {
            std::fs::write(path, updated).unwrap();
        }
    }
    assert!(examples >= 30, "only {examples} examples");
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// The text with what comes of its examples, and how many there are.
fn run(text: &str, name: &str, failures: &mut Vec<String>) -> (String, usize) {
    let mut out = String::new();
    let mut example: Option<Example> = None;
    let mut count = 0;
    let mut lines = text.split_inclusive('\n').enumerate();
    while let Some((number, line)) = lines.next() {
        out.push_str(line);
        let fence: String = line.chars().take_while(|c| *c == '`').collect();
        if fence.len() < 3 {
            continue;
        }
        let kind = line.trim_matches(['`', '\n']).to_owned();
        let (mut body, mut end) = (String::new(), "");
        for (_, line) in lines.by_ref() {
            if line.trim_end() == fence {
                end = line;
                break;
            }
            body.push_str(line);
        }
        let mut expect = |actual: String| {
            if actual != body {
                failures.push(format!("{name}:{}: {kind}\n--- expected\n{body}--- is\n{actual}", number + 1));
            }
            actual
        };
        let body = match (kind.as_str(), &mut example) {
            ("nft" | "nft listed", example) => {
                if let Some(example) = example.take() {
                    example.finish(name, failures);
                }
                *example = Some(Example::new(&body, kind == "nft"));
                count += 1;
                body
            }
            ("packets", Some(example)) => expect(example.packets(&body)),
            ("rows", Some(example)) => expect(example.rows()),
            ("unknown", Some(example)) => expect(example.unknown()),
            ("diagnostics", Some(example)) => {
                example.is_diagnosed = true;
                expect(example.diagnostics())
            }
            (kind, _) => panic!("{name}:{}: a block `{kind}` without rules", number + 1),
        };
        out.push_str(&body);
        out.push_str(end);
    }
    if let Some(example) = example {
        example.finish(name, failures);
    }
    (out, count)
}
