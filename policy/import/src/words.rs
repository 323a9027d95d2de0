//! The words that guides use for protocols, directions and machines.
//!
//! In: a word. Out: what it stands for. Never: a product's name; a guide is understood by the words
//! of the trade alone.

use ringwall_packet::Protocol;

const IPIP: Protocol = Protocol(4);
const EIGRP: Protocol = Protocol(88);
const OSPF: Protocol = Protocol(89);
const PIM: Protocol = Protocol(103);
const L2TP: Protocol = Protocol(115);

/// Names beside those that nftables knows; numbers from IANA, "Protocol Numbers".
const PROTOCOLS: &[(&str, Protocol)] = &[
    ("tcp4", Protocol::TCP),
    ("tcp6", Protocol::TCP),
    ("udp4", Protocol::UDP),
    ("udp6", Protocol::UDP),
    ("icmpv4", Protocol::ICMP),
    ("icmp4", Protocol::ICMP),
    ("icmp6", Protocol::ICMPV6),
    ("icmp-v6", Protocol::ICMPV6),
    ("ipv6-icmp", Protocol::ICMPV6),
    ("ping", Protocol::ICMP),
    ("ipip", IPIP),
    ("ipencap", IPIP),
    ("ip-in-ip", IPIP),
    ("eigrp", EIGRP),
    ("ospf", OSPF),
    ("pim", PIM),
    ("keepalived", Protocol::VRRP),
    ("l2tpv3", L2TP),
];

/// A transport or other IP protocol by name.
pub(crate) fn protocol(word: &str) -> Option<Protocol> {
    let word = word.to_ascii_lowercase();
    let known = PROTOCOLS.iter().find(|(name, _)| *name == word).map(|(_, protocol)| *protocol);
    known.or_else(|| Protocol::named(&word))
}

/// The name in lower case.
pub(crate) fn protocol_name(protocol: Protocol) -> Option<&'static str> {
    let ours = [(IPIP, "ipip"), (EIGRP, "eigrp"), (OSPF, "ospf"), (PIM, "pim")];
    protocol.name().or_else(|| ours.iter().find(|(known, _)| *known == protocol).map(|(_, name)| *name))
}

const OVER_TCP: &[&str] = &[
    "http",
    "https",
    "tls",
    "ssl",
    "mtls",
    "ssh",
    "sftp",
    "scp",
    "ftp",
    "ftps",
    "telnet",
    "smtp",
    "smtps",
    "starttls",
    "imap",
    "imaps",
    "pop3",
    "pop3s",
    "ldap",
    "ldaps",
    "rdp",
    "smb",
    "cifs",
    "mysql",
    "mariadb",
    "postgres",
    "postgresql",
    "mssql",
    "ms-sql",
    "tds",
    "jdbc",
    "odbc",
    "oracle",
    "mongodb",
    "redis",
    "amqp",
    "amqps",
    "mqtt",
    "mqtts",
    "stomp",
    "xmpp",
    "ws",
    "wss",
    "websocket",
    "websockets",
    "grpc",
    "rest",
    "soap",
    "iscsi",
    "nfsv4",
    "vnc",
    "rtmp",
    "kafka",
    "bgp",
    "winrm",
    "wsman",
    "rmi",
    "jmx",
    "git",
    "nvme-tcp",
    "etcd",
    "web",
    "rsync",
    "mqtt/tls",
];

const OVER_UDP: &[&str] = &[
    "ntp",
    "snmp",
    "snmptrap",
    "tftp",
    "dhcp",
    "bootp",
    "vxlan",
    "geneve",
    "wireguard",
    "quic",
    "radius",
    "netflow",
    "ipfix",
    "sflow",
    "bfd",
    "ike",
    "isakmp",
    "ipsec-nat-t",
    "rtp",
    "rtcp",
    "srtp",
    "stun",
    "ssdp",
    "mdns",
    "llmnr",
];

/// The transport under an application protocol that runs over one only; `None` for such as DNS or
/// syslog, which run over both.
pub(crate) fn carrier(word: &str) -> Option<Protocol> {
    let word = word.to_ascii_lowercase();
    let is_in = |list: &[&str]| list.contains(&word.as_str());
    if is_in(OVER_TCP) {
        return Some(Protocol::TCP);
    }
    is_in(OVER_UDP).then_some(Protocol::UDP)
}

/// Application protocols that run over TCP and UDP both, so that they are known words but say nothing.
pub(crate) const OVER_BOTH: &[&str] = &[
    "dns",
    "syslog",
    "sip",
    "kerberos",
    "rpc",
    "nfs",
    "tacacs",
    "tacacs+",
    "dcom",
    "netbios",
    "dtls",
    "rtsp",
    "ntlm",
    "msrpc",
    "ipsec",
    "esp-udp",
    "application",
    "proprietary",
    "internal",
    "custom",
    "binary",
];

const MACHINES: &[&str] = &[
    "agent",
    "appliance",
    "broker",
    "browser",
    "center",
    "centre",
    "client",
    "cluster",
    "collector",
    "connector",
    "console",
    "controller",
    "database",
    "datacenter",
    "dashboard",
    "desktop",
    "device",
    "endpoint",
    "engine",
    "firewall",
    "forwarder",
    "gateway",
    "host",
    "hypervisor",
    "indexer",
    "instance",
    "loadbalancer",
    "balancer",
    "machine",
    "manager",
    "master",
    "member",
    "monitor",
    "network",
    "node",
    "orchestrator",
    "plane",
    "peer",
    "phone",
    "pod",
    "portal",
    "probe",
    "proxy",
    "registry",
    "relay",
    "replica",
    "repository",
    "router",
    "runner",
    "satellite",
    "scanner",
    "sensor",
    "server",
    "standby",
    "station",
    "storage",
    "switch",
    "system",
    "vm",
    "worker",
    "workstation",
];

