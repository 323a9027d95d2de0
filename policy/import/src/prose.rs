//! What sentences and headings say about the tables near them.
//!
//! In: text without markup. Out: the ends that a sentence names, session timeouts, conditions, and the
//! few flows that a sentence states in full. Never: an end that is not a short noun phrase of the text.

use crate::cell;
use crate::document::one_line;
use crate::guide::Transport;
use crate::words;
use ringwall_packet::Interval;

/// Who talks to whom, as far as a text says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    pub sources: Vec<String>,
    pub destinations: Vec<String>,
}

impl Ends {
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.destinations.is_empty()
    }
}

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

const MODALS: [&str; 14] = [
    "will",
    "must",
    "should",
    "need",
    "needs",
    "require",
    "requires",
    "has",
    "have",
    "can",
    "may",
    "connect",
    "connects",
    "communicate",
];
const STOPS: [&str; 34] = [
    "on", "over", "via", "using", "through", "for", "in", "at", "by", "with", "so", "when", "if", "must", "should",
    "is", "are", "has", "have", "from", "need", "needs", "may", "can", "will", "to", "and", "or", "which", "that",
    "as", "before", "during", "within",
];
const VERBS: [&str; 14] = [
    "connect to",
    "connects to",
    "connect with",
    "access to",
    "reach",
    "reaches",
    "communicate with",
    "communicates with",
    "talk to",
    "talks to",
    "access",
    "accesses",
    "connection to",
    "connections to",
];

/// The ends that a sentence names.
pub(crate) fn ends(sentence: &str) -> Ends {
    let sentence = one_line(sentence);
    let stated = stated_ends(&sentence);
    if !stated.is_empty() {
        return stated;
    }
    for verb in VERBS {
        let Some((before, after)) = split_word(&sentence, verb) else {
            continue;
        };
        let Some(destination) = object(after) else {
            continue;
        };
        // "ports must be open for X to connect to Y"
        let actor = before.strip_suffix(" to").and_then(|before| rsplit_word(before, "for")).map(|(_, actor)| actor);
        let subject = before.split_whitespace().take_while(|word| !MODALS.contains(&word.to_lowercase().as_str()));
        let subject = subject.collect::<Vec<_>>().join(" ");
        let subject = actor.unwrap_or(if subject.len() < before.trim().len() || before.trim() == subject {
            &subject
        } else {
            ""
        });
        let sources = phrase(subject, true).map(|subject| list(&subject)).unwrap_or_default();
        return Ends { sources, destinations: vec![destination] };
    }
    Ends::default()
}

/// "from X to Y", where one of them is a machine.
pub(crate) fn stated_ends(sentence: &str) -> Ends {
    if let Some((_, after)) = split_word(sentence, "from")
        && let Some((source, after)) = split_word(after, "to")
        && let (Some(source), Some(destination)) = (phrase(source, false), object(after))
        && (names_machine(&source) || names_machine(&destination))
    {
        return Ends { sources: list(&source), destinations: vec![destination] };
    }
    Ends::default()
}

/// Bytes of a heading that may name machines.
const HEADING: usize = 200;

/// The pair of a heading such as "From agents to the controller", "Agent → Controller", "Agent nodes to server".
pub(crate) fn heading_ends(title: &str) -> Ends {
    if title.len() > HEADING {
        return Ends::default();
    }
    let pair = |left: &str, right: &str| {
        let (Some(left), Some(right)) = (phrase(left, true), phrase(right, true)) else {
            return Ends::default();
        };
        Ends { sources: vec![left], destinations: vec![right] }
    };
    if let Some((left, arrow, right)) = cell::arrow(title) {
        return match arrow {
            cell::Arrow::Right => pair(left, right),
            cell::Arrow::Left => pair(right, left),
            cell::Arrow::Both => Ends::default(),
        };
    }
    let stated = split_word(title, "from").map(|(_, after)| after);
    let Some((left, right)) = split_word(stated.unwrap_or(title), "to") else {
        return Ends::default();
    };
    let left = trim_generic(left);
    let right = trim_generic(right);
    let both_are_machines = names_machine(&left) && names_machine(&right);
    if stated.is_some() || both_are_machines { pair(&left, &right) } else { Ends::default() }
}

/// The machine that a heading is about: "Control plane", "Inbound rules for worker nodes".
pub(crate) fn heading_node(title: &str) -> Option<String> {
    if title.len() > HEADING {
        return None;
    }
    let title = title.split(['{', '(']).next().filter(|_| !title.contains("(s)")).unwrap_or(title);
    let about =
        ["for", "on", "of", "from", "to"].iter().find_map(|word| split_word(title, word).map(|(_, after)| after));
    let name = trim_generic(about.unwrap_or(title));
    let words = name.split_whitespace().count();
    ((1..=5).contains(&words)
        && split_word(&name, "and").is_none()
        && split_word(&name, "to").is_none()
        && ends_in_machine(&name))
    .then_some(name)
}

