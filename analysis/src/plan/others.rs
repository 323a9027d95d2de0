//! What no flow tells: nodes, the floor, `protected`, settings.

use std::collections::BTreeSet;
use std::fmt;

use ringwall_packet::AddressSet;
use ringwall_policy::{Node, OnDrift, OnTighten, Policy, Stage};

use crate::words::{Words, texts};

/// What something that is no flow is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    Node,
    Floor,
    Protected,
    Setting,
    Rule,
}

impl About {
    pub fn word(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Floor => "floor",
            Self::Protected => "protected",
            Self::Setting => "setting",
            Self::Rule => "rule",
        }
    }
}

/// Something that differs and is no flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    pub about: About,
    /// Of the node, rule, item or setting; empty where there is but one.
    pub name: String,
    /// `None`: there was nothing of it.
    pub before: Option<String>,
    /// `None`: there is nothing of it any more.
    pub after: Option<String>,
}

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.about.word())?;
        if !self.name.is_empty() {
            write!(f, " {}", self.name)?;
        }
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => write!(f, ": {before} -> {after}"),
            (Some(before), None) => write!(f, ": gone: {before}"),
            (None, Some(after)) => write!(f, ": {after}"),
            (None, None) => Ok(()),
        }
    }
}

/// What every node keeps open, whatever the rules say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Floor {
    /// Such as `loopback`, or `management: admins -> vault  22/tcp (ssh)`.
    pub items: Vec<String>,
    /// Items that the policy takes out.
    pub without: Vec<&'static str>,
    /// Bridges whose traffic nothing judges: node and kernel's name.
    pub unmanaged: Vec<(String, String)>,
}

/// The floor of a policy, of one node or of all.
pub fn floor(policy: &Policy, node: Option<&str>, words: &Words<'_>) -> Floor {
    let mut floor = Floor { items: vec!["loopback".into()], without: Vec::new(), unmanaged: Vec::new() };
    for (name, is_out) in flags(policy) {
        if is_out { floor.without.push(name) } else { floor.items.push(name.into()) }
    }
    if let Some(management) = &policy.management {
        if policy.floor.without_management {
            floor.without.push("management");
        } else {
            let services: Vec<_> = management.services.iter().map(|service| service.text.as_str()).collect();
            let nodes = words.end(&policy.node_addresses());
            floor.items.push(format!("management: {} -> {}: {}", management.from.text, nodes.short(4), services.join(", ")));
        }
    }
    for (name, node_of) in policy.nodes.iter().filter(|(name, _)| node.is_none_or(|node| node == name.as_str())) {
        floor.unmanaged.extend(node_of.unmanaged.iter().map(|bridge| (name.to_string(), bridge.clone())));
    }
    floor
}

/// Items that are there unless they are taken out.
fn flags(policy: &Policy) -> [(&'static str, bool); 3] {
    [
        ("dhcp", policy.floor.without_dhcp),
        ("neighbour-discovery", policy.floor.without_neighbour_discovery),
        ("multicast-listener", policy.floor.without_multicast_listener),
    ]
}

pub(super) fn others(before: Option<&Policy>, after: &Policy, node: Option<&str>, from: &Words<'_>, to: &Words<'_>) -> Vec<Other> {
    let Some(before) = before else { return Vec::new() };
    let mut others = Vec::new();
    let names: BTreeSet<_> = before.nodes.keys().chain(after.nodes.keys()).collect();
    for name in names.into_iter().filter(|name| node.is_none_or(|node| node == name.as_str())) {
        let differences = node_differences(before.nodes.get(name), after.nodes.get(name));
        others.extend(differences.into_iter().map(|(before, after)| Other { about: About::Node, name: name.to_string(), before, after }));
    }
    for ((name, was_out), (_, is_out)) in flags(before).into_iter().zip(flags(after)) {
        if was_out != is_out {
            let text = |is_out| Some(if is_out { "taken out" } else { "kept open" }.to_owned());
            others.push(Other { about: About::Floor, name: name.into(), before: text(was_out), after: text(is_out) });
        }
    }
    let set = |set: &AddressSet, words: &Words<'_>| if set.is_empty() { "nobody".to_owned() } else { words.end(set).to_string() };
    if before.protected != after.protected {
        let (before, after) = (Some(set(&before.protected, from)), Some(set(&after.protected, to)));
        others.push(Other { about: About::Protected, name: String::new(), before, after });
    }
    let mut setting = |name: &str, before: String, after: String| {
        if before != after {
            others.push(Other { about: About::Setting, name: name.into(), before: Some(before), after: Some(after) });
        }
    };
    let internal = |policy: &Policy| policy.internal.as_ref().map_or("not said".into(), |set| texts(set).join(", "));
    setting("internal", internal(before), internal(after));
    let tls = |policy: &Policy| policy.min_tls.map_or("not said".into(), |version| version.to_string());
    setting("min_tls", tls(before), tls(after));
    let tighten = |policy: &Policy| match policy.on_tighten {
        OnTighten::Cut => "cut".to_owned(),
        OnTighten::Drain => "drain".to_owned(),
    };
    setting("on_tighten", tighten(before), tighten(after));
    let drift = |policy: &Policy| match policy.on_drift {
        OnDrift::Heal => "heal".to_owned(),
        OnDrift::Report => "report".to_owned(),
    };
    setting("on_drift", drift(before), drift(after));
    others
}

/// What differs of one node: before and afterwards.
fn node_differences(before: Option<&Node>, after: Option<&Node>) -> Vec<(Option<String>, Option<String>)> {
    let addresses = |node: &Node| texts(&node.local()).join(", ");
    let (before, after) = match (before, after) {
        (None, Some(after)) => return vec![(None, Some(format!("new, with {}: it enforces from its first apply on", addresses(after))))],
        (Some(before), None) => return vec![(Some(format!("{}; `ringwall remove` there ends what it enforces", addresses(before))), None)],
        (Some(before), Some(after)) => (before, after),
        (None, None) => return Vec::new(),
    };
    let mut found = Vec::new();
    let mut compare = |what: &str, before: String, after: String| {
        if before != after {
            let text = |text: String| Some(format!("{what} {}", if text.is_empty() { "none" } else { text.as_str() }));
            found.push((text(before), text(after)));
        }
    };
    compare("addresses", texts(&before.addresses).join(", "), texts(&after.addresses).join(", "));
    compare("floating addresses", texts(&before.floating).join(", "), texts(&after.floating).join(", "));
    compare("routes", texts(&before.routes).join(", "), texts(&after.routes).join(", "));
    let interfaces = |node: &Node| {
        let all: Vec<_> = node.interfaces.iter().map(|(name, kernel)| format!("{name}: {kernel}")).collect();
        all.join(", ")
    };
    compare("interfaces", interfaces(before), interfaces(after));
    let unmanaged = |node: &Node| node.unmanaged.iter().cloned().collect::<Vec<_>>().join(", ");
    compare("unmanaged bridges", unmanaged(before), unmanaged(after));
    let stage = |node: &Node| match node.stage {
        Stage::Audit => "audit (nothing is dropped)".to_owned(),
        Stage::Enforce => "enforce (what no rule allows is dropped)".to_owned(),
    };
    compare("stage", stage(before), stage(after));
    found
}
