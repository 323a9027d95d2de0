//! What becomes of one packet, by the tables of a text that was read.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ringwall_packet::{Family, Flow, PortProtocol, Protocol, Row, State, Upper, Variable, interface};
use ringwall_ruleset::filter::{Decision, Filter, FilterVerdict, Hook};

/// A packet with what it has beyond its header.
pub struct Packet {
    pub hook: Hook,
    pub flow: Flow,
    pub known: BTreeMap<Variable, u128>,
}

/// `input tcp 198.51.100.7:50000 -> 192.0.2.1:22, state new, in by eth0, not -m limit --limit 5/min`.
pub fn packet(text: &str) -> Option<Packet> {
    let (hook, rest) = text.trim().split_once(' ')?;
    let hook = match hook {
        "prerouting" => Hook::Prerouting,
        "input" => Hook::Input,
        "forward" => Hook::Forward,
        "output" => Hook::Output,
        _ => return None,
    };
    let mut parts = rest.split(", ");
    let flow = flow(parts.next()?)?;
    let mut known = BTreeMap::from([(Variable::State, 0)]);
    for part in parts.map(str::trim) {
        let number = |text: &str| text.parse::<u128>().ok();
        let (variable, value) = if let Some(word) = part.strip_prefix("state ") {
            (Variable::State, State::ALL.into_iter().find(|state| state.word() == word)?.values().first())
        } else if let Some(name) = part.strip_prefix("in by ") {
            (Variable::InputInterface, interface(name)?)
        } else if let Some(name) = part.strip_prefix("out by ") {
            (Variable::OutputInterface, interface(name)?)
        } else if let Some(address) = part.strip_prefix("first sent to port ") {
            (Variable::OriginalPort, number(address)?)
        } else if let Some(address) = part.strip_prefix("first sent to ") {
            (Variable::OriginalDestination, bits(address.parse().ok()?))
        } else if let Some(seconds) = part.strip_prefix("at ") {
            (Variable::Clock, number(seconds)?)
        } else if let Some((field, value)) = part.split_once(" = ") {
            (Variable::Field(field.into()), number(value)?)
        } else if let Some(text) = part.strip_prefix("not ") {
            (Variable::Holds(text.into()), 0)
        } else {
            (Variable::Holds(part.into()), 1)
        };
        known.insert(variable, value);
    }
    Some(Packet { hook, flow, known })
}

/// `tcp A:P -> B:Q`, `icmp 8/0 A -> B`, `gre A -> B`.
fn flow(text: &str) -> Option<Flow> {
    let (from, to) = text.split_once(" -> ")?;
    let (protocol, from) = from.split_once(' ')?;
    let protocol = Protocol::named(protocol).or_else(|| protocol.parse().ok().map(Protocol))?;
    if let Some(protocol) = PortProtocol::new(protocol) {
        let (from, to): (SocketAddr, SocketAddr) = (from.parse().ok()?, to.parse().ok()?);
        return Flow::new(from.ip(), to.ip(), Upper::Ports { protocol, source: from.port(), destination: to.port() });
    }
    let to: IpAddr = to.parse().ok()?;
    match from.split_once(' ') {
        Some((kind, from)) => {
            let (kind, code) = kind.split_once('/')?;
            Flow::new(from.parse().ok()?, to, Upper::Icmp { kind: kind.parse().ok()?, code: code.parse().ok()? })
        }
        None => Flow::new(from.parse().ok()?, to, Upper::other(protocol)?),
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// `accept by line 7`, `drop by the policy`, `it depends on …`.
pub fn decide(filter: &Filter, packet: &Packet) -> String {
    let mut last = "accept: no chain at this hook".to_owned();
    for chain in filter.chains.iter().filter(|chain| chain.hook == packet.hook) {
        let decision = match packet.flow.family() {
            Family::V4 => first(&chain.decisions.v4, packet),
            Family::V6 => first(&chain.decisions.v6, packet),
        };
        let decision = match decision {
            Ok(decision) => decision,
            Err(variable) => return format!("it depends on {variable}"),
        };
        let by = decision.rule.map_or("the policy".to_owned(), |rule| format!("line {}", filter.rules[rule].line));
        let mut met: Vec<&str> = filter.effects[decision.effects].iter().map(String::as_str).collect();
        met.truncate(3);
        let met = if met.is_empty() { String::new() } else { format!(" after {}", met.join("; ")) };
        last = match decision.verdict {
            FilterVerdict::Decided(verdict) => format!("{} by {by}{met}", format!("{verdict:?}").to_lowercase()),
            FilterVerdict::Elsewhere(unknown) => format!("not known: {}{met}", filter.unknown[unknown].why),
        };
        if decision.verdict != FilterVerdict::Decided(ringwall_ruleset::Verdict::Accept) {
            break;
        }
    }
    last
}

/// The first row that matches; the error is a variable that would have to be known.
fn first<'r, A: Of>(rows: &'r [Row<A, Decision>], packet: &Packet) -> Result<&'r Decision, String> {
    for row in rows {
        if !A::contains(row, &packet.flow) {
            continue;
        }
        let mut is_match = true;
        for (variable, values) in row.matches.conditions.iter() {
            if let Some(value) = packet.known.get(variable) {
                is_match &= values.contains(*value);
            }
        }
        if !is_match {
            continue;
        }
        if let Some((variable, _)) = row.matches.conditions.iter().find(|(variable, _)| !packet.known.contains_key(variable)) {
            return Err(match variable {
                Variable::Holds(text) => format!("`{text}`"),
                Variable::Field(field) => format!("`{field}`"),
                Variable::InputInterface => "the interface it came in by".into(),
                Variable::OutputInterface => "the interface it leaves by".into(),
                other => format!("{other:?}"),
            });
        }
        return Ok(&row.decision);
    }
    panic!("the table is not total: {}", packet.flow);
}

pub trait Of: Sized {
    fn contains(row: &Row<Self, Decision>, flow: &Flow) -> bool;
}

macro_rules! of {
    ($address:ty, $family:ident) => {
        impl Of for $address {
            fn contains(row: &Row<Self, Decision>, flow: &Flow) -> bool {
                let cube = ringwall_packet::Space::from(row.matches.cube.clone());
                let mut set = ringwall_packet::FlowSet::default();
                set.$family = cube;
                set.contains(flow)
            }
        }
    };
}
of!(std::net::Ipv4Addr, v4);
of!(std::net::Ipv6Addr, v6);
