//! The controller's core with a real store and agents that come, go, refuse and fail, by seed.
//!
//! In each history a first revision is brought to all nodes, then a second one, which some nodes may not be able
//! to take. After every step: nothing is sent that is not kept, no wave runs ahead of the one before, only the newest
//! assignment may be confirmed. At the end, with the faults over: all have the second revision, or all that are
//! there are back at the first.

mod lists;
mod probes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ringwall_controller::agent::{Agent, Keys, Place, Standing};
use ringwall_controller::assignment;
use ringwall_controller::audit::{Actor, Audited};
use ringwall_controller::change::{Change, Write, Written};
use ringwall_controller::core::{Action, Core, Event, Rows, SessionId, Waves, WriteId};
use ringwall_controller::fleet::Fleet;
use ringwall_controller::id::{AgentId, Digest, Epoch, FleetId, NodeName, RevisionNumber, TokenId};
use ringwall_controller::revision::{Content, NewRevision, Source};
use ringwall_controller::rollout;
use ringwall_controller::store::{Keep, Memory, Read, Store};
use ringwall_controller::time::Time;
use ringwall_protocol as protocol;
use ringwall_protocol::{Ack, Facts, Hello, Reason, Refusal, Refused, Stage, ToAgent, ToController};

const HISTORIES: u64 = 300;

/// Good enough to draw faults from: SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("below end")
    }

    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// An agent as far as the controller sees it.
#[derive(Default)]
struct Node {
    id: Option<AgentId>,
    session: Option<SessionId>,
    inbox: VecDeque<ToAgent>,
    taken: Option<protocol::Assignment>,
    confirmed: Option<protocol::Assignment>,
    /// Of the newest that it took over.
    stage: Option<Stage>,
    /// It can't load this revision.
    cannot: Option<String>,
    /// Rulesets that it has confirmed, by place.
    history: Vec<protocol::Place>,
}

struct World {
    runtime: tokio::runtime::Runtime,
    store: Memory,
    core: Core,
    now: Time,
    random: Random,
    nodes: BTreeMap<NodeName, Node>,
    writes: VecDeque<(WriteId, Vec<Write>)>,
    answers: BTreeMap<u64, Result<protocol::Place, ringwall_controller::core::Denied>>,
    last: u64,
    /// Faults happen.
    is_rough: bool,
    /// The first revision was rolled out.
    has_first: bool,
    /// The store could not keep what the core wants: it is not asked again before the next tick.
    is_stalled: bool,
}

fn name(at: usize) -> NodeName {
    format!("node-{at}").parse().expect("a name")
}

/// Whether the core wants it kept to go on, rather than that an agent said it.
fn is_wanted(parts: &[Write]) -> bool {
    parts.iter().any(|part| matches!(part, Write::Change(Audited { change: Change::Assign(_) | Change::StepRollout { .. }, .. })))
}

fn rulesets(count: usize, revision: &str) -> BTreeMap<NodeName, Arc<[u8]>> {
    (0..count).map(|at| (name(at), format!("{revision} for {at}").into_bytes().into())).collect()
}

fn agent(at: usize) -> Agent {
    let byte = u8::try_from(at).expect("few nodes");
    Agent {
        id: AgentId::new([byte; 16]),
        node: name(at),
        place: Place::default(),
        reported: BTreeSet::new(),
        keys: Keys { newest: Digest([byte; 32]), previous: None },
        certificate_expires: Time::from_millisecond(i64::MAX),
        standing: Standing::Approved,
        token: TokenId::new([0; 16]),
        enrolled: Time::from_millisecond(0),
    }
}

impl World {
    fn new(seed: u64, count: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let store = Memory::new(Keep::default());
        let now = Time::from_millisecond(1_800_000_000_000);
        let agents: Vec<Agent> = (0..count).map(agent).collect();
        let nodes = agents.iter().map(|agent| (agent.node.clone(), Node { id: Some(agent.id), ..Node::default() })).collect();
        let core = Core::new(Epoch(1), Rows { agents, ..Rows::default() }, now);
        let mut world = Self {
            runtime, store, core, now, nodes,
            random: Random(seed), writes: VecDeque::new(), answers: BTreeMap::new(), last: 0, is_rough: true, has_first: false, is_stalled: false,
        };
        world.keep(Change::Found(Fleet { id: FleetId::new([1; 16]), epoch: Epoch(1), ca: Digest([1; 32]), created: now }));
        for text in ["first", "second"] {
            let content = Content { files: [("policy.yaml".to_owned(), text.to_owned())].into(), ..Content::default() };
            world.keep(Change::Commit(NewRevision { content, author: "a test".into(), message: text.into(), source: Source::Cli }));
        }
        world
    }

