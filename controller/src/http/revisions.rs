//! Revisions of the policy.
//!
//! In: files and values. Out: the same under a number; what a rollout of them would change. Never: a path that leads
//! out of the policy's folder.

use axum::extract::State;
use axum::http::StatusCode;
use ringwall_api as api;

use super::key::{Reader, Writer};
use super::part::{self, Before, Json, Path, Query};
use super::refused::Refused;
use super::{Api, to_the_end};
use crate::change::{Change, Written};
use crate::id::RevisionNumber;
use crate::revision::{Content, NewRevision, Revision, Source};
use crate::store::{Read as _, Store as _};

/// Revisions, newest first.
#[utoipa::path(get, path = "/api/v1/revisions", params(Before), responses((status = 200, body = api::Revisions)), security(("key" = ["read"])))]
pub async fn list(Reader(_): Reader, State(inner): Api, Query(page): Query<Before>) -> Result<Json<api::Revisions>, Refused> {
    let limit = part::limit(page.limit)?;
    let revisions = inner.state.store.read().await?.revisions(page.before.map(RevisionNumber), limit).await?;
    let next = revisions.last().filter(|last| revisions.len() == limit as usize && last.number.0 > 1).map(|last| last.number.0);
    Ok(Json(api::Revisions { revisions: revisions.iter().map(shape).collect(), next }))
}

/// Commit a revision: it gets a number, and nothing else happens.
#[utoipa::path(
    post, path = "/api/v1/revisions", request_body = api::CommitRevision,
    responses((status = 201, body = api::Revision)), security(("key" = ["write"])),
)]
pub async fn commit(
    Writer(key): Writer,
    State(inner): Api,
    Json(asked): Json<api::CommitRevision>,
) -> Result<(StatusCode, Json<api::Revision>), Refused> {
    let api::CommitRevision { files, values, message, source } = asked;
    let revision = NewRevision {
        content: checked(Content { files, values })?,
        author: key.name.clone(),
        message: if message.is_empty() { message } else { part::text("a message", message, 1_000)? },
        source: match source {
            api::Source::Cli => Source::Cli,
            api::Source::Api => Source::Api,
            api::Source::Git(id) => Source::Git(part::text("a commit's id", id, 64)?),
        },
    };
    let revision = to_the_end(async move {
        let Written::Revision(number) = inner.change(&key, Change::Commit(revision)).await? else {
            return Err(Refused::missing("revision", "that was committed"));
        };
        inner.state.store.read().await?.revision(number).await?.ok_or_else(|| Refused::missing("revision", number))
    });
    Ok((StatusCode::CREATED, Json(shape(&revision.await?))))
}

fn checked(content: Content) -> Result<Content, Refused> {
    content.check().map_err(Refused::malformed)?;
    Ok(content)
}

/// One revision.
#[utoipa::path(
    get, path = "/api/v1/revisions/{number}", params(("number" = u64, Path)),
    responses((status = 200, body = api::Revision)), security(("key" = ["read"])),
)]
pub async fn one(Reader(_): Reader, State(inner): Api, Path(number): Path<u64>) -> Result<Json<api::Revision>, Refused> {
    let revision = inner.state.store.read().await?.revision(RevisionNumber(number)).await?;
    revision.map(|revision| Json(shape(&revision))).ok_or_else(|| Refused::missing("revision", number))
}

/// The files and values of a revision.
#[utoipa::path(
    get, path = "/api/v1/revisions/{number}/content", params(("number" = u64, Path)),
    responses((status = 200, body = api::Content)), security(("key" = ["read"])),
)]
pub async fn content(Reader(_): Reader, State(inner): Api, Path(number): Path<u64>) -> Result<Json<api::Content>, Refused> {
    let mut read = inner.state.store.read().await?;
    let missing = || Refused::missing("revision", number);
    let revision = read.revision(RevisionNumber(number)).await?.ok_or_else(missing)?;
    let Content { files, values } = read.content(revision.content).await?.ok_or_else(missing)?;
    Ok(Json(api::Content { files, values }))
}

/// Compile the revision for the nodes of now, and say which of them a rollout would change.
#[utoipa::path(
    get, path = "/api/v1/revisions/{number}/outdated", params(("number" = u64, Path)),
    responses((status = 200, body = api::Outdated)), security(("key" = ["read"])),
)]
pub async fn outdated(Reader(_): Reader, State(inner): Api, Path(number): Path<u64>) -> Result<Json<api::Outdated>, Refused> {
    let nodes = inner.state.control.outdated(RevisionNumber(number)).await?;
    Ok(Json(api::Outdated { revision: number, nodes: nodes.iter().map(ToString::to_string).collect() }))
}

fn shape(revision: &Revision) -> api::Revision {
    api::Revision {
        number: revision.number.0,
        content: revision.content.to_string(),
        author: revision.author.clone(),
        message: revision.message.clone(),
        source: match &revision.source {
            Source::Cli => api::Source::Cli,
            Source::Api => api::Source::Api,
            Source::Git(id) => api::Source::Git(id.clone()),
        },
        created: revision.created.to_string(),
    }
}
