//! Sets of flows as unions of boxes, exact in both families.
//!
//! A box is a product of one set per header field. Union appends, intersection goes field by
//! field, difference peels one field at a time; all of it terminates and none of it rounds.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::Protocol;
use crate::address::{AddressSet, Family};
use crate::flow::{Flow, Header, Upper, icmp_of};
use crate::interval::{Interval, IntervalSet, Point};

/// Protocols with their ports or ICMP types: what a service names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpperCube {
    // INVARIANT: where a protocol without ports or types is in `protocol`, both port fields are
    // full. ICMP has its type (high byte) and code in `destination`, and a full `source`.
    protocol: IntervalSet<u8>,
    pub(crate) destination: IntervalSet<u16>,
    pub(crate) source: IntervalSet<u16>,
}

impl UpperCube {
    pub fn any() -> Self {
        Self { protocol: IntervalSet::full(), destination: IntervalSet::full(), source: IntervalSet::full() }
    }

    /// A whole protocol.
    pub fn protocol(protocol: Protocol) -> Self {
        Self { protocol: IntervalSet::single(protocol.0), ..Self::any() }
    }

    /// All of these at once. `None` when a port field that is not full meets a protocol that does not
    /// have it; ICMP has `destination` alone, its type and code.
    pub fn new(protocol: IntervalSet<u8>, destination: IntervalSet<u16>, source: IntervalSet<u16>) -> Option<Self> {
        let has = |number| match Protocol(number) {
            protocol if protocol.has_ports() => true,
            protocol if protocol.is_icmp() => source.is_full(),
            _ => source.is_full() && destination.is_full(),
        };
        let all = destination.is_full() && source.is_full()
            || protocol.intervals().iter().all(|interval| (interval.first()..=interval.last()).all(has));
        all.then_some(Self { protocol, destination, source })
    }

    /// As [`UpperCube::new`], where the caller has seen to the invariant.
    pub(crate) fn of_fields(protocol: IntervalSet<u8>, destination: IntervalSet<u16>, source: IntervalSet<u16>) -> Self {
        Self { protocol, destination, source }
    }

    /// Destination ports of a protocol; `None` when it has no ports.
    pub fn ports(protocol: Protocol, destination: IntervalSet<u16>) -> Option<Self> {
        protocol.has_ports().then(|| Self { destination, ..Self::protocol(protocol) })
    }

    /// One ICMP type, with one code or with any.
    pub fn icmp(family: Family, kind: u8, code: Option<u8>) -> Self {
        let first = u16::from_be_bytes([kind, code.unwrap_or(u8::MIN)]);
        let last = u16::from_be_bytes([kind, code.unwrap_or(u8::MAX)]);
        let destination = Interval::new(first, last).into_iter().collect();
        Self { destination, ..Self::protocol(icmp_of(family)) }
    }

    /// The part of this cube with these source ports; `None` unless all its protocols have ports.
    pub fn with_source_ports(&self, source: &IntervalSet<u16>) -> Option<Self> {
        let all_have_ports =
            self.protocol.intervals().iter().all(|interval| (interval.first()..=interval.last()).all(|number| Protocol(number).has_ports()));
        all_have_ports.then(|| Self { source: source.clone(), ..self.clone() })
    }

    /// Of the answers to these: ports change places. `None` for ICMP, whose answers have types of their own.
    pub fn turned(&self) -> Option<Self> {
        let is_icmp = self.protocol.only().is_some_and(|number| Protocol(number).is_icmp());
        let Self { protocol, destination, source } = self.clone();
        (!is_icmp).then_some(Self { protocol, destination: source, source: destination })
    }

    /// Its destination ports apart, when it asks for some; an ICMP type stays where it is.
    pub fn without_destination_ports(&self) -> (Self, Option<IntervalSet<u16>>) {
        let is_icmp = self.protocol.only().is_some_and(|number| Protocol(number).is_icmp());
        if is_icmp || self.destination.is_full() {
            return (self.clone(), None);
        }
        (Self { destination: IntervalSet::full(), ..self.clone() }, Some(self.destination.clone()))
    }

    pub fn protocols(&self) -> &IntervalSet<u8> {
        &self.protocol
    }

    /// Destination ports; for ICMP, type in the high byte and code in the low one.
    pub fn destination_ports(&self) -> &IntervalSet<u16> {
        &self.destination
    }

