//! Agents: who is let in, and what an operator decides about them.
//!
//! In: ids, places. Out: rows; the core is told of each change. Never: a label that an agent chose.

use std::collections::BTreeMap;

use axum::extract::State;
use ringwall_api as api;

use super::key::{Admin, Reader};
use super::part::{self, Json, Path};
use super::refused::Refused;
use super::{Api, Inner, to_the_end};
use crate::access::Access;
use crate::agent::{Agent, Place, Sighting, Standing};
use crate::change::Change;
use crate::id::AgentId;
use crate::rulesets::Inventory;
use crate::store::{Read as _, Store as _};

/// All agents.
#[utoipa::path(get, path = "/api/v1/agents", responses((status = 200, body = api::Agents)), security(("key" = ["read"])))]
pub async fn list(Reader(_): Reader, State(inner): Api) -> Result<Json<api::Agents>, Refused> {
    let mut read = inner.state.store.read().await?;
    let (agents, sightings) = (read.agents().await?, read.sightings().await?);
    let seen: BTreeMap<_, _> = sightings.iter().map(|sighting| (sighting.agent, sighting)).collect();
    Ok(Json(api::Agents { agents: agents.iter().map(|agent| shape(agent, seen.get(&agent.id).copied())).collect() }))
}

/// One agent.
#[utoipa::path(
    get, path = "/api/v1/agents/{id}", params(("id" = String, Path)),
    responses((status = 200, body = api::Agent)), security(("key" = ["read"])),
)]
pub async fn one(Reader(_): Reader, State(inner): Api, Path(id): Path<String>) -> Result<Json<api::Agent>, Refused> {
    Ok(Json(now(&inner, id.parse()?).await?))
}

/// Let a node in that enrolled and waits.
#[utoipa::path(
    post, path = "/api/v1/agents/{id}/approve", params(("id" = String, Path)),
    responses((status = 200, body = api::Agent)), security(("key" = ["admin"])),
)]
pub async fn approve(Admin(key): Admin, State(inner): Api, Path(id): Path<String>) -> Result<Json<api::Agent>, Refused> {
    let id = id.parse()?;
    changed(inner, key, id, Change::Approve(id)).await
}

/// For ever, and at once: its stream ends, and it enforces on what it has.
#[utoipa::path(
    post, path = "/api/v1/agents/{id}/revoke", params(("id" = String, Path)), request_body = api::Reason,
    responses((status = 200, body = api::Agent)), security(("key" = ["admin"])),
)]
pub async fn revoke(
    Admin(key): Admin,
    State(inner): Api,
    Path(id): Path<String>,
    Json(api::Reason { reason }): Json<api::Reason>,
) -> Result<Json<api::Agent>, Refused> {
    let (agent, reason) = (id.parse()?, part::text("a reason", reason, 500)?);
    changed(inner, key, agent, Change::Revoke { agent, reason }).await
}

/// Say where a node stands and what it is: all of it, in the place of what was said before.
#[utoipa::path(
    put, path = "/api/v1/agents/{id}/place", params(("id" = String, Path)), request_body = api::SetPlace,
    responses((status = 200, body = api::Agent)), security(("key" = ["admin"])),
)]
pub async fn place(
    Admin(key): Admin,
    State(inner): Api,
    Path(id): Path<String>,
    Json(asked): Json<api::SetPlace>,
) -> Result<Json<api::Agent>, Refused> {
    let agent = id.parse()?;
    let place = Place {
        site: part::site(asked.site)?,
        labels: part::labels(asked.labels)?,
        location: part::location(asked.location)?,
        prefixes: part::prefixes(asked.prefixes)?,
    };
    let put = |inventory: &mut Inventory| {
        let row = inventory.agents.iter_mut().find(|row| row.id == agent);
        row.into_iter().for_each(|row| row.place = place.clone());
    };
    inner.state.control.try_change(put).await?;
    changed(inner, key, agent, Change::Place { agent, place }).await
}

async fn changed(inner: Inner, key: Access, id: AgentId, change: Change) -> Result<Json<api::Agent>, Refused> {
    to_the_end(async move {
        inner.change(&key, change).await?;
        inner.state.control.agent_changed(id).await?;
        Ok(Json(now(&inner, id).await?))
    })
    .await
}

async fn now(inner: &Inner, id: AgentId) -> Result<api::Agent, Refused> {
    let mut read = inner.state.store.read().await?;
    let agent = read.agent(id).await?.ok_or_else(|| Refused::missing("agent", id))?;
    Ok(shape(&agent, read.sighting(id).await?.as_ref()))
}

pub fn standing(agent: &Agent) -> api::Standing {
    match agent.standing {
        Standing::Pending => api::Standing::Pending,
        Standing::Approved => api::Standing::Approved,
        Standing::Revoked { .. } => api::Standing::Revoked,
    }
}

pub fn place_shape(place: &Place) -> api::Place {
    api::Place {
        site: place.site.as_ref().map(ToString::to_string),
        labels: place.labels.iter().map(|(name, value)| (name.to_string(), value.clone())).collect(),
        location: place.location.clone(),
        prefixes: place.prefixes.iter().map(ToString::to_string).collect(),
    }
}

fn shape(agent: &Agent, seen: Option<&Sighting>) -> api::Agent {
    let (revoked, reason) = match &agent.standing {
        Standing::Revoked { at, reason } => (Some(at.to_string()), Some(reason.clone())),
        Standing::Pending | Standing::Approved => (None, None),
    };
    api::Agent {
        id: agent.id.to_string(),
        node: agent.node.to_string(),
        standing: standing(agent),
        revoked,
        reason,
        place: place_shape(&agent.place),
        addresses: agent.addresses().iter().map(ToString::to_string).collect(),
        reported: agent.reported.iter().map(ToString::to_string).collect(),
        certificate_expires: agent.certificate_expires.to_string(),
        token: agent.token.to_string(),
        enrolled: agent.enrolled.to_string(),
        last_seen: seen.map(|seen| seen.at.to_string()),
        facts: seen.map(|seen| seen.facts.clone()),
    }
}
