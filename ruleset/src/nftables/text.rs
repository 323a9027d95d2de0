//! Matches and keys in nftables' words.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use ringwall_packet::{AddressSet, Family, IntervalSet};

use super::layout::Lookup;

/// The address expression's protocol: `ip` or `ip6`.
pub(super) fn ip(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

/// `4` or `6`, as it stands in the names of our sets and chains.
pub(super) fn digit(family: Family) -> char {
    match family {
        Family::V4 => '4',
        Family::V6 => '6',
    }
}

pub(super) fn nfproto(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

/// Protocols that nft knows by keyword, without `/etc/protocols`.
pub(super) fn protocol(number: u128) -> String {
    match number {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        33 => "dccp".into(),
        50 => "esp".into(),
        51 => "ah".into(),
        58 => "icmpv6".into(),
        132 => "sctp".into(),
        136 => "udplite".into(),
        other => other.to_string(),
    }
}

/// What stands before the keys that are looked up.
pub(super) fn expression(lookup: Lookup, family: Family) -> &'static str {
    match (lookup, family) {
        (Lookup::SourceAddress, Family::V4) => "ip saddr",
        (Lookup::SourceAddress, Family::V6) => "ip6 saddr",
        (Lookup::DestinationAddress, Family::V4) => "ip daddr",
        (Lookup::DestinationAddress, Family::V6) => "ip6 daddr",
        (Lookup::OriginalDestination, Family::V4) => "ct original ip daddr",
        (Lookup::OriginalDestination, Family::V6) => "ct original ip6 daddr",
        (Lookup::Protocol, _) => "meta l4proto",
        (Lookup::SourcePort, _) => "th sport",
        (Lookup::DestinationPort, _) => "th dport",
        (Lookup::OriginalPort, _) => "ct original proto-dst",
        // Type and code are the first two bytes of both headers (RFC 792, RFC 4443 §2.1).
        (Lookup::Icmp, _) => "@th,0,16",
    }
}

/// One key of a set or map: a value, a prefix or a range.
pub(super) fn key(lookup: Lookup, family: Family, first: u128, last: u128) -> String {
    let mut text = String::new();
    write_key(&mut text, lookup, family, first, last);
    text
}

/// Appends one key.
pub(super) fn write_key(text: &mut String, lookup: Lookup, family: Family, first: u128, last: u128) {
    use Lookup::{DestinationAddress, OriginalDestination, Protocol, SourceAddress};
    let written = match (lookup, family) {
        (SourceAddress | DestinationAddress | OriginalDestination, Family::V4) => {
            let address = |bits: u128| Ipv4Addr::from_bits(u32::try_from(bits).expect("an IPv4 coordinate"));
            match prefix_length(first, last, 32) {
                Some(32) => write!(text, "{}", address(first)),
                Some(length) => write!(text, "{}/{length}", address(first)),
                None => write!(text, "{}-{}", address(first), address(last)),
            }
        }
        (SourceAddress | DestinationAddress | OriginalDestination, Family::V6) => {
            let address = Ipv6Addr::from_bits;
            match prefix_length(first, last, 128) {
                Some(128) => write!(text, "{}", address(first)),
                Some(length) => write!(text, "{}/{length}", address(first)),
                None => write!(text, "{}-{}", address(first), address(last)),
            }
        }
        (Protocol, _) if first == last => text.write_str(&protocol(first)),
        (_, _) if first == last => write!(text, "{first}"),
        (_, _) => write!(text, "{first}-{last}"),
    };
    written.expect("a string takes all text");
}

/// The length of the prefix that a range of addresses of `bits` bits is, if it is one.
fn prefix_length(first: u128, last: u128, bits: u32) -> Option<u32> {
    let host = first ^ last;
    let is_prefix = host & host.wrapping_add(1) == 0 && first & host == 0;
    is_prefix.then(|| bits - host.count_ones())
}

/// One value as it is, several in braces.
pub(super) fn set(keys: &[String]) -> String {
    match keys {
        [only] => only.clone(),
        many => format!("{{ {} }}", many.join(", ")),
    }
}

/// The addresses of one family; `None` when it is all of them.
pub(super) fn addresses(set_of: &AddressSet, family: Family) -> Option<String> {
    let keys: Vec<String> = match family {
        Family::V4 if set_of.v4.is_full() => return None,
        Family::V6 if set_of.v6.is_full() => return None,
        Family::V4 => set_of
            .v4
            .intervals()
            .iter()
            .map(|i| key(Lookup::SourceAddress, family, i.first().to_bits().into(), i.last().to_bits().into()))
            .collect(),
        Family::V6 => set_of
            .v6
            .intervals()
            .iter()
            .map(|i| key(Lookup::SourceAddress, family, i.first().to_bits(), i.last().to_bits()))
            .collect(),
    };
    Some(set(&keys))
}

pub(super) fn ports(ports: &IntervalSet<u16>) -> String {
    let keys: Vec<String> = ports
        .intervals()
        .iter()
        .map(|i| key(Lookup::DestinationPort, Family::V4, i.first().into(), i.last().into()))
        .collect();
    set(&keys)
}
