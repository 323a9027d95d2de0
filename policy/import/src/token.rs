//! A line of a cell of ports → its tokens.
//!
//! In: one line. Out: [`Token`]s, or the reason why it can't be read. Never: a number with digits that are
//! not known, or that belong to something else than a port.

use crate::cell::{Arrow, arrow_here};
use crate::guide::Transport;
use crate::words;
use ringwall_packet::Interval;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Number(u16),
    Range(Interval<u16>),
    /// From this port up.
    Above(u16),
    Transport(Vec<Transport>),
    Word(String),
    /// `/`, `:` or `-` that ties its neighbours together.
    Tie,
    /// `,`, `;`, `and`.
    Separator,
    Any,
    Arrow(Arrow),
    /// Text in parentheses that is no port or protocol.
    Remark(String),
}

const FILLERS: [&str; 22] = [
    "port",
    "ports",
    "port:",
    "ports:",
    "the",
    "range",
    "from",
    "on",
    "over",
    "by",
    "number",
    "default",
    "no",
    "no.",
    "and/or",
    "inclusive",
    "through",
    "destination",
    "protocol",
    "standard",
    "typically",
    "usually",
];

pub(crate) fn tokens(line: &str) -> Result<Vec<Token>, String> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut rest = line.trim_start();
    while let Some(c) = rest.chars().next() {
        if let (Some(found), length) = arrow_here(rest) {
            tokens.push(Token::Arrow(found));
            rest = rest[length..].trim_start();
            continue;
        }
        let length = match c {
            '0'..='9' => number(rest, &mut tokens)?,
            '(' | '[' | '{' => parenthesis(rest, &mut tokens)?,
            '>' | '≥' => above(rest, &mut tokens)?,
            '/' | ':' | '|' | '_' => {
                tokens.push(Token::Tie);
                c.len_utf8()
            }
            '-' | '–' | '—' => {
                tokens.push(Token::Tie);
                c.len_utf8()
            }
            ',' | ';' | '&' | '+' | '、' | '，' => {
                tokens.push(Token::Separator);
                c.len_utf8()
            }
            '*' => {
                // A footnote's mark, unless it is all that there is.
                if line.trim() == "*" {
                    tokens.push(Token::Any);
                }
                1
            }
            '<' | '$' if rest[1..].starts_with(|c: char| c.is_alphabetic() || c == '{') => {
                return Err(format!("`{}` holds no port", line.trim()));
            }
            c if c.is_alphabetic() => word(rest, &mut tokens)?,
            c => c.len_utf8(),
        };
        rest = rest[length..].trim_start();
    }
    join_transports(&mut tokens);
    Ok(tokens)
}

fn port(digits: &str) -> Result<u16, String> {
    let is_zero_padded = digits.len() > 1 && digits.starts_with('0');
    digits
        .parse()
        .ok()
        .filter(|_| !is_zero_padded)
        .ok_or_else(|| format!("`{digits}` is no port: ports go from 0 to 65535"))
}

fn digits(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    &text[..end]
}

/// A number, a range `a-b`, or `a+`; gives its length in bytes.
fn number(text: &str, tokens: &mut Vec<Token>) -> Result<usize, String> {
    let first = digits(text);
    let behind = &text[first.len()..];
    // "36<NN>", "80${n}": digits of a number that is not known.
    if behind.starts_with(['<', '{', '$', '#', '%']) && behind[1..].starts_with(|c: char| c.is_alphabetic() || c == '{')
    {
        return Err(format!("`{}` leaves digits open", text.split_whitespace().next().unwrap_or(text)));
    }
    // "3rd", "2008R2", "10.0.0.1", "1.2": no port.
    let is_dotted = behind.strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if is_dotted {
        return Err(format!("`{}` is no port", text.split_whitespace().next().unwrap_or(text)));
    }
    if behind.starts_with(|c: char| c.is_alphabetic()) {
        let word = behind.split(|c: char| !c.is_alphanumeric()).next().unwrap_or("");
        if let Some(protocol) = words::protocol(word) {
            tokens.push(Token::Number(port(first)?));
            tokens.push(Token::Tie);
            tokens.push(Token::Transport(vec![Transport::Is(protocol)]));
            return Ok(first.len() + word.len());
        }
        if !matches!(word, "to" | "x") {
            tokens.push(Token::Word(format!("{first}{word}")));
            return Ok(first.len() + word.len());
        }
    }
    if behind.starts_with('+') && !behind[1..].trim_start().starts_with(|c: char| c.is_ascii_digit()) {
        tokens.push(Token::Above(port(first)?));
        return Ok(first.len() + 1);
    }
    let trimmed = behind.trim_start();
    for dash in ["--", "-", "–", "—", "−", "‑", "to ", "through ", "...", "..", ":", "~", "until "] {
        let Some(after) = trimmed.strip_prefix(dash) else {
            continue;
        };
        let after = after.trim_start();
        let second = digits(after);
        let starts_word = after[second.len()..].starts_with(|c: char| c.is_alphabetic());
        let is_colon_list = dash == ":" && behind.len() != trimmed.len();
        if second.is_empty()
            || starts_word
                && words::protocol(after[second.len()..].split(|c: char| !c.is_alphanumeric()).next().unwrap_or(""))
                    .is_none()
            || is_colon_list
        {
            break;
        }
        let (low, high) = (port(first)?, port(second)?);
        let range = Interval::new(low, high).ok_or_else(|| format!("the range `{first}-{second}` is upside down"))?;
        tokens.push(Token::Range(range));
        return Ok(text.len() - after.len() + second.len());
    }
    for up in ["and above", "and higher", "and up", "or above", "or higher", "and greater", "or greater", "upwards"] {
        if trimmed.to_lowercase().starts_with(up) {
            tokens.push(Token::Above(port(first)?));
            return Ok(text.len() - trimmed.len() + up.len());
        }
    }
    tokens.push(Token::Number(port(first)?));
    Ok(first.len())
}

