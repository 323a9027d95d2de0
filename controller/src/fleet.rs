//! The fleet itself: one row.
//!
//! In: what the controller made at its first start. Out: who it is. Never: the CA's key.

use serde::{Deserialize, Serialize};

use crate::id::{Digest, Epoch, FleetId};
use crate::time::Time;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    pub id: FleetId,
    pub epoch: Epoch,
    /// SHA-256 of the CA's certificate, which is in the state folder beside its key: a store and a
    /// CA that don't belong together are refused at start.
    pub ca: Digest,
    pub created: Time,
}
