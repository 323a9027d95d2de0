//! Streams between agents and the controller: in order, late, broken, or dead without a word.
//!
//! In: messages as bytes of the wire. Out: the same at the other end, some time later, or nothing. Never: a message
//! that overtakes another of its stream; a new connection that the node's own rules forbid.

use prost::Message as _;
use ringwall_agent::edge;
use ringwall_controller::core::{Event as CoreEvent, SessionId};
use ringwall_node::reconciler::{self, Answer, Event, Millis, Place};
use ringwall_protocol::{Confirm, Hello, Order, Refusal, ToAgent, ToController, wire};

use super::world::{Job, Lie, World};

const BEAT: Millis = 10_000;

#[derive(Debug)]
pub struct Stream {
    pub node: usize,
    /// Of the agent and of the controller that hold its ends.
    life: u64,
    controller: u64,
    /// Nothing comes through any more, and no end has been told.
    pub is_dead: bool,
    at_agent: Side,
    pub at_controller: bool,
    last_up: Millis,
    last_down: Millis,
    heard: Millis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Opening,
    Open,
    Ended,
}

impl World {
    fn latency(&mut self) -> Millis {
        let most = match self.random.below(1000) {
            0..5 if self.has_faults => 45_000,
            5..50 if self.has_faults => 15_000,
            _ => 30,
        };
        1 + self.random.below(most)
    }

    /// Whether a connection that is opened now comes about.
    fn has_way(&self, node: usize) -> bool {
        let own = &self.nodes[node];
        // Certificates are good for a day.
        let is_clock_right = own.clock.abs() < 43_200_000;
        let is_allowed = own.decides().is_none_or(|loaded| self.reaches[&loaded.digest]);
        is_clock_right && is_allowed && !own.is_cut && self.controller.core.is_some()
    }

    pub fn connect(&mut self, node: usize) {
        self.last_stream += 1;
        let (id, latency) = (self.last_stream, self.latency());
        let own = &mut self.nodes[node];
        own.stream = Some(id);
        let hello = wire::ToController::from(ToController::Hello(own.hello())).encode_to_vec();
        let stream = Stream {
            node,
            life: own.life,
            controller: self.controller.life,
            is_dead: false,
            at_agent: Side::Opening,
            at_controller: false,
            last_up: 0,
            last_down: 0,
            heard: self.now,
        };
        self.streams.insert(id, stream);
        if self.has_way(node) {
            self.later(3 * latency, Job::Open { stream: id, hello });
            self.later(10_000, Job::NoWelcome { stream: id });
        } else {
            let delay = self.random.below(10_000);
            self.later(delay, Job::EndAtAgent { stream: id });
        }
    }

