//! New flows per second: every packet is a new flow, spread evenly over the rules.
//!
//! Packets are put onto a cable and judged on the other side. A table behind ours drops what ours
//! has accepted, so that no connection is confirmed and each packet stays a new flow.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, MultiHeaders, SockFlag, SockType, SockaddrLike, bind, sendmmsg, socket,
};
use ringwall_lab::frame::{Details, ethernet, packet};
use ringwall_lab::{Host, HostRef, Lab, Topology};
use ringwall_packet::{Flow, Upper};
use ringwall_ruleset::nftables::{Confirm, Generation, Installed, transaction};

use super::{Result, first_port, median, policy, ruleset, shared_sources};

/// Frames that are made beforehand and sent over and over.
const FRAMES: usize = 20_000;
/// Packets of one measurement.
const PACKETS: usize = 200_000;
const ROUNDS: usize = 5;
const SOURCES: usize = 100;

const BEHIND: &str = "table inet behind { chain input { type filter hook input priority 1000; policy drop; }; }\n";

pub fn run() -> Result<()> {
    let topology = Topology::new()
        .host(Host::new("peer").interface("eth0", "cable", ["192.0.2.2/24".parse()?]))
        .host(Host::new("node").interface("eth0", "cable", ["192.0.2.1/24".parse()?]).route(
            "0.0.0.0/0".parse()?,
            Some("192.0.2.2".parse()?),
            "eth0",
        ));
    let lab = Lab::start(&topology)?;
    let (peer, node) = (lab.host("peer")?, lab.host("node")?);
    let sizes = [10, 100, 1_000, 10_000];
    let mut figures = vec![Vec::new(); sizes.len() + 1];
    let mut established = vec![Vec::new(); sizes.len()];
    for _ in 0..ROUNDS {
        for (index, rules) in sizes.into_iter().enumerate() {
            let text = transaction(
                &ruleset(&policy(&shared_sources(rules, SOURCES))?, "node")?,
                Generation(1),
                &Installed::default(),
                Confirm::Never,
            );
            node.output("nft", &["-f", "-"], &format!("{text}{BEHIND}"))?;
            let flows = flows(rules);
            figures[index].push(packets_per_second(&peer, &node, &flows)?);
            established[index].push(established_per_second(&peer, &node)?);
            node.output("nft", &["flush", "ruleset"], "")?;
        }
        // What the same flows cost where nothing is asked but the state.
        node.output("nft", &["-f", "-"], &format!("table inet bare {{ chain input {{ type filter hook input priority 0; ct state established accept; }}; }}\n{BEHIND}"))?;
        figures[sizes.len()].push(packets_per_second(&peer, &node, &flows(10_000))?);
        node.output("nft", &["flush", "ruleset"], "")?;
    }
    let base = median(figures[0].clone());
    println!("new flows, {SOURCES} shared sources, a range of 4 ports each; median of {ROUNDS} rounds");
    for (rules, figures) in sizes.iter().zip(&figures) {
        let figure = median(figures.clone());
        println!("  {rules:>6} rules  {:>6.0} k/s  ratio {:.2}", figure / 1e3, figure / base);
    }
    let bare = median(figures[sizes.len()].clone());
    println!("  no rules, the flows of 10000  {:>6.0} k/s  ratio {:.2}", bare / 1e3, bare / base);
    let base = median(established[0].clone());
    println!("established traffic");
    for (rules, figures) in sizes.iter().zip(&established) {
        let figure = median(figures.clone());
        println!("  {rules:>6} rules  {:>6.0} k/s  ratio {:.2}", figure / 1e3, figure / base);
    }
    Ok(())
}

