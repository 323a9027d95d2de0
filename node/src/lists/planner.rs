//! From lists to changes of the kernel's sets, without a kernel.
//!
//! In: lists, whole or what changed in them, the time, and whether the last changes were made. Out: the
//! next changes, a transaction at a time, and which updates of which lists are in the kernel. Never: a
//! socket, a clock, an address that must not be blocked.
//!
//! There is no copy of what the kernel holds. What an update touches is noted; when its turn comes, all lists are
//! asked until when they want it. So an address stays as long as any list has it, for the longest of
//! their times, whatever order things come in. Changes can be repeated: adding what is there gives it its new
//! time, taking out what is not there is no error.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use ringwall_packet::{AddressSet, Family};

use super::entries::{Element, Entries, Forbidden, LASTING, Place, Touched};
use super::word::Word;
use super::work::Work;

/// More lists than this are refused: each change asks all of them.
pub const MOST_LISTS: usize = 64;
/// An update of at most so many entries goes before larger ones.
const MOST_URGENT: usize = 256;
/// Updates that wait in the urgent lane; more wait in the other.
const MOST_WAITING: usize = 4096;
/// Refusals that are named one by one.
const MOST_NAMED: usize = 100;

/// A prefix in a list, and how long it stays there; `None`: until it is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub prefix: Prefix,
    pub left: Option<Duration>,
}

/// A network address and a length; bits behind the length count as zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    pub network: IpAddr,
    pub length: u8,
}

impl From<IpAddr> for Prefix {
    fn from(network: IpAddr) -> Self {
        let length = if network.is_ipv4() { u32::BITS } else { u128::BITS };
        Self { network, length: u8::try_from(length).unwrap_or(u8::MAX) }
    }
}

/// What may be blocked at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Protected addresses and our own.
    pub forbidden: AddressSet,
    /// The shortest prefixes that may be blocked.
    pub shortest4: u8,
    pub shortest6: u8,
}

impl Default for Bounds {
    /// The largest networks that are one holder's: RFC 1166 class A, and a /19 of IPv6.
    fn default() -> Self {
        Self { forbidden: AddressSet::default(), shortest4: 8, shortest6: 19 }
    }
}

/// Why an entry is not in force as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bounded {
    /// Longer than an address, or shorter than the bounds: not taken at all.
    Length,
    /// Touches what must not be blocked: the rest of it, if any, is in force.
    Forbidden,
}

/// What became of an update's entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// How many entries are not in force as written, and the first of them.
    pub bounded: usize,
    pub named: Vec<(Prefix, Bounded)>,
}

impl Taken {
    fn name(&mut self, prefix: Prefix, why: Bounded) {
        self.bounded += 1;
        if self.named.len() < MOST_NAMED {
            self.named.push((prefix, why));
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {MOST_LISTS} lists already")]
pub struct TooManyLists;

/// An update of a list that the kernel has as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enforced {
    pub list: String,
    pub revision: u64,
}

/// One of the table's sets that are filled here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Addresses,
    Prefixes,
    Covers,
}

/// One change of one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    pub family: Family,
    pub kind: Kind,
    /// The element, a 32-bit number if the family is IPv4's.
    pub number: u128,
    pub change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Put in, or given this time; `None`: it stays.
    Add(Option<Duration>),
    /// Taken out if it is there.
    Remove,
}

/// Which of the two queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    Urgent,
    Bulk,
}

/// Changes that are made in one transaction.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub lane: Lane,
    /// All sets are emptied first.
    pub flush: bool,
    pub operations: Vec<Operation>,
}

#[derive(Clone, Debug)]
struct Job {
    updates: Vec<Enforced>,
    flush: bool,
    v4: Work<u32>,
    v6: Work<u128>,
}

impl Job {
    fn left(&self) -> usize {
        self.v4.left() + self.v6.left()
    }
}

/// One family's part of all lists.
#[derive(Clone, Debug, Default)]
struct Side<W> {
    /// By number of the list.
    lists: Vec<Entries<W>>,
    forbidden: Forbidden<W>,
    sweep: (usize, Place<W>),
}

/// A list that is being received as a whole.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Which bounds its entries were held against.
    bounds: u64,
    v4: Entries<u32>,
    v6: Entries<u128>,
    taken: Taken,
}

