//! From what the files say to the model: every name and value is looked up, every group worked out.

use std::collections::{BTreeMap, BTreeSet};

use ringwall_diagnostic::{Diagnostic, Sources, Span};
use ringwall_packet::AddressSet;
use ringwall_policy::{
    Action, End, Expectation, Group, Management, Name, Node, Origin, Policy, Rule, ServiceUse, Stage, rule_id,
};

use crate::address::{self, Item};
use crate::document::{Condition, Document, GroupDef, RuleDef, Single};
use crate::form::{Report, Word, doubled};
use crate::near::{list, suggest};
use crate::service::Services;
use crate::values::Values;

/// Ends that every policy has.
pub const BUILT_IN: &[&str] = &["any", "internet", "internal"];

/// The model, and what the checks of its meaning need beside it.
pub struct Resolved<'a> {
    pub policy: Policy,
    /// For each of the policy's rules, in its order.
    pub rules: Vec<Facts<'a>>,
    pub expectations: Vec<Facts<'a>>,
}

/// How a rule came about.
pub struct Facts<'a> {
    pub def: &'a RuleDef,
    /// Some of it could not be resolved, which is reported; its meaning is not to be judged.
    pub broken: bool,
    /// An end is `any` or `internet`, which have every family without anybody asking for it.
    pub source_is_open: bool,
    pub destination_is_open: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Node(usize),
    Floating(usize),
    Group(usize),
}

/// What a group, or a list of items, comes to.
#[derive(Clone, Default)]
struct Members {
    addresses: AddressSet,
    names: BTreeSet<String>,
    unbound: Vec<Word>,
    broken: bool,
}

impl Members {
    fn add(&mut self, other: &Self) {
        self.addresses = self.addresses.union(&other.addresses);
        self.names.extend(other.names.iter().cloned());
        self.unbound.extend(other.unbound.iter().cloned());
        self.broken |= other.broken;
    }

    fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.names.is_empty() && !self.broken && self.unbound.is_empty()
    }
}

enum Memo {
    New,
    Open,
    Done(Members),
}

struct Resolver<'a, 'r> {
    document: &'a Document,
    values: &'a Values,
    places: Places<'a>,
    kinds: BTreeMap<&'a str, (Kind, Span)>,
    node_addresses: Vec<Members>,
    floating: Vec<Members>,
    memo: Vec<Memo>,
    internal: Option<Members>,
    internet: Option<Members>,
    /// For each group, the groups that include its rules, near and far.
    heirs: BTreeMap<usize, BTreeSet<usize>>,
    /// For each section, whether its options are as it wants them.
    sections_on: Vec<bool>,
    /// Places of unbound values, with the lines that need them.
    needed: BTreeMap<Span, (String, Vec<Span>)>,
    /// Empty groups, with the lines that need them to have a member.
    empty: BTreeMap<(usize, Action), Vec<Span>>,
    report: &'r mut Report,
}

/// Finds lines without counting from the top each time.
struct Places<'a> {
    sources: &'a Sources,
    newlines: BTreeMap<ringwall_diagnostic::SourceId, Vec<usize>>,
}

impl<'a> Places<'a> {
    fn new(sources: &'a Sources) -> Self {
        let newlines = sources.ids().map(|id| {
            let text = sources.text(id);
            (id, text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect())
        });
        Self { sources, newlines: newlines.collect() }
    }

    fn origin(&self, span: Span, section: Option<String>) -> Origin {
        let line = self.newlines[&span.source].partition_point(|newline| *newline < span.start) + 1;
        Origin { span, place: format!("{}:{line}", self.sources.name(span.source)), section }
    }
}

