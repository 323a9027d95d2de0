//! Rows to and from SQL. `$1` and `ON CONFLICT` are PostgreSQL's, too.
//!
//! In: rows of ours. Out: statements with bound values. Never: a statement put together from text, a
//! value that is taken on trust because the database has it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection, query};

use crate::access::Access;
use crate::agent::{Agent, Keys, Place, Sighting, Standing};
use crate::assignment::{self, Assignment};
use crate::audit::Entry;
use crate::event::{Event, Page};
use crate::fleet::Fleet;
use crate::id::{
    AccessId, AgentId, AssignmentNumber, AuditNumber, Digest, Epoch, EventNumber, NodeName, RevisionNumber, RolloutNumber,
    SettingName, SiteName, TokenId,
};
use crate::revision::{Content, Revision};
use crate::rollout::Rollout;
use crate::setting::Setting;
use crate::store::rows::Rows;
use crate::store::{Error, Read, Result, apply};
use crate::time::Time;
use crate::token::{Terms, Token};

/// A transaction on a connection, for reading or for writing.
pub struct Transaction(pub(super) sqlx::Transaction<'static, sqlx::Sqlite>);

impl Transaction {
    fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.0
    }
}

// Values: what comes from the database is checked like anything else from outside.

fn text<T: FromStr>(row: &SqliteRow, column: &str) -> Result<T>
where
    Error: From<T::Err>,
{
    Ok(row.try_get::<&str, _>(column)?.parse::<T>()?)
}

fn text_or_null<T: FromStr>(row: &SqliteRow, column: &str) -> Result<Option<T>>
where
    Error: From<T::Err>,
{
    Ok(row.try_get::<Option<&str>, _>(column)?.map(str::parse).transpose()?)
}

fn plain(row: &SqliteRow, column: &str) -> Result<String> {
    Ok(row.try_get(column)?)
}

fn time(row: &SqliteRow, column: &str) -> Result<Time> {
    Ok(Time::from_millisecond(row.try_get(column)?))
}

fn time_or_null(row: &SqliteRow, column: &str) -> Result<Option<Time>> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(Time::from_millisecond))
}

fn number<T: TryFrom<i64>>(row: &SqliteRow, column: &str) -> Result<T> {
    T::try_from(row.try_get(column)?).map_err(|_| Error::Damaged(format!("`{column}` is out of range")))
}

fn json<T: DeserializeOwned>(row: &SqliteRow, column: &str) -> Result<T> {
    Ok(serde_json::from_str(row.try_get(column)?)?)
}

fn json_or_null<T: DeserializeOwned>(row: &SqliteRow, column: &str) -> Result<Option<T>> {
    Ok(row.try_get::<Option<&str>, _>(column)?.map(serde_json::from_str).transpose()?)
}

fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    Ok(serde_json::to_string(value)?)
}

/// Numbers of ours begin at 1 and are counted up, so none is near the end of either type.
fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What no row's number is above.
fn below<N>(number: Option<N>, value: impl Fn(N) -> u64) -> i64 {
    number.map_or(i64::MAX, |number| sql(value(number)))
}

// Rows.

fn fleet(row: &SqliteRow) -> Result<Fleet> {
    Ok(Fleet { id: text(row, "id")?, epoch: Epoch(number(row, "epoch")?), ca: text(row, "ca")?, created: time(row, "created")? })
}

fn token(row: &SqliteRow) -> Result<Token> {
    let uses = NonZeroU32::new(number(row, "uses")?);
    let terms = Terms {
        uses: uses.ok_or_else(|| Error::Damaged("a token without uses".to_owned()))?,
        expires: time(row, "expires")?,
        node: text_or_null(row, "node")?,
        site: text_or_null(row, "site")?,
        labels: json(row, "labels")?,
        location: row.try_get("location")?,
        prefixes: json(row, "prefixes")?,
        needs_approval: row.try_get("needs_approval")?,
    };
    let (id, secret) = (text(row, "id")?, text(row, "secret")?);
    Ok(Token { id, secret, terms, created: time(row, "created")?, used: number(row, "used")?, revoked: time_or_null(row, "revoked")? })
}

