//! RW2041: a row that opens everything to everywhere. RW2043: a row that opens everything between two.

use ringwall_diagnostic::Diagnostic;

use crate::view::{end, plain};
use crate::{End, Row, View};

/// How guides call a rule without limits.
const WITHOUT_LIMITS: &[&str] = &["any-2-any", "any-to-any", "any to any"];

pub(super) fn lint(view: &View) -> Vec<Diagnostic> {
    let voided: Vec<_> = view.rows.iter().filter(|other| is_narrow_way_out(other)).collect();
    let mut findings: Vec<_> =
        view.rows.iter().filter(|row| row.is_everything()).map(|row| check(row, &voided)).collect();
    let within_one = |row: &Row| row.is_everything() && plain(&row.source) == plain(&row.destination);
    if !view.rows.iter().any(within_one) {
        let promises = view
            .context
            .prose
            .iter()
            .filter(|prose| WITHOUT_LIMITS.iter().any(|words| plain(&prose.text).contains(words)));
        findings.extend(promises.map(|prose| {
            Diagnostic::info("RW2043", "this asks for every port, without a row that says between whom")
                .at(prose.span, "every protocol and port")
                .help("list the ports that the nodes really use among each other")
        }));
    }
    findings
}

fn check(row: &Row, voided: &[&Row]) -> Diagnostic {
    let finding = match (end(&row.source), end(&row.destination)) {
        (_, End::Any | End::Internet) => {
            let mut finding =
                Diagnostic::error("RW2041", format!("`{}` may reach every address on every port", row.source));
            if let Some(first) = voided.first() {
                finding = finding.related(
                    first.span,
                    format!("then this limits nothing, nor do others like it ({} in all)", voided.len()),
                );
            }
            return finding
                .at(row.span, format!("the destination is `{}`", row.destination))
                .help(format!("write the destination that is meant, such as `{}` itself", row.source));
        }
        (End::Any | End::Internet, _) => {
            Diagnostic::warning("RW2043", format!("everyone may reach every port of `{}`", row.destination))
        }
        _ if plain(&row.source) == plain(&row.destination) => {
            Diagnostic::info("RW2043", format!("every port is open within `{}`", row.source))
        }
        _ => {
            Diagnostic::warning("RW2043", format!("every port is open from `{}` to `{}`", row.source, row.destination))
        }
    };
    finding.at(row.span, "every protocol and port").help("list the ports that are really used")
}

/// A row that opens something, not everything, to the internet or everywhere.
fn is_narrow_way_out(row: &Row) -> bool {
    let is_out = matches!(end(&row.destination), End::Internet | End::Any) && matches!(end(&row.source), End::Role(_));
    is_out && !row.is_everything()
}
