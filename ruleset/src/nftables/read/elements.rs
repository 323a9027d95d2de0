//! The elements of sets and maps.
//!
//! In: what stands in braces, and the types of the keys. Out: keys as ranges of numbers, with what a map
//! has for each. Never: one box per element where a set of one field will do: a million prefixes are one
//! dimension.

use std::collections::HashMap;

use ringwall_packet::{Interval, IntervalSet};

use super::cursor::Cursor;
use super::datatype::{Datatype, Why};
use super::field::Field;
use super::script::Text;
use super::term::Term;
use super::token::{Kind, Token};

/// What a rule does with the packets that meet it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Outcome<'t> {
    Accept,
    Drop,
    Reject,
    /// On to the next rule.
    Continue,
    Return,
    Jump(&'t str),
    Goto(&'t str),
    /// It goes to another program: why that is not known.
    Elsewhere(&'static str),
}

impl<'t> Outcome<'t> {
    pub fn target(self) -> Option<&'t str> {
        match self {
            Self::Jump(name) | Self::Goto(name) => Some(name),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Elements<'t> {
    /// Fields of a key.
    pub fields: usize,
    /// `fields` ranges for each element.
    pub keys: Vec<Interval<u128>>,
    /// Of a map to verdicts, one for each element.
    pub outcomes: Vec<Outcome<'t>>,
    /// First and last token of each element.
    pub places: Vec<(u32, u32)>,
    /// What the element `*` has.
    pub otherwise: Option<Outcome<'t>>,
    pub has_otherwise: bool,
}

impl<'t> Elements<'t> {
    /// `has_outcomes`: the values are verdicts.
    pub fn read(text: Text<'t>, tokens: &'t [Token], types: &[Datatype], has_outcomes: bool) -> Result<Self, Why> {
        let mut cursor = Cursor::new(text, tokens);
        let mut elements = Self { fields: types.len(), ..Self::default() };
        loop {
            // A value that is a list makes a list in the list.
            while matches!(cursor.kind(), Some(Kind::Comma | Kind::Open | Kind::Close)) {
                cursor.advance();
            }
            if cursor.peek().is_none() {
                return Ok(elements);
            }
            elements.element(&mut cursor, types, has_outcomes)?;
        }
    }

    fn element(&mut self, cursor: &mut Cursor<'t>, types: &[Datatype], has_outcomes: bool) -> Result<(), Why> {
        let start = cursor.at;
        let is_otherwise = cursor.take(Kind::Asterisk);
        if !is_otherwise {
            for (index, field) in types.iter().enumerate() {
                if index > 0 && !cursor.take(Kind::Dot) {
                    return Err("has fewer fields than the key");
                }
                self.keys.push(value(cursor, *field)?);
            }
        }
        skip_options(cursor);
        if cursor.take(Kind::Colon) {
            if has_outcomes {
                let outcome = outcome(cursor).ok_or("is no verdict")?;
                if is_otherwise { self.otherwise = Some(outcome) } else { self.outcomes.push(outcome) }
            } else {
                skip_data(cursor);
            }
        } else if has_outcomes {
            return Err("has no verdict");
        }
        self.has_otherwise |= is_otherwise;
        if !matches!(cursor.kind(), None | Some(Kind::Comma | Kind::Close)) {
            return Err("has more behind it than is understood");
        }
        if !is_otherwise {
            self.places.push((start as u32, cursor.at as u32));
        }
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn key(&self, index: usize) -> &[Interval<u128>] {
        &self.keys[index * self.fields..(index + 1) * self.fields]
    }

    /// Terms for the keys of some elements: `which` says of which outcome.
    fn some(&self, fields: &[Field], which: Option<Outcome>) -> Vec<Term> {
        let indexes = (0..self.len()).filter(|index| which.is_none_or(|which| self.outcomes[*index] == which));
        if let [field] = fields {
            let set: IntervalSet<u128> = indexes.map(|index| self.keys[index]).collect();
            return field.terms(&set, false);
        }
        // Keys that differ in their first field only are one box.
        let mut boxes: HashMap<&[Interval<u128>], Vec<Interval<u128>>> = HashMap::new();
        let mut order: Vec<&[Interval<u128>]> = Vec::new();
        for index in indexes {
            let key = self.key(index);
            let firsts = boxes.entry(&key[1..]).or_default();
            if firsts.is_empty() {
                order.push(&key[1..]);
            }
            firsts.push(key[0]);
        }
        let alternatives = order.into_iter().map(|rest| {
            let first = boxes[rest].iter().copied().collect();
            let rest = rest.iter().map(|range| IntervalSet::from(*range));
            let sets = [first].into_iter().chain(rest);
            fields.iter().zip(sets).flat_map(|(field, set)| field.terms(&set, false)).collect()
        });
        vec![Term::AnyOf(alternatives.collect())]
    }

    /// Terms for packets whose key is in the set, or is not.
    pub fn terms(&self, fields: &[Field], is_negated: bool) -> Vec<Term> {
        let needs = || fields.iter().flat_map(|field| field.terms(&IntervalSet::full(), false)).collect();
        if self.has_otherwise {
            return if is_negated { vec![Term::AnyOf(Vec::new())] } else { needs() };
        }
        match fields {
            _ if !is_negated => self.some(fields, None),
            [field] => {
                let set: IntervalSet<u128> = self.keys.iter().copied().collect();
                field.terms(&set, true)
            }
            _ => {
                let mut terms: Vec<Term> = needs();
                terms.push(Term::NoneOf(vec![self.some(fields, None)]));
                terms
            }
        }
    }

    /// For each outcome of a map, the packets that have it.
    pub fn arms(&self, fields: &[Field]) -> Vec<(Vec<Term>, Outcome<'t>)> {
        let mut arms: Vec<(Vec<Term>, Outcome<'t>)> = match fields {
            [field] => {
                let mut order: Vec<(Outcome<'t>, Vec<Interval<u128>>)> = Vec::new();
                let mut places: HashMap<Outcome<'t>, usize> = HashMap::new();
                for (outcome, key) in self.outcomes.iter().zip(&self.keys) {
                    let place = *places.entry(*outcome).or_insert(order.len());
                    if place == order.len() {
                        order.push((*outcome, Vec::new()));
                    }
                    order[place].1.push(*key);
                }
                let terms = |keys: Vec<Interval<u128>>| field.terms(&keys.into_iter().collect(), false);
                order.into_iter().map(|(outcome, keys)| (terms(keys), outcome)).collect()
            }
            _ => {
                let mut outcomes = self.outcomes.clone();
                outcomes.sort_unstable();
                outcomes.dedup();
                outcomes.into_iter().map(|outcome| (self.some(fields, Some(outcome)), outcome)).collect()
            }
        };
        if let Some(outcome) = self.otherwise {
            let listed = Self { has_otherwise: false, otherwise: None, ..self.clone() };
            arms.push((listed.terms(fields, true), outcome));
        }
        arms
    }

    /// Each key's text with its outcome, where keys can't be read.
    pub fn texts(text: Text<'t>, tokens: &'t [Token]) -> Option<Vec<(String, Outcome<'t>)>> {
        let mut cursor = Cursor::new(text, tokens);
        let mut found = Vec::new();
        loop {
            while matches!(cursor.kind(), Some(Kind::Comma)) {
                cursor.advance();
            }
            let start = cursor.at;
            if cursor.peek().is_none() {
                return Some(found);
            }
            while !matches!(cursor.kind()?, Kind::Colon) {
                cursor.advance();
            }
            let key = cursor.since(start);
            cursor.advance();
            found.push((key, outcome(&mut cursor)?));
        }
    }

    /// Two different elements whose keys overlap; `None` when there are none, or when looking for them takes too long.
    pub fn overlap(&self) -> Option<(usize, usize)> {
        const MOST_STEPS: usize = 10_000_000;
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        order.sort_unstable_by_key(|index| self.key(*index as usize)[0]);
        let mut open: Vec<u32> = Vec::new();
        let mut steps = 0;
        for index in order {
            let key = self.key(index as usize);
            open.retain(|other| self.key(*other as usize)[0].last() >= key[0].first());
            let outcome = self.outcomes.get(index as usize);
            // The same element a second time is nothing new.
            let is_same = |other: usize| self.key(other) == key && self.outcomes.get(other) == outcome;
            let overlaps = |other: &&u32| {
                self.key(**other as usize).iter().zip(key).all(|(one, other)| one.intersection(*other).is_some())
                    && !is_same(**other as usize)
            };
            if let Some(other) = open.iter().find(overlaps) {
                return Some(((*other).min(index) as usize, (*other).max(index) as usize));
            }
            steps += open.len();
            if steps > MOST_STEPS {
                return None;
            }
            open.push(index);
        }
        None
    }
}

/// One field of a key: a word, or a range or prefix with spaces in it.
pub(super) fn value(cursor: &mut Cursor, kind: Datatype) -> Result<Interval<u128>, Why> {
    let token = cursor.peek().ok_or("is missing")?;
    let is_quoted = token.kind == Kind::Quoted;
    if !matches!(token.kind, Kind::Word | Kind::Quoted) {
        return Err("is no value");
    }
    let word = cursor.text.name(token);
    cursor.advance();
    if kind == Datatype::TcpFlags && cursor.kind() == Some(Kind::Or) {
        let mut bits = kind.values(word, false)?.first();
        while cursor.take(Kind::Or) {
            bits |= kind.values(cursor.name().ok_or("is missing")?, false)?.first();
        }
        return Ok(Interval::single(bits));
    }
    let mut spaced = None;
    for (kind, sign) in [(Kind::Dash, '-'), (Kind::Slash, '/')] {
        let is_range = cursor.kind() == Some(kind) && kind == Kind::Dash;
        let is_prefix = cursor.kind() == Some(kind) && kind == Kind::Slash;
        if is_range || (is_prefix && matches!(token.kind, Kind::Word)) {
            let mut next = *cursor;
            next.advance();
            if let Some(second) = next.peek().filter(|token| matches!(token.kind, Kind::Word | Kind::Quoted)) {
                next.advance();
                spaced = Some((sign, cursor.text.name(second), next));
            }
        }
    }
    match spaced {
        Some(('-', second, next)) => {
            let (first, last) = (kind.values(word, is_quoted)?, kind.values(second, is_quoted)?);
            *cursor = next;
            Interval::new(first.first(), last.last()).ok_or("is a range that ends before it begins")
        }
        Some((_, length, next)) if matches!(kind, Datatype::Ipv4 | Datatype::Ipv6) => {
            *cursor = next;
            kind.values(&format!("{word}/{length}"), false)
        }
        _ => kind.values(word, is_quoted),
    }
}

pub(super) fn outcome<'t>(cursor: &mut Cursor<'t>) -> Option<Outcome<'t>> {
    let word = cursor.word()?;
    let mut next = *cursor;
    next.advance();
    let outcome = match word {
        "accept" => Outcome::Accept,
        "drop" => Outcome::Drop,
        "continue" => Outcome::Continue,
        "return" => Outcome::Return,
        "jump" => Outcome::Jump(next.name()?),
        "goto" => Outcome::Goto(next.name()?),
        "queue" => Outcome::Elsewhere("a program decides"),
        _ => return None,
    };
    *cursor = next;
    Some(outcome)
}

/// `timeout 1h`, `counter packets 0 bytes 0`, `comment "…"`: what an element may have beside its key.
fn skip_options(cursor: &mut Cursor) {
    while !matches!(cursor.kind(), None | Some(Kind::Comma | Kind::Colon | Kind::Close | Kind::Open)) {
        let is_option = cursor.word().is_some_and(|word| {
            matches!(word, "timeout" | "expires" | "counter" | "packets" | "bytes" | "comment" | "limit" | "quota" | "last" | "ct")
        });
        if !is_option {
            return;
        }
        while !matches!(cursor.kind(), None | Some(Kind::Comma | Kind::Colon | Kind::Close | Kind::Open)) {
            cursor.advance();
        }
    }
}

fn skip_data(cursor: &mut Cursor) {
    let mut depth = 0_usize;
    while let Some(kind) = cursor.kind() {
        match kind {
            Kind::Open => depth += 1,
            Kind::Close if depth == 0 => return,
            Kind::Close => depth -= 1,
            Kind::Comma if depth == 0 => return,
            _ => {}
        }
        cursor.advance();
    }
}
