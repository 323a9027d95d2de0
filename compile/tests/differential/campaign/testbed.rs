//! The kernel's side: three nodes in namespaces, each between a neighbour to the west and one to the
//! east, and the tables around ours that tell what came through.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ringwall_lab::frame::Mac;
use ringwall_lab::{Host, HostRef, Lab, PacketLog, RawSender, Topology, Wire};
use ringwall_node::apply::{Enforced, enforced};
use ringwall_node::kernel::{Counter, Netfilter, Nft, TableId};
use ringwall_packet::{Family, Flow, Upper};
use ringwall_ruleset::Path;
use ringwall_ruleset::nftables::{BLOCKS_TABLE, LOG_GROUP, TABLE};

use super::packets::{Handling, Packet, number};
use super::world::{FLOATING, World, ZONES};

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// NFLOG group of what our rules let through.
const THROUGH: u16 = 99;
const END: &str = "end of batch";
/// Hop limit of the packet that ends a batch.
const END_HOPS: u8 = 240;

pub fn start() -> Result<Lab> {
    let mut topology = Topology::new();
    for zone in 0..ZONES.len() {
        let [west, east] = ["west", "east"].map(|side| format!("{side}{zone}"));
        topology = topology
            .host(Host::new(format!("node{zone}")).interface("west", &west, []).interface("east", &east, []).forwarding())
            .host(Host::new(&west).interface("eth0", &west, []))
            .host(Host::new(&east).interface("eth0", &east, []));
    }
    Ok(Lab::start(&topology)?)
}

