//! What each change does, whatever the store.
//!
//! In: the parts of a transaction, rows. Out: rows, with an entry in the audit log for each one that
//! a change touched. Never: a row put by a change without that entry, since all go through [`Log`].

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::rows::Rows;
use super::{Error, Keep, Read, Result};
use crate::access::Access;
use crate::agent::{Agent, Keys, Place, Sighting, Standing};
use crate::assignment::{self, Assignment, NewAssignment};
use crate::audit::{Actor, Audited, Entry};
use crate::change::{Change, Enrol, Observed, Renew, Write, Written};
use crate::event::{Event, Page};
use crate::fleet::Fleet;
use crate::id::{AccessId, AgentId, AssignmentNumber, AuditNumber, Digest, Epoch, EventNumber, NodeName, SettingName};
use crate::revision::{NewRevision, Revision};
use crate::rollout::Rollout;
use crate::setting::Setting;
use crate::time::Time;
use crate::token::{self, Claim};

pub async fn write<R: Rows>(rows: &mut R, parts: Vec<Write>, keep: Keep) -> Result<Vec<Written>> {
    let (mut written, mut last) = (Vec::with_capacity(parts.len()), None);
    for part in parts {
        written.push(match part {
            Write::Change(audited) => change(rows, &mut last, audited, keep).await?,
            Write::Observed { at, what } => observe(rows, at, what, keep).await?,
        });
    }
    Ok(written)
}

/// The page of what a store holds after a number, of which the first and the last are known.
pub fn page(events: Vec<Event>, after: EventNumber, first: Option<EventNumber>, last: EventNumber) -> Page {
    let is_gone = first.is_some_and(|first| first > after.next());
    // A number that no event has yet is of a time before a restore.
    Page { events, has_gap: is_gone || after > last }
}

/// Puts rows and says so in the audit log.
struct Log<'a, R> {
    rows: &'a mut R,
    /// The newest entry, once it is known.
    last: &'a mut Option<AuditNumber>,
    who: Actor,
    at: Time,
    change: &'static str,
}

impl<R: Rows> Log<'_, R> {
    async fn entry(&mut self, kind: &str, key: impl ToString, before: Option<Value>, after: Option<Value>) -> Result<()> {
        let last = match *self.last {
            Some(last) => last,
            None => self.rows.last_audit().await?,
        };
        let number = last.next();
        *self.last = Some(number);
        let (change, kind, key) = (self.change.to_owned(), kind.to_owned(), key.to_string());
        self.rows.add_audit(&Entry { number, at: self.at, who: self.who.clone(), change, kind, key, before, after }).await
    }

    async fn put_token(&mut self, before: Option<&token::Token>, token: &token::Token) -> Result<()> {
        self.rows.put_token(token).await?;
        self.entry("token", token.id, json(before)?, json(Some(token))?).await
    }

    async fn put_agent(&mut self, before: Option<&Agent>, agent: &Agent) -> Result<()> {
        if !agent.is_revoked() {
            for address in agent.addresses() {
                let holder = self.rows.holder(agent.place.site.as_ref(), address).await?;
                if let Some(other) = holder.filter(|holder| *holder != agent.id) {
                    let other = self.rows.agent(other).await?;
                    let holder = other.map_or_else(String::new, |other| other.node.to_string());
                    return Err(Error::AddressTaken { address, holder });
                }
            }
        }
        self.rows.put_agent(agent).await?;
        self.entry("agent", agent.id, json(before)?, json(Some(agent))?).await
    }

    async fn put_rollout(&mut self, before: Option<&Rollout>, rollout: &Rollout) -> Result<()> {
        self.rows.put_rollout(rollout).await?;
        self.entry("rollout", rollout.number, json(before)?, json(Some(rollout))?).await
    }

    async fn agent(&mut self, id: AgentId) -> Result<Agent> {
        let agent = self.rows.agent(id).await?.ok_or_else(|| missing("agent", id))?;
        if agent.is_revoked() { Err(Error::Revoked(id)) } else { Ok(agent) }
    }
}

fn json<T: serde::Serialize>(row: Option<&T>) -> Result<Option<Value>> {
    Ok(row.map(serde_json::to_value).transpose()?)
}

fn missing(kind: &'static str, key: impl ToString) -> Error {
    Error::Missing { kind, key: key.to_string() }
}

fn taken(kind: &'static str, key: impl ToString) -> Error {
    Error::Taken { kind, key: key.to_string() }
}

