//! A rollout: one node first, then some, then all; back again when one of them can't.
//!
//! In: what is wanted, what became of each node's assignment. Out: the next assignments, the rollout's next state,
//! kept before it counts. Never: a wave begun while the one before is not over; a node left with what another
//! refused.
//!
//! A node that is not connected holds up nobody: it is late, and named so. It gets its assignment when it is back,
//! unless the rollout went back meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Command, Core, Kept, LATE, Pending, WINDOW};
use crate::assignment::State as Progress;
use crate::audit::{Actor, Audited};
use crate::change::{Change, Write};
use crate::id::{NodeName, RevisionNumber};
use crate::rollout::{Outcome, Results, Rollout, State};

/// So often a node is given what it had before, when a rollout goes back.
const ATTEMPTS_MAX: u32 = 5;

/// Seconds until a node is given again what it could not take.
const RETRY: u64 = 60;

/// How many nodes at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waves {
    /// Nodes of the first wave, by name; none of them: the first by name of those that are connected.
    pub canary: BTreeSet<NodeName>,
    /// Percent of the nodes in each wave after it but the last, at least one node.
    pub percents: Vec<u8>,
    /// Seconds that a trial lasts on each node, within [`ringwall_protocol::WINDOW`].
    pub window: u32,
}

impl Default for Waves {
    fn default() -> Self {
        Self { canary: BTreeSet::new(), percents: vec![10], window: WINDOW }
    }
}

impl Waves {
    /// The nodes in their waves; those that are connected come first.
    pub fn of(&self, nodes: &BTreeSet<NodeName>, connected: &BTreeSet<NodeName>) -> Vec<BTreeSet<NodeName>> {
        let mut left: Vec<NodeName> = nodes.iter().filter(|node| connected.contains(*node)).cloned().collect();
        left.extend(nodes.iter().filter(|node| !connected.contains(*node)).cloned());
        let mut waves = Vec::new();
        let named: BTreeSet<NodeName> = self.canary.intersection(nodes).cloned().collect();
        let canary = if named.is_empty() { left.first().cloned().into_iter().collect() } else { named };
        left.retain(|node| !canary.contains(node));
        waves.push(canary);
        for percent in &self.percents {
            let count = (nodes.len() * usize::from(*percent) / 100).max(1).min(left.len());
            waves.push(left.drain(..count).collect());
        }
        waves.push(left.into_iter().collect());
        waves.retain(|wave: &BTreeSet<NodeName>| !wave.is_empty());
        waves
    }
}

impl Core {
    /// Nodes that don't enforce what is wanted of them.
    pub fn outdated(&self) -> BTreeSet<NodeName> {
        let Some(wanted) = &self.wanted else { return BTreeSet::new() };
        let has = |name: &NodeName, digest| self.nodes.get(name).is_some_and(|node| self.has(node, wanted.revision, digest));
        wanted.digests.iter().filter(|(name, digest)| !has(name, digest)).map(|(name, _)| name.clone()).collect()
    }

    /// Of them, those that are to have it by now: it is rolled out.
    pub fn behind(&self) -> BTreeSet<NodeName> {
        if self.wanted.as_ref().is_some_and(|wanted| wanted.is_rolled_out) { self.outdated() } else { BTreeSet::new() }
    }

    /// The revision that is wanted, and the nodes that don't have it yet, in waves.
    pub fn waves(&self, waves: &Waves) -> Option<(RevisionNumber, Vec<BTreeSet<NodeName>>)> {
        let wanted = self.wanted.as_ref()?;
        Some((wanted.revision, waves.of(&self.outdated(), &self.connected_nodes())))
    }

    pub(super) fn began(&mut self, rollout: Rollout, window: u32) {
        let within = ringwall_protocol::WINDOW;
        self.window = window.clamp(*within.start(), *within.end());
        self.given.clear();
        self.attempts.clear();
        self.is_resumed = false;
        self.wave_began = self.now;
        self.forget_wave();
        self.rollout = Some(rollout);
    }

    fn pause(&mut self, actor: Actor, reason: String) {
        let Some(Rollout { state: State::Running { wave }, results, .. }) = &self.rollout else { return };
        let (wave, results) = (*wave, results.clone());
        self.step_rollout(actor, State::Paused { wave, reason }, results);
    }

    fn resume(&mut self, actor: Actor) {
        let Some(Rollout { state: State::Paused { wave, .. }, results, .. }) = &self.rollout else { return };
        let (wave, results) = (*wave, results.clone());
        self.step_rollout(actor, State::Running { wave }, results);
    }

    fn roll_back(&mut self, actor: Actor, reason: String) {
        let Some(rollout) = self.rollout.as_ref().filter(|rollout| !matches!(rollout.state, State::RollingBack { .. })) else { return };
        let results = rollout.results.clone();
        self.step_rollout(actor, State::RollingBack { reason }, results);
    }