/// One node of the lab, ready to be tested.
pub struct Testbed<'lab> {
    pub world: World,
    host: HostRef<'lab>,
    wires: [(&'static str, Wire, Mac); 2],
    sender: RawSender,
    through: PacketLog,
    ours: PacketLog,
    netfilter: Netfilter,
    nft: Nft,
}

/// What was seen of a batch.
#[derive(Debug, Default)]
pub struct Observed {
    /// Numbers of the packets that our rules let through.
    pub through: BTreeSet<u16>,
    /// Prefix of our log and number of the packet.
    pub logged: BTreeSet<(String, u16)>,
    pub counters: BTreeMap<String, Counter>,
}

impl<'lab> Testbed<'lab> {
    pub fn new(lab: &'lab Lab, zone: usize) -> Result<Self> {
        let host = lab.host(&format!("node{zone}"))?;
        let world = World::new(zone);
        let neighbours = [lab.host(&format!("west{zone}"))?, lab.host(&format!("east{zone}"))?];
        let mac = |host: &HostRef<'_>, interface: &str| host.mac(interface).ok_or("no hardware address");
        host.output("sh", &["-ec", &setup(zone, mac(&neighbours[0], "eth0")?, mac(&neighbours[1], "eth0")?)], "")?;
        let [west, east] = &neighbours;
        let wires = [("west", west.wire("eth0")?, mac(&host, "west")?), ("east", east.wire("eth0")?, mac(&host, "east")?)];
        let nft = Nft::find(std::env::var_os("PATH").as_deref())?;
        let netfilter = host.run(Netfilter::open)??;
        let mut testbed = Self {
            world,
            host,
            wires,
            sender: host.raw_sender()?,
            through: host.packet_log(THROUGH)?,
            ours: host.packet_log(LOG_GROUP)?,
            netfilter,
            nft,
        };
        testbed.load(&tables_around())?;
        Ok(testbed)
    }

    pub fn load(&mut self, text: &str) -> Result<()> {
        let nft = &self.nft;
        Ok(self.host.run(|| nft.load(text))??)
    }

    /// Loads the filter tables of both families with iptables' own programs.
    pub fn restore(&self, v4: &str, v6: &str) -> Result<()> {
        for (program, text) in [("iptables-restore", v4), ("ip6tables-restore", v6)] {
            self.host.output(program, &[], text)?;
        }
        Ok(())
    }

    pub fn enforced(&mut self) -> Result<Enforced> {
        Ok(enforced(&mut self.netfilter)?)
    }

    /// Sends the packets and says what became of them. Their numbers are their places, from 1.
    pub fn observe(&mut self, packets: &[Packet]) -> Result<Observed> {
        let before = self.counters()?;
        for (packet, number) in packets.iter().zip(1..) {
            self.send(packet.path, packet.came_by, &packet.bytes(number))?;
        }
        let mut observed = Observed::default();
        let paths: BTreeSet<(Path, &str)> = packets.iter().map(|packet| (packet.path, packet.came_by)).collect();
        let ends = paths.len();
        for (path, came_by) in paths {
            self.send(path, came_by, &end_of_batch())?;
        }
        for (log, is_ours) in [(&mut self.through, false), (&mut self.ours, true)] {
            let mut left = ends;
            while left > 0 {
                let logged = log.receive(Duration::from_secs(2))?.ok_or("the end of a batch was not logged")?;
                let number = number(&logged.packet).ok_or("a logged packet is none")?;
                if logged.prefix == END {
                    left -= 1;
                } else if is_ours {
                    observed.logged.insert((logged.prefix, number));
                } else {
                    observed.through.insert(number);
                }
            }
        }
        for (name, after) in self.counters()? {
            let before = before.get(&name).copied().unwrap_or_default();
            let counted = Counter { packets: after.packets - before.packets, bytes: after.bytes - before.bytes };
            if counted != Counter::default() {
                observed.counters.insert(name, counted);
            }
        }
        Ok(observed)
    }

    fn send(&self, path: Path, came_by: &str, bytes: &[u8]) -> Result<()> {
        match path {
            Path::Output => drop(self.sender.send(bytes)?),
            Path::Input | Path::Forward => {
                let (_, wire, mac) = self.wires.iter().find(|(name, ..)| *name == came_by).ok_or("no such interface")?;
                wire.send(*mac, bytes)?;
            }
        }
        Ok(())
    }

    fn counters(&mut self) -> Result<BTreeMap<String, Counter>> {
        let mut counters = self.netfilter.counters(&TableId::inet(TABLE))?;
        counters.extend(self.netfilter.counters(&TableId::inet(BLOCKS_TABLE))?);
        Ok(counters)
    }

    /// Ends the tracking of every connection.
    pub fn forget_connections(&mut self) -> Result<()> {
        for connection in self.netfilter.connections()? {
            self.netfilter.delete_connection(&connection)?;
        }
        Ok(())
    }

    /// The chains as nft lists them, for reports.
    pub fn listing(&self) -> Result<String> {
        Ok(self.host.output("nft", &["list", "table", "inet", TABLE], "")?)
    }
}

fn end_of_batch() -> Vec<u8> {
    let flow = Flow::new([192, 0, 2, 77].into(), [198, 51, 100, 77].into(), Upper::udp(1, 1)).expect("of one family");
    let details = ringwall_lab::frame::Details { hop_limit: END_HOPS, identification: 1, ..Default::default() };
    ringwall_lab::frame::packet(&flow, &details)
}

/// Zones and floating addresses are the node's or lead to a neighbour, who never has to be asked for.
fn setup(zone: usize, west: Mac, east: Mac) -> String {
    let mut text = String::from("for each in /proc/sys/net/ipv4/conf/*; do echo 0 >$each/send_redirects; done\n");
    for prefix in ZONES[zone].iter().chain(&FLOATING) {
        text.push_str(&format!("ip route add local {prefix} dev lo\n"));
    }
    for (side, mac) in [("west", west), ("east", east)] {
        text.push_str(&format!("ip neigh replace fe80::1 lladdr {mac} dev {side} nud permanent\n"));
    }
    for prefix in ZONES[(zone + 1) % 3] {
        let via = if prefix.contains(':') { "via fe80::1" } else { "via inet6 fe80::1" };
        text.push_str(&format!("ip route add {prefix} {via} dev west onlink\n"));
    }
    text.push_str("ip route add 0.0.0.0/0 via inet6 fe80::1 dev east onlink\n");
    text.push_str("ip -6 route add default via fe80::1 dev east onlink\n");
    text.push_str("ip -6 route add multicast ff00::/8 dev east table local metric 1\n");
    text
}

/// Keeps the kernel's own packets out, keeps what is to be untracked from conntrack, and behind our
/// chains logs what came through, and drops what is not to live on.
fn tables_around() -> String {
    // A forwarded packet has one hop less.
    let hops = |handling: Handling| format!("{}-{}", handling.hop_limit() - 1, handling.hop_limit());
    let any = |of: &[Handling]| of.iter().map(|handling| hops(*handling)).collect::<Vec<_>>().join(", ");
    let both = |of: String, statement: &str| format!("ip ttl {{ {of} }} {statement}\nip6 hoplimit {{ {of} }} {statement}\n");
    let guard = |hook: &str| {
        format!(
            "chain {hook} {{ type filter hook {hook} priority -400\n\
             ip ttl {END_HOPS} log prefix \"{END}\" group {THROUGH}\n\
             ip ttl {END_HOPS} log prefix \"{END}\" group {LOG_GROUP}\n{}drop\n}}\n",
            both(any(&Handling::ALL), "accept"),
        )
    };
    let raw = |hook: &str| {
        format!(
            "chain raw_{hook} {{ type filter hook {hook} priority -290\n{}}}\n",
            both(hops(Handling::Untracked), "notrack")
        )
    };
    let behind = |hook: &str| {
        format!(
            "chain behind_{hook} {{ type filter hook {hook} priority 1000\nlog group {THROUGH} snaplen 64 queue-threshold 32\n{}drop\n}}\n",
            both(hops(Handling::Kept), "accept"),
        )
    };
    let chains: String = ["prerouting", "output"].map(|hook| guard(hook) + &raw(hook)).concat();
    format!("table inet around {{\n{chains}{}}}\n", ["input", "output", "forward"].map(behind).concat())
}

/// Elements of a set, as nft writes them.
pub fn elements(addresses: &ringwall_packet::AddressSet, family: Family) -> String {
    let of_family = addresses.prefixes().into_iter().filter(|prefix| Family::of(prefix.addr()) == family);
    let word = |prefix: ipnet::IpNet| {
        if prefix.prefix_len() == prefix.max_prefix_len() { prefix.addr().to_string() } else { prefix.to_string() }
    };
    of_family.map(word).collect::<Vec<_>>().join(", ")
}
