//! What to probe, as data: one JSON line for the plan, then one for each probe.
//!
//! In and out: a [`Plan`] and its text. Both ends of a probe read the same lines, so that they
//! agree on the packet that stands for it. Never: what the answer should be, which is the judge's.

use std::collections::HashMap;
use std::io::{BufRead, Read, Write};
use std::net::{IpAddr, SocketAddr};

use ringwall_packet::Protocol;
use serde::{Deserialize, Serialize};

/// The `schema` of a plan's first line.
pub const PLAN_SCHEMA: &str = "ringwall.probe-plan/1";

/// A plan that is larger than this is not one of ours.
const MOST_PROBES: usize = 1_000_000;
/// In bytes; a line of ours has some 200.
const LONGEST_LINE: u64 = 4096;

/// How the probes of a plan are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// How long to wait for an answer to one packet, in milliseconds.
    pub timeout_ms: u64,
    /// How often to send again when nothing came back.
    pub retries: u32,
    /// The most probes under way at once.
    pub parallel: usize,
    /// How long the destination watches for these probes, in milliseconds; its marks in the kernel
    /// end by themselves after that, whatever becomes of the process.
    pub life_ms: u64,
    /// Whether the destination puts listeners where nobody listens. Without them no program's port is ever taken, and the
    /// kernel's word alone says what arrived.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub listens: bool,
}

fn yes() -> bool {
    true
}

impl Default for Settings {
    fn default() -> Self {
        Self { timeout_ms: 1_000, retries: 1, parallel: 8_192, life_ms: 300_000, listens: true }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub settings: Settings,
    pub probes: Vec<Probe>,
}

/// One flow to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Unique in a plan; observations refer to it.
    pub id: u32,
    /// The address to send from.
    pub source: IpAddr,
    pub destination: IpAddr,
    #[serde(flatten)]
    pub packet: Packet,
}

/// The packet that stands for the flow. Its source port (or identifier) is the token by which the
/// destination knows it again, also beside a real listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "protocol", rename_all = "snake_case")]
pub enum Packet {
    Tcp {
        source_port: u16,
        port: u16,
        /// The source port of the second try, past the source's own output; none: no second try.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        past_source_port: Option<u16>,
        /// Whether to ask an open port for its TLS version.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        tls: bool,
    },
    Udp {
        source_port: u16,
        port: u16,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        past_source_port: Option<u16>,
    },
    /// An echo request of ICMP (RFC 792) or ICMPv6 (RFC 4443), by the addresses' family.
    Echo { identifier: u16 },
    /// A datagram of any other protocol that has no ports.
    Other { number: u8 },
}

/// Which of the two tries of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Try {
    /// As any program of the source would send it.
    Plain,
    /// Once more, let through by the source's own output, so that an open destination can't hide
    /// behind a closed source.
    PastSource,
}

/// Source, destination and protocol number of one try.
pub type Tuple = (SocketAddr, SocketAddr, u8);

impl Probe {
    /// The header fields of a try of TCP or UDP; `None` for other protocols and tries not planned.
    pub fn tuple(&self, which: Try) -> Option<Tuple> {
        let (protocol, plain, past, port) = match self.packet {
            Packet::Tcp { source_port, past_source_port, port, .. } => (Protocol::TCP, source_port, past_source_port, port),
            Packet::Udp { source_port, past_source_port, port } => (Protocol::UDP, source_port, past_source_port, port),
            Packet::Echo { .. } | Packet::Other { .. } => return None,
        };
        let source_port = match which {
            Try::Plain => plain,
            Try::PastSource => past?,
        };
        Some((SocketAddr::new(self.source, source_port), SocketAddr::new(self.destination, port), protocol.0))
    }

    /// What a datagram of this probe carries.
    pub fn token(&self) -> Vec<u8> {
        format!("ringwall probe {}\n", self.id).into_bytes()
    }
}

/// Every tuple of a plan, with the probe and the try that it stands for.
pub fn tuples(probes: &[Probe]) -> HashMap<Tuple, (u32, Try)> {
    let tries = |probe: &Probe| {
        let probe = *probe;
        [Try::Plain, Try::PastSource].into_iter().filter_map(move |which| Some((probe.tuple(which)?, (probe.id, which))))
    };
    probes.iter().flat_map(tries).collect()
}

