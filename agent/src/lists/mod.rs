//! Lists into the kernel, on a thread of its own: no block waits for a ruleset.
//!
//! In: lists from the controller, what must not be blocked. Out: the kernel's sets as the lists want them, word of what
//! it has. Never: a wait for the thread that loads rulesets; a set emptied while what was in it may still be wanted,
//! but where it is too much to be read; blocks that end because the controller is gone.

mod book;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ringwall_node::kernel::Netfilter;
use ringwall_node::lists::{Abilities, Bounds, Found, Lane, LaneError, Planner};
use ringwall_packet::AddressSet;
use ringwall_protocol::{Ack, List, ListRevision, Reason, Refusal, Refused, ToController};
use tokio::sync::mpsc::{Receiver, Sender, WeakSender, channel};
use tokio::time::{Instant, timeout_at};

use crate::because;
use book::Book;

/// Messages that wait for the thread; the stream waits for room, and with it the controller.
const QUEUE: usize = 16;
/// Between two looks at the kernel, for what nobody told; and before what failed is tried again.
const LOOK: Duration = Duration::from_secs(1);
/// Entries that are looked at each time for what has ended.
const SWEEP: usize = 20_000;
/// So often what an earlier program left is looked for: what expires by itself may still be counted.
const TRIES: u32 = 3;

/// What the thread is told.
pub enum Told {
    /// Where the controller of the next session is told of it.
    Session(WeakSender<ToController>),
    /// As [`ringwall_protocol::ToAgent::Lists`].
    Named(Vec<ListRevision>),
    List(List),
    /// Addresses that the ruleset in force protects, and the node's own.
    Ruleset(AddressSet),
    Controllers(Vec<IpAddr>),
    /// The tables may be there now, or gone.
    Look,
}

/// The handle to the thread, which ends when the last one is gone.
#[derive(Clone)]
pub struct Lists {
    told: Sender<Told>,
    revisions: Arc<Mutex<Vec<ListRevision>>>,
}

impl Lists {
    /// Begins the thread in this thread's network namespace. `own` are the node's addresses.
    pub fn start(netfilter: Netfilter, own: AddressSet, kernel: &str) -> Self {
        let (told, incoming) = channel(QUEUE);
        let revisions: Arc<Mutex<Vec<ListRevision>>> = Arc::default();
        let lane = Lane::new(netfilter, Planner::default(), Abilities::of_release(kernel));
        let worker = Worker {
            lane,
            book: Book::default(),
            session: None,
            own,
            ruleset: AddressSet::default(),
            controllers: AddressSet::default(),
            revisions: revisions.clone(),
            tries: 0,
            failed: None,
        };
        std::thread::spawn(move || worker.run(incoming));
        Self { told, revisions }
    }

    /// Waits for room. An agent whose thread is gone goes on without.
    pub async fn tell(&self, told: Told) {
        let _ = self.told.send(told).await;
    }

    /// The same for who must not wait: one that finds no room comes again.
    pub fn try_tell(&self, told: Told) {
        let _ = self.told.try_send(told);
    }

    pub fn blocking_tell(&self, told: Told) {
        let _ = self.told.blocking_send(told);
    }

