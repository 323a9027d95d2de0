//! A draft in the language of policy files.
//!
//! In: a draft, the filter that it comes from, names for places and services. Out: YAML that
//! `policy/file` reads: the node, groups for addresses, rules with the lines they come from as notes.
//! Never: a service or an address that is more than the draft's, in an allow; or less, in a deny.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ringwall_packet::{AddressSet, Family, Interval, IntervalSet, Protocol, UpperCube};
use ringwall_ruleset::Path;
use ringwall_ruleset::filter::Filter;

use super::{Draft, Host, Rule};
use crate::words::texts;

/// The name that stands for exactly these protocols and ports (first and last).
pub type ExactName<'a> = dyn Fn(&[(Protocol, u16, u16)]) -> Option<&'static str> + 'a;

/// A policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    pub text: String,
    /// How many rules it has.
    pub rules: usize,
    /// Allows that the policy's language has no words for; they are not in it.
    pub unsaid: Vec<String>,
}

/// Without what only the caller knows: where it comes from, and what the proof found.
pub fn text(draft: &Draft, filter: &Filter, host: &Host, place: &dyn Fn(usize) -> String, exact: &ExactName<'_>) -> Text {
    let mut groups = Groups { host, known: BTreeMap::new(), by_addresses: BTreeMap::new() };
    let mut interfaces: BTreeMap<&str, ()> = BTreeMap::new();
    let (mut written, mut unsaid) = (Vec::new(), Vec::new());
    for rule in &draft.rules {
        let from: Vec<String> = rule.from.iter().map(|rule| place(*rule)).collect();
        let Some(services) = services(rule, exact) else {
            unsaid.push(format!("{}: its protocols or ICMP codes have no word in a policy", from.join(", ")));
            continue;
        };
        interfaces.extend(rule.via.as_deref().map(|via| (via, ())));
        let (source, destination) = groups.ends(rule);
        let mut text = format!("  - {}: {source} -> {destination}\n", if rule.allows { "allow" } else { "deny" });
        // A deny without services is about everything.
        if rule.allows || services != ["any"] {
            push(&mut text, &format!("    services: [{}]", services.iter().map(|name| item(name)).collect::<Vec<_>>().join(", ")));
        }
        if let Some(ports) = rule.uppers.first().map(UpperCube::source_ports).filter(|ports| !ports.is_full()) {
            let ports: Vec<String> = ports.intervals().iter().map(|ports| range(*ports)).collect();
            push(&mut text, &format!("    source_ports: [{}]", ports.iter().map(|ports| item(ports)).collect::<Vec<_>>().join(", ")));
        }
        if let Some(via) = &rule.via {
            push(&mut text, &format!("    via: {via}"));
        }
        push(&mut text, &format!("    note: {}", quoted(&note(rule, filter, &from))));
        written.push(text);
    }
    let mut text = String::from("stage: audit\n\nnodes:\n");
    let addresses: Vec<String> = texts(&host.addresses).iter().map(|address| item(address)).collect();
    let interfaces: Vec<String> = interfaces.into_keys().map(|name| format!("{}: {}", item(name), quoted(name))).collect();
    let interfaces = if interfaces.is_empty() { String::new() } else { format!(", interfaces: {{ {} }}", interfaces.join(", ")) };
    push(&mut text, &format!("  {}: {{ addresses: [{}]{interfaces} }}", host.name, addresses.join(", ")));
    if !groups.known.is_empty() {
        text.push_str("\ngroups:\n");
    }
    for (name, body) in &groups.known {
        push(&mut text, &format!("  {name}: {{ {body} }}"));
    }
    if !written.is_empty() {
        text.push_str("\nrules:\n");
    }
    written.iter().for_each(|rule| text.push_str(rule));
    Text { text, rules: written.len(), unsaid }
}

/// So many lines are named in a note.
const PLACES: usize = 8;

fn note(rule: &Rule, filter: &Filter, from: &[String]) -> String {
    let mut comments: Vec<&str> = rule.from.iter().filter_map(|rule| filter.rules[*rule].comment.as_deref()).collect();
    comments.dedup();
    let mut places = from[..from.len().min(PLACES)].join(", ");
    if from.len() > PLACES {
        places.push_str(&format!(" and {} more", from.len() - PLACES));
    }
    let chain = match rule.path {
        Path::Output => "no rule: what the policy of the chain for output accepts",
        _ => "no rule: what the policy of the chain for input accepts",
    };
    match (from.is_empty(), comments[..].is_empty()) {
        (true, _) => chain.into(),
        (false, true) => places,
        (false, false) => format!("{places}: {}", comments.into_iter().take(PLACES).collect::<Vec<_>>().join("; ")),
    }
}

