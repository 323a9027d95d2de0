//! From what the files say to the model: every name and value is looked up, every group worked out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ringwall_diagnostic::{Diagnostic, Sources, Span};
use ringwall_packet::AddressSet;
use ringwall_policy::{
    Action, End, Expectation, Group, Management, Name, Node, Policy, Rule, ServiceUse, Stage, rule_id,
};

use crate::address::Item;
use crate::document::{Document, Single};
use crate::form::{Word, doubled};
use crate::members::{BUILT_IN, Kind, Members, Resolver, ranges};
use crate::near::list;
use crate::places::Places;
use crate::report::Report;
use crate::rule::{Condition, RuleDef};
use crate::service::Services;
use crate::unused::unused;
use crate::values::Values;

/// The model, and what the checks of its meaning need beside it.
pub struct Resolved<'a> {
    pub policy: Policy,
    /// Who manages is `any` or `internet`.
    pub management_is_open: bool,
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

/// Looks everything up. The policy is complete only when nothing was reported as an error.
pub fn resolve<'a>(
    document: &'a Document,
    values: &'a Values,
    sources: &'a Sources,
    report: &mut Report,
) -> Resolved<'a> {
    let mut services = Services::new(&document.services, report);
    let mut resolver = Resolver::new(document, values, Places::new(sources), report);
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
    let (management, management_is_open) = resolver.management(&mut services).unzip();
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
        unused: unused(document, &resolver.places),
    };
    let management_is_open = management_is_open.unwrap_or_default();
    Resolved { policy, management_is_open, rules: facts, expectations: expectation_facts }
}

