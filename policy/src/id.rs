//! A rule's id: the operator's `id:`, else 8 hex digits of SHA-256 over the rule's meaning, so that
//! counters, logs and differences follow a rule when the file is rearranged.

use std::fmt;

use ringwall_packet::{IntervalSet, UpperSet};
use sha2::{Digest, Sha256};

use crate::model::{Action, Name};

/// Compared as text; the smaller one wins where several rules match one flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(String);

impl RuleId {
    /// `None` unless it is a [`Name`] of at most 32 characters: it goes into nftables' names
    /// together with a generation, and into the prefix of logged packets. Nor may it be what
    /// stands in these places for the floor's management, for the default, or for a rule that only
    /// watches: two rules would share one chain.
    pub fn new(text: &str) -> Option<Self> {
        let is_taken = matches!(text, "management" | "default") || text.ends_with("_audit");
        (text.len() <= 32 && !is_taken).then(|| Name::new(text))?.map(|name| Self(name.as_str().to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of a rule that has none of its own: a digest of its [`rule_meaning`].
pub fn rule_id(
    action: Action,
    source: &str,
    destination: &str,
    both_ways: bool,
    upper: &UpperSet,
    via: Option<&Name>,
) -> RuleId {
    let digest = Sha256::digest(rule_meaning(action, source, destination, both_ways, upper, via).as_bytes());
    RuleId(digest[..4].iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What makes two rules equal, as text. Names of groups count, not their members, so that the id
/// stays when a group grows; the ends of `<->` count in either order.
pub fn rule_meaning(
    action: Action,
    source: &str,
    destination: &str,
    both_ways: bool,
    upper: &UpperSet,
    via: Option<&Name>,
) -> String {
    let (mut first, mut second) = (sorted_list(source), sorted_list(destination));
    if both_ways && second < first {
        std::mem::swap(&mut first, &mut second);
    }
    let mut cubes: Vec<String> = upper
        .cubes()
        .iter()
        .map(|cube| {
            let protocols: Vec<_> = cube.protocols().intervals().iter().map(|i| format!("{}-{}", i.first(), i.last())).collect();
            format!("{}/{}/{}", protocols.join(","), ports(cube.destination_ports()), ports(cube.source_ports()))
        })
        .collect();
    cubes.sort();
    cubes.dedup();
    let arrow = if both_ways { "<->" } else { "->" };
    let via = via.map_or("", Name::as_str);
    format!("{action} {first} {arrow} {second} : {} via {via}", cubes.join(" "))
}

fn sorted_list(end: &str) -> String {
    let mut names: Vec<_> = end.split(',').map(str::trim).collect();
    names.sort_unstable();
    names.join(",")
}

fn ports(ports: &IntervalSet<u16>) -> String {
    let intervals: Vec<_> = ports.intervals().iter().map(|i| format!("{}-{}", i.first(), i.last())).collect();
    intervals.join(",")
}
