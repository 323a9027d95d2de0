//! Carries out what the reconciler decides, in the kernel and the state folder.
//!
//! In: the reconciler's actions that touch rules. Out: the events that they came to. Never: a decision, or an
//! error that the reconciler does not learn of.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use ringwall_packet::Flow;
use ringwall_ruleset::Ruleset;
use ringwall_ruleset::nftables::{BLOCKS_TABLE, Confirm, Generation, TABLE, blocks};

use super::assigned::Assigned;
use super::state::{Answer, History, Record, State, StateError};
use super::{ApplyError, Proof, anew, apply, boot, clear, confirm, cut, enforce_floor, enforced, remove, rollback, take_over};
use crate::kernel::{Netfilter, Nft, TableId};
use crate::reconciler::{Assignment, Event, Kernel, Reason, SettleFailure};

/// How the bytes of an assignment's ruleset are read: what came over the wire is not this crate's matter.
pub type ReadRuleset = fn(&[u8]) -> Result<Ruleset, String>;

/// What the operations work with.
pub struct Hands<'a> {
    pub nft: &'a Nft,
    pub netfilter: &'a mut Netfilter,
    /// The state folder. It is locked for the time of each operation.
    pub folder: &'a Path,
    pub read: ReadRuleset,
    /// Seconds since the epoch.
    pub now: u64,
}

/// A load, besides the assignment.
pub struct Load<'a> {
    /// Flows that must stay open: to the management, from the controller's side.
    pub ways_in: &'a [Flow],
    pub answers: BTreeMap<String, Answer>,
    pub proof: Proof<'a>,
}

impl Hands<'_> {
    /// The newest assignment that was taken over is this one.
    pub fn persist(&self, assignment: &Assignment) -> Event {
        let place = assignment.place;
        match State::open(self.folder).and_then(|state| state.take(&Assigned::from(assignment))) {
            Ok(()) => Event::Persisted(place),
            Err(error) => Event::NotPersisted { place, detail: chain(&error) },
        }
    }

    pub fn load(&mut self, assignment: &Assignment, load: Load<'_>) -> Event {
        let place = assignment.place;
        match self.try_load(assignment, load) {
            Ok(generation) => Event::Loaded { place, generation },
            Err((reason, detail)) => Event::NotLoaded { place, reason, detail },
        }
    }

    fn try_load(&mut self, assignment: &Assignment, load: Load<'_>) -> Result<Generation, (Reason, String)> {
        let ruleset = (self.read)(&assignment.ruleset).map_err(|detail| (Reason::Unproved, detail))?;
        let cleared = clear(&ruleset, load.ways_in, self.now).map_err(|lockout| (Reason::Lockout, lockout.to_string()))?;
        let failed = |error: ApplyError| (reason(&error), chain(&error));
        let mut state = State::open(self.folder).map_err(|error| failed(error.into()))?;
        let mut record = Record {
            schema: Record::SCHEMA.into(),
            node: ruleset.node.clone(),
            answers: load.answers,
            applied: self.now,
            assignment: Some(assignment.into()),
            ..Record::default()
        };
        let within = Confirm::Within(assignment.window);
        let applied = apply(self.nft, self.netfilter, &mut state, &cleared, within, &record, load.proof).map_err(failed)?;
        // Without a digest, only what the names of objects tell is noticed later. That is no reason to give up.
        record.digest = digest(self.netfilter, applied.generation);
        let _ = state.amend(applied.generation, &record);
        Ok(applied.generation)
    }

    pub fn confirm(&mut self, generation: Generation) -> Event {
        match self.try_confirm(generation) {
            Ok(()) => Event::Settled(generation),
            Err(ApplyError::Fallen(_) | ApplyError::NoTrial(_)) => Event::NotSettled(SettleFailure::Fallen),
            Err(ApplyError::State(error)) => Event::NotSettled(SettleFailure::Disk(chain(&error))),
            Err(error) => Event::NotSettled(SettleFailure::Kernel(chain(&error))),
        }
    }

    fn try_confirm(&mut self, generation: Generation) -> Result<(), ApplyError> {
        let mut state = State::open(self.folder)?;
        let record = state.record(generation)?;
        let assigned = record.assignment.ok_or(StateError::NoRecord(generation))?;
        let ruleset = (self.read)(&assigned.ruleset).map_err(|detail| ApplyError::Unproved(detail.into()))?;
        confirm(self.nft, self.netfilter, &mut state, &ruleset, generation)?;
        // Nothing can undo these. What fails is made good by the next confirmation.
        if assigned.cuts {
            let resolved = |name: &str, address: IpAddr| {
                record.answers.get(name).is_some_and(|answer| answer.addresses.contains(&address))
            };
            let _ = cut(self.netfilter, &ruleset, self.now, resolved);
        }
        let _ = take_over(self.netfilter, generation, &state.fallen());
        Ok(())
    }

    /// Ends the trial of this generation, if there is one.
    pub fn rollback(&mut self, generation: Generation) -> Event {
        let mut run = || {
            let found = enforced(self.netfilter)?;
            match found.trial {
                Some(trial) if trial.generation == generation => {
                    rollback(self.nft, self.netfilter, &mut State::open(self.folder)?).map(|_| ())
                }
                _ => Ok(()),
            }
        };
        match run() {
            Ok(()) => Event::RolledBack(generation),
            Err(error) => Event::NotRolledBack { detail: chain(&error) },
        }
    }

    /// What is enforced, and whether it is as it was loaded.
    pub fn kernel(&mut self) -> Result<Kernel, ApplyError> {
        kernel(self.netfilter, self.folder)
    }

    /// Loads the generation's own text anew. Where nothing of it is there and it does not load, the floor alone.
    pub fn heal(&mut self, generation: Generation, floor: &Ruleset) -> Event {
        let mut run = || -> Result<(), ApplyError> {
            let state = State::open(self.folder)?;
            self.nft.load(&(anew() + &boot(&state, generation)?))?;
            match enforced(self.netfilter)?.installed.current {
                Some(found) if found == generation => Ok(()),
                _ => Err(ApplyError::Boot(generation)),
            }
        };
        if run().is_ok() {
            return Event::Healed;
        }
        if enforced(self.netfilter).is_ok_and(|found| found.deciding().is_none()) {
            // It is told as not healed, and tried again.
            let _ = enforce_floor(self.nft, floor, generation);
        }
        Event::NotHealed
    }

    pub fn remove(&mut self) -> Event {
        match State::open(self.folder).map_err(Into::into).and_then(|mut state| remove(self.nft, &mut state)) {
            Ok(()) => Event::Removed,
            Err(error) => Event::NotRemoved { detail: chain(&error) },
        }
    }
}

