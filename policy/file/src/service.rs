//! Services as operators write them: names, `tcp/4567-4568`, `icmp/echo-request`, `proto/112`.

use std::collections::BTreeMap;

use ringwall_diagnostic::Diagnostic;
use ringwall_packet::{Family, Interval, IntervalSet, Protocol, UpperCube, UpperSet};
use ringwall_policy::ServiceUse;

use crate::form::{Word, doubled};
use crate::near::{list, nearest};
use crate::report::Report;

/// ICMP types by meaning: name, type in IPv4 and in IPv6. The names are nft(8)'s "ICMP TYPE TYPE"
/// and "ICMPV6 TYPE TYPE"; the numbers are IANA's.
const ICMP_TYPES: &[(&str, Option<u8>, Option<u8>)] = &[
    ("echo-reply", Some(0), Some(129)),
    ("destination-unreachable", Some(3), Some(1)),
    ("packet-too-big", None, Some(2)),
    ("source-quench", Some(4), None),
    ("redirect", Some(5), Some(137)),
    ("nd-redirect", Some(5), Some(137)),
    ("echo-request", Some(8), Some(128)),
    ("router-advertisement", Some(9), Some(134)),
    ("nd-router-advert", Some(9), Some(134)),
    ("router-solicitation", Some(10), Some(133)),
    ("nd-router-solicit", Some(10), Some(133)),
    ("time-exceeded", Some(11), Some(3)),
    ("parameter-problem", Some(12), Some(4)),
    ("timestamp-request", Some(13), None),
    ("timestamp-reply", Some(14), None),
    ("info-request", Some(15), None),
    ("info-reply", Some(16), None),
    ("address-mask-request", Some(17), None),
    ("address-mask-reply", Some(18), None),
    ("mld-listener-query", None, Some(130)),
    ("mld-listener-report", None, Some(131)),
    ("mld-listener-done", None, Some(132)),
    ("mld-listener-reduction", None, Some(132)),
    ("nd-neighbor-solicit", None, Some(135)),
    ("nd-neighbor-advert", None, Some(136)),
    ("router-renumbering", None, Some(138)),
    ("ind-neighbor-solicit", None, Some(141)),
    ("ind-neighbor-advert", None, Some(142)),
    ("mld2-listener-report", None, Some(143)),
];

/// Names that stand for protocols, which a policy's own service can't take.
pub fn is_reserved(name: &str) -> bool {
    name == "any" || name == "proto" || Protocol::named(name).is_some()
}

/// The services that a policy may name, each resolved once.
pub struct Services {
    own: BTreeMap<String, Option<UpperSet>>,
    known: BTreeMap<String, UpperSet>,
}

impl Services {
    /// With the policy's own services, which may name anything but each other.
    pub fn new(definitions: &[(Word, Vec<Word>)], report: &mut Report) -> Self {
        let mut services = Self { own: BTreeMap::new(), known: BTreeMap::new() };
        let mut resolved = BTreeMap::new();
        let names: BTreeMap<&str, &Word> = definitions.iter().map(|(name, _)| (name.text.as_str(), name)).collect();
        let mut first_places: BTreeMap<&str, &Word> = BTreeMap::new();
        for (name, words) in definitions {
            if let Some(first) = first_places.insert(&name.text, name) {
                report.push(doubled(&format!("the service `{}`", name.text), first.span, name.span));
            }
            if is_reserved(&name.text) {
                let message = format!("`{}` already stands for a protocol", name.text);
                report.push(Diagnostic::error("RW0107", message).at(name.span, "choose another name"));
            }
            if words.is_empty() {
                let message = format!("the service `{}` has no protocol and port", name.text);
                report.push(Diagnostic::error("RW0106", message).at(name.span, "").help("such as `[tcp/4567-4568]`"));
            }
            let uppers: Vec<Option<UpperSet>> = words
                .iter()
                .map(|word| match names.get(word.text.as_str()) {
                    Some(other) => {
                        let message = format!("a service can't be made of the policy's own `{}`", word.text);
                        let diagnostic = Diagnostic::error("RW0220", message).at(word.span, "write its ports here");
                        report.push(diagnostic.related(other.span, "an own service"));
                        None
                    }
                    None => services.resolve(word, report).map(|service| service.upper),
                })
                .collect();
            let uppers: Option<Vec<UpperSet>> = uppers.into_iter().collect();
            let upper = uppers.filter(|uppers| !uppers.is_empty());
            resolved.insert(
                name.text.clone(),
                upper.map(|uppers| uppers.iter().flat_map(UpperSet::cubes).cloned().collect()),
            );
        }
        services.own = resolved;
        services.known.clear();
        services
    }

