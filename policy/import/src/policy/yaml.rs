//! Text → YAML scalars and comments.
//!
//! In: any text. Out: one line that reads back as that text. Never: a scalar that YAML takes for a
//! number, a flag, or nothing.

/// A value of a mapping.
pub(crate) fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_alphabetic())
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.ends_with([':', ' '])
        && text.chars().all(|c| c.is_alphanumeric() || " -_./,:()<>+=;'#*&|@%$!?".contains(c))
        && !["true", "false", "yes", "no", "on", "off", "null", "y", "n"].contains(&text.to_lowercase().as_str());
    if is_plain { text.to_owned() } else { quoted(text) }
}

/// An item of a list in brackets.
pub(crate) fn item(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    if is_plain { text.to_owned() } else { quoted(text) }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// One line that can't end the comment.
pub(crate) fn comment(text: &str) -> String {
    let is_break =
        |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    let text: String = text.chars().map(|c| if is_break(c) { ' ' } else { c }).collect();
    shorten(&crate::document::one_line(&text), 240)
}

/// At most so many characters, with a mark where text is missing.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some((end, _)) => format!("{} …", text[..end].trim_end()),
    }
}

pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in comment(text).split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Lower case, words joined by `-`, at most 56 characters: a name of a policy.
pub(crate) fn kebab(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            name.push(c.to_ascii_lowercase());
        } else if !name.is_empty() && !name.ends_with('-') && c != '\'' && c != '’' {
            name.push('-');
        }
    }
    let mut name = name.trim_end_matches('-').to_owned();
    if name.len() > 56 {
        let end = name[..56].rfind('-').filter(|end| *end > 16).unwrap_or(56);
        name.truncate(end);
    }
    name
}
