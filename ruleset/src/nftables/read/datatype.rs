//! nftables' types, and their values as numbers.
//!
//! In: a type and a word. Out: the numbers from a first to a last that the word means. Never: a name
//! looked up in a file or on the network; a name that is not listed here is unknown.
//!
//! Names are nft(8)'s, numbers those of Linux' headers and of IANA.

use std::net::Ipv6Addr;

use ringwall_packet::{Interval, Protocol, State, interface};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Datatype {
    Ipv4,
    Ipv6,
    /// Link-layer address.
    Ether,
    Protocol,
    Service,
    Nfproto,
    Ethertype,
    Interface,
    /// A short text, such as the kind of a link: as bytes, like an interface's name.
    Text,
    State,
    Status,
    Direction,
    IcmpType,
    IcmpCode,
    Icmpv6Type,
    Icmpv6Code,
    IgmpType,
    TcpFlags,
    Dscp,
    Ecn,
    PacketType,
    LinkType,
    /// Seconds since the epoch.
    Time,
    /// Seconds of a day.
    Hour,
    Day,
    Boolean,
    /// A number of so many bits that nft lists as `0x…`.
    Mark,
    Integer(u8),
    /// What a map to verdicts has as values.
    Verdict,
    /// Known by name; its values are not read here.
    Opaque,
}

/// Why a word is no value.
pub(super) type Why = &'static str;

pub(super) const NO_VALUE: Why = "is no value of the field";
pub(super) const NAME: Why = "is a name that only the host can look up";

