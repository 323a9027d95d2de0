//! What comes of a table, an item or a sentence.
//!
//! In: [`Draft`]s and what stands around them. Out: flows, undecided rows and diagnostics, each with its
//! place. Never: a row that goes missing without a diagnostic.

use crate::MAX_FLOWS;
use crate::document::one_line;
use crate::ends::is_local;
use crate::guide::{Action, Direction, Field, Flow, Ports, Transport, Undecided};
use crate::said;
use crate::words::Flowing;
use ringwall_diagnostic::{Diagnostic, SourceId, Span};
use ringwall_packet::Protocol;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

/// What headings and sentences say about what is under them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Context {
    pub section: Option<usize>,
    /// The machine that the heading names.
    pub node: Option<String>,
    pub flowing: Option<Flowing>,
    /// The heading is about traffic that must not be.
    pub is_denied: bool,
    pub ends: said::Ends,
    /// The one protocol that the heading or a sentence gives to all ports.
    pub protocol: Option<Protocol>,
}

pub(crate) struct Reading<'a> {
    pub source: SourceId,
    pub context: &'a Context,
    pub flows: Vec<Flow>,
    pub undecided: Vec<Undecided>,
    pub diagnostics: Vec<Diagnostic>,
    names: HashSet<Arc<str>>,
    /// Flows that the document may still give.
    pub budget: usize,
    is_full: bool,
}

/// A row before it is spread over its ends and protocols.
pub(crate) struct Draft<'a> {
    pub action: Action,
    pub sources: &'a [String],
    pub source_port: Ports,
    pub destinations: &'a [String],
    pub services: Vec<(Transport, Ports)>,
    pub label: String,
    pub note: String,
    pub condition: Option<String>,
    pub direction: Direction,
    pub inferred: Vec<Field>,
}

impl<'a> Reading<'a> {
    pub fn new(source: SourceId, context: &'a Context) -> Self {
        Self {
            source,
            context,
            flows: Vec::new(),
            undecided: Vec::new(),
            diagnostics: Vec::new(),
            names: HashSet::new(),
            budget: MAX_FLOWS,
            is_full: false,
        }
    }

    pub fn span(&self, range: Range<usize>) -> Span {
        Span { source: self.source, start: range.start, end: range.end }
    }

    /// One copy of each name, however many rows bear it.
    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        self.names.insert(name.clone());
        name
    }

    pub fn undecided(&mut self, text: &str, row: Range<usize>, cell: Range<usize>, code: &'static str, reason: &str) {
        let diagnostic = Diagnostic::warning(code, format!("the row can't be imported: {reason}"))
            .at(self.span(cell), "this is not understood")
            .help("write the rule by hand; the row is kept as a comment in the policy");
        self.diagnostics.push(diagnostic);
        self.undecided.push(Undecided {
            section: self.context.section,
            text: one_line(&text[row.clone()]),
            reason: reason.to_owned(),
            span: self.span(row),
        });
    }

    /// One flow for each source, destination and protocol.
    pub fn emit(&mut self, draft: Draft<'_>, span: Range<usize>, row: u32) {
        let (source_port, label, note) = (draft.source_port, self.name(&draft.label), self.name(&draft.note));
        let condition = draft.condition.as_deref().map(|condition| self.name(condition));
        let count = draft.services.len() * draft.sources.len().max(1) * draft.destinations.len().max(1);
        if self.flows.len() + count > self.budget {
            if !std::mem::replace(&mut self.is_full, true) {
                let message = format!("the document has more than {MAX_FLOWS} flows; those from here on are not read");
                let diagnostic = Diagnostic::error("RW1008", message).at(self.span(span), "not read");
                self.diagnostics.push(diagnostic.help("split the document"));
            }
            return;
        }
        let empty = [String::new()];
        let or_empty = |names: &'_ [String]| {
            if names.is_empty() { empty.to_vec() } else { names.to_vec() }
        };
        for (transport, port) in &draft.services {
            for source in &or_empty(draft.sources) {
                for destination in &or_empty(draft.destinations) {
                    let is_within = is_local(source) || is_local(destination);
                    let flow = Flow {
                        section: self.context.section,
                        action: draft.action,
                        source: self.name(source),
                        source_port: source_port.clone(),
                        destination: self.name(destination),
                        protocol: *transport,
                        port: port.clone(),
                        label: label.clone(),
                        note: note.clone(),
                        condition: condition.clone(),
                        direction: if is_within { Direction::Local } else { draft.direction },
                        inferred: draft.inferred.clone(),
                        span: self.span(span.clone()),
                        row,
                    };
                    self.flows.push(flow);
                }
            }
        }
    }
}

/// For rows or items with a port and no protocol.
pub(crate) fn without_protocol(first: Span, count: usize) -> Diagnostic {
    let what = if count == 1 { "one row names".to_owned() } else { format!("{count} rows name") };
    Diagnostic::warning("RW1009", format!("{what} no protocol"))
        .at(first, "first row without a protocol")
        .help("the rows are comments in the policy, with TCP filled in; take out the `#` where that is right")
}

/// For rows or items that leave one end open.
pub(crate) fn without_end(first: Span, is_source: bool, what: &str) -> Diagnostic {
    let missing = if is_source { "where the traffic comes from" } else { "where the traffic goes" };
    Diagnostic::warning("RW1006", format!("the {what} does not say {missing}"))
        .at(first, "first row without it")
        .help("name the missing end in the policy; it is left open there and matches nothing until then")
}

/// For rows or items that name neither end.
pub(crate) fn without_ends(first: Span, count: usize) -> Diagnostic {
    let what = if count == 1 { "one row names".to_owned() } else { format!("{count} rows name") };
    Diagnostic::warning("RW1004", format!("{what} neither source nor destination, and no heading does"))
        .at(first, "first row without ends")
        .help("write the rules by hand; the rows are kept as comments in the policy")
}
