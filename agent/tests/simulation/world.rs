//! The fleet's one clock, and all that is under way.
//!
//! In: a seed. Out: a history of events, each at its time, or the first breach of what must hold. Never: anything
//! that the seed does not decide.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringwall_controller::change::Write;
use ringwall_controller::id::{Digest, NodeName, RevisionNumber};
use ringwall_node::reconciler::{Action, Answer, Event, Millis, Place};

use super::controller::{Controller, Then, Turn};
use super::network::Stream;
use super::node::Node;
use super::policy::Policy;
use super::random::Random;

/// A part of a machine that does not do what it says: each of them must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// An agent takes its own word for the controller's.
    AnswersItself,
    /// What is to be confirmed in the kernel is called confirmed, and nothing is done.
    ConfirmsNothing,
    /// Trials have no switch.
    ArmsNothing,
    /// Another ruleset than the assignment's is loaded.
    LoadsAnother,
    /// What is loaded anew is the first that there ever was.
    HealsWithTheFirst,
    /// The rules go with the agent's process.
    OpensAtItsEnd,
    /// The controller's shell answers each question with yes.
    AlwaysYes,
    /// Assignments don't reach the reconciler.
    Deaf,
    /// An agent says that it confirmed what it only took over.
    Boasts,
    /// An agent's disk loses what it was told to keep.
    Forgets,
}

/// How often what happened, so that a run in which it never did is no success.
#[derive(Clone, Debug, Default)]
pub struct Tally(pub BTreeMap<&'static str, u64>);

impl Tally {
    pub fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }
}

/// What is under way.
#[derive(Debug)]
pub enum Job {
    Start { node: usize },
    Wake { node: usize, at: Millis },
    /// What an agent's threads were told to do.
    Do { node: usize, life: u64, action: Action },
    Tell { node: usize, life: u64, event: Event },
    /// A renewal on its way to the controller.
    Renew { node: usize, life: u64 },
    /// A first message on its way to the controller.
    Open { stream: u64, hello: Vec<u8> },
    /// The controller has not answered it.
    NoWelcome { stream: u64 },
    Up { stream: u64, message: Vec<u8> },
    Down { stream: u64, message: Vec<u8> },
    EndAtAgent { stream: u64 },
    EndAtController { stream: u64 },
    Beat { stream: u64, number: u64 },
    /// A question over a connection of its own, which was opened while this was on trial.
    Ask { node: usize, life: u64, attempt: u64, place: Place, on: Option<u32>, message: Vec<u8> },
    Answer { node: usize, life: u64, attempt: u64, place: Place, on: Option<u32>, answer: Answer },
    StartController,
    Tick { life: u64 },
    Keep { life: u64, parts: Vec<Write>, then: Then },
    Compiled { life: u64, turn: Turn, rulesets: BTreeMap<NodeName, Arc<[u8]>> },
    Operate,
    Fault,
    /// The end of one.
    Mend { mend: Mend },
}

/// What ends by itself.
#[derive(Clone, Copy, Debug)]
pub enum Mend {
    Link(usize),
    Disk(usize),
    Clock(usize),
    Sleep(usize),
    Store,
    /// A revoked agent's node enrols anew.
    Enrol(usize),
}

pub struct World {
    pub random: Random,
    pub now: Millis,
    pub jobs: BTreeMap<(Millis, u64), Job>,
    count: u64,
    pub nodes: Vec<Node>,
    pub streams: BTreeMap<u64, Stream>,
    pub last_stream: u64,
    pub controller: Controller,
    pub policies: BTreeMap<RevisionNumber, Policy>,
    /// What the store kept: for each node and place the ruleset.
    pub assigned: BTreeMap<(NodeName, u64, u64), Digest>,
    /// Each node's last number before the rollout that goes on.
    pub before: BTreeMap<NodeName, u64>,
    /// Or when the controller was started, if that was later.
    pub wave_began: Millis,
    /// Whether a node gets to the controller with it.
    pub reaches: BTreeMap<Digest, bool>,
    pub has_faults: bool,
    pub lie: Option<Lie>,
    pub tally: Tally,
    /// Of all that happened, in its order.
    pub trace: u64,
    pub is_loud: bool,
}

impl World {
    pub fn new(seed: u64, nodes: usize, lie: Option<Lie>) -> Self {
        let mut world = Self {
            random: Random(seed),
            // Some time before which machines were booted.
            now: 1_000_000,
            jobs: BTreeMap::new(),
            count: 0,
            nodes: Vec::new(),
            streams: BTreeMap::new(),
            last_stream: 0,
            controller: Controller::new(),
            policies: BTreeMap::new(),
            assigned: BTreeMap::new(),
            before: BTreeMap::new(),
            wave_began: 0,
            reaches: BTreeMap::new(),
            has_faults: true,
            lie,
            tally: Tally::default(),
            trace: 0xcbf2_9ce4_8422_2325,
            is_loud: std::env::var_os("RINGWALL_SEED").is_some(),
        };
        world.found();
        world.start_controller();
        for _ in 0..nodes {
            world.join();
        }
        world.later(1_000, Job::Fault);
        world.later(5_000, Job::Operate);
        world
    }

