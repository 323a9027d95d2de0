//! An assignment is on trial: the kernel takes it back by itself unless it is confirmed, and it is confirmed only
//! after the controller answered over a connection that was opened after the load.
//!
//! An assignment that comes meanwhile waits for the end of the trial, which the window bounds. A controller that
//! will not wait orders this one back.

use ringwall_ruleset::nftables::Generation;

use super::action::{Action, Happening, Reason};
use super::enforcing::{AGAIN, Operation};
use super::event::{Answer, Begun, Kernel, SettleFailure};
use super::rolling_back::RollingBack;
use super::{Assignment, Millis, Moment, Phase, Place, Progress, Reconciler, SECOND};

/// After a connection that did not come about, the next one.
const ASK_AGAIN: Millis = SECOND;
/// The kernel's own clock decides when the window is over; it is looked at a little later.
const GRACE: Millis = SECOND;
/// How long somebody else's trial is waited for.
const BUSY: Millis = 10 * SECOND;

#[derive(Debug)]
pub(super) struct Trial {
    /// Without a number while it is being loaded.
    begun: Begun,
    window: Millis,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Loading {
        /// Told to end it before it began.
        is_unwanted: bool,
    },
    /// In the kernel until `ends`, as far as is known.
    Armed { ends: Millis, look_at: Millis, ask: Ask },
    /// Answered: to be confirmed.
    Settling {
        at: Millis,
        /// Whether it must be looked at first how the last try ended.
        is_in_doubt: bool,
        is_told: bool,
    },
}

#[derive(Debug)]
enum Ask {
    At(Millis),
    /// Under way, by its number.
    Asked(u64),
}

impl Trial {
    pub fn loading(assignment: &Assignment) -> Self {
        let begun = Begun {
            generation: Generation(0),
            place: Some(assignment.place),
            digest: assignment.digest,
            on_drift: assignment.on_drift,
            names: assignment.names.clone(),
        };
        Self { begun, window: Millis::from(assignment.window) * SECOND, stage: Stage::Loading { is_unwanted: false } }
    }

    /// Found alive in the kernel by an agent that has just begun. Whatever answer the last one got is gone with it.
    pub fn found(moment: Moment, begun: Begun, left: Millis) -> Self {
        Self { begun, window: left, stage: armed(moment, left) }
    }

    /// Found confirmed in the kernel, and not on the disk.
    pub fn settling(moment: Moment, begun: Begun) -> Self {
        Self { begun, window: 0, stage: Stage::Settling { at: moment.now, is_in_doubt: false, is_told: false } }
    }

    pub fn place(&self) -> Option<Place> {
        self.begun.place
    }

    pub fn names(&self) -> &[String] {
        &self.begun.names
    }

    /// Its number, once it is in the kernel.
    pub fn generation(&self) -> Option<Generation> {
        self.is_loaded().then_some(self.begun.generation)
    }

    pub fn is_loaded(&self) -> bool {
        !matches!(self.stage, Stage::Loading { .. })
    }

    pub fn due_in_kernel(&self) -> Option<Millis> {
        match self.stage {
            Stage::Loading { .. } => None,
            Stage::Armed { look_at, .. } => Some(look_at),
            Stage::Settling { at, .. } => Some(at),
        }
    }

    pub fn due_to_ask(&self) -> Option<Millis> {
        match self.stage {
            Stage::Armed { ends, ask: Ask::At(at), .. } if at < ends => Some(at),
            _ => None,
        }
    }

    /// What is due in the kernel.
    pub fn operate(&self) -> (Operation, Action) {
        match self.stage {
            Stage::Settling { is_in_doubt: false, .. } => {
                (Operation::Settle, Action::ConfirmInKernel(self.begun.generation))
            }
            _ => (Operation::Read, Action::ReadKernel),
        }
    }

    /// The kernel could not be read: when to try again.
    pub fn look_again_at(&mut self, next: Millis) {
        match &mut self.stage {
            Stage::Loading { .. } => {}
            Stage::Armed { look_at: at, .. } | Stage::Settling { at, .. } => *at = next.max(*at),
        }
    }
}

fn armed(moment: Moment, left: Millis) -> Stage {
    let ends = moment.now.saturating_add(left);
    Stage::Armed { ends, look_at: ends.saturating_add(GRACE), ask: Ask::At(moment.now) }
}

impl Reconciler {
    pub(super) fn loaded(&mut self, moment: Moment, place: Place, generation: Generation) {
        if !self.ended(Operation::Load) {
            return;
        }
        let Phase::Trial(trial) = &mut self.phase else { return };
        self.generation = generation.0;
        trial.begun.generation = generation;
        let is_unwanted = matches!(trial.stage, Stage::Loading { is_unwanted: true });
        trial.stage = armed(moment, trial.window);
        self.progress(Some(place), Progress::Trial);
        self.names.watch(self.wanted_names());
        if is_unwanted {
            self.roll_back(moment);
        }
    }

    pub(super) fn not_loaded(&mut self, moment: Moment, place: Place, reason: Reason, detail: String) {
        if !self.ended(Operation::Load) {
            return;
        }
        self.enforce();
        // It is said that nothing was changed. Whether that is so is looked at.
        self.drift.read_at(moment.now);
        match reason {
            Reason::Busy => self.load_after = moment.after(BUSY),
            reason => self.progress(Some(place), Progress::Refused(reason, detail)),
        }
    }

