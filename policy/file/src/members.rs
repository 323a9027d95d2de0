//! Who is meant: names, values and groups, down to addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ringwall_diagnostic::{Diagnostic, Span};
use ringwall_packet::AddressSet;
use ringwall_policy::{Action, Name, Policy};

use crate::address::{self, Item};
use crate::document::{Document, GroupDef, NodeDef};
use crate::form::{Word, doubled};
use crate::near::nearest;
use crate::places::Places;
use crate::report::Report;
use crate::values::{Value, Values};

/// Far more than anybody can follow; a bound on recursion.
const MAX_DEPTH: usize = 32;
/// A bound on memory: some 0.5 GB of IPv4.
const MAX_SIZE: usize = 32 << 20;

/// Ends that every policy has.
pub const BUILT_IN: &[&str] = &["any", "internet", "internal"];

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Node(usize),
    Floating(usize),
    Group(usize),
}

/// What a group, or a list of items, comes to.
#[derive(Clone, Default)]
pub struct Members {
    pub addresses: AddressSet,
    pub names: BTreeSet<String>,
    pub unbound: Vec<Word>,
    pub broken: bool,
}

impl Members {
    pub fn broken() -> Self {
        Self { broken: true, ..Self::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.names.is_empty() && !self.broken && self.unbound.is_empty()
    }
}

/// The union. Addresses are put together once, not part by part, which would be quadratic.
impl FromIterator<Members> for Members {
    fn from_iter<I: IntoIterator<Item = Members>>(parts: I) -> Self {
        let mut whole = Self::default();
        let mut sets = Vec::new();
        for part in parts {
            sets.extend(Some(part.addresses).filter(|addresses| !addresses.is_empty()));
            whole.names.extend(part.names);
            whole.unbound.extend(part.unbound);
            whole.broken |= part.broken;
        }
        // Most ends are one group, which is in order already.
        whole.addresses = if sets.len() == 1 { sets.remove(0) } else { sets.into_iter().collect() };
        whole
    }
}

/// What a value is made of, all at the place where it is used.
fn parts(value: &Value, span: Span) -> impl Iterator<Item = Word> {
    let separators = |c: char| c == ',' || c.is_whitespace();
    let texts = value.text.split(separators).filter(|text| !text.is_empty());
    texts.map(move |text| Word { text: text.to_owned(), span })
}

pub enum Memo {
    New,
    Open,
    Done(Members),
}

pub struct Resolver<'a, 'r> {
    pub document: &'a Document,
    pub values: &'a Values,
    pub places: Places<'a>,
    pub kinds: BTreeMap<&'a str, (Kind, Span)>,
    pub node_addresses: Vec<Members>,
    pub floating: Vec<Members>,
    pub memo: Vec<Memo>,
    /// How deep in groups of groups we are.
    depth: usize,
    /// Intervals of addresses in all groups and ends so far.
    size: usize,
    pub internal: Option<Members>,
    pub internet: Option<Members>,
    /// For each group, the groups that include its rules, near and far.
    pub heirs: BTreeMap<usize, BTreeSet<usize>>,
    /// For each section, whether its options are as it wants them.
    pub sections_on: Vec<bool>,
    pub options: BTreeMap<&'a str, bool>,
    /// Places of unbound values, with the lines that need them.
    pub needed: BTreeMap<Span, (String, Vec<Span>)>,
    /// Empty groups, with the lines that need them to have a member.
    pub empty: BTreeMap<(usize, Action), Vec<Span>>,
    pub report: &'r mut Report,
}

impl<'a, 'r> Resolver<'a, 'r> {
    /// Looks up all definitions.
    pub fn new(document: &'a Document, values: &'a Values, places: Places<'a>, report: &'r mut Report) -> Self {
        let mut resolver = Self {
            document,
            values,
            places,
            kinds: BTreeMap::new(),
            node_addresses: Vec::new(),
            floating: Vec::new(),
            memo: document.groups.iter().map(|_| Memo::New).collect(),
            depth: 0,
            size: 0,
            internal: None,
            internet: None,
            heirs: BTreeMap::new(),
            sections_on: Vec::new(),
            options: BTreeMap::new(),
            needed: BTreeMap::new(),
            empty: BTreeMap::new(),
            report,
        };
        resolver.define_names();
        resolver.define_options();
        resolver.define_addresses();
        for index in 0..document.groups.len() {
            resolver.group(index);
        }
        resolver.define_heirs();
        resolver
    }

