//! Assignments in the state folder: the newest that was taken over, and those that generations were made from.
//!
//! In: the reconciler's values. Out: the same, as JSON. Never: a look into the ruleset, which stays as it came.

use ringwall_ruleset::nftables::Generation;
use serde::{Deserialize, Serialize};

use super::state::{History, Record, StateError};
use crate::reconciler::{Assignment, Begun, Disk, OnDrift, OnTighten, Place};

/// An assignment of the fleet's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    pub schema: String,
    pub epoch: u64,
    pub number: u64,
    /// Of the policy, for people.
    pub revision: String,
    #[serde(with = "hex")]
    pub digest: Vec<u8>,
    /// As it came over the wire.
    #[serde(with = "hex")]
    pub ruleset: Vec<u8>,
    /// Seconds.
    pub window: u32,
    /// Changes of others are healed; otherwise they are only reported.
    pub heals: bool,
    /// Connections that are forbidden now are cut; otherwise they may end.
    pub cuts: bool,
    pub names: Vec<String>,
}

impl Assigned {
    pub(super) const SCHEMA: &str = "ringwall.assignment/1";

    fn place(&self) -> Place {
        Place { epoch: self.epoch, number: self.number }
    }

    fn digest(&self) -> [u8; 32] {
        // A damaged one is that of no ruleset.
        self.digest.as_slice().try_into().unwrap_or_default()
    }

    fn on_drift(&self) -> OnDrift {
        if self.heals { OnDrift::Heal } else { OnDrift::Report }
    }
}

impl From<&Assignment> for Assigned {
    fn from(from: &Assignment) -> Self {
        Self {
            schema: Self::SCHEMA.into(),
            epoch: from.place.epoch,
            number: from.place.number,
            revision: from.revision.clone(),
            digest: from.digest.to_vec(),
            ruleset: from.ruleset.to_vec(),
            window: from.window,
            heals: from.on_drift == OnDrift::Heal,
            cuts: from.on_tighten == OnTighten::Cut,
            names: from.names.to_vec(),
        }
    }
}

impl From<Assigned> for Assignment {
    fn from(from: Assigned) -> Self {
        Self {
            place: from.place(),
            digest: from.digest(),
            on_drift: from.on_drift(),
            on_tighten: if from.cuts { OnTighten::Cut } else { OnTighten::Drain },
            revision: from.revision,
            ruleset: from.ruleset.into(),
            window: from.window,
            names: from.names.into(),
        }
    }
}

impl History {
    /// All that the reconciler is told of the state folder when it begins.
    pub fn disk(&self) -> Result<Disk, StateError> {
        let confirmed = self.confirmed();
        let begun = self.after(confirmed).into_iter();
        Ok(Disk {
            taken: self.taken()?.map(Into::into),
            // Without its record it is still what is to be in the kernel.
            confirmed: confirmed.map(|generation| self.record(generation).map_or_else(|_| unknown(generation), |record| begun_as(generation, &record))),
            // One whose record was never written was never loaded.
            begun: begun.filter_map(|generation| Some(begun_as(generation, &self.record(generation).ok()?))).collect(),
        })
    }
}

impl History {
    /// The same where nobody knows what was confirmed, and the kernel has nothing of it: the newest assignment that is found
    /// anywhere counts as taken over, and goes on trial anew.
    pub fn disk_of_lost(&self) -> Disk {
        let taken = self.taken().ok().flatten();
        let recorded = self.after(None).into_iter().filter_map(|generation| self.record(generation).ok()?.assignment);
        let taken = taken.into_iter().chain(recorded).max_by_key(Assigned::place).map(Into::into);
        Disk { taken, ..Disk::default() }
    }
}

/// A generation whose record is gone.
fn unknown(generation: Generation) -> Begun {
    Begun { generation, place: None, digest: [0; 32], on_drift: OnDrift::Heal, names: [].into() }
}

fn begun_as(generation: Generation, record: &Record) -> Begun {
    match &record.assignment {
        Some(assigned) => Begun {
            generation,
            place: Some(assigned.place()),
            digest: assigned.digest(),
            on_drift: assigned.on_drift(),
            names: assigned.names.clone().into(),
        },
        None => Begun {
            generation,
            place: None,
            digest: [0; 32],
            on_drift: OnDrift::Report,
            names: record.answers.keys().cloned().collect(),
        },
    }
}

/// Bytes as hexadecimal text.
mod hex {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        serializer.serialize_str(&digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect::<String>())
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let pairs = text.as_bytes().chunks(2).map(|pair| match *pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        });
        pairs.collect::<Option<_>>().ok_or_else(|| D::Error::custom("no hexadecimal text"))
    }
}