    /// What the word stands for; `None` when that has been reported.
    pub fn resolve(&mut self, word: &Word, report: &mut Report) -> Option<ServiceUse> {
        let text = word.text.trim();
        let upper = match (self.known.get(text), self.own.get(text)) {
            (Some(upper), _) => upper.clone(),
            (None, Some(own)) => own.clone()?,
            (None, None) => match self.parse(text, word, report.is_full()) {
                Ok(upper) => upper,
                Err(diagnostic) => {
                    report.push(*diagnostic);
                    return None;
                }
            },
        };
        self.known.insert(text.to_owned(), upper.clone());
        Some(ServiceUse { text: text.to_owned(), upper })
    }

    fn parse(&self, text: &str, word: &Word, is_full: bool) -> Result<UpperSet, Box<Diagnostic>> {
        let Some((protocol, rest)) = text.split_once('/') else {
            return self.named(text, word, is_full);
        };
        if protocol == "proto" {
            return match rest.parse::<u8>() {
                Ok(number) => Ok(whole(Protocol(number))),
                Err(_) => {
                    let message = format!("`{rest}` is not a protocol number");
                    let help = "protocol numbers are 0 to 255, such as `proto/112`";
                    Err(Box::new(Diagnostic::error("RW0219", message).at(word.span, "").help(help)))
                }
            };
        }
        let Some(found) = Protocol::named(protocol) else {
            return Err(unknown_protocol(protocol, rest, word));
        };
        if found.is_icmp() {
            return icmp(found, rest, word);
        }
        if !found.has_ports() {
            let message = format!("`{protocol}` has no ports");
            return Err(Box::new(Diagnostic::error("RW0210", message).at(word.span, "").fix(word.span, protocol)));
        }
        let ports = ports(rest, word, text.len() - rest.len())?;
        Ok(UpperCube::ports(found, ports).into_iter().collect())
    }

    fn named(&self, text: &str, word: &Word, is_full: bool) -> Result<UpperSet, Box<Diagnostic>> {
        if text == "any" {
            return Ok(UpperSet::any());
        }
        if text == "icmp" {
            let both = [Protocol::ICMP, Protocol::ICMPV6];
            return Ok(both.into_iter().map(UpperCube::protocol).collect());
        }
        if let Some(protocol) = Protocol::named(text) {
            return Ok(whole(protocol));
        }
        let registered = ringwall_services::named(text);
        if !registered.is_empty() {
            let cubes = registered.iter().filter_map(|service| {
                let ports = Interval::new(service.first_port, service.last_port)?;
                UpperCube::ports(service.protocol, ports.into())
            });
            return Ok(cubes.collect());
        }
        let diagnostic = Diagnostic::error("RW0202", format!("there is no service `{text}`")).at(word.span, "");
        if is_full {
            return Err(Box::new(diagnostic));
        }
        let near = nearest(text, self.own.keys().map(String::as_str)).or_else(|| near_registered(text));
        Err(Box::new(match near {
            Some(name) => diagnostic.fix(word.span, name),
            None if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '-') => {
                diagnostic.help(format!("a port needs its protocol, such as `tcp/{text}`"))
            }
            None => diagnostic.help("name it under `services:`, or write protocol and port, such as `tcp/8443`"),
        }))
    }
}

