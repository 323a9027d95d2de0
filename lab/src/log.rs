//! Packets that a host's rules log (NFLOG), as `log group N prefix "…"` in nftables sends them.
//!
//! In: a group's netlink messages. Out: prefix and packet, in the order of the kernel. Never: a lost
//! packet in silence: that the queue overflowed is an error (ENOBUFS).
//!
//! Constants are those of linux/netfilter/nfnetlink.h and nfnetlink_log.h.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
    sockopt,
};

use crate::wire::{QUEUE, wait_at_most};

const NFNL_SUBSYS_ULOG: u8 = 4;
const NFULNL_MSG_PACKET: u8 = 0;
const NFULNL_MSG_CONFIG: u8 = 1;
const NFULA_CFG_CMD: u16 = 1;
const NFULA_CFG_MODE: u16 = 2;
const NFULA_CFG_TIMEOUT: u16 = 4;
const NFULNL_CFG_CMD_BIND: u8 = 1;
const NFULNL_COPY_PACKET: u8 = 2;
const NFULA_PACKET_HDR: u16 = 1;
const NFULA_PAYLOAD: u16 = 9;
const NFULA_PREFIX: u16 = 10;
const NLM_F_REQUEST_ACK: u16 = 1 | 4;
const NLMSG_ERROR: u16 = 2;
/// Octets of `nlmsghdr` and of `nfgenmsg`.
const MESSAGE: usize = 16;
const GENERIC: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedPacket {
    /// What the rule wrote in front, without its NUL.
    pub prefix: String,
    /// The hook it was seen in, as `NF_INET_*` counts them: prerouting 0, input 1, forward 2, output 3,
    /// postrouting 4.
    pub hook: u8,
    /// The IP packet.
    pub packet: Vec<u8>,
}

#[derive(Debug)]
pub struct PacketLog {
    socket: OwnedFd,
    ready: VecDeque<LoggedPacket>,
    buffer: Vec<u8>,
}

impl PacketLog {
    /// To be called in the host's network namespace.
    pub(crate) fn open(group: u16) -> io::Result<Self> {
        let socket =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)?;
        setsockopt(&socket, sockopt::RcvBufForce, &QUEUE)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        let mut log = Self { socket, ready: VecDeque::new(), buffer: vec![0; 1 << 18] };
        log.configure(group, NFULA_CFG_CMD, &[NFULNL_CFG_CMD_BIND])?;
        // `nfulnl_msg_config_mode`: how many octets to copy (all), and that they are copied.
        log.configure(group, NFULA_CFG_MODE, &[0, 0, 0xff, 0xff, NFULNL_COPY_PACKET, 0])?;
        // Hundredths of a second until a half-full message is sent.
        log.configure(group, NFULA_CFG_TIMEOUT, &1_u32.to_be_bytes())?;
        Ok(log)
    }

    /// The next packet that is logged within the time.
    pub fn receive(&mut self, within: Duration) -> io::Result<Option<LoggedPacket>> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(packet) = self.ready.pop_front() {
                return Ok(Some(packet));
            }
            wait_at_most(&self.socket, deadline)?;
            match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(length) => self.ready.extend(messages(&self.buffer[..length]).filter_map(logged)),
                Err(Errno::EAGAIN | Errno::EINTR) if Instant::now() >= deadline => return Ok(None),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn configure(&mut self, group: u16, attribute: u16, value: &[u8]) -> io::Result<()> {
        let attribute_length = 4 + value.len();
        let length = MESSAGE + GENERIC + attribute_length.next_multiple_of(4);
        let mut message = Vec::with_capacity(length);
        message.extend(u32::try_from(length).expect("a few octets").to_ne_bytes());
        message.extend(u16::from_be_bytes([NFNL_SUBSYS_ULOG, NFULNL_MSG_CONFIG]).to_ne_bytes());
        message.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
        message.extend([0; 8]);
        message.extend([0, 0]);
        message.extend(group.to_be_bytes());
        message.extend(u16::try_from(attribute_length).expect("a few octets").to_ne_bytes());
        message.extend(attribute.to_ne_bytes());
        message.extend(value);
        message.resize(length, 0);
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty())?;
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?;
            for (kind, body) in messages(&self.buffer[..length]) {
                if kind != NLMSG_ERROR {
                    self.ready.extend(logged((kind, body)));
                    continue;
                }
                let code = body.get(..4).and_then(|code| code.try_into().ok()).map_or(0, i32::from_ne_bytes);
                return if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) };
            }
        }
    }
}

/// Type and body of each message in a datagram.
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(datagram.get(..4)?.try_into().ok()?);
        let kind = u16::from_ne_bytes(datagram.get(4..6)?.try_into().ok()?);
        let length = usize::try_from(length).ok()?;
        let body = datagram.get(MESSAGE..length)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

fn logged((kind, body): (u16, &[u8])) -> Option<LoggedPacket> {
    if kind.to_be_bytes() != [NFNL_SUBSYS_ULOG, NFULNL_MSG_PACKET] {
        return None;
    }
    let mut logged = LoggedPacket { prefix: String::new(), hook: 0, packet: Vec::new() };
    for (attribute, value) in attributes(body.get(GENERIC..)?) {
        match attribute {
            // `nfulnl_msg_packet_hdr`: protocol in two octets, then the hook.
            NFULA_PACKET_HDR => logged.hook = *value.get(2)?,
            NFULA_PAYLOAD => logged.packet = value.to_vec(),
            NFULA_PREFIX => {
                logged.prefix = String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
            }
            _ => {}
        }
    }
    Some(logged)
}

fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}
