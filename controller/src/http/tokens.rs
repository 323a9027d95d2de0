//! Tokens for enrolment.
//!
//! In: terms. Out: a word, once; rows. Never: a token without an end.

use std::num::NonZeroU32;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use ringwall_api as api;

use super::key::{Admin, Reader};
use super::part::{self, Json, Path};
use super::refused::Refused;
use super::{Api, to_the_end};
use crate::change::Change;
use crate::id::{Digest, TokenId};
use crate::identity::{Invitation, Secret};
use crate::store::{Read as _, Store as _};
use crate::time::Time;
use crate::token::{Terms, Token};

const LIFE_MAX: Duration = Duration::from_secs(30 * 86_400);

/// All tokens.
#[utoipa::path(get, path = "/api/v1/tokens", responses((status = 200, body = api::Tokens)), security(("key" = ["read"])))]
pub async fn list(Reader(_): Reader, State(inner): Api) -> Result<Json<api::Tokens>, Refused> {
    let tokens = inner.state.store.read().await?.tokens().await?;
    Ok(Json(api::Tokens { tokens: tokens.iter().map(|token| shape(token, inner.now())).collect() }))
}

/// Make a token: its word is in the answer, and nowhere else.
#[utoipa::path(
    post, path = "/api/v1/tokens", request_body = api::CreateToken,
    responses((status = 201, body = api::CreatedToken)), security(("key" = ["admin"])),
)]
pub async fn create(
    Admin(key): Admin,
    State(inner): Api,
    Json(asked): Json<api::CreateToken>,
) -> Result<(StatusCode, Json<api::CreatedToken>), Refused> {
    let uses = NonZeroU32::new(asked.uses).ok_or_else(|| Refused::malformed("a token is for at least one use"))?;
    let life = asked.lasts.duration();
    if life.is_zero() || life > LIFE_MAX {
        return Err(Refused::malformed(format!("a token lasts from `1s` to `{}`", api::Span::of(LIFE_MAX))));
    }
    if asked.node.is_some() && uses.get() > 1 {
        return Err(Refused::malformed("a token that names its node is for one use: a node has one agent"));
    }
    let now = inner.now();
    let terms = Terms {
        uses,
        expires: now.after(life),
        node: asked.node.map(|node| node.parse()).transpose()?,
        site: part::site(asked.site)?,
        labels: part::labels(asked.labels)?,
        location: part::location(asked.location)?,
        prefixes: part::prefixes(asked.prefixes)?,
        needs_approval: asked.needs_approval,
    };
    let secret = Secret::new(inner.random());
    let digest = Digest(secret.digest());
    let controllers = inner.state.controllers.clone();
    let word = Invitation::new(secret, inner.state.authority.fingerprint().0, controllers).map_err(|error| Refused::internal(&error))?;
    let token = Token { id: TokenId::new(inner.random()), secret: digest, terms, created: now, used: 0, revoked: None };
    let created = api::CreatedToken { word: word.to_string(), token: shape(&token, now) };
    to_the_end(async move { inner.change(&key, Change::CreateToken(token)).await }).await?;
    Ok((StatusCode::CREATED, Json(created)))
}

/// One token.
#[utoipa::path(
    get, path = "/api/v1/tokens/{id}", params(("id" = String, Path)),
    responses((status = 200, body = api::Token)), security(("key" = ["read"])),
)]
pub async fn one(Reader(_): Reader, State(inner): Api, Path(id): Path<String>) -> Result<Json<api::Token>, Refused> {
    let id: TokenId = id.parse()?;
    let token = inner.state.store.read().await?.token(id).await?.ok_or_else(|| Refused::missing("token", id))?;
    Ok(Json(shape(&token, inner.now())))
}

/// No node enrols with it any more; those that did stay.
#[utoipa::path(
    post, path = "/api/v1/tokens/{id}/revoke", params(("id" = String, Path)),
    responses((status = 204)), security(("key" = ["admin"])),
)]
pub async fn revoke(Admin(key): Admin, State(inner): Api, Path(id): Path<String>) -> Result<StatusCode, Refused> {
    let id: TokenId = id.parse()?;
    to_the_end(async move { inner.change(&key, Change::RevokeToken(id)).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn shape(token: &Token, now: Time) -> api::Token {
    let terms = &token.terms;
    api::Token {
        id: token.id.to_string(),
        uses: terms.uses.get(),
        used: token.used,
        expires: terms.expires.to_string(),
        node: terms.node.as_ref().map(ToString::to_string),
        site: terms.site.as_ref().map(ToString::to_string),
        labels: terms.labels.iter().map(|(name, value)| (name.to_string(), value.clone())).collect(),
        location: terms.location.clone(),
        prefixes: terms.prefixes.iter().map(ToString::to_string).collect(),
        needs_approval: terms.needs_approval,
        created: token.created.to_string(),
        revoked: token.revoked.map(|at| at.to_string()),
        is_good: token.revoked.is_none() && now < terms.expires && token.used < terms.uses.get(),
    }
}
