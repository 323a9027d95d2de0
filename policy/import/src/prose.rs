//! What sentences and headings say about the tables near them.
//!
//! In: text without markup. Out: session timeouts, conditions, and the few flows that a sentence states
//! in full. Never: a flow of which an end is not named.

use crate::cell;
use crate::document::one_line;
use crate::guide::Transport;
use crate::said::{object, positions, rsplit_word};
use crate::words;
use ringwall_packet::Interval;

pub(crate) fn sentences(text: &str) -> Vec<String> {
    let text = one_line(text);
    let mut sentences = Vec::new();
    let mut start = 0;
    for (index, c) in text.char_indices() {
        let behind = &text[index + c.len_utf8()..];
        let ends = matches!(c, '.' | '!' | '?') && (behind.is_empty() || behind.starts_with(' '));
        let is_abbreviation = || {
            let word = text[start..index].rsplit(' ').next().unwrap_or("").trim_start_matches('(');
            ["e.g", "i.e", "etc", "approx", "vs", "no"].iter().any(|known| word.eq_ignore_ascii_case(known))
        };
        if ends && !is_abbreviation() || c == ':' && behind.is_empty() {
            sentences.push(text[start..index].trim().to_owned());
            start = index + c.len_utf8();
        }
    }
    sentences.push(text[start..].trim().to_owned());
    sentences.retain(|sentence| !sentence.is_empty());
    sentences
}

/// "All ports are TCP unless noted."
pub(crate) fn is_about_all_ports(sentence: &str) -> bool {
    let lower = sentence.to_lowercase();
    let words = ["all ", "following", "these ", "below", "listed", "unless", "otherwise"];
    lower.contains("ports") && words.iter().any(|word| lower.contains(word))
}

/// When a text applies: "(if applicable)", "If X is used, …", "Depending on the DNS setup …".
pub(crate) fn condition(text: &str) -> Option<String> {
    for opening in ["(if ", "(optional", "(when ", "(only ", "(unless "] {
        if let Some(start) = text.to_ascii_lowercase().find(opening) {
            let inner = &text[start + 1..];
            return Some(inner.split(')').next().unwrap_or(inner).trim().to_owned());
        }
    }
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("depending on ") {
        let clause: Vec<&str> = text
            .split_whitespace()
            .take_while(|word| {
                !matches!(word.to_lowercase().as_str(), "it" | "there" | "additional" | "you" | "more" | "different")
            })
            .collect();
        let clause = clause.join(" ");
        return Some(clause.split(',').next().unwrap_or(&clause).to_owned());
    }
    if (lower.starts_with("if ") || lower.starts_with("when "))
        && let Some((clause, _)) = text.split_once(',')
        && clause.len() < 80
    {
        return Some(clause.to_owned());
    }
    matches!(lower.trim(), "optional" | "if applicable" | "if used" | "if enabled" | "if required" | "as needed")
        .then(|| text.trim().to_owned())
}

/// The seconds of a session timeout that the sentence demands. "14.400" and "14,400" are 14400.
pub(crate) fn session_timeout(sentence: &str) -> Option<u64> {
    let lower = sentence.to_lowercase();
    let is_about = (lower.contains("timeout") || lower.contains("time-out") || lower.contains("time out"))
        && ["session", "connection", "idle", "tcp"].iter().any(|word| lower.contains(word));
    if !is_about {
        return None;
    }
    let words: Vec<&str> = lower.split_whitespace().collect();
    words.iter().enumerate().find_map(|(index, word)| {
        let word = word.trim_matches(['(', ')', '"', '“', '”', '.', ',', ';']);
        let digits = word.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ',' | '\'')).unwrap_or(word.len());
        let number = whole(&word[..digits])?;
        let unit = if digits < word.len() { &word[digits..] } else { words.get(index + 1).copied()? };
        let unit = unit.trim_matches(|c: char| !c.is_alphabetic());
        let factor = match unit {
            "s" | "sec" | "secs" | "second" | "seconds" => 1,
            "m" | "min" | "mins" | "minute" | "minutes" => 60,
            "h" | "hour" | "hours" => 3600,
            "d" | "day" | "days" => 86400,
            _ => return None,
        };
        number.checked_mul(factor)
    })
}

/// A whole number; points, commas and apostrophes before groups of three digits are separators.
fn whole(text: &str) -> Option<u64> {
    let mut groups = text.split(['.', ',', '\'']);
    let first = groups.next()?;
    let groups: Vec<&str> = groups.collect();
    let is_grouped =
        groups.iter().all(|group| group.len() == 3) && (groups.is_empty() || (1..=3).contains(&first.len()));
    (is_grouped && !first.is_empty()).then(|| [first].iter().chain(&groups).copied().collect::<String>())?.parse().ok()
}

/// A flow that a sentence states in full: "DNS (UDP/53) connections to X must be possible from Y".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stated {
    pub label: String,
    pub transport: Transport,
    pub ports: Vec<Interval<u16>>,
    pub source: String,
    pub destination: String,
}

pub(crate) fn stated(sentence: &str) -> Vec<Stated> {
    let words: Vec<&str> = sentence.split_whitespace().collect();
    let mut found = Vec::new();
    let spec = |word: &str| {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        if !bare.contains('/') || !cell::is_explicit(bare) {
            return None;
        }
        cell::read(bare).ok()
    };
    if !words.iter().any(|word| spec(word).is_some()) {
        return found;
    }
    let destination = positions(sentence, "to").find_map(|start| object(&sentence[start + 2..]));
    let source = positions(sentence, "from").find_map(|start| object(&sentence[start + 4..]));
    let (Some(source), Some(destination)) = (source, destination) else {
        return found;
    };
    for (index, word) in words.iter().enumerate() {
        for entry in spec(word).into_iter().flatten() {
            let label = index.checked_sub(1).and_then(|before| words.get(before)).filter(|_| word.starts_with('('));
            let label =
                label.map(|label| label.trim_matches(|c: char| !c.is_alphanumeric()).to_owned()).unwrap_or_default();
            for transport in entry.transports {
                found.push(Stated {
                    label: label.clone(),
                    transport,
                    ports: entry.ports.clone(),
                    source: source.clone(),
                    destination: destination.clone(),
                });
            }
        }
    }
    found
}

/// "between nodes of the same type … all traffic": `same node type`.
pub(crate) fn mesh(sentence: &str) -> Option<String> {
    let lower = sentence.to_lowercase();
    let is_all =
        ["all traffic", "any traffic", "all communication", "any-2-any", "any-to-any", "any to any", "all ports"]
            .iter()
            .any(|phrase| lower.contains(phrase));
    let (before, after) = lower.split_once(" of the same ")?;
    let (_, members) = rsplit_word(before, "between")?;
    let member = members.split_whitespace().next_back()?;
    let kind = after.split(|c: char| !c.is_alphanumeric()).next()?;
    (is_all && words::is_machine(member)).then(|| format!("same {} {kind}", member.trim_end_matches('s')))
}
