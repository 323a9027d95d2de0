//! Packets: a flow on a path, how it looks on the wire, and what conntrack makes of it.

use std::net::IpAddr;

use ringwall_lab::frame::{self, Details, tcp};
use ringwall_packet::{AddressSet, Family, Flow, PortProtocol, Protocol, State, Upper, UpperCube, UpperSet};
use ringwall_policy::{Action, End, Policy, Stage};
use ringwall_ruleset::Path;

use super::policies::Case;
use super::random::Random;
use super::world::World;

/// What the test's own tables do with a packet, told by its hop limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// Logged if our rules let it through, then dropped: no connection is made of it.
    Once,
    /// Logged, and lives on.
    Kept,
    /// Kept from connection tracking; then as `Once`.
    Untracked,
    /// As `Once`, with the hop limit that neighbour discovery asks for (RFC 4861 §6.1).
    Neighbour,
}

impl Handling {
    pub const ALL: [Self; 4] = [Self::Once, Self::Kept, Self::Untracked, Self::Neighbour];

    pub fn hop_limit(self) -> u8 {
        match self {
            Self::Once => 200,
            Self::Kept => 210,
            Self::Untracked => 220,
            Self::Neighbour => 255,
        }
    }
}

/// Headers between IPv6's and the upper protocol's, which the kernel looks behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    None,
    DestinationOptions,
}

#[derive(Clone, Debug)]
pub struct Packet {
    pub path: Path,
    pub flow: Flow,
    pub came_by: &'static str,
    pub leaves_by: &'static str,
    pub handling: Handling,
    pub tcp_flags: u8,
    pub tcp_sequence: u32,
    pub tcp_acknowledgement: u32,
    pub icmp_rest: [u8; 4],
    pub payload: Vec<u8>,
    pub extension: Extension,
    /// Its checksum is wrong.
    pub is_corrupt: bool,
    /// Some address or port of it is the first or last of an interval in the policy, or beside it.
    pub on_boundary: bool,
}

impl Packet {
    pub fn new(path: Path, flow: Flow, world: &World) -> Self {
        let leaves_by = if path == Path::Input { "" } else { world.way_out(flow.destination()) };
        let came_by = match path {
            Path::Output => "",
            Path::Forward if leaves_by == "west" => "east",
            _ => "west",
        };
        Self {
            path,
            flow,
            came_by,
            leaves_by,
            handling: Handling::Once,
            tcp_flags: tcp::SYN,
            tcp_sequence: 0,
            tcp_acknowledgement: 0,
            icmp_rest: [0; 4],
            payload: Vec::new(),
            extension: Extension::None,
            is_corrupt: false,
            on_boundary: false,
        }
    }

    /// Whether it uses an interface of this (kernel's) name.
    pub fn uses(&self, interface: &str) -> bool {
        self.came_by == interface || self.leaves_by == interface
    }

    /// The state of the packet where no connection is known. Facts of the kernel (6.18,
    /// net/netfilter/nf_conntrack_proto*.c); our own rules have no part in them.
    pub fn first_state(&self) -> State {
        if self.handling == Handling::Untracked {
            return State::Untracked;
        }
        if self.is_corrupt && self.path != Path::Output {
            return State::Invalid;
        }
        match self.flow.upper() {
            Upper::Ports { protocol: PortProtocol::TCP, .. } => match self.tcp_flags {
                // A connection may be picked up in the middle (`nf_conntrack_tcp_loose`).
                tcp::SYN | tcp::ACK => State::New,
                _ => State::Invalid,
            },
            Upper::Icmp { kind, .. } => match (self.flow.family(), kind) {
                // What has a reply begins something: echo, timestamp, information, address mask, node information.
                (Family::V4, 8 | 13 | 15 | 17) | (Family::V6, 128 | 139) => State::New,
                (Family::V6, 130..=136 | 143 | 151 | 152) => State::Untracked,
                _ => State::Invalid,
            },
            // "No next header" has nothing to track.
            _ if self.flow.family() == Family::V6 && self.flow.protocol() == Protocol(59) => State::Invalid,
            _ => State::New,
        }
    }