/// The registry has no list to search, so this asks it for the usual slips: a letter too many or
/// two swapped.
fn near_registered(text: &str) -> Option<&'static str> {
    if !text.is_ascii() || text.len() > 40 || text.len() < 3 {
        return None;
    }
    let without = (0..text.len()).map(|at| format!("{}{}", &text[..at], &text[at + 1..]));
    let swapped = (1..text.len()).map(|at| {
        let mut bytes = text.as_bytes().to_vec();
        bytes.swap(at - 1, at);
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let letters = (0..=text.len())
        .flat_map(|at| ('a'..='z').map(move |letter| format!("{}{letter}{}", &text[..at], &text[at..])));
    let candidates: Vec<String> = swapped.chain(without).chain(letters).collect();
    // Names that people use come before those that only the registry knows.
    let in_use = candidates.iter().find_map(|candidate| ringwall_services::canonical(candidate));
    let registered = || candidates.iter().find_map(|candidate| ringwall_services::named(candidate).first().map(|s| s.name));
    in_use.or_else(registered)
}

fn whole(protocol: Protocol) -> UpperSet {
    std::iter::once(UpperCube::protocol(protocol)).collect()
}

fn unknown_protocol(protocol: &str, rest: &str, word: &Word) -> Box<Diagnostic> {
    const NAMES: &[&str] = &["tcp", "udp", "sctp", "dccp", "udplite", "icmp", "icmpv6", "proto"];
    let diagnostic = Diagnostic::error("RW0219", format!("there is no protocol `{protocol}`")).at(word.span, "");
    let swapped = Protocol::named(rest).filter(|_| protocol.starts_with(|c: char| c.is_ascii_digit()));
    Box::new(match (swapped, nearest(protocol, NAMES.iter().copied())) {
        (Some(_), _) => diagnostic.fix(word.span, format!("{}/{protocol}", rest.to_ascii_lowercase())),
        (None, Some(name)) => diagnostic.fix(word.span, format!("{name}/{rest}")),
        (None, None) => diagnostic.help(format!("a protocol with ports is {}", list(NAMES[..5].iter().copied()))),
    })
}

/// IANA, "ICMP Parameters" and "ICMPv6 Parameters": types that are or were assigned, or are for
/// experiments. Any other number was more likely meant as a port.
fn is_icmp_type(family: Family, number: u8) -> bool {
    match family {
        Family::V4 => matches!(number, 0 | 3..=6 | 8..=18 | 30..=43 | 253 | 254),
        Family::V6 => matches!(number, 1..=4 | 100 | 101 | 127..=161 | 200 | 201 | 255),
    }
}

fn icmp(protocol: Protocol, rest: &str, word: &Word) -> Result<UpperSet, Box<Diagnostic>> {
    let only = if protocol == Protocol::ICMP { Family::V4 } else { Family::V6 };
    if let Some(number) = rest.parse::<u8>().ok().filter(|number| is_icmp_type(only, *number)) {
        return Ok(std::iter::once(UpperCube::icmp(only, number, None)).collect());
    }
    if let Some((_, v4, v6)) = ICMP_TYPES.iter().find(|(name, ..)| *name == rest) {
        let v4 = v4.filter(|_| protocol == Protocol::ICMP).map(|kind| UpperCube::icmp(Family::V4, kind, None));
        let v6 = v6.map(|kind| UpperCube::icmp(Family::V6, kind, None));
        let cubes: UpperSet = v4.into_iter().chain(v6).collect();
        if !cubes.is_empty() {
            return Ok(cubes);
        }
    }
    let looks_like_ports = rest.contains(|c: char| c.is_ascii_digit());
    let diagnostic = if looks_like_ports {
        Diagnostic::error("RW0210", "ICMP has types, not ports").at(word.span, "")
    } else {
        Diagnostic::error("RW0217", format!("there is no ICMP type `{rest}`")).at(word.span, "")
    };
    let known = ICMP_TYPES.iter().map(|(name, ..)| *name);
    Err(Box::new(match nearest(rest, known) {
        Some(name) if !looks_like_ports => diagnostic.fix(word.span, format!("{protocol}/{name}")),
        _ => diagnostic.help("such as `icmp/echo-request`, or `icmp` for all of it"),
    }))
}

/// Ports and ranges with commas between them. `offset` is where `text` begins in the word.
pub fn ports(text: &str, word: &Word, offset: usize) -> Result<IntervalSet<u16>, Box<Diagnostic>> {
    let mut intervals = Vec::new();
    let mut at = offset;
    for part in text.split(',') {
        let start = at + (part.len() - part.trim_start().len());
        at += part.len() + 1;
        let part = part.trim();
        let span = word.part(start, start + part.len());
        let (first, last) = match part.split_once('-').map(|(first, last)| (first.trim(), last.trim())) {
            Some((first, last)) if !first.is_empty() && !last.is_empty() => (first, last),
            _ => (part, part),
        };
        let (first, last) = (port(first, word, span)?, port(last, word, span)?);
        match Interval::new(first, last) {
            Some(interval) => intervals.push(interval),
            None => {
                let diagnostic = Diagnostic::error("RW0209", format!("the range `{part}` is upside down"));
                return Err(Box::new(diagnostic.at(span, "").fix(span, format!("{last}-{first}"))));
            }
        }
    }
    Ok(intervals.into_iter().collect())
}

fn port(text: &str, word: &Word, span: ringwall_diagnostic::Span) -> Result<u16, Box<Diagnostic>> {
    let digits = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    if digits && let Ok(port) = text.parse::<u16>() {
        return Ok(port);
    }
    if digits {
        let diagnostic = Diagnostic::error("RW0208", format!("there is no port {text}")).at(span, "");
        return Err(Box::new(diagnostic.help("ports go up to 65535")));
    }
    let diagnostic = Diagnostic::error("RW0208", format!("`{text}` is not a port")).at(span, "");
    let protocol = word.text.split('/').next().and_then(Protocol::named);
    let registered = ringwall_services::named(text);
    let found = registered.iter().find(|service| Some(service.protocol) == protocol);
    Err(Box::new(match (found, text) {
        (Some(service), _) if text == word.text.split_once('/').map_or("", |(_, rest)| rest) => {
            diagnostic.fix(span, service.first_port.to_string())
        }
        (_, "any" | "all" | "*") => diagnostic.fix(span, "0-65535"),
        _ => diagnostic.help("a port is a number, such as `tcp/443`, a range is `tcp/4567-4568`"),
    }))
}
