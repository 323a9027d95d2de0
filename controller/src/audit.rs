//! Who changed what, when, and what it was before.
//!
//! In: a change and the one who answers for it. Out: entries, written in the transaction of the
//! change. Never: an entry without a change, a change without an entry, a secret.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::change::Change;
use crate::id::{AccessId, AgentId, AuditNumber};
use crate::time::Time;

/// Who answers for a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// Somebody with this key to the API.
    Access(AccessId),
    /// Somebody at the controller's own machine, by the name of their account there.
    Local(String),
    Agent(AgentId),
    /// A node that holds a token and has no identity yet.
    Enrolling,
    /// The controller itself: a rollout that stops, say.
    Controller,
}

/// A change with the one who answers for it: the only form in which a store takes one.
#[derive(Clone, Debug, PartialEq)]
pub struct Audited {
    pub who: Actor,
    pub at: Time,
    pub change: Change,
}

/// One thing that a change changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub number: AuditNumber,
    pub at: Time,
    pub who: Actor,
    /// The change's name: `create_token`, `revoke_agent`, …
    pub change: String,
    /// What was changed: `agent`, `token`, …
    pub kind: String,
    pub key: String,
    /// `None`: it was not there.
    pub before: Option<Value>,
    /// `None`: it is gone.
    pub after: Option<Value>,
}
