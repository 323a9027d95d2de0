//! What packets must have beyond their header, in words: `state new`, `in by eth0`, `ip ttl 255`.
//!
//! In: a variable and its values. Out: a text that says exactly these values. Never: what a match that
//! no reader understands may mean; it is said as it stands in the text.

use std::net::{Ipv4Addr, Ipv6Addr};

use ringwall_packet::{Family, Interval, IntervalSet, State, Variable, interfaces_from};

/// So many values are listed; what has more of them is said by what it is not, or cut short.
const LISTED: usize = 6;

/// The condition that a variable has one of some values.
pub fn text(variable: &Variable, values: &IntervalSet<u128>, family: Family) -> String {
    let is = |what: &str, value: &dyn Fn(Interval<u128>) -> String| {
        let list = |values: &IntervalSet<u128>| {
            let all = values.intervals();
            let mut words: Vec<String> = all.iter().take(LISTED).map(|interval| value(*interval)).collect();
            words.extend((all.len() > LISTED).then(|| format!("{} more", all.len() - LISTED)));
            words.join(" or ")
        };
        let others = values.complement();
        match others.intervals().len() < values.intervals().len() {
            true => format!("not {what} {}", list(&others)),
            false => format!("{what} {}", list(values)),
        }
    };
    match variable {
        Variable::State => {
            let states = State::ALL.into_iter().filter(|state| values.contains(state.values().first()));
            format!("state {}", states.map(State::word).collect::<Vec<_>>().join(" or "))
        }
        Variable::InputInterface => is("in by", &interfaces),
        Variable::OutputInterface => is("out by", &interfaces),
        Variable::Clock => is("at the second", &|interval| range(interval, &|value| value.to_string())),
        Variable::OriginalDestination => is("first sent to", &|interval| range(interval, &|value| address(value, family))),
        Variable::OriginalPort => is("first sent to port", &|interval| range(interval, &|value| value.to_string())),
        Variable::Field(expression) => is(expression, &|interval| range(interval, &|value| value.to_string())),
        Variable::Holds(text) if values.contains(0) => format!("not `{text}`"),
        Variable::Holds(text) => format!("`{text}`"),
    }
}

/// What a variable is, for a sentence such as `it depends on …`.
pub fn name(variable: &Variable) -> String {
    match variable {
        Variable::State => "the connection's state".into(),
        Variable::InputInterface => "the interface that it comes in by".into(),
        Variable::OutputInterface => "the interface that it leaves by".into(),
        Variable::Clock => "the time".into(),
        Variable::OriginalDestination => "the destination before translation".into(),
        Variable::OriginalPort => "the destination port before translation".into(),
        Variable::Field(expression) => format!("`{expression}`"),
        Variable::Holds(text) => format!("`{text}`"),
    }
}

fn range(interval: Interval<u128>, text: &dyn Fn(u128) -> String) -> String {
    match (interval.first(), interval.last()) {
        (first, last) if first == last => text(first),
        // The last value of a field stands for all from there on.
        (first, u128::MAX) => format!("{} or more", text(first)),
        (first, last) => format!("{}-{}", text(first), text(last)),
    }
}

fn address(bits: u128, family: Family) -> String {
    match (family, u32::try_from(bits)) {
        (Family::V4, Ok(bits)) => Ipv4Addr::from_bits(bits).to_string(),
        (Family::V4, Err(_)) => Ipv4Addr::BROADCAST.to_string(),
        (Family::V6, _) => Ipv6Addr::from_bits(bits).to_string(),
    }
}

/// `eth0`, `veth*`; what is neither is a range of names as they are sorted.
fn interfaces(interval: Interval<u128>) -> String {
    let first = interface(interval.first());
    if interval.is_single() {
        return first;
    }
    if interfaces_from(&first).is_some_and(|names| names.intervals() == [interval]) {
        return format!("{first}*");
    }
    format!("a name from {first} to {}", interface(interval.last()))
}

fn interface(value: u128) -> String {
    let bytes = value.to_be_bytes();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    match std::str::from_utf8(&bytes[..end]) {
        Ok("") => "no interface".into(),
        Ok(name) if name.chars().all(|c| c.is_ascii_graphic()) => name.to_owned(),
        _ => "another".into(),
    }
}
