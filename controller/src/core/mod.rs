//! The controller's mind: who is connected, what each node is to enforce, how far a rollout came.
//!
//! In: the time, and what happened, one [`Event`] after the other. Out: what to do, as [`Action`]s. Never: a
//! clock, a socket, the store or a compiler; a ruleset sent before it is kept; a confirmation of anything but a
//! node's newest assignment.
//!
//! ```text
//!   Wanted -> Began (kept) -> wave by wave: Assign (kept) -> sent -> trial -> confirmed -> next wave
//!                                                                          | refused, fell
//!                                                                          +-> former rulesets assigned -> stopped
//! ```
//!
//! What is kept is the truth: after a restart the core is made from the store's rows, and agents say again how far
//! they came. A message that was lost is made good when its agent connects again.

mod delivery;
mod list;
mod lists;
mod probes;
mod session;
mod tally;
mod waves;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ringwall_protocol as protocol;
use serde_json::json;

pub use lists::{Accepted, Coverage, LISTS_MAX, ListChange, Listed, NotListed, Unlisted};
pub use probes::{Known, Path, target};
pub use tally::Tally;
pub use waves::Waves;

use crate::agent::Agent;
use crate::assignment;
use crate::audit::Actor;
use crate::change::{Observed, Write, Written};
use crate::declared::{Declared, Manner};
use crate::event::NewEvent;
use crate::id::{AgentId, AssignmentNumber, Digest, Epoch, NodeName, RevisionNumber};
use crate::rollout::Rollout;
use crate::time::Time;

use delivery::Node;
use lists::Lists;
use session::Session;

/// A stream with an agent; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// A transaction that is asked for; its answer names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// Seconds between heartbeats; a session of which nothing was heard for three of them is over.
pub const HEARTBEAT: u32 = 10;
/// Seconds that a trial lasts when nobody says otherwise.
pub const WINDOW: u32 = 60;
/// Beyond a trial's window, seconds until a node counts as late.
const LATE: u64 = 30;
/// Nodes for each millisecond between two looks at all of them: of 5,000, ten looks a second; of fewer than 50, one an event.
const NODES_A_MILLISECOND: u64 = 50;
/// Between two events no more time passes than this, whatever the calendar says.
const GAP_MAX: Duration = Duration::from_secs(15);

/// A node's newest assignment as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub number: AssignmentNumber,
    pub revision: RevisionNumber,
    pub ruleset: Arc<[u8]>,
    pub digest: Digest,
    pub state: assignment::State,
}

/// What the store says at the start.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    pub agents: Vec<Agent>,
    /// The newest of each node.
    pub assignments: BTreeMap<NodeName, Kept>,
    /// The newest of each node that was confirmed.
    pub confirmed: BTreeMap<NodeName, Kept>,
    /// The newest of each node that was confirmed of a revision before that one.
    pub former: BTreeMap<NodeName, Kept>,
    /// That is not over.
    pub rollout: Option<Rollout>,
}

#[derive(Debug)]
pub enum Event {
    /// A row as it is now.
    Agent(Agent),
    /// The agent is who its certificate says, and this is its first message. `session` is for [`protocol::Welcome`].
    Connected { id: SessionId, agent: AgentId, session: [u8; 16], hello: Box<protocol::Hello> },
    Said { id: SessionId, message: protocol::ToController },
    Gone { id: SessionId },
    /// Over a connection of its own.
    Asked { ask: u64, agent: AgentId, confirm: protocol::Confirm },
    /// All nodes' rulesets of a revision, compiled and proved. Once a rollout of the revision is done,
    /// `is_rolled_out`, nodes get theirs at once; those that lose something by it, `narrowed`, after the others.
    Wanted { revision: RevisionNumber, rulesets: BTreeMap<NodeName, Arc<[u8]>>, narrowed: BTreeSet<NodeName>, is_rolled_out: bool },
    /// The paths of what is wanted, which are probed from now on.
    Declared(Arc<Declared>),
    /// What is known of a node's paths may be wrong; without a node, of all.
    LookAgain(Option<NodeName>),
    /// A rollout of what is wanted, in the waves that [`Core::waves`] made; it is kept already.
    Began { rollout: Rollout, window: u32 },
    /// Done when the step before is kept.
    Ordered { actor: Actor, command: Command },
    Written { id: WriteId, result: Result<Vec<Written>, String> },
    Tick,
}

/// What an operator wants of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// No further wave begins.
    Pause { reason: String },
    Resume,
    /// Ends the rollout, and takes its nodes back.
    RollBack { reason: String },
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Send { id: SessionId, message: protocol::ToAgent },
    /// A list in parts, encoded [`protocol::List`]s: all but the first, when there is nothing else to send.
    SendParts { id: SessionId, parts: Arc<[Bytes]> },
    /// After what was sent before.
    Close { id: SessionId },
    Write { id: WriteId, parts: Vec<Write> },
    /// What is rolled out is to be compiled with the rows of now, and told as [`Event::Wanted`].
    Stale,
    /// To an [`Event::Asked`].
    Answer { ask: u64, answer: Result<protocol::Place, Denied> },
}

