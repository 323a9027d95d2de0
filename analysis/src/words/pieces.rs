//! Boxes of packets of one family in as few products of addresses and services as are easily found.
//!
//! In: disjoint boxes, and the boxes that the operator's own rules are. Out: products whose union is
//! the same set: first the rules that are whole in it, then what is left, put together.

use std::collections::btree_map::{BTreeMap, Entry};
use std::collections::BTreeSet;

use ringwall_packet::{Address, Budget, Conditions, Cover, Cube, IntervalSet, Matches, cover};

use super::services::Services;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Piece<A> {
    pub source: IntervalSet<A>,
    pub destination: IntervalSet<A>,
    pub services: Services,
    pub conditions: Conditions,
    /// The tags of the boxes that have a part in it.
    pub tags: BTreeSet<usize>,
}

/// So many boxes are looked at to see whether a rule is whole in the set. If that is not enough, what
/// there is of it is said without its help.
const STEPS: u64 = 100_000;

/// `tags` go with the boxes; those without any have none.
pub fn pieces<A: Address>(packets: &[Matches<A>], tags: &[usize], rows: &[Matches<A>]) -> Vec<Piece<A>> {
    let tag = |at: usize| tags.get(at).copied();
    let mut rest: Vec<(Matches<A>, Option<usize>)> = packets.iter().cloned().enumerate().map(|(at, packets)| (packets, tag(at))).collect();
    let mut whole = Vec::new();
    for row in rows {
        let near: Vec<(usize, &Matches<A>)> =
            packets.iter().enumerate().filter(|(_, packets)| packets.intersection(row).is_some()).collect();
        let by: Vec<&Matches<A>> = near.iter().map(|(_, packets)| *packets).collect();
        if near.is_empty() || !matches!(cover(row, &by, &mut Budget::new(STEPS)), Ok(Cover::By(_))) {
            continue;
        }
        whole.push(piece(row, near.iter().filter_map(|(at, _)| tag(*at)).collect()));
        let without = |(packets, tag): &(Matches<A>, Option<usize>)| {
            let tag = *tag;
            packets.difference(row).into_iter().map(move |packets| (packets, tag))
        };
        rest = rest.iter().flat_map(without).collect();
    }
    let mut rest: Vec<Piece<A>> = rest.iter().map(|(packets, tag)| piece(packets, tag.iter().copied().collect())).collect();
    loop {
        let before = rest.len();
        rest = same_ends(rest);
        rest = put_together(rest, |piece| (piece.source.clone(), piece.services.clone()), |piece, other| {
            piece.destination = piece.destination.union(&other.destination);
        });
        rest = put_together(rest, |piece| (piece.destination.clone(), piece.services.clone()), |piece, other| {
            piece.source = piece.source.union(&other.source);
        });
        rest = whatever_holds(rest);
        if rest.len() == before {
            break;
        }
    }
    whole.extend(rest);
    whole
}

fn piece<A: Address>(Matches { cube, conditions }: &Matches<A>, tags: BTreeSet<usize>) -> Piece<A> {
    let Cube { source, destination, upper } = cube.clone();
    Piece { source, destination, services: Services::from_iter([&upper]), conditions: conditions.clone(), tags }
}

fn same_ends<A: Address>(pieces: Vec<Piece<A>>) -> Vec<Piece<A>> {
    put_together(pieces, |piece| (piece.source.clone(), piece.destination.clone()), |piece, other| {
        piece.services = piece.services.union(&other.services);
    })
}

/// Joins the pieces that have the same key and the same conditions.
fn put_together<A: Address, K: Ord>(
    pieces: Vec<Piece<A>>,
    key: impl Fn(&Piece<A>) -> K,
    join: impl Fn(&mut Piece<A>, &Piece<A>),
) -> Vec<Piece<A>> {
    let mut places: BTreeMap<(K, Conditions), usize> = BTreeMap::new();
    let mut joined: Vec<Piece<A>> = Vec::new();
    for piece in pieces {
        match places.entry((key(&piece), piece.conditions.clone())) {
            Entry::Occupied(place) => {
                let known = &mut joined[*place.get()];
                join(known, &piece);
                known.tags.extend(piece.tags);
            }
            Entry::Vacant(place) => {
                place.insert(joined.len());
                joined.push(piece);
            }
        }
    }
    joined
}

/// Joins pieces that are the same but for the values of one variable.
fn whatever_holds<A: Address>(pieces: Vec<Piece<A>>) -> Vec<Piece<A>> {
    if pieces.iter().all(|piece| piece.conditions.is_empty()) {
        return pieces;
    }
    let mut groups: BTreeMap<_, Vec<(Conditions, BTreeSet<usize>)>> = BTreeMap::new();
    for Piece { source, destination, services, conditions, tags } in pieces {
        groups.entry((source, destination, services)).or_default().push((conditions, tags));
    }
    let mut joined = Vec::new();
    for ((source, destination, services), mut all) in groups {
        while let Some((first, second, both)) = pair(&all) {
            let (_, tags) = all.swap_remove(second);
            all[first].0 = both;
            all[first].1.extend(tags);
        }
        for (conditions, tags) in all {
            joined.push(Piece { source: source.clone(), destination: destination.clone(), services: services.clone(), conditions, tags });
        }
    }
    joined
}

/// Two of the conditions that are one when a variable's values are put together.
fn pair(all: &[(Conditions, BTreeSet<usize>)]) -> Option<(usize, usize, Conditions)> {
    for (first, (one, _)) in all.iter().enumerate() {
        for (second, (other, _)) in all.iter().enumerate().skip(first + 1) {
            for (variable, values) in one.iter() {
                let Some(others) = other.values(variable) else { continue };
                let rest = one.without(variable);
                if rest == other.without(variable) {
                    let both = rest.and(variable.clone(), &values.union(others));
                    return Some((first, second, both.expect("no set of values is empty")));
                }
            }
        }
    }
    None
}
