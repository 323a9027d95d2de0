//! What the lints ask about rows: which service one is, who its ends are, what else the pair may do.
//!
//! In: rows and context. Out: answers. Never: a finding.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use ringwall_diagnostic::Diagnostic;
use ringwall_packet::{Interval, IntervalSet, Protocol};
use ringwall_services::{Fact, FactKind, PortRange, canonical, facts, name_of, named, registered_names_of, with_fact};

use crate::{Context, Direction, Ports, Role, Row, Transport};

/// Ranges wider than this say nothing about single services.
const WIDEST_LIST: u16 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End<'a> {
    Unstated,
    Any,
    Internet,
    Role(&'a str),
}

/// A guide may have a million rows: what a lint asks for one row is looked up, not searched for.
pub(crate) struct View<'a> {
    pub rows: &'a [Row],
    pub context: &'a Context,
    /// By the keys of source and destination; rows for both directions stand under either.
    by_pair: HashMap<Pair, Vec<&'a Row>>,
    roles: HashMap<String, &'a Role>,
    pairs: Vec<(&'a str, &'a str)>,
    /// Under either order of the two.
    clusters: HashMap<Pair, Cluster>,
}

/// The program that some rows tell by their ports together.
pub(crate) type Cluster = (&'static str, &'static Fact);

pub(crate) type Pair = (String, String);

/// More places than this are counted rather than shown.
const SHOWN: usize = 20;

/// One spelling for all that mean the same end.
pub(crate) fn key(text: &str) -> String {
    match end(text) {
        End::Any => "any".to_owned(),
        End::Internet => "internet".to_owned(),
        End::Unstated | End::Role(_) => plain(text),
    }
}

pub(crate) fn pair(row: &Row) -> Pair {
    (key(&row.source), key(&row.destination))
}

/// `1 row has`, `2 rows have`.
pub(crate) fn count(number: usize, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

/// One finding on several rows: the first as its place, the others beside it.
pub(crate) fn on_all<'a>(finding: Diagnostic, rows: &[&'a Row], text: impl Fn(&'a Row) -> String) -> Diagnostic {
    // The services of one rule of a policy are rows with one place.
    let mut places: Vec<&Row> = rows.to_vec();
    places.dedup_by_key(|row| row.span);
    let Some((first, rest)) = places.split_first() else { return finding };
    let finding = finding.at(first.span, text(first));
    let finding = rest.iter().take(SHOWN).fold(finding, |finding, row| finding.related(row.span, text(row)));
    match rest.len().checked_sub(SHOWN) {
        None | Some(0) => finding,
        Some(hidden) => finding.note(format!("and {}", count(hidden, "more place", "more places"))),
    }
}

/// What some rows open together.
#[derive(Default)]
pub(crate) struct Opened {
    by_protocol: BTreeMap<Protocol, IntervalSet<u16>>,
    /// Where the protocol is not said.
    unstated: IntervalSet<u16>,
    /// Protocols without ports, or without a word about them.
    whole: BTreeSet<Protocol>,
    everything: bool,
}

impl<'a> FromIterator<&'a Row> for Opened {
    fn from_iter<I: IntoIterator<Item = &'a Row>>(rows: I) -> Self {
        let mut opened = Self::default();
        let mut intervals: BTreeMap<Option<Protocol>, Vec<Interval<u16>>> = BTreeMap::new();
        for row in rows {
            let protocol = match row.protocol {
                Transport::Is(protocol) => Some(protocol),
                Transport::Any | Transport::Unstated => None,
            };
            match &row.ports {
                _ if row.is_everything() => opened.everything = true,
                Ports::Are(ports) => intervals.entry(protocol).or_default().extend(ports.intervals()),
                Ports::Any => intervals.entry(protocol).or_default().push(Interval::FULL),
                Ports::Unstated => opened.whole.extend(protocol),
            }
        }
        for (protocol, intervals) in intervals {
            let ports = intervals.into_iter().collect();
            match protocol {
                Some(protocol) => drop(opened.by_protocol.insert(protocol, ports)),
                None => opened.unstated = ports,
            }
        }
        opened
    }
}

impl Opened {
    /// Whether all is open that a row opens.
    pub fn covers(&self, row: &Row) -> bool {
        let of = |protocol| self.by_protocol.get(&protocol).cloned().unwrap_or_default();
        self.everything
            || match (row.protocol, &row.ports) {
                (Transport::Is(protocol), Ports::Are(ports)) => {
                    ports.is_subset(&of(protocol)) || ports.is_subset(&self.unstated)
                }
                (Transport::Is(protocol), Ports::Any) => of(protocol).is_full() || self.unstated.is_full(),
                (Transport::Is(protocol), Ports::Unstated) => self.whole.contains(&protocol),
                (_, Ports::Are(ports)) => {
                    ports.is_subset(&self.unstated) || self.by_protocol.values().any(|own| ports.is_subset(own))
                }
                (_, Ports::Any | Ports::Unstated) => false,
            }
    }

