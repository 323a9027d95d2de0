//! One line in words, as iptables-restore splits it: at spaces, but for what is quoted.

use std::borrow::Cow;

/// A word, without its quotes, and where it stands in the whole text.
#[derive(Clone, Debug)]
pub(super) struct Token<'t> {
    pub text: Cow<'t, str>,
    pub start: usize,
    pub end: usize,
    /// A quoted word is never an option.
    pub quoted: bool,
}

impl Token<'_> {
    pub fn is_option(&self) -> bool {
        !self.quoted && self.text.len() > 1 && self.text.starts_with('-') && !self.text.as_bytes()[1].is_ascii_digit()
    }

    /// As it would be typed: quoted where it must be.
    pub fn typed(&self) -> String {
        typed(&self.text)
    }
}

/// A word as it would be typed: quoted where it must be.
pub(super) fn typed(word: &str) -> String {
    let is_plain = !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || c == '"');
    if is_plain { word.into() } else { format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"")) }
}

/// The words of a line that begins at `offset` of its text. The error is where a quotation begins
/// that does not end.
pub(super) fn tokens(line: &str, offset: usize) -> Result<Vec<Token<'_>>, usize> {
    let bytes = line.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at].is_ascii_whitespace() {
            at += 1;
            continue;
        }
        let start = at;
        let plain_end = bytes[at..].iter().position(|b| b.is_ascii_whitespace() || *b == b'"');
        let end = plain_end.map_or(bytes.len(), |length| at + length);
        if end == bytes.len() || bytes[end].is_ascii_whitespace() {
            tokens.push(Token { text: line[start..end].into(), start: offset + start, end: offset + end, quoted: false });
            at = end;
            continue;
        }
        let (mut word, mut opened) = (Vec::new(), None);
        while at < bytes.len() && (opened.is_some() || !bytes[at].is_ascii_whitespace()) {
            match bytes[at] {
                // Only within a quotation, as in iptables-restore.
                b'\\' if opened.is_some() && at + 1 < bytes.len() => {
                    at += 1;
                    word.push(bytes[at]);
                }
                b'"' if opened.is_none() => opened = Some(at),
                b'"' => opened = None,
                byte => word.push(byte),
            }
            at += 1;
        }
        if let Some(opened) = opened {
            return Err(offset + opened);
        }
        let text = String::from_utf8_lossy(&word).into_owned();
        tokens.push(Token { text: text.into(), start: offset + start, end: offset + at, quoted: true });
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_at_spaces_but_for_quotations() {
        let words = |line| tokens(line, 0).map(|all| all.into_iter().map(|token| token.text.into_owned()).collect::<Vec<_>>());
        assert_eq!(words("-A  INPUT\t-j LOG").unwrap(), ["-A", "INPUT", "-j", "LOG"]);
        assert_eq!(words(r#"--comment "it's \"so\"" -j X"#).unwrap(), ["--comment", "it's \"so\"", "-j", "X"]);
        assert_eq!(words(r#"--comment "" x"#).unwrap(), ["--comment", "", "x"]);
        assert_eq!(words(r#"-m comment --comment "open"#), Err(21));
        assert_eq!(words("--comment \"a\u{e4} b\"").unwrap(), ["--comment", "a\u{e4} b"]);
    }
}