impl<'a> Resolver<'a, '_> {
    /// Whether all options are as the conditions want them.
    fn are_met(&mut self, conditions: &[Condition]) -> bool {
        let mut met = true;
        for condition in conditions {
            match self.options.get(condition.option.text.as_str()) {
                Some(value) => met &= *value != condition.negated,
                None => {
                    let Word { text, span } = &condition.option;
                    let diagnostic = Diagnostic::error("RW0203", format!("there is no option `{text}`")).at(*span, "");
                    let diagnostic = self.report.suggest(diagnostic, *span, text, self.options.keys().copied());
                    self.report.push(diagnostic);
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

    /// One end of a line, with the groups that include its rules; `None` when there is no more room.
    pub fn end(&mut self, words: &[Word], user: &EndUse) -> Option<ResolvedEnd> {
        let text = words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(", ");
        let mut parts = Vec::new();
        let mut is_open = false;
        if self.is_full() {
            return None;
        }
        for word in words {
            let members = match self.kinds.get(word.text.as_str()).copied() {
                None if BUILT_IN.contains(&word.text.as_str()) => {
                    is_open |= word.text != "internal";
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
            let Some(mut members) = members else {
                parts.push(Members::broken());
                continue;
            };
            members.broken |= user.is_on && self.refuse_names(word, user, &members);
            parts.push(members);
            if let Some((Kind::Group(at), _)) = self.kinds.get(word.text.as_str()).copied().filter(|_| user.inherits) {
                for heir in self.heirs.get(&at).cloned().into_iter().flatten() {
                    let mut members = self.group(heir);
                    members.broken |= user.is_on && self.refuse_names(word, user, &members);
                    parts.push(members);
                }
            }
        }
        let whole: Members = parts.into_iter().collect();
        if user.is_on {
            self.need(&whole, user.span);
        }
        self.grow(&whole, user.span);
        let broken = whole.broken || !whole.unbound.is_empty();
        Some(ResolvedEnd { end: End { text, addresses: whole.addresses, names: whole.names }, broken, is_open })
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
        let mut first_places: BTreeMap<&str, Span> = BTreeMap::new();
        for word in words {
            if let Some(first) = first_places.insert(&word.text, word.span) {
                self.report.push(doubled(&format!("the service `{}`", word.text), first, word.span));
            } else if let Some(service) = services.resolve(word, self.report) {
                found.push(service);
            } else {
                broken = true;
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
        let (source, destination) = (source?, destination?);
        if !is_on || def.line.broken {
            return None;
        }
        let mut broken = source.broken || destination.broken || broken_services || def.via.is_some() != via.is_some();
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
            source: source.end,
            destination: destination.end,
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
        let (source_is_open, destination_is_open) = (source.is_open, destination.is_open);
        Some((rule, Facts { def, broken, source_is_open, destination_is_open }))
    }

    pub fn via(&mut self, word: &Word) -> Option<Name> {
        let interfaces = || self.document.nodes.iter().flat_map(|node| &node.interfaces).map(|(name, _)| name);
        let found = interfaces().find(|name| name.as_str() == word.text).cloned();
        if found.is_none() {
            let message = format!("no node has an interface `{}`", word.text);
            let diagnostic = Diagnostic::error("RW0204", message).at(word.span, "");
            let known: BTreeSet<&str> = interfaces().map(Name::as_str).collect();
            let diagnostic = self.report.suggest(diagnostic, word.span, &word.text, known);
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
        let (source, destination) = (source?, destination?);
        if !is_on || def.line.broken {
            return None;
        }
        let origin = self.places.origin(def.span, None);
        let broken = source.broken || destination.broken || broken_services;
        let facts = Facts { def, broken, source_is_open: source.is_open, destination_is_open: destination.is_open };
        let (source, destination) = (source.end, destination.end);
        Some((Expectation { action: def.action, source, destination, both_ways: def.line.both_ways, services, origin }, facts))
    }

    fn management(&mut self, services: &mut Services) -> Option<(Management, bool)> {
        let document = self.document;
        let (_, Some(def)) = document.management.as_ref()? else { return None };
        let names = NamesAre::Sources;
        let user = EndUse { span: def.span, action: Action::Allow, is_on: true, names, inherits: true };
        let ResolvedEnd { end: from, is_open, .. } = self.end(&def.from, &user)?;
        let used = def.services.iter().filter_map(|word| services.resolve(word, self.report)).collect();
        Some((Management { from, services: used, origin: self.places.origin(def.span, None) }, is_open))
    }

    fn protected(&mut self) -> AddressSet {
        let document = self.document;
        let Some((span, items)) = &document.protected else { return AddressSet::default() };
        let mut parts = Vec::new();
        for (word, item) in items {
            let members = match item {
                Item::Name(name) => self.member(name),
                _ => Some(self.item(&(word.clone(), item.clone()))),
            };
            let Some(members) = members else { continue };
            if members.is_empty() {
                let message = format!("`{}` is empty, so it protects nothing", word.text);
                self.report.push(Diagnostic::error("RW0302", message).at(word.span, ""));
            } else if !members.names.is_empty() {
                let message = format!("`{}` has DNS names, so it can't be protected", word.text);
                self.report.push(Diagnostic::error("RW0303", message).at(word.span, ""));
            }
            parts.push(members);
        }
        let whole: Members = parts.into_iter().collect();
        self.need(&whole, *span);
        whole.addresses
    }

    fn groups(&mut self) -> BTreeMap<Name, Group> {
        let document = self.document;
        let mut owners: BTreeMap<IpAddr, (IpAddr, &Name)> = BTreeMap::new();
        for (node, own) in document.nodes.iter().zip(&self.node_addresses) {
            owners.extend(ranges(&own.addresses).map(|(first, last)| (first, (last, &node.name))));
        }
        let mut groups = BTreeMap::new();
        if self.is_full() {
            return groups;
        }
        for (at, def) in document.groups.iter().enumerate() {
            let Members { addresses, names, .. } = self.group(at);
            let mut nodes = BTreeSet::new();
            for (first, last) in ranges(&addresses) {
                // Nodes share no address, so only the last one that begins before can reach into the range.
                let before = owners.range(..first).next_back().filter(|(_, (end, _))| *end >= first);
                let inside = owners.range(first..=last).map(|(_, (_, node))| *node);
                nodes.extend(before.map(|(_, (_, node))| *node).into_iter().chain(inside).cloned());
            }
            if let Some((span, _)) = def.stage.filter(|_| nodes.is_empty() && !def.may_be_empty && !def.broken) {
                let message = format!("`stage` means nothing on `{}`, which has no node", def.name);
                self.report.push(Diagnostic::warning("RW0320", message).at(span, ""));
            }
            let (name, may_be_empty) = (def.name.clone(), def.may_be_empty);
            let origin = self.places.origin(def.span, None);
            groups.insert(name.clone(), Group { name, addresses, names, nodes, may_be_empty, origin });
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
                // That a group is empty is reported where it is, with the value that is not bound.
                let is_empty = |name: &Name| groups.get(name).is_some_and(|group| group.addresses.is_empty() && !group.may_be_empty);
                let known_empty = Name::new(&word.text).is_some_and(|name| is_empty(&name));
                if candidates.is_empty() && !known_empty {
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
}

pub struct ResolvedEnd {
    pub end: End,
    /// Some of it is missing, which is reported.
    pub broken: bool,
    /// `any` or `internet` is in it.
    is_open: bool,
}

/// Who asks for an end.
pub struct EndUse {
    pub span: Span,
    pub action: Action,
    /// Not switched off.
    pub is_on: bool,
    pub names: NamesAre,
    /// Whether the rules of a group hold for those that include them.
    pub inherits: bool,
}

#[derive(Clone, Copy)]
pub enum NamesAre {
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