    fn keep(&mut self, change: Change) {
        let part = Write::Change(Audited { who: Actor::Local("root".into()), at: self.now, change });
        self.runtime.block_on(self.store.write(vec![part])).expect("it is kept");
    }

    fn step(&mut self, event: Event) {
        let is_tick = matches!(event, Event::Tick);
        self.is_stalled &= !is_tick;
        let actions = self.core.step(self.now, event);
        for action in actions {
            match action {
                Action::Send { id, message } => {
                    if let ToAgent::Assignment(assignment) = &message {
                        self.check_kept(id, assignment);
                    }
                    let to = self.nodes.values_mut().find(|node| node.session == Some(id));
                    if let Some(node) = to {
                        node.inbox.push_back(message);
                    }
                }
                // Agents here take no lists.
                Action::SendParts { id, .. } => panic!("{id:?} was sent a list"),
                Action::Close { id } => {
                    if let Some(node) = self.nodes.values_mut().find(|node| node.session == Some(id)) {
                        node.session = None;
                        node.inbox.clear();
                    }
                }
                Action::Write { id, parts } => {
                    assert!(!self.is_stalled || !is_wanted(&parts), "a store that is full is asked again and again");
                    self.writes.push_back((id, parts));
                }
                // Who is in the fleet does not change here.
                Action::Stale => {}
                Action::Answer { ask, answer } => drop(self.answers.insert(ask, answer)),
            }
        }
        self.check_waves();
    }

    /// What is sent is what the store has, under its number.
    fn check_kept(&self, id: SessionId, assignment: &protocol::Assignment) {
        let Some((node, _)) = self.nodes.iter().find(|(_, node)| node.session == Some(id)) else { return };
        let number = ringwall_controller::id::AssignmentNumber(assignment.place.number);
        let kept = self.runtime.block_on(async {
            let mut read = self.store.read().await.expect("a snapshot");
            read.ruleset(node, number).await.expect("an answer")
        });
        assert_eq!(kept.as_deref(), Some(&assignment.ruleset[..]), "{node} got what is not kept");
    }

    /// While a rollout is in one of its waves, no node of a later one has anything of it.
    fn check_waves(&self) {
        let Some(rollout) = self.core.rollout() else { return };
        let rollout::State::Running { wave } = rollout.state else { return };
        for node in rollout.waves.iter().skip(wave + 1).flatten() {
            let newest = self.core.node(node).and_then(|(newest, _)| newest);
            assert!(newest.is_none_or(|newest| newest.revision != rollout.revision), "{node} is ahead of wave {wave}: {rollout:#?}");
        }
    }

    fn store_one(&mut self) {
        let Some((id, parts)) = self.writes.pop_front() else { return };
        // A full disk, say: it is told so, and nothing of it is kept.
        let result = if self.is_rough && self.random.once_in(12) {
            self.is_stalled |= is_wanted(&parts);
            Err("no space left".to_owned())
        } else {
            self.runtime.block_on(self.store.write(parts)).map_err(|error| error.to_string())
        };
        self.step(Event::Written { id, result: result.map(|written: Vec<Written>| written) });
    }

