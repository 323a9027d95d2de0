//! ICMP types and codes by the names that iptables knows (RFC 792, RFC 950, RFC 1812, RFC 4443, RFC 4861).

use ringwall_packet::{Family, Interval, IntervalSet};

/// Type and codes, in the coordinates of [`ringwall_packet::UpperCube`]. `8`, `3/1`, `3/1-5`, a name.
pub(super) fn types(text: &str, family: Family) -> Option<IntervalSet<u16>> {
    let known = match family {
        Family::V4 => V4,
        Family::V6 => V6,
    };
    let lower = text.to_ascii_lowercase();
    let named = known.iter().find(|(name, ..)| *name == lower).map(|(_, kind, code)| (*kind, *code));
    let (kind, codes) = match (named, lower.split_once('/')) {
        // iptables keeps 255 for "any", whatever the code.
        _ if family == Family::V4 && (lower == "any" || lower == "255" || lower.starts_with("255/")) => return Some(IntervalSet::full()),
        (Some((kind, Some(code))), _) => (kind, (code, code)),
        (Some((kind, None)), _) => (kind, (0, 255)),
        (None, None) => (lower.parse().ok()?, (0, 255)),
        (None, Some((kind, codes))) => {
            let (first, last) = codes.split_once(['-', ':']).unwrap_or((codes, codes));
            (kind.parse().ok()?, (first.parse().ok()?, last.parse().ok()?))
        }
    };
    let at = |code| u16::from_be_bytes([kind, code]);
    Some(Interval::new(at(codes.0), at(codes.1))?.into())
}

type Names = &'static [(&'static str, u8, Option<u8>)];

const V4: Names = &[
    ("echo-reply", 0, None), ("pong", 0, None), ("destination-unreachable", 3, None), ("network-unreachable", 3, Some(0)),
    ("host-unreachable", 3, Some(1)), ("protocol-unreachable", 3, Some(2)), ("port-unreachable", 3, Some(3)),
    ("fragmentation-needed", 3, Some(4)), ("source-route-failed", 3, Some(5)), ("network-unknown", 3, Some(6)),
    ("host-unknown", 3, Some(7)), ("network-prohibited", 3, Some(9)), ("host-prohibited", 3, Some(10)),
    ("tos-network-unreachable", 3, Some(11)), ("tos-host-unreachable", 3, Some(12)), ("communication-prohibited", 3, Some(13)),
    ("host-precedence-violation", 3, Some(14)), ("precedence-cutoff", 3, Some(15)), ("source-quench", 4, None),
    ("redirect", 5, None), ("network-redirect", 5, Some(0)), ("host-redirect", 5, Some(1)),
    ("tos-network-redirect", 5, Some(2)), ("tos-host-redirect", 5, Some(3)), ("echo-request", 8, None), ("ping", 8, None),
    ("router-advertisement", 9, None), ("router-solicitation", 10, None), ("time-exceeded", 11, None),
    ("ttl-exceeded", 11, None), ("ttl-zero-during-transit", 11, Some(0)), ("ttl-zero-during-reassembly", 11, Some(1)),
    ("parameter-problem", 12, None), ("ip-header-bad", 12, Some(0)), ("required-option-missing", 12, Some(1)),
    ("timestamp-request", 13, None), ("timestamp-reply", 14, None), ("address-mask-request", 17, None),
    ("address-mask-reply", 18, None),
];

const V6: Names = &[
    ("destination-unreachable", 1, None), ("no-route", 1, Some(0)), ("communication-prohibited", 1, Some(1)),
    ("beyond-scope", 1, Some(2)), ("address-unreachable", 1, Some(3)), ("port-unreachable", 1, Some(4)),
    ("failed-policy", 1, Some(5)), ("reject-route", 1, Some(6)), ("packet-too-big", 2, None), ("time-exceeded", 3, None),
    ("ttl-exceeded", 3, None), ("ttl-zero-during-transit", 3, Some(0)), ("ttl-zero-during-reassembly", 3, Some(1)),
    ("parameter-problem", 4, None), ("bad-header", 4, Some(0)), ("unknown-header-type", 4, Some(1)),
    ("unknown-option", 4, Some(2)), ("echo-request", 128, None), ("ping", 128, None), ("echo-reply", 129, None),
    ("pong", 129, None), ("router-solicitation", 133, None), ("router-advertisement", 134, None),
    ("neighbour-solicitation", 135, None), ("neighbor-solicitation", 135, None), ("neighbour-advertisement", 136, None),
    ("neighbor-advertisement", 136, None), ("redirect", 137, None), ("mld-listener-query", 130, None),
    ("mld-listener-report", 131, None), ("mld-listener-done", 132, None),
];
