//! Tracked connections: read, looked up, marked, deleted, counted.
//!
//! In: tuples. Out: connections as typed values. Never: a change of a connection other than of its
//! mark and its end, or a delete without a tuple, which to the kernel means all of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use nix::errno::Errno;
use ringwall_packet::{Flow, PortProtocol, Protocol, Upper};

use super::uapi::*;
use super::wire::{Attributes, Malformed, Reply, Request, be16, be32, byte};
use super::{Error, Netfilter};

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: Protocol,
    pub upper: TupleUpper,
}

/// What tells connections of one protocol between two addresses apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TupleUpper {
    /// Of GRE, the keys.
    Ports {
        source: u16,
        destination: u16,
    },
    Icmp {
        kind: u8,
        code: u8,
        id: u16,
    },
    None,
}

impl Tuple {
    /// A tuple of a protocol with ports; both addresses are of one family.
    pub fn ports(protocol: PortProtocol, source: SocketAddr, destination: SocketAddr) -> Self {
        Self {
            source: source.ip(),
            destination: destination.ip(),
            protocol: protocol.protocol(),
            upper: TupleUpper::Ports { source: source.port(), destination: destination.port() },
        }
    }

    /// The header of a packet in this direction; `None` for protocols whose keys a flow does not have.
    pub fn flow(&self) -> Option<Flow> {
        let upper = match self.upper {
            TupleUpper::Ports { source, destination } => match PortProtocol::new(self.protocol) {
                Some(protocol) => Upper::Ports { protocol, source, destination },
                None => Upper::other(self.protocol)?,
            },
            TupleUpper::Icmp { kind, code, .. } => Upper::Icmp { kind, code },
            TupleUpper::None => Upper::other(self.protocol)?,
        };
        Flow::new(self.source, self.destination, upper)
    }

    fn write(&self, request: Request) -> Request {
        let addresses = |request: Request| match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                request.bytes(CTA_IP_V4_SRC, &source.octets()).bytes(CTA_IP_V4_DST, &destination.octets())
            }
            (source, destination) => {
                let octets = |address| match address {
                    IpAddr::V4(address) => Ipv4Addr::to_ipv6_mapped(&address).octets(),
                    IpAddr::V6(address) => Ipv6Addr::octets(&address),
                };
                request.bytes(CTA_IP_V6_SRC, &octets(source)).bytes(CTA_IP_V6_DST, &octets(destination))
            }
        };
        let upper = |request: Request| {
            let request = request.u8(CTA_PROTO_NUM, self.protocol.0);
            match self.upper {
                TupleUpper::Ports { source, destination } => {
                    request.u16(CTA_PROTO_SRC_PORT, source).u16(CTA_PROTO_DST_PORT, destination)
                }
                TupleUpper::Icmp { kind, code, id } if self.protocol == Protocol::ICMPV6 => {
                    let request = request.u16(CTA_PROTO_ICMPV6_ID, id);
                    request.u8(CTA_PROTO_ICMPV6_TYPE, kind).u8(CTA_PROTO_ICMPV6_CODE, code)
                }
                TupleUpper::Icmp { kind, code, id } => {
                    let request = request.u16(CTA_PROTO_ICMP_ID, id);
                    request.u8(CTA_PROTO_ICMP_TYPE, kind).u8(CTA_PROTO_ICMP_CODE, code)
                }
                TupleUpper::None => request,
            }
        };
        request.nested(CTA_TUPLE_ORIG, |tuple| tuple.nested(CTA_TUPLE_IP, addresses).nested(CTA_TUPLE_PROTO, upper))
    }

    /// The number of its family in linux/netfilter.h.
    fn family(&self) -> u8 {
        if self.source.is_ipv4() { 2 } else { 10 }
    }
}

/// enum ip_conntrack_status (linux/netfilter/nf_conntrack_common.h)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    /// Packets went both ways.
    pub fn seen_reply(self) -> bool {
        self.0 & 0x2 != 0
    }

    /// Not to be dropped early when the table is full; for TCP, the handshake was completed.
    pub fn assured(self) -> bool {
        self.0 & 0x4 != 0
    }

    pub fn source_translated(self) -> bool {
        self.0 & 0x10 != 0
    }

    pub fn destination_translated(self) -> bool {
        self.0 & 0x20 != 0
    }
}

