//! An agent's shell, a network and a controller around the reconciler, with virtual time and faults from a seed.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use ringwall_node::reconciler::{
    Action, Answer, Assignment, Event, Millis, Moment, OnDrift, OnTighten, Order, Place, Process, Reason, Reconciler, Say,
    SettleFailure, Stage,
};
use ringwall_ruleset::nftables::Generation;

use crate::reconciler::checks::Checks;
use crate::reconciler::machine::{DiskModel, Failure, KernelModel, operate};
use crate::reconciler::random::Random;

/// What happened, so that a run in which it never did is no success.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub histories: u64,
    pub steps: u64,
    pub confirmed: u64,
    pub fell: u64,
    pub refused: u64,
    pub healed: u64,
    pub crashes: u64,
    pub found_on_trial: u64,
    pub found_unsettled: u64,
    pub unconfirmed_by_disk: u64,
    pub ends: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.histories += other.histories;
        self.steps += other.steps;
        self.confirmed += other.confirmed;
        self.fell += other.fell;
        self.refused += other.refused;
        self.healed += other.healed;
        self.crashes += other.crashes;
        self.found_on_trial += other.found_on_trial;
        self.found_unsettled += other.found_unsettled;
        self.unconfirmed_by_disk += other.unconfirmed_by_disk;
        self.ends += other.ends;
    }
}

impl Tally {
    pub fn assert_all_happened(&self) {
        let all = [
            self.confirmed, self.fell, self.refused, self.healed, self.crashes, self.found_on_trial, self.found_unsettled,
            self.unconfirmed_by_disk, self.ends,
        ];
        assert!(all.iter().all(|count| *count > 0), "{self:?}");
    }
}

/// Something under way: what the shell was told to do, or a message.
#[derive(Clone, Debug)]
enum Job {
    Do(Action),
    /// What the kernel said while it was read; something may have changed since.
    WasRead(Event, u64),
    /// A connection for confirming that was opened while this generation was on trial.
    Confirming { attempt: u64, place: Place, opened_on: Option<u32> },
    ToAgent(Event),
    ToController(Say),
    End,
}

