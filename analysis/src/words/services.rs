//! Protocols and ports in one form for each set of them, and as people write them: `443/tcp (https)`.
//!
//! In: boxes of protocols and ports, overlapping or not; names for some. Out: equal values for equal
//! sets, and their text. Never: the registry, which is asked by the caller's function.

use std::collections::BTreeMap;

use ringwall_packet::{Interval, IntervalSet, Protocol, UpperCube};
use ringwall_policy::Policy;

/// The name of a port that the policy itself does not name, as [`Words::new`](super::Words::new) takes it.
pub type NameOf<'a> = dyn Fn(Protocol, u16) -> Option<&'static str> + Sync + 'a;

/// A set of protocols with ports or ICMP types, in one form for each set.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Services(
    // INVARIANT: protocols are disjoint; no two have the same ports. No part is empty.
    Vec<(IntervalSet<u8>, Ports)>,
);

/// Destination ports (for ICMP: type and code) with the source ports that go with them.
// INVARIANT: destination ports are disjoint, no two parts have the same source ports.
type Ports = Vec<(IntervalSet<u16>, IntervalSet<u16>)>;

impl Services {
    /// The union of all at once: one by one it would take time that is quadratic in their number.
    pub fn union<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let of = |(protocols, ports): &'a (IntervalSet<u8>, Ports)| {
            ports.iter().map(|(to, from)| (protocols.clone(), to.clone(), from.clone()))
        };
        Self::of(all.into_iter().flat_map(|services| &services.0).flat_map(of).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn of(parts: Vec<Part>) -> Self {
        let cuts = cuts(parts.iter().map(|(protocols, ..)| protocols));
        let mut whole: BTreeMap<Ports, Vec<Interval<u8>>> = BTreeMap::new();
        for interval in cuts {
            let here = parts.iter().filter(|(protocols, ..)| protocols.contains(interval.first()));
            let ports = ports_of(here.map(|(_, to, from)| (to, from)).collect());
            if !ports.is_empty() {
                whole.entry(ports).or_default().push(interval);
            }
        }
        let mut all: Vec<_> = whole.into_iter().map(|(ports, protocols)| (protocols.into_iter().collect(), ports)).collect();
        all.sort();
        Self(all)
    }

    /// As boxes; together they are the set.
    pub fn cubes(&self) -> impl Iterator<Item = UpperCube> + '_ {
        let of = |(protocols, ports): &'_ (IntervalSet<u8>, Ports)| {
            let protocols = protocols.clone();
            ports.clone().into_iter().filter_map(move |(to, from)| UpperCube::new(protocols.clone(), to, from))
        };
        self.0.iter().flat_map(of)
    }

    pub fn is_any(&self) -> bool {
        *self == Self::from_iter([&UpperCube::any()])
    }

    fn complement(&self) -> Self {
        let mut parts: Vec<Part> = Vec::new();
        let mut rest = IntervalSet::full();
        for (protocols, ports) in &self.0 {
            rest = rest.difference(protocols);
            let mut unnamed = IntervalSet::full();
            for (to, from) in ports {
                unnamed = unnamed.difference(to);
                parts.push((protocols.clone(), to.clone(), from.complement()));
            }
            parts.push((protocols.clone(), unnamed, IntervalSet::full()));
        }
        parts.push((rest, IntervalSet::full(), IntervalSet::full()));
        parts.retain(|(protocols, to, from)| !protocols.is_empty() && !to.is_empty() && !from.is_empty());
        Self::of(parts)
    }
}

type Part = (IntervalSet<u8>, IntervalSet<u16>, IntervalSet<u16>);

impl<'a> FromIterator<&'a UpperCube> for Services {
    fn from_iter<I: IntoIterator<Item = &'a UpperCube>>(cubes: I) -> Self {
        let part = |cube: &UpperCube| (cube.protocols().clone(), cube.destination_ports().clone(), cube.source_ports().clone());
        Self::of(cubes.into_iter().map(part).collect())
    }
}

