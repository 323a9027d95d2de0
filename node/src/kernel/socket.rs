//! One netlink socket to netfilter.
//!
//! In: requests. Out: the kernel's replies, acknowledgements and errors. Never: an unbounded wait,
//! a reply from anyone but the kernel, or the rest of one answer taken for the next.
//!
//! A socket belongs to the network namespace that its thread was in when it was opened.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket as Netlink, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::wire::{
    Acknowledgement, Malformed, Message, Messages, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR,
    NLMSG_NOOP, NLMSG_OVERRUN, Reply, Request,
};

/// The kernel fills datagrams of a dump up to 32 KiB (`netlink_dump` in net/netlink/af_netlink.c).
const BUFFER: usize = 128 * 1024;
/// Room for the refusals of a batch, each of which takes a kilobyte or two.
const RECEIVE_BUFFER: usize = 4 << 20;
/// The kernel answers while the request is being sent, so that a wait means a lost answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why an operation on the kernel failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("the kernel refused it{}", explanation.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        explanation: Option<String>,
        #[source]
        errno: Errno,
    },
    #[error("the netlink socket failed")]
    Socket(#[source] io::Error),
    #[error("the kernel's answer could not be read")]
    Malformed(#[from] Malformed),
    #[error("the kernel's tables kept changing while they were read")]
    Unsettled,
    #[error("a name or value is too long for a netlink message")]
    TooLong,
}

impl Failure {
    /// The kernel's error number, where it gave one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Socket(error) => error.raw_os_error().map(Errno::from_raw),
            _ => None,
        }
    }
}

pub(super) struct Socket {
    netlink: Netlink,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    pub fn open() -> Result<Self, Failure> {
        let open = || -> io::Result<Netlink> {
            let mut netlink = Netlink::new(NETLINK_NETFILTER)?;
            netlink.bind_auto()?;
            // An acknowledgement need not repeat the request, and says what was wrong with it.
            netlink.set_cap_ack(true)?;
            netlink.set_ext_ack(true)?;
            Ok(netlink)
        };
        let netlink = open().map_err(Failure::Socket)?;
        let mut socket = Self { netlink, sequence: 0, buffer: vec![0; BUFFER] };
        socket.wait_at_most(PATIENCE).map_err(Failure::Socket)?;
        socket.receive_buffer(RECEIVE_BUFFER).map_err(Failure::Socket)?;
        Ok(socket)
    }

    /// Room for what the kernel sends on its own, in bytes. Beyond net.core.rmem_max only with
    /// CAP_NET_ADMIN; without it, as much as is allowed.
    pub fn receive_buffer(&mut self, bytes: usize) -> io::Result<()> {
        let forced = setsockopt(&self.netlink, sockopt::RcvBufForce, &bytes);
        forced.or_else(|_| setsockopt(&self.netlink, sockopt::RcvBuf, &bytes)).map_err(io::Error::from)
    }

    /// What the kernel sends to everybody in this group comes here, too.
    pub fn join(&mut self, group: u32) -> io::Result<()> {
        self.netlink.add_membership(group)
    }

    fn send_buffer(&mut self, bytes: usize) -> io::Result<()> {
        let forced = setsockopt(&self.netlink, sockopt::SndBufForce, &bytes);
        forced.or_else(|_| setsockopt(&self.netlink, sockopt::SndBuf, &bytes)).map_err(io::Error::from)
    }

    /// How long a receive waits; the kernel takes nothing as for ever, so that it is a microsecond at least.
    pub fn wait_at_most(&mut self, time: Duration) -> io::Result<()> {
        let time = TimeVal::new(time.as_secs().try_into().unwrap_or(i64::MAX), time.subsec_micros().into());
        let time = if time == TimeVal::new(0, 0) { TimeVal::new(0, 1) } else { time };
        setsockopt(&self.netlink, sockopt::ReceiveTimeout, &time).map_err(io::Error::from)
    }