    /// The packet, marked with a number other than 0 in IPv4's identification or IPv6's flow label.
    pub fn bytes(&self, number: u16) -> Vec<u8> {
        let mut payload = self.payload.clone();
        match (self.flow.upper(), self.flow.protocol()) {
            // RFC 4302 §2: before ESP, four words more than the two that count for nothing, index 1,
            // sequence 1. nftables takes it for the protocol in both families, conntrack looks behind.
            (_, Protocol::AH) => {
                payload.splice(..0, [&[50, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1], &[0; 12][..]].concat());
            }
            // What the kernel parses (GRE, say) is to find nothing special.
            (Upper::Other(_), _) => {
                payload.splice(..0, [0; 8]);
            }
            _ => {}
        }
        let details = Details {
            hop_limit: self.handling.hop_limit(),
            identification: number,
            tcp_flags: self.tcp_flags,
            tcp_sequence: self.tcp_sequence,
            tcp_acknowledgement: self.tcp_acknowledgement,
            icmp_rest: self.icmp_rest,
            payload: &payload,
        };
        let mut bytes = frame::packet(&self.flow, &details);
        if self.is_corrupt {
            let last = bytes.len() - 1;
            bytes[last] ^= 0x55;
        }
        if self.flow.family() == Family::V6 {
            let upper = bytes[6];
            let header: Vec<u8> = match self.extension {
                Extension::None => Vec::new(),
                // RFC 8200 §4.6: one option of padding.
                Extension::DestinationOptions => [&[60][..], &[upper, 0, 1, 4, 0, 0, 0, 0]].concat(),
            };
            if let [kind, header @ ..] = &header[..] {
                bytes[6] = *kind;
                bytes.splice(40..40, header.iter().copied());
                let length = u16::try_from(bytes.len() - 40).expect("a small packet").to_be_bytes();
                bytes[4..6].copy_from_slice(&length);
            }
            bytes[2..4].copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    /// What tells its connection from others, both ways round.
    pub fn tuple(&self) -> Tuple {
        let (one, two) = (self.flow.source(), self.flow.destination());
        let (from, to) = match self.flow.upper() {
            Upper::Ports { source, destination, .. } => (source, destination),
            Upper::Icmp { .. } => (u16::from_be_bytes([self.icmp_rest[0], self.icmp_rest[1]]), 0),
            Upper::Other(_) => (0, 0),
        };
        // Behind an IPv6 authentication header conntrack sees the ESP that `bytes` puts there.
        let protocol = match (self.flow.family(), self.flow.protocol()) {
            (Family::V6, Protocol::AH) => Protocol::ESP.0,
            (_, protocol) => protocol.0,
        };
        if (one, from) <= (two, to) { (one, two, protocol, from, to) } else { (two, one, protocol, to, from) }
    }
}

/// Both ends, protocol, and both ports or ICMP's identifier.
pub type Tuple = (IpAddr, IpAddr, u8, u16, u16);

/// The number that [`Packet::bytes`] put in.
pub fn number(packet: &[u8]) -> Option<u16> {
    let at = if packet.first()? >> 4 == 4 { 4 } else { 2 };
    Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]))
}

/// Makes packets that a policy has something to say about.
pub struct Packets<'a> {
    pub case: &'a Case,
    pub world: &'a World,
    /// Of the node.
    pub addresses: AddressSet,
    pub routes: AddressSet,
}