/// Intervals such that each set holds all or nothing of one; together they are the union.
fn cuts<'a, P: ringwall_packet::Point + 'a>(sets: impl Iterator<Item = &'a IntervalSet<P>>) -> Vec<Interval<P>> {
    let mut firsts = Vec::new();
    let mut whole = Vec::new();
    for interval in sets.flat_map(|set| set.intervals()) {
        whole.push(*interval);
        firsts.push(interval.first());
        firsts.extend(interval.last().next());
    }
    firsts.sort_unstable();
    firsts.dedup();
    let whole: IntervalSet<P> = whole.into_iter().collect();
    let end = |at: usize| firsts.get(at + 1).and_then(|next| next.previous()).unwrap_or(P::MAX);
    let all = firsts.iter().enumerate().filter_map(|(at, first)| Interval::new(*first, end(at)));
    all.filter(|interval| whole.contains(interval.first())).collect()
}

fn ports_of(parts: Vec<(&IntervalSet<u16>, &IntervalSet<u16>)>) -> Ports {
    // Nearly always any source port will do.
    let mut by_source: BTreeMap<&IntervalSet<u16>, Vec<Interval<u16>>> = BTreeMap::new();
    for (to, from) in parts {
        by_source.entry(from).or_default().extend_from_slice(to.intervals());
    }
    let joined: Vec<(IntervalSet<u16>, &IntervalSet<u16>)> =
        by_source.into_iter().map(|(from, to)| (to.into_iter().collect(), from)).collect();
    let parts: Vec<_> = joined.iter().map(|(to, from)| (to, *from)).collect();
    let mut whole: BTreeMap<IntervalSet<u16>, Vec<Interval<u16>>> = BTreeMap::new();
    for interval in cuts(parts.iter().map(|(to, _)| *to)) {
        let here = parts.iter().filter(|(to, _)| to.contains(interval.first()));
        let from: IntervalSet<u16> = here.flat_map(|(_, from)| from.intervals()).copied().collect();
        whole.entry(from).or_default().push(interval);
    }
    let mut ports: Ports = whole.into_iter().map(|(from, to)| (to.into_iter().collect(), from)).collect();
    ports.sort();
    ports
}

/// The names of a policy's services, and the caller's for all others.
pub struct ServiceWords<'a> {
    /// By protocol, first and last port: what the rules say. `None`: they give it no name.
    used: BTreeMap<(u8, u16, u16), Option<String>>,
    name_of: &'a NameOf<'a>,
}

impl<'a> ServiceWords<'a> {
    pub fn new(policy: &Policy, name_of: &'a NameOf<'a>) -> Self {
        let mut used: BTreeMap<(u8, u16, u16), Option<String>> = BTreeMap::new();
        let management = policy.management.iter().flat_map(|management| &management.services);
        let services = policy.rules.iter().flat_map(|rule| &rule.services).chain(management);
        for service in services {
            let is_icmp = service.text.starts_with("icmp");
            let name = (is_icmp || !service.text.contains('/')).then(|| service.text.clone());
            for cube in service.upper.cubes().iter().filter(|cube| !cube.destination_ports().is_full()) {
                let Some(number) = cube.protocols().only() else { continue };
                for ports in cube.destination_ports().intervals() {
                    let known = used.entry((number, ports.first(), ports.last())).or_default();
                    // The shortest, then the first: the same whatever the order of the rules.
                    let order = |name: &String| (name.len(), name.clone());
                    *known = known.take().into_iter().chain(name.clone()).min_by_key(order);
                }
            }
        }
        Self { used, name_of }
    }

    /// One text for each part that has a name of its own, such as `443/tcp (https)`; `any` for all.
    pub fn of(&self, services: &Services) -> Vec<String> {
        if services.is_any() {
            return vec!["any".into()];
        }
        let items = self.items(services);
        if items.len() > 1 {
            let others = self.items(&services.complement());
            if others.len() < items.len() {
                return vec![format!("any except {}", others.join(", "))];
            }
        }
        items
    }

