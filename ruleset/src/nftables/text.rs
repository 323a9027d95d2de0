//! Matches and keys in nftables' words.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Subnets, Ipv6Subnets};
use ringwall_packet::{AddressSet, Family, IntervalSet};

use super::layout::Field;

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

/// One key of a set or map: a value, a prefix or a range.
pub(super) fn key(field: Field, family: Family, first: u128, last: u128) -> String {
    match (field, family) {
        (Field::Source | Field::Destination, Family::V4) => {
            let address = |bits: u128| Ipv4Addr::from_bits(u32::try_from(bits).expect("an IPv4 coordinate"));
            let (first, last) = (address(first), address(last));
            let mut prefixes = Ipv4Subnets::new(first, last, 0);
            match (prefixes.next(), prefixes.next()) {
                (Some(prefix), None) if prefix.prefix_len() == 32 => first.to_string(),
                (Some(prefix), None) => prefix.to_string(),
                _ => format!("{first}-{last}"),
            }
        }
        (Field::Source | Field::Destination, Family::V6) => {
            let (first, last) = (Ipv6Addr::from_bits(first), Ipv6Addr::from_bits(last));
            let mut prefixes = Ipv6Subnets::new(first, last, 0);
            match (prefixes.next(), prefixes.next()) {
                (Some(prefix), None) if prefix.prefix_len() == 128 => first.to_string(),
                (Some(prefix), None) => prefix.to_string(),
                _ => format!("{first}-{last}"),
            }
        }
        (Field::Protocol, _) if first == last => protocol(first),
        (Field::Protocol | Field::Port, _) if first == last => first.to_string(),
        (Field::Protocol | Field::Port, _) => format!("{first}-{last}"),
    }
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
            .map(|i| key(Field::Source, family, i.first().to_bits().into(), i.last().to_bits().into()))
            .collect(),
        Family::V6 => set_of
            .v6
            .intervals()
            .iter()
            .map(|i| key(Field::Source, family, i.first().to_bits(), i.last().to_bits()))
            .collect(),
    };
    Some(set(&keys))
}

pub(super) fn ports(ports: &IntervalSet<u16>) -> String {
    let keys: Vec<String> = ports
        .intervals()
        .iter()
        .map(|i| key(Field::Port, Family::V4, i.first().into(), i.last().into()))
        .collect();
    set(&keys)
}
