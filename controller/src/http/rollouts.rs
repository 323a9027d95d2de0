//! Rollouts: started, paused, resumed, taken back.
//!
//! In: a revision and its waves, numbers, reasons. Out: rows; the core does the rest. Never: a command to another
//! rollout than the one that was named.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use ringwall_api as api;

use super::key::{Reader, Writer};
use super::part::{self, Before, Json, Path, Query};
use super::refused::Refused;
use super::{Api, Inner, to_the_end};
use crate::audit::Actor;
use crate::core::Waves;
use crate::id::{NodeName, RevisionNumber, RolloutNumber};
use crate::rollout::{self, Rollout};
use crate::store::{Read as _, Store as _};

const WAVES_MAX: usize = 20;

/// Rollouts, newest first; one that is not over is the first.
#[utoipa::path(get, path = "/api/v1/rollouts", params(Before), responses((status = 200, body = api::Rollouts)), security(("key" = ["read"])))]
pub async fn list(Reader(_): Reader, State(inner): Api, Query(page): Query<Before>) -> Result<Json<api::Rollouts>, Refused> {
    let limit = part::limit(page.limit)?;
    let rollouts = inner.state.store.read().await?.rollouts(page.before.map(RolloutNumber), limit).await?;
    let next = rollouts.last().filter(|last| rollouts.len() == limit as usize && last.number.0 > 1).map(|last| last.number.0);
    Ok(Json(api::Rollouts { rollouts: rollouts.iter().map(shape).collect(), next }))
}

/// Bring a revision to all nodes that don't have it, wave by wave. An earlier revision is gone back to in the same way.
#[utoipa::path(
    post, path = "/api/v1/rollouts", request_body = api::StartRollout,
    responses((status = 201, body = api::Rollout)), security(("key" = ["write"])),
)]
pub async fn start(
    Writer(key): Writer,
    State(inner): Api,
    Json(asked): Json<api::StartRollout>,
) -> Result<(StatusCode, Json<api::Rollout>), Refused> {
    if asked.percents.len() > WAVES_MAX || !asked.percents.iter().all(|percent| (1..=100).contains(percent)) {
        return Err(Refused::malformed(format!("`percents` are at most {WAVES_MAX} numbers from 1 to 100")));
    }
    let canary = asked.canary.into_iter().map(|node| node.parse()).collect::<Result<std::collections::BTreeSet<NodeName>, _>>()?;
    let known = {
        let mut read = inner.state.store.read().await?;
        read.agents().await?.into_iter().filter(|agent| !agent.is_revoked()).map(|agent| agent.node).collect::<std::collections::BTreeSet<_>>()
    };
    if let Some(stranger) = canary.difference(&known).next() {
        return Err(Refused::missing("node", stranger));
    }
    let window = u32::try_from(asked.window.duration().as_secs()).ok().filter(|window| ringwall_protocol::WINDOW.contains(window));
    let window = window.ok_or_else(|| Refused::malformed(format!("`window` is within {:?} seconds", ringwall_protocol::WINDOW)))?;
    let waves = Waves { canary, percents: asked.percents, window };
    let rollout = to_the_end(async move {
        let who = Actor::Access(key.id);
        if !asked.accept_exposure {
            inner.state.control.exposes_no_more(RevisionNumber(asked.revision)).await?;
        }
        Ok(inner.state.control.start_rollout(who, RevisionNumber(asked.revision), waves).await?)
    });
    Ok((StatusCode::CREATED, Json(shape(&rollout.await?))))
}

/// One rollout, as far as it came.
#[utoipa::path(
    get, path = "/api/v1/rollouts/{number}", params(("number" = u64, Path)),
    responses((status = 200, body = api::Rollout)), security(("key" = ["read"])),
)]
pub async fn one(Reader(_): Reader, State(inner): Api, Path(number): Path<u64>) -> Result<Json<api::Rollout>, Refused> {
    Ok(Json(shape(&row(&inner, number).await?)))
}