impl Datatype {
    /// By the name that a set's `type` has.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ipv4_addr" => Self::Ipv4,
            "ipv6_addr" => Self::Ipv6,
            "ether_addr" | "ll_addr" => Self::Ether,
            "inet_proto" => Self::Protocol,
            "inet_service" => Self::Service,
            "nf_proto" => Self::Nfproto,
            "ether_type" => Self::Ethertype,
            "ifname" | "iface_index" => Self::Interface,
            "ct_state" => Self::State,
            "ct_status" => Self::Status,
            "ct_dir" => Self::Direction,
            "icmp_type" => Self::IcmpType,
            "icmp_code" => Self::IcmpCode,
            "icmpv6_type" => Self::Icmpv6Type,
            "icmpv6_code" => Self::Icmpv6Code,
            "igmp_type" => Self::IgmpType,
            "tcp_flag" => Self::TcpFlags,
            "dscp" => Self::Dscp,
            "pkt_type" => Self::PacketType,
            "iface_type" => Self::LinkType,
            "mark" => Self::Mark,
            "time" => Self::Time,
            "hour" => Self::Hour,
            "day" => Self::Day,
            "boolean" => Self::Boolean,
            "uid" | "gid" | "devgroup" | "classid" | "realm" | "integer" => Self::Integer(32),
            "verdict" => Self::Verdict,
            "string" => Self::Text,
            "icmpx_code" | "ct_label" | "ct_event" | "ct_id" | "fib_addrtype" | "cgroupsv2" | "arp_op" | "dccp_pkttype"
            | "mh_type" | "tc_handle" | "policy" | "ipsec_in_out" => Self::Opaque,
            _ => return None,
        })
    }

    /// The largest value.
    pub fn last(self) -> u128 {
        let bits = match self {
            Self::Ipv4 | Self::Mark => 32,
            Self::Ipv6 | Self::Interface | Self::Text | Self::Opaque | Self::Verdict => return u128::MAX,
            Self::Ether => 48,
            Self::Service | Self::Ethertype | Self::LinkType => 16,
            Self::Dscp => 6,
            Self::Ecn => 2,
            Self::State => return 4,
            Self::Direction | Self::Boolean => 1,
            Self::Time => 64,
            Self::Hour => return 86_399,
            Self::Day => return 6,
            Self::Status => 32,
            Self::Integer(bits) => bits,
            Self::Protocol
            | Self::Nfproto
            | Self::IcmpType
            | Self::IcmpCode
            | Self::Icmpv6Type
            | Self::Icmpv6Code
            | Self::IgmpType
            | Self::TcpFlags
            | Self::PacketType => 8,
        };
        1_u128.checked_shl(bits.into()).map_or(u128::MAX, |above| above - 1)
    }

    /// Whether several names with commas between them mean any of their bits.
    pub fn is_bits(self) -> bool {
        matches!(self, Self::State | Self::Status | Self::TcpFlags)
    }

    /// What a word means: a value, a prefix, a range, or a name with a wildcard.
    pub fn values(self, word: &str, is_quoted: bool) -> Result<Interval<u128>, Why> {
        if matches!(self, Self::Interface | Self::Text) {
            if let Some(prefix) = word.strip_suffix('*').filter(|prefix| !prefix.ends_with('\\')) {
                let all = ringwall_packet::interfaces_from(prefix).ok_or(NO_VALUE)?;
                return all.intervals().first().copied().ok_or(NO_VALUE);
            }
            return self.value(word).map(Interval::single);
        }
        if is_quoted {
            return self.value(word).map(Interval::single);
        }
        let bytes = word.as_bytes();
        if matches!(self, Self::Ipv4 | Self::Ipv6)
            && let Some((address, length)) = word.split_once('/')
        {
            return self.prefix(address, length);
        }
        // Names have dashes as well.
        if bytes.contains(&b'-') && !bytes[0].is_ascii_alphabetic() || (self == Self::Ipv6 && bytes.contains(&b'-')) {
            let (first, last) = word.split_once('-').ok_or(NO_VALUE)?;
            return Interval::new(self.value(first)?, self.value(last)?).ok_or("is a range that ends before it begins");
        }
        self.value(word).map(Interval::single)
    }

    fn prefix(self, address: &str, length: &str) -> Result<Interval<u128>, Why> {
        let bits = if self == Self::Ipv4 { 32 } else { 128 };
        let address = self.value(address)?;
        let length: u32 = length.parse().map_err(|_| NO_VALUE)?;
        let host = 1_u128.checked_shl(bits - length.min(bits)).map_or(u128::MAX, |above| above - 1);
        if length > bits {
            return Err(NO_VALUE);
        }
        Interval::new(address & !host, address | host).ok_or(NO_VALUE)
    }

    fn value(self, word: &str) -> Result<u128, Why> {
        match self {
            Self::Ipv4 => return ipv4(word).map(u128::from).ok_or(if is_name(word) { NAME } else { NO_VALUE }),
            Self::Ipv6 => {
                let address: Result<Ipv6Addr, _> = word.parse();
                return address.map(Ipv6Addr::to_bits).map_err(|_| if is_name(word) { NAME } else { NO_VALUE });
            }
            Self::Interface | Self::Text => return interface(word).ok_or("is longer than a name can be"),
            Self::Ether => return ether(word).ok_or(NO_VALUE),
            Self::Time => return time(word).ok_or(NO_VALUE),
            Self::Hour => return hour(word).ok_or(NO_VALUE),
            Self::Opaque | Self::Verdict => return Err("is of a type that is not read here"),
            Self::State => {
                let state = State::ALL.into_iter().find(|state| state.word() == word);
                return state.map(|state| state.values().first()).ok_or(NO_VALUE);
            }
            _ => {}
        }
        let number = number(word).or_else(|| self.constant(word)).ok_or(if is_name(word) { NAME } else { NO_VALUE })?;
        if number <= self.last() { Ok(number) } else { Err("is larger than the field can hold") }
    }

    fn constant(self, word: &str) -> Option<u128> {
        let table: &[(&str, u128)] = match self {
            Self::Protocol => {
                return Protocol::named(word).map(|protocol| protocol.0.into()).or_else(|| in_table(PROTOCOLS, word));
            }
            Self::Service => SERVICES,
            Self::Nfproto => &[("ipv4", 2), ("ipv6", 10)],
            Self::Ethertype => ETHERTYPES,
            Self::Direction => &[("original", 0), ("reply", 1)],
            Self::IcmpType => ICMP_TYPES,
            Self::IcmpCode => ICMP_CODES,
            Self::Icmpv6Type => ICMPV6_TYPES,
            Self::Icmpv6Code => ICMPV6_CODES,
            Self::IgmpType => IGMP_TYPES,
            Self::TcpFlags => TCP_FLAGS,
            Self::Status => STATUS,
            Self::Dscp => DSCP,
            Self::Ecn => &[("not-ect", 0), ("ect1", 1), ("ect0", 2), ("ce", 3)],
            Self::PacketType => &[("host", 0), ("unicast", 0), ("broadcast", 1), ("multicast", 2), ("other", 3)],
            Self::LinkType => &[("ether", 1), ("ppp", 512), ("ipip", 768), ("ipip6", 769), ("loopback", 772), ("sit", 776), ("ipgre", 778)],
            Self::Boolean => &[("exists", 1), ("missing", 0)],
            Self::Day => return day(word),
            // The only user whose number is the same everywhere.
            Self::Integer(32) => &[("root", 0)],
            _ => &[],
        };
        in_table(table, word)
    }
}

