//! What each node was given, and how far it came.
//!
//! In: what is wanted, what is kept, what agents say. Out: assignments, each kept before it is sent. Never: a
//! number given twice, a state taken back.

use std::sync::Arc;

use ringwall_protocol as protocol;
use ringwall_protocol::ToAgent;

use super::{Core, Kept, Pending, SessionId};
use crate::assignment::{NewAssignment, State};
use crate::audit::{Actor, Audited};
use crate::change::{Change, Observed, Write, Written};
use crate::declared::Manner;
use crate::id::{Digest, NodeName, RevisionNumber};
use crate::time::Time;

#[derive(Debug, Default)]
pub(super) struct Node {
    pub newest: Option<Kept>,
    /// The newest that was confirmed.
    pub confirmed: Option<Kept>,
    /// The newest that was confirmed of a revision before that one: what a rollout takes it back to.
    pub former: Option<Kept>,
    pub session: Option<SessionId>,
    /// When its newest assignment was given, if by this controller.
    pub given: Option<Time>,
    /// Revisions of lists that its kernel has, as its agent said to this controller.
    pub lists: std::collections::BTreeMap<crate::id::ListName, u64>,
}

impl Node {
    /// What it enforces, if nothing else is on its way.
    pub fn enforced(&self) -> Option<&Kept> {
        match self.newest.as_ref().map(|newest| &newest.state) {
            Some(State::Confirmed) => self.newest.as_ref(),
            // It never took that, or went back from it.
            Some(State::Refused(_) | State::Fell(_)) => self.confirmed.as_ref(),
            Some(State::Sent | State::Trial) | None => None,
        }
    }
}

impl Core {
    /// Whether the node enforces this, in the manner of this revision.
    pub(super) fn has(&self, node: &Node, revision: RevisionNumber, digest: &Digest) -> bool {
        node.enforced().is_some_and(|kept| kept.digest == *digest && self.manner(kept.revision) == self.manner(revision))
    }

    /// Of a revision that this controller has not compiled it is the usual one.
    fn manner(&self, revision: RevisionNumber) -> Manner {
        self.manners.get(&revision).copied().unwrap_or_default()
    }

    /// Gives nodes rulesets, in one transaction; they are sent when they are kept.
    pub(super) fn assign(&mut self, all: Vec<(NodeName, RevisionNumber, Arc<[u8]>)>) {
        if all.is_empty() {
            return;
        }
        let given = all.iter().map(|(node, revision, ruleset)| {
            let digest = Digest::of(ruleset);
            // The store gives the number.
            let kept = Kept { number: crate::id::AssignmentNumber(0), revision: *revision, ruleset: ruleset.clone(), digest, state: State::Sent };
            (node.clone(), kept)
        }).collect();
        let new = all.into_iter().map(|(node, revision, ruleset)| NewAssignment { node, revision, ruleset }).collect();
        let part = Write::Change(Audited { who: Actor::Controller, at: self.calendar, change: Change::Assign(new) });
        self.write(Pending::Assign(given), vec![part]);
    }

    pub(super) fn assigned(&mut self, given: Vec<(NodeName, Kept)>, written: &[Written]) {
        let numbers = written.iter().find_map(|written| match written {
            Written::Assigned(numbers) => Some(numbers),
            _ => None,
        });
        let Some(numbers) = numbers else { return };
        for ((node, kept), (of, number)) in given.into_iter().zip(numbers) {
            debug_assert_eq!(node, *of);
            let own = self.nodes.entry(node.clone()).or_default();
            own.newest = Some(Kept { number: *number, ..kept });
            own.given = Some(self.now);
            self.given.insert(node.clone());
            self.deliver(&node);
        }
    }

    /// Sends a node its newest assignment, if somebody is there to take it.
    pub(super) fn deliver(&mut self, name: &NodeName) {
        let Some(node) = self.nodes.get(name) else { return };
        let (Some(session), Some(newest)) = (node.session, &node.newest) else { return };
        if !self.is_approved(session) {
            return;
        }
        if matches!(newest.state, State::Refused(_) | State::Fell(_)) {
            return;
        }
        let manner = self.manner(newest.revision);
        let assignment = protocol::Assignment {
            place: self.place(newest.number),
            revision: newest.revision.to_string(),
            digest: newest.digest.0,
            ruleset: newest.ruleset.to_vec().into(),
            window: self.window,
            on_drift: manner.on_drift,
            on_tighten: manner.on_tighten,
        };
        self.send(session, ToAgent::Assignment(assignment));
    }

    /// An agent says how far an assignment came.
    pub(super) fn progress(&mut self, name: &NodeName, place: protocol::Place, state: State) {
        let epoch = self.epoch.0;
        let Some(node) = self.nodes.get_mut(name) else { return };
        let Some(newest) = node.newest.as_mut().filter(|newest| place.epoch == epoch && newest.number.0 == place.number) else { return };
        if !newest.state.may_become(&state) {
            return;
        }
        newest.state = state.clone();
        let number = newest.number;
        self.tally.ended(&state, node.given, self.now);
        if state == State::Confirmed {
            let before = std::mem::replace(&mut node.confirmed, node.newest.clone());
            let revision = node.confirmed.as_ref().map(|confirmed| confirmed.revision);
            if let Some(before) = before.filter(|before| Some(before.revision) != revision) {
                node.former = Some(before);
            }
        }
        if state == State::Confirmed {
            self.look_again(Some(name));
        }
        self.observe(Observed::Progress { node: name.clone(), number, state });
    }
}
