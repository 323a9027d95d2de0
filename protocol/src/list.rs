//! Changes of shared lists: prefixes, and how long they stay.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;

use crate::field::{Invalid, invalid, most, name, there};
use crate::generated as wire;

/// A list, and how new it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListRevision {
    pub list: String,
    /// Revisions of one life alone can be compared. 0 is none.
    pub life: u64,
    pub revision: u64,
}

/// One change of a shared list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    pub list: String,
    pub life: u64,
    pub change: Change,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// All of the list, in parts from 0 on. It counts when the last one is there.
    Snapshot { revision: u64, part: u32, last: bool, elements: Vec<Element> },
    /// What changed since revision `from`, which the agent must have, or one between the two.
    Delta { from: u64, to: u64, added: Vec<Element>, removed: Vec<Element> },
}

/// A prefix in a list. It has no host bits, and is not IPv4-mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element {
    pub network: IpAddr,
    pub length: u8,
    /// Seconds that it stays; `None` is without end.
    pub seconds: Option<std::num::NonZeroU32>,
}

impl List {
    /// Once for all agents: what [`crate::ToAgent::List`] carries.
    pub fn encode(&self) -> Bytes {
        wire::List::from(self.clone()).encode_to_vec().into()
    }

    pub fn decode(bytes: Bytes) -> Result<Self, Invalid> {
        wire::List::decode(bytes).map_err(|error| invalid("ToAgent.list", error.to_string()))?.try_into()
    }
}

impl TryFrom<wire::ListRevision> for ListRevision {
    type Error = Invalid;

    fn try_from(from: wire::ListRevision) -> Result<Self, Invalid> {
        Ok(Self { list: name("ListRevision.list", from.list)?, life: from.life, revision: from.revision })
    }
}

impl From<ListRevision> for wire::ListRevision {
    fn from(ListRevision { list, life, revision }: ListRevision) -> Self {
        Self { list, revision, life }
    }
}

impl TryFrom<wire::List> for List {
    type Error = Invalid;

    fn try_from(from: wire::List) -> Result<Self, Invalid> {
        use wire::list::Change as Wire;
        let change = match there("List.change", from.change)? {
            Wire::Snapshot(wire::Snapshot { revision, part, last, elements }) => {
                Change::Snapshot { revision, part, last, elements: read("Snapshot.elements", elements.unwrap_or_default())? }
            }
            Wire::Delta(wire::Delta { from, to, added, removed }) => {
                if to <= from {
                    return Err(invalid("Delta.to", format!("is {to}, not after {from}")));
                }
                let added = read("Delta.added", added.unwrap_or_default())?;
                let removed = read("Delta.removed", removed.unwrap_or_default())?;
                most("Delta.removed", added.len() + removed.len(), crate::ELEMENTS_MAX)?;
                Change::Delta { from, to, added, removed }
            }
        };
        Ok(Self { list: name("List.list", from.list)?, life: from.life, change })
    }
}

impl From<List> for wire::List {
    fn from(from: List) -> Self {
        use wire::list::Change as Wire;
        let change = match from.change {
            Change::Snapshot { revision, part, last, elements } => {
                Wire::Snapshot(wire::Snapshot { revision, part, last, elements: Some(write(&elements)) })
            }
            Change::Delta { from, to, added, removed } => {
                Wire::Delta(wire::Delta { from, to, added: Some(write(&added)), removed: Some(write(&removed)) })
            }
        };
        Self { list: from.list, change: Some(change), life: from.life }
    }
}

const V4: usize = 9;
const V6: usize = 21;

fn write(elements: &[Element]) -> wire::Elements {
    let (mut v4, mut v6) = (BytesMut::new(), BytesMut::new());
    for element in elements {
        let bytes = match element.network {
            IpAddr::V4(network) => {
                v4.put_slice(&network.octets());
                &mut v4
            }
            IpAddr::V6(network) => {
                v6.put_slice(&network.octets());
                &mut v6
            }
        };
        bytes.put_u8(element.length);
        bytes.put_u32(element.seconds.map_or(0, u32::from));
    }
    wire::Elements { v4: v4.freeze(), v6: v6.freeze() }
}

/// IPv4 first, whatever the order was.
fn read(field: &'static str, from: wire::Elements) -> Result<Vec<Element>, Invalid> {
    if !from.v4.len().is_multiple_of(V4) || !from.v6.len().is_multiple_of(V6) {
        return Err(invalid(field, "ends within an element"));
    }
    most(field, from.v4.len() / V4 + from.v6.len() / V6, crate::ELEMENTS_MAX)?;
    let v4 = from.v4.as_chunks::<V4>().0.iter().map(|chunk| {
        let [a, b, c, d, rest @ ..] = *chunk;
        let network = Ipv4Addr::from([a, b, c, d]);
        let has_host_bits = rest[0] > 32 || u32::MAX.checked_shr(rest[0].into()).unwrap_or(0) & network.to_bits() != 0;
        element(field, network.into(), rest, has_host_bits)
    });
    let v6 = from.v6.as_chunks::<V6>().0.iter().map(|chunk| {
        let (network, rest) = chunk.split_first_chunk::<16>().expect("21 bytes");
        let network = Ipv6Addr::from(*network);
        let rest = *rest.first_chunk::<5>().expect("5 bytes");
        let has_host_bits = rest[0] > 128 || u128::MAX.checked_shr(rest[0].into()).unwrap_or(0) & network.to_bits() != 0;
        element(field, network.into(), rest, has_host_bits || network.to_ipv4_mapped().is_some())
    });
    v4.chain(v6).collect()
}

fn element(field: &'static str, network: IpAddr, [length, seconds @ ..]: [u8; 5], is_wrong: bool) -> Result<Element, Invalid> {
    if is_wrong {
        return Err(invalid(field, format!("has {network}/{length}, which is no prefix")));
    }
    Ok(Element { network, length, seconds: std::num::NonZeroU32::new(u32::from_be_bytes(seconds)) })
}
