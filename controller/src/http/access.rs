//! Keys to the API.
//!
//! In: scopes and a life. Out: a key, once; rows. Never: a key without an end, or that opens nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use ringwall_api as api;

use super::key::{Admin, Reader};
use super::part::{self, Json, Path};
use super::refused::Refused;
use super::{Api, to_the_end};
use crate::access::{Access, Scope};
use crate::change::Change;
use crate::id::{AccessId, Digest};
use crate::identity::Secret;
use crate::store::{Read as _, Store as _};
use crate::time::Time;

const LIFE_MAX: Duration = Duration::from_secs(3_650 * 86_400);

/// All keys to the API.
#[utoipa::path(get, path = "/api/v1/access-keys", responses((status = 200, body = api::AccessKeys)), security(("key" = ["read"])))]
pub async fn list(Reader(_): Reader, State(inner): Api) -> Result<Json<api::AccessKeys>, Refused> {
    let keys = inner.state.store.read().await?.accesses().await?;
    Ok(Json(api::AccessKeys { keys: keys.iter().map(|key| shape(key, inner.now())).collect() }))
}

/// Make a key: it is in the answer, and nowhere else.
#[utoipa::path(
    post, path = "/api/v1/access-keys", request_body = api::CreateAccessKey,
    responses((status = 201, body = api::CreatedAccessKey)), security(("key" = ["admin"])),
)]
pub async fn create(
    Admin(by): Admin,
    State(inner): Api,
    Json(asked): Json<api::CreateAccessKey>,
) -> Result<(StatusCode, Json<api::CreatedAccessKey>), Refused> {
    let name = part::text("a key's name", asked.name, 200)?;
    if asked.scopes.is_empty() {
        return Err(Refused::malformed("a key has at least one scope"));
    }
    let life = asked.lasts.duration();
    if life.is_zero() || life > LIFE_MAX {
        return Err(Refused::malformed(format!("a key lasts from `1s` to `{}`", api::Span::of(LIFE_MAX))));
    }
    let scopes: BTreeSet<Scope> = asked.scopes.iter().map(|scope| match scope {
        api::Scope::Read => Scope::Read,
        api::Scope::Write => Scope::Write,
        api::Scope::Admin => Scope::Admin,
    }).collect();
    let (now, secret) = (inner.now(), Secret::new(inner.random()));
    let (id, digest) = (AccessId::new(inner.random()), Digest(secret.digest()));
    let key = Access { id, name, secret: digest, scopes, created: now, expires: now.after(life), last_used: None, revoked: None };
    let created = api::CreatedAccessKey { word: secret.to_access(), key: shape(&key, now) };
    to_the_end(async move { inner.change(&by, Change::CreateAccess(key)).await }).await?;
    Ok((StatusCode::CREATED, Json(created)))
}

/// It opens nothing any more, at once; also the key that asks for it.
#[utoipa::path(
    post, path = "/api/v1/access-keys/{id}/revoke", params(("id" = String, Path)),
    responses((status = 204)), security(("key" = ["admin"])),
)]
pub async fn revoke(Admin(by): Admin, State(inner): Api, Path(id): Path<String>) -> Result<StatusCode, Refused> {
    let id: AccessId = id.parse()?;
    to_the_end(async move { inner.change(&by, Change::RevokeAccess(id)).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn shape(key: &Access, now: Time) -> api::AccessKey {
    let scope = |scope: &Scope| match scope {
        Scope::Read => api::Scope::Read,
        Scope::Write => api::Scope::Write,
        Scope::Admin => api::Scope::Admin,
    };
    api::AccessKey {
        id: key.id.to_string(),
        name: key.name.clone(),
        scopes: key.scopes.iter().map(scope).collect(),
        created: key.created.to_string(),
        expires: key.expires.to_string(),
        last_used: key.last_used.map(|at| at.to_string()),
        revoked: key.revoked.map(|at| at.to_string()),
        is_good: key.revoked.is_none() && now < key.expires,
    }
}
