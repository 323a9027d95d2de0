//! The state folder: which generations there were, where they came from, what is loaded at boot.
//!
//! In: numbers and records. Out: files that are whole at any moment (written beside, flushed, then
//! renamed). Never: what the kernel enforces; that is asked from the kernel.
//!
//! ```text
//! state.json          the last number given out, the confirmed and the fallen generations
//! names.json          the newest answers to DNS names
//! taken.json          the newest assignment of the fleet's that was taken over; never an older one
//! g42/record.json     what g42 was made from
//! g42/boot.nft        the text that loads g42 from nothing
//! lock                held while a command changes anything
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, FdFlag, Flock, FlockArg, fcntl};
use ringwall_ruleset::nftables::Generation;
use serde::{Deserialize, Serialize};

use super::assigned::Assigned;
use super::damage;

/// So many records are kept for `rollback`, the confirmed one among them.
const RECORDS_MAX: usize = 20;
/// So many fallen generations are remembered: as many as their marks stay unmistakable.
const FALLEN_MAX: usize = 100;

/// What a generation was made from, opaque to the node but for the answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub schema: String,
    pub node: String,
    /// The policy's files: name and text.
    pub files: Vec<(String, String)>,
    /// Values bound to the policy's `$NAME`s.
    pub values: BTreeMap<String, String>,
    /// DNS names as they were answered.
    pub answers: BTreeMap<String, Answer>,
    /// Seconds since the epoch.
    pub applied: u64,
    /// The digest of the chains, read back after the load.
    #[serde(default)]
    pub digest: Option<String>,
    /// The fleet's assignment that it was made from: then there are no files and no values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<Assigned>,
}

impl Record {
    pub const SCHEMA: &str = "ringwall.record/1";
}

/// The addresses of a DNS name and when they were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub addresses: BTreeSet<IpAddr>,
    /// Seconds since the epoch.
    pub asked: u64,
    /// How long its addresses may be used; `None`: until the next apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u32>,
}

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("can't create the folder {}", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("another ringwall command is changing this node ({} is locked)", path.display())]
    Locked { path: PathBuf },
    #[error("can't read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is damaged", path.display())]
    Damaged { path: PathBuf, source: serde_json::Error },
    #[error("{} is of another version: {found}, not {known}", path.display())]
    Schema { path: PathBuf, found: String, known: String },
    #[error("can't write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("there is no record of {0}")]
    NoRecord(Generation),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Numbers {
    schema: String,
    last: u32,
    confirmed: Option<u32>,
    /// Confirmed ones before, oldest first.
    history: Vec<u32>,
    fallen: Vec<u32>,
}

const SCHEMA: &str = "ringwall.state/1";
const TAKEN: &str = "taken.json";

/// The state folder, to be looked at.
#[derive(Debug)]
pub struct History {
    folder: PathBuf,
    numbers: Numbers,
    is_lost: bool,
}

/// The state folder, locked, to be changed.
#[derive(Debug)]
pub struct State {
    history: History,
    _lock: Flock<File>,
}

impl Deref for State {
    type Target = History;

    fn deref(&self) -> &History {
        &self.history
    }
}

impl History {
    /// Reads the folder, whatever another command does with it meanwhile. None is an empty one.
    pub fn read(folder: &Path) -> Result<Self, StateError> {
        let mut is_lost = false;
        let numbers = damage::read(folder.join("state.json"), SCHEMA)?.unwrap_or_else(|| {
            let newest = generations(folder).first().copied();
            is_lost = newest.is_some();
            Numbers { last: newest.map_or(0, |newest| newest.0), ..Numbers::default() }
        });
        Ok(Self { folder: folder.into(), numbers, is_lost })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether there are generations but no word of which one was confirmed.
    pub fn is_lost(&self) -> bool {
        self.is_lost
    }

    pub fn confirmed(&self) -> Option<Generation> {
        self.numbers.confirmed.map(Generation)
    }

    /// The generation that was confirmed before the present one.
    pub fn previous(&self) -> Option<Generation> {
        self.numbers.history.last().copied().map(Generation)
    }

    pub fn fallen(&self) -> BTreeSet<Generation> {
        self.numbers.fallen.iter().copied().map(Generation).collect()
    }

    /// A number above all that were ever given out here or stand in the kernel.
    pub fn next(&self, newest: Option<Generation>) -> Generation {
        Generation(self.numbers.last).max(newest.unwrap_or(Generation(0))).next()
    }

    pub fn record(&self, generation: Generation) -> Result<Record, StateError> {
        record(&self.folder, generation)
    }

    /// The newest assignment that was taken over.
    pub fn taken(&self) -> Result<Option<Assigned>, StateError> {
        Self::taken_in(&self.folder)
    }

    pub(super) fn taken_in(folder: &Path) -> Result<Option<Assigned>, StateError> {
        damage::read(folder.join(TAKEN), Assigned::SCHEMA)
    }

    /// The generations after this one that have a folder, oldest first.
    pub(super) fn after(&self, generation: Option<Generation>) -> Vec<Generation> {
        let mut after = generations(&self.folder);
        after.retain(|found| Some(*found) > generation);
        after.reverse();
        after
    }

    /// What is loaded at boot when the generation is the confirmed one.
    pub fn boot(&self, generation: Generation) -> Result<String, StateError> {
        let path = self.folder.join(generation.to_string()).join("boot.nft");
        fs::read_to_string(&path).map_err(|source| StateError::Read { path, source })
    }
}

/// All records in a folder that can be read, newest first: what is left where its numbers are lost.
pub fn records(folder: &Path) -> impl Iterator<Item = Record> {
    generations(folder).into_iter().filter_map(move |generation| record(folder, generation).ok())
}

/// The generations that have a folder, newest first.
pub(super) fn generations(folder: &Path) -> Vec<Generation> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut generations: Vec<_> = names.filter_map(|name| Generation::of_name(name.to_str()?)).collect();
    generations.sort_unstable_by(|a, b| b.cmp(a));
    generations
}