pub struct World {
    pub random: Random,
    pub now: Millis,
    reconciler: Reconciler,
    jobs: BTreeMap<(Millis, u64), Job>,
    count: u64,
    pub kernel: KernelModel,
    pub disk: DiskModel,
    pub checks: Checks,
    has_faults: bool,
    is_network_up: bool,
    is_session_up: bool,
    epoch: u64,
    number: u64,
    given: Vec<Assignment>,
    /// What the controller was told of its newest assignment.
    pub told: Option<(Place, Stage)>,
    /// Revoked or released, and whether the rules went, too.
    ended: Option<bool>,
    /// A removal was ordered: again on each connection until it is done.
    is_removal_ordered: bool,
    /// Foreign changes so far, and at the last one that the agent was told of.
    changes: u64,
    changes_told: u64,
    tally: Tally,
    is_loud: bool,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut world = Self {
            random: Random(seed),
            now: 0,
            reconciler: Reconciler::default(),
            jobs: BTreeMap::new(),
            count: 0,
            kernel: KernelModel::default(),
            disk: DiskModel::default(),
            checks: Checks::default(),
            has_faults: true,
            is_network_up: true,
            is_session_up: false,
            epoch: 1,
            number: 0,
            given: Vec::new(),
            told: None,
            ended: None,
            is_removal_ordered: false,
            changes: 0,
            changes_told: 0,
            tally: Tally { histories: 1, ..Tally::default() },
            is_loud: std::env::var_os("RINGWALL_SEED").is_some(),
        };
        world.start();
        world
    }

    /// A history with faults, and then peace, in which all must become well.
    pub fn run(mut self) -> Tally {
        let steps = 100 + self.random.below(300);
        for _ in 0..steps {
            self.fault();
            self.pass();
        }
        self.make_peace();
        let end = self.now + 1_200_000;
        // Minutes of peace; the last assignment comes when all old messages are through.
        let mut is_given = false;
        while self.now < end {
            if !is_given && self.now + 600_000 > end {
                is_given = true;
                self.give();
            }
            self.pass();
        }
        self.check_peace();
        self.tally
    }

    fn make_peace(&mut self) {
        (self.has_faults, self.is_network_up, self.disk.is_full) = (false, true, false);
    }

    fn check_peace(&self) {
        let confirmed = self.disk.confirmed;
        if let Some(removed) = self.ended {
            if removed {
                assert_eq!((self.kernel.deciding(), confirmed), (None, None), "an ordered removal is done");
            } else if confirmed.is_some_and(|confirmed| self.disk.begun[&confirmed].on_drift == OnDrift::Heal) {
                assert_eq!(self.kernel.current, confirmed, "without an identity it is still enforced");
            }
            return;
        }
        let newest = self.given.last().expect("one was given").place;
        assert_eq!(self.told, Some((newest, Stage::Confirmed)), "the controller knows that its newest assignment is confirmed");
        let place = confirmed.and_then(|confirmed| self.disk.begun[&confirmed].place);
        assert_eq!(place, Some(newest), "the newest assignment is what is confirmed");
        assert_eq!(self.kernel.current, confirmed, "what is confirmed is enforced");
        assert!(!self.kernel.is_disturbed && self.kernel.trial.is_none(), "{:?}", self.kernel);
    }

    // Time and events.

    /// The next thing that happens: a job's end, or the time that the reconciler waits for.
    fn pass(&mut self) {
        let job = self.jobs.first_key_value().map(|(key, _)| *key);
        let wake = self.reconciler.wake_at();
        let next = job.map(|(at, _)| at).into_iter().chain(wake).min().unwrap_or(self.now + 1000).max(self.now);
        self.checks.not_stuck(self.now, next);
        self.kernel.time += next - self.now;
        self.now = next;
        match job.filter(|(at, _)| *at <= next) {
            Some(key) => {
                let job = self.jobs.remove(&key).expect("it was there");
                if let Some(event) = self.end(job) {
                    self.step(event);
                }
            }
            None => self.step(Event::Tick),
        }
    }

    fn step(&mut self, event: Event) {
        self.tally.steps += 1;
        if self.is_loud {
            println!("{:>9} {event:?}", self.now);
        }
        let moment = Moment { now: self.now, random: self.random.next() };
        let actions = self.reconciler.step(moment, event);
        for action in actions {
            if self.is_loud {
                println!("          -> {action:?}");
            }
            self.checks.action(&action, &self.kernel, &self.disk, self.ended.is_some());
            match action {
                Action::Say(say) => self.say(say),
                Action::ConnectFreshAndConfirm { attempt, place, .. } => {
                    self.later(Job::Confirming { attempt, place, opened_on: self.kernel.live_trial() });
                }
                Action::ForgetIdentity => self.ended = Some(self.is_removal_ordered),
                Action::Refresh { .. } => {}
                Action::ReadKernel if self.random.percent(50) && !self.fails() => {
                    self.later(Job::WasRead(Event::KernelRead(self.kernel.read()), self.changes));
                }
                other => self.later(Job::Do(other)),
            }
        }
        self.checks.state(&self.kernel, &self.disk);
    }

    fn later(&mut self, job: Job) {
        let delay = if self.has_faults && self.random.percent(10) { 20_000 } else { 400 };
        let at = self.now + self.random.below(delay);
        self.count += 1;
        self.jobs.insert((at, self.count), job);
    }

    // The shell.

    fn start(&mut self) {
        self.reconciler = Reconciler::default();
        self.is_session_up = false;
        self.checks.operation_ended();
        // What it is told now is read now.
        self.checks.read();
        let (disk, kernel) = (self.disk.read(), self.kernel.read());
        self.tally.found_on_trial += u64::from(self.kernel.live_trial().is_some());
        self.tally.found_unsettled += u64::from(kernel.current > self.disk.confirmed.map(Generation));
        self.step(Event::Started { disk, kernel });
    }

    fn end(&mut self, job: Job) -> Option<Event> {
        match job {
            Job::Do(action) => {
                if action.is_kernel_operation() {
                    self.checks.operation_ended();
                }
                self.carry_out(action)
            }
            Job::WasRead(event, changes) => {
                self.checks.operation_ended();
                if changes >= self.changes_told {
                    self.checks.read();
                }
                Some(event)
            }
            Job::Confirming { attempt, place, opened_on } => {
                let answer = match () {
                    () if !self.is_network_up || self.has_faults && self.random.percent(30) => Answer::Unreachable,
                    () if self.has_faults && self.random.percent(10) => Answer::No,
                    () => Answer::Yes,
                };
                let is_that = |generation: &u32| self.disk.begun[generation].place == Some(place);
                if let (Answer::Yes, Some(generation)) = (&answer, opened_on.filter(is_that)) {
                    self.checks.answered(generation);
                }
                Some(Event::Answered { attempt, answer })
            }
            Job::ToAgent(event) => self.is_session_up.then_some(event),
            Job::ToController(say) => {
                self.hear(say);
                None
            }
            Job::End => std::mem::take(&mut self.is_session_up).then_some(Event::Disconnected),
        }
    }

    fn fails(&mut self) -> bool {
        self.has_faults && self.random.percent(15)
    }

    fn carry_out(&mut self, action: Action) -> Option<Event> {
        Some(match action {
            Action::Enrol if self.fails() || self.ended.is_some() => Event::Pending { retry: 5_000 },
            Action::Renew if self.fails() || !self.is_network_up => Event::NotRenewed,
            Action::Enrol | Action::Renew => Event::Enrolled { valid: 86_400_000 },
            Action::Connect if self.is_network_up && !self.fails() => {
                self.is_session_up = true;
                if self.is_removal_ordered {
                    self.later(Job::ToAgent(Event::Ordered { id: 3, order: Order::Release { remove: true } }));
                }
                if let Some(newest) = self.given.last().cloned() {
                    self.later(Job::ToAgent(Event::Received(newest)));
                }
                Event::Connected
            }
            Action::Connect => Event::Disconnected,
            Action::Disconnect => {
                self.is_session_up = false;
                Event::Disconnected
            }
            Action::Resolve(name) if self.fails() => Event::NotResolved { name },
            Action::Resolve(name) => {
                let address = std::net::Ipv4Addr::from_bits(0xc000_0200 + u32::try_from(self.random.below(4)).unwrap());
                Event::Resolved { name, addresses: [address.into()].into(), seconds: 60 }
            }
            other => return self.operate(&other),
        })
    }

    /// In the kernel, or on the disk.
    fn operate(&mut self, action: &Action) -> Option<Event> {
        let failure = match () {
            () if self.fails() => Some(Failure::Before),
            () if self.fails() => Some(Failure::After),
            () => None,
        };
        let (before, taken) = (self.kernel.current, self.disk.clone());
        let event = operate(&mut self.kernel, &mut self.disk, action, failure)?;
        if let Some(now) = self.disk.taken.as_ref().filter(|now| taken.taken.as_ref() != Some(now)) {
            self.checks.persist(&taken, now.place);
        }
        match (action, &event) {
            (_, Event::KernelRead(_)) => self.checks.read(),
            (_, Event::Healed) => self.tally.healed += 1,
            (_, Event::NotSettled(SettleFailure::Disk(_))) => self.tally.unconfirmed_by_disk += 1,
            // Done, whatever is said.
            (Action::Remove, _) if self.disk.confirmed.is_none() => self.checks.removed(),
            _ => {}
        }
        if let Action::ConfirmInKernel(generation) = action
            && self.kernel.current != before
        {
            self.checks.confirm(generation.0);
        }
        Some(event)
    }

    // The controller.

    fn give(&mut self) {
        self.number += 1;
        let place = Place { epoch: self.epoch, number: self.number };
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&self.random.next().to_be_bytes());
        let assignment = Assignment {
            place,
            revision: "r1".into(),
            digest,
            ruleset: [].into(),
            window: 10 + u32::try_from(self.random.below(60)).unwrap(),
            on_drift: if self.random.percent(80) { OnDrift::Heal } else { OnDrift::Report },
            on_tighten: OnTighten::Cut,
            names: if self.random.percent(30) { ["ntp.example.net".to_owned()].into() } else { [].into() },
        };
        self.given.push(assignment.clone());
        self.told = None;
        self.later(Job::ToAgent(Event::Received(assignment)));
    }

    fn say(&mut self, say: Say) {
        self.checks.say(&say, &self.kernel, &self.disk);
        match &say {
            Say::Ack { stage: Stage::Confirmed, .. } => self.tally.confirmed += 1,
            Say::Ack { stage: Stage::Fell, .. } => self.tally.fell += 1,
            Say::Refused { .. } => self.tally.refused += 1,
            _ => {}
        }
        if self.is_session_up && !self.fails() {
            self.later(Job::ToController(say));
        }
    }

    fn hear(&mut self, say: Say) {
        let newest = self.given.last().map(|assignment| assignment.place);
        match say {
            Say::Ack { place, stage, .. } if Some(place) == newest => {
                // Messages of one stream stay in order; those of different ones do not.
                if self.told.is_none_or(|(_, told)| told != Stage::Confirmed) {
                    self.told = Some((place, stage));
                }
                // What fell is worth another try, with a number of its own.
                if stage == Stage::Fell && self.given.len() < 40 {
                    self.give();
                }
            }
            // A refusal may pass: the same one again.
            Say::Refused { place, reason, .. } if Some(place) == newest && reason != Reason::Forbidden => {
                let again = self.given.last().cloned().expect("it is the newest");
                self.later(Job::ToAgent(Event::Received(again)));
            }
            _ => {}
        }
    }

    // Faults.

    fn fault(&mut self) {
        match self.random.below(400) {
            0..12 => self.give(),
            12..20 => self.is_network_up = !self.is_network_up,
            20..26 => self.later(Job::End),
            26..32 => self.disk.is_full = !self.disk.is_full,
            32..44 => self.crash(),
            44..47 => self.reboot(),
            47..57 => self.disturb(),
            57..60 => {
                // Sleep: the clock goes on, the kernel's timers do not.
                self.now += self.random.below(3_600_000);
            }
            60..64 if self.kernel.live_trial().is_none() && !self.disk.is_full => {
                // A command at the machine, whose trial nobody confirms.
                let generation = self.disk.begin(None);
                self.kernel.trial = Some((generation, self.kernel.time + 60_000));
            }
            64..76 => self.repeat(),
            76..80 => {
                if let Some(newest) = self.given.last() {
                    let rollback = Event::Ordered { id: 1, order: Order::Rollback(newest.place) };
                    self.later(Job::ToAgent(rollback));
                }
            }
            80..82 => self.later(Job::ToAgent(Event::Ordered { id: 2, order: Order::Move(2_000) })),
            82 if self.random.percent(20) => self.restore_controller(),
            83 if self.random.percent(10) && self.is_session_up => self.end_management(),
            _ => {}
        }
    }

    /// A message that came before, or one of a controller that forgot: the same number, another ruleset.
    fn repeat(&mut self) {
        if self.given.is_empty() {
            return;
        }
        let at = usize::try_from(self.random.below(self.given.len() as u64)).unwrap();
        let mut assignment = self.given[at].clone();
        if self.random.percent(30) {
            assignment.digest = [9; 32];
        }
        self.later(Job::ToAgent(Event::Received(assignment)));
    }

    /// From a backup: numbers begin again, in the next epoch.
    fn restore_controller(&mut self) {
        (self.epoch, self.number) = (self.epoch + 1, 0);
        self.give();
    }

    fn disturb(&mut self) {
        self.changes += 1;
        if self.random.percent(50) {
            self.kernel.flush();
            self.checks.flushed();
        } else if self.kernel.deciding().is_some() {
            self.kernel.is_disturbed = true;
        }
        if self.random.percent(80) {
            let process = Process { name: "nft".into(), id: 4711 };
            self.changes_told = self.changes;
            self.checks.told();
            self.step(Event::ForeignChange(Some(process)));
        }
    }

    /// Everything under way is gone. Some of it was done already, and nobody was told.
    fn crash(&mut self) {
        self.tally.crashes += 1;
        let jobs = std::mem::take(&mut self.jobs);
        for job in jobs.into_values() {
            if let Job::Do(action) = job
                && self.random.percent(40)
                && (action.is_kernel_operation() || matches!(action, Action::Persist(_)))
            {
                self.carry_out(action);
            }
        }
        self.checks.forget_answers();
        // A file that is gone takes nothing back: records tell what was tried.
        if self.random.percent(5) && self.disk.begun.values().next_back().and_then(|begun| begun.place) == self.disk.taken.as_ref().map(|taken| taken.place) {
            self.disk.taken = None;
        }
        self.now += self.random.below(5_000);
        self.start();
    }

    /// The kernel begins anew, with what was kept for boot, or with nothing when that did not work.
    fn reboot(&mut self) {
        self.jobs.clear();
        self.kernel = KernelModel::default();
        match self.disk.confirmed.filter(|_| self.random.percent(80)) {
            Some(confirmed) => self.kernel.heal(confirmed),
            None => self.checks.flushed(),
        }
        self.checks.forget_answers();
        self.checks.clock_began_anew();
        self.now = self.random.below(60_000);
        self.start();
    }

    fn end_management(&mut self) {
        self.tally.ends += 1;
        let order = |remove| Event::Ordered { id: 3, order: Order::Release { remove } };
        match self.random.below(3) {
            0 => {
                self.ended = Some(false);
                self.step(Event::Revoked { detail: "by an operator".into() });
            }
            1 => self.step(order(false)),
            _ => {
                self.is_removal_ordered = true;
                self.step(order(true));
            }
        }
    }
}
