//! The resolved model. A [`Policy`] has no unbound value, unknown name or empty group left in it
//! that its author did not allow; only `policy/file` makes one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ringwall_diagnostic::Span;
use ringwall_packet::{AddressSet, FlowSet, IntervalSet, UpperSet};

use crate::RuleId;

/// A name of a node, group, service, option, section or interface, as the operator wrote it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// At most 63 characters of `A-Z a-z 0-9 . _ -`, the first a letter or digit: what fits into
    /// a DNS label, an nftables comment and a file name.
    pub fn new(text: &str) -> Option<Self> {
        let fits = text.len() <= 63 && text.starts_with(|first: char| first.is_ascii_alphanumeric());
        let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
        (fits && plain).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Whether a rule or a node only watches, or enforces.
///
/// An audited allow opens nothing and an audited deny drops nothing. On an audited node nothing is
/// dropped at all: what would be is counted and logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    Audit,
    #[default]
    Enforce,
}

/// What becomes of live connections that a new revision forbids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnTighten {
    #[default]
    Cut,
    Drain,
}

/// What becomes of foreign changes to our tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDrift {
    #[default]
    Heal,
    Report,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
        })
    }
}

/// A machine that enforces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: Name,
    /// Its own addresses.
    pub addresses: AddressSet,
    /// Addresses that may move to it: it is one of their candidates.
    pub floating: AddressSet,
    pub labels: BTreeMap<Name, String>,
    pub site: Option<Name>,
    /// Prefixes that it routes for; not empty means that it has a forward policy.
    pub routes: AddressSet,
    /// The policy's name for an interface -> the kernel's.
    pub interfaces: BTreeMap<Name, String>,
    /// Bridges (kernel names) whose forwarded traffic is not a matter of policy.
    pub unmanaged: BTreeSet<String>,
    pub stage: Stage,
    pub origin: Origin,
}

impl Node {
    /// Every address that it may answer on.
    pub fn local(&self) -> AddressSet {
        self.addresses.union(&self.floating)
    }
}

/// A named set of addresses, resolved: members of members, labels and `except` are worked in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: Name,
    pub addresses: AddressSet,
    /// DNS names; only in groups that are destinations of allows.
    pub names: BTreeSet<String>,
    /// The nodes that its addresses belong to.
    pub nodes: BTreeSet<Name>,
    pub may_be_empty: bool,
    pub origin: Origin,
}

/// One end of a rule: a union of groups, nodes or the built-in `any`, `internet`, `internal`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// As written, such as `primary` or `worker, cli`, with one space after each comma.
    pub text: String,
    /// With the groups' `includes_rules_of` worked in.
    pub addresses: AddressSet,
    pub names: BTreeSet<String>,
}

/// One service of a rule, as written and as protocols and ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceUse {
    /// `https`, `tcp/4444`, `any`, `icmp/echo-request`, …
    pub text: String,
    pub upper: UpperSet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    Allow,
    Deny,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}

/// Where something stands in the operator's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub span: Span,
    /// `file:line`.
    pub place: String,
    /// The section's name, for rules in one.
    pub section: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub id: RuleId,
    pub action: Action,
    pub source: End,
    pub destination: End,
    /// `A <-> B`: the rule holds from `destination` to `source` as well.
    pub both_ways: bool,
    /// Not empty for an allow; empty for a deny means every service.
    pub services: Vec<ServiceUse>,
    pub source_ports: Option<IntervalSet<u16>>,
    /// The policy's name of the interface that the flow must use.
    pub via: Option<Name>,
    /// Seconds that an established TCP session may be idle.
    pub session_timeout: Option<u32>,
    /// Seconds since the epoch; from then on the rule is not there. The end of the day as written.
    pub expires: Option<u64>,
    pub stage: Stage,
    pub log: bool,
    /// Reject, also what comes in.
    pub reject: bool,
    pub note: Option<String>,
    pub owner: Option<String>,
    pub origin: Origin,
}

impl Rule {
    /// Its protocols and ports, source ports included.
    pub fn upper(&self) -> UpperSet {
        if self.services.is_empty() {
            return UpperSet::any();
        }
        let cubes = self.services.iter().flat_map(|service| service.upper.cubes());
        match &self.source_ports {
            None => cubes.cloned().collect(),
            Some(ports) => cubes.filter_map(|cube| cube.with_source_ports(ports)).collect(),
        }
    }

    /// Its pairs of ends: one, or two for `<->`.
    pub fn directions(&self) -> impl Iterator<Item = (&End, &End)> {
        let back = self.both_ways.then_some((&self.destination, &self.source));
        std::iter::once((&self.source, &self.destination)).chain(back)
    }

    /// The flows that its addresses name (what its DNS names add is not known here).
    pub fn flows(&self) -> FlowSet {
        let upper = self.upper();
        self.directions().fold(FlowSet::default(), |flows, (source, destination)| {
            flows.union(&FlowSet::product(&source.addresses, &destination.addresses, &upper))
        })
    }

    pub fn is_expired(&self, now: u64) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// Who manages the nodes, and how: an item of the floor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Management {
    pub from: End,
    pub services: Vec<ServiceUse>,
    pub origin: Origin,
}

/// The items of the floor that the file took out by name. Loopback can't be taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    pub without_dhcp: bool,
    pub without_neighbour_discovery: bool,
    pub without_multicast_listener: bool,
    pub without_management: bool,
}

/// A test of the policy, in the policy: holds for all flows of the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    pub action: Action,
    pub source: End,
    pub destination: End,
    /// `A <-> B`: about the flows from `destination` to `source` as well.
    pub both_ways: bool,
    /// Empty means every service.
    pub services: Vec<ServiceUse>,
    pub origin: Origin,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `None` when the file does not say; then nothing uses `internet`.
    pub internal: Option<AddressSet>,
    pub min_tls: Option<TlsVersion>,
    pub management: Option<Management>,
    pub floor: Floor,
    pub protected: AddressSet,
    pub on_tighten: OnTighten,
    pub on_drift: OnDrift,
    pub nodes: BTreeMap<Name, Node>,
    pub groups: BTreeMap<Name, Group>,
    /// In the order of the files, sections and options that are switched off left out.
    pub rules: Vec<Rule>,
    pub expectations: Vec<Expectation>,
    /// In the order of the files.
    pub unused: Vec<Unused>,
}

/// What has a name of its own in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Definition {
    Group,
    Service,
}

impl fmt::Display for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Group => "group",
            Self::Service => "service",
        })
    }
}

/// A definition that nothing in the files names, what is switched off included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unused {
    pub what: Definition,
    pub name: Name,
    pub origin: Origin,
}

impl Policy {
    /// Addresses of all nodes, floating ones included.
    pub fn node_addresses(&self) -> AddressSet {
        self.nodes.values().map(Node::local).collect()
    }

    /// Every global address that is neither `internal` nor a node's.
    pub fn internet(internal: &AddressSet, nodes: &AddressSet) -> AddressSet {
        ringwall_packet::not_global().union(internal).union(nodes).complement()
    }

    pub fn rule(&self, id: &RuleId) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.id == *id)
    }
}
