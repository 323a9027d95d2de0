//! Which paths are probed when, and what is known of each.
//!
//! In: what is declared, who is connected, what ends of probes say, the time. Out: orders to both ends; the state of each path; an
//! event for each one whose state is another. Never: more than one run at a time; a run that the next wave of a
//! rollout has to wait for, unless it is the wave's own; a change of state upon one look.
//!
//! A path that nobody has looked at comes first, then all in turn, slowly. What is expected of a path is what the
//! rulesets that both its ends have now say together.
//!
//! ```text
//!   wave given -> confirmed by its nodes -> their paths are probed -> next wave
//!         ^ its paths were probed before          | one that worked does not, twice -> back
//! ```

mod run;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ringwall_analysis::probes::Case;
use ringwall_policy::Reason;
use ringwall_probe::{Conclusion, Destination, Disposition, Expectation, Finding, Listener, Outcome, Packet, Try};
use ringwall_protocol::decode_ruleset;
use ringwall_ruleset::{Path as Way, Ruleset, Verdict};
use serde_json::json;

use super::{Core, Kept, SessionId};
use crate::change::{Observed, Write};
use crate::declared::Declared;
use crate::event::NewEvent;
use crate::id::{Digest, NodeName};
use crate::rollout::State;
use crate::time::Time;

use run::{Messages, Run};

/// Probes of one run: from a node, to a node, and of all. The core does nothing else while it makes or judges them: some 10 ms.
const FROM_MAX: usize = 512;
const TO_MAX: usize = 2_048;
const RUN_MAX: usize = 4_096;
/// Between two runs when all paths were looked at.
const REST: Duration = Duration::from_secs(10);
/// All paths are looked at again within so many runs, or this many at a time if they are few.
const RUNS: usize = 60;
const FEW: usize = 64;
/// Single events of one run; of more changes their number is told.
const EVENTS_MAX: usize = 100;

/// What is known of a path.
#[derive(Clone, Debug, Default)]
pub struct Path {
    /// Of the last look.
    pub finding: Option<Finding>,
    /// What both ends' rulesets said together when it was looked at.
    pub is_expected_open: bool,
    /// Since when it is so.
    pub since: Option<Time>,
    pub looked: Option<Time>,
    /// What it was when anything was known.
    pub known: Option<Known>,
    /// The last look showed something else, and another one will decide.
    is_doubtful: bool,
    /// It was looked at since something changed,
    is_looked: bool,
    /// which was after this run began.
    marked: u64,
    /// Before the wave that is under way.
    before: Option<Known>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub disposition: Disposition,
    /// A program of the destination's answered, not a listener of ours.
    pub is_served: bool,
}

#[derive(Debug, Default)]
pub(super) struct Probes {
    declared: Option<Arc<Declared>>,
    /// By the place of their case.
    paths: Vec<Path>,
    urgent: VecDeque<usize>,
    next: usize,
    run: Option<Run>,
    /// Its paths are looked at again, in their turn.
    is_turn: bool,
    last: u64,
    runs: u64,
    /// When the next run that nobody waits for begins.
    due: Option<Time>,
    wave: Option<(usize, Stage)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its paths are looked at before it is given out.
    Before,
    Given,
    After,
}

/// The same path in another revision.
#[derive(PartialEq, Eq, Hash)]
struct Key<'a> {
    source: IpAddr,
    destination: IpAddr,
    target: (u8, u16),
    service: &'a str,
    rule: Option<&'a str>,
}

fn key(case: &Case) -> Key<'_> {
    let target = match case.probe.packet {
        Packet::Tcp { port, .. } => (6, port),
        Packet::Udp { port, .. } => (17, port),
        Packet::Echo { .. } => (1, 0),
        Packet::Other { number } => (number, 0),
    };
    let rule = match &case.reason {
        Reason::Rule(id) => Some(id.as_str()),
        Reason::Management | Reason::Default => None,
    };
    Key { source: case.probe.source, destination: case.probe.destination, target, service: &case.service, rule }
}

/// `web-1 (192.0.2.11) -> db-1 (192.0.2.12), 443/tcp`.
fn words(case: &Case) -> String {
    let (source, destination) = (case.probe.source, case.probe.destination);
    format!("{} ({source}) -> {} ({destination}), {}", case.source_name, case.destination_name, target(case))
}

/// `443/tcp`, `icmp`.
pub fn target(case: &Case) -> String {
    match case.probe.packet {
        Packet::Tcp { port, .. } => format!("{port}/tcp"),
        Packet::Udp { port, .. } => format!("{port}/udp"),
        Packet::Echo { .. } => "icmp echo".into(),
        Packet::Other { number } => format!("proto/{number}"),
    }
}

