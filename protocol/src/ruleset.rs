//! A ruleset as bytes, and back.
//!
//! In: a `Ruleset`; bytes. Out: the only bytes for that ruleset; the ruleset that has exactly these bytes, or
//! the field that is wrong. Never: a field, an effect or a kind of packet skipped because it is not known: an agent
//! that does not understand all of a ruleset refuses it.
//!
//! Protobuf readers skip unknown fields. What was read is therefore written again and compared, and the tables
//! that entries share are checked to be as [`encode`] makes them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::{BufMut, Bytes};
use prost::Message as _;
use ringwall_packet::{AddressSet, Interval, IntervalSet, Point, UpperCube, UpperSet};
use ringwall_ruleset::{Effect, Entry, Floor, Forward, Ruleset};
use sha2::{Digest as _, Sha256};

use crate::field::{Invalid, dns_name, interface, invalid, most, name, there};
use crate::generated as wire;

/// The shape of the bytes. Another shape has another number.
pub const SCHEMA: u32 = 1;

/// SHA-256 of a ruleset's bytes.
pub type Digest = [u8; 32];

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

/// The bytes, and their digest. Equal rulesets have equal bytes.
pub fn encode(ruleset: &Ruleset) -> (Bytes, Digest) {
    let mut tables = Tables::default();
    let local = tables.addresses.position(&ruleset.local);
    let protected = tables.addresses.position(&ruleset.protected);
    let input = tables.entries(&ruleset.input);
    let output = tables.entries(&ruleset.output);
    let forward = match &ruleset.forward {
        Forward::Routed(entries) => {
            wire::ruleset::Forward::Routed(wire::Routed { entries: tables.entries(entries) })
        }
        Forward::Containers { unmanaged, uplinks } => wire::ruleset::Forward::Containers(wire::Containers {
            unmanaged: unmanaged.iter().cloned().collect(),
            uplinks: uplinks.iter().cloned().collect(),
        }),
    };
    let written = wire::Ruleset {
        schema: SCHEMA,
        node: ruleset.node.clone(),
        enforcement: enforcement(ruleset.audit),
        addresses: tables.addresses.values.into_iter().map(write_addresses).collect(),
        uppers: tables.uppers.values.into_iter().map(write_upper).collect(),
        local,
        protected,
        floor: Some(wire::Floor {
            dhcp: ruleset.floor.dhcp,
            neighbour_discovery: ruleset.floor.neighbour_discovery,
            multicast_listener: ruleset.floor.multicast_listener,
        }),
        input,
        output,
        forward: Some(forward),
    };
    let bytes = written.encode_to_vec();
    let digest = digest(&bytes);
    (bytes.into(), digest)
}

/// Values that are referred to by position, in order of first use.
struct Interned<'a, T> {
    values: Vec<&'a T>,
    positions: HashMap<&'a T, u32>,
}

impl<T> Default for Interned<'_, T> {
    fn default() -> Self {
        Self { values: Vec::new(), positions: HashMap::new() }
    }
}

impl<'a, T: Eq + Hash> Interned<'a, T> {
    fn position(&mut self, value: &'a T) -> u32 {
        *self.positions.entry(value).or_insert_with(|| {
            self.values.push(value);
            u32::try_from(self.values.len() - 1).expect("fewer sets than 2^32")
        })
    }
}

#[derive(Default)]
struct Tables<'a> {
    addresses: Interned<'a, AddressSet>,
    uppers: Interned<'a, UpperSet>,
}

impl<'a> Tables<'a> {
    fn entries(&mut self, entries: &'a [Entry]) -> Vec<wire::Entry> {
        let written = entries.iter().map(|entry| wire::Entry {
            id: entry.id.clone(),
            effect: Some(match entry.effect {
                Effect::Accept { session_timeout } => wire::entry::Effect::Accept(wire::Accept { session_timeout }),
                Effect::Drop => wire::entry::Effect::Drop(wire::Drop {}),
                Effect::Reject => wire::entry::Effect::Reject(wire::Reject {}),
            }),
            source: self.addresses.position(&entry.source),
            destination: self.addresses.position(&entry.destination),
            upper: self.uppers.position(&entry.upper),
            names: entry.names.iter().cloned().collect(),
            interface: entry.interface.clone(),
            expires: entry.expires,
            enforcement: enforcement(entry.audit),
            log: entry.log,
        });
        written.collect()
    }
}

fn enforcement(audit: bool) -> i32 {
    if audit { wire::Enforcement::Audited.into() } else { wire::Enforcement::Enforced.into() }
}

fn is_audited(field: &'static str, value: i32) -> Result<bool, Invalid> {
    match wire::Enforcement::try_from(value) {
        Ok(wire::Enforcement::Enforced) => Ok(false),
        Ok(wire::Enforcement::Audited) => Ok(true),
        Ok(wire::Enforcement::Unspecified) | Err(_) => Err(invalid(field, "is unknown")),
    }
}

