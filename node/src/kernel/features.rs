//! What our texts need of the kernel and of nft, tried for real where nothing can come of it.
//!
//! In: nft. Out: what is missing, with what brings it. Never: a change of anybody's rules: it is loaded in a network
//! namespace that nobody is in, and that ends with the thread.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nix::sched::{CloneFlags, unshare};
use ringwall_packet::{AddressSet, Interval, IntervalSet, Protocol, UpperCube, UpperSet};
use ringwall_ruleset::nftables::{Confirm, Generation, Installed, transaction};
use ringwall_ruleset::{CLOCK_MIN, Effect, Entry, Floor, Forward, Ruleset};

use super::nft::{Nft, NftError};

/// Something that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// In nftables' words.
    pub feature: String,
    /// The kernel's modules or options, or what to install.
    pub by: &'static str,
    pub said: String,
}

/// One thing that our texts need, as the contents of a table.
const FEATURES: &[(&str, &str, &str)] = &[
    ("tables of the family inet", "nf_tables (CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET)", ""),
    ("base chains of type filter", "nf_tables (CONFIG_NF_TABLES_INET)", "chain c { type filter hook input priority raw; policy accept; }"),
    ("ct state", "nft_ct, nf_conntrack", "chain c { ct state established,related accept; }"),
    ("ct mark", "nf_conntrack (CONFIG_NF_CONNTRACK_MARK)", "chain c { ct mark set ct mark and 0xffffff00 or 0x1; }"),
    ("ct timeout", "nfnetlink_cttimeout (CONFIG_NF_CONNTRACK_TIMEOUT)", "ct timeout t { protocol tcp; l3proto ip; policy = { established : 60 }; }"),
    ("named counters", "nft_counter", "counter n { }; chain c { counter name \"n\" accept; }"),
    ("log to a group", "nft_log, nfnetlink_log", "chain c { limit rate 10/second log prefix \"p\" group 8677; }"),
    ("reject", "nft_reject_inet", "chain c { meta l4proto tcp reject with tcp reset; reject with icmpx admin-prohibited; }"),
    ("sets with timeouts", "nft_set_hash", "set s { type ipv4_addr; size 1024; flags timeout; }"),
    ("sets of intervals", "nft_set_rbtree", "set s { type ipv6_addr; flags interval; elements = { 2001:db8::/32 } }"),
    ("verdict maps of concatenations with intervals", "Linux 5.6 or newer (nft_set_pipapo)",
        "map m { type ipv4_addr . inet_service : verdict; flags interval; elements = { 192.0.2.0/24 . 80-90 : accept } }"),
    ("meta time", "Linux 5.4 or newer", "chain c { meta time < 4102444800 accept; }"),
];

/// What of it this machine lacks; `None`: a namespace to try it in can't be made.
pub fn missing(nft: &Nft) -> Option<Vec<Missing>> {
    std::thread::scope(|scope| {
        let tried = scope.spawn(|| unshare(CloneFlags::CLONE_NEWNET).ok().map(|()| try_all(nft)));
        tried.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn try_all(nft: &Nft) -> Vec<Missing> {
    let tried = |table: &str, content: &str| nft.load(&format!("table inet {table} {{\n{content}\n}}\n")).err();
    let of = |(at, (feature, by, content)): (usize, &(&str, &'static str, &str))| {
        let error = tried(&format!("t{at}"), content)?;
        Some(Missing { feature: (*feature).into(), by, said: error.to_string() })
    };
    let mut missing: Vec<Missing> = FEATURES.iter().enumerate().filter_map(of).collect();
    if missing.is_empty() {
        // The very text of a node that uses all of it.
        let whole = transaction(&everything(), Generation(1), &Installed::default(), Confirm::Within(1));
        if let Err(error) = nft.load(&whole) {
            let feature = match &error {
                NftError::MissingFeature { feature, .. } => feature.clone(),
                _ => "a ruleset that uses everything".into(),
            };
            missing.push(Missing { feature, by: "a newer kernel, or a newer package nftables", said: error.to_string() });
        }
    }
    missing
}

/// Each kind of match and statement that our texts have.
fn everything() -> Ruleset {
    let address = |text: &str| text.parse::<IpAddr>().expect("a constant address");
    let v4 = Interval::new([192, 0, 2, 0].into(), [192, 0, 2, 255].into()).expect("in order");
    let v6 = Interval::new([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 9].into()).expect("in order");
    let source = AddressSet { v4: v4.into(), v6: v6.into() };
    let ports = |first, last| UpperCube::ports(Protocol::TCP, IntervalSet::from(Interval::new(first, last).expect("in order")));
    let entry = |id: &str, effect, expires, interface: Option<&str>, upper: UpperSet| Entry {
        id: id.into(),
        effect,
        source: source.clone(),
        destination: AddressSet::full(),
        names: BTreeSet::new(),
        upper,
        interface: interface.map(str::to_owned),
        expires,
        audit: false,
        log: true,
    };
    let accept = Effect::Accept { session_timeout: Some(600) };
    let entries = vec![
        entry("00000001", Effect::Drop, None, Some("lo"), ports(80, 80).into_iter().collect()),
        entry("00000002", Effect::Reject, None, None, ports(1000, 2000).into_iter().collect()),
        entry("00000003", accept, Some(CLOCK_MIN + 1), None, ports(22, 443).into_iter().collect()),
        entry("00000004", accept, None, None, UpperSet::any()),
    ];
    Ruleset {
        node: "trial".into(),
        audit: false,
        local: address("192.0.2.1").into(),
        protected: address("198.51.100.1").into(),
        floor: Floor { dhcp: true, neighbour_discovery: true, multicast_listener: true },
        input: entries.clone(),
        output: entries,
        forward: Forward::Containers { unmanaged: ["br0".to_owned()].into(), uplinks: ["br1".to_owned()].into() },
    }
}
