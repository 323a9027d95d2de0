//! The sockets of a probe's source: one for each try.
//!
//! In: a probe and its try. Out: a socket that has sent the packet, and what came back on it.
//! Never: a wait.

use std::collections::HashSet;
use std::io::{self, IoSliceMut, Read};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::libc::{SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6, sock_extended_err};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use ringwall_packet::Protocol;
use socket2::{Domain, Socket, Type};

use ringwall_probe::{Outcome, Refusal};
use ringwall_probe::{Packet, Probe, Try};

/// Echo request and reply: RFC 792, RFC 4443 §4.
const ECHO_V4: (u8, u8) = (8, 0);
const ECHO_V6: (u8, u8) = (128, 129);
/// Descriptors that the process needs for itself.
const SPARE_DESCRIPTORS: u64 = 64;

/// The addresses of this machine's interfaces, in the network namespace of the calling thread.
pub fn local_addresses() -> io::Result<HashSet<IpAddr>> {
    let address = |address: SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    Ok(nix::ifaddrs::getifaddrs()?.filter_map(|interface| address(interface.address?)).collect())
}

/// How many sockets this process may have: the soft limit is raised to the hard one first.
pub fn descriptors() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map(|(soft, hard)| {
        let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
        if raised { hard } else { soft }
    });
    let limit = limit.unwrap_or(1024).saturating_sub(SPARE_DESCRIPTORS).max(1);
    usize::try_from(limit).unwrap_or(usize::MAX)
}

pub struct Sending {
    socket: Socket,
    probe: Probe,
}

impl AsFd for Sending {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Sending {
    /// Opens a socket and sends the try's first packet. The error is a finding of its own: what the
    /// kernel refused to send, or why the try can't be made.
    pub fn start(probe: &Probe, which: Try) -> Result<Self, Outcome> {
        let failed = |reason: String| Outcome::Failed { reason };
        let domain = if probe.source.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let (kind, protocol) = match probe.packet {
            Packet::Tcp { .. } => (Type::STREAM, Protocol::TCP),
            Packet::Udp { .. } => (Type::DGRAM, Protocol::UDP),
            Packet::Echo { .. } if probe.source.is_ipv4() => (Type::RAW, Protocol::ICMP),
            Packet::Echo { .. } => (Type::RAW, Protocol::ICMPV6),
            Packet::Other { number } if is_sendable(number, probe.source) => (Type::RAW, Protocol(number)),
            Packet::Other { number } => return Err(failed(format!("{} is not probed", Protocol(number)))),
        };
        let (from, to) = match probe.tuple(which) {
            Some((from, to, _)) => (from, to),
            None => (SocketAddr::new(probe.source, 0), SocketAddr::new(probe.destination, 0)),
        };
        let socket = Socket::new(domain, kind, Some(i32::from(protocol.0).into()))
            .and_then(|socket| prepare(socket, from))
            .map_err(|error| failed(cannot_bind(&error, from)))?;
        let sending = Self { socket, probe: *probe };
        match sending.socket.connect(&to.into()) {
            Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => return Err(sending.refusal(&error)),
            _ => {}
        }
        sending.send_again().map(|()| sending)
    }

    /// Sends the packet, once more if need be; TCP has its own way of doing that.
    pub fn send_again(&self) -> Result<(), Outcome> {
        let bytes = match self.probe.packet {
            Packet::Tcp { .. } => return Ok(()),
            Packet::Udp { .. } | Packet::Other { .. } => self.probe.token(),
            Packet::Echo { identifier } => echo_request(identifier, self.probe.source),
        };
        match self.socket.send(&bytes) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(self.refusal(&error)),
        }
    }

