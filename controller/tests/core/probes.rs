//! Probes, from the core to agents that answer, vanish, never answer, answer twice, or lie, by seed.
//!
//! At the end, with the faults over, the core knows of each path between honest nodes what is so. At no time does it know
//! something else of one than was so at some time since it was made.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ringwall_controller::change::{Observed, Write, Written};
use ringwall_controller::core::{Action, Core, Event, Rows, SessionId};
use ringwall_controller::declared::Declared;
use ringwall_controller::id::{Epoch, RevisionNumber};
use ringwall_controller::time::Time;
use ringwall_policy_file::{Input, Values, parse};
use ringwall_probe::{
    DESTINATION_SCHEMA, DestinationLine, Disposition, Line, Listener, Outcome, Packet, Plan, Probe, SOURCE_SCHEMA, SourceLine, TraceVerdict, Try,
    Watching, place,
};
use ringwall_protocol::{Facts, Hello, PLAN_MAX, PROBES, Reason, Refusal, Refused, Role, ToAgent, ToController};
use serde::Serialize;

use super::{Random, agent};

const HISTORIES: u64 = 100;

/// A flow without its source port.
type Flow = (IpAddr, IpAddr, u8, u16);

fn flow(probe: &Probe) -> Flow {
    let (destination, protocol, port) = place(probe);
    (probe.source, destination, protocol, port)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nature {
    Honest,
    /// It says everything twice.
    Twice,
    Mute,
    /// It answers for others, of probes that it has not, and with bytes that are nothing.
    Liar,
    /// It can't be an end of probes.
    Old,
}

struct Node {
    nature: Nature,
    session: Option<SessionId>,
    inbox: VecDeque<ToAgent>,
    outbox: VecDeque<(Time, ToController)>,
    watching: BTreeMap<u64, Plan>,
}

struct World {
    core: Core,
    now: Time,
    random: Random,
    nodes: Vec<Node>,
    sessions: u64,
    /// What is closed; of each flow that ever was, in what follows.
    closed: BTreeSet<Flow>,
    changed: BTreeSet<Flow>,
    events: usize,
    /// Plans that were given out.
    plans: usize,
    /// Seconds until a source has given up on what is closed.
    patience: u64,
}

fn lines<T: Serialize>(schema: &str, lines: Vec<T>) -> Vec<u8> {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, &Line { schema: schema.to_owned(), line }).expect("JSON");
        text.push(b'\n');
    }
    text
}

fn declared(count: usize) -> Arc<Declared> {
    let nodes: String = (0..count).map(|at| format!("  node-{at}: {{ addresses: [192.0.2.{}], labels: {{ role: a }} }}\n", at + 1)).collect();
    let text = format!("nodes:\n{nodes}groups:\n  all: {{ labels: {{ role: a }} }}\nrules:\n  - {{ allow: all <-> all, services: [tcp/443, udp/53] }}\n");
    let parsed = parse(&[Input { name: "policy.yaml".into(), text }], &Values::default(), 1_800_000_000);
    let policy = parsed.policy.unwrap_or_else(|| panic!("{:#?}", parsed.diagnostics));
    Arc::new(Declared::of(RevisionNumber(1), &policy, Time::from_millisecond(1_800_000_000_000)))
}

impl World {
    fn new(seed: u64, natures: &[Nature]) -> Self {
        let now = Time::from_millisecond(1_800_000_000_000);
        let agents = (0..natures.len()).map(agent).collect();
        let core = Core::new(Epoch(1), Rows { agents, ..Rows::default() }, now);
        let node = |nature: &Nature| Node { nature: *nature, session: None, inbox: VecDeque::new(), outbox: VecDeque::new(), watching: BTreeMap::new() };
        let nodes = natures.iter().map(node).collect();
        let mut world = Self {
            core, now, random: Random(seed), nodes, sessions: 0, closed: BTreeSet::new(), changed: BTreeSet::new(), events: 0, plans: 0, patience: 4,
        };
        world.step(Event::Declared(declared(natures.len())));
        world
    }

