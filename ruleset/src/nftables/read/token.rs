//! A text as tokens.
//!
//! In: text. Out: tokens with their places, without comments; an address, a prefix, a range and a name
//! are one token each. Never: a copy of the text.

use super::script::Text;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name, number, address, prefix or range: letters, digits and `_ . / - :` without a space.
    Word,
    /// With its quotes.
    Quoted,
    /// `@name`.
    Reference,
    /// `$name`.
    Value,
    Newline,
    /// A whole `# …` that hides a match: nft writes so what another program's rule asks for.
    Hidden,
    /// Punctuation; two characters at most.
    Open,
    Close,
    LeftParenthesis,
    RightParenthesis,
    LeftBracket,
    RightBracket,
    Comma,
    Semicolon,
    Colon,
    Dot,
    Dash,
    Slash,
    Asterisk,
    Plus,
    Assign,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    ShiftLeft,
    ShiftRight,
    And,
    Or,
    Xor,
    Not,
    /// What no token begins with.
    Bad,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub kind: Kind,
    pub start: u32,
    pub end: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Word,
    Space,
    Other,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Other; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'/' | b'-' | b':' | b'*' | 0x80.. => Class::Word,
            b' ' | b'\t' | b'\r' => Class::Space,
            _ => Class::Other,
        };
        byte += 1;
    }
    classes
};

/// Appends the tokens of a text that is shorter than 4 GiB, and where its lines end.
pub(super) fn tokens(text: &str) -> (Vec<Token>, Vec<u32>) {
    let mut lexer = Lexer { bytes: text.as_bytes(), tokens: Vec::with_capacity(text.len() / 6), lines: Vec::new() };
    lexer.run();
    (lexer.tokens, lexer.lines)
}

struct Lexer<'t> {
    bytes: &'t [u8],
    tokens: Vec<Token>,
    lines: Vec<u32>,
}

