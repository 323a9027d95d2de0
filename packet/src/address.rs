//! Sets of addresses of both families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};

use crate::interval::{Interval, IntervalSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A set of IPv4 and IPv6 addresses. IPv4-mapped IPv6 addresses are the IPv4 addresses they carry
/// when they are given one by one or as a prefix of 96 bits or more.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressSet {
    pub v4: IntervalSet<Ipv4Addr>,
    pub v6: IntervalSet<Ipv6Addr>,
}

impl AddressSet {
    pub fn full() -> Self {
        Self { v4: IntervalSet::full(), v6: IntervalSet::full() }
    }

    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.v4.is_full() && self.v6.is_full()
    }

    pub fn has(&self, family: Family) -> bool {
        match family {
            Family::V4 => !self.v4.is_empty(),
            Family::V6 => !self.v6.is_empty(),
        }
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.contains(address),
            IpAddr::V6(address) => self.v6.contains(address),
        }
    }

    pub fn union(&self, other: &Self) -> Self {
        Self { v4: self.v4.union(&other.v4), v6: self.v6.union(&other.v6) }
    }

    pub fn intersection(&self, other: &Self) -> Self {
        Self { v4: self.v4.intersection(&other.v4), v6: self.v6.intersection(&other.v6) }
    }

    pub fn difference(&self, other: &Self) -> Self {
        Self { v4: self.v4.difference(&other.v4), v6: self.v6.difference(&other.v6) }
    }

    pub fn complement(&self) -> Self {
        Self { v4: self.v4.complement(), v6: self.v6.complement() }
    }

    pub fn is_subset(&self, other: &Self) -> bool {
        self.v4.is_subset(&other.v4) && self.v6.is_subset(&other.v6)
    }

    pub fn is_disjoint(&self, other: &Self) -> bool {
        self.v4.is_disjoint(&other.v4) && self.v6.is_disjoint(&other.v6)
    }

    /// The smallest address of each family.
    pub fn witnesses(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.v4.first().map(IpAddr::from);
        v4.into_iter().chain(self.v6.first().map(IpAddr::from))
    }

    /// The fewest prefixes that cover exactly this set, IPv4 first, in order.
    pub fn prefixes(&self) -> Vec<IpNet> {
        let v4 = self.v4.intervals().iter().flat_map(|interval| {
            Ipv4Subnets::new(interval.first(), interval.last(), 0).map(IpNet::V4)
        });
        let v6 = self.v6.intervals().iter().flat_map(|interval| {
            Ipv6Subnets::new(interval.first(), interval.last(), 0).map(IpNet::V6)
        });
        v4.chain(v6).collect()
    }
}

impl From<IpAddr> for AddressSet {
    fn from(address: IpAddr) -> Self {
        IpNet::from(address).into()
    }
}

/// Host bits of the prefix are ignored; who reads an operator's text refuses them first.
impl From<IpNet> for AddressSet {
    fn from(prefix: IpNet) -> Self {
        match prefix {
            IpNet::V4(prefix) => Self { v4: prefix_v4(prefix), ..Self::default() },
            IpNet::V6(prefix) => match (prefix.network().to_ipv4_mapped(), prefix.prefix_len().checked_sub(96)) {
                (Some(network), Some(length)) => {
                    let prefix = Ipv4Net::new_assert(network, length);
                    Self { v4: prefix_v4(prefix), ..Self::default() }
                }
                _ => Self { v6: prefix_v6(prefix), ..Self::default() },
            },
        }
    }
}

impl FromIterator<IpNet> for AddressSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(prefixes: I) -> Self {
        let sets: Vec<Self> = prefixes.into_iter().map(Self::from).collect();
        sets.into_iter().collect()
    }
}

impl FromIterator<AddressSet> for AddressSet {
    fn from_iter<I: IntoIterator<Item = AddressSet>>(sets: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for set in sets {
            v4.extend_from_slice(set.v4.intervals());
            v6.extend_from_slice(set.v6.intervals());
        }
        Self { v4: v4.into_iter().collect(), v6: v6.into_iter().collect() }
    }
}

impl FromIterator<IpAddr> for AddressSet {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        addresses.into_iter().map(IpNet::from).collect()
    }
}

fn prefix_v4(prefix: Ipv4Net) -> IntervalSet<Ipv4Addr> {
    Interval::new(prefix.network(), prefix.broadcast()).into_iter().collect()
}

fn prefix_v6(prefix: Ipv6Net) -> IntervalSet<Ipv6Addr> {
    Interval::new(prefix.network(), prefix.broadcast()).into_iter().collect()
}

/// Addresses that are nobody's on the internet: IANA's special-purpose registries (RFC 6890, as
/// updated), plus multicast (RFC 5771, RFC 4291) and the reserved class E.
///
/// The documentation prefixes of RFC 5737 and RFC 3849 are left out on purpose: they are never
/// routed, and laboratories use them to stand for the internet.
pub fn not_global() -> AddressSet {
    const PREFIXES: &[&str] = &[
        "0.0.0.0/8",       // "this network", RFC 791
        "10.0.0.0/8",      // private, RFC 1918
        "100.64.0.0/10",   // shared, RFC 6598
        "127.0.0.0/8",     // loopback, RFC 1122
        "169.254.0.0/16",  // link-local, RFC 3927
        "172.16.0.0/12",   // private, RFC 1918
        "192.0.0.0/24",    // protocol assignments, RFC 6890
        "192.88.99.0/24",  // deprecated 6to4 relay, RFC 7526
        "192.168.0.0/16",  // private, RFC 1918
        "198.18.0.0/15",   // benchmarking, RFC 2544
        "224.0.0.0/4",     // multicast, RFC 5771
        "240.0.0.0/4",     // reserved, RFC 1112, and limited broadcast, RFC 919
        "::/8",            // unspecified, loopback and mapped addresses, RFC 4291
        "64:ff9b:1::/48",  // local-use translation, RFC 8215
        "100::/64",        // discard-only, RFC 6666
        "2001::/23",       // protocol assignments, RFC 2928
        "5f00::/16",       // segment routing identifiers, RFC 9602
        "fc00::/7",        // unique local, RFC 4193
        "fe80::/10",       // link-local, RFC 4291
        "fec0::/10",       // deprecated site-local, RFC 3879
        "ff00::/8",        // multicast, RFC 4291
    ];
    PREFIXES.iter().map(|prefix| prefix.parse::<IpNet>().expect("a constant prefix")).collect()
}

/// The multicast addresses (RFC 5771, RFC 4291) and the limited broadcast (RFC 919).
pub fn of_many() -> AddressSet {
    const PREFIXES: &[&str] = &["224.0.0.0/4", "255.255.255.255/32", "ff00::/8"];
    PREFIXES.iter().map(|prefix| prefix.parse::<IpNet>().expect("a constant prefix")).collect()
}

/// Addresses that no machine elsewhere is known by: unspecified, loopback (RFC 1122, RFC 4291), link-local (RFC 3927,
/// RFC 4291), which a machine needs to have neighbours at all, and those of many.
pub fn of_no_one() -> AddressSet {
    const PREFIXES: &[&str] = &["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "::/127", "fe80::/10"];
    of_many().union(&PREFIXES.iter().map(|prefix| prefix.parse::<IpNet>().expect("a constant prefix")).collect())
}

/// Whether the address is from a documentation prefix (RFC 5737, RFC 3849, RFC 9637).
pub fn is_documentation(address: IpAddr) -> bool {
    const PREFIXES: &[&str] =
        &["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"];
    PREFIXES.iter().any(|prefix| prefix.parse::<IpNet>().expect("a constant prefix").contains(&address))
}
