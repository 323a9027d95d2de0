//! Whether what a node gets next takes something away from what it has.
//!
//! In: two rulesets of one node. Out: yes or no, for the order in which nodes of a changed membership get theirs:
//! who only gains comes first. Never: a proof; a "yes" too many only makes a node wait for the others.

use ringwall_packet::{UpperCube, UpperSet};
use ringwall_ruleset::{Effect, Entry, Forward, Ruleset};

pub fn narrows(before: &Ruleset, after: &Ruleset) -> bool {
    let path = |before: &[Entry], after: &[Entry]| {
        let lost = |of: &[Entry], to: &[Entry], is_accept: bool| {
            let counts = |entry: &&Entry| !entry.audit && matches!(entry.effect, Effect::Accept { .. }) == is_accept;
            let to: Vec<&Entry> = to.iter().filter(counts).collect();
            of.iter().filter(counts).any(|entry| !is_kept(entry, &to))
        };
        lost(before, after, true) || lost(after, before, false)
    };
    let forward = match (&before.forward, &after.forward) {
        (Forward::Routed(before), Forward::Routed(after)) => path(before, after),
        (before, after) => before != after,
    };
    let becomes_enforced = before.audit && !after.audit;
    becomes_enforced || forward || path(&before.input, &after.input) || path(&before.output, &after.output)
}

/// One entry takes all that this one takes; most have their own in the same place.
fn is_kept(entry: &Entry, all: &[&Entry]) -> bool {
    let by_id = all.iter().filter(|other| other.id == entry.id);
    by_id.chain(all).any(|other| {
        let same = other.interface == entry.interface && other.expires == entry.expires && entry.names.is_subset(&other.names);
        same && entry.source.is_subset(&other.source)
            && (!entry.names.is_empty() || entry.destination.is_subset(&other.destination))
            && is_within(&entry.upper, &other.upper)
    })
}

fn is_within(a: &UpperSet, b: &UpperSet) -> bool {
    a.cubes().iter().all(|cube: &UpperCube| b.cubes().iter().any(|other| cube.is_subset(other)))
}