    pub fn source_ports(&self) -> &IntervalSet<u16> {
        &self.source
    }

    fn of_family(&self, family: Family) -> Option<Self> {
        let other = match family {
            Family::V4 => Protocol::ICMPV6,
            Family::V6 => Protocol::ICMP,
        };
        let mut cube = self.clone();
        if !cube.destination.is_full() || !cube.source.is_full() {
            cube.protocol = cube.protocol.difference(&IntervalSet::single(other.0));
        }
        (!cube.is_empty()).then_some(cube)
    }

    fn is_empty(&self) -> bool {
        self.protocol.is_empty() || self.destination.is_empty() || self.source.is_empty()
    }

    fn contains(&self, upper: Upper, family: Family) -> bool {
        let (protocol, destination, source) = upper.parts(family);
        self.protocol.contains(protocol.0) && self.destination.contains(destination) && self.source.contains(source)
    }

    pub fn is_subset(&self, other: &Self) -> bool {
        self.protocol.is_subset(&other.protocol)
            && self.destination.is_subset(&other.destination)
            && self.source.is_subset(&other.source)
    }

    fn is_disjoint(&self, other: &Self) -> bool {
        self.protocol.is_disjoint(&other.protocol)
            || self.destination.is_disjoint(&other.destination)
            || self.source.is_disjoint(&other.source)
    }

    /// `None` when nothing is in both.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let both = Self {
            protocol: self.protocol.intersection(&other.protocol),
            destination: self.destination.intersection(&other.destination),
            source: self.source.intersection(&other.source),
        };
        (!both.is_empty()).then_some(both)
    }
}

/// A union of [`UpperCube`]s.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpperSet(Vec<UpperCube>);

impl UpperSet {
    pub fn any() -> Self {
        Self(vec![UpperCube::any()])
    }

    pub fn cubes(&self) -> &[UpperCube] {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The part that can be in packets of a family: without the other family's ICMP types.
    pub fn of_family(&self, family: Family) -> Self {
        self.0.iter().filter_map(|cube| cube.of_family(family)).collect()
    }

    pub fn contains(&self, upper: Upper, family: Family) -> bool {
        self.0.iter().any(|cube| cube.contains(upper, family))
    }
}

impl FromIterator<UpperCube> for UpperSet {
    fn from_iter<I: IntoIterator<Item = UpperCube>>(cubes: I) -> Self {
        Self(cubes.into_iter().filter(|cube| !cube.is_empty()).collect())
    }
}

/// Flows of one family: a product of addresses and [`UpperCube`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cube<A> {
    pub source: IntervalSet<A>,
    pub destination: IntervalSet<A>,
    pub upper: UpperCube,
}

impl<A: Point> Cube<A> {
    pub fn any() -> Self {
        Self { source: IntervalSet::full(), destination: IntervalSet::full(), upper: UpperCube::any() }
    }

    pub fn is_subset(&self, other: &Self) -> bool {
        self.source.is_subset(&other.source)
            && self.destination.is_subset(&other.destination)
            && self.upper.is_subset(&other.upper)
    }

    pub fn is_disjoint(&self, other: &Self) -> bool {
        self.source.is_disjoint(&other.source)
            || self.destination.is_disjoint(&other.destination)
            || self.upper.is_disjoint(&other.upper)
    }

    /// `None` when no flow is in both.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let source = self.source.intersection(&other.source);
        let destination = self.destination.intersection(&other.destination);
        if source.is_empty() || destination.is_empty() {
            return None;
        }
        Some(Self { source, destination, upper: self.upper.intersection(&other.upper)? })
    }

    /// `self` without `other`, as disjoint cubes: for each field in turn, the part of `self` that
    /// is outside `other` in this field and inside it in the fields before.
    pub fn difference(&self, other: &Self) -> Vec<Self> {
        if self.intersection(other).is_none() {
            return vec![self.clone()];
        }
        let mut rest = self.clone();
        let mut parts = Vec::new();
        macro_rules! peel {
            ($($field:ident).+) => {
                let outside = rest.$($field).+.difference(&other.$($field).+);
                if !outside.is_empty() {
                    let mut part = rest.clone();
                    part.$($field).+ = outside;
                    parts.push(part);
                }
                rest.$($field).+ = rest.$($field).+.intersection(&other.$($field).+);
            };
        }
        peel!(upper.protocol);
        peel!(destination);
        peel!(upper.destination);
        peel!(source);
        peel!(upper.source);
        parts
    }
}

