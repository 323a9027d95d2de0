//! Problems in what an operator wrote: one type, one renderer for the terminal, one JSON form.
//!
//! In: code, place, reason, fix. Out: text. Never: a file, a decision, or a failure of the world
//! (those are errors with a cause, not diagnostics).
//!
//! Codes are `RW` and four digits, the first digit by area, never reused:
//!
//! | first | area |
//! |---|---|
//! | 0 | policy file: form (01), names and values (02), meaning (03) |
//! | 1 | import |
//! | 2 | lint |
//! | 3 | compile |
//! | 4 | apply |
//! | 5 | verify |
//! | 6 | reading rulesets |
//! | 7 | findings |
//!
//! Each code has a file under `explain/`, printed by `ringwall explain CODE`.

mod render;

use serde::{Serialize, Serializer};
use std::fmt;

pub use render::{Colour, render};

/// A stable code, such as `RW0201`. Its explanation is `explain/RW0201.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Code(pub &'static str);

impl Code {
    /// All codes, in order, with their explanations in Markdown.
    pub fn all() -> &'static [(&'static str, &'static str)] {
        static EXPLANATIONS: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/explanations.rs"));
        EXPLANATIONS
    }

    /// The long text for a code as an operator types it, upper or lower case.
    pub fn explain(code: &str) -> Option<&'static str> {
        let code = code.to_ascii_uppercase();
        Self::all().iter().find(|(known, _)| *known == code).map(|(_, text)| *text)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    Warning,
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// The texts that spans point into.
#[derive(Clone, Debug, Default)]
pub struct Sources(Vec<Source>);

#[derive(Clone, Debug)]
struct Source {
    name: String,
    text: String,
    /// Where each line begins: places are asked for by the thousand.
    lines: Vec<usize>,
}

/// Which text of a [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(u32);

impl Sources {
    pub fn new() -> Self {
        Self::default()
    }

    /// `name` is what the operator calls it, usually the path as typed.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> SourceId {
        let text = text.into();
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        self.0.push(Source { name: name.into(), text, lines });
        SourceId(u32::try_from(self.0.len() - 1).expect("fewer than 2^32 files"))
    }

    pub fn name(&self, id: SourceId) -> &str {
        &self.0[id.0 as usize].name
    }

    pub fn text(&self, id: SourceId) -> &str {
        &self.0[id.0 as usize].text
    }

    pub fn ids(&self) -> impl Iterator<Item = SourceId> + use<> {
        (0..u32::try_from(self.0.len()).expect("fewer than 2^32 files")).map(SourceId)
    }

    /// Line and column of the start of a span, both from 1, the column in characters.
    pub fn position(&self, span: Span) -> (usize, usize) {
        let text = self.text(span.source);
        let start = text.floor_char_boundary(span.start);
        let line = self.line(span.source, start);
        (line, text[self.0[span.source.0 as usize].lines[line - 1]..start].chars().count() + 1)
    }

    /// The line that a byte is in, from 1.
    fn line(&self, id: SourceId, at: usize) -> usize {
        self.0[id.0 as usize].lines.partition_point(|start| *start <= at)
    }

    /// The whole lines around some bytes, with where they begin and the first one's number.
    pub(crate) fn around(&self, id: SourceId, first: usize, end: usize) -> (&str, usize, usize) {
        const MARGIN: usize = 3;
        let Source { text, lines, .. } = &self.0[id.0 as usize];
        let from = self.line(id, first).saturating_sub(1 + MARGIN);
        let to = lines.get(self.line(id, end) + MARGIN).copied().unwrap_or(text.len());
        (&text[lines[from]..to], lines[from], from + 1)
    }

    /// `name:line`.
    pub fn place(&self, span: Span) -> String {
        format!("{}:{}", self.name(span.source), self.position(span).0)
    }

    pub fn snippet(&self, span: Span) -> &str {
        let text = self.text(span.source);
        &text[text.floor_char_boundary(span.start)..text.ceil_char_boundary(span.end)]
    }
}