fn push(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a string takes all text");
}

/// An item of a list in brackets, or a key.
fn item(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
        && !["true", "false", "yes", "no", "on", "off", "null", "y", "n"].contains(&text.to_lowercase().as_str());
    if is_plain { text.to_owned() } else { quoted(text) }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' | '\u{fffd}' => out.push(' '),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Ends by name. A rule has names alone, so addresses get groups.
struct Groups<'a> {
    host: &'a Host,
    /// Name -> what stands in its braces.
    known: BTreeMap<String, String>,
    by_addresses: BTreeMap<(Vec<String>, Vec<String>), String>,
}

impl Groups<'_> {
    /// Names for both ends of a rule, of which one is the machine: what it sends to itself is nobody's matter.
    fn ends(&mut self, rule: &Rule) -> (String, String) {
        let (near, far) = match rule.path {
            Path::Output => (&rule.source, &rule.destination),
            _ => (&rule.destination, &rule.source),
        };
        let own = &self.host.addresses;
        let is_own = Family::ALL.into_iter().filter(|family| far.has(*family)).all(|family| of(near, family) == of(own, family));
        let (near_name, near) = if is_own { (self.host.name.to_string(), own.clone()) } else { (self.group(near), near.clone()) };
        let is_any = Family::ALL.into_iter().filter(|family| near.has(*family)).all(|family| of(&far.union(own), family).is_full());
        let far_name = if is_any { "any".into() } else { self.group(&self.whole(far)) };
        match rule.path {
            Path::Output => (near_name, far_name),
            _ => (far_name, near_name),
        }
    }

    /// The machine's own addresses put back where they make holes.
    fn whole(&self, far: &AddressSet) -> AddressSet {
        let both = far.union(&self.host.addresses);
        let v4 = if both.v4.intervals().len() <= far.v4.intervals().len() { both.v4.clone() } else { far.v4.clone() };
        let v6 = if both.v6.intervals().len() <= far.v6.intervals().len() { both.v6.clone() } else { far.v6.clone() };
        // A family that is not in it stays so.
        AddressSet { v4: if far.v4.is_empty() { far.v4.clone() } else { v4 }, v6: if far.v6.is_empty() { far.v6.clone() } else { v6 } }
    }

    fn group(&mut self, set: &AddressSet) -> String {
        let (mut addresses, mut except) = (Vec::new(), Vec::new());
        for family in Family::ALL {
            let own = of(set, family);
            let others = of(&set.complement(), family);
            let wide = match family {
                Family::V4 => "0.0.0.0/0",
                Family::V6 => "::/0",
            };
            if texts(&others).len() < texts(&own).len() || own.is_full() {
                addresses.push(wide.to_owned());
                except.extend(texts(&others));
            } else {
                addresses.extend(texts(&own));
            }
        }
        let key = (addresses, except);
        if let Some(name) = self.by_addresses.get(&key) {
            return name.clone();
        }
        let kind = match (&key.0[..], key.1.is_empty()) {
            ([one], true) if one == "0.0.0.0/0" => "any-ipv4".to_owned(),
            ([one], true) if one == "::/0" => "any-ipv6".to_owned(),
            ([one], true) => {
                let kind = if one.contains(['/', '-']) { "net" } else { "host" };
                let plain: Vec<&str> = one.split([':', '/', '-']).filter(|piece| !piece.is_empty()).collect();
                format!("{kind}-{}", plain.join("-"))
            }
            (_, true) => "addresses-1".to_owned(),
            (_, false) => "any-except-1".to_owned(),
        };
        let stem = kind.trim_end_matches("-1").to_owned();
        let mut name = if matches!(&*stem, "addresses" | "any-except") { format!("{stem}-1") } else { kind };
        for number in 2.. {
            if !self.known.contains_key(&name) && name != self.host.name.as_str() {
                break;
            }
            name = format!("{stem}-{number}");
        }
        let list = |all: &[String]| all.iter().map(|address| item(address)).collect::<Vec<_>>().join(", ");
        let mut body = format!("addresses: [{}]", list(&key.0));
        if !key.1.is_empty() {
            body.push_str(&format!(", except: [{}]", list(&key.1)));
        }
        self.known.insert(name.clone(), body);
        self.by_addresses.insert(key, name.clone());
        name
    }
}

/// One family's addresses of a set, as a set.
fn of(set: &AddressSet, family: Family) -> OneFamily {
    match family {
        Family::V4 => OneFamily(AddressSet { v4: set.v4.clone(), ..AddressSet::default() }),
        Family::V6 => OneFamily(AddressSet { v6: set.v6.clone(), ..AddressSet::default() }),
    }
}

#[derive(PartialEq, Eq)]
struct OneFamily(AddressSet);