async fn change<R: Rows>(
    rows: &mut R,
    last: &mut Option<AuditNumber>,
    Audited { who, at, change }: Audited,
    keep: Keep,
) -> Result<Written> {
    let log = &mut Log { rows, last, who, at, change: change.name() };
    match change {
        Change::Found(fleet) => {
            if log.rows.fleet().await?.is_some() {
                return Err(taken("fleet", fleet.id));
            }
            log.rows.put_fleet(&fleet).await?;
            log.entry("fleet", fleet.id, None, json(Some(&fleet))?).await?;
        }
        Change::CreateToken(token) => {
            if log.rows.token(token.id).await?.is_some() || log.rows.token_of(token.secret).await?.is_some() {
                return Err(taken("token", token.id));
            }
            log.put_token(None, &token).await?;
        }
        Change::RevokeToken(id) => {
            let token = log.rows.token(id).await?.ok_or_else(|| missing("token", id))?;
            if token.revoked.is_none() {
                log.put_token(Some(&token), &token::Token { revoked: Some(at), ..token.clone() }).await?;
            }
        }
        Change::Enrol(enrol) => return self::enrol(log, enrol).await,
        Change::Approve(id) => {
            let agent = log.agent(id).await?;
            if agent.standing == Standing::Pending {
                log.put_agent(Some(&agent), &Agent { standing: Standing::Approved, ..agent.clone() }).await?;
            }
        }
        Change::Revoke { agent, reason } => {
            let agent = log.agent(agent).await?;
            log.put_agent(Some(&agent), &Agent { standing: Standing::Revoked { at, reason }, ..agent.clone() }).await?;
        }
        Change::Renew(renew) => return self::renew(log, renew).await,
        Change::Report { agent, addresses } => {
            let agent = log.agent(agent).await?;
            if agent.reported != addresses {
                log.put_agent(Some(&agent), &Agent { reported: addresses, ..agent.clone() }).await?;
            }
        }
        Change::Place { agent, place } => {
            let agent = log.agent(agent).await?;
            if agent.place != place {
                log.put_agent(Some(&agent), &Agent { place, ..agent.clone() }).await?;
            }
        }
        Change::Set { node, name, value } => set(log, node, name, value).await?,
        Change::Commit(new) => return commit(log, new).await,
        Change::Assign(new) => return assign(log, new, keep).await,
        Change::StartRollout { revision, waves } => {
            if let Some(active) = log.rows.active_rollout().await? {
                return Err(Error::RolloutActive(active.number));
            }
            log.rows.revision(revision).await?.ok_or_else(|| missing("revision", revision))?;
            let last = log.rows.rollouts(None, 1).await?.first().map(|rollout| rollout.number).unwrap_or_default();
            let rollout = Rollout::new(last.next(), revision, waves, at)?;
            log.put_rollout(None, &rollout).await?;
            return Ok(Written::Rollout(rollout.number));
        }
        Change::StepRollout { rollout, state, results } => {
            let before = log.rows.rollout(rollout).await?.ok_or_else(|| missing("rollout", rollout))?;
            let after = before.with(state, results, at)?;
            log.put_rollout(Some(&before), &after).await?;
        }
        Change::CreateAccess(access) => {
            if log.rows.access(access.id).await?.is_some() || log.rows.access_of(access.secret).await?.is_some() {
                return Err(taken("API token", access.id));
            }
            log.rows.put_access(&access).await?;
            log.entry("access", access.id, None, json(Some(&access))?).await?;
        }
        Change::RevokeAccess(id) => {
            let before = log.rows.access(id).await?.ok_or_else(|| missing("API token", id))?;
            if before.revoked.is_none() {
                let after = Access { revoked: Some(at), ..before.clone() };
                log.rows.put_access(&after).await?;
                log.entry("access", id, json(Some(&before))?, json(Some(&after))?).await?;
            }
        }
    }
    Ok(Written::Nothing)
}

async fn enrol<R: Rows>(log: &mut Log<'_, R>, enrol: Enrol) -> Result<Written> {
    let Enrol { secret, claim, agent: id, key, certificate_expires } = enrol;
    let token = log.rows.token_of(secret).await?.ok_or(token::Refusal::Unknown)?;
    let node = token.node(&claim).clone();
    if let Some(agent) = log.rows.agent(id).await? {
        return enrol_again(log, &token, agent, node, claim, key, certificate_expires).await;
    }
    token.admits(&claim, log.at)?;
    if let Some(holder) = log.rows.agent_of(&node).await? {
        return Err(Error::NodeTaken { node: node.to_string(), agent: holder.id });
    }
    let used = token::Token { used: token.used.saturating_add(1), ..token.clone() };
    log.put_token(Some(&token), &used).await?;
    let terms = token.terms;
    let place = Place { site: terms.site, labels: terms.labels, location: terms.location, prefixes: terms.prefixes };
    let agent = Agent {
        id,
        node,
        place,
        reported: claim.addresses,
        keys: Keys { newest: key, previous: None },
        certificate_expires,
        standing: if terms.needs_approval { Standing::Pending } else { Standing::Approved },
        token: token.id,
        enrolled: log.at,
    };
    log.put_agent(None, &agent).await?;
    Ok(enrolled(&agent))
}

