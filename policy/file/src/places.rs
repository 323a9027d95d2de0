//! Where things stand, as `file:line`.

use std::collections::BTreeMap;

use ringwall_diagnostic::{SourceId, Sources, Span};
use ringwall_policy::Origin;

/// Finds lines without counting from the top each time.
pub struct Places<'a> {
    sources: &'a Sources,
    newlines: BTreeMap<SourceId, Vec<usize>>,
}

impl<'a> Places<'a> {
    pub fn new(sources: &'a Sources) -> Self {
        let newlines = sources.ids().map(|id| {
            let text = sources.text(id);
            (id, text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect())
        });
        Self { sources, newlines: newlines.collect() }
    }

    pub fn origin(&self, span: Span, section: Option<String>) -> Origin {
        let line = self.newlines[&span.source].partition_point(|newline| *newline < span.start) + 1;
        Origin { span, place: format!("{}:{line}", self.sources.name(span.source)), section }
    }
}
