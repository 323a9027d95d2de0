//! A kernel and a disk, as small as they can be.

use std::collections::BTreeMap;

use ringwall_node::reconciler::{Assignment, Begun, Disk, Kernel, Millis};
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
