//! The destination's end: temporary listeners where nobody listens, and the kernel's word on what
//! arrived and which chain decided.
//!
//! In: the plan that the source has. Out: [`DestinationLine`]s. Never: a byte to anyone whom the
//! plan does not announce (connections are closed at once), and nothing at all once it has ended.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use ringwall_packet::Protocol;
use socket2::{Domain, Socket, Type};

use super::marks::Marks;
use ringwall_probe::{DestinationLine, Listener, Watching};
use ringwall_probe::{Plan, Try, Tuple, tuples};
use ringwall_probe::place;
use super::socket::{descriptors, local_addresses};
use super::trace::{Event, TraceReader};

/// Listeners whose connections nobody has accepted yet; the most that Linux takes by default.
const BACKLOG: i32 = 4096;

#[derive(Debug, thiserror::Error)]
pub enum RespondError {
    #[error("this machine's addresses could not be read")]
    Addresses(#[source] io::Error),
    #[error("sockets could not be waited for")]
    Wait(#[source] io::Error),
    #[error("the evidence could not be written")]
    Report(#[source] io::Error),
}

/// Where probes arrive: address, protocol, port (0 where the protocol has none).
type Place = (IpAddr, u8, u16);

/// Listens and watches until `stop` is readable at its end, that is until the other side of the
/// pipe is closed.
pub fn respond(
    plan: &Plan,
    stop: impl AsFd + Read,
    report: impl FnMut(DestinationLine) -> io::Result<()>,
) -> Result<(), RespondError> {
    let tuples = tuples(&plan.probes);
    let mut trace = TraceReader::open();
    let mut marks = Marks::open();
    let life = Duration::from_millis(plan.settings.life_ms);
    let watched: Vec<Tuple> = tuples.keys().copied().collect();
    let watching = match &trace {
        Err(error) => Watching::Failed(format!("the kernel's trace could not be opened: {error}")),
        Ok(_) => marks.watch(&watched, life),
    };
    let mut responder = Responder {
        epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(wait_error)?,
        tuples,
        tokens: plan.probes.iter().map(|probe| (probe.token(), probe.id)).collect(),
        sockets: Vec::new(),
        said: HashSet::new(),
        report,
    };
    responder.listen(plan)?;
    let trace = trace.as_mut().ok().filter(|_| watching == Watching::Yes);
    responder.say(DestinationLine::Ready { watching: watching.clone() })?;
    let result = responder.run(stop, trace);
    if watching == Watching::Yes {
        marks.forget_watched(&watched);
    }
    result?;
    responder.say(DestinationLine::Done)
}

struct Responder<R> {
    epoll: Epoll,
    tuples: HashMap<Tuple, (u32, Try)>,
    /// For protocols without ports: what the datagram carries.
    tokens: HashMap<Vec<u8>, u32>,
    sockets: Vec<(Place, Socket)>,
    /// Each thing is said once, however often a probe was sent again.
    said: HashSet<String>,
    report: R,
}

const STOP: u64 = u64::MAX;
const TRACE: u64 = u64::MAX - 1;

impl<R: FnMut(DestinationLine) -> io::Result<()>> Responder<R> {
    fn say(&mut self, line: DestinationLine) -> Result<(), RespondError> {
        (self.report)(line).map_err(RespondError::Report)
    }

    fn say_once(&mut self, line: DestinationLine) -> Result<(), RespondError> {
        if self.said.insert(format!("{line:?}")) { self.say(line) } else { Ok(()) }
    }

    fn listen(&mut self, plan: &Plan) -> Result<(), RespondError> {
        // One socket for each port; those beyond the limit are said to have nobody.
        descriptors();
        let here = local_addresses().map_err(RespondError::Addresses)?;
        let places: BTreeSet<Place> = plan.probes.iter().map(place).collect();
        for place in places {
            let (destination, protocol, port) = place;
            let is_ours_to_take = plan.settings.listens || !Protocol(protocol).has_ports();
            let state = match if is_ours_to_take { open(place) } else { Err(io::Error::other("ports are left to programs")) } {
                // With net.ipv4.ip_nonlocal_bind any address can be bound.
                _ if !here.contains(&destination) => Listener::Elsewhere,
                Ok(Some(socket)) => {
                    let key = self.sockets.len() as u64;
                    self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, key)).map_err(wait_error)?;
                    self.sockets.push((place, socket));
                    Listener::Ours
                }
                // The kernel answers echo requests itself.
                Ok(None) => Listener::Theirs,
                Err(error) => match error.kind() {
                    io::ErrorKind::AddrInUse => Listener::Theirs,
                    _ => Listener::Nobody(error.to_string()),
                },
            };
            self.say(DestinationLine::Listener { destination, protocol, port, state })?;
        }
        Ok(())
    }

    fn run(&mut self, mut stop: impl AsFd + Read, mut trace: Option<&mut TraceReader>) -> Result<(), RespondError> {
        self.epoll.add(&stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP)).map_err(wait_error)?;
        if let Some(trace) = &trace {
            self.epoll.add(trace, EpollEvent::new(EpollFlags::EPOLLIN, TRACE)).map_err(wait_error)?;
        }
        let mut events = vec![EpollEvent::empty(); 1024];
        let mut stopping = false;
        loop {
            // Once told to stop, take what is already there and wait for no more.
            let timeout = if stopping { EpollTimeout::ZERO } else { EpollTimeout::NONE };
            let count = match self.epoll.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(wait_error(error)),
            };
            if stopping && count == 0 {
                return Ok(());
            }
            for event in &events[..count] {
                match event.data() {
                    STOP => {
                        let mut rest = [0; 4096];
                        if !matches!(stop.read(&mut rest), Ok(1..)) {
                            stopping = true;
                            self.epoll.delete(&stop).map_err(wait_error)?;
                        }
                    }
                    TRACE => {
                        if let Some(trace) = &mut trace {
                            self.traced(trace)?;
                        }
                    }
                    key => self.receive(key)?,
                }
            }
        }
    }

    fn traced(&mut self, trace: &mut TraceReader) -> Result<(), RespondError> {
        for event in trace.read() {
            match event {
                Event::Decided { flow, table, chain, verdict } => {
                    if let Some((id, which)) = self.tuples.get(&flow).copied() {
                        self.say_once(DestinationLine::Traced { id, which, table, chain, verdict })?;
                    }
                }
                Event::Lost => self.say_once(DestinationLine::Lost)?,
            }
        }
        Ok(())
    }

    fn receive(&mut self, key: u64) -> Result<(), RespondError> {
        let Some(((_, protocol, _), socket)) = usize::try_from(key).ok().and_then(|key| self.sockets.get(key)) else {
            return Ok(());
        };
        let protocol = Protocol(*protocol);
        let mut seen = Vec::new();
        match protocol {
            Protocol::TCP => {
                while let Ok((connection, from)) = socket.accept() {
                    let to = connection.local_addr().ok().and_then(|to| to.as_socket());
                    seen.extend(self.known(from.as_socket(), to, protocol));
                }
            }
            Protocol::UDP => {
                let to = socket.local_addr().ok().and_then(|to| to.as_socket());
                let mut buffer = [std::mem::MaybeUninit::uninit(); 64];
                while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                    if let Some(known) = self.known(from.as_socket(), to, protocol) {
                        // An answer that is lost shows as silence at the source.
                        let _ = socket.send_to(b"ringwall answer\n", &from);
                        seen.push(known);
                    }
                }
            }
            _ => {
                let is_ipv4 = socket.local_addr().is_ok_and(|address| address.is_ipv4());
                let mut buffer = [0; 256];
                let mut socket = socket;
                while let Ok(length) = socket.read(&mut buffer) {
                    // A raw IPv4 socket gives the IP header too (raw(7)).
                    let skip = if is_ipv4 { usize::from(buffer[0] & 0x0f) * 4 } else { 0 };
                    let id = buffer[..length].get(skip..).and_then(|token| self.tokens.get(token));
                    seen.extend(id.map(|id| (*id, Try::Plain)));
                }
            }
        }
        for (id, which) in seen {
            self.say_once(DestinationLine::Received { id, which })?;
        }
        Ok(())
    }

    fn known(&self, from: Option<SocketAddr>, to: Option<SocketAddr>, protocol: Protocol) -> Option<(u32, Try)> {
        self.tuples.get(&(plain(from?), plain(to?), protocol.0)).copied()
    }
}

/// Without an IPv6 address's scope and flow label, which no plan knows.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}

/// A listener for a place; `None` where the kernel answers by itself.
fn open((address, protocol, port): Place) -> io::Result<Option<Socket>> {
    let protocol = Protocol(protocol);
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let kind = match protocol {
        Protocol::TCP => Type::STREAM,
        Protocol::UDP => Type::DGRAM,
        _ => Type::RAW,
    };
    let socket = Socket::new(domain, kind, Some(i32::from(protocol.0).into()))?;
    socket.set_nonblocking(true)?;
    if protocol == Protocol::TCP {
        // A connection in TIME_WAIT is not a listener.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&SocketAddr::new(address, port).into())?;
    match protocol {
        Protocol::TCP => socket.listen(BACKLOG)?,
        // From now on this machine's own probes may be sent from the port; before, it would have hidden
        // that another program has it.
        Protocol::UDP => socket.set_reuse_address(true)?,
        _ => {}
    }
    Ok((!protocol.is_icmp()).then_some(socket))
}

fn wait_error(errno: Errno) -> RespondError {
    RespondError::Wait(errno.into())
}
