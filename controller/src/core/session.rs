//! Who is connected, and whether they still live.
//!
//! In: connections, messages, the time. Out: greetings, heartbeats, ends. Never: two streams of one node; a word to
//! an agent that is revoked, but that it is.

use ringwall_protocol as protocol;
use ringwall_protocol::{DriftOutcome, Happened, Order, Reason, ToAgent, ToController, Welcome};
use serde_json::{Value, json};

use super::{Action, Core, Denied, HEARTBEAT, SessionId};
use crate::agent::{Agent, Standing};
use crate::assignment::State;
use crate::audit::{Actor, Audited};
use crate::change::{Change, Observed, Write};
use crate::event::NewEvent;
use crate::id::{AgentId, NodeName};
use crate::time::Time;

#[derive(Debug)]
pub(super) struct Session {
    agent: AgentId,
    node: NodeName,
    heard: Time,
    said: Time,
    beats: u64,
    /// Its agent can be an end of probes.
    probes: bool,
    takes_lists: bool,
}

impl Core {
    pub(super) fn take_agent(&mut self, agent: Agent) {
        let id = agent.id;
        let node = agent.node.clone();
        let standing = agent.standing.clone();
        self.agents.insert(id, agent);
        self.lists.forget_own();
        self.nodes.entry(node.clone()).or_default();
        let Some(session) = self.session_of(id) else { return };
        match standing {
            Standing::Revoked { reason, .. } => {
                self.send(session, ToAgent::Order(0, Order::Revoked(reason)));
                self.end(session);
            }
            // It may have waited for this.
            Standing::Approved => {
                self.deliver(&node);
                if self.sessions[&session].takes_lists {
                    self.listen(session, &node, &[]);
                }
            }
            Standing::Pending => {}
        }
    }

    pub(super) fn connected(&mut self, id: SessionId, agent: AgentId, session: [u8; 16], hello: &protocol::Hello) {
        let known = self.agents.get(&agent).map(|agent| (agent.node.clone(), agent.standing.clone()));
        let Some((node, standing)) = known else {
            self.actions.push(Action::Close { id });
            return;
        };
        let Some(version) = protocol::VERSIONS.common(hello.versions) else {
            self.actions.push(Action::Close { id });
            return;
        };
        if let Standing::Revoked { reason, .. } = standing {
            self.actions.push(Action::Send { id, message: ToAgent::Order(0, Order::Revoked(reason)) });
            self.actions.push(Action::Close { id });
            return;
        }
        // One stream for a node: the newer one, since the older may be a connection that nobody has noticed to be dead.
        if let Some(older) = self.nodes.get(&node).and_then(|node| node.session) {
            self.end(older);
        }
        let time = u64::try_from(self.calendar.as_second()).unwrap_or(0);
        let probes = hello.features.iter().any(|feature| feature == protocol::PROBES);
        let takes_lists = hello.features.iter().any(|feature| feature == protocol::LISTS);
        self.sessions.insert(id, Session { agent, node: node.clone(), heard: self.now, said: self.now, beats: 0, probes, takes_lists });
        self.nodes.entry(node.clone()).or_default().session = Some(id);
        self.send(id, ToAgent::Welcome(Welcome { version, epoch: self.epoch.0, session, time, heartbeat: HEARTBEAT }));
        self.notice(agent, hello);
        // Word of a confirmation may have been lost: what the node has is not what was known, then.
        let places = |kept: Option<&super::Kept>| kept.map(|kept| self.place(kept.number));
        let known = &self.nodes[&node];
        if hello.confirmed != places(known.confirmed.as_ref()) && hello.confirmed != places(known.newest.as_ref())
            && let Some(known) = self.nodes.get_mut(&node)
        {
            // It had that before, at least.
            known.former = known.confirmed.take().or(known.former.take());
            // On a machine that was made anew it is confirmed once more.
            if let Some(newest) = known.newest.as_mut().filter(|newest| newest.state == State::Confirmed) {
                newest.state = State::Sent;
            }
        }
        // The agent is ahead of everything that this fleet ever gave: its state, or ours, is not what it was.
        let newest = self.nodes[&node].newest.as_ref().map(|newest| self.place(newest.number));
        if hello.taken > newest && hello.taken.is_some_and(|taken| taken.epoch >= self.epoch.0) {
            let body = json!({ "taken": hello.taken.map(|place| [place.epoch, place.number]), "newest": newest.map(|place| [place.epoch, place.number]) });
            self.observe(Observed::Event(NewEvent { kind: "ahead".into(), node: Some(node.clone()), body }));
        }
        if standing == Standing::Approved && takes_lists {
            self.listen(id, &node, &hello.lists);
        }
        if standing == Standing::Approved && newest > hello.taken {
            self.deliver(&node);
        }
        if probes {
            self.look_again(Some(&node));
        }
    }

