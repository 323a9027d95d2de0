//! What one list says about addresses of one family.
//!
//! In: prefixes with the time until which they are blocked. Out: until when the list wants an element to be in
//! the kernel. Never: an element that touches an address that must not be blocked.

use std::collections::BTreeMap;

use super::packed::Packed;
use super::word::{Word, parts};

/// The time of what stays until it is removed.
pub const LASTING: u32 = u32::MAX;

/// Addresses that must not be blocked, as disjoint ranges in order.
#[derive(Clone, Debug, Default)]
pub struct Forbidden<W>(pub Vec<(W, W)>);

impl<W: Word> Forbidden<W> {
    fn touches(&self, first: W, last: W) -> Option<(W, W)> {
        let next = self.0.partition_point(|(_, end)| *end < first);
        self.0.get(next).copied().filter(|(begin, _)| *begin <= last)
    }

    /// What is left of a prefix, as prefixes.
    fn rest(&self, first: W, length: u8, into: &mut Vec<(W, u8)>) {
        let last = first.last(length);
        match self.touches(first, last) {
            None => into.push((first, length)),
            Some((begin, end)) if begin <= first && last <= end => {}
            Some(_) => parts(first, length, length + 1).for_each(|half| self.rest(half, length + 1, into)),
        }
    }
}

/// A prefix that touches what is forbidden: its time, and what is left of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held<W> {
    until: u32,
    rest: Vec<(W, u8)>,
}

/// An element of the kernel's sets. Prefixes and covers are marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element<W> {
    Address(W),
    Prefix(W),
    Cover(W),
}

/// What of a list has to be looked at again; prefixes are marked.
#[derive(Clone, Debug)]
pub struct Touched<W> {
    pub addresses: Vec<W>,
    pub prefixes: Vec<W>,
}

impl<W> Default for Touched<W> {
    fn default() -> Self {
        Self { addresses: Vec::new(), prefixes: Vec::new() }
    }
}

impl<W: Word> Touched<W> {
    fn add(&mut self, first: W, length: u8) {
        if length == W::BITS { self.addresses.push(first) } else { self.prefixes.push(first.mark(length)) }
    }

    /// In order, each once.
    pub fn sort(&mut self) {
        for all in [&mut self.addresses, &mut self.prefixes] {
            if !all.is_sorted_by(|a, b| a < b) {
                all.sort_unstable();
                all.dedup();
            }
        }
    }

    pub fn len(&self) -> usize {
        self.addresses.len() + self.prefixes.len()
    }
}

#[derive(Clone, Debug)]
pub struct Entries<W> {
    addresses: Packed<W>,
    /// Of every length shorter than an address, marked.
    prefixes: Packed<W>,
    /// How many prefixes there are of each length.
    lengths: Vec<u32>,
    /// By first address and length.
    held: BTreeMap<(W, u8), Held<W>>,
    /// What was loaded and is not yet in its place: addresses and prefixes.
    runs: [Vec<(W, u32)>; 2],
}

impl<W: Word> Default for Entries<W> {
    fn default() -> Self {
        let lengths = vec![0; usize::from(W::BITS) + 1];
        Self { addresses: Packed::default(), prefixes: Packed::default(), lengths, held: BTreeMap::new(), runs: Default::default() }
    }
}

impl<W: Word> Entries<W> {
    pub fn len(&self) -> usize {
        self.addresses.len() + self.prefixes.len() + self.held.len()
    }

    /// `first` has no bits behind `length`. `true` when it touches what is forbidden: then only what is left is in force.
    pub fn add(&mut self, first: W, length: u8, until: u32, forbidden: &Forbidden<W>, touched: &mut Touched<W>) -> bool {
        if forbidden.touches(first, first.last(length)).is_some() {
            let mut rest = Vec::new();
            forbidden.rest(first, length, &mut rest);
            rest.iter().for_each(|(first, length)| touched.add(*first, *length));
            self.held.insert((first, length), Held { until, rest });
            return true;
        }
        let before = if length == W::BITS {
            self.addresses.insert(first, until)
        } else {
            self.prefixes.insert(first.mark(length), until)
        };
        if before.is_none() && length < W::BITS {
            self.lengths[usize::from(length)] += 1;
        }
        if before != Some(until) {
            touched.add(first, length);
        }
        false
    }