fn in_table(table: &[(&str, u128)], word: &str) -> Option<u128> {
    table.iter().find(|(name, _)| *name == word).map(|(_, value)| *value)
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// Decimal or `0x…`.
pub(super) fn number(word: &str) -> Option<u128> {
    match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(digits) => u128::from_str_radix(digits, 16).ok(),
        None if word.starts_with(|c: char| c.is_ascii_digit()) => word.parse().ok(),
        None => None,
    }
}

fn ipv4(word: &str) -> Option<u32> {
    let (mut address, mut parts, mut part, mut digits) = (0_u32, 0, 0_u32, 0);
    for byte in word.bytes() {
        match byte {
            b'0'..=b'9' if digits < 3 => {
                part = part * 10 + u32::from(byte - b'0');
                digits += 1;
            }
            b'.' if digits > 0 && parts < 3 && part < 256 => {
                address = address << 8 | part;
                (part, digits) = (0, 0);
                parts += 1;
            }
            _ => return None,
        }
    }
    if parts == 3 && digits > 0 && part < 256 {
        return Some(address << 8 | part);
    }
    // Older forms, such as a number, are left to the library of the host.
    None
}

fn ether(word: &str) -> Option<u128> {
    let parts: Vec<u8> = word.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect::<Option<_>>()?;
    (parts.len() == 6).then(|| parts.iter().fold(0, |all, part| all << 8 | u128::from(*part)))
}

/// Seconds, or `2026-11-01 12:00:00`, which counts as UTC.
fn time(word: &str) -> Option<u128> {
    if let Some(seconds) = number(word) {
        return Some(seconds).filter(|seconds| *seconds <= u128::from(u64::MAX));
    }
    let (date, hours) = word.split_once(' ').unwrap_or((word, "0:00"));
    let mut parts = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() || !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since the epoch of the Gregorian calendar, with years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469;
    u128::try_from(days).ok()?.checked_mul(86_400)?.checked_add(hour(hours)?)
}

/// `17:00`, `17:00:30` or seconds.
fn hour(word: &str) -> Option<u128> {
    if !word.contains(':') {
        return number(word).filter(|seconds| *seconds <= Datatype::Hour.last());
    }
    let parts: Vec<u128> = word.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    match parts[..] {
        [hours @ 0..24, minutes @ 0..60] => Some(hours * 3600 + minutes * 60),
        [hours @ 0..24, minutes @ 0..60, seconds @ 0..60] => Some(hours * 3600 + minutes * 60 + seconds),
        _ => None,
    }
}

fn day(word: &str) -> Option<u128> {
    const DAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
    let word = word.to_ascii_lowercase();
    let found = DAYS.iter().position(|day| day.starts_with(&word) && word.len() >= 3);
    found.map(|day| day as u128)
}

const PROTOCOLS: &[(&str, u128)] = &[
    ("ip", 0), ("hopopt", 0), ("ipencap", 4), ("ipip", 94), ("egp", 8), ("ipv6", 41), ("ipv6-route", 43), ("ipv6-frag", 44),
    ("rsvp", 46), ("ipv6-icmp", 58), ("ipv6-nonxt", 59), ("ipv6-opts", 60), ("ospf", 89), ("pim", 103), ("ipcomp", 108),
    ("comp", 108), ("l2tp", 115), ("mobility-header", 135),
];

/// Names that `/etc/services` has everywhere.
const SERVICES: &[(&str, u128)] = &[
    ("echo", 7), ("discard", 9), ("daytime", 13), ("ftp-data", 20), ("ftp", 21), ("ssh", 22), ("telnet", 23), ("smtp", 25),
    ("time", 37), ("whois", 43), ("tacacs", 49), ("domain", 53), ("bootps", 67), ("bootpc", 68), ("tftp", 69), ("gopher", 70),
    ("finger", 79), ("http", 80), ("www", 80), ("kerberos", 88), ("pop3", 110), ("sunrpc", 111), ("auth", 113), ("ident", 113),
    ("nntp", 119), ("ntp", 123), ("epmap", 135), ("netbios-ns", 137), ("netbios-dgm", 138), ("netbios-ssn", 139),
    ("imap2", 143), ("imap", 143), ("snmp", 161), ("snmp-trap", 162), ("snmptrap", 162), ("xdmcp", 177), ("bgp", 179),
    ("irc", 194), ("ldap", 389), ("https", 443), ("microsoft-ds", 445), ("kpasswd", 464), ("submissions", 465), ("isakmp", 500),
    ("exec", 512), ("login", 513), ("shell", 514), ("syslog", 514), ("printer", 515), ("route", 520), ("dhcpv6-client", 546),
    ("dhcpv6-server", 547), ("rtsp", 554), ("nntps", 563), ("submission", 587), ("ipp", 631), ("ldaps", 636), ("rsync", 873),
    ("domain-s", 853), ("ftps-data", 989), ("ftps", 990), ("telnets", 992), ("imaps", 993), ("pop3s", 995), ("socks", 1080),
    ("openvpn", 1194), ("ms-sql-s", 1433), ("ms-sql-m", 1434), ("l2f", 1701), ("l2tp", 1701), ("radius", 1812),
    ("radius-acct", 1813), ("mqtt", 1883), ("nfs", 2049), ("mysql", 3306), ("ms-wbt-server", 3389), ("nut", 3493),
    ("ipsec-nat-t", 4500), ("iax", 4569), ("sip", 5060), ("sip-tls", 5061), ("xmpp-client", 5222), ("xmpp-server", 5269),
    ("mdns", 5353), ("postgresql", 5432), ("amqps", 5671), ("amqp", 5672), ("x11", 6000), ("redis", 6379), ("git", 9418),
    ("http-alt", 8080), ("webmin", 10000), ("zabbix-agent", 10050), ("zabbix-trapper", 10051),
];

