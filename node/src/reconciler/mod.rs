//! The agent's mind: what to do next, from what is known.
//!
//! In: the time, a random number, and what happened, one [`Event`] after the other. Out: what to do, as
//! [`Action`]s. Never: a clock, a socket, a file or the kernel; a step back to an older assignment; a
//! confirmation without an answer over a connection that was opened after the load.
//!
//! ```text
//!              Received(assignment)          Loaded            Answered          Settled
//!   enforcing ------ Persist ------> Load ----------> trial ----------> confirm ---------> enforcing
//!       ^                                               | window over, told to, refused
//!       +--------------- Rollback <---- rolling back <--+
//! ```
//!
//! Whether there is a controller (`isolated`) and an identity (`enrolling`) goes on beside that: what is
//! enforced does not depend on either.
//!
//! Events change what is known; after each of them one function looks at all of it and starts what is due. One
//! kernel operation is under way at a time, and what it came to is an event of its own. A message that was lost
//! is made good on the next connection, where the agent says again how far its newest assignment came.

mod action;
mod drift;
mod enforcing;
mod enrolling;
mod event;
mod isolated;
mod names;
mod rolling_back;
mod trial;

use std::collections::VecDeque;
use std::sync::Arc;

pub use action::{Action, Happening, Reason, Say, Stage};
pub use drift::{DriftOutcome, Process};
pub use names::KEPT;
pub use event::{Answer, Begun, Disk, Event, Kernel, Order, SettleFailure};

use crate::reconciler::drift::Drift;
use crate::reconciler::enforcing::Operation;
use crate::reconciler::enrolling::Identity;
use crate::reconciler::isolated::Link;
use crate::reconciler::names::Names;
use crate::reconciler::rolling_back::RollingBack;
use crate::reconciler::trial::Trial;

/// Milliseconds of a clock that also runs while the machine sleeps (CLOCK_BOOTTIME, time_namespaces(7)).
pub type Millis = u64;

const SECOND: Millis = 1000;

/// Events that are kept for a controller that is not there; of more, only the number.
const HAPPENINGS_MAX: usize = 64;

/// The place of an assignment among all that a node was ever given. A later one has the greater place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub epoch: u64,
    pub number: u64,
}

/// What a node is to enforce, as far as the reconciler looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub place: Place,
    /// Of the policy, for people.
    pub revision: String,
    /// SHA-256 of `ruleset`.
    pub digest: [u8; 32],
    /// The encoded ruleset, which was understood already.
    pub ruleset: Arc<[u8]>,
    /// Seconds that the trial lasts.
    pub window: u32,
    pub on_drift: OnDrift,
    pub on_tighten: OnTighten,
    /// DNS names whose addresses its sets hold.
    pub names: Arc<[String]>,
}

/// What becomes of a change that was not the agent's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDrift {
    Heal,
    Report,
}

/// What becomes of a live connection that the new ruleset forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTighten {
    Cut,
    Drain,
}

/// The time of a step, and a number that nobody could guess.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub now: Millis,
    pub random: u64,
}

impl Moment {
    /// `base` and up to half as much again.
    fn after(self, base: Millis) -> Millis {
        self.now.saturating_add(base).saturating_add(self.random % (base / 2 + 1))
    }
}

/// The newest assignment that was made durable here, and how far it came.
#[derive(Clone, Debug)]
struct Taken {
    assignment: Assignment,
    progress: Progress,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Progress {
    /// To be loaded.
    Received,
    Trial,
    Confirmed,
    Fell,
    Refused(Reason, String),
}

#[derive(Debug)]
enum Phase {
    Enforcing,
    Trial(Trial),
    RollingBack(RollingBack),
}

#[derive(Debug)]
pub struct Reconciler {
    identity: Identity,
    link: Link,
    phase: Phase,
    taken: Option<Taken>,
    /// What is confirmed, and is to be in the kernel.
    confirmed: Option<Begun>,
    /// The newest assignment that a generation was made from, as far as was found at the start.
    tried: Option<(Place, [u8; 32])>,
    /// Received while it can't be written down yet: the newest one alone.
    waiting: Option<Assignment>,
    /// On its way to the disk.
    persisting: Option<Assignment>,
    /// The kernel operation under way.
    operation: Option<Operation>,
    /// An operator ordered the rules away.
    removing: bool,
    /// The generation of the last trial.
    generation: u32,
    /// Not before then is a load tried again that somebody else's trial stood in the way of.
    load_after: Millis,
    /// The last number of a connection that was asked for.
    attempts: u64,
    drift: Drift,
    names: Names,
    happenings: VecDeque<(Millis, Happening)>,
    lost: u64,
    actions: Vec<Action>,
}

impl Default for Reconciler {
    fn default() -> Self {
        Self {
            identity: Identity::None { retry: None },
            link: Link::default(),
            phase: Phase::Enforcing,
            taken: None,
            confirmed: None,
            tried: None,
            waiting: None,
            persisting: None,
            operation: None,
            removing: false,
            generation: 0,
            load_after: 0,
            attempts: 0,
            drift: Drift::default(),
            names: Names::default(),
            happenings: VecDeque::new(),
            lost: 0,
            actions: Vec::new(),
        }
    }
}

impl Reconciler {
    /// Takes in what happened, and says what to do now, in this order.
    ///
    /// The first event is [`Event::Started`].
    pub fn step(&mut self, moment: Moment, event: Event) -> Vec<Action> {
        self.take_in(moment, event);
        self.advance(moment);
        std::mem::take(&mut self.actions)
    }

