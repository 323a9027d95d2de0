//! Why something could not be kept or read.
//!
//! In: the refusals of the parts, the database's codes. Out: one error for each thing that somebody
//! would do something else about. Never: an error whose text repeats its cause.

use std::path::PathBuf;

use crate::id::{AgentId, Digest, Malformed};
use crate::{rollout, token};

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    // What was asked can't be.
    #[error("there is no {kind} `{key}`")]
    Missing { kind: &'static str, key: String },
    #[error("there is a {kind} `{key}` already")]
    Taken { kind: &'static str, key: String },
    #[error("the node `{node}` has an agent already, {agent}: revoke it first")]
    NodeTaken { node: String, agent: AgentId },
    #[error("the address {address} belongs to `{holder}` of the same site")]
    AddressTaken { address: std::net::IpAddr, holder: String },
    #[error("the agent {0} is revoked")]
    Revoked(AgentId),
    #[error("the agent {agent} has no key with the digest {key}")]
    ForeignKey { agent: AgentId, key: Digest },
    #[error("the rollout {0} is not over")]
    RolloutActive(crate::id::RolloutNumber),
    #[error(transparent)]
    Token(#[from] token::Refusal),
    #[error(transparent)]
    Rollout(#[from] rollout::Refusal),

    // The store can't now.
    #[error("the disk, or the store's share of it, is full: nothing of this was kept, and what was is safe")]
    Full(#[source] sqlx::Error),
    #[error("the store can't be written: it is read-only")]
    ReadOnly(#[source] sqlx::Error),
    #[error("the store is busy: others write, or another process holds it")]
    Busy(#[source] sqlx::Error),
    #[error("the store {0} is in use by another controller")]
    InUse(PathBuf),
    #[error("the store can't be read or written")]
    Database(#[source] sqlx::Error),
    #[error("the store's file {path} can't be used")]
    File { path: PathBuf, #[source] source: std::io::Error },

    // The store is not what it should be.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    #[error("the store has schema {found}, and this version knows {known} at most: a newer controller wrote it")]
    Newer { found: i64, known: i64 },
    #[error("{0} is not a store of this program")]
    Foreign(PathBuf),
    #[error("the backup is of the fleet {backup}, the store of {store}")]
    OtherFleet { backup: crate::id::FleetId, store: crate::id::FleetId },
}

impl Error {
    /// Whether this is about what was asked, so that asking again is of no use; else it is about the
    /// store, and nothing is wrong with what was asked.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::Taken { .. } | Self::NodeTaken { .. } | Self::AddressTaken { .. } => true,
            Self::Revoked(_) | Self::ForeignKey { .. } | Self::RolloutActive(_) | Self::Token(_) | Self::Rollout(_) => true,
            Self::Full(_) | Self::ReadOnly(_) | Self::Busy(_) | Self::InUse(_) | Self::Database(_) | Self::File { .. } => false,
            Self::Damaged(_) | Self::Newer { .. } | Self::Foreign(_) | Self::OtherFleet { .. } => false,
        }
    }

    /// What an agent, or who would be one, is told; the operator reads the error itself.
    pub fn to_stranger(&self) -> String {
        match self {
            Self::Token(refusal) => refusal.to_stranger(),
            _ if self.is_refusal() => token::NOT_ACCEPTED.to_owned(),
            _ => "not now; the controller's log says why".to_owned(),
        }
    }
}

/// Primary result codes (sqlite3.h), the low byte of the extended ones.
mod code {
    pub const BUSY: u32 = 5;
    pub const READONLY: u32 = 8;
    pub const CORRUPT: u32 = 11;
    pub const FULL: u32 = 13;
    pub const NOTADB: u32 = 26;
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if matches!(error, sqlx::Error::PoolTimedOut) {
            return Self::Busy(error);
        }
        let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
        match code.map(|code| code & 0xff) {
            Some(code::BUSY) => Self::Busy(error),
            Some(code::READONLY) => Self::ReadOnly(error),
            Some(code::FULL) => Self::Full(error),
            Some(code::CORRUPT | code::NOTADB) => Self::Damaged(error.to_string()),
            _ => Self::Database(error),
        }
    }
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        Self::Damaged(malformed.to_string())
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}
