//! Lists, from the core to agents that come, lag, go and begin anew, by seed; and a controller that does.
//!
//! At the end, with the faults over, each agent has just what the core has. At no time does an agent that said it has a
//! revision still have what was taken out by then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use ipnet::IpNet;
use ringwall_controller::agent::Agent;
use ringwall_controller::core::{Action, Core, Event, ListChange, NotListed, Rows, SessionId, Unlisted};
use ringwall_controller::id::{Epoch, ListName};
use ringwall_controller::time::Time;
use ringwall_protocol::{Ack, Change, ELEMENTS_MAX, Facts, Hello, List, ListRevision, Reason, Refusal, Refused, ToAgent, ToController};

use super::{Random, agent, name};

const HISTORIES: u64 = 400;
/// Messages that wait for one agent.
const QUEUE: usize = 64;

fn list(at: usize) -> ListName {
    ["blocks", "feed"][at].parse().expect("a name")
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

/// A list as an agent has it: the life and revision, what is in it, when each ends.
#[derive(Clone, Default)]
struct Has {
    life: u64,
    revision: u64,
    entries: BTreeMap<IpNet, Option<Time>>,
}

type Coming = (Has, u32, Vec<(u64, Change)>);

/// An agent as the protocol wants it to be.
#[derive(Default)]
struct Node {
    session: Option<SessionId>,
    queue: VecDeque<ToAgent>,
    parts: VecDeque<bytes::Bytes>,
    lists: BTreeMap<String, Has>,
    /// Being received: what came, the next part, and deltas that came meanwhile.
    coming: BTreeMap<String, Coming>,
}

struct World {
    core: Core,
    now: Time,
    random: Random,
    nodes: Vec<Node>,
    sessions: u64,
    lives: u64,
    /// Prefixes that were taken out of a life of a list, by the revision that did so, until they are back.
    gone: BTreeMap<(String, u64, IpNet), u64>,
    resynced: usize,
    behind: usize,
}

impl World {
    fn new(seed: u64, count: usize) -> Self {
        let now = Time::from_millisecond(1_800_000_000_000);
        let nodes = (0..count).map(|_| Node::default()).collect();
        let (core, random) = (core(count, now), Random(seed));
        Self { core, now, random, nodes, sessions: 0, lives: 0, gone: BTreeMap::new(), resynced: 0, behind: 0 }
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Send { id, message } => {
                    let Some(node) = self.nodes.iter_mut().find(|node| node.session == Some(id)) else { continue };
                    if node.queue.len() == QUEUE {
                        self.behind += 1;
                        node.session = None;
                        actions.extend(self.core.step(self.now, Event::Gone { id }));
                    } else {
                        node.queue.push_back(message);
                    }
                }
                Action::SendParts { id, parts } => {
                    if let Some(node) = self.nodes.iter_mut().find(|node| node.session == Some(id)) {
                        node.parts.extend(parts.iter().skip(1).cloned());
                    }
                }
                Action::Close { id } => {
                    if let Some(node) = self.nodes.iter_mut().find(|node| node.session == Some(id)) {
                        node.session = None;
                    }
                }
                Action::Write { .. } | Action::Stale | Action::Answer { .. } => {}
            }
        }
    }

    fn step(&mut self, event: Event) {
        let actions = self.core.step(self.now, event);
        self.carry_out(actions);
    }

    fn connect(&mut self, at: usize) {
        self.sessions += 1;
        let id = SessionId(self.sessions);
        let node = &mut self.nodes[at];
        (node.session, node.queue, node.parts, node.coming) = (Some(id), VecDeque::new(), VecDeque::new(), BTreeMap::new());
        let lists = node.lists.iter().map(|(list, has)| ListRevision { list: list.clone(), life: has.life, revision: has.revision });
        let hello = hello(lists.collect());
        self.step(Event::Connected { id, agent: agent(at).id, session: [0; 16], hello: Box::new(hello) });
    }

    fn change(&mut self) {
        let list = list(self.random.below(2));
        let mut some = |most: usize| (0..self.random.below(most)).map(|_| IpNet::from(std::net::IpAddr::from([203, 0, 113, self.random.below(40) as u8]))).collect::<Vec<_>>();
        let (added, removed) = (some(4), some(4));
        let added: Vec<_> = added.into_iter().map(|net| (net, (!self.random.once_in(3)).then(|| Duration::from_secs(1 + self.random.below(200) as u64)))).collect();
        self.lives += 1;
        let before = self.core.list(&list).map(|(place, _)| place.revision);
        let change = ListChange { list: list.clone(), added: added.clone(), removed: removed.clone() };
        let (result, actions) = self.core.change_list(self.now, self.lives, change);
        let revision = result.expect("nothing of it is anybody's").revision;
        assert!(before.is_none_or(|before| before <= revision), "a revision only rises");
        let (place, _) = self.core.list(&list).expect("it is there");
        for net in removed {
            self.gone.insert((place.list.clone(), place.life, net), revision);
        }
        for (net, _) in added {
            self.gone.remove(&(place.list.clone(), place.life, net));
        }
        self.carry_out(actions);
    }

    /// A node takes its next message: what is in the queue first, as the stream has it.
    fn act(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(id) = node.session else { return };
        let message = node.queue.pop_front().or_else(|| node.parts.pop_front().map(ToAgent::List));
        let Some(ToAgent::List(bytes)) = message else { return };
        let List { list, life, change } = List::decode(bytes).expect("a list that can be read");
        let now = self.now;
        let mut has_all = false;
        let mut has_gap = false;
        match change {
            Change::Snapshot { revision, part: 0, .. } => {
                node.coming.insert(list.clone(), (Has { life, revision, entries: BTreeMap::new() }, 0, Vec::new()));
            }
            Change::Snapshot { .. } | Change::Delta { .. } => {}
        }
        match (change, node.coming.get_mut(&list)) {
            (Change::Snapshot { revision, part, last, elements }, Some((has, next, _))) if (has.life, has.revision, *next) == (life, revision, part) => {
                *next += 1;
                has.entries.extend(elements.iter().map(|element| entry(element, now)));
                has_all = last;
            }
            (Change::Snapshot { .. }, _) => {}
            (Change::Delta { from, to, added, removed }, Some((_, _, deltas))) => deltas.push((from, Change::Delta { from, to, added, removed })),
            (Change::Delta { from, to, added, removed }, None) => match node.lists.get_mut(&list).filter(|has| has.life == life && from <= has.revision) {
                Some(has) => has.take(to, &added, &removed, now),
                None => has_gap = true,
            },
        }
        if has_all {
            let (mut has, _, deltas) = node.coming.remove(&list).expect("it came");
            for (from, delta) in deltas {
                let Change::Delta { to, added, removed, .. } = delta else { continue };
                assert!(from <= has.revision, "a delta for what nobody has");
                has.take(to, &added, &removed, now);
            }
            node.lists.insert(list.clone(), has);
        }
        if has_gap {
            self.resynced += 1;
            let what = Refused::List(ListRevision { list, life, revision: 0 });
            return self.step(Event::Said { id, message: ToController::Refusal(Refusal { what, reason: Reason::Gap, detail: String::new() }) });
        }
        // While a part is missing nothing is acknowledged.
        if node.coming.contains_key(&list) {
            return;
        }
        let has = node.lists[&list].clone();
        for (net, until) in &has.entries {
            let is_over = until.is_some_and(|until| until <= now);
            let gone = self.gone.get(&(list.clone(), has.life, *net));
            assert!(is_over || gone.is_none_or(|gone| *gone > has.revision), "{net} was taken out, and a node that has the revision has it");
        }
        let message = ToController::Ack(Ack::List(ListRevision { list, life: has.life, revision: has.revision }));
        self.step(Event::Said { id, message });
    }

    fn anything(&mut self) {
        let at = self.random.below(self.nodes.len());
        match self.random.below(16) {
            0 => {
                if let Some(id) = self.nodes[at].session.take() {
                    self.step(Event::Gone { id });
                }
            }
            1 | 2 if self.nodes[at].session.is_none() => self.connect(at),
            // The agent began anew, or its kernel.
            3 if self.random.once_in(6) => {
                if let Some(id) = self.nodes[at].session.take() {
                    self.step(Event::Gone { id });
                }
                self.nodes[at].lists.clear();
            }
            4 => self.change(),
            // Times grow by what a message waits: here none does while the clock moves.
            5 if self.random.once_in(3) => {
                (0..self.nodes.len()).for_each(|at| self.drain(at));
                for _ in 0..=self.random.below(3) {
                    self.now = self.now.after(Duration::from_secs(1 + self.random.below(15) as u64));
                    self.step(Event::Tick);
                }
            }
            // The controller began anew: what it had is told to it again, as another life.
            6 if self.random.once_in(12) => {
                let known: Vec<_> = (0..2).filter_map(|at| Some((list(at), self.core.list(&list(at))?.1))).collect();
                self.core = core(self.nodes.len(), self.now);
                self.nodes.iter_mut().for_each(|node| node.session = None);
                for (list, entries) in known {
                    self.lives += 1;
                    let (result, _) = self.core.change_list(self.now, self.lives, ListChange { list, added: entries, removed: Vec::new() });
                    result.expect("it is taken again");
                }
            }
            7 => (0..self.random.below(90)).for_each(|_| self.change()),
            _ => (0..self.random.below(8)).for_each(|_| self.act(at)),
        }
    }

    fn drain(&mut self, at: usize) {
        while self.nodes[at].session.is_some() && !(self.nodes[at].queue.is_empty() && self.nodes[at].parts.is_empty()) {
            self.act(at);
        }
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            for at in 0..self.nodes.len() {
                if self.nodes[at].session.is_none() {
                    self.connect(at);
                }
                self.drain(at);
            }
        }
    }
}