impl Known {
    fn is_open(self) -> bool {
        self.disposition == Disposition::Open
    }

    /// What was good enough for who uses it.
    fn works_as(self, before: Self) -> bool {
        (self.is_open() || !before.is_open()) && (self.is_served || !before.is_served)
    }
}

impl Core {
    /// What is probed, and what is known of each path, by the place of its case.
    pub fn paths(&self) -> Option<(&Arc<Declared>, &[Path])> {
        self.probes.declared.as_ref().map(|declared| (declared, &self.probes.paths[..]))
    }

    pub(super) fn declare(&mut self, declared: Arc<Declared>) {
        let mut known: HashMap<Key<'_>, Path> = HashMap::new();
        self.manners.insert(declared.revision, declared.manner);
        let before = self.probes.declared.take();
        if let Some(before) = &before {
            let paths = std::mem::take(&mut self.probes.paths);
            known.extend(before.matrix.cases.iter().map(key).zip(paths));
        }
        let mut paths = Vec::with_capacity(declared.matrix.cases.len());
        for case in &declared.matrix.cases {
            paths.push(known.remove(&key(case)).map(|path| Path { is_doubtful: false, marked: 0, ..path }).unwrap_or_default());
        }
        self.probes.paths = paths;
        let messages = self.probes.run.take().map(|run| run.ends());
        self.probes.urgent.clear();
        (self.probes.next, self.probes.due) = (0, None);
        self.probes.declared = Some(declared);
        self.tell(messages.unwrap_or_default());
        // What a wave waits for was of the ones before.
        if let Some((wave, Stage::Before | Stage::After)) = self.probes.wave {
            self.queue_wave(wave);
        }
    }

    fn tell(&mut self, messages: Messages) {
        for (session, message) in messages {
            self.send(session, message);
        }
    }

    pub(super) fn observed(&mut self, session: SessionId, id: u64, lines: &bytes::Bytes) {
        if let Some(run) = &mut self.probes.run {
            run.heard(session, id, lines);
        }
    }

    pub(super) fn probes_refused(&mut self, session: SessionId, id: u64, why: &str) {
        if let Some(run) = &mut self.probes.run {
            run.refused(session, id, why);
        }
    }

    pub(super) fn no_end(&mut self, session: SessionId) {
        if let Some(run) = &mut self.probes.run {
            run.gone(session);
        }
    }

    /// A node is there again, or enforces something else: what is known of its paths may be wrong.
    pub(super) fn look_again(&mut self, node: Option<&NodeName>) {
        let Some(declared) = &self.probes.declared else { return };
        for (case, path) in declared.matrix.cases.iter().zip(&mut self.probes.paths) {
            if node.is_none_or(|node| declared.ends(case).any(|end| end == node)) {
                (path.is_looked, path.marked) = (false, self.probes.runs);
            }
        }
        self.probes.due = None;
    }

    /// Goes on with the run that is under way.
    pub(super) fn go_on_probing(&mut self) {
        let Some(run) = &mut self.probes.run else { return };
        match run.turn(&mut self.probes.last, self.now) {
            Some(messages) => self.tell(messages),
            None => self.judge_run(),
        }
    }

    /// Starts the run that is due.
    pub(super) fn probe(&mut self) {
        if self.probes.run.is_some() {
            return;
        }
        let is_urgent = !self.probes.urgent.is_empty();
        // Nobody waits for it, and a wave soon has paths of its own.
        let is_rolling = self.rollout.as_ref().is_some_and(|rollout| matches!(rollout.state, State::Running { .. } | State::RollingBack { .. }));
        if !is_urgent && (is_rolling || self.probes.due.is_some_and(|due| self.now < due)) {
            return;
        }
        let Some(declared) = self.probes.declared.clone() else { return };
        let sessions: Vec<Option<SessionId>> = declared.nodes.iter().map(|node| self.prober(node.as_ref()?)).collect();
        let chosen = self.probes.choose(&declared, &sessions);
        if chosen.is_empty() {
            self.probes.due = Some(self.now.after(REST));
            return;
        }
        self.probes.runs += 1;
        // More than a pair uses in one run, and no divisor of what there is.
        let shift = self.probes.runs.wrapping_mul(4_099);
        let mut expected = Expected { rulesets: BTreeMap::new() };
        let mut cases = Vec::with_capacity(chosen.len());
        for (id, place) in (0u32..).zip(chosen) {
            let mut case = declared.matrix.cases[place].clone();
            case.probe = declared.matrix.shifted(&case, shift);
            case.probe.id = id;
            case.expectation = expected.of(self, &declared, &case);
            case.sources.retain(|machine| sessions[*machine].is_some());
            cases.push((place, case));
        }
        let (run, messages) = Run::start(cases, &sessions, is_urgent, &mut self.probes.last, self.now);
        self.probes.run = Some(run);
        self.tell(messages);
        self.go_on_probing();
    }

