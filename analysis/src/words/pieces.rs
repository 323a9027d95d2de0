//! Boxes of packets of one family in as few products of addresses and services as are easily found.
//!
//! In: disjoint boxes, and the boxes that the operator's own rules are. Out: products whose union is
//! the same set: first the rules that are whole in it, then what is left, put together.

use std::collections::{BTreeMap, BTreeSet};

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
    let mut rest: Vec<Vec<Matches<A>>> = packets.iter().map(|packets| vec![packets.clone()]).collect();
    let mut whole = Vec::new();
    for row in rows {
        let meets = |at: &usize| packets[*at].intersection(row).is_some();
        let near: Vec<usize> = (0..packets.len()).filter(meets).collect();
        let by: Vec<&Matches<A>> = near.iter().map(|at| &packets[*at]).collect();
        if near.is_empty() || !matches!(cover(row, &by, &mut Budget::new(STEPS)), Ok(Cover::By(_))) {
            continue;
        }
        whole.push(piece(row, near.iter().filter_map(|at| tag(*at)).collect()));
        for at in near {
            rest[at] = rest[at].iter().flat_map(|packets| packets.difference(row)).collect();
        }
    }
    let of_tag = |(at, parts): (usize, &Vec<Matches<A>>)| -> Vec<_> {
        parts.iter().map(|packets| piece(packets, tag(at).into_iter().collect())).collect()
    };
    let mut rest: Vec<Piece<A>> = rest.iter().enumerate().flat_map(of_tag).collect();
    loop {
        let before = rest.len();
        rest = put_together(rest, |piece| (piece.source.clone(), piece.destination.clone()), |piece, all| {
            piece.services = Services::union(all.iter().map(|other| &other.services));
        });
        rest = put_together(rest, |piece| (piece.source.clone(), piece.services.clone()), |piece, all| {
            piece.destination = all.iter().flat_map(|other| other.destination.intervals()).copied().collect();
        });
        rest = put_together(rest, |piece| (piece.destination.clone(), piece.services.clone()), |piece, all| {
            piece.source = all.iter().flat_map(|other| other.source.intervals()).copied().collect();
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

/// Joins the pieces that have the same key and the same conditions.
fn put_together<A: Address, K: Ord>(
    pieces: Vec<Piece<A>>,
    key: impl Fn(&Piece<A>) -> K,
    join: impl Fn(&mut Piece<A>, &[Piece<A>]),
) -> Vec<Piece<A>> {
    let mut groups: BTreeMap<(K, Conditions), Vec<Piece<A>>> = BTreeMap::new();
    for piece in pieces {
        groups.entry((key(&piece), piece.conditions.clone())).or_default().push(piece);
    }
    let joined = groups.into_values().map(|mut all| match all.len() {
        1 => all.remove(0),
        _ => {
            let mut piece = all[0].clone();
            piece.tags = all.iter().flat_map(|other| &other.tags).copied().collect();
            join(&mut piece, &all);
            piece
        }
    });
    joined.collect()
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
