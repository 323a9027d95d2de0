//! Sets of packets in the operator's words: few lines such as `users -> primary  443/tcp (https)`.
//!
//! In: disjoint boxes of both families, the policy whose names are to be used, a function that names
//! ports. Out: lines whose union is exactly the set; where one of the policy's rules is whole in it,
//! the line is that rule. Never: "about"; lines may overlap, but none says too much.

pub mod conditions;
mod ends;
mod pieces;
mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use ringwall_packet::{Address, AddressSet, Cube, Family, IntervalSet, Matches, Variable};
use ringwall_policy::{Policy, name_asked};

pub use ringwall_packet::Packets;

pub use ends::{End, texts};
pub use services::NameOf;

use ends::Names;
use pieces::{Piece, pieces};
use services::{ServiceWords, Services};

/// A number for each box of some [`Packets`], such as the rule that it comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    pub v4: Vec<usize>,
    pub v6: Vec<usize>,
}

/// All packets from one set of addresses to another with some services.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    pub source: End,
    pub destination: End,
    /// Such as `443/tcp (https)`, `icmp/echo-request`, `any`.
    pub services: Vec<String>,
    /// What must hold beside, such as `via vpn`.
    pub conditions: Vec<String>,
    /// The names stand for their addresses of this family alone, though they have others.
    pub family: Option<Family>,
}

impl Line {
    /// Services with what else must hold.
    pub fn asks(&self) -> String {
        self.asks_short(usize::MAX)
    }

    /// The same with at most so many services, and how many more there are.
    pub fn asks_short(&self, most: usize) -> String {
        let mut text = ends::list(&self.services, most);
        for condition in &self.conditions {
            text.push_str(&format!(", {condition}"));
        }
        if let Some(family) = self.family {
            text.push_str(&format!(" ({family} only)"));
        }
        text
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}  {}", self.source, self.destination, self.asks())
    }
}

/// The words of one policy.
pub struct Words<'a> {
    names: Names,
    services: ServiceWords<'a>,
}

impl<'a> Words<'a> {
    /// `name_of` names a port that the policy has no name for.
    pub fn new(policy: &Policy, name_of: &'a NameOf<'a>) -> Self {
        Self { names: Names::new(policy), services: ServiceWords::new(policy, name_of) }
    }

    /// Addresses of both families.
    pub fn end(&self, addresses: &AddressSet) -> End {
        self.names.end(addresses, None)
    }

    /// Addresses, of which those of one family count when there are no others.
    pub fn end_of_any_family(&self, addresses: &AddressSet) -> End {
        let family = match (addresses.v4.is_empty(), addresses.v6.is_empty()) {
            (false, true) => Some(Family::V4),
            (true, false) => Some(Family::V6),
            _ => None,
        };
        self.names.end(addresses, family)
    }

    /// In order of the words. `rows` are what the operator's rules ask, to be used where they fit.
    pub fn lines(&self, packets: &Packets, rows: &Packets) -> Vec<Line> {
        let lines = self.lines_of(packets, &Tags::default(), rows);
        lines.into_iter().map(|(line, ..)| line).collect()
    }

    /// The same; each line with the tags of the boxes that have a part in it, and some of its packets.
    pub fn lines_of(&self, packets: &Packets, tags: &Tags, rows: &Packets) -> Vec<(Line, BTreeSet<usize>, Packets)> {
        let mut known = Known { names: &self.names, ends: BTreeMap::new() };
        let v4: Vec<Draft> =
            pieces(&packets.v4, &tags.v4, &rows.v4).into_iter().map(|piece| self.draft(piece, &mut known)).collect();
        let v6 = pieces(&packets.v6, &tags.v6, &rows.v6).into_iter().map(|piece| self.draft(piece, &mut known)).collect();
        let drafts = self.both_families(v4, v6, &mut known);
        let mut lines: Vec<_> =
            self.same_ends(drafts).into_iter().map(|draft| (to_answer(draft.line, draft.answer), draft.tags, draft.some)).collect();
        lines.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        lines
    }