fn agent(row: &SqliteRow) -> Result<Agent> {
    let place = Place {
        site: text_or_null(row, "site")?,
        labels: json(row, "labels")?,
        location: row.try_get("location")?,
        prefixes: json(row, "prefixes")?,
    };
    let standing = match plain(row, "standing")?.as_str() {
        "pending" => Standing::Pending,
        "approved" => Standing::Approved,
        _ => Standing::Revoked { at: time(row, "revoked")?, reason: plain(row, "reason")? },
    };
    Ok(Agent {
        id: text(row, "id")?,
        node: text(row, "node")?,
        place,
        reported: json(row, "reported")?,
        keys: Keys { newest: text(row, "key")?, previous: text_or_null(row, "previous_key")? },
        certificate_expires: time(row, "certificate_expires")?,
        standing,
        token: text(row, "token")?,
        enrolled: time(row, "enrolled")?,
    })
}

fn sighting(row: &SqliteRow) -> Result<Sighting> {
    Ok(Sighting { agent: text(row, "agent")?, at: time(row, "at")?, facts: json(row, "facts")? })
}

fn setting(row: &SqliteRow) -> Result<Setting> {
    Ok(Setting { node: text(row, "node")?, name: text(row, "name")?, value: json(row, "value")?, revision: number(row, "revision")? })
}

fn revision(row: &SqliteRow) -> Result<Revision> {
    Ok(Revision {
        number: RevisionNumber(number(row, "number")?),
        content: text(row, "content")?,
        author: plain(row, "author")?,
        message: plain(row, "message")?,
        source: json(row, "source")?,
        created: time(row, "created")?,
    })
}

const STATES: &str = "a state that no assignment has";

fn assignment(row: &SqliteRow) -> Result<Assignment> {
    let state = match plain(row, "state")?.as_str() {
        "sent" => assignment::State::Sent,
        "trial" => assignment::State::Trial,
        "confirmed" => assignment::State::Confirmed,
        "refused" => assignment::State::Refused(plain(row, "reason")?),
        "fell" => assignment::State::Fell(plain(row, "reason")?),
        _ => return Err(Error::Damaged(STATES.to_owned())),
    };
    Ok(Assignment {
        node: text(row, "node")?,
        number: AssignmentNumber(number(row, "number")?),
        revision: RevisionNumber(number(row, "revision")?),
        digest: text(row, "digest")?,
        state,
        sent: time(row, "sent")?,
        tried: time_or_null(row, "tried")?,
        ended: time_or_null(row, "ended")?,
    })
}

fn state(state: &assignment::State) -> (&'static str, Option<&str>) {
    match state {
        assignment::State::Sent => ("sent", None),
        assignment::State::Trial => ("trial", None),
        assignment::State::Confirmed => ("confirmed", None),
        assignment::State::Refused(reason) => ("refused", Some(reason)),
        assignment::State::Fell(reason) => ("fell", Some(reason)),
    }
}

fn rollout(row: &SqliteRow) -> Result<Rollout> {
    Ok(Rollout {
        number: RolloutNumber(number(row, "number")?),
        revision: RevisionNumber(number(row, "revision")?),
        waves: json(row, "waves")?,
        state: json(row, "state")?,
        results: json(row, "results")?,
        created: time(row, "created")?,
        changed: time(row, "changed")?,
    })
}

fn event(row: &SqliteRow) -> Result<Event> {
    Ok(Event {
        number: EventNumber(number(row, "number")?),
        at: time(row, "at")?,
        kind: plain(row, "kind")?,
        node: text_or_null(row, "node")?,
        body: json(row, "body")?,
    })
}