    fn connect(&mut self, node: &NodeName) {
        self.last += 1;
        let id = SessionId(self.last);
        let own = self.nodes.get_mut(node).expect("a node");
        own.session = Some(id);
        own.inbox.clear();
        let hello = Hello {
            versions: protocol::VERSIONS,
            features: Vec::new(),
            agent: "0.1.0".into(),
            boot: [0; 16],
            taken: own.taken.as_ref().map(|taken| taken.place),
            confirmed: own.confirmed.as_ref().map(|confirmed| confirmed.place),
            generation: 0,
            lists: Vec::new(),
            facts: Facts::default(),
        };
        let (agent, place, stage) = (own.id.expect("enrolled"), hello.taken, own.stage);
        let refused = own.taken.is_some() && own.stage.is_none();
        self.step(Event::Connected { id, agent, session: [0; 16], hello: Box::new(hello) });
        // What was lost is said again.
        match (place, stage) {
            (Some(place), Some(stage)) => self.say(node, ToController::Ack(Ack::Assignment { place, stage, generation: 1 })),
            (Some(place), None) if refused => self.refuse(node, place),
            _ => {}
        }
    }

    fn say(&mut self, node: &NodeName, message: ToController) {
        let Some(id) = self.nodes[node].session else { return };
        // On a connection that breaks, a message is lost, and the connection with it.
        if self.is_rough && self.random.once_in(20) {
            return self.disconnect(node);
        }
        self.step(Event::Said { id, message });
    }

    fn refuse(&mut self, node: &NodeName, place: protocol::Place) {
        let refusal = Refusal { what: Refused::Assignment(place), reason: Reason::Kernel, detail: "it has no such expression".into() };
        self.say(node, ToController::Refusal(refusal));
    }

    fn disconnect(&mut self, node: &NodeName) {
        let own = self.nodes.get_mut(node).expect("a node");
        own.inbox.clear();
        if let Some(id) = own.session.take() {
            self.step(Event::Gone { id });
        }
    }

    /// A node takes its next message, or goes on with its trial.
    fn act(&mut self, node: &NodeName) {
        let is_rough = self.is_rough;
        let falls = is_rough && self.random.once_in(15);
        let own = self.nodes.get_mut(node).expect("a node");
        if let Some(message) = own.inbox.pop_front() {
            let ToAgent::Assignment(assignment) = message else { return };
            let place = assignment.place;
            assert!(own.confirmed.as_ref().is_none_or(|confirmed| confirmed.place <= place), "{node} was sent what is older than it has");
            let cannot = own.cannot.as_ref() == Some(&assignment.revision);
            own.taken = Some(assignment);
            own.stage = (!cannot).then_some(Stage::Trial);
            return match cannot {
                true => self.refuse(node, place),
                false => self.say(node, ToController::Ack(Ack::Assignment { place, stage: Stage::Trial, generation: 1 })),
            };
        }
        if own.stage != Some(Stage::Trial) || own.session.is_none() {
            return;
        }
        let taken = own.taken.clone().expect("on trial");
        let agent = own.id.expect("enrolled");
        self.last += 1;
        let ask = self.last;
        let confirm = protocol::Confirm { session: None, place: taken.place, digest: taken.digest };
        self.step(Event::Asked { ask, agent, confirm });
        let answer = self.answers.remove(&ask).expect("it is answered at once");
        let newest = self.core.node(node).and_then(|(newest, _)| newest.map(|newest| newest.number.0));
        let own = self.nodes.get_mut(node).expect("a node");
        let stage = match answer {
            Ok(place) if !falls => {
                assert_eq!(Some(place.number), newest, "only the newest may be confirmed");
                own.history.push(place);
                own.confirmed = Some(taken.clone());
                Stage::Confirmed
            }
            _ => Stage::Fell,
        };
        own.stage = Some(stage);
        self.say(node, ToController::Ack(Ack::Assignment { place: taken.place, stage, generation: 1 }));
    }

    fn anything(&mut self) {
        let names: Vec<NodeName> = self.nodes.keys().cloned().collect();
        let node = names[self.random.below(names.len())].clone();
        match self.random.below(12) {
            0 if self.is_rough => self.disconnect(&node),
            1 | 2 if self.nodes[&node].session.is_none() => self.connect(&node),
            3..=7 => self.act(&node),
            8 => {
                self.now = self.now.after(Duration::from_secs(1));
                self.step(Event::Tick);
            }
            _ => self.store_one(),
        }
    }

