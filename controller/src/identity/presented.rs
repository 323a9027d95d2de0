//! Certificates that are shown to us.
//!
//! In: a chain from outside, the CA, the time, the agent's row. Out: which agent it is, or why not.
//! Never: a name from anywhere but the one URI, an agent that is revoked.

use std::time::Duration;

use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::{Authority, Name, Refusal};
use crate::agent::{Agent, Standing};
use crate::id::{AgentId, Digest};
use crate::time::Time;

/// For so long after its end a certificate still proves whose key it is, for a renewal and nothing else.
pub const GRACE: Duration = Duration::from_secs(30 * 86_400);

/// What a certificate of ours says. It does not say that the agent is not revoked: see [`admit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presented {
    pub agent: AgentId,
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub key: Digest,
    pub expires: Time,
}

pub(super) fn name(certificate: &X509Certificate<'_>) -> Result<Name, Refusal> {
    let unreadable = |error: &dyn ToString| Refusal::Certificate(error.to_string());
    let names = certificate.subject_alternative_name().map_err(|error| unreadable(&error))?;
    match names.map(|names| names.value.general_names.as_slice()) {
        Some([GeneralName::URI(uri)]) => uri.parse().map_err(|_| Refusal::NotAgent(uri.chars().take(200).collect())),
        _ => Err(Refusal::NotAgent("it has not one URI and nothing else as its names".to_owned())),
    }
}

impl Authority {
    /// The chain of a TLS client, whose key TLS has seen proved. Only its first certificate counts:
    /// the CA signs agents itself.
    pub fn check(&self, chain: &[&[u8]], now: Time) -> Result<Presented, Refusal> {
        let (presented, _) = self.read(chain.first().ok_or(Refusal::Nothing)?, now)?;
        let Presented { agent, expires: at, .. } = presented;
        if now > at { Err(Refusal::Expired { agent, at, ago: now.since(at) }) } else { Ok(presented) }
    }

    /// A certificate that may have ended less than [`GRACE`] ago, and its public key as a point
    /// (SEC 1, 2.3.3). That its owner has the key is still to be proved.
    pub(super) fn check_expired(&self, der: &[u8], now: Time) -> Result<(Presented, Vec<u8>), Refusal> {
        let (presented, point) = self.read(der, now)?;
        let Presented { agent, expires: at, .. } = presented;
        if now.since(at) > GRACE { Err(Refusal::Expired { agent, at, ago: now.since(at) }) } else { Ok((presented, point)) }
    }

    /// All but the end of its life.
    fn read(&self, der: &[u8], now: Time) -> Result<(Presented, Vec<u8>), Refusal> {
        let unreadable = |error: &dyn ToString| Refusal::Certificate(error.to_string());
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|error| unreadable(&error))?;
        if !rest.is_empty() {
            return Err(unreadable(&"there is something after its end"));
        }
        let (_, authority) = X509Certificate::from_der(self.certificate()).map_err(|error| unreadable(&error))?;
        certificate.verify_signature(Some(authority.public_key())).map_err(|_| Refusal::Foreign)?;
        let agent = match name(&certificate)? {
            Name::Agent(fleet, agent) if fleet == self.fleet() => agent,
            Name::Agent(fleet, _) => return Err(Refusal::OtherFleet(fleet)),
            other => return Err(Refusal::NotAgent(other.to_string())),
        };
        let second = |time: x509_parser::time::ASN1Time| Time::from_millisecond(time.timestamp().saturating_mul(1000));
        let (begins, expires) = (second(certificate.validity().not_before), second(certificate.validity().not_after));
        if now < begins {
            return Err(Refusal::NotYet { agent, at: begins, ahead: begins.since(now) });
        }
        let key = certificate.public_key();
        Ok((Presented { agent, key: Digest::of(key.raw), expires }, key.subject_public_key.data.to_vec()))
    }
}

/// Whether the agent that a certificate names may go on. `agent` is its row; who is pending is let in
/// to wait, and gets nothing.
pub fn admit<'a>(presented: &Presented, agent: Option<&'a Agent>) -> Result<&'a Agent, Refusal> {
    let agent = agent.filter(|agent| agent.id == presented.agent).ok_or(Refusal::Unknown(presented.agent))?;
    if let Standing::Revoked { at, reason } = &agent.standing {
        return Err(Refusal::Revoked { agent: agent.id, at: *at, reason: reason.clone() });
    }
    if agent.keys.has(presented.key) {
        Ok(agent)
    } else {
        Err(Refusal::UnknownKey { agent: agent.id, key: presented.key })
    }
}