    fn step(&mut self, event: Event) {
        for action in self.core.step(self.now, event) {
            match action {
                Action::Send { id, message } => {
                    let node = self.nodes.iter_mut().find(|node| node.session == Some(id));
                    let Some(node) = node else { continue };
                    if let ToAgent::Probes { plan, .. } = &message {
                        self.plans += 1;
                        assert!(node.nature != Nature::Old && plan.len() < PLAN_MAX, "{:?}: {}", node.nature, plan.len());
                    }
                    node.inbox.push_back(message);
                }
                Action::Write { id, parts } => {
                    let is_path = |part: &&Write| matches!(part, Write::Observed { what: Observed::Event(event), .. } if event.kind == "path");
                    self.events += parts.iter().filter(is_path).count();
                    let written = parts.iter().map(|_| Written::Nothing).collect();
                    self.step(Event::Written { id, result: Ok(written) });
                }
                _ => {}
            }
        }
    }

    fn connect(&mut self, at: usize) {
        self.leave(at);
        self.sessions += 1;
        let id = SessionId(self.sessions);
        self.nodes[at].session = Some(id);
        let features = if self.nodes[at].nature == Nature::Old { Vec::new() } else { vec![PROBES.to_owned()] };
        let hello = Hello {
            versions: ringwall_protocol::VERSIONS, features, agent: "1".into(), boot: [1; 16], taken: None, confirmed: None, generation: 0,
            lists: Vec::new(), facts: Facts::default(),
        };
        self.step(Event::Connected { id, agent: agent(at).id, session: [0; 16], hello: Box::new(hello) });
    }

    fn leave(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        (node.inbox, node.outbox, node.watching) = Default::default();
        if let Some(id) = node.session.take() {
            self.step(Event::Gone { id });
        }
    }

    /// The agent takes a message; what it says goes on its way.
    fn take(&mut self, at: usize) {
        let Some(message) = self.nodes[at].inbox.pop_front() else { return };
        let nature = self.nodes[at].nature;
        let mut say = Vec::new();
        match message {
            ToAgent::Probes { id, role: Role::Source, plan } => {
                let plan = Plan::read(&plan[..]).expect("a plan");
                let tried = |probe: &Probe| {
                    let outcome = if self.closed.contains(&flow(probe)) { Outcome::Silent } else { Outcome::Answered { tls: None } };
                    SourceLine::Tried { id: probe.id, which: Try::Plain, outcome }
                };
                let all: Vec<SourceLine> = plan.probes.iter().map(tried).chain([SourceLine::Done]).collect();
                let is_slow = all.iter().any(|line| matches!(line, SourceLine::Tried { outcome: Outcome::Silent, .. }));
                say.push((if is_slow { self.patience } else { 0 }, id, lines(SOURCE_SCHEMA, all)));
            }
            ToAgent::Probes { id, role: Role::Destination, plan } => {
                let plan = Plan::read(&plan[..]).expect("a plan");
                let places: BTreeSet<_> = plan.probes.iter().map(place).collect();
                let listener = |(destination, protocol, port)| DestinationLine::Listener { destination, protocol, port, state: Listener::Theirs };
                let all = places.into_iter().map(listener).chain([DestinationLine::Ready { watching: Watching::Yes }]).collect();
                say.push((0, id, lines(DESTINATION_SCHEMA, all)));
                self.nodes[at].watching.insert(id, plan);
            }
            ToAgent::EndProbes(id) => {
                let Some(plan) = self.nodes[at].watching.remove(&id) else { return };
                let traced = |probe: &Probe| {
                    let verdict = if self.closed.contains(&flow(probe)) { TraceVerdict::Drop } else { TraceVerdict::Accept };
                    DestinationLine::Traced { id: probe.id, which: Try::Plain, table: "ringwall".into(), chain: "g1_in_default".into(), verdict }
                };
                let with_ports = plan.probes.iter().filter(|probe| matches!(probe.packet, Packet::Tcp { .. } | Packet::Udp { .. }));
                say.push((0, id, lines(DESTINATION_SCHEMA, with_ports.map(traced).chain([DestinationLine::Done]).collect())));
            }
            _ => return,
        }
        for (seconds, id, text) in say {
            let at_time = self.now.after(Duration::from_secs(seconds));
            let message = |id, text: Vec<u8>| ToController::Observations { id, observations: text.into() };
            let outbox = &mut self.nodes[at].outbox;
            match nature {
                Nature::Mute | Nature::Old => {}
                Nature::Honest => outbox.push_back((at_time, message(id, text))),
                Nature::Twice => outbox.extend([(at_time, message(id, text.clone())), (at_time, message(id, text))]),
                Nature::Liar => {
                    // Of all probes that there may be, that nothing is open; under its own order's id, and those of others.
                    let lie = |id| SourceLine::Tried { id, which: Try::Plain, outcome: Outcome::Silent };
                    let all = lines(SOURCE_SCHEMA, (0..40).map(lie).collect());
                    let seen = |id| DestinationLine::Traced { id, which: Try::Plain, table: "x".into(), chain: "y".into(), verdict: TraceVerdict::Drop };
                    let all_seen = lines(DESTINATION_SCHEMA, (0..40).map(seen).collect());
                    for near in id.saturating_sub(4)..id + 4 {
                        outbox.extend([(at_time, message(near, all.clone())), (at_time, message(near, all_seen.clone()))]);
                    }
                    match self.random.below(4) {
                        0 => outbox.push_back((at_time, message(id, b"{\"schema\":1}\n\xff".to_vec()))),
                        1 => {
                            let refusal = Refusal { what: Refused::Probes(id.saturating_sub(1)), reason: Reason::Kernel, detail: "no".into() };
                            outbox.push_back((at_time, ToController::Refusal(refusal)));
                        }
                        _ => outbox.push_back((at_time, message(id, text))),
                    }
                }
            }
        }
    }

