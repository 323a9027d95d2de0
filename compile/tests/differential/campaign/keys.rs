//! The keys of each set and map in the text are disjoint: the kernel takes overlapping intervals in
//! one order and refuses them in another, and which verdict holds would depend on it.

use std::net::IpAddr;

use ipnet::IpNet;
use ringwall_packet::Protocol;
use ringwall_ruleset::nftables::{Confirm, Generation, Installed, transaction};

use super::policies::case;
use super::random::Random;

/// Overlapping keys in the texts of random policies, and how many sets and maps were looked at.
pub fn overlaps(seeds: std::ops::Range<u64>, now: u64) -> (Vec<String>, usize) {
    let (mut overlaps, mut looked_at) = (Vec::new(), 0);
    for seed in seeds {
        let case = case(&mut Random::new(seed), now);
        for node in case.policy.nodes.keys() {
            let (ruleset, _) = ringwall_compile::compile(&case.policy, node.as_str()).expect("a node of the policy");
            let text = transaction(&ruleset, Generation(1), &Installed::default(), Confirm::Never);
            for (line, keys) in text.lines().flat_map(|line| braces(line).map(move |keys| (line, keys))) {
                looked_at += 1;
                let mut intervals: Vec<_> = keys.split(", ").map(interval).collect();
                intervals.sort_unstable();
                if intervals.windows(2).any(|pair| pair[1].0 <= pair[0].1) {
                    overlaps.push(format!("seed {seed}, {node}: {line}"));
                }
            }
        }
    }
    (overlaps, looked_at)
}

/// What stands between braces that hold keys, each time.
fn braces(line: &str) -> impl Iterator<Item = &str> {
    let is_statement = line.contains(" goto ") || line.contains(" accept") || line.contains(" return");
    let parts = line.split("{ ").skip(1).filter(move |_| is_statement);
    parts.filter_map(|part| Some(part.split_once(" }")?.0))
}

/// `80`, `80-90`, `tcp`, `192.0.2.0/24`, each with ` : goto CHAIN` behind it in a map.
fn interval(key: &str) -> (u128, u128) {
    let key = key.split(" : ").next().unwrap_or(key);
    if let Ok(prefix) = key.parse::<IpNet>() {
        return (bits(prefix.network()), bits(prefix.broadcast()));
    }
    let (first, last) = key.split_once('-').unwrap_or((key, key));
    (point(first), point(last))
}

fn point(text: &str) -> u128 {
    let number = text.parse().ok();
    let address = || text.parse::<IpAddr>().ok().map(bits);
    let protocol = || Protocol::named(text).map(|protocol| protocol.0.into());
    number.or_else(address).or_else(protocol).unwrap_or_else(|| panic!("`{text}` is no key"))
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}
