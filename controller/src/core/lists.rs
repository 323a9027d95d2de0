//! The lists that all nodes share, and which node has how much of them.
//!
//! In: changes of lists, what agents have and say of it. Out: each change to every agent that takes lists; what it
//! missed, or all, to who comes back. Never: an address of the fleet's own or a protected one in a list, a
//! revision believed that was never sent, a list that ends because a controller does not know it.
//!
//! A long list goes in parts, beside the stream's queue: what changes meanwhile overtakes them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use ringwall_packet::AddressSet;
use ringwall_protocol as protocol;
use ringwall_protocol::{ListRevision, ToAgent};
use serde_json::json;

use super::list::{List, Missing};
use super::{Action, Core, SessionId};
use crate::agent::Standing;
use crate::change::Observed;
use crate::event::NewEvent;
use crate::id::{ListName, NodeName};
use crate::time::Time;

/// As many as a node's kernel is asked for each element.
pub const LISTS_MAX: usize = 64;
/// The shortest prefixes that a list takes, of IPv4 and of IPv6: the largest networks that are one holder's, as
/// the nodes hold it, too.
const SHORTEST: [u8; 2] = [8, 19];
/// Refused entries of a change that are named one by one.
const NAMED_MAX: usize = 100;
/// Seconds between two looks for what has ended.
const SWEEP: u64 = 60;

/// A prefix in a list, and how long it stays there; `None` is until it is taken out.
pub type Listed = (IpNet, Option<Duration>);

/// What is to change in a list. What is in both is added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListChange {
    pub list: ListName,
    /// What is there already gets its new time.
    pub added: Vec<Listed>,
    pub removed: Vec<IpNet>,
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The list's revision with the change in it.
    pub revision: u64,
    /// How many entries were refused, and the first of them; the others are in the list.
    pub refused: usize,
    pub named: Vec<(IpNet, Unlisted)>,
}

/// Why an address is not put into a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unlisted {
    #[error("it is wider than one holder's network")]
    Wide,
    #[error("it has addresses of the fleet's nodes or controllers")]
    Ours,
    #[error("it has addresses that the policy protects")]
    Protected,
    #[error("it has loopback, link-local or multicast addresses, which nobody is known by")]
    Nobodys,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotListed {
    #[error("there are {LISTS_MAX} lists already")]
    TooMany,
    /// There was nothing else in the change.
    #[error("nothing of it can be listed: {} {}", .0.first().map(|(net, _)| net.to_string()).unwrap_or_default(), .0.first().map(|(_, why)| why.to_string()).unwrap_or_default())]
    Refused(Vec<(IpNet, Unlisted)>),
}

/// Which nodes have a list as it was at a revision, or newer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    pub on: usize,
    /// Nodes whose agents are approved.
    pub of: usize,
    /// The others, connected or not.
    pub late: BTreeSet<NodeName>,
}

#[derive(Debug, Default)]
pub(super) struct Lists {
    all: BTreeMap<ListName, List>,
    /// Streams of approved agents that take lists. All of them were sent all that there is.
    listeners: BTreeSet<SessionId>,
    /// Streams that were sent all of a list a second time, and have not acknowledged it.
    resynced: BTreeSet<(SessionId, ListName)>,
    controllers: Vec<IpAddr>,
    /// The fleet's own and protected addresses, until somebody comes or goes.
    own: Option<Own>,
    swept: Option<Time>,
}

#[derive(Debug)]
struct Own {
    fleet: AddressSet,
    protected: AddressSet,
}

impl Lists {
    /// Somebody came or went, or another policy is wanted.
    pub fn forget_own(&mut self) {
        self.own = None;
    }

    pub fn gone(&mut self, id: SessionId) {
        self.listeners.remove(&id);
        self.resynced.retain(|(of, _)| *of != id);
    }
}

impl Core {
    /// Where nodes reach controllers: never in a list.
    pub fn keep_out(&mut self, controllers: impl IntoIterator<Item = IpAddr>) {
        self.lists.controllers = controllers.into_iter().map(|address| address.to_canonical()).collect();
        self.lists.forget_own();
    }

    /// Takes a change of a list and says what to send. `life` is random, and is used if the list is new.
    ///
    /// What can't be listed is named, and the rest is taken.
    pub fn change_list(&mut self, now: Time, life: u64, change: ListChange) -> (Result<Accepted, NotListed>, Vec<Action>) {
        self.let_time_pass(now);
        let result = self.try_change_list(life, change);
        (result, std::mem::take(&mut self.actions))
    }

