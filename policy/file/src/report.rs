//! What is wrong so far.

use ringwall_diagnostic::{Diagnostic, Span};

use crate::near::{list, nearest};

/// More than anybody reads; a bound on memory and on the search for near names.
const MOST: usize = 1000;

#[derive(Debug, Default)]
pub struct Report {
    diagnostics: Vec<Diagnostic>,
    left_out: usize,
    has_errors: bool,
}

impl Report {
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.has_errors |= diagnostic.is_error();
        if self.is_full() {
            self.left_out += 1;
        } else {
            self.diagnostics.push(diagnostic);
        }
    }

    /// How many there are, with those that are not kept.
    pub fn count(&self) -> usize {
        self.diagnostics.len() + self.left_out
    }

    /// Whether what comes now is only counted.
    pub fn is_full(&self) -> bool {
        self.diagnostics.len() >= MOST
    }

    pub fn has_errors(&self) -> bool {
        self.has_errors
    }

    pub fn has(&self, code: &str) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.code.0 == code)
    }

    /// Adds the near name as a fix, or else the names that there are.
    #[must_use]
    pub fn suggest<'a>(
        &self,
        diagnostic: Diagnostic,
        span: Span,
        written: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Diagnostic {
        const SHOWN: usize = 20;
        if self.is_full() {
            return diagnostic;
        }
        let known: Vec<&str> = known.into_iter().collect();
        match nearest(written, known.iter().copied()) {
            Some(name) => diagnostic.fix(span, name),
            None if (1..=SHOWN).contains(&known.len()) => diagnostic.help(format!("there is {}", list(known))),
            None => diagnostic,
        }
    }

    pub fn retain(&mut self, keep: impl FnMut(&Diagnostic) -> bool) {
        self.diagnostics.retain(keep);
    }

    /// All that is kept, by place.
    pub fn sorted(mut self) -> Vec<Diagnostic> {
        self.diagnostics.sort_by_key(|diagnostic| {
            let place = diagnostic.primary.as_ref().map(|label| label.span);
            (place.is_none(), place, diagnostic.code)
        });
        if self.left_out > 0 {
            let message = format!("{} more problems are not shown", self.left_out);
            self.diagnostics.push(Diagnostic::error("RW0114", message));
        }
        self.diagnostics
    }
}
