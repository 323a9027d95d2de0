//! The manual of the findings, `spec/findings/*.md`, is this test.
//!
//! A case is one or more `yaml` blocks (`base` is a file that all later cases of the page share,
//! `alone` is without it), or a ruleset as an `iptables` or `nft` block; then `text findings`: what
//! the findings are, rendered.
//! `UPDATE_SPEC=1 cargo test` writes them anew.

use std::path::{Path, PathBuf};

use ringwall_analysis::findings::{self, Ports};
use ringwall_diagnostic::{Code, Colour, Diagnostic, Sources, render};
use ringwall_packet::Protocol;
use ringwall_policy_file::{Input, Values, parse};
use ringwall_ruleset::detect;
use ringwall_ruleset::filter::Reading;
use ringwall_services::{FactKind, facts, name_of};

/// 2026-07-01 00:00 UTC, the day on which the manual is read.
const NOW: u64 = 1_782_864_000;

fn risk_of(protocol: Protocol, port: u16) -> Option<&'static str> {
    facts(name_of(protocol, port)?).find(|fact| matches!(fact.kind, FactKind::Login | FactKind::Share)).map(|fact| fact.why)
}

struct Block {
    info: String,
    /// Lines of the page, of the text between the fences.
    first: usize,
    end: usize,
    text: String,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open: Option<Block> = None;
    for (at, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                open = Some(Block { info: info.to_owned(), first: at + 1, end: at + 1, text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take().map(|block| Block { end: at, ..block })),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

fn shown(found: &[Diagnostic], sources: &Sources) -> String {
    let codes: Vec<&str> = Code::all().iter().map(|(code, _)| *code).collect();
    assert!(found.iter().all(|one| codes.contains(&one.code.0)), "each code is explained");
    let all: Vec<String> = found.iter().map(|one| render(one, sources, Colour::Plain)).collect();
    if all.is_empty() { "none\n".to_owned() } else { all.join("\n") }
}

/// What the findings of a policy are.
fn of_policy(inputs: &[Input]) -> String {
    let parsed = parse(inputs, &Values::default(), NOW);
    let Some(policy) = &parsed.policy else { return format!("wrong:\n{}", shown(&parsed.diagnostics, &parsed.sources)) };
    let ports = Ports { name_of: &name_of, risk_of: &risk_of };
    shown(&findings::of_policy(policy, ports, NOW, findings::BUDGET), &parsed.sources)
}

/// What the findings of a ruleset are.
fn of_ruleset(name: &str, text: &str) -> String {
    let mut sources = Sources::new();
    let source = sources.add(name, text);
    let Reading { filter, diagnostics } = detect::read_every_rule(&sources, &[detect::Text { source, format: None }]);
    let Some(filter) = filter else { return format!("wrong:\n{}", shown(&diagnostics, &sources)) };
    shown(&findings::of_ruleset(&filter, findings::BUDGET), &sources)
}

/// The page with its goldens as they are now, and how many there are.
fn page(text: &str) -> (String, usize) {
    let mut base: Option<Input> = None;
    let mut inputs: Vec<Input> = Vec::new();
    let mut ruleset: Option<(&str, String)> = None;
    let mut goldens = 0;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut edits: Vec<(usize, usize, String)> = Vec::new();
    for block in blocks(text) {
        match block.info.as_str() {
            "yaml base" => base = Some(Input { name: "base.yaml".to_owned(), text: block.text }),
            "yaml" => {
                inputs = base.iter().cloned().collect();
                inputs.push(Input { name: "policy.yaml".to_owned(), text: block.text });
            }
            "yaml alone" => inputs = vec![Input { name: "policy.yaml".to_owned(), text: block.text }],
            "iptables" => ruleset = Some(("rules.v4", block.text)),
            "nft" => ruleset = Some(("ruleset.nft", block.text)),
            "text findings" => {
                goldens += 1;
                let golden = match ruleset.take() {
                    Some((name, text)) => of_ruleset(name, &text),
                    None => of_policy(&inputs),
                };
                edits.push((block.first, block.end, golden));
            }
            other => panic!("unknown block `{other}`"),
        }
    }
    for (first, end, golden) in edits.into_iter().rev() {
        lines.splice(first..end, golden.lines().map(str::to_owned));
    }
    (lines.join("\n") + "\n", goldens)
}

#[test]
fn the_manual_is_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/findings");
    let mut pages: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("the manual's folder").map(|entry| entry.expect("an entry").path()).collect();
    pages.sort();
    let mut goldens = 0;
    for path in pages {
        let text = std::fs::read_to_string(&path).expect("a page");
        let (now, count) = page(&text);
        goldens += count;
        if std::env::var_os("UPDATE_SPEC").is_some() {
            std::fs::write(&path, now).expect("the page is written");
        } else {
            assert_eq!(text, now, "{}", path.display());
        }
    }
    assert!(goldens > 10, "the manual has cases");
}