/// Looks everything up. The policy is complete only when nothing was reported as an error.
pub fn resolve<'a>(
    document: &'a Document,
    values: &'a Values,
    sources: &'a Sources,
    report: &mut Report,
) -> Resolved<'a> {
    let mut services = Services::new(&document.services, report);
    let mut resolver = Resolver {
        document,
        values,
        places: Places::new(sources),
        kinds: BTreeMap::new(),
        node_addresses: Vec::new(),
        floating: Vec::new(),
        memo: document.groups.iter().map(|_| Memo::New).collect(),
        internal: None,
        internet: None,
        heirs: BTreeMap::new(),
        sections_on: Vec::new(),
        needed: BTreeMap::new(),
        empty: BTreeMap::new(),
        report,
    };
    resolver.define_names();
    resolver.define_addresses();
    for index in 0..document.groups.len() {
        resolver.group(index);
    }
    resolver.define_heirs();

    resolver.sections_on = document.sections.iter().map(|section| resolver.are_met(&section.conditions)).collect();
    let mut facts = Vec::new();
    let mut rules = Vec::new();
    for def in &document.rules {
        let is_on = resolver.is_on(def);
        if let Some((rule, fact)) = resolver.rule(def, is_on, &mut services) {
            rules.push(rule);
            facts.push(fact);
        }
    }
    let mut expectations = Vec::new();
    let mut expectation_facts = Vec::new();
    for def in &document.expectations {
        let is_on = resolver.is_on(def);
        if let Some((expectation, fact)) = resolver.expectation(def, is_on, &mut services) {
            expectations.push(expectation);
            expectation_facts.push(fact);
        }
    }
    let management = resolver.management(&mut services);
    let protected = resolver.protected();
    let groups = resolver.groups();
    let nodes = resolver.nodes(&groups);
    resolver.report_needs();

    let value = |single: &Single<_>| single.as_ref().map(|(_, value)| *value);
    let policy = Policy {
        internal: resolver.internal.map(|members| members.addresses),
        min_tls: value(&document.min_tls).flatten(),
        management,
        floor: document.floor.as_ref().map(|(_, floor)| *floor).unwrap_or_default(),
        protected,
        on_tighten: document.on_tighten.as_ref().map(|(_, value)| *value).unwrap_or_default(),
        on_drift: document.on_drift.as_ref().map(|(_, value)| *value).unwrap_or_default(),
        nodes,
        groups,
        rules,
        expectations,
    };
    Resolved { policy, rules: facts, expectations: expectation_facts }
}