#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("the plan could not be read")]
    Read(#[source] std::io::Error),
    #[error("line {line} of the plan is not what it should be")]
    Line { line: usize, #[source] source: serde_json::Error },
    #[error("the plan's schema is `{0}`, this program reads `{PLAN_SCHEMA}`")]
    Schema(String),
    #[error("the plan ends after {found} of {expected} probes")]
    Short { found: usize, expected: usize },
    #[error("a plan of {0} probes is too large")]
    Large(usize),
    #[error("probe {0} goes from one address family to the other")]
    Families(u32),
    #[error("probe {0} is there twice")]
    Twice(u32),
}

#[derive(Serialize, Deserialize)]
struct FirstLine {
    schema: String,
    probes: usize,
    #[serde(flatten)]
    settings: Settings,
}

impl Plan {
    pub fn write(&self, mut to: impl Write) -> std::io::Result<()> {
        let first = FirstLine { schema: PLAN_SCHEMA.into(), probes: self.probes.len(), settings: self.settings };
        serde_json::to_writer(&mut to, &first)?;
        to.write_all(b"\n")?;
        for probe in &self.probes {
            serde_json::to_writer(&mut to, probe)?;
            to.write_all(b"\n")?;
        }
        to.flush()
    }

    /// Reads as many lines as the first one announces, and no further.
    pub fn read(mut from: impl BufRead) -> Result<Self, PlanError> {
        let mut next = |found, expected| {
            let mut line = String::new();
            match from.by_ref().take(LONGEST_LINE).read_line(&mut line) {
                Ok(0) => Err(PlanError::Short { found, expected }),
                Ok(_) => Ok(line),
                Err(error) => Err(PlanError::Read(error)),
            }
        };
        let line_error = |line| move |source| PlanError::Line { line, source };
        let first: FirstLine = serde_json::from_str(&next(0, 0)?).map_err(line_error(1))?;
        if first.schema != PLAN_SCHEMA {
            return Err(PlanError::Schema(first.schema));
        }
        if first.probes > MOST_PROBES {
            return Err(PlanError::Large(first.probes));
        }
        let mut seen = std::collections::HashSet::new();
        let mut probes = Vec::new();
        for index in 0..first.probes {
            let probe: Probe = serde_json::from_str(&next(index, first.probes)?).map_err(line_error(index + 2))?;
            if probe.source.is_ipv4() != probe.destination.is_ipv4() {
                return Err(PlanError::Families(probe.id));
            }
            if !seen.insert(probe.id) {
                return Err(PlanError::Twice(probe.id));
            }
            probes.push(probe);
        }
        Ok(Self { settings: first.settings, probes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let packets = [
            Packet::Tcp { source_port: 61000, port: 443, past_source_port: Some(61001), tls: true },
            Packet::Udp { source_port: 61002, port: 53, past_source_port: None },
            Packet::Echo { identifier: 7 },
            Packet::Other { number: 47 },
        ];
        let address = |text: &str| text.parse().expect("an address");
        let probe = |(id, packet)| Probe { id, source: address("2001:db8::1"), destination: address("2001:db8::2"), packet };
        Plan { settings: Settings::default(), probes: (0..).zip(packets).map(probe).collect() }
    }

    fn text(plan: &Plan) -> String {
        let mut bytes = Vec::new();
        plan.write(&mut bytes).expect("memory");
        String::from_utf8(bytes).expect("JSON")
    }

    #[test]
    fn a_plan_is_read_as_it_was_written_and_no_further() {
        let mut lines = text(&plan());
        lines.push_str("the next thing\n");
        let mut rest = lines.as_bytes();
        assert_eq!(Plan::read(&mut rest).expect("a plan"), plan());
        assert_eq!(rest, b"the next thing\n");
    }

    #[test]
    fn the_form_on_the_wire_stays() {
        let lines = text(&plan());
        let lines: Vec<_> = lines.lines().collect();
        assert_eq!(lines[0], r#"{"schema":"ringwall.probe-plan/1","probes":4,"timeout_ms":1000,"retries":1,"parallel":8192,"life_ms":300000}"#);
        assert_eq!(lines[1], r#"{"id":0,"source":"2001:db8::1","destination":"2001:db8::2","protocol":"tcp","source_port":61000,"port":443,"past_source_port":61001,"tls":true}"#);
        assert_eq!(lines[4], r#"{"id":3,"source":"2001:db8::1","destination":"2001:db8::2","protocol":"other","number":47}"#);
    }

    #[test]
    fn what_is_no_plan_is_refused() {
        let good = text(&plan());
        let refused = |text: &str| Plan::read(text.as_bytes()).expect_err("no plan").to_string();
        assert_eq!(refused(""), "the plan ends after 0 of 0 probes");
        assert_eq!(refused("x\n"), "line 1 of the plan is not what it should be");
        assert_eq!(refused(&good.replace("plan/1", "plan/2")), "the plan's schema is `ringwall.probe-plan/2`, this program reads `ringwall.probe-plan/1`");
        assert_eq!(refused(&good.replace("\"probes\":4", "\"probes\":5")), "the plan ends after 4 of 5 probes");
        assert_eq!(refused(&good.replace("\"probes\":4", "\"probes\":4000000000")), "a plan of 4000000000 probes is too large");
        assert_eq!(refused(&good.replacen("2001:db8::1", "192.0.2.1", 1)), "probe 0 goes from one address family to the other");
        assert_eq!(refused(&good.replace("\"id\":1,", "\"id\":0,")), "probe 0 is there twice");
        assert_eq!(refused(&good.replace("\"port\":443", "\"port\":70000")), "line 2 of the plan is not what it should be");
    }
}
