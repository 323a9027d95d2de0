//! The names in a cell of sources or destinations.
//!
//! In: a cell's text. Out: the names in it. Never: a phrase cut at its commas.

use crate::document::GLUE;
use crate::words;

/// The names of a cell of sources or destinations: `worker, CLI` is two, `Windows agent push
/// installation, pending repair` is one, since its parts are too long to be names in a list.
pub(crate) fn names(text: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for line in text.lines().map(|line| line.trim_end_matches([',', ';', ' '])) {
        let mut parts = split_outside_parentheses(line, |c| matches!(c, ',' | ';'));
        // "web, worker and cron"
        if parts.len() > 1
            && let Some((last, end)) =
                parts.last().and_then(|last| last.split_once(" and ")).filter(|(last, _)| !last.is_empty())
        {
            parts.pop();
            parts.extend([last, end]);
        }
        let is_list = parts.len() > 1 && parts.iter().all(|part| is_short(part));
        let parts = if is_list { parts } else { vec![line] };
        for part in parts {
            let part = if is_list { strip_word(strip_word(part, "and"), "or") } else { part };
            match split_and(part) {
                Some((first, second)) => names.extend([clean(first), clean(second)]),
                None => names.push(clean(part)),
            }
        }
    }
    names.retain(|name| !name.is_empty());
    let mut unique: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        if unique.len() >= 256 || !unique.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
            unique.push(name);
        }
    }
    unique
}

fn is_short(part: &str) -> bool {
    let words = part.split_whitespace().count();
    (1..=3).contains(&words) && !part.ends_with('.')
}

fn strip_word<'a>(text: &'a str, word: &str) -> &'a str {
    let text = text.trim();
    text.strip_prefix(word).filter(|rest| rest.starts_with(' ')).map_or(text, str::trim_start)
}

/// "Company network and gateway": two machines, so two names.
fn split_and(part: &str) -> Option<(&str, &str)> {
    let (first, second) = part.split_once(" and ").or_else(|| part.split_once(" & "))?;
    let is_name = |text: &str| is_short(text) && text.split_whitespace().next_back().is_some_and(words::is_machine);
    (is_name(first) && is_name(second) && !second.contains(" and ")).then_some((first, second))
}

fn split_outside_parentheses(text: &str, is_separator: impl Fn(char) -> bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut depth) = (0, 0_i32);
    for (index, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            c if depth <= 0 && is_separator(c) => {
                parts.push(text[start..index].trim());
                start = index + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

/// A name on one line, without the mark of a footnote.
pub(crate) fn clean(text: &str) -> String {
    let text = text.replace(GLUE, "");
    let text = crate::document::one_line(&text);
    let text = text.trim_matches(|c: char| matches!(c, '•' | '·' | '|') || c.is_whitespace());
    let stripped = text.trim_end_matches(['*', '†', '‡', '¹', '²', '³', ':']);
    let stripped = if stripped.is_empty() || stripped.ends_with(' ') { text } else { stripped };
    stripped.strip_prefix("- ").unwrap_or(stripped).trim().to_owned()
}