/// Whether the word, in singular or plural, names a kind of machine.
pub(crate) fn is_machine(word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_alphanumeric() && c != ')').to_lowercase();
    let word = word.strip_suffix("(s)").unwrap_or(&word);
    let word = word.strip_prefix("all-").unwrap_or(word);
    let is_known = |word: &str| MACHINES.contains(&word);
    is_known(word)
        || word.strip_suffix('s').is_some_and(is_known)
        || word.strip_suffix("es").is_some_and(is_known)
        || word.strip_suffix("ies").is_some_and(|stem| MACHINES.contains(&format!("{stem}y").as_str()))
}

/// Whether the last word is of people who use machines.
pub(crate) fn is_person(name: &str) -> bool {
    let last = name.split_whitespace().next_back().unwrap_or("").to_lowercase();
    matches!(last.trim_end_matches('s'), "administrator" | "admin" | "operator" | "developer" | "customer" | "employee")
}

/// Whether the name is of something that opens connections and accepts none.
pub(crate) fn is_client(name: &str) -> bool {
    let last = name.split_whitespace().next_back().unwrap_or("").to_lowercase();
    matches!(last.trim_end_matches('s'), "client" | "browser" | "user" | "workstation")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flowing {
    Inbound,
    Outbound,
    Both,
}

/// The direction that a text speaks of, relative to a machine named elsewhere.
pub(crate) fn flowing(text: &str) -> Option<Flowing> {
    let text = text.to_lowercase();
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '-').collect();
    let has = |list: &[&str]| words.iter().any(|word| list.contains(word));
    let inbound = has(&["inbound", "incoming", "ingress", "in", "listen", "listening", "receive"]);
    let outbound = has(&["outbound", "outgoing", "egress", "out", "send"]);
    let both = has(&["both", "bidirectional", "bi-directional", "bidirectionally", "two-way", "duplex", "mutual"])
        || text.contains("any direction");
    match (inbound, outbound) {
        (true, true) => Some(Flowing::Both),
        _ if both => Some(Flowing::Both),
        (true, false) => Some(Flowing::Inbound),
        (false, true) => Some(Flowing::Outbound),
        (false, false) => None,
    }
}

/// As [`flowing`], but "in" and "out" alone are too common in sentences to count.
pub(crate) fn flowing_in_prose(text: &str) -> Option<Flowing> {
    let words = text.split_whitespace().filter(|word| {
        let word = word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
        !matches!(word.as_str(), "in" | "out" | "both" | "listen" | "receive" | "send" | "mutual" | "listening")
    });
    flowing(&words.collect::<Vec<_>>().join(" "))
}

/// `any`, `all`, `*`: every value of the field.
pub(crate) fn is_any(text: &str) -> bool {
    let text = text.trim().trim_end_matches(['.', '†']).to_lowercase();
    matches!(
        text.as_str(),
        "any"
            | "all"
            | "*"
            | "any port"
            | "all ports"
            | "any any"
            | "any/any"
            | "all traffic"
            | "any protocol"
            | "all protocols"
            | "0-65535"
            | "1-65535"
            | "ip"
            | "any ip"
    )
}

/// Whether a heading is about traffic that must not be.
pub(crate) fn denies(title: &str) -> bool {
    let title = title.to_lowercase();
    let has = |list: &[&str]| title.split(|c: char| !c.is_alphanumeric()).any(|word| list.contains(&word));
    has(&["blocked", "denied", "deny", "forbidden", "prohibited", "disallowed"])
        || title.contains("not allowed")
        || title.contains("must be closed")
        || title.contains("to block")
}

/// Whether a text is nothing but a word that denies.
pub(crate) fn is_denial(text: &str) -> bool {
    let text = text.trim().trim_end_matches('.').to_lowercase();
    matches!(&*text, "deny" | "denied" | "block" | "blocked" | "drop" | "dropped" | "reject" | "forbidden")
}

const YES: [&str; 11] = ["yes", "y", "x", "✓", "✔", "true", "●", "•", "open", "required", "optional"];
const NO: [&str; 6] = ["no", "n", "✗", "✘", "false", "closed"];

/// A tick.
pub(crate) fn is_yes(text: &str) -> bool {
    YES.contains(&text.trim().to_lowercase().as_str())
}

pub(crate) fn is_no(text: &str) -> bool {
    NO.contains(&text.trim().to_lowercase().as_str())
}

pub(crate) fn is_yes_or_no(text: &str) -> bool {
    is_yes(text) || is_no(text)
}

/// A cell that says that there is nothing to say.
pub(crate) fn is_blank(text: &str) -> bool {
    let text = text.trim().to_lowercase();
    matches!(
        text.as_str(),
        "" | "-" | "--" | "---" | "–" | "—" | "n/a" | "na" | "none" | "not applicable" | "n.a." | "n/a." | "tbd" | "?"
    )
}

/// A cell that means the one above it.
pub(crate) fn is_ditto(text: &str) -> bool {
    let text = text.trim().to_lowercase();
    matches!(
        text.as_str(),
        "\"" | "''" | "″" | "〃" | "//" | "”" | "ditto" | "do." | "same" | "same as above" | "as above" | "\"\"" | "^"
    )
}
