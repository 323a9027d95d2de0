//! Revisions of the policy: committed once, and never edited.
//!
//! In and out: shapes alone. Never: a judgement of the policy.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A policy's files and what its values are bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Content {
    /// Name of the file -> text.
    pub files: BTreeMap<String, String>,
    /// Name without `$` -> what it is bound to.
    pub values: BTreeMap<String, String>,
}

/// What somebody commits: 8 MiB at most, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CommitRevision {
    /// Name of the file, ending in `.yaml` -> text.
    pub files: BTreeMap<String, String>,
    /// Name without `$` -> what it is bound to.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    pub source: Source,
}

/// Where a revision comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    Cli,
    #[default]
    Api,
    /// The commit's id.
    Git(String),
}

/// A revision without its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Revision {
    pub number: u64,
    /// SHA-256 of the content.
    pub content: String,
    /// The name of the key that it was committed with.
    pub author: String,
    pub message: String,
    pub source: Source,
    pub created: String,
}

/// Newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Revisions {
    pub revisions: Vec<Revision>,
    /// The `before` of the next page, if there may be one.
    pub next: Option<u64>,
}

/// What a rollout of a revision would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Outdated {
    pub revision: u64,
    /// Nodes whose ruleset would be another one.
    pub nodes: Vec<String>,
}
