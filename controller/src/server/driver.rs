//! The core, driven: one task that owns it, and the handle to it.
//!
//! In: events, operators' commands. Out: transactions carried out, messages handed to streams, answers. Never: a
//! wait of the core for the store or for an agent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use ringwall_analysis::exposure::{Reached, exposure};
use ringwall_policy::{Name, Policy};
use ringwall_protocol::Place;
use tokio::sync::{Mutex, Notify, mpsc, oneshot};
use crate::assignment::{self, Assignment};
use crate::audit::{Actor, Audited};
use crate::change::{Change, Observed, Write, Written};
use super::stream::Outgoing;
use crate::core::{Accepted, Action, Command, Core, Coverage, Denied, Event, Kept, ListChange, NotListed, Path, Rows, SessionId, Waves};
use crate::declared::Declared;
use crate::event::NewEvent;
use crate::id::{AgentId, ListName, NodeName, RevisionNumber};
use crate::revision::Content;
use crate::rollout::{Rollout, State};
use crate::rulesets::{self, Inventory, Rulesets};
use crate::store::{self, Read as _, Store};
use crate::time::Time;

/// Events that wait for the core.
const EVENTS: usize = 1_024;

/// What the core's task is told.
pub(super) enum Told {
    Event(Event),
    Opened { id: SessionId, outgoing: Outgoing, event: Event },
    Asked { agent: AgentId, confirm: ringwall_protocol::Confirm, answer: oneshot::Sender<Result<Place, Denied>> },
    List { life: u64, change: ListChange, answer: oneshot::Sender<Result<Accepted, NotListed>> },
    Look(Box<dyn FnOnce(&Core) + Send>),
}

