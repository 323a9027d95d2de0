//! What happened in the fleet, in order.
//!
//! In: kinds, nodes, JSON. Out: pages after a number, which say when something before them is gone.
//! Never: a change; that is the audit log's.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{EventNumber, NodeName};
use crate::time::Time;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewEvent {
    /// `drift`, `path_broken`, …
    pub kind: String,
    pub node: Option<NodeName>,
    pub body: Value,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Rises by one with each event of an epoch.
    pub number: EventNumber,
    pub at: Time,
    pub kind: String,
    pub node: Option<NodeName>,
    pub body: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    pub events: Vec<Event>,
    /// Some after the asked number are no longer kept: the reader must look at the whole anew.
    pub has_gap: bool,
}