fn enrolled(agent: &Agent) -> Written {
    if agent.standing == Standing::Pending { Written::Pending(agent.id) } else { Written::Agent(agent.id) }
}

/// The same secret and key: the answer was lost, or told the node to ask again. The token's use was
/// counted, and in time; but once the agent has been seen it has its certificate, and renews that.
async fn enrol_again<R: Rows>(
    log: &mut Log<'_, R>,
    token: &token::Token,
    agent: Agent,
    node: NodeName,
    claim: Claim,
    key: Digest,
    certificate_expires: Time,
) -> Result<Written> {
    let is_same = agent.node == node && agent.keys == Keys { newest: key, previous: None } && !agent.is_revoked();
    if !is_same || log.rows.sighting(agent.id).await?.is_some() {
        return Err(taken("agent", agent.id));
    }
    token.fits(&claim, log.at)?;
    // Nothing is made out while it waits.
    let is_pending = agent.standing == Standing::Pending;
    let certificate_expires = if is_pending { agent.certificate_expires } else { certificate_expires };
    let again = Agent { reported: claim.addresses, certificate_expires, ..agent.clone() };
    if again != agent {
        log.put_agent(Some(&agent), &again).await?;
    }
    Ok(enrolled(&again))
}

async fn renew<R: Rows>(log: &mut Log<'_, R>, renew: Renew) -> Result<Written> {
    let agent = log.agent(renew.agent).await?;
    if !agent.keys.has(renew.proved) {
        return Err(Error::ForeignKey { agent: agent.id, key: renew.proved });
    }
    let keys = Keys { newest: renew.key, previous: (renew.key != renew.proved).then_some(renew.proved) };
    log.put_agent(Some(&agent), &Agent { keys, certificate_expires: renew.certificate_expires, ..agent.clone() }).await?;
    Ok(Written::Agent(agent.id))
}

async fn set<R: Rows>(log: &mut Log<'_, R>, node: NodeName, name: SettingName, value: Option<Value>) -> Result<()> {
    let before = log.rows.setting(&node, &name).await?;
    if before.as_ref().map(|before| &before.value) == value.as_ref() {
        return Ok(());
    }
    let revision = log.rows.last_setting().await? + 1;
    log.rows.put_last_setting(revision).await?;
    let key = format!("{node}/{name}");
    let after = match value {
        Some(value) => {
            let setting = Setting { node, name, value, revision };
            log.rows.put_setting(&setting).await?;
            Some(setting)
        }
        None => {
            log.rows.remove_setting(&node, &name).await?;
            None
        }
    };
    log.entry("setting", key, json(before.as_ref())?, json(after.as_ref())?).await
}

async fn commit<R: Rows>(log: &mut Log<'_, R>, new: NewRevision) -> Result<Written> {
    let last = log.rows.revisions(None, 1).await?.first().map(|revision| revision.number).unwrap_or_default();
    let NewRevision { content, author, message, source } = new;
    let revision = Revision { number: last.next(), content: content.digest(), author, message, source, created: log.at };
    log.rows.add_revision(&revision, &content).await?;
    log.entry("revision", revision.number, None, json(Some(&revision))?).await?;
    Ok(Written::Revision(revision.number))
}

async fn assign<R: Rows>(log: &mut Log<'_, R>, new: Vec<NewAssignment>, keep: Keep) -> Result<Written> {
    let (mut numbers, mut revisions) = (Vec::with_capacity(new.len()), BTreeSet::new());
    for NewAssignment { node, revision, ruleset } in new {
        if revisions.insert(revision) {
            log.rows.revision(revision).await?.ok_or_else(|| missing("revision", revision))?;
        }
        let before = log.rows.latest_assignment(&node).await?;
        let number = before.as_ref().map(|before| before.number).unwrap_or_default().next();
        let digest = Digest::of(&ruleset);
        let state = assignment::State::Sent;
        let after = Assignment { node, number, revision, digest, state, sent: log.at, tried: None, ended: None };
        log.rows.add_assignment(&after, &ruleset).await?;
        let oldest = AssignmentNumber((number.0 + 1).saturating_sub(keep.assignments.max(1)));
        if oldest > AssignmentNumber(1) {
            log.rows.prune_assignments(&after.node, oldest).await?;
        }
        log.entry("assignment", &after.node, json(before.as_ref())?, json(Some(&after))?).await?;
        numbers.push((after.node, number));
    }
    Ok(Written::Assigned(numbers))
}

