//! Keys to the API.
//!
//! In and out: shapes alone. Never: the secret, but once.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Span;

/// Each is asked for by itself: none contains another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// See everything but secrets.
    Read,
    /// Policy, rollouts, settings, lists.
    Write,
    /// Tokens, agents, keys to the API.
    Admin,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAccessKey {
    /// What it is for: 1 to 200 characters.
    pub name: String,
    /// At least one.
    pub scopes: BTreeSet<Scope>,
    /// How long it lasts, at most 3650 days.
    #[serde(rename = "for")]
    pub lasts: Span,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedAccessKey {
    /// The key itself. It is shown this once, and kept nowhere.
    pub word: String,
    pub key: AccessKey,
}

/// A key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccessKey {
    pub id: String,
    pub name: String,
    pub scopes: BTreeSet<Scope>,
    pub created: String,
    pub expires: String,
    /// To a few minutes.
    pub last_used: Option<String>,
    pub revoked: Option<String>,
    /// Whether it would be accepted now.
    pub is_good: bool,
}

/// All keys, by id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccessKeys {
    pub keys: Vec<AccessKey>,
}