impl<'a> Resolver<'a, '_> {
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

    fn define_addresses(&mut self) {
        let document = self.document;
        for def in &document.nodes {
            let members = self.plain_items(&def.addresses, def.span);
            self.node_addresses.push(members);
        }
        self.refuse_shared_addresses();
        for def in &document.floating {
            let members = self.plain_items(&def.addresses, def.span);
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

    fn refuse_shared_addresses(&mut self) {
        let mut seen: Vec<(std::net::IpAddr, std::net::IpAddr, usize)> = Vec::new();
        for (node, members) in self.node_addresses.iter().enumerate() {
            let v4 = members.addresses.v4.intervals().iter().map(|i| (i.first().into(), i.last().into(), node));
            let v6 = members.addresses.v6.intervals().iter().map(|i| (i.first().into(), i.last().into(), node));
            seen.extend(v4.chain(v6));
        }
        seen.sort_unstable();
        let mut last: Option<(std::net::IpAddr, usize)> = None;
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
    fn plain_items(&mut self, items: &[(Word, Item)], user: Span) -> Members {
        let mut members = self.items(items, |_| None);
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

    /// What items come to; names among them are looked up by `named`.
    fn items(&mut self, items: &[(Word, Item)], mut named: impl FnMut(&Word) -> Option<Members>) -> Members {
        let mut members = Members::default();
        let mut sets = Vec::with_capacity(items.len());
        for (word, item) in items {
            match item {
                Item::Addresses(addresses) => sets.push(addresses.clone()),
                Item::Bad => members.broken = true,
                Item::Name(name) => match named(name) {
                    Some(found) => members.add(&found),
                    None => members.broken = true,
                },
                Item::Value(name) => match self.values.get(&name.text) {
                    None => members.unbound.push(word.clone()),
                    Some(value) => {
                        let separators = |c: char| c == ',' || c.is_whitespace();
                        for text in value.text.split(separators).filter(|text| !text.is_empty()) {
                            let part = Word { text: text.to_owned(), span: word.span };
                            match address::item(&part) {
                                Ok(Item::Addresses(addresses)) => sets.push(addresses),
                                other => {
                                    members.broken = true;
                                    let message = match other {
                                        Err(diagnostic) => diagnostic.message,
                                        Ok(_) => format!("`{text}` is not an address"),
                                    };
                                    let diagnostic = Diagnostic::error("RW0212", message).at(word.span, "");
                                    self.report.push(diagnostic.note(format!("the value comes from {}", value.origin)));
                                }
                            }
                        }
                    }
                },
            }
        }
        members.addresses = sets.into_iter().chain([std::mem::take(&mut members.addresses)]).collect();
        members
    }

    fn need(&mut self, members: &Members, user: Span) {
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
        let diagnostic = suggest(diagnostic, word.span, &word.text, known);
        let is_address = !matches!(address::item(word), Ok(Item::Name(_)));
        self.report.push(match is_address {
            true => diagnostic.help("addresses get a name under `groups:` first"),
            false => diagnostic,
        });
    }

    /// Looks a name up that must stand for a set of addresses of ours.
    fn member(&mut self, word: &Word) -> Option<Members> {
        match self.kinds.get(word.text.as_str()).copied() {
            Some((Kind::Node(at), _)) => Some(self.node_addresses[at].clone()),
            Some((Kind::Floating(at), _)) => Some(self.floating[at].clone()),
            Some((Kind::Group(at), _)) => Some(self.group(at)),
            None if word.text == "internal" => self.built_in(word),
            None => {
                self.unknown(word, "group or node");
                None
            }
        }
    }

    fn built_in(&mut self, word: &Word) -> Option<Members> {
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

    fn group(&mut self, index: usize) -> Members {
        match &self.memo[index] {
            Memo::Done(members) => return members.clone(),
            Memo::Open => return Members { broken: true, ..Members::default() },
            Memo::New => self.memo[index] = Memo::Open,
        }
        let document = self.document;
        let def = &document.groups[index];
        let mut members = self.items(&def.addresses, |_| None);
        members.broken |= def.broken;
        members.names = def.names.iter().map(|name| name.text.trim_end_matches('.').to_ascii_lowercase()).collect();
        for word in &def.nodes {
            match self.kinds.get(word.text.as_str()).copied() {
                Some((Kind::Node(at), _)) => members.add(&self.node_addresses[at].clone()),
                Some((Kind::Floating(at), _)) => members.add(&self.floating[at].clone()),
                found => {
                    members.broken = true;
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
                    let other = self.group(at);
                    members.add(&other);
                }
                found => {
                    members.broken = true;
                    self.wrong_kind(word, found, "group");
                }
            }
        }
        members.add(&self.labelled(def));
        self.except(def, &mut members);
        self.memo[index] = Memo::Done(members.clone());
        members
    }

    fn wrong_kind(&mut self, word: &Word, found: Option<(Kind, Span)>, wanted: &str) {
        let (kind, key, span) = match found {
            None if BUILT_IN.contains(&word.text.as_str()) => {
                let message = format!("`{}` is not a {wanted}", word.text);
                self.report.push(Diagnostic::error("RW0220", message).at(word.span, "built in; only rules name it"));
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

    fn labelled(&self, def: &GroupDef) -> Members {
        let mut members = Members::default();
        if def.labels.is_empty() {
            return members;
        }
        for (node, own) in self.document.nodes.iter().zip(&self.node_addresses) {
            let has = |(name, value): &(Name, Word)| node.labels.iter().any(|(n, v)| n == name && *v == value.text);
            if def.labels.iter().all(has) {
                members.add(own);
            }
        }
        members
    }

    fn except(&mut self, def: &GroupDef, members: &mut Members) {
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
                _ => Some(self.items(std::slice::from_ref(&(word.clone(), item.clone())), |_| None)),
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
            members.addresses = members.addresses.difference(&part.addresses);
            members.unbound.extend(part.unbound);
            members.broken |= part.broken;
        }
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

    /// Whether all options are as the conditions want them.
    fn are_met(&mut self, conditions: &[Condition]) -> bool {
        let mut met = true;
        for condition in conditions {
            let options = &self.document.options;
            match options.iter().find(|(name, _)| name.text == condition.option.text) {
                Some((_, value)) => met &= *value != condition.negated,
                None => {
                    let Word { text, span } = &condition.option;
                    let diagnostic = Diagnostic::error("RW0203", format!("there is no option `{text}`")).at(*span, "");
                    let known = options.iter().map(|(name, _)| name.text.as_str());
                    self.report.push(suggest(diagnostic, *span, text, known));
                    met = false;
                }
            }
        }
        met
    }

    /// Whether a rule is switched on, by itself and with its section.
    fn is_on(&mut self, def: &RuleDef) -> bool {
        let section = match def.section {
            Some(index) => self.sections_on[index],
            None => true,
        };
        self.are_met(&def.conditions) && section
    }

    /// One end of a line, with the groups that include its rules; `None` when a name is unknown.
    fn end(&mut self, words: &[Word], user: &EndUse) -> Option<(End, bool, bool)> {
        let text = words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(", ");
        let mut whole = Members::default();
        let mut open = false;
        for word in words {
            let members = match self.kinds.get(word.text.as_str()).copied() {
                None if BUILT_IN.contains(&word.text.as_str()) => {
                    open |= word.text != "internal";
                    self.built_in(word)
                }
                Some((Kind::Group(at), _)) => {
                    let members = self.group(at);
                    let may_be_empty = self.document.groups[at].may_be_empty && user.action == Action::Allow;
                    if user.is_on && members.is_empty() && !may_be_empty {
                        self.empty.entry((at, user.action)).or_default().push(user.span);
                    }
                    Some(members)
                }
                _ => self.member(word),
            };
            let Some(members) = members else {
                whole.broken = true;
                continue;
            };
            whole.broken |= user.is_on && self.refuse_names(word, user, &members);
            whole.add(&members);
            if let Some((Kind::Group(at), _)) = self.kinds.get(word.text.as_str()).copied().filter(|_| user.inherits) {
                for heir in self.heirs.get(&at).cloned().into_iter().flatten() {
                    let members = self.group(heir);
                    whole.broken |= user.is_on && self.refuse_names(word, user, &members);
                    whole.add(&members);
                }
            }
        }
        if user.is_on {
            self.need(&whole, user.span);
        }
        let broken = whole.broken || !whole.unbound.is_empty();
        Some((End { text, addresses: whole.addresses, names: whole.names }, broken, open))
    }

    /// Whether the members have DNS names where none may be.
    fn refuse_names(&mut self, word: &Word, user: &EndUse, members: &Members) -> bool {
        if members.names.is_empty() {
            return false;
        }
        let names = list(members.names.iter().take(3).map(String::as_str));
        let note = "what a name stands for is known to a resolver, and only when it is asked";
        let diagnostic = match user.names {
            NamesAre::Welcome => return false,
            NamesAre::Unprovable => {
                let message = format!("nobody can prove anything about the DNS names of `{}`", word.text);
                Diagnostic::error("RW0314", message).at(word.span, names)
            }
            NamesAre::Sources => {
                let message = format!("`{}` has DNS names, so it can't be a source", word.text);
                Diagnostic::error("RW0304", message).at(word.span, names)
            }
            NamesAre::Denied => {
                let message = format!("`{}` has DNS names, so it can't be denied", word.text);
                Diagnostic::error("RW0303", message).at(word.span, names)
            }
        };
        self.report.push(diagnostic.note(note));
        true
    }

    fn services(&mut self, def: &RuleDef, services: &mut Services) -> (Vec<ServiceUse>, bool) {
        let words = def.services.as_ref().map(|(_, words)| words.as_slice()).unwrap_or_default();
        let mut broken = false;
        let mut found: Vec<ServiceUse> = Vec::with_capacity(words.len());
        for (at, word) in words.iter().enumerate() {
            match services.resolve(word, self.report) {
                Some(service) if found.iter().any(|other| other.text == service.text) => {
                    let first = words[..at].iter().find(|other| other.text == word.text).map_or(word.span, |w| w.span);
                    self.report.push(doubled(&format!("the service `{}`", word.text), first, word.span));
                }
                Some(service) => found.push(service),
                None => broken = true,
            }
        }
        (found, broken)
    }

    /// `None` for what is switched off; its names are looked up all the same.
    fn rule(&mut self, def: &'a RuleDef, is_on: bool, services: &mut Services) -> Option<(Rule, Facts<'a>)> {
        let deny = def.action == Action::Deny;
        let both = def.line.both_ways;
        let source_names = if deny { NamesAre::Denied } else { NamesAre::Sources };
        let destination_names = match (deny, both) {
            (true, _) => NamesAre::Denied,
            (false, true) => NamesAre::Sources,
            (false, false) => NamesAre::Welcome,
        };
        let user = |names| EndUse { span: def.line.span, action: def.action, is_on, names, inherits: true };
        let source = self.end(&def.line.sources, &user(source_names));
        let destination = self.end(&def.line.destinations, &user(destination_names));
        let (services, broken_services) = self.services(def, services);
        let via = def.via.as_ref().and_then(|word| self.via(word));
        let ((source, broken_source, source_is_open), (destination, broken_destination, destination_is_open)) =
            (source?, destination?);
        if !is_on || def.line.broken {
            return None;
        }
        let mut broken = broken_source || broken_destination || broken_services || def.via.is_some() != via.is_some();
        if let Some((span, ports)) = def.source_ports.as_ref().filter(|_| !broken_services) {
            let without = services.iter().find(|service| {
                service.upper.cubes().iter().any(|cube| cube.with_source_ports(ports).is_none())
            });
            if without.is_some() || def.services.is_none() {
                let text = without.map_or("any", |service| service.text.as_str());
                let message = format!("source ports on `{text}`, which is not all of ports");
                let diagnostic = Diagnostic::error("RW0210", message).at(*span, "");
                self.report.push(diagnostic.help("name services of TCP, UDP or SCTP, or leave the source ports out"));
                broken = true;
            }
        }
        let mut rule = Rule {
            id: rule_id(def.action, "", "", false, &Default::default(), None),
            action: def.action,
            source,
            destination,
            both_ways: both,
            services,
            source_ports: def.source_ports.as_ref().map(|(_, ports)| ports.clone()),
            via,
            session_timeout: def.session_timeout.map(|(_, seconds)| seconds),
            expires: def.expires.map(|(_, second)| second),
            stage: def.stage,
            log: def.log,
            reject: def.reject,
            note: def.note.clone(),
            owner: def.owner.clone(),
            origin: self.places.origin(def.span, def.section.and_then(|index| self.document.sections[index].name.clone())),
        };
        rule.id = match &def.id {
            Some((_, id)) => id.clone(),
            None => meaning_id(&rule),
        };
        Some((rule, Facts { def, broken, source_is_open, destination_is_open }))
    }

    fn via(&mut self, word: &Word) -> Option<Name> {
        let interfaces = || self.document.nodes.iter().flat_map(|node| &node.interfaces).map(|(name, _)| name);
        let found = interfaces().find(|name| name.as_str() == word.text).cloned();
        if found.is_none() {
            let message = format!("no node has an interface `{}`", word.text);
            let diagnostic = Diagnostic::error("RW0204", message).at(word.span, "");
            let known: BTreeSet<&str> = interfaces().map(Name::as_str).collect();
            let diagnostic = suggest(diagnostic, word.span, &word.text, known);
            self.report.push(diagnostic.help("a node's `interfaces:` gives the policy's names"));
        }
        found
    }

    fn expectation(
        &mut self,
        def: &'a RuleDef,
        is_on: bool,
        services: &mut Services,
    ) -> Option<(Expectation, Facts<'a>)> {
        let names = NamesAre::Unprovable;
        let user = EndUse { span: def.line.span, action: Action::Allow, is_on, names, inherits: false };
        let source = self.end(&def.line.sources, &user);
        let destination = self.end(&def.line.destinations, &user);
        let (services, broken_services) = self.services(def, services);
        let ((source, broken_source, source_is_open), (destination, broken_destination, destination_is_open)) =
            (source?, destination?);
        if !is_on || def.line.broken {
            return None;
        }
        let origin = self.places.origin(def.span, None);
        let broken = broken_source || broken_destination || broken_services;
        let facts = Facts { def, broken, source_is_open, destination_is_open };
        Some((Expectation { action: def.action, source, destination, services, origin }, facts))
    }

    fn management(&mut self, services: &mut Services) -> Option<Management> {
        let document = self.document;
        let (_, Some(def)) = document.management.as_ref()? else { return None };
        let names = NamesAre::Sources;
        let user = EndUse { span: def.span, action: Action::Allow, is_on: true, names, inherits: true };
        let (from, ..) = self.end(&def.from, &user)?;
        let used = def.services.iter().filter_map(|word| services.resolve(word, self.report)).collect();
        Some(Management { from, services: used, origin: self.places.origin(def.span, None) })
    }

    fn protected(&mut self) -> AddressSet {
        let document = self.document;
        let Some((span, items)) = &document.protected else { return AddressSet::default() };
        let mut whole = Members::default();
        for (word, item) in items {
            let members = match item {
                Item::Name(name) => self.member(name),
                _ => Some(self.items(std::slice::from_ref(&(word.clone(), item.clone())), |_| None)),
            };
            let Some(members) = members else { continue };
            if members.is_empty() {
                let message = format!("`{}` is empty, so it protects nothing", word.text);
                self.report.push(Diagnostic::error("RW0302", message).at(word.span, ""));
            } else if !members.names.is_empty() {
                let message = format!("`{}` has DNS names, so it can't be protected", word.text);
                self.report.push(Diagnostic::error("RW0303", message).at(word.span, ""));
            }
            whole.add(&members);
        }
        self.need(&whole, *span);
        whole.addresses
    }

    fn groups(&mut self) -> BTreeMap<Name, Group> {
        let document = self.document;
        let mut groups = BTreeMap::new();
        for (at, def) in document.groups.iter().enumerate() {
            let members = self.group(at);
            let nodes = document.nodes.iter().zip(&self.node_addresses);
            let nodes = nodes.filter(|(_, own)| !own.addresses.is_disjoint(&members.addresses));
            groups.insert(
                def.name.clone(),
                Group {
                    name: def.name.clone(),
                    nodes: nodes.map(|(node, _)| node.name.clone()).collect(),
                    addresses: members.addresses,
                    names: members.names,
                    may_be_empty: def.may_be_empty,
                    origin: self.places.origin(def.span, None),
                },
            );
        }
        groups
    }

    fn nodes(&mut self, groups: &BTreeMap<Name, Group>) -> BTreeMap<Name, Node> {
        let document = self.document;
        let mut floating: BTreeMap<&str, AddressSet> = BTreeMap::new();
        for (at, def) in document.floating.iter().enumerate() {
            for word in &def.on {
                let candidates: Vec<&str> = match self.kinds.get(word.text.as_str()).copied() {
                    Some((Kind::Node(node), _)) => vec![document.nodes[node].name.as_str()],
                    Some((Kind::Group(group), _)) => {
                        let group = groups.get(&document.groups[group].name);
                        group.into_iter().flat_map(|group| &group.nodes).map(Name::as_str).collect()
                    }
                    found => {
                        self.wrong_kind(word, found, "group");
                        continue;
                    }
                };
                if candidates.is_empty() {
                    let message = format!("`{}` has no node that `{}` could be on", word.text, def.name);
                    self.report.push(Diagnostic::error("RW0319", message).at(word.span, ""));
                }
                for node in candidates {
                    let set = floating.entry(node).or_default();
                    *set = set.union(&self.floating[at].addresses);
                }
            }
        }
        let mut nodes = BTreeMap::new();
        for (at, def) in document.nodes.iter().enumerate() {
            let routes = self.plain_items(&def.routes, def.span);
            let stage = self.stage_of(def, groups);
            nodes.insert(
                def.name.clone(),
                Node {
                    name: def.name.clone(),
                    addresses: self.node_addresses[at].addresses.clone(),
                    floating: floating.remove(def.name.as_str()).unwrap_or_default(),
                    labels: def.labels.iter().cloned().collect(),
                    site: def.site.clone(),
                    routes: routes.addresses,
                    interfaces: def.interfaces.iter().cloned().collect(),
                    unmanaged: def.unmanaged.iter().cloned().collect(),
                    stage,
                    origin: self.places.origin(def.span, None),
                },
            );
        }
        nodes
    }

    /// The node's own stage, else that of its groups, else the file's.
    fn stage_of(&mut self, def: &crate::document::NodeDef, groups: &BTreeMap<Name, Group>) -> Stage {
        if let Some(stage) = def.stage {
            return stage;
        }
        let document = self.document;
        let staged = document.groups.iter().filter_map(|group| Some((group, group.stage?)));
        let mut own = staged.filter(|(group, _)| groups.get(&group.name).is_some_and(|g| g.nodes.contains(&def.name)));
        let Some((first, (first_span, stage))) = own.next() else {
            return document.stage.as_ref().map(|(_, stage)| *stage).unwrap_or_default();
        };
        if let Some((second, (span, _))) = own.find(|(_, (_, other))| *other != stage) {
            let message = format!("`{}` and `{}` give the node `{}` different stages", first.name, second.name, def.name);
            let diagnostic = Diagnostic::error("RW0318", message).at(span, "").related(first_span, "");
            self.report.push(diagnostic.related(def.span, "give it a stage of its own"));
        }
        stage
    }

    /// Reports the values and members that lines need and don't have.
    fn report_needs(&mut self) {
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

struct EndUse {
    span: Span,
    action: Action,
    /// Not switched off.
    is_on: bool,
    names: NamesAre,
    /// Whether the rules of a group hold for those that include them.
    inherits: bool,
}

#[derive(Clone, Copy)]
enum NamesAre {
    Welcome,
    Sources,
    Denied,
    Unprovable,
}

/// The id that the rule has when its author gives it none.
pub fn meaning_id(rule: &Rule) -> ringwall_policy::RuleId {
    let (source, destination) = (&rule.source.text, &rule.destination.text);
    rule_id(rule.action, source, destination, rule.both_ways, &rule.upper(), rule.via.as_ref())
}
