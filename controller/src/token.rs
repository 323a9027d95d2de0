//! Tokens for enrolment: what whoever holds one may become.
//!
//! In: a token as it is kept, what a node says of itself, the time. Out: yes, or why not. Never: the
//! secret itself, a label that the node chose.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use crate::agent;
use crate::id::{Digest, LabelName, NodeName, SiteName, TokenId};
use crate::time::Time;

/// A certificate begins this much before it is made, so a clock that is further behind could not
/// use it; one that is further ahead is as wrong.
pub const MOST_SKEW: Duration = Duration::from_secs(300);

/// What an operator decided when making the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Terms {
    pub uses: NonZeroU32,
    pub expires: Time,
    /// The node's name, whatever it claims; `None` is what it claims.
    pub node: Option<NodeName>,
    pub site: Option<SiteName>,
    pub labels: BTreeMap<LabelName, String>,
    pub location: Option<String>,
    /// Only addresses in these count as the node's; none means that none do.
    pub prefixes: Vec<IpNet>,
    pub needs_approval: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Token {
    pub id: TokenId,
    /// SHA-256 of the 256 random bits that were printed once.
    #[serde(skip)]
    pub secret: Digest,
    pub terms: Terms,
    pub created: Time,
    pub used: u32,
    pub revoked: Option<Time>,
}

/// What a node says of itself when it asks to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// A wish: see [`Terms::node`].
    pub node: NodeName,
    /// All that it has; which of them count is for the token to say.
    pub addresses: BTreeSet<IpAddr>,
    /// What its clock says, if it said so.
    pub clock: Option<Time>,
}

/// Why a token does not let a node in: for the operator. The node gets [`Refusal::to_stranger`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no token has this secret: it was never made, or belongs to another fleet")]
    Unknown,
    #[error("the token {id} was revoked at {at}")]
    Revoked { id: TokenId, at: Time },
    #[error("the token {id} expired at {at}")]
    Expired { id: TokenId, at: Time },
    #[error("the token {id} is used up: it was for {uses} and has been used {used} times")]
    UsedUp { id: TokenId, uses: u32, used: u32 },
    #[error("none of the addresses of `{node}` ({addresses}) is in the prefixes of the token {id} ({prefixes})")]
    Outside { id: TokenId, node: NodeName, addresses: String, prefixes: String },
    #[error("the clock of `{node}` is {seconds} s {direction} the controller's; at most {} s are accepted", MOST_SKEW.as_secs())]
    Skew { node: NodeName, seconds: u64, direction: &'static str },
}

/// What anybody is told whose token or certificate is not accepted.
pub const NOT_ACCEPTED: &str = "not accepted; the controller's log says why";

impl Refusal {
    /// What the node is told. Only who holds a good token learns more: that its clock is wrong.
    pub fn to_stranger(&self) -> String {
        if let Self::Skew { .. } = self { self.to_string() } else { NOT_ACCEPTED.to_owned() }
    }
}

impl Token {
    /// Whether a node may become an agent by it.
    pub fn admits(&self, claim: &Claim, now: Time) -> Result<(), Refusal> {
        let (id, terms) = (self.id, &self.terms);
        if let Some(at) = self.revoked {
            return Err(Refusal::Revoked { id, at });
        }
        if now >= terms.expires {
            return Err(Refusal::Expired { id, at: terms.expires });
        }
        if self.used >= terms.uses.get() {
            return Err(Refusal::UsedUp { id, uses: terms.uses.get(), used: self.used });
        }
        self.fits(claim, now)
    }

    /// Whether what a node says of itself is within the terms, and its clock right.
    pub fn fits(&self, claim: &Claim, now: Time) -> Result<(), Refusal> {
        let (id, terms, node) = (self.id, &self.terms, self.node(claim));
        if !terms.prefixes.is_empty() && agent::counted(&claim.addresses, &terms.prefixes).is_empty() {
            let (addresses, prefixes) = (list(&claim.addresses), list(&terms.prefixes));
            return Err(Refusal::Outside { id, node: node.clone(), addresses, prefixes });
        }
        let clock = claim.clock.unwrap_or(now);
        let (ahead, behind) = (clock.since(now), now.since(clock));
        let skew = |by: Duration, direction| Refusal::Skew { node: node.clone(), seconds: by.as_secs(), direction };
        match (ahead > MOST_SKEW, behind > MOST_SKEW) {
            (true, _) => Err(skew(ahead, "ahead of")),
            (_, true) => Err(skew(behind, "behind")),
            _ => Ok(()),
        }
    }

    /// What a node that claims a name is called.
    pub fn node<'a>(&'a self, claim: &'a Claim) -> &'a NodeName {
        self.terms.node.as_ref().unwrap_or(&claim.node)
    }
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    const SHOWN: usize = 8;
    let mut items = items.into_iter();
    let shown: Vec<_> = items.by_ref().take(SHOWN).map(|item| item.to_string()).collect();
    if items.next().is_some() { format!("{}, …", shown.join(", ")) } else { shown.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        let terms = Terms {
            uses: NonZeroU32::MIN,
            expires: Time::from_millisecond(1_000_000),
            node: Some("edge-1".parse().expect("a name")),
            site: None,
            labels: BTreeMap::new(),
            location: None,
            prefixes: vec!["192.0.2.0/24".parse().expect("a prefix")],
            needs_approval: false,
        };
        let created = Time::from_millisecond(0);
        Token { id: TokenId::new([1; 16]), secret: Digest::of(b"secret"), terms, created, used: 0, revoked: None }
    }

    fn claim() -> Claim {
        let addresses = ["192.0.2.1", "127.0.0.1"].map(|address| address.parse().expect("an address"));
        Claim { node: "edge-1".parse().expect("a name"), addresses: addresses.into(), clock: Some(now()) }
    }

    fn now() -> Time {
        Time::from_millisecond(500_000)
    }

    fn refused(token: impl FnOnce(&mut Token), claim_: impl FnOnce(&mut Claim)) -> Refusal {
        let (mut changed, mut claim) = (self::token(), claim());
        token(&mut changed);
        claim_(&mut claim);
        changed.admits(&claim, now()).expect_err("a refusal")
    }

    #[test]
    fn each_refusal_has_its_own_words_and_strangers_get_the_same() {
        assert_eq!(token().admits(&claim(), now()), Ok(()));
        let day = Duration::from_secs(86_400);
        let refusals = [
            refused(|token| token.revoked = Some(now()), |_| ()),
            refused(|token| token.terms.expires = now(), |_| ()),
            refused(|token| token.used = 1, |_| ()),
            refused(|_| (), |claim| claim.addresses = ["198.51.100.1".parse().expect("an address")].into()),
            Refusal::Unknown,
        ];
        let texts: BTreeSet<_> = refusals.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), refusals.len());
        assert!(refusals.iter().all(|refusal| refusal.to_stranger() == NOT_ACCEPTED));
        let behind = refused(|_| (), |claim| claim.clock = Some(now().before(day)));
        assert_eq!(behind.to_stranger(), "the clock of `edge-1` is 86400 s behind the controller's; at most 300 s are accepted");
        let ahead = refused(|_| (), |claim| claim.clock = Some(now().after(day)));
        assert!(ahead.to_string().contains("86400 s ahead of"), "{ahead}");
        let late = refused(|token| token.used = 1, |claim| claim.clock = Some(now().before(day)));
        assert_eq!(late.to_stranger(), NOT_ACCEPTED, "who holds no good token learns nothing");
    }
}