    /// The session with an agent that can be an end of probes.
    fn prober(&self, node: &NodeName) -> Option<SessionId> {
        let session = self.nodes.get(node)?.session?;
        (self.is_approved(session) && self.can_probe(session)).then_some(session)
    }

    /// Whether somebody is there to send this case's probe.
    pub fn has_vantage(&self, declared: &Declared, case: &Case) -> bool {
        case.sources.iter().any(|machine| declared.nodes[*machine].as_ref().is_some_and(|node| self.prober(node).is_some()))
    }

    fn judge_run(&mut self) {
        let (Some(run), Some(declared)) = (self.probes.run.take(), self.probes.declared.clone()) else { return };
        // After those that were waited for, or were new, come others that are.
        self.probes.due = self.probes.is_turn.then(|| self.now.after(REST));
        let (mut events, mut changed) = (Vec::new(), 0);
        for (place, case) in &run.cases {
            let evidence = run.reports.evidence(case);
            let finding = ringwall_probe::judge(&case.probe, &case.expectation, &evidence);
            let is_ours = matches!(evidence.destination, Destination::There { listener: Listener::Ours, .. });
            let is_served = matches!(evidence.outcomes.get(&Try::Plain), Some(Outcome::Answered { .. })) && !is_ours;
            let path = &mut self.probes.paths[*place];
            let before = path.known;
            let is_new = path.marked < self.probes.runs;
            match path.take(finding, is_served, case.expectation.open, is_new, self.now) {
                Look::Same => {}
                Look::Doubtful => self.probes.urgent.push_back(*place),
                Look::Changed => {
                    changed += 1;
                    if events.len() < EVENTS_MAX {
                        events.push(event(&declared, *place, case, before, path));
                    }
                }
            }
        }
        if changed > EVENTS_MAX {
            events.push(NewEvent { kind: "paths".into(), node: None, body: json!({ "changed": changed, "told": EVENTS_MAX }) });
        }
        if !events.is_empty() {
            let parts = events.into_iter().map(|event| Write::Observed { at: self.calendar, what: Observed::Event(event) });
            self.write(super::Pending::Observed, parts.collect());
        }
    }

    /// Whether a wave may be given out: what its paths were before is known.
    pub(super) fn is_probed_before(&mut self, wave: usize) -> bool {
        match self.probes.wave {
            Some((of, Stage::Before)) if of == wave => {
                if !self.probes.is_waited_for() {
                    self.probes.wave = Some((wave, Stage::Given));
                    self.probes.paths.iter_mut().for_each(|path| path.before = path.known);
                }
            }
            Some((of, _)) if of == wave => {}
            _ => {
                self.probes.wave = Some((wave, Stage::Before));
                self.queue_wave(wave);
                return !self.probes.is_waited_for() && self.is_probed_before(wave);
            }
        }
        matches!(self.probes.wave, Some((_, Stage::Given | Stage::After)))
    }

    /// Of a wave that its nodes have confirmed: the first path that worked before and does not now, with its ends. `None`
    /// while that is not known.
    pub(super) fn is_probed_after(&mut self, wave: usize) -> Option<Result<(), (String, Vec<NodeName>)>> {
        match self.probes.wave {
            Some((of, Stage::Given)) if of == wave => {
                self.probes.wave = Some((wave, Stage::After));
                self.queue_wave(wave);
            }
            Some((of, Stage::After)) if of == wave => {}
            // Begun before this controller was started: nobody knows what worked.
            _ => return Some(Ok(())),
        }
        if self.probes.is_waited_for() {
            return None;
        }
        let Some(declared) = &self.probes.declared else { return Some(Ok(())) };
        let is_broken = |path: &Path| path.before.zip(path.known).is_some_and(|(before, now)| !now.works_as(before));
        let is_it = |(case, path): &(&Case, &Path)| case.declared && case.expectation.open && self.is_in_wave(declared, case, wave) && is_broken(path);
        let mut broken = declared.matrix.cases.iter().zip(&self.probes.paths).filter(is_it);
        let Some((case, path)) = broken.next() else { return Some(Ok(())) };
        let others = match broken.count() {
            0 => String::new(),
            others => format!(", and {others} more"),
        };
        let now = match path.known {
            Some(known) if !known.is_open() => known.disposition.to_string(),
            _ => "nobody answers any more".to_owned(),
        };
        let why = path.finding.as_ref().map(|finding| finding.reason.as_str()).filter(|why| !why.is_empty());
        let why = why.map(|why| format!(", {why}")).unwrap_or_default();
        let decided = path.finding.as_ref().and_then(|finding| finding.decided_by.as_ref()).map(|trace| format!(", {}", declared.decided_by(trace)));
        let reason = format!("a path that worked does not: {}: {now}{why}{}{others}", words(case), decided.unwrap_or_default());
        Some(Err((reason, declared.ends(case).cloned().collect())))
    }

