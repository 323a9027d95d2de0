//! YAML text as a tree whose every node knows its place.
//!
//! In: one text. Out: scalars as written, lists and mappings, each with its bytes. Never: a guess
//! at a scalar's type (`1.20` stays `1.20`, `no` stays `no`), or a feature that hides what a file
//! says: anchors, aliases, tags, directives and several documents are refused.

use std::fmt;
use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, ScanError};
use ringwall_diagnostic::{Diagnostic, SourceId, Span};

use crate::report::Report;

/// Far above any policy that a person keeps; a bound on memory.
const MAX_BYTES: usize = 16 << 20;
const MAX_NESTING: usize = 32;

#[derive(Debug)]
pub struct Node {
    pub span: Span,
    pub value: Value,
}

#[derive(Debug)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// Reported already, so nobody need complain about it again.
    Refused,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

#[derive(Debug)]
pub struct Scalar {
    pub text: String,
    /// Without quotes, on one line.
    pub plain: bool,
    /// Where the text begins, when it stands in the file letter for letter.
    verbatim: Option<usize>,
}

impl Node {
    /// The place of a part of this scalar's text, as precise as the notation allows.
    pub fn part(&self, range: Range<usize>) -> Span {
        match &self.value {
            Value::Scalar(Scalar { verbatim: Some(start), .. }) => {
                Span { start: start + range.start, end: start + range.end, ..self.span }
            }
            _ => self.span,
        }
    }

    pub fn scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }
}

/// The kind of node, in words.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null | Self::Refused => "nothing",
            Self::Scalar(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        })
    }
}

/// The tree of a text: `None` when it is empty or can't be read. What is refused is left out of the
/// tree and reported, and the rest is read on.
pub fn read(text: &str, source: SourceId, report: &mut Report) -> Option<Node> {
    if text.len() > MAX_BYTES {
        let message = format!("the file has more than {} MiB", MAX_BYTES >> 20);
        let place = Span { source, start: 0, end: 0 };
        report.push(Diagnostic::error("RW0101", message).at(place, ""));
        return None;
    }
    let options = granit_parser::options! {
        emit_comments: false,
        emit_unresolved_aliases: true,
        emit_anchor_events: true,
        flow_nesting_limit: MAX_NESTING,
        block_nesting_limit: MAX_NESTING,
    };
    let mut builder = Builder { text, source, report, open: Vec::new(), root: None, documents: 0 };
    for event in Parser::new_from_str_with_options(text, options) {
        match event {
            Ok((event, span)) => {
                let start = span.start.byte_offset().unwrap_or(0);
                let end = span.end.byte_offset().unwrap_or(start).max(start);
                builder.event(event, start, end, span.tag_start().and_then(|mark| mark.byte_offset()));
            }
            Err(error) => {
                builder.syntax(&error);
                return None;
            }
        }
        if builder.documents > 1 {
            break;
        }
    }
    builder.root
}

struct Builder<'a> {
    text: &'a str,
    source: SourceId,
    report: &'a mut Report,
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
}

enum Open {
    List(usize, Vec<Node>),
    Map(usize, Vec<(Node, Node)>, Option<Node>),
}

impl Builder<'_> {
    fn span(&self, start: usize, end: usize) -> Span {
        Span { source: self.source, start, end }
    }

    fn event(&mut self, event: Event<'_>, start: usize, end: usize, tag_start: Option<usize>) {
        let tagged = event.tag().map(|tag| self.tag(&tag.original(), tag_start.unwrap_or(start), end, event.scalar().is_some()));
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.refuse(start, end, "a second document (`---`)", "put it into a file of its own");
                }
            }
            Event::Anchor(..) => {
                self.refuse(start, end, "an anchor (`&`)", "name a group and use its name in each place");
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.refuse(start, end, "an alias (`*`)", "name a group and use its name in each place");
                self.place(Node { span: self.span(start, end), value: Value::Refused });
            }
            Event::Scalar(text, style, ..) => {
                let plain = style == ScalarStyle::Plain && tagged.is_none();
                let value = if let Some(written) = tagged {
                    // Read on as if it were quoted, as the fix says.
                    Value::Scalar(Scalar { text: written, plain: false, verbatim: None })
                } else if plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
                    Value::Null
                } else {
                    let found = self.text.get(start..end).and_then(|written| written.find(&*text));
                    let verbatim = found.filter(|at| *at <= 1 && !text.contains('\n')).map(|at| start + at);
                    Value::Scalar(Scalar { text: text.into_owned(), plain, verbatim })
                };
                self.place(Node { span: self.span(start, end), value });
            }
            Event::SequenceStart(..) => self.open.push(Open::List(start, Vec::new())),
            Event::MappingStart(..) => self.open.push(Open::Map(start, Vec::new(), None)),
            Event::SequenceEnd => {
                if let Some(Open::List(start, items)) = self.open.pop() {
                    let end = self.trimmed_end(start, end);
                    self.place(Node { span: self.span(start, end), value: Value::List(items) });
                }
            }
            Event::MappingEnd => {
                if let Some(Open::Map(start, entries, _)) = self.open.pop() {
                    let end = self.trimmed_end(start, end);
                    self.place(Node { span: self.span(start, end), value: Value::Map(entries) });
                }
            }
            _ => {}
        }
    }

    /// Refuses a tag and returns what is written from it on.
    fn tag(&mut self, tag: &str, start: usize, end: usize, is_scalar: bool) -> String {
        let written = self.text.get(start..end).unwrap_or(tag).trim_end();
        let shown = if is_scalar { written } else { tag };
        let span = self.span(start, start + shown.len());
        // YAML's own types (`!!str`) say nothing that the reader would need.
        let plain = written.strip_prefix(tag).filter(|_| tag.starts_with("!!")).map(str::trim);
        let mut diagnostic = Diagnostic::error("RW0102", format!("a tag (`{tag}`) has no meaning in a policy"))
            .at(span, "an unquoted `!` begins a tag");
        if is_scalar && !written.contains(['"', '\'', '\n', '\\']) {
            diagnostic = diagnostic.fix(span, plain.map_or(format!("\"{written}\""), str::to_owned));
        }
        self.report.push(diagnostic);
        plain.unwrap_or(written).to_owned()
    }

    /// Block collections end where the next token begins; people see them end with their last line.
    fn trimmed_end(&self, start: usize, end: usize) -> usize {
        self.text.get(start..end).map_or(end, |text| start + text.trim_end().len())
    }

    fn place(&mut self, node: Node) {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Map(_, entries, key)) => match key.take() {
                None => *key = Some(node),
                Some(key) => entries.push((key, node)),
            },
        }
    }

    fn refuse(&mut self, start: usize, end: usize, what: &str, instead: &str) {
        let span = self.span(start, end.max(start));
        let diagnostic = Diagnostic::error("RW0102", format!("{what} has no place in a policy"));
        self.report.push(diagnostic.at(span, "").help(instead.to_owned()));
    }

    fn syntax(&mut self, error: &ScanError) {
        let at = error.marker().byte_offset().unwrap_or(self.text.len()).min(self.text.len());
        let start = self.text.floor_char_boundary(at);
        let end = self.text[start..].chars().next().map_or(start, |c| start + c.len_utf8());
        let diagnostic = Diagnostic::error("RW0101", "this is not YAML from here on");
        self.report.push(diagnostic.at(self.span(start, end), error.info()));
    }
}
