//! The agent's shell around the real reconciler, and the checks of what it does to its machine.
//!
//! In: events. Out: actions carried out on the node's model, some time later; each with a fault now and then. Never: a
//! step of the reconciler that nobody looks at.

use std::sync::Arc;

use ringwall_agent::edge;
use ringwall_controller::id::Digest;
use ringwall_node::reconciler::{Action, Answer, Event, Millis, Moment, Place, Process, Reconciler, Say, Stage};

use super::machine::{Failure, KernelModel, operate};
use super::node::Loaded;
use super::world::{Job, Lie, World};

/// Of a certificate; short, so that it is renewed in a history.
const VALID: Millis = 300_000;

impl World {
    /// The agent's process begins.
    pub fn start(&mut self, node: usize) {
        let now = self.now;
        let own = &mut self.nodes[node];
        if own.is_running || own.is_gone {
            return;
        }
        own.let_time_pass(now);
        own.life += 1;
        (own.is_running, own.is_ended, own.stream, own.wakes) = (true, false, None, None);
        own.reconciler = Reconciler::default();
        own.checks.operation_ended();
        // What it is told now is read now.
        own.checks.read();
        let (disk, kernel) = (own.disk.read(), own.kernel.read());
        self.tell(node, Event::Started { disk, kernel });
        self.tell(node, Event::Enrolled { valid: VALID });
    }

    /// Its process ends at once. Some of what it was told to do is done already, and nobody was told.
    pub fn crash(&mut self, node: usize) {
        let now = self.now;
        self.nodes[node].let_time_pass(now);
        if let Some(id) = self.nodes[node].stream.take() {
            self.hang_up(id);
        }
        let own = &mut self.nodes[node];
        own.is_running = false;
        let life = own.life;
        own.life += 1;
        let of_it = |job: &Job| match job {
            Job::Do { node: of, life: began, action } if (*of, *began) == (node, life) => Some(action.clone()),
            _ => None,
        };
        let open: Vec<Action> = self.jobs.values().chain(&self.nodes[node].held).filter_map(of_it).collect();
        for action in open {
            if self.random.percent(40) {
                self.operate_on(node, &action, None);
            }
        }
        self.nodes[node].checks.forget_answers();
        if self.lie == Some(Lie::OpensAtItsEnd) {
            self.nodes[node].kernel = KernelModel { time: self.nodes[node].kernel.time, ..KernelModel::default() };
        }
        self.check(node);
    }

    pub fn wake(&mut self, node: usize, at: Millis) {
        let now = self.now;
        let own = &mut self.nodes[node];
        if own.wakes != Some(at) || !own.is_running {
            return;
        }
        own.wakes = None;
        let woke = std::mem::replace(&mut own.woke, now);
        own.checks.not_stuck(woke, now);
        self.tell(node, Event::Tick);
    }

    pub fn tell(&mut self, node: usize, event: Event) {
        let (now, random) = (self.now, self.random.next());
        let own = &mut self.nodes[node];
        if !own.is_running {
            return;
        }
        own.let_time_pass(now);
        if matches!(event, Event::ForeignChange(_)) {
            own.checks.told();
        }
        if self.is_loud {
            println!("          {} <- {}", own.name, brief(&event));
        }
        let moment = Moment { now: own.time(now), random };
        for action in own.reconciler.step(moment, event) {
            self.carry_out(node, action);
        }
        self.check(node);
        let own = &mut self.nodes[node];
        let wakes = own.reconciler.wake_at().map(|at| (own.booted + at).max(now));
        if own.wakes != wakes {
            own.wakes = wakes;
            if let Some(at) = wakes {
                self.at(at, Job::Wake { node, at });
            }
        }
    }

