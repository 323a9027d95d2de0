//! The table of block lists: which sets it has, what their elements mean, and how packets are asked.
//!
//! In: nothing. Out: its text, which is the same for every node and generation, and the numbers that
//! whoever fills the sets has to keep to. Never: an element; the sets are filled at run time.
//!
//! A prefix is one element of a hash set: its first bits, then a one, then zeros. So 192.0.2.0/24 is
//! 192.0.2.128, and no two prefixes are the same element. A packet's address is looked up once for
//! each length that a prefix may have, cut and marked in the same way. Adding one takes
//! microseconds however many there are, each has its own timeout, and overlaps are no matter, where
//! an interval set takes milliseconds and has to be kept disjoint. So that most packets are not asked for
//! every length, a set of covers is asked first: it has each /16 (/32 and /64 in IPv6) in which there is
//! any prefix.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use ringwall_packet::Family;

use super::{LOG_GROUP, text};

/// The table of block lists, apart and earlier: listing a table takes time quadratic in its elements.
pub const BLOCKS_TABLE: &str = "ringwall_blocks";

/// Its chains, of which none changes at run time.
pub const CHAINS: [&str; 9] =
    ["blocked", "prerouting", "output", "saddr4", "daddr4", "saddr6", "daddr6", "saddr6_long", "daddr6_long"];

/// The most single addresses of one family, and the most prefixes.
pub const MOST_ELEMENTS: u32 = 2_097_152;
/// The most covers of one family.
pub const MOST_COVERS: u32 = 1_048_576;

/// The set of single addresses.
pub fn addresses(family: Family) -> &'static str {
    match family {
        Family::V4 => "block4",
        Family::V6 => "block6",
    }
}

/// The set of prefixes.
pub fn prefixes(family: Family) -> &'static str {
    match family {
        Family::V4 => "block4_prefixes",
        Family::V6 => "block6_prefixes",
    }
}

/// The set of covers.
pub fn covers(family: Family) -> &'static str {
    match family {
        Family::V4 => "block4_covers",
        Family::V6 => "block6_covers",
    }
}

/// The lengths that prefixes in the set have. One of another length is there as all of the next length
/// that it contains; past the last of these, as single addresses.
pub fn lengths(family: Family) -> impl Iterator<Item = u8> + Clone {
    match family {
        Family::V4 => (8..32).step_by(2),
        Family::V6 => (20..128).step_by(4),
    }
}

/// The lengths of covers, shortest first. A prefix is found only where each of these that is asked before
/// its own length holds: the first for all of them, others for those that are longer.
pub fn cover_lengths(family: Family) -> &'static [u8] {
    match family {
        Family::V4 => &[16],
        Family::V6 => &[32, 64],
    }
}

macro_rules! line {
    ($text:expr, $($argument:tt)*) => {
        writeln!($text, $($argument)*).expect("a string takes all text")
    };
}

/// The table as text. Its chains are stated again by each transaction, so emptied first; what is in the sets stays.
pub fn skeleton() -> String {
    let mut text = format!("table inet {BLOCKS_TABLE} {{\n");
    for family in Family::ALL {
        let digit = text::digit(family);
        let address = format!("ipv{digit}_addr");
        line!(text, "\tset protected{digit} {{\n\t\ttype {address}\n\t\tflags interval\n\t}}");
        for (set, size) in [(addresses(family), MOST_ELEMENTS), (prefixes(family), MOST_ELEMENTS), (covers(family), MOST_COVERS)] {
            line!(text, "\tset {set} {{\n\t\ttype {address}\n\t\tsize {size}\n\t\tflags timeout\n\t}}");
        }
    }
    line!(text, "\tcounter blocked {{ }}");
    for chain in CHAINS {
        match chain {
            "prerouting" | "output" => {
                line!(text, "\tchain {chain} {{\n\t\ttype filter hook {chain} priority raw; policy accept;\n\t}}");
            }
            _ => line!(text, "\tchain {chain} {{ }}"),
        }
    }
    line!(text, "}}");
    for chain in CHAINS {
        line!(text, "flush chain inet {BLOCKS_TABLE} {chain}");
    }
    let rule = format!("add rule inet {BLOCKS_TABLE}");
    let sample = format!("limit rate 100/second burst 200 packets log prefix \"ringwall blocked\" group {LOG_GROUP}");
    line!(text, "{rule} blocked {sample}");
    line!(text, "{rule} blocked counter name \"blocked\" drop");
    for (chain, loopback, field) in [("prerouting", "iif", "saddr"), ("output", "oif", "daddr")] {
        line!(text, "{rule} {chain} {loopback} \"lo\" accept");
        for family in Family::ALL {
            let (ip, digit) = (text::ip(family), text::digit(family));
            line!(text, "{rule} {chain} {ip} {field} @protected{digit} accept");
            line!(text, "{rule} {chain} {ip} {field} @{} goto blocked", addresses(family));
        }
        for family in Family::ALL {
            let digit = text::digit(family);
            let mut from = chain.to_owned();
            let mut lengths = lengths(family).peekable();
            let tiers = cover_lengths(family);
            for (tier, cover) in tiers.iter().enumerate() {
                let to = if tier == 0 { format!("{field}{digit}") } else { format!("{field}{digit}_long") };
                line!(text, "{rule} {from} {} @{} jump {to}", cut(family, field, *cover), covers(family));
                while let Some(length) = lengths.next_if(|length| tiers.get(tier + 1).is_none_or(|next| length <= next)) {
                    line!(text, "{rule} {to} {} @{} goto blocked", cut(family, field, length), prefixes(family));
                }
                from = to;
            }
        }
    }
    text
}

/// The element that a prefix is: its first bits, then a one.
pub fn mark4(first: u32, length: u8) -> u32 {
    first | 1u32 << (31 - length)
}

/// The element that a prefix is: its first bits, then a one.
pub fn mark6(first: u128, length: u8) -> u128 {
    first | 1u128 << (127 - length)
}

/// A packet's address as the prefix of that length around it.
fn cut(family: Family, field: &str, length: u8) -> String {
    let ip = text::ip(family);
    match family {
        Family::V4 => {
            let (mask, mark) = (u32::MAX << (32 - length), mark4(0, length));
            format!("{ip} {field} and {} or {}", Ipv4Addr::from_bits(mask), Ipv4Addr::from_bits(mark))
        }
        Family::V6 => {
            let (mask, mark) = (u128::MAX << (128 - length), mark6(0, length));
            format!("{ip} {field} and {} or {}", Ipv6Addr::from_bits(mask), Ipv6Addr::from_bits(mark))
        }
    }
}
