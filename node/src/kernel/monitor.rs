//! That somebody changed nftables, and who.
//!
//! In: the kernel's own messages after each commit. Out: one [`Change`] for each, as far as they were not lost. Never:
//! what was changed, which is read; a wait without a deadline.
//!
//! While somebody listens, the kernel makes a message of each element that anybody adds.

use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::socket::Socket;
use super::uapi::*;
use super::wire::{Malformed, Messages, Reply, be32, text};
use super::{Error, Failure};

/// NFNLGRP_NFTABLES (linux/netfilter/nfnetlink.h).
const GROUP: u32 = 7;
/// Room for what a load of some thousand elements makes.
const BUFFER: usize = 8 << 20;

/// A commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The `comm` and the id of the thread that made it, as the machine's first pid namespace has it; `None` when
    /// messages were lost.
    pub process: Option<(String, u32)>,
}

/// A listener in one network namespace.
pub struct Monitor {
    socket: Socket,
}

impl Monitor {
    /// Listens in the network namespace of the calling thread.
    pub fn open() -> Result<Self, Error> {
        let open = || {
            let mut socket = Socket::open()?;
            socket.receive_buffer(BUFFER).and_then(|()| socket.join(GROUP)).map_err(Failure::Socket)?;
            Ok(socket)
        };
        open().map(|socket| Self { socket }).map_err(Error::Listen)
    }

    /// The next change, or `None` when there was none until `deadline`.
    pub fn next(&mut self, deadline: Instant) -> Result<Option<Change>, Error> {
        const COMMIT: u16 = u16::from_be_bytes([NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWGEN]);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            self.socket.wait_at_most(left).map_err(|error| Error::Listen(Failure::Socket(error)))?;
            let datagram = match self.socket.receive() {
                Ok(datagram) => datagram,
                // More than there was room for: something changed.
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => return Ok(Some(Change { process: None })),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    if left == Duration::ZERO {
                        return Ok(None);
                    }
                    continue;
                }
                Err(error) => return Err(Error::Listen(Failure::Socket(error))),
            };
            for message in Messages(datagram) {
                match message {
                    Ok(message) if message.kind != COMMIT => {}
                    message => {
                        let change = message.and_then(|message| parse(&message.netfilter()?));
                        return Ok(Some(change.unwrap_or(Change { process: None })));
                    }
                }
            }
        }
    }
}

/// As `nf_tables_fill_gen_info` in net/netfilter/nf_tables_api.c writes it.
fn parse(reply: &Reply<'_>) -> Result<Change, Malformed> {
    let (mut name, mut id) = (None, None);
    for attribute in reply.attributes {
        match attribute? {
            (NFTA_GEN_PROC_PID, value) => id = Some(be32(value)?),
            (NFTA_GEN_PROC_NAME, value) => name = Some(text(value)),
            _ => {}
        }
    }
    Ok(Change { process: name.zip(id) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::wire::{Attributes, Request};
    use super::*;

    proptest! {
        #[test]
        fn any_attributes_are_read_without_a_panic(
            attributes in prop::collection::vec((0u16..5, prop::collection::vec(any::<u8>(), 0..20)), 0..6),
        ) {
            let request = Request::new(NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWGEN, 0, 0);
            let request = attributes.iter().fold(request, |request, (kind, value)| request.bytes(*kind, value));
            let bytes = request.finish(0).expect("short").split_off(20);
            let _ = parse(&Reply { family: 0, attributes: Attributes(&bytes) });
        }
    }
}