    /// Adds one of many, which are there once [`Entries::settle`] was called. What [`Entries::add`] says.
    pub fn load(&mut self, first: W, length: u8, until: u32, forbidden: &Forbidden<W>) -> bool {
        /// Of each run; larger ones are faster, until they are what the memory is for.
        const BYTES: usize = 8 << 20;
        if forbidden.touches(first, first.last(length)).is_some() {
            return self.add(first, length, until, forbidden, &mut Touched::default());
        }
        let (run, entry) = if length == W::BITS { (0, (first, until)) } else { (1, (first.mark(length), until)) };
        self.runs[run].push(entry);
        if size_of_val(&self.runs[run][..]) >= BYTES {
            let map = if run == 0 { &mut self.addresses } else { &mut self.prefixes };
            map.absorb(&mut self.runs[run]);
        }
        false
    }

    /// Puts what was loaded in its place.
    pub fn settle(&mut self) {
        let [addresses, prefixes] = &mut self.runs;
        self.addresses.absorb(addresses);
        self.prefixes.absorb(prefixes);
        self.runs = Default::default();
        self.lengths.fill(0);
        self.prefixes.iter().for_each(|(marked, _)| self.lengths[usize::from(marked.unmark().1)] += 1);
    }

    pub fn remove(&mut self, first: W, length: u8, touched: &mut Touched<W>) {
        if let Some(held) = self.held.remove(&(first, length)) {
            held.rest.iter().for_each(|(first, length)| touched.add(*first, *length));
        }
        let before = if length == W::BITS { self.addresses.remove(first) } else { self.prefixes.remove(first.mark(length)) };
        if before.is_some() {
            if length < W::BITS {
                self.lengths[usize::from(length)] -= 1;
            }
            touched.add(first, length);
        }
    }

    /// All of it.
    pub fn all(&self, touched: &mut Touched<W>) {
        touched.addresses.extend(self.addresses.iter().map(|(key, _)| key));
        touched.prefixes.extend(self.prefixes.iter().map(|(key, _)| key));
        self.held.values().flat_map(|held| &held.rest).for_each(|(first, length)| touched.add(*first, *length));
    }

    /// Where it differs from another.
    pub fn differences(&self, other: &Self, touched: &mut Touched<W>) {
        differences(self.addresses.iter(), other.addresses.iter(), &mut touched.addresses);
        differences(self.prefixes.iter(), other.prefixes.iter(), &mut touched.prefixes);
        for (one, other) in [(self, other), (other, self)] {
            let changed = one.held.iter().filter(|(key, held)| other.held.get(key) != Some(held));
            changed.flat_map(|(_, held)| &held.rest).for_each(|(first, length)| touched.add(*first, *length));
        }
    }

    /// Everything again under other bounds; what changes is touched.
    pub fn bounded(&self, forbidden: &Forbidden<W>) -> Self {
        let (mut new, mut touched) = (Self::default(), Touched::default());
        for (first, until) in self.addresses.iter() {
            new.add(first, W::BITS, until, forbidden, &mut touched);
        }
        for (marked, until) in self.prefixes.iter() {
            let (first, length) = marked.unmark();
            new.add(first, length, until, forbidden, &mut touched);
        }
        for ((first, length), held) in &self.held {
            new.add(*first, *length, held.until, forbidden, &mut touched);
        }
        new
    }

    /// Until when the list wants an element; 0 when it does not. A cover is wanted until it is removed.
    pub fn until(&self, element: Element<W>, now: u32) -> u32 {
        match element {
            Element::Address(address) => {
                let exact = self.addresses.get(address).unwrap_or(0);
                exact.max(self.wider(address, W::BITS))
            }
            Element::Prefix(marked) => {
                let (first, level) = marked.unmark();
                self.wider(first, level)
            }
            Element::Cover(marked) => {
                let (first, length) = marked.unmark();
                if self.is_covered(first, length, now) { LASTING } else { 0 }
            }
        }
    }

    /// The latest time of the prefixes that are elements of a level, around an element.
    fn wider(&self, first: W, level: u8) -> u32 {
        let mut until = 0;
        for length in level.saturating_sub(W::STEP) + 1..=level.min(W::BITS - 1) {
            if self.lengths[usize::from(length)] > 0 {
                until = until.max(self.prefixes.get(first.mark(length)).unwrap_or(0));
            }
        }
        for (_, held) in self.held_around(first) {
            let is_part = |(start, length): &(W, u8)| W::level(*length) == level && *start <= first && first <= start.last(*length);
            if held.rest.iter().any(is_part) {
                until = until.max(held.until);
            }
        }
        until
    }