/// What can't be done for an operator.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error(transparent)]
    Policy(#[from] rulesets::Error),
    #[error("there is no revision {0}")]
    NoRevision(RevisionNumber),
    #[error("all nodes have this revision already, or get it as soon as they can take it")]
    Nothing,
    /// Node, ports that the internet reaches there now, and with the revision; what can't be counted in time is `None`.
    #[error("with revision {revision} the internet would reach more: {}", exposed(.nodes))]
    Exposes { revision: RevisionNumber, nodes: Vec<(String, Option<usize>, Option<usize>)> },
    #[error("no rollout is under way")]
    NoRollout,
    #[error(transparent)]
    NotListed(#[from] NotListed),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("the controller is ending")]
    Ending,
}

fn exposed(nodes: &[(String, Option<usize>, Option<usize>)]) -> String {
    let count = |count: Option<usize>| count.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
    nodes.iter().map(|(node, before, after)| format!("{node}: {} -> {} ports", count(*before), count(*after))).collect::<Vec<_>>().join(", ")
}

/// Steps of the question what the internet reaches: a second or two.
const EXPOSURE_BUDGET: u64 = 10_000_000;

/// The handle to the core.
#[derive(Debug)]
pub struct Control<S> {
    told: mpsc::Sender<Told>,
    store: Arc<S>,
    clock: fn() -> Time,
    /// Where nodes reach a controller.
    controllers: Arc<[SocketAddr]>,
    /// What is rolled out is to be compiled anew; held by who compiles, so that the last one has the newest rows.
    stale: Arc<Stale>,
}

#[derive(Debug, Default)]
struct Stale {
    told: Notify,
    turn: Mutex<()>,
}

impl<S> Clone for Control<S> {
    fn clone(&self) -> Self {
        Self { told: self.told.clone(), store: self.store.clone(), clock: self.clock, controllers: self.controllers.clone(), stale: self.stale.clone() }
    }
}

/// Starts the core from what is kept. The task ends when the last handle is gone.
pub async fn drive<S: Store>(store: Arc<S>, clock: fn() -> Time, controllers: Vec<SocketAddr>) -> Result<Control<S>, store::Error> {
    let mut core = load(&*store, clock()).await?;
    core.keep_out(controllers.iter().map(SocketAddr::ip));
    let (told, incoming) = mpsc::channel(EVENTS);
    let control = Control { told, store, clock, controllers: controllers.into(), stale: Arc::default() };
    tokio::spawn(run(core, incoming, control.clone().into()));
    control.refresh();
    Ok(control)
}

/// The core as a start finds it: what is kept, and nothing else.
pub async fn load<S: Store>(store: &S, now: Time) -> Result<Core, store::Error> {
    let mut read = store.read().await?;
    let fleet = read.fleet().await?.ok_or(store::Error::Missing { kind: "fleet", key: String::new() })?;
    let rollout = read.active_rollout().await?;
    let mut rows = Rows { agents: read.agents().await?, rollout, ..Rows::default() };
    // By node and number: the last one of a node is its newest.
    let mut by_node: BTreeMap<NodeName, Vec<Assignment>> = BTreeMap::new();
    for row in read.assignments().await? {
        by_node.entry(row.node.clone()).or_default().push(row);
    }
    for (node, all) in by_node {
        let confirmed = || all.iter().rev().filter(|row| row.state == assignment::State::Confirmed);
        let newest_confirmed = confirmed().next();
        let former = confirmed().find(|row| newest_confirmed.is_some_and(|newest| row.revision != newest.revision));
        for (row, to) in [(all.last(), &mut rows.assignments), (newest_confirmed, &mut rows.confirmed), (former, &mut rows.former)] {
            let Some(row) = row else { continue };
            if let Some(ruleset) = read.ruleset(&node, row.number).await? {
                let kept = Kept { number: row.number, revision: row.revision, ruleset, digest: row.digest, state: row.state.clone() };
                to.insert(node.clone(), kept);
            }
        }
    }
    Ok(Core::new(fleet.epoch, rows, now))
}

/// A handle that does not keep the core's task alive.
struct Weak<S> {
    told: mpsc::WeakSender<Told>,
    store: Arc<S>,
    clock: fn() -> Time,
    controllers: Arc<[SocketAddr]>,
    stale: Arc<Stale>,
}

impl<S> From<Control<S>> for Weak<S> {
    fn from(Control { told, store, clock, controllers, stale }: Control<S>) -> Self {
        Self { told: told.downgrade(), store, clock, controllers, stale }
    }
}

impl<S> Weak<S> {
    fn upgrade(&self) -> Option<Control<S>> {
        let (store, controllers, stale) = (self.store.clone(), self.controllers.clone(), self.stale.clone());
        Some(Control { told: self.told.upgrade()?, store, clock: self.clock, controllers, stale })
    }
}

async fn run<S: Store>(mut core: Core, mut incoming: mpsc::Receiver<Told>, weak: Weak<S>) {
    let (clock, back, store, stale) = (weak.clock, weak.told.clone(), weak.store.clone(), weak.stale.clone());
    let refreshing = tokio::spawn(refresh(weak));
    let mut streams: BTreeMap<SessionId, Outgoing> = BTreeMap::new();
    let mut asked: BTreeMap<u64, oneshot::Sender<Result<Place, Denied>>> = BTreeMap::new();
    let mut last_ask = 0;
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let actions = tokio::select! {
            _ = ticks.tick() => core.step(clock(), Event::Tick),
            told = incoming.recv() => match told {
                None => {
                    refreshing.abort();
                    return;
                }
                Some(Told::Event(event)) => core.step(clock(), event),
                Some(Told::Opened { id, outgoing, event }) => {
                    streams.insert(id, outgoing);
                    core.step(clock(), event)
                }
                Some(Told::Asked { agent, confirm, answer }) => {
                    last_ask += 1;
                    asked.insert(last_ask, answer);
                    core.step(clock(), Event::Asked { ask: last_ask, agent, confirm })
                }
                Some(Told::List { life, change, answer }) => {
                    let (result, actions) = core.change_list(clock(), life, change);
                    let _ = answer.send(result);
                    actions
                }
                Some(Told::Look(look)) => {
                    look(&core);
                    continue;
                }
            },
        };
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            // A stream whose queue is full is behind by more than it could want: it ends, with all that follows.
            let behind = match action {
                Action::Send { id, message } => streams.get(&id).filter(|stream| !stream.send(message)).map(|_| id),
                Action::SendParts { id, parts } => streams.get(&id).filter(|stream| !stream.send_parts(parts)).map(|_| id),
                // The stream ends when what was sent before is through.
                Action::Close { id } => {
                    streams.remove(&id);
                    None
                }
                Action::Write { id, parts } => {
                    let (store, back) = (store.clone(), back.clone());
                    tokio::spawn(async move {
                        let result = store.write(parts).await.map_err(|error| {
                            tracing::error!(%error, "a change was not kept");
                            error.to_string()
                        });
                        tell(&back, Event::Written { id, result }).await;
                    });
                    None
                }
                Action::Stale => {
                    stale.told.notify_one();
                    None
                }
                Action::Answer { ask, answer } => {
                    if let Some(waiting) = asked.remove(&ask) {
                        let _ = waiting.send(answer);
                    }
                    None
                }
            };
            if let Some(id) = behind {
                streams.remove(&id);
                actions.extend(core.step(clock(), Event::Gone { id }));
            }
        }
    }
}