    /// The core hears what an agent said.
    fn hear(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let (Some(id), Some((due, _))) = (node.session, node.outbox.front()) else { return };
        if *due <= self.now {
            let (_, message) = node.outbox.pop_front().expect("it is there");
            self.step(Event::Said { id, message });
        }
    }

    fn second(&mut self) {
        self.now = self.now.after(Duration::from_secs(1));
        self.step(Event::Tick);
        // Streams live.
        for at in 0..self.nodes.len() {
            if let Some(id) = self.nodes[at].session {
                self.step(Event::Said { id, message: ToController::Heartbeat(1) });
            }
        }
    }

    /// Until nobody has anything to say in this second.
    fn settle(&mut self) {
        loop {
            let is_busy = |node: &Node| !node.inbox.is_empty() || node.outbox.front().is_some_and(|(due, _)| *due <= self.now);
            if !self.nodes.iter().any(is_busy) {
                return;
            }
            for at in 0..self.nodes.len() {
                self.take(at);
                self.hear(at);
            }
        }
    }

    fn is_honest(&self, machine: usize) -> bool {
        matches!(self.nodes[machine].nature, Nature::Honest | Nature::Twice)
    }

    /// Paths between honest nodes of which something else is known than is so.
    fn wrong(&self, is_wrong: impl Fn(Flow, Disposition) -> bool) -> Vec<String> {
        let (declared, paths) = self.core.paths().expect("paths");
        let mut wrong = Vec::new();
        for (case, path) in declared.matrix.cases.iter().zip(paths) {
            // Machines are by name: node-10 comes before node-2.
            let honest = |machines: &[usize]| machines.iter().all(|machine| self.is_honest(declared.machines[*machine].name[5..].parse().expect("a number")));
            if !honest(&case.sources) || !honest(&case.destinations) || !matches!(case.probe.packet, Packet::Tcp { .. } | Packet::Udp { .. }) {
                continue;
            }
            let found = path.known.map_or(Disposition::Unknown, |known| known.disposition);
            if is_wrong(flow(&case.probe), found) {
                let why = path.finding.as_ref().map(|finding| finding.reason.as_str());
                wrong.push(format!("{:?}: {found}, {why:?}", flow(&case.probe)));
            }
        }
        wrong
    }
}