fn entry(row: &SqliteRow) -> Result<Entry> {
    Ok(Entry {
        number: AuditNumber(number(row, "number")?),
        at: time(row, "at")?,
        who: json(row, "who")?,
        change: plain(row, "change")?,
        kind: plain(row, "kind")?,
        key: plain(row, "key")?,
        before: json_or_null(row, "before")?,
        after: json_or_null(row, "after")?,
    })
}

fn access(row: &SqliteRow) -> Result<Access> {
    Ok(Access {
        id: text(row, "id")?,
        name: plain(row, "name")?,
        secret: text(row, "secret")?,
        scopes: json(row, "scopes")?,
        created: time(row, "created")?,
        expires: time(row, "expires")?,
        last_used: time_or_null(row, "last_used")?,
        revoked: time_or_null(row, "revoked")?,
    })
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

impl Transaction {
    async fn one<T>(&mut self, query: Query<'_>, read: impl Fn(&SqliteRow) -> Result<T>) -> Result<Option<T>> {
        query.fetch_optional(self.connection()).await?.as_ref().map(read).transpose()
    }

    async fn all<T>(&mut self, query: Query<'_>, read: impl Fn(&SqliteRow) -> Result<T>) -> Result<Vec<T>> {
        query.fetch_all(self.connection()).await?.iter().map(read).collect()
    }

    async fn run(&mut self, query: Query<'_>) -> Result<u64> {
        Ok(query.execute(self.connection()).await?.rows_affected())
    }

    /// Of a query for one number; nothing is 0.
    async fn last(&mut self, query: Query<'_>) -> Result<u64> {
        let read = |row: &SqliteRow| Ok(row.try_get::<Option<i64>, _>(0)?.and_then(|number| u64::try_from(number).ok()));
        Ok(self.one(query, read).await?.flatten().unwrap_or(0))
    }
}

const ASSIGNMENT: &str = "SELECT node, number, revision, digest, state, reason, sent, tried, ended FROM assignments \
     WHERE node = $1 AND number = $2";

impl Read for Transaction {
    async fn fleet(&mut self) -> Result<Option<Fleet>> {
        self.one(query("SELECT * FROM fleet"), fleet).await
    }

    async fn token(&mut self, id: TokenId) -> Result<Option<Token>> {
        self.one(query("SELECT * FROM tokens WHERE id = $1").bind(id.to_string()), token).await
    }

    async fn token_of(&mut self, secret: Digest) -> Result<Option<Token>> {
        self.one(query("SELECT * FROM tokens WHERE secret = $1").bind(secret.to_string()), token).await
    }

    async fn tokens(&mut self) -> Result<Vec<Token>> {
        self.all(query("SELECT * FROM tokens ORDER BY id"), token).await
    }

    async fn agent(&mut self, id: AgentId) -> Result<Option<Agent>> {
        self.one(query("SELECT * FROM agents WHERE id = $1").bind(id.to_string()), agent).await
    }

    async fn agent_of(&mut self, node: &NodeName) -> Result<Option<Agent>> {
        let found = query("SELECT * FROM agents WHERE node = $1 AND standing <> 'revoked'").bind(node.to_string());
        self.one(found, agent).await
    }

    async fn holder(&mut self, site: Option<&SiteName>, address: IpAddr) -> Result<Option<AgentId>> {
        let site = site.map_or("", SiteName::as_str).to_owned();
        let found = query("SELECT agent FROM addresses WHERE site = $1 AND address = $2").bind(site).bind(address.to_string());
        self.one(found, |row| text(row, "agent")).await
    }

    async fn agents(&mut self) -> Result<Vec<Agent>> {
        self.all(query("SELECT * FROM agents ORDER BY id"), agent).await
    }

    async fn sightings(&mut self) -> Result<Vec<Sighting>> {
        self.all(query("SELECT * FROM sightings ORDER BY agent"), sighting).await
    }

    async fn sighting(&mut self, agent: AgentId) -> Result<Option<Sighting>> {
        self.one(query("SELECT * FROM sightings WHERE agent = $1").bind(agent.to_string()), sighting).await
    }

    async fn setting(&mut self, node: &NodeName, name: &SettingName) -> Result<Option<Setting>> {
        let found = query("SELECT * FROM settings WHERE node = $1 AND name = $2").bind(node.to_string()).bind(name.to_string());
        self.one(found, setting).await
    }

    async fn settings(&mut self) -> Result<Vec<Setting>> {
        self.all(query("SELECT * FROM settings ORDER BY node, name"), setting).await
    }

    async fn revision(&mut self, number: RevisionNumber) -> Result<Option<Revision>> {
        self.one(query("SELECT * FROM revisions WHERE number = $1").bind(sql(number.0)), revision).await
    }

    async fn revisions(&mut self, before: Option<RevisionNumber>, limit: u32) -> Result<Vec<Revision>> {
        let newest = query("SELECT * FROM revisions WHERE number < $1 ORDER BY number DESC LIMIT $2");
        self.all(newest.bind(below(before, |number| number.0)).bind(limit), revision).await
    }

    async fn content(&mut self, digest: Digest) -> Result<Option<Content>> {
        let found = query("SELECT files, bindings FROM contents WHERE digest = $1").bind(digest.to_string());
        self.one(found, |row| Ok(Content { files: json(row, "files")?, values: json(row, "bindings")? })).await
    }

    async fn assignment(&mut self, node: &NodeName, number: AssignmentNumber) -> Result<Option<Assignment>> {
        self.one(query(ASSIGNMENT).bind(node.to_string()).bind(sql(number.0)), assignment).await
    }

    async fn assignments(&mut self) -> Result<Vec<Assignment>> {
        let every = "SELECT node, number, revision, digest, state, reason, sent, tried, ended FROM assignments ORDER BY node, number";
        self.all(query(every), assignment).await
    }

    async fn ruleset(&mut self, node: &NodeName, number: AssignmentNumber) -> Result<Option<Arc<[u8]>>> {
        let found = query("SELECT ruleset FROM assignments WHERE node = $1 AND number = $2");
        self.one(found.bind(node.to_string()).bind(sql(number.0)), |row| Ok(row.try_get::<&[u8], _>("ruleset")?.into())).await
    }

    async fn rollout(&mut self, number: RolloutNumber) -> Result<Option<Rollout>> {
        self.one(query("SELECT * FROM rollouts WHERE number = $1").bind(sql(number.0)), rollout).await
    }

    async fn active_rollout(&mut self) -> Result<Option<Rollout>> {
        self.one(query("SELECT * FROM rollouts WHERE is_active = 1"), rollout).await
    }

    async fn rollouts(&mut self, before: Option<RolloutNumber>, limit: u32) -> Result<Vec<Rollout>> {
        let newest = query("SELECT * FROM rollouts WHERE number < $1 ORDER BY number DESC LIMIT $2");
        self.all(newest.bind(below(before, |number| number.0)).bind(limit), rollout).await
    }

    async fn events(&mut self, after: EventNumber, limit: u32) -> Result<Page> {
        let first = self.last(query("SELECT min(number) FROM events")).await?;
        let last = self.last_event().await?;
        let found = query("SELECT * FROM events WHERE number > $1 ORDER BY number LIMIT $2").bind(sql(after.0)).bind(limit);
        let events = self.all(found, event).await?;
        Ok(apply::page(events, after, (first > 0).then_some(EventNumber(first)), last))
    }

    async fn audit(&mut self, after: AuditNumber, limit: u32) -> Result<Vec<Entry>> {
        let found = query("SELECT * FROM audit WHERE number > $1 ORDER BY number LIMIT $2");
        self.all(found.bind(sql(after.0)).bind(limit), entry).await
    }

    async fn access(&mut self, id: AccessId) -> Result<Option<Access>> {
        self.one(query("SELECT * FROM access WHERE id = $1").bind(id.to_string()), access).await
    }

    async fn access_of(&mut self, secret: Digest) -> Result<Option<Access>> {
        self.one(query("SELECT * FROM access WHERE secret = $1").bind(secret.to_string()), access).await
    }

    async fn accesses(&mut self) -> Result<Vec<Access>> {
        self.all(query("SELECT * FROM access ORDER BY id"), access).await
    }
}

impl Rows for Transaction {
    async fn put_fleet(&mut self, fleet: &Fleet) -> Result<()> {
        let put = "INSERT INTO fleet (row, id, epoch, ca, created) VALUES (1, $1, $2, $3, $4) ON CONFLICT (row) DO UPDATE SET \
             id = excluded.id, epoch = excluded.epoch, ca = excluded.ca, created = excluded.created";
        let put = query(put).bind(fleet.id.to_string()).bind(sql(fleet.epoch.0)).bind(fleet.ca.to_string());
        self.run(put.bind(fleet.created.as_millisecond())).await.map(drop)
    }

    async fn put_token(&mut self, token: &Token) -> Result<()> {
        let put = "INSERT INTO tokens (id, secret, uses, used, expires, node, site, labels, location, prefixes, needs_approval, \
             created, revoked) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
             ON CONFLICT (id) DO UPDATE SET used = excluded.used, revoked = excluded.revoked";
        let terms = &token.terms;
        let put = query(put).bind(token.id.to_string()).bind(token.secret.to_string()).bind(terms.uses.get()).bind(token.used);
        let put = put.bind(terms.expires.as_millisecond()).bind(terms.node.as_ref().map(ToString::to_string));
        let put = put.bind(terms.site.as_ref().map(ToString::to_string)).bind(to_json(&terms.labels)?).bind(terms.location.clone());
        let put = put.bind(to_json(&terms.prefixes)?).bind(terms.needs_approval).bind(token.created.as_millisecond());
        self.run(put.bind(token.revoked.map(Time::as_millisecond))).await.map(drop)
    }

    async fn put_agent(&mut self, agent: &Agent) -> Result<()> {
        let put = "INSERT INTO agents (id, node, site, labels, location, prefixes, reported, key, previous_key, \
             certificate_expires, standing, revoked, reason, token, enrolled) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) ON CONFLICT (id) DO UPDATE SET \
             site = excluded.site, labels = excluded.labels, location = excluded.location, prefixes = excluded.prefixes, \
             reported = excluded.reported, key = excluded.key, previous_key = excluded.previous_key, \
             certificate_expires = excluded.certificate_expires, standing = excluded.standing, revoked = excluded.revoked, \
             reason = excluded.reason";
        let (standing, revoked, reason) = match &agent.standing {
            Standing::Pending => ("pending", None, None),
            Standing::Approved => ("approved", None, None),
            Standing::Revoked { at, reason } => ("revoked", Some(at.as_millisecond()), Some(reason.clone())),
        };
        let (id, place) = (agent.id.to_string(), &agent.place);
        let put = query(put).bind(id.clone()).bind(agent.node.to_string()).bind(place.site.as_ref().map(ToString::to_string));
        let put = put.bind(to_json(&place.labels)?).bind(place.location.clone()).bind(to_json(&place.prefixes)?);
        let put = put.bind(to_json(&agent.reported)?).bind(agent.keys.newest.to_string());
        let put = put.bind(agent.keys.previous.map(|key| key.to_string())).bind(agent.certificate_expires.as_millisecond());
        let put = put.bind(standing).bind(revoked).bind(reason).bind(agent.token.to_string());
        self.run(put.bind(agent.enrolled.as_millisecond())).await?;
        self.run(query("DELETE FROM addresses WHERE agent = $1").bind(id.clone())).await?;
        let counted = if agent.is_revoked() { BTreeSet::new() } else { agent.addresses() };
        let site = place.site.as_ref().map_or("", SiteName::as_str);
        for address in counted {
            let add = query("INSERT INTO addresses (site, address, agent) VALUES ($1, $2, $3)");
            self.run(add.bind(site.to_owned()).bind(address.to_string()).bind(id.clone())).await?;
        }
        Ok(())
    }

    async fn put_sighting(&mut self, sighting: &Sighting) -> Result<()> {
        let put = "INSERT INTO sightings (agent, at, facts) VALUES ($1, $2, $3) ON CONFLICT (agent) DO UPDATE SET \
             at = excluded.at, facts = excluded.facts";
        let put = query(put).bind(sighting.agent.to_string()).bind(sighting.at.as_millisecond()).bind(to_json(&sighting.facts)?);
        self.run(put).await.map(drop)
    }

    async fn last_setting(&mut self) -> Result<u64> {
        self.last(query("SELECT value FROM counters WHERE name = 'setting'")).await
    }

    async fn put_last_setting(&mut self, revision: u64) -> Result<()> {
        let put = "INSERT INTO counters (name, value) VALUES ('setting', $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        self.run(query(put).bind(sql(revision))).await.map(drop)
    }

    async fn put_setting(&mut self, setting: &Setting) -> Result<()> {
        let put = "INSERT INTO settings (node, name, value, revision) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (node, name) DO UPDATE SET value = excluded.value, revision = excluded.revision";
        let put = query(put).bind(setting.node.to_string()).bind(setting.name.to_string()).bind(to_json(&setting.value)?);
        self.run(put.bind(sql(setting.revision))).await.map(drop)
    }

    async fn remove_setting(&mut self, node: &NodeName, name: &SettingName) -> Result<()> {
        let remove = query("DELETE FROM settings WHERE node = $1 AND name = $2").bind(node.to_string()).bind(name.to_string());
        self.run(remove).await.map(drop)
    }

    async fn add_revision(&mut self, revision: &Revision, content: &Content) -> Result<()> {
        let digest = revision.content.to_string();
        let add = query("INSERT INTO contents (digest, files, bindings) VALUES ($1, $2, $3) ON CONFLICT (digest) DO NOTHING");
        self.run(add.bind(digest.clone()).bind(to_json(&content.files)?).bind(to_json(&content.values)?)).await?;
        let add = "INSERT INTO revisions (number, content, author, message, source, created) VALUES ($1, $2, $3, $4, $5, $6)";
        let add = query(add).bind(sql(revision.number.0)).bind(digest).bind(revision.author.clone());
        let add = add.bind(revision.message.clone()).bind(to_json(&revision.source)?);
        self.run(add.bind(revision.created.as_millisecond())).await.map(drop)
    }

    async fn latest_assignment(&mut self, node: &NodeName) -> Result<Option<Assignment>> {
        let latest = "SELECT node, number, revision, digest, state, reason, sent, tried, ended FROM assignments \
             WHERE node = $1 ORDER BY number DESC LIMIT 1";
        self.one(query(latest).bind(node.to_string()), assignment).await
    }

    async fn add_assignment(&mut self, assignment: &Assignment, ruleset: &Arc<[u8]>) -> Result<()> {
        let add = "INSERT INTO assignments (node, number, revision, digest, state, reason, sent, tried, ended, ruleset) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let (state, reason) = state(&assignment.state);
        let add = query(add).bind(assignment.node.to_string()).bind(sql(assignment.number.0)).bind(sql(assignment.revision.0));
        let add = add.bind(assignment.digest.to_string()).bind(state).bind(reason.map(str::to_owned));
        let add = add.bind(assignment.sent.as_millisecond()).bind(assignment.tried.map(Time::as_millisecond));
        self.run(add.bind(assignment.ended.map(Time::as_millisecond)).bind(ruleset.to_vec())).await.map(drop)
    }

    async fn put_assignment(&mut self, assignment: &Assignment) -> Result<()> {
        let put = "UPDATE assignments SET state = $3, reason = $4, tried = $5, ended = $6 WHERE node = $1 AND number = $2";
        let (state, reason) = state(&assignment.state);
        let put = query(put).bind(assignment.node.to_string()).bind(sql(assignment.number.0)).bind(state).bind(reason.map(str::to_owned));
        let put = put.bind(assignment.tried.map(Time::as_millisecond)).bind(assignment.ended.map(Time::as_millisecond));
        match self.run(put).await? {
            0 => Err(Error::Missing { kind: "assignment", key: assignment.number.to_string() }),
            _ => Ok(()),
        }
    }

    async fn prune_assignments(&mut self, node: &NodeName, below: AssignmentNumber) -> Result<()> {
        let prune = "WITH confirmed AS (SELECT number, revision FROM assignments WHERE node = $1 AND state = 'confirmed'), \
             newest AS (SELECT number, revision FROM confirmed ORDER BY number DESC LIMIT 1), \
             former AS (SELECT number FROM confirmed WHERE revision < (SELECT revision FROM newest) ORDER BY number DESC LIMIT 1) \
             DELETE FROM assignments WHERE node = $1 AND number < $2 \
             AND number NOT IN (SELECT number FROM newest UNION SELECT number FROM former)";
        self.run(query(prune).bind(node.to_string()).bind(sql(below.0))).await.map(drop)
    }

    async fn put_rollout(&mut self, rollout: &Rollout) -> Result<()> {
        let put = "INSERT INTO rollouts (number, revision, waves, state, is_active, results, created, changed) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (number) DO UPDATE SET \
             state = excluded.state, is_active = excluded.is_active, results = excluded.results, changed = excluded.changed";
        let put = query(put).bind(sql(rollout.number.0)).bind(sql(rollout.revision.0)).bind(to_json(&rollout.waves)?);
        let put = put.bind(to_json(&rollout.state)?).bind(!rollout.state.is_final()).bind(to_json(&rollout.results)?);
        self.run(put.bind(rollout.created.as_millisecond()).bind(rollout.changed.as_millisecond())).await.map(drop)
    }

    async fn last_event(&mut self) -> Result<EventNumber> {
        self.last(query("SELECT max(number) FROM events")).await.map(EventNumber)
    }

    async fn add_event(&mut self, event: &Event) -> Result<()> {
        let add = query("INSERT INTO events (number, at, kind, node, body) VALUES ($1, $2, $3, $4, $5)");
        let add = add.bind(sql(event.number.0)).bind(event.at.as_millisecond()).bind(event.kind.clone());
        self.run(add.bind(event.node.as_ref().map(ToString::to_string)).bind(to_json(&event.body)?)).await.map(drop)
    }

    async fn prune_events(&mut self, below: EventNumber) -> Result<()> {
        self.run(query("DELETE FROM events WHERE number < $1").bind(sql(below.0))).await.map(drop)
    }

    async fn last_audit(&mut self) -> Result<AuditNumber> {
        self.last(query("SELECT max(number) FROM audit")).await.map(AuditNumber)
    }

    async fn add_audit(&mut self, entry: &Entry) -> Result<()> {
        let add = "INSERT INTO audit (number, at, who, change, kind, key, before, after) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let add = query(add).bind(sql(entry.number.0)).bind(entry.at.as_millisecond()).bind(to_json(&entry.who)?);
        let add = add.bind(entry.change.clone()).bind(entry.kind.clone()).bind(entry.key.clone());
        let add = add.bind(entry.before.as_ref().map(to_json).transpose()?);
        self.run(add.bind(entry.after.as_ref().map(to_json).transpose()?)).await.map(drop)
    }

    async fn put_access(&mut self, access: &Access) -> Result<()> {
        let put = "INSERT INTO access (id, name, secret, scopes, created, expires, last_used, revoked) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO UPDATE SET \
             last_used = excluded.last_used, revoked = excluded.revoked";
        let put = query(put).bind(access.id.to_string()).bind(access.name.clone()).bind(access.secret.to_string());
        let put = put.bind(to_json(&access.scopes)?).bind(access.created.as_millisecond()).bind(access.expires.as_millisecond());
        let put = put.bind(access.last_used.map(Time::as_millisecond)).bind(access.revoked.map(Time::as_millisecond));
        self.run(put).await.map(drop)
    }
}
