//! What a rule asks, in packets' coordinates.
//!
//! In: terms, and packets as disjoint boxes. Out: those that meet all of the terms. Never: a box that
//! is rounded.

use std::net::{Ipv4Addr, Ipv6Addr};

use ringwall_packet::{Address, Family, IntervalSet, Matches, UpperCube, Variable};

/// All terms of a list hold, or none of them matters.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Term {
    Family(Family),
    Source(Addresses),
    Destination(Addresses),
    Upper(UpperCube),
    Is(Variable, IntervalSet<u128>),
    /// The alternatives are disjoint.
    AnyOf(Vec<Vec<Term>>),
    NoneOf(Vec<Vec<Term>>),
}

/// Addresses of one family; of packets of the other family there are none.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Addresses {
    V4(IntervalSet<Ipv4Addr>),
    V6(IntervalSet<Ipv6Addr>),
}

/// An address that can be taken out of [`Addresses`].
pub(super) trait Addressed: Address {
    fn of(addresses: &Addresses) -> Option<&IntervalSet<Self>>;
}

impl Addressed for Ipv4Addr {
    fn of(addresses: &Addresses) -> Option<&IntervalSet<Self>> {
        match addresses {
            Addresses::V4(set) => Some(set),
            Addresses::V6(_) => None,
        }
    }
}

impl Addressed for Ipv6Addr {
    fn of(addresses: &Addresses) -> Option<&IntervalSet<Self>> {
        match addresses {
            Addresses::V6(set) => Some(set),
            Addresses::V4(_) => None,
        }
    }
}

/// Steps that are left; `None` when there are none.
pub(super) struct Work(pub u64);

impl Work {
    pub fn step(&mut self, steps: usize) -> Option<()> {
        self.0 = self.0.checked_sub(steps as u64)?;
        Some(())
    }
}

/// Those of `packets` that meet all terms. `None` when the work is too much.
pub(super) fn those<A: Addressed>(packets: &[Matches<A>], terms: &[Term], work: &mut Work) -> Option<Vec<Matches<A>>> {
    let mut found = Vec::new();
    for packets in packets {
        work.step(1)?;
        // Most rules take no packet of a narrow box: without a copy.
        if terms.iter().all(|term| may_meet(packets, term)) {
            narrow(packets.clone(), terms, &mut found, work)?;
        }
    }
    Some(found)
}

/// Whether the term alone leaves something; lists of alternatives are not looked into.
fn may_meet<A: Addressed>(packets: &Matches<A>, term: &Term) -> bool {
    match term {
        Term::Family(family) => *family == A::FAMILY,
        Term::Source(set) => A::of(set).is_some_and(|set| !packets.cube.source.is_disjoint(set)),
        Term::Destination(set) => A::of(set).is_some_and(|set| !packets.cube.destination.is_disjoint(set)),
        Term::Upper(upper) => {
            let own = &packets.cube.upper;
            !own.protocols().is_disjoint(upper.protocols())
                && !own.destination_ports().is_disjoint(upper.destination_ports())
                && !own.source_ports().is_disjoint(upper.source_ports())
        }
        Term::Is(variable, values) => {
            packets.conditions.values(variable).map_or(!values.is_empty(), |own| !own.is_disjoint(values))
        }
        Term::AnyOf(_) | Term::NoneOf(_) => true,
    }
}

fn narrow<A: Addressed>(mut packets: Matches<A>, terms: &[Term], into: &mut Vec<Matches<A>>, work: &mut Work) -> Option<()> {
    for (index, term) in terms.iter().enumerate() {
        match term {
            Term::AnyOf(alternatives) => {
                work.step(alternatives.len())?;
                let met = |terms: &&Vec<Term>| terms.iter().all(|term| may_meet(&packets, term));
                let mut possible = alternatives.iter().filter(met);
                let (first, second) = (possible.next(), possible.next());
                let is_plain = |terms: &&Vec<Term>| !terms.iter().any(|term| matches!(term, Term::AnyOf(_) | Term::NoneOf(_)));
                match (first.filter(is_plain), second) {
                    // One is left, and it needs no copy.
                    (Some(terms), None) => {
                        if !terms.iter().all(|term| meet(&mut packets, term)) {
                            return Some(());
                        }
                    }
                    _ => {
                        for terms_of_one in alternatives {
                            if terms_of_one.iter().all(|term| may_meet(&packets, term)) {
                                let mut some = Vec::new();
                                narrow(packets.clone(), terms_of_one, &mut some, work)?;
                                for packets in some {
                                    narrow(packets, &terms[index + 1..], into, work)?;
                                }
                            }
                        }
                        return Some(());
                    }
                }
            }
            Term::NoneOf(alternatives) => {
                for packets in without(vec![packets], alternatives, work)? {
                    narrow(packets, &terms[index + 1..], into, work)?;
                }
                return Some(());
            }
            _ if !meet(&mut packets, term) => return Some(()),
            _ => {}
        }
    }
    into.push(packets);
    Some(())
}

