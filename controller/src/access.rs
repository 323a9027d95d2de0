//! Keys to the API.
//!
//! In: a secret's digest, scopes, an expiry. Out: whether a request may go on. Never: the secret.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::id::{AccessId, Digest};
use crate::time::Time;

/// Each is asked for by itself: none contains another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// See everything but secrets.
    Read,
    /// Policy, rollouts, settings, lists.
    Write,
    /// Tokens, agents, keys to the API.
    Admin,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Access {
    pub id: AccessId,
    /// What it is for, as its maker says.
    pub name: String,
    /// SHA-256 of the secret: 256 random bits need no slow hash.
    #[serde(skip)]
    pub secret: Digest,
    pub scopes: BTreeSet<Scope>,
    pub created: Time,
    pub expires: Time,
    pub last_used: Option<Time>,
    pub revoked: Option<Time>,
}

/// For the operator; who asked learns only that the key is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the API token `{name}` expired at {at}")]
    Expired { name: String, at: Time },
    #[error("the API token `{name}` was revoked at {at}")]
    Revoked { name: String, at: Time },
    #[error("the API token `{name}` does not have the scope {scope:?}")]
    Scope { name: String, scope: Scope },
}

impl Access {
    pub fn admits(&self, scope: Scope, now: Time) -> Result<(), Refusal> {
        let name = || self.name.clone();
        if let Some(at) = self.revoked {
            return Err(Refusal::Revoked { name: name(), at });
        }
        if now >= self.expires {
            return Err(Refusal::Expired { name: name(), at: self.expires });
        }
        if self.scopes.contains(&scope) { Ok(()) } else { Err(Refusal::Scope { name: name(), scope }) }
    }
}
