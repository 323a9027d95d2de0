//! What is in sets, as `ipset save` prints it.
//!
//! In: text. Out: sets by name, each as what it matches. Never: a set that is guessed; one of a kind
//! that is not read is not there.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ringwall_diagnostic::{Diagnostic, SourceId, Span};
use ringwall_packet::{AddressSet, Cube, Family, Interval, IntervalSet, Matches, Protocol, UpperCube};

use super::asks::ALTERNATIVES_MAX;
use super::blocks::Report;
use super::protocols;
use super::tokens::tokens;
use super::values::{self, Version};

#[derive(Debug, Default)]
pub(super) struct Sets(HashMap<String, Set>);

#[derive(Debug)]
pub(super) struct Set {
    kind: Kind,
    family: Family,
    /// Of `hash:net` and its like, in the order of the text: prefix length, addresses, whether they are
    /// in the set or out of it.
    nets: Vec<(u8, AddressSet, bool)>,
    ports: Vec<u16>,
    /// Of `hash:ip,port` and `hash:net,port`.
    pairs: Vec<(AddressSet, Protocol, Interval<u16>)>,
    members: Vec<String>,
    /// What all of it comes to, once it is known.
    addresses: AddressSet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Addresses,
    AddressesAndPorts,
    Ports,
    List,
    /// Not read.
    Other,
}

impl Sets {
    pub fn read(text: &str, source: SourceId, report: &mut Report) -> Self {
        let mut sets = Self::default();
        let mut offset = 0;
        for line in text.split_inclusive('\n') {
            let span = Span { source, start: offset, end: offset + line.trim_end().len() };
            if let Err(why) = sets.line(line) {
                report.add(Diagnostic::error("RW6109", why).at(span, "in the text of `ipset save`"));
            }
            offset += line.len();
        }
        sets.finish();
        sets
    }

    pub fn find(&self, name: &str) -> Option<&Set> {
        self.0.get(name).filter(|set| set.kind != Kind::Other)
    }

    /// `create NAME hash:net family inet …`, `add NAME 192.0.2.0/24 …`.
    fn line(&mut self, line: &str) -> Result<(), String> {
        let words = tokens(line, 0).map_err(|_| "a quotation that does not end")?;
        let words: Vec<&str> = words.iter().map(|word| &*word.text).collect();
        match &words[..] {
            [] => Ok(()),
            [comment, ..] if comment.starts_with('#') => Ok(()),
            ["create" | "-N", name, kind, rest @ ..] => {
                let is_v6 = rest.windows(2).any(|pair| pair == ["family", "inet6"]);
                let family = if is_v6 { Family::V6 } else { Family::V4 };
                let kind = match *kind {
                    // A netmask makes prefixes of what is added.
                    "hash:ip" | "bitmap:ip" if rest.contains(&"netmask") || rest.contains(&"bitmask") => Kind::Other,
                    "hash:ip" | "bitmap:ip" | "hash:net" => Kind::Addresses,
                    "hash:ip,port" | "hash:net,port" => Kind::AddressesAndPorts,
                    "bitmap:port" => Kind::Ports,
                    "list:set" => Kind::List,
                    _ => Kind::Other,
                };
                let set = Set { kind, family, nets: Vec::new(), ports: Vec::new(), pairs: Vec::new(), members: Vec::new(), addresses: AddressSet::default() };
                match self.0.insert((*name).to_owned(), set) {
                    Some(_) => Err(format!("the set `{name}` is there twice")),
                    None => Ok(()),
                }
            }
            ["add" | "-A", name, element, rest @ ..] => match self.0.get_mut(*name) {
                None => Err(format!("there is no set `{name}`")),
                Some(set) => set.add(element, rest).ok_or_else(|| format!("`{element}` can't be in the set `{name}`")),
            },
            ["COMMIT"] => Ok(()),
            [other, ..] => Err(format!("`{other}` is no command that `ipset save` prints")),
        }
    }

    /// Adds up what each set holds, the members of lists included.
    fn finish(&mut self) {
        for set in self.0.values_mut() {
            // The longest prefix that has an address decides.
            set.nets.sort_by_key(|(length, ..)| *length);
            for run in set.nets.chunk_by(|a, b| (a.0, a.2) == (b.0, b.2)) {
                let these: AddressSet = run.iter().map(|(_, addresses, _)| addresses.clone()).collect();
                set.addresses = if run[0].2 { set.addresses.union(&these) } else { set.addresses.difference(&these) };
            }
            set.nets = Vec::new();
        }
        let lists: Vec<String> = self.0.iter().filter(|(_, set)| set.kind == Kind::List).map(|(name, _)| name.clone()).collect();
        for name in lists {
            // A list's members are no lists.
            let members: Option<Vec<&Set>> = self.0[&name].members.iter().map(|member| self.0.get(member).filter(|set| set.kind == Kind::Addresses)).collect();
            let of_one_family = members.filter(|members| members.windows(2).all(|pair| pair[0].family == pair[1].family));
            let (kind, family, addresses) = match of_one_family {
                Some(members) => {
                    let family = members.first().map_or(Family::V4, |set| set.family);
                    (Kind::Addresses, family, members.iter().map(|set| set.addresses.clone()).collect())
                }
                None => (Kind::Other, Family::V4, AddressSet::default()),
            };
            let list = self.0.get_mut(&name).expect("a set of this name");
            (list.kind, list.family, list.addresses, list.members) = (kind, family, addresses, Vec::new());
        }
    }
}