/// Compiles what is rolled out whenever it is stale; of what comes meanwhile, once more is enough.
async fn refresh<S: Store>(weak: Weak<S>) {
    let mut said = None;
    loop {
        weak.stale.told.notified().await;
        let Some(control) = weak.upgrade() else { return };
        let _turn = weak.stale.turn.lock().await;
        let result = control.compile_what_is_wanted().await;
        let why = result.err().map(|error| error.to_string());
        if let Some(why) = why.clone().filter(|why| said.as_ref() != Some(why)) {
            tracing::warn!(why, "what is rolled out does not compile with the nodes of now");
            let body = serde_json::json!({ "why": why });
            let what = Observed::Event(NewEvent { kind: "uncompiled".into(), node: None, body });
            if let Err(error) = control.store.write(vec![Write::Observed { at: (control.clock)(), what }]).await {
                tracing::error!(%error, "an event was not kept");
            }
        }
        said = why;
    }
}

async fn tell(back: &mpsc::WeakSender<Told>, event: Event) {
    if let Some(told) = back.upgrade() {
        let _ = told.send(Told::Event(event)).await;
    }
}

impl<S: Store> Control<S> {
    pub(super) async fn told(&self, told: Told) -> Result<(), ControlError> {
        self.told.send(told).await.map_err(|_| ControlError::Ending)
    }

