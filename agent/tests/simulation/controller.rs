//! The controller's shell around its real core and a real store in memory.
//!
//! In: events of the core, an operator's wishes. Out: transactions, each some time later; messages; what is rolled out
//! compiled when it is stale. Never: a wait of the core for the store; what was not committed before a crash, after it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ringwall_controller::agent::{Agent, Standing};
use ringwall_controller::assignment;
use ringwall_controller::audit::{Actor, Audited};
use ringwall_controller::change::{Change, Enrol, Observed, Write, Written};
use ringwall_controller::core::{Action, Command, Core, Event, Waves, WriteId};
use ringwall_controller::fleet::Fleet;
use ringwall_controller::id::{Digest, Epoch, FleetId, NodeName, RevisionNumber, TokenId};
use ringwall_controller::revision::{NewRevision, Source};
use ringwall_controller::rollout::{Rollout, State};
use ringwall_controller::rulesets::narrows;
use ringwall_controller::server;
use ringwall_controller::store::{Keep, Memory, Read, Store};
use ringwall_controller::time::Time;
use ringwall_controller::token::{Claim, Terms, Token};
use ringwall_node::reconciler::Answer;
use ringwall_protocol::Confirm;

use super::node::Node;
use super::policy::Policy;
use super::world::{Job, Lie, Mend, World};

const SECRET: Digest = Digest([7; 32]);
/// 2027-01-15, and what the world's clock shows beside.
const BEGAN: i64 = 1_800_000_000_000;

pub struct Controller {
    pub store: Memory,
    pub core: Option<Core>,
    /// Counts its starts.
    pub life: u64,
    /// Milliseconds that its calendar is ahead.
    pub clock: i64,
    pub is_full: bool,
    is_stale: bool,
    /// Somebody compiles, and the others wait.
    is_compiling: bool,
    wishes: VecDeque<(RevisionNumber, Waves)>,
    /// The policy of the end, and its revision once it is committed.
    pub last_wish: Option<Policy>,
    last: Option<RevisionNumber>,
    answers: BTreeMap<u64, bool>,
    asks: u64,
}

/// Who waits for a transaction.
#[derive(Debug)]
pub enum Then {
    Core(WriteId),
    Began { window: u32 },
}

#[derive(Debug)]
pub enum Turn {
    Refresh { revision: RevisionNumber, is_rolled_out: bool },
    Begin { revision: RevisionNumber, waves: Waves },
}

impl Controller {
    pub fn new() -> Self {
        Self {
            store: Memory::new(Keep { events: 100, ..Keep::default() }),
            core: None,
            life: 0,
            clock: 0,
            is_full: false,
            is_stale: false,
            is_compiling: false,
            wishes: VecDeque::new(),
            last_wish: None,
            last: None,
            answers: BTreeMap::new(),
            asks: 0,
        }
    }
}

/// A store in memory answers at once.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a store in memory waits for nobody"),
    }
}

fn operator() -> Actor {
    Actor::Local("root".into())
}

impl World {
    fn time(&self) -> Time {
        Time::from_millisecond(BEGAN + i64::try_from(self.now).expect("a time") + self.controller.clock)
    }

    /// All rows of now.
    pub fn read<T>(&self, read: impl AsyncFnOnce(&mut <Memory as Store>::Snapshot) -> T) -> T {
        at_once(async {
            let mut rows = self.controller.store.read().await.expect("a snapshot");
            read(&mut rows).await
        })
    }

    fn agents(&self) -> Vec<Agent> {
        self.read(async |rows| rows.agents().await.expect("rows"))
    }

    /// Of the node's agent, unless it was revoked.
    pub fn row(&self, node: usize) -> Option<Agent> {
        let id = self.nodes[node].identity?;
        let row = self.read(async |rows| rows.agent(id).await.expect("a row"));
        row.filter(|row| row.standing == Standing::Approved)
    }

    /// At once, as an operator's request is carried out.
    fn change(&mut self, who: Actor, change: Change) -> Option<Written> {
        if self.controller.is_full {
            return None;
        }
        let part = Write::Change(Audited { who, at: self.time(), change });
        let written = at_once(self.controller.store.write(vec![part])).ok()?;
        written.into_iter().next()
    }