impl Has {
    fn take(&mut self, to: u64, added: &[ringwall_protocol::Element], removed: &[ringwall_protocol::Element], now: Time) {
        for element in removed {
            self.entries.remove(&entry(element, now).0);
        }
        self.entries.extend(added.iter().map(|element| entry(element, now)));
        self.revision = to.max(self.revision);
    }
}

fn entry(element: &ringwall_protocol::Element, now: Time) -> (IpNet, Option<Time>) {
    let left = element.seconds.map(|seconds| Duration::from_secs(seconds.get().into()));
    (IpNet::new(element.network, element.length).expect("a prefix"), left.map(|left| now.after(left)))
}

fn core(count: usize, now: Time) -> Core {
    let agents: Vec<Agent> = (0..count).map(agent).collect();
    Core::new(Epoch(1), Rows { agents, ..Rows::default() }, now)
}

fn hello(lists: Vec<ListRevision>) -> Hello {
    Hello {
        versions: ringwall_protocol::VERSIONS,
        features: vec![ringwall_protocol::LISTS.into()],
        agent: "0.1.0".into(),
        boot: [0; 16],
        taken: None,
        confirmed: None,
        generation: 0,
        lists,
        facts: Facts::default(),
    }
}

#[test]
fn in_the_end_every_agent_has_what_the_controller_has() {
    let (mut behind, mut resynced) = (0, 0);
    for seed in 0..HISTORIES {
        let mut world = World::new(seed, 5);
        for _ in 0..300 {
            world.anything();
        }
        world.settle();
        for at in 0..2 {
            let Some((place, entries)) = world.core.list(&list(at)) else { continue };
            let expected: BTreeSet<IpNet> = entries.iter().map(|(net, _)| *net).collect();
            for (node, own) in world.nodes.iter().enumerate() {
                let has = own.lists.get(&place.list).unwrap_or_else(|| panic!("seed {seed}: {node} has no {}", place.list));
                assert_eq!((has.life, has.revision), (place.life, place.revision), "seed {seed}: {node}");
                // Times are longer by the age of a message at most, and by their rounding.
                let soon = world.now.after(Duration::from_secs(6));
                let live = has.entries.iter().filter(|(net, until)| until.is_none_or(|until| until > soon) || expected.contains(net));
                assert_eq!(live.map(|(net, _)| *net).collect::<BTreeSet<_>>(), expected, "seed {seed}: {node}: {}", place.list);
                for (net, left) in &entries {
                    let until = has.entries[net].map(|until| until.since(world.now));
                    let most = left.map(|left| left + Duration::from_secs(6));
                    assert!(until.is_some() == left.is_some() && until >= *left && until <= most, "seed {seed}: {net}: {until:?}, not {left:?}");
                }
            }
            let coverage = world.core.coverage(&list(at), place.revision).expect("it is there");
            assert_eq!((coverage.on, coverage.of), (5, 5), "seed {seed}: late: {:?}", coverage.late);
        }
        behind += world.behind;
        resynced += world.resynced;
    }
    assert!(behind > 20, "queues are full now and then: {behind}");
    assert_eq!(resynced, 0, "no agent is ever sent a delta that it can't take");
}

