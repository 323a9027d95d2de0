//! Near names: what somebody may have meant.

use ringwall_diagnostic::{Diagnostic, Span};

/// The known name that is nearest to what was written, if any is near at all.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| name.to_ascii_lowercase().replace(['_', ' '], "-");
    let written = plain(written);
    let limit = (written.chars().count() / 3).max(1);
    let near = known.into_iter().map(|name| (strsim::damerau_levenshtein(&written, &plain(name)), name));
    near.filter(|(distance, _)| *distance <= limit).min().map(|(_, name)| name)
}

/// Adds the near name as a fix, or else the names that there are.
#[must_use]
pub fn suggest<'a>(
    diagnostic: Diagnostic,
    span: Span,
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Diagnostic {
    const MOST: usize = 20;
    let known: Vec<&str> = known.into_iter().collect();
    if let Some(name) = nearest(written, known.iter().copied()) {
        return diagnostic.fix(span, name);
    }
    match known.len() {
        0 => diagnostic,
        1..=MOST => diagnostic.help(format!("there is {}", list(known))),
        _ => diagnostic,
    }
}

/// "`a`, `b` and `c`".
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}