    /// The fleet, and a token for all of it.
    pub fn found(&mut self) {
        let now = self.time();
        let fleet = Fleet { id: FleetId::new([1; 16]), epoch: Epoch(1), ca: Digest([1; 32]), created: now };
        let terms = Terms {
            uses: NonZeroU32::MAX,
            expires: now.after(Duration::from_secs(100 * 86_400)),
            node: None,
            site: None,
            labels: BTreeMap::new(),
            location: None,
            prefixes: vec!["198.18.0.0/15".parse().expect("a prefix")],
            needs_approval: false,
        };
        let token = Token { id: TokenId::new([2; 16]), secret: SECRET, terms, created: now, used: 0, revoked: None };
        for change in [Change::Found(fleet), Change::CreateToken(token)] {
            self.change(operator(), change).expect("it is kept");
        }
    }

    pub fn start_controller(&mut self) {
        let own = &mut self.controller;
        if own.core.is_some() {
            return;
        }
        own.life += 1;
        (own.is_compiling, own.is_stale) = (false, true);
        own.wishes.clear();
        let core = at_once(server::load(&self.controller.store, self.time())).expect("rows");
        self.controller.core = Some(core);
        let life = self.controller.life;
        self.wave_began = self.now;
        self.later(1000, Job::Tick { life });
        self.next_turn();
    }

    /// What is on its way to the store is kept, or it is not.
    pub fn kill_controller(&mut self) {
        if self.controller.core.take().is_none() {
            return;
        }
        self.tally.count("controller crashes");
        let life = self.controller.life;
        let keys: Vec<_> = self.jobs.iter().filter(|(_, job)| matches!(job, Job::Keep { life: of, .. } if *of == life)).map(|(key, _)| *key).collect();
        for key in keys {
            let Some(Job::Keep { parts, .. }) = self.jobs.remove(&key) else { continue };
            if self.random.percent(50) {
                let _ = self.write(parts);
            }
        }
        self.break_all();
        let delay = self.random.below(30_000);
        self.later(delay, Job::StartController);
    }

    pub fn tick(&mut self, life: u64) {
        if life == self.controller.life && self.controller.core.is_some() {
            self.later(1000, Job::Tick { life });
            self.core(Event::Tick);
        }
    }

    pub fn core(&mut self, event: Event) {
        let now = self.time();
        let Some(core) = &mut self.controller.core else { return };
        if self.is_loud && !matches!(event, Event::Tick) {
            println!("          controller <- {}", format!("{event:?}").chars().take(160).collect::<String>());
        }
        let actions = core.step(now, event);
        for action in actions {
            match action {
                Action::Send { id, message } => {
                    self.check_sent(id, &message);
                    self.send(id, message);
                }
                // No agent here names lists among its features.
                Action::SendParts { .. } => panic!("lists for who did not ask"),
                Action::Close { id } => self.close(id),
                Action::Write { id, parts } => {
                    self.check_written(&parts);
                    // When it is decided: it may be kept much later.
                    for part in &parts {
                        let Write::Change(Audited { change: Change::StepRollout { rollout, state, .. }, .. }) = part else { continue };
                        self.check_over(*rollout, state);
                        if matches!(state, State::Stopped { rolled_back: true, .. }) {
                            self.check_back(*rollout);
                        }
                    }
                    let most = if self.has_faults && self.random.percent(3) { 10_000 } else { 20 };
                    let (delay, life) = (1 + self.random.below(most), self.controller.life);
                    self.later(delay, Job::Keep { life, parts, then: Then::Core(id) });
                }
                Action::Answer { ask, answer } => drop(self.controller.answers.insert(ask, answer.is_ok())),
                Action::Stale => self.controller.is_stale = true,
            }
        }
        self.check_waves();
        self.next_turn();
    }