    /// One line for two of both families, where the same words say both.
    fn both_families(&self, v4: Vec<Draft>, v6: Vec<Draft>, known: &mut Known<'_>) -> Vec<Draft> {
        let mut by_words: BTreeMap<_, Vec<Draft>> = BTreeMap::new();
        for draft in v6 {
            by_words.entry((draft.key(), draft.words())).or_default().push(draft);
        }
        let (mut drafts, mut left) = (Vec::new(), Vec::new());
        for draft in v4 {
            let others = by_words.get_mut(&(draft.key(), draft.words()));
            let both = others.and_then(|others| {
                let both = known.join(&draft, others.last()?)?;
                others.pop();
                Some(both)
            });
            match both {
                Some(both) => drafts.push(both),
                None => left.push(draft),
            }
        }
        let mut by_key: BTreeMap<_, Vec<Draft>> = BTreeMap::new();
        for draft in by_words.into_values().flatten() {
            by_key.entry(draft.key()).or_default().push(draft);
        }
        for draft in left {
            // Where one family has fewer members than the other, only the sets tell.
            let both = by_key.get_mut(&draft.key()).and_then(|others| {
                let join = |(at, other): (usize, &Draft)| Some((at, known.join(&draft, other)?));
                let (at, both) = others.iter().enumerate().take(JOIN_MAX).find_map(join)?;
                others.remove(at);
                Some(both)
            });
            drafts.push(both.unwrap_or_else(|| self.alone(draft, Family::V4)));
        }
        drafts.extend(by_key.into_values().flatten().map(|draft| self.alone(draft, Family::V6)));
        drafts
    }

    /// One line for those that differ by their services alone.
    fn same_ends(&self, drafts: Vec<Draft>) -> Vec<Draft> {
        let mut groups: BTreeMap<_, Vec<Draft>> = BTreeMap::new();
        for draft in drafts {
            let key = Line { services: Vec::new(), ..draft.line.clone() };
            groups.entry((key, draft.answer.clone())).or_default().push(draft);
        }
        groups.into_values().flat_map(|all| self.together(&all).map_or(all, |one| vec![one])).collect()
    }

    /// `None` where there is nothing to join, or the two families' services have no text in common.
    fn together(&self, all: &[Draft]) -> Option<Draft> {
        let [first, _, ..] = all else { return None };
        let services = [0, 1].map(|family| Services::union(all.iter().map(|draft| &draft.services[family])));
        let [v4, v6] = services.each_ref().map(|services| self.services.of(services));
        let text = match services.each_ref().map(Services::is_empty) {
            [_, true] => v4,
            [true, _] => v6,
            _ => Some(v4).filter(|v4| *v4 == v6)?,
        };
        let tags = all.iter().flat_map(|draft| &draft.tags).copied().collect();
        let line = Line { services: text, ..first.line.clone() };
        Some(Draft { line, answer: first.answer.clone(), services, tags, some: first.some.clone() })
    }

