//! Entries as one rule each, in order of precedence: for rare paths, where size counts more than
//! speed, and for what does not fit into a diagram.

use ringwall_packet::{AddressSet, Family, IntervalSet, Protocol, UpperCube};

use super::body::name_set;
use super::transaction::Generation;
use super::text;
use crate::meaning::Path;
use crate::model::{CLOCK_MIN, Effect, Entry};

/// The conditions of an entry beside its addresses and ports, each with a space after it: several
/// alternatives where nft can't say "or", and `""` for none.
pub(super) fn conditions(
    generation: Generation,
    entry: &Entry,
    source_ports: Option<&IntervalSet<u16>>,
    family: Family,
    path: Path,
) -> Vec<String> {
    let mut fixed = String::new();
    if let Some(ports) = source_ports {
        fixed.push_str(&format!("th sport {} ", text::ports(ports)));
    }
    if let Some(expires) = entry.expires {
        if matches!(entry.effect, Effect::Accept { .. }) {
            fixed.push_str(&format!("meta time >= {CLOCK_MIN} "));
        }
        fixed.push_str(&format!("meta time < {expires} "));
    }
    let interfaces = match (&entry.interface, path) {
        (None, _) => vec![String::new()],
        (Some(name), Path::Input) => vec![format!("iifname \"{name}\" ")],
        (Some(name), Path::Output) => vec![format!("oifname \"{name}\" ")],
        (Some(name), Path::Forward) => vec![format!("iifname \"{name}\" "), format!("oifname \"{name}\" ")],
    };
    let names = if entry.names.is_empty() {
        vec![String::new()]
    } else {
        let ip = text::ip(family);
        entry.names.iter().map(|name| format!("{ip} daddr @{} ", name_set(generation, name, family))).collect()
    };
    let pairs = interfaces.iter().flat_map(|interface| names.iter().map(move |name| (interface, name)));
    pairs.map(|(interface, name)| format!("{interface}{name}{fixed}")).collect()
}

/// Which header fields stand for source, destination and ports.
struct Fields {
    source: &'static str,
    destination: &'static str,
    destination_port: &'static str,
    source_port: &'static str,
}

const REQUEST: Fields =
    Fields { source: "saddr", destination: "daddr", destination_port: "th dport", source_port: "th sport" };

/// The answer to a request: both pairs change places.
const ANSWER: Fields =
    Fields { source: "daddr", destination: "saddr", destination_port: "th sport", source_port: "th dport" };

/// A published port, by the destination that the packet had before it was translated.
const ORIGINAL: Fields = Fields {
    source: "saddr",
    destination: "original",
    destination_port: "ct original proto-dst",
    source_port: "th sport",
};

/// One line per entry and box, as the diagram would decide.
pub(super) fn plain(
    generation: Generation,
    entries: &[Entry],
    include: impl Fn(&Entry) -> bool,
    family: Family,
    path: Path,
    name: &str,
    suffix: &str,
) -> Vec<String> {
    let included = entries.iter().filter(|entry| include(entry));
    included
        .flat_map(|entry| {
            let target = format!("goto {name}_r_{}{suffix}", entry.id);
            lines(generation, entry, family, &REQUEST, path, &entry.source, &entry.destination, &target)
        })
        .collect()
}

/// Accepts answers to what the entries allow; a denied flow's answer returns.
pub(super) fn answers(generation: Generation, entries: &[Entry], family: Family) -> Vec<String> {
    let enforced = entries.iter().filter(|entry| !entry.audit && entry.names.is_empty());
    enforced
        .flat_map(|entry| {
            let verdict = if matches!(entry.effect, Effect::Accept { .. }) { "accept" } else { "return" };
            // The answer uses the interface of the request the other way round.
            lines(generation, entry, family, &ANSWER, Path::Forward, &entry.source, &entry.destination, verdict)
        })
        .collect()
}