    fn step_rollout(&mut self, who: Actor, state: State, results: Results) {
        let Some(rollout) = &self.rollout else { return };
        if self.is_writing() {
            return;
        }
        let Ok(next) = rollout.with(state.clone(), results.clone(), self.calendar) else { return };
        let change = Change::StepRollout { rollout: rollout.number, state, results };
        let part = Write::Change(Audited { who, at: self.calendar, change });
        self.write(Pending::Step(Box::new(next)), vec![part]);
    }

    /// Whether the node's newest assignment is one that the rollout takes back.
    pub(super) fn goes_back_from(&self, node: &NodeName, newest: &Kept) -> bool {
        self.rollout.as_ref().is_some_and(|rollout| {
            let is_in = rollout.waves.iter().any(|wave| wave.contains(node));
            matches!(rollout.state, State::RollingBack { .. }) && is_in && newest.revision == rollout.revision
        })
    }

    /// Starts what is due.
    pub(super) fn advance(&mut self) {
        while !self.is_writing()
            && !self.is_stalled
            && let Some((actor, command)) = self.commands.pop_front()
        {
            match command {
                Command::Pause { reason } => self.pause(actor, reason),
                Command::Resume => self.resume(actor),
                Command::RollBack { reason } => self.roll_back(actor, reason),
            }
        }
        if self.is_writing() || self.is_stalled {
            return;
        }
        match self.rollout.as_ref().map(|rollout| rollout.state.clone()) {
            None => self.take_in(),
            Some(State::Running { wave }) => self.run_wave(wave),
            Some(State::RollingBack { reason }) => self.take_back(reason),
            Some(State::Paused { .. }) => {}
            // What a rollout did not bring is wanted no longer; what was before is. And who came meanwhile is in.
            Some(State::Done) => {
                self.actions.push(Action::Stale);
                let rollout = self.rollout.take();
                if let Some(wanted) = self.wanted.as_mut().filter(|wanted| rollout.is_some_and(|rollout| rollout.revision == wanted.revision)) {
                    wanted.is_rolled_out = true;
                }
            }
            Some(State::Stopped { .. }) => {
                self.actions.push(Action::Stale);
                let revision = self.rollout.take().map(|rollout| rollout.revision);
                // Nobody else is to get it.
                self.wanted = self.wanted.take().filter(|wanted| Some(wanted.revision) != revision);
            }
        }
    }

    /// Nodes that were not there for a rollout, or could not take it, and those of which more or less is wanted
    /// since who is in the fleet has changed. Each gets its own at once, and not again and again; who loses something
    /// waits for those that only gain, so that a member that takes another's place is let in before that one is out.
    fn take_in(&mut self) {
        let Some(wanted) = self.wanted.as_ref().filter(|wanted| wanted.is_rolled_out) else { return };
        let is_pending = |name: &NodeName| {
            let node = self.nodes.get(name).filter(|node| node.session.is_some());
            let newest = node.and_then(|node| node.newest.as_ref());
            newest.is_some_and(|newest| matches!(newest.state, Progress::Sent | Progress::Trial))
        };
        let is_behind = |name: &NodeName| {
            let Some(node) = self.nodes.get(name).filter(|node| node.session.is_some()) else { return false };
            let digest = &wanted.digests[name];
            // Another ruleset than was tried is worth its own try.
            let is_tried = self.tried.get(name).is_some_and(|(at, tried)| tried == digest && self.now.since(*at).as_secs() < RETRY);
            !is_tried && !self.has(node, wanted.revision, digest) && !is_pending(name)
        };
        let (narrowed, gaining): (Vec<_>, Vec<_>) = wanted.digests.keys().filter(|name| is_behind(name)).partition(|name| wanted.narrowed.contains(*name));
        let is_first_over = || gaining.is_empty() && !wanted.digests.keys().any(|name| !wanted.narrowed.contains(name) && is_pending(name));
        let behind = if narrowed.is_empty() || !is_first_over() { gaining } else { narrowed };
        let all: Vec<_> = behind.into_iter().map(|name| (name.clone(), wanted.revision, wanted.rulesets[name].clone())).collect();
        self.tried.extend(all.iter().map(|(name, ..)| (name.clone(), (self.now, wanted.digests[name]))));
        self.assign(all);
    }

