//! What has to be put right in the kernel, and in which order.
//!
//! In: what of the lists was touched. Out: elements, some at a time. Never: whether an element is to be
//! there: that is asked when it is sent, so that whatever happens meanwhile, the last word counts.

use std::collections::VecDeque;

use super::entries::{Element, Touched};
use super::word::{Word, covers, parts};

/// Elements of one family that are still to be sent.
#[derive(Clone, Debug)]
pub struct Work<W> {
    touched: Touched<W>,
    addresses_done: usize,
    prefixes_done: usize,
    /// What the next prefixes consist of, and what was sent in vain.
    elements: VecDeque<Element<W>>,
    /// The cover of each length that was last taken: prefixes come in order, so that the next ones are often the same.
    covers: [Option<W>; 2],
}

impl<W: Word> Work<W> {
    pub fn new(mut touched: Touched<W>) -> Self {
        touched.sort();
        Self { touched, addresses_done: 0, prefixes_done: 0, elements: VecDeque::new(), covers: [None; 2] }
    }

    /// How many entries are left, of which each is an element or a few.
    pub fn left(&self) -> usize {
        self.touched.len() - self.addresses_done - self.prefixes_done + self.elements.len()
    }

    pub fn next(&mut self) -> Option<Element<W>> {
        loop {
            if let Some(element) = self.elements.pop_front() {
                return Some(element);
            }
            if let Some(address) = self.touched.addresses.get(self.addresses_done) {
                self.addresses_done += 1;
                return Some(Element::Address(*address));
            }
            let marked = *self.touched.prefixes.get(self.prefixes_done)?;
            self.prefixes_done += 1;
            let (first, length) = marked.unmark();
            // Covers first: a prefix without its cover would be taken for enforced.
            for (cover, tier) in covers(first, length) {
                let last = &mut self.covers[usize::from(tier == 64)];
                if *last != Some(cover) {
                    *last = Some(cover);
                    self.elements.push_back(Element::Cover(cover.mark(tier)));
                }
            }
            let level = W::level(length);
            let element = |part: W| if level == W::BITS { Element::Address(part) } else { Element::Prefix(part.mark(level)) };
            self.elements.extend(parts(first, length, level).map(element));
        }
    }

    /// Gives elements back, to be the next ones.
    pub fn return_all(&mut self, elements: impl DoubleEndedIterator<Item = Element<W>>) {
        elements.rev().for_each(|element| self.elements.push_front(element));
    }

    /// What is left of this and of another together.
    pub fn merge(&mut self, other: Self) {
        let mut touched = Touched::default();
        let mut elements = VecDeque::new();
        for work in [&*self, &other] {
            touched.addresses.extend(&work.touched.addresses[work.addresses_done..]);
            touched.prefixes.extend(&work.touched.prefixes[work.prefixes_done..]);
            elements.extend(&work.elements);
        }
        *self = Self { elements, ..Self::new(touched) };
    }
}