    fn define_names(&mut self) {
        let document = self.document;
        let nodes = document.nodes.iter().enumerate().map(|(at, def)| (&def.name, Kind::Node(at), def.span));
        let floating = document.floating.iter().enumerate().map(|(at, def)| (&def.name, Kind::Floating(at), def.span));
        let groups = document.groups.iter().enumerate().map(|(at, def)| (&def.name, Kind::Group(at), def.span));
        for (name, kind, span) in nodes.chain(floating).chain(groups) {
            if BUILT_IN.contains(&name.as_str()) || address::looks_like_address(name.as_str()) {
                let what = if BUILT_IN.contains(&name.as_str()) { "is built in" } else { "reads as an address" };
                let diagnostic = Diagnostic::error("RW0107", format!("`{name}` {what}, so nothing can be named so"));
                self.report.push(diagnostic.at(span, "choose another name"));
            }
            match self.kinds.get(name.as_str()) {
                Some((_, first)) => self.report.push(doubled(&format!("the name `{name}`"), *first, span)),
                None => {
                    self.kinds.insert(name.as_str(), (kind, span));
                }
            }
        }
    }

    fn define_options(&mut self) {
        let mut first_places: BTreeMap<&str, Span> = BTreeMap::new();
        for (name, value) in &self.document.options {
            if let Some(first) = first_places.insert(&name.text, name.span) {
                self.report.push(doubled(&format!("the option `{}`", name.text), first, name.span));
            }
            self.options.insert(&name.text, *value);
        }
    }

    fn define_addresses(&mut self) {
        let document = self.document;
        for def in &document.nodes {
            let members = self.plain_items(&def.addresses, def.span);
            self.single_addresses(&def.addresses);
            self.node_addresses.push(members);
        }
        self.refuse_shared_addresses();
        for def in &document.floating {
            let members = self.plain_items(&def.addresses, def.span);
            self.single_addresses(&def.addresses);
            self.floating.push(members);
        }
        let Some((span, items)) = &document.internal else { return };
        let internal = self.plain_items(items, *span);
        if internal.is_empty() {
            let message = "`internal` has no prefix, so everything would be `internet`";
            self.report.push(Diagnostic::error("RW0218", message).at(*span, ""));
        }
        let nodes = self.node_addresses.iter().chain(&self.floating).map(|members| members.addresses.clone()).collect();
        let internet = Members {
            addresses: Policy::internet(&internal.addresses, &nodes),
            broken: internal.broken,
            ..Members::default()
        };
        self.internal = Some(internal);
        self.internet = Some(internet);
    }

    /// A machine answers on addresses; a prefix would make it the end of whatever goes there.
    fn single_addresses(&mut self, items: &[(Word, Item)]) {
        let has_several = |set: &AddressSet| ranges(set).any(|(first, last)| first != last);
        for (word, item) in items {
            let several = match item {
                Item::Addresses(addresses) => has_several(addresses),
                Item::Value(name) => self.values.get(&name.text).is_some_and(|value| {
                    parts(value, word.span).any(|part| matches!(address::item(&part), Ok(Item::Addresses(set)) if has_several(&set)))
                }),
                Item::Bad | Item::Name(_) => false,
            };
            if several {
                let message = format!("`{}` is more than one address where a machine's own are wanted", word.text);
                let help = "write each address that the machine has; prefixes that it routes for go under `routes:`";
                self.report.push(Diagnostic::error("RW0221", message).at(word.span, "").help(help));
            }
        }
    }

    fn refuse_shared_addresses(&mut self) {
        let mut seen: Vec<(IpAddr, IpAddr, usize)> = Vec::new();
        for (node, members) in self.node_addresses.iter().enumerate() {
            seen.extend(ranges(&members.addresses).map(|(first, last)| (first, last, node)));
        }
        seen.sort_unstable();
        let mut last: Option<(IpAddr, usize)> = None;
        let mut reported = BTreeSet::new();
        for (from, to, node) in seen {
            if let Some((end, other)) = last.filter(|(end, other)| from <= *end && *other != node)
                && reported.insert((other.min(node), other.max(node)))
            {
                let (first, second) = (&self.document.nodes[other.min(node)], &self.document.nodes[other.max(node)]);
                let message = format!("{} is an address of two nodes", from.min(end));
                let diagnostic = Diagnostic::error("RW0215", message).at(second.span, "this node has it");
                let help = "an address that moves between nodes goes under `floating:`";
                self.report.push(diagnostic.related(first.span, "and this one").help(help));
            }
            if last.is_none_or(|(end, _)| end < to) {
                last = Some((to, node));
            }
        }
    }