#[test]
fn coverage_says_who_is_late() {
    let mut world = World::new(1, 3);
    (0..2).for_each(|at| world.connect(at));
    world.lives = 9;
    while world.core.list(&list(0)).is_none() {
        world.change();
    }
    let revision = world.core.list(&list(0)).expect("it is there").0.revision;
    while !world.nodes[0].queue.is_empty() {
        world.act(0);
    }
    let coverage = world.core.coverage(&list(0), revision).expect("it is there");
    assert_eq!((coverage.on, coverage.of, coverage.late), (1, 3, [name(1), name(2)].into()));
    assert_eq!(world.core.coverage(&"other".parse().expect("a name"), 1), None);
}

#[test]
fn what_was_never_sent_is_not_acknowledged() {
    let mut world = World::new(1, 2);
    world.connect(0);
    let change = ListChange { list: list(0), added: vec![(net("203.0.113.9/32"), None)], removed: Vec::new() };
    let (result, actions) = world.core.change_list(world.now, 7, change);
    assert_eq!(result.map(|accepted| accepted.revision), Ok(1));
    world.carry_out(actions);
    let id = world.nodes[0].session.expect("it is connected");
    let ack = |life, revision| ToController::Ack(Ack::List(ListRevision { list: "blocks".into(), life, revision }));
    // Of another life, or another list: nothing is known by it.
    world.step(Event::Said { id, message: ack(6, 1) });
    assert_eq!(world.core.coverage(&list(0), 1).map(|coverage| coverage.on), Some(0));
    assert_eq!(world.nodes[0].session, Some(id));
    world.step(Event::Said { id, message: ack(7, 2) });
    assert_eq!(world.nodes[0].session, None, "it lies: its stream is over");
    assert_eq!(world.core.coverage(&list(0), 1).map(|coverage| coverage.on), Some(0));
}