    pub(super) fn forget_wave(&mut self) {
        self.probes.wave = None;
    }

    fn is_in_wave(&self, declared: &Declared, case: &Case, wave: usize) -> bool {
        let nodes = self.rollout.as_ref().and_then(|rollout| rollout.waves.get(wave));
        nodes.is_some_and(|nodes| declared.ends(case).any(|end| nodes.contains(end)))
    }

    /// The declared paths of a wave's nodes that can be looked at.
    fn queue_wave(&mut self, wave: usize) {
        let Some(declared) = self.probes.declared.clone() else { return };
        self.probes.urgent.clear();
        for (place, case) in declared.matrix.cases.iter().enumerate() {
            if case.declared && case.expectation.open && self.is_in_wave(&declared, case, wave) && self.has_vantage(&declared, case) {
                self.probes.urgent.push_back(place);
            }
        }
        // Nobody waits for what is under way.
        if !self.probes.urgent.is_empty()
            && let Some(run) = self.probes.run.take_if(|run| !run.is_urgent)
        {
            self.tell(run.ends());
        }
    }
}

impl Probes {
    fn is_waited_for(&self) -> bool {
        !self.urgent.is_empty() || self.run.as_ref().is_some_and(|run| run.is_urgent)
    }

    /// The places of the next run's cases. Those that are waited for, or else those that were not looked at, or else some in their turn.
    fn choose(&mut self, declared: &Declared, sessions: &[Option<SessionId>]) -> Vec<usize> {
        let mut load = Load { from: vec![0; sessions.len()], to: vec![0; sessions.len()], all: 0 };
        let cases = &declared.matrix.cases;
        let can = |place: usize| cases[place].sources.iter().any(|machine| sessions[*machine].is_some());
        self.is_turn = false;
        if !self.urgent.is_empty() {
            let mut later = VecDeque::new();
            let mut chosen = Vec::new();
            for place in std::mem::take(&mut self.urgent) {
                match can(place) {
                    true if load.takes(&cases[place]) => chosen.push(place),
                    true => later.push_back(place),
                    // Who could send it has gone.
                    false => {}
                }
            }
            self.urgent = later;
            return chosen;
        }
        let places = |next: usize| (0..cases.len()).map(move |offset| (next + offset) % cases.len());
        let news: Vec<usize> = places(self.next).filter(|place| !self.paths[*place].is_looked && can(*place) && load.takes(&cases[*place])).collect();
        if !news.is_empty() {
            return news;
        }
        self.is_turn = true;
        let some = (cases.len() / RUNS).max(FEW).min(cases.len());
        let turn: Vec<usize> = places(self.next).take(some).filter(|place| can(*place) && load.takes(&cases[*place])).collect();
        self.next = (self.next + some) % cases.len().max(1);
        turn
    }
}

/// What a run has already.
struct Load {
    from: Vec<usize>,
    to: Vec<usize>,
    all: usize,
}

impl Load {
    fn takes(&mut self, case: &Case) -> bool {
        let has_room = self.all < RUN_MAX
            && case.sources.iter().all(|machine| self.from[*machine] < FROM_MAX)
            && case.destinations.iter().all(|machine| self.to[*machine] < TO_MAX);
        if has_room {
            self.all += 1;
            case.sources.iter().for_each(|machine| self.from[*machine] += 1);
            case.destinations.iter().for_each(|machine| self.to[*machine] += 1);
        }
        has_room
    }
}

enum Look {
    Same,
    /// Something else than before: to be looked at once more.
    Doubtful,
    Changed,
}

impl Path {
    /// Whether it is to be looked at before others.
    pub fn is_waiting(&self) -> bool {
        !self.is_looked || self.is_doubtful
    }