/// `> 1023`, `>= 1024`.
fn above(text: &str, tokens: &mut Vec<Token>) -> Result<usize, String> {
    let rest = text.trim_start_matches(['>', '≥', '=']).trim_start();
    let sign = &text[..text.len() - rest.len()];
    let first = digits(rest);
    if first.is_empty() {
        return Ok(sign.len());
    }
    let from = port(first)?;
    let from = if sign.contains(['=', '≥']) { Some(from) } else { from.checked_add(1) };
    tokens.push(Token::Above(from.ok_or_else(|| format!("no port is above `{first}`"))?));
    Ok(sign.len() + first.len())
}

/// What stands in parentheses counts when it is made of ports and protocols alone.
fn parenthesis(text: &str, out: &mut Vec<Token>) -> Result<usize, String> {
    let end = text.find([')', ']', '}']).unwrap_or(text.len());
    let inner = text[1..end].trim();
    let length = (end + 1).min(text.len());
    // "[1]" is a reference.
    let is_reference = text.starts_with('[') && inner.chars().all(|c| c.is_ascii_digit());
    if is_reference || inner.contains(['(', '[', '{']) {
        out.push(Token::Remark(inner.to_owned()));
        return Ok(length);
    }
    let inside = tokens(inner);
    let has_port = |tokens: &[Token]| {
        tokens.iter().any(|token| matches!(token, Token::Number(_) | Token::Range(_) | Token::Above(_)))
    };
    let is_known = |token: &Token| !matches!(token, Token::Word(_) | Token::Remark(_) | Token::Any | Token::Arrow(_));
    match inside {
        Ok(inside) if !inside.is_empty() && inside.iter().all(is_known) && !(has_port(&inside) && has_port(out)) => {
            out.push(Token::Tie);
            out.extend(inside);
        }
        _ if !inner.is_empty() => out.push(Token::Remark(inner.to_owned())),
        _ => {}
    }
    Ok(length)
}

fn word(text: &str, tokens: &mut Vec<Token>) -> Result<usize, String> {
    let is_inside = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '\'' | '.' | '+');
    let end = text.find(|c: char| !is_inside(c)).unwrap_or(text.len());
    let mut word = text[..end].trim_end_matches(['.', '-', '_', '+']);
    // "TCP443", "tcp-443", "UDP_53".
    let letters = word.find(|c: char| !c.is_alphabetic()).unwrap_or(word.len());
    if letters < word.len() && words::protocol(word).is_none() && words::protocol(&word[..letters]).is_some() {
        word = &word[..letters];
    }
    // "Gi1/0/1", "eth0/2": a socket of a device.
    let is_numbered = word.ends_with(|c: char| c.is_ascii_digit()) && words::protocol(word).is_none();
    if is_numbered
        && text[word.len()..].strip_prefix('/').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    {
        return Err(format!("`{}` is no port", text.split_whitespace().next().unwrap_or(text)));
    }
    let lower = word.to_lowercase();
    if let Some(protocol) = words::protocol(word) {
        tokens.push(Token::Transport(vec![Transport::Is(protocol)]));
    } else if lower == "any" || lower == "all" {
        tokens.push(Token::Any);
    } else if matches!(lower.as_str(), "and" | "or" | "und" | "plus" | "et" | "y" | "e") {
        tokens.push(Token::Separator);
    } else if !FILLERS.contains(&lower.as_str()) && !word.is_empty() {
        tokens.push(Token::Word(word.to_owned()));
    }
    Ok(word.len().max(text.chars().next().map_or(1, char::len_utf8)))
}

/// "TCP/UDP", "TCP and UDP", "TCP, UDP 53": one group. In "443/TCP, UDP 53" they are two.
fn join_transports(tokens: &mut Vec<Token>) {
    let mut joined: Vec<Token> = Vec::with_capacity(tokens.len());
    let mut index = 0;
    while index < tokens.len() {
        let Token::Transport(first) = &tokens[index] else {
            joined.push(tokens[index].clone());
            index += 1;
            continue;
        };
        let mut group = first.clone();
        let is_suffix = joined.iter().any(|token| matches!(token, Token::Number(_) | Token::Range(_)));
        index += 1;
        while let (Some(between @ (Token::Tie | Token::Separator)), Some(Token::Transport(next))) =
            (tokens.get(index), tokens.get(index + 1))
        {
            let starts_ports = matches!(tokens.get(index + 2), Some(Token::Number(_) | Token::Range(_) | Token::Tie));
            if is_suffix && starts_ports && *between == Token::Separator {
                break;
            }
            group.extend(next.iter().filter(|transport| !first.contains(transport)).copied());
            index += 2;
        }
        group.dedup();
        joined.push(Token::Transport(group));
    }
    *tokens = joined;
}