    fn held_around(&self, address: W) -> impl Iterator<Item = (&(W, u8), &Held<W>)> {
        self.held.iter().filter(move |((first, length), _)| *first <= address && address <= first.last(*length))
    }

    /// Whether any prefix that lives needs this cover to be found.
    fn is_covered(&self, first: W, cover: u8, now: u32) -> bool {
        let tiers = ringwall_ruleset::nftables::blocks::cover_lengths(W::FAMILY);
        let is_first = tiers.first() == Some(&cover);
        let needs = |length: u8| W::level(length) < W::BITS && (is_first || W::level(length) > cover);
        let last = first.last(cover);
        let within = self.prefixes.from(first).take_while(|(marked, _)| *marked <= last);
        if within.into_iter().any(|(marked, until)| until > now && needs(marked.unmark().1)) {
            return true;
        }
        let is_wider = |length: u8| {
            let there = self.lengths[usize::from(length)] > 0;
            there && needs(length) && self.prefixes.get(first.mark(length)).is_some_and(|until| until > now)
        };
        let is_part = |(start, length): &(W, u8)| needs(*length) && *start <= last && first <= start.last(*length);
        (0..cover).any(is_wider) || self.held.values().any(|held| held.until > now && held.rest.iter().any(is_part))
    }

    /// Until when the list blocks an address, and by which prefix.
    pub fn blocks(&self, address: W, now: u32) -> Option<(W, u8, u32)> {
        let exact = self.addresses.get(address).map(|until| (address, W::BITS, until));
        let lengths = (0..W::BITS).filter(|length| self.lengths[usize::from(*length)] > 0);
        let prefixes = lengths.filter_map(|length| Some((address.first(length), length, self.prefixes.get(address.mark(length))?)));
        let held = self.held_around(address).filter(|(_, held)| {
            held.rest.iter().any(|(first, length)| *first <= address && address <= first.last(*length))
        });
        let held = held.map(|((first, length), held)| (*first, *length, held.until));
        exact.into_iter().chain(prefixes).chain(held).filter(|(.., until)| *until > now).max_by_key(|(_, length, until)| (*until, *length))
    }

    /// Takes out what has ended, looking at some of it, from a place on; the next place.
    pub fn sweep(&mut self, place: Place<W>, some: usize, now: u32, touched: &mut Touched<W>) -> Place<W> {
        let (from, is_address) = match place {
            Place::Start => (None, true),
            Place::Address(from) => (Some(from), true),
            Place::Prefix(from) => (from, false),
        };
        let map = if is_address { &mut self.addresses } else { &mut self.prefixes };
        let mut looked = 0;
        let mut next = None;
        let mut ended = Vec::new();
        let start = from.or_else(|| map.iter().next().map(|(key, _)| key));
        if let Some(start) = start {
            for (key, until) in map.from(start) {
                if looked == some {
                    next = Some(key);
                    break;
                }
                looked += 1;
                if until <= now {
                    ended.push(key);
                }
            }
        }
        for key in ended {
            map.remove(key);
            if !is_address {
                self.lengths[usize::from(key.unmark().1)] -= 1;
                touched.prefixes.push(key);
            }
        }
        match (is_address, next) {
            (true, Some(next)) => Place::Address(next),
            (true, None) => Place::Prefix(None),
            (false, Some(next)) => Place::Prefix(Some(next)),
            (false, None) => {
                self.held.retain(|_, held| {
                    if held.until <= now {
                        held.rest.iter().for_each(|(first, length)| touched.add(*first, *length));
                    }
                    held.until > now
                });
                Place::Start
            }
        }
    }
}

/// Where a sweep goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place<W> {
    #[default]
    Start,
    Address(W),
    Prefix(Option<W>),
}

/// Keys that are in one of two sorted runs alone, or in both with different times.
fn differences<W: Word>(one: impl Iterator<Item = (W, u32)>, other: impl Iterator<Item = (W, u32)>, into: &mut Vec<W>) {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    loop {
        match (one.peek().copied(), other.peek().copied()) {
            (None, None) => return,
            (Some((key, time)), Some((same, until))) if key == same => {
                if time != until {
                    into.push(key);
                }
                one.next();
                other.next();
            }
            (Some((key, _)), next) if next.is_none_or(|(after, _)| key < after) => {
                into.push(key);
                one.next();
            }
            (_, Some((key, _))) => {
                into.push(key);
                other.next();
            }
            (Some(_), None) => return,
        }
    }
}
