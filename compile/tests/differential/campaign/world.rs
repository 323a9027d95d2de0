//! Where the campaign takes place: three zones, a node in each, and what stands around it.

use std::net::IpAddr;

use ipnet::IpNet;
use ringwall_packet::{AddressSet, Flow};
use ringwall_ruleset::Path;

pub const ZONES: [[&str; 2]; 3] = [
    ["192.0.2.0/24", "2001:db8::/48"],
    ["198.51.100.0/24", "2001:db8:1::/48"],
    ["203.0.113.0/24", "2001:db8:2::/48"],
];

/// Addresses that may move to any node.
pub const FLOATING: [&str; 2] = ["192.0.2.240/28", "2001:db8:f::/64"];

/// What every host on a link receives (RFC 1112 §4, RFC 919, RFC 4291 §2.7.1).
const TO_ALL: [&str; 3] = ["224.0.0.1/32", "255.255.255.255/32", "ff02::1/128"];

pub fn prefixes<'a>(texts: impl IntoIterator<Item = &'a str>) -> AddressSet {
    texts.into_iter().map(|text| text.parse::<IpNet>().expect("a constant prefix")).collect()
}

/// One node's surroundings: its own zone, the next one to the west, all else to the east.
#[derive(Clone, Debug)]
pub struct World {
    pub zone: usize,
    /// What the kernel takes for its own.
    pub local: AddressSet,
    pub west: AddressSet,
    to_all: AddressSet,
    /// What IPv4 and IPv6 forbid as a source on a link (RFC 1122 §3.2.1.3, RFC 4291 §2), and what a
    /// router passes over.
    no_source: AddressSet,
    no_route: AddressSet,
    no_output: AddressSet,
}

impl World {
    pub fn new(zone: usize) -> Self {
        let nobody = ["0.0.0.0/8", "127.0.0.0/8", "::/8"];
        Self {
            zone,
            local: prefixes(ZONES[zone]).union(&prefixes(FLOATING)),
            west: prefixes(ZONES[(zone + 1) % 3]).difference(&prefixes(FLOATING)),
            to_all: prefixes(TO_ALL),
            no_source: prefixes(nobody.into_iter().chain(["224.0.0.0/4", "255.255.255.255/32", "ff00::/8"])),
            no_route: prefixes(nobody.into_iter().chain([
                "224.0.0.0/4", "255.255.255.255/32", "fe80::/10", "ff00::/8",
            ])),
            // Multicast needs an interface where its scope is the link, broadcast a permission.
            no_output: prefixes(["0.0.0.0/8", "127.0.0.0/32", "127.255.255.255/32", "255.255.255.255/32", "::/8", "fe80::/10", "ff00::/8"])
                .difference(&prefixes(["ff0e::/16"])),
        }
    }

    /// Addresses that the node receives packets for.
    pub fn received(&self) -> AddressSet {
        self.local.union(&self.to_all)
    }

    /// Where a packet to this address leaves.
    pub fn way_out(&self, to: IpAddr) -> &'static str {
        if self.local.contains(to) || to.is_loopback() {
            "lo"
        } else if self.west.contains(to) {
            "west"
        } else {
            "east"
        }
    }

    /// Whether the kernel brings such a packet to the path's rules at all.
    pub fn is_possible(&self, path: Path, flow: &Flow) -> bool {
        let (from, to) = (flow.source(), flow.destination());
        match path {
            Path::Input => {
                !self.no_source.contains(from)
                    && !self.local.contains(from)
                    && (self.local.contains(to) || self.to_all.contains(to))
            }
            Path::Output => !self.no_source.contains(from) && !self.no_output.contains(to),
            Path::Forward => {
                let passes = |address| !self.no_route.contains(address) && !self.local.contains(address);
                passes(from) && passes(to) && !self.no_source.contains(from)
            }
        }
    }
}