/// enum tcp_conntrack (linux/netfilter/nf_conntrack_tcp.h)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpState {
    SynSent,
    SynReceived,
    Established,
    FinWait,
    CloseWait,
    LastAck,
    TimeWait,
    Close,
    SynSent2,
    Other(u8),
}

impl TcpState {
    fn of(number: u8) -> Self {
        match number {
            1 => Self::SynSent,
            2 => Self::SynReceived,
            3 => Self::Established,
            4 => Self::FinWait,
            5 => Self::CloseWait,
            6 => Self::LastAck,
            7 => Self::TimeWait,
            8 => Self::Close,
            9 => Self::SynSent2,
            other => Self::Other(other),
        }
    }
}

/// A tracked connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// As its first packet was before translation.
    pub original: Tuple,
    /// As answers are: with translation, not the reverse of `original`.
    pub reply: Tuple,
    pub mark: u32,
    pub status: Status,
    /// How long it is kept without another packet.
    pub timeout: Option<Duration>,
    pub tcp: Option<TcpState>,
    pub zone: u16,
    /// The kernel's number, which tells it from a later one with the same tuple.
    pub id: Option<u32>,
}

/// How many connections are tracked, and how many can be (net.netfilter.nf_conntrack_max).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionCount {
    pub tracked: u32,
    pub limit: u32,
}

fn request(operation: u8, family: u8) -> Request {
    Request::new(NFNL_SUBSYS_CTNETLINK, operation, 0, family)
}

impl Netfilter {
    /// Gives each tracked connection of both families to `visit`. Those that begin or end meanwhile
    /// may or may not be among them.
    pub fn each_connection(&mut self, mut visit: impl FnMut(Connection)) -> Result<(), Error> {
        let each = |reply: &Reply<'_>| {
            visit(parse_connection(reply)?);
            Ok(())
        };
        let dumped = self.socket.dump(request(IPCTNL_MSG_CT_GET, NFPROTO_UNSPEC), each);
        dumped.map(drop).map_err(Error::Connections)
    }

    /// The tracked connections with an end at `address`: whoever began them, and as either end was before
    /// translation. The kernel looks through all of them, but tells these alone (since Linux 5.8).
    pub fn connections_of(&mut self, address: IpAddr) -> Result<Vec<Connection>, Error> {
        let (family, source, destination, octets) = match address {
            IpAddr::V4(address) => (2, CTA_IP_V4_SRC, CTA_IP_V4_DST, address.octets().to_vec()),
            IpAddr::V6(address) => (10, CTA_IP_V6_SRC, CTA_IP_V6_DST, address.octets().to_vec()),
        };
        let ends = [
            (CTA_TUPLE_ORIG, source, CTA_FILTER_F_CTA_IP_SRC),
            (CTA_TUPLE_ORIG, destination, CTA_FILTER_F_CTA_IP_DST),
            (CTA_TUPLE_REPLY, source, CTA_FILTER_F_CTA_IP_SRC),
        ];
        let mut found: Vec<Connection> = Vec::new();
        for (tuple, end, flag) in ends {
            let (original, reply) = if tuple == CTA_TUPLE_ORIG { (flag, 0) } else { (0, flag) };
            let request = request(IPCTNL_MSG_CT_GET, family)
                .nested(tuple, |tuple| tuple.nested(CTA_TUPLE_IP, |ip| ip.bytes(end, &octets)))
                .nested(CTA_FILTER, |filter| {
                    // In the machine's order, unlike most of netfilter's numbers.
                    let filter = filter.bytes(CTA_FILTER_ORIG_FLAGS, &original.to_ne_bytes());
                    filter.bytes(CTA_FILTER_REPLY_FLAGS, &reply.to_ne_bytes())
                });
            let each = |reply: &Reply<'_>| {
                let connection = parse_connection(reply)?;
                let ends = [connection.original.source, connection.original.destination, connection.reply.source];
                if ends.contains(&address) && !found.contains(&connection) {
                    found.push(connection);
                }
                Ok(())
            };
            self.socket.dump(request, each).map_err(Error::Connections)?;
        }
        Ok(found)
    }

    /// All tracked connections of both families.
    pub fn connections(&mut self) -> Result<Vec<Connection>, Error> {
        let mut connections = Vec::new();
        self.each_connection(|connection| connections.push(connection))?;
        Ok(connections)
    }

    /// The connection that has `tuple` as one of its directions, in zone 0.
    pub fn find_connection(&mut self, tuple: &Tuple) -> Result<Option<Connection>, Error> {
        let request = tuple.write(request(IPCTNL_MSG_CT_GET, tuple.family()));
        match self.socket.get(request, parse_connection) {
            Ok(connection) => Ok(Some(connection)),
            Err(failure) if failure.errno() == Some(Errno::ENOENT) => Ok(None),
            Err(failure) => Err(Error::FindConnection(failure)),
        }
    }

    /// Ends the tracking of exactly this connection: its next packet is a new one. `false` when it
    /// is gone already.
    pub fn delete_connection(&mut self, connection: &Connection) -> Result<bool, Error> {
        let tuple = &connection.original;
        let mut request = tuple.write(request(IPCTNL_MSG_CT_DELETE, tuple.family()));
        if connection.zone != 0 {
            request = request.u16(CTA_ZONE, connection.zone);
        }
        if let Some(id) = connection.id {
            request = request.u32(CTA_ID, id);
        }
        match self.socket.change(request) {
            Ok(()) => Ok(true),
            Err(failure) if failure.errno() == Some(Errno::ENOENT) => Ok(false),
            Err(failure) => Err(Error::DeleteConnection(failure)),
        }
    }

    /// Sets the bits of a connection's mark that are in `mask`. `false` when it is gone already.
    pub fn mark_connection(&mut self, connection: &Connection, mark: u32, mask: u32) -> Result<bool, Error> {
        let tuple = &connection.original;
        let mut request = tuple.write(request(IPCTNL_MSG_CT_NEW, tuple.family()));
        if connection.zone != 0 {
            request = request.u16(CTA_ZONE, connection.zone);
        }
        match self.socket.change(request.u32(CTA_MARK, mark & mask).u32(CTA_MARK_MASK, mask)) {
            Ok(()) => Ok(true),
            Err(failure) if failure.errno() == Some(Errno::ENOENT) => Ok(false),
            Err(failure) => Err(Error::MarkConnection(failure)),
        }
    }

    pub fn connection_count(&mut self) -> Result<ConnectionCount, Error> {
        self.socket.get(request(IPCTNL_MSG_CT_GET_STATS, NFPROTO_UNSPEC), parse_count).map_err(Error::CountConnections)
    }
}

