//! What must hold at every moment.

use std::collections::BTreeSet;

use ringwall_node::reconciler::{Action, Millis, Place, Say, Stage};

use super::machine::{DiskModel, KernelModel};

#[derive(Debug, Default)]
pub struct Checks {
    /// A kernel operation is under way.
    is_operating: bool,
    /// Generations for which an answer came over a connection that was opened while they were on trial.
    answered: BTreeSet<u32>,
    /// The newest place that was called confirmed to the controller.
    confirmed: Option<Place>,
    /// Somebody else took everything out.
    is_flushed: bool,
    /// The same moment, so often.
    repeats: u32,
    /// The newest place that was loaded.
    loaded: Option<Place>,
    /// Those that were said to have fallen.
    fell: BTreeSet<Place>,
    /// It was told of a change that took everything out, and has not read the kernel since.
    is_unread: bool,
}

fn place_of(disk: &DiskModel, generation: Option<u32>) -> Option<Place> {
    disk.begun.get(&generation?)?.place
}

impl Checks {
    pub fn operation_ended(&mut self) {
        self.is_operating = false;
    }

    pub fn answered(&mut self, generation: u32) {
        self.answered.insert(generation);
    }

    /// The process that heard them is gone.
    pub fn forget_answers(&mut self) {
        self.answered.clear();
    }

    /// The agent was told of a change.
    pub fn told(&mut self) {
        self.is_unread = true;
    }

    /// The agent knows what the kernel held just now, or will ask.
    pub fn read(&mut self) {
        self.is_unread = false;
    }

    pub fn flushed(&mut self) {
        self.is_flushed = true;
    }

    /// By order.
    #[allow(dead_code, reason = "a fleet's simulation orders nobody's rules away")]
    pub fn removed(&mut self) {
        self.confirmed = None;
    }

    pub fn clock_began_anew(&mut self) {
        self.repeats = 0;
    }

    pub fn not_stuck(&mut self, now: Millis, next: Millis) {
        self.repeats = if next == now { self.repeats + 1 } else { 0 };
        assert!(self.repeats < 1_000, "it wakes again and again at {now}");
    }

    pub fn persist(&self, disk: &DiskModel, place: Place) {
        let before = disk.taken.as_ref().map(|taken| taken.place);
        assert!(before < Some(place), "{place:?} is written over {before:?}");
    }

    pub fn confirm(&self, generation: u32) {
        assert!(self.answered.contains(&generation), "g{generation} is confirmed without an answer over a new connection");
    }

    pub fn action(&mut self, action: &Action, kernel: &KernelModel, disk: &DiskModel, is_ended: bool) {
        if action.is_kernel_operation() {
            assert!(!self.is_operating, "two kernel operations at once: {action:?}");
            self.is_operating = true;
        }
        match action {
            Action::Load(assignment) => {
                let place = assignment.place;
                assert!(!is_ended, "a load after the end of management");
                assert_eq!(disk.taken.as_ref().map(|taken| taken.place), Some(place), "it is durable before it is loaded");
                assert!(place_of(disk, disk.confirmed) < Some(place), "{place:?} is older than what is confirmed");
                assert!(self.loaded <= Some(place), "{place:?} is older than what was loaded");
                self.loaded = Some(place);
                assert!(!self.fell.contains(&place), "{place:?} fell, and is tried again");
                assert!(!self.is_unread, "a load onto what was not read");
                let on_trial = kernel.live_trial().filter(|trial| place_of(disk, Some(*trial)).is_some());
                assert_eq!(on_trial, None, "a second trial");
            }
            Action::Heal(generation) => assert_eq!(disk.confirmed, Some(generation.0), "only what is confirmed is loaded anew"),
            Action::Connect | Action::Renew | Action::ConnectFreshAndConfirm { .. } => {
                assert!(!is_ended, "{action:?} after the end of management");
            }
            _ => {}
        }
    }

    /// What is said is so, and stays so when the machine stops now.
    pub fn say(&mut self, say: &Say, kernel: &KernelModel, disk: &DiskModel) {
        let Say::Ack { place, stage, .. } = say else { return };
        let taken = disk.taken.as_ref().map(|taken| taken.place);
        assert!(taken >= Some(*place), "{say:?}, and {taken:?} is durable");
        match stage {
            Stage::Received => {}
            Stage::Trial => assert!(disk.begun.values().any(|begun| begun.place == Some(*place)), "{say:?} without a load"),
            Stage::Confirmed => {
                assert!(place_of(disk, disk.confirmed) >= Some(*place), "{say:?} is not durable");
                self.confirmed = self.confirmed.max(Some(*place));
            }
            Stage::Fell => {
                let deciding = place_of(disk, kernel.deciding());
                assert!(deciding != Some(*place), "{say:?}, and it decides");
                assert!(place_of(disk, disk.confirmed) != Some(*place), "{say:?}, and it is loaded at boot");
                self.fell.insert(*place);
            }
        }
    }

    pub fn state(&mut self, kernel: &KernelModel, disk: &DiskModel) {
        // A trial on an empty base is none: it falls to what somebody else left.
        if kernel.current.is_some() {
            self.is_flushed = false;
        }
        // A command at the machine may have put something else on trial for a while.
        let deciding = kernel.deciding().filter(|deciding| disk.begun[deciding].place.is_some());
        let is_local = kernel.deciding().is_some() && deciding.is_none();
        if self.confirmed.is_some() && !self.is_flushed && !is_local {
            assert!(deciding.is_some(), "once enforced, nothing is enforced: {kernel:?}");
            assert!(place_of(disk, deciding) >= self.confirmed, "an older assignment than the confirmed one is enforced");
        }
        assert!(place_of(disk, disk.confirmed) >= self.confirmed, "what was called confirmed is not what is loaded at boot");
    }
}
