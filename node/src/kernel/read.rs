//! Reads of nftables: tables, chains, rules, counters, sets and elements.
//!
//! In: nothing but the kernel. Out: typed values, of one moment where the kernel can say so. Never: a
//! change. Messages and attributes are those of linux/netfilter/nf_tables.h.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::errno::Errno;

use super::socket::Socket;
use super::uapi::*;
use super::wire::{Attributes, Malformed, Reply, Request, be32, be64, comment, text};
use super::{
    BaseChain, Chain, Counter, Element, Error, Failure, Hook, Netfilter, Policy, Rule, Set, SetFlags, Table,
    TableFamily, TableId,
};

/// How often a read is repeated when the tables change under it.
const ATTEMPTS: usize = 10;

pub(super) fn request(operation: u8, family: u8) -> Request {
    Request::new(NFNL_SUBSYS_NFTABLES, operation, 0, family)
}

/// Repeats a read until the kernel says that nothing changed meanwhile, or until two reads in a row
/// are the same: a node whose block lists change all the time must still be readable.
pub(super) fn settle<T>(
    mut read: impl FnMut() -> Result<(T, bool), Failure>,
    same: impl Fn(&T, &T) -> bool,
) -> Result<T, Failure> {
    let mut previous = None;
    for _ in 0..ATTEMPTS {
        let (found, consistent) = read()?;
        if consistent || previous.as_ref().is_some_and(|previous| same(previous, &found)) {
            return Ok(found);
        }
        previous = Some(found);
    }
    Err(Failure::Unsettled)
}