#[derive(Clone, Debug, Default)]
pub struct Planner {
    names: BTreeMap<String, usize>,
    bounds: Bounds,
    /// How often they were set.
    bounds_number: u64,
    v4: Side<u32>,
    v6: Side<u128>,
    urgent: VecDeque<Job>,
    bulk: VecDeque<Job>,
}

impl Planner {
    pub fn new(bounds: Bounds) -> Self {
        let mut planner = Self::default();
        planner.set_bounds(bounds);
        planner
    }

    /// From now on nothing in `bounds.forbidden` is blocked, whatever lists say; what is no longer in it is, if
    /// a list has it. Prefixes that were too short when they came are not kept.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        let v4 = bounds.forbidden.v4.intervals().iter();
        self.v4.forbidden = Forbidden(v4.map(|range| (range.first().to_bits(), range.last().to_bits())).collect());
        let v6 = bounds.forbidden.v6.intervals().iter();
        self.v6.forbidden = Forbidden(v6.map(|range| (range.first().to_bits(), range.last().to_bits())).collect());
        self.bounds = bounds;
        self.bounds_number += 1;
        let (v4, v6) = (self.v4.rebound(), self.v6.rebound());
        self.push(Vec::new(), v4, v6);
    }

    fn list(&mut self, name: &str) -> Result<usize, TooManyLists> {
        if let Some(number) = self.names.get(name) {
            return Ok(*number);
        }
        let free = (0..MOST_LISTS).find(|number| !self.names.values().any(|used| used == number));
        let number = free.ok_or(TooManyLists)?;
        self.names.insert(name.to_owned(), number);
        if number == self.v4.lists.len() {
            self.v4.lists.push(Entries::default());
            self.v6.lists.push(Entries::default());
        }
        Ok(number)
    }

    /// A list that is about to be received.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { bounds: self.bounds_number, ..Snapshot::default() }
    }

    /// Adds entries to a snapshot. `now` is the time since some fixed moment, here as everywhere.
    pub fn receive(&self, snapshot: &mut Snapshot, entries: impl IntoIterator<Item = Entry>, now: Duration) {
        let Snapshot { v4, v6, taken, .. } = snapshot;
        for entry in entries {
            self.enter(
                entry,
                now,
                taken,
                |first, length, until| v4.load(first, length, until, &self.v4.forbidden),
                |first, length, until| v6.load(first, length, until, &self.v6.forbidden),
            );
        }
    }

    /// The list is what was received, and nothing else.
    pub fn replace(&mut self, list: &str, revision: u64, mut snapshot: Snapshot) -> Result<Taken, TooManyLists> {
        let number = self.list(list)?;
        snapshot.v4.settle();
        snapshot.v6.settle();
        if snapshot.bounds != self.bounds_number {
            snapshot.v4 = snapshot.v4.bounded(&self.v4.forbidden);
            snapshot.v6 = snapshot.v6.bounded(&self.v6.forbidden);
        }
        let v4 = self.v4.replace(number, snapshot.v4);
        let v6 = self.v6.replace(number, snapshot.v6);
        self.push(vec![Enforced { list: list.to_owned(), revision }], v4, v6);
        Ok(snapshot.taken)
    }

    /// Some entries more, some less; one that is there already gets its new time.
    pub fn change(
        &mut self,
        list: &str,
        revision: u64,
        added: impl IntoIterator<Item = Entry>,
        removed: impl IntoIterator<Item = Prefix>,
        now: Duration,
    ) -> Result<Taken, TooManyLists> {
        let number = self.list(list)?;
        let (mut v4, mut v6, mut taken) = (Touched::default(), Touched::default(), Taken::default());
        let (mut own4, mut own6) = (std::mem::take(&mut self.v4.lists[number]), std::mem::take(&mut self.v6.lists[number]));
        for Prefix { network, length } in removed {
            match network {
                IpAddr::V4(address) if length <= 32 => own4.remove(address.to_bits().first(length), length, &mut v4),
                IpAddr::V6(address) if length <= 128 => own6.remove(address.to_bits().first(length), length, &mut v6),
                _ => {}
            }
        }
        for entry in added {
            self.enter(
                entry,
                now,
                &mut taken,
                |first, length, until| own4.add(first, length, until, &self.v4.forbidden, &mut v4),
                |first, length, until| own6.add(first, length, until, &self.v6.forbidden, &mut v6),
            );
        }
        (self.v4.lists[number], self.v6.lists[number]) = (own4, own6);
        self.push(vec![Enforced { list: list.to_owned(), revision }], v4, v6);
        Ok(taken)
    }

    /// The list is gone; what others have stays.
    pub fn forget(&mut self, list: &str, revision: u64) {
        if let Some(number) = self.names.remove(list) {
            let v4 = self.v4.replace(number, Entries::default());
            let v6 = self.v6.replace(number, Entries::default());
            self.push(vec![Enforced { list: list.to_owned(), revision }], v4, v6);
        }
    }

    fn enter(
        &self,
        Entry { prefix, left }: Entry,
        now: Duration,
        taken: &mut Taken,
        add4: impl FnOnce(u32, u8, u32) -> bool,
        add6: impl FnOnce(u128, u8, u32) -> bool,
    ) {
        let until = left.map_or(LASTING, |left| seconds_up(now.saturating_add(left)));
        let Prefix { network, length } = prefix;
        let is_forbidden = match network {
            IpAddr::V4(address) if (self.bounds.shortest4..=32).contains(&length) => {
                add4(address.to_bits().first(length), length, until)
            }
            IpAddr::V6(address) if (self.bounds.shortest6..=128).contains(&length) => {
                add6(address.to_bits().first(length), length, until)
            }
            _ => return taken.name(prefix, Bounded::Length),
        };
        if is_forbidden {
            taken.name(prefix, Bounded::Forbidden);
        }
    }

    fn push(&mut self, updates: Vec<Enforced>, v4: Touched<u32>, v6: Touched<u128>) {
        let job = Job { updates, flush: false, v4: Work::new(v4), v6: Work::new(v6) };
        if job.updates.is_empty() && job.left() == 0 {
            return;
        }
        if job.left() <= MOST_URGENT && self.urgent.len() < MOST_WAITING {
            return self.urgent.push_back(job);
        }
        // What waits is never more than what there is, however often a list is replaced.
        match self.bulk.back_mut() {
            Some(last) => {
                last.updates.extend(job.updates);
                last.v4.merge(job.v4);
                last.v6.merge(job.v6);
            }
            None => self.bulk.push_back(job),
        }
    }

    /// Everything that lists have is sent again. With `flush`, what is in the kernel goes in the
    /// transaction in which the first part comes: for what an earlier program left, or another put there.
    pub fn rebuild(&mut self, flush: bool) {
        let (mut v4, mut v6) = (Touched::default(), Touched::default());
        self.v4.lists.iter().for_each(|list| list.all(&mut v4));
        self.v6.lists.iter().for_each(|list| list.all(&mut v6));
        let mut job = Job { updates: Vec::new(), flush, v4: Work::new(v4), v6: Work::new(v6) };
        // Acknowledged once it is in the kernel again, whatever had been sent of it.
        for old in self.urgent.drain(..).chain(self.bulk.drain(..)) {
            job.updates.extend(old.updates);
            job.v4.merge(old.v4);
            job.v6.merge(old.v6);
        }
        self.bulk.push_back(job);
    }

    /// Has these elements looked at again, whoever put them there: what no list wants is taken out.
    pub fn look_at(&mut self, family: Family, kind: Kind, numbers: impl DoubleEndedIterator<Item = u128>) {
        fn work<W: Word>(kind: Kind, words: impl DoubleEndedIterator<Item = W>) -> Work<W> {
            let mut work = Work::new(Touched::default());
            work.return_all(words.map(|word| match kind {
                Kind::Addresses => Element::Address(word),
                Kind::Prefixes => Element::Prefix(word),
                Kind::Covers => Element::Cover(word),
            }));
            work
        }
        let (mut v4, mut v6) = (Work::new(Touched::default()), Work::new(Touched::default()));
        match family {
            Family::V4 => v4 = work(kind, numbers.map(|number| u32::try_from(number).unwrap_or(u32::MAX))),
            Family::V6 => v6 = work(kind, numbers),
        }
        self.bulk.push_back(Job { updates: Vec::new(), flush: false, v4, v6 });
    }

    pub fn is_settled(&self) -> bool {
        self.urgent.is_empty() && self.bulk.is_empty()
    }

    /// Entries that are still to be sent.
    pub fn waiting(&self) -> usize {
        self.urgent.iter().chain(&self.bulk).map(Job::left).sum()
    }

    /// The next changes, at most `most` of them: urgent ones first. They must be told to be [`Planner::done`] or
    /// [`Planner::failed`] before the next ones are asked for.
    pub fn next(&mut self, most: usize, now: Duration) -> Option<Chunk> {
        // Sets are emptied before anything else comes: it would go with the rest.
        let lane = if self.urgent.is_empty() || self.flushes() { Lane::Bulk } else { Lane::Urgent };
        let queue = match lane {
            Lane::Urgent => &mut self.urgent,
            Lane::Bulk => &mut self.bulk,
        };
        let job = queue.front_mut()?;
        let mut operations = Vec::with_capacity(most.min(job.left()));
        take(&mut job.v4, &self.v4, most, now, &mut operations);
        take(&mut job.v6, &self.v6, most, now, &mut operations);
        Some(Chunk { lane, flush: job.flush, operations })
    }

    /// Whether the next chunk empties the sets.
    pub fn flushes(&self) -> bool {
        self.bulk.front().is_some_and(|job| job.flush)
    }

    /// The chunk is in the kernel. Updates that are in it as a whole now.
    pub fn done(&mut self, chunk: Chunk) -> Vec<Enforced> {
        let lane = self.lane(chunk.lane);
        let Some(job) = lane.front_mut() else { return Vec::new() };
        job.flush = false;
        if job.left() > 0 {
            return Vec::new();
        }
        lane.pop_front().map(|job| job.updates).unwrap_or_default()
    }

    /// The chunk is not in the kernel. It comes again, behind everything else that waits.
    pub fn failed(&mut self, chunk: Chunk) {
        let Some(mut job) = self.lane(chunk.lane).pop_front() else { return };
        fn own<W: Word>(chunk: &Chunk, word: impl Fn(u128) -> W + Copy) -> impl DoubleEndedIterator<Item = Element<W>> {
            let own = chunk.operations.iter().filter(|operation| operation.family == W::FAMILY);
            own.map(move |operation| match operation.kind {
                Kind::Addresses => Element::Address(word(operation.number)),
                Kind::Prefixes => Element::Prefix(word(operation.number)),
                Kind::Covers => Element::Cover(word(operation.number)),
            })
        }
        job.v4.return_all(own(&chunk, |number| u32::try_from(number).unwrap_or(u32::MAX)));
        job.v6.return_all(own(&chunk, |number| number));
        if job.flush { self.bulk.push_front(job) } else { self.bulk.push_back(job) }
    }

    fn lane(&mut self, lane: Lane) -> &mut VecDeque<Job> {
        match lane {
            Lane::Urgent => &mut self.urgent,
            Lane::Bulk => &mut self.bulk,
        }
    }

    /// Until when an address is blocked by a list, and by which of its prefixes; `None` without end. For each list.
    pub fn blocks(&self, address: IpAddr, now: Duration) -> Vec<(&str, Prefix, Option<Duration>)> {
        fn of<W: Word>(side: &Side<W>, number: usize, address: W, now: u32) -> Option<(Prefix, u32)> {
            let (first, length, until) = side.lists.get(number)?.blocks(address, now)?;
            Some((Prefix { network: first.address(), length }, until))
        }
        let seconds = seconds(now);
        let found = self.names.iter().filter_map(|(name, number)| {
            let (prefix, until) = match address {
                IpAddr::V4(address) => of(&self.v4, *number, address.to_bits(), seconds)?,
                IpAddr::V6(address) => of(&self.v6, *number, address.to_bits(), seconds)?,
            };
            let left = (until != LASTING).then(|| Duration::from_secs(until.into()).saturating_sub(now));
            Some((name.as_str(), prefix, left))
        });
        found.collect()
    }

    pub fn is_blocked(&self, address: IpAddr, now: Duration) -> bool {
        let seconds = seconds(now);
        match address {
            IpAddr::V4(address) => self.v4.lists.iter().any(|list| list.blocks(address.to_bits(), seconds).is_some()),
            IpAddr::V6(address) => self.v6.lists.iter().any(|list| list.blocks(address.to_bits(), seconds).is_some()),
        }
    }

    /// Forgets what has ended, looking at `some` entries of each family, from where it stopped. The kernel has
    /// forgotten it by itself, but for covers.
    pub fn sweep(&mut self, some: usize, now: Duration) {
        let (v4, v6) = (self.v4.sweep(some, seconds(now)), self.v6.sweep(some, seconds(now)));
        self.push(Vec::new(), v4, v6);
    }

    /// Entries of all lists.
    pub fn len(&self) -> usize {
        let v4: usize = self.v4.lists.iter().map(Entries::len).sum();
        v4 + self.v6.lists.iter().map(Entries::len).sum::<usize>()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many elements each of the kernel's sets must have at least, once nothing waits. It takes some 100 ns for each.
    pub fn expected(&self, now: Duration) -> BTreeMap<(Family, Kind), u32> {
        let mut counts = BTreeMap::new();
        self.v4.count(now, &mut counts);
        self.v6.count(now, &mut counts);
        counts
    }
}

