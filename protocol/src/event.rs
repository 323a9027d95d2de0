//! What the controller did not ask for.

use std::net::IpAddr;

use crate::field::{Invalid, addresses, dns_name, invalid, name, octets, text, there};
use crate::generated as wire;

/// Something that happened on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Seconds since it happened.
    pub age: u32,
    pub happened: Happened,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// Somebody else changed our tables.
    Drift {
        /// As the kernel names the process, with its id; `None` when nobody saw it.
        process: Option<(String, u32)>,
        outcome: DriftOutcome,
    },
    /// A DNS name has other addresses than before.
    Names { name: String, addresses: Vec<IpAddr> },
    /// Something that an operator should look at: a short word for programs, and a text.
    Trouble { kind: String, detail: String },
    /// So many events that were not sent.
    Lost(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriftOutcome {
    Reported,
    Healed,
    /// Somebody changes it again and again.
    Flapping,
    Failed,
}

impl TryFrom<wire::Event> for Event {
    type Error = Invalid;

    fn try_from(from: wire::Event) -> Result<Self, Invalid> {
        use wire::event::Event as Wire;
        let happened = match there("Event.event", from.event)? {
            Wire::Drift(drift) => {
                let process = text("Drift.process", drift.process)?;
                let outcome = match wire::drift::Outcome::try_from(drift.outcome) {
                    Ok(wire::drift::Outcome::Reported) => DriftOutcome::Reported,
                    Ok(wire::drift::Outcome::Healed) => DriftOutcome::Healed,
                    Ok(wire::drift::Outcome::Flapping) => DriftOutcome::Flapping,
                    Ok(wire::drift::Outcome::Failed) => DriftOutcome::Failed,
                    Ok(wire::drift::Outcome::Unspecified) | Err(_) => return Err(invalid("Drift.outcome", "is unknown")),
                };
                Happened::Drift { process: (!process.is_empty()).then_some((process, drift.pid)), outcome }
            }
            Wire::Names(names) => Happened::Names {
                name: dns_name("Names.name", names.name)?,
                addresses: addresses("Names.addresses", &names.addresses)?,
            },
            Wire::Trouble(trouble) => Happened::Trouble {
                kind: name("Trouble.kind", trouble.kind)?,
                detail: text("Trouble.detail", trouble.detail)?,
            },
            Wire::Lost(lost) => Happened::Lost(lost),
        };
        Ok(Self { age: from.age, happened })
    }
}

impl From<Event> for wire::Event {
    fn from(from: Event) -> Self {
        use wire::event::Event as Wire;
        let event = match from.happened {
            Happened::Drift { process, outcome } => {
                let (process, pid) = process.unwrap_or_default();
                let outcome = match outcome {
                    DriftOutcome::Reported => wire::drift::Outcome::Reported,
                    DriftOutcome::Healed => wire::drift::Outcome::Healed,
                    DriftOutcome::Flapping => wire::drift::Outcome::Flapping,
                    DriftOutcome::Failed => wire::drift::Outcome::Failed,
                };
                Wire::Drift(wire::Drift { process, pid, outcome: outcome.into() })
            }
            Happened::Names { name, addresses } => {
                Wire::Names(wire::Names { name, addresses: addresses.iter().map(octets).collect() })
            }
            Happened::Trouble { kind, detail } => Wire::Trouble(wire::Trouble { kind, detail }),
            Happened::Lost(lost) => Wire::Lost(lost),
        };
        Self { age: from.age, event: Some(event) }
    }
}
