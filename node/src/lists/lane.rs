//! Lists in the kernel, over one netlink socket.
//!
//! In: a planner's changes, the time. Out: what the kernel has, what it refused, by name. Never: a large set
//! read back, a transaction that keeps others waiting for long, or an update called enforced before the kernel
//! has it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use nix::errno::Errno;
use ringwall_packet::Family;
use ringwall_ruleset::nftables::blocks::{self, BLOCKS_TABLE, MOST_COVERS, MOST_ELEMENTS};

use super::planner::{Change, Chunk, Enforced, Kind, Lane as Queue, Operation, Planner};
use crate::kernel::{ChangeError, Connection, Edit, Error, Failure, Key, Netfilter, TableId};

/// Elements of one transaction. Larger ones are hardly faster, and whoever blocks an address meanwhile
/// waits for the one that is being made (`cargo xtask bench lists`).
const CHUNK: usize = 400;
/// Elements of the transaction that empties the sets first: so many are there again at the same moment.
const FLUSHED_CHUNK: usize = 16_384;
/// Elements of a set that are read to find those that no list has: it takes the kernel three seconds, and for more
/// the time grows with the square (`cargo xtask bench lists`).
const READ: u32 = 262_144;
/// What long updates leave free in each set, so that a single block always finds room.
const RESERVE: u32 = 65_536;
/// Up to so many addresses the kernel looks for their connections; for more, all connections are read once.
const FEW: usize = 4;

/// What the kernel can do, by its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Deletes without an error what is not there (6.3).
    pub destroy: bool,
    /// Gives an element that is there a new time (6.12).
    pub update: bool,
}

