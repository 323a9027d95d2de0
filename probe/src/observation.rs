//! What the two ends of a probe saw, as data: JSON lines.
//!
//! The source writes [`SourceLine`]s, the destination [`DestinationLine`]s. Never: an opinion on
//! whether that is right.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::plan::Try;

/// The `schema` of each line that `ringwall probe` writes.
pub const SOURCE_SCHEMA: &str = "ringwall.probe-observation/1";
/// The `schema` of each line that `ringwall respond` writes.
pub const DESTINATION_SCHEMA: &str = "ringwall.probe-evidence/1";

/// A line together with the name of its shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line<T> {
    pub schema: String,
    #[serde(flatten)]
    pub line: T,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum SourceLine {
    /// How one try ended.
    Tried {
        id: u32,
        #[serde(rename = "try")]
        which: Try,
        #[serde(flatten)]
        outcome: Outcome,
    },
    /// The last line.
    Done,
}

/// How one try looked to its source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The destination answered: connected, echoed.
    Answered {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tls: Option<Tls>,
    },
    /// Somebody said no: a TCP reset, or an ICMP error that says "prohibited" or "nobody is here".
    Refused {
        /// Who sent the ICMP error; a reset names no sender but the destination.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<IpAddr>,
        how: Refusal,
    },
    /// The network said that there is no way there.
    Unreachable {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<IpAddr>,
    },
    /// This machine's own rules dropped the packet as it was sent.
    Blocked,
    /// Nothing came back.
    Silent,
    /// It could not be tried.
    Failed { reason: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    Reset,
    PortUnreachable,
    ProtocolUnreachable,
    Prohibited,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Reset => "TCP reset",
            Self::PortUnreachable => "ICMP port unreachable",
            Self::ProtocolUnreachable => "ICMP protocol unreachable",
            Self::Prohibited => "ICMP administratively prohibited",
        })
    }
}

/// What an open port said about TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    Version(TlsVersion),
    /// The server has no version that we offer (1.2 and 1.3).
    TooOld,
    /// It spoke no TLS, or the handshake failed before a version was chosen.
    None(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TlsVersion {
    #[serde(rename = "1.2")]
    V1_2,
    #[serde(rename = "1.3")]
    V1_3,
}

impl std::fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum DestinationLine {
    /// Who receives a port's probes; one line for each port of the plan.
    Listener { destination: IpAddr, protocol: u8, port: u16, state: Listener },
    /// Everything is in place: the source may begin.
    Ready {
        /// Whether the kernel reports each probe that arrives, and what became of it.
        watching: Watching,
    },
    /// A socket of ours received it: it passed every rule on the way in.
    Received {
        id: u32,
        #[serde(rename = "try")]
        which: Try,
    },
    /// The kernel says that it arrived, and which chain ended its way.
    Traced {
        id: u32,
        #[serde(rename = "try")]
        which: Try,
        table: String,
        chain: String,
        verdict: TraceVerdict,
    },
    /// Some of the kernel's reports were lost, so that a missing one proves nothing.
    Lost,
    /// The last line.
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Listener {
    /// A temporary socket of ours.
    Ours,
    /// Another program has the port.
    Theirs,
    /// The address is not on this machine.
    Elsewhere,
    /// Nobody, because a socket could not be made.
    Nobody(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Watching {
    Yes,
    /// There is no ruleset of ours on this machine.
    NoRuleset,
    Failed(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceVerdict {
    Accept,
    Drop,
}
