//! A store in memory: for tests, and for simulations of a whole fleet.
//!
//! In, out: as [`Store`](super::Store) says. Never: anything that outlives the process.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{Mutex, watch};

use super::rows::Rows;
use super::{Error, Keep, Read, Result, Store, apply, has_event};
use crate::access::Access;
use crate::agent::{Agent, Sighting};
use crate::assignment::{self, Assignment};
use crate::audit::Entry;
use crate::change::{Write, Written};
use crate::event::{Event, Page};
use crate::fleet::Fleet;
use crate::id::{
    AccessId, AgentId, AssignmentNumber, AuditNumber, Digest, EventNumber, NodeName, RevisionNumber, RolloutNumber, SettingName,
    SiteName, TokenId,
};
use crate::revision::{Content, Revision};
use crate::rollout::Rollout;
use crate::setting::Setting;
use crate::token::Token;

pub struct Memory {
    /// Replaced whole by each writer, so a snapshot is a pointer to what was.
    state: Mutex<Arc<State>>,
    keep: Keep,
    news: watch::Sender<()>,
}

#[derive(Clone, Default)]
pub struct State {
    fleet: Option<Fleet>,
    tokens: BTreeMap<TokenId, Token>,
    agents: BTreeMap<AgentId, Agent>,
    sightings: BTreeMap<AgentId, Sighting>,
    settings: BTreeMap<(NodeName, SettingName), Setting>,
    last_setting: u64,
    revisions: BTreeMap<RevisionNumber, Revision>,
    contents: BTreeMap<Digest, Arc<Content>>,
    assignments: BTreeMap<(NodeName, AssignmentNumber), Assigned>,
    rollouts: BTreeMap<RolloutNumber, Rollout>,
    events: BTreeMap<EventNumber, Event>,
    audit: Vec<Entry>,
    accesses: BTreeMap<AccessId, Access>,
}

#[derive(Clone)]
struct Assigned {
    assignment: Assignment,
    ruleset: Arc<[u8]>,
}

impl Memory {
    pub fn new(keep: Keep) -> Self {
        Self { state: Mutex::default(), keep, news: watch::Sender::new(()) }
    }
}

impl Store for Memory {
    type Snapshot = Arc<State>;

    async fn read(&self) -> Result<Self::Snapshot> {
        Ok(self.state.lock().await.clone())
    }

    async fn write(&self, parts: Vec<Write>) -> Result<Vec<Written>> {
        let mut state = self.state.lock().await;
        let mut draft = state.clone();
        let written = apply::write(&mut draft, parts, self.keep).await?;
        *state = draft;
        if has_event(&written) {
            self.news.send_replace(());
        }
        Ok(written)
    }

    fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }
}

fn all<K, V: Clone>(map: &BTreeMap<K, V>) -> Result<Vec<V>> {
    Ok(map.values().cloned().collect())
}

fn newest<K: Copy + Ord, V: Clone>(map: &BTreeMap<K, V>, before: Option<K>, limit: u32) -> Result<Vec<V>> {
    let below = map.iter().rev().filter(|(key, _)| before.is_none_or(|before| **key < before));
    Ok(below.take(limit as usize).map(|(_, value)| value.clone()).collect())
}

impl Read for Arc<State> {
    async fn fleet(&mut self) -> Result<Option<Fleet>> {
        Ok(self.fleet.clone())
    }

    async fn token(&mut self, id: TokenId) -> Result<Option<Token>> {
        Ok(self.tokens.get(&id).cloned())
    }

    async fn token_of(&mut self, secret: Digest) -> Result<Option<Token>> {
        Ok(self.tokens.values().find(|token| token.secret == secret).cloned())
    }

    async fn tokens(&mut self) -> Result<Vec<Token>> {
        all(&self.tokens)
    }

    async fn agent(&mut self, id: AgentId) -> Result<Option<Agent>> {
        Ok(self.agents.get(&id).cloned())
    }

    async fn agent_of(&mut self, node: &NodeName) -> Result<Option<Agent>> {
        Ok(self.agents.values().find(|agent| agent.node == *node && !agent.is_revoked()).cloned())
    }