/// Flows that each match one rule, every rule as often as any other.
fn flows(rules: usize) -> Vec<Flow> {
    let sources = SOURCES.min(rules);
    (0..FRAMES.max(rules))
        .map(|index| {
            // A stride that shares no factor with the number of rules, so that neighbours differ.
            let rule = (index * 7_919) % rules;
            let source = rule % sources;
            let network = [Ipv4Addr::new(203, 0, 113, 0), Ipv4Addr::new(198, 51, 100, 0)][source / 64];
            let within = source % 64 * 4 + index % 4;
            let address = Ipv4Addr::from_bits(network.to_bits() + u32::try_from(within).expect("within a /24"));
            let port = first_port(rule, sources) + u16::try_from(index % 3).expect("a small number");
            let from = 1024 + u16::try_from(index % 60_000).expect("below 2^16");
            flow(address, from, port)
        })
        .collect()
}

fn flow(source: Ipv4Addr, from: u16, to: u16) -> Flow {
    let node = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    Flow::new(source.into(), node, Upper::tcp(from, to)).expect("one family")
}

fn packets_per_second(peer: &HostRef<'_>, node: &HostRef<'_>, flows: &[Flow]) -> Result<f64> {
    let (from, to) = (peer.mac("eth0").ok_or("no mac")?, node.mac("eth0").ok_or("no mac")?);
    let frames: Vec<Vec<u8>> =
        flows.iter().map(|flow| ethernet(from, to, &packet(flow, &Details::default()))).collect();
    Ok(peer.run(|| blast(&frames, PACKETS))??)
}

/// One confirmed UDP flow, its packets one after the other.
fn established_per_second(peer: &HostRef<'_>, node: &HostRef<'_>) -> Result<f64> {
    let (from, to) = (peer.mac("eth0").ok_or("no mac")?, node.mac("eth0").ok_or("no mac")?);
    // The node opens it, so that its side of the table behind is not asked.
    let socket = node.run(|| std::net::UdpSocket::bind("192.0.2.1:5000"))??;
    node.output("nft", &["-f", "-"], "insert rule inet ringwall output accept\n")?;
    socket.send_to(b"x", "192.0.2.2:5001")?;
    let answer = Flow::new(
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        Upper::udp(5001, 5000),
    )
    .expect("one family");
    let frames = vec![ethernet(from, to, &packet(&answer, &Details::default()))];
    Ok(peer.run(|| blast(&frames, PACKETS))??)
}

/// Sends frames in turn, as fast as they are taken. On a cable between namespaces the receiving
/// side's work is done by the sender, so this is the rate at which packets are judged.
fn blast(frames: &[Vec<u8>], packets: usize) -> std::io::Result<f64> {
    const BATCH: usize = 64;
    let socket = open("eth0")?;
    let begun = Instant::now();
    let mut sent = 0;
    let mut position = 0;
    while sent < packets {
        let batch: Vec<[std::io::IoSlice<'_>; 1]> =
            (0..BATCH).map(|index| [std::io::IoSlice::new(&frames[(position + index) % frames.len()])]).collect();
        let mut headers = MultiHeaders::<LinkAddr>::preallocate(BATCH, None);
        let addresses = [None; BATCH];
        let taken = sendmmsg(socket.as_raw_fd(), &mut headers, &batch, addresses, [], MsgFlags::empty())?.count();
        sent += taken;
        position += taken;
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    Ok(sent as f64 / begun.elapsed().as_secs_f64())
}

/// A packet socket that only sends (protocol 0), so that it is not handed its own packets.
fn open(interface: &str) -> std::io::Result<OwnedFd> {
    let index = if_nametoindex(interface)?;
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    // packet(7): struct sockaddr_ll. nix has no constructor for it.
    let mut address = [0u8; 20];
    address[..2].copy_from_slice(&u16::try_from(nix::libc::AF_PACKET).expect("a small number").to_ne_bytes());
    address[4..8].copy_from_slice(&index.to_ne_bytes());
    #[expect(unsafe_code, reason = "the bytes are a sockaddr_ll of the length that is given")]
    // SAFETY: `address` holds 20 bytes, the size of sockaddr_ll, and begins with AF_PACKET.
    let address = unsafe { LinkAddr::from_raw(address.as_ptr().cast(), Some(20)) }.ok_or(std::io::ErrorKind::InvalidInput)?;
    bind(socket.as_raw_fd(), &address)?;
    Ok(socket)
}