    fn items(&self, services: &Services) -> Vec<String> {
        let mut items = Vec::new();
        for (protocols, ports) in &services.0 {
            let mut protocols = protocols.clone();
            let both = IntervalSet::from_iter([Protocol::ICMP.0, Protocol::ICMPV6.0]);
            let is_whole = |(to, from): &(IntervalSet<u16>, IntervalSet<u16>)| to.is_full() && from.is_full();
            if ports.iter().all(is_whole) && both.is_subset(&protocols) {
                // The policy's `icmp` is both; as a number the other family's stands for nothing here.
                protocols = protocols.difference(&both);
                items.push("icmp".into());
            }
            for interval in protocols.intervals() {
                if ports.iter().all(is_whole) && !interval.is_single() {
                    items.push(format!("proto/{}-{}", interval.first(), interval.last()));
                    continue;
                }
                for number in interval.first()..=interval.last() {
                    ports.iter().for_each(|(to, from)| self.ports(Protocol(number), to, from, &mut items));
                }
            }
        }
        // The two families' ICMP have numbers far apart, and one place.
        items.sort_by_key(|item| item.starts_with("icmp"));
        items
    }

    fn ports(&self, protocol: Protocol, to: &IntervalSet<u16>, from: &IntervalSet<u16>, items: &mut Vec<String>) {
        let from = match from.is_full() {
            true => String::new(),
            false => format!(" from {}", join(from.intervals().iter().map(|ports| range(*ports)))),
        };
        if to.is_full() {
            items.push(format!("{protocol}{from}"));
            return;
        }
        for interval in to.intervals() {
            for (ports, name) in self.split(protocol, *interval) {
                let text = if protocol.is_icmp() {
                    name.unwrap_or_else(|| icmp(protocol, ports))
                } else {
                    let number = format!("{}/{protocol}", range(ports));
                    name.map_or_else(|| number.clone(), |name| format!("{number} ({name})"))
                };
                items.push(format!("{text}{from}"));
            }
        }
    }

    /// An interval as the services that the rules name, when it is made of such; else as it is.
    fn split(&self, protocol: Protocol, whole: Interval<u16>) -> Vec<(Interval<u16>, Option<String>)> {
        let name = |ports: Interval<u16>, known: &Option<String>| {
            let registered = || ports.is_single().then(|| (self.name_of)(protocol, ports.first())).flatten();
            known.clone().or_else(|| registered().map(str::to_owned))
        };
        let mut parts = Vec::new();
        let mut next = Some(whole.first());
        while let Some(first) = next.filter(|first| *first <= whole.last()) {
            // The longest that begins here and fits.
            let known = self.used.range((protocol.0, first, first)..=(protocol.0, first, whole.last())).next_back();
            let Some(((_, _, last), known)) = known else {
                return vec![(whole, name(whole, &None))];
            };
            let ports = Interval::new(first, *last).expect("an ordered pair");
            parts.push((ports, name(ports, known)));
            next = last.checked_add(1);
        }
        parts
    }
}

/// `icmp/13`, `icmp/0-7`, `icmp/3 code 4`.
fn icmp(protocol: Protocol, types: Interval<u16>) -> String {
    let ([first, from], [last, to]) = (types.first().to_be_bytes(), types.last().to_be_bytes());
    match (from, to) {
        (0, u8::MAX) if first == last => format!("{protocol}/{first}"),
        (0, u8::MAX) => format!("{protocol}/{first}-{last}"),
        _ if first == last && from == to => format!("{protocol}/{first} code {from}"),
        _ if first == last => format!("{protocol}/{first} codes {from}-{to}"),
        _ => format!("{protocol}/{first} code {from} to {last} code {to}"),
    }
}

fn range(ports: Interval<u16>) -> String {
    if ports.is_single() { ports.first().to_string() } else { format!("{}-{}", ports.first(), ports.last()) }
}

fn join(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(",")
}
