//! Raw packets: onto a network, off it, and out of a host through its own rules.
//!
//! In: packets as [`crate::frame`] builds them. Out: what arrived, and whether the host's rules let a
//! packet out. Never: a retry, or a packet of its own making.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, bind,
    recvfrom, send, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use ringwall_packet::Flow;

use crate::frame::{self, Mac};

/// Octets of Ethernet's header.
const ETHERNET: usize = 14;

/// Octets of received packets that wait to be read, room for some 10⁵ small ones.
pub(crate) const QUEUE: usize = 64 << 20;

/// A packet socket on one interface (packet(7)). What it sends leaves the interface past the host's
/// own rules, and arrives at the other end like anybody's packet; it receives what arrives here
/// before any rule sees it.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    mac: Mac,
}

impl Wire {
    /// To be called in the host's network namespace.
    pub(crate) fn open(interface: &str, mac: Mac) -> io::Result<Self> {
        let index = if_nametoindex(interface)?;
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
        setsockopt(&socket, sockopt::RcvBufForce, &QUEUE)?;
        bind(socket.as_raw_fd(), &link_address(index)?)?;
        Ok(Self { socket, mac })
    }

    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// Sends an IP packet to the interface that has this hardware address.
    pub fn send(&self, to: Mac, packet: &[u8]) -> io::Result<()> {
        self.send_frame(&frame::ethernet(self.mac, to, packet))
    }

    /// Sends a whole Ethernet frame as it is.
    pub fn send_frame(&self, frame: &[u8]) -> io::Result<()> {
        send(self.socket.as_raw_fd(), frame, MsgFlags::empty())?;
        Ok(())
    }

    /// The next IP packet that arrives within the time, without its Ethernet header.
    pub fn receive(&self, within: Duration) -> io::Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + within;
        let mut buffer = vec![0; 1 << 16];
        loop {
            wait_at_most(&self.socket, deadline)?;
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((length, from)) => {
                    let ours = from.is_some_and(|from| from.pkttype() == libc::PACKET_OUTGOING);
                    let is_ip = matches!(buffer[12..ETHERNET], [0x08, 0x00] | [0x86, 0xdd]);
                    if !ours && is_ip && length > ETHERNET {
                        buffer.truncate(length);
                        return Ok(Some(buffer.split_off(ETHERNET)));
                    }
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
        }
    }

    /// The first packet to arrive within the time for which `wanted` gives something.
    pub fn find<T>(&self, within: Duration, mut wanted: impl FnMut(Flow, &[u8]) -> Option<T>) -> io::Result<Option<T>> {
        let deadline = Instant::now() + within;
        while let Some(packet) = self.receive(deadline.saturating_duration_since(Instant::now()))? {
            if let Some(found) = frame::read(&packet).and_then(|(flow, payload)| wanted(flow, payload)) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// What became of a packet that a host wanted to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    Accepted,
    /// The host's output rules dropped or rejected it.
    Refused,
    /// No rule was asked: the host has no route to the destination.
    NoRoute,
}

/// Raw sockets of both families (raw(7)): the caller's headers, source address included, through
/// routing and the output rules of the host.
#[derive(Debug)]
pub struct RawSender {
    v4: OwnedFd,
    v6: OwnedFd,
}

impl RawSender {
    /// To be called in the host's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        // IPPROTO_RAW: the header is included, for IPv6 too.
        let open = |family| socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw);
        Ok(Self { v4: open(AddressFamily::Inet)?, v6: open(AddressFamily::Inet6)? })
    }

    pub fn send(&self, packet: &[u8]) -> io::Result<Sent> {
        let sent = match frame::read(packet) {
            Some((Flow::V4(header), _)) => {
                let to = SockaddrIn::from(SocketAddrV4::new(header.destination, 0));
                sendto(self.v4.as_raw_fd(), packet, &to, MsgFlags::empty())
            }
            Some((Flow::V6(header), _)) => {
                let to = SockaddrIn6::from(SocketAddrV6::new(header.destination, 0, 0, 0));
                sendto(self.v6.as_raw_fd(), packet, &to, MsgFlags::empty())
            }
            None => return Err(io::ErrorKind::InvalidInput.into()),
        };
        match sent {
            Ok(_) => Ok(Sent::Accepted),
            Err(Errno::EPERM) => Ok(Sent::Refused),
            Err(Errno::ENETUNREACH | Errno::EHOSTUNREACH) => Ok(Sent::NoRoute),
            Err(error) => Err(error.into()),
        }
    }
}

/// Lets the next read of the socket end by the deadline. At once counts as a microsecond: zero would
/// mean for ever.
pub(crate) fn wait_at_most(socket: &OwnedFd, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_micros(1));
    let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
    setsockopt(socket, sockopt::ReceiveTimeout, &TimeVal::new(seconds, left.subsec_micros().into()))?;
    Ok(())
}

#[expect(unsafe_code, reason = "nix has no safe way to make the address of an interface")]
fn link_address(index: libc::c_uint) -> io::Result<LinkAddr> {
    // SAFETY: all zeroes is a valid `sockaddr_ll`, and the length given is that of this one.
    let address = unsafe {
        let mut address: libc::sockaddr_ll = zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
        LinkAddr::from_raw((&raw const address).cast(), Some(size_of::<libc::sockaddr_ll>() as u32))
    };
    address.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}