    /// The next datagram from the kernel.
    pub fn receive(&mut self) -> io::Result<&[u8]> {
        loop {
            let mut room = self.buffer.as_mut_slice();
            match self.netlink.recv_from(&mut room, nix::libc::MSG_TRUNC) {
                Ok((length, _)) if length > self.buffer.len() => return Err(io::ErrorKind::OutOfMemory.into()),
                Ok((length, sender)) if sender.port_number() == 0 => return Ok(&self.buffer[..length]),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.sequence
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let kernel = SocketAddr::new(0, 0);
        let sent = match self.netlink.send_to(bytes, &kernel, 0) {
            // The message is larger than the send buffer (`netlink_sendmsg`).
            Err(error) if error.raw_os_error() == Some(Errno::EMSGSIZE as i32) => {
                self.send_buffer(bytes.len() * 2).and_then(|()| self.netlink.send_to(bytes, &kernel, 0))
            }
            sent => sent,
        };
        sent.map(drop).map_err(Failure::Socket)
    }

    /// Reads until `each` says that it has what it wants; after an error it reads on to the same
    /// place, so that the rest of this answer is not taken for the next one.
    fn answer(
        &mut self,
        sequences: std::ops::RangeInclusive<u32>,
        mut each: impl FnMut(Message<'_>) -> Result<Step, Failure>,
    ) -> Result<(), Failure> {
        let mut failed = None;
        loop {
            let datagram = self.receive().map_err(Failure::Socket)?;
            for message in Messages(datagram) {
                // Without its header a message has no sequence, so that its end would never come.
                let message = message?;
                if !sequences.contains(&message.sequence) || message.kind == NLMSG_NOOP {
                    continue;
                }
                if message.kind == NLMSG_OVERRUN {
                    return Err(Failure::Socket(Errno::ENOBUFS.into()));
                }
                if failed.is_none() {
                    match each(message) {
                        Ok(Step::Done) => return Ok(()),
                        Ok(Step::More) => {}
                        Err(error) => failed = Some(error),
                    }
                }
                let ends = message.kind == NLMSG_DONE || message.kind == NLMSG_ERROR;
                if ends && let Some(error) = failed {
                    return Err(error);
                }
            }
        }
    }

    /// All that a dump tells; `true` when nothing changed meanwhile.
    pub fn dump(
        &mut self,
        request: Request,
        mut each: impl FnMut(&Reply<'_>) -> Result<(), Malformed>,
    ) -> Result<bool, Failure> {
        let sequence = self.next_sequence();
        let request = request.flags(NLM_F_DUMP).finish(sequence).ok_or(Failure::TooLong)?;
        self.send(&request)?;
        let mut consistent = true;
        self.answer(sequence..=sequence, |message| {
            consistent &= message.flags & NLM_F_DUMP_INTR == 0;
            match message.kind {
                NLMSG_DONE | NLMSG_ERROR => refused(message.acknowledgement()?).map(|()| Step::Done),
                _ => each(&message.netfilter()?).map(|()| Step::More).map_err(Failure::from),
            }
        })?;
        Ok(consistent)
    }

    /// The one reply to a request, read by `parse`.
    pub fn get<T>(
        &mut self,
        request: Request,
        parse: impl Fn(&Reply<'_>) -> Result<T, Malformed>,
    ) -> Result<T, Failure> {
        let sequence = self.next_sequence();
        let request = request.flags(NLM_F_ACK).finish(sequence).ok_or(Failure::TooLong)?;
        self.send(&request)?;
        let mut found = None;
        self.answer(sequence..=sequence, |message| {
            if message.kind == NLMSG_ERROR {
                refused(message.acknowledgement()?)?;
                return Ok(Step::Done);
            }
            found = Some(parse(&message.netfilter()?)?);
            Ok(Step::More)
        })?;
        found.ok_or(Failure::Malformed(Malformed("answer without a reply")))
    }

    /// Sends a request that changes something and waits until it is done.
    pub fn change(&mut self, request: Request) -> Result<(), Failure> {
        let sequence = self.next_sequence();
        let request = request.flags(NLM_F_ACK).finish(sequence).ok_or(Failure::TooLong)?;
        self.send(&request)?;
        self.answer(sequence..=sequence, |message| {
            if message.kind == NLMSG_ERROR {
                refused(message.acknowledgement()?)?;
                return Ok(Step::Done);
            }
            Ok(Step::More)
        })
    }

    /// Sends requests in one datagram and returns what was refused, by the request's place.
    /// The request at `acknowledged` must ask for an acknowledgement: it ends the answer.
    pub fn send_together(
        &mut self,
        requests: Vec<Request>,
        acknowledged: usize,
    ) -> Result<Vec<(usize, Acknowledgement)>, Failure> {
        // One run of numbers, so that a number gives a place.
        if self.sequence > u32::MAX / 2 {
            self.sequence = 0;
        }
        let first = self.sequence + 1;
        let mut bytes = Vec::new();
        for request in requests {
            let sequence = self.next_sequence();
            bytes.extend(request.finish(sequence).ok_or(Failure::TooLong)?);
        }
        self.send(&bytes)?;
        let mut refused = Vec::new();
        self.answer(first..=self.sequence, |message| {
            if message.kind != NLMSG_ERROR {
                return Ok(Step::More);
            }
            let answer = message.acknowledgement()?;
            let place = (message.sequence - first) as usize;
            if answer.errno.is_some() {
                refused.push((place, answer));
            }
            Ok(if place == acknowledged { Step::Done } else { Step::More })
        })?;
        Ok(refused)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.netlink.as_fd()
    }
}

enum Step {
    More,
    Done,
}

fn refused(answer: Acknowledgement) -> Result<(), Failure> {
    match answer.errno {
        Some(errno) => Err(Failure::Refused { explanation: answer.explanation, errno }),
        None => Ok(()),
    }
}