#[test]
fn who_lacks_something_gets_all_of_it_once() {
    let mut world = World::new(1, 1);
    world.connect(0);
    let change = ListChange { list: list(0), added: vec![(net("203.0.113.9/32"), None)], removed: Vec::new() };
    let (_, actions) = world.core.change_list(world.now, 7, change);
    world.carry_out(actions);
    world.nodes[0].queue.clear();
    let id = world.nodes[0].session.expect("it is connected");
    let what = Refused::List(ListRevision { list: "blocks".into(), life: 7, revision: 0 });
    let gap = Refusal { what, reason: Reason::Gap, detail: String::new() };
    world.step(Event::Said { id, message: ToController::Refusal(gap.clone()) });
    assert_eq!(world.nodes[0].queue.len(), 1);
    world.step(Event::Said { id, message: ToController::Refusal(gap) });
    assert_eq!(world.nodes[0].session, None);
}

#[test]
fn an_agent_that_does_not_know_lists_is_sent_none() {
    let mut world = World::new(1, 1);
    let (id, old) = (SessionId(1), Hello { features: Vec::new(), ..hello(Vec::new()) });
    world.nodes[0].session = Some(id);
    world.step(Event::Connected { id, agent: agent(0).id, session: [0; 16], hello: Box::new(old) });
    (0..20).for_each(|_| world.change());
    assert!(world.nodes[0].queue.iter().all(|message| matches!(message, ToAgent::Welcome(_))));
}

#[test]
fn a_change_of_one_address_is_encoded_once() {
    let mut world = World::new(1, 3);
    (0..3).for_each(|at| world.connect(at));
    (0..20).for_each(|_| world.change());
    world.nodes.iter_mut().for_each(|node| node.queue.clear());
    let change = ListChange { list: list(0), added: vec![(net("198.51.100.77/32"), None)], removed: Vec::new() };
    let (_, actions) = world.core.change_list(world.now, 1, change);
    let bytes: Vec<_> = actions.iter().filter_map(|action| match action {
        Action::Send { message: ToAgent::List(bytes), .. } => Some(bytes.as_ptr()),
        _ => None,
    }).collect();
    assert_eq!(bytes.len(), 3);
    assert!(bytes.windows(2).all(|pair| pair[0] == pair[1]), "all of them share the same bytes");
}

#[test]
fn a_long_list_goes_in_parts_and_a_huge_change_as_a_list() {
    let mut world = World::new(1, 2);
    world.connect(0);
    let many = |from: u32, count: usize| -> Vec<(IpNet, Option<Duration>)> {
        let addresses = (from..).take(count).map(|last| std::net::Ipv4Addr::from_bits(0x0b00_0000 + last));
        addresses.map(|address| (IpNet::from(std::net::IpAddr::from(address)), None)).collect()
    };
    let feed = |added| ListChange { list: list(1), added, removed: Vec::new() };
    let (_, actions) = world.core.change_list(world.now, 3, feed(many(0, 3 * ELEMENTS_MAX + 1)));
    world.carry_out(actions);
    // Welcome, the names of the lists before and now, and the first part; the others wait beside the queue.
    assert_eq!((world.nodes[0].queue.len(), world.nodes[0].parts.len()), (4, 3));
    world.settle();
    let (_, actions) = world.core.change_list(world.now, 3, feed(many(100_000, ELEMENTS_MAX + 1)));
    world.carry_out(actions);
    assert_eq!((world.nodes[0].queue.len(), world.nodes[0].parts.len()), (2, 0));
    world.settle();
    let (_, actions) = world.core.change_list(world.now, 3, feed(many(200_000, 17 * ELEMENTS_MAX)));
    world.carry_out(actions);
    assert_eq!((world.nodes[0].queue.len(), world.nodes[0].parts.len()), (2, 21));
    world.settle();
    let place = world.core.list(&list(1)).expect("it is there").0;
    assert_eq!(world.core.coverage(&list(1), place.revision).map(|coverage| coverage.on), Some(2));
    assert_eq!(world.nodes[1].lists["feed"].entries.len(), 21 * ELEMENTS_MAX + 2);
}

