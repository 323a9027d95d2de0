//! What the reader of a ruleset did not understand (RW7013).
//!
//! In: the filter. Out: one remark that lists it. Never: what the reader has warned of by itself.

use std::collections::BTreeSet;

use ringwall_diagnostic::Diagnostic;
use ringwall_ruleset::filter::Filter;

use crate::findings::SHOWN;

pub(super) fn findings(filter: &Filter) -> Option<Diagnostic> {
    let all: BTreeSet<(usize, &str, &str)> =
        filter.unknown.iter().map(|unknown| (unknown.line, unknown.text.as_str(), unknown.why)).collect();
    if all.is_empty() {
        return None;
    }
    let message = match all.len() {
        1 => "one thing is not followed; what is found here holds whatever it does".to_owned(),
        many => format!("{many} things are not followed; what is found here holds whatever they do"),
    };
    let lines = all.iter().take(SHOWN).map(|(line, text, why)| match line {
        0 => format!("`{text}`: {why}"),
        line => format!("line {line}: `{text}`: {why}"),
    });
    let finding = lines.fold(Diagnostic::info("RW7013", message), Diagnostic::note);
    Some(match all.len().saturating_sub(SHOWN) {
        0 => finding,
        more => finding.note(format!("and {more} more")),
    })
}
