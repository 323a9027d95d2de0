//! What nftables' expressions look at, as coordinates of packets.
//!
//! In: the words of an expression. Out: its coordinate, the type of its values, and what it needs of a
//! packet to be there at all (nft's dependencies, and the kernel's: an expression that can't be loaded
//! ends its rule). Never: a value.

use std::sync::{Arc, LazyLock};

use ringwall_packet::{Family, Interval, IntervalSet, Protocol, State, UpperCube, Variable, truth};

use super::datatype::Datatype;
use super::term::{Addresses, Term};

#[derive(Clone, Debug)]
pub(super) enum Coordinate {
    Source(Family),
    Destination(Family),
    /// `meta l4proto`, `ip protocol`.
    Protocol,
    /// `ip6 nexthdr`: the header that follows, which may be an extension.
    NextHeader,
    /// `meta nfproto`: numbers of address families.
    Nfproto,
    /// `meta protocol`: numbers of link layers.
    Ethertype,
    /// Ports of one protocol.
    SourcePort(Protocol),
    DestinationPort(Protocol),
    /// The first or the second two bytes of any transport header.
    First16,
    Second16,
    IcmpType(Family),
    IcmpCode(Family),
    Variable(Variable),
    /// Bits that each hold or not.
    Status,
    /// Why what it asks is a free variable.
    Opaque(&'static str),
}

#[derive(Clone, Debug)]
pub(super) struct Field {
    pub coordinate: Coordinate,
    pub values: Datatype,
    /// The largest value.
    pub last: u128,
    pub needs: Vec<Term>,
    /// The kernel fields that it reads and that statements can write.
    pub reads: Writes,
}

/// Of a packet: what statements may change before later rules look at it. A set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Writes(pub u8);

impl Writes {
    pub const MARK: Self = Self(1);
    pub const CT_MARK: Self = Self(2);
    pub const HEADER: Self = Self(4);
    pub const STATE: Self = Self(8);
    pub const OTHER: Self = Self(16);

    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Protocols whose headers begin with two ports.
static WITH_PORTS: LazyLock<IntervalSet<u8>> =
    LazyLock::new(|| (0..=u8::MAX).filter(|number| Protocol(*number).has_ports()).collect());
static WITHOUT_PORTS: LazyLock<Vec<Term>> = LazyLock::new(|| protocols(WITH_PORTS.complement()));

fn with_ports() -> IntervalSet<u8> {
    WITH_PORTS.clone()
}

fn only(protocol: Protocol) -> IntervalSet<u8> {
    IntervalSet::single(protocol.0)
}

fn icmp(family: Family) -> Protocol {
    match family {
        Family::V4 => Protocol::ICMP,
        Family::V6 => Protocol::ICMPV6,
    }
}

fn upper(protocol: IntervalSet<u8>, destination: IntervalSet<u16>, source: IntervalSet<u16>) -> Option<Term> {
    UpperCube::new(protocol, destination, source).map(Term::Upper)
}

pub(super) fn protocols(protocol: IntervalSet<u8>) -> Vec<Term> {
    upper(protocol, IntervalSet::full(), IntervalSet::full()).into_iter().collect()
}

pub(super) fn variable(name: &str) -> Variable {
    Variable::Field(Arc::from(name))
}

fn holds(name: &str) -> Term {
    Term::Is(Variable::Holds(Arc::from(name)), truth(true))
}

/// Packets that conntrack has an entry for: of all others, only the state can be read.
pub(super) fn tracked() -> Term {
    let states = [State::New, State::Established, State::Related];
    Term::Is(Variable::State, states.into_iter().map(State::values).collect())
}

impl Field {
    pub fn new(coordinate: Coordinate, values: Datatype) -> Self {
        Self { coordinate, values, last: values.last(), needs: Vec::new(), reads: Writes::default() }
    }

    fn needs(mut self, term: Term) -> Self {
        self.needs.push(term);
        self
    }

    fn reads(mut self, reads: Writes) -> Self {
        self.reads = reads;
        self
    }

    fn named(name: &str, values: Datatype) -> Self {
        Self::new(Coordinate::Variable(variable(name)), values)
    }

    pub fn opaque(why: &'static str) -> Self {
        Self::new(Coordinate::Opaque(why), Datatype::Opaque)
    }

