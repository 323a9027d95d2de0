//! Many addresses, each with a time, in as little memory as they take.
//!
//! In: numbers with a time each. Out: the time of a number, numbers in order. Never: more than eight bytes for an IPv4
//! address and its time, but for the room that leaves keep for the next ones.

use super::word::Word;

/// Numbers in a leaf: so few that moving half of them takes no time, and so many that there are few leaves.
const LEAF: usize = 512;

#[derive(Clone, Debug)]
struct Leaf<W> {
    keys: Vec<W>,
    times: Vec<u32>,
}

/// A map from numbers to times, as leaves in order, each of them sorted.
#[derive(Clone, Debug)]
pub struct Packed<W> {
    /// Of each leaf, its first number; other leaves' numbers are below the next one's first.
    firsts: Vec<W>,
    leaves: Vec<Leaf<W>>,
    length: usize,
}

impl<W> Default for Packed<W> {
    fn default() -> Self {
        Self { firsts: Vec::new(), leaves: Vec::new(), length: 0 }
    }
}

impl<W: Word> Packed<W> {
    pub fn len(&self) -> usize {
        self.length
    }

    fn leaf(&self, key: W) -> usize {
        self.firsts.partition_point(|first| *first <= key).saturating_sub(1)
    }

    pub fn get(&self, key: W) -> Option<u32> {
        let leaf = self.leaves.get(self.leaf(key))?;
        leaf.keys.binary_search(&key).ok().map(|place| leaf.times[place])
    }

    /// The time that was there before.
    pub fn insert(&mut self, key: W, time: u32) -> Option<u32> {
        let mut number = self.leaf(key);
        if self.leaves.is_empty() {
            self.firsts.push(key);
            self.leaves.push(Leaf { keys: Vec::new(), times: Vec::new() });
        }
        let place = match self.leaves[number].keys.binary_search(&key) {
            Ok(place) => return Some(std::mem::replace(&mut self.leaves[number].times[place], time)),
            Err(place) => place,
        };
        let mut leaf = &mut self.leaves[number];
        let mut place = place;
        if leaf.keys.len() == LEAF {
            // What comes in order fills its leaves.
            let at = if place == LEAF { LEAF } else { LEAF / 2 };
            let upper = Leaf { keys: leaf.keys.split_off(at), times: leaf.times.split_off(at) };
            leaf.keys.shrink_to(LEAF);
            leaf.times.shrink_to(LEAF);
            self.firsts.insert(number + 1, upper.keys.first().copied().unwrap_or(key));
            self.leaves.insert(number + 1, upper);
            if place >= at {
                number += 1;
                place -= at;
            }
            leaf = &mut self.leaves[number];
        }
        leaf.keys.insert(place, key);
        leaf.times.insert(place, time);
        self.firsts[number] = leaf.keys[0];
        self.length += 1;
        None
    }

    /// Takes many at once, in whatever order, and empties `run`. Of equal numbers the last counts.
    pub fn absorb(&mut self, run: &mut Vec<(W, u32)>) {
        run.sort_by_key(|(key, _)| *key);
        if self.length > 0 {
            for (key, time) in run.drain(..) {
                self.insert(key, time);
            }
            return;
        }
        // Of equal ones, the first of the reverse is kept.
        run.reverse();
        run.dedup_by_key(|(key, _)| *key);
        run.reverse();
        for part in run.chunks(LEAF) {
            self.firsts.push(part[0].0);
            let (keys, times) = (part.iter().map(|(key, _)| *key).collect(), part.iter().map(|(_, time)| *time).collect());
            self.leaves.push(Leaf { keys, times });
        }
        self.length = run.len();
        run.clear();
    }

    pub fn remove(&mut self, key: W) -> Option<u32> {
        let number = self.leaf(key);
        let leaf = self.leaves.get_mut(number)?;
        let place = leaf.keys.binary_search(&key).ok()?;
        leaf.keys.remove(place);
        let time = leaf.times.remove(place);
        self.length -= 1;
        match leaf.keys.first() {
            Some(first) => self.firsts[number] = *first,
            None => {
                self.leaves.remove(number);
                self.firsts.remove(number);
            }
        }
        Some(time)
    }

    /// Those from `first` on, in order.
    pub fn from(&self, first: W) -> impl Iterator<Item = (W, u32)> + '_ {
        let number = self.leaf(first);
        let leaves = self.leaves.get(number..).unwrap_or_default().iter();
        leaves.flat_map(|leaf| leaf.keys.iter().copied().zip(leaf.times.iter().copied())).skip_while(move |(key, _)| *key < first)
    }

    pub fn iter(&self) -> impl Iterator<Item = (W, u32)> + '_ {
        self.leaves.iter().flat_map(|leaf| leaf.keys.iter().copied().zip(leaf.times.iter().copied()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn many_at_once_are_as_one_by_one(runs in prop::collection::vec(prop::collection::vec((0u32..3000, any::<u32>()), 0..2000), 0..4)) {
            let (mut packed, mut model) = (Packed::default(), BTreeMap::new());
            for mut run in runs {
                model.extend(run.iter().copied());
                packed.absorb(&mut run);
                prop_assert!(run.is_empty());
                prop_assert_eq!(packed.len(), model.len());
                prop_assert!(packed.iter().eq(model.iter().map(|(key, time)| (*key, *time))));
                prop_assert!(model.keys().all(|key| packed.get(*key) == model.get(key).copied()));
            }
        }

        #[test]
        fn it_is_a_map(changes in prop::collection::vec((any::<bool>(), 0u32..3000, any::<u32>()), 0..6000), sorted: bool) {
            let (mut packed, mut model) = (Packed::default(), BTreeMap::new());
            let mut changes = changes;
            if sorted {
                changes.sort_by_key(|(_, key, _)| *key);
            }
            for (adds, key, time) in changes {
                if adds || sorted {
                    prop_assert_eq!(packed.insert(key, time), model.insert(key, time));
                } else {
                    prop_assert_eq!(packed.remove(key), model.remove(&key));
                }
                prop_assert_eq!(packed.len(), model.len());
                prop_assert_eq!(packed.get(key), model.get(&key).copied());
            }
            prop_assert!(packed.iter().eq(model.iter().map(|(key, time)| (*key, *time))));
            for first in [0, 1000, 2999, 5000] {
                prop_assert!(packed.from(first).eq(model.range(first..).map(|(key, time)| (*key, *time))));
            }
        }
    }
}