fn parse_count(reply: &Reply<'_>) -> Result<ConnectionCount, Malformed> {
    let (mut tracked, mut limit) = (None, 0);
    for attribute in reply.attributes {
        match attribute? {
            (CTA_STATS_GLOBAL_ENTRIES, value) => tracked = Some(be32(value)?),
            (CTA_STATS_GLOBAL_MAX_ENTRIES, value) => limit = be32(value)?,
            _ => {}
        }
    }
    Ok(ConnectionCount { tracked: tracked.ok_or(Malformed("connection count"))?, limit })
}

fn parse_connection(reply: &Reply<'_>) -> Result<Connection, Malformed> {
    let (mut original, mut answers, mut mark, mut status) = (None, None, 0, Status::default());
    let (mut timeout, mut tcp, mut zone, mut id) = (None, None, 0, None);
    for attribute in reply.attributes {
        match attribute? {
            (CTA_TUPLE_ORIG, value) => original = Some(parse_tuple(Attributes(value))?),
            (CTA_TUPLE_REPLY, value) => answers = Some(parse_tuple(Attributes(value))?),
            (CTA_STATUS, value) => status = Status(be32(value)?),
            (CTA_PROTOINFO, value) => tcp = parse_tcp(Attributes(value))?,
            (CTA_TIMEOUT, value) => timeout = Some(Duration::from_secs(be32(value)?.into())),
            (CTA_MARK, value) => mark = be32(value)?,
            (CTA_ID, value) => id = Some(be32(value)?),
            (CTA_ZONE, value) => zone = be16(value)?,
            _ => {}
        }
    }
    const CONNECTION: Malformed = Malformed("connection");
    let (original, reply) = (original.ok_or(CONNECTION)?, answers.ok_or(CONNECTION)?);
    Ok(Connection { original, reply, mark, status, timeout, tcp, zone, id })
}