const ETHERTYPES: &[(&str, u128)] =
    &[("ip", 0x0800), ("arp", 0x0806), ("ip6", 0x86dd), ("8021q", 0x8100), ("8021ad", 0x88a8), ("vlan", 0x8100)];

const ICMP_TYPES: &[(&str, u128)] = &[
    ("echo-reply", 0), ("destination-unreachable", 3), ("source-quench", 4), ("redirect", 5), ("echo-request", 8),
    ("router-advertisement", 9), ("router-solicitation", 10), ("time-exceeded", 11), ("parameter-problem", 12),
    ("timestamp-request", 13), ("timestamp-reply", 14), ("info-request", 15), ("info-reply", 16), ("address-mask-request", 17),
    ("address-mask-reply", 18),
];

const ICMP_CODES: &[(&str, u128)] = &[
    ("net-unreachable", 0), ("host-unreachable", 1), ("prot-unreachable", 2), ("port-unreachable", 3), ("frag-needed", 4),
    ("net-prohibited", 9), ("host-prohibited", 10), ("admin-prohibited", 13),
];

const ICMPV6_TYPES: &[(&str, u128)] = &[
    ("destination-unreachable", 1), ("packet-too-big", 2), ("time-exceeded", 3), ("parameter-problem", 4),
    ("echo-request", 128), ("echo-reply", 129), ("mld-listener-query", 130), ("mld-listener-report", 131),
    ("mld-listener-done", 132), ("mld-listener-reduction", 132), ("nd-router-solicit", 133), ("nd-router-advert", 134),
    ("nd-neighbor-solicit", 135), ("nd-neighbor-advert", 136), ("nd-redirect", 137), ("router-renumbering", 138),
    ("ind-neighbor-solicit", 141), ("ind-neighbor-advert", 142), ("mld2-listener-report", 143),
];

const ICMPV6_CODES: &[(&str, u128)] = &[
    ("no-route", 0), ("admin-prohibited", 1), ("addr-unreachable", 3), ("port-unreachable", 4), ("policy-fail", 5),
    ("reject-route", 6),
];

const IGMP_TYPES: &[(&str, u128)] = &[
    ("membership-query", 0x11), ("membership-report-v1", 0x12), ("membership-report-v2", 0x16), ("leave-group", 0x17),
    ("membership-report-v3", 0x22),
];

const TCP_FLAGS: &[(&str, u128)] =
    &[("fin", 1), ("syn", 2), ("rst", 4), ("psh", 8), ("ack", 16), ("urg", 32), ("ecn", 64), ("cwr", 128)];

/// `enum ip_conntrack_status` of Linux.
pub(super) const STATUS: &[(&str, u128)] = &[
    ("expected", 1), ("seen-reply", 2), ("assured", 4), ("confirmed", 8), ("snat", 16), ("dnat", 32), ("dying", 512),
];

const DSCP: &[(&str, u128)] = &[
    ("cs0", 0), ("cs1", 8), ("cs2", 16), ("cs3", 24), ("cs4", 32), ("cs5", 40), ("cs6", 48), ("cs7", 56), ("df", 0), ("be", 0),
    ("lephb", 1), ("va", 44), ("af11", 10), ("af12", 12), ("af13", 14), ("af21", 18), ("af22", 20), ("af23", 22), ("af31", 26),
    ("af32", 28), ("af33", 30), ("af41", 34), ("af42", 36), ("af43", 38), ("ef", 46),
];
