//! Enrolment and renewal: what to write, and what to hand out once it is written.
//!
//! In: requests from outside, the CA, the time, random bytes. Out: a change for the store, and a
//! certificate that is held until the store has taken it. Never: the store's part, which is whether
//! the token or the agent may; that is decided in the transaction.

use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use ringwall_protocol::signed_by_renewal;

use super::authority::PublicKey;
use super::{Authority, Error, Issued, Presented, Refusal, Secret};
use crate::change::{Change, Enrol, Renew, Written};
use crate::id::{AgentId, Digest};
use crate::time::Time;
use crate::token::Claim;

/// A certificate that nobody gets before its change is kept.
#[derive(Debug)]
pub struct Held {
    agent: AgentId,
    issued: Issued,
}

impl Held {
    /// For what the store answered to the change; `None` when the agent is pending, or it was another's.
    pub fn release(self, written: &Written) -> Option<Issued> {
        (*written == Written::Agent(self.agent)).then_some(self.issued)
    }
}

/// A node's first certificate. Who asks again with the same secret and key, since the answer was
/// lost, gets another of the same agent. The serial is random.
pub fn enrol(
    authority: &Authority,
    secret: &Secret,
    claim: Claim,
    key: &PublicKey,
    now: Time,
    serial: [u8; 16],
) -> Result<(Change, Held), Error> {
    let secret = Digest(secret.digest());
    let agent = Enrol::agent_of(&secret, &key.digest());
    let issued = authority.issue(agent, key, now, serial)?;
    let change = Enrol { secret, claim, agent, key: key.digest(), certificate_expires: issued.expires };
    Ok((Change::Enrol(change), Held { agent, issued }))
}

/// The next certificate of an agent that TLS knows by the one it has.
pub fn renew(
    authority: &Authority,
    presented: &Presented,
    key: &PublicKey,
    now: Time,
    serial: [u8; 16],
) -> Result<(Change, Held), Error> {
    let issued = authority.issue(presented.agent, key, now, serial)?;
    let (agent, proved) = (presented.agent, presented.key);
    let change = Renew { agent, proved, key: key.digest(), certificate_expires: issued.expires };
    Ok((Change::Renew(change), Held { agent, issued }))
}

/// What an agent shows that was away for so long that its certificate ended.
#[derive(Clone, Copy, Debug)]
pub struct Proof<'a> {
    /// The certificate that ended, DER.
    pub certificate: &'a [u8],
    /// The request for the next one, DER.
    pub request: &'a [u8],
    /// Of [`signed_by_renewal`], by the key of the certificate that ended: ECDSA with SHA-256, as
    /// ASN.1 (RFC 3279, 2.2.3).
    pub signature: &'a [u8],
}

/// Whose certificate ended, and the key for the next one; [`renew`] goes on from there.
pub fn renew_by_proof(authority: &Authority, proof: Proof<'_>, now: Time) -> Result<(Presented, PublicKey), Refusal> {
    let (presented, point) = authority.check_expired(proof.certificate, now)?;
    let message = signed_by_renewal(proof.request);
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point);
    key.verify(&message, proof.signature).map_err(|_| Refusal::Proof(presented.agent))?;
    Ok((presented, PublicKey::of_request(proof.request)?))
}
