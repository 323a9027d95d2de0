//! One run of probes: destinations watch, then sources send, then both are heard out.
//!
//! In: cases, sessions of their ends, what these say, the time. Out: messages, and in the end what all said. Never: a line
//! of an agent about probes that it was not given; a wait without end; more lines than the probes can have.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use ringwall_analysis::probes::{Case, Reports, by_machine};
use ringwall_probe::{
    DESTINATION_SCHEMA, DestinationLine, DestinationReport, Line, Plan, Probe, SOURCE_SCHEMA, Settings, SourceLine, SourceReport,
};
use ringwall_protocol::{Role, ToAgent};
use serde::de::DeserializeOwned;

use super::super::SessionId;
use crate::time::Time;

/// How probes are sent. They go on for ever: a listener would now and then be in the way of a program that starts.
const SETTINGS: Settings = Settings { timeout_ms: 1_000, retries: 1, parallel: 1_024, life_ms: 90_000, listens: false };
/// For an agent to begin, or to end, what it was told.
const PATIENCE: Duration = Duration::from_secs(10);
/// Two tries, each sent twice, each waited for a second: what nobody answers.
const TRIES: Duration = Duration::from_secs(4);
/// Lines that an end may say of each probe, and beside them.
const LINES: usize = 16;

#[derive(Debug)]
pub struct Run {
    pub is_urgent: bool,
    /// Each with its place among the declared; its probe's id is its place here.
    pub cases: Vec<(usize, Case)>,
    orders: BTreeMap<u64, Order>,
    /// What sources get once the destinations watch.
    waiting: Vec<(usize, SessionId, Vec<Probe>)>,
    phase: Phase,
    deadline: Time,
    /// Something was said, or begun, since the last turn.
    is_heard: bool,
    pub reports: Reports,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Preparing,
    Sending,
    Ending,
    Over,
}

#[derive(Debug)]
struct Order {
    machine: usize,
    session: SessionId,
    role: Role,
    probes: HashSet<u32>,
    lines: usize,
    is_ready: bool,
    /// It has said its last line.
    is_done: bool,
    /// Nothing more is taken from it.
    is_over: bool,
}

/// Messages, in their order.
pub type Messages = Vec<(SessionId, ToAgent)>;

impl Run {
    /// `sessions` by machine: each source of a case has one; destinations without one see nothing. `last` is the last id of an order.
    pub fn start(cases: Vec<(usize, Case)>, sessions: &[Option<SessionId>], is_urgent: bool, last: &mut u64, now: Time) -> (Self, Messages) {
        let mut run = Self {
            is_urgent,
            orders: BTreeMap::new(),
            waiting: Vec::new(),
            phase: Phase::Preparing,
            deadline: now.after(PATIENCE),
            is_heard: true,
            reports: Reports::default(),
            cases,
        };
        let all = || run.cases.iter().map(|(_, case)| case);
        let (by_source, by_destination) = (by_machine(all(), |case| &case.sources), by_machine(all(), |case| &case.destinations));
        let mut messages = Vec::new();
        for (machine, probes) in by_destination {
            let Some(session) = sessions[machine] else {
                run.reports.destinations.insert(machine, Err("it is not connected".into()));
                continue;
            };
            run.reports.destinations.insert(machine, Ok(DestinationReport::default()));
            messages.push(run.order(machine, session, Role::Destination, probes, last));
        }
        for (machine, probes) in by_source {
            run.waiting.extend(sessions[machine].map(|session| (machine, session, probes)));
        }
        (run, messages)
    }

    fn order(&mut self, machine: usize, session: SessionId, role: Role, probes: Vec<Probe>, last: &mut u64) -> (SessionId, ToAgent) {
        *last += 1;
        let ids = probes.iter().map(|probe| probe.id).collect();
        let lines = LINES * (probes.len() + 1);
        let plan = Plan { settings: SETTINGS, probes };
        let mut text = Vec::new();
        // Nothing can go wrong in memory.
        let _ = plan.write(&mut text);
        self.orders.insert(*last, Order { machine, session, role, probes: ids, lines, is_ready: false, is_done: false, is_over: false });
        (session, ToAgent::Probes { id: *last, role, plan: text.into() })
    }

