//! Somebody else changed our tables: it is noticed, read, told, and healed if that is wanted.
//!
//! The kernel's event says that something changed, not what; and events get lost. So the kernel is read after
//! one, and now and then without. Who changes it again and again is told on, and fought ever more rarely.

use super::action::{Action, Happening};
use super::enforcing::{AGAIN, Operation};
use super::event::Kernel;
use super::{Millis, Moment, OnDrift, Reconciler, SECOND};

/// Without an event, so often.
const READ_EVERY: Millis = 10 * SECOND;
/// However many events there are, not more often than this.
const READ_AT_MOST: Millis = SECOND / 5;
/// So many times in a row it is healed at once.
const HEALS_AT_ONCE: u32 = 5;
/// The next time after that, and twice as long each time.
const HEAL_WAIT: Millis = 10 * SECOND;
const HEAL_WAIT_MAX: Millis = 300 * SECOND;
/// So long in peace, and it counts from the beginning again.
const PEACE: Millis = 600 * SECOND;

/// Who did something, as the kernel says (NFTA_GEN_PROC_NAME and NFTA_GEN_PROC_PID of `NFT_MSG_NEWGEN`,
/// uapi/linux/netfilter/nf_tables.h).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub name: String,
    pub id: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriftOutcome {
    Reported,
    Healed,
    /// Somebody changes it again and again: from now on it is healed rarely, and not told each time.
    Flapping,
    Failed,
}

#[derive(Debug, Default)]
pub(super) struct Drift {
    read_at: Millis,
    /// Since the last word of a change, and the last operation that did not work, it was read.
    is_known: bool,
    /// A change was noticed that the read under way may not have seen.
    is_newer: bool,
    last_read: Option<Millis>,
    /// Who was seen since the last read that found all well.
    process: Option<Process>,
    found: Found,
    /// In a row.
    heals: u32,
    last_heal: Millis,
    is_flapping_told: bool,
}

#[derive(Debug, Default)]
enum Found {
    #[default]
    Well,
    /// Told; whether to heal it is not ours to decide.
    Reported,
    /// To be healed then.
    Heal { at: Millis, is_drift: bool, is_told: bool },
}

impl Drift {
    pub fn noticed(&mut self, now: Millis, process: Option<Process>) {
        self.process = process.or(self.process.take());
        (self.is_known, self.is_newer) = (false, true);
        let soonest = self.last_read.map_or(now, |last| last.saturating_add(READ_AT_MOST));
        self.read_at = self.read_at.min(now.max(soonest));
    }

    pub fn read_at(&mut self, at: Millis) {
        self.is_known = false;
        self.read_at = at;
    }

    /// A read begins.
    pub fn reading(&mut self) {
        self.is_newer = false;
    }

    pub fn was_read(&mut self, now: Millis) {
        self.last_read = Some(now);
        self.is_known = !self.is_newer;
        self.read_at = now.saturating_add(if self.is_newer { READ_AT_MOST } else { READ_EVERY });
    }

    pub fn is_read_due(&self, now: Millis) -> bool {
        self.read_at <= now
    }

    /// Whether what is enforced is known: on a base that somebody took away, nothing is put on trial.
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    pub fn due_to_read(&self) -> Millis {
        self.read_at
    }

    pub fn due(&self) -> Option<Millis> {
        match self.found {
            Found::Heal { at, .. } => Some(at.min(self.read_at)),
            Found::Well | Found::Reported => Some(self.read_at),
        }
    }

    pub fn may_heal(&self, now: Millis) -> bool {
        matches!(self.found, Found::Heal { at, .. } if at <= now)
    }

    /// What was found is as it should be, or will be.
    pub fn forgive(&mut self) {
        self.found = Found::Well;
        self.process = None;
    }

    /// What was read is as it should be. Who was seen since the read began is not forgotten.
    fn is_well(&mut self) {
        self.found = Found::Well;
        if self.is_known {
            self.process = None;
        }
    }

    /// The kernel has nothing of what is confirmed, and nobody is to blame.
    pub fn restore(&mut self, now: Millis) {
        self.found = Found::Heal { at: now, is_drift: false, is_told: false };
    }

    /// When the next heal may be.
    fn next_heal(&mut self, now: Millis) -> Millis {
        if now.saturating_sub(self.last_heal) > PEACE {
            self.heals = 0;
            self.is_flapping_told = false;
        }
        match self.heals.checked_sub(HEALS_AT_ONCE) {
            None => now,
            Some(more) => {
                let wait = HEAL_WAIT.saturating_mul(1 << more.min(16)).min(HEAL_WAIT_MAX);
                now.max(self.last_heal.saturating_add(wait))
            }
        }
    }
}

impl Reconciler {
    /// Whether the kernel has what is confirmed, and what to do otherwise.
    pub(super) fn compare(&mut self, moment: Moment, kernel: &Kernel) {
        let Some(confirmed) = &self.confirmed else { return self.drift.forgive() };
        // Somebody at the machine tries something: that ends by itself, and then it is seen what became of it.
        let is_foreign_trial = matches!(kernel.trial, Some((_, Some(_))));
        let is_well = kernel.current == Some(confirmed.generation) && kernel.is_intact;
        if is_well || is_foreign_trial {
            return self.drift.is_well();
        }
        match (&self.drift.found, confirmed.on_drift) {
            (Found::Heal { .. }, _) | (Found::Reported, OnDrift::Report) => {}
            (Found::Well, OnDrift::Report) => {
                self.drift.found = Found::Reported;
                let process = self.drift.process.take();
                self.report(moment, Happening::Drift { process, outcome: DriftOutcome::Reported });
            }
            (Found::Well | Found::Reported, OnDrift::Heal) => {
                let at = self.drift.next_heal(moment.now);
                self.drift.found = Found::Heal { at, is_drift: true, is_told: false };
                if at > moment.now && !self.drift.is_flapping_told {
                    self.drift.is_flapping_told = true;
                    let process = self.drift.process.clone();
                    self.report(moment, Happening::Drift { process, outcome: DriftOutcome::Flapping });
                }
            }
        }
    }

    pub(super) fn healed(&mut self, moment: Moment, worked: bool) {
        if !self.ended(Operation::Heal) {
            return;
        }
        let Found::Heal { at, is_drift, is_told } = &mut self.drift.found else { return };
        let is_drift = *is_drift;
        if !worked {
            *at = moment.after(AGAIN);
            if !std::mem::replace(is_told, true) {
                let process = self.drift.process.clone();
                self.report(moment, Happening::Drift { process, outcome: DriftOutcome::Failed });
            }
            return;
        }
        let process = self.drift.process.take();
        self.drift.forgive();
        self.drift.read_at(moment.now.saturating_add(READ_AT_MOST));
        // The sets of names are as they were when the text was written.
        self.fill_names();
        if is_drift {
            self.drift.heals = self.drift.heals.saturating_add(1);
            self.drift.last_heal = moment.now;
            if !self.drift.is_flapping_told {
                self.report(moment, Happening::Drift { process, outcome: DriftOutcome::Healed });
            }
        }
    }

    fn fill_names(&mut self) {
        let known = self.names.answers();
        let refreshes = known.into_iter().filter_map(|(name, addresses, seconds)| {
            let generations = self.generations_with(&name);
            (!generations.is_empty()).then_some(Action::Refresh { generations, name, addresses, seconds })
        });
        let refreshes: Vec<Action> = refreshes.collect();
        self.actions.extend(refreshes);
    }
}
