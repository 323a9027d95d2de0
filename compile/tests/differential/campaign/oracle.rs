//! What must become of a packet: from the policy's meaning, the ruleset's, and the order of states
//! that the policy language promises. It knows nothing of nftables but the names of counters.

use std::net::IpAddr;

use ringwall_lab::frame::tcp;
use ringwall_packet::{AddressSet, Family, Flow, Protocol, State, Upper, UpperCube};
use ringwall_policy::{Judgement, Node, Reason, Verdict as PolicyVerdict, receivable};
use ringwall_ruleset::nftables::Generation;
use ringwall_ruleset::{Decider, Effect, Entry, Forward, Path, Ruleset, Verdict};

use super::packets::{Handling, Packet};
use super::policies::Case;

/// A generation as the kernel has it.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub case: Case,
    pub node: Node,
    pub ruleset: Ruleset,
    pub generation: Generation,
    /// Generations after this one that were never confirmed, known when it was loaded.
    pub fallen: Vec<Generation>,
}

/// What connection tracking knows about a packet.
#[derive(Clone, Copy, Debug)]
pub struct Conntrack {
    pub state: State,
    /// The generation that accepted the connection, if any of ours did.
    pub mark: Option<Generation>,
    /// It goes against the direction in which the connection began.
    pub is_reply: bool,
}

impl From<State> for Conntrack {
    fn from(state: State) -> Self {
        Self { state, mark: None, is_reply: false }
    }
}

/// What must be seen of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub is_accepted: bool,
    /// Named counters that count it.
    pub counters: Vec<String>,
    /// The prefix that it is logged with for sure.
    pub log: Option<String>,
    /// Accepted by a rule, the floor's management, or an audited node: it carries the mark now.
    pub is_marked: bool,
    /// Its sender gets a TCP reset, which closes the connection to conntrack as well.
    pub is_reset: bool,
}

/// Which sources are blocked at this time.
#[derive(Clone, Debug, Default)]
pub struct Blocks {
    pub blocked: AddressSet,
    pub protected: AddressSet,
}

impl Blocks {
    /// Whether the packet is dropped before anything else, connection tracking included.
    pub fn hold(&self, packet: &Packet) -> bool {
        let is_output = packet.path == Path::Output;
        let stranger = if is_output { packet.flow.destination() } else { packet.flow.source() };
        packet.leaves_by != "lo" && self.blocked.contains(stranger) && !self.protected.contains(stranger)
    }
}

impl Loaded {
    pub fn expect(&self, packet: &Packet, known: Conntrack, blocks: &Blocks, now: u64) -> Expected {
        let Conntrack { state, mark, is_reply } = known;
        let mut expected = Expected { is_accepted: true, counters: Vec::new(), log: None, is_marked: false, is_reset: false };
        let (path, flow) = (packet.path, &packet.flow);
        let name = format!("{}_{}", self.generation, path.short());
        if path == Path::Output && packet.leaves_by == "lo" {
            return expected;
        }
        if blocks.hold(packet) {
            expected.counters.push("blocked".into());
            expected.is_accepted = false;
            return expected;
        }
        if state == State::Invalid {
            expected.counters.push(format!("{name}_invalid"));
            expected.is_accepted = self.ruleset.audit;
            return expected;
        }
        if matches!(state, State::Established | State::Related) && !mark.is_some_and(|mark| self.refuses(mark)) {
            expected.counters.push(format!("{}_established", self.generation));
            return expected;
        }
        if state == State::Established && is_reply && self.is_answer(packet, now) {
            return expected;
        }
        let is_routed = matches!(self.ruleset.forward, Forward::Routed(_));
        if path != Path::Forward && self.is_floor(packet) {
            return expected;
        }
        if state == State::Untracked && (path != Path::Forward || is_routed) {
            expected.counters.push(format!("{name}_untracked"));
            if self.is_answer(packet, now) {
                return expected;
            }
        }
        let audited = self.ruleset.entries(path).iter().find(|entry| entry.audit && self.matches(entry, packet, flow, now));
        if let Some(entry) = audited {
            expected.counters.push(format!("{name}_r_{}_audit", entry.id));
        }
        let (verdict, decider) = self.judge(packet, now);
        expected.is_accepted = verdict == Verdict::Accept || self.ruleset.audit;
        expected.is_marked = expected.is_accepted;
        let is_tcp = flow.protocol() == Protocol::TCP;
        expected.is_reset = is_tcp && !expected.is_accepted && verdict == Verdict::Reject && packet.tcp_flags & tcp::RST == 0;
        match &decider {
            Decider::Default => expected.counters.push(format!("{name}_default")),
            Decider::Entry(id) => {
                expected.counters.push(format!("{name}_r_{id}"));
                let entry = self.ruleset.entries(path).iter().find(|entry| !entry.audit && entry.id == *id);
                let entry = entry.expect("the ruleset judged by it");
                let word = match verdict {
                    _ if self.ruleset.audit => "accept",
                    Verdict::Accept => "accept",
                    Verdict::Drop => "drop",
                    Verdict::Reject => "reject",
                };
                expected.log = entry.log.then(|| format!("ringwall {} {} {word} {id}", self.generation, path.short()));
            }
        }
        expected
    }

    /// Whether connections that this generation accepted are judged anew.
    fn refuses(&self, mark: Generation) -> bool {
        self.fallen.contains(&mark) || mark > self.generation
    }

    pub fn judge(&self, packet: &Packet, now: u64) -> (Verdict, Decider) {
        self.ruleset.judge(packet.path, &packet.flow, |interface| packet.uses(interface), now, |name, address| {
            self.case.resolved(name, address)
        })
    }