/// A union of [`Cube`]s of one family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Space<A>(Vec<Cube<A>>);

impl<A> From<Cube<A>> for Space<A> {
    fn from(cube: Cube<A>) -> Self {
        Self(vec![cube])
    }
}

impl<A> Default for Space<A> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// What a witness has for a source port where it may have any: one of the dynamic ports (RFC 6335
/// §6), so that it looks like a flow that a client makes.
const CLIENT_PORT: u16 = 50_000;

impl<A: Point> Space<A> {
    pub fn cubes(&self) -> &[Cube<A>] {
        &self.0
    }

    fn product(source: &IntervalSet<A>, destination: &IntervalSet<A>, upper: &UpperSet, family: Family) -> Self {
        if source.is_empty() || destination.is_empty() {
            return Self::default();
        }
        let cube = |upper: UpperCube| Cube { source: source.clone(), destination: destination.clone(), upper };
        Self(upper.cubes().iter().filter_map(|upper| upper.of_family(family)).map(cube).collect())
    }

    fn union(&self, other: &Self) -> Self {
        Self(self.0.iter().chain(&other.0).cloned().collect())
    }

    fn intersection(&self, other: &Self) -> Self {
        let pairs = self.0.iter().flat_map(|a| other.0.iter().map(move |b| (a, b)));
        Self(pairs.filter_map(|(a, b)| a.intersection(b)).collect())
    }

    fn difference(&self, other: &Self) -> Self {
        let mut rest = self.0.clone();
        for cube in &other.0 {
            rest = rest.iter().flat_map(|part| part.difference(cube)).collect();
        }
        Self(rest)
    }

    pub(crate) fn witness(&self, family: Family) -> Option<Header<A>> {
        let cube = self.0.first()?;
        let upper = Upper::from_parts(
            family,
            Protocol(cube.upper.protocol.first()?),
            cube.upper.destination.first()?,
            if cube.upper.source.contains(CLIENT_PORT) { CLIENT_PORT } else { cube.upper.source.first()? },
        );
        Some(Header { source: cube.source.first()?, destination: cube.destination.first()?, upper })
    }

    fn contains(&self, header: &Header<A>, family: Family) -> bool {
        self.0.iter().any(|cube| {
            cube.upper.contains(header.upper, family)
                && cube.destination.contains(header.destination)
                && cube.source.contains(header.source)
        })
    }
}

/// A set of flows of both families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowSet {
    // INVARIANT: no cube is empty.
    pub v4: Space<Ipv4Addr>,
    pub v6: Space<Ipv6Addr>,
}

impl FlowSet {
    pub fn full() -> Self {
        Self::product(&AddressSet::full(), &AddressSet::full(), &UpperSet::any())
    }

    /// All flows from `source` to `destination` with these protocols and ports. Types of the other
    /// family's ICMP match nothing; the protocol as a whole is a number like any other there.
    pub fn product(source: &AddressSet, destination: &AddressSet, upper: &UpperSet) -> Self {
        Self {
            v4: Space::product(&source.v4, &destination.v4, upper, Family::V4),
            v6: Space::product(&source.v6, &destination.v6, upper, Family::V6),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.v4.0.is_empty() && self.v6.0.is_empty()
    }

    pub fn contains(&self, flow: &Flow) -> bool {
        match flow {
            Flow::V4(header) => self.v4.contains(header, Family::V4),
            Flow::V6(header) => self.v6.contains(header, Family::V6),
        }
    }

    pub fn union(&self, other: &Self) -> Self {
        Self { v4: self.v4.union(&other.v4), v6: self.v6.union(&other.v6) }
    }

    pub fn intersection(&self, other: &Self) -> Self {
        Self { v4: self.v4.intersection(&other.v4), v6: self.v6.intersection(&other.v6) }
    }

    pub fn difference(&self, other: &Self) -> Self {
        Self { v4: self.v4.difference(&other.v4), v6: self.v6.difference(&other.v6) }
    }

    /// A flow of the set; `None` when it is empty.
    pub fn witness(&self) -> Option<Flow> {
        self.v4.witness(Family::V4).map(Flow::V4).or_else(|| self.v6.witness(Family::V6).map(Flow::V6))
    }
}