    fn try_change_list(&mut self, life: u64, change: ListChange) -> Result<Accepted, NotListed> {
        let ListChange { list: name, added, removed } = change;
        let is_new = !self.lists.all.contains_key(&name);
        if is_new && self.lists.all.len() >= LISTS_MAX {
            return Err(NotListed::TooMany);
        }
        let (mut taken, mut removed) = (Vec::with_capacity(added.len()), removed.into_iter().map(canonical).collect::<Vec<_>>());
        let (mut refused, mut named) = (0, Vec::new());
        for (net, left) in added {
            let net = canonical(net);
            match self.unlisted(net) {
                None if left == Some(Duration::ZERO) => removed.push(net),
                None => taken.push((net, left)),
                Some(why) => {
                    refused += 1;
                    if named.len() < NAMED_MAX {
                        named.push((net, why));
                    }
                }
            }
        }
        if refused > 0 && taken.is_empty() && removed.is_empty() {
            return Err(NotListed::Refused(named));
        }
        let now = self.now;
        let list = self.lists.all.entry(name.clone()).or_insert_with(|| List::new(name.to_string(), life));
        let deltas = list.change(taken, removed, now);
        let revision = list.revision;
        let messages: Vec<Bytes> = match deltas {
            // Whoever does not know the list has nothing that a delta could begin from.
            Some(deltas) if !is_new => deltas,
            _ => {
                let parts = list.snapshot(now);
                self.name_lists();
                for id in self.lists.listeners.clone() {
                    self.send_all(id, parts.clone());
                }
                Vec::new()
            }
        };
        if !messages.is_empty() {
            for id in self.lists.listeners.clone() {
                for message in &messages {
                    self.send(id, ToAgent::List(message.clone()));
                }
            }
        }
        Ok(Accepted { revision, refused, named })
    }

    /// Why it must not be in a list, if it must not.
    fn unlisted(&mut self, net: IpNet) -> Option<Unlisted> {
        if net.prefix_len() < SHORTEST[usize::from(net.addr().is_ipv6())] {
            return Some(Unlisted::Wide);
        }
        static NOBODYS: LazyLock<AddressSet> = LazyLock::new(ringwall_packet::of_no_one);
        if touches(&NOBODYS, net) {
            return Some(Unlisted::Nobodys);
        }
        let own = match self.lists.own.take() {
            Some(own) => own,
            None => self.own(),
        };
        let own = self.lists.own.insert(own);
        match () {
            () if touches(&own.fleet, net) => Some(Unlisted::Ours),
            () if touches(&own.protected, net) => Some(Unlisted::Protected),
            () => None,
        }
    }

    fn own(&self) -> Own {
        let agents = self.agents.values().filter(|agent| !agent.is_revoked());
        let fleet = agents.flat_map(|agent| agent.addresses()).chain(self.lists.controllers.iter().copied()).collect();
        // All nodes' rulesets protect the same. Until the policy is compiled, what was given to a node last tells it.
        let wanted = self.wanted.as_ref().and_then(|wanted| wanted.rulesets.values().next());
        let newest = self.nodes.values().filter_map(|node| node.confirmed.as_ref().or(node.newest.as_ref())).max_by_key(|kept| kept.revision);
        let bytes = wanted.or(newest.map(|kept| &kept.ruleset)).map(|bytes| Bytes::copy_from_slice(bytes));
        let ruleset = bytes.and_then(|bytes| protocol::decode_ruleset(&bytes).ok());
        Own { fleet, protected: ruleset.map(|ruleset| ruleset.protected).unwrap_or_default() }
    }

    /// An agent that takes lists gets what it lacks of them, and from now on every change.
    pub(super) fn listen(&mut self, id: SessionId, node: &NodeName, has: &[ListRevision]) {
        if !self.lists.listeners.insert(id) {
            return;
        }
        let places: Vec<ListRevision> = self.lists.all.values().map(List::place).collect();
        self.send(id, ToAgent::Lists(places));
        let now = self.now;
        for name in self.lists.all.keys().cloned().collect::<Vec<_>>() {
            let Some(list) = self.lists.all.get_mut(&name) else { continue };
            let has = has.iter().find(|has| has.list == list.name);
            let missing = list.missing(has, now);
            // What it has of another life is no revision of this list.
            let known = has.filter(|has| has.life == list.life && has.revision <= list.revision).map(|has| has.revision);
            if let Some(node) = self.nodes.get_mut(node) {
                match known {
                    Some(revision) => drop(node.lists.insert(name, revision)),
                    None => drop(node.lists.remove(&name)),
                }
            }
            match missing {
                Missing::Nothing => {}
                Missing::Delta(delta) => self.send(id, ToAgent::List(delta)),
                Missing::All(parts) => self.send_all(id, parts),
            }
        }
    }