    /// Where policy and ruleset disagree about a packet that is this node's business, how.
    pub fn contradiction(&self, packet: &Packet, now: u64) -> Option<String> {
        let flow = &packet.flow;
        let (from, to) = (flow.source(), flow.destination());
        let local = self.node.local();
        let concerns = match packet.path {
            Path::Input => local.union(&receivable(self.case.policy.internal.as_ref())).contains(to),
            Path::Output => local.contains(from),
            Path::Forward => self.node.routes.contains(from) || self.node.routes.contains(to),
        };
        if !concerns {
            return None;
        }
        let policy = self.of_policy(packet, now);
        let (verdict, decider) = self.judge(packet, now);
        let decided = match &policy.reason {
            Reason::Rule(id) => Decider::Entry(id.to_string()),
            Reason::Management => Decider::Entry(ringwall_compile::MANAGEMENT.into()),
            Reason::Default => Decider::Default,
        };
        let agree = (policy.verdict == PolicyVerdict::Accept) == (verdict == Verdict::Accept)
            && decider == decided
            // On its way out everything is rejected.
            && (packet.path == Path::Output || (policy.verdict == PolicyVerdict::Reject) == (verdict == Verdict::Reject));
        (!agree).then(|| format!("the policy says {policy:?}, the ruleset {verdict:?} by {decider:?}"))
    }

    /// A forwarded packet uses two interfaces: a rule for either counts.
    fn of_policy(&self, packet: &Packet, now: u64) -> Judgement {
        let used = self.node.interfaces.iter().filter(|(_, kernel)| packet.uses(kernel)).map(|(name, _)| Some(name.as_str()));
        let judgements = used.chain([None]).map(|via| {
            self.case.policy.judge(&packet.flow, via, now, |name, address| self.case.resolved(name, address))
        });
        let rank = |judgement: &Judgement| match &judgement.reason {
            Reason::Management => (0, String::new()),
            Reason::Rule(id) => (if judgement.verdict == PolicyVerdict::Accept { 2 } else { 1 }, id.to_string()),
            Reason::Default => (3, String::new()),
        };
        judgements.min_by_key(rank).expect("one at least")
    }

    fn matches(&self, entry: &Entry, packet: &Packet, flow: &Flow, now: u64) -> bool {
        let destination = if entry.names.is_empty() {
            entry.destination.contains(flow.destination())
        } else {
            entry.names.iter().any(|name| self.case.resolved(name, flow.destination()))
        };
        destination
            && entry.source.contains(flow.source())
            && entry.upper.contains(flow.upper(), flow.family())
            && entry.expires.is_none_or(|expires| now < expires)
            && entry.interface.as_ref().is_none_or(|name| packet.uses(name))
    }

    /// RFC 4861 §6.1 and §7.1, RFC 2710 §3, RFC 3810 §5, RFC 3376, RFC 2131 §4.1, RFC 8415 §7.2.
    fn is_floor(&self, packet: &Packet) -> bool {
        let (floor, flow) = (self.ruleset.floor, &packet.flow);
        let is_v6 = flow.family() == Family::V6;
        let link_local = |address: IpAddr| matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
        match flow.upper() {
            Upper::Icmp { kind: 133..=136, .. } if is_v6 => {
                floor.neighbour_discovery && packet.handling == Handling::Neighbour
            }
            Upper::Icmp { kind: 130..=132 | 143, .. } if is_v6 => {
                floor.multicast_listener && (flow.source().is_unspecified() || link_local(flow.source()))
            }
            Upper::Other(_) if !is_v6 && flow.protocol() == Protocol::IGMP => floor.multicast_listener,
            Upper::Ports { source, destination, .. } if flow.protocol() == Protocol::UDP && floor.dhcp => {
                match (packet.path, is_v6) {
                    (Path::Input, false) => (source, destination) == (67, 68),
                    (Path::Output, false) => (source, destination) == (68, 67),
                    (Path::Input, true) => (source, destination) == (547, 546) && link_local(flow.destination()),
                    (Path::Output, true) => (source, destination) == (546, 547) && link_local(flow.source()),
                    (Path::Forward, _) => false,
                }
            }
            _ => false,
        }
    }

    /// Whether an untracked packet may be the answer to something that the opposite path allows.
    fn is_answer(&self, packet: &Packet, now: u64) -> bool {
        let opposite = match packet.path {
            Path::Input => Path::Output,
            Path::Output => Path::Input,
            Path::Forward => Path::Forward,
        };
        let upper = match packet.flow.upper() {
            Upper::Ports { protocol, source, destination } => Upper::Ports { protocol, source: destination, destination: source },
            upper => upper,
        };
        let request = Flow::new(packet.flow.destination(), packet.flow.source(), upper).expect("of one family");
        // An answer to an ICMP message is another message.
        let is_icmp = |cube: &UpperCube| cube.protocols().only().is_some_and(|number| Protocol(number).is_icmp());
        let found = self.ruleset.entries(opposite).iter().find(|entry| {
            let cubes: Vec<_> = entry.upper.cubes().iter().filter(|cube| !is_icmp(cube)).cloned().collect();
            let entry = Entry { upper: cubes.into_iter().collect(), ..(*entry).clone() };
            !entry.audit && entry.names.is_empty() && self.matches(&entry, packet, &request, now)
        });
        found.is_some_and(|entry| matches!(entry.effect, Effect::Accept { .. }))
    }
}
