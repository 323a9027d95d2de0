//! Policy files: YAML in, the resolved policy and diagnostics out.
//!
//! In: the texts of one or more files, the values that `$NAME`s are bound to, and the time. Out: a
//! [`Policy`], or none when anything in the files is an error, and every mistake at once with its
//! place. Never: files (but for [`folder`]), the environment, a clock, a resolver, or a guess.

mod address;
mod check;
mod document;
pub mod edit;
pub mod folder;
mod form;
mod keys;
mod near;
mod resolve;
mod schema;
mod service;
mod time;
mod values;
mod yaml;

use ringwall_diagnostic::{Diagnostic, Sources};
use ringwall_policy::Policy;

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
    let mut diagnostics = Vec::new();
    let mut document = document::Document::default();
    for (input, id) in inputs.iter().zip(ids) {
        if let Some(root) = yaml::read(&input.text, id, &mut diagnostics) {
            document.read(&root, &mut diagnostics);
        }
    }
    let is_whole = !diagnostics.iter().any(|diagnostic| diagnostic.code.0 == "RW0101");
    let resolved = resolve::resolve(&document, values, &sources, &mut diagnostics);
    if is_whole {
        check::check(&resolved, now, &mut diagnostics);
    } else {
        diagnostics.retain(|diagnostic| !needs_all_files(diagnostic.code.0));
    }
    diagnostics.sort_by_key(|diagnostic| {
        let place = diagnostic.primary.as_ref().map(|label| label.span);
        (place.is_none(), place, diagnostic.code)
    });
    let is_complete = !diagnostics.iter().any(Diagnostic::is_error);
    let policy = is_complete.then_some(resolved.policy);
    Parsed { sources, policy, diagnostics }
}

/// Whether a mistake may only seem one because a file could not be read.
fn needs_all_files(code: &str) -> bool {
    matches!(code, "RW0201" | "RW0202" | "RW0203" | "RW0204" | "RW0211" | "RW0218") || code >= "RW0300"
}