#[test]
fn what_must_not_be_blocked_is_refused_at_the_door() {
    let now = Time::from_millisecond(1_800_000_000_000);
    let placed = |at: usize| Agent {
        place: ringwall_controller::agent::Place { prefixes: vec![net("192.0.2.0/24")], ..Default::default() },
        reported: [std::net::IpAddr::from([192, 0, 2, 10 + u8::try_from(at).expect("few")])].into(),
        ..agent(at)
    };
    let mut core = Core::new(Epoch(1), Rows { agents: (0..2).map(placed).collect(), ..Rows::default() }, now);
    core.keep_out(["2001:db8::1".parse().expect("an address")]);
    let ruleset = ringwall_ruleset::Ruleset {
        node: "node-0".into(),
        audit: false,
        local: Default::default(),
        protected: [net("198.51.100.0/28")].into_iter().collect(),
        floor: ringwall_ruleset::Floor { dhcp: true, neighbour_discovery: true, multicast_listener: true },
        input: Vec::new(),
        output: Vec::new(),
        forward: ringwall_ruleset::Forward::Containers { unmanaged: BTreeSet::new(), uplinks: BTreeSet::new() },
    };
    let rulesets = [(name(0), ringwall_protocol::encode_ruleset(&ruleset).0.to_vec().into())].into();
    let revision = ringwall_controller::id::RevisionNumber(1);
    core.step(now, Event::Wanted { revision, rulesets, narrowed: BTreeSet::new(), is_rolled_out: false });
    let wrong = [
        ("0.0.0.0/0", Unlisted::Wide),
        ("::/0", Unlisted::Wide),
        ("::ffff:0.0.0.0/96", Unlisted::Wide),
        ("128.0.0.0/7", Unlisted::Wide),
        ("192.0.2.11/32", Unlisted::Ours),
        ("192.0.2.0/24", Unlisted::Ours),
        ("::ffff:192.0.2.11/128", Unlisted::Ours),
        ("2001:db8::/32", Unlisted::Ours),
        ("198.51.100.3/32", Unlisted::Protected),
        ("127.0.0.1/32", Unlisted::Nobodys),
        ("fe80::1/128", Unlisted::Nobodys),
        ("fe00::/8", Unlisted::Wide),
        ("224.0.0.5/32", Unlisted::Nobodys),
    ];
    let right = ["192.0.2.99/32", "203.0.113.0/24", "10.0.0.0/8", "198.51.100.16/28", "2001:db9::/32"];
    for (text, why) in wrong {
        let change = ListChange { list: list(0), added: vec![(net(text), None)], removed: Vec::new() };
        let (result, actions) = core.change_list(now, 1, change);
        let Err(NotListed::Refused(named)) = result else { panic!("{text}: {result:?}") };
        assert_eq!(named[0].1, why, "{text}");
        assert!(actions.is_empty() && core.list(&list(0)).is_none(), "{text} made a list");
    }
    // Beside what is right, it is named, and the rest is in the list.
    let all = wrong.iter().map(|(text, _)| *text).chain(right).map(|text| (net(text), None)).collect();
    let (result, _) = core.change_list(now, 1, ListChange { list: list(0), added: all, removed: Vec::new() });
    let accepted = result.expect("some of it is right");
    assert_eq!((accepted.refused, accepted.named.len()), (wrong.len(), wrong.len()));
    let (_, entries) = core.list(&list(0)).expect("it is there");
    assert_eq!(entries.into_iter().map(|(net, _)| net).collect::<BTreeSet<_>>(), right.map(net).into());
    // A node that comes later is looked after from then on.
    core.step(now, Event::Agent(Agent { id: ringwall_controller::id::AgentId::new([9; 16]), reported: ["192.0.2.50".parse().expect("an address")].into(), ..placed(4) }));
    let (result, _) = core.change_list(now, 1, ListChange { list: list(0), added: vec![(net("192.0.2.50/32"), None)], removed: Vec::new() });
    assert_eq!(result, Err(NotListed::Refused(vec![(net("192.0.2.50/32"), Unlisted::Ours)])));
}