    /// `is_new`: the look began after the last change that is known of.
    fn take(&mut self, finding: Finding, is_served: bool, is_expected_open: bool, is_new: bool, now: Time) -> Look {
        let known = Known { disposition: finding.disposition, is_served };
        let is_unknown = finding.disposition == Disposition::Unknown;
        let is_other = self.known.is_some_and(|before| before.disposition != known.disposition || !known.works_as(before));
        if !is_unknown && is_other && !self.is_doubtful {
            self.is_doubtful = true;
            return Look::Doubtful;
        }
        // What nobody saw before is told when it is not as it should be.
        let is_news = match self.known {
            Some(_) => is_other && !is_unknown,
            None => finding.conclusion == Conclusion::NotAsDeclared,
        };
        let has_changed = self.finding.as_ref().is_none_or(|before| before.disposition != finding.disposition || before.conclusion != finding.conclusion);
        if has_changed {
            self.since = Some(now);
        }
        if !is_unknown {
            self.known = Some(known);
        }
        (self.is_doubtful, self.is_looked, self.looked) = (false, is_new, Some(now));
        (self.finding, self.is_expected_open) = (Some(finding), is_expected_open);
        if is_news { Look::Changed } else { Look::Same }
    }
}

fn event(declared: &Declared, place: usize, case: &Case, before: Option<Known>, path: &Path) -> NewEvent {
    let finding = path.finding.as_ref();
    let served = |known: Option<Known>| known.map(|known| known.is_served);
    let body = json!({
        "source": case.source_name, "source_address": case.probe.source,
        "destination": case.destination_name, "destination_address": case.probe.destination,
        "flow": target(case), "service": case.service,
        "before": before.map(|known| known.disposition), "after": path.known.map(|known| known.disposition),
        "was_served": served(before), "is_served": served(path.known),
        "expected": if path.is_expected_open { "open" } else { "closed" },
        "conclusion": finding.map(|finding| finding.conclusion),
        "reason": finding.map(|finding| &finding.reason),
        "decided_by": finding.and_then(|finding| finding.decided_by.as_ref()).map(|trace| declared.decided_by(trace)),
        "revision": declared.revision, "rule": declared.rules[place],
    });
    let node = case.destinations.iter().chain(&case.sources).find_map(|machine| declared.nodes[*machine].clone());
    NewEvent { kind: "path".into(), node, body }
}

/// What both ends' rulesets say together.
struct Expected {
    /// Those that are not of what is declared, once read; `None` can't be read.
    rulesets: BTreeMap<Digest, Option<Ruleset>>,
}

impl Expected {
    fn of(&mut self, core: &Core, declared: &Declared, case: &Case) -> Expectation {
        let mut expectation = case.expectation;
        let sides = [(&case.sources, Way::Output, &mut expectation.source_enforces), (&case.destinations, Way::Input, &mut expectation.destination_enforces)];
        // A node on the way has what is declared, or is not known; without anybody who enforces, nothing closes it.
        let mut open = case.expectation.open || !case.expectation.between_enforces;
        for (machines, way, enforces) in sides {
            let mut all = !machines.is_empty();
            for node in machines.iter().filter_map(|machine| declared.nodes[*machine].as_ref()) {
                let has = core.nodes.get(node).and_then(|node| node.confirmed.as_ref());
                let wanted = core.wanted.as_ref().filter(|wanted| wanted.revision == declared.revision).and_then(|wanted| wanted.digests.get(node));
                match has {
                    None => all = false,
                    Some(has) if Some(&has.digest) == wanted => {
                        all &= *enforces;
                        open &= case.expectation.open || !*enforces;
                    }
                    Some(has) => {
                        let Some(ruleset) = self.ruleset(has) else { continue };
                        all &= !ruleset.audit;
                        open &= ruleset.audit || accepts(ruleset, way, case, core.calendar);
                    }
                }
            }
            *enforces = all;
        }
        expectation.open = open;
        expectation
    }

    fn ruleset(&mut self, kept: &Kept) -> Option<&Ruleset> {
        let read = || decode_ruleset(&kept.ruleset.to_vec().into()).ok();
        self.rulesets.entry(kept.digest).or_insert_with(read).as_ref()
    }
}

fn accepts(ruleset: &Ruleset, way: Way, case: &Case, now: Time) -> bool {
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let Some(flow) = case.flow() else { return false };
    // Which interface it takes is the machine's routing; which name it is for, its resolver's.
    let (verdict, _) = ruleset.judge(way, &flow, |_| true, seconds, |_, _| true);
    verdict == Verdict::Accept
}
