//! Changes of set elements, in microseconds where the nft program takes milliseconds.
//!
//! In: elements to add or delete. Out: all of them done in one transaction, or none and why. Never:
//! intervals, data of maps, or a set that is read.

use std::net::IpAddr;
use std::time::Duration;

use nix::errno::Errno;
use ringwall_packet::{Family, Protocol};

use super::uapi::*;
use super::wire::{Acknowledgement, NLM_F_ACK, NLM_F_CREATE, Request};
use super::{Failure, Netfilter, TableId};

/// Up to here each edit is a message of its own, so that each refusal names its edit.
const SMALL: usize = 1024;
/// Elements in a message of a larger batch: their list is one attribute of at most 64 KiB.
const GROUP: usize = 400;
/// A timeout that is less than a tick of the slowest kernel clock would mean none.
const SHORTEST: Duration = Duration::from_millis(10);

/// The longest key (NFT_REG32_COUNT registers of four bytes, net/netfilter/nf_tables.h).
const LONGEST: usize = 64;

/// The key of an element, field by field in the set's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    bytes: [u8; LONGEST],
    length: usize,
    fields: usize,
}

impl Default for Key {
    fn default() -> Self {
        Self { bytes: [0; LONGEST], length: 0, fields: 0 }
    }
}

impl Key {
    pub fn new() -> Self {
        Self::default()
    }

    /// `ipv4_addr` or `ipv6_addr`.
    pub fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.raw(&address.octets()),
            IpAddr::V6(address) => self.raw(&address.octets()),
        }
    }

    /// `inet_service`: a port.
    pub fn port(self, port: u16) -> Self {
        self.raw(&port.to_be_bytes())
    }

    /// `inet_proto`, as `meta l4proto` gives it.
    pub fn protocol(self, protocol: Protocol) -> Self {
        self.raw(&[protocol.0])
    }

    /// `icmp_type`, `icmpv6_type`, `icmp_code` or `icmpv6_code`.
    pub fn icmp(self, number: u8) -> Self {
        self.raw(&[number])
    }

    /// `nf_proto`, as `meta nfproto` gives it (linux/netfilter.h).
    pub fn family(self, family: Family) -> Self {
        self.raw(&[match family {
            Family::V4 => 2,
            Family::V6 => 10,
        }])
    }

    /// A field in the bytes in which the kernel compares it. What is longer than any key can be becomes a
    /// key of no bytes, which the kernel refuses.
    pub fn raw(mut self, field: &[u8]) -> Self {
        let start = if self.fields == 0 { 0 } else { self.length.next_multiple_of(4) };
        self.fields += 1;
        let padded = if self.fields == 1 { field.len() } else { field.len().next_multiple_of(4) };
        match self.bytes.get_mut(start..start + field.len()).filter(|_| start + padded <= LONGEST) {
            Some(room) => {
                room.copy_from_slice(field);
                self.length = start + padded;
            }
            None => self.length = 0,
        }
        self
    }

    /// As in NFTA_DATA_VALUE: fields of a concatenation are padded to registers of four bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// One element to add or to delete, or a set to empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit<'a> {
    /// Adding what is there already is no error. Whether its timeout becomes the new one depends on
    /// the kernel: before Linux 6.12 the old one stays.
    Add {
        set: &'a str,
        key: Key,
        /// `None`: the set's own default, else until it is deleted.
        timeout: Option<Duration>,
    },
    /// Refused with ENOENT when it is not there.
    Delete { set: &'a str, key: Key },
    /// No error when it is not there. Since Linux 6.3.
    Destroy { set: &'a str, key: Key },
    /// All elements of the set are deleted.
    Flush { set: &'a str },
}

impl<'a> Edit<'a> {
    pub fn set(&self) -> &'a str {
        match self {
            Self::Add { set, .. } | Self::Delete { set, .. } | Self::Destroy { set, .. } | Self::Flush { set } => set,
        }
    }

    fn operation(&self) -> (u8, &'a str) {
        let kind = match self {
            Self::Add { .. } => NFT_MSG_NEWSETELEM,
            Self::Delete { .. } | Self::Flush { .. } => NFT_MSG_DELSETELEM,
            Self::Destroy { .. } => NFT_MSG_DESTROYSETELEM,
        };
        (kind, self.set())
    }
}

/// Why one edit was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its place in the edits.
    pub edit: usize,
    pub errno: Errno,
    /// The kernel's own words, where it has some.
    pub explanation: Option<String>,
}

/// Why elements were not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Nothing was changed. Each refused edit of up to 1,024; of more, the first of every 400.
    #[error("the kernel refused {} of the elements", .0.len())]
    Refused(Vec<Refusal>),
    /// The transaction as a whole; where the socket failed, it may have been done.
    #[error("cannot change set elements")]
    Failed(#[from] Failure),
}

