//! An item of a list → its ports.
//!
//! In: the item's text. Out: [`Item`], its ports and what it says about them. Never: a number that is not
//! announced as a port and bears no protocol.

use crate::cell::{self, Entry};
use crate::document::one_line;
use crate::guide::Transport;
use crate::words;

pub(crate) struct Item {
    pub entries: Vec<Entry>,
    pub label: String,
    pub note: String,
}

/// Bytes of an item that may be one of ports.
const LONGEST: usize = 400;

/// `443/tcp: HTTPS from users`, `4369 (peer discovery)`, `SSH: TCP 22`, `Web page: 8006 (TCP, for users)`.
/// Without a protocol, only a list that is announced as one of ports counts.
pub(crate) fn read(text: &str, is_announced: bool) -> Option<Item> {
    let text = one_line(text);
    if text.len() > LONGEST {
        return None;
    }
    let pieces = pieces(&text);
    for (index, piece) in pieces.iter().enumerate() {
        let Some(mut entries) = ports(piece, index == 0, is_announced) else {
            continue;
        };
        // "8006 (TCP, for users)"
        let mut rest = &pieces[index + 1..];
        let mut remark = String::new();
        if let [next, behind @ ..] = rest
            && entries.iter().all(|entry| entry.transports.is_empty())
            && let Some((transports, said)) = protocols(next)
        {
            entries.iter_mut().for_each(|entry| entry.transports.clone_from(&transports));
            remark = said;
            rest = behind;
        }
        if !is_announced && entries.iter().any(|entry| entry.transports.is_empty()) {
            continue;
        }
        let before = pieces[..index].join("; ");
        let own = entries[0].label.clone();
        let said: Vec<&str> = [remark.as_str(), entries[0].remark.as_str()]
            .into_iter()
            .chain(rest.iter().copied())
            .filter(|text| !text.is_empty())
            .collect();
        let said = said.join("; ");
        let is_name = said.split_whitespace().count() <= 3;
        let (label, note) = match (before.is_empty(), own.is_empty()) {
            (false, true) => (before, said),
            (false, false) => (before, format!("{own}; {said}").trim_end_matches("; ").to_owned()),
            (true, true) if is_name => (said, String::new()),
            (true, _) => (own, said),
        };
        return Some(Item { entries, label, note });
    }
    None
}

/// The protocols and the name that an item such as "TCP ports:", "RTP UDP" or "SSH" gives to those inside it.
pub(crate) fn heads_items(text: &str) -> Option<(Vec<Transport>, String)> {
    let text = one_line(text);
    let words: Vec<&str> =
        text.split(|c: char| !c.is_alphanumeric() && c != '-').filter(|word| !word.is_empty()).collect();
    let known: Vec<_> = words.iter().filter_map(|word| words::protocol(word)).map(Transport::Is).collect();
    let is_rest = |word: &str| matches!(word, "port" | "ports" | "and" | "the" | "following" | "inbound" | "outbound");
    let name: Vec<&str> = words
        .iter()
        .copied()
        .filter(|word| words::protocol(word).is_none() && !is_rest(&word.to_lowercase()))
        .collect();
    let is_application = !name.is_empty() && name.iter().all(|word| words::carrier(word).is_some());
    let is_head = words.len() <= 4 && (!known.is_empty() && name.len() <= 2 || is_application);
    is_head.then(|| (known, name.join(" ")))
}

/// An item cut at its colons, dashes, arrows, parentheses and sentences.
fn pieces(text: &str) -> Vec<&str> {
    const CUTS: [&str; 10] = [": ", " - ", " – ", " — ", " => ", " -> ", " = ", " (", ") ", ". "];
    let mut pieces = Vec::new();
    let mut rest = text;
    loop {
        let cut = CUTS.iter().filter_map(|cut| rest.find(cut).map(|at| (at, cut.len()))).min();
        let Some((at, length)) = cut else {
            break;
        };
        pieces.push(&rest[..at]);
        rest = &rest[at + length..];
    }
    pieces.push(rest);
    let trim = |piece: &str| -> usize { piece.len() - piece.trim_end_matches([')', ':', '.', ' ']).len() };
    pieces
        .into_iter()
        .map(|piece| &piece[..piece.len() - trim(piece)])
        .map(|piece| piece.trim_start_matches([')', ':', '-', ' ', '–', '(']))
        .filter(|piece| !piece.is_empty())
        .collect()
}

/// The ports of a piece that begins with them.
fn ports(piece: &str, is_first: bool, is_announced: bool) -> Option<Vec<Entry>> {
    let first = piece.split([' ', '/', ',', ':', '-', '–']).next().unwrap_or("");
    let is_number = first.chars().all(|c| c.is_ascii_digit()) && !first.is_empty();
    let is_word = matches!(&*first.to_lowercase(), "port" | "ports" | "default" | "allow" | "open" | "permit");
    let is_protocol = words::protocol(first).is_some();
    // "5 minutes", "443 is old"
    if !(is_number || is_word || is_protocol) || is_number && !is_first && piece.split_whitespace().count() > 6 {
        return None;
    }
    let entries = cell::read(piece).ok().filter(|entries| !entries.is_empty())?;
    let portless =
        |entry: &Entry| is_protocol && is_announced && entry.ports.is_empty() && piece.split_whitespace().count() == 1;
    entries.iter().all(|entry| !entry.ports.is_empty() || portless(entry)).then_some(entries)
}

/// The protocols that a piece begins with, and what follows them.
fn protocols(piece: &str) -> Option<(Vec<Transport>, String)> {
    let mut found = Vec::new();
    let mut rest = piece;
    loop {
        let trimmed = rest.trim_start_matches([',', '/', ' ', '&']);
        let trimmed = trimmed.strip_prefix("and ").unwrap_or(trimmed);
        let word = trimmed.split(|c: char| !c.is_alphanumeric()).next().unwrap_or("");
        match words::protocol(word) {
            Some(protocol) => found.push(Transport::Is(protocol)),
            None => break,
        }
        rest = &trimmed[word.len()..];
    }
    let said = rest.trim_start_matches([',', ';', ' ', '/']).trim();
    let said = if said.eq_ignore_ascii_case("only") { "" } else { said };
    (!found.is_empty()).then(|| (found, said.to_owned()))
}
