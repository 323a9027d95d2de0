//! Rules and expectations as they are written, before any name in them is looked up.

use std::collections::BTreeMap;

use ringwall_diagnostic::{Diagnostic, Span};
use ringwall_packet::IntervalSet;
use ringwall_policy::{Action, RuleId, Stage};

use crate::document::services;
use crate::form::{self, Fields, Word, doubled};
use crate::keys::{self, Table};
use crate::report::Report;
use crate::service;
use crate::time;
use crate::yaml::{Node, Value};

/// `A -> B` or `A <-> B`.
pub struct Line {
    pub span: Span,
    pub sources: Vec<Word>,
    pub destinations: Vec<Word>,
    pub both_ways: bool,
    /// It could not be read, which is reported.
    pub broken: bool,
}

pub struct Condition {
    pub option: Word,
    pub negated: bool,
}

/// A rule, or an expectation, which has fewer keys.
pub struct RuleDef {
    /// From `allow` or `deny` to the end of the line.
    pub span: Span,
    /// Of the document's sections.
    pub section: Option<usize>,
    pub conditions: Vec<Condition>,
    pub action: Action,
    pub line: Line,
    /// The key's place, for what is wrong with all of them.
    pub services: Option<(Span, Vec<Word>)>,
    pub source_ports: Option<(Span, IntervalSet<u16>)>,
    pub via: Option<Word>,
    pub session_timeout: Option<(Span, u32)>,
    pub expires: Option<(Span, u64)>,
    pub stage: Stage,
    pub log: bool,
    pub reject: bool,
    pub note: Option<String>,
    pub owner: Option<String>,
    pub id: Option<(Span, RuleId)>,
}

pub fn conditions(words: &[Word]) -> impl Iterator<Item = Condition> {
    words.iter().map(|word| match word.text.strip_prefix('!') {
        None => Condition { option: word.clone(), negated: false },
        Some(option) => {
            let span = word.part(1, word.text.len());
            Condition { option: Word { text: option.trim().to_owned(), span }, negated: true }
        }
    })
}

/// The ends of `management`: a list, or names with commas between them as in a rule.
pub fn ends(node: &Node, report: &mut Report) -> Vec<Word> {
    match &node.value {
        Value::Scalar(_) => form::text(node, report).map(|word| split_end(&word, 0, word.text.len(), report)),
        _ => Some(form::words(node, report)),
    }
    .unwrap_or_default()
}

pub fn rule(node: &Node, section: Option<usize>, table: &'static Table, report: &mut Report) -> Option<RuleDef> {
    let fields = Fields::open(node, table, report)?;
    let is_rule = std::ptr::eq(table, &keys::RULE);
    let (action, (key, value)) = match (fields.entry("allow"), fields.entry("deny")) {
        (Some(entry), None) => (Action::Allow, entry),
        (None, Some(entry)) => (Action::Deny, entry),
        _ => return None,
    };
    let line = line(value, report);
    let nothing = fields.get("services").is_none_or(|node| match &node.value {
        Value::List(items) => items.is_empty(),
        Value::Null => true,
        _ => false,
    });
    if is_rule && nothing && (action == Action::Allow || fields.get("services").is_some()) {
        let diagnostic = Diagnostic::error("RW0113", format!("{} without services", an(action))).at(value.span, "");
        let help = "name what it is about under `services:`; `services: [any]` is everything, and says so";
        report.push(diagnostic.help(help));
    }
    fields.refuse_empty("when", report);
    let span = Span { end: value.span.end.max(key.span.end), ..key.span };
    let mut rule = RuleDef {
        span,
        section,
        conditions: conditions(&fields.words("when", report)).collect(),
        action,
        services: fields.entry("services").map(|(key, node)| (key.span, services(node, report))),
        note: fields.text("note", report).map(|word| word.text),
        line,
        source_ports: None,
        via: None,
        session_timeout: None,
        expires: None,
        stage: Stage::Enforce,
        log: false,
        reject: false,
        owner: None,
        id: None,
    };
    if is_rule {
        rest_of_rule(&mut rule, &fields, report);
    }
    Some(rule)
}

fn rest_of_rule(rule: &mut RuleDef, fields: &Fields<'_>, report: &mut Report) {
    if let Some((key, node)) = fields.entry("source_ports") {
        fields.refuse_empty("source_ports", report);
        let words = match &node.value {
            Value::Scalar(_) => form::text(node, report).into_iter().collect(),
            _ => form::words(node, report),
        };
        let mut intervals = Vec::new();
        for word in &words {
            match service::ports(&word.text, word, 0) {
                Ok(ports) => intervals.extend_from_slice(ports.intervals()),
                Err(diagnostic) => report.push(*diagnostic),
            }
        }
        rule.source_ports = Some((key.span, intervals.into_iter().collect()));
    }
    rule.via = fields.text("via", report);
    if let Some((key, node)) = fields.entry("session_timeout") {
        let seconds = form::text(node, report).map(|word| time::duration(&word));
        match seconds {
            Some(Ok(seconds)) => rule.session_timeout = Some((node.span, seconds)),
            Some(Err(diagnostic)) => report.push(*diagnostic),
            None => {}
        }
        not_with(rule, Action::Deny, "session_timeout", key, report);
    }
    if let Some((_, node)) = fields.entry("expires") {
        match form::text(node, report).map(|word| time::end_of_day(&word)) {
            Some(Ok(second)) => rule.expires = Some((node.span, second)),
            Some(Err(diagnostic)) => report.push(*diagnostic),
            None => {}
        }
    }
    rule.stage = fields.stage(report).unwrap_or_default();
    rule.log = fields.flag("log", report);
    rule.reject = fields.flag("reject", report);
    if let Some((key, _)) = fields.entry("reject").filter(|_| rule.reject) {
        not_with(rule, Action::Allow, "reject", key, report);
    }
    rule.owner = fields.text("owner", report).map(|word| word.text);
    if let Some((_, node)) = fields.entry("id")
        && let Some(word) = form::text(node, report)
    {
        match RuleId::new(&word.text) {
            Some(id) => rule.id = Some((word.span, id)),
            None => {
                let message = format!("`{}` can't be a rule's id", word.text);
                let help = "an id has up to 32 letters, digits, `.`, `_` and `-`, and begins with a letter or digit; `management`, `default` and what ends in `_audit` are taken";
                report.push(Diagnostic::error("RW0107", message).at(word.span, "").help(help));
            }
        }
    }
}

