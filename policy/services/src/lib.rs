//! The registry of services: IANA's names, and the names that people use.
//!
//! In: a name as somebody wrote it, or a protocol and port. Out: the service. Never: a guess; an
//! unknown name is `None`.
//!
//! A name means what people mean by it: `https` is 443/tcp, `sftp` is SSH's port, `rpc` is Microsoft's.
//! IANA's registrations answer only for names that our own table does not have; [`registered`] asks
//! IANA alone. The tables are made from `data/` by `build.rs`.

mod facts;

use ringwall_packet::Protocol;

pub use facts::{Fact, FactKind, PortRange, facts, with_fact};

include!(concat!(env!("OUT_DIR"), "/tables.rs"));

/// One registered name on one protocol and port range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Lower case, as IANA registers it or as people write it.
    pub name: &'static str,
    pub protocol: Protocol,
    pub first_port: u16,
    pub last_port: u16,
    pub origin: Origin,
}

impl Service {
    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        self.protocol == protocol && (self.first_port..=self.last_port).contains(&port)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// IANA, "Service Name and Transport Protocol Port Number Registry".
    Iana,
    /// In wide use for this service, whatever the registry says.
    Custom,
}

/// What two spellings of one name have in common.
fn fold(name: &str) -> String {
    let mut folded = String::with_capacity(name.len());
    for c in name.chars().filter(|c| !matches!(c, ' ' | '-' | '_')) {
        match c.is_ascii() {
            true => folded.push(c.to_ascii_lowercase()),
            false => folded.extend(c.to_lowercase()),
        }
    }
    folded
}

/// The entries of a table that is sorted by folded name.
fn entries(table: &'static [(&str, Service)], folded: &str) -> Vec<Service> {
    let first = table.partition_point(|(key, _)| *key < folded);
    table[first..].iter().take_while(|(key, _)| *key == folded).map(|(_, service)| *service).collect()
}

/// All entries that a name stands for, such as `dns` for 53/udp and 53/tcp; empty when it is unknown.
/// Upper and lower case, spaces, `-` and `_` make no difference.
pub fn named(name: &str) -> Vec<Service> {
    match canonical(name) {
        Some(main) => entries(CUSTOM, &fold(main)),
        None => registered(name),
    }
}

/// The one name that our own table has for a service that goes by several, such as `rdp` for
/// `ms-wbt-server`; `None` for names that only IANA knows.
pub fn canonical(name: &str) -> Option<&'static str> {
    let folded = fold(name);
    let found = NAMES.binary_search_by(|(key, _)| (*key).cmp(&folded)).ok()?;
    Some(NAMES[found].1)
}

/// IANA's entries under exactly this name, whatever people mean by it.
pub fn registered(name: &str) -> Vec<Service> {
    entries(IANA, &fold(name))
}

/// The name that a person would use for a port: our own first, then IANA's. [`named`] leads back to
/// the port, though it may hold others too (`dns` for 53/udp): to write a name, take [`exact_name`].
pub fn name_of(protocol: Protocol, port: u16) -> Option<&'static str> {
    names(protocol, port).find(|name| named(name).iter().any(|service| service.contains(protocol, port)))
}

/// The name that stands for exactly these protocols and ports (first and last), no more and no less.
/// `ports` are disjoint, in any order.
pub fn exact_name(ports: &[PortRange]) -> Option<&'static str> {
    let mut wanted = ports.to_vec();
    wanted.sort();
    let (protocol, first, _) = *wanted.first()?;
    names(protocol, first).find(|name| {
        let mut found: Vec<_> =
            named(name).iter().map(|service| (service.protocol, service.first_port, service.last_port)).collect();
        found.sort();
        found == wanted
    })
}

fn names(protocol: Protocol, port: u16) -> impl Iterator<Item = &'static str> {
    names_at(CUSTOM_PORTS, protocol, port).chain(registered_names_of(protocol, port))
}

/// The first name that IANA has for a port.
pub fn registered_name_of(protocol: Protocol, port: u16) -> Option<&'static str> {
    registered_names_of(protocol, port).next()
}

/// Every name that IANA has for a port, the main one first.
pub fn registered_names_of(protocol: Protocol, port: u16) -> impl Iterator<Item = &'static str> {
    names_at(IANA_PORTS, protocol, port)
}

/// Our own names for a port, those included that other programs use as much (`galera` for 4567/tcp).
pub fn known_uses_of(protocol: Protocol, port: u16) -> impl Iterator<Item = &'static str> {
    CUSTOM
        .iter()
        .map(|(_, service)| service)
        .filter(move |service| service.contains(protocol, port))
        .map(|service| service.name)
}

/// Our own names, one for each service, in alphabetical order.
pub fn custom_names() -> impl Iterator<Item = &'static str> {
    let mut last = "";
    CUSTOM.iter().map(|(_, service)| service.name).filter(move |name| std::mem::replace(&mut last, name) != *name)
}

/// Protocol, first and last port, name; sorted. And how far a range of it reaches at most.
type PortTable = (&'static [(u8, u16, u16, &'static str)], u16);

fn names_at((table, widest): PortTable, protocol: Protocol, port: u16) -> impl Iterator<Item = &'static str> {
    let below = (protocol.0, port.saturating_sub(widest));
    let from = table.partition_point(|(number, first, ..)| (*number, *first) < below);
    let to = table.partition_point(|(number, first, ..)| (*number, *first) <= (protocol.0, port));
    // From the back: what begins at the port itself goes before a range around it.
    let same_start = table[from..to].chunk_by(|a, b| a.1 == b.1).rev().flatten();
    same_start.filter(move |(_, _, last, _)| *last >= port).map(|(.., name)| *name)
}