/// Why an agent must not confirm: it lets the trial fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("this agent is not approved")]
    NotApproved,
    #[error("there is a newer assignment, or none")]
    NotNewest,
    #[error("the ruleset is another one than was assigned")]
    OtherRuleset,
    #[error("the rollout goes back")]
    GoesBack,
}

/// What a write was for.
#[derive(Debug)]
enum Pending {
    Step(Box<Rollout>),
    Assign(Vec<(NodeName, Kept)>),
    /// Of an agent's addresses: all that it says it has.
    Report { agent: AgentId, addresses: BTreeSet<IpAddr> },
    /// Nothing waits for it; who said it says it again.
    Observed,
}

/// What a node is to enforce in the end.
#[derive(Clone, Debug)]
struct Wanted {
    revision: RevisionNumber,
    rulesets: BTreeMap<NodeName, Arc<[u8]>>,
    digests: BTreeMap<NodeName, Digest>,
    narrowed: BTreeSet<NodeName>,
    is_rolled_out: bool,
}

#[derive(Debug)]
pub struct Core {
    epoch: Epoch,
    agents: BTreeMap<AgentId, Agent>,
    nodes: BTreeMap<NodeName, Node>,
    sessions: BTreeMap<SessionId, Session>,
    lists: Lists,
    wanted: Option<Wanted>,
    rollout: Option<Rollout>,
    /// The rollout was begun before this controller was started.
    is_resumed: bool,
    /// Nodes that were given something since the rollout began.
    given: BTreeSet<NodeName>,
    /// What operators want of the rollout, each to be done when the step before is kept.
    commands: VecDeque<(Actor, Command)>,
    /// How often each node was given what it had before.
    attempts: BTreeMap<NodeName, u32>,
    /// Seconds that a trial lasts, as the last rollout says.
    window: u32,
    /// What a node was given outside of a rollout, and when.
    tried: BTreeMap<NodeName, (Time, Digest)>,
    /// When the wave that runs was given out, or this controller was started, if that was later.
    wave_began: Time,
    /// Of revisions that were declared to this controller.
    manners: BTreeMap<RevisionNumber, Manner>,
    tally: Tally,
    writes: BTreeMap<WriteId, Pending>,
    probes: probes::Probes,
    /// The store could not keep something: nothing more is asked of it until the next tick.
    is_stalled: bool,
    last_write: u64,
    /// The core's own time, for what it waits for: it begins with the calendar, and no jump of that is in it.
    now: Time,
    started: Time,
    /// As rows and people have it.
    calendar: Time,
    /// When all nodes were last looked at.
    advanced: Time,
    actions: Vec<Action>,
}

impl Core {
    pub fn new(epoch: Epoch, rows: Rows, now: Time) -> Self {
        let mut core = Self {
            epoch,
            agents: BTreeMap::new(),
            nodes: BTreeMap::new(),
            sessions: BTreeMap::new(),
            lists: Lists::default(),
            wanted: None,
            is_resumed: rows.rollout.is_some(),
            rollout: rows.rollout,
            given: BTreeSet::new(),
            commands: VecDeque::new(),
            attempts: BTreeMap::new(),
            window: WINDOW,
            tried: BTreeMap::new(),
            wave_began: now,
            manners: BTreeMap::new(),
            tally: Tally::default(),
            writes: BTreeMap::new(),
            probes: probes::Probes::default(),
            is_stalled: false,
            last_write: 0,
            now,
            started: now,
            calendar: now,
            advanced: now,
            actions: Vec::new(),
        };
        for (name, kept) in rows.assignments {
            core.nodes.entry(name).or_default().newest = Some(kept);
        }
        for (name, kept) in rows.confirmed {
            core.nodes.entry(name).or_default().confirmed = Some(kept);
        }
        for (name, kept) in rows.former {
            core.nodes.entry(name).or_default().former = Some(kept);
        }
        for agent in rows.agents {
            core.take_agent(agent);
        }
        core
    }

    /// Ticks come each second. A calendar that goes back, or on by more than can have passed, was set.
    fn let_time_pass(&mut self, calendar: Time) {
        self.now = self.now.after(calendar.since(self.calendar).min(GAP_MAX));
        self.calendar = calendar;
    }

