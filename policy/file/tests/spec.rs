//! The manual of the policy language, `spec/policy/*.md`, is this crate's test.
//!
//! A case is one or more `yaml` blocks (the word after `yaml` names the file, `base` is a file that
//! all later cases of the page share) and maybe a `values` block, then its goldens:
//! `text diagnostics`, `text policy` or `text flows`. `UPDATE_SPEC=1 cargo test` writes them anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ringwall_diagnostic::{Code, Colour, Diagnostic, Span, render};
use ringwall_packet::{AddressSet, Flow, Interval, IntervalSet, Protocol, Upper};
use ringwall_policy::{Policy, Reason, Stage, Verdict};
use ringwall_policy_file::{Input, Parsed, Values, edit, parse, schema};

/// 2026-07-01 00:00 UTC, the day on which the manual is read.
const NOW: u64 = 1_782_864_000;

struct Block {
    info: String,
    /// Lines of the page, of the text between the fences.
    first: usize,
    end: usize,
    text: String,
}

struct Case {
    page: PathBuf,
    /// The first golden's line, from 1.
    line: usize,
    inputs: Vec<Input>,
    values: Values,
    goldens: Vec<Block>,
}

fn pages() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/policy");
    let entries = std::fs::read_dir(folder).expect("the manual's folder");
    let mut pages: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    assert!(!pages.is_empty(), "the manual has no page");
    pages
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

fn cases(page: &Path, text: &str) -> Vec<Case> {
    let mut base: Option<Input> = None;
    let mut cases: Vec<Case> = Vec::new();
    for block in blocks(text) {
        let line = block.first;
        let is_golden = block.info.starts_with("text ");
        if !is_golden && cases.last().is_none_or(|case| !case.goldens.is_empty()) {
            let inputs = base.iter().cloned().collect();
            cases.push(Case { page: page.to_owned(), line, inputs, values: Values::default(), goldens: Vec::new() });
        }
        let case = cases.last_mut().unwrap_or_else(|| panic!("{}:{line}: a golden of nothing", page.display()));
        match block.info.split_once(' ').unwrap_or((&block.info, "")) {
            ("yaml", "base") => {
                base = Some(Input { name: "base.yaml".to_owned(), text: block.text });
                case.inputs = base.iter().cloned().collect();
            }
            ("yaml", "alone") => case.inputs = vec![Input { name: "policy.yaml".to_owned(), text: block.text }],
            ("yaml", name) => {
                let name = if name.is_empty() { "policy.yaml" } else { name };
                case.inputs.push(Input { name: name.to_owned(), text: block.text });
            }
            ("values", _) => {
                for line in block.text.lines() {
                    let (name, text) = line.split_once('=').expect("NAME=ADDRESSES");
                    case.values.bind(name, text, format!("--set {name}"));
                }
            }
            ("text", "diagnostics" | "policy" | "flows") => case.goldens.push(block),
            ("sh", _) => {}
            (other, word) => panic!("{}:{line}: unknown block `{other} {word}`", page.display()),
        }
    }
    assert!(cases.last().is_none_or(|case| !case.goldens.is_empty()), "{}: a case without a golden", page.display());
    cases
}

fn all_cases() -> Vec<Case> {
    let read = |page: &PathBuf| std::fs::read_to_string(page).expect("a page");
    pages().iter().flat_map(|page| cases(page, &read(page))).collect()
}

fn golden(case: &Case, block: &Block, parsed: &Parsed) -> String {
    match block.info.as_str() {
        "text diagnostics" => diagnostics(parsed),
        kind => {
            let Some(policy) = &parsed.policy else { return diagnostics(parsed) };
            let is_base = |span: Span| parsed.sources.name(span.source) == "base.yaml";
            if kind == "text policy" { described(policy, is_base) } else { judged(case, policy, &block.text) }
        }
    }
}

fn diagnostics(parsed: &Parsed) -> String {
    let all: Vec<String> =
        parsed.diagnostics.iter().map(|diagnostic| render(diagnostic, &parsed.sources, Colour::Plain)).collect();
    if all.is_empty() { "none\n".to_owned() } else { all.join("\n") }
}

fn addresses(set: &AddressSet) -> String {
    let shown: Vec<String> = set
        .prefixes()
        .iter()
        .map(|prefix| if prefix.prefix_len() == prefix.max_prefix_len() { prefix.addr().to_string() } else { prefix.to_string() })
        .collect();
    if shown.is_empty() { "nothing".to_owned() } else { shown.join(" ") }
}

