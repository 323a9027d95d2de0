//! A rollout: one revision, taken to the nodes in waves.
//!
//! In: waves, results. Out: where it stands. Never: two at once, a step out of a final state; which
//! step is next is decided elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::{AssignmentNumber, NodeName, RevisionNumber, RolloutNumber};
use crate::time::Time;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// In this wave; the first is 0.
    Running { wave: usize },
    /// Before this wave, by an operator or because it waits for one.
    Paused { wave: usize, reason: String },
    /// Stopped, and its nodes go back to what they had.
    RollingBack { reason: String },
    Done,
    /// Over before its last wave; `rolled_back` says whether its nodes went back.
    Stopped { reason: String, rolled_back: bool },
}

impl State {
    pub fn is_final(&self) -> bool {
        matches!(self, State::Done | State::Stopped { .. })
    }

    fn wave(&self) -> Option<usize> {
        match self {
            State::Running { wave } | State::Paused { wave, .. } => Some(*wave),
            State::RollingBack { .. } | State::Done | State::Stopped { .. } => None,
        }
    }
}

/// What a node did in its wave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub assignment: AssignmentNumber,
    /// `Ok` once it is confirmed and its probes are as declared.
    pub result: Result<(), String>,
    pub at: Time,
}

/// By wave, in their order; a wave that was not begun has none.
pub type Results = Vec<BTreeMap<NodeName, Outcome>>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    pub number: RolloutNumber,
    pub revision: RevisionNumber,
    pub waves: Vec<BTreeSet<NodeName>>,
    pub state: State,
    pub results: Results,
    pub created: Time,
    pub changed: Time,
}

/// Why a rollout can't be as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the rollout {0} is over")]
    Over(RolloutNumber),
    #[error("a rollout has no wave {wave}: it has {waves}")]
    NoWave { wave: usize, waves: usize },
    #[error("a rollout does not go back from wave {from} to wave {to}")]
    Back { from: usize, to: usize },
    #[error("the rollout {0} is not in its last wave")]
    Unfinished(RolloutNumber),
    #[error("the node `{0}` is in two waves")]
    Twice(NodeName),
    #[error("the rollout {0} goes back already")]
    RollingBack(RolloutNumber),
}

impl Rollout {
    pub fn new(number: RolloutNumber, revision: RevisionNumber, waves: Vec<BTreeSet<NodeName>>, at: Time) -> Result<Self, Refusal> {
        let mut nodes = BTreeSet::new();
        if let Some(twice) = waves.iter().flatten().find(|node| !nodes.insert(*node)) {
            return Err(Refusal::Twice(twice.clone()));
        }
        let state = if waves.is_empty() { State::Done } else { State::Running { wave: 0 } };
        Ok(Self { number, revision, waves, state, results: Vec::new(), created: at, changed: at })
    }

    /// The same a step further.
    pub fn with(&self, state: State, results: Results, at: Time) -> Result<Self, Refusal> {
        if self.state.is_final() {
            return Err(Refusal::Over(self.number));
        }
        if matches!(self.state, State::RollingBack { .. }) && !matches!(state, State::RollingBack { .. } | State::Stopped { .. }) {
            return Err(Refusal::RollingBack(self.number));
        }
        let waves = self.waves.len();
        if state == State::Done && self.state != (State::Running { wave: waves.saturating_sub(1) }) {
            return Err(Refusal::Unfinished(self.number));
        }
        if let Some(wave) = state.wave().filter(|wave| *wave >= waves) {
            return Err(Refusal::NoWave { wave, waves });
        }
        if let (Some(from), Some(to)) = (self.state.wave(), state.wave())
            && to < from
        {
            return Err(Refusal::Back { from, to });
        }
        if results.len() > waves {
            return Err(Refusal::NoWave { wave: results.len() - 1, waves });
        }
        Ok(Self { state, results, changed: at, ..self.clone() })
    }
}