impl<W: Word> Side<W> {
    fn rebound(&mut self) -> Touched<W> {
        let mut touched = Touched::default();
        for list in &mut self.lists {
            let new = list.bounded(&self.forbidden);
            list.differences(&new, &mut touched);
            *list = new;
        }
        touched
    }

    fn replace(&mut self, number: usize, new: Entries<W>) -> Touched<W> {
        let mut touched = Touched::default();
        let old = std::mem::replace(&mut self.lists[number], new);
        old.differences(&self.lists[number], &mut touched);
        touched
    }

    fn sweep(&mut self, some: usize, now: u32) -> Touched<W> {
        let mut touched = Touched::default();
        let (number, place) = self.sweep;
        self.sweep = match self.lists.get_mut(number).map(|list| list.sweep(place, some, now, &mut touched)) {
            None => (0, Place::Start),
            Some(Place::Start) => (number + 1, Place::Start),
            Some(place) => (number, place),
        };
        touched
    }

    fn change(&self, element: Element<W>, now: Duration) -> Change {
        let seconds = seconds(now);
        let until = self.lists.iter().map(|list| list.until(element, seconds)).max().unwrap_or(0);
        if until == LASTING {
            return Change::Add(None);
        }
        match Duration::from_secs(until.into()).checked_sub(now) {
            Some(left) if !left.is_zero() => Change::Add(Some(left)),
            _ => Change::Remove,
        }
    }

