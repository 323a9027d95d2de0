//! Who asks: the key of a request.
//!
//! In: the header `Authorization`. Out: a key of the store that has the scope. Never: a word to others on why theirs
//! is not accepted.

use std::sync::PoisonError;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use ringwall_api::Code;

use super::Inner;
use super::refused::Refused;
use crate::access::{Access, Refusal, Scope};
use crate::change::{Observed, Write};
use crate::id::Digest;
use crate::identity::Secret;
use crate::store::{Read as _, Store as _};
use crate::time::Time;
use crate::token::NOT_ACCEPTED;

/// How exactly it is known when a key was used last: not each use is worth a write.
const USED: Duration = Duration::from_secs(300);

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident, $scope:expr;)*) => {$(
        $(#[$doc])*
        pub struct $name(pub Access);

        impl FromRequestParts<Inner> for $name {
            type Rejection = Refused;

            async fn from_request_parts(parts: &mut Parts, inner: &Inner) -> Result<Self, Refused> {
                key(parts, inner, $scope).await.map(Self)
            }
        }
    )*};
}

keys! {
    /// A key that may see; the first argument of a handler, so that nothing is read before.
    Reader, Scope::Read;
    /// A key that may change the policy.
    Writer, Scope::Write;
    /// A key that may let nodes and people in.
    Admin, Scope::Admin;
}

async fn key(parts: &Parts, inner: &Inner, scope: Scope) -> Result<Access, Refused> {
    let stranger = || Refused::new(Code::NoKey, NOT_ACCEPTED);
    let Some(header) = parts.headers.get(AUTHORIZATION) else {
        return Err(Refused::new(Code::NoKey, "this needs a key: `Authorization: Bearer rwa1_…`"));
    };
    // The scheme is of any case (RFC 9110, 11.1).
    let word = header.to_str().ok().and_then(|text| text.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let Some(secret) = word.and_then(|(_, word)| Secret::from_access(word).ok()) else {
        tracing::info!("a key that can't be one was shown to the API");
        return Err(stranger());
    };
    let found = inner.state.store.read().await?.access_of(Digest(secret.digest())).await?;
    let Some(access) = found else {
        tracing::info!("a key that is not known was shown to the API");
        return Err(stranger());
    };
    let now = inner.now();
    match access.admits(scope, now) {
        Ok(()) => {}
        Err(refusal @ Refusal::Scope { .. }) => {
            tracing::info!(%refusal, "a request to the API was refused");
            return Err(Refused::new(Code::NoScope, "this key does not have the scope that this needs"));
        }
        Err(refusal) => {
            tracing::info!(%refusal, "a request to the API was refused");
            return Err(stranger());
        }
    }
    if is_to_be_kept(inner, &access, now) {
        let used = Write::Observed { at: now, what: Observed::AccessUsed(access.id) };
        // It goes without saying when the disk is full: who sees the fleet then must not be shut out.
        if let Err(error) = inner.state.store.write(vec![used]).await {
            tracing::warn!(%error, "the use of a key was not kept");
        }
    }
    Ok(access)
}

/// Many requests that come at once are one use.
fn is_to_be_kept(inner: &Inner, access: &Access, now: Time) -> bool {
    let mut used = inner.used.lock().unwrap_or_else(PoisonError::into_inner);
    let last = used.get(&access.id).copied().max(access.last_used);
    let is_due = last.is_none_or(|last| now.since(last) >= USED);
    if is_due {
        used.insert(access.id, now);
    }
    is_due
}