    fn draft<A: Address>(&self, piece: Piece<A>, known: &mut Known<'_>) -> Draft
    where
        AddressSet: From<OneFamily<A>>,
        Packets: From<Vec<Matches<A>>>,
    {
        let Piece { source, destination, services, conditions, tags } = piece;
        let of_piece = |upper| Matches { cube: Cube { source: source.clone(), destination: destination.clone(), upper }, conditions: conditions.clone() };
        let some = services.cubes().map(of_piece).collect::<Vec<_>>().into();
        let is_anywhere = destination.is_full();
        let mut end = |set| known.end(&AddressSet::from(OneFamily(set)), Some(A::FAMILY));
        let mut line = Line {
            source: end(source),
            destination: end(destination),
            services: self.services.of(&services),
            conditions: Vec::new(),
            family: None,
        };
        let mut answer = None;
        for (variable, values) in conditions.iter() {
            let holds = !values.contains(0);
            match (name_asked(variable), variable) {
                (Some(name), _) if holds && is_anywhere && answer.is_none() => answer = Some(name.to_owned()),
                (Some(name), _) if holds => line.conditions.push(format!("if {name} resolves to it")),
                (Some(name), _) => line.conditions.push(format!("unless {name} resolves to it")),
                // A policy's own words need no marks around them.
                (None, Variable::Holds(text)) if text.starts_with("via ") && holds => line.conditions.push(text.to_string()),
                (None, Variable::Holds(text)) if text.starts_with("via ") => line.conditions.push(format!("not {text}")),
                (None, other) => line.conditions.push(conditions::text(other, values, A::FAMILY)),
            }
        }
        let services = match A::FAMILY {
            Family::V4 => [services, Services::default()],
            Family::V6 => [Services::default(), services],
        };
        Draft { line, answer, services, tags, some }
    }

    /// A line that only one family has: said where the words would stand for more.
    fn alone(&self, mut draft: Draft, family: Family) -> Draft {
        let other = match family {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        };
        let has = |end: &End| self.names.has(&end.words, other);
        let is_more = has(&draft.line.source) && has(&draft.line.destination);
        draft.line.family = is_more.then_some(family);
        draft
    }
}

/// A line, the DNS name that its destination must be an answer for, and its services by family.
struct Draft {
    line: Line,
    answer: Option<String>,
    services: [Services; 2],
    tags: BTreeSet<usize>,
    /// Packets of the line; those that were joined to it may not be among them.
    some: Packets,
}

impl Draft {
    /// What must be the same in both families for one line of two.
    fn key(&self) -> (Vec<String>, Vec<String>, Option<String>) {
        (self.line.services.clone(), self.line.conditions.clone(), self.answer.clone())
    }

    fn words(&self) -> [Vec<String>; 4] {
        let Line { source, destination, .. } = &self.line;
        [&source.words, &source.except, &destination.words, &destination.except].map(Clone::clone)
    }
}

/// So many lines of the other family are tried for one that the same words do not say.
const JOIN_MAX: usize = 16;

/// What a DNS name stands for is not known here, so the name itself is the word for it.
fn to_answer(mut line: Line, answer: Option<String>) -> Line {
    if let Some(name) = answer {
        line.destination.words = vec![name];
        line.destination.except.clear();
    }
    line
}

/// Sets that have been named already.
struct Known<'a> {
    names: &'a Names,
    ends: BTreeMap<(Option<Family>, AddressSet), End>,
}

impl Known<'_> {
    fn end(&mut self, set: &AddressSet, family: Option<Family>) -> End {
        let key = (family, set.clone());
        if let Some(end) = self.ends.get(&key) {
            return end.clone();
        }
        let end = self.names.end(set, family);
        self.ends.insert(key, end.clone());
        end
    }

    /// One line for two, where no more words are needed for both than for one, or names say it.
    fn join(&mut self, v4: &Draft, v6: &Draft) -> Option<Draft> {
        let mut both = |one: &End, other: &End| {
            let end = self.end(&one.addresses.union(&other.addresses), None);
            (end.is_named() || end.words == one.words || end.words == other.words).then_some(end)
        };
        let source = both(&v4.line.source, &v6.line.source)?;
        let destination = both(&v4.line.destination, &v6.line.destination)?;
        let line = Line { source, destination, family: None, ..v4.line.clone() };
        let services = [v4.services[0].clone(), v6.services[1].clone()];
        let tags = v4.tags.union(&v6.tags).copied().collect();
        Some(Draft { line, answer: v4.answer.clone(), services, tags, some: v4.some.clone() })
    }
}

/// The addresses of one family.
struct OneFamily<A>(IntervalSet<A>);

impl From<OneFamily<Ipv4Addr>> for AddressSet {
    fn from(set: OneFamily<Ipv4Addr>) -> Self {
        Self { v4: set.0, ..Self::default() }
    }
}

impl From<OneFamily<Ipv6Addr>> for AddressSet {
    fn from(set: OneFamily<Ipv6Addr>) -> Self {
        Self { v6: set.0, ..Self::default() }
    }
}
