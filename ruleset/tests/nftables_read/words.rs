//! What a text does, in words that a manual can show.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use ringwall_packet::{Address, AddressSet, IntervalSet, Interval, Matches, Protocol, Row, State, Variable};
use ringwall_ruleset::Verdict;
use ringwall_ruleset::filter::{Decision, Filter, FilterVerdict};

/// Each base chain, and below it its rows: those of both families as one where they say the same.
pub fn decisions(filter: &Filter) -> String {
    let mut text = String::new();
    for chain in &filter.chains {
        writeln!(text, "{:?} {}: {} {}", chain.hook, chain.priority, chain.table, chain.name).expect("a string");
        let v4: Vec<String> = chain.decisions.v4.iter().map(|row| line(filter, row)).collect();
        let v6: Vec<String> = chain.decisions.v6.iter().map(|row| line(filter, row)).collect();
        if v4 == v6 {
            v4.iter().for_each(|line| writeln!(text, "  {line}").expect("a string"));
        } else {
            v4.iter().for_each(|line| writeln!(text, "  IPv4 {line}").expect("a string"));
            v6.iter().for_each(|line| writeln!(text, "  IPv6 {line}").expect("a string"));
        }
    }
    text
}

trait Words: Address {
    fn set(set: &IntervalSet<Self>) -> AddressSet;
}

impl Words for Ipv4Addr {
    fn set(set: &IntervalSet<Self>) -> AddressSet {
        AddressSet { v4: set.clone(), ..AddressSet::default() }
    }
}

impl Words for Ipv6Addr {
    fn set(set: &IntervalSet<Self>) -> AddressSet {
        AddressSet { v6: set.clone(), ..AddressSet::default() }
    }
}

fn line<A: Words>(filter: &Filter, row: &Row<A, Decision>) -> String {
    let mut words = matches(&row.matches);
    if words.is_empty() {
        words.push("all".into());
    }
    let verdict = match row.decision.verdict {
        FilterVerdict::Decided(Verdict::Accept) => "accept".to_owned(),
        FilterVerdict::Decided(Verdict::Drop) => "drop".into(),
        FilterVerdict::Decided(Verdict::Reject) => "reject".into(),
        FilterVerdict::Elsewhere(unknown) => format!("elsewhere ({})", filter.unknown[unknown].why),
    };
    let rule = row.decision.rule.map_or("policy".into(), |rule| format!("line {}", filter.rules[rule].line));
    let effects = filter.effects[row.decision.effects].join("; ");
    let effects = if effects.is_empty() { effects } else { format!(" [{effects}]") };
    format!("{} -> {verdict} ({rule}){effects}", words.join(", "))
}

fn matches<A: Words>(matches: &Matches<A>) -> Vec<String> {
    let mut words = Vec::new();
    let cube = &matches.cube;
    for (name, set) in [("from", &cube.source), ("to", &cube.destination)] {
        if !set.is_full() {
            let complement = set.complement();
            let (not, set) = if complement.intervals().len() < set.intervals().len() { ("not ", &complement) } else { ("", set) };
            let prefixes: Vec<String> = A::set(set).prefixes().iter().map(|prefix| prefix.to_string().trim_end_matches("/32").trim_end_matches("/128").to_owned()).collect();
            let shown = if prefixes.len() > 6 { format!("{} prefixes from {}", prefixes.len(), prefixes[0]) } else { prefixes.join(" ") };
            words.push(format!("{name} {not}{shown}"));
        }
    }
    let upper = &cube.upper;
    if !upper.protocols().is_full() {
        words.push(few(upper.protocols(), |number| Protocol(number).to_string()));
    }
    if !upper.source_ports().is_full() {
        words.push(format!("from port {}", few(upper.source_ports(), |port| port.to_string())));
    }
    if !upper.destination_ports().is_full() {
        let is_icmp = upper.protocols().only().is_some_and(|number| Protocol(number).is_icmp());
        let port = |port: u16| if is_icmp { format!("{}.{}", port >> 8, port & 255) } else { port.to_string() };
        words.push(format!("{} {}", if is_icmp { "type" } else { "port" }, few(upper.destination_ports(), port)));
    }
    for (variable, values) in matches.conditions.iter() {
        words.push(match variable {
            Variable::State => {
                let states = State::ALL.into_iter().filter(|state| values.contains(state.values().first()));
                states.map(State::word).collect::<Vec<_>>().join("/")
            }
            Variable::InputInterface => format!("in by {}", interfaces(values)),
            Variable::OutputInterface => format!("out by {}", interfaces(values)),
            Variable::Clock => format!("time {}", few(values, number)),
            Variable::OriginalDestination => format!("first to {}", few(values, number)),
            Variable::OriginalPort => format!("first to port {}", few(values, number)),
            Variable::Field(name) => format!("{name} {}", few(values, number)),
            Variable::Holds(name) if values.contains(0) => format!("not `{name}`"),
            Variable::Holds(name) => format!("`{name}`"),
        });
    }
    words
}

fn few<P: ringwall_packet::Point>(set: &IntervalSet<P>, word: impl Fn(P) -> String) -> String {
    let range = |range: &Interval<P>| match (range.is_single(), range.last() == P::MAX) {
        (true, _) => word(range.first()),
        (false, true) => format!("{}-", word(range.first())),
        (false, false) => format!("{}-{}", word(range.first()), word(range.last())),
    };
    let complement = set.complement();
    let (not, set) = if complement.intervals().len() < set.intervals().len() { ("not ", &complement) } else { ("", set) };
    let words: Vec<String> = set.intervals().iter().map(range).collect();
    format!("{not}{}", words.join(" "))
}

fn number(value: u128) -> String {
    value.to_string()
}

fn interfaces(values: &IntervalSet<u128>) -> String {
    let name = |value: u128| {
        let bytes = value.to_be_bytes();
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    };
    let word = |set: &IntervalSet<u128>| -> String {
        let words = set.intervals().iter().map(|range| if range.is_single() { name(range.first()) } else { format!("{}*", name(range.first())) });
        words.collect::<Vec<_>>().join(" ")
    };
    let complement = values.complement();
    if complement.intervals().len() < values.intervals().len() { format!("not {}", word(&complement)) } else { word(values) }
}