    /// Items where every value must be bound and no name may stand.
    pub fn plain_items(&mut self, items: &[(Word, Item)], user: Span) -> Members {
        let mut members: Members = items.iter().map(|item| self.item(item)).collect();
        for (word, item) in items {
            if let Item::Name(_) = item {
                let message = format!("`{}` is not an address", word.text);
                self.report.push(Diagnostic::error("RW0205", message).at(word.span, ""));
                members.broken = true;
            }
        }
        self.need(&members, user);
        members.broken |= !members.unbound.is_empty();
        members
    }

    /// What one item comes to; a name is for the caller to look up.
    pub fn item(&mut self, (word, item): &(Word, Item)) -> Members {
        let name = match item {
            Item::Addresses(addresses) => return Members { addresses: addresses.clone(), ..Members::default() },
            Item::Bad | Item::Name(_) => return Members::broken(),
            Item::Value(name) => name,
        };
        let Some(value) = self.values.get(&name.text) else {
            return Members { unbound: vec![word.clone()], ..Members::default() };
        };
        let parts = parts(value, word.span).map(|part| {
            let message = match address::item(&part) {
                Ok(Item::Addresses(addresses)) => return Members { addresses, ..Members::default() },
                Ok(_) => format!("`{}` is not an address", part.text),
                Err(diagnostic) => diagnostic.message,
            };
            let diagnostic = Diagnostic::error("RW0212", message).at(word.span, "");
            self.report.push(diagnostic.note(format!("the value comes from {}", value.origin)));
            Members::broken()
        });
        parts.collect()
    }

    pub fn need(&mut self, members: &Members, user: Span) {
        for word in &members.unbound {
            let (_, users) = self.needed.entry(word.span).or_insert_with(|| (word.text.clone(), Vec::new()));
            if users.last() != Some(&user) {
                users.push(user);
            }
        }
    }

    fn unknown(&mut self, word: &Word, what: &str) {
        let diagnostic = Diagnostic::error("RW0201", format!("there is no {what} `{}`", word.text)).at(word.span, "");
        let known = self.kinds.keys().copied().chain(BUILT_IN.iter().copied());
        let diagnostic = self.report.suggest(diagnostic, word.span, &word.text, known);
        let is_address = !matches!(address::item(word), Ok(Item::Name(_)));
        self.report.push(match is_address {
            true => diagnostic.help("addresses get a name under `groups:` first"),
            false => diagnostic,
        });
    }

    /// Looks a name up that must stand for a set of addresses of ours.
    pub fn member(&mut self, word: &Word) -> Option<Members> {
        match self.kinds.get(word.text.as_str()).copied() {
            Some((Kind::Node(at), _)) => Some(self.node_addresses[at].clone()),
            Some((Kind::Floating(at), _)) => Some(self.floating[at].clone()),
            Some((Kind::Group(at), _)) => Some(self.group(at)),
            None if word.text == "internal" => self.built_in(word),
            found @ None => {
                self.wrong_kind(word, found, "group or node");
                None
            }
        }
    }

    pub fn built_in(&mut self, word: &Word) -> Option<Members> {
        let found = match word.text.as_str() {
            "any" => return Some(Members { addresses: AddressSet::full(), ..Members::default() }),
            "internal" => self.internal.clone(),
            _ => self.internet.clone(),
        };
        if found.is_none() {
            let message = format!("`{}` needs `internal:`", word.text);
            let diagnostic = Diagnostic::error("RW0218", message).at(word.span, "");
            let help = "say which prefixes are yours, such as `internal: [192.0.2.0/24]`";
            self.report.push(diagnostic.help(help));
        }
        found
    }

    pub fn group(&mut self, index: usize) -> Members {
        match &self.memo[index] {
            Memo::Done(members) => return members.clone(),
            Memo::Open => return Members::broken(),
            Memo::New => self.memo[index] = Memo::Open,
        }
        self.depth += 1;
        let members = if self.depth > MAX_DEPTH {
            let def = &self.document.groups[index];
            let message = format!("the group `{}` is more than {MAX_DEPTH} groups deep", def.name);
            self.report.push(Diagnostic::error("RW0213", message).at(def.span, ""));
            Members::broken()
        } else {
            self.members_of(index)
        };
        self.depth -= 1;
        self.grow(&members, self.document.groups[index].span);
        self.memo[index] = Memo::Done(members.clone());
        members
    }