    /// When [`Event::Tick`] is due, if nothing happens before.
    pub fn wake_at(&self) -> Option<Millis> {
        let deadlines = [self.due_of_phase(), self.identity.due(), self.link.due(&self.identity), self.names.due()];
        deadlines.into_iter().flatten().min()
    }

    /// The newest assignment that was taken over: what Hello says.
    pub fn taken(&self) -> Option<Place> {
        self.taken.as_ref().map(|taken| taken.assignment.place)
    }

    /// Whether there is a session, as far as is known. What is said to one that just died is lost.
    pub fn is_connected(&self) -> bool {
        self.link.is_up()
    }

    /// What is confirmed.
    pub fn confirmed(&self) -> Option<&Begun> {
        self.confirmed.as_ref()
    }

    fn take_in(&mut self, moment: Moment, event: Event) {
        match event {
            Event::Started { disk, kernel } => self.started(moment, disk, &kernel),
            Event::Tick => {}
            Event::Enrolled { valid } => self.enrolled(moment, valid),
            Event::Pending { retry } => self.pending(moment, retry),
            Event::NotRenewed => self.not_renewed(moment),
            Event::Revoked { detail } => self.revoked(moment, detail),
            Event::Connected => self.connected(moment),
            Event::Disconnected => self.link.disconnected(moment),
            Event::Received(assignment) => self.received(assignment),
            Event::Ordered { id, order } => self.ordered(moment, id, order),
            Event::Persisted(place) => self.persisted(place),
            Event::NotPersisted { place, detail } => self.not_persisted(place, detail),
            Event::Loaded { place, generation } => self.loaded(moment, place, generation),
            Event::NotLoaded { place, reason, detail } => self.not_loaded(moment, place, reason, detail),
            Event::Answered { attempt, answer } => self.answered(moment, attempt, answer),
            Event::Settled(generation) => self.settled(moment, generation),
            Event::NotSettled(failure) => self.not_settled(moment, failure),
            Event::RolledBack(generation) => self.rolled_back(moment, generation),
            Event::NotRolledBack { detail } => self.not_rolled_back(moment, detail),
            Event::KernelRead(kernel) => self.kernel_read(moment, &kernel),
            Event::KernelNotRead => self.kernel_not_read(moment),
            Event::ForeignChange(process) => self.drift.noticed(moment.now, process),
            Event::Healed => self.healed(moment, true),
            Event::NotHealed => self.healed(moment, false),
            Event::Removed => self.removed(),
            Event::NotRemoved { detail } => self.not_removed(moment, detail),
            Event::Resolved { name, addresses, seconds } => self.resolved(moment, name, addresses, seconds),
            Event::Trouble { kind, detail } => self.report(moment, Happening::Trouble { kind, detail }),
            Event::NotResolved { name } => self.names.not_resolved(moment, &name),
        }
    }

    /// Starts what is due.
    fn advance(&mut self, moment: Moment) {
        self.persist();
        if self.operation.is_none() {
            self.operate(moment);
        }
        self.ask_to_confirm(moment);
        self.identify(moment);
        if self.link.is_due(moment.now, &self.identity) {
            self.link.connecting();
            self.actions.push(Action::Connect);
        }
        let due = self.names.take_due(moment);
        self.actions.extend(due.into_iter().map(Action::Resolve));
    }

    /// To the controller, when there is one. What is lost, [`Reconciler::connected`] makes good.
    fn say(&mut self, say: Say) {
        if self.link.is_up() {
            self.actions.push(Action::Say(say));
        }
    }

    /// To the controller, or kept for it.
    fn report(&mut self, moment: Moment, happening: Happening) {
        if self.link.is_up() {
            self.actions.push(Action::Say(Say::Happened { age: 0, happening }));
        } else if self.happenings.len() < HAPPENINGS_MAX {
            self.happenings.push_back((moment.now, happening));
        } else {
            self.lost += 1;
        }
    }

    /// How far the newest assignment came, for who may not know.
    fn say_progress(&mut self) {
        let Some(Taken { assignment, progress }) = &self.taken else { return };
        let place = assignment.place;
        let ack = |stage, generation| Say::Ack { place, stage, generation };
        let say = match progress {
            Progress::Received => ack(Stage::Received, 0),
            Progress::Trial => ack(Stage::Trial, self.generation),
            Progress::Confirmed => ack(Stage::Confirmed, self.confirmed.as_ref().map_or(0, |confirmed| confirmed.generation.0)),
            Progress::Fell => ack(Stage::Fell, self.generation),
            Progress::Refused(reason, detail) => Say::Refused { place, reason: *reason, detail: detail.clone() },
        };
        self.say(say);
    }

    /// The newest assignment came so far, if it is this one.
    fn progress(&mut self, place: Option<Place>, progress: Progress) {
        if let Some(taken) = &mut self.taken
            && Some(taken.assignment.place) == place
        {
            taken.progress = progress;
            self.say_progress();
        }
    }
}