impl OneFamily {
    fn is_full(&self) -> bool {
        self.0.v4.is_full() || self.0.v6.is_full()
    }
}

impl std::ops::Deref for OneFamily {
    type Target = AddressSet;
    fn deref(&self) -> &AddressSet {
        &self.0
    }
}

/// The services of a rule. `None` when an allow can't be said; a deny is said wider then.
fn services(rule: &Rule, exact: &ExactName<'_>) -> Option<Vec<String>> {
    match words(rule, exact) {
        Some(words) => Some(words),
        None if rule.allows => None,
        None => {
            let whole = rule.uppers.iter().flat_map(|upper| upper.protocols().intervals());
            let whole = whole.flat_map(|interval| interval.first()..=interval.last()).map(|number| UpperCube::protocol(Protocol(number)));
            words(&Rule { uppers: whole.collect(), ..rule.clone() }, exact)
        }
    }
}

fn words(rule: &Rule, exact: &ExactName<'_>) -> Option<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    let mut ports: BTreeMap<u8, IntervalSet<u16>> = BTreeMap::new();
    for upper in &rule.uppers {
        let (protocols, to, from) = (upper.protocols(), upper.destination_ports(), upper.source_ports());
        if protocols.is_full() && to.is_full() && from.is_full() {
            return Some(vec!["any".into()]);
        }
        for number in protocols.intervals().iter().flat_map(|interval| interval.first()..=interval.last()) {
            let protocol = Protocol(number);
            if protocol.has_ports() && !(to.is_full() && from.is_full()) {
                let all = ports.entry(number).or_default();
                *all = all.union(to);
            } else if to.is_full() {
                names.push(match protocol.name() {
                    // As a word it is ICMP of both families.
                    Some(name) if !protocol.is_icmp() => name.to_owned(),
                    _ => format!("proto/{number}"),
                });
            } else {
                names.extend(icmp_types(protocol, to)?);
            }
        }
    }
    let mut rest: BTreeMap<u8, Vec<Interval<u16>>> = ports.iter().map(|(number, ports)| (*number, ports.intervals().to_vec())).collect();
    let mut own: Vec<String> = Vec::new();
    let all: Vec<(u8, Interval<u16>)> = rest.iter().flat_map(|(number, ports)| ports.iter().map(|ports| (*number, *ports))).collect();
    for (_, interval) in &all {
        // All protocols of these ports first, so that 53 by TCP and UDP is `dns`.
        let with: Vec<u8> = rest.iter().filter(|(_, ports)| ports.contains(interval)).map(|(number, _)| *number).collect();
        let of = |numbers: &[u8]| exact(&numbers.iter().map(|number| (Protocol(*number), interval.first(), interval.last())).collect::<Vec<_>>());
        let singles = with.iter().map(|number| vec![*number]);
        for numbers in std::iter::once(with.clone()).chain(singles) {
            let is_left = numbers.iter().all(|number| rest[number].contains(interval));
            if numbers.is_empty() || !is_left {
                continue;
            }
            if let Some(name) = of(&numbers) {
                own.push(name.to_owned());
                numbers.iter().for_each(|number| rest.entry(*number).or_default().retain(|known| known != interval));
            }
        }
    }
    for (number, ports) in rest.iter().filter(|(_, ports)| !ports.is_empty()) {
        let list: Vec<String> = ports.iter().map(|ports| range(*ports)).collect();
        own.push(format!("{}/{}", Protocol(*number), list.join(",")));
    }
    own.extend(names);
    let mut seen = std::collections::BTreeSet::new();
    own.retain(|name| seen.insert(name.clone()));
    Some(own)
}

/// Types that IANA's registries have, by number; `None` for others, and for single codes.
fn icmp_types(protocol: Protocol, types: &IntervalSet<u16>) -> Option<Vec<String>> {
    let is_assigned = |kind: u8| match protocol {
        Protocol::ICMP => matches!(kind, 0 | 3..=6 | 8..=18 | 30..=43 | 253 | 254),
        _ => matches!(kind, 1..=4 | 100 | 101 | 127..=161 | 200 | 201 | 255),
    };
    let mut names = Vec::new();
    for interval in types.intervals() {
        let ([first, from], [last, to]) = (interval.first().to_be_bytes(), interval.last().to_be_bytes());
        if from != 0 || to != u8::MAX || !(first..=last).all(is_assigned) {
            return None;
        }
        names.extend((first..=last).map(|kind| format!("{protocol}/{kind}")));
    }
    Some(names)
}

fn range(ports: Interval<u16>) -> String {
    if ports.is_single() { ports.first().to_string() } else { format!("{}-{}", ports.first(), ports.last()) }
}
