//! What is in a cell of ports.
//!
//! In: a cell's text. Out: [`Entry`]s, one for each line and protocol, or the reason why it can't be
//! read. Never: a number that the cell does not hold, or a port that it takes back ("except 22").

use crate::document::GLUE;
use crate::guide::{Ports, Transport};
use crate::token::{Token, tokens};
use crate::words;
use ringwall_packet::Interval;

/// Ports that belong together: one line of a cell, one protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Empty when the cell does not say.
    pub transports: Vec<Transport>,
    pub ports: Vec<Interval<u16>>,
    /// All ports.
    pub is_any: bool,
    /// The service named beside the ports.
    pub label: String,
    pub arrow: Option<Arrow>,
    /// Words that qualify the ports, such as `configurable`.
    pub remark: String,
}

impl Entry {
    pub fn ports(&self) -> Ports {
        match (self.is_any, self.ports.is_empty()) {
            (true, _) => Ports::Any,
            (false, true) => Ports::Unstated,
            (false, false) => Ports::List(self.ports.as_slice().into()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrow {
    /// From the end on the left to the end on the right.
    Right,
    Left,
    Both,
}

/// Takes the first arrow out of a text: what stood before it, the arrow, what stood behind it.
pub(crate) fn arrow(text: &str) -> Option<(&str, Arrow, &str)> {
    let mut start = 0;
    while let Some(c) = text[start..].chars().next() {
        let (found, length) = arrow_here(&text[start..]);
        if let Some(arrow) = found {
            return Some((&text[..start], arrow, &text[start + length..]));
        }
        start += length.max(c.len_utf8());
    }
    None
}

/// The arrow that a text begins with, and the length of what was looked at.
pub(crate) fn arrow_here(text: &str) -> (Option<Arrow>, usize) {
    let Some(c) = text.chars().next() else {
        return (None, 0);
    };
    let single = match c {
        '→' | '⇒' | '➔' | '➜' | '⟶' | '►' => Some(Arrow::Right),
        '←' | '⇐' | '⟵' | '◄' => Some(Arrow::Left),
        '↔' | '⇔' | '⟷' | '⇄' | '⇆' => Some(Arrow::Both),
        '<' | '-' | '=' => None,
        _ => return (None, 0),
    };
    if single.is_some() {
        return (single, c.len_utf8());
    }
    let length = text.len() - text.trim_start_matches(['<', '>', '-', '=']).len();
    let shaft = &text[..length];
    let is_arrow = length >= 2 && !shaft.contains("><") && (shaft.contains(['-', '=']) || shaft == "<>");
    let arrow = match (shaft.starts_with('<'), shaft.ends_with('>')) {
        (true, true) => Some(Arrow::Both),
        (true, false) => Some(Arrow::Left),
        (false, true) => Some(Arrow::Right),
        (false, false) => None,
    };
    (arrow.filter(|_| is_arrow), length)
}

/// Whether a cell may be one of a column of ports.
pub(crate) fn may_hold_ports(text: &str) -> bool {
    words::is_any(text)
        || read(text).is_ok_and(|entries| entries.iter().any(|entry| !entry.ports.is_empty() || entry.is_any))
}

/// Whether a cell leaves no doubt that it holds ports: `443/tcp`, `TCP 443`, `TCP/443`.
pub(crate) fn is_explicit(text: &str) -> bool {
    read(text).is_ok_and(|entries| {
        !entries.is_empty() && entries.iter().all(|entry| !entry.ports.is_empty() && !entry.transports.is_empty())
    })
}

/// Bytes of a cell of ports.
const LONGEST: usize = 4096;

/// The entries of a cell; none when it is blank.
pub(crate) fn read(text: &str) -> Result<Vec<Entry>, String> {
    if text.len() > LONGEST {
        return Err("the cell is too long to be one of ports".to_owned());
    }
    if text.contains(GLUE) {
        return Err("digits are split by markup".to_owned());
    }
    let mut entries = Vec::new();
    for line in text.lines() {
        if !words::is_blank(line) {
            entries.append(&mut line_entries(line)?);
        }
    }
    // Without ports, an entry of "N/A (ICMP)" counts only when nothing else is there.
    if entries.iter().any(|entry| !entry.ports.is_empty() || entry.is_any) {
        entries.retain(|entry| !entry.ports.is_empty() || entry.is_any || entry.transports.iter().any(is_portless));
    }
    Ok(entries)
}

fn is_portless(transport: &Transport) -> bool {
    transport.protocol().is_some_and(|protocol| !protocol.has_ports())
}

fn line_entries(line: &str) -> Result<Vec<Entry>, String> {
    let tokens = tokens(line)?;
    let mut reader = LineReader::default();
    for (index, token) in tokens.iter().enumerate() {
        reader.token(token, &tokens[..index], &tokens[index + 1..]);
    }
    reader.finish(line)
}

#[derive(Default)]
struct LineReader {
    entries: Vec<Entry>,
    /// Ports before which no protocol stood.
    pending: Vec<Interval<u16>>,
    pending_any: bool,
    /// The protocol that stood before the ports.
    prefix: Option<Vec<Transport>>,
    words: Vec<String>,
    remarks: Vec<String>,
    arrow: Option<Arrow>,
}

impl LineReader {
    fn token(&mut self, token: &Token, before: &[Token], after: &[Token]) {
        match token {
            Token::Number(port) => self.ports(Interval::single(*port)),
            Token::Range(range) => self.ports(*range),
            Token::Above(port) => self.ports(Interval::new(*port, u16::MAX).unwrap_or(Interval::single(*port))),
            Token::Any => self.pending_any = true,
            Token::Transport(transports) => self.transports(transports, before, after),
            Token::Word(word) => self.words.push(word.clone()),
            Token::Remark(remark) => self.remarks.push(remark.clone()),
            Token::Arrow(arrow) => self.arrow = Some(*arrow),
            Token::Tie | Token::Separator => {}
        }
    }

    fn ports(&mut self, ports: Interval<u16>) {
        match self.prefix.clone() {
            Some(transports) => self.add(&transports, ports),
            None => self.pending.push(ports),
        }
    }

    fn add(&mut self, transports: &[Transport], ports: Interval<u16>) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.transports == transports) {
            entry.ports.push(ports);
        } else {
            let entry = Entry { transports: transports.to_vec(), ports: vec![ports], ..Entry::default() };
            self.entries.push(entry);
        }
    }

    fn transports(&mut self, transports: &[Transport], before: &[Token], after: &[Token]) {
        let last = before.iter().rev().find(|token| !matches!(token, Token::Word(_) | Token::Remark(_) | Token::Tie));
        let is_behind_port = matches!(last, Some(Token::Number(_) | Token::Range(_) | Token::Above(_)));
        let is_tied = is_behind_port && matches!(before.last(), Some(Token::Tie));
        if !self.pending.is_empty() && is_behind_port {
            for ports in std::mem::take(&mut self.pending) {
                self.add(transports, ports);
            }
            return;
        }
        // "TCP 80, 443/UDP": the tie is closer than the word in front.
        if is_tied
            && let Some(prefix) = &self.prefix
            && prefix != transports
            && let Some(entry) = self.entries.iter_mut().find(|entry| entry.transports == *prefix)
            && let Some(ports) = entry.ports.pop()
        {
            self.add(transports, ports);
            return;
        }
        // "80, 443, TCP": nothing follows that it could stand before.
        let is_last = !after.iter().any(|token| matches!(token, Token::Number(_) | Token::Range(_) | Token::Above(_)));
        if is_last && !self.pending.is_empty() {
            for ports in std::mem::take(&mut self.pending) {
                self.add(transports, ports);
            }
            return;
        }
        self.prefix = Some(transports.to_vec());
    }

    fn finish(mut self, line: &str) -> Result<Vec<Entry>, String> {
        let label = self.words.join(" ");
        let doubts = |words: &[&str]| self.words.iter().any(|word| words.contains(&word.to_lowercase().as_str()));
        if doubts(&["except", "excluding", "not", "without", "other", "others", "exclude", "remaining", "rest", "else"])
        {
            return Err("the ports are said by what they are not".to_owned());
        }
        if !self.pending.is_empty() {
            // "any of 80"? A word for all beside numbers is no longer all.
            self.pending_any = false;
            self.entries.push(Entry { ports: std::mem::take(&mut self.pending), ..Entry::default() });
        }
        self.entries.retain(|entry| !entry.ports.is_empty());
        if self.entries.is_empty() {
            if self.pending_any && self.words.len() <= 1 && !is_qualified(&self.words) {
                let transports = self.prefix.take().unwrap_or_default();
                self.entries.push(Entry { transports, is_any: true, ..Entry::default() });
            } else if let Some(prefix) = self.prefix.take().filter(|prefix| prefix.iter().any(is_portless)) {
                self.entries.push(Entry { transports: prefix, ..Entry::default() });
            } else if self.words.is_empty() && self.prefix.is_none() && self.remarks.is_empty() {
                return Ok(Vec::new());
            } else {
                return Err(format!("`{}` holds no port", line.trim()));
            }
        }
        let label = if is_label(&label) { label } else { String::new() };
        let words = if label.is_empty() { self.words.join(" ") } else { String::new() };
        let remark =
            [words].into_iter().chain(self.remarks).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
        for entry in &mut self.entries {
            entry.arrow = self.arrow;
            entry.label.clone_from(&label);
            entry.remark.clone_from(&remark);
        }
        // A protocol that stood alone behind ports of another, such as "ICMP" in "TCP 22, ICMP".
        if let Some(prefix) = self.prefix.filter(|prefix| prefix.iter().all(is_portless))
            && !self.entries.iter().any(|entry| entry.transports == prefix)
        {
            self.entries.push(Entry { transports: prefix, arrow: self.arrow, ..Entry::default() });
        }
        Ok(self.entries)
    }
}

/// "any above 1024", "all dynamic ports": not all ports.
fn is_qualified(words: &[String]) -> bool {
    const QUALIFIERS: [&str; 14] = [
        "above",
        "below",
        "dynamic",
        "ephemeral",
        "random",
        "configured",
        "high",
        "available",
        "free",
        "unused",
        "over",
        "under",
        "required",
        "listed",
    ];
    words.iter().any(|word| QUALIFIERS.contains(&word.to_lowercase().as_str()))
}

fn is_label(words: &str) -> bool {
    !words.is_empty() && words.split_whitespace().count() <= 3 && !words.ends_with('.')
}