    /// Keeps the whole policy within bounds.
    pub fn grow(&mut self, members: &Members, place: Span) {
        let before = self.size;
        self.size += members.addresses.v4.intervals().len() + members.addresses.v6.intervals().len();
        if before <= MAX_SIZE && self.size > MAX_SIZE {
            let message = format!("the policy is too large: {MAX_SIZE} ranges of addresses in its groups and rules");
            self.report.push(Diagnostic::error("RW0114", message).at(place, "full here"));
        }
    }

    /// Whether no more can be resolved, which is reported.
    pub fn is_full(&self) -> bool {
        self.size > MAX_SIZE
    }

    fn members_of(&mut self, index: usize) -> Members {
        if self.is_full() {
            return Members::broken();
        }
        let document = self.document;
        let def = &document.groups[index];
        let names = def.names.iter().map(|name| name.text.trim_end_matches('.').to_ascii_lowercase()).collect();
        let mut parts = vec![Members { names, broken: def.broken, ..Members::default() }];
        for item in &def.addresses {
            parts.push(self.item(item));
        }
        for word in &def.nodes {
            match self.kinds.get(word.text.as_str()).copied() {
                Some((Kind::Node(at), _)) => parts.push(self.node_addresses[at].clone()),
                Some((Kind::Floating(at), _)) => parts.push(self.floating[at].clone()),
                found => {
                    parts.push(Members::broken());
                    self.wrong_kind(word, found, "node");
                }
            }
        }
        for word in &def.groups {
            match self.kinds.get(word.text.as_str()).copied() {
                Some((Kind::Group(at), span)) => {
                    if matches!(self.memo[at], Memo::Open) {
                        let message = format!("the group `{}` is a member of itself", word.text);
                        let diagnostic = Diagnostic::error("RW0213", message).at(word.span, "");
                        self.report.push(diagnostic.related(span, "the circle goes through here"));
                    }
                    parts.push(self.group(at));
                }
                found => {
                    parts.push(Members::broken());
                    self.wrong_kind(word, found, "group");
                }
            }
        }
        parts.extend(self.labelled(def));
        let mut members: Members = parts.into_iter().collect();
        self.except(def, &mut members);
        members
    }

    pub fn wrong_kind(&mut self, word: &Word, found: Option<(Kind, Span)>, wanted: &str) {
        let (kind, key, span) = match found {
            None if BUILT_IN.contains(&word.text.as_str()) => {
                let message = format!("`{}` is not a {wanted}", word.text);
                self.report.push(Diagnostic::error("RW0220", message).at(word.span, "built in: only an end of a rule can be this"));
                return;
            }
            None => return self.unknown(word, wanted),
            Some((Kind::Node(_), span)) => ("node", "nodes:", span),
            Some((Kind::Floating(_), span)) => ("floating address", "nodes:", span),
            Some((Kind::Group(_), span)) => ("group", "groups:", span),
        };
        let diagnostic = Diagnostic::error("RW0220", format!("`{}` is a {kind}, not a {wanted}", word.text));
        self.report.push(diagnostic.at(word.span, format!("belongs under `{key}`")).related(span, "named here"));
    }

    fn labelled<'s>(&'s self, def: &'s GroupDef) -> impl Iterator<Item = Members> + 's {
        let has = |node: &NodeDef| {
            let wanted = |(name, value): &(Name, Word)| node.labels.iter().any(|(n, v)| n == name && *v == value.text);
            !def.labels.is_empty() && def.labels.iter().all(wanted)
        };
        let nodes = self.document.nodes.iter().zip(&self.node_addresses);
        nodes.filter(move |(node, _)| has(node)).map(|(_, own)| own.clone())
    }