    /// Takes in what happened, and says what to do now, in this order.
    pub fn step(&mut self, now: Time, event: Event) -> Vec<Action> {
        self.let_time_pass(now);
        // Thousands of them come, and nothing follows from one.
        use protocol::{Ack, ToController};
        let is_beat = matches!(event, Event::Said { message: ToController::Heartbeat(_) | ToController::Ack(Ack::List(_)), .. });
        // Of these there is one for each node when a fleet comes back, or takes a wave: what follows looks at all nodes.
        let is_common = matches!(event, Event::Connected { .. } | Event::Gone { .. } | Event::Said { .. });
        let is_noted = matches!(&event, Event::Written { id, .. } if matches!(self.writes.get(id), Some(Pending::Observed)));
        match event {
            Event::Agent(agent) => self.take_agent(agent),
            Event::Connected { id, agent, session, hello } => self.connected(id, agent, session, &hello),
            Event::Said { id, message } => self.said(id, message),
            Event::Gone { id } => self.gone(id),
            Event::Asked { ask, agent, confirm } => {
                let answer = self.may_confirm(agent, &confirm);
                self.actions.push(Action::Answer { ask, answer });
            }
            // It was compiled before the rollout began that goes on now.
            Event::Wanted { revision, .. } if self.rollout.as_ref().is_some_and(|rollout| rollout.revision != revision) => {}
            Event::Wanted { revision, rulesets, narrowed, is_rolled_out } => {
                let digests = rulesets.iter().map(|(node, bytes)| (node.clone(), Digest::of(bytes))).collect();
                self.lists.forget_own();
                self.wanted = Some(Wanted { revision, rulesets, digests, narrowed, is_rolled_out });
            }
            Event::Declared(declared) if self.rollout.as_ref().is_some_and(|rollout| rollout.revision != declared.revision) => {}
            Event::Declared(declared) => self.declare(declared),
            Event::LookAgain(node) => self.look_again(node.as_ref()),
            Event::Began { rollout, window } => self.began(rollout, window),
            Event::Ordered { actor, command } => self.commands.push_back((actor, command)),
            Event::Written { id, result } => self.written(id, result),
            Event::Tick => {
                self.is_stalled = false;
                self.beat();
                self.sweep_lists();
            }
        }
        if !is_beat {
            self.go_on_probing();
            // What is left for now the next tick does.
            let is_left = is_noted || is_common && self.has_just_advanced();
            if !is_left {
                self.advanced = self.now;
                self.advance();
            }
            self.probe();
        }
        std::mem::take(&mut self.actions)
    }

    /// A look at all nodes takes some microseconds for each: of many events at once, not every one is worth it.
    fn has_just_advanced(&self) -> bool {
        let most = self.nodes.len() as u64 / NODES_A_MILLISECOND;
        self.now.since(self.advanced) < Duration::from_millis(most)
    }

    /// Nodes that are connected.
    pub fn connected_nodes(&self) -> BTreeSet<NodeName> {
        let nodes = self.nodes.iter().filter(|(_, node)| node.session.is_some());
        nodes.map(|(name, _)| name.clone()).collect()
    }

    /// A node's newest assignment, and whether the node is connected.
    pub fn node(&self, name: &NodeName) -> Option<(Option<&Kept>, bool)> {
        self.nodes.get(name).map(|node| (node.newest.as_ref(), node.session.is_some()))
    }

    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The revision whose rulesets are known.
    pub fn wanted(&self) -> Option<RevisionNumber> {
        self.wanted.as_ref().map(|wanted| wanted.revision)
    }

    /// The ruleset that a node has confirmed and enforces.
    pub fn enforced(&self, name: &NodeName) -> Option<Arc<[u8]>> {
        self.nodes.get(name)?.confirmed.as_ref().map(|kept| kept.ruleset.clone())
    }

    /// Whether the node has confirmed just this.
    pub fn enforces(&self, name: &NodeName, ruleset: &[u8]) -> bool {
        self.nodes.get(name).and_then(Node::enforced).is_some_and(|kept| kept.digest == Digest::of(ruleset))
    }

    pub fn rollout(&self) -> Option<&Rollout> {
        self.rollout.as_ref()
    }

    fn place(&self, number: AssignmentNumber) -> protocol::Place {
        protocol::Place { epoch: self.epoch.0, number: number.0 }
    }

    fn write(&mut self, pending: Pending, parts: Vec<Write>) {
        self.last_write += 1;
        let id = WriteId(self.last_write);
        self.writes.insert(id, pending);
        self.actions.push(Action::Write { id, parts });
    }

    fn observe(&mut self, what: Observed) {
        let parts = vec![Write::Observed { at: self.calendar, what }];
        self.write(Pending::Observed, parts);
    }

    fn written(&mut self, id: WriteId, result: Result<Vec<Written>, String>) {
        let Some(pending) = self.writes.remove(&id) else { return };
        match (pending, result) {
            (Pending::Observed, _) => {}
            (Pending::Report { agent, addresses }, Ok(_)) => {
                if let Some(agent) = self.agents.get_mut(&agent) {
                    agent.reported = addresses;
                }
                self.lists.forget_own();
                self.actions.push(Action::Stale);
            }
            // Such as an address that another node of the site has.
            (Pending::Report { agent, .. }, Err(why)) => {
                let node = self.agents.get(&agent).map(|agent| agent.node.clone());
                self.observe(Observed::Event(NewEvent { kind: "report_refused".into(), node, body: json!({ "why": why }) }));
            }
            (Pending::Step(rollout), Ok(_)) => {
                self.wave_began = self.now;
                self.rollout = Some(*rollout);
            }
            (Pending::Assign(given), Ok(written)) => self.assigned(given, &written),
            // Nothing was sent; the next tick tries again.
            (Pending::Step(_) | Pending::Assign(_), Err(_)) => self.is_stalled = true,
        }
    }

    /// Whether something is on its way to the store that the next step needs.
    fn is_writing(&self) -> bool {
        self.writes.values().any(|pending| !matches!(pending, Pending::Observed | Pending::Report { .. }))
    }
}
