//! Sets of addresses in the operator's words: groups, nodes, `any`, `internet`, `internal`; what has
//! no name as prefixes and ranges.
//!
//! In: a set, and which families of it count. Out: words that stand for exactly this set. Never: a
//! name for about the set.

use std::collections::BTreeSet;
use std::fmt;

use ringwall_packet::{Address, AddressSet, Family, Interval, IntervalSet};
use ringwall_policy::Policy;

/// One end of a line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct End {
    /// Names, then prefixes and ranges; their union, less `except`, is the set.
    pub words: Vec<String>,
    pub except: Vec<String>,
    pub addresses: AddressSet,
    /// How many of `words` and `except` are no names.
    unnamed: usize,
}

impl End {
    /// Whether names are enough to say it.
    pub fn is_named(&self) -> bool {
        self.unnamed == 0
    }

    /// With at most so many words, and how many more there are.
    pub fn short(&self, most: usize) -> String {
        match self.except[..] {
            [] => list(&self.words, most),
            _ => format!("{} except {}", list(&self.words, most), list(&self.except, most)),
        }
    }
}

/// At most so many of the words, and how many there are more.
pub(super) fn list(words: &[String], most: usize) -> String {
    match words.len() {
        many if many > most => format!("{} and {} more", words[..most].join(", "), many - most),
        _ => words.join(", "),
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short(usize::MAX))
    }
}

/// What a policy calls which addresses.
pub struct Names {
    /// For both families together, for IPv4 alone, for IPv6 alone; those that are to be preferred first.
    lists: [Vec<(String, AddressSet)>; 3],
}

impl Names {
    pub fn new(policy: &Policy) -> Self {
        let rules = policy.rules.iter().flat_map(|rule| [&rule.source, &rule.destination]);
        let ends = rules.chain(policy.management.iter().map(|management| &management.from));
        let used: BTreeSet<&str> = ends.flat_map(|end| end.text.split(',').map(str::trim)).collect();
        let mut all: Vec<(u8, String, AddressSet)> = vec![(1, "any".into(), AddressSet::full())];
        if let Some(internal) = &policy.internal {
            all.push((1, "internal".into(), internal.clone()));
            all.push((1, "internet".into(), Policy::internet(internal, &policy.node_addresses())));
        }
        let rank = |name: &str, rank: u8| if used.contains(name) { rank - 1 } else { rank };
        for (name, group) in &policy.groups {
            all.push((rank(name.as_str(), 2), name.to_string(), group.addresses.clone()));
        }
        for (name, node) in &policy.nodes {
            all.push((rank(name.as_str(), 3), name.to_string(), node.local()));
        }
        all.sort_by_key(|(rank, ..)| *rank);
        let of = |family: Option<Family>| {
            let sets = all.iter().map(|(_, name, set)| (name.clone(), only(set, family)));
            sets.filter(|(_, set)| !set.is_empty()).collect()
        };
        Self { lists: [of(None), of(Some(Family::V4)), of(Some(Family::V6))] }
    }

    fn list(&self, family: Option<Family>) -> &[(String, AddressSet)] {
        match family {
            None => &self.lists[0],
            Some(Family::V4) => &self.lists[1],
            Some(Family::V6) => &self.lists[2],
        }
    }

    /// The words for a set. With a family, only that family's addresses of each name count.
    pub fn end(&self, set: &AddressSet, family: Option<Family>) -> End {
        let set = only(set, family);
        let end = |words, except, unnamed| End { words, except, addresses: set.clone(), unnamed };
        let list = self.list(family);
        if let Some((name, _)) = list.iter().find(|(_, known)| *known == set) {
            return end(vec![name.clone()], Vec::new(), 0);
        }
        let (words, unnamed) = cover(list, &set);
        // A prefix says less than a name, so it counts twice.
        let cost = words.len() + unnamed;
        let beyond = list.iter().filter(|(_, known)| set.is_subset(known));
        let mut beyond: Vec<_> = beyond.collect();
        beyond.sort_by(|(_, a), (_, b)| size(a).total_cmp(&size(b)));
        let without = beyond.into_iter().take(EXCEPT_MAX).map(|(name, known)| (name, cover(list, &known.difference(&set))));
        let best = without.min_by_key(|(_, (except, unnamed))| except.len() + unnamed);
        match best {
            Some((name, (except, bare))) if 1 + except.len() + bare < cost => end(vec![name.clone()], except, bare),
            _ if unnamed == 0 => end(words, Vec::new(), 0),
            _ => match several_except_one(list, &set) {
                Some((names, except)) if names.len() + except.len() < cost => end(names, except, 0),
                _ => end(words, Vec::new(), unnamed),
            },
        }
    }