    /// Whether any port of a range is open.
    pub fn opens(&self, (protocol, first, last): PortRange) -> bool {
        let Some(range) = Interval::new(first, last).map(IntervalSet::from) else { return false };
        let own = self.by_protocol.get(&protocol).is_some_and(|own| !own.is_disjoint(&range));
        self.everything || own || !self.unstated.is_disjoint(&range)
    }
}

/// Lower case, one space between words.
pub(crate) fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// Whole words of a text, in lower case.
pub(crate) fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

pub(crate) fn end(text: &str) -> End<'_> {
    match plain(text).as_str() {
        "" => End::Unstated,
        "any" | "*" | "anywhere" | "everywhere" | "any host" | "any ip" | "any source" | "0.0.0.0/0" | "::/0" => {
            End::Any
        }
        "internet" | "the internet" | "public internet" => End::Internet,
        _ => End::Role(text),
    }
}

/// `tcp/443`, `tcp/4567-4568`, `any`.
pub(crate) fn traffic(row: &Row) -> String {
    let protocol = match row.protocol {
        Transport::Any => return "any".to_owned(),
        Transport::Unstated => None,
        Transport::Is(protocol) => Some(protocol),
    };
    let mut text = protocol.map(|protocol| protocol.to_string()).unwrap_or_default();
    let Ports::Are(ports) = &row.ports else { return if text.is_empty() { "any".to_owned() } else { text } };
    for (index, interval) in ports.intervals().iter().enumerate() {
        let before = if index > 0 {
            ","
        } else if protocol.is_some() {
            "/"
        } else {
            ""
        };
        let written = match interval.is_single() {
            true => write!(text, "{before}{}", interval.first()),
            false => write!(text, "{before}{}-{}", interval.first(), interval.last()),
        };
        written.expect("a string");
    }
    text
}

pub(crate) fn ports_text(ports: &[PortRange]) -> String {
    let one = |(protocol, first, last): &PortRange| match first == last {
        true => format!("{first}/{protocol}"),
        false => format!("{first}-{last}/{protocol}"),
    };
    ports.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl Row {
    /// The label without a remark in brackets behind it.
    pub(crate) fn name(&self) -> Option<&str> {
        let label = self.label.as_deref()?;
        let name = label.split_once('(').map_or(label, |(name, _)| name).trim();
        (!name.is_empty()).then_some(name)
    }

    /// Every port that the row names; ranges that open many are left out.
    pub(crate) fn single_ports(&self) -> Vec<u16> {
        let Ports::Are(ports) = &self.ports else { return Vec::new() };
        let listed = ports.intervals().iter().filter(|interval| interval.last() - interval.first() < WIDEST_LIST);
        listed.flat_map(|interval| interval.first()..=interval.last()).collect()
    }

    /// The protocols with ports that the row may mean.
    pub(crate) fn protocols(&self) -> Vec<Protocol> {
        match self.protocol {
            Transport::Is(protocol) => vec![protocol],
            Transport::Any | Transport::Unstated => vec![Protocol::TCP, Protocol::UDP],
        }
    }

    pub(crate) fn is_every_port(&self) -> bool {
        matches!(self.ports, Ports::Any) || matches!(&self.ports, Ports::Are(ports) if ports.is_full())
    }

    /// Everything from the source to the destination.
    pub(crate) fn is_everything(&self) -> bool {
        let every_port = self.is_every_port();
        match self.protocol {
            Transport::Any => every_port || self.ports == Ports::Unstated,
            Transport::Unstated => every_port,
            Transport::Is(_) => false,
        }
    }

    /// Whether it opens any port of the range.
    pub(crate) fn opens(&self, (protocol, first, last): PortRange) -> bool {
        let same = match self.protocol {
            Transport::Is(own) => own == protocol,
            Transport::Any | Transport::Unstated => true,
        };
        same && match &self.ports {
            Ports::Any => true,
            Ports::Unstated => self.protocol == Transport::Any,
            Ports::Are(ports) => ports.intervals().iter().any(|own| own.first() <= last && first <= own.last()),
        }
    }

    /// The services that it opens, each with its port: by the label, and by the number where that
    /// says nothing.
    pub(crate) fn services(&self) -> Vec<(&'static str, u16)> {
        let label = self.name().filter(|name| !named(name).is_empty());
        let on_port = |port: u16| match label {
            Some(label) => canonical(label).filter(|name| {
                let is_own = |protocol: &Protocol| named(name).iter().any(|service| service.contains(*protocol, port));
                is_anywhere(name) || self.protocols().iter().any(is_own)
            }),
            None => {
                let names = self.protocols().into_iter().filter_map(|protocol| name_of(protocol, port));
                names.filter_map(canonical).next()
            }
        };
        self.single_ports().into_iter().filter_map(|port| Some((on_port(port)?, port))).collect()
    }
}

impl<'a> View<'a> {
    pub fn new(rows: &'a [Row], context: &'a Context) -> Self {
        let mut by_pair: HashMap<Pair, Vec<&Row>> = HashMap::new();
        for row in rows {
            let (source, destination) = pair(row);
            if row.direction == Direction::Both && source != destination {
                by_pair.entry((destination.clone(), source.clone())).or_default().push(row);
            }
            by_pair.entry((source, destination)).or_default().push(row);
        }
        let roles = context.roles.iter().map(|role| (plain(&role.name), role)).collect();
        let clusters = clusters(&by_pair);
        Self { rows, context, by_pair, roles, pairs: pairs(rows), clusters }
    }

    pub fn role(&self, name: &str) -> Option<&'a Role> {
        self.roles.get(&plain(name)).copied()
    }

    /// Keys of the ends that speak of a role too: `any`, and what the role is a part of.
    pub fn including(&self, role: &str) -> Vec<String> {
        let wholes = self.role(role).into_iter().flat_map(|role| role.part_of.iter().map(|whole| key(whole)));
        wholes.chain([key(role), "any".to_owned()]).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Rows that open connections from one role to another, by whatever name they call the two.
    pub fn between(&self, source: &str, destination: &str) -> impl Iterator<Item = &'a Row> {
        let destinations = self.including(destination);
        let pairs = self.including(source).into_iter().flat_map(move |source| {
            destinations.clone().into_iter().map(move |destination| (source.clone(), destination))
        });
        pairs.flat_map(|pair| self.by_pair.get(&pair).into_iter().flatten().copied())
    }

    /// The same, of rows that name exactly these two.
    pub fn exactly_between(&self, source: &str, destination: &str) -> &[&'a Row] {
        self.by_pair.get(&(key(source), key(destination))).map_or(&[], Vec::as_slice)
    }

    /// The words that tell what a role is: its name and its description.
    fn is_about(&self, role: &str, words_of_interest: &[&str]) -> bool {
        let description = self.role(role).and_then(|role| role.description.as_deref()).unwrap_or_default();
        words(role).chain(words(description)).any(|word| words_of_interest.contains(&word.as_str()))
    }

    /// People at their machines, rather than a program.
    pub fn is_people(&self, role: &str) -> bool {
        self.is_about(role, &["user", "users", "workstation", "workstations", "browser", "browsers", "admin", "admins"])
    }

    /// Several machines of one kind.
    pub fn is_several(&self, role: &str) -> bool {
        match self.role(role).and_then(|role| role.members) {
            Some(members) => members > 1,
            None => self.is_about(role, &["members", "nodes", "instances", "replicas", "peers"]),
        }
    }

    /// The cluster program that the rows between two roles tell, either way taken together.
    pub fn cluster_between(&self, one: &str, other: &str) -> Option<Cluster> {
        self.clusters.get(&(key(one), key(other))).copied()
    }

    /// Two roles of one cluster.
    pub fn are_peers(&self, one: &str, other: &str) -> bool {
        key(one) == key(other) || self.cluster_between(one, other).is_some()
    }

    /// Pairs of different roles that have rows, each pair once, in the order of the rows.
    pub fn pairs(&self) -> &[(&'a str, &'a str)] {
        &self.pairs
    }
}