    /// Opens another connection when it is time to.
    pub(super) fn ask_to_confirm(&mut self, moment: Moment) {
        if !self.identity.is_valid() {
            return;
        }
        if let Phase::Trial(trial) = &mut self.phase
            && let Some(place) = trial.begun.place
            && trial.due_to_ask().is_some_and(|due| due <= moment.now)
            && let Stage::Armed { ask, .. } = &mut trial.stage
        {
            self.attempts += 1;
            *ask = Ask::Asked(self.attempts);
            let (attempt, digest) = (self.attempts, trial.begun.digest);
            self.actions.push(Action::ConnectFreshAndConfirm { attempt, place, digest });
        }
    }

    /// Only the answer to the connection that this trial asked for counts.
    pub(super) fn answered(&mut self, moment: Moment, attempt: u64, answer: Answer) {
        let Phase::Trial(trial) = &mut self.phase else { return };
        let Stage::Armed { ask, .. } = &mut trial.stage else { return };
        if !matches!(ask, Ask::Asked(asked) if *asked == attempt) {
            return;
        }
        match answer {
            Answer::Yes => trial.stage = Stage::Settling { at: moment.now, is_in_doubt: false, is_told: false },
            Answer::No => self.roll_back(moment),
            Answer::Unreachable => *ask = Ask::At(moment.after(ASK_AGAIN)),
        }
    }

    pub(super) fn settled(&mut self, moment: Moment, generation: Generation) {
        if !self.ended(Operation::Settle) {
            return;
        }
        let Phase::Trial(trial) = &self.phase else { return };
        if trial.begun.generation == generation {
            let begun = trial.begun.clone();
            let place = begun.place;
            self.confirmed = Some(begun);
            self.enforce();
            self.drift.forgive();
            self.drift.read_at(moment.now);
            self.progress(place, Progress::Confirmed);
        }
    }

    pub(super) fn not_settled(&mut self, moment: Moment, failure: SettleFailure) {
        if !self.ended(Operation::Settle) {
            return;
        }
        let Phase::Trial(trial) = &mut self.phase else { return };
        let Stage::Settling { at, is_in_doubt, is_told } = &mut trial.stage else { return };
        let (kind, detail) = match failure {
            SettleFailure::Fallen => return self.fell(moment),
            SettleFailure::Kernel(detail) => {
                *is_in_doubt = true;
                ("kernel", detail)
            }
            // Said only when it is durable, however long that takes.
            SettleFailure::Disk(detail) => ("disk", detail),
        };
        *at = moment.after(if *is_in_doubt { SECOND } else { AGAIN });
        if !std::mem::replace(is_told, true) {
            self.report(moment, Happening::Trouble { kind, detail });
        }
    }

    /// What the kernel says of the generation on trial.
    pub(super) fn compare_trial(&mut self, moment: Moment, mut trial: Trial, kernel: &Kernel) {
        let generation = trial.begun.generation;
        let on_trial = kernel.trial.filter(|(found, _)| *found == generation);
        match (on_trial, &mut trial.stage) {
            (_, Stage::Loading { .. }) => {}
            (Some((_, Some(left))), Stage::Armed { ends, look_at, .. }) => {
                *ends = moment.now.saturating_add(left);
                *look_at = ends.saturating_add(GRACE);
            }
            (Some((_, Some(_))), Stage::Settling { is_in_doubt, .. }) => *is_in_doubt = false,
            (Some((_, None)), _) => {
                self.phase = Phase::Trial(trial);
                return self.fell(moment);
            }
            (None, Stage::Settling { is_in_doubt, .. }) if kernel.current == Some(generation) => *is_in_doubt = false,
            (None, _) => {
                // Somebody took it away, perhaps with all else.
                let place = trial.begun.place;
                self.enforce();
                self.progress(place, Progress::Fell);
                return self.compare(moment, kernel);
            }
        }
        self.phase = Phase::Trial(trial);
    }

    /// An operator wants it gone. Whether there was such a trial.
    pub(super) fn end_trial_of(&mut self, moment: Moment, place: Place) -> bool {
        if let Phase::Trial(trial) = &mut self.phase
            && trial.begun.place == Some(place)
        {
            return match &mut trial.stage {
                Stage::Loading { is_unwanted } => {
                    *is_unwanted = true;
                    true
                }
                Stage::Armed { .. } => {
                    self.roll_back(moment);
                    true
                }
                // Answered: perhaps it is confirmed already.
                Stage::Settling { .. } => false,
            };
        }
        // One that is not loaded yet would be loaded after a restart: a newer one takes its place.
        false
    }

    /// The kernel took it back; what is left of it is cleared away.
    fn fell(&mut self, moment: Moment) {
        let Phase::Trial(trial) = &self.phase else { return };
        let place = trial.begun.place;
        self.roll_back(moment);
        self.progress(place, Progress::Fell);
    }

    fn roll_back(&mut self, moment: Moment) {
        if let Phase::Trial(trial) = &self.phase {
            self.phase = Phase::RollingBack(RollingBack::new(moment, trial.begun.generation, trial.begun.place));
        }
    }
}
