//! Nodes as they are now: who is there, what each was given, what it enforces, who is late.
//!
//! In: rows, and who is connected. Out: one row for each node. Never: a node of a revoked agent.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use ringwall_api as api;
use serde::Deserialize;
use utoipa::IntoParams;

use super::agents::{place_shape, standing};
use super::key::Reader;
use super::part::{self, Json, Path, Query};
use super::refused::Refused;
use super::{Api, Inner};
use crate::agent::Standing;
use crate::assignment::{self, Assignment};
use crate::id::{NodeName, RevisionNumber};
use crate::rollout;
use crate::store::{Read as _, Store as _};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// Only nodes of this site.
    site: Option<String>,
    /// Only those that are late, or only those that are not.
    late: Option<bool>,
}

/// All nodes, as they are now.
#[utoipa::path(get, path = "/api/v1/nodes", params(Which), responses((status = 200, body = api::Nodes)), security(("key" = ["read"])))]
pub async fn list(Reader(_): Reader, State(inner): Api, Query(which): Query<Which>) -> Result<Json<api::Nodes>, Refused> {
    let site = part::site(which.site)?.map(|site| site.to_string());
    let mut nodes = nodes(&inner).await?;
    nodes.retain(|node| site.is_none() || node.place.site == site);
    nodes.retain(|node| which.late.is_none_or(|late| node.late.is_some() == late));
    Ok(Json(api::Nodes { nodes }))
}

/// One node, as it is now.
#[utoipa::path(
    get, path = "/api/v1/nodes/{node}", params(("node" = String, Path)),
    responses((status = 200, body = api::Node)), security(("key" = ["read"])),
)]
pub async fn one(Reader(_): Reader, State(inner): Api, Path(node): Path<String>) -> Result<Json<api::Node>, Refused> {
    let name: NodeName = node.parse()?;
    let found = nodes(&inner).await?.into_iter().find(|node| node.name == name.as_str());
    found.map(Json).ok_or_else(|| Refused::missing("node", name))
}

/// By name.
pub async fn nodes(inner: &Inner) -> Result<Vec<api::Node>, Refused> {
    let connected = inner.state.control.connected().await?;
    let mut read = inner.state.store.read().await?;
    let (agents, sightings, assignments) = (read.agents().await?, read.sightings().await?, read.assignments().await?);
    let wanted = wanted(&read.rollouts(None, 100).await?);
    drop(read);
    let seen: BTreeMap<_, _> = sightings.iter().map(|sighting| (sighting.agent, sighting.at)).collect();
    let mut newest: BTreeMap<&NodeName, &Assignment> = BTreeMap::new();
    let mut enforced: BTreeMap<&NodeName, &Assignment> = BTreeMap::new();
    // They come by node and number.
    for assignment in &assignments {
        newest.insert(&assignment.node, assignment);
        if assignment.state == assignment::State::Confirmed {
            enforced.insert(&assignment.node, assignment);
        }
    }
    let of_agent = |agent: &crate::agent::Agent| {
        let node = &agent.node;
        let is_connected = connected.contains(node);
        let late = (agent.standing == Standing::Approved)
            .then(|| late(newest.get(node).copied(), is_connected, wanted.as_ref().filter(|(_, nodes)| nodes.contains(node)).map(|(revision, _)| *revision)))
            .flatten();
        api::Node {
            name: node.to_string(),
            agent: agent.id.to_string(),
            standing: standing(agent),
            is_connected,
            last_seen: seen.get(&agent.id).map(ToString::to_string),
            place: place_shape(&agent.place),
            addresses: agent.addresses().iter().map(ToString::to_string).collect(),
            assignment: newest.get(node).map(|assignment| shape(assignment)),
            enforces: enforced.get(node).map(|assignment| shape(assignment)),
            late,
        }
    };
    let mut nodes: Vec<_> = agents.iter().filter(|agent| !agent.is_revoked()).map(of_agent).collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(nodes)
}

/// What the newest rollout that was not stopped has brought: its revision, and to whom.
fn wanted(rollouts: &[rollout::Rollout]) -> Option<(RevisionNumber, BTreeSet<NodeName>)> {
    let done = rollouts.iter().find(|rollout| rollout.state == rollout::State::Done)?;
    Some((done.revision, done.waves.iter().flatten().cloned().collect()))
}

/// Why a node does not enforce what it should.
fn late(newest: Option<&Assignment>, is_connected: bool, wanted: Option<RevisionNumber>) -> Option<String> {
    use assignment::State;
    let away = if is_connected { "" } else { ", and is not connected" };
    match (newest, wanted) {
        (Some(Assignment { state: State::Refused(why), revision, .. }), _) => Some(format!("refused revision {revision}: {why}")),
        (Some(Assignment { state: State::Fell(why), revision, .. }), _) => Some(format!("fell back from revision {revision}: {why}")),
        (Some(Assignment { state: State::Sent | State::Trial, revision, .. }), _) if !is_connected => {
            Some(format!("has not confirmed revision {revision}, and is not connected"))
        }
        (Some(assignment), Some(revision)) if assignment.revision < revision => Some(format!("does not have revision {revision} yet{away}")),
        (None, Some(revision)) => Some(format!("does not have revision {revision} yet{away}")),
        (_, _) if !is_connected => Some("is not connected".to_owned()),
        (_, _) => None,
    }
}

fn shape(assignment: &Assignment) -> api::Assignment {
    use api::AssignmentState as Shape;
    use assignment::State;
    let (state, reason) = match &assignment.state {
        State::Sent => (Shape::Sent, None),
        State::Trial => (Shape::Trial, None),
        State::Confirmed => (Shape::Confirmed, None),
        State::Refused(why) => (Shape::Refused, Some(why.clone())),
        State::Fell(why) => (Shape::Fell, Some(why.clone())),
    };
    api::Assignment {
        number: assignment.number.0,
        revision: assignment.revision.0,
        digest: assignment.digest.to_string(),
        state,
        reason,
        sent: assignment.sent.to_string(),
        tried: assignment.tried.map(|at| at.to_string()),
        ended: assignment.ended.map(|at| at.to_string()),
    }
}