    /// A transaction's time has come.
    pub fn keep(&mut self, life: u64, parts: Vec<Write>, then: Then) {
        if life != self.controller.life || self.controller.core.is_none() {
            return;
        }
        let result = self.write(parts);
        match then {
            Then::Core(id) => self.core(Event::Written { id, result }),
            Then::Began { window } => {
                self.controller.is_compiling = false;
                match result.as_deref() {
                    Ok([Written::Rollout(number)]) => {
                        let rollout = self.read(async |rows| rows.rollout(*number).await.expect("a row"));
                        self.tally.count("rollouts");
                        self.wave_began = self.now;
                        let last = |name: &NodeName| self.newest(name).unwrap_or_default();
                        self.before = self.nodes.iter().map(|node| (node.name.clone(), last(&node.name))).collect();
                        self.core(Event::Began { rollout: rollout.expect("it was just kept"), window });
                    }
                    _ => self.controller.is_stale = true,
                }
                self.next_turn();
            }
        }
    }

    fn write(&mut self, parts: Vec<Write>) -> Result<Vec<Written>, String> {
        if self.controller.is_full {
            self.tally.count("not kept");
            return Err("no space left on device".into());
        }
        let given: Vec<Digest> = parts.iter().flat_map(|part| match part {
            Write::Change(Audited { change: Change::Assign(all), .. }) => all.iter().map(|new| Digest::of(&new.ruleset)).collect(),
            _ => vec![],
        }).collect();
        for part in &parts {
            if let Write::Change(Audited { change: Change::StepRollout { state, .. }, .. }) = part {
                match state {
                    State::Done => self.tally.count("done"),
                    State::Stopped { .. } => self.tally.count("stopped"),
                    State::Paused { .. } => self.tally.count("paused"),
                    State::RollingBack { .. } => self.tally.count("rolled back"),
                    State::Running { .. } => {}
                }
            }
        }
        if parts.iter().any(|part| matches!(part, Write::Change(Audited { change: Change::StepRollout { .. }, .. }))) {
            self.wave_began = self.now;
        }
        let written = at_once(self.controller.store.write(parts)).map_err(|error| error.to_string())?;
        for part in &written {
            let Written::Assigned(numbers) = part else { continue };
            for ((node, number), digest) in numbers.iter().zip(&given) {
                let is_new = self.assigned.insert((node.clone(), 1, number.0), *digest).is_none();
                assert!(is_new, "{node} was given the number {number} twice");
            }
        }
        Ok(written)
    }

    // What is wanted, compiled.

    fn next_turn(&mut self) {
        let Some(core) = &self.controller.core else { return };
        if self.controller.is_compiling {
            return;
        }
        let (active, wanted) = (core.rollout().map(|rollout| rollout.revision), core.wanted());
        let turn = if let Some((revision, waves)) = self.controller.wishes.pop_front() {
            Turn::Begin { revision, waves }
        } else if std::mem::take(&mut self.controller.is_stale) {
            match active {
                // Begun before this controller was started: what it brings is not known yet.
                Some(revision) if wanted != active => Turn::Refresh { revision, is_rolled_out: false },
                Some(_) => return,
                None => match self.rolled_out() {
                    Some(revision) => Turn::Refresh { revision, is_rolled_out: true },
                    None => return,
                },
            }
        } else {
            return;
        };
        self.controller.is_compiling = true;
        let (Turn::Refresh { revision, .. } | Turn::Begin { revision, .. }) = &turn;
        let rulesets = self.compile(*revision);
        let (delay, life) = (20 + self.random.below(1000), self.controller.life);
        self.later(delay, Job::Compiled { life, turn, rulesets });
    }

    /// The revision that all have, or are to have.
    pub fn rolled_out(&self) -> Option<RevisionNumber> {
        self.rollouts().into_iter().find(|rollout| rollout.state == State::Done).map(|rollout| rollout.revision)
    }

    /// The newest first.
    pub fn rollouts(&self) -> Vec<Rollout> {
        self.read(async |rows| rows.rollouts(None, 100).await.expect("rows"))
    }

    /// With the nodes of now.
    pub fn compile(&self, revision: RevisionNumber) -> BTreeMap<NodeName, Arc<[u8]>> {
        let content = self.read(async |rows| {
            let row = rows.revision(revision).await.expect("a row").expect("it was committed");
            rows.content(row.content).await.expect("a row").expect("it was committed")
        });
        Policy::of(&content).rulesets(&self.agents())
    }