fn write_addresses(set: &AddressSet) -> wire::AddressSet {
    wire::AddressSet { v4: write(&set.v4), v6: write(&set.v6) }
}

fn write_upper(set: &UpperSet) -> wire::UpperSet {
    let cubes = set.cubes().iter().map(|cube| wire::UpperCube {
        protocols: write(cube.protocols()),
        destination_ports: write(cube.destination_ports()),
        source_ports: write(cube.source_ports()),
    });
    wire::UpperSet { cubes: cubes.collect() }
}

/// A point in so many bytes, in network byte order.
trait Packed: Point {
    const BYTES: usize;
}

impl Packed for u8 {
    const BYTES: usize = 1;
}

impl Packed for u16 {
    const BYTES: usize = 2;
}

impl Packed for Ipv4Addr {
    const BYTES: usize = 4;
}

impl Packed for Ipv6Addr {
    const BYTES: usize = 16;
}

fn write<P: Packed>(set: &IntervalSet<P>) -> Bytes {
    let mut bytes = Vec::with_capacity(set.intervals().len() * 2 * P::BYTES);
    for interval in set.intervals() {
        for point in [interval.first(), interval.last()] {
            bytes.put_slice(&point.number().to_be_bytes()[16 - P::BYTES..]);
        }
    }
    bytes.into()
}

fn read<P: Packed>(field: &'static str, bytes: &[u8]) -> Result<IntervalSet<P>, Invalid> {
    if !bytes.len().is_multiple_of(2 * P::BYTES) {
        return Err(invalid(field, "ends within an interval"));
    }
    let point = |bytes: &[u8]| {
        let number = bytes.iter().fold(0u128, |number, byte| number << 8 | u128::from(*byte));
        P::of_number(number).expect("as many bytes as a point has")
    };
    let (mut intervals, mut before) = (Vec::with_capacity(bytes.len() / (2 * P::BYTES)), None::<P>);
    for chunk in bytes.chunks_exact(2 * P::BYTES) {
        let (first, last) = chunk.split_at(P::BYTES);
        let interval = Interval::new(point(first), point(last)).ok_or_else(|| invalid(field, "has an interval that ends before it begins"))?;
        // At least one point lies in between.
        if before.is_some_and(|before| before.next().is_none_or(|next| interval.first() <= next)) {
            return Err(invalid(field, "has intervals that touch or are out of order"));
        }
        before = Some(interval.last());
        intervals.push(interval);
    }
    Ok(intervals.into_iter().collect())
}

/// The ruleset that has these bytes.
pub fn decode(bytes: &Bytes) -> Result<Ruleset, Invalid> {
    most("Ruleset", bytes.len(), crate::RULESET_MAX)?;
    let found = wire::Ruleset::decode(bytes.clone()).map_err(|error| invalid("Ruleset", error.to_string()))?;
    if found.schema != SCHEMA {
        return Err(invalid("Ruleset.schema", format!("is {}, and {SCHEMA} is understood", found.schema)));
    }
    if found.encode_to_vec() != **bytes {
        return Err(invalid("Ruleset", "holds something that is not understood"));
    }
    let mut reader = Reader::new(&found.addresses, &found.uppers)?;
    let local = reader.address("Ruleset.local", found.local)?;
    let protected = reader.address("Ruleset.protected", found.protected)?;
    let floor = there("Ruleset.floor", found.floor)?;
    let input = reader.entries(found.input)?;
    let output = reader.entries(found.output)?;
    let forward = match there("Ruleset.forward", found.forward)? {
        wire::ruleset::Forward::Routed(routed) => Forward::Routed(reader.entries(routed.entries)?),
        wire::ruleset::Forward::Containers(containers) => Forward::Containers {
            unmanaged: sorted("Containers.unmanaged", containers.unmanaged, interface)?,
            uplinks: sorted("Containers.uplinks", containers.uplinks, interface)?,
        },
    };
    reader.finish()?;
    Ok(Ruleset {
        node: name("Ruleset.node", found.node)?,
        audit: is_audited("Ruleset.enforcement", found.enforcement)?,
        local,
        protected,
        floor: Floor {
            dhcp: floor.dhcp,
            neighbour_discovery: floor.neighbour_discovery,
            multicast_listener: floor.multicast_listener,
        },
        input,
        output,
        forward,
    })
}

/// A table, and how many of its values were used so far.
struct Table<T> {
    values: Vec<T>,
    used: usize,
}

impl<T: Clone + Eq + Hash> Table<T> {
    fn new(field: &'static str, values: Vec<T>) -> Result<Self, Invalid> {
        if values.iter().collect::<HashSet<_>>().len() < values.len() {
            return Err(invalid(field, "has a set twice"));
        }
        Ok(Self { values, used: 0 })
    }