    async fn holder(&mut self, site: Option<&SiteName>, address: IpAddr) -> Result<Option<AgentId>> {
        let mut live = self.agents.values().filter(|agent| agent.place.site.as_ref() == site && !agent.is_revoked());
        Ok(live.find(|agent| agent.addresses().contains(&address)).map(|agent| agent.id))
    }

    async fn agents(&mut self) -> Result<Vec<Agent>> {
        all(&self.agents)
    }

    async fn sightings(&mut self) -> Result<Vec<Sighting>> {
        all(&self.sightings)
    }

    async fn sighting(&mut self, agent: AgentId) -> Result<Option<Sighting>> {
        Ok(self.sightings.get(&agent).cloned())
    }

    async fn setting(&mut self, node: &NodeName, name: &SettingName) -> Result<Option<Setting>> {
        Ok(self.settings.get(&(node.clone(), name.clone())).cloned())
    }

    async fn settings(&mut self) -> Result<Vec<Setting>> {
        all(&self.settings)
    }

    async fn revision(&mut self, number: RevisionNumber) -> Result<Option<Revision>> {
        Ok(self.revisions.get(&number).cloned())
    }

    async fn revisions(&mut self, before: Option<RevisionNumber>, limit: u32) -> Result<Vec<Revision>> {
        newest(&self.revisions, before, limit)
    }

    async fn content(&mut self, digest: Digest) -> Result<Option<Content>> {
        Ok(self.contents.get(&digest).map(|content| (**content).clone()))
    }

    async fn assignment(&mut self, node: &NodeName, number: AssignmentNumber) -> Result<Option<Assignment>> {
        Ok(self.assignments.get(&(node.clone(), number)).map(|assigned| assigned.assignment.clone()))
    }

    async fn assignments(&mut self) -> Result<Vec<Assignment>> {
        Ok(self.assignments.values().map(|assigned| assigned.assignment.clone()).collect())
    }

    async fn ruleset(&mut self, node: &NodeName, number: AssignmentNumber) -> Result<Option<Arc<[u8]>>> {
        Ok(self.assignments.get(&(node.clone(), number)).map(|assigned| assigned.ruleset.clone()))
    }

    async fn rollout(&mut self, number: RolloutNumber) -> Result<Option<Rollout>> {
        Ok(self.rollouts.get(&number).cloned())
    }

    async fn active_rollout(&mut self) -> Result<Option<Rollout>> {
        Ok(self.rollouts.values().find(|rollout| !rollout.state.is_final()).cloned())
    }

    async fn rollouts(&mut self, before: Option<RolloutNumber>, limit: u32) -> Result<Vec<Rollout>> {
        newest(&self.rollouts, before, limit)
    }

    async fn events(&mut self, after: EventNumber, limit: u32) -> Result<Page> {
        let first = self.events.keys().next().copied();
        let last = self.last_event().await?;
        let events = self.events.range(after.next()..).take(limit as usize).map(|(_, event)| event.clone()).collect();
        Ok(apply::page(events, after, first, last))
    }

    async fn audit(&mut self, after: AuditNumber, limit: u32) -> Result<Vec<Entry>> {
        Ok(self.audit.iter().filter(|entry| entry.number > after).take(limit as usize).cloned().collect())
    }

    async fn access(&mut self, id: AccessId) -> Result<Option<Access>> {
        Ok(self.accesses.get(&id).cloned())
    }

    async fn access_of(&mut self, secret: Digest) -> Result<Option<Access>> {
        Ok(self.accesses.values().find(|access| access.secret == secret).cloned())
    }

    async fn accesses(&mut self) -> Result<Vec<Access>> {
        all(&self.accesses)
    }
}

fn own(state: &mut Arc<State>) -> &mut State {
    Arc::make_mut(state)
}

impl Rows for Arc<State> {
    async fn put_fleet(&mut self, fleet: &Fleet) -> Result<()> {
        own(self).fleet = Some(fleet.clone());
        Ok(())
    }

    async fn put_token(&mut self, token: &Token) -> Result<()> {
        own(self).tokens.insert(token.id, token.clone());
        Ok(())
    }