    pub fn compiled(&mut self, life: u64, turn: Turn, rulesets: BTreeMap<NodeName, Arc<[u8]>>) {
        let Some(core) = self.controller.core.as_ref().filter(|_| life == self.controller.life) else { return };
        match turn {
            Turn::Refresh { revision, is_rolled_out } => {
                let is_narrowed = |(name, after): (&NodeName, &Arc<[u8]>)| {
                    let before = core.enforced(name).filter(|before| is_rolled_out && before != after)?;
                    narrows(&before, after).then(|| name.clone())
                };
                let narrowed: BTreeSet<NodeName> = rulesets.iter().filter_map(is_narrowed).collect();
                self.controller.is_compiling = false;
                self.core(Event::Wanted { revision, rulesets, narrowed, is_rolled_out });
            }
            Turn::Begin { revision, waves } => {
                self.core(Event::Wanted { revision, rulesets, narrowed: BTreeSet::new(), is_rolled_out: false });
                let window = waves.window;
                let made = self.controller.core.as_ref().and_then(|core| core.waves(&waves)).filter(|(_, waves)| !waves.is_empty());
                let Some((revision, waves)) = made else {
                    (self.controller.is_compiling, self.controller.is_stale) = (false, true);
                    return self.next_turn();
                };
                let part = Write::Change(Audited { who: operator(), at: self.time(), change: Change::StartRollout { revision, waves } });
                let delay = 1 + self.random.below(100);
                self.later(delay, Job::Keep { life, parts: vec![part], then: Then::Began { window } });
            }
        }
    }

    // Agents' questions.

    pub fn may_confirm(&mut self, node: usize, confirm: Confirm) -> Answer {
        self.controller.asks += 1;
        let (ask, agent, place) = (self.controller.asks, self.nodes[node].identity.expect("it has a row"), confirm.place);
        self.core(Event::Asked { ask, agent, confirm });
        let is_yes = self.controller.answers.remove(&ask).expect("it is answered at once");
        if is_yes {
            self.nodes[node].permitted.insert((place.epoch, place.number));
            let name = &self.nodes[node].name;
            assert_eq!(Some(place.number), self.newest(name), "{name} may confirm what is not its newest assignment");
        }
        if is_yes || self.lie == Some(Lie::AlwaysYes) { Answer::Yes } else { Answer::No }
    }

    /// The number of what a node was given last.
    fn newest(&self, name: &NodeName) -> Option<u64> {
        self.assigned.range((name.clone(), 0, 0)..=(name.clone(), u64::MAX, u64::MAX)).next_back().map(|(key, _)| key.2)
    }

    // Nodes.

    pub fn join(&mut self) {
        let at = self.nodes.len();
        let [_, _, high, low] = u32::try_from(at + 1).expect("few nodes").to_be_bytes();
        let name: NodeName = format!("node-{at}").parse().expect("a name");
        let mut node = Node::new(name, [198, 18, high, low].into());
        node.seen = self.now;
        self.nodes.push(node);
        let delay = self.random.below(20_000);
        self.later(delay, Job::Mend { mend: Mend::Enrol(at) });
    }

    pub fn enrol(&mut self, node: usize) {
        let own = &self.nodes[node];
        if own.is_gone || self.row(node).is_some() {
            return;
        }
        let claim = Claim { node: own.name.clone(), addresses: [own.address].into(), clock: None };
        let key = Digest::of(&self.random.next().to_be_bytes());
        let agent = Enrol::agent_of(&SECRET, &key);
        let expires = self.time().after(Duration::from_secs(86_400));
        let enrol = Enrol { secret: SECRET, claim, agent, key, certificate_expires: expires };
        let is_there = self.controller.core.is_some() && !self.nodes[node].is_cut;
        if !is_there || self.change(Actor::Enrolling, Change::Enrol(enrol)).is_none() {
            self.later(5_000, Job::Mend { mend: Mend::Enrol(node) });
            return;
        }
        self.tally.count("enrolled");
        self.crash(node);
        self.nodes[node].identity = Some(agent);
        self.later(100, Job::Start { node });
        self.agent_changed(node);
    }

