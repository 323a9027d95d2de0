//! Tokens for enrolment: what whoever holds one may become.
//!
//! In and out: shapes alone. Never: the secret, but once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Span;

/// What the nodes that enrol with a token become.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// How many nodes may enrol with it.
    #[serde(default = "one")]
    #[schema(default = 1, minimum = 1)]
    pub uses: u32,
    /// How long it lasts, at most 30 days.
    #[serde(rename = "for")]
    pub lasts: Span,
    /// The node's name, whatever it claims; without one, it is what the node claims.
    #[serde(default)]
    pub node: Option<String>,
    #[serde(default)]
    pub site: Option<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Where the machine stands, in the operator's words.
    #[serde(default)]
    pub location: Option<String>,
    /// Only addresses in these count as the node's; none means that none do.
    #[serde(default)]
    #[schema(example = json!(["192.0.2.0/24", "2001:db8::/48"]))]
    pub prefixes: Vec<String>,
    /// A node that enrols gets nothing until somebody approves it.
    #[serde(default)]
    pub needs_approval: bool,
}

fn one() -> u32 {
    1
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    /// The word for `ringwall-agent enrol`. It is shown this once, and kept nowhere.
    pub word: String,
    pub token: Token,
}

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    pub id: String,
    pub uses: u32,
    pub used: u32,
    pub expires: String,
    pub node: Option<String>,
    pub site: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub location: Option<String>,
    pub prefixes: Vec<String>,
    pub needs_approval: bool,
    pub created: String,
    pub revoked: Option<String>,
    /// Whether a node could enrol with it now.
    pub is_good: bool,
}

/// All tokens, by id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tokens {
    pub tokens: Vec<Token>,
}