    fn count(&self, now: Duration, counts: &mut BTreeMap<(Family, Kind), u32>) {
        let mut touched = Touched::default();
        self.lists.iter().for_each(|list| list.all(&mut touched));
        let mut work = Work::new(touched);
        let mut elements: [Vec<W>; 3] = Default::default();
        while let Some(element) = work.next() {
            let (kind, word) = parts_of(element);
            if self.change(element, now) != Change::Remove {
                elements[kind as usize].push(word);
            }
        }
        for (kind, mut words) in [Kind::Addresses, Kind::Prefixes, Kind::Covers].into_iter().zip(elements) {
            words.sort_unstable();
            words.dedup();
            counts.insert((W::FAMILY, kind), u32::try_from(words.len()).unwrap_or(u32::MAX));
        }
    }
}

fn parts_of<W: Word>(element: Element<W>) -> (Kind, W) {
    match element {
        Element::Address(word) => (Kind::Addresses, word),
        Element::Prefix(word) => (Kind::Prefixes, word),
        Element::Cover(word) => (Kind::Covers, word),
    }
}

fn take<W: Word>(work: &mut Work<W>, side: &Side<W>, most: usize, now: Duration, operations: &mut Vec<Operation>) {
    while operations.len() < most
        && let Some(element) = work.next()
    {
        let (kind, word) = parts_of(element);
        operations.push(Operation { family: W::FAMILY, kind, number: word.number(), change: side.change(element, now) });
    }
}

/// Whole seconds; what ends within one has not ended before its end.
fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(LASTING - 1).min(LASTING - 1)
}

fn seconds_up(time: Duration) -> u32 {
    let up = u64::from(time.subsec_nanos() > 0);
    u32::try_from(time.as_secs().saturating_add(up)).unwrap_or(LASTING - 1).min(LASTING - 1)
}
