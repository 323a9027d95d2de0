//! The chapters of `spec/import` are the importer's manual, and this runs their examples.
//!
//! A block `guide` (Markdown) or `guide.csv` is read. The blocks behind it say what comes of it: `csv`,
//! the whole of it; `diagnostics`, all of them, none when the block is missing; `policy`, an excerpt.
//! `UPDATE=1` writes what comes instead, to be read before it is committed.

use ringwall_diagnostic::{Diagnostic, Sources};
use ringwall_import::{Guide, Stamp, read, to_csv, to_policy};
use std::path::Path;

struct Example {
    sources: Sources,
    guide: Guide,
    diagnostics: Vec<Diagnostic>,
    /// A `diagnostics` block was seen.
    is_diagnosed: bool,
}

impl Example {
    fn new(name: &str, text: &str) -> Self {
        let mut sources = Sources::new();
        let id = sources.add(name, text);
        let (guide, diagnostics) = read(&sources, id);
        Self { sources, guide, diagnostics, is_diagnosed: false }
    }

    fn csv(&self) -> String {
        to_csv(&self.guide, &self.sources)
    }

    fn diagnostics(&self) -> String {
        let line = |diagnostic: &Diagnostic| {
            let place = diagnostic.primary.as_ref().map(|label| self.sources.place(label.span));
            format!(
                "{}: {} {}: {}\n",
                place.unwrap_or_else(|| "guide".to_owned()),
                diagnostic.severity,
                diagnostic.code,
                diagnostic.message
            )
        };
        self.diagnostics.iter().map(line).collect()
    }

    fn policy(&self) -> String {
        to_policy(std::slice::from_ref(&self.guide), &self.sources, &Stamp::default()).text
    }
}

#[test]
fn the_manual_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/import");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    files.sort();
    assert!(!files.is_empty());
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
    assert!(examples >= 20, "only {examples} examples");
    assert!(is_updating || failures.is_empty(), "\n{}", failures.join("\n"));
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
        let mut body = String::new();
        let mut end = "";
        for (_, line) in lines.by_ref() {
            if line.trim_end() == fence {
                end = line;
                break;
            }
            body.push_str(line);
        }
        let mut expect = |body: &str, actual: String, is_right: bool| {
            if !is_right {
                failures.push(format!("{name}:{}: {kind}\n--- expected\n{body}--- is\n{actual}", number + 1));
            }
            actual
        };
        let body = match (kind.as_str(), &mut example) {
            ("guide" | "guide.csv", example) => {
                finish(example.take(), name, failures);
                *example = Some(Example::new(if kind == "guide" { "guide.md" } else { "guide.csv" }, &body));
                count += 1;
                body
            }
            ("csv", Some(example)) => expect(&body, example.csv(), body == example.csv()),
            ("diagnostics", Some(example)) => {
                example.is_diagnosed = true;
                expect(&body, example.diagnostics(), body == example.diagnostics())
            }
            ("policy", Some(example)) => {
                let policy = example.policy();
                let is_right = policy.contains(&body) && !body.is_empty();
                let actual = expect(&body, policy, is_right);
                if is_right { body } else { actual }
            }
            (kind, _) => panic!("{name}:{}: a block `{kind}` without a guide", number + 1),
        };
        out.push_str(&body);
        out.push_str(end);
    }
    finish(example, name, failures);
    (out, count)
}

fn finish(example: Option<Example>, name: &str, failures: &mut Vec<String>) {
    if let Some(example) = example.filter(|example| !example.is_diagnosed && !example.diagnostics.is_empty()) {
        failures.push(format!("{name}: an example has diagnostics and no block for them:\n{}", example.diagnostics()));
    }
}
