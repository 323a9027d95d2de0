//! nftables text, anybody's: what it says, what the kernel would hold, and what that does.
//!
//! In: text, as `nft -f` takes it or `nft list ruleset` writes it. Out: a [`Script`] of commands, the
//! [`State`] after them, and the [`Filter`](crate::filter::Filter) that it is. Never: a statement left
//! out: what is not understood is named, and what depends on it is a free variable.

mod cursor;
mod datatype;
mod elements;
mod expression;
mod field;
mod rule;
mod script;
mod state;
mod term;
mod token;
mod values;
mod walk;

use ringwall_diagnostic::{Diagnostic, SourceId, Sources};

pub use script::{Script, TableName, script};
pub use state::{Declaration, Installed, State};
pub use walk::{Sets, chain, filter};

use crate::filter::Reading;

/// All that a text does by itself, on a host that has no other rules.
pub fn read(sources: &Sources, source: SourceId) -> Reading {
    let (script, mut diagnostics) = script(sources.text(source), source);
    let mut state = State::default();
    diagnostics.extend(state.apply(&script));
    for table in state.tables().filter(|table| !walk::is_covered(table.name.family)) {
        let message = format!("table `{} {}` is not looked into", table.name.family, table.name.name);
        diagnostics.push(Diagnostic::warning("RW6011", message).note("only `ip`, `ip6` and `inet` are"));
    }
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Reading { filter: None, diagnostics };
    }
    match filter(&state, Sets::Listed) {
        Ok(filter) => Reading { filter: Some(filter), diagnostics },
        Err(diagnostic) => {
            diagnostics.push(*diagnostic);
            Reading { filter: None, diagnostics }
        }
    }
}
