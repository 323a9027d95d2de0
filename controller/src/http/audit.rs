//! The audit log.
//!
//! In: a number that the reader knows. Out: what came after it. Never: an entry changed or left out.

use axum::extract::State;
use ringwall_api as api;

use super::events::{Log, newest};
use super::key::Reader;
use super::part::{self, After, Json, Query};
use super::refused::Refused;
use super::Api;
use crate::audit::{Actor, Entry};
use crate::id::AuditNumber;
use crate::store::{Read as _, Store as _};

/// Who changed what, oldest first.
#[utoipa::path(get, path = "/api/v1/audit", params(After), responses((status = 200, body = api::AuditPage)), security(("key" = ["read"])))]
pub async fn audit(Reader(_): Reader, State(inner): Api, Query(page): Query<After>) -> Result<Json<api::AuditPage>, Refused> {
    let limit = part::limit(page.limit)?;
    let mut read = inner.state.store.read().await?;
    let after = match page.after {
        Some(after) => after,
        None => newest(&mut read, Log::Audit).await?.saturating_sub(u64::from(limit)),
    };
    let entries = read.audit(AuditNumber(after), limit).await?;
    let next = entries.last().map_or(after, |last| last.number.0);
    Ok(Json(api::AuditPage { entries: entries.into_iter().map(shape).collect(), next }))
}

fn shape(entry: Entry) -> api::AuditEntry {
    let Entry { number, at, who, change, kind, key, before, after } = entry;
    let who = match who {
        Actor::Access(id) => api::Actor::Access(id.to_string()),
        Actor::Local(name) => api::Actor::Local(name),
        Actor::Agent(id) => api::Actor::Agent(id.to_string()),
        Actor::Enrolling => api::Actor::Enrolling,
        Actor::Controller => api::Actor::Controller,
    };
    api::AuditEntry { number: number.0, at: at.to_string(), who, change, kind, key, before, after }
}