    /// An answer from the core as it is now.
    pub(crate) async fn look<T: Send + 'static>(&self, look: impl FnOnce(&Core) -> T + Send + 'static) -> Result<T, ControlError> {
        let (answer, answered) = oneshot::channel();
        self.told(Told::Look(Box::new(move |core| drop(answer.send(look(core)))))).await?;
        answered.await.map_err(|_| ControlError::Ending)
    }

    /// Changes a list that all nodes share. Once this is answered, it is in the queue of every agent that is connected,
    /// and others get it when they are; nothing of it is kept over an end of the controller.
    pub async fn change_list(&self, list: ListName, added: Vec<(IpNet, Option<Duration>)>, removed: Vec<IpNet>) -> Result<Accepted, ControlError> {
        let (answer, answered) = oneshot::channel();
        // Drawn by the standard library, for its maps: lives need to differ, and no more.
        let life = RandomState::new().hash_one(0);
        self.told(Told::List { life, change: ListChange { list, added, removed }, answer }).await?;
        Ok(answered.await.map_err(|_| ControlError::Ending)??)
    }

    /// Which nodes have a list as it was at a revision; `None` when there is no such list.
    pub async fn coverage(&self, list: ListName, revision: u64) -> Result<Option<Coverage>, ControlError> {
        self.look(move |core| core.coverage(&list, revision)).await
    }

    pub(super) async fn may_confirm(&self, agent: AgentId, confirm: ringwall_protocol::Confirm) -> Result<Result<Place, Denied>, ControlError> {
        let (answer, answered) = oneshot::channel();
        self.told(Told::Asked { agent, confirm, answer }).await?;
        answered.await.map_err(|_| ControlError::Ending)
    }

    /// The row is another than the core knows: it enrolled, was approved, revoked or placed.
    pub async fn agent_changed(&self, id: AgentId) -> Result<(), ControlError> {
        let row = self.store.read().await?.agent(id).await?;
        if let Some(agent) = row {
            self.told(Told::Event(Event::Agent(agent))).await?;
        }
        self.refresh();
        Ok(())
    }

    /// Who is in the fleet, or with what, is not what was compiled: what is rolled out is compiled anew, soon.
    pub fn refresh(&self) {
        self.stale.told.notify_one();
    }

    async fn compile_what_is_wanted(&self) -> Result<(), ControlError> {
        let (active, wanted) = self.look(|core| (core.rollout().map(|rollout| rollout.revision), core.wanted())).await?;
        if let Some(revision) = active {
            // Begun before this controller was started: what it brings is not known yet.
            if wanted != active {
                let rulesets = self.compile_and_declare(revision).await?;
                self.told(Told::Event(Event::Wanted { revision, rulesets, narrowed: BTreeSet::new(), is_rolled_out: false })).await?;
            }
            return Ok(());
        }
        let Some(revision) = self.rolled_out().await? else { return Ok(()) };
        let rulesets = Arc::new(self.compile_and_declare(revision).await?);
        let changed = {
            let rulesets = rulesets.clone();
            self.look(move |core| rulesets.iter().filter_map(|(name, after)| Some((name.clone(), core.enforced(name)?, after.clone()))).filter(|(_, before, after)| before != after).collect::<Vec<_>>())
        };
        let changed = changed.await?;
        let narrowed = tokio::task::spawn_blocking(move || changed.into_iter().filter(|(_, before, after)| rulesets::narrows(before, after)).map(|(name, ..)| name).collect());
        let narrowed = narrowed.await.map_err(|_| ControlError::Ending)?;
        let rulesets = Arc::unwrap_or_clone(rulesets);
        self.told(Told::Event(Event::Wanted { revision, rulesets, narrowed, is_rolled_out: true })).await
    }

    async fn rolled_out(&self) -> Result<Option<RevisionNumber>, ControlError> {
        let rollouts = self.store.read().await?.rollouts(None, 100).await?;
        Ok(rollouts.into_iter().find(|rollout| rollout.state == State::Done).map(|rollout| rollout.revision))
    }

    /// Whether what is rolled out would still compile with this change of the fleet. What does not compile as it is
    /// can be changed in any way.
    pub async fn try_change(&self, change: impl FnOnce(&mut Inventory)) -> Result<(), ControlError> {
        let Some(revision) = self.rolled_out().await? else { return Ok(()) };
        match self.compile(revision, change).await {
            Err(error @ ControlError::Policy(_)) => match self.compile(revision, |_| ()).await {
                Err(ControlError::Policy(_)) => Ok(()),
                _ => Err(error),
            },
            other => other.map(drop),
        }
    }

    async fn compile(&self, revision: RevisionNumber, change: impl FnOnce(&mut Inventory)) -> Result<Rulesets, ControlError> {
        Ok(self.compile_with(revision, change, |_| ()).await?.0)
    }

    /// The same of what is wanted from now on: its paths are probed.
    async fn compile_and_declare(&self, revision: RevisionNumber) -> Result<Rulesets, ControlError> {
        let now = (self.clock)();
        let (rulesets, declared) = self.compile_with(revision, |_| (), move |policy| Declared::of(revision, policy, now)).await?;
        self.told(Told::Event(Event::Declared(declared.into()))).await?;
        Ok(rulesets)
    }

    async fn compile_with<T: Send + 'static>(
        &self,
        revision: RevisionNumber,
        change: impl FnOnce(&mut Inventory),
        also: impl FnOnce(&Policy) -> T + Send + 'static,
    ) -> Result<(Rulesets, T), ControlError> {
        self.compile_content(self.content(revision).await?, change, also).await
    }

    /// Whether a policy that is no revision yet compiles with the fleet as it is.
    pub async fn check(&self, content: Content) -> Result<(), ControlError> {
        self.compile_content(content, |_| (), |_| ()).await.map(drop)
    }

    async fn compile_content<T: Send + 'static>(
        &self,
        content: Content,
        change: impl FnOnce(&mut Inventory),
        also: impl FnOnce(&Policy) -> T + Send + 'static,
    ) -> Result<(Rulesets, T), ControlError> {
        let mut inventory = self.inventory().await?;
        change(&mut inventory);
        let now = (self.clock)();
        let compiled = tokio::task::spawn_blocking(move || {
            let (rulesets, policy) = rulesets::rulesets(&content, &inventory, now)?;
            Ok::<_, rulesets::Error>((rulesets, also(&policy)))
        });
        Ok(compiled.await.map_err(|_| ControlError::Ending)??)
    }

    /// Ports that the internet reaches on each node under a revision; `None` where that takes too long to find out.
    pub async fn exposure(&self, revision: RevisionNumber) -> Result<Option<BTreeMap<Name, usize>>, ControlError> {
        let (content, inventory) = (self.content(revision).await?, self.inventory().await?);
        let now = (self.clock)();
        let asked = tokio::task::spawn_blocking(move || {
            let policy = rulesets::policy(&content, &inventory, now)?;
            let exposure = exposure(&policy, u64::try_from(now.as_second()).unwrap_or(0), EXPOSURE_BUDGET).ok();
            Ok::<_, rulesets::Error>(exposure.map(|nodes| nodes.iter().map(|(name, exposure)| (name.clone(), Reached::of(exposure).count())).collect()))
        });
        Ok(asked.await.map_err(|_| ControlError::Ending)??)
    }

    /// An error where the internet would reach more of a node than it does under what is rolled out.
    pub async fn exposes_no_more(&self, revision: RevisionNumber) -> Result<(), ControlError> {
        let Some(now) = self.rolled_out().await? else { return Ok(()) };
        let (before, after) = (self.exposure(now).await?, self.exposure(revision).await?);
        let nodes: Vec<_> = match (&before, &after) {
            (Some(before), Some(after)) => {
                let was = |name: &Name| before.get(name).copied().unwrap_or(0);
                after.iter().filter(|(name, count)| **count > was(name)).map(|(name, count)| (name.to_string(), Some(was(name)), Some(*count))).collect()
            }
            _ => vec![("all nodes".to_owned(), before.map(|before| before.values().sum()), after.map(|after| after.values().sum()))],
        };
        if nodes.is_empty() { Ok(()) } else { Err(ControlError::Exposes { revision, nodes }) }
    }

    async fn content(&self, revision: RevisionNumber) -> Result<Content, ControlError> {
        let mut read = self.store.read().await?;
        let row = read.revision(revision).await?.ok_or(ControlError::NoRevision(revision))?;
        read.content(row.content).await?.ok_or(ControlError::NoRevision(revision))
    }

    async fn inventory(&self) -> Result<Inventory, ControlError> {
        let mut read = self.store.read().await?;
        Ok(Inventory { agents: read.agents().await?, settings: read.settings().await?, controllers: self.controllers.clone() })
    }

    /// Brings a revision to all nodes that don't have it, wave by wave.
    pub async fn start_rollout(&self, who: Actor, revision: RevisionNumber, waves: Waves) -> Result<Rollout, ControlError> {
        let rollout = {
            let _turn = self.stale.turn.lock().await;
            self.begin(who, revision, waves).await
        };
        if rollout.is_err() {
            // What is rolled out is wanted as before.
            self.refresh();
        }
        rollout
    }

    async fn begin(&self, who: Actor, revision: RevisionNumber, waves: Waves) -> Result<Rollout, ControlError> {
        // Whoever lacks it gets it anyway; a rollout that went back would take the others to the revision before it.
        if self.rolled_out().await? == Some(revision) {
            return Err(ControlError::Nothing);
        }
        let (rulesets, window) = (self.compile_and_declare(revision).await?, waves.window);
        self.told(Told::Event(Event::Wanted { revision, rulesets, narrowed: BTreeSet::new(), is_rolled_out: false })).await?;
        let (revision, waves) = self.look(move |core| core.waves(&waves)).await?.ok_or(ControlError::NoRevision(revision))?;
        if waves.is_empty() {
            return Err(ControlError::Nothing);
        }
        let change = Change::StartRollout { revision, waves };
        let written = self.store.write(vec![Write::Change(Audited { who, at: (self.clock)(), change })]).await?;
        let [Written::Rollout(number)] = written[..] else { return Err(ControlError::Nothing) };
        let rollout = self.store.read().await?.rollout(number).await?.ok_or(ControlError::NoRollout)?;
        self.told(Told::Event(Event::Began { rollout: rollout.clone(), window })).await?;
        Ok(rollout)
    }

    /// What a rollout of the revision would change.
    pub async fn outdated(&self, revision: RevisionNumber) -> Result<BTreeSet<NodeName>, ControlError> {
        let rulesets = self.compile(revision, |_| ()).await?;
        self.look(move |core| rulesets.iter().filter(|(name, ruleset)| !core.enforces(name, ruleset)).map(|(name, _)| name.clone()).collect()).await
    }

    pub async fn pause(&self, actor: Actor, reason: String) -> Result<(), ControlError> {
        self.order(actor, Command::Pause { reason }).await
    }

    pub async fn resume(&self, actor: Actor) -> Result<(), ControlError> {
        self.order(actor, Command::Resume).await
    }

    pub async fn roll_back(&self, actor: Actor, reason: String) -> Result<(), ControlError> {
        self.order(actor, Command::RollBack { reason }).await
    }

    async fn order(&self, actor: Actor, command: Command) -> Result<(), ControlError> {
        if !self.look(|core| core.rollout().is_some()).await? {
            return Err(ControlError::NoRollout);
        }
        self.told(Told::Event(Event::Ordered { actor, command })).await
    }

    /// What is declared, and what is known of each path, as they are now; `None` before anything is rolled out.
    pub async fn paths<T: Send + 'static>(&self, look: impl FnOnce(&Declared, &[Path]) -> T + Send + 'static) -> Result<Option<T>, ControlError> {
        self.look(|core| core.paths().map(|(declared, paths)| look(declared, paths))).await
    }

    /// Has a node's paths probed now, or all.
    pub async fn look_again(&self, node: Option<NodeName>) -> Result<(), ControlError> {
        self.told(Told::Event(Event::LookAgain(node))).await
    }

    /// Nodes that don't have yet what is rolled out, with the fleet as it is now.
    pub async fn behind(&self) -> Result<BTreeSet<NodeName>, ControlError> {
        self.look(Core::behind).await
    }

    pub async fn connected(&self) -> Result<BTreeSet<NodeName>, ControlError> {
        self.look(Core::connected_nodes).await
    }
}

#[cfg(test)]
mod tests;
