//! No trial is on: the confirmed generation is enforced, and the newest assignment is what comes next.

use std::mem;

use super::action::{Action, Happening, Reason, Say};
use super::event::{Disk, Kernel};
use super::rolling_back::RollingBack;
use super::trial::Trial;
use super::{Assignment, Millis, Moment, Phase, Place, Progress, Reconciler, SECOND, Taken};

/// After an operation that did not work, the next try.
pub(super) const AGAIN: Millis = 5 * SECOND;

/// A kernel operation under way: whose event the next one waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Load,
    Settle,
    Rollback,
    Read,
    Heal,
    Remove,
}

impl Reconciler {
    /// What was found when the agent began. A trial that was not confirmed is over, wherever it was left,
    /// unless it is still alive in the kernel.
    pub(super) fn started(&mut self, moment: Moment, disk: Disk, kernel: &Kernel) {
        self.identity = super::Identity::None { retry: Some(moment.now) };
        self.confirmed = disk.confirmed;
        let ours: Vec<_> = disk.begun.into_iter().filter(|begun| begun.place.is_some()).collect();
        let made = ours.iter().chain(&self.confirmed).filter_map(|begun| Some((begun.place?, begun.digest)));
        self.tried = made.max();
        self.generation = ours.last().map_or(0, |newest| newest.generation.0);
        let of = |generation| ours.iter().find(move |begun| begun.generation == generation).cloned();
        let on_trial = kernel.trial.and_then(|(trial, left)| Some((of(trial)?, left)));
        self.phase = match (kernel.current.and_then(of), on_trial) {
            // Confirmed in the kernel by an agent that was killed before it could write it down.
            (Some(begun), _) => Phase::Trial(Trial::settling(moment, begun)),
            (None, Some((begun, Some(left)))) => Phase::Trial(Trial::found(moment, begun, left)),
            (None, Some((begun, None))) => Phase::RollingBack(RollingBack::new(moment, begun.generation, begun.place)),
            (None, None) => Phase::Enforcing,
        };
        let on_trial = match &self.phase {
            Phase::Trial(trial) => trial.place(),
            _ => None,
        };
        let confirmed = self.confirmed.as_ref().and_then(|confirmed| confirmed.place);
        self.taken = disk.taken.map(|assignment| {
            let place = assignment.place;
            let progress = match () {
                () if confirmed == Some(place) => Progress::Confirmed,
                () if on_trial == Some(place) => Progress::Trial,
                () if ours.iter().any(|begun| begun.place == Some(place)) => Progress::Fell,
                () => Progress::Received,
            };
            Taken { assignment, progress }
        });
        self.names.watch(self.wanted_names());
        match (&self.confirmed, kernel.current) {
            // A machine that restarted and has nothing yet is nobody's work.
            (Some(_), None) => self.drift.restore(moment.now),
            _ => self.drift.read_at(moment.now),
        }
    }

    /// An assignment came. The newest one alone waits: who gave two of them wants the second.
    pub(super) fn received(&mut self, assignment: Assignment) {
        let place = assignment.place;
        let held = [self.waiting.as_ref(), self.persisting.as_ref(), self.taken.as_ref().map(|taken| &taken.assignment)];
        let held = held.into_iter().flatten().map(|held| (held.place, held.digest)).max();
        let newest = held.max(self.tried);
        if !self.identity.is_valid() {
            let detail = "this agent's identity was revoked or given up".into();
            return self.say(Say::Refused { place, reason: Reason::Forbidden, detail });
        }
        match newest {
            Some((newest, _)) if place < newest => {
                let reason = if place.epoch < newest.epoch { Reason::Epoch } else { Reason::Stale };
                let Place { epoch, number } = newest;
                let detail = format!("assignment {number} of epoch {epoch} was taken over already");
                self.say(Say::Refused { place, reason, detail });
            }
            Some((newest, digest)) if place == newest && assignment.digest != digest => {
                let detail = "another ruleset came with the same number".into();
                self.say(Say::Refused { place, reason: Reason::Stale, detail });
            }
            _ if held.is_some_and(|(held, _)| held == place) => self.received_again(place),
            _ => self.waiting = Some(assignment),
        }
    }

    /// What could not be done may be possible by now; of all else, how far it came.
    fn received_again(&mut self, place: Place) {
        let Some(taken) = &mut self.taken else { return };
        if taken.assignment.place != place {
            return;
        }
        if matches!(taken.progress, Progress::Refused(..)) {
            taken.progress = Progress::Received;
        }
        self.say_progress();
    }

    /// Before anything is said or done of an assignment, it is durable.
    pub(super) fn persist(&mut self) {
        if self.persisting.is_none()
            && let Some(assignment) = self.waiting.take()
        {
            self.persisting = Some(assignment.clone());
            self.actions.push(Action::Persist(assignment));
        }
    }

    pub(super) fn persisted(&mut self, place: Place) {
        if let Some(assignment) = self.persisting.take_if(|assignment| assignment.place == place) {
            // Tried before, and forgotten by a disk that lost what was taken over.
            let progress = match self.tried {
                Some((tried, _)) if tried == place => match &self.phase {
                    Phase::Trial(trial) if trial.place() == Some(place) => Progress::Trial,
                    // Until it is known to be gone.
                    Phase::RollingBack(back) if back.place() == Some(place) => Progress::Trial,
                    _ if self.confirmed.as_ref().is_some_and(|confirmed| confirmed.place == Some(place)) => Progress::Confirmed,
                    _ => Progress::Fell,
                },
                _ => Progress::Received,
            };
            self.taken = Some(Taken { assignment, progress });
            self.say_progress();
        }
    }

