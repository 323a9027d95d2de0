//! A trial is to end, or has ended and left something behind.

use ringwall_ruleset::nftables::Generation;

use super::action::{Action, Happening};
use super::enforcing::{AGAIN, Operation};
use super::{Millis, Moment, Phase, Place, Progress, Reconciler};

#[derive(Debug)]
pub(super) struct RollingBack {
    generation: Generation,
    place: Option<Place>,
    at: Millis,
    is_told: bool,
}

impl RollingBack {
    pub fn new(moment: Moment, generation: Generation, place: Option<Place>) -> Self {
        Self { generation, place, at: moment.now, is_told: false }
    }

    pub fn place(&self) -> Option<Place> {
        self.place
    }

    pub fn due(&self) -> Option<Millis> {
        Some(self.at)
    }

    pub fn start(&self) -> (Operation, Action) {
        (Operation::Rollback, Action::Rollback(self.generation))
    }
}

impl Reconciler {
    pub(super) fn rolled_back(&mut self, moment: Moment, generation: Generation) {
        if !self.ended(Operation::Rollback) {
            return;
        }
        let Phase::RollingBack(back) = &self.phase else { return };
        if back.generation == generation {
            let place = back.place;
            self.enforce();
            self.drift.read_at(moment.now);
            let is_said = self.taken.as_ref().is_some_and(|taken| taken.progress == Progress::Fell);
            if !is_said {
                self.progress(place, Progress::Fell);
            }
        }
    }

    /// It is tried until it works. The kernel ends the trial anyway.
    pub(super) fn not_rolled_back(&mut self, moment: Moment, detail: String) {
        if !self.ended(Operation::Rollback) {
            return;
        }
        let Phase::RollingBack(back) = &mut self.phase else { return };
        back.at = moment.after(AGAIN);
        if !std::mem::replace(&mut back.is_told, true) {
            self.report(moment, Happening::Trouble { kind: "rollback", detail });
        }
    }
}
