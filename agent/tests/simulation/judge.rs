//! What must hold of the whole fleet, at every moment and in the end.

use ringwall_controller::assignment;
use ringwall_controller::core::SessionId;
use ringwall_controller::id::{AssignmentNumber, Digest, NodeName, RevisionNumber, RolloutNumber};
use ringwall_controller::rollout::State;
use ringwall_controller::store::Read;
use ringwall_protocol::ToAgent;

use super::world::{Job, Mend, World};

impl World {
    /// After each step of a node's agent, and each change of its machine.
    pub fn check(&mut self, node: usize) {
        let own = &mut self.nodes[node];
        own.checks.state(&own.kernel, &own.disk);
        if let Some(generation) = own.kernel.deciding() {
            let loaded = &own.loaded[&generation];
            let place = own.disk.begun[&generation].place.expect("no command was given at the machine");
            let assigned = self.assigned.get(&(own.name.clone(), place.epoch, place.number));
            assert_eq!(assigned, Some(&loaded.digest), "{} enforces what it was never assigned: {place:?}", own.name);
            if own.kernel.live_trial() == Some(generation) {
                assert!(own.kernel.time <= loaded.ends, "{}: the trial of {place:?} outlives its window", own.name);
            }
        }
        // On trial it may, for a while.
        if let Some(current) = own.kernel.current {
            let loaded = &own.loaded[&current];
            assert!(self.reaches[&loaded.digest], "{} is locked out: nothing takes it back to where it reaches its controller", own.name);
        }
    }

    /// What is sent is what the store has, under its number.
    pub fn check_sent(&self, id: SessionId, message: &ToAgent) {
        let ToAgent::Assignment(assignment) = message else { return };
        let Some(stream) = self.streams.get(&id.0) else { return };
        let name = &self.nodes[stream.node].name;
        let kept = self.assigned.get(&(name.clone(), assignment.place.epoch, assignment.place.number));
        assert_eq!(kept, Some(&Digest(assignment.digest)), "{name} is sent what is not kept");
    }

    /// While a rollout is in one of its waves, no node of a later one has anything of it.
    pub fn check_waves(&self) {
        let Some(core) = &self.controller.core else { return };
        let Some(rollout) = core.rollout() else { return };
        let State::Running { wave } = rollout.state else { return };
        let is_first_time = self.read_rollouts_of(rollout.revision) == 1;
        for name in rollout.waves.iter().skip(wave + 1).flatten().filter(|_| is_first_time) {
            let newest = core.node(name).and_then(|(newest, _)| newest);
            assert!(newest.is_none_or(|newest| newest.revision != rollout.revision), "{name} is ahead of wave {wave}: {rollout:?}");
        }
    }

    /// A wave is over when each of its nodes said what became of it, or had the time of the shortest trial and some more.
    pub fn check_over(&self, rollout: RolloutNumber, next: &State) {
        let (State::Running { .. } | State::Done) = next else { return };
        let rollout = self.rollouts().into_iter().find(|row| row.number == rollout).expect("it is kept");
        let State::Running { wave } = rollout.state else { return };
        if *next == rollout.state || self.now - self.wave_began >= 35_000 {
            return;
        }
        // Who was put out is not waited for.
        let is_in = |name: &&NodeName| self.nodes.iter().position(|own| own.name == **name).is_some_and(|at| self.row(at).is_some());
        for name in rollout.waves[wave].iter().filter(is_in) {
            let newest = self.controller.core.as_ref().and_then(|core| core.node(name)?.0).map(|newest| (newest.number, newest.revision, newest.state.clone()));
            let is_open = newest.as_ref().is_some_and(|newest| {
                newest.1 == rollout.revision && matches!(newest.2, assignment::State::Sent | assignment::State::Trial)
            });
            assert!(!is_open, "wave {wave} is called over, and nobody knows of {name}: {newest:?} {next:?} {rollout:?}");
        }
    }

