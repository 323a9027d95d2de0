//! Who belongs to the fleet: the CA, its certificates, and what lets a node in.
//!
//! In: requests and certificates from outside, tokens, the time, random bytes. Out: certificates, and
//! changes for the store to take first. Never: a name, a lifetime or a usage that a node asked for; a
//! certificate whose change is not kept.
//!
//! Keys come from the system's random source, by way of ring; all else that is random is an argument.

mod admission;
mod authority;
mod folder;
mod name;
mod presented;

pub use admission::{Held, Proof, enrol, renew, renew_by_proof};
pub use authority::{AGENT_LIFE, Authority, BACKDATE, CONTROLLER_LIFE, Issued, Own, PublicKey};
pub use folder::{FILE, open};
pub use ringwall_protocol::{Invitation, Secret};
pub use name::Name;
pub use presented::{GRACE, Presented, admit};

use std::path::PathBuf;
use std::time::Duration;

use crate::id::{AgentId, Digest, FleetId};
use crate::time::Time;

/// Why a request or certificate is not accepted: for the operator. Strangers are told
/// [`NOT_ACCEPTED`](crate::token::NOT_ACCEPTED).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no certificate was presented")]
    Nothing,
    #[error("the certificate can't be read: {0}")]
    Certificate(String),
    #[error("the request for a certificate can't be read: {0}")]
    Request(String),
    #[error("the request for a certificate is not signed by the key that it names")]
    RequestSignature,
    #[error("the key is not one of ECDSA on P-256, the only kind that is certified here")]
    Key,
    #[error("the certificate is not one of this fleet's CA")]
    Foreign,
    #[error("the certificate is of the fleet {0}")]
    OtherFleet(FleetId),
    #[error("the certificate names no agent: {0}")]
    NotAgent(String),
    #[error("the certificate of agent {agent} ended at {at}, {} s ago by the controller's clock", .ago.as_secs())]
    Expired { agent: AgentId, at: Time, ago: Duration },
    #[error("the certificate of agent {agent} begins at {at}, in {} s by the controller's clock", .ahead.as_secs())]
    NotYet { agent: AgentId, at: Time, ahead: Duration },
    #[error("the agent {0} is not in the store: it was enrolled after a backup that was restored, or elsewhere")]
    Unknown(AgentId),
    #[error("the agent {agent} was revoked at {at}: {reason}")]
    Revoked { agent: AgentId, at: Time, reason: String },
    #[error("the agent {agent} has no key with the digest {key}")]
    UnknownKey { agent: AgentId, key: Digest },
    #[error("the proof of agent {0} was not made with the key of its certificate")]
    Proof(AgentId),
}

/// What the machine, or what is on its disk, does not allow.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no certificate could be made")]
    Make(#[from] rcgen::Error),
    #[error("{path} can't be used")]
    File { path: PathBuf, #[source] source: std::io::Error },
    #[error("{path} can be read by others (mode {mode:o}): the CA's key may be known; if nobody had it, `chmod 600` it")]
    Open { path: PathBuf, mode: u32 },
    #[error("{path} holds no CA of this program: {reason}")]
    NoAuthority { path: PathBuf, reason: String },
    #[error("{0} is gone, and the store belongs to its CA: put it back from where it is kept; a new CA would need each agent to enrol anew")]
    Lost(PathBuf),
    #[error("{path} holds the CA {found}, and the store belongs to {expected}")]
    OtherAuthority { path: PathBuf, found: Digest, expected: Digest },
}
