//! RW2042: where `any` stands, in one list.

use ringwall_diagnostic::Diagnostic;

use crate::view::{count, end, on_all};
use crate::{End, Row, View};

pub(super) fn lint(view: &View) -> Vec<Diagnostic> {
    let is_any = |text: &str| end(text) == End::Any;
    let mut rows: Vec<&Row> = view.rows.iter().filter(|row| is_any(&row.source) || is_any(&row.destination)).collect();
    // The services of one rule of a policy are rows with one place.
    rows.dedup_by_key(|row| row.span);
    if rows.is_empty() {
        return Vec::new();
    }
    let sources = rows.iter().filter(|row| is_any(&row.source)).count();
    let destinations = rows.iter().filter(|row| is_any(&row.destination)).count();
    let (sources, destinations) = (count(sources, "row", "rows"), count(destinations, "row", "rows"));
    let finding =
        Diagnostic::info("RW2042", format!("`any` is the source of {sources} and the destination of {destinations}"))
            .help("`any` is every address, the platform's own too; write `internet` or a role where that is meant");
    vec![on_all(finding, &rows, |row| format!("`{}` -> `{}`", row.source, row.destination))]
}