    /// Whether some of these words have addresses of a family.
    pub fn has(&self, words: &[String], family: Family) -> bool {
        words.iter().any(|word| self.list(Some(family)).iter().any(|(name, _)| name == word))
    }
}

/// So many names that hold a set are tried for `NAME except …`.
const EXCEPT_MAX: usize = 16;
/// With more names than this, one too many is left where it is.
const PRUNE_MAX: usize = 32;

/// Names whose union is the set with one more name that it has nothing of, and that name.
fn several_except_one(list: &[(String, AddressSet)], set: &AddressSet) -> Option<(Vec<String>, Vec<String>)> {
    let apart = list.iter().filter(|(_, known)| known.is_disjoint(set)).take(EXCEPT_MAX);
    let named = apart.filter_map(|(name, known)| {
        let (words, unnamed) = cover(list, &set.union(known));
        (unnamed == 0 && !words.contains(name)).then(|| (words, vec![name.clone()]))
    });
    named.min_by_key(|(words, _)| words.len())
}

fn only(set: &AddressSet, family: Option<Family>) -> AddressSet {
    match family {
        None => set.clone(),
        Some(Family::V4) => AddressSet { v4: set.v4.clone(), ..AddressSet::default() },
        Some(Family::V6) => AddressSet { v6: set.v6.clone(), ..AddressSet::default() },
    }
}

/// Names whose union is the set, then what they leave over, and how many parts that has.
fn cover(list: &[(String, AddressSet)], set: &AddressSet) -> (Vec<String>, usize) {
    if let Some((name, _)) = list.iter().find(|(_, known)| known == set) {
        return (vec![name.clone()], 0);
    }
    let mut inside: Vec<_> = list.iter().filter(|(_, known)| known.is_subset(set)).collect();
    inside.sort_by(|(_, a), (_, b)| size(b).total_cmp(&size(a)));
    let mut rest = set.clone();
    let mut taken: Vec<&(String, AddressSet)> = Vec::new();
    for name in inside {
        if rest.is_empty() {
            break;
        }
        if !name.1.is_disjoint(&rest) {
            rest = rest.difference(&name.1);
            taken.push(name);
        }
    }
    if taken.len() <= PRUNE_MAX {
        // A smaller one that came later may have made a larger one needless.
        for at in (0..taken.len()).rev() {
            let others: AddressSet = taken.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, (_, known))| known.clone()).collect();
            if taken[at].1.is_subset(&others) {
                taken.remove(at);
            }
        }
    }
    let mut words: Vec<String> = taken.into_iter().map(|(name, _)| name.clone()).collect();
    words.sort();
    let bare = texts(&rest);
    let unnamed = bare.len();
    words.extend(bare);
    (words, unnamed)
}

/// How much of all addresses a set is: exact enough to put larger before smaller.
fn size(set: &AddressSet) -> f64 {
    fn of<A: Address>(set: &IntervalSet<A>, all: f64) -> f64 {
        set.intervals().iter().map(|interval| (interval.last().bits() - interval.first().bits()) as f64 + 1.0).sum::<f64>() / all
    }
    of(&set.v4, 2f64.powi(32)) + of(&set.v6, 2f64.powi(128))
}

/// Each interval as an address, a prefix or a range, IPv4 first.
pub fn texts(set: &AddressSet) -> Vec<String> {
    let v4 = set.v4.intervals().iter().map(|interval| text(*interval));
    v4.chain(set.v6.intervals().iter().map(|interval| text(*interval))).collect()
}

fn text<A: Address + fmt::Display>(interval: Interval<A>) -> String {
    let (first, last) = (interval.first(), interval.last());
    let width = match A::FAMILY {
        Family::V4 => 32,
        Family::V6 => 128,
    };
    // A prefix ends where all bits after its length are set, and begins where none is.
    let host = first.bits() ^ last.bits();
    let is_prefix = host & host.wrapping_add(1) == 0 && first.bits() & host == 0;
    match (first == last, is_prefix) {
        (true, _) => first.to_string(),
        (_, true) => format!("{first}/{}", width - (u128::BITS - host.leading_zeros())),
        _ => format!("{first}-{last}"),
    }
}
