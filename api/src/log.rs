//! What happened, and who changed what.
//!
//! In and out: shapes alone. Never: a secret.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Something that happened in the fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Rises by one with each event of an epoch.
    pub number: u64,
    pub at: String,
    /// `drift`, `path_broken`, …
    pub kind: String,
    pub node: Option<String>,
    pub body: serde_json::Value,
}

/// Oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventPage {
    pub events: Vec<Event>,
    /// The `after` of the next page: the newest number of this one.
    pub next: u64,
    /// Some after the asked number are no longer kept: look at the whole anew.
    pub has_gap: bool,
}

/// One thing that a change changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    pub number: u64,
    pub at: String,
    pub who: Actor,
    /// The change's name: `create_token`, `revoke`, …
    pub change: String,
    /// What was changed: `agent`, `token`, …
    pub kind: String,
    /// Which one.
    pub key: String,
    /// `null`: it was not there.
    pub before: Option<serde_json::Value>,
    /// `null`: it is gone.
    pub after: Option<serde_json::Value>,
}

/// Who answers for a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// Somebody with this key to the API, by its id.
    Access(String),
    /// Somebody at the controller's own machine, by the name of their account there.
    Local(String),
    /// An agent, by its id.
    Agent(String),
    /// A node that held a token, and had no identity yet.
    Enrolling,
    /// The controller itself.
    Controller,
}

/// Oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    pub entries: Vec<AuditEntry>,
    /// The `after` of the next page: the newest number of this one.
    pub next: u64,
}