    fn roll(&mut self, revision: u64, text: &str) {
        let count = self.nodes.len();
        self.step(Event::Wanted { revision: RevisionNumber(revision), rulesets: rulesets(count, text), narrowed: BTreeSet::new(), is_rolled_out: false });
        let waves = Waves { canary: BTreeSet::new(), percents: vec![30], ..Waves::default() };
        let (revision, waves) = self.core.waves(&waves).expect("something is wanted");
        self.keep(Change::StartRollout { revision, waves });
        let rollout = self.runtime.block_on(async { self.store.read().await.expect("a snapshot").active_rollout().await.expect("a row") });
        if let Some(rollout) = rollout {
            self.step(Event::Began { rollout, window: 60 });
        }
    }

    /// Everything that is under way comes to its end.
    fn settle(&mut self) {
        self.is_rough = false;
        for _ in 0..20_000 {
            self.anything();
            // What a rollout did not bring is wanted no longer: what was before is.
            if self.core.rollout().is_none() && self.core.waves(&Waves::default()).is_none() && self.has_first {
                self.step(Event::Wanted { revision: RevisionNumber(1), rulesets: rulesets(self.nodes.len(), "first"), narrowed: BTreeSet::new(), is_rolled_out: true });
            }
            let is_quiet = self.writes.is_empty()
                && self.core.rollout().is_none()
                && (!self.has_first || self.core.outdated().is_empty())
                && self.nodes.values().all(|node| node.session.is_some() && node.inbox.is_empty() && node.stage != Some(Stage::Trial));
            if is_quiet {
                return;
            }
        }
        panic!("it does not come to an end: {:#?}", self.core.rollout());
    }

    fn revisions(&self) -> BTreeMap<&NodeName, Option<&str>> {
        self.nodes.iter().map(|(name, node)| (name, node.confirmed.as_ref().map(|confirmed| confirmed.revision.as_str()))).collect()
    }
}

#[test]
fn rollouts_end_with_all_or_with_nothing_new() {
    let (mut done, mut back) = (0, 0);
    for seed in 0..HISTORIES {
        let mut world = World::new(seed, 7);
        world.settle();
        world.roll(1, "first");
        world.settle();
        world.has_first = true;
        assert!(world.revisions().values().all(|revision| *revision == Some("1")), "seed {seed}: {:?}", world.revisions());
        let who_cannot = if world.random.once_in(2) { Some(world.random.below(7)) } else { None };
        if let Some(at) = who_cannot {
            world.nodes.get_mut(&name(at)).expect("a node").cannot = Some("2".into());
        }
        world.is_rough = true;
        world.roll(2, "second");
        for _ in 0..world.random.below(300) {
            world.anything();
        }
        world.settle();
        let rollouts = world.runtime.block_on(async { world.store.read().await.expect("a snapshot").rollouts(None, 1).await.expect("rows") });
        match &rollouts[0].state {
            rollout::State::Done => {
                assert_eq!(who_cannot, None, "seed {seed}: a node can't, and it is done: {:?}", world.revisions());
                assert!(world.revisions().values().all(|revision| *revision == Some("2")), "seed {seed}: {:?}", world.revisions());
                done += 1;
            }
            rollout::State::Stopped { rolled_back: true, .. } => {
                assert!(world.revisions().values().all(|revision| *revision == Some("1")), "seed {seed}: {:?}", world.revisions());
                back += 1;
            }
            rollout::State::Running { .. } | rollout::State::Paused { .. } | rollout::State::RollingBack { .. } | rollout::State::Stopped { .. } => {
                panic!("seed {seed}: {:#?}", rollouts[0]);
            }
        }
        // Nobody went back to a place that it had left.
        for (node, own) in &world.nodes {
            assert!(own.history.windows(2).all(|pair| pair[0] <= pair[1]), "seed {seed}: {node}: {:?}", own.history);
        }
    }
    assert!(done > 30 && back > 100, "{done} done, {back} back");
}

#[test]
fn the_first_wave_is_one_node_and_those_that_are_away_come_last() {
    let nodes: BTreeSet<NodeName> = (0..20).map(name).collect();
    let connected: BTreeSet<NodeName> = (5..20).map(name).collect();
    let waves = Waves::default().of(&nodes, &connected);
    assert_eq!(waves.iter().map(BTreeSet::len).collect::<Vec<_>>(), [1, 2, 17]);
    assert!(connected.is_superset(&waves[0]) && connected.is_superset(&waves[1]));
    let named = Waves { canary: [name(3)].into(), percents: vec![], ..Waves::default() }.of(&nodes, &connected);
    assert_eq!((named[0].clone(), named.len()), ([name(3)].into(), 2));
    assert!(Waves::default().of(&BTreeSet::new(), &connected).is_empty());
}