impl Abilities {
    /// As in `uname -r`: `6.12.3-amd64`.
    pub fn of_release(release: &str) -> Self {
        let mut numbers = release.split(|byte: char| !byte.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
        let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        Self { destroy: version >= (6, 3), update: version >= (6, 12) }
    }
}

/// Why changes were not made. They are kept and tried again.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    #[error("set `{set}` of table `inet {BLOCKS_TABLE}` is full: it takes {size} elements")]
    Full { set: &'static str, size: u32 },
    #[error("table `inet {BLOCKS_TABLE}` or one of its sets is not there")]
    NoTable,
    #[error("the kernel did not take elements of set `{set}`")]
    Refused {
        set: &'static str,
        #[source]
        errno: Errno,
    },
    #[error("cannot change the lists in the kernel")]
    Failed(#[source] Failure),
}

/// What one step did.
#[derive(Debug, Default)]
pub struct Step {
    /// Updates that the kernel now has as a whole.
    pub enforced: Vec<Enforced>,
    /// How many elements were changed.
    pub changed: usize,
    pub urgent: bool,
}

/// What was found when the kernel's sets were compared with the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nobody changed anything since.
    Same,
    /// Others changed something, but every set has as many elements as it must.
    Whole,
    /// A set that has lost elements; all lists are sent again.
    Lost { set: &'static str, expected: u32, found: u32 },
    /// The table or a set is gone. The ruleset has to be loaded again; then all lists are sent again.
    Gone,
}

/// Whose connections are still to be ended.
#[derive(Debug, Default)]
enum ToCut {
    #[default]
    Nobodys,
    Of(Vec<IpAddr>),
    /// Everyone's who is blocked.
    All,
}

pub struct Lane {
    netfilter: Netfilter,
    table: TableId,
    abilities: Abilities,
    planner: Planner,
    /// nftables' generation after our last change or look.
    generation: Option<u32>,
    /// At most so many elements are in each set.
    counts: BTreeMap<(Family, Kind), u32>,
    to_cut: ToCut,
}

impl Lane {
    /// In the network namespace that `netfilter` was opened in. Nothing is assumed of what the sets hold.
    pub fn new(netfilter: Netfilter, planner: Planner, abilities: Abilities) -> Self {
        let table = TableId::inet(BLOCKS_TABLE);
        Self { netfilter, table, abilities, planner, generation: None, counts: BTreeMap::new(), to_cut: ToCut::default() }
    }

    pub fn planner(&self) -> &Planner {
        &self.planner
    }

    pub fn planner_mut(&mut self) -> &mut Planner {
        &mut self.planner
    }

    /// Makes the next transaction; `None` when nothing waits. Call it until then: between two calls there is room
    /// for an urgent update.
    pub fn step(&mut self, now: Duration) -> Result<Option<Step>, LaneError> {
        let most = if self.planner.flushes() { FLUSHED_CHUNK } else { CHUNK };
        let Some(chunk) = self.planner.next(most, now) else { return Ok(None) };
        match self.make(&chunk) {
            Ok(()) => {
                let (changed, urgent) = (chunk.operations.len(), chunk.lane == Queue::Urgent);
                self.note(&chunk);
                Ok(Some(Step { enforced: self.planner.done(chunk), changed, urgent }))
            }
            Err(error) => {
                self.planner.failed(chunk);
                Err(error)
            }
        }
    }

    /// Makes all that waits.
    pub fn settle(&mut self, now: Duration) -> Result<Vec<Enforced>, LaneError> {
        let mut enforced = Vec::new();
        while let Some(step) = self.step(now)? {
            enforced.extend(step.enforced);
        }
        Ok(enforced)
    }

    fn make(&mut self, chunk: &Chunk) -> Result<(), LaneError> {
        if chunk.lane == Queue::Bulk && !chunk.flush {
            self.leave_room(chunk)?;
        }
        let mut edits = Vec::with_capacity(chunk.operations.len());
        if chunk.flush {
            edits.extend(SETS.map(|(family, kind)| Edit::Flush { set: set_of(family, kind) }));
        }
        for operation in &chunk.operations {
            let (set, key) = (set_of(operation.family, operation.kind), key_of(operation));
            let remove = if self.abilities.destroy { Edit::Destroy { set, key } } else { Edit::Delete { set, key } };
            match operation.change {
                Change::Remove => edits.push(remove),
                Change::Add(timeout) => {
                    if !self.abilities.update {
                        edits.push(remove);
                    }
                    edits.push(Edit::Add { set, key, timeout });
                }
            }
        }
        loop {
            let refusals = match self.netfilter.change_many_elements(&self.table, &edits) {
                Ok(()) => return Ok(()),
                Err(ChangeError::Failed(failure)) if failure.errno() == Some(Errno::ENOENT) => return Err(LaneError::NoTable),
                Err(ChangeError::Failed(failure)) => return Err(LaneError::Failed(failure)),
                Err(ChangeError::Refused(refusals)) => refusals,
            };
            // What has expired meanwhile need not be deleted; the others must be, all the same.
            let mut in_vain = Vec::new();
            for refusal in &refusals {
                match (&edits[refusal.edit], refusal.errno) {
                    (Edit::Delete { .. }, Errno::ENOENT) => in_vain.push(refusal.edit),
                    (_, Errno::ENOENT) => return Err(LaneError::NoTable),
                    (edit, errno) => return Err(refused(edit, errno)),
                }
            }
            let tried = edits.len();
            let mut place = 0..;
            edits.retain(|_| place.next().is_none_or(|place| !in_vain.contains(&place)));
            // Each of several sets that are gone looks the same as an element that is.
            if edits.len() == tried || !self.is_there()? {
                return Err(LaneError::NoTable);
            }
        }
    }

    /// Refuses a part of a long update that would fill a set to the brim.
    fn leave_room(&mut self, chunk: &Chunk) -> Result<(), LaneError> {
        for (family, kind) in SETS {
            let is_added = |operation: &&Operation| {
                (operation.family, operation.kind) == (family, kind) && operation.change != Change::Remove
            };
            let added = u32::try_from(chunk.operations.iter().filter(is_added).count()).unwrap_or(u32::MAX);
            let most = size_of(kind) - RESERVE;
            let is_full = |count: Option<&u32>| added > 0 && count.is_some_and(|count| count.saturating_add(added) > most);
            if is_full(self.counts.get(&(family, kind))) {
                // Some may have been there already, or have ended.
                self.count()?;
                if is_full(self.counts.get(&(family, kind))) {
                    return Err(LaneError::Full { set: set_of(family, kind), size: size_of(kind) });
                }
            }
        }
        Ok(())
    }

    /// Reads how many elements each set has; kernels that don't tell leave it to the set's own limit.
    fn count(&mut self) -> Result<bool, LaneError> {
        let sets = self.netfilter.sets(&self.table).map_err(failed)?;
        let mut found = 0;
        for (family, kind) in SETS {
            if let Some(set) = sets.iter().find(|set| set.name == set_of(family, kind)) {
                found += 1;
                if let Some(count) = set.count {
                    self.counts.insert((family, kind), count);
                }
            }
        }
        Ok(found == SETS.len())
    }

    fn is_there(&mut self) -> Result<bool, LaneError> {
        self.count()
    }

    fn note(&mut self, chunk: &Chunk) {
        self.generation = None;
        let mut blocked = Vec::new();
        let mut prefixes = chunk.flush;
        for operation in &chunk.operations {
            if operation.change == Change::Remove {
                continue;
            }
            if let Some(count) = self.counts.get_mut(&(operation.family, operation.kind)) {
                *count = count.saturating_add(1);
            }
            match operation.kind {
                Kind::Addresses if blocked.len() <= FEW => blocked.push(address_of(operation)),
                Kind::Addresses | Kind::Prefixes => prefixes = true,
                Kind::Covers => {}
            }
        }
        match &mut self.to_cut {
            _ if prefixes => self.to_cut = ToCut::All,
            ToCut::All => {}
            ToCut::Nobodys if blocked.is_empty() => {}
            ToCut::Nobodys => self.to_cut = ToCut::Of(blocked),
            ToCut::Of(known) => {
                known.extend(blocked);
                if known.len() > FEW {
                    self.to_cut = ToCut::All;
                }
            }
        }
    }

    /// Ends the connections of those who were blocked since the last call: all that have an end there, whoever began
    /// them. A few addresses are looked for by the kernel; for more, every connection is looked at once.
    pub fn cut(&mut self, now: Duration) -> Result<Vec<Connection>, Error> {
        let found = match &self.to_cut {
            ToCut::Nobodys => return Ok(Vec::new()),
            ToCut::All => None,
            ToCut::Of(addresses) => {
                let mut found = Vec::new();
                let mut is_told = true;
                for address in addresses {
                    match self.netfilter.connections_of(*address) {
                        Ok(more) => found.extend(more),
                        Err(_) => is_told = false,
                    }
                }
                is_told.then_some(found)
            }
        };
        let connections = match found {
            Some(found) => found,
            None => {
                let (mut found, planner) = (Vec::new(), &self.planner);
                let is_blocked = |connection: &Connection| {
                    let ends = [connection.original.source, connection.original.destination, connection.reply.source];
                    // A packet to or from ourselves is not asked.
                    ends.into_iter().any(|end| !end.is_loopback() && planner.is_blocked(end, now))
                };
                self.netfilter.each_connection(|connection| {
                    if is_blocked(&connection) {
                        found.push(connection);
                    }
                })?;
                found
            }
        };
        let mut cut = Vec::new();
        for connection in connections {
            if self.netfilter.delete_connection(&connection)? {
                cut.push(connection);
            }
        }
        self.to_cut = ToCut::Nobodys;
        Ok(cut)
    }

    /// Looks for elements that no list has, which a program before this one may have left, and has them taken out; call it
    /// when all lists are there and nothing waits. `true` when there are none.
    ///
    /// What lists have stays in force meanwhile: up to 16,384 elements are put in anew in the transaction that empties the sets,
    /// of more those are read that are in a set with too many. Only where a set has more than 262,144, all are
    /// sent again, part by part.
    pub fn reconcile(&mut self, now: Duration) -> Result<bool, LaneError> {
        self.counts.clear();
        if !self.count()? {
            return Err(LaneError::NoTable);
        }
        let expected = self.planner.expected(now);
        // Kernels that don't tell a count have nothing that it could be compared with.
        let surplus: Vec<_> = SETS.into_iter().filter(|set| self.counts.get(set).is_none_or(|found| Some(found) > expected.get(set))).collect();
        if surplus.is_empty() {
            return Ok(true);
        }
        let all: usize = expected.values().map(|count| *count as usize).sum();
        if all <= FLUSHED_CHUNK || surplus.iter().any(|set| self.counts.get(set).is_none_or(|found| *found > READ)) {
            self.planner.rebuild(true);
            return Ok(false);
        }
        for (family, kind) in surplus {
            let elements = self.netfilter.elements(&self.table, set_of(family, kind)).map_err(failed)?;
            let number = |key: Vec<u8>| key.iter().fold(0, |number, byte| number << 8 | u128::from(*byte));
            let numbers: Vec<u128> = elements.into_iter().map(|element| number(element.key)).collect();
            self.planner.look_at(family, kind, numbers.into_iter());
        }
        Ok(false)
    }

    /// Compares the kernel's sets with the lists, by their counts. Where nothing waits to be sent, what was lost
    /// is sent again.
    pub fn check(&mut self, now: Duration) -> Result<Found, LaneError> {
        let generation = self.netfilter.generation().map_err(failed)?;
        if self.generation == Some(generation) {
            return Ok(Found::Same);
        }
        if !self.count()? {
            self.planner.rebuild(false);
            return Ok(Found::Gone);
        }
        if self.planner.is_settled() {
            for ((family, kind), expected) in self.planner.expected(now) {
                match self.counts.get(&(family, kind)) {
                    Some(found) if *found < expected => {
                        self.planner.rebuild(false);
                        return Ok(Found::Lost { set: set_of(family, kind), expected, found: *found });
                    }
                    _ => {}
                }
            }
            self.generation = Some(generation);
        }
        Ok(Found::Whole)
    }
}

const SETS: [(Family, Kind); 6] = [
    (Family::V4, Kind::Addresses),
    (Family::V4, Kind::Prefixes),
    (Family::V4, Kind::Covers),
    (Family::V6, Kind::Addresses),
    (Family::V6, Kind::Prefixes),
    (Family::V6, Kind::Covers),
];

fn set_of(family: Family, kind: Kind) -> &'static str {
    match kind {
        Kind::Addresses => blocks::addresses(family),
        Kind::Prefixes => blocks::prefixes(family),
        Kind::Covers => blocks::covers(family),
    }
}

fn size_of(kind: Kind) -> u32 {
    match kind {
        Kind::Addresses | Kind::Prefixes => MOST_ELEMENTS,
        Kind::Covers => MOST_COVERS,
    }
}

fn address_of(operation: &Operation) -> IpAddr {
    match operation.family {
        Family::V4 => IpAddr::V4(u32::try_from(operation.number).unwrap_or(u32::MAX).into()),
        Family::V6 => IpAddr::V6(operation.number.into()),
    }
}

fn key_of(operation: &Operation) -> Key {
    Key::new().address(address_of(operation))
}

fn refused(edit: &Edit<'_>, errno: Errno) -> LaneError {
    let Some((family, kind)) = SETS.into_iter().find(|(family, kind)| set_of(*family, *kind) == edit.set()) else {
        return LaneError::NoTable;
    };
    match errno {
        Errno::ENFILE => LaneError::Full { set: set_of(family, kind), size: size_of(kind) },
        errno => LaneError::Refused { set: set_of(family, kind), errno },
    }
}

fn failed(error: Error) -> LaneError {
    LaneError::Failed(match error {
        Error::Sets { source, .. } | Error::Generation(source) => source,
        // No other question is asked here.
        other => Failure::Socket(std::io::Error::other(other)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abilities_are_those_of_the_release() {
        let of = Abilities::of_release;
        assert_eq!(of("6.18.44-fc"), Abilities { destroy: true, update: true });
        assert_eq!(of("6.1.0-26-amd64"), Abilities { destroy: false, update: false });
        assert_eq!(of("6.8.0"), Abilities { destroy: true, update: false });
        assert_eq!(of(""), Abilities { destroy: false, update: false });
    }
}