    /// What an agent says of its machine.
    fn notice(&mut self, agent: AgentId, hello: &protocol::Hello) {
        let protocol::Facts { addresses, kernel, nft, system } = &hello.facts;
        let facts = json!({
            "agent": hello.agent, "features": hello.features, "kernel": kernel, "nft": nft, "system": system,
            "generation": hello.generation,
        });
        let addresses: std::collections::BTreeSet<_> = addresses.iter().copied().collect();
        let is_new = self.agents.get(&agent).is_some_and(|known| known.reported != addresses);
        self.observe(Observed::Seen { agent, facts: Some(facts) });
        if is_new {
            let change = Change::Report { agent, addresses: addresses.clone() };
            let part = Write::Change(Audited { who: Actor::Agent(agent), at: self.calendar, change });
            self.write(super::Pending::Report { agent, addresses }, vec![part]);
        }
    }

    pub(super) fn said(&mut self, id: SessionId, message: ToController) {
        let now = self.now;
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.heard = now;
        let node = session.node.clone();
        match message {
            ToController::Ack(protocol::Ack::Assignment { place, stage, .. }) => self.progress(&node, place, match stage {
                protocol::Stage::Received => return,
                protocol::Stage::Trial => State::Trial,
                protocol::Stage::Confirmed => State::Confirmed,
                protocol::Stage::Fell => State::Fell("it was not confirmed in time".into()),
            }),
            ToController::Refusal(protocol::Refusal { what: protocol::Refused::Assignment(place), reason, detail }) => {
                self.progress(&node, place, State::Refused(format!("{}: {detail}", word(reason))));
            }
            ToController::Event(event) => {
                if matches!(event.happened, Happened::Drift { .. }) {
                    *self.tally.drifts.entry(node.clone()).or_default() += 1;
                }
                let (kind, body) = told(event);
                self.observe(Observed::Event(NewEvent { kind, node: Some(node), body }));
            }
            ToController::Heartbeat(_) => {}
            // A second greeting is no message of a stream that runs.
            ToController::Hello(_) => self.end(id),
            ToController::Ack(protocol::Ack::List(has)) => self.listed(id, &node, &has),
            ToController::Refusal(protocol::Refusal { what: protocol::Refused::List(list), reason, detail }) => {
                self.not_listed(id, &node, &list, reason, &detail);
            }
            ToController::Observations { id: order, observations } => self.observed(id, order, &observations),
            ToController::Refusal(protocol::Refusal { what: protocol::Refused::Probes(order), detail, .. }) => self.probes_refused(id, order, &detail),
            // Orders: nothing waits for their answers yet.
            ToController::Refusal(_) => {}
        }
    }

    pub(super) fn gone(&mut self, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else { return };
        self.no_end(id);
        if let Some(node) = self.nodes.get_mut(&session.node).filter(|node| node.session == Some(id)) {
            node.session = None;
        }
        self.lists.gone(id);
        self.observe(Observed::Seen { agent: session.agent, facts: None });
    }