fn an(action: Action) -> &'static str {
    match action {
        Action::Allow => "an allow",
        Action::Deny => "a deny",
    }
}

fn not_with(rule: &RuleDef, action: Action, what: &str, key: &Node, report: &mut Report) {
    if rule.action == action {
        let message = format!("`{what}` means nothing on {}", an(action));
        report.push(Diagnostic::error("RW0112", message).at(key.span, "").related(rule.line.span, ""));
    }
}

/// Reads `A -> B` and `A <-> B`.
fn line(node: &Node, report: &mut Report) -> Line {
    let broken = Line { span: node.span, sources: Vec::new(), destinations: Vec::new(), both_ways: false, broken: true };
    read_line(node, report).unwrap_or(broken)
}

fn read_line(node: &Node, report: &mut Report) -> Option<Line> {
    let word = match &node.value {
        Value::Scalar(_) => form::text(node, report)?,
        Value::Refused => return None,
        other => {
            let message = format!("`A -> B` is wanted here, not {other}");
            report.push(Diagnostic::error("RW0108", message).at(node.span, ""));
            return None;
        }
    };
    let Arrow { at, after, both_ways } = arrow(&word, report)?;
    let sources = split_end(&word, 0, at, report);
    let destinations = split_end(&word, after, word.text.len(), report);
    has_both_ends(&word, &sources, &destinations, report)?;
    Some(Line { span: word.span, sources, destinations, both_ways, broken: false })
}

/// Reports an end that names nobody.
pub fn has_both_ends(word: &Word, sources: &[Word], destinations: &[Word], report: &mut Report) -> Option<()> {
    if !sources.is_empty() && !destinations.is_empty() {
        return Some(());
    }
    let side = if sources.is_empty() { "before" } else { "after" };
    let message = format!("`{}` has nothing {side} its arrow", word.text);
    report.push(Diagnostic::error("RW0108", message).at(word.span, ""));
    None
}

/// Where the arrow of a line stands.
pub struct Arrow {
    pub at: usize,
    /// The first byte behind it.
    pub after: usize,
    pub both_ways: bool,
}

pub fn arrow(word: &Word, report: &mut Report) -> Option<Arrow> {
    let text = word.text.as_str();
    let bad = |message: String| Diagnostic::error("RW0108", message).at(word.span, "");
    let arrows = ["<->", "->"];
    let Some((at, arrow)) = arrows.iter().find_map(|arrow| text.find(arrow).map(|at| (at, *arrow))) else {
        let other = ["<=>", "=>", "<-", "<--", "-->", "↔", "→", "←", " to "].iter().find(|arrow| text.contains(**arrow));
        let diagnostic = bad(format!("`{text}` has no arrow `->` or `<->`"));
        report.push(match other {
            Some(&arrow @ ("<-" | "<--" | "←")) => {
                let (left, right) = text.split_once(arrow).unwrap_or((text, ""));
                diagnostic.fix(word.span, format!("{} -> {}", right.trim(), left.trim()))
            }
            Some(&arrow) => {
                let instead = if matches!(arrow, "<=>" | "↔") { "<->" } else { "->" };
                let (left, right) = text.split_once(arrow).unwrap_or((text, ""));
                diagnostic.fix(word.span, format!("{} {instead} {}", left.trim(), right.trim()))
            }
            None => diagnostic.help("write source, arrow and destination, such as `users -> web`"),
        });
        return None;
    };
    let after = at + arrow.len();
    if text[after..].contains("->") {
        report.push(bad(format!("`{text}` has more than one arrow")).help("write a rule for each"));
        return None;
    }
    Some(Arrow { at, after, both_ways: arrow == "<->" })
}

/// The names with commas between them in a part of a line.
pub fn split_end(word: &Word, from: usize, to: usize, report: &mut Report) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut first_places: BTreeMap<&str, Span> = BTreeMap::new();
    let mut at = from;
    if word.text[from..to].trim().is_empty() {
        return words;
    }
    for part in word.text[from..to].split(',') {
        let start = at + (part.len() - part.trim_start().len());
        at += part.len() + 1;
        let part = part.trim();
        let span = word.part(start, start + part.len());
        if part.is_empty() {
            report.push(Diagnostic::error("RW0108", "there is nothing beside this comma").at(word.span, ""));
        } else if let Some(first) = first_places.insert(part, span) {
            report.push(doubled(&format!("`{part}`"), first, span));
        } else {
            words.push(Word { text: part.to_owned(), span });
        }
    }
    words
}
