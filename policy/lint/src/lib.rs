//! The linter: what is doubtful in a table of flows, whether a vendor's guide or a policy file has it.
//!
//! In: rows, and what is known around them (roles, prose, the policy's settings). Out: diagnostics
//! `RW2nnn`, each with the row, the reason and what to do. Never: a file, a name or a heading that
//! it knows by heart, or a change of a row.
//!
//! Each lint is one file of `lints`; what they share stands in [`View`].

mod lints;
mod prose;
mod row;
mod view;

use ringwall_diagnostic::Diagnostic;

pub use prose::paragraphs;
pub use row::{Context, Direction, Inferred, Ports, Prose, Role, Row, Timeout, Transport};
pub(crate) use view::{End, View};

/// All findings, in the order of the places that they point at.
pub fn lint(rows: &[Row], context: &Context) -> Vec<Diagnostic> {
    let view = View::new(rows, context);
    let mut findings: Vec<_> = lints::ALL.iter().flat_map(|lint| lint(&view)).collect();
    let place = |finding: &Diagnostic| (finding.primary.as_ref().map(|label| label.span), finding.code);
    findings.sort_by(|a, b| (place(a), &a.message).cmp(&(place(b), &b.message)));
    // A service on TCP and UDP is two rows of one rule.
    findings.dedup();
    findings
}