fn described(policy: &Policy, is_base: impl Fn(Span) -> bool) -> String {
    let mut text = String::new();
    for node in policy.nodes.values().filter(|node| !is_base(node.origin.span)) {
        write!(text, "node {}: {}", node.name, addresses(&node.addresses)).expect("a string");
        if !node.floating.is_empty() {
            write!(text, ", floating {}", addresses(&node.floating)).expect("a string");
        }
        if !node.routes.is_empty() {
            write!(text, ", routes {}", addresses(&node.routes)).expect("a string");
        }
        text.push_str(if node.stage == Stage::Audit { ", audit\n" } else { "\n" });
    }
    for group in policy.groups.values().filter(|group| !is_base(group.origin.span)) {
        let names: Vec<&str> = group.names.iter().map(String::as_str).collect();
        let names = if names.is_empty() { String::new() } else { format!(", names {}", names.join(" ")) };
        writeln!(text, "group {}: {}{names}", group.name, addresses(&group.addresses)).expect("a string");
    }
    for rule in &policy.rules {
        let arrow = if rule.both_ways { "<->" } else { "->" };
        let (source, destination) = (&rule.source, &rule.destination);
        let services: Vec<&str> = rule.services.iter().map(|service| service.text.as_str()).collect();
        let services = if services.is_empty() { "everything".to_owned() } else { services.join(" ") };
        write!(text, "{} {} {} {arrow} {}: {services}", rule.id, rule.action, source.text, destination.text)
            .expect("a string");
        if let Some(ports) = &rule.source_ports {
            write!(text, ", from ports {}", intervals(ports)).expect("a string");
        }
        for (name, value) in [
            ("via", rule.via.as_ref().map(ToString::to_string)),
            ("idle", rule.session_timeout.map(|seconds| format!("{seconds} s"))),
            ("until", rule.expires.map(|second| jiff::Timestamp::UNIX_EPOCH.saturating_add(jiff::SignedDuration::from_secs(second as i64)).expect("a time").to_string())),
            ("owner", rule.owner.clone()),
            ("section", rule.origin.section.clone()),
        ] {
            if let Some(value) = value {
                write!(text, ", {name} {value}").expect("a string");
            }
        }
        for (name, is_so) in [("audit", rule.stage == Stage::Audit), ("log", rule.log), ("reject", rule.reject)] {
            if is_so {
                write!(text, ", {name}").expect("a string");
            }
        }
        text.push('\n');
    }
    text
}

fn intervals(ports: &IntervalSet<u16>) -> String {
    let one = |interval: &Interval<u16>| match interval.is_single() {
        true => interval.first().to_string(),
        false => format!("{}-{}", interval.first(), interval.last()),
    };
    ports.intervals().iter().map(one).collect::<Vec<_>>().join(",")
}

/// Each line is a flow, maybe ` via NAME`, and what the policy makes of it.
fn judged(case: &Case, policy: &Policy, text: &str) -> String {
    let mut result = String::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let arrow = words.iter().position(|word| *word == "->").unwrap_or_else(|| panic!("{line}: no arrow"));
        let via = words.get(arrow + 2).filter(|word| **word == "via").and_then(|_| words.get(arrow + 3)).copied();
        let flow = flow(&words[..=arrow + 1]).unwrap_or_else(|| panic!("{}: not a flow: {line}", case.page.display()));
        let judgement = policy.judge(&flow, via, NOW, |_, _| false);
        let verdict = match judgement.verdict {
            Verdict::Accept => "accept",
            Verdict::Drop => "drop",
            Verdict::Reject => "reject",
        };
        let reason = match judgement.reason {
            Reason::Rule(id) => id.to_string(),
            Reason::Management => "management".to_owned(),
            Reason::Default => "default".to_owned(),
        };
        let via = via.map_or(String::new(), |via| format!(" via {via}"));
        writeln!(result, "{flow}{via} {verdict} {reason}").expect("a string");
    }
    result
}

fn flow(words: &[&str]) -> Option<Flow> {
    let protocol = Protocol::named(words[0]).or_else(|| words[0].strip_prefix("proto/")?.parse().ok().map(Protocol))?;
    match words {
        [_, from, "->", to] if protocol.has_ports() => {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().ok()?, to.parse().ok()?);
            let protocol = ringwall_packet::PortProtocol::new(protocol)?;
            let upper = Upper::Ports { protocol, source: from.port(), destination: to.port() };
            Flow::new(from.ip(), to.ip(), upper)
        }
        [_, "type", kind, "code", code, from, "->", to] => {
            let upper = Upper::Icmp { kind: kind.parse().ok()?, code: code.parse().ok()? };
            Flow::new(from.parse::<IpAddr>().ok()?, to.parse::<IpAddr>().ok()?, upper)
        }
        [_, from, "->", to] => Flow::new(from.parse().ok()?, to.parse().ok()?, Upper::other(protocol)?),
        _ => None,
    }
}

#[test]
fn the_manual_says_what_is() {
    let update = std::env::var_os("UPDATE_SPEC").is_some();
    let mut wrong = String::new();
    for page in pages() {
        let text = std::fs::read_to_string(&page).expect("a page");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for case in cases(&page, &text).iter().rev() {
            let parsed = parse(&case.inputs, &case.values, NOW);
            for block in case.goldens.iter().rev() {
                let found = golden(case, block, &parsed);
                if found.trim_end() != block.text.trim_end() {
                    let place = format!("{}:{}", page.display(), block.first);
                    write!(wrong, "{place}\nwritten:\n{}\nfound:\n{found}\n", block.text).expect("a string");
                    lines.splice(block.first..block.end, found.trim_end().lines().map(str::to_owned));
                }
            }
        }
        if update {
            std::fs::write(&page, lines.join("\n") + "\n").expect("a writable page");
        }
    }
    assert!(update || wrong.is_empty(), "{wrong}");
}

