//! A digest of what a table does, to notice that another program changed it.
//!
//! In: a table and the names that count. Out: a hash that is the same as long as the rules are.
//! Never: what changes by itself, which is the values of counters, quotas and `last`, what is left of
//! timeouts, the elements of sets that are filled at run time, handles, and the numbers that nft
//! gives to anonymous sets.

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest as _, Sha256};

use super::read::{RawRule, read_elements, settle};
use super::uapi::*;
use super::wire::{Attributes, Malformed, be32, text};
use super::{Chain, Error, Failure, Netfilter, Set, SetFlags, TableId};

/// Larger sets count by the number of their elements alone: reading this many takes some 30 ms.
const MOST_ELEMENTS: u32 = 16_384;

/// SHA-256 over the canonical form of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Netfilter {
    /// The digest of a table: whether it is dormant, the chains and sets whose names
    /// `selects` takes, and the anonymous sets that their rules use. `None` when there is no such table.
    ///
    /// Sets that take part must not change at run time; with timeouts or filled by rules they count
    /// by their declaration. Compare digests of one kernel only.
    pub fn digest(&mut self, table: &TableId, selects: impl Fn(&str) -> bool) -> Result<Option<Digest>, Error> {
        let mut previous = None;
        for _ in 0..4 {
            let before = self.generation()?;
            let digest = self.digest_once(table, &selects)?;
            // Elsewhere things may change all the time; the same twice is as good as nothing changed.
            if self.generation()? == before || previous == Some(digest) {
                return Ok(digest);
            }
            previous = Some(digest);
        }
        Err(Error::Digest { table: table.clone(), source: Failure::Unsettled })
    }

    fn digest_once(&mut self, table: &TableId, selects: impl Fn(&str) -> bool) -> Result<Option<Digest>, Error> {
        let Some(found) = self.tables()?.into_iter().find(|found| found.id == *table) else { return Ok(None) };
        let mut chains = self.chains_of(table)?;
        chains.retain(|chain| selects(&chain.name));
        chains.sort_by(|a, b| a.name.cmp(&b.name));
        let failed = |source| Error::Digest { table: table.clone(), source };

        let mut sets = BTreeMap::new();
        for set in self.sets(table)? {
            if set.flags.has(SetFlags::ANONYMOUS) || selects(&set.name) {
                let content = self.content(table, &set).map_err(failed)?;
                sets.insert(set.name.clone(), (set, content));
            }
        }
        let mut hash = Hash::new();
        hash.field(&[u8::from(found.dormant)]);
        for (set, content) in sets.values().filter(|(set, _)| !set.flags.has(SetFlags::ANONYMOUS)) {
            hash.field(set.name.as_bytes()).field(&set.flags.0.to_be_bytes()).field(&set.key_length.to_be_bytes());
            hash.field(content);
        }
        let mut rules: BTreeMap<String, Vec<RawRule>> = BTreeMap::new();
        for raw in self.raw_rules(table).map_err(failed)? {
            rules.entry(raw.rule.chain.clone()).or_default().push(raw);
        }
        let anonymous = |name: &str| {
            let (set, content) = sets.get(name)?;
            set.flags.has(SetFlags::ANONYMOUS).then_some(content.as_slice())
        };
        for chain in chains {
            hash.chain(&chain);
            for rule in rules.get(&chain.name).into_iter().flatten() {
                hash.rule(rule, &anonymous).map_err(|malformed| failed(malformed.into()))?;
            }
        }
        Ok(Some(Digest(hash.0.finalize().into())))
    }

    /// A hash of a set's elements in whatever order, or their number, or nothing of what changes by itself.
    fn content(&mut self, table: &TableId, set: &Set) -> Result<Vec<u8>, Failure> {
        if set.flags.0 & (SetFlags::TIMEOUT.0 | SetFlags::EVAL.0) != 0 {
            return Ok(Vec::new());
        }
        if let Some(count) = set.count.filter(|count| *count > MOST_ELEMENTS) {
            return Ok(count.to_be_bytes().to_vec());
        }
        let read = || {
            let (mut elements, consistent) = read_elements(&mut self.socket, table, &set.name, element)?;
            elements.sort();
            Ok((elements, consistent))
        };
        let elements = settle(read, |a, b| a == b)?;
        let mut hash = Hash::new();
        for element in elements {
            hash.field(&element);
        }
        Ok(hash.0.finalize().to_vec())
    }
}