    /// Ends a connect under way, so that the same tuple can be tried again. To close the socket is not
    /// enough: a child between fork and exec still has it, and with it the tuple.
    pub fn abandon(self) {
        // The only failure is that nothing is under way.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }

    /// What came back, if anything has. `None`: go on waiting.
    pub fn outcome(&self) -> Option<Outcome> {
        if let Some(outcome) = self.queued_error() {
            return Some(outcome);
        }
        match self.socket.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return Some(self.refusal(&error)),
        }
        if let Packet::Tcp { .. } = self.probe.packet {
            return self.socket.peer_addr().is_ok().then_some(Outcome::Answered { tls: None });
        }
        let mut buffer = [0; 2048];
        loop {
            match (&self.socket).read(&mut buffer) {
                Ok(length) if self.is_answer(&buffer[..length]) => return Some(Outcome::Answered { tls: None }),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) => return Some(self.queued_error().unwrap_or_else(|| self.refusal(&error))),
            }
        }
    }

    /// The connected socket, to go on talking.
    pub fn stream(&self) -> &Socket {
        &self.socket
    }

    /// The socket is connected, so that everything is from the destination; raw sockets also see
    /// the answers to others.
    fn is_answer(&self, packet: &[u8]) -> bool {
        let Packet::Echo { identifier } = self.probe.packet else {
            return true;
        };
        // A raw IPv4 socket gives the IP header too (raw(7)); its length is in the low half of the first byte.
        let (skip, kind) = match self.probe.source {
            IpAddr::V4(_) => (packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4), ECHO_V4.1),
            IpAddr::V6(_) => (0, ECHO_V6.1),
        };
        match packet.get(skip..) {
            Some([found, 0, _, _, high, low, ..]) => *found == kind && u16::from_be_bytes([*high, *low]) == identifier,
            _ => false,
        }
    }

    /// The ICMP error that the kernel kept for this socket (ip(7), IP_RECVERR), which has its sender.
    fn queued_error(&self) -> Option<Outcome> {
        let mut data = [0; 512];
        let mut space = nix::cmsg_space!(sock_extended_err, SockaddrStorage);
        let mut slices = [IoSliceMut::new(&mut data)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let message =
            recvmsg::<SockaddrStorage>(self.socket.as_raw_fd(), &mut slices, Some(&mut space), flags).ok()?;
        for control in message.cmsgs().ok()? {
            let (error, by) = match control {
                ControlMessageOwned::Ipv4RecvErr(error, by) => {
                    (error, by.map(|by| IpAddr::V4(SockaddrIn::from(by).ip())))
                }
                ControlMessageOwned::Ipv6RecvErr(error, by) => {
                    (error, by.map(|by| IpAddr::V6(SockaddrIn6::from(by).ip())))
                }
                _ => continue,
            };
            return Some(match error.ee_origin {
                SO_EE_ORIGIN_ICMP | SO_EE_ORIGIN_ICMP6 => icmp_error(error.ee_origin, error.ee_type, error.ee_code, by),
                _ => self.refusal(&io::Error::from_raw_os_error(error.ee_errno as i32)),
            });
        }
        None
    }

    /// What an error number of the kernel says about the flow.
    fn refusal(&self, error: &io::Error) -> Outcome {
        use nix::libc::{
            EACCES, ECONNREFUSED, ECONNRESET, EHOSTUNREACH, EADDRNOTAVAIL, ENETUNREACH, ENOPROTOOPT, EPERM, ETIMEDOUT,
        };
        let refused = |how| Outcome::Refused { by: None, how };
        match error.raw_os_error() {
            // A packet that netfilter drops on output is -EPERM to its sender.
            Some(EPERM) => Outcome::Blocked,
            Some(EACCES) => refused(Refusal::Prohibited),
            Some(ECONNREFUSED | ECONNRESET) if matches!(self.probe.packet, Packet::Tcp { .. }) => refused(Refusal::Reset),
            Some(ECONNREFUSED) => refused(Refusal::PortUnreachable),
            Some(ENOPROTOOPT) => refused(Refusal::ProtocolUnreachable),
            Some(EHOSTUNREACH | ENETUNREACH) => Outcome::Unreachable { by: None },
            Some(ETIMEDOUT) => Outcome::Silent,
            Some(EADDRNOTAVAIL) => Outcome::Failed { reason: "the source port is in use for this destination".into() },
            _ => Outcome::Failed { reason: format!("the packet could not be sent: {error}") },
        }
    }
}

fn prepare(socket: Socket, from: SocketAddr) -> io::Result<Socket> {
    socket.set_nonblocking(true)?;
    // Many probes share a source port towards different destinations.
    socket.set_reuse_address(true)?;
    if from.is_ipv4() {
        setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
    } else {
        setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
    }
    if socket.r#type()? == Type::STREAM {
        // A reset on close leaves no TIME_WAIT that would hold the tuple.
        socket.set_linger(Some(std::time::Duration::ZERO))?;
    }
    socket.bind(&from.into())?;
    Ok(socket)
}