    /// A rollout that went back left its nodes with what they had before it.
    pub fn check_back(&self, rollout: RolloutNumber) {
        let rollout = self.rollouts().into_iter().find(|row| row.number == rollout).expect("it is kept");
        // One that is rolled out anew is wanted again after it.
        if self.read_rollouts_of(rollout.revision) > 1 {
            return;
        }
        for name in rollout.waves.iter().flatten() {
            let own = self.nodes.iter().find(|own| own.name == *name).expect("a node of the fleet");
            let Some(before) = self.before.get(name) else { continue };
            // Of who is away or was put out, nothing is claimed.
            let core = self.controller.core.as_ref().and_then(|core| core.node(name));
            if !core.is_some_and(|(_, is_connected)| is_connected) {
                continue;
            }
            let Some(had) = own.enforced.range(..(1, before + 1, Digest([0; 32]))).next_back() else { continue };
            // And of what nobody was told yet.
            let is_known = self.is_known_confirmed(name, had.1);
            let has = own.enforced.iter().next_back().filter(|_| is_known).unwrap_or(had);
            assert_eq!(has.2, had.2, "{name} did not go back to what it had: {has:?}, and before {had:?}");
        }
    }

    fn is_known_confirmed(&self, name: &NodeName, number: u64) -> bool {
        let row = self.read(async |rows| rows.assignment(name, AssignmentNumber(number)).await.expect("a row"));
        row.is_some_and(|row| row.state == assignment::State::Confirmed)
    }

    /// Every node that is there enforces the last revision, and nothing is on its way.
    pub fn is_well(&self) -> bool {
        let (Some(core), Some(last)) = (&self.controller.core, self.last()) else { return false };
        // Who comes in late changes what the others are to have.
        let is_joining = self.jobs.values().any(|job| matches!(job, Job::Mend { mend: Mend::Enrol(_) }));
        if core.rollout().is_some() || is_joining {
            return false;
        }
        let wanted = self.compile(last);
        self.nodes.iter().enumerate().all(|(at, own)| {
            let can = self.row(at).is_some() && !own.is_gone && !self.policies[&last].refused_by.contains(own.name.as_str());
            let Some(ruleset) = wanted.get(&own.name).filter(|_| can) else { return true };
            let is_enforced = own.kernel.trial.is_none() && own.decides().is_some_and(|loaded| loaded.digest == Digest::of(ruleset));
            is_enforced && !own.kernel.is_disturbed && core.enforces(&own.name, ruleset) && own.reconciler.is_connected()
        })
    }

    /// Who is late is named; who is not a member any more keeps what it had.
    pub fn check_end(&self) {
        let core = self.controller.core.as_ref().expect("it runs");
        let last = self.last().expect("it is rolled out");
        let (wanted, cannot) = (self.compile(last), &self.policies[&last].refused_by);
        let outdated = core.outdated();
        for (at, own) in self.nodes.iter().enumerate() {
            if let Some(ruleset) = wanted.get(&own.name) {
                // Of one that was taken away, nobody knows what became of it since.
                let had_it = own.is_gone && own.enforced.iter().any(|(.., digest)| *digest == Digest::of(ruleset));
                let has_it = own.decides().is_some_and(|loaded| loaded.digest == Digest::of(ruleset));
                assert!(has_it || had_it || outdated.contains(&own.name), "{} is late, and is not named", own.name);
                assert!(!outdated.contains(&own.name) || own.is_gone || cannot.contains(own.name.as_str()), "{} is called late, and is there", own.name);
            }
            let is_stranger = own.identity.is_some() && self.row(at).is_none();
            if is_stranger && !own.is_gone {
                assert_eq!(own.kernel.current, own.disk.confirmed, "{}: what is enforced does not hang on an identity", own.name);
            }
        }
    }

    pub fn describe(&self) -> String {
        let core = self.controller.core.as_ref();
        let node = |(at, own): (usize, &super::node::Node)| {
            let newest = core.and_then(|core| core.node(&own.name)).map(|(newest, is_connected)| (newest.map(|kept| (kept.number, kept.revision, kept.state.clone())), is_connected));
            format!(
                "\n{}: gone {} row {} running {} connected {} kernel {:?} confirmed {:?} taken {:?}; the controller: {newest:?}",
                own.name, own.is_gone, self.row(at).is_some(), own.is_running, own.reconciler.is_connected(), own.kernel, own.disk.confirmed,
                own.disk.taken.as_ref().map(|taken| taken.place)
            )
        };
        let nodes: String = self.nodes.iter().enumerate().map(node).collect();
        let rollout = core.and_then(|core| core.rollout());
        let outdated = core.map(|core| core.outdated());
        format!("last {:?}, rollout {rollout:?}, outdated {outdated:?}{nodes}", self.last())
    }

    fn read_rollouts_of(&self, revision: RevisionNumber) -> usize {
        self.rollouts().into_iter().filter(|rollout| rollout.revision == revision).count()
    }
}