/// Narrows to what a term leaves; `false` for nothing.
fn meet<A: Addressed>(packets: &mut Matches<A>, term: &Term) -> bool {
    match term {
        Term::Family(family) => *family == A::FAMILY,
        Term::Source(set) => {
            let Some(set) = A::of(set) else { return false };
            packets.cube.source = packets.cube.source.intersection(set);
            !packets.cube.source.is_empty()
        }
        Term::Destination(set) => {
            let Some(set) = A::of(set) else { return false };
            packets.cube.destination = packets.cube.destination.intersection(set);
            !packets.cube.destination.is_empty()
        }
        Term::Upper(upper) => match packets.cube.upper.intersection(upper) {
            Some(upper) => {
                packets.cube.upper = upper;
                true
            }
            None => false,
        },
        Term::Is(variable, values) => match packets.conditions.and(variable.clone(), values) {
            Some(conditions) => {
                packets.conditions = conditions;
                true
            }
            None => false,
        },
        Term::AnyOf(_) | Term::NoneOf(_) => unreachable!("alternatives are taken apart before"),
    }
}

/// `packets` without those that meet one of the alternatives.
pub(super) fn without<A: Addressed>(
    packets: Vec<Matches<A>>,
    alternatives: &[Vec<Term>],
    work: &mut Work,
) -> Option<Vec<Matches<A>>> {
    let mut rest = packets;
    for terms in alternatives {
        let taken = those(&[Matches::any()], terms, work)?;
        rest = subtract(rest, &taken, work)?;
    }
    Some(rest)
}

/// `packets` without `taken`.
pub(super) fn subtract<A: Addressed>(mut packets: Vec<Matches<A>>, taken: &[Matches<A>], work: &mut Work) -> Option<Vec<Matches<A>>> {
    for taken in taken {
        if !packets.iter().any(|packets| meets(packets, taken)) {
            work.step(packets.len())?;
            continue;
        }
        let mut rest = Vec::with_capacity(packets.len());
        for packets in packets {
            work.step(1)?;
            if meets(&packets, taken) { rest.extend(packets.difference(taken)) } else { rest.push(packets) }
        }
        packets = rest;
    }
    Some(packets)
}

/// Whether a packet is in both.
pub(super) fn meets<A: Addressed>(one: &Matches<A>, other: &Matches<A>) -> bool {
    let (upper, others) = (&one.cube.upper, &other.cube.upper);
    !one.cube.source.is_disjoint(&other.cube.source)
        && !one.cube.destination.is_disjoint(&other.cube.destination)
        && !upper.protocols().is_disjoint(others.protocols())
        && !upper.destination_ports().is_disjoint(others.destination_ports())
        && !upper.source_ports().is_disjoint(others.source_ports())
        && one.conditions.iter().all(|(variable, values)| {
            other.conditions.values(variable).is_none_or(|others| !values.is_disjoint(others))
        })
}

/// `packets` without `some` of them, where that is a box: the two differ in one field at most. `None`
/// otherwise.
pub(super) fn rest_of<A: Addressed>(packets: &Matches<A>, some: &Matches<A>) -> Option<Option<Matches<A>>> {
    let (upper, others) = (&packets.cube.upper, &some.cube.upper);
    let differs = [
        packets.cube.source != some.cube.source,
        packets.cube.destination != some.cube.destination,
        upper.protocols() != others.protocols(),
        upper.destination_ports() != others.destination_ports(),
        upper.source_ports() != others.source_ports(),
    ];
    let mut variables = some.conditions.iter().filter(|(variable, values)| packets.conditions.values(variable) != Some(values));
    let fields = differs.iter().filter(|differs| **differs).count();
    match (fields, variables.next(), variables.next()) {
        (0, None, _) => Some(None),
        (0, Some((variable, values)), None) => Some(packets.and(variable.clone(), &values.complement())),
        (1, None, _) => {
            let mut rest = packets.clone();
            let is_empty = if differs[0] {
                rest.cube.source = rest.cube.source.difference(&some.cube.source);
                rest.cube.source.is_empty()
            } else if differs[1] {
                rest.cube.destination = rest.cube.destination.difference(&some.cube.destination);
                rest.cube.destination.is_empty()
            } else {
                let protocols = upper.protocols().difference(others.protocols());
                let rest_of_ports = |own: &IntervalSet<u16>, other, differs| if differs { own.difference(other) } else { own.clone() };
                let protocols = if differs[2] { protocols } else { upper.protocols().clone() };
                let destination = rest_of_ports(upper.destination_ports(), others.destination_ports(), differs[3]);
                let source = rest_of_ports(upper.source_ports(), others.source_ports(), differs[4]);
                let is_empty = protocols.is_empty() || destination.is_empty() || source.is_empty();
                rest.cube.upper = UpperCube::new(protocols, destination, source)?;
                is_empty
            };
            Some((!is_empty).then_some(rest))
        }
        _ => None,
    }
}