    pub(super) fn beat(&mut self) {
        let every = std::time::Duration::from_secs(HEARTBEAT.into());
        let now = self.now;
        let dead: Vec<SessionId> = self.sessions.iter().filter(|(_, session)| now.since(session.heard) > 3 * every).map(|(id, _)| *id).collect();
        for id in dead {
            self.end(id);
        }
        let due = self.sessions.iter_mut().filter(|(_, session)| now.since(session.said) >= every);
        let beats: Vec<(SessionId, u64)> = due.map(|(id, session)| {
            session.beats += 1;
            (*id, session.beats)
        }).collect();
        for (id, beat) in beats {
            self.send(id, ToAgent::Heartbeat(beat));
        }
    }

    pub(super) fn send(&mut self, id: SessionId, message: ToAgent) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.said = self.now;
        }
        self.actions.push(Action::Send { id, message });
    }

    pub(super) fn end(&mut self, id: SessionId) {
        self.actions.push(Action::Close { id });
        self.gone(id);
    }

    fn session_of(&self, agent: AgentId) -> Option<SessionId> {
        let id = self.nodes.get(&self.agents.get(&agent)?.node)?.session?;
        self.sessions.get(&id).is_some_and(|session| session.agent == agent).then_some(id)
    }

    pub(super) fn can_probe(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|session| session.probes)
    }

    /// Whether the agent at the other end gets anything.
    pub(super) fn is_approved(&self, id: SessionId) -> bool {
        let agent = self.sessions.get(&id).and_then(|session| self.agents.get(&session.agent));
        agent.is_some_and(|agent| agent.standing == Standing::Approved)
    }

    /// Whether the agent may make what it has on trial its own.
    pub(super) fn may_confirm(&self, agent: AgentId, confirm: &protocol::Confirm) -> Result<protocol::Place, Denied> {
        let agent = self.agents.get(&agent).filter(|agent| agent.standing == Standing::Approved).ok_or(Denied::NotApproved)?;
        let newest = self.nodes.get(&agent.node).and_then(|node| node.newest.as_ref()).ok_or(Denied::NotNewest)?;
        let place = self.place(newest.number);
        if place != confirm.place {
            return Err(Denied::NotNewest);
        }
        if newest.digest.0 != confirm.digest {
            return Err(Denied::OtherRuleset);
        }
        if self.goes_back_from(&agent.node, newest) {
            return Err(Denied::GoesBack);
        }
        Ok(place)
    }
}

/// An event as it is kept: a word for programs, and what it says.
fn told(event: protocol::Event) -> (String, Value) {
    let age = event.age;
    match event.happened {
        Happened::Drift { process, outcome } => {
            let (process, pid) = process.unzip();
            let outcome = match outcome {
                DriftOutcome::Reported => "reported",
                DriftOutcome::Healed => "healed",
                DriftOutcome::Flapping => "flapping",
                DriftOutcome::Failed => "failed",
            };
            ("drift".into(), json!({ "age": age, "process": process, "pid": pid, "outcome": outcome }))
        }
        Happened::Names { name, addresses } => ("names".into(), json!({ "age": age, "name": name, "addresses": addresses })),
        Happened::Trouble { kind, detail } => ("trouble".into(), json!({ "age": age, "kind": kind, "detail": detail })),
        Happened::Lost(lost) => ("lost".into(), json!({ "age": age, "events": lost })),
    }
}

/// Why an agent refused something, for people.
pub(super) fn word(reason: Reason) -> &'static str {
    match reason {
        Reason::Stale => "it is older than what the node has",
        Reason::Epoch => "its epoch is older than the node's",
        Reason::Malformed => "it can't be read",
        Reason::Unproved => "its text was not proved",
        Reason::Lockout => "it would cut the node off",
        Reason::Kernel => "the kernel refused it",
        Reason::Disk => "the node could not write it down",
        Reason::Protected => "it covers protected addresses",
        Reason::Gap => "something before it is missing",
        Reason::Full => "a set is full",
        Reason::Forbidden => "the agent must not",
    }
}