/// A controller that is started anew has no connections yet: that is no reason to call a wave over.
#[test]
fn a_wave_is_not_over_because_the_controller_was_killed() {
    let mut world = World::new(1, 2);
    world.is_rough = false;
    world.connect(&name(0));
    world.roll(1, "first");
    world.store_one();
    let rows = ringwall_controller::server::load(&world.store, world.now);
    world.core = world.runtime.block_on(rows).expect("rows");
    world.writes.clear();
    world.nodes.values_mut().for_each(|node| node.session = None);
    world.step(Event::Wanted { revision: RevisionNumber(1), rulesets: rulesets(2, "first"), narrowed: BTreeSet::new(), is_rolled_out: false });
    for seconds in 0..100 {
        let state = world.core.rollout().map(|rollout| rollout.state.clone());
        if seconds < 90 {
            assert_eq!(state, Some(rollout::State::Running { wave: 0 }), "after {seconds} s");
        }
        world.now = world.now.after(Duration::from_secs(1));
        world.step(Event::Tick);
        while !world.writes.is_empty() {
            world.store_one();
        }
    }
    assert_ne!(world.core.rollout().map(|rollout| rollout.state.clone()), Some(rollout::State::Running { wave: 0 }), "nor does it wait for ever");
}

/// A node may have been given the revision before the rollout began: its time runs from then on all the same.
#[test]
fn a_wave_is_not_over_because_its_node_had_its_assignment_before() {
    let mut world = World::new(1, 1);
    world.settle();
    world.roll(1, "first");
    world.settle();
    let wanted = Event::Wanted { revision: RevisionNumber(1), rulesets: rulesets(1, "changed"), narrowed: BTreeSet::new(), is_rolled_out: true };
    world.step(wanted);
    world.store_one();
    for _ in 0..600 {
        world.now = world.now.after(Duration::from_secs(1));
        // Nobody but the store and the clock does anything.
        world.nodes.keys().cloned().collect::<Vec<_>>().iter().for_each(|node| world.say(node, ToController::Heartbeat(1)));
    }
    world.roll(1, "changed");
    world.nodes.keys().cloned().collect::<Vec<_>>().iter().for_each(|node| world.disconnect(node));
    for seconds in 0..90 {
        assert_eq!(world.core.rollout().map(|rollout| rollout.state.clone()), Some(rollout::State::Running { wave: 0 }), "after {seconds} s");
        world.now = world.now.after(Duration::from_secs(1));
        world.step(Event::Tick);
        while !world.writes.is_empty() {
            world.store_one();
        }
    }
}

/// A calendar that is set back by a day, or on, changes nothing of what is waited for.
#[test]
fn a_wave_waits_for_who_is_away_by_no_calendar() {
    for jump in [-86_400, 86_400] {
        let mut world = World::new(1, 2);
        world.is_rough = false;
        world.connect(&name(0));
        world.roll(1, "first");
        let is_done = |world: &World| world.core.rollout().is_none();
        let mut seconds = 0;
        while !is_done(&world) {
            if seconds == 30 {
                world.now = Time::from_millisecond(world.now.as_millisecond() + jump * 1000);
            }
            world.now = world.now.after(Duration::from_secs(1));
            world.step(Event::Tick);
            for _ in 0..4 {
                world.act(&name(0));
                world.store_one();
            }
            seconds += 1;
            assert!(seconds < 120, "it waits for {:?}", world.core.rollout());
        }
        assert!(seconds > 5, "who is away gets some time");
        assert_eq!(world.core.outdated(), [name(1)].into(), "and is named");
    }
}

