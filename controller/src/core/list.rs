//! One list: what is in it, and what it takes to bring an agent up to date.
//!
//! In: changes, the time. Out: messages, encoded once for whoever gets them. Never: a time that has run out, or one
//! that is longer than what is left of it but for a moment; more of the past than is worth keeping.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use ringwall_protocol::{Change, ELEMENTS_MAX, Element, ListRevision};

use crate::time::Time;

/// Elements of changes that are kept for who comes back: of more, the whole list is hardly more.
const KEPT_MAX: usize = 65_536;
/// Messages of one change; of more, everybody gets the whole list, part by part, rather than a full queue.
const DELTAS_MAX: usize = 16;
/// So long a message that was made for one agent is good for others. Times in it are longer by that.
const FRESH: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct List {
    pub name: String,
    /// Random, never 0: what an agent has of another life tells nothing.
    pub life: u64,
    /// Only rises.
    pub revision: u64,
    /// Until when; `None` is without end.
    entries: BTreeMap<IpNet, Option<Time>>,
    /// What each revision changed; the newest last.
    changed: VecDeque<(u64, Vec<IpNet>)>,
    kept: usize,
    snapshot: Option<(u64, Time, Arc<[Bytes]>)>,
    /// From this revision to that one.
    catch_up: Option<(u64, u64, Time, Bytes)>,
}

/// What an agent needs.
#[derive(Clone, Debug)]
pub(super) enum Missing {
    Nothing,
    Delta(Bytes),
    /// All of it: the parts, of which the first says that the others come.
    All(Arc<[Bytes]>),
}

impl List {
    pub fn new(name: String, life: u64) -> Self {
        let life = life.max(1);
        Self { name, life, revision: 0, entries: BTreeMap::new(), changed: VecDeque::new(), kept: 0, snapshot: None, catch_up: None }
    }

    pub fn place(&self) -> ListRevision {
        ListRevision { list: self.name.clone(), life: self.life, revision: self.revision }
    }

    /// What is in it, and for how long.
    pub fn entries(&self, now: Time) -> impl Iterator<Item = (IpNet, Option<Duration>)> {
        self.entries.iter().filter_map(move |(net, until)| {
            let left = until.map(|until| until.since(now));
            (left != Some(Duration::ZERO)).then_some((*net, left))
        })
    }

    /// The messages that bring everybody from the revision before to this one; `None` when they are so many that
    /// the whole list is better. None at all when nothing changed.
    pub fn change(&mut self, added: Vec<(IpNet, Option<Duration>)>, removed: Vec<IpNet>, now: Time) -> Option<Vec<Bytes>> {
        let mut touched = BTreeSet::new();
        for net in removed {
            if self.entries.remove(&net).is_some() {
                touched.insert(net);
            }
        }
        for (net, left) in added {
            let until = left.map(|left| now.after(left));
            if self.entries.insert(net, until) != Some(until) {
                touched.insert(net);
            }
        }
        let touched: Vec<IpNet> = touched.into_iter().collect();
        if touched.len() > DELTAS_MAX * ELEMENTS_MAX {
            self.revision += 1;
            self.changed.clear();
            self.kept = 0;
            return None;
        }
        let deltas = touched.chunks(ELEMENTS_MAX).map(|nets| {
            self.revision += 1;
            self.kept += nets.len();
            self.changed.push_back((self.revision, nets.to_vec()));
            self.delta(self.revision - 1, nets.iter(), now)
        });
        let deltas = deltas.collect();
        while self.kept > KEPT_MAX
            && let Some((_, nets)) = self.changed.pop_front()
        {
            self.kept -= nets.len();
        }
        Some(deltas)
    }

    /// What an agent needs that has the list at a revision, or not at all.
    pub fn missing(&mut self, has: Option<&ListRevision>, now: Time) -> Missing {
        let has = has.filter(|has| has.life == self.life && has.revision <= self.revision);
        let Some(has) = has.map(|has| has.revision) else { return Missing::All(self.snapshot(now)) };
        if has == self.revision {
            return Missing::Nothing;
        }
        if let Some((from, to, at, delta)) = &self.catch_up
            && (*from, *to) == (has, self.revision)
            && now.since(*at) < FRESH
        {
            return Missing::Delta(delta.clone());
        }
        let is_kept = self.changed.front().is_some_and(|(first, _)| *first <= has + 1);
        let since = self.changed.iter().rev().take_while(|(revision, _)| *revision > has);
        let nets: BTreeSet<IpNet> = since.flat_map(|(_, nets)| nets).copied().collect();
        if !is_kept || nets.len() > ELEMENTS_MAX {
            return Missing::All(self.snapshot(now));
        }
        let delta = self.delta(has, nets.iter(), now);
        self.catch_up = Some((has, self.revision, now, delta.clone()));
        Missing::Delta(delta)
    }

    /// As these are now, whatever they were at the revision that says they changed.
    fn delta<'a>(&self, from: u64, nets: impl Iterator<Item = &'a IpNet>, now: Time) -> Bytes {
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for net in nets {
            match self.entries.get(net).map(|until| until.map(|until| until.since(now))) {
                None | Some(Some(Duration::ZERO)) => removed.push(element(*net, None)),
                Some(left) => added.push(element(*net, left)),
            }
        }
        self.encode(Change::Delta { from, to: self.revision, added, removed })
    }

    /// All of it, in parts, of which each has room in a message.
    pub fn snapshot(&mut self, now: Time) -> Arc<[Bytes]> {
        if let Some((revision, at, parts)) = &self.snapshot
            && *revision == self.revision
            && now.since(*at) < FRESH
        {
            return parts.clone();
        }
        let mut parts = Vec::new();
        let mut elements = self.entries(now).map(|(net, left)| element(net, left)).peekable();
        while parts.is_empty() || elements.peek().is_some() {
            let some = elements.by_ref().take(ELEMENTS_MAX).collect();
            let (part, last) = (u32::try_from(parts.len()).unwrap_or(u32::MAX), elements.peek().is_none());
            parts.push(self.encode(Change::Snapshot { revision: self.revision, part, last, elements: some }));
        }
        drop(elements);
        let parts: Arc<[Bytes]> = parts.into();
        self.snapshot = Some((self.revision, now, parts.clone()));
        parts
    }

    fn encode(&self, change: Change) -> Bytes {
        ringwall_protocol::List { list: self.name.clone(), life: self.life, change }.encode()
    }

    /// Forgets what has ended, as the nodes' kernels do by themselves, and messages that are not fresh.
    pub fn sweep(&mut self, now: Time) {
        self.entries.retain(|_, until| until.is_none_or(|until| until > now));
        self.snapshot.take_if(|(_, at, _)| now.since(*at) >= FRESH);
        self.catch_up.take_if(|(_, _, at, _)| now.since(*at) >= FRESH);
    }
}

fn element(net: IpNet, left: Option<Duration>) -> Element {
    // Rounded up: nobody is let in before it is over.
    let seconds = left.and_then(|left| NonZeroU32::new(u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(0)));
    Element { network: net.network(), length: net.prefix_len(), seconds }
}