    fn take(&mut self, field: &'static str, position: u32) -> Result<T, Invalid> {
        let position = position as usize;
        let value = self.values.get(position).ok_or_else(|| invalid(field, "points past its table"))?;
        match position.cmp(&self.used) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => self.used += 1,
            std::cmp::Ordering::Greater => return Err(invalid(field, "uses its table out of order")),
        }
        Ok(value.clone())
    }

    fn finish(&self, field: &'static str) -> Result<(), Invalid> {
        if self.used == self.values.len() { Ok(()) } else { Err(invalid(field, "has a set that nothing uses")) }
    }
}

struct Reader {
    addresses: Table<AddressSet>,
    uppers: Table<UpperSet>,
    entries: usize,
    cubes: usize,
}

impl Reader {
    fn new(addresses: &[wire::AddressSet], uppers: &[wire::UpperSet]) -> Result<Self, Invalid> {
        let intervals: usize = addresses.iter().map(|set| set.v4.len() / 8 + set.v6.len() / 32).sum();
        most("Ruleset.addresses", intervals, crate::INTERVALS_MAX)?;
        let addresses = addresses.iter().map(|set| {
            Ok(AddressSet { v4: read("AddressSet.v4", &set.v4)?, v6: read("AddressSet.v6", &set.v6)? })
        });
        let uppers = uppers.iter().map(|set| set.cubes.iter().map(cube).collect());
        Ok(Self {
            addresses: Table::new("Ruleset.addresses", addresses.collect::<Result<_, _>>()?)?,
            uppers: Table::new("Ruleset.uppers", uppers.collect::<Result<_, _>>()?)?,
            entries: 0,
            cubes: 0,
        })
    }

    fn address(&mut self, field: &'static str, position: u32) -> Result<AddressSet, Invalid> {
        self.addresses.take(field, position)
    }

    fn entries(&mut self, entries: Vec<wire::Entry>) -> Result<Vec<Entry>, Invalid> {
        self.entries += entries.len();
        most("Ruleset.input", self.entries, crate::ENTRIES_MAX)?;
        entries.into_iter().map(|entry| self.entry(entry)).collect()
    }

    fn entry(&mut self, entry: wire::Entry) -> Result<Entry, Invalid> {
        most("Entry.names", entry.names.len(), crate::NAMES_MAX)?;
        let effect = match there("Entry.effect", entry.effect)? {
            wire::entry::Effect::Accept(wire::Accept { session_timeout }) => Effect::Accept { session_timeout },
            wire::entry::Effect::Drop(wire::Drop {}) => Effect::Drop,
            wire::entry::Effect::Reject(wire::Reject {}) => Effect::Reject,
        };
        let source = self.address("Entry.source", entry.source)?;
        let destination = self.address("Entry.destination", entry.destination)?;
        let upper = self.uppers.take("Entry.upper", entry.upper)?;
        // Each entry has boxes of its own in memory: few bytes must not become many.
        self.cubes += upper.cubes().len();
        most("Ruleset.uppers", self.cubes, crate::CUBES_MAX)?;
        Ok(Entry {
            id: name("Entry.id", entry.id)?,
            effect,
            source,
            destination,
            names: sorted("Entry.names", entry.names, dns_name)?,
            upper,
            interface: entry.interface.map(|found| interface("Entry.interface", found)).transpose()?,
            expires: entry.expires,
            audit: is_audited("Entry.enforcement", entry.enforcement)?,
            log: entry.log,
        })
    }

    fn finish(&self) -> Result<(), Invalid> {
        self.addresses.finish("Ruleset.addresses")?;
        self.uppers.finish("Ruleset.uppers")
    }
}

fn cube(cube: &wire::UpperCube) -> Result<UpperCube, Invalid> {
    let protocols = read("UpperCube.protocols", &cube.protocols)?;
    let destination = read("UpperCube.destination_ports", &cube.destination_ports)?;
    let source = read("UpperCube.source_ports", &cube.source_ports)?;
    if protocols.is_empty() || destination.is_empty() || source.is_empty() {
        return Err(invalid("UpperCube", "is empty"));
    }
    UpperCube::new(protocols, destination, source).ok_or_else(|| invalid("UpperCube", "has ports of a protocol without ports"))
}

fn sorted(
    field: &'static str,
    values: Vec<String>,
    check: impl Fn(&'static str, String) -> Result<String, Invalid>,
) -> Result<BTreeSet<String>, Invalid> {
    if !values.is_sorted_by(|a, b| a < b) {
        return Err(invalid(field, "is not sorted"));
    }
    values.into_iter().map(|value| check(field, value)).collect()
}