/// What is to be done for each of many nodes that come back at once is not done by looking at all of them for each.
#[test]
fn a_large_fleet_that_comes_back_gets_what_it_lacks_with_the_next_tick() {
    const NODES: usize = 250;
    let mut world = World::new(1, NODES);
    world.is_rough = false;
    world.step(Event::Wanted { revision: RevisionNumber(1), rulesets: rulesets(NODES, "first"), narrowed: BTreeSet::new(), is_rolled_out: true });
    (0..NODES).for_each(|at| world.connect(&name(at)));
    let assigned = |world: &World| world.writes.iter().filter(|(_, parts)| is_wanted(parts)).count();
    assert_eq!(assigned(&world), 0);
    world.now = world.now.after(Duration::from_secs(1));
    world.step(Event::Tick);
    assert_eq!(assigned(&world), 1, "all of them in one transaction");
}

#[test]
fn who_is_revoked_is_told_and_let_go() {
    let mut world = World::new(1, 2);
    world.is_rough = false;
    world.connect(&name(0));
    world.step(Event::Agent(Agent { standing: Standing::Revoked { at: world.now, reason: "stolen".into() }, ..agent(0) }));
    assert_eq!(world.nodes[&name(0)].session, None);
    world.connect(&name(0));
    assert_eq!(world.nodes[&name(0)].session, None);
    let confirm = protocol::Confirm { session: None, place: protocol::Place { epoch: 1, number: 1 }, digest: [0; 32] };
    world.step(Event::Asked { ask: 9, agent: agent(0).id, confirm });
    assert!(world.answers[&9].is_err());
    assert!(world.core.node(&name(0)).is_some_and(|(newest, is_connected)| newest.is_none() && !is_connected));
}

/// Who is in the fleet changes: those that only gain have theirs before anybody loses something.
#[test]
fn a_changed_membership_reaches_who_gains_first() {
    for seed in 0..50 {
        let mut world = World::new(seed, 4);
        world.settle();
        world.roll(1, "first");
        world.settle();
        let wanted = |text: &str, narrowed: &[usize]| {
            let narrowed = narrowed.iter().copied().map(name).collect();
            Event::Wanted { revision: RevisionNumber(1), rulesets: rulesets(4, text), narrowed, is_rolled_out: true }
        };
        world.step(wanted("changed", &[1, 3]));
        let has_it = |world: &World, at: usize| {
            let newest = world.core.node(&name(at)).and_then(|(newest, _)| newest.cloned()).expect("an assignment");
            (newest.digest == Digest::of(format!("changed for {at}").as_bytes())).then_some(newest.state)
        };
        let mut steps = 0;
        while !(0..4).all(|at| has_it(&world, at) == Some(assignment::State::Confirmed)) {
            world.anything();
            if [1, 3].iter().any(|at| has_it(&world, *at).is_some()) {
                let first = [0, 2].map(|at| has_it(&world, at));
                assert!(first.iter().all(|state| *state == Some(assignment::State::Confirmed)), "seed {seed}: {first:?}");
            }
            steps += 1;
            assert!(steps < 20_000, "seed {seed}: it does not come to an end");
        }
    }
}

/// A node that can't take what is wanted is not asked at each event, and holds up nobody else's.
#[test]
fn a_changed_membership_that_a_node_refuses_is_tried_again_after_a_minute() {
    let mut world = World::new(1, 2);
    world.settle();
    world.roll(1, "first");
    world.settle();
    world.nodes.get_mut(&name(0)).expect("a node").cannot = Some("1".into());
    let wanted = Event::Wanted { revision: RevisionNumber(1), rulesets: rulesets(2, "changed"), narrowed: [name(1)].into(), is_rolled_out: true };
    world.step(wanted);
    let state = |world: &World, at: usize| world.core.node(&name(at)).and_then(|(newest, _)| newest.cloned()).expect("an assignment");
    for _ in 0..2_000 {
        world.anything();
    }
    assert_eq!(state(&world, 1).state, assignment::State::Confirmed);
    assert_eq!(state(&world, 1).digest, Digest::of(b"changed for 1"));
    let tally = world.core.tally();
    assert!(tally.confirmed == 3 && tally.refused + tally.fell > 0, "two of the first, one of what changed: {tally:?}");
    let failed = state(&world, 0);
    assert!(matches!(failed.state, assignment::State::Refused(_) | assignment::State::Fell(_)), "{:?}", failed.state);
}