const GENERIC: [&str; 50] = [
    "ports",
    "port",
    "requirements",
    "requirement",
    "rules",
    "rule",
    "firewall",
    "firewalls",
    "network",
    "networking",
    "inbound",
    "outbound",
    "incoming",
    "outgoing",
    "ingress",
    "egress",
    "required",
    "the",
    "settings",
    "setting",
    "configuration",
    "access",
    "communication",
    "communications",
    "traffic",
    "connections",
    "connection",
    "list",
    "table",
    "default",
    "needed",
    "used",
    "by",
    "open",
    "opened",
    "protocols",
    "protocol",
    "prerequisites",
    "tcp",
    "udp",
    "specific",
    "connectivity",
    "overview",
    "reference",
    "and",
    "a",
    "an",
    "all",
    "internal",
    "external",
];

fn trim_generic(title: &str) -> String {
    let mut words: Vec<&str> = title.split_whitespace().collect();
    let is_generic = |word: &str| {
        let word = word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
        word.is_empty() || GENERIC.contains(&word.as_str()) || word.chars().all(|c| c.is_ascii_digit())
    };
    // "All nodes" and "External network" keep their first word when a noun follows it.
    while words.last().is_some_and(|word| is_generic(word)) {
        words.pop();
    }
    let keeps = |word: &str| matches!(word.to_lowercase().as_str(), "all" | "internal" | "external");
    while words.first().is_some_and(|word| is_generic(word) && !keeps(word)) {
        words.remove(0);
    }
    words.join(" ")
}

fn ends_in_machine(name: &str) -> bool {
    name.split_whitespace().next_back().is_some_and(words::is_machine)
}

fn names_machine(name: &str) -> bool {
    name.split_whitespace().any(words::is_machine) || name.to_lowercase().contains("internet")
}

/// A noun phrase of a few words, without its article.
fn phrase(text: &str, allows_list: bool) -> Option<String> {
    let text = text.trim().trim_matches([',', ';', '.', ':', '"']);
    let words: Vec<&str> = text.split_whitespace().collect();
    let words = match words.first().map(|word| word.to_lowercase()) {
        Some(first) if matches!(first.as_str(), "the" | "a" | "an" | "your") => &words[1..],
        _ => &words[..],
    };
    const NO_NAMES: [&str; 24] = [
        "it",
        "they",
        "you",
        "we",
        "this",
        "that",
        "these",
        "those",
        "following",
        "port",
        "ports",
        "there",
        "which",
        "if",
        "when",
        "depending",
        "allow",
        "note",
        "to",
        "be",
        "able",
        "make",
        "ensure",
        "table",
    ];
    let is_name = |word: &&str| !NO_NAMES.contains(&word.to_lowercase().as_str()) && !word.contains(['{', '%', '<']);
    let limit = if allows_list { 10 } else { 5 };
    ((1..=limit).contains(&words.len()) && words.iter().all(is_name)).then(|| words.join(" "))
}

/// What follows a verb or preposition, up to the next one.
fn object(after: &str) -> Option<String> {
    let mut words = Vec::new();
    for word in after.split_whitespace() {
        let bare = word.trim_end_matches([',', ';', '.', ':', ')']);
        if STOPS.contains(&bare.to_lowercase().as_str()) || bare.starts_with('(') {
            break;
        }
        words.push(bare);
        if bare.len() < word.len() {
            break;
        }
    }
    phrase(&words.join(" "), false)
}

fn list(text: &str) -> Vec<String> {
    let parts = text
        .split(',')
        .flat_map(|part| part.split(" and "))
        .map(|part| part.trim().trim_start_matches("and ").trim_start_matches("the "));
    parts.filter(|part| !part.is_empty() && part.split_whitespace().count() <= 4).map(str::to_owned).collect()
}

fn split_word<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    positions(text, word).next().map(|start| (&text[..start], &text[start + word.len()..]))
}

fn rsplit_word<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    positions(text, word).last().map(|start| (&text[..start], &text[start + word.len()..]))
}

/// Where a word or phrase stands, upper or lower case.
fn positions<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let starts = text.char_indices().map(|(index, _)| index).filter(move |start| {
        text.get(*start..start + word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word))
    });
    starts.filter(move |start| {
        let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '-');
        !is_part(text[..*start].chars().next_back()) && !is_part(text[start + word.len()..].chars().next())
    })
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
