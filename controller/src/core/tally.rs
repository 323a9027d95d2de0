//! What happened since this controller was started, counted.
//!
//! In: how assignments ended, what agents report. Out: numbers. Never: a decision that follows from them.

use std::collections::BTreeMap;

use crate::assignment::State;
use crate::histogram::Histogram;
use crate::id::NodeName;
use crate::time::Time;

#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub confirmed: u64,
    pub fell: u64,
    pub refused: u64,
    /// From when an assignment was given to its confirmation.
    pub took: Histogram,
    /// Changes by others that agents found.
    pub drifts: BTreeMap<NodeName, u64>,
}

impl Tally {
    pub(super) fn ended(&mut self, state: &State, given: Option<Time>, now: Time) {
        match state {
            State::Confirmed => {
                self.confirmed += 1;
                given.into_iter().for_each(|given| self.took.count(now.since(given)));
            }
            State::Fell(_) => self.fell += 1,
            State::Refused(_) => self.refused += 1,
            State::Sent | State::Trial => {}
        }
    }
}