pub(super) fn record(folder: &Path, generation: Generation) -> Result<Record, StateError> {
    let path = folder.join(generation.to_string()).join("record.json");
    damage::read(path, Record::SCHEMA)?.ok_or(StateError::NoRecord(generation))
}

impl State {
    /// Opens the folder, makes it if need be, and locks it until the value is dropped.
    pub fn open(folder: &Path) -> Result<Self, StateError> {
        let lock = Self::lock(folder)?;
        Ok(Self { history: History::read(folder)?, _lock: lock })
    }

    pub(super) fn lock(folder: &Path) -> Result<Flock<File>, StateError> {
        fs::create_dir_all(folder).map_err(|source| StateError::Create { path: folder.into(), source })?;
        let path = folder.join("lock");
        let file = File::create(&path).map_err(|source| StateError::Write { path: path.clone(), source })?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| StateError::Locked { path })?;
        // nft inherits it: when this program is killed, the next one waits for what nft still does.
        fcntl(&*lock, FcntlArg::F_SETFD(FdFlag::empty()))
            .map_err(|error| StateError::Write { path: folder.join("lock"), source: error.into() })?;
        Ok(lock)
    }

    /// Gives out a number, before it is loaded. It counts as fallen until it is settled.
    pub fn begin(&mut self, generation: Generation, record: &Record, boot: &str) -> Result<(), StateError> {
        let folder = self.history.folder.join(generation.to_string());
        fs::create_dir_all(&folder).map_err(|source| StateError::Create { path: folder.clone(), source })?;
        write(&folder.join("record.json"), &json(record))?;
        write(&folder.join("boot.nft"), boot.as_bytes())?;
        self.history.numbers.last = generation.0;
        self.history.numbers.fallen.push(generation.0);
        let surplus = self.history.numbers.fallen.len().saturating_sub(FALLEN_MAX);
        self.history.numbers.fallen.drain(..surplus);
        self.save()
    }

    /// The generation is confirmed: from now on it is loaded at boot.
    pub fn settle(&mut self, generation: Generation) -> Result<(), StateError> {
        if self.history.numbers.confirmed == Some(generation.0) {
            return Ok(());
        }
        self.history.numbers.history.extend(self.history.numbers.confirmed);
        self.history.numbers.confirmed = Some(generation.0);
        self.history.numbers.fallen.retain(|fallen| *fallen != generation.0);
        self.save()?;
        self.tidy();
        Ok(())
    }

    /// The generation was ended; it stays in the list of the fallen.
    pub fn fall(&mut self, generation: Generation) -> Result<(), StateError> {
        if !self.history.numbers.fallen.contains(&generation.0) {
            self.history.numbers.fallen.push(generation.0);
        }
        self.save()
    }

    /// Nothing is loaded at boot any more. Numbers go on from where they are.
    pub fn forget(&mut self) -> Result<(), StateError> {
        self.history.numbers.history.extend(self.history.numbers.confirmed.take());
        self.save()
    }

    /// From now on this is the newest assignment that was taken over.
    pub fn take(&self, assigned: &Assigned) -> Result<(), StateError> {
        write(&self.history.folder.join(TAKEN), &json(assigned))
    }

    /// Adds what was read back from the kernel.
    pub fn amend(&self, generation: Generation, record: &Record) -> Result<(), StateError> {
        write(&self.history.folder.join(generation.to_string()).join("record.json"), &json(record))
    }

    fn save(&mut self) -> Result<(), StateError> {
        self.history.numbers.schema = SCHEMA.into();
        write(&self.history.folder.join("state.json"), &json(&self.history.numbers))
    }

    /// Takes away old records. Their loss costs nothing, so errors are left alone.
    fn tidy(&mut self) {
        let kept: BTreeSet<u32> = self.history.numbers.history.iter().chain(&self.history.numbers.confirmed).copied().collect();
        // Fallen ones, once nothing is asked about them any more.
        let is_over = |generation: &Generation| !kept.contains(&generation.0) && Some(generation.0) < self.history.numbers.confirmed;
        for fallen in generations(&self.history.folder).into_iter().filter(is_over) {
            let _ = fs::remove_dir_all(self.history.folder.join(fallen.to_string()));
        }
        let surplus = self.history.numbers.history.len().saturating_sub(RECORDS_MAX);
        for old in self.history.numbers.history.drain(..surplus) {
            let _ = fs::remove_dir_all(self.history.folder.join(Generation(old).to_string()));
        }
    }
}

pub(super) fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("maps with text keys")
}

/// Writes a file so that, whatever happens, either the old or the new content is there.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    let failed = |source| StateError::Write { path: path.into(), source };
    let beside = path.with_extension("new");
    let mut file = File::create(&beside).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&beside, path).map_err(failed)?;
    let folder = path.parent().expect("a file in the state folder");
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}