    async fn put_agent(&mut self, agent: &Agent) -> Result<()> {
        own(self).agents.insert(agent.id, agent.clone());
        Ok(())
    }

    async fn put_sighting(&mut self, sighting: &Sighting) -> Result<()> {
        own(self).sightings.insert(sighting.agent, sighting.clone());
        Ok(())
    }

    async fn last_setting(&mut self) -> Result<u64> {
        Ok(self.last_setting)
    }

    async fn put_last_setting(&mut self, revision: u64) -> Result<()> {
        own(self).last_setting = revision;
        Ok(())
    }

    async fn put_setting(&mut self, setting: &Setting) -> Result<()> {
        own(self).settings.insert((setting.node.clone(), setting.name.clone()), setting.clone());
        Ok(())
    }

    async fn remove_setting(&mut self, node: &NodeName, name: &SettingName) -> Result<()> {
        own(self).settings.remove(&(node.clone(), name.clone()));
        Ok(())
    }

    async fn add_revision(&mut self, revision: &Revision, content: &Content) -> Result<()> {
        let state = own(self);
        state.contents.entry(revision.content).or_insert_with(|| Arc::new(content.clone()));
        state.revisions.insert(revision.number, revision.clone());
        Ok(())
    }

    async fn latest_assignment(&mut self, node: &NodeName) -> Result<Option<Assignment>> {
        let range = (node.clone(), AssignmentNumber(0))..=(node.clone(), AssignmentNumber(u64::MAX));
        Ok(self.assignments.range(range).next_back().map(|(_, assigned)| assigned.assignment.clone()))
    }

    async fn add_assignment(&mut self, assignment: &Assignment, ruleset: &Arc<[u8]>) -> Result<()> {
        let key = (assignment.node.clone(), assignment.number);
        own(self).assignments.insert(key, Assigned { assignment: assignment.clone(), ruleset: ruleset.clone() });
        Ok(())
    }

    async fn put_assignment(&mut self, assignment: &Assignment) -> Result<()> {
        let key = (assignment.node.clone(), assignment.number);
        let row = own(self).assignments.get_mut(&key);
        row.ok_or_else(|| Error::Missing { kind: "assignment", key: assignment.number.to_string() })?.assignment = assignment.clone();
        Ok(())
    }

    async fn prune_assignments(&mut self, node: &NodeName, below: AssignmentNumber) -> Result<()> {
        let of_node = self.assignments.values().rev().map(|assigned| &assigned.assignment).filter(|assignment| assignment.node == *node);
        let confirmed: Vec<_> = of_node.filter(|assignment| assignment.state == assignment::State::Confirmed).collect();
        let newest = confirmed.first().copied();
        let former = confirmed.iter().find(|former| newest.is_some_and(|newest| former.revision < newest.revision)).copied();
        let stay: Vec<_> = newest.into_iter().chain(former).map(|assignment| assignment.number).collect();
        own(self).assignments.retain(|(of, number), _| of != node || *number >= below || stay.contains(number));
        Ok(())
    }

    async fn put_rollout(&mut self, rollout: &Rollout) -> Result<()> {
        own(self).rollouts.insert(rollout.number, rollout.clone());
        Ok(())
    }

    async fn last_event(&mut self) -> Result<EventNumber> {
        Ok(self.events.keys().next_back().copied().unwrap_or_default())
    }

    async fn add_event(&mut self, event: &Event) -> Result<()> {
        own(self).events.insert(event.number, event.clone());
        Ok(())
    }

    async fn prune_events(&mut self, below: EventNumber) -> Result<()> {
        let state = own(self);
        state.events = state.events.split_off(&below);
        Ok(())
    }

    async fn last_audit(&mut self) -> Result<AuditNumber> {
        Ok(self.audit.last().map(|entry| entry.number).unwrap_or_default())
    }

    async fn add_audit(&mut self, entry: &Entry) -> Result<()> {
        own(self).audit.push(entry.clone());
        Ok(())
    }

    async fn put_access(&mut self, access: &Access) -> Result<()> {
        own(self).accesses.insert(access.id, access.clone());
        Ok(())
    }
}
