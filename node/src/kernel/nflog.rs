//! Packets that rules logged to a group (`log group N prefix "…"`).
//!
//! In: a group's number. Out: one record a packet, and how many were lost. Never: a wait without a
//! deadline, or a loss that is not counted. One reader at a time can have a group.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use ringwall_packet::Flow;

use super::header::flow;
use super::socket::Socket;
use super::uapi::*;
use super::wire::{Malformed, Messages, Reply, Request, be32, text};
use super::{Error, Failure, Hook, TableFamily};

/// What of a packet is copied: an IPv6 header with extensions, and the upper header's begin.
const COPY: u32 = 128;
/// What the kernel collects before it sends: one packet, and nothing longer than 10 ms.
const THRESHOLD: u32 = 1;
const FLUSH: u32 = 1; // in 1/100 s

/// One logged packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// As the rule gives it.
    pub prefix: String,
    pub hook: Option<Hook>,
    /// The interface's index.
    pub input: Option<u32>,
    /// The interface's index.
    pub output: Option<u32>,
    pub mark: u32,
    /// The packet from its IP header on, 128 bytes of it at most.
    pub header: Vec<u8>,
    /// `None` for what has no ports or types of its own: later fragments, cut or odd packets.
    pub flow: Option<Flow>,
}

/// What was logged but not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Packets that are missing in the kernel's numbering; known once a later one is read.
    pub packets: u64,
    /// How often the receive buffer was full (ENOBUFS).
    pub overruns: u64,
    /// Messages that were not what they claimed to be.
    pub unreadable: u64,
}

/// The reader of one log group of one network namespace. Dropping it frees the group.
pub struct LogReader {
    socket: Socket,
    group: u16,
    records: VecDeque<LogRecord>,
    next_sequence: u32,
    losses: Losses,
}

impl LogReader {
    /// Takes the group, in the network namespace of the calling thread. `buffer` is the room for
    /// packets that wait to be read, in bytes; 8 MiB holds 277,000 a second without a loss.
    pub fn bind(group: u16, buffer: usize) -> Result<Self, Error> {
        let bind = || {
            let mut socket = Socket::open()?;
            socket.receive_buffer(buffer).map_err(Failure::Socket)?;
            socket.change(configuration(group))?;
            Ok(socket)
        };
        let socket = bind().map_err(|source| Error::BindLog { group, source })?;
        Ok(Self { socket, group, records: VecDeque::new(), next_sequence: 0, losses: Losses::default() })
    }

    /// The next packet, or `None` when there was none until `deadline`.
    pub fn next(&mut self, deadline: Instant) -> Result<Option<LogRecord>, Error> {
        loop {
            if let Some(record) = self.records.pop_front() {
                return Ok(Some(record));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let received = self.receive(left).map_err(|error| Error::ReadLog(Failure::Socket(error)))?;
            if !received && left == Duration::ZERO {
                return Ok(None);
            }
        }
    }

    pub fn losses(&self) -> Losses {
        self.losses
    }

    /// Reads a datagram; `false` when there was none.
    fn receive(&mut self, wait: Duration) -> io::Result<bool> {
        self.socket.wait_at_most(wait)?;
        let datagram = match self.socket.receive() {
            Ok(datagram) => datagram,
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                self.losses.overruns += 1;
                return Ok(true);
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        const PACKET: u16 = u16::from_be_bytes([NFNL_SUBSYS_ULOG, NFULNL_MSG_PACKET]);
        for message in Messages(datagram) {
            match message {
                Ok(message) if message.kind != PACKET => {}
                message => match message.and_then(|message| parse(&message.netfilter()?)) {
                    Ok((sequence, record)) => {
                        self.losses.packets += u64::from(sequence.wrapping_sub(self.next_sequence));
                        self.next_sequence = sequence.wrapping_add(1);
                        self.records.push_back(record);
                    }
                    Err(Malformed(_)) => self.losses.unreadable += 1,
                },
            }
        }
        Ok(true)
    }
}

impl Drop for LogReader {
    /// Closing the socket is not enough while a child that is being started still has a copy of it.
    fn drop(&mut self) {
        let _ = self.socket.change(command(self.group, NFULNL_CFG_CMD_UNBIND));
    }
}

/// For an event loop: readable when a packet waits.
impl AsFd for LogReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn command(group: u16, command: u8) -> Request {
    let kind = u16::from_be_bytes([NFNL_SUBSYS_ULOG, NFULNL_MSG_CONFIG]);
    Request::with_resource(kind, 0, NFPROTO_UNSPEC, group).u8(NFULA_CFG_CMD, command)
}

fn configuration(group: u16) -> Request {
    let [a, b, c, d] = COPY.to_be_bytes();
    command(group, NFULNL_CFG_CMD_BIND)
        .bytes(NFULA_CFG_MODE, &[a, b, c, d, NFULNL_COPY_PACKET, 0])
        .u32(NFULA_CFG_TIMEOUT, FLUSH)
        .u32(NFULA_CFG_QTHRESH, THRESHOLD)
        .u16(NFULA_CFG_FLAGS, NFULNL_CFG_F_SEQ)
}

/// The packet's number and what was logged of it.
fn parse(reply: &Reply<'_>) -> Result<(u32, LogRecord), Malformed> {
    let mut sequence = None;
    let mut record = LogRecord {
        prefix: String::new(),
        hook: None,
        input: None,
        output: None,
        mark: 0,
        header: Vec::new(),
        flow: None,
    };
    for attribute in reply.attributes {
        match attribute? {
            // struct nfulnl_msg_packet_hdr: protocol, hook.
            (NFULA_PACKET_HDR, [_, _, hook, ..]) => {
                record.hook = Some(Hook::of(TableFamily::of(reply.family), u32::from(*hook)));
            }
            (NFULA_MARK, value) => record.mark = be32(value)?,
            (NFULA_IFINDEX_INDEV, value) => record.input = Some(be32(value)?),
            (NFULA_IFINDEX_OUTDEV, value) => record.output = Some(be32(value)?),
            (NFULA_PAYLOAD, value) => record.header = value.to_vec(),
            (NFULA_PREFIX, value) => record.prefix = text(value),
            (NFULA_SEQ, value) => sequence = Some(be32(value)?),
            _ => {}
        }
    }
    record.flow = flow(&record.header);
    Ok((sequence.ok_or(Malformed("log record"))?, record))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::wire::Attributes;
    use super::*;

    proptest! {
        #[test]
        fn any_attributes_are_read_without_a_panic(
            attributes in prop::collection::vec((0u16..22, prop::collection::vec(any::<u8>(), 0..60)), 0..12),
            family: u8,
        ) {
            let request = attributes.iter().fold(configuration(0), |request, (kind, value)| request.bytes(*kind, value));
            let bytes = request.finish(0).expect("short").split_off(20);
            let _ = parse(&Reply { family, attributes: Attributes(&bytes) });
        }
    }
}
