//! A place in the tokens of one rule or one list of elements.
//!
//! In: tokens. Out: the next one; newlines are passed over. Never: a step back by itself.

use super::script::Text;
use super::token::{Kind, Token, canonical};

#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'t> {
    pub text: Text<'t>,
    pub tokens: &'t [Token],
    pub at: usize,
}

impl<'t> Cursor<'t> {
    pub fn new(text: Text<'t>, tokens: &'t [Token]) -> Self {
        let mut cursor = Self { text, tokens, at: 0 };
        cursor.skip_newlines();
        cursor
    }

    fn skip_newlines(&mut self) {
        while self.tokens.get(self.at).is_some_and(|token| token.kind == Kind::Newline) {
            self.at += 1;
        }
    }

    pub fn peek(&self) -> Option<&'t Token> {
        self.tokens.get(self.at)
    }

    pub fn kind(&self) -> Option<Kind> {
        self.peek().map(|token| token.kind)
    }

    pub fn word(&self) -> Option<&'t str> {
        self.peek().filter(|token| token.kind == Kind::Word).map(|token| self.text.of(token))
    }

    /// The word after this one.
    pub fn second_word(&self) -> Option<&'t str> {
        let mut next = *self;
        next.advance();
        next.word()
    }

    pub fn advance(&mut self) {
        self.at += 1;
        self.skip_newlines();
    }

    pub fn take(&mut self, kind: Kind) -> bool {
        let found = self.kind() == Some(kind);
        if found {
            self.advance();
        }
        found
    }

    pub fn take_word(&mut self, word: &str) -> bool {
        let found = self.word() == Some(word);
        if found {
            self.advance();
        }
        found
    }

    /// A word or a quoted text, without quotes.
    pub fn name(&mut self) -> Option<&'t str> {
        let token = self.peek().filter(|token| matches!(token.kind, Kind::Word | Kind::Quoted))?;
        self.advance();
        Some(self.text.name(token))
    }

    /// What stands in braces, and goes past it; `None` when they don't open or don't close.
    pub fn braces(&mut self) -> Option<&'t [Token]> {
        if self.kind() != Some(Kind::Open) {
            return None;
        }
        let start = self.at + 1;
        let mut depth = 0_usize;
        for (at, token) in self.tokens.iter().enumerate().skip(start) {
            match token.kind {
                Kind::Open => depth += 1,
                Kind::Close if depth == 0 => {
                    self.at = at;
                    self.advance();
                    return Some(&self.tokens[start..at]);
                }
                Kind::Close => depth -= 1,
                _ => {}
            }
        }
        None
    }

    /// Canonical text from a place to here.
    pub fn since(&self, start: usize) -> String {
        canonical(self.text, &self.tokens[start..self.at])
    }
}
