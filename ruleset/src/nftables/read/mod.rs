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
mod matching;
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
pub use walk::{Sets, chain, every_rule, filter};

use crate::filter::{Filter, Reading};

/// All that a text does by itself, on a host that has no other rules.
pub fn read(sources: &Sources, source: SourceId) -> Reading {
    with(sources, source, |state| filter(state, Sets::Listed))
}

/// The same for whoever looks for rules that do nothing: see [`every_rule`]. Named sets may hold
/// anything, since they are changed while the rules stay.
pub fn read_every_rule(sources: &Sources, source: SourceId) -> Reading {
    with(sources, source, |state| every_rule(state, Sets::Free))
}

fn with(sources: &Sources, source: SourceId, filter: impl Fn(&State<'_>) -> Result<Filter, Box<Diagnostic>>) -> Reading {
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
    match filter(&state) {
        Ok(filter) => Reading { filter: Some(filter), diagnostics },
        Err(diagnostic) => {
            diagnostics.push(*diagnostic);
            Reading { filter: None, diagnostics }
        }
    }
}