impl Lexer<'_> {
    fn run(&mut self) {
        let mut at = 0;
        while let Some(byte) = self.bytes.get(at) {
            at = match CLASSES[usize::from(*byte)] {
                Class::Space => at + 1,
                Class::Word => self.word(at),
                Class::Other => self.other(at, *byte),
            };
        }
    }

    fn push(&mut self, kind: Kind, start: usize, end: usize) -> usize {
        // A text of 4 GiB or more is refused before.
        self.tokens.push(Token { kind, start: start as u32, end: end as u32 });
        end
    }

    fn word(&mut self, start: usize) -> usize {
        let run = &self.bytes[start..];
        let mut colons = 0;
        let mut end = 0;
        while let Some(byte) = run.get(end).filter(|byte| CLASSES[usize::from(**byte)] == Class::Word) {
            colons += usize::from(*byte == b':');
            end += 1;
        }
        let run = &run[..end];
        let end = start + end;
        match run {
            b":" => return self.push(Kind::Colon, start, end),
            b"." => return self.push(Kind::Dot, start, end),
            b"-" => return self.push(Kind::Dash, start, end),
            b"/" => return self.push(Kind::Slash, start, end),
            b"*" => return self.push(Kind::Asterisk, start, end),
            _ if colons == 0 => return self.push(Kind::Word, start, end),
            _ => {}
        }
        // IPv6 or link-layer addresses, or a colon without its spaces.
        let is_address = |part: &[u8]| {
            part.iter().all(|byte| byte.is_ascii_hexdigit() || b":./-".contains(byte))
                && (part.windows(2).any(|pair| pair == b"::") || part.iter().filter(|byte| **byte == b':').count() >= 5)
        };
        let after_colon = |part: &[u8]| part.len() > 1 && part.ends_with(b":") && !part.ends_with(b"::");
        if is_address(run) && !after_colon(run) {
            return self.push(Kind::Word, start, end);
        }
        if after_colon(run) && is_address(&run[..run.len() - 1]) {
            self.push(Kind::Word, start, end - 1);
            return self.push(Kind::Colon, end - 1, end);
        }
        let colon = run.iter().position(|byte| *byte == b':').unwrap_or(0);
        match colon {
            0 => self.push(Kind::Colon, start, start + 1),
            _ => self.push(Kind::Word, start, start + colon),
        }
    }

    fn other(&mut self, start: usize, byte: u8) -> usize {
        let next = self.bytes.get(start + 1).copied();
        let (kind, length) = match (byte, next) {
            (b'\n', _) => {
                self.lines.push(start as u32);
                (Kind::Newline, 1)
            }
            (b'\\', Some(b'\n')) => {
                self.lines.push(start as u32 + 1);
                return start + 2;
            }
            (b'\\', Some(b'\r')) if self.bytes.get(start + 2) == Some(&b'\n') => {
                self.lines.push(start as u32 + 2);
                return start + 3;
            }
            (b'#', _) => return self.comment(start),
            (b'"', _) => return self.quoted(start),
            (b'@', _) => return self.name(start, Kind::Reference),
            (b'$', _) => return self.name(start, Kind::Value),
            (b'{', _) => (Kind::Open, 1),
            (b'}', _) => (Kind::Close, 1),
            (b'(', _) => (Kind::LeftParenthesis, 1),
            (b')', _) => (Kind::RightParenthesis, 1),
            (b'[', _) => (Kind::LeftBracket, 1),
            (b']', _) => (Kind::RightBracket, 1),
            (b',', _) => (Kind::Comma, 1),
            (b';', _) => (Kind::Semicolon, 1),
            (b'=', Some(b'=')) => (Kind::Equal, 2),
            (b'=', _) => (Kind::Assign, 1),
            (b'!', Some(b'=')) => (Kind::NotEqual, 2),
            (b'!', _) => (Kind::Not, 1),
            (b'<', Some(b'=')) => (Kind::LessOrEqual, 2),
            (b'<', Some(b'<')) => (Kind::ShiftLeft, 2),
            (b'<', _) => (Kind::Less, 1),
            (b'>', Some(b'=')) => (Kind::GreaterOrEqual, 2),
            (b'>', Some(b'>')) => (Kind::ShiftRight, 2),
            (b'>', _) => (Kind::Greater, 1),
            (b'+', _) => (Kind::Plus, 1),
            (b'&', _) => (Kind::And, 1),
            (b'|', _) => (Kind::Or, 1),
            (b'^', _) => (Kind::Xor, 1),
            _ => (Kind::Bad, 1),
        };
        self.push(kind, start, start + length)
    }

    /// A comment, which ends with its line. What nft writes of a match that it can't translate is one too:
    /// `# xt_recent`, or iptables' own words with the rest of the rule behind them.
    fn comment(&mut self, start: usize) -> usize {
        let rest = &self.bytes[start..];
        let end = start + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let comment = &self.bytes[start..end];
        let is_inside = self.tokens.last().is_some_and(|token| token.kind != Kind::Newline);
        let hides = |words: &[u8]| comment.windows(words.len()).any(|part| part == words);
        if is_inside && (comment.starts_with(b"# xt_") || hides(b" counter packets ")) {
            self.push(Kind::Hidden, start, end);
        }
        end
    }

    fn quoted(&mut self, start: usize) -> usize {
        let rest = &self.bytes[start + 1..];
        let Some(length) = rest.iter().position(|byte| *byte == b'"') else {
            return self.push(Kind::Bad, start, self.bytes.len());
        };
        let end = start + length + 2;
        let newlines = rest[..length].iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        self.lines.extend(newlines.map(|(at, _)| (start + 1 + at) as u32));
        self.push(Kind::Quoted, start, end)
    }

    fn name(&mut self, start: usize, kind: Kind) -> usize {
        let rest = &self.bytes[start + 1..];
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_./-\\".contains(byte);
        let length = rest.iter().position(|byte| !is_name(byte)).unwrap_or(rest.len());
        if length == 0 {
            return self.push(Kind::Bad, start, start + 1);
        }
        self.push(kind, start, start + 1 + length)
    }
}

/// Tokens with one space between them, as nft lists them: none before a comma, and after a comma only
/// where it stands in braces.
pub(super) fn canonical(text: Text, tokens: &[Token]) -> String {
    let mut line = String::new();
    let (mut depth, mut glue, mut end) = (0, true, 0);
    for (at, token) in tokens.iter().enumerate() {
        // `192.0.2.1:80`
        let is_near = depth == 0 && token.start == end;
        let is_glued = match token.kind {
            Kind::Newline => continue,
            Kind::Colon if is_near => true,
            Kind::Comma | Kind::Semicolon | Kind::RightParenthesis | Kind::RightBracket => true,
            _ => glue,
        };
        if !is_glued {
            line.push(' ');
        }
        line.push_str(text.of(token));
        match token.kind {
            Kind::Open => depth += 1,
            Kind::Close => depth -= 1,
            _ => {}
        }
        glue = match token.kind {
            Kind::Comma => depth == 0,
            Kind::LeftParenthesis | Kind::LeftBracket => true,
            Kind::Colon => depth == 0 && tokens.get(at + 1).is_some_and(|next| next.start == token.end),
            _ => false,
        };
        end = token.end;
    }
    line
}
