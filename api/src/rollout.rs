//! Rollouts: a revision, taken to the nodes in waves.
//!
//! In and out: shapes alone. Never: which step is next.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Span;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartRollout {
    pub revision: u64,
    /// The nodes of the first wave; without any, the first node by name that is connected.
    #[serde(default)]
    pub canary: Vec<String>,
    /// Percent of the nodes in each wave after the first; the last wave has all others.
    #[serde(default = "ten")]
    #[schema(default = json!([10]), max_items = 20)]
    pub percents: Vec<u8>,
    /// How long the new rules are on trial on each node, at least 5 s and at most an hour.
    #[serde(default = "a_minute")]
    #[schema(default = "60s")]
    pub window: Span,
    /// The internet may reach more with it than with what is rolled out.
    #[serde(default)]
    pub accept_exposure: bool,
}

fn a_minute() -> Span {
    Span::of(Duration::from_secs(60))
}

fn ten() -> Vec<u8> {
    vec![10]
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rollout {
    pub number: u64,
    pub revision: u64,
    pub state: RolloutState,
    /// The wave that it is in or before; the first is 0.
    pub wave: Option<u64>,
    /// Why it is paused, goes back or was stopped.
    pub reason: Option<String>,
    /// Of a rollout that was stopped: whether its nodes went back to what they had.
    pub is_rolled_back: Option<bool>,
    pub waves: Vec<Wave>,
    pub created: String,
    pub changed: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    Running,
    /// Before its wave, by an operator or because it waits for one.
    Paused,
    /// Stopped, and its nodes go back to what they had.
    RollingBack,
    Done,
    /// Over before its last wave.
    Stopped,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Wave {
    pub nodes: Vec<String>,
    /// By node, as far as they came.
    pub outcomes: BTreeMap<String, Outcome>,
}

/// What a node did in its wave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Outcome {
    pub assignment: u64,
    /// Confirmed, and its probes are as declared.
    pub is_good: bool,
    /// Why it is not good.
    pub reason: Option<String>,
    pub at: String,
}

/// Newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rollouts {
    pub rollouts: Vec<Rollout>,
    /// The `before` of the next page, if there may be one.
    pub next: Option<u64>,
}