/// Entries of the input, for packets that a published port has translated.
pub(super) fn published(generation: Generation, entries: &[Entry], family: Family, input: &str) -> Vec<String> {
    let enforced = entries.iter().filter(|entry| !entry.audit);
    enforced
        .flat_map(|entry| {
            let target = format!("goto {input}_r_{}", entry.id);
            lines(generation, entry, family, &ORIGINAL, Path::Input, &entry.source, &entry.destination, &target)
        })
        .collect()
}

/// Entries of the output whose source is one of the node's addresses, for packets that a
/// container sends: they leave with the node's address.
pub(super) fn egress(
    generation: Generation,
    entries: &[Entry],
    family: Family,
    local: &AddressSet,
    output: &str,
) -> Vec<String> {
    let any = AddressSet::full();
    let enforced = entries.iter().filter(|entry| {
        // Which address of the node they leave with is not known here. An allow counts only where
        // it holds for all of them, a deny where it holds for one.
        !entry.audit
            && match entry.effect {
                Effect::Accept { .. } => match family {
                    Family::V4 => local.v4.is_subset(&entry.source.v4),
                    Family::V6 => local.v6.is_subset(&entry.source.v6),
                },
                Effect::Drop | Effect::Reject => true,
            }
    });
    enforced
        .flat_map(|entry| {
            let target = format!("goto {output}_r_{}", entry.id);
            lines(generation, entry, family, &REQUEST, Path::Output, &any, &entry.destination, &target)
        })
        .collect()
}

fn lines(
    generation: Generation,
    entry: &Entry,
    family: Family,
    fields: &Fields,
    path: Path,
    source: &AddressSet,
    destination: &AddressSet,
    target: &str,
) -> Vec<String> {
    let ip = text::ip(family);
    if !entry.source.has(family) || !entry.destination.has(family) {
        return Vec::new();
    }
    let mut head = format!("meta nfproto {} ", text::nfproto(family));
    if let Some(source) = text::addresses(source, family) {
        head.push_str(&format!("{ip} {} {source} ", fields.source));
    }
    if let Some(destination) = text::addresses(destination, family) {
        match fields.destination {
            "original" => head.push_str(&format!("ct original {ip} daddr {destination} ")),
            field => head.push_str(&format!("{ip} {field} {destination} ")),
        }
    }
    let upper = entry.upper.of_family(family);
    // An echo reply is no request turned round: conntrack's `established` is all that fits it.
    let is_icmp = |cube: &UpperCube| cube.protocols().only().is_some_and(|number| Protocol(number).is_icmp());
    let cubes = upper.cubes().iter().filter(|cube| fields.source == "saddr" || !is_icmp(cube));
    cubes
        .flat_map(|cube| {
            let matches = upper_match(cube, family, fields);
            let conditions = conditions(generation, entry, None, family, path);
            let head = &head;
            conditions.into_iter().map(move |condition| format!("{head}{matches}{condition}{target}"))
        })
        .collect()
}

/// The protocol and port part of a line, with a space after it.
fn upper_match(cube: &UpperCube, family: Family, fields: &Fields) -> String {
    let mut text = String::new();
    let protocols = cube.protocols();
    if !protocols.is_full() {
        let keys: Vec<String> = protocols
            .intervals()
            .iter()
            .map(|i| text::key(super::layout::Field::Protocol, family, i.first().into(), i.last().into()))
            .collect();
        text.push_str(&format!("meta l4proto {} ", text::set(&keys)));
    }
    if !cube.destination_ports().is_full() {
        let is_icmp = protocols.only().is_some_and(|number| Protocol(number).is_icmp());
        let ports = text::ports(cube.destination_ports());
        let field = if is_icmp { "@th,0,16" } else { fields.destination_port };
        text.push_str(&format!("{field} {ports} "));
    }
    if !cube.source_ports().is_full() {
        text.push_str(&format!("{} {} ", fields.source_port, text::ports(cube.source_ports())));
    }
    text
}