fn parse_tuple(attributes: Attributes<'_>) -> Result<Tuple, Malformed> {
    let (mut source, mut destination) = (None, None);
    let (mut protocol, mut ports, mut icmp) = (None, None, None);
    for attribute in attributes {
        let (kind, value) = attribute?;
        for attribute in Attributes(value) {
            match (kind, attribute?) {
                (CTA_TUPLE_IP, (CTA_IP_V4_SRC | CTA_IP_V6_SRC, value)) => source = Some(address(value)?),
                (CTA_TUPLE_IP, (CTA_IP_V4_DST | CTA_IP_V6_DST, value)) => destination = Some(address(value)?),
                (CTA_TUPLE_PROTO, (CTA_PROTO_NUM, value)) => protocol = Some(Protocol(byte(value)?)),
                (CTA_TUPLE_PROTO, (CTA_PROTO_SRC_PORT, value)) => ports.get_or_insert((0, 0)).0 = be16(value)?,
                (CTA_TUPLE_PROTO, (CTA_PROTO_DST_PORT, value)) => ports.get_or_insert((0, 0)).1 = be16(value)?,
                (CTA_TUPLE_PROTO, (CTA_PROTO_ICMP_ID | CTA_PROTO_ICMPV6_ID, value)) => {
                    icmp.get_or_insert((0, 0, 0)).2 = be16(value)?;
                }
                (CTA_TUPLE_PROTO, (CTA_PROTO_ICMP_TYPE | CTA_PROTO_ICMPV6_TYPE, value)) => {
                    icmp.get_or_insert((0, 0, 0)).0 = byte(value)?;
                }
                (CTA_TUPLE_PROTO, (CTA_PROTO_ICMP_CODE | CTA_PROTO_ICMPV6_CODE, value)) => {
                    icmp.get_or_insert((0, 0, 0)).1 = byte(value)?;
                }
                _ => {}
            }
        }
    }
    const TUPLE: Malformed = Malformed("tuple");
    let upper = match (ports, icmp) {
        (Some((source, destination)), _) => TupleUpper::Ports { source, destination },
        (None, Some((kind, code, id))) => TupleUpper::Icmp { kind, code, id },
        (None, None) => TupleUpper::None,
    };
    let (source, destination) = (source.ok_or(TUPLE)?, destination.ok_or(TUPLE)?);
    Ok(Tuple { source, destination, protocol: protocol.ok_or(TUPLE)?, upper })
}

fn parse_tcp(attributes: Attributes<'_>) -> Result<Option<TcpState>, Malformed> {
    for attribute in attributes {
        if let (CTA_PROTOINFO_TCP, value) = attribute? {
            for attribute in Attributes(value) {
                if let (CTA_PROTOINFO_TCP_STATE, value) = attribute? {
                    return Ok(Some(TcpState::of(byte(value)?)));
                }
            }
        }
    }
    Ok(None)
}

fn address(value: &[u8]) -> Result<IpAddr, Malformed> {
    let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from)).map_err(|_| Malformed("address"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_tuple_is_read_back(
            octets: ([u8; 16], [u8; 16]), v4: bool, protocol: u8, kind: u8, code: u8, id: u16, port: u16, shape in 0..3,
        ) {
            let address = |octets: [u8; 16]| match v4 {
                true => IpAddr::from([octets[0], octets[1], octets[2], octets[3]]),
                false => IpAddr::from(octets),
            };
            let upper = match shape {
                0 => TupleUpper::Ports { source: id, destination: port },
                1 => TupleUpper::Icmp { kind, code, id },
                _ => TupleUpper::None,
            };
            let (source, destination) = (address(octets.0), address(octets.1));
            let tuple = Tuple { source, destination, protocol: Protocol(protocol), upper };
            let bytes = tuple.write(request(0, tuple.family())).finish(0).expect("short").split_off(20);
            let (kind, value) = Attributes(&bytes).next().expect("one").expect("whole");
            prop_assert_eq!(kind, CTA_TUPLE_ORIG);
            prop_assert_eq!(parse_tuple(Attributes(value)), Ok(tuple));
            let _ = tuple.flow();
        }

        #[test]
        fn any_attributes_are_read_without_a_panic(
            outer in prop::collection::vec((0u16..20, 0u16..10, 0u16..10, prop::collection::vec(any::<u8>(), 0..20)), 0..8),
        ) {
            let request = outer.iter().fold(request(0, 0), |request, (a, b, c, value)| {
                request.nested(*a, |inner| inner.nested(*b, |inner| inner.bytes(*c, value)).bytes(*c, value)).bytes(*b, value)
            });
            let bytes = request.finish(0).expect("short").split_off(20);
            let reply = Reply { family: 0, attributes: Attributes(&bytes) };
            let _ = parse_connection(&reply);
            let _ = parse_count(&reply);
            let _ = parse_tuple(reply.attributes);
        }
    }
}
