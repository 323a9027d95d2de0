//! Runs the examples of `spec/lint`: a table, what stands around it, and what the linter says.
//!
//! An example is fenced blocks: `table` and `roles` in CSV, `text` in Markdown, `settings`, and at
//! last `findings` or `rendered`. With `RINGWALL_BLESS=1` the findings are written instead.

use crate::table;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::{env, fs};

use ringwall_diagnostic::{Code, Colour, Diagnostic, SourceId, Sources, render};
use ringwall_lint::{Context, Role, Timeout, lint, paragraphs};

const FENCE: &str = "````";

#[derive(Clone, Default)]
struct Example {
    table: String,
    roles: String,
    text: String,
    settings: String,
}

impl Example {
    fn run(&self) -> (Sources, SourceId, Vec<Diagnostic>) {
        let mut sources = Sources::new();
        let id = sources.add("table.csv", self.table.clone());
        let rows = table::rows(id, &self.table, |cell| Some(cell("label")).filter(|label| !label.is_empty()));
        let text = sources.add("guide.md", self.text.clone());
        let mut context = Context { roles: self.roles(), prose: paragraphs(text, &self.text), ..Context::default() };
        for line in self.settings.lines() {
            let (key, value) = line.split_once(": ").expect("`key: value`");
            match key {
                "min_tls" => context.min_tls = Some(value.to_owned()),
                "timeout" => {
                    let at = self.text.find(value).expect("the timeout's words in the text");
                    let seconds = value.split(' ').next().and_then(|number| number.parse().ok()).expect("seconds");
                    let span = ringwall_diagnostic::Span { source: text, start: at, end: at + value.len() };
                    context.timeouts.push(Timeout { section: String::new(), seconds, span });
                }
                _ => panic!("no setting `{key}`"),
            }
        }
        let findings = lint(&rows, &context);
        (sources, id, findings)
    }

    fn roles(&self) -> Vec<Role> {
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(self.roles.as_bytes());
        let headers = reader.headers().expect("a header").clone();
        let role = |record: csv::StringRecord| {
            let cell = |name: &str| {
                let column = headers.iter().position(|header| header == name);
                column.and_then(|column| record.get(column)).unwrap_or_default().to_owned()
            };
            Role {
                name: cell("name"),
                description: Some(cell("description")).filter(|text| !text.is_empty()),
                members: cell("members").parse().ok(),
                part_of: Some(cell("part_of")).filter(|text| !text.is_empty()).into_iter().collect(),
                by_name: cell("by_name") == "yes",
                span: None,
            }
        };
        reader.records().map(|record| role(record.expect("a readable line"))).collect()
    }
}

/// A fix that is applied as it is mends what it was offered for.
fn assert_fixes_mend(example: &Example) {
    for finding in example.run().2 {
        let Some(fix) = finding.fix else { continue };
        let mut table = example.table.clone();
        table.replace_range(fix.span.start..fix.span.end, &fix.replacement);
        let mended = Example { table, ..example.clone() };
        let line = finding.primary.expect("a place").span.start;
        let left = mended
            .run()
            .2
            .into_iter()
            .filter(|other| other.primary.as_ref().is_some_and(|label| label.span.start == line));
        assert!(!left.into_iter().any(|other| other.code == finding.code), "{}", finding.message);
    }
}

/// Takes a block into the example, and gives it back to be written as it was.
fn keep(part: &mut String, body: String) -> String {
    assert!(part.is_empty(), "two blocks of one kind: {body}");
    part.clone_from(&body);
    body
}

/// The document with the outcome of each example as it is now, and the codes that appeared.
fn rewritten(document: &str, seen: &mut BTreeSet<String>) -> (String, usize) {
    let (mut output, mut count) = (String::new(), 0);
    let mut example = Example::default();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        output.push_str(line);
        output.push('\n');
        let Some(kind) = line.strip_prefix(FENCE).filter(|kind| !kind.is_empty()) else { continue };
        let body: String = lines.by_ref().take_while(|line| *line != FENCE).map(|line| format!("{line}\n")).collect();
        let body = match kind {
            "findings" | "rendered" => {
                count += 1;
                assert_fixes_mend(&example);
                let (sources, id, findings) = std::mem::take(&mut example).run();
                seen.extend(findings.iter().map(|finding| finding.code.to_string()));
                let line = |finding: &Diagnostic| match kind {
                    "rendered" => render(finding, &sources, Colour::Plain),
                    _ => format!("{}\n", table::line(&sources, id, finding)),
                };
                findings.iter().map(line).collect::<Vec<_>>().join(if kind == "rendered" { "\n" } else { "" })
            }
            "table" => keep(&mut example.table, body),
            "roles" => keep(&mut example.roles, body),
            "text" => keep(&mut example.text, body),
            "settings" => keep(&mut example.settings, body),
            _ => panic!("no block `{kind}`"),
        };
        output.push_str(&body);
        output.push_str(FENCE);
        output.push('\n');
    }
    (output, count)
}

#[test]
fn the_manual_says_what_the_linter_does() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../spec/lint");
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("the manual").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let (mut seen, mut examples) = (BTreeSet::new(), 0);
    for file in files {
        let document = fs::read_to_string(&file).expect("a page");
        let (now, count) = rewritten(&document, &mut seen);
        examples += count;
        if env::var_os("RINGWALL_BLESS").is_some() {
            fs::write(&file, now).expect("a writable page");
        } else {
            assert!(now == document, "{} says otherwise; now it is:\n{now}", file.display());
        }
    }
    assert!(examples > 30, "{examples} examples");
    let explained: BTreeSet<_> =
        Code::all().iter().filter(|(code, _)| code.starts_with("RW2")).map(|(code, _)| (*code).to_owned()).collect();
    assert_eq!(seen, explained, "the manual shows every code of the linter, and each has its explanation");
}