    /// Lines of an agent. What is of no order that its session has, is nothing.
    pub fn heard(&mut self, session: SessionId, id: u64, lines: &Bytes) {
        let Some(order) = self.orders.get_mut(&id).filter(|order| order.session == session && !order.is_over) else { return };
        self.is_heard = true;
        let (machine, role) = (order.machine, order.role);
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            order.lines = order.lines.saturating_sub(1);
            let taken = match role {
                _ if order.lines == 0 => None,
                Role::Source => read(line, SOURCE_SCHEMA).map(|line| {
                    let is_its = matches!(line, SourceLine::Tried { id, .. } if order.probes.contains(&id));
                    if is_its {
                        self.reports.sources.entry(machine).or_insert_with(|| (SourceReport::default(), Ok(()))).0.take(line);
                    } else if line == SourceLine::Done {
                        (order.is_done, order.is_over) = (true, true);
                    }
                }),
                Role::Destination => read(line, DESTINATION_SCHEMA).map(|line| {
                    match &line {
                        DestinationLine::Received { id, .. } | DestinationLine::Traced { id, .. } if !order.probes.contains(id) => return,
                        DestinationLine::Ready { .. } => order.is_ready = true,
                        DestinationLine::Done => (order.is_done, order.is_over) = (true, true),
                        _ => {}
                    }
                    if let Some(Ok(report)) = self.reports.destinations.get_mut(&machine) {
                        report.take(line);
                    }
                }),
            };
            if taken.is_none() {
                return self.failed(id, "it said something else than observations");
            }
        }
    }

    /// An agent can't do what it was told.
    pub fn refused(&mut self, session: SessionId, id: u64, why: &str) {
        if self.orders.get(&id).is_some_and(|order| order.session == session && !order.is_over) {
            self.failed(id, why);
        }
    }

    pub fn gone(&mut self, session: SessionId) {
        let its: Vec<u64> = self.orders.iter().filter(|(_, order)| order.session == session && !order.is_over).map(|(id, _)| *id).collect();
        for id in its {
            self.failed(id, "its connection with the controller ended");
        }
        self.waiting.retain(|(_, waiting, _)| *waiting != session);
    }

    fn failed(&mut self, id: u64, why: &str) {
        let Some(order) = self.orders.get_mut(&id) else { return };
        self.is_heard = true;
        order.is_over = true;
        match order.role {
            Role::Source => {
                let said = self.reports.sources.remove(&order.machine).map(|(report, _)| report).unwrap_or_default();
                self.reports.sources.insert(order.machine, (said, Err(why.to_owned())));
            }
            Role::Destination => {
                self.reports.destinations.insert(order.machine, Err(why.to_owned()));
            }
        }
    }

    /// What follows now; `None` when all have been heard.
    pub fn turn(&mut self, last: &mut u64, now: Time) -> Option<Messages> {
        let is_late = now.since(self.deadline) > Duration::ZERO;
        // A core has other things to do than to look at all orders at each event.
        if !std::mem::take(&mut self.is_heard) && !is_late {
            return Some(Vec::new());
        }
        match self.phase {
            Phase::Preparing => {
                let is_ready = |order: &Order| order.is_ready || order.is_over;
                if !is_late && !self.orders.values().all(is_ready) {
                    return Some(Vec::new());
                }
                self.give_up(|order| !is_ready(order));
                (self.phase, self.is_heard) = (Phase::Sending, true);
                self.deadline = now.after(TRIES + PATIENCE);
                let waiting = std::mem::take(&mut self.waiting);
                let messages = waiting.into_iter().map(|(machine, session, probes)| self.order(machine, session, Role::Source, probes, last));
                Some(messages.collect())
            }
            Phase::Sending => {
                let is_over = |order: &Order| order.is_over || order.role == Role::Destination;
                if !is_late && !self.orders.values().all(is_over) {
                    return Some(Vec::new());
                }
                self.give_up(|order| !is_over(order));
                (self.phase, self.is_heard) = (Phase::Ending, true);
                self.deadline = now.after(PATIENCE);
                Some(self.ends())
            }
            Phase::Ending => {
                if !is_late && !self.orders.values().all(|order| order.is_over) {
                    return Some(Vec::new());
                }
                self.give_up(|order| !order.is_over);
                self.phase = Phase::Over;
                None
            }
            Phase::Over => None,
        }
    }

    /// To all destinations that may still watch.
    pub fn ends(&self) -> Messages {
        let watching = self.orders.iter().filter(|(_, order)| order.role == Role::Destination && !order.is_done);
        watching.map(|(id, order)| (order.session, ToAgent::EndProbes(*id))).collect()
    }

    fn give_up(&mut self, is_late: impl Fn(&Order) -> bool) {
        let late: Vec<u64> = self.orders.iter().filter(|(_, order)| is_late(order)).map(|(id, _)| *id).collect();
        for id in late {
            self.failed(id, "it did not answer in time");
        }
    }
}

fn read<T: DeserializeOwned>(line: &[u8], schema: &str) -> Option<T> {
    let line: Line<T> = serde_json::from_slice(line).ok()?;
    (line.schema == schema).then_some(line.line)
}
