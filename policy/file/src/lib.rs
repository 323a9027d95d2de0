//! Policy files: YAML in, the resolved policy and diagnostics out.
//!
//! In: the texts of one or more files, the values that `$NAME`s are bound to, and the time. Out: a
//! [`Policy`], or none when anything in the files is an error, and every mistake at once with its
//! place. Never: files (but for [`folder`]), the environment, a clock, a resolver, or a guess.

mod address;
mod check;
mod document;
mod draft;
pub mod edit;
pub mod folder;
mod form;
mod keys;
mod members;
mod near;
mod places;
mod question;
mod report;
mod resolve;
mod rule;
mod schema;
mod service;
mod time;
mod unused;
mod values;
mod yaml;

use ringwall_diagnostic::{Diagnostic, Sources};
use ringwall_policy::Policy;

use document::Document;
use report::Report;

pub use draft::draft;
pub use question::{Asked, Form, ask};
pub use schema::schema;
pub use values::{Value, Values};

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// What the operator calls it, usually the path as typed.
    pub name: String,
    pub text: String,
}

/// What a policy's files come to.
#[derive(Debug)]
pub struct Parsed {
    pub sources: Sources,
    /// `None` when any diagnostic is an error.
    pub policy: Option<Policy>,
    /// By place.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads a policy that is kept in these files. `now`, in seconds since the epoch, tells which rules
/// have expired.
pub fn parse(inputs: &[Input], values: &Values, now: u64) -> Parsed {
    let mut sources = Sources::new();
    let ids: Vec<_> = inputs.iter().map(|input| sources.add(&input.name, &input.text)).collect();
    let mut report = Report::default();
    let mut document = Document::default();
    for (input, id) in inputs.iter().zip(ids) {
        if let Some(root) = yaml::read(&input.text, id, &mut report) {
            document.read(&root, &mut report);
        }
    }
    let is_whole = !report.has("RW0101");
    let resolved = resolve::resolve(&document, values, &sources, &mut report);
    if is_whole {
        check::check(&resolved, now, &mut report);
    } else {
        report.retain(|diagnostic| !needs_all_files(diagnostic.code.0));
    }
    let policy = (!report.has_errors()).then_some(resolved.policy);
    Parsed { sources, policy, diagnostics: report.sorted() }
}

/// Whether a mistake may only seem one because a file could not be read.
fn needs_all_files(code: &str) -> bool {
    matches!(code, "RW0201" | "RW0202" | "RW0203" | "RW0204" | "RW0211" | "RW0218") || code >= "RW0300"
}