fn pairs(rows: &[Row]) -> Vec<(&str, &str)> {
    let mut seen = BTreeSet::new();
    let mut pairs = Vec::new();
    for row in rows {
        let (End::Role(source), End::Role(destination)) = (end(&row.source), end(&row.destination)) else {
            continue;
        };
        let (a, b) = (plain(source), plain(destination));
        if a != b && seen.insert(if a < b { (a, b) } else { (b, a) }) {
            pairs.push((source, destination));
        }
    }
    pairs
}

fn clusters(by_pair: &HashMap<Pair, Vec<&Row>>) -> HashMap<Pair, Cluster> {
    let known: Vec<_> = with_fact().filter(|(_, fact)| matches!(fact.kind, FactKind::Cluster(_))).collect();
    let mut clusters = HashMap::new();
    for ((one, other), rows) in by_pair {
        let back = by_pair.get(&(other.clone(), one.clone()));
        let rows = rows.iter().chain(back.into_iter().flatten()).copied();
        // A row for all ports of a protocol tells nothing of what they are for.
        let opened: Opened = rows.filter(|row| !row.is_everything() && !row.is_every_port()).collect();
        let told = known.iter().find(|(_, fact)| match fact.kind {
            FactKind::Cluster(ports) => ports.iter().all(|port| opened.opens(*port)),
            _ => false,
        });
        if let Some(cluster) = told {
            clusters.insert((one.clone(), other.clone()), *cluster);
            clusters.insert((other.clone(), one.clone()), *cluster);
        }
    }
    clusters
}

/// Whether a label may stand beside a port and protocol: by our table, by IANA's, or because the
/// service has several ports.
pub(crate) fn fits(label: &str, protocol: Protocol, port: u16) -> bool {
    let contains = |(own, first, last): &PortRange| *own == protocol && (*first..=*last).contains(&port);
    let also = facts(label).any(|fact| matches!(fact.kind, FactKind::Also(ports) if ports.iter().any(contains)));
    let same = |name| canonical(name).is_some() && canonical(name) == canonical(label);
    also || named(label).iter().any(|service| service.contains(protocol, port))
        || registered_names_of(protocol, port).any(same)
}

pub(crate) fn is_anywhere(label: &str) -> bool {
    facts(label).any(|fact| fact.kind == FactKind::Anywhere)
}