    pub fn open(&mut self, id: u64, hello: &[u8]) {
        let Some(stream) = self.streams.get(&id) else { return };
        let (node, controller) = (stream.node, stream.controller);
        if controller != self.controller.life || !self.has_way(node) || self.row(node).is_none() {
            self.later(5, Job::EndAtAgent { stream: id });
            return;
        }
        let agent = self.nodes[node].identity.expect("it has a row");
        let message = wire::ToController::decode(hello).map(ToController::try_from).expect("bytes of a message");
        let Ok(ToController::Hello(hello)) = message else { panic!("a Hello that the controller refuses: {message:?}") };
        let hello: Box<Hello> = Box::new(hello);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.at_controller = true;
        }
        self.tally.count("connected");
        let session = self.random.next().to_be_bytes().repeat(2).try_into().expect("16 bytes");
        self.core(CoreEvent::Connected { id: SessionId(id), agent, session, hello });
    }

    pub fn no_welcome(&mut self, id: u64) {
        if self.streams.get(&id).is_some_and(|stream| stream.at_agent == Side::Opening) {
            self.hang_up(id);
        }
    }

    /// From the controller.
    pub fn send(&mut self, id: SessionId, message: ToAgent) {
        let latency = self.latency();
        let Some(stream) = self.streams.get_mut(&id.0) else { return };
        let at = stream.last_down.max(self.now + latency);
        stream.last_down = at;
        let message = wire::ToAgent::from(message).encode_to_vec();
        self.at(at, Job::Down { stream: id.0, message });
    }

    /// The controller ends it, after what it sent before.
    pub fn close(&mut self, id: SessionId) {
        let Some(stream) = self.streams.get_mut(&id.0) else { return };
        stream.at_controller = false;
        let at = stream.last_down.max(self.now + 1);
        self.at(at, Job::EndAtAgent { stream: id.0 });
    }

    pub fn down(&mut self, id: u64, message: &[u8]) {
        self.mix(message);
        let Some(stream) = self.streams.get(&id) else { return };
        let node = stream.node;
        if !self.passes(id) || self.streams[&id].at_agent == Side::Ended {
            return;
        }
        let stream = self.streams.get_mut(&id).expect("it passed");
        stream.heard = self.now;
        let is_first = stream.at_agent == Side::Opening;
        let message = wire::ToAgent::decode(message).expect("bytes of a message");
        let message = ToAgent::try_from(message).expect("what the controller says, the agent understands");
        match message {
            ToAgent::Welcome(_) if is_first => {
                stream.at_agent = Side::Open;
                self.tell(node, Event::Connected);
                self.later(0, Job::Beat { stream: id, number: 1 });
            }
            // As the session does that waits for Welcome.
            _ if is_first => self.hang_up(id),
            message => match understood(message) {
                Ok(Some(Event::Received(_))) if self.lie == Some(Lie::Deaf) => {}
                Ok(Some(event)) => {
                    if matches!(event, Event::Revoked { .. }) {
                        self.nodes[node].is_ended = true;
                    }
                    self.tell(node, event);
                }
                Ok(None) => {}
                Err(refusal) => panic!("a ruleset that can't be read: {refusal:?}"),
            },
        }
    }

    /// From an agent.
    pub fn say(&mut self, node: usize, message: ToController) {
        let Some(id) = self.nodes[node].stream else { return };
        let latency = self.latency();
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.at_agent == Side::Open) else { return };
        let at = stream.last_up.max(self.now + latency);
        stream.last_up = at;
        let message = wire::ToController::from(message).encode_to_vec();
        self.at(at, Job::Up { stream: id, message });
    }

    pub fn up(&mut self, id: u64, message: &[u8]) {
        self.mix(message);
        if !self.streams.contains_key(&id) || !self.passes(id) {
            return;
        }
        if !self.streams[&id].at_controller {
            // Nobody is there: the other machine says so.
            self.later(1, Job::EndAtAgent { stream: id });
            return;
        }
        let message = wire::ToController::decode(message).expect("bytes of a message");
        let message = ToController::try_from(message).expect("what an agent says, the controller understands");
        self.core(CoreEvent::Said { id: SessionId(id), message });
    }

    /// Whether a message comes through; the first that does not is the end of all that follow.
    fn passes(&mut self, id: u64) -> bool {
        let stream = self.streams.get_mut(&id).expect("it was looked up");
        stream.is_dead |= self.nodes[stream.node].is_cut;
        !stream.is_dead
    }

    pub fn beat(&mut self, id: u64, number: u64) {
        let Some(stream) = self.streams.get(&id).filter(|stream| stream.at_agent == Side::Open) else { return };
        if self.now - stream.heard > 3 * BEAT {
            self.tally.count("silent");
            return self.hang_up(id);
        }
        let node = stream.node;
        self.say(node, ToController::Heartbeat(number));
        self.later(BEAT, Job::Beat { stream: id, number: number + 1 });
    }

    /// The agent ends it, or gives it up.
    pub fn hang_up(&mut self, id: u64) {
        if let Some(stream) = self.streams.get(&id)
            && !stream.is_dead
            && !self.nodes[stream.node].is_cut
            && stream.at_agent != Side::Ended
        {
            let at = stream.last_up.max(self.now + 20);
            self.at(at, Job::EndAtController { stream: id });
        }
        self.end_at_agent(id);
    }

    /// The same, after what is being done.
    pub fn hang_up_soon(&mut self, id: u64) {
        if let Some(stream) = self.streams.get(&id).filter(|stream| !stream.is_dead) {
            let at = stream.last_up.max(self.now + 20);
            self.at(at, Job::EndAtController { stream: id });
        }
        self.later(0, Job::EndAtAgent { stream: id });
    }

    pub fn end_at_agent(&mut self, id: u64) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.at_agent == Side::Ended {
            return self.forget(id);
        }
        stream.at_agent = Side::Ended;
        let (node, life) = (stream.node, stream.life);
        let own = &mut self.nodes[node];
        if own.life == life && own.stream == Some(id) {
            own.stream = None;
            self.tell(node, Event::Disconnected);
        }
        self.forget(id);
    }

    pub fn end_at_controller(&mut self, id: u64) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let is_of_this = stream.controller == self.controller.life;
        if std::mem::replace(&mut stream.at_controller, false) && is_of_this && self.controller.core.is_some() {
            self.core(CoreEvent::Gone { id: SessionId(id) });
        }
        self.forget(id);
    }

    fn forget(&mut self, id: u64) {
        if self.streams.get(&id).is_some_and(|stream| stream.at_agent == Side::Ended && !stream.at_controller) {
            self.streams.remove(&id);
        }
    }

    /// The controller's process is gone. Most agents are told so by its machine.
    pub fn break_all(&mut self) {
        let ids: Vec<u64> = self.streams.keys().copied().collect();
        for id in ids {
            let is_told = self.random.percent(70);
            let delay = self.random.below(500);
            let stream = self.streams.get_mut(&id).expect("it is there");
            stream.at_controller = false;
            if is_told && !stream.is_dead {
                self.later(delay, Job::EndAtAgent { stream: id });
            } else {
                stream.is_dead = true;
            }
            self.forget(id);
        }
    }

    // The question over another connection.

    pub fn begin_to_ask(&mut self, node: usize, attempt: u64, place: Place, digest: [u8; 32]) {
        let (life, on) = (self.nodes[node].life, self.nodes[node].kernel.live_trial());
        if self.lie == Some(Lie::AnswersItself) {
            self.later(20, Job::Answer { node, life, attempt, place, on: None, answer: Answer::Yes });
        } else if self.has_way(node) {
            let confirm = Confirm { session: None, place: edge::wire_place(place), digest };
            let (latency, message) = (self.latency(), wire::ConfirmRequest::from(confirm).encode_to_vec());
            self.later(latency, Job::Ask { node, life, attempt, place, on, message });
        } else {
            let delay = self.random.below(10_000);
            self.later(delay, Job::Answer { node, life, attempt, place, on, answer: Answer::Unreachable });
        }
    }

    pub fn ask(&mut self, node: usize, life: u64, attempt: u64, place: Place, on: Option<u32>, message: &[u8]) {
        self.mix(message);
        let is_lost = self.has_faults && self.random.percent(10);
        let is_there = self.controller.core.is_some() && !self.nodes[node].is_cut && self.row(node).is_some();
        let answer = if is_there {
            let confirm = wire::ConfirmRequest::decode(message).expect("bytes of a message");
            let confirm = Confirm::try_from(confirm).expect("a question that the controller understands");
            let answer = self.may_confirm(node, confirm);
            if is_lost { Answer::Unreachable } else { answer }
        } else {
            Answer::Unreachable
        };
        let delay = if answer == Answer::Unreachable { 10_000 } else { self.latency() };
        self.later(delay, Job::Answer { node, life, attempt, place, on, answer });
    }
}

/// As the agent's session does.
fn understood(message: ToAgent) -> Result<Option<Event>, Refusal> {
    Ok(match message {
        ToAgent::Assignment(assignment) => Some(Event::Received(edge::assignment(assignment)?)),
        ToAgent::Order(id, Order::Rollback(place)) => Some(Event::Ordered { id, order: reconciler::Order::Rollback(edge::place(place)) }),
        ToAgent::Order(_, Order::Revoked(detail)) => Some(Event::Revoked { detail }),
        _ => None,
    })
}
