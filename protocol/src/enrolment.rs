//! How a machine becomes an agent, and stays one.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::field::{Invalid, array, der, most, name, there};
use crate::generated as wire;
use crate::session::{Facts, Versions};

/// A token and a request for a certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct Enrol {
    pub versions: Versions,
    /// The token's secret. Not in the `Debug` text.
    pub token: [u8; 32],
    /// PKCS #10 (RFC 2986), DER.
    pub csr: Bytes,
    /// The machine's own name, as a wish.
    pub node: String,
    pub facts: Facts,
}

impl std::fmt::Debug for Enrol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enrol").field("node", &self.node).field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// The present certificate, and a request for the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renew {
    pub certificate: Bytes,
    pub csr: Bytes,
    /// By the certificate's key, over [`signed_by_renewal`].
    pub signature: Bytes,
}

/// What the key of the present certificate signs to renew it.
pub fn signed_by_renewal(csr: &[u8]) -> Vec<u8> {
    let mut signed = b"ringwall renew 1\0".to_vec();
    signed.extend_from_slice(&Sha256::digest(csr));
    signed
}

/// The controller's answer to both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub outcome: Enrolled,
    /// The controller's clock, seconds since the epoch: to tell an operator whose clock is off.
    pub time: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enrolled {
    Identity {
        /// The agent's first, then those above it. Never empty.
        certificates: Vec<Bytes>,
        /// Seconds until the agent's ends.
        valid: u32,
    },
    /// An operator must approve first.
    Pending {
        /// Seconds until it is worth asking again.
        retry: u32,
    },
}

impl TryFrom<wire::EnrolRequest> for Enrol {
    type Error = Invalid;

    fn try_from(from: wire::EnrolRequest) -> Result<Self, Invalid> {
        Ok(Self {
            versions: there("EnrolRequest.versions", from.versions)?.try_into()?,
            token: array("EnrolRequest.token", &from.token)?,
            csr: der("EnrolRequest.csr", from.csr)?,
            node: name("EnrolRequest.node", from.node)?,
            facts: there("EnrolRequest.facts", from.facts)?.try_into()?,
        })
    }
}

impl From<Enrol> for wire::EnrolRequest {
    fn from(from: Enrol) -> Self {
        Self {
            versions: Some(from.versions.into()),
            token: Bytes::copy_from_slice(&from.token),
            csr: from.csr,
            node: from.node,
            facts: Some(from.facts.into()),
        }
    }
}

impl TryFrom<wire::RenewRequest> for Renew {
    type Error = Invalid;

    fn try_from(from: wire::RenewRequest) -> Result<Self, Invalid> {
        Ok(Self {
            certificate: der("RenewRequest.certificate", from.certificate)?,
            csr: der("RenewRequest.csr", from.csr)?,
            signature: der("RenewRequest.signature", from.signature)?,
        })
    }
}

impl From<Renew> for wire::RenewRequest {
    fn from(Renew { certificate, csr, signature }: Renew) -> Self {
        Self { certificate, csr, signature }
    }
}

impl TryFrom<wire::EnrolReply> for Reply {
    type Error = Invalid;

    fn try_from(from: wire::EnrolReply) -> Result<Self, Invalid> {
        use wire::enrol_reply::Outcome;
        let outcome = match there("EnrolReply.outcome", from.outcome)? {
            Outcome::Identity(identity) => {
                const CHAIN: &str = "Identity.certificates";
                most(CHAIN, identity.certificates.len(), crate::CHAIN_MAX)?;
                there(CHAIN, identity.certificates.first())?;
                let certificates = identity.certificates.into_iter().map(|certificate| der(CHAIN, certificate));
                Enrolled::Identity { certificates: certificates.collect::<Result<_, _>>()?, valid: identity.valid }
            }
            Outcome::Pending(pending) => Enrolled::Pending { retry: pending.retry },
        };
        Ok(Self { outcome, time: from.time })
    }
}

impl From<Reply> for wire::EnrolReply {
    fn from(from: Reply) -> Self {
        use wire::enrol_reply::Outcome;
        let outcome = match from.outcome {
            Enrolled::Identity { certificates, valid } => Outcome::Identity(wire::Identity { certificates, valid }),
            Enrolled::Pending { retry } => Outcome::Pending(wire::Pending { retry }),
        };
        Self { outcome: Some(outcome), time: from.time }
    }
}