fn so(closed: bool) -> Disposition {
    if closed { Disposition::Dropped } else { Disposition::Open }
}

#[test]
fn what_is_so_between_honest_nodes_is_known_whatever_the_others_do() {
    let (mut events, mut changes) = (0, 0);
    for seed in 0..HISTORIES {
        let mut random = Random(seed);
        let natures = [Nature::Honest, Nature::Honest, Nature::Twice, Nature::Mute, Nature::Liar, Nature::Old];
        let mut all: Vec<Nature> = (0..4 + random.below(3)).map(|_| natures[random.below(natures.len())]).collect();
        all[..2].fill(Nature::Honest);
        let mut world = World::new(seed, &all);
        for at in 0..all.len() {
            world.connect(at);
        }
        for _ in 0..300 {
            let at = world.random.below(all.len());
            match world.random.below(40) {
                0 => world.leave(at),
                1 | 2 => world.connect(at),
                3 => world.step(Event::LookAgain(None)),
                4 => {
                    let (declared, _) = world.core.paths().expect("paths");
                    let cases = &declared.matrix.cases;
                    let flow = flow(&cases[world.random.below(cases.len())].probe);
                    world.changed.insert(flow);
                    if !world.closed.remove(&flow) {
                        world.closed.insert(flow);
                    }
                }
                5..=8 => world.second(),
                9..=24 => world.take(at),
                _ => world.hear(at),
            }
        }
        let odd = world.wrong(|flow, found| found != Disposition::Unknown && !world.changed.contains(&flow) && found != Disposition::Open);
        assert_eq!(odd, [] as [String; 0], "seed {seed}: {all:?}");
        // The faults are over, but for what the nodes are.
        for at in 0..all.len() {
            world.connect(at);
        }
        world.step(Event::LookAgain(None));
        for _ in 0..140 {
            world.settle();
            world.second();
        }
        let plans = world.plans;
        for _ in 0..100 {
            world.settle();
            world.second();
        }
        // What nobody can look at hurries nobody.
        assert!(world.plans - plans <= 11 * 2 * all.len(), "seed {seed}: {} plans in 100 s", world.plans - plans);
        let odd = world.wrong(|flow, found| found != so(world.closed.contains(&flow)));
        assert_eq!(odd, [] as [String; 0], "seed {seed}: {all:?}");
        events += world.events;
        changes += world.changed.len();
    }
    assert!(events > 0 && changes > 100, "{events} events, {changes} changes: nothing was tried");
}

#[test]
fn fifty_nodes_are_looked_at_within_a_minute_and_again_in_their_turn() {
    let mut world = World::new(1, &[Nature::Honest; 50]);
    // What no rule allows is closed, and each of those takes its source all its patience.
    let (declared, _) = world.core.paths().expect("paths");
    world.closed = declared.matrix.cases.iter().filter(|case| !case.expectation.open).map(|case| flow(&case.probe)).collect();
    let count = declared.matrix.cases.len();
    assert!(count > 10_000, "{count}");
    for at in 0..50 {
        world.connect(at);
    }
    let mut seconds = 0;
    while world.core.paths().expect("paths").1.iter().any(|path| path.is_waiting()) {
        world.settle();
        world.second();
        seconds += 1;
        assert!(seconds < 60, "{count} paths take more than a minute");
    }
    println!("{count} paths of 50 nodes: {seconds} s");
    assert_eq!(world.wrong(|flow, found| found != so(world.closed.contains(&flow))), [] as [String; 0]);
    // One that closes is an event within a quarter of an hour, though nobody asks.
    let events = world.events;
    let flow = declared_flow(&world);
    world.closed.insert(flow);
    for _ in 0..900 {
        world.settle();
        world.second();
    }
    assert_eq!(world.events, events + 1);
}

fn declared_flow(world: &World) -> Flow {
    let (declared, _) = world.core.paths().expect("paths");
    let open = declared.matrix.cases.iter().rfind(|case| case.expectation.open).expect("one that is open");
    flow(&open.probe)
}
