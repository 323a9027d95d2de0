//! Paths: what a revision declares between nodes, and what probes found of it.
//!
//! In and out: shapes alone. Never: what is expected of a path.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a flow is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    Open,
    Closed,
}

/// What became of a flow as any program would send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    Open,
    /// Somebody said no: a TCP reset, or an ICMP error.
    Rejected,
    /// Nothing came back.
    Dropped,
    /// The network has no way there.
    Unreachable,
    Unknown,
}

/// Whether it is as declared; what the evidence does not show is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    AsDeclared,
    NotAsDeclared,
    Unknown,
}

/// One flow between two nodes, or between a node and somebody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Path {
    /// Of this revision with the fleet of now: another one once either changes.
    pub number: u64,
    pub source_machine: String,
    pub source: String,
    pub destination_machine: String,
    pub destination: String,
    /// `tcp`, `udp`, `icmp`, or a number.
    pub protocol: String,
    pub port: Option<u16>,
    /// `source -> destination` as the rule says, or the two nodes.
    pub roles: String,
    pub service: String,
    /// Whether a rule names the flow; else it is of a sample of what no rule allows.
    pub declared: bool,
    /// What the rulesets that both ends have now say together.
    pub expected: Expected,
    /// What decides it by the policy's meaning, with file and line.
    pub rule: String,
    pub found: Disposition,
    pub conclusion: Conclusion,
    /// Whether a program of the destination's answered.
    pub is_served: bool,
    /// Where it ended: `source`, `before_destination`, `destination`, `somewhere`.
    pub closed_at: Option<String>,
    /// What decided it at the destination, by its kernel's word.
    pub decided_by: Option<String>,
    /// Why it is so, for people; empty when there is nothing to say.
    pub reason: String,
    /// Since when it is so.
    pub since: Option<String>,
    /// When it was probed last.
    pub looked: Option<String>,
}

/// Something declared that can't be probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotProbed {
    pub roles: String,
    pub service: String,
    /// `IPv4` or `IPv6`.
    pub family: String,
    pub rule: String,
    pub reason: String,
}

/// How many paths there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PathCounts {
    pub as_declared: u64,
    pub not_as_declared: u64,
    pub unknown: u64,
    /// Those that are to be probed now, and were not yet; they are among the others as what they were before.
    pub waiting: u64,
    /// Those that others stand for, since there are too many; they are not among the others.
    pub left_out: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Paths {
    /// The revision that declares them; none before anything is rolled out.
    pub revision: Option<u64>,
    pub counts: PathCounts,
    pub paths: Vec<Path>,
    /// With the first page alone.
    pub not_probed: Vec<NotProbed>,
    /// The `after` of the next page, if there is one.
    pub next: Option<u64>,
}