    /// Whether it is done.
    pub fn revoke(&mut self, node: usize) -> bool {
        let Some(row) = self.row(node) else { return false };
        if self.change(operator(), Change::Revoke { agent: row.id, reason: "a test".into() }).is_none() {
            return false;
        }
        self.tally.count("revoked");
        self.agent_changed(node);
        if self.random.percent(70) {
            let delay = self.random.below(120_000);
            self.later(delay, Job::Mend { mend: Mend::Enrol(node) });
        }
        true
    }

    /// Another machine takes the node's place, with nothing on its disk.
    pub fn reinstall(&mut self, node: usize) {
        if self.nodes[node].is_gone || !self.revoke(node) {
            return;
        }
        self.tally.count("reinstalled");
        self.crash(node);
        let now = self.now;
        self.nodes[node].begin_anew(now);
        self.later(5_000, Job::Mend { mend: Mend::Enrol(node) });
    }

    fn agent_changed(&mut self, node: usize) {
        let Some(id) = self.nodes[node].identity else { return };
        let row = self.read(async |rows| rows.agent(id).await.expect("a row"));
        self.controller.is_stale = true;
        self.core(Event::Agent(row.expect("it enrolled")));
    }

    // What an operator wants.

    pub fn commit(&mut self, policy: Policy) -> Option<RevisionNumber> {
        let new = NewRevision { content: policy.content(), author: "a test".into(), message: "a change".into(), source: Source::Cli };
        let Written::Revision(revision) = self.change(operator(), Change::Commit(new))? else { return None };
        self.policies.insert(revision, policy);
        Some(revision)
    }

    pub fn wish(&mut self, revision: RevisionNumber) {
        let percents = match self.random.below(3) {
            0 => vec![],
            1 => vec![10],
            _ => vec![20, 50],
        };
        let window = 5 + u32::try_from(self.random.below(60)).expect("seconds");
        self.controller.wishes.push_back((revision, Waves { canary: BTreeSet::new(), percents, window }));
        self.next_turn();
    }

    fn order(&mut self, command: Command) {
        if self.controller.core.as_ref().is_some_and(|core| core.rollout().is_some()) {
            self.core(Event::Ordered { actor: operator(), command });
        }
    }

    pub fn order_pause(&mut self) {
        self.order(Command::Pause { reason: "wait".into() });
    }

    pub fn order_resume(&mut self) {
        self.order(Command::Resume);
    }

    pub fn order_back(&mut self) {
        self.order(Command::RollBack { reason: "no".into() });
    }

    /// Goes on until all have the last policy.
    pub fn finish(&mut self) {
        let Some(core) = &self.controller.core else { return };
        match core.rollout().map(|rollout| &rollout.state) {
            Some(State::Paused { .. }) => self.order_resume(),
            Some(_) => {}
            None if self.controller.is_compiling || !self.controller.wishes.is_empty() => {}
            None => {
                let is_good = |revision: &RevisionNumber| !self.policies[revision].cuts_off;
                // Where nobody was there, a rollout is done that no node can take.
                if !self.rolled_out().is_some_and(|revision| is_good(&revision)) {
                    self.controller.last_wish.get_or_insert_with(Policy::default);
                }
                if self.controller.last.is_none()
                    && let Some(policy) = self.controller.last_wish.clone()
                {
                    self.controller.last = self.commit(policy);
                }
                if let Some(last) = self.controller.last.filter(|last| self.rolled_out() != Some(*last)) {
                    self.wish(last);
                }
            }
        }
    }

    /// The revision that all are to have, once nothing else is wanted.
    pub fn last(&self) -> Option<RevisionNumber> {
        let rolled_out = self.rolled_out().filter(|revision| !self.policies[revision].cuts_off);
        if self.controller.last_wish.is_none() { rolled_out } else { self.controller.last.filter(|last| rolled_out == Some(*last)) }
    }

    /// What agents say is so, before the controller calls it so.
    fn check_written(&self, parts: &[Write]) {
        for part in parts {
            let Write::Observed { what: Observed::Progress { node, number, state: assignment::State::Confirmed }, .. } = part else { continue };
            let own = self.nodes.iter().find(|own| own.name == *node).expect("a node of the fleet");
            let digest = self.assigned[&(node.clone(), 1, number.0)];
            assert!(own.enforced.contains(&(1, number.0, digest)), "{node}: {number} is called confirmed, and was never enforced");
        }
    }
}