impl Netfilter {
    /// Makes all edits in one transaction; on an error, none.
    pub fn change_elements(&mut self, table: &TableId, edits: &[Edit<'_>]) -> Result<(), ChangeError> {
        self.change_elements_in_groups(table, edits, if edits.len() <= SMALL { 1 } else { GROUP })
    }

    /// The same, with up to 400 edits in a message, however few there are in all: of those of a message, only the
    /// first that is refused is named.
    pub fn change_many_elements(&mut self, table: &TableId, edits: &[Edit<'_>]) -> Result<(), ChangeError> {
        self.change_elements_in_groups(table, edits, GROUP)
    }

    fn change_elements_in_groups(&mut self, table: &TableId, edits: &[Edit<'_>], most: usize) -> Result<(), ChangeError> {
        let edits_in_all = edits.len();
        let batch = |kind| Request::with_resource(kind, 0, NFPROTO_UNSPEC, u16::from(NFNL_SUBSYS_NFTABLES));
        let mut requests = vec![batch(NFNL_MSG_BATCH_BEGIN)];
        let mut groups = Vec::new();
        let mut start = 0;
        let is_flush = |edit: &Edit<'_>| matches!(edit, Edit::Flush { .. });
        let same = edits.chunk_by(|a, b| a.operation() == b.operation() && !is_flush(a) && !is_flush(b));
        for edits in same.flat_map(|edits| edits.chunks(most)) {
            let (request, offsets) = message(table, edits);
            start += edits.len();
            let last = start == edits_in_all;
            requests.push(request.flags(if last { NLM_F_ACK } else { 0 }));
            groups.push(Group { start: start - edits.len(), offsets });
        }
        if groups.is_empty() {
            return Ok(());
        }
        requests.push(batch(NFNL_MSG_BATCH_END));
        let refused = self.socket.send_together(requests, groups.len())?;

        let mut refusals = Vec::new();
        for (place, Acknowledgement { errno, explanation, offset }) in refused {
            let Some(errno) = errno else { continue };
            // The first message stands for the transaction as a whole.
            let Some(group) = place.checked_sub(1).and_then(|place| groups.get(place)) else {
                return Err(Failure::Refused { explanation, errno }.into());
            };
            refusals.push(Refusal { edit: group.edit_at(offset), errno, explanation });
        }
        if refusals.is_empty() { Ok(()) } else { Err(ChangeError::Refused(refusals)) }
    }
}

/// The message for edits that are all of one operation on one set, and where in it each element begins.
fn message(table: &TableId, edits: &[Edit<'_>]) -> (Request, Vec<usize>) {
    let (operation, set) = edits.first().map_or((NFT_MSG_NEWSETELEM, ""), Edit::operation);
    let mut offsets = Vec::with_capacity(edits.len());
    let request = Request::new(NFNL_SUBSYS_NFTABLES, operation, NLM_F_CREATE, table.family.number())
        .string(NFTA_SET_ELEM_LIST_TABLE, &table.name)
        .string(NFTA_SET_ELEM_LIST_SET, set);
    // A list that is not there means all of the set.
    if let [Edit::Flush { .. }] = edits {
        return (request, vec![0]);
    }
    let request = request
        .nested(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
            edits.iter().fold(list, |list, edit| {
                offsets.push(list.len());
                list.nested(NFTA_LIST_ELEM, |item| element(item, edit))
            })
        });
    (request, offsets)
}

/// Edits that share a message.
struct Group {
    /// The place of its first edit.
    start: usize,
    /// Where each element begins in the message.
    offsets: Vec<usize>,
}

impl Group {
    /// The edit whose element is at, or holds, the refused attribute.
    fn edit_at(&self, offset: Option<usize>) -> usize {
        let before = self.offsets.partition_point(|start| offset.is_some_and(|offset| *start <= offset));
        self.start + before.saturating_sub(1)
    }
}

fn element(item: Request, edit: &Edit<'_>) -> Request {
    let with_key = |key: &Key, item: Request| item.nested(NFTA_SET_ELEM_KEY, |data| data.bytes(NFTA_DATA_VALUE, key.bytes()));
    match edit {
        Edit::Add { key, timeout: Some(timeout), .. } => {
            let milliseconds = (*timeout).max(SHORTEST).as_millis().try_into().unwrap_or(u64::MAX);
            with_key(key, item).u64(NFTA_SET_ELEM_TIMEOUT, milliseconds)
        }
        Edit::Add { key, timeout: None, .. } | Edit::Delete { key, .. } | Edit::Destroy { key, .. } => with_key(key, item),
        Edit::Flush { .. } => item,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_padded_only_in_a_concatenation() {
        assert_eq!(Key::new().port(443).bytes(), [1, 187]);
        let key = Key::new().address([192, 0, 2, 1].into()).port(443).protocol(Protocol::TCP);
        assert_eq!(key.bytes(), [192, 0, 2, 1, 1, 187, 0, 0, 6, 0, 0, 0]);
        let longest = (0..4).fold(Key::new(), |key, _| key.raw(&[7; 16]));
        assert_eq!(longest.bytes(), [7; 64]);
        assert!(longest.port(1).bytes().is_empty());
    }

    #[test]
    fn a_refused_attribute_leads_to_its_edit() {
        let edits: Vec<Edit<'_>> = (0..3).map(|port| Edit::Delete { set: "s", key: Key::new().port(port) }).collect();
        let group = Group { start: 100, offsets: message(&TableId::inet("t"), &edits).1 };
        let edit_at = |offset| group.edit_at(offset);
        assert_eq!(edit_at(Some(group.offsets[0])), 100);
        assert_eq!(edit_at(Some(group.offsets[1] + 4)), 101);
        assert_eq!(edit_at(Some(group.offsets[2])), 102);
        assert_eq!(edit_at(None), 100);
    }
}