impl Set {
    fn add(&mut self, element: &str, rest: &[&str]) -> Option<()> {
        let is_in = !rest.contains(&"nomatch");
        match self.kind {
            Kind::Addresses => {
                let (length, addresses) = self.addresses_of(element)?;
                self.nets.push((length, addresses, is_in));
            }
            Kind::AddressesAndPorts => {
                if !is_in {
                    self.kind = Kind::Other;
                    return Some(());
                }
                let (address, port) = element.split_once(',')?;
                let (_, addresses) = self.addresses_of(address)?;
                let (protocol, port) = port.split_once(':').unwrap_or(("tcp", port));
                let protocol = Protocol(protocols::number(protocol)?);
                if !protocol.has_ports() {
                    self.kind = Kind::Other;
                    return Some(());
                }
                let (first, last) = port.split_once('-').unwrap_or((port, port));
                self.pairs.push((addresses, protocol, Interval::new(first.parse().ok()?, last.parse().ok()?)?));
            }
            Kind::Ports => {
                let (first, last) = element.split_once('-').unwrap_or((element, element));
                let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
                self.ports.extend(first..=last);
            }
            Kind::List => self.members.push(element.to_owned()),
            Kind::Other => {}
        }
        Some(())
    }

    /// `192.0.2.1`, `192.0.2.0/24` or `192.0.2.1-192.0.2.9`, and the length of its prefix.
    fn addresses_of(&self, text: &str) -> Option<(u8, AddressSet)> {
        let length = match text.split_once('/') {
            Some((_, length)) => length.parse().ok()?,
            None => u8::MAX,
        };
        let is_range = text.contains('-');
        let set = match self.family {
            Family::V4 => {
                let v4 = if is_range { values::range::<Ipv4Addr>(text)? } else { values::addresses(text)? };
                AddressSet { v4, ..AddressSet::default() }
            }
            Family::V6 => {
                let v6 = if is_range { values::range::<Ipv6Addr>(text)? } else { values::addresses(text)? };
                AddressSet { v6, ..AddressSet::default() }
            }
        };
        Some((length, set))
    }

    /// What `--match-set NAME FLAGS` matches, in alternatives; `None` when it can't be said so.
    pub fn matches<A: Version>(&self, flags: &str, is_not: bool) -> Option<Vec<Matches<A>>> {
        if self.family != A::FAMILY && self.kind != Kind::Ports {
            return None;
        }
        let is_source = |flag: &str| match flag {
            "src" => Some(true),
            "dst" => Some(false),
            _ => None,
        };
        let flags: Option<Vec<bool>> = flags.split(',').map(is_source).collect();
        let flags = flags?;
        let cubes = match (self.kind, &flags[..]) {
            (Kind::Addresses, [of_source, ..]) => {
                let set = of_version::<A>(&self.addresses);
                let set = if is_not { set.complement() } else { set };
                vec![cube(set, *of_source, UpperCube::any())]
            }
            (Kind::Ports, [of_source, ..]) => {
                // The set asks for no protocol, but the kernel looks at these two only.
                let ports: IntervalSet<u16> = self.ports.iter().copied().collect();
                if is_not {
                    return None;
                }
                let ported: IntervalSet<u8> = [Protocol::TCP.0, Protocol::UDP.0].into_iter().collect();
                vec![cube(IntervalSet::full(), true, ports_of(ported, ports, *of_source)?)]
            }
            (Kind::AddressesAndPorts, [address, port, ..]) => {
                if is_not {
                    return None;
                }
                // Those with the same addresses together.
                let mut by_addresses: HashMap<(&AddressSet, Protocol), Vec<Interval<u16>>> = HashMap::new();
                for (addresses, protocol, ports) in &self.pairs {
                    by_addresses.entry((addresses, *protocol)).or_default().push(*ports);
                }
                if by_addresses.len() > ALTERNATIVES_MAX {
                    return None;
                }
                let mut cubes = Vec::new();
                for ((addresses, protocol), ports) in by_addresses {
                    let upper = ports_of(IntervalSet::single(protocol.0), ports.into_iter().collect(), *port)?;
                    cubes.push(cube(of_version::<A>(addresses), *address, upper));
                }
                cubes.sort_unstable();
                cubes
            }
            _ => return None,
        };
        let is_something = |cube: &Cube<A>| !cube.source.is_empty() && !cube.destination.is_empty() && !cube.upper.destination_ports().is_empty() && !cube.upper.source_ports().is_empty();
        Some(cubes.into_iter().filter(is_something).map(Matches::from).collect())
    }
}

fn of_version<A: Version>(set: &AddressSet) -> IntervalSet<A> {
    let interval = |first: u128, last: u128| Interval::new(A::of_bits(first)?, A::of_bits(last)?);
    match A::FAMILY {
        Family::V4 => set.v4.intervals().iter().filter_map(|i| interval(i.first().to_bits().into(), i.last().to_bits().into())).collect(),
        Family::V6 => set.v6.intervals().iter().filter_map(|i| interval(i.first().to_bits(), i.last().to_bits())).collect(),
    }
}

fn cube<A: Version>(addresses: IntervalSet<A>, is_source: bool, upper: UpperCube) -> Cube<A> {
    let (source, destination) = if is_source { (addresses, IntervalSet::full()) } else { (IntervalSet::full(), addresses) };
    Cube { source, destination, upper }
}

fn ports_of(protocols: IntervalSet<u8>, ports: IntervalSet<u16>, is_source: bool) -> Option<UpperCube> {
    let (destination, source) = if is_source { (IntervalSet::full(), ports) } else { (ports, IntervalSet::full()) };
    UpperCube::new(protocols, destination, source)
}