    pub(super) fn not_persisted(&mut self, place: Place, detail: String) {
        if self.persisting.take_if(|assignment| assignment.place == place).is_some() {
            self.say(Say::Refused { place, reason: Reason::Disk, detail });
        }
    }

    /// The next kernel operation, if one is due.
    pub(super) fn operate(&mut self, moment: Moment) {
        let now = moment.now;
        let is_due = |due: Option<Millis>| due.is_some_and(|due| due <= now);
        let action = match &mut self.phase {
            Phase::RollingBack(back) if is_due(back.due()) => Some(back.start()),
            Phase::Trial(trial) if is_due(trial.due_in_kernel()) => Some(trial.operate()),
            Phase::Trial(trial) if trial.is_loaded() && self.drift.is_read_due(now) => Some((Operation::Read, Action::ReadKernel)),
            Phase::Enforcing if self.removing && self.drift.is_read_due(now) => Some((Operation::Remove, Action::Remove)),
            Phase::Enforcing if self.drift.may_heal(now) => {
                self.confirmed.as_ref().map(|confirmed| (Operation::Heal, Action::Heal(confirmed.generation)))
            }
            Phase::Enforcing if self.drift.is_read_due(now) => Some((Operation::Read, Action::ReadKernel)),
            Phase::Enforcing => self.load(now),
            Phase::RollingBack(_) | Phase::Trial(_) => None,
        };
        if let Some((operation, action)) = action {
            if operation == Operation::Read {
                self.drift.reading();
            }
            self.operation = Some(operation);
            self.actions.push(action);
        }
    }

    fn load(&mut self, now: Millis) -> Option<(Operation, Action)> {
        let taken = self.taken.as_ref().filter(|taken| taken.progress == Progress::Received)?;
        if !self.identity.is_valid() || self.removing || now < self.load_after || !self.drift.is_known() {
            return None;
        }
        let assignment = taken.assignment.clone();
        self.phase = Phase::Trial(Trial::loading(&assignment));
        Some((Operation::Load, Action::Load(assignment)))
    }

    /// What is confirmed is enforced, and nothing else is going on.
    pub(super) fn enforce(&mut self) {
        self.phase = Phase::Enforcing;
        self.names.watch(self.wanted_names());
    }

    /// DNS names of what is enforced and what is on trial.
    pub(super) fn wanted_names(&self) -> Vec<String> {
        let on_trial = match &self.phase {
            Phase::Trial(trial) => Some(trial.names()),
            Phase::Enforcing | Phase::RollingBack(_) => None,
        };
        let confirmed = self.confirmed.as_ref().map(|confirmed| &*confirmed.names);
        confirmed.into_iter().chain(on_trial).flat_map(|names| names.iter().cloned()).collect()
    }

    /// The operation under way, if it is this one: its event was expected.
    pub(super) fn ended(&mut self, operation: Operation) -> bool {
        let is_expected = self.operation == Some(operation);
        if is_expected {
            self.operation = None;
        }
        is_expected
    }

    pub(super) fn kernel_read(&mut self, moment: Moment, kernel: &Kernel) {
        if !self.ended(Operation::Read) {
            return;
        }
        self.drift.was_read(moment.now);
        match mem::replace(&mut self.phase, Phase::Enforcing) {
            Phase::Enforcing => self.compare(moment, kernel),
            Phase::Trial(trial) => self.compare_trial(moment, trial, kernel),
            back @ Phase::RollingBack(_) => self.phase = back,
        }
    }

    pub(super) fn kernel_not_read(&mut self, moment: Moment) {
        if self.ended(Operation::Read) {
            self.drift.read_at(moment.after(AGAIN));
            if let Phase::Trial(trial) = &mut self.phase {
                trial.look_again_at(moment.after(SECOND));
            }
        }
    }

    pub(super) fn due_of_phase(&self) -> Option<Millis> {
        match &self.phase {
            // Its event comes first.
            Phase::Trial(trial) if self.operation.is_some() => trial.due_to_ask().filter(|_| self.identity.is_valid()),
            _ if self.operation.is_some() => None,
            Phase::Enforcing => {
                let is_waiting = self.taken.as_ref().is_some_and(|taken| taken.progress == Progress::Received);
                let load = (is_waiting && self.identity.is_valid() && !self.removing && self.drift.is_known()).then_some(self.load_after);
                self.drift.due().into_iter().chain(load).min()
            }
            Phase::Trial(trial) if trial.is_loaded() => {
                let read = self.drift.due_to_read();
                let ask = trial.due_to_ask().filter(|_| self.identity.is_valid());
                trial.due_in_kernel().into_iter().chain([read]).chain(ask).min()
            }
            Phase::Trial(_) => None,
            Phase::RollingBack(back) => back.due(),
        }
    }

    pub(super) fn removed(&mut self) {
        if self.ended(Operation::Remove) {
            self.removing = false;
            self.confirmed = None;
            self.drift.forgive();
            self.enforce();
            self.release();
        }
    }

    pub(super) fn not_removed(&mut self, moment: Moment, detail: String) {
        if self.ended(Operation::Remove) {
            self.drift.read_at(moment.after(AGAIN));
            self.report(moment, Happening::Trouble { kind: "remove", detail });
        }
    }
}
