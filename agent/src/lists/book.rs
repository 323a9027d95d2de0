//! What the controller said of each list, and how much of that the kernel has.
//!
//! In: messages, the planner's word of what is in the kernel, the time. Out: updates for the planner, what is
//! acknowledged or refused. Never: a revision acknowledged of which anything is missing; one of another life taken
//! for one of this; a list taken out because nobody named it.
//!
//! ```text
//!   named ─ snapshot, part 0 ─ … ─ last part ─> the list ─ delta ─> the list ─ …
//!                     └─ delta: in force at once, and once more on top of the whole
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ringwall_node::lists::{Bounded, Enforced, Entry, Planner, Prefix, Snapshot, Taken};
use ringwall_protocol::{Change, Element, List, ListRevision, Reason, Refusal, Refused};

/// Elements of deltas that are kept while a list comes; with more, it comes anew.
const LATER_MAX: usize = 100_000;

/// A list that the planner has.
#[derive(Debug, Default)]
struct Known {
    life: u64,
    /// What was taken, in the kernel or not.
    revision: u64,
    /// Updates by their tickets, in order: the revision that each leads to, and whether the kernel has it.
    waiting: VecDeque<(u64, u64, bool)>,
    enforced: Option<u64>,
    acknowledged: Option<u64>,
}

/// A list that is being received.
#[derive(Debug)]
struct Coming {
    life: u64,
    revision: u64,
    next: u32,
    snapshot: Snapshot,
    later: Vec<Delta>,
}

/// With the moments of the planner's clock instead of durations.
#[derive(Debug)]
struct Delta {
    to: u64,
    added: Vec<(Prefix, Option<Duration>)>,
    removed: Vec<Prefix>,
}

#[derive(Debug, Default)]
pub struct Book {
    known: BTreeMap<String, Known>,
    coming: BTreeMap<String, Coming>,
    /// Lives of the lists that there are, as the controller of this session says.
    named: BTreeMap<String, u64>,
    /// Names an update to the planner; revisions are used again in another life.
    tickets: u64,
    /// The kernel's sets have nothing that an earlier program left.
    is_ours: bool,
}

impl Book {
    /// The lists that there are, at the beginning of a session or when there is one more. What was half received is
    /// sent anew.
    pub fn name(&mut self, lists: Vec<ListRevision>) {
        self.named = lists.into_iter().map(|list| (list.list, list.life)).collect();
        self.coming.retain(|list, coming| self.named.get(list) == Some(&coming.life));
    }

    /// Another session: what the last one did not finish is over.
    pub fn begin_session(&mut self) {
        self.coming.clear();
        self.named.clear();
    }

    /// Takes a message in; says what of it can't be done.
    pub fn take(&mut self, planner: &mut Planner, list: List, now: Duration) -> Option<Refusal> {
        let List { list, life, change } = list;
        match change {
            Change::Snapshot { revision, part, last, elements } => {
                if part == 0 {
                    let snapshot = planner.snapshot();
                    self.coming.insert(list.clone(), Coming { life, revision, next: 0, snapshot, later: Vec::new() });
                }
                // A part of a snapshot that was begun anew meanwhile is nobody's.
                let coming = self.coming.get_mut(&list).filter(|coming| (coming.life, coming.revision, coming.next) == (life, revision, part))?;
                coming.next += 1;
                planner.receive(&mut coming.snapshot, elements.iter().map(entry), now);
                if !last {
                    return None;
                }
                let coming = self.coming.remove(&list)?;
                self.replace(planner, list, coming, now)
            }
            Change::Delta { from, to, added, removed } => {
                let delta = Delta::new(to, &added, &removed, now);
                if let Some(coming) = self.coming.get_mut(&list).filter(|coming| coming.life == life) {
                    let kept: usize = coming.later.iter().map(Delta::len).sum();
                    if kept + delta.len() > LATER_MAX {
                        self.coming.remove(&list);
                        return Some(refusal(list, life, to, Reason::Gap, "too much changed while it was received".into()));
                    }
                    // Nobody waits for the rest of a long list. It is acknowledged with that alone.
                    self.tickets += 1;
                    let taken = planner.change(&list, self.tickets, delta.entries(now), delta.removed.iter().copied(), now);
                    coming.later.push(delta);
                    return taken.map_or_else(|full| Some(refusal(list.clone(), life, to, Reason::Full, full.to_string())), |taken| bounded(&list, life, to, &taken));
                }
                match self.known.get(&list) {
                    Some(known) if known.life == life && from <= known.revision => self.change(planner, list, &delta, now),
                    _ => Some(refusal(list, life, to, Reason::Gap, format!("it leads on from revision {from}, which is not here"))),
                }
            }
        }
    }

    fn replace(&mut self, planner: &mut Planner, list: String, coming: Coming, now: Duration) -> Option<Refusal> {
        let Coming { life, revision, snapshot, later, .. } = coming;
        self.tickets += 1;
        let taken = match planner.replace(&list, self.tickets, snapshot) {
            Ok(taken) => taken,
            Err(full) => return Some(refusal(list, life, revision, Reason::Full, full.to_string())),
        };
        let known = self.known.entry(list.clone()).or_default();
        if known.life != life {
            *known = Known { life, ..Known::default() };
        }
        known.revision = revision;
        known.waiting.push_back((self.tickets, revision, false));
        let refused = bounded(&list, life, revision, &taken);
        for delta in later {
            // What is not taken of it was told when it came.
            self.change(planner, list.clone(), &delta, now);
        }
        refused
    }

