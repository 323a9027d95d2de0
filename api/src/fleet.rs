//! The fleet itself, and what a change is explained with.
//!
//! In and out: shapes alone. Never: the CA's key.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The fleet that this controller is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fleet {
    /// UUID; the trust domain of its certificates.
    pub id: String,
    /// Rises with each restore of the store from a backup.
    pub epoch: u64,
    /// SHA-256 of the CA's certificate, in hexadecimal digits.
    pub ca: String,
    pub created: String,
    /// Of the controller that answers.
    pub version: String,
    /// Where agents reach a controller, as `host:port`.
    pub controllers: Vec<String>,
}

/// Why somebody does it: kept in the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// 1 to 500 characters.
    pub reason: String,
}