async fn observe<R: Rows>(rows: &mut R, at: Time, what: Observed, keep: Keep) -> Result<Written> {
    match what {
        Observed::Seen { agent, facts } => {
            if rows.agent(agent).await?.is_none() {
                return Ok(Written::Unknown);
            }
            let before = rows.sighting(agent).await?;
            let facts = facts.or(before.map(|before| before.facts)).unwrap_or(Value::Null);
            rows.put_sighting(&Sighting { agent, at, facts }).await?;
        }
        Observed::Progress { node, number, state } => {
            let Some(before) = rows.assignment(&node, number).await? else { return Ok(Written::Unknown) };
            if let Some(after) = before.with(state, at) {
                rows.put_assignment(&after).await?;
            }
        }
        Observed::Event(new) => {
            let number = rows.last_event().await?.next();
            rows.add_event(&Event { number, at, kind: new.kind, node: new.node, body: new.body }).await?;
            let oldest = EventNumber((number.0 + 1).saturating_sub(keep.events.max(1)));
            if oldest > EventNumber(1) {
                rows.prune_events(oldest).await?;
            }
            return Ok(Written::Event(number));
        }
        Observed::AccessUsed(id) => {
            let Some(before) = rows.access(id).await? else { return Ok(Written::Unknown) };
            if before.last_used.is_none_or(|last| last < at) {
                rows.put_access(&Access { last_used: Some(at), ..before }).await?;
            }
        }
    }
    Ok(Written::Nothing)
}

/// After a restore: a higher epoch, which agents take as newer whatever the numbers in it say, and
/// nothing that was withdrawn since the backup is given back. Tokens may have been used up since, so
/// all of them end. The epoch is at least the time in seconds, since a backup that is restored twice
/// knows nothing of the first time when the store in between is lost.
pub async fn restored<R: Rows>(rows: &mut R, who: Actor, at: Time, past: &Past) -> Result<Fleet> {
    let log = &mut Log { rows, last: &mut None, who, at, change: "restore" };
    let before = log.rows.fleet().await?.ok_or_else(|| missing("fleet", ""))?;
    let epoch = before.epoch.max(past.epoch).next().0.max(u64::try_from(at.as_second()).unwrap_or(0));
    let fleet = Fleet { epoch: Epoch(epoch), ..before.clone() };
    log.rows.put_fleet(&fleet).await?;
    log.entry("fleet", fleet.id, json(Some(&before))?, json(Some(&fleet))?).await?;
    for token in log.rows.tokens().await?.into_iter().filter(|token| token.revoked.is_none()) {
        log.put_token(Some(&token), &token::Token { revoked: Some(at), ..token.clone() }).await?;
    }
    for agent in log.rows.agents().await?.into_iter().filter(|agent| !agent.is_revoked()) {
        if let Some(standing) = past.revoked.get(&agent.id) {
            log.put_agent(Some(&agent), &Agent { standing: standing.clone(), ..agent.clone() }).await?;
        }
    }
    for access in log.rows.accesses().await?.into_iter().filter(|access| access.revoked.is_none()) {
        if let Some(revoked) = past.withdrawn.get(&access.id) {
            let after = Access { revoked: Some(*revoked), ..access.clone() };
            log.rows.put_access(&after).await?;
            log.entry("access", access.id, json(Some(&access))?, json(Some(&after))?).await?;
        }
    }
    Ok(fleet)
}

/// What a store that is replaced by a backup knew, as far as it can be read.
#[derive(Default)]
pub struct Past {
    pub epoch: Epoch,
    pub revoked: BTreeMap<AgentId, Standing>,
    pub withdrawn: BTreeMap<AccessId, Time>,
}

pub async fn past<R: Read>(rows: &mut R) -> Result<Past> {
    let epoch = rows.fleet().await?.map(|fleet| fleet.epoch).unwrap_or_default();
    let revoked = rows.agents().await?.into_iter().filter(Agent::is_revoked).map(|agent| (agent.id, agent.standing)).collect();
    let withdrawn = rows.accesses().await?.into_iter().filter_map(|access| Some((access.id, access.revoked?))).collect();
    Ok(Past { epoch, revoked, withdrawn })
}
