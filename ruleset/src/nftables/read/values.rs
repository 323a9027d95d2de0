//! `define`d values, put where `$name` stands.
//!
//! In: the tokens of a script. Out: the same without definitions and references. Never: more than a
//! multiple of the text: definitions of definitions could grow without bound.

use std::collections::HashMap;

use ringwall_diagnostic::{Diagnostic, Span};

use super::script::{Script, Text};
use super::token::{Kind, Token};

/// Tokens that values may add, for each token of the text, and at least.
const GROWTH: usize = 16;
const GROWTH_MIN: usize = 1 << 20;

pub(super) fn expand(script: &mut Script, diagnostics: &mut Vec<Diagnostic>) {
    let text = script.text;
    let is_definition = |token: &Token| {
        token.kind == Kind::Word && matches!(text.of(token), "define" | "redefine" | "undefine")
    };
    if !script.tokens.iter().any(|token| token.kind == Kind::Value || is_definition(token)) {
        return;
    }
    let tokens = std::mem::take(&mut script.tokens);
    let most = (tokens.len() * GROWTH).max(GROWTH_MIN);
    let source = script.source;
    let span = |token: &Token| Span { source, start: token.start as usize, end: token.end as usize };
    let mut values: HashMap<&str, Vec<Token>> = HashMap::new();
    let mut expanded: Vec<Token> = Vec::with_capacity(tokens.len());
    let mut added = 0;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let is_first = expanded.last().is_none_or(|last| matches!(last.kind, Kind::Newline | Kind::Semicolon | Kind::Open));
        if is_first && is_definition(token) {
            let end = end_of_line(&tokens, at);
            let name = tokens.get(at + 1).map_or("", |name| text.of(name));
            if text.of(token) == "undefine" {
                values.remove(name);
            } else if at + 3 > end || tokens[at + 2].kind != Kind::Assign {
                diagnostics.push(Diagnostic::error("RW6001", "a definition is `define NAME = VALUE`").at(span(token), "is none"));
            } else {
                let mut value = Vec::new();
                for token in tokens[at + 3..end].iter().filter(|token| token.kind != Kind::Newline) {
                    added += push(text, token, &values, &mut value, &span, diagnostics);
                    if added > most {
                        break;
                    }
                }
                values.insert(name, value);
            }
            at = end;
        } else {
            let more = push(text, token, &values, &mut expanded, &span, diagnostics);
            added += if token.kind == Kind::Value { more } else { 0 };
            at += 1;
        }
        if added > most {
            let message = format!("values make more than {most} words of this text");
            diagnostics.push(Diagnostic::error("RW6009", message).at(span(token), "here"));
            break;
        }
    }
    script.tokens = expanded;
}

/// How many tokens it made.
fn push(
    text: Text,
    token: &Token,
    values: &HashMap<&str, Vec<Token>>,
    into: &mut Vec<Token>,
    span: &impl Fn(&Token) -> Span,
    diagnostics: &mut Vec<Diagnostic>,
) -> usize {
    if token.kind != Kind::Value {
        into.push(*token);
        return 1;
    }
    match values.get(text.name(token)) {
        Some(value) => {
            into.extend_from_slice(value);
            value.len()
        }
        None => {
            let message = format!("`{}` is not defined", text.of(token));
            diagnostics.push(
                Diagnostic::error("RW6003", message)
                    .at(span(token), "has no value")
                    .help("write `define NAME = VALUE` before it, or the value itself"),
            );
            0
        }
    }
}

fn end_of_line(tokens: &[Token], from: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(from) {
        match token.kind {
            Kind::Open => depth += 1,
            Kind::Close if depth == 0 => return at,
            Kind::Close => depth -= 1,
            Kind::Newline | Kind::Semicolon if depth == 0 => return at,
            _ => {}
        }
    }
    tokens.len()
}