    fn change(&mut self, planner: &mut Planner, list: String, delta: &Delta, now: Duration) -> Option<Refusal> {
        let known = self.known.get_mut(&list)?;
        self.tickets += 1;
        match planner.change(&list, self.tickets, delta.entries(now), delta.removed.iter().copied(), now) {
            Ok(taken) => {
                known.revision = known.revision.max(delta.to);
                known.waiting.push_back((self.tickets, known.revision, false));
                bounded(&list, known.life, delta.to, &taken)
            }
            Err(full) => Some(refusal(list, known.life, delta.to, Reason::Full, full.to_string())),
        }
    }

    /// The kernel has these updates as a whole.
    pub fn enforced(&mut self, updates: Vec<Enforced>) {
        for Enforced { list, revision: ticket } in updates {
            let Some(known) = self.known.get_mut(&list) else { continue };
            if let Some(update) = known.waiting.iter_mut().find(|(of, ..)| *of == ticket) {
                update.2 = true;
            }
            // An urgent update may be there before the list that it changes.
            while let Some((_, revision, _)) = known.waiting.pop_front_if(|(.., is_there)| *is_there) {
                known.enforced = Some(revision);
            }
        }
    }

    /// All that the controller named is here as a whole: whatever else is in the kernel is nobody's.
    pub fn is_whole(&self) -> bool {
        let is_there = |(list, life): (&String, &u64)| self.known.get(list).is_some_and(|known| known.life == *life) && !self.coming.contains_key(list);
        !self.named.is_empty() && self.named.iter().all(is_there)
    }

    pub fn is_ours(&self) -> bool {
        self.is_ours
    }

    /// What an earlier program left in the kernel is gone.
    pub fn reconciled(&mut self) {
        self.is_ours = true;
    }

    /// What the kernel has, for the next greeting.
    pub fn revisions(&self) -> Vec<ListRevision> {
        let known = self.known.iter().filter(|_| self.is_ours);
        known.filter_map(|(list, known)| Some(ListRevision { list: list.clone(), life: known.life, revision: known.enforced? })).collect()
    }

    /// What was not acknowledged yet.
    pub fn acknowledge(&mut self) -> Vec<ListRevision> {
        let mut all = Vec::new();
        for (list, known) in self.known.iter_mut().filter(|_| self.is_ours) {
            if known.enforced != known.acknowledged
                && let Some(revision) = known.enforced
            {
                known.acknowledged = known.enforced;
                all.push(ListRevision { list: list.clone(), life: known.life, revision });
            }
        }
        all
    }

    /// It was not told after all.
    pub fn unsaid(&mut self, list: &str) {
        if let Some(known) = self.known.get_mut(list) {
            known.acknowledged = None;
        }
    }

    /// Updates that the kernel does not have, each list's newest.
    pub fn waiting(&self) -> Vec<ListRevision> {
        let waiting = self.known.iter().filter(|(_, known)| !known.waiting.is_empty());
        waiting.map(|(list, known)| ListRevision { list: list.clone(), life: known.life, revision: known.revision }).collect()
    }
}

impl Delta {
    fn new(to: u64, added: &[Element], removed: &[Element], now: Duration) -> Self {
        let until = |entry: Entry| (entry.prefix, entry.left.map(|left| now.saturating_add(left)));
        Self { to, added: added.iter().map(entry).map(until).collect(), removed: removed.iter().map(|element| entry(element).prefix).collect() }
    }

    fn len(&self) -> usize {
        self.added.len() + self.removed.len()
    }

    fn entries(&self, now: Duration) -> impl Iterator<Item = Entry> {
        self.added.iter().map(move |(prefix, until)| Entry { prefix: *prefix, left: until.map(|until| until.saturating_sub(now)) })
    }
}

fn entry(element: &Element) -> Entry {
    let left = element.seconds.map(|seconds| Duration::from_secs(seconds.get().into()));
    Entry { prefix: Prefix { network: element.network, length: element.length }, left }
}

/// What of an update is not in force as it was written; the rest is.
fn bounded(list: &str, life: u64, revision: u64, taken: &Taken) -> Option<Refusal> {
    let (Prefix { network, length }, why) = taken.named.first()?;
    let why = match why {
        Bounded::Length => "is too wide to be blocked",
        Bounded::Forbidden => "has addresses that must not be blocked",
    };
    let detail = format!("{network}/{length} {why}: {} of the update are not in force as written, the others are", taken.bounded);
    Some(refusal(list.to_owned(), life, revision, Reason::Protected, detail))
}

fn refusal(list: String, life: u64, revision: u64, reason: Reason, detail: String) -> Refusal {
    Refusal { what: Refused::List(ListRevision { list, life, revision }), reason, detail }
}

#[cfg(test)]
mod tests;
