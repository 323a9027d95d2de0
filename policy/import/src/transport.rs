//! The transport of a service, and its ports as the transport has them.
//!
//! In: names and remarks, and what a cell of ports holds. Out: protocols, ports, ICMP types. Never: a
//! transport for a service that runs over several.

use crate::cell::Entry;
use crate::guide::{Ports, Transport};
use crate::words;
use ringwall_packet::Protocol;

/// The transport that all words of a service run over.
pub(crate) fn carrier(label: &str) -> Option<Protocol> {
    let mut carriers =
        label.split(|c: char| !c.is_alphanumeric() && c != '-').filter(|word| !word.is_empty()).map(words::carrier);
    let first = carriers.next()??;
    carriers.all(|carrier| carrier == Some(first)).then_some(first)
}

/// The only transport that a text names, or both in "TCP and UDP".
pub(crate) fn stated_in(text: &str) -> Option<Vec<Protocol>> {
    let words: Vec<String> =
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect();
    let has = |name: &str| words.iter().any(|word| word == name);
    let together = words.windows(3).any(
        |three| matches!(three, [a, and, b] if and == "and" && (a == "tcp" && b == "udp" || a == "udp" && b == "tcp")),
    );
    match (has("tcp"), has("udp")) {
        (true, false) => Some(vec![Protocol::TCP]),
        (false, true) => Some(vec![Protocol::UDP]),
        (true, true) if together => Some(vec![Protocol::TCP, Protocol::UDP]),
        _ => None,
    }
}

/// The ports of an entry as its protocol has them.
pub(crate) fn ports_of(transport: Transport, entry: &Entry, text: &str) -> Ports {
    let Some(protocol) = transport.protocol() else {
        return entry.ports();
    };
    if protocol.is_icmp() {
        return icmp_types(entry, text);
    }
    if !protocol.has_ports() {
        return Ports::Unstated;
    }
    entry.ports()
}

/// "0, 8 *", "type 8 code 0", "echo request".
fn icmp_types(entry: &Entry, text: &str) -> Ports {
    let lower = text.to_lowercase();
    if let Some((_, after)) = lower.split_once("type") {
        let types: Vec<u8> = after
            .split("code")
            .next()
            .unwrap_or("")
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|number| number.parse().ok())
            .collect();
        if !types.is_empty() {
            return Ports::Types(types.into());
        }
    }
    if lower.contains("echo") {
        let mut types = Vec::new();
        types.extend(lower.contains("reply").then_some(0));
        types.extend((lower.contains("request") || types.is_empty()).then_some(8));
        return Ports::Types(types.into());
    }
    // "8/0" is a type and its code.
    if let Some((kind, code)) = lower.trim_start_matches(|c: char| !c.is_ascii_digit()).split_once('/')
        && let (Ok(kind), Ok(_)) = (kind.trim().parse::<u8>(), code.trim().parse::<u8>())
    {
        return Ports::Types([kind].into());
    }
    let types: Vec<u8> = entry
        .ports
        .iter()
        .filter_map(|interval| u8::try_from(interval.last()).ok().filter(|_| interval.is_single()))
        .collect();
    if types.is_empty() || types.len() < entry.ports.len() { Ports::Unstated } else { Ports::Types(types.into()) }
}