    /// A time with faults, and then peace, in which all must become well.
    pub fn run(mut self) -> (u64, Tally, Millis) {
        let minutes = 2 + self.random.below(8);
        let end = self.now + minutes * 60_000;
        while self.now < end {
            self.pass();
        }
        let peace = self.now;
        self.make_peace();
        // Trials and their waves, agents that wait before they heal or connect, rollouts that go back first.
        let latest = peace + 1_200_000;
        while !self.is_well() {
            self.pass_seconds(5);
            assert!(self.now < latest, "the fleet does not become well: {}", self.describe());
        }
        let took = self.now - peace;
        // And stays so.
        self.pass_seconds(90);
        assert!(self.is_well(), "the fleet does not stay well: {}", self.describe());
        self.check_end();
        self.mix(&self.random.0.clone().to_be_bytes());
        (self.trace, self.tally, took)
    }

    fn pass_seconds(&mut self, seconds: u64) {
        let until = self.now + seconds * 1000;
        while self.now < until {
            self.pass();
        }
    }

    pub fn later(&mut self, delay: Millis, job: Job) -> Millis {
        self.at(self.now + delay, job)
    }

    pub fn at(&mut self, at: Millis, job: Job) -> Millis {
        self.count += 1;
        self.jobs.insert((at, self.count), job);
        at
    }

    /// FNV-1a (Fowler, Noll, Vo).
    pub fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.trace = (self.trace ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The next thing happens.
    fn pass(&mut self) {
        let ((at, count), job) = self.jobs.pop_first().expect("the clock ticks");
        self.now = at;
        if let Some(node) = self.of_machine(&job)
            && self.nodes[node].asleep_until > at
        {
            return self.nodes[node].held.push(job);
        }
        self.mix(&at.to_be_bytes());
        self.mix(&count.to_be_bytes());
        if self.is_loud {
            println!("{at:>9} {}", brief(&job));
        }
        self.happen(job);
    }

    /// On whose machine it happens.
    fn of_machine(&self, job: &Job) -> Option<usize> {
        match job {
            Job::Start { node } | Job::Wake { node, .. } | Job::Do { node, .. } | Job::Tell { node, .. } | Job::Answer { node, .. } => Some(*node),
            Job::Down { stream, .. } | Job::EndAtAgent { stream } | Job::Beat { stream, .. } | Job::NoWelcome { stream } => {
                self.streams.get(stream).map(|stream| stream.node)
            }
            _ => None,
        }
    }

    fn happen(&mut self, job: Job) {
        match job {
            Job::Start { node } => self.start(node),
            Job::Wake { node, at } => self.wake(node, at),
            Job::Do { node, life, action } if self.nodes[node].life == life => self.done(node, action),
            Job::Tell { node, life, event } if self.nodes[node].life == life => self.tell(node, event),
            Job::Renew { node, life } if self.nodes[node].life == life => self.renew(node),
            Job::Answer { node, life, attempt, place, on, answer } if self.nodes[node].life == life => {
                self.answered(node, attempt, place, on, answer);
            }
            Job::Do { .. } | Job::Tell { .. } | Job::Renew { .. } | Job::Answer { .. } => {}
            Job::Open { stream, hello } => self.open(stream, &hello),
            Job::NoWelcome { stream } => self.no_welcome(stream),
            Job::Up { stream, message } => self.up(stream, &message),
            Job::Down { stream, message } => self.down(stream, &message),
            Job::EndAtAgent { stream } => self.end_at_agent(stream),
            Job::EndAtController { stream } => self.end_at_controller(stream),
            Job::Beat { stream, number } => self.beat(stream, number),
            Job::Ask { node, life, attempt, place, on, message } => self.ask(node, life, attempt, place, on, &message),
            Job::StartController => self.start_controller(),
            Job::Tick { life } => self.tick(life),
            Job::Keep { life, parts, then } => self.keep(life, parts, then),
            Job::Compiled { life, turn, rulesets } => self.compiled(life, turn, rulesets),
            Job::Operate => self.operate(),
            Job::Fault => self.fault(),
            Job::Mend { mend } => self.mend(mend),
        }
    }
}

/// Without the rulesets.
fn brief(job: &Job) -> String {
    match job {
        Job::Up { stream, message } => format!("up {stream}, {} bytes", message.len()),
        Job::Down { stream, message } => format!("down {stream}, {} bytes", message.len()),
        Job::Do { node, action: Action::Load(assignment), .. } => format!("do {node}: load {:?}", assignment.place),
        Job::Do { node, action: Action::Persist(assignment), .. } => format!("do {node}: persist {:?}", assignment.place),
        Job::Compiled { turn, .. } => format!("compiled {turn:?}"),
        Job::Keep { parts, then, .. } => format!("keep {} parts, then {then:?}", parts.len()),
        other => format!("{other:?}"),
    }
}
