//! What a node was given to enforce, and how far it came with it.
//!
//! In: a ruleset as bytes, with the revision that it was compiled from; what the agent reports. Out:
//! the same under a number that only rises. Never: a step back.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{AssignmentNumber, Digest, NodeName, RevisionNumber};
use crate::time::Time;

/// How far an assignment came. `Refused` and `Fell` are final, and so is `Confirmed`: what comes
/// after it is another assignment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Made, and on its way.
    Sent,
    /// In the kernel, with the dead-man switch armed.
    Trial,
    Confirmed,
    /// The agent did not load it.
    Refused(String),
    /// It was loaded, and not confirmed in time: the former ruleset is back.
    Fell(String),
}

impl State {
    /// Reports may be repeated and may skip a step, since a connection may be lost between two.
    pub fn may_become(&self, next: &State) -> bool {
        match self {
            State::Sent => *next != State::Sent,
            State::Trial => matches!(next, State::Confirmed | State::Fell(_) | State::Refused(_)),
            State::Confirmed | State::Refused(_) | State::Fell(_) => false,
        }
    }
}

/// What is to be assigned; its number is given when it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAssignment {
    pub node: NodeName,
    pub revision: RevisionNumber,
    /// A `ruleset::Ruleset` as it crosses the wire.
    pub ruleset: Arc<[u8]>,
}

/// An assignment without its ruleset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    pub node: NodeName,
    pub number: AssignmentNumber,
    pub revision: RevisionNumber,
    /// SHA-256 of the ruleset's bytes.
    pub digest: Digest,
    pub state: State,
    pub sent: Time,
    /// When it came to be on trial, if it did.
    pub tried: Option<Time>,
    /// When it came to its final state.
    pub ended: Option<Time>,
}

impl Assignment {
    /// The same a step further; `None` when that would be a step back or none at all.
    pub fn with(&self, state: State, at: Time) -> Option<Self> {
        if !self.state.may_become(&state) {
            return None;
        }
        let (tried, ended) = match state {
            State::Sent => (self.tried, self.ended),
            State::Trial => (Some(at), None),
            State::Confirmed | State::Refused(_) | State::Fell(_) => (self.tried, Some(at)),
        };
        Some(Self { state, tried, ended, ..self.clone() })
    }
}