/// No further wave begins until it is resumed.
#[utoipa::path(
    post, path = "/api/v1/rollouts/{number}/pause", params(("number" = u64, Path)), request_body = api::Reason,
    responses((status = 202, description = "It is being done: look at the rollout")), security(("key" = ["write"])),
)]
pub async fn pause(
    Writer(key): Writer,
    State(inner): Api,
    Path(number): Path<u64>,
    Json(api::Reason { reason }): Json<api::Reason>,
) -> Result<StatusCode, Refused> {
    let reason = part::text("a reason", reason, 500)?;
    allows(&row(&inner, number).await?, "paused", |state| matches!(state, rollout::State::Running { .. }))?;
    to_the_end(async move { Ok(inner.state.control.pause(Actor::Access(key.id), reason).await?) }).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Go on with a rollout that is paused.
#[utoipa::path(
    post, path = "/api/v1/rollouts/{number}/resume", params(("number" = u64, Path)),
    responses((status = 202, description = "It is being done: look at the rollout")), security(("key" = ["write"])),
)]
pub async fn resume(Writer(key): Writer, State(inner): Api, Path(number): Path<u64>) -> Result<StatusCode, Refused> {
    allows(&row(&inner, number).await?, "resumed", |state| matches!(state, rollout::State::Paused { .. }))?;
    to_the_end(async move { Ok(inner.state.control.resume(Actor::Access(key.id)).await?) }).await?;
    Ok(StatusCode::ACCEPTED)
}

/// End the rollout; its nodes go back to what they had.
#[utoipa::path(
    post, path = "/api/v1/rollouts/{number}/rollback", params(("number" = u64, Path)), request_body = api::Reason,
    responses((status = 202, description = "It is being done: look at the rollout")), security(("key" = ["write"])),
)]
pub async fn roll_back(
    Writer(key): Writer,
    State(inner): Api,
    Path(number): Path<u64>,
    Json(api::Reason { reason }): Json<api::Reason>,
) -> Result<StatusCode, Refused> {
    let reason = part::text("a reason", reason, 500)?;
    let can_go_back = |state: &rollout::State| matches!(state, rollout::State::Running { .. } | rollout::State::Paused { .. });
    allows(&row(&inner, number).await?, "rolled back", can_go_back)?;
    to_the_end(async move { Ok(inner.state.control.roll_back(Actor::Access(key.id), reason).await?) }).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn row(inner: &Inner, number: u64) -> Result<Rollout, Refused> {
    let rollout = inner.state.store.read().await?.rollout(RolloutNumber(number)).await?;
    rollout.ok_or_else(|| Refused::missing("rollout", number))
}

fn allows(rollout: &Rollout, what: &str, state: impl Fn(&rollout::State) -> bool) -> Result<(), Refused> {
    if state(&rollout.state) {
        return Ok(());
    }
    let is = match &rollout.state {
        rollout::State::Running { .. } => "runs",
        rollout::State::Paused { .. } => "is paused already",
        rollout::State::RollingBack { .. } => "goes back already",
        rollout::State::Done => "is done; to go back, roll out the earlier revision",
        rollout::State::Stopped { .. } => "was stopped; start another one",
    };
    Err(Refused::new(api::Code::State, format!("the rollout {} can't be {what}: it {is}", rollout.number)))
}

fn shape(rollout: &Rollout) -> api::Rollout {
    use api::RolloutState as Shape;
    use rollout::State;
    let (state, wave, reason, is_rolled_back) = match &rollout.state {
        State::Running { wave } => (Shape::Running, Some(*wave), None, None),
        State::Paused { wave, reason } => (Shape::Paused, Some(*wave), Some(reason.clone()), None),
        State::RollingBack { reason } => (Shape::RollingBack, None, Some(reason.clone()), None),
        State::Done => (Shape::Done, None, None, None),
        State::Stopped { reason, rolled_back } => (Shape::Stopped, None, Some(reason.clone()), Some(*rolled_back)),
    };
    let none = BTreeMap::new();
    let wave_shape = |(index, nodes): (usize, &std::collections::BTreeSet<NodeName>)| {
        let outcomes = rollout.results.get(index).unwrap_or(&none);
        let outcomes = outcomes.iter().map(|(node, outcome)| {
            let shape = api::Outcome {
                assignment: outcome.assignment.0,
                is_good: outcome.result.is_ok(),
                reason: outcome.result.as_ref().err().cloned(),
                at: outcome.at.to_string(),
            };
            (node.to_string(), shape)
        });
        api::Wave { nodes: nodes.iter().map(ToString::to_string).collect(), outcomes: outcomes.collect() }
    };
    api::Rollout {
        number: rollout.number.0,
        revision: rollout.revision.0,
        state,
        wave: wave.map(|wave| wave as u64),
        reason,
        is_rolled_back,
        waves: rollout.waves.iter().enumerate().map(wave_shape).collect(),
        created: rollout.created.to_string(),
        changed: rollout.changed.to_string(),
    }
}
