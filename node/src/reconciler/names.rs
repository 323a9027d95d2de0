//! DNS names of what is enforced or on trial: asked again when their time is over, and kept for an hour more.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ringwall_ruleset::nftables::Generation;

use super::action::{Action, Happening};
use super::{Millis, Moment, Phase, Reconciler, SECOND};

/// Answers live at least so long here, whatever their TTL: a resolver is no meter.
const SECONDS_MIN: u32 = 30;
/// And are asked for again at least so often.
const SECONDS_MAX: u32 = 3600;
/// How long addresses stay in the kernel after their time, when no newer ones are to be had.
pub const KEPT: u32 = 3600;
/// After a question without an answer.
const AGAIN: Millis = 30 * SECOND;
/// Questions at a time.
const ASKED_MAX: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Names {
    known: BTreeMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    /// `None` while it is asked for.
    due: Option<Millis>,
    answer: Option<(Arc<[IpAddr]>, u32)>,
}

impl Names {
    /// These and no others. Those that are new are asked for at once.
    pub fn watch(&mut self, wanted: Vec<String>) {
        let mut before = std::mem::take(&mut self.known);
        for name in wanted {
            let known = before.remove(&name).unwrap_or(Known { due: Some(0), answer: None });
            self.known.entry(name).or_insert(known);
        }
    }

    fn room(&self) -> usize {
        let asked = self.known.values().filter(|known| known.due.is_none()).count();
        ASKED_MAX.saturating_sub(asked)
    }

    pub fn due(&self) -> Option<Millis> {
        let due = self.known.values().filter_map(|known| known.due).min();
        due.filter(|_| self.room() > 0)
    }

    pub fn take_due(&mut self, moment: Moment) -> Vec<String> {
        let room = self.room();
        let due = self.known.iter_mut().filter(|(_, known)| known.due.is_some_and(|due| due <= moment.now)).take(room);
        due.map(|(name, known)| {
            known.due = None;
            name.clone()
        })
        .collect()
    }

    /// What is in the kernel stays there.
    pub fn not_resolved(&mut self, moment: Moment, name: &str) {
        if let Some(known) = self.known.get_mut(name) {
            known.due = Some(moment.after(AGAIN));
        }
    }

    pub fn answers(&self) -> Vec<(String, Arc<[IpAddr]>, u32)> {
        let answered = self.known.iter().filter_map(|(name, known)| Some((name, known.answer.as_ref()?)));
        answered.map(|(name, (addresses, seconds))| (name.clone(), addresses.clone(), *seconds)).collect()
    }
}

impl Reconciler {
    pub(super) fn resolved(&mut self, moment: Moment, name: String, addresses: Arc<[IpAddr]>, ttl: u32) {
        let Some(known) = self.names.known.get_mut(&name) else { return };
        let ttl = ttl.clamp(SECONDS_MIN, SECONDS_MAX);
        known.due = Some(moment.now.saturating_add(Millis::from(ttl) * SECOND));
        let seconds = ttl + KEPT;
        let before = known.answer.replace((addresses.clone(), seconds));
        if before.is_some_and(|(before, _)| before != addresses) {
            self.report(moment, Happening::Names { name: name.clone(), addresses: addresses.clone() });
        }
        let generations = self.generations_with(&name);
        if !generations.is_empty() {
            self.actions.push(Action::Refresh { generations, name, addresses, seconds });
        }
    }

    /// In whose sets the name's addresses are.
    pub(super) fn generations_with(&self, name: &str) -> Vec<Generation> {
        let has = |names: &[String]| names.iter().any(|found| found == name);
        let confirmed = self.confirmed.as_ref().filter(|confirmed| has(&confirmed.names)).map(|confirmed| confirmed.generation);
        let on_trial = match &self.phase {
            Phase::Trial(trial) if has(trial.names()) => trial.generation(),
            _ => None,
        };
        confirmed.into_iter().chain(on_trial).collect()
    }
}
