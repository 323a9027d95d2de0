//! Agents, and the nodes that they speak for.
//!
//! In and out: shapes alone. Never: a key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One enrolment of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Agent {
    pub id: String,
    pub node: String,
    pub standing: Standing,
    /// When it was revoked.
    pub revoked: Option<String>,
    /// Why it was revoked.
    pub reason: Option<String>,
    pub place: Place,
    /// Its addresses that count: within the prefixes of its place.
    pub addresses: Vec<String>,
    /// All that it says it has.
    pub reported: Vec<String>,
    pub certificate_expires: String,
    /// The token that it enrolled with.
    pub token: String,
    pub enrolled: String,
    pub last_seen: Option<String>,
    /// Kernel, versions, features, as it says them: shown, never trusted.
    pub facts: Option<serde_json::Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Enrolled, and waits for an operator: it gets nothing.
    Pending,
    Approved,
    /// For ever: who comes back enrols anew.
    Revoked,
}

/// All agents, by id; revoked ones too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Agents {
    pub agents: Vec<Agent>,
}

/// What an operator decided about a node; at first, what its token says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Place {
    pub site: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// Where the machine stands, in the operator's words.
    pub location: Option<String>,
    /// Only addresses in these count as the node's; none means that none do.
    pub prefixes: Vec<String>,
}

/// A place, all of it: what is not there is taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPlace {
    #[serde(default)]
    pub site: Option<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub location: Option<String>,
    #[serde(default)]
    pub prefixes: Vec<String>,
}

/// A node of the fleet, as it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    pub name: String,
    /// Its agent's id.
    pub agent: String,
    pub standing: Standing,
    pub is_connected: bool,
    pub last_seen: Option<String>,
    pub place: Place,
    /// Its addresses that count.
    pub addresses: Vec<String>,
    /// What it was given last.
    pub assignment: Option<Assignment>,
    /// What it enforces, as far as is known: the newest that it confirmed.
    pub enforces: Option<Assignment>,
    /// Why it does not enforce what it should, if so.
    pub late: Option<String>,
}

/// The nodes that have an agent which is not revoked, by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Nodes {
    pub nodes: Vec<Node>,
}

/// A ruleset that a node was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Assignment {
    /// Of this node; it only rises within an epoch.
    pub number: u64,
    pub revision: u64,
    /// SHA-256 of the ruleset.
    pub digest: String,
    pub state: AssignmentState,
    /// Why it was refused, or fell.
    pub reason: Option<String>,
    pub sent: String,
    /// When it came to be on trial.
    pub tried: Option<String>,
    /// When it came to its last state.
    pub ended: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AssignmentState {
    /// Made, and on its way.
    Sent,
    /// In the kernel, which goes back by itself unless it is confirmed.
    Trial,
    Confirmed,
    /// The agent did not load it.
    Refused,
    /// It was loaded and not confirmed in time: the former ruleset is back.
    Fell,
}