    fn carry_out(&mut self, node: usize, action: Action) {
        let own = &mut self.nodes[node];
        let life = own.life;
        own.checks.action(&action, &own.kernel, &own.disk, own.is_ended);
        match action {
            // It has an identity from the beginning.
            Action::Enrol => drop(self.later(1, Job::Tell { node, life, event: Event::Pending { retry: 3_600_000 } })),
            Action::Renew => drop(self.later(50, Job::Renew { node, life })),
            Action::Connect => self.connect(node),
            Action::Disconnect => match own.stream {
                Some(id) => self.hang_up_soon(id),
                None => drop(self.later(0, Job::Tell { node, life, event: Event::Disconnected })),
            },
            Action::Say(say) => {
                self.notice(node, &say);
                self.say(node, edge::said(say));
            }
            Action::ConnectFreshAndConfirm { attempt, place, digest } => self.begin_to_ask(node, attempt, place, digest),
            // The rulesets here have no names, and nobody is released.
            Action::Resolve(_) | Action::Refresh { .. } | Action::ForgetIdentity => {}
            work => {
                let most = if self.has_faults && self.random.percent(5) { 20_000 } else { 400 };
                let delay = self.random.below(most);
                self.later(delay, Job::Do { node, life, action: work });
            }
        }
    }

    fn notice(&mut self, node: usize, say: &Say) {
        let own = &mut self.nodes[node];
        own.checks.say(say, &own.kernel, &own.disk);
        match say {
            Say::Ack { place, stage: Stage::Received, .. } if self.lie == Some(Lie::Boasts) => {
                self.say(node, edge::said(Say::Ack { place: *place, stage: Stage::Confirmed, generation: 1 }));
            }
            Say::Ack { stage: Stage::Confirmed, .. } => self.tally.count("confirmed"),
            Say::Ack { stage: Stage::Fell, .. } => self.tally.count("fell"),
            Say::Refused { .. } => self.tally.count("refused"),
            _ => {}
        }
    }

    pub fn renew(&mut self, node: usize) {
        let life = self.nodes[node].life;
        let event = match self.row(node) {
            _ if self.controller.core.is_none() || self.nodes[node].is_cut => Event::NotRenewed,
            Some(_) => Event::Enrolled { valid: VALID },
            None => {
                self.nodes[node].is_ended = true;
                Event::Revoked { detail: "by an operator".into() }
            }
        };
        self.tally.count("renewed");
        self.later(20, Job::Tell { node, life, event });
    }

    pub fn answered(&mut self, node: usize, attempt: u64, place: Place, on: Option<u32>, answer: Answer) {
        let own = &mut self.nodes[node];
        let is_that = |generation: &u32| own.disk.begun[generation].place == Some(place);
        if let (Answer::Yes, Some(generation)) = (&answer, on.filter(is_that)) {
            own.checks.answered(generation);
        }
        self.tell(node, Event::Answered { attempt, answer });
    }

    // The machine.

    /// What the agent's threads did is told.
    pub fn done(&mut self, node: usize, action: Action) {
        if action.is_kernel_operation() {
            self.nodes[node].checks.operation_ended();
        }
        let failure = match () {
            () if !self.has_faults => None,
            () if self.random.percent(8) => Some(Failure::Before),
            () if self.random.percent(8) => Some(Failure::After),
            () => None,
        };
        if let Some(event) = self.operate_on(node, &action, failure) {
            self.tell(node, event);
        }
    }