    fn except(&mut self, def: &GroupDef, members: &mut Members) {
        let mut parts = Vec::new();
        for (word, item) in &def.except {
            let part = match item {
                Item::Name(name) => match self.kinds.get(name.text.as_str()) {
                    Some((Kind::Group(at), span)) if matches!(self.memo[*at], Memo::Open) => {
                        let message = format!("the group `{}` leaves out itself", name.text);
                        let diagnostic = Diagnostic::error("RW0213", message).at(word.span, "");
                        self.report.push(diagnostic.related(*span, "the circle goes through here"));
                        None
                    }
                    _ => self.member(name),
                },
                _ => Some(self.item(&(word.clone(), item.clone()))),
            };
            let Some(part) = part else {
                members.broken = true;
                continue;
            };
            if !part.names.is_empty() {
                let message = format!("`except` can't leave out the DNS names of `{}`", word.text);
                let note = "what a name stands for is known to a resolver, not here";
                self.report.push(Diagnostic::error("RW0303", message).at(word.span, "").note(note));
                members.broken = true;
            } else if part.is_empty() {
                let message = format!("`{}` is empty, so `except` leaves nothing out", word.text);
                self.report.push(Diagnostic::error("RW0302", message).at(word.span, ""));
                members.broken = true;
            }
            parts.push(part);
        }
        let left_out: Members = parts.into_iter().collect();
        members.addresses = members.addresses.difference(&left_out.addresses);
        members.unbound.extend(left_out.unbound);
        members.broken |= left_out.broken;
    }

    fn define_heirs(&mut self) {
        let document = self.document;
        for (heir, def) in document.groups.iter().enumerate() {
            for word in &def.includes_rules_of {
                match self.kinds.get(word.text.as_str()).copied() {
                    Some((Kind::Group(at), _)) => {
                        self.heirs.entry(at).or_default().insert(heir);
                    }
                    found => self.wrong_kind(word, found, "group"),
                }
            }
        }
        loop {
            let far: Vec<(usize, usize)> = self
                .heirs
                .iter()
                .flat_map(|(at, near)| near.iter().map(move |heir| (*at, *heir)))
                .flat_map(|(at, heir)| self.heirs.get(&heir).into_iter().flatten().map(move |far| (at, *far)))
                .filter(|(at, far)| at != far && !self.heirs[at].contains(far))
                .collect();
            if far.is_empty() {
                break;
            }
            for (at, far) in far {
                self.heirs.entry(at).or_default().insert(far);
            }
        }
    }

    /// Reports the values and members that lines need and don't have.
    pub fn report_needs(&mut self) {
        const SHOWN: usize = 5;
        let with_users = |diagnostic: Diagnostic, users: &[Span], text: &str| {
            let shown = users.iter().take(SHOWN).fold(diagnostic, |diagnostic, user| diagnostic.related(*user, text));
            match users.len().saturating_sub(SHOWN) {
                0 => shown,
                more => shown.note(format!("{more} more lines need it")),
            }
        };
        for (span, (text, users)) in std::mem::take(&mut self.needed) {
            let diagnostic = Diagnostic::error("RW0211", format!("`{text}` is not bound to anything")).at(span, "");
            let name = text.trim_start_matches('$');
            let diagnostic = match nearest(name, self.values.names()) {
                Some(near) => diagnostic.note(format!("`{near}` is bound; is that the one?")),
                None => diagnostic,
            };
            let help = format!("bind it with `--set {name}=ADDRESSES`, `RINGWALL_VALUE_{name}` or in a `--values` file");
            self.report.push(with_users(diagnostic, &users, "needs it").help(help));
        }
        for ((at, action), users) in std::mem::take(&mut self.empty) {
            let def = &self.document.groups[at];
            let code = if action == Action::Allow { "RW0301" } else { "RW0302" };
            let diagnostic = Diagnostic::error(code, format!("the group `{}` is empty", def.name)).at(def.span, "");
            let mut diagnostic = with_users(diagnostic, &users, "needs a member");
            for (name, value) in &def.labels {
                diagnostic = diagnostic.note(format!("wanted are nodes with the label `{name}: {}`", value.text));
            }
            self.report.push(match action {
                Action::Allow => diagnostic.help("if that is meant, say `may_be_empty: true` in the group"),
                Action::Deny => diagnostic.help("a deny that denies nothing only looks safe: take it out"),
            });
        }
    }
}

/// First and last addresses, IPv4 before IPv6.
pub fn ranges(addresses: &AddressSet) -> impl Iterator<Item = (IpAddr, IpAddr)> {
    let v4 = addresses.v4.intervals().iter().map(|i| (IpAddr::from(i.first()), IpAddr::from(i.last())));
    let v6 = addresses.v6.intervals().iter().map(|i| (IpAddr::from(i.first()), IpAddr::from(i.last())));
    v4.chain(v6)
}