/// What is enforced, and whether it is as it was loaded.
pub fn kernel(netfilter: &mut Netfilter, folder: &Path) -> Result<Kernel, ApplyError> {
    let found = enforced(netfilter)?;
    let mut as_loaded = |generation: Generation| {
        // A generation without a record, or one without a digest, is judged by its names alone.
        let record = History::read(folder).and_then(|history| history.record(generation));
        let recorded = record.ok().and_then(|record| record.digest);
        recorded.is_none_or(|recorded| digest(netfilter, generation).as_ref() == Some(&recorded))
    };
    let is_intact = !found.is_disturbed && found.deciding().is_none_or(&mut as_loaded);
    Ok(Kernel {
        current: found.installed.current,
        trial: found.trial.map(|trial| {
            let left = trial.left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
            (trial.generation, left)
        }),
        is_intact,
    })
}

fn reason(error: &ApplyError) -> Reason {
    match error {
        ApplyError::OnTrial(_) | ApplyError::State(StateError::Locked { .. }) => Reason::Busy,
        ApplyError::State(_) | ApplyError::Lost => Reason::Disk,
        ApplyError::Unproved(_) => Reason::Unproved,
        _ => Reason::Kernel,
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// The digest of a generation's chains and of those of the block lists, which tells a foreign change later.
pub fn digest(netfilter: &mut Netfilter, generation: Generation) -> Option<String> {
    let of_generation = |name: &str| Generation::of_name(name) == Some(generation) && !name.ends_with("_armed");
    let rules = netfilter.digest(&TableId::inet(TABLE), of_generation).ok()??;
    // What is in the lists changes all the time.
    let of_blocks = |name: &str| blocks::CHAINS.contains(&name);
    let blocks = netfilter.digest(&TableId::inet(BLOCKS_TABLE), of_blocks).ok()??;
    Some(format!("{rules} {blocks}"))
}