impl Packets<'_> {
    /// A packet for a path, fresh and of any kind. `None` when nothing possible was found.
    pub fn any(&self, random: &mut Random, path: Path) -> Option<Packet> {
        let mut packet = (0..40).find_map(|_| self.first(random, path))?;
        let is_ported = |protocol| matches!(packet.flow.upper(), Upper::Ports { protocol: found, .. } if found == protocol);
        let (is_tcp, is_udp) = (is_ported(PortProtocol::TCP), is_ported(PortProtocol::UDP));
        packet.handling = match random.weighted(&[88, 8, 4]) {
            0 => Handling::Once,
            1 => Handling::Untracked,
            _ => Handling::Neighbour,
        };
        if is_tcp {
            let flags = [tcp::SYN, tcp::ACK, tcp::RST, tcp::SYN | tcp::ACK, tcp::FIN | tcp::SYN, tcp::FIN | tcp::RST];
            packet.tcp_flags = flags[random.weighted(&[82, 8, 3, 3, 2, 2])];
        }
        if (is_tcp || is_udp) && random.chance(3) {
            packet.is_corrupt = true;
            packet.payload.push(0);
        }
        if random.chance(5) {
            packet.extension = Extension::DestinationOptions;
        }
        Some(packet)
    }

    /// The first packet of something: TCP's SYN, a UDP datagram, an echo request, …
    pub fn first(&self, random: &mut Random, path: Path) -> Option<Packet> {
        let (flow, on_boundary) = if random.chance(92) { self.of_rule(random, path)? } else { self.odd(random, path)? };
        if !self.world.is_possible(path, &flow) || !is_judged(&flow) {
            return None;
        }
        let mut packet = Packet::new(path, flow, self.world);
        if path == Path::Input && random.chance(50) {
            packet.came_by = "east";
        }
        packet.on_boundary = on_boundary;
        packet.payload = vec![0x5a; random.below(200)];
        if let Upper::Icmp { .. } = flow.upper() {
            let id = random.number().to_le_bytes();
            packet.icmp_rest = [id[0], id[1], 0, 1];
        }
        Some(packet)
    }

    /// A flow from inside a rule's box, from its border, or from just beside it.
    fn of_rule(&self, random: &mut Random, path: Path) -> Option<(Flow, bool)> {
        let policy: &Policy = &self.case.policy;
        let management = policy.management.as_ref();
        let nodes = End { text: String::new(), addresses: policy.node_addresses(), names: Default::default() };
        let mut index = || random.below(policy.rules.len() + usize::from(management.is_some()));
        let mut index = [index(), index(), index()];
        // Mostly of rules that open something.
        let opens = |index: &usize| {
            policy.rules.get(*index).is_none_or(|rule| rule.action == Action::Allow && rule.stage == Stage::Enforce)
        };
        index.sort_by_key(|index| !opens(index));
        let index = index[0];
        let (source, destination, upper) = match (policy.rules.get(index), management) {
            (Some(rule), _) => {
                let ends: Vec<_> = rule.directions().collect();
                let (source, destination) = *random.pick(&ends);
                (source, destination, rule.upper())
            }
            (None, management) => {
                let management = management?;
                let upper: UpperSet = management.services.iter().flat_map(|service| service.upper.cubes()).cloned().collect();
                (&management.from, &nodes, upper)
            }
        };
        let mut to = destination.addresses.clone();
        for name in &destination.names {
            to = to.union(&self.case.answers[name]);
        }
        let (mut from, mut to) = self.clip(random, path, &source.addresses, &to);
        // What is allowed to everybody is tried by those who are near, too.
        if from.is_full() {
            from = from.intersection(&self.near(random));
        }
        if to.is_full() {
            to = to.intersection(&self.near(random));
        }
        let families: Vec<Family> = Family::ALL.into_iter().filter(|family| from.has(*family) && to.has(*family)).collect();
        if families.is_empty() || upper.is_empty() {
            return None;
        }
        let family = *random.pick(&families);
        // Which fields are on a boundary: source, destination, destination port, source port.
        let mut border = [false; 4];
        if random.chance(76) {
            for _ in 0..random.within(1, 2) {
                border[random.weighted(&[30, 25, 35, 10])] = true;
            }
        }
        let upper_set = upper.of_family(family);
        if upper_set.is_empty() {
            return None;
        }
        let cube = random.pick(upper_set.cubes());
        let (upper, has_edges) = upper_of(random, cube, family, border[2], border[3])?;
        let flow = match family {
            Family::V4 => Flow::new(
                random.point(&from.v4, border[0])?.into(),
                random.point(&to.v4, border[1])?.into(),
                upper,
            ),
            Family::V6 => Flow::new(
                random.point(&from.v6, border[0])?.into(),
                random.point(&to.v6, border[1])?.into(),
                upper,
            ),
        };
        Some((flow?, border[0] || border[1] || has_edges))
    }

    /// Both ends, as far as the path can carry them.
    fn clip(&self, random: &mut Random, path: Path, from: &AddressSet, to: &AddressSet) -> (AddressSet, AddressSet) {
        let elsewhere = self.world.local.complement();
        match path {
            Path::Input => (from.intersection(&elsewhere), to.intersection(&self.world.received())),
            Path::Output if random.chance(90) => (from.intersection(&self.addresses), to.clone()),
            Path::Output => (from.clone(), to.clone()),
            Path::Forward => {
                let (from, to) = (from.intersection(&elsewhere), to.intersection(&elsewhere));
                match random.below(3) {
                    0 => (from.intersection(&self.routes), to),
                    1 => (from, to.intersection(&self.routes)),
                    _ => (from, to),
                }
            }
        }
    }

    fn near(&self, random: &mut Random) -> AddressSet {
        let world = self.world;
        match random.below(4) {
            0 => self.addresses.union(&world.west),
            1 => world.west.clone(),
            2 => world.local.complement(),
            _ => AddressSet::full(),
        }
    }

    /// What the floor is about, and what no rule knows.
    fn odd(&self, random: &mut Random, path: Path) -> Option<(Flow, bool)> {
        let family = *random.pick(&Family::ALL);
        let from = if path == Path::Output { self.addresses.clone() } else { self.world.local.complement() };
        let to = if path == Path::Input { self.world.received() } else { AddressSet::full() };
        let ported = |protocol, source, destination| Upper::Ports { protocol, source, destination };
        let upper = match random.below(5) {
            0 => {
                let (source, destination) = *random.pick(&[(67, 68), (68, 67), (546, 547), (547, 546)]);
                ported(PortProtocol::UDP, source, destination)
            }
            1 => Upper::other(Protocol::IGMP)?,
            2 if family == Family::V6 => Upper::Icmp { kind: *random.pick(&[130, 131, 132, 133, 134, 135, 136, 137, 143]), code: 0 },
            _ => upper_of(random, &UpperCube::any(), family, false, false)?.0,
        };
        let link_local = random.chance(30) && path != Path::Forward;
        let flow = match family {
            Family::V4 => Flow::new(random.point(&from.v4, false)?.into(), random.point(&to.v4, false)?.into(), upper),
            Family::V6 if link_local => {
                let link_local: IpAddr = "fe80::77".parse().expect("a constant address");
                Flow::new(link_local, random.point(&to.v6, false)?.into(), upper)
            }
            Family::V6 => Flow::new(random.point(&from.v6, false)?.into(), random.point(&to.v6, false)?.into(), upper),
        };
        Some((flow?, false))
    }
}

