//! Nodes as they are now: who is there, what each was given, what it enforces, who is late.
//!
//! In: rows, and who is connected. Out: one row for each node. Never: a node of a revoked agent.

use std::collections::BTreeMap;

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
use crate::rollout::{self, Rollout};
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
    let behind = inner.state.control.behind().await?;
    let mut read = inner.state.store.read().await?;
    let (agents, sightings, assignments) = (read.agents().await?, read.sightings().await?, read.assignments().await?);
    let wanted = Wanted::of(&read.rollouts(None, 100).await?);
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
        let is_in = agent.standing == Standing::Approved;
        let late = is_in.then(|| late(newest.get(node).copied(), is_connected, &wanted, node)).flatten();
        let lacks = || (is_in && behind.contains(node)).then(|| "does not have yet what changed in the fleet since its revision".to_owned());
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
            late: late.or_else(lacks),
        }
    };
    let mut nodes: Vec<_> = agents.iter().filter(|agent| !agent.is_revoked()).map(of_agent).collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(nodes)
}

/// What rollouts have brought.
struct Wanted {
    /// By node, the revision of the newest rollout that is done and was for it.
    of_node: BTreeMap<NodeName, RevisionNumber>,
    /// Of the newest rollout that is done: what a node gets that no rollout was for.
    newest: Option<RevisionNumber>,
    /// Of a rollout that is under way, which some nodes have already.
    coming: Option<RevisionNumber>,
}

impl Wanted {
    /// They come newest first.
    fn of(rollouts: &[Rollout]) -> Self {
        let done = || rollouts.iter().filter(|rollout| rollout.state == rollout::State::Done);
        let mut of_node = BTreeMap::new();
        for rollout in done() {
            for node in rollout.waves.iter().flatten() {
                of_node.entry(node.clone()).or_insert(rollout.revision);
            }
        }
        let coming = rollouts.iter().find(|rollout| !rollout.state.is_final()).map(|rollout| rollout.revision);
        Self { of_node, newest: done().next().map(|rollout| rollout.revision), coming }
    }
}

/// Why a node does not enforce what it should.
fn late(newest: Option<&Assignment>, is_connected: bool, wanted: &Wanted, node: &NodeName) -> Option<String> {
    use assignment::State;
    let away = if is_connected { "" } else { ", and is not connected" };
    let lacks = |revision| format!("does not have revision {revision} yet{away}");
    let of_node = wanted.of_node.get(node).copied();
    match newest {
        None => of_node.or(wanted.newest).map(lacks),
        Some(Assignment { state: State::Refused(why), revision, .. }) => Some(format!("refused revision {revision}: {why}")),
        Some(Assignment { state: State::Fell(why), revision, .. }) => Some(format!("fell back from revision {revision}: {why}")),
        Some(Assignment { state: State::Sent | State::Trial, revision, .. }) if !is_connected => {
            Some(format!("has not confirmed revision {revision}, and is not connected"))
        }
        // One that came later got the newest without a rollout of its own.
        Some(Assignment { revision, .. }) if [of_node, wanted.newest, wanted.coming].contains(&Some(*revision)) => None,
        Some(_) => of_node.map(lacks),
    }
    .or_else(|| (!is_connected).then(|| "is not connected".to_owned()))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::id::{AssignmentNumber, Digest, RolloutNumber};
    use crate::rollout::State;
    use crate::time::Time;

    fn name(node: &str) -> NodeName {
        node.parse().expect("a name")
    }

    fn rollout(number: u64, revision: u64, state: State, nodes: &[&str]) -> Rollout {
        let at = Time::from_millisecond(0);
        let waves: Vec<BTreeSet<NodeName>> = vec![nodes.iter().map(|node| name(node)).collect()];
        let rollout = Rollout::new(RolloutNumber(number), RevisionNumber(revision), waves, at).expect("a rollout");
        Rollout { state, ..rollout }
    }

    fn has(revision: u64, state: assignment::State) -> Assignment {
        let sent = Time::from_millisecond(0);
        let (revision, digest) = (RevisionNumber(revision), Digest([0; 32]));
        Assignment { node: name("edge-1"), number: AssignmentNumber(1), revision, digest, state, sent, tried: None, ended: None }
    }

    #[test]
    fn late_is_who_lacks_what_a_rollout_brought() {
        use assignment::State::{Confirmed, Fell, Refused, Sent};
        let stopped = State::Stopped { reason: "no".to_owned(), rolled_back: true };
        let running = State::Running { wave: 0 };
        let wanted = Wanted::of(&[
            rollout(5, 9, running, &["edge-1", "edge-2"]),
            rollout(4, 8, stopped, &["edge-1"]),
            rollout(3, 7, State::Done, &["edge-2"]),
            rollout(2, 6, State::Done, &["edge-1", "edge-2"]),
            rollout(1, 5, State::Done, &["edge-1"]),
        ]);
        let is = |newest: Option<Assignment>, is_connected: bool| late(newest.as_ref(), is_connected, &wanted, &name("edge-1"));
        for good in [6, 7, 9] {
            assert_eq!(is(Some(has(good, Confirmed)), true), None, "{good}");
        }
        assert_eq!(is(Some(has(9, Sent)), true), None, "it is on its way");
        let cases = [
            (Some(has(5, Confirmed)), true, "does not have revision 6 yet"),
            (Some(has(8, Confirmed)), true, "does not have revision 6 yet"),
            (Some(has(5, Confirmed)), false, "does not have revision 6 yet, and is not connected"),
            (None, true, "does not have revision 6 yet"),
            (Some(has(6, Confirmed)), false, "is not connected"),
            (Some(has(9, Sent)), false, "has not confirmed revision 9, and is not connected"),
            (Some(has(9, Refused("no set".to_owned()))), true, "refused revision 9: no set"),
            (Some(has(9, Fell("cut off".to_owned()))), false, "fell back from revision 9: cut off"),
        ];
        for (newest, is_connected, why) in cases {
            assert_eq!(is(newest, is_connected).as_deref(), Some(why));
        }
        assert_eq!(late(None, true, &wanted, &name("edge-9")).as_deref(), Some("does not have revision 7 yet"), "one that joined later");
        assert_eq!(late(None, true, &Wanted::of(&[]), &name("edge-9")), None, "nothing was rolled out yet");
    }
}
