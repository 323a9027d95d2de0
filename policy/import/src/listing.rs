//! Flows → CSV.
//!
//! In: a guide and the text that it was read from. Out: one line for each flow. Never: a name that the
//! guide does not write.

use crate::guide::{Action, Flow, Guide};
use ringwall_diagnostic::{SourceId, Sources};

/// `file,line,section,source,source_port,destination,protocol,port,direction,note`.
pub fn to_csv(guide: &Guide, sources: &Sources) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let lines = Lines::new(sources, guide.source);
    let file = sources.name(guide.source);
    let header =
        ["file", "line", "section", "source", "source_port", "destination", "protocol", "port", "direction", "note"];
    // Writing to a vector does not fail.
    let _ = writer.write_record(header);
    for flow in &guide.flows {
        let _ = writer.write_record([
            file,
            &lines.of(flow.span.start).to_string(),
            &guide.section_title(flow.section),
            &flow.source,
            &flow.source_port.to_string(),
            &flow.destination,
            &flow.protocol.to_string(),
            &flow.port.to_string(),
            &flow.direction.to_string(),
            &note(flow),
        ]);
    }
    writer.into_inner().ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

fn note(flow: &Flow) -> String {
    let denied = if flow.action == Action::Deny { "deny" } else { "" };
    let condition = flow.condition.as_deref().unwrap_or("");
    let parts = [denied, &flow.label, &flow.note, condition];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

/// Line numbers, from 1, in logarithmic time.
pub(crate) struct Lines(Vec<usize>);

impl Lines {
    pub fn new(sources: &Sources, source: SourceId) -> Self {
        Self(sources.text(source).match_indices('\n').map(|(place, _)| place).collect())
    }

    pub fn of(&self, place: usize) -> usize {
        self.0.partition_point(|newline| *newline < place) + 1
    }
}
