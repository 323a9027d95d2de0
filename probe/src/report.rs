//! The lines of both ends, put together probe by probe.
//!
//! In: lines in the order in which each end wrote them. Out: the [`Evidence`] of a probe. Never: a
//! conclusion.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ringwall_packet::Protocol;

use crate::judge::{Destination, Evidence, Trace};
use crate::observation::{DestinationLine, Listener, Outcome, SourceLine, Watching};
use crate::plan::{Packet, Probe, Try};

/// What one machine said as a source.
#[derive(Clone, Debug, Default)]
pub struct SourceReport {
    outcomes: HashMap<(u32, Try), Outcome>,
}

impl SourceReport {
    pub fn take(&mut self, line: SourceLine) {
        match line {
            SourceLine::Tried { id, which, outcome } => {
                self.outcomes.insert((id, which), outcome);
            }
            SourceLine::Done => {}
        }
    }
}

/// What one machine said as a destination.
#[derive(Clone, Debug, Default)]
pub struct DestinationReport {
    listeners: HashMap<(IpAddr, u8, u16), Listener>,
    watching: Option<Watching>,
    lost: bool,
    received: HashMap<u32, BTreeSet<Try>>,
    traced: HashMap<u32, BTreeMap<Try, Vec<Trace>>>,
}

impl DestinationReport {
    pub fn take(&mut self, line: DestinationLine) {
        match line {
            DestinationLine::Listener { destination, protocol, port, state } => {
                self.listeners.insert((destination, protocol, port), state);
            }
            DestinationLine::Ready { watching } => self.watching = Some(watching),
            DestinationLine::Received { id, which } => {
                self.received.entry(id).or_default().insert(which);
            }
            DestinationLine::Traced { id, which, table, chain, verdict } => {
                let traces = self.traced.entry(id).or_default().entry(which).or_default();
                traces.push(Trace { table, chain, verdict });
            }
            DestinationLine::Lost => self.lost = true,
            DestinationLine::Done => {}
        }
    }

    /// How its kernel is watched; `None` before it is ready.
    pub fn watching(&self) -> Option<&Watching> {
        self.watching.as_ref()
    }
}

/// The evidence of a probe. Where an address may be on several machines, the one that has it counts.
pub fn evidence(probe: &Probe, sources: &[&SourceReport], destinations: &[Result<&DestinationReport, &str>]) -> Evidence {
    let mut evidence = Evidence::default();
    for which in [Try::Plain, Try::PastSource] {
        let outcomes = sources.iter().filter_map(|source| source.outcomes.get(&(probe.id, which)));
        let best = outcomes.min_by_key(|outcome| matches!(outcome, Outcome::Failed { .. }));
        evidence.outcomes.extend(best.map(|outcome| (which, outcome.clone())));
    }
    for destination in destinations {
        let report = match destination {
            Ok(report) => report,
            Err(reason) => {
                if matches!(evidence.destination, Destination::Nobody { .. }) {
                    evidence.destination = Destination::Nobody { reason: (*reason).to_owned() };
                }
                continue;
            }
        };
        evidence.received.extend(report.received.get(&probe.id).into_iter().flatten());
        for (which, traces) in report.traced.get(&probe.id).into_iter().flatten() {
            evidence.traced.entry(*which).or_default().extend(traces.iter().cloned());
        }
        let (Some(listener), Some(watching)) = (report.listeners.get(&place(probe)), &report.watching) else {
            continue;
        };
        let elsewhere = matches!(evidence.destination, Destination::There { listener: Listener::Elsewhere, .. });
        if elsewhere || matches!(evidence.destination, Destination::Nobody { .. }) {
            evidence.destination =
                Destination::There { listener: listener.clone(), watching: watching.clone(), lost: report.lost };
        }
    }
    evidence
}

/// Where a probe arrives: address, protocol, port (0 where the protocol has none).
pub fn place(probe: &Probe) -> (IpAddr, u8, u16) {
    let (protocol, port) = match probe.packet {
        Packet::Tcp { port, .. } => (Protocol::TCP, port),
        Packet::Udp { port, .. } => (Protocol::UDP, port),
        Packet::Echo { .. } if probe.destination.is_ipv4() => (Protocol::ICMP, 0),
        Packet::Echo { .. } => (Protocol::ICMPV6, 0),
        Packet::Other { number } => (Protocol(number), 0),
    };
    (probe.destination, protocol.0, port)
}