#[test]
fn each_code_has_an_example_and_an_explanation() {
    let mut shown: BTreeSet<String> = BTreeSet::new();
    for case in all_cases() {
        let parsed = parse(&case.inputs, &case.values, NOW);
        shown.extend(parsed.diagnostics.iter().map(|diagnostic| diagnostic.code.to_string()));
    }
    let explained: BTreeSet<String> =
        Code::all().iter().map(|(code, _)| (*code).to_owned()).filter(|code| code.starts_with("RW0")).collect();
    // It takes a file that no manual would show; tests/damage.rs has one.
    shown.insert("RW0114".to_owned());
    let missing: Vec<_> = shown.symmetric_difference(&explained).collect();
    assert!(missing.is_empty(), "without an example or without an explanation: {missing:?}");
}

#[test]
fn each_fix_mends_what_it_is_for() {
    let mut tried = 0;
    for case in all_cases() {
        let parsed = parse(&case.inputs, &case.values, NOW);
        for diagnostic in parsed.diagnostics.iter().filter(|diagnostic| diagnostic.fix.is_some()) {
            let same = |diagnostics: &[Diagnostic]| {
                diagnostics.iter().filter(|other| other.code == diagnostic.code && other.message == diagnostic.message).count()
            };
            let texts = parsed.sources.ids().map(|id| Input {
                name: parsed.sources.name(id).to_owned(),
                text: edit::fixed(&parsed.sources, id, std::slice::from_ref(diagnostic)),
            });
            let fixed = parse(&texts.collect::<Vec<_>>(), &case.values, NOW);
            let (before, after) = (same(&parsed.diagnostics), same(&fixed.diagnostics));
            let place = format!("{}:{}", case.page.display(), case.line);
            assert!(after < before, "{place}: the fix does not mend {diagnostic:?}");
            tried += 1;
        }
    }
    assert!(tried >= 20, "only {tried} fixes in the manual");
}

#[test]
fn the_schema_takes_what_the_reader_takes() {
    let validator = jsonschema::draft7::new(&schema()).expect("a schema");
    let mut checked = 0;
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut inputs: Vec<(String, Vec<Input>, Values)> = all_cases()
        .into_iter()
        .map(|case| (format!("{}:{}", case.page.display(), case.line), case.inputs, case.values))
        .collect();
    let mut folders = vec![examples];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            let is_policy = path.extension().is_some_and(|extension| extension == "yaml");
            if path.is_dir() {
                folders.push(path);
            } else if is_policy {
                let text = std::fs::read_to_string(&path).expect("an example");
                let name = path.display().to_string();
                inputs.push((name.clone(), vec![Input { name, text }], Values::default()));
            }
        }
    }
    for (place, inputs, values) in inputs {
        for input in inputs {
            let parsed = parse(std::slice::from_ref(&input), &values, NOW);
            let has = |codes: &[&str]| parsed.diagnostics.iter().any(|diagnostic| codes.contains(&diagnostic.code.0));
            let Ok(json) = serde_saphyr::from_str::<serde_json::Value>(&input.text) else {
                assert!(!parsed.diagnostics.is_empty(), "{place}: {} reads otherwise elsewhere", input.name);
                continue;
            };
            let errors: Vec<String> = validator.iter_errors(&json).map(|error| format!("{}: {error}", error.instance_path())).collect();
            let form = parsed.diagnostics.iter().any(|diagnostic| diagnostic.code.0 < "RW0200");
            assert!(form || json.is_null() || errors.is_empty(), "{place}: {}: {errors:?}", input.name);
            let unknown_key = has(&["RW0103"]);
            assert!(!unknown_key || !errors.is_empty(), "{place}: the schema takes {}", input.name);
            checked += 1;
        }
    }
    assert!(checked >= 20, "only {checked} texts were checked");
}

#[test]
fn the_schema_in_the_repository_is_the_readers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("policy.schema.json");
    let wanted = serde_json::to_string_pretty(&schema()).expect("JSON") + "\n";
    if std::env::var_os("UPDATE_SPEC").is_some() {
        std::fs::write(&path, &wanted).expect("a writable schema");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), wanted, "write it anew with UPDATE_SPEC=1");
}

#[test]
fn each_key_is_in_the_manual() {
    let manual: String = pages().iter().map(|page| std::fs::read_to_string(page).expect("a page")).collect();
    let schema = schema();
    let definitions = schema["definitions"].as_object().expect("definitions").values();
    let mut keys: Vec<&String> = Vec::new();
    for table in definitions.chain([&schema]) {
        keys.extend(table["properties"].as_object().expect("properties").keys());
    }
    keys.retain(|key| !manual.contains(&format!("`{key}`")) && !manual.contains(&format!("`{key}:")));
    assert!(keys.is_empty(), "nothing about {keys:?}");
}
