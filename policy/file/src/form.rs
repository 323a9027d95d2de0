//! From nodes of the tree to typed values; every mistake of form is reported and left out.

use ringwall_diagnostic::{Diagnostic, Span};
use ringwall_policy::{Name, Stage};

use crate::keys::Table;
use crate::near::{list, nearest};
use crate::report::Report;
use crate::yaml::{Node, Value};

/// A piece of text with its place.
#[derive(Clone, Debug)]
pub struct Word {
    pub text: String,
    pub span: Span,
}

impl Word {
    /// The place of a part of it, where it stands in the file letter for letter.
    pub fn part(&self, from: usize, to: usize) -> Span {
        if self.span.end - self.span.start == self.text.len() {
            Span { start: self.span.start + from, end: self.span.start + to, ..self.span }
        } else {
            self.span
        }
    }
}

/// The entries of a mapping whose keys are known.
pub struct Fields<'a> {
    table: &'static Table,
    entries: Vec<(&'static str, &'a Node, &'a Node)>,
}

impl<'a> Fields<'a> {
    /// Reports keys that are unknown, doubled, missing or at odds.
    pub fn open(node: &'a Node, table: &'static Table, report: &mut Report) -> Option<Self> {
        let Value::Map(pairs) = &node.value else {
            if matches!(node.value, Value::Refused) {
                return None;
            }
            let keys = list(table.keys.iter().take(4).map(|key| key.name));
            let diagnostic = Diagnostic::error("RW0104", format!("{} is a mapping, not {}", table.what, node.value));
            report.push(diagnostic.at(node.span, "").help(format!("its keys are {keys} and so on")));
            return None;
        };
        let mut entries: Vec<(&'static str, &Node, &Node)> = Vec::new();
        let mut meant: Vec<&str> = Vec::new();
        for (key, value) in pairs {
            let written = key.scalar().map_or("", |scalar| scalar.text.as_str());
            match table.keys.iter().find(|known| known.name == written) {
                None => {
                    let message = format!("{} has no key `{written}`", table.what);
                    let diagnostic = Diagnostic::error("RW0103", message).at(key.span, "unknown key");
                    let known = || table.keys.iter().map(|key| key.name);
                    let diagnostic = report.suggest(diagnostic, key.span, written, known());
                    report.push(diagnostic);
                    meant.extend(nearest(written, known()));
                }
                Some(known) => match entries.iter().find(|(name, ..)| *name == known.name) {
                    Some((_, first, _)) => report.push(doubled(&format!("the key `{written}`"), first.span, key.span)),
                    None => entries.push((known.name, key, value)),
                },
            }
        }
        let fields = Self { table, entries };
        for required in table.required {
            if fields.entry(required).is_none() && !meant.contains(required) {
                let message = format!("{} needs `{required}`", table.what);
                report.push(Diagnostic::error("RW0106", message).at(first_line(pairs, node.span), ""));
            }
        }
        let present: Vec<_> = table.one_of.iter().filter_map(|name| fields.entry(name)).collect();
        match present[..] {
            [] if !table.one_of.is_empty() && !table.one_of.iter().any(|name| meant.contains(name)) => {
                let message = format!("{} needs one of {}", table.what, list(table.one_of.iter().copied()));
                report.push(Diagnostic::error("RW0106", message).at(first_line(pairs, node.span), ""));
            }
            [(first, _), (second, _), ..] => {
                let message = format!("{} is one of {}, not both", table.what, list(table.one_of.iter().copied()));
                report.push(Diagnostic::error("RW0112", message).at(second.span, "").related(first.span, ""));
            }
            _ => {}
        }
        Some(fields)
    }

    /// Key and value; `None` also for a key with nothing behind it.
    pub fn entry(&self, name: &str) -> Option<(&'a Node, &'a Node)> {
        assert!(self.table.keys.iter().any(|key| key.name == name), "`{name}` is not in the table of keys");
        self.entries.iter().find(|(key, ..)| *key == name).map(|(_, key, value)| (*key, *value))
    }

    pub fn get(&self, name: &str) -> Option<&'a Node> {
        self.entry(name).map(|(_, value)| value)
    }

    pub fn text(&self, name: &str, report: &mut Report) -> Option<Word> {
        self.get(name).and_then(|node| text(node, report))
    }

    pub fn flag(&self, name: &str, report: &mut Report) -> bool {
        self.get(name).and_then(|node| flag(node, report)).unwrap_or(false)
    }

    pub fn words(&self, name: &str, report: &mut Report) -> Vec<Word> {
        self.get(name).map(|node| words(node, report)).unwrap_or_default()
    }

    /// Reports a list that is written down with nothing in it, where that would widen something.
    pub fn refuse_empty(&self, name: &str, report: &mut Report) {
        if let Some((key, Node { value: Value::List(items), .. })) = self.entry(name)
            && items.is_empty()
        {
            report.push(Diagnostic::error("RW0106", format!("`{name}` names nothing")).at(key.span, "take it out"));
        }
    }