/// What an element is, without what it has counted and the time that is left.
fn element(attributes: Attributes<'_>) -> Result<[u8; 32], Malformed> {
    let mut hash = Hash::new();
    for attribute in attributes {
        let (kind, value) = attribute?;
        if matches!(
            kind,
            NFTA_SET_ELEM_KEY
                | NFTA_SET_ELEM_KEY_END
                | NFTA_SET_ELEM_DATA
                | NFTA_SET_ELEM_FLAGS
                | NFTA_SET_ELEM_OBJREF
                | NFTA_SET_ELEM_USERDATA
        ) {
            hash.field(&kind.to_be_bytes()).field(value);
        }
    }
    Ok(hash.0.finalize().into())
}

/// A hash over fields, each with its length, so that no two sequences of fields are the same bytes.
struct Hash(Sha256);

impl Hash {
    fn new() -> Self {
        Self(Sha256::new())
    }

    fn field(&mut self, value: &[u8]) -> &mut Self {
        self.0.update((value.len() as u64).to_be_bytes());
        self.0.update(value);
        self
    }

    fn chain(&mut self, chain: &Chain) {
        self.field(b"chain").field(chain.name.as_bytes());
        if let Some(base) = &chain.base {
            self.field(base.kind.as_bytes()).field(base.hook.to_string().as_bytes());
            self.field(&base.priority.to_be_bytes()).field(base.policy.to_string().as_bytes());
            for device in &base.devices {
                self.field(device.as_bytes());
            }
        }
    }

    fn rule<'a>(&mut self, raw: &RawRule, anonymous: &impl Fn(&str) -> Option<&'a [u8]>) -> Result<(), Malformed> {
        self.field(b"rule").field(&raw.userdata);
        for item in Attributes(&raw.expressions) {
            let (mut name, mut data) = (&[][..], &[][..]);
            for attribute in Attributes(item?.1) {
                match attribute? {
                    (NFTA_EXPR_NAME, value) => name = value.strip_suffix(&[0]).unwrap_or(value),
                    (NFTA_EXPR_DATA, value) => data = value,
                    _ => {}
                }
            }
            self.field(name);
            match name {
                b"counter" | b"last" => {}
                b"quota" => self.quota(data)?,
                b"lookup" => self.reference(data, NFTA_LOOKUP_SET, anonymous)?,
                b"objref" => self.reference(data, NFTA_OBJREF_SET_NAME, anonymous)?,
                _ => {
                    self.field(data);
                }
            }
        }
        Ok(())
    }

    fn quota(&mut self, data: &[u8]) -> Result<(), Malformed> {
        const NFT_QUOTA_F_DEPLETED: u32 = 0x2;
        for attribute in Attributes(data) {
            let (kind, value) = attribute?;
            match kind {
                NFTA_QUOTA_CONSUMED => continue,
                NFTA_QUOTA_FLAGS => self.field(&(be32(value)? & !NFT_QUOTA_F_DEPLETED).to_be_bytes()),
                _ => self.field(&kind.to_be_bytes()).field(value),
            };
        }
        Ok(())
    }

    /// An expression that names a set in its attribute `set`; an anonymous one stands for its content.
    fn reference<'a>(
        &mut self,
        data: &[u8],
        set: u16,
        anonymous: &impl Fn(&str) -> Option<&'a [u8]>,
    ) -> Result<(), Malformed> {
        for attribute in Attributes(data) {
            let (kind, value) = attribute?;
            let content = (kind == set).then(|| anonymous(&text(value))).flatten();
            self.field(&kind.to_be_bytes()).field(content.unwrap_or(value));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::Rule;

    proptest! {
        #[test]
        fn any_expressions_are_hashed_without_a_panic(
            name in prop_oneof![Just("counter"), Just("quota"), Just("lookup"), Just("objref"), Just("cmp")],
            data in prop::collection::vec(any::<u8>(), 0..40),
            junk in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let rule = Rule { chain: String::new(), handle: 0, comment: None };
            let expression = crate::kernel::wire::Request::new(0, 0, 0, 0)
                .nested(NFTA_LIST_ELEM, |item| item.string(NFTA_EXPR_NAME, name).bytes(NFTA_EXPR_DATA, &data));
            let expressions = expression.finish(0).expect("short").split_off(20);
            let _ = Hash::new().rule(&RawRule { rule: rule.clone(), expressions, userdata: junk.clone() }, &|_| None);
            let _ = Hash::new().rule(&RawRule { rule, expressions: junk.clone(), userdata: data }, &|_| None);
            let _ = element(Attributes(&junk));
        }
    }
}
