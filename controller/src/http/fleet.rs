//! The fleet itself, and the API's own affairs.
//!
//! In: nothing. Out: who answers, what it can be asked, that it lives. Never: anything about nodes to who has no key.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use ringwall_api as api;

use super::key::Reader;
use super::part::Json;
use super::refused::Refused;
use super::Api;
use crate::store::{Read as _, Store as _};

/// The fleet that this controller is of.
#[utoipa::path(get, path = "/api/v1/fleet", responses((status = 200, body = api::Fleet)), security(("key" = ["read"])))]
pub async fn fleet(Reader(_): Reader, State(inner): Api) -> Result<Json<api::Fleet>, Refused> {
    let fleet = inner.state.store.read().await?.fleet().await?.ok_or_else(|| Refused::missing("fleet", ""))?;
    Ok(Json(api::Fleet {
        id: fleet.id.to_string(),
        epoch: fleet.epoch.0,
        ca: fleet.ca.to_string(),
        created: fleet.created.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        controllers: inner.state.controllers.clone(),
    }))
}

/// This description.
#[utoipa::path(get, path = "/api/v1/openapi.json", responses((status = 200, content_type = "application/json", body = serde_json::Value)))]
pub async fn openapi(State(inner): Api) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], inner.description.to_string())
}

/// Whether the controller lives, and reads its store.
#[utoipa::path(get, path = "/healthz", responses((status = 200, content_type = "text/plain", body = String)))]
pub async fn healthz(State(inner): Api) -> Result<&'static str, Refused> {
    inner.state.store.read().await?.fleet().await?;
    Ok("ok\n")
}