    fn name_lists(&mut self) {
        let places: Vec<ListRevision> = self.lists.all.values().map(List::place).collect();
        for id in self.lists.listeners.clone() {
            self.send(id, ToAgent::Lists(places.clone()));
        }
    }

    /// The first part in its turn, so that whatever changes later comes to an agent that knows of it.
    fn send_all(&mut self, id: SessionId, parts: Arc<[Bytes]>) {
        if let Some(first) = parts.first() {
            self.send(id, ToAgent::List(first.clone()));
        }
        if parts.len() > 1 {
            self.actions.push(Action::SendParts { id, parts });
        }
    }

    /// The kernel of a node has a list.
    pub(super) fn listed(&mut self, id: SessionId, node: &NodeName, has: &ListRevision) {
        let Some((name, list)) = has.list.parse().ok().and_then(|name: ListName| Some((name.clone(), self.lists.all.get(&name)?))) else { return };
        // Said before it heard of this life.
        if has.life != list.life {
            return;
        }
        if has.revision > list.revision || !self.lists.listeners.contains(&id) {
            let body = json!({ "list": name, "acknowledged": has.revision, "newest": list.revision });
            self.observe(Observed::Event(NewEvent { kind: "unsent".into(), node: Some(node.clone()), body }));
            return self.end(id);
        }
        self.lists.resynced.remove(&(id, name.clone()));
        if let Some(node) = self.nodes.get_mut(node) {
            let known = node.lists.entry(name).or_default();
            *known = has.revision.max(*known);
        }
    }

    /// A node did not take a list, or not all of it.
    pub(super) fn not_listed(&mut self, id: SessionId, node: &NodeName, refused: &ListRevision, reason: protocol::Reason, detail: &str) {
        let body = json!({ "list": refused.list, "revision": refused.revision, "why": super::session::word(reason), "detail": detail });
        self.observe(Observed::Event(NewEvent { kind: "list_refused".into(), node: Some(node.clone()), body }));
        if reason != protocol::Reason::Gap || !self.lists.listeners.contains(&id) {
            return;
        }
        let now = self.now;
        let Some((name, list)) = refused.list.parse().ok().and_then(|name: ListName| Some((name.clone(), self.lists.all.get_mut(&name)?))) else { return };
        let parts = list.snapshot(now);
        // Who lacks something again though it got all of it gets no third one on this stream.
        if !self.lists.resynced.insert((id, name)) {
            return self.end(id);
        }
        self.send_all(id, parts);
    }

    pub(super) fn sweep_lists(&mut self) {
        let now = self.now;
        if self.lists.swept.is_some_and(|swept| now.since(swept).as_secs() < SWEEP) {
            return;
        }
        self.lists.swept = Some(now);
        self.lists.all.values_mut().for_each(|list| list.sweep(now));
    }

    /// What is in a list, and for how long.
    pub fn list(&self, name: &ListName) -> Option<(ListRevision, Vec<Listed>)> {
        self.lists.all.get(name).map(|list| (list.place(), list.entries(self.now).collect()))
    }

    /// Who has a list as it was at a revision.
    pub fn coverage(&self, name: &ListName, revision: u64) -> Option<Coverage> {
        self.lists.all.get(name)?;
        let approved = self.agents.values().filter(|agent| agent.standing == Standing::Approved);
        let nodes: BTreeSet<&NodeName> = approved.map(|agent| &agent.node).collect();
        let has = |node: &NodeName| self.nodes.get(node).and_then(|node| node.lists.get(name)).is_some_and(|has| *has >= revision);
        let late: BTreeSet<NodeName> = nodes.iter().filter(|node| !has(node)).map(|node| (*node).clone()).collect();
        Some(Coverage { on: nodes.len() - late.len(), of: nodes.len(), late })
    }
}

/// Without host bits; IPv4-mapped prefixes are IPv4.
fn canonical(net: IpNet) -> IpNet {
    let net = match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
            Some(v4) => ipnet::Ipv4Net::new(v4, v6.prefix_len() - 96).map_or(net, IpNet::V4),
            None => net,
        },
        _ => net,
    };
    net.trunc()
}

fn touches(set: &AddressSet, net: IpNet) -> bool {
    match net {
        IpNet::V4(net) => {
            let all = set.v4.intervals();
            let next = all.partition_point(|range| range.last() < net.network());
            all.get(next).is_some_and(|range| range.first() <= net.broadcast())
        }
        IpNet::V6(net) => {
            let all = set.v6.intervals();
            let next = all.partition_point(|range| range.last() < net.network());
            all.get(next).is_some_and(|range| range.first() <= net.broadcast())
        }
    }
}
