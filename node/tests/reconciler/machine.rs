//! A kernel and a disk, as small as they can be, and what an agent's hands do to them.

use std::collections::BTreeMap;

use ringwall_node::reconciler::{Action, Assignment, Begun, Disk, Event, Kernel, Millis, Reason, SettleFailure};
use ringwall_ruleset::nftables::Generation;

/// Two rulesets at most, and a switch. Its timers stand still while the machine sleeps, as jiffies do.
#[derive(Clone, Debug, Default)]
pub struct KernelModel {
    pub current: Option<u32>,
    /// With the time of its own clock when it falls.
    pub trial: Option<(u32, Millis)>,
    pub is_disturbed: bool,
    /// Its own clock.
    pub time: Millis,
}

impl KernelModel {
    pub fn live_trial(&self) -> Option<u32> {
        self.trial.filter(|(_, ends)| self.time < *ends).map(|(generation, _)| generation)
    }

    pub fn deciding(&self) -> Option<u32> {
        self.live_trial().or(self.current)
    }

    pub fn read(&self) -> Kernel {
        Kernel {
            current: self.current.map(Generation),
            trial: self.trial.map(|(generation, ends)| {
                (Generation(generation), ends.checked_sub(self.time).filter(|left| *left > 0))
            }),
            is_intact: !self.is_disturbed,
        }
    }

    pub fn heal(&mut self, generation: u32) {
        (self.current, self.trial, self.is_disturbed) = (Some(generation), None, false);
    }

    pub fn flush(&mut self) {
        (self.current, self.trial, self.is_disturbed) = (None, None, false);
    }

    /// Whether it was still there to be confirmed.
    pub fn confirm(&mut self, generation: u32) -> bool {
        let is_there = self.live_trial() == Some(generation);
        if is_there {
            self.heal(generation);
        }
        is_there
    }
}

#[derive(Clone, Debug, Default)]
pub struct DiskModel {
    pub is_full: bool,
    pub taken: Option<Assignment>,
    pub last: u32,
    pub confirmed: Option<u32>,
    pub begun: BTreeMap<u32, Begun>,
}

impl DiskModel {
    pub fn read(&self) -> Disk {
        Disk {
            taken: self.taken.clone(),
            confirmed: self.confirmed.map(|generation| self.begun[&generation].clone()),
            begun: self.begun.range(self.confirmed.map_or(0, |confirmed| confirmed + 1)..).map(|(_, begun)| begun.clone()).collect(),
        }
    }

    /// The number of a generation that is about to be loaded.
    pub fn begin(&mut self, from: Option<&Assignment>) -> u32 {
        self.last += 1;
        let begun = Begun {
            generation: Generation(self.last),
            place: from.map(|assignment| assignment.place),
            digest: from.map_or([0; 32], |assignment| assignment.digest),
            on_drift: from.map_or(ringwall_node::reconciler::OnDrift::Report, |assignment| assignment.on_drift),
            names: from.map_or_else(|| [].into(), |assignment| assignment.names.clone()),
        };
        self.begun.insert(self.last, begun);
        self.last
    }
}

/// Where an operation comes to grief.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing was done.
    Before,
    /// It was done, and said to have failed. Neither of a load nor of what is made durable: each is one step.
    After,
}

/// Carries out what touches the kernel or the disk; `None` for what does not.
pub fn operate(kernel: &mut KernelModel, disk: &mut DiskModel, action: &Action, failure: Option<Failure>) -> Option<Event> {
    let fails = failure == Some(Failure::Before);
    let event = match action {
        Action::Persist(assignment) if disk.is_full || fails => {
            Event::NotPersisted { place: assignment.place, detail: "no space left on device".into() }
        }
        Action::Persist(assignment) => {
            disk.taken = Some(assignment.clone());
            Event::Persisted(assignment.place)
        }
        Action::Load(assignment) => load(kernel, disk, assignment, fails),
        Action::ConfirmInKernel(generation) => confirm(kernel, disk, *generation, failure),
        Action::Rollback(_) if fails => Event::NotRolledBack { detail: "nft".into() },
        Action::Rollback(generation) => {
            if kernel.trial.is_some_and(|(found, _)| found == generation.0) {
                kernel.trial = None;
            }
            Event::RolledBack(*generation)
        }
        Action::ReadKernel if fails => Event::KernelNotRead,
        Action::ReadKernel => Event::KernelRead(kernel.read()),
        Action::Heal(_) if fails => Event::NotHealed,
        Action::Heal(generation) => {
            kernel.heal(generation.0);
            Event::Healed
        }
        Action::Remove if fails => Event::NotRemoved { detail: "nft".into() },
        Action::Remove => {
            kernel.flush();
            disk.confirmed = None;
            Event::Removed
        }
        _ => return None,
    };
    if failure != Some(Failure::After) {
        return Some(event);
    }
    let detail = || "nobody knows what became of it".to_owned();
    Some(match event {
        Event::RolledBack(_) => Event::NotRolledBack { detail: detail() },
        Event::KernelRead(_) => Event::KernelNotRead,
        Event::Healed => Event::NotHealed,
        Event::Removed => Event::NotRemoved { detail: detail() },
        other => other,
    })
}

fn load(kernel: &mut KernelModel, disk: &mut DiskModel, assignment: &Assignment, fails: bool) -> Event {
    let refused = |reason, detail: &str| Event::NotLoaded { place: assignment.place, reason, detail: detail.into() };
    if kernel.live_trial().is_some() {
        return refused(Reason::Busy, "another trial is on");
    }
    if disk.is_full {
        return refused(Reason::Disk, "no space left on device");
    }
    // As apply does: what is enforced is settled before something else is loaded.
    if kernel.current.is_some() && kernel.current > disk.confirmed {
        disk.confirmed = kernel.current;
    }
    let generation = disk.begin(Some(assignment));
    if fails {
        return refused(Reason::Kernel, "nft refused the text");
    }
    kernel.trial = Some((generation, kernel.time + u64::from(assignment.window) * 1000));
    kernel.is_disturbed = false;
    Event::Loaded { place: assignment.place, generation: Generation(generation) }
}

fn confirm(kernel: &mut KernelModel, disk: &mut DiskModel, generation: Generation, failure: Option<Failure>) -> Event {
    let failed = |detail: &str| Event::NotSettled(SettleFailure::Kernel(detail.into()));
    if failure == Some(Failure::Before) {
        return failed("nft was killed");
    }
    if kernel.current != Some(generation.0) {
        if !kernel.confirm(generation.0) {
            return Event::NotSettled(SettleFailure::Fallen);
        }
        if failure == Some(Failure::After) {
            return failed("nft did not say what became of it");
        }
    }
    if disk.is_full {
        return Event::NotSettled(SettleFailure::Disk("no space left on device".into()));
    }
    disk.confirmed = Some(generation.0);
    Event::Settled(generation)
}