    fn run_wave(&mut self, wave: usize) {
        let Some(rollout) = &self.rollout else { return };
        let Some(wanted) = self.wanted.as_ref().filter(|wanted| wanted.revision == rollout.revision) else { return };
        let names = &rollout.waves[wave];
        let (mut to_give, mut ended, mut open, mut failed) = (Vec::new(), Vec::new(), false, None);
        for name in names {
            let (Some(ruleset), Some(digest)) = (wanted.rulesets.get(name), wanted.digests.get(name)) else { continue };
            let node = self.nodes.get(name);
            let newest = node.and_then(|node| node.newest.as_ref());
            // What a node could not take in an earlier rollout it is given once more in this.
            let is_failed = |newest: &Kept| matches!(newest.state, Progress::Refused(_) | Progress::Fell(_));
            let is_of_this = |newest: &&Kept| self.is_resumed || self.given.contains(name) || !is_failed(newest);
            let is_it = |newest: &&Kept| newest.digest == *digest && newest.revision == rollout.revision;
            let Some(newest) = newest.filter(is_it).filter(is_of_this) else {
                to_give.push((name.clone(), wanted.revision, ruleset.clone()));
                continue;
            };
            let is_there = node.is_some_and(|node| node.session.is_some());
            match &newest.state {
                Progress::Confirmed => ended.push((name.clone(), newest.number, Ok(()))),
                Progress::Refused(why) | Progress::Fell(why) => {
                    failed.get_or_insert_with(|| format!("{name}: {why}"));
                    ended.push((name.clone(), newest.number, Err(why.clone())));
                }
                // It may still come back within its window; what it does later counts for itself.
                Progress::Sent | Progress::Trial => open |= is_there || !self.is_late(),
            }
        }
        if !to_give.is_empty() {
            if !self.is_probed_before(wave) {
                return;
            }
            self.wave_began = self.now;
            return self.assign(to_give);
        }
        if open && failed.is_none() {
            return;
        }
        let mut broken = Vec::new();
        if failed.is_none() {
            match self.is_probed_after(wave) {
                None => return,
                Some(Ok(())) => {}
                Some(Err((reason, ends))) => (failed, broken) = (Some(reason), ends),
            }
        }
        let Some(rollout) = &self.rollout else { return };
        let mut results = rollout.results.clone();
        results.resize(results.len().max(wave + 1), BTreeMap::new());
        for (name, assignment, result) in ended {
            let result = if broken.contains(&name) { Err(failed.clone().unwrap_or_default()) } else { result };
            results[wave].entry(name).or_insert(Outcome { assignment, result, at: self.calendar });
        }
        let next = match failed {
            Some(reason) => State::RollingBack { reason },
            None if wave + 1 == rollout.waves.len() => State::Done,
            None => State::Running { wave: wave + 1 },
        };
        self.step_rollout(Actor::Controller, next, results);
    }

    /// Those that are not there had the time of a trial to come.
    fn is_late(&self) -> bool {
        self.now.since(self.wave_began).as_secs() > u64::from(self.window) + LATE
    }

    /// Gives each node of the rollout that took the new revision what it had before; more than once, if it must be.
    fn take_back(&mut self, reason: String) {
        let Some(rollout) = &self.rollout else { return };
        let (mut to_give, mut open, mut stuck) = (Vec::new(), false, Vec::new());
        for name in rollout.waves.iter().flatten() {
            let Some(node) = self.nodes.get(name) else { continue };
            let Some(newest) = &node.newest else { continue };
            let is_there = node.session.is_some();
            let has_failed = matches!(newest.state, Progress::Refused(_) | Progress::Fell(_));
            // Word of its confirmation may have been lost.
            let has_new = self.attempts.contains_key(name) || node.confirmed.as_ref().is_none_or(|confirmed| confirmed.revision == rollout.revision);
            let is_pending = matches!(newest.state, Progress::Sent | Progress::Trial);
            let must_go = if newest.revision == rollout.revision { !has_failed } else { has_failed && has_new };
            if !must_go {
                // All come back when a controller was started.
                open |= is_pending && (is_there || self.now.since(self.started).as_secs() <= LATE);
                continue;
            }
            let confirmed = node.confirmed.as_ref().filter(|confirmed| confirmed.revision != rollout.revision);
            // It may have nothing to go back to.
            let Some(former) = confirmed.or(node.former.as_ref()) else { continue };
            if self.attempts.get(name).is_some_and(|attempts| *attempts >= ATTEMPTS_MAX) {
                stuck.push(name.as_str());
            } else {
                to_give.push((name.clone(), former.revision, former.ruleset.clone()));
            }
        }
        if !to_give.is_empty() {
            for (name, ..) in &to_give {
                *self.attempts.entry(name.clone()).or_default() += 1;
            }
            return self.assign(to_give);
        }
        if !open {
            let (rolled_back, results) = (stuck.is_empty(), rollout.results.clone());
            let reason = if rolled_back { reason } else { format!("{reason}; these would not go back: {}", stuck.join(", ")) };
            self.step_rollout(Actor::Controller, State::Stopped { reason, rolled_back }, results);
        }
    }
}
