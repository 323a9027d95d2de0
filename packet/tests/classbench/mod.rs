//! Lists of rules in ClassBench's format (Taylor and Turner, INFOCOM 2005).
//!
//! In: lines `@SRC/LEN  DST/LEN  SPORT_LO : SPORT_HI  DPORT_LO : DPORT_HI  PROTO/MASK  FLAGS/MASK`, apart by
//! tabs. Out: one box each. Never: the flags, which nothing here asks for.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use ringwall_packet::{Cube, Interval, IntervalSet, Matches, UpperCube};

/// The lists that are measured with, beside the repository; `None` where they are not.
pub fn folder() -> Option<PathBuf> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/bench/classbench"));
    folder.is_dir().then_some(folder)
}

/// The error is the number of the line, and what it should have.
pub fn rows(text: &str) -> Result<Vec<Matches<Ipv4Addr>>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(at, line)| row(line).map_err(|lacking| format!("line {}: {lacking}", at + 1))).collect()
}

fn row(line: &str) -> Result<Matches<Ipv4Addr>, &'static str> {
    let mut fields = line.strip_prefix('@').ok_or("no `@`")?.split('\t');
    let mut field = || fields.next().ok_or("fewer than five fields");
    let source = prefix(field()?).ok_or("no source prefix")?;
    let destination = prefix(field()?).ok_or("no destination prefix")?;
    let from = ports(field()?).ok_or("no source ports")?;
    let to = ports(field()?).ok_or("no destination ports")?;
    let protocols = protocols(field()?).ok_or("no protocol and mask")?;
    let upper = UpperCube::new(protocols, to, from).ok_or("ports of a protocol without")?;
    Ok(Cube { source, destination, upper }.into())
}

fn prefix(text: &str) -> Option<IntervalSet<Ipv4Addr>> {
    let (address, length) = text.split_once('/')?;
    let (address, length) = (address.parse::<Ipv4Addr>().ok()?.to_bits(), length.parse::<u32>().ok()?);
    let host = u32::MAX.checked_shr(length).unwrap_or(0);
    let interval = Interval::new(Ipv4Addr::from_bits(address & !host), Ipv4Addr::from_bits(address | host))?;
    (length <= 32).then_some(interval.into())
}

fn ports(text: &str) -> Option<IntervalSet<u16>> {
    let (first, last) = text.split_once(':')?;
    Some(Interval::new(first.trim().parse().ok()?, last.trim().parse().ok()?)?.into())
}

fn protocols(text: &str) -> Option<IntervalSet<u8>> {
    let (number, mask) = text.split_once('/')?;
    let number = u8::from_str_radix(number.strip_prefix("0x")?, 16).ok()?;
    match mask {
        "0xFF" => Some(IntervalSet::single(number)),
        "0x00" => Some(IntervalSet::full()),
        _ => None,
    }
}