    fn of_protocol(self, protocol: Protocol) -> Self {
        let term = UpperCube::protocol(protocol);
        self.needs(Term::Upper(term))
    }

    /// Terms for values: those in `set`, or all others.
    pub fn terms(&self, set: &IntervalSet<u128>, is_negated: bool) -> Vec<Term> {
        let mut terms = self.needs.clone();
        terms.extend(self.own_terms(set, is_negated));
        terms
    }

    fn own_terms(&self, set: &IntervalSet<u128>, is_negated: bool) -> Vec<Term> {
        let pick16 = || pick::<u16>(set, is_negated);
        let pick8 = || pick::<u8>(set, is_negated);
        match &self.coordinate {
            Coordinate::Source(family) => vec![Term::Family(*family), Term::Source(addresses(*family, set, is_negated))],
            Coordinate::Destination(family) => {
                vec![Term::Family(*family), Term::Destination(addresses(*family, set, is_negated))]
            }
            Coordinate::Protocol => {
                let numbers = pick8();
                if numbers.is_empty() { vec![Term::AnyOf(Vec::new())] } else { protocols(numbers) }
            }
            Coordinate::NextHeader => next_header(&pick8()),
            Coordinate::Nfproto => families(set, is_negated, [2, 10]),
            Coordinate::Ethertype => families(set, is_negated, [0x0800, 0x86dd]),
            Coordinate::SourcePort(protocol) => {
                upper(only(*protocol), IntervalSet::full(), pick16()).into_iter().collect()
            }
            Coordinate::DestinationPort(protocol) => {
                upper(only(*protocol), pick16(), IntervalSet::full()).into_iter().collect()
            }
            Coordinate::First16 | Coordinate::Second16 if set.is_full() && !is_negated => Vec::new(),
            Coordinate::First16 => first16(&pick16()),
            Coordinate::Second16 => {
                let ports = pick16();
                let others = Term::Is(variable("th dport"), wide(&ports));
                let alternatives = [
                    upper(with_ports(), ports, IntervalSet::full()).into_iter().collect(),
                    WITHOUT_PORTS.iter().cloned().chain([others]).collect(),
                ];
                vec![Term::AnyOf(alternatives.into())]
            }
            Coordinate::IcmpType(family) => {
                let types = pick8();
                let both = types.intervals().iter().filter_map(|range| {
                    Interval::new(u16::from_be_bytes([range.first(), 0]), u16::from_be_bytes([range.last(), u8::MAX]))
                });
                let header = upper(only(icmp(*family)), both.collect(), IntervalSet::full());
                [Term::Family(*family)].into_iter().chain(header).collect()
            }
            Coordinate::IcmpCode(family) => {
                let codes = pick8();
                let both = (0..=u8::MAX).flat_map(|kind| {
                    let range = move |range: &Interval<u8>| {
                        Interval::new(u16::from_be_bytes([kind, range.first()]), u16::from_be_bytes([kind, range.last()]))
                    };
                    codes.intervals().iter().filter_map(range).collect::<Vec<_>>()
                });
                let header = upper(only(icmp(*family)), both.collect(), IntervalSet::full());
                [Term::Family(*family)].into_iter().chain(header).collect()
            }
            Coordinate::Variable(variable) => {
                let values: IntervalSet<u128> = set
                    .intervals()
                    .iter()
                    .filter_map(|range| {
                        // The last value stands for all from there on.
                        let last = if range.last() >= self.last { u128::MAX } else { range.last() };
                        Interval::new(range.first(), last)
                    })
                    .collect();
                vec![Term::Is(variable.clone(), if is_negated { values.complement() } else { values })]
            }
            Coordinate::Status | Coordinate::Opaque(_) => unreachable!("values of these are no numbers"),
        }
    }
}

/// Numbers of a narrower domain.
fn pick<P: ringwall_packet::Point>(set: &IntervalSet<u128>, is_negated: bool) -> IntervalSet<P> {
    let narrow = |range: &Interval<u128>| {
        let first = P::of_number(range.first())?;
        Interval::new(first, P::of_number(range.last()).unwrap_or(P::MAX))
    };
    let picked: IntervalSet<P> = set.intervals().iter().filter_map(narrow).collect();
    if is_negated { picked.complement() } else { picked }
}

/// The same numbers where the largest stands for all above it.
fn wide(set: &IntervalSet<u16>) -> IntervalSet<u128> {
    let range = |range: &Interval<u16>| {
        let last = if range.last() == u16::MAX { u128::MAX } else { range.last().into() };
        Interval::new(range.first().into(), last)
    };
    set.intervals().iter().filter_map(range).collect()
}

fn addresses(family: Family, set: &IntervalSet<u128>, is_negated: bool) -> Addresses {
    match family {
        Family::V4 => Addresses::V4(pick(set, is_negated)),
        Family::V6 => Addresses::V6(pick(set, is_negated)),
    }
}

fn families(set: &IntervalSet<u128>, is_negated: bool, numbers: [u128; 2]) -> Vec<Term> {
    let is_in = |number: u128| set.contains(number) != is_negated;
    match numbers.map(is_in) {
        [true, true] => Vec::new(),
        [true, false] => vec![Term::Family(Family::V4)],
        [false, true] => vec![Term::Family(Family::V6)],
        [false, false] => vec![Term::AnyOf(Vec::new())],
    }
}

/// The first two bytes of a transport header: a source port, or type and code of the family's ICMP.
fn first16(values: &IntervalSet<u16>) -> Vec<Term> {
    let mut alternatives: Vec<Vec<Term>> =
        vec![upper(with_ports(), IntervalSet::full(), values.clone()).into_iter().collect()];
    for family in Family::ALL {
        let header = upper(only(icmp(family)), values.clone(), IntervalSet::full());
        alternatives.push([Term::Family(family)].into_iter().chain(header).collect());
        let others = with_ports().union(&only(icmp(family))).complement();
        let field = Term::Is(variable("th sport"), wide(values));
        alternatives.push([Term::Family(family)].into_iter().chain(protocols(others)).chain([field]).collect());
    }
    vec![Term::AnyOf(alternatives)]
}

/// Extension headers that Linux looks behind (RFC 8200 §4).
const EXTENSIONS: [u8; 4] = [0, 43, 44, 60];

/// `ip6 nexthdr` is the packet's protocol unless an extension header stands before it.
fn next_header(values: &IntervalSet<u8>) -> Vec<Term> {
    let plain = "ip6 nexthdr is the protocol";
    let is_plain = |is| Term::Is(Variable::Holds(Arc::from(plain)), truth(is));
    let mut alternatives = Vec::new();
    if !values.is_empty() {
        alternatives.push(protocols(values.clone()).into_iter().chain([is_plain(true)]).collect());
    }
    let extensions: IntervalSet<u128> =
        EXTENSIONS.into_iter().filter(|number| values.contains(*number)).map(u128::from).collect();
    if extensions.intervals().len() == EXTENSIONS.iter().map(|number| u128::from(*number)).collect::<IntervalSet<u128>>().intervals().len()
        && EXTENSIONS.iter().all(|number| values.contains(*number))
    {
        alternatives.push(vec![is_plain(false)]);
    } else if !extensions.is_empty() {
        alternatives.push(vec![is_plain(false), Term::Is(variable("ip6 nexthdr of an extension"), extensions)]);
    }
    vec![Term::Family(Family::V6), Term::AnyOf(alternatives)]
}

/// Keys of `meta` that need no `meta` before them.
pub(super) const BARE_META: [&str; 21] = [
    "mark", "iif", "iifname", "iiftype", "oif", "oifname", "oiftype", "skuid", "skgid", "nftrace", "rtclassid", "ibrname",
    "obrname", "ibriport", "obriport", "pkttype", "cpu", "iifgroup", "oifgroup", "cgroup", "secpath",
];

/// `meta KEY`.
pub(super) fn meta(key: &str) -> Option<Field> {
    let name = format!("meta {key}");
    let plain = |values| Field::named(&name, values);
    // Not of every packet: some have no socket.
    let partly = |values| plain(values).needs(holds(&format!("{name} exists")));
    Some(match key {
        "nfproto" => Field::new(Coordinate::Nfproto, Datatype::Nfproto),
        "protocol" => Field::new(Coordinate::Ethertype, Datatype::Ethertype),
        "l4proto" => Field::new(Coordinate::Protocol, Datatype::Protocol),
        "iif" | "iifname" => Field::new(Coordinate::Variable(Variable::InputInterface), Datatype::Interface),
        "oif" | "oifname" => Field::new(Coordinate::Variable(Variable::OutputInterface), Datatype::Interface),
        "sdif" | "sdifname" | "ibrname" | "obrname" | "ibriport" | "obriport" => plain(Datatype::Interface),
        // An interface without a kind has nothing to be read.
        "iifkind" | "oifkind" => {
            let some = IntervalSet::single(0).complement();
            plain(Datatype::Text).needs(Term::Is(variable(&name), some))
        }
        "time" => Field::new(Coordinate::Variable(Variable::Clock), Datatype::Time),
        "hour" => plain(Datatype::Hour),
        "day" => plain(Datatype::Day),
        "mark" => plain(Datatype::Mark).reads(Writes::MARK),
        "pkttype" => plain(Datatype::PacketType),
        "iiftype" | "oiftype" => plain(Datatype::LinkType),
        "length" | "cpu" | "iifgroup" | "oifgroup" => plain(Datatype::Integer(32)),
        "priority" => plain(Datatype::Integer(32)).reads(Writes::OTHER),
        "nftrace" => plain(Datatype::Integer(1)).reads(Writes::OTHER),
        "skuid" | "skgid" | "cgroup" => partly(Datatype::Integer(32)),
        "secpath" | "ipsec" => plain(Datatype::Boolean),
        "rtclassid" | "secmark" | "random" => Field::opaque("it depends on more than the packet"),
        _ => return None,
    })
}

/// `HEADER FIELD`, such as `ip saddr`.
pub(super) fn payload(header: &str, name: &str) -> Option<Field> {
    let text = format!("{header} {name}");
    let plain = |values| Field::named(&text, values).reads(Writes::HEADER);
    let number = |bits| plain(Datatype::Integer(bits));
    let both = |source, destination| match name {
        "sport" => Some(Field::new(source, Datatype::Service)),
        "dport" => Some(Field::new(destination, Datatype::Service)),
        _ => None,
    };
    let ports = |protocol| both(Coordinate::SourcePort(protocol), Coordinate::DestinationPort(protocol));
    let address = |family, values| match name {
        "saddr" => Some(Field::new(Coordinate::Source(family), values)),
        "daddr" => Some(Field::new(Coordinate::Destination(family), values)),
        _ => None,
    };
    match header {
        "ip" => address(Family::V4, Datatype::Ipv4).or_else(|| {
            let field = match name {
                "protocol" => Field::new(Coordinate::Protocol, Datatype::Protocol),
                "version" | "hdrlength" => number(4),
                "dscp" => plain(Datatype::Dscp),
                "ecn" => plain(Datatype::Ecn),
                "length" | "id" | "frag-off" | "checksum" => number(16),
                "ttl" => number(8),
                _ => return None,
            };
            Some(field.needs(Term::Family(Family::V4)))
        }),
        "ip6" => address(Family::V6, Datatype::Ipv6).or_else(|| {
            let field = match name {
                "nexthdr" => Field::new(Coordinate::NextHeader, Datatype::Protocol),
                "version" => number(4),
                "dscp" => plain(Datatype::Dscp),
                "ecn" => plain(Datatype::Ecn),
                "flowlabel" => number(20),
                "length" => number(16),
                "hoplimit" => number(8),
                _ => return None,
            };
            Some(field.needs(Term::Family(Family::V6)))
        }),
        "icmp" | "icmpv6" => {
            let (family, kind, code) = match header {
                "icmp" => (Family::V4, Datatype::IcmpType, Datatype::IcmpCode),
                _ => (Family::V6, Datatype::Icmpv6Type, Datatype::Icmpv6Code),
            };
            let of = |field: Field| field.needs(Term::Family(family)).of_protocol(icmp(family));
            Some(match name {
                "type" => Field::new(Coordinate::IcmpType(family), kind),
                "code" => Field::new(Coordinate::IcmpCode(family), code),
                "checksum" => of(number(16)),
                "id" | "sequence" | "mtu" | "gateway" | "parameter-problem" | "max-delay" | "taddr" | "daddr" => {
                    of(Field::opaque("only some types of ICMP have the field"))
                }
                _ => return None,
            })
        }
        "igmp" => {
            let field = match name {
                "type" => plain(Datatype::IgmpType),
                "mrt" => number(8),
                "checksum" => number(16),
                "group" => plain(Datatype::Ipv4),
                _ => return None,
            };
            Some(field.needs(Term::Family(Family::V4)).of_protocol(Protocol::IGMP))
        }
        "th" => both(Coordinate::First16, Coordinate::Second16),
        "tcp" => ports(Protocol::TCP).or_else(|| {
            let field = match name {
                "flags" => plain(Datatype::TcpFlags),
                "sequence" | "ackseq" => number(32),
                "doff" | "reserved" => number(4),
                "window" | "checksum" | "urgptr" => number(16),
                _ => return None,
            };
            Some(field.of_protocol(Protocol::TCP))
        }),
        "udp" | "udplite" => {
            let protocol = if header == "udp" { Protocol::UDP } else { Protocol::UDPLITE };
            let is_field = matches!(name, "length" | "csumcov" | "checksum");
            ports(protocol).or_else(|| is_field.then(|| number(16).of_protocol(protocol)))
        }
        "sctp" => {
            let is_field = matches!(name, "vtag" | "checksum");
            ports(Protocol::SCTP).or_else(|| is_field.then(|| number(32).of_protocol(Protocol::SCTP)))
        }
        "dccp" => ports(Protocol::DCCP)
            .or_else(|| (name == "type").then(|| Field::opaque("its values are not read").of_protocol(Protocol::DCCP))),
        "ah" | "esp" | "comp" => {
            let protocol = match header {
                "ah" => Protocol::AH,
                "esp" => Protocol::ESP,
                _ => Protocol(108),
            };
            let bits = match name {
                "spi" | "sequence" => 32,
                "nexthdr" | "hdrlength" | "flags" => 8,
                "reserved" | "cpi" => 16,
                _ => return None,
            };
            Some(number(bits).of_protocol(protocol))
        }
        "ether" => {
            let field = match name {
                "saddr" | "daddr" => plain(Datatype::Ether),
                "type" => plain(Datatype::Ethertype),
                _ => return None,
            };
            // A link that is no Ethernet has no such addresses.
            Some(field.needs(Term::Is(variable("meta iiftype"), IntervalSet::single(1))))
        }
        "vlan" | "arp" => Some(Field::opaque("it is about the link layer")),
        "frag" | "hbh" | "dst" | "mh" => {
            Some(Field::opaque("it is about an extension header").needs(Term::Family(Family::V6)))
        }
        _ => None,
    }
}

/// `ct [original|reply] [ip|ip6] KEY`.
pub(super) fn conntrack(direction: Option<&str>, family: Option<Family>, key: &str) -> Option<Field> {
    let mut name = String::from("ct ");
    for word in direction.into_iter().chain(family.map(|family| if family == Family::V4 { "ip" } else { "ip6" })) {
        name.push_str(word);
        name.push(' ');
    }
    name.push_str(key);
    let plain = |values| Field::named(&name, values).needs(tracked());
    let address = if family == Some(Family::V4) { Datatype::Ipv4 } else { Datatype::Ipv6 };
    let of_family = |field: Field| family.map_or(field.clone(), |family| field.needs(Term::Family(family)));
    Some(match (key, direction) {
        ("state", None) => Field::new(Coordinate::Variable(Variable::State), Datatype::State).reads(Writes::STATE),
        ("status", None) => Field::new(Coordinate::Status, Datatype::Status).needs(tracked()),
        ("direction", None) => plain(Datatype::Direction),
        ("mark", None) => plain(Datatype::Mark).reads(Writes::CT_MARK),
        ("daddr", Some("original")) if family.is_some() => {
            of_family(Field::new(Coordinate::Variable(Variable::OriginalDestination), address).needs(tracked()))
        }
        ("saddr" | "daddr", Some(_)) if family.is_some() => of_family(plain(address)),
        ("proto-dst", Some("original")) => {
            Field::new(Coordinate::Variable(Variable::OriginalPort), Datatype::Service).needs(tracked())
        }
        ("proto-src" | "proto-dst", Some(_)) => plain(Datatype::Service),
        ("l3proto", _) => plain(Datatype::Nfproto),
        ("protocol", _) => plain(Datatype::Protocol),
        ("helper", None) => plain(Datatype::Text).needs(Term::Is(variable(&name), IntervalSet::single(0).complement())),
        ("zone", _) => plain(Datatype::Integer(16)),
        ("packets" | "bytes" | "avgpkt" | "expiration" | "id" | "label" | "event" | "secmark" | "saddr" | "daddr", _) => {
            Field::opaque("it is about the connection, not the packet").needs(tracked())
        }
        _ => return None,
    })
}