    fn operate_on(&mut self, node: usize, action: &Action, failure: Option<Failure>) -> Option<Event> {
        let failure = if self.is_refused(node, action) { Some(Failure::Before) } else { failure };
        let now = self.now;
        let own = &mut self.nodes[node];
        own.let_time_pass(now);
        if let (Action::ConfirmInKernel(generation), Some(Lie::ConfirmsNothing)) = (action, self.lie) {
            own.disk.confirmed = Some(generation.0);
            return Some(Event::Settled(*generation));
        }
        let (before, taken) = (own.kernel.clone(), own.disk.clone());
        let event = operate(&mut own.kernel, &mut own.disk, action, failure)?;
        match (action, &event) {
            (_, Event::Persisted(place)) => {
                own.checks.persist(&taken, *place);
                if self.lie == Some(Lie::Forgets) {
                    own.disk.taken = taken.taken;
                }
            }
            (_, Event::KernelRead(_)) => own.checks.read(),
            (Action::Load(assignment), Event::Loaded { generation, .. }) => {
                let digest = match self.lie {
                    Some(Lie::LoadsAnother) => Digest::of(b"another"),
                    _ => Digest::of(&assignment.ruleset),
                };
                let ends = own.kernel.time + Millis::from(assignment.window) * 1000;
                own.loaded.insert(generation.0, Loaded { digest, ends });
                let ruleset: Arc<[u8]> = assignment.ruleset.clone();
                let address = own.address;
                self.reaches.entry(digest).or_insert_with(|| super::policy::reaches_controller(&ruleset, address));
                if self.lie == Some(Lie::ArmsNothing) {
                    own.kernel.trial = Some((generation.0, Millis::MAX));
                }
            }
            (Action::Heal(generation), Event::Healed) => {
                self.tally.count("healed");
                if self.lie == Some(Lie::HealsWithTheFirst) {
                    own.kernel.heal(*own.loaded.keys().next().unwrap_or(&generation.0));
                }
            }
            _ => {}
        }
        if let Action::ConfirmInKernel(generation) = action
            && own.kernel.current != before.current
        {
            own.checks.confirm(generation.0);
            if let Some(place) = own.disk.begun[&generation.0].place {
                assert!(own.permitted.contains(&(place.epoch, place.number)), "{} confirms {place:?}, and the controller has not said yes", own.name);
                own.enforced.insert((place.epoch, place.number, own.loaded[&generation.0].digest));
            }
        }
        Some(event)
    }

    /// This kernel does not take that revision.
    fn is_refused(&self, node: usize, action: &Action) -> bool {
        let Action::Load(assignment) = action else { return false };
        let policy = assignment.revision.parse().ok().and_then(|number| self.policies.get(&ringwall_controller::id::RevisionNumber(number)));
        policy.is_some_and(|policy| policy.refused_by.contains(self.nodes[node].name.as_str()))
    }

    /// Somebody else changes rules, or takes them out.
    pub fn disturb(&mut self, node: usize) {
        let (now, is_flushed, is_told) = (self.now, self.random.percent(50), self.random.percent(80));
        let own = &mut self.nodes[node];
        own.let_time_pass(now);
        if is_flushed {
            own.kernel.flush();
            own.checks.flushed();
        } else if own.kernel.deciding().is_some() {
            own.kernel.is_disturbed = true;
        }
        if is_told {
            let process = Process { name: "nft".into(), id: 4711 };
            self.tell(node, Event::ForeignChange(Some(process)));
        }
    }

    /// The kernel begins anew, with what was kept for boot, or with nothing when that did not work.
    pub fn reboot(&mut self, node: usize) {
        self.crash(node);
        let works = self.random.percent(80);
        let since = self.random.below(60_000);
        let now = self.now;
        let own = &mut self.nodes[node];
        (own.kernel, own.booted, own.seen, own.woke) = (KernelModel::default(), now - since, now, 0);
        own.checks.clock_began_anew();
        match own.disk.confirmed.filter(|_| works) {
            Some(confirmed) => own.kernel.heal(confirmed),
            None => own.checks.flushed(),
        }
        self.check(node);
    }
}

fn brief(event: &Event) -> String {
    match event {
        Event::Received(assignment) => format!("received {:?}, revision {}", assignment.place, assignment.revision),
        Event::Started { disk, kernel } => format!("started: confirmed {:?}, {kernel:?}", disk.confirmed.as_ref().map(|begun| begun.generation)),
        other => format!("{other:?}"),
    }
}
