//! nftables' trace events: which chain ended a packet's way.
//!
//! In: what the kernel multicasts of packets whose `nftrace` bit is set. Out: [`Event`]s. Never: an
//! event of a packet that the kernel did not name.
//!
//! The kernel names a packet by its headers in the first event of each base chain, and by a number
//! in the others (net/netfilter/nf_tables_trace.c).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::libc::MSG_DONTWAIT;
use nix::sys::socket::{setsockopt, sockopt};

use ringwall_probe::TraceVerdict;
use ringwall_probe::Tuple;
use crate::kernel::wire::{Attributes, Malformed, Messages, Reply, be32, text};

/// linux/netfilter/nfnetlink.h: NFNLGRP_NFTRACE.
const GROUP: u32 = 9;
/// NFNL_SUBSYS_NFTABLES and NFT_MSG_TRACE, as a message's type.
const TRACE_MESSAGE: u16 = u16::from_be_bytes([10, 17]);

// linux/netfilter/nf_tables.h, enum nft_trace_attributes
const NFTA_TRACE_TABLE: u16 = 1;
const NFTA_TRACE_CHAIN: u16 = 2;
const NFTA_TRACE_TYPE: u16 = 4;
const NFTA_TRACE_VERDICT: u16 = 5;
const NFTA_TRACE_ID: u16 = 6;
const NFTA_TRACE_NETWORK_HEADER: u16 = 8;
const NFTA_TRACE_TRANSPORT_HEADER: u16 = 9;
const NFTA_TRACE_POLICY: u16 = 17;
const NFT_TRACETYPE_POLICY: u32 = 1;
const NFTA_VERDICT_CODE: u16 = 1;
// linux/netfilter.h
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;

/// One datagram holds one event, of less than 1 KiB.
const DATAGRAM: usize = 8 * 1024;
/// Some ten events for each of 10,000 packets; each takes less than 1 KiB of the kernel's memory.
const RECEIVE_BUFFER: usize = 64 * 1024 * 1024;
/// A packet's number is a hash that the kernel may use again; older ones are forgotten.
const MOST_PACKETS: usize = 100_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A packet's way through the base chain of a table has ended in `chain`.
    Decided { flow: Tuple, table: String, chain: String, verdict: TraceVerdict },
    /// The kernel had more to say than the socket could hold.
    Lost,
}

pub struct TraceReader {
    socket: Socket,
    packets: HashMap<u32, Tuple>,
}

impl AsFd for TraceReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl TraceReader {
    /// Listens in the network namespace that the calling thread is in.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
        socket.add_membership(GROUP)?;
        Ok(Self { socket, packets: HashMap::new() })
    }

    /// All that has come since the last call; what can't be read is left out.
    pub fn read(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut buffer = Vec::with_capacity(DATAGRAM);
        loop {
            buffer.clear();
            match self.socket.recv_from(&mut buffer, MSG_DONTWAIT) {
                // Port 0 is the kernel.
                Ok((_, sender)) if sender.port_number() == 0 => {
                    for message in Messages(&buffer).flatten().filter(|message| message.kind == TRACE_MESSAGE) {
                        let event = message.netfilter().and_then(|reply| self.event(&reply));
                        events.extend(event.ok().flatten());
                    }
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return events,
                Err(_) => {
                    events.push(Event::Lost);
                    return events;
                }
            }
        }
    }

    fn event(&mut self, reply: &Reply<'_>) -> Result<Option<Event>, Malformed> {
        let (mut table, mut chain) = (String::new(), String::new());
        let (mut kind, mut code, mut policy, mut id) = (0, None, None, None);
        let (mut network, mut transport): (&[u8], &[u8]) = (&[], &[]);
        for attribute in reply.attributes {
            let (attribute, value) = attribute?;
            match attribute {
                NFTA_TRACE_TABLE => table = text(value),
                NFTA_TRACE_CHAIN => chain = text(value),
                NFTA_TRACE_TYPE => kind = be32(value)?,
                NFTA_TRACE_VERDICT => code = verdict_code(value)?,
                NFTA_TRACE_POLICY => policy = Some(be32(value)?),
                NFTA_TRACE_ID => id = Some(be32(value)?),
                NFTA_TRACE_NETWORK_HEADER => network = value,
                NFTA_TRACE_TRANSPORT_HEADER => transport = value,
                _ => {}
            }
        }
        let id = id.ok_or(Malformed("trace"))?;
        if let Some(flow) = flow(network, transport) {
            if self.packets.len() >= MOST_PACKETS {
                self.packets.clear();
            }
            self.packets.insert(id, flow);
        }
        let code = if kind == NFT_TRACETYPE_POLICY { policy } else { code };
        let verdict = match code {
            Some(NF_DROP) => TraceVerdict::Drop,
            Some(NF_ACCEPT) => TraceVerdict::Accept,
            _ => return Ok(None),
        };
        let flow = self.packets.get(&id).copied();
        Ok(flow.map(|flow| Event::Decided { flow, table, chain, verdict }))
    }
}

fn verdict_code(nested: &[u8]) -> Result<Option<u32>, Malformed> {
    for attribute in Attributes(nested) {
        if let (NFTA_VERDICT_CODE, value) = attribute? {
            return be32(value).map(Some);
        }
    }
    Ok(None)
}

/// The tuple of a packet whose transport header begins with two ports.
fn flow(network: &[u8], transport: &[u8]) -> Option<Tuple> {
    let (source, destination, protocol): (IpAddr, IpAddr, u8) = match network.first()? >> 4 {
        4 => {
            let header: &[u8; 20] = network.first_chunk()?;
            let at = |from: usize| Some(Ipv4Addr::from(*header[from..].first_chunk::<4>()?).into());
            (at(12)?, at(16)?, header[9])
        }
        6 => {
            let header: &[u8; 40] = network.first_chunk()?;
            let at = |from: usize| Some(Ipv6Addr::from(*header[from..].first_chunk::<16>()?).into());
            (at(8)?, at(24)?, header[6])
        }
        _ => return None,
    };
    let &[s0, s1, d0, d1] = transport.first_chunk()?;
    let source = SocketAddr::new(source, u16::from_be_bytes([s0, s1]));
    let destination = SocketAddr::new(destination, u16::from_be_bytes([d0, d1]));
    Some((source, destination, protocol))
}
