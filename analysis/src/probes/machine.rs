//! The machines that probes can run on.
//!
//! In: a policy's nodes, and the vantages that the operator names. Out: [`Machine`]s with their
//! addresses. Never: a machine that nobody declared.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use ringwall_packet::{AddressSet, Family};
use ringwall_policy::{Name, Policy, Stage};

/// The most addresses of one machine and family that are probed; of more, the first ones stand for all.
const MOST_ADDRESSES: usize = 16;

/// A machine without enforcement of its own from which, or to which, probes can be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vantage {
    pub name: Name,
    pub addresses: Vec<IpAddr>,
}

/// `NAME=ADDRESS[,ADDRESS…]`.
impl FromStr for Vantage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, addresses) = text.split_once('=').ok_or("write it as NAME=ADDRESS[,ADDRESS...]")?;
        let name = Name::new(name).ok_or_else(|| format!("`{name}` is not a name"))?;
        let parse = |text: &str| text.trim().parse().map_err(|_| format!("`{}` is not an address", text.trim()));
        Ok(Self { name, addresses: addresses.split(',').map(parse).collect::<Result<_, _>>()? })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub name: String,
    pub addresses: Vec<IpAddr>,
    /// Whether it drops what its policy does not allow.
    pub enforces: bool,
    /// Prefixes whose forwarded traffic it judges.
    pub routes: AddressSet,
}

#[derive(Debug, thiserror::Error)]
pub enum VantageError {
    #[error("the vantage `{0}` has the name of another machine")]
    Name(Name),
    #[error("the vantage `{0}` has the address {1} of another machine")]
    Address(Name, IpAddr),
}

/// The policy's nodes, then the vantages.
pub fn machines(policy: &Policy, vantages: &[Vantage]) -> Result<Vec<Machine>, VantageError> {
    let nodes = policy.nodes.values().map(|node| Machine {
        name: node.name.to_string(),
        addresses: Family::ALL.into_iter().flat_map(|family| addresses(&node.local(), family, MOST_ADDRESSES)).collect(),
        enforces: node.stage == Stage::Enforce,
        routes: node.routes.clone(),
    });
    let mut machines: Vec<Machine> = nodes.collect();
    let taken = policy.node_addresses();
    for vantage in vantages {
        if machines.iter().any(|machine| machine.name == vantage.name.as_str()) {
            return Err(VantageError::Name(vantage.name.clone()));
        }
        let other = |address: &&IpAddr| {
            taken.contains(**address) || machines.iter().any(|machine| machine.addresses.contains(address))
        };
        if let Some(address) = vantage.addresses.iter().find(other) {
            return Err(VantageError::Address(vantage.name.clone(), *address));
        }
        machines.push(Machine {
            name: vantage.name.to_string(),
            addresses: vantage.addresses.clone(),
            enforces: false,
            routes: AddressSet::default(),
        });
    }
    Ok(machines)
}

/// The first addresses of a set.
pub fn addresses(set: &AddressSet, family: Family, most: usize) -> Vec<IpAddr> {
    let (v4, v6) = (set.v4.intervals(), set.v6.intervals());
    match family {
        Family::V4 => v4
            .iter()
            .flat_map(|interval| interval.first().to_bits()..=interval.last().to_bits())
            .take(most)
            .map(|bits| IpAddr::V4(bits.into()))
            .collect(),
        Family::V6 => v6
            .iter()
            .flat_map(|interval| interval.first().to_bits()..=interval.last().to_bits())
            .take(most)
            .map(|bits| IpAddr::V6(bits.into()))
            .collect(),
    }
}

/// The machines' addresses that are in the set, each with the machines that may have it: a floating
/// address has several.
pub fn holders(machines: &[Machine], set: &AddressSet, family: Family) -> BTreeMap<IpAddr, Vec<usize>> {
    let mut holders = BTreeMap::<IpAddr, Vec<usize>>::new();
    for (index, machine) in machines.iter().enumerate() {
        for address in machine.addresses.iter().filter(|address| Family::of(**address) == family) {
            if set.contains(*address) {
                holders.entry(*address).or_default().push(index);
            }
        }
    }
    holders
}