/// Whether the kernel sees this flow as what it is.
///
/// UDP-Lite counts as invalid in all of its packets (conntrack computes another checksum), and in
/// IPv6 these numbers are extension headers, which the kernel looks behind (RFC 8200 §4): no packet
/// has one of them as its upper protocol.
pub fn is_judged(flow: &Flow) -> bool {
    let protocol = flow.protocol();
    protocol != Protocol::UDPLITE && !(flow.family() == Family::V6 && matches!(protocol.0, 0 | 43 | 44 | 60))
}

/// Protocol, ports and types from a box, and whether any of them is at its border.
fn upper_of(random: &mut Random, cube: &UpperCube, family: Family, edge: bool, source_edge: bool) -> Option<(Upper, bool)> {
    let common = [6, 6, 6, 17, 17, 132, if family == Family::V4 { 1 } else { 58 }];
    let number = match *random.pick(&common) {
        number if cube.protocols().contains(number) && random.chance(80) => number,
        _ => random.point(cube.protocols(), edge)?,
    };
    let icmp = if family == Family::V4 { Protocol::ICMP } else { Protocol::ICMPV6 };
    if let Some(protocol) = PortProtocol::new(Protocol(number)) {
        // The whole range has no border of its own.
        let edge = edge && !cube.destination_ports().is_full();
        let source_edge = source_edge && !cube.source_ports().is_full();
        let destination = random.point(cube.destination_ports(), edge)?;
        let source = random.point(cube.source_ports(), source_edge)?;
        return Some((Upper::Ports { protocol, source, destination }, edge || source_edge));
    }
    if Protocol(number) == icmp {
        let [kind, code] = if cube.destination_ports().is_full() && random.chance(70) {
            [if family == Family::V4 { 8 } else { 128 }, 0]
        } else {
            random.point(cube.destination_ports(), edge)?.to_be_bytes()
        };
        return Some((Upper::Icmp { kind, code }, edge));
    }
    Some((Upper::other(Protocol(number))?, edge && !cube.protocols().is_full()))
}
