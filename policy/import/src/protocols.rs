//! What is in a cell of protocols.
//!
//! In: a cell's text. Out: the protocols that it names, and the words that are none. Never: a transport
//! for an application protocol that runs over several.

use crate::guide::Transport;
use crate::words;
use ringwall_packet::Protocol;

/// The protocols of a cell of a protocol column, and the words in it that are not understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Protocols {
    pub transports: Vec<Transport>,
    /// The application protocol that the cell names, if any.
    pub label: String,
    pub unknown: Vec<String>,
}

pub(crate) fn protocols(text: &str) -> Protocols {
    let mut found = Protocols::default();
    if words::is_blank(text) {
        return found;
    }
    if words::is_any(text) {
        found.transports.push(Transport::Any);
        return found;
    }
    // A number alone is one of IANA's.
    if let Ok(number) = text.trim().parse::<u8>() {
        found.transports.push(Transport::Is(Protocol(number)));
        return found;
    }
    let main = text.split(['(', '[']).next().unwrap_or(text).trim();
    let main = if main.is_empty() { text } else { main };
    let words: Vec<&str> =
        text.split(|c: char| !c.is_alphanumeric() && !matches!(c, '-' | '+')).filter(|word| !word.is_empty()).collect();
    let mut add = |protocol: Protocol| {
        let transport = Transport::Is(protocol);
        if !found.transports.contains(&transport) {
            found.transports.push(transport);
        }
    };
    for (index, word) in words.iter().enumerate() {
        if let Some(protocol) = words::protocol(word) {
            add(protocol);
        } else if let Ok(number) = word.parse::<u8>()
            && index > 0
            && words[index - 1].eq_ignore_ascii_case("protocol")
        {
            add(Protocol(number));
        }
    }
    let lower: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
    let is_filler = |word: &str| {
        matches!(
            word,
            "and"
                | "or"
                | "over"
                | "protocol"
                | "ip"
                | "both"
                | "optional"
                | "configurable"
                | "default"
                | "v4"
                | "v6"
                | "ipv4"
                | "ipv6"
                | "based"
                | "secure"
                | "encrypted"
        ) || word.chars().all(|c| c.is_ascii_digit())
    };
    let is_application = |word: &str| words::carrier(word).is_some() || words::OVER_BOTH.contains(&word);
    let remarks = text.len() > main.len();
    let main_words =
        main.split(|c: char| !c.is_alphanumeric() && !matches!(c, '-' | '+')).filter(|word| !word.is_empty());
    if found.transports.is_empty() {
        for word in &lower {
            if let Some(protocol) = words::carrier(word)
                && !found.transports.contains(&Transport::Is(protocol))
            {
                found.transports.push(Transport::Is(protocol));
            }
        }
        main.clone_into(&mut found.label);
    } else if lower.iter().any(|word| is_application(word) && words::protocol(word).is_none()) {
        let names = words.iter().filter(|word| is_application(&word.to_lowercase()));
        found.label = names.copied().collect::<Vec<_>>().join("/");
    }
    for word in main_words {
        let lower = word.to_lowercase();
        if words::protocol(&lower).is_none() && !is_application(&lower) && !is_filler(&lower) {
            found.unknown.push(word.to_owned());
        }
    }
    if remarks && found.transports.is_empty() && found.label.is_empty() {
        text.clone_into(&mut found.label);
    }
    found
}
