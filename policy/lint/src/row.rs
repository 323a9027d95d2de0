//! What is linted: rows that a guide and a policy have in common, and what stands around them.
//!
//! In: nothing. Out: plain values. Never: an address; roles are names here.

use ringwall_diagnostic::Span;
use ringwall_packet::{IntervalSet, Protocol};

/// Traffic that is allowed: one source, one destination, one protocol. A row of a table, or one
/// service of a rule. Denials are not rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The heading above it; empty when there is none.
    pub section: String,
    /// One role or group, `any` or `internet`; empty when it is not stated.
    pub source: String,
    pub destination: String,
    pub protocol: Transport,
    /// The destination's.
    pub ports: Ports,
    /// The service as the text names it beside the number: `SMTP` for `420/SMTP`. Of a policy only
    /// names that the registry knows: its own services are what their author says.
    pub label: Option<String>,
    pub direction: Direction,
    /// What the row itself does not say.
    pub inferred: Inferred,
    pub span: Span,
    /// The port's digits, where a fix can write another number.
    pub port_span: Option<Span>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Unstated,
    Any,
    Is(Protocol),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Not said, or the protocol has none.
    Unstated,
    Any,
    Are(IntervalSet<u16>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// The source opens the connection.
    #[default]
    OneWay,
    Both,
    /// On one machine.
    Local,
    Unknown,
}

/// The fields that come from a heading, a sentence or another row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inferred {
    pub source: bool,
    pub destination: bool,
    pub protocol: bool,
}

/// What is known around the rows.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The policy's `min_tls`, as written: cleartext services are errors then.
    pub min_tls: Option<String>,
    pub roles: Vec<Role>,
    pub prose: Vec<Prose>,
    pub timeouts: Vec<Timeout>,
}

/// A role of a guide or a group of a policy. Only those about which there is something to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// As the rows write it.
    pub name: String,
    /// From the guide's legend: `secondary members of a cluster`.
    pub description: Option<String>,
    /// How many machines it has, where that is known.
    pub members: Option<usize>,
    /// Roles that it is a part of, so that their rows are its rows.
    pub part_of: Vec<String>,
    /// Whether it is written as DNS names.
    pub by_name: bool,
    pub span: Option<Span>,
}

/// A paragraph or a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prose {
    pub section: String,
    pub text: String,
    pub span: Span,
}

/// How long an idle session must live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeout {
    pub section: String,
    pub seconds: u64,
    pub span: Span,
}