/// A range of bytes in one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    pub source: SourceId,
    pub start: usize,
    /// Exclusive.
    pub end: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub span: Span,
    pub text: String,
}

/// A replacement that mends the problem when it is applied as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    pub span: Span,
    pub replacement: String,
}

/// One problem. Messages are lower case, without a final period, user text in backticks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub code: Code,
    pub severity: Severity,
    pub message: String,
    /// Where it is; `None` for what is missing as a whole. Its text says what is wrong right there.
    pub primary: Option<Label>,
    /// Other places that matter, such as "first defined here".
    pub related: Vec<Label>,
    /// Facts that support it, such as a witness flow.
    pub notes: Vec<String>,
    /// What to do about it.
    pub help: Vec<String>,
    pub fix: Option<Fix>,
}

impl Diagnostic {
    pub fn new(code: Code, severity: Severity, message: impl Into<String>) -> Self {
        Self {
            code,
            severity,
            message: message.into(),
            primary: None,
            related: Vec::new(),
            notes: Vec::new(),
            help: Vec::new(),
            fix: None,
        }
    }

    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Code(code), Severity::Error, message)
    }

    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Code(code), Severity::Warning, message)
    }

    pub fn info(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Code(code), Severity::Info, message)
    }

    #[must_use]
    pub fn at(mut self, span: Span, text: impl Into<String>) -> Self {
        self.primary = Some(Label { span, text: text.into() });
        self
    }

    #[must_use]
    pub fn related(mut self, span: Span, text: impl Into<String>) -> Self {
        self.related.push(Label { span, text: text.into() });
        self
    }

    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    #[must_use]
    pub fn fix(mut self, span: Span, replacement: impl Into<String>) -> Self {
        self.fix = Some(Fix { span, replacement: replacement.into() });
        self
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The form for programs; places are resolved against `sources`.
    pub fn to_json<'a>(&'a self, sources: &'a Sources) -> impl Serialize + use<'a> {
        Json { diagnostic: self, sources }
    }
}

struct Json<'a> {
    diagnostic: &'a Diagnostic,
    sources: &'a Sources,
}

#[derive(Serialize)]
struct JsonPlace<'a> {
    file: &'a str,
    line: usize,
    column: usize,
    /// Bytes, end exclusive.
    start: usize,
    end: usize,
    #[serde(skip_serializing_if = "str::is_empty")]
    text: &'a str,
}

#[derive(Serialize)]
struct JsonFix<'a> {
    #[serde(flatten)]
    place: JsonPlace<'a>,
    replacement: &'a str,
}

#[derive(Serialize)]
struct JsonDiagnostic<'a> {
    code: Code,
    severity: Severity,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<JsonPlace<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    related: Vec<JsonPlace<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    notes: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    help: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<JsonFix<'a>>,
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let place = |span: Span, text| {
            let (line, column) = self.sources.position(span);
            JsonPlace { file: self.sources.name(span.source), line, column, start: span.start, end: span.end, text }
        };
        let label = |label: &'_ Label| -> (Span, String) { (label.span, label.text.clone()) };
        let related: Vec<_> = self.diagnostic.related.iter().map(label).collect();
        JsonDiagnostic {
            code: self.diagnostic.code,
            severity: self.diagnostic.severity,
            message: &self.diagnostic.message,
            place: self.diagnostic.primary.as_ref().map(|label| place(label.span, label.text.as_str())),
            related: related.iter().map(|(span, text)| place(*span, text.as_str())).collect(),
            notes: &self.diagnostic.notes,
            help: &self.diagnostic.help,
            fix: self
                .diagnostic
                .fix
                .as_ref()
                .map(|fix| JsonFix { place: place(fix.span, ""), replacement: &fix.replacement }),
        }
        .serialize(serializer)
    }
}