fn list<T: PartialEq>(
    socket: &mut Socket,
    request: &Request,
    parse: impl Fn(&Reply<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Failure> {
    let read = || {
        let mut found = Vec::new();
        let consistent = socket.dump(request.clone(), |reply| {
            found.push(parse(reply)?);
            Ok(())
        })?;
        Ok((found, consistent))
    };
    settle(read, |a, b| a == b)
}

impl Netfilter {
    /// The number of the ruleset's last transaction, whoever made it. It rises with every change of
    /// nftables in the namespace, set elements included.
    pub fn generation(&mut self) -> Result<u32, Error> {
        self.socket.get(request(NFT_MSG_GETGEN, NFPROTO_UNSPEC), parse_generation).map_err(Error::Generation)
    }

    /// All tables of all families.
    pub fn tables(&mut self) -> Result<Vec<Table>, Error> {
        list(&mut self.socket, &request(NFT_MSG_GETTABLE, NFPROTO_UNSPEC), parse_table).map_err(Error::Tables)
    }

    /// All chains of all tables.
    pub fn chains(&mut self) -> Result<Vec<Chain>, Error> {
        list(&mut self.socket, &request(NFT_MSG_GETCHAIN, NFPROTO_UNSPEC), parse_chain).map_err(Error::Chains)
    }

    /// The chains of one table; none when there is no such table.
    pub fn chains_of(&mut self, table: &TableId) -> Result<Vec<Chain>, Error> {
        let mut chains = self.chains()?;
        chains.retain(|chain| chain.table == *table);
        Ok(chains)
    }

    /// The rules of one chain in order; none when there is no such chain.
    pub fn rules(&mut self, table: &TableId, chain: &str) -> Result<Vec<Rule>, Error> {
        let request = request(NFT_MSG_GETRULE, table.family.number())
            .string(NFTA_RULE_TABLE, &table.name)
            .string(NFTA_RULE_CHAIN, chain);
        list(&mut self.socket, &request, |reply| Ok(parse_rule(reply)?.rule))
            .map_err(|source| Error::Rules { table: table.clone(), source })
    }

    /// The named counters of one table, by name; none when there is no such table.
    pub fn counters(&mut self, table: &TableId) -> Result<BTreeMap<String, Counter>, Error> {
        let request = request(NFT_MSG_GETOBJ, table.family.number())
            .string(NFTA_OBJ_TABLE, &table.name)
            .u32(NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER);
        let read = || {
            let mut counters = BTreeMap::new();
            let consistent = self.socket.dump(request.clone(), |reply| {
                let (name, counter) = parse_counter(reply)?;
                counters.insert(name, counter);
                Ok(())
            })?;
            Ok((counters, consistent))
        };
        // Their values change all the time.
        settle(read, |a, b| a.keys().eq(b.keys())).map_err(|source| Error::Counters { table: table.clone(), source })
    }

    /// The sets and maps of one table, anonymous ones included; none when there is no such table.
    pub fn sets(&mut self, table: &TableId) -> Result<Vec<Set>, Error> {
        let request = request(NFT_MSG_GETSET, table.family.number()).string(NFTA_SET_TABLE, &table.name);
        match list(&mut self.socket, &request, parse_set) {
            Err(failure) if failure.errno() == Some(Errno::ENOENT) => Ok(Vec::new()),
            sets => sets.map_err(|source| Error::Sets { table: table.clone(), source }),
        }
    }

    /// The elements of a small set. The kernel's time for it grows with the square of their number
    /// (37 s for a million): never ask this of a block list.
    pub fn elements(&mut self, table: &TableId, set: &str) -> Result<Vec<Element>, Error> {
        let read = || read_elements(&mut self.socket, table, set, parse_element);
        let same = |a: &Vec<Element>, b: &Vec<Element>| a.iter().map(|e| &e.key).eq(b.iter().map(|e| &e.key));
        settle(read, same).map_err(|source| Error::Elements { table: table.clone(), set: set.to_owned(), source })
    }

    /// All rules of a table, with what a digest is made of.
    pub(super) fn raw_rules(&mut self, table: &TableId) -> Result<Vec<RawRule>, Failure> {
        let request = request(NFT_MSG_GETRULE, table.family.number()).string(NFTA_RULE_TABLE, &table.name);
        let read = || {
            let mut found = Vec::new();
            let consistent = self.socket.dump(request.clone(), |reply| {
                found.push(parse_rule(reply)?);
                Ok(())
            })?;
            Ok((found, consistent))
        };
        // Counters inside rules change all the time; the handles say whether it is the same rules.
        settle(read, |a: &Vec<RawRule>, b| {
            a.iter()
                .map(|raw| (&raw.rule.chain, raw.rule.handle))
                .eq(b.iter().map(|raw| (&raw.rule.chain, raw.rule.handle)))
        })
    }
}

/// Reads the elements of a set, each as its attributes.
pub(super) fn read_elements<T>(
    socket: &mut Socket,
    table: &TableId,
    set: &str,
    parse: impl Fn(Attributes<'_>) -> Result<T, Malformed>,
) -> Result<(Vec<T>, bool), Failure> {
    let request = request(NFT_MSG_GETSETELEM, table.family.number())
        .string(NFTA_SET_ELEM_LIST_TABLE, &table.name)
        .string(NFTA_SET_ELEM_LIST_SET, set);
    let mut found = Vec::new();
    let consistent = socket.dump(request, |reply| {
        for attribute in reply.attributes {
            let (kind, list) = attribute?;
            if kind == NFTA_SET_ELEM_LIST_ELEMENTS {
                for element in Attributes(list) {
                    found.push(parse(Attributes(element?.1))?);
                }
            }
        }
        Ok(())
    })?;
    Ok((found, consistent))
}

/// enum nft_gen_attributes
fn parse_generation(reply: &Reply<'_>) -> Result<u32, Malformed> {
    for attribute in reply.attributes {
        if let (NFTA_GEN_ID, value) = attribute? {
            return be32(value);
        }
    }
    Err(Malformed("generation"))
}

/// enum nft_table_attributes
fn parse_table(reply: &Reply<'_>) -> Result<Table, Malformed> {
    let (mut name, mut flags, mut owner) = (None, 0, None);
    for attribute in reply.attributes {
        match attribute? {
            (NFTA_TABLE_NAME, value) => name = Some(text(value)),
            (NFTA_TABLE_FLAGS, value) => flags = be32(value)?,
            (NFTA_TABLE_OWNER, value) => owner = Some(be32(value)?),
            _ => {}
        }
    }
    let id = TableId { family: TableFamily::of(reply.family), name: name.ok_or(Malformed("table"))? };
    Ok(Table { id, dormant: flags & NFT_TABLE_F_DORMANT != 0, owner })
}

/// enum nft_chain_attributes
fn parse_chain(reply: &Reply<'_>) -> Result<Chain, Malformed> {
    let family = TableFamily::of(reply.family);
    let (mut table, mut name, mut handle, mut hook, mut policy, mut kind) = (None, None, None, None, 1, String::new());
    for attribute in reply.attributes {
        match attribute? {
            (NFTA_CHAIN_TABLE, value) => table = Some(text(value)),
            (NFTA_CHAIN_HANDLE, value) => handle = Some(be64(value)?),
            (NFTA_CHAIN_NAME, value) => name = Some(text(value)),
            (NFTA_CHAIN_HOOK, value) => hook = Some(parse_hook(Attributes(value))?),
            (NFTA_CHAIN_POLICY, value) => policy = be32(value)?,
            (NFTA_CHAIN_TYPE, value) => kind = text(value),
            _ => {}
        }
    }
    let base = match hook {
        None => None,
        Some((hook, priority, devices)) => Some(BaseChain {
            hook: Hook::of(family, hook),
            priority,
            // NF_DROP and NF_ACCEPT (linux/netfilter.h); there are no others.
            policy: match policy {
                0 => Policy::Drop,
                1 => Policy::Accept,
                _ => return Err(Malformed("chain policy")),
            },
            kind,
            devices,
        }),
    };
    const CHAIN: Malformed = Malformed("chain");
    let table = TableId { family, name: table.ok_or(CHAIN)? };
    Ok(Chain { table, name: name.ok_or(CHAIN)?, handle: handle.ok_or(CHAIN)?, base })
}

/// enum nft_hook_attributes: number, priority, devices.
fn parse_hook(attributes: Attributes<'_>) -> Result<(u32, i32, Vec<String>), Malformed> {
    let (mut number, mut priority, mut devices) = (None, None, Vec::new());
    for attribute in attributes {
        match attribute? {
            (NFTA_HOOK_HOOKNUM, value) => number = Some(be32(value)?),
            (NFTA_HOOK_PRIORITY, value) => priority = Some(be32(value)?.cast_signed()),
            (NFTA_HOOK_DEV, value) => devices.push(text(value)),
            (NFTA_HOOK_DEVS, value) => {
                for device in Attributes(value) {
                    devices.push(text(device?.1));
                }
            }
            _ => {}
        }
    }
    devices.sort();
    devices.dedup();
    const HOOK: Malformed = Malformed("hook");
    Ok((number.ok_or(HOOK)?, priority.ok_or(HOOK)?, devices))
}

/// A rule with the bytes that make it what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawRule {
    pub rule: Rule,
    pub expressions: Vec<u8>,
    pub userdata: Vec<u8>,
}

/// enum nft_rule_attributes
fn parse_rule(reply: &Reply<'_>) -> Result<RawRule, Malformed> {
    let (mut chain, mut handle, mut expressions, mut userdata) = (None, None, Vec::new(), Vec::new());
    for attribute in reply.attributes {
        match attribute? {
            (NFTA_RULE_CHAIN, value) => chain = Some(text(value)),
            (NFTA_RULE_HANDLE, value) => handle = Some(be64(value)?),
            (NFTA_RULE_EXPRESSIONS, value) => expressions = value.to_vec(),
            (NFTA_RULE_USERDATA, value) => userdata = value.to_vec(),
            _ => {}
        }
    }
    const RULE: Malformed = Malformed("rule");
    let rule = Rule { chain: chain.ok_or(RULE)?, handle: handle.ok_or(RULE)?, comment: comment(&userdata) };
    Ok(RawRule { rule, expressions, userdata })
}

/// enum nft_object_attributes, enum nft_counter_attributes
fn parse_counter(reply: &Reply<'_>) -> Result<(String, Counter), Malformed> {
    let (mut name, mut counter) = (None, Counter::default());
    for attribute in reply.attributes {
        match attribute? {
            (NFTA_OBJ_NAME, value) => name = Some(text(value)),
            (NFTA_OBJ_DATA, value) => {
                for attribute in Attributes(value) {
                    match attribute? {
                        (NFTA_COUNTER_BYTES, value) => counter.bytes = be64(value)?,
                        (NFTA_COUNTER_PACKETS, value) => counter.packets = be64(value)?,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok((name.ok_or(Malformed("counter"))?, counter))
}

/// enum nft_set_attributes; the count is NFTA_SET_COUNT, which older kernels lack.
fn parse_set(reply: &Reply<'_>) -> Result<Set, Malformed> {
    let mut name = None;
    let mut set =
        Set { name: String::new(), flags: SetFlags::default(), key_type: 0, key_length: 0, size: None, count: None };
    for attribute in reply.attributes {
        match attribute? {
            (NFTA_SET_NAME, value) => name = Some(text(value)),
            (NFTA_SET_FLAGS, value) => set.flags = SetFlags(be32(value)?),
            (NFTA_SET_KEY_TYPE, value) => set.key_type = be32(value)?,
            (NFTA_SET_KEY_LEN, value) => set.key_length = be32(value)?,
            (NFTA_SET_DESC, value) => {
                for attribute in Attributes(value) {
                    if let (NFTA_SET_DESC_SIZE, size) = attribute? {
                        set.size = Some(be32(size)?);
                    }
                }
            }
            (NFTA_SET_COUNT, value) => set.count = Some(be32(value)?),
            _ => {}
        }
    }
    Ok(Set { name: name.ok_or(Malformed("set"))?, ..set })
}

/// enum nft_set_elem_attributes; times are milliseconds.
fn parse_element(attributes: Attributes<'_>) -> Result<Element, Malformed> {
    let (mut key, mut key_end, mut timeout, mut expires, mut remark) = (None, None, None, None, None);
    for attribute in attributes {
        match attribute? {
            (NFTA_SET_ELEM_KEY, value) => key = Some(data(value)?),
            (NFTA_SET_ELEM_TIMEOUT, value) => timeout = Some(Duration::from_millis(be64(value)?)),
            (NFTA_SET_ELEM_EXPIRATION, value) => expires = Some(Duration::from_millis(be64(value)?)),
            (NFTA_SET_ELEM_USERDATA, value) => remark = comment(value),
            (NFTA_SET_ELEM_KEY_END, value) => key_end = Some(data(value)?),
            _ => {}
        }
    }
    // The catch-all element `*` has no key.
    Ok(Element { key: key.unwrap_or_default(), key_end, timeout, expires, comment: remark })
}

/// NFTA_DATA_VALUE of enum nft_data_attributes.
fn data(attribute: &[u8]) -> Result<Vec<u8>, Malformed> {
    match Attributes(attribute).next() {
        Some(Ok((NFTA_DATA_VALUE, value))) => Ok(value.to_vec()),
        _ => Err(Malformed("element key")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_attributes_are_read_without_a_panic(
            attributes in prop::collection::vec((0u16..24, prop::collection::vec(any::<u8>(), 0..24)), 0..12),
            tail in prop::collection::vec(any::<u8>(), 0..8),
            family in any::<u8>(),
        ) {
            let request = attributes.iter().fold(request(0, family), |request, (kind, value)| request.bytes(*kind, value));
            let mut bytes = request.finish(1).expect("short").split_off(20);
            bytes.extend(tail);
            let reply = Reply { family, attributes: Attributes(&bytes) };
            let _ = parse_generation(&reply);
            let _ = parse_table(&reply);
            let _ = parse_chain(&reply);
            let _ = parse_rule(&reply);
            let _ = parse_counter(&reply);
            let _ = parse_set(&reply);
            let _ = parse_element(reply.attributes);
            let _ = parse_hook(reply.attributes);
        }
    }
}