    /// What the kernel has.
    pub fn revisions(&self) -> Vec<ListRevision> {
        self.revisions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Worker {
    lane: Lane,
    book: Book,
    session: Option<WeakSender<ToController>>,
    own: AddressSet,
    ruleset: AddressSet,
    controllers: AddressSet,
    revisions: Arc<Mutex<Vec<ListRevision>>>,
    /// How often what an earlier program left was looked for.
    tries: u32,
    /// Why the last transaction was not made: told once.
    failed: Option<String>,
}

impl Worker {
    fn run(mut self, mut incoming: Receiver<Told>) {
        // To wait for messages and for the time at once.
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else { return };
        self.bound();
        runtime.block_on(async {
            let (mut look, mut may_step) = (Instant::now() + LOOK, true);
            loop {
                let has_work = may_step && !self.lane.planner().is_settled();
                let told = if has_work {
                    incoming.try_recv().ok()
                } else {
                    match timeout_at(look, incoming.recv()).await {
                        Ok(None) => return,
                        Ok(told) => told,
                        Err(_) => None,
                    }
                };
                // What failed before need not fail now.
                may_step |= told.is_some();
                if let Some(told) = told {
                    self.take(told);
                }
                if Instant::now() >= look {
                    look = Instant::now() + LOOK;
                    may_step = true;
                    self.look();
                }
                if may_step {
                    may_step = self.step();
                }
                self.say();
            }
        });
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::Session(session) => {
                self.session = Some(session);
                self.book.begin_session();
            }
            Told::Named(lists) => self.book.name(lists),
            Told::List(list) => {
                if let Some(refusal) = self.book.take(self.lane.planner_mut(), list, now()) {
                    tracing::warn!(detail = refusal.detail, "a list is not in force as it was sent");
                    self.tell(ToController::Refusal(refusal));
                }
            }
            Told::Ruleset(addresses) => {
                self.ruleset = addresses;
                self.bound();
            }
            Told::Controllers(addresses) => {
                self.controllers = addresses.into_iter().map(|address| address.to_canonical()).collect();
                self.bound();
            }
            Told::Look => self.look(),
        }
    }

    fn bound(&mut self) {
        let never = ringwall_packet::of_no_one();
        let forbidden = [&self.ruleset, &self.controllers, &never].into_iter().fold(self.own.clone(), |all, some| all.union(some));
        self.lane.planner_mut().set_bounds(Bounds { forbidden, ..Bounds::default() });
    }

    /// Makes the next transaction; `false` when it is better to wait.
    fn step(&mut self) -> bool {
        let now = now();
        match self.lane.step(now) {
            Ok(Some(step)) => {
                self.failed = None;
                self.book.enforced(step.enforced);
                if step.urgent || self.lane.planner().is_settled() {
                    self.cut(now);
                }
                true
            }
            Ok(None) => {
                self.reconcile(now);
                true
            }
            Err(error) => {
                self.fail(&error);
                false
            }
        }
    }

    fn cut(&mut self, now: Duration) {
        // Who is blocked should not wait for an acknowledgement.
        self.say();
        match self.lane.cut(now) {
            Ok(cut) if !cut.is_empty() => tracing::info!(connections = cut.len(), "ended connections of who is blocked"),
            Ok(_) => {}
            Err(error) => tracing::warn!(error = because(&error), "connections of who is blocked were not ended"),
        }
    }

    /// Once all lists are here: what the kernel has beside them was left by an agent that ran before.
    fn reconcile(&mut self, now: Duration) {
        if self.book.is_ours() || !self.book.is_whole() {
            return;
        }
        self.tries += 1;
        match self.lane.reconcile(now) {
            Ok(is_ours) if is_ours || self.tries > TRIES => self.book.reconciled(),
            Ok(_) => {}
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &LaneError) {
        let why = because(error);
        if self.failed.as_ref() == Some(&why) {
            return;
        }
        tracing::warn!(error = why, "lists are not in the kernel yet");
        let reason = match error {
            LaneError::Full { .. } => Some(Reason::Full),
            // It comes with the first ruleset.
            LaneError::NoTable => None,
            LaneError::Refused { .. } | LaneError::Failed(_) => Some(Reason::Kernel),
        };
        if let Some(reason) = reason {
            for list in self.book.waiting() {
                self.tell(ToController::Refusal(Refusal { what: Refused::List(list), reason, detail: why.clone() }));
            }
        }
        self.failed = Some(why);
    }

    fn look(&mut self) {
        let now = now();
        self.lane.planner_mut().sweep(SWEEP, now);
        if self.lane.planner().is_empty() {
            return;
        }
        match self.lane.check(now) {
            Ok(Found::Lost { set, expected, found }) => tracing::warn!(set, expected, found, "somebody took elements out; they are sent again"),
            Ok(Found::Gone | Found::Same | Found::Whole) => {}
            Err(error) => self.fail(&error),
        }
    }

    fn say(&mut self) {
        let acknowledged = self.book.acknowledge();
        if acknowledged.is_empty() {
            return;
        }
        *self.revisions.lock().unwrap_or_else(PoisonError::into_inner) = self.book.revisions();
        for list in acknowledged {
            let name = list.list.clone();
            // Without a session the next greeting says it.
            if !self.tell(ToController::Ack(Ack::List(list))) && self.session.as_ref().is_some_and(|session| session.upgrade().is_some()) {
                self.book.unsaid(&name);
            }
        }
    }

    fn tell(&self, message: ToController) -> bool {
        self.session.as_ref().and_then(WeakSender::upgrade).is_some_and(|session| session.try_send(message).is_ok())
    }
}

fn now() -> Duration {
    Duration::from_millis(crate::shell::now())
}
