//! RW2053: two session timeouts in one guide.

use ringwall_diagnostic::Diagnostic;

use crate::View;

pub(super) fn lint(view: &View) -> Vec<Diagnostic> {
    let Some((first, rest)) = view.context.timeouts.split_first() else { return Vec::new() };
    let others = rest.iter().filter(|timeout| timeout.seconds != first.seconds);
    let finding = |timeout: &crate::Timeout| {
        Diagnostic::warning(
            "RW2053",
            format!("sessions may be idle for {} s here, for {} s above", timeout.seconds, first.seconds),
        )
        .at(timeout.span, format!("{} s", timeout.seconds))
        .related(first.span, format!("{} s", first.seconds))
        .help("if the two are meant for different firewalls, set each on its own rules")
    };
    others.map(finding).collect()
}