    pub fn stage(&self, report: &mut Report) -> Option<Stage> {
        let stages = [("audit", Stage::Audit), ("enforce", Stage::Enforce)];
        self.get("stage").and_then(|node| one_of(node, &stages, report))
    }
}

/// Where a mapping starts, for what is missing in it: its first entry's key.
fn first_line(pairs: &[(Node, Node)], span: Span) -> Span {
    pairs.first().map_or(span, |(key, _)| key.span)
}

pub fn doubled(what: &str, first: Span, second: Span) -> Diagnostic {
    Diagnostic::error("RW0105", format!("{what} is there twice")).at(second, "again here").related(first, "first here")
}

fn refuse(node: &Node, wanted: &str, report: &mut Report) {
    if !matches!(node.value, Value::Refused) {
        let message = format!("{wanted} is wanted here, not {}", node.value);
        report.push(Diagnostic::error("RW0104", message).at(node.span, ""));
    }
}

pub fn text(node: &Node, report: &mut Report) -> Option<Word> {
    match &node.value {
        Value::Scalar(scalar) => Some(Word { text: scalar.text.clone(), span: node.part(0..scalar.text.len()) }),
        _ => {
            refuse(node, "a text", report);
            None
        }
    }
}

pub fn flag(node: &Node, report: &mut Report) -> Option<bool> {
    let Value::Scalar(scalar) = &node.value else {
        refuse(node, "`true` or `false`", report);
        return None;
    };
    match scalar.text.as_str() {
        "true" => Some(true),
        "false" => Some(false),
        written => {
            let message = format!("`{written}` is neither `true` nor `false`");
            let mut diagnostic = Diagnostic::error("RW0109", message).at(node.span, "");
            match written.to_ascii_lowercase().as_str() {
                "yes" | "on" | "true" | "1" => diagnostic = diagnostic.fix(node.span, "true"),
                "no" | "off" | "false" | "0" => diagnostic = diagnostic.fix(node.span, "false"),
                _ => {}
            }
            report.push(diagnostic);
            None
        }
    }
}

pub fn one_of<T: Copy>(node: &Node, choices: &[(&str, T)], report: &mut Report) -> Option<T> {
    let word = text(node, report)?;
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == word.text) {
        return Some(*value);
    }
    let message = format!("`{}` is not one of {}", word.text, list(choices.iter().map(|(name, _)| *name)));
    let diagnostic = Diagnostic::error("RW0109", message).at(word.span, "");
    let near = nearest(&word.text, choices.iter().map(|(name, _)| *name));
    report.push(match near {
        Some(name) => diagnostic.fix(word.span, name),
        None => diagnostic,
    });
    None
}

/// One word, or a list of words.
pub fn words(node: &Node, report: &mut Report) -> Vec<Word> {
    match &node.value {
        Value::Scalar(scalar) if scalar.text.contains(',') && scalar.plain => {
            let diagnostic = Diagnostic::error("RW0104", "a list is written in brackets").at(node.span, "");
            report.push(diagnostic.fix(node.span, format!("[{}]", scalar.text)));
            Vec::new()
        }
        Value::Scalar(_) => text(node, report).into_iter().collect(),
        Value::List(items) => items.iter().filter_map(|item| text(item, report)).collect(),
        _ => {
            refuse(node, "a list", report);
            Vec::new()
        }
    }
}

/// The items of a list; nothing at all is an empty list.
pub fn items<'a>(node: &'a Node, report: &mut Report) -> &'a [Node] {
    match &node.value {
        Value::List(items) => items,
        Value::Null => &[],
        _ => {
            refuse(node, "a list", report);
            &[]
        }
    }
}

/// The entries of a mapping from names that the operator chose.
pub fn named<'a>(node: &'a Node, report: &mut Report) -> Vec<(Name, Span, &'a Node)> {
    let pairs = match &node.value {
        Value::Map(pairs) => pairs,
        Value::Null => return Vec::new(),
        _ => {
            refuse(node, "a mapping from names", report);
            return Vec::new();
        }
    };
    let entries = pairs.iter().filter_map(|(key, value)| {
        let word = text(key, report)?;
        name(&word, report).map(|name| (name, word.span, value))
    });
    entries.collect()
}

pub fn name(word: &Word, report: &mut Report) -> Option<Name> {
    let name = Name::new(&word.text);
    if name.is_none() {
        let message = format!("`{}` can't be a name", word.text);
        let help = "a name has up to 63 letters, digits, `.`, `_` and `-`, and begins with a letter or digit";
        report.push(Diagnostic::error("RW0107", message).at(word.span, "").help(help));
    }
    name
}
