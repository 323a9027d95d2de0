//! An agent: what an operator decided about it, and what it says of itself.
//!
//! In: an enrolment, reports. Out: its place in the inventory, and which of its addresses count.
//! Never: a label, a site or a prefix that an agent chose.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{AgentId, Digest, LabelName, NodeName, SiteName, TokenId};
use crate::time::Time;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    pub id: AgentId,
    pub node: NodeName,
    pub place: Place,
    /// All that it says it has; see [`Agent::addresses`].
    pub reported: BTreeSet<IpAddr>,
    pub keys: Keys,
    pub certificate_expires: Time,
    pub standing: Standing,
    pub token: TokenId,
    pub enrolled: Time,
}

/// What an operator decides about a node; at first, what its token says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub site: Option<SiteName>,
    pub labels: BTreeMap<LabelName, String>,
    /// Where the machine stands, in the operator's words.
    pub location: Option<String>,
    /// Only addresses in these count as the node's; none means that none do.
    pub prefixes: Vec<IpNet>,
}

/// Digests (SHA-256 of the SubjectPublicKeyInfo) of the keys that certificates were made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    pub newest: Digest,
    /// The one that the newest was asked for with: it is accepted, too, since the answer with the
    /// newer certificate may have been lost on its way.
    pub previous: Option<Digest>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Enrolled, and waits for an operator: it gets nothing.
    Pending,
    Approved,
    /// For ever: who comes back enrols anew.
    Revoked { at: Time, reason: String },
}

impl Agent {
    /// Those of its addresses that are within what an operator allowed.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        counted(&self.reported, &self.place.prefixes)
    }

    pub fn is_revoked(&self) -> bool {
        matches!(self.standing, Standing::Revoked { .. })
    }
}

impl Keys {
    pub fn has(&self, key: Digest) -> bool {
        self.newest == key || self.previous == Some(key)
    }
}

/// Loopback and link-local addresses are everybody's, so they never count; IPv4-mapped ones are IPv4.
pub fn counted(reported: &BTreeSet<IpAddr>, prefixes: &[IpNet]) -> BTreeSet<IpAddr> {
    let is_nobodys = |address: &IpAddr| match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.is_multicast(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast(),
    };
    let canonical = reported.iter().map(IpAddr::to_canonical);
    let own = canonical.filter(|address| !is_nobodys(address));
    own.filter(|address| prefixes.iter().any(|prefix| prefix.contains(address))).collect()
}

/// When an agent was last heard of, and what it said of its machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sighting {
    pub agent: AgentId,
    pub at: Time,
    /// Kernel, versions, features, other tables, …: shown, never trusted.
    pub facts: Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_within_the_prefixes_count() {
        let reported = ["192.0.2.1", "::ffff:192.0.2.2", "127.0.0.1", "fe80::1", "198.51.100.1", "169.254.0.1"];
        let reported = reported.map(|address| address.parse().expect("an address")).into();
        let prefix = |text: &str| text.parse::<IpNet>().expect("a prefix");
        let own = counted(&reported, &[prefix("192.0.2.0/24")]);
        let expected = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().expect("an address"));
        assert_eq!(own, expected.into());
        assert!(counted(&reported, &[]).is_empty());
        let all = counted(&reported, &[prefix("0.0.0.0/0"), prefix("::/0")]);
        assert!(!all.iter().any(|address| address.is_loopback()), "{all:?}");
        assert_eq!(all.len(), 3);
    }
}
