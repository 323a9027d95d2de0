//! Vendors' port tables → flows, a CSV of them, and a policy.
//!
//! In: the text of an install guide, Markdown or CSV. Out: a [`Guide`], its diagnostics, and from it
//! [`to_csv`] and [`to_policy`]. Never: a file, a clock, a product's name; a row that is dropped without
//! a word, or read as more than it says.

mod assemble;
mod cell;
mod column;
mod comma;
mod document;
mod drawn;
mod ends;
mod guide;
mod header;
mod html;
mod item;
mod listing;
mod markdown;
mod names;
mod policy;
mod prose;
mod protocols;
mod reading;
mod said;
mod shape;
mod table;
mod token;
mod transport;
mod words;

pub use guide::{
    Abbreviation, Action, Direction, Field, Flow, Guide, Note, Ports, Section, Timeout, Transport, Undecided,
};
pub use listing::to_csv;
pub use policy::{PolicyText, Stamp, to_policy};

use ringwall_diagnostic::{Diagnostic, SourceId, Sources};

/// Bytes of one document. The longest install guides are a few hundred kilobytes; this many take at
/// most some hundred megabytes of memory, whatever is in them.
pub const MAX_BYTES: usize = 8 << 20;

/// Rows of all tables of one document.
pub const MAX_ROWS: usize = 1 << 18;

/// Flows of one document.
pub const MAX_FLOWS: usize = 1 << 19;

/// The text of a file's bytes. A byte order mark is taken off.
#[allow(clippy::result_large_err, reason = "once per file")]
pub fn decode(name: &str, bytes: Vec<u8>) -> Result<String, Diagnostic> {
    if bytes.len() > MAX_BYTES {
        let message = format!("`{name}` is larger than {} MiB", MAX_BYTES >> 20);
        return Err(Diagnostic::error("RW1008", message).help("cut the pages with the port tables out of it"));
    }
    match String::from_utf8(bytes) {
        Ok(text) if text.contains('\0') => {
            let diagnostic = Diagnostic::error("RW1001", format!("`{name}` is not text"));
            Err(diagnostic.help("give Markdown or CSV in UTF-8"))
        }
        Ok(text) => Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)),
        Err(error) => {
            let place = error.utf8_error().valid_up_to();
            let line = 1 + error.as_bytes()[..place].iter().filter(|byte| **byte == b'\n').count();
            let message = format!("`{name}` is not UTF-8: line {line} has a byte that does not belong there");
            let diagnostic = Diagnostic::error("RW1001", message);
            Err(diagnostic.help("save it as UTF-8, for example with `iconv -t utf-8`"))
        }
    }
}

/// Reads one document of `sources`. The end of its name tells CSV from Markdown.
pub fn read(sources: &Sources, source: SourceId) -> (Guide, Vec<Diagnostic>) {
    let (name, text) = (sources.name(source).to_ascii_lowercase(), sources.text(source));
    if text.len() > MAX_BYTES {
        let message = format!("`{}` is larger than {} MiB", sources.name(source), MAX_BYTES >> 20);
        let diagnostic = Diagnostic::error("RW1008", message).help("cut the pages with the port tables out of it");
        return (assemble::empty(source), vec![diagnostic]);
    }
    let is_csv = name.ends_with(".csv") || name.ends_with(".tsv");
    assemble::guide(text, source, |sink| match is_csv {
        true => {
            comma::read(text, sink);
            None
        }
        false => markdown::read(text, sink),
    })
}
