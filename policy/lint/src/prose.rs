//! Paragraphs of a guide.
//!
//! In: Markdown. Out: its paragraphs with the heading above each. Never: tables, headings, or the
//! text with its markup taken out (the lints look for words, so markup does not matter to them).

use ringwall_diagnostic::{SourceId, Span};

use crate::Prose;

/// The paragraphs of a text; table rows and headings end one.
pub fn paragraphs(source: SourceId, text: &str) -> Vec<Prose> {
    let mut found = Vec::new();
    let mut section = String::new();
    let mut open: Option<(usize, usize)> = None;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let end = start + line.len();
        let words = line.trim();
        let is_text = !words.is_empty() && !words.starts_with(['|', '#']) && !words.starts_with(":::");
        match (is_text, open) {
            (true, Some((first, _))) => open = Some((first, end)),
            (true, None) => open = Some((start, end)),
            (false, _) => found.extend(open.take().map(|range| prose(source, text, &section, range))),
        }
        if words.starts_with('#') {
            section = words.trim_start_matches('#').trim().to_owned();
        }
        start = end;
    }
    found.extend(open.map(|range| prose(source, text, &section, range)));
    found
}

fn prose(source: SourceId, text: &str, section: &str, (start, end): (usize, usize)) -> Prose {
    let words = text[start..end].trim_end();
    Prose {
        section: section.to_owned(),
        text: words.to_owned(),
        span: Span { source, start, end: start + words.len() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringwall_diagnostic::Sources;

    #[test]
    fn paragraphs_stand_between_headings_and_tables() {
        let text = "intro\nmore\n\n## Ports\nfirst\n| a | b |\nlast";
        let mut sources = Sources::new();
        let found = paragraphs(sources.add("guide.md", text), text);
        let seen: Vec<_> = found.iter().map(|prose| (prose.section.as_str(), prose.text.as_str())).collect();
        assert_eq!(seen, [("", "intro\nmore"), ("Ports", "first"), ("Ports", "last")]);
        let snippets: Vec<_> = found.iter().map(|prose| sources.snippet(prose.span)).collect();
        assert_eq!(snippets, ["intro\nmore", "first", "last"]);
    }
}