fn cannot_bind(error: &io::Error, from: SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => format!("the address {} is not on the source's machine", from.ip()),
        io::ErrorKind::AddrInUse => format!("the source port {} is in use", from.port()),
        io::ErrorKind::PermissionDenied => "no permission to open the socket".into(),
        _ => format!("the socket could not be opened: {error}"),
    }
}

/// Whether a bare datagram of this protocol means anything: the headers that only precede others
/// (RFC 8200 §4) and the number that raw(7) keeps for itself do not.
fn is_sendable(number: u8, source: IpAddr) -> bool {
    const IPPROTO_RAW: u8 = 255;
    const EXTENSION_HEADERS: [u8; 5] = [0, 43, 44, 59, 60];
    let protocol = Protocol(number);
    !protocol.has_ports()
        && !protocol.is_icmp()
        && number != IPPROTO_RAW
        && number != 0
        && (source.is_ipv4() || !EXTENSION_HEADERS.contains(&number))
}

fn echo_request(identifier: u16, source: IpAddr) -> Vec<u8> {
    let kind = if source.is_ipv4() { ECHO_V4.0 } else { ECHO_V6.0 };
    let [high, low] = identifier.to_be_bytes();
    let mut message = vec![kind, 0, 0, 0, high, low, 0, 1];
    if source.is_ipv4() {
        // The kernel adds ICMPv6's checksum by itself (RFC 3542 §3.1), ICMP's not.
        let checksum = internet_checksum(&message).to_be_bytes();
        message[2..4].copy_from_slice(&checksum);
    }
    message
}

/// RFC 1071, for an even number of bytes.
fn internet_checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

fn icmp_error(origin: u8, kind: u8, code: u8, by: Option<IpAddr>) -> Outcome {
    let how = if origin == SO_EE_ORIGIN_ICMP {
        match (kind, code) {
            (3, 2) => Some(Refusal::ProtocolUnreachable),
            (3, 3) => Some(Refusal::PortUnreachable),
            // Network, host, communication prohibited: RFC 1812 §5.2.7.1.
            (3, 9 | 10 | 13) => Some(Refusal::Prohibited),
            _ => None,
        }
    } else {
        match (kind, code) {
            // Prohibited, failed policy, reject route: RFC 4443 §3.1.
            (1, 1 | 5 | 6) => Some(Refusal::Prohibited),
            (1, 4) => Some(Refusal::PortUnreachable),
            // Parameter problem: unknown next header, RFC 4443 §3.4.
            (4, 1) => Some(Refusal::ProtocolUnreachable),
            _ => None,
        }
    };
    match how {
        Some(how) => Outcome::Refused { by, how },
        None => Outcome::Unreachable { by },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        assert_eq!(internet_checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn icmp_errors_are_told_apart() {
        let refused = |how| Outcome::Refused { by: None, how };
        let cases = [
            (SO_EE_ORIGIN_ICMP, 3, 0, Outcome::Unreachable { by: None }),
            (SO_EE_ORIGIN_ICMP, 3, 1, Outcome::Unreachable { by: None }),
            (SO_EE_ORIGIN_ICMP, 3, 3, refused(Refusal::PortUnreachable)),
            (SO_EE_ORIGIN_ICMP, 3, 13, refused(Refusal::Prohibited)),
            (SO_EE_ORIGIN_ICMP, 11, 0, Outcome::Unreachable { by: None }),
            (SO_EE_ORIGIN_ICMP6, 1, 0, Outcome::Unreachable { by: None }),
            (SO_EE_ORIGIN_ICMP6, 1, 1, refused(Refusal::Prohibited)),
            (SO_EE_ORIGIN_ICMP6, 1, 3, Outcome::Unreachable { by: None }),
            (SO_EE_ORIGIN_ICMP6, 1, 4, refused(Refusal::PortUnreachable)),
        ];
        for (origin, kind, code, expected) in cases {
            assert_eq!(icmp_error(origin, kind, code, None), expected, "{origin} {kind} {code}");
        }
    }
}
