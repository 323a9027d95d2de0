//! What the kernel would hold after a text was loaded.
//!
//! In: scripts, one after the other. Out: tables with their chains, sets and objects, and what the kernel
//! would refuse. Never: a packet.

use std::collections::{BTreeMap, HashMap};

use ringwall_diagnostic::{Diagnostic, SourceId, Span};

use super::cursor::Cursor;
use super::datatype::{Datatype, Why};
use super::elements::{Elements, Outcome};
use super::expression::expression;
use super::rule::{Body, Names, Refusal, SetTypes, Step, Use, body, canonical_rule};
use super::script::{Base, Command, Object, Place, Script, SetDeclaration, TableName, Text, Verb};
use super::token::{Token, canonical};

/// Tables, in the order in which they were made.
#[derive(Clone, Debug, Default)]
pub struct State<'t> {
    pub(super) tables: Vec<Table<'t>>,
    places: HashMap<TableName<'t>, usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Table<'t> {
    pub name: TableName<'t>,
    pub is_dormant: bool,
    pub chains: Vec<Chain<'t>>,
    pub chain_places: HashMap<&'t str, usize>,
    pub sets: BTreeMap<&'t str, Set<'t>>,
    /// By kind and name: what stands in braces, and how many rules use it.
    objects: BTreeMap<(&'static str, &'t str), (String, usize)>,
    is_deleted: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Chain<'t> {
    pub name: &'t str,
    pub base: Option<Base<'t>>,
    pub policy: &'t str,
    pub rules: Vec<Rule<'t>>,
    /// It was there before the text: what it holds is not known.
    pub is_elsewhere: bool,
    /// Rules and elements that go to it.
    uses: usize,
    is_deleted: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Rule<'t> {
    pub text: Text<'t>,
    pub source: SourceId,
    pub tokens: &'t [Token],
    pub line: usize,
    pub body: Body<'t>,
}

#[derive(Clone, Debug)]
pub(super) struct Set<'t> {
    declaration: String,
    types: Vec<Datatype>,
    has_outcomes: bool,
    is_map: bool,
    is_interval: bool,
    auto_merge: bool,
    pub elements: Elements<'t>,
    /// As they stand in their texts, in the order of `elements`.
    texts: Vec<(Text<'t>, &'t [Token])>,
    /// Why its elements are not known.
    pub unread: Option<Why>,
    uses: usize,
}

/// Something that the kernel holds before the text is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed<'t> {
    /// What it does is not known.
    Chain(&'t str),
    /// What it holds is not known.
    Set(&'t str),
    Counter(&'t str),
}

/// One thing that the kernel holds, as canonical text: one space between tokens, none before a comma,
/// and one after a comma in braces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Declaration<'t> {
    pub table: TableName<'t>,
    /// `table`, `chain`, `rule`, `set`, `map`, `element`, `counter`, `ct timeout` and so on. A rule has the name of
    /// its chain, an element that of its set; rules are in order.
    pub kind: &'static str,
    pub name: &'t str,
    pub text: String,
}

/// Chains that may be entered one from another: `NFT_JUMP_STACK_SIZE` of Linux.
pub(super) const DEPTH: usize = 16;

impl Chain<'_> {
    pub fn is_there(&self) -> bool {
        !self.is_deleted
    }
}

impl Rule<'_> {
    pub fn canonical(&self) -> String {
        canonical_rule(self.text, self.tokens)
    }

    pub fn span(&self) -> Span {
        let start = self.tokens.first().map_or(0, |token| token.start as usize);
        let end = self.tokens.last().map_or(start, |token| token.end as usize);
        // A value that was put in its place may stand before it.
        if start <= end { Span { source: self.source, start, end } } else { Span { source: self.source, start, end: start } }
    }
}

impl<'t> State<'t> {
    /// With what the kernel holds already, by name alone.
    pub fn with_installed(installed: impl IntoIterator<Item = (TableName<'t>, Installed<'t>)>) -> Self {
        let mut state = Self::default();
        for (table, installed) in installed {
            let table = state.table_or_new(table);
            match installed {
                Installed::Chain(name) => {
                    let chain = table.chain_or_new(name);
                    chain.is_elsewhere = true;
                }
                Installed::Set(name) => {
                    let set = Set {
                        declaration: String::new(),
                        types: Vec::new(),
                        has_outcomes: false,
                        is_map: false,
                        is_interval: true,
                        auto_merge: true,
                        elements: Elements::default(),
                        texts: Vec::new(),
                        unread: Some("it was there before"),
                        uses: 0,
                    };
                    table.sets.insert(name, set);
                }
                Installed::Counter(name) => drop(table.objects.insert(("counter", name), (String::new(), 0))),
            }
        }
        state
    }

    /// Runs the commands in order. With an error among the diagnostics, the kernel would take nothing of
    /// the script, and the state is of no use.
    pub fn apply(&mut self, script: &'t Script<'t>) -> Vec<Diagnostic> {
        const MOST: usize = 100;
        let mut diagnostics = Vec::new();
        for command in &script.commands {
            if let Err(diagnostic) = self.command(script, command) {
                diagnostics.push(*diagnostic);
                if diagnostics.len() >= MOST {
                    return diagnostics;
                }
            }
        }
        for table in self.tables.iter().filter(|table| !table.is_deleted) {
            diagnostics.extend(table.too_deep());
        }
        diagnostics
    }

    /// All that it holds.
    pub fn declarations(&self) -> Vec<Declaration<'t>> {
        let mut all = Vec::new();
        for table in self.tables() {
            let mut push = |kind, name, text| all.push(Declaration { table: table.name, kind, name, text });
            push("table", table.name.name, if table.is_dormant { "flags dormant".into() } else { String::new() });
            for (name, set) in &table.sets {
                push(if set.is_map { "map" } else { "set" }, *name, set.declaration.clone());
                for (text, tokens) in &set.texts {
                    push("element", *name, canonical(*text, tokens));
                }
            }
            for ((kind, name), (text, _)) in &table.objects {
                push(kind, *name, text.clone());
            }
            for chain in table.chains.iter().filter(|chain| !chain.is_deleted) {
                let base = chain.base.as_ref().map(|base| format!("{}; policy {}", base.text, chain.policy));
                push("chain", chain.name, base.unwrap_or_default());
                for rule in &chain.rules {
                    push("rule", chain.name, rule.canonical());
                }
            }
        }
        all
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = &Table<'t>> {
        self.tables.iter().filter(|table| !table.is_deleted)
    }

    pub(super) fn table(&self, name: TableName) -> Option<&Table<'t>> {
        self.tables().find(|table| table.name == name)
    }

    fn table_or_new(&mut self, name: TableName<'t>) -> &mut Table<'t> {
        let place = *self.places.entry(name).or_insert_with(|| {
            self.tables.push(Table {
                name,
                is_dormant: false,
                chains: Vec::new(),
                chain_places: HashMap::new(),
                sets: BTreeMap::new(),
                objects: BTreeMap::new(),
                is_deleted: false,
            });
            self.tables.len() - 1
        });
        &mut self.tables[place]
    }

    fn command(&mut self, script: &'t Script<'t>, command: &'t Command<'t>) -> Result<(), Box<Diagnostic>> {
        let at = At { script, command };
        let name = command.table;
        let is_there = self.places.contains_key(&name);
        match (&command.object, command.verb) {
            (Object::Ruleset, _) => {
                let all = self.tables.iter_mut().filter(|table| name.family.is_empty() || table.name.family == name.family);
                for table in all {
                    table.is_deleted = true;
                    self.places.remove(&table.name);
                }
                Ok(())
            }
            (Object::Table { .. }, Verb::Create) if is_there => Err(at.exists("table", name.name)),
            (Object::Table { is_dormant }, Verb::Add | Verb::Create) => {
                self.table_or_new(name).is_dormant |= is_dormant;
                Ok(())
            }
            (Object::Table { .. }, Verb::Destroy) if !is_there => Ok(()),
            _ if !is_there => match command.verb {
                Verb::Destroy => Ok(()),
                _ => Err(at.missing("table", name.name)),
            },
            (Object::Table { .. }, Verb::Delete | Verb::Destroy) => {
                self.table_or_new(name).is_deleted = true;
                self.places.remove(&name);
                Ok(())
            }
            (Object::Table { .. }, _) => {
                let table = self.table_or_new(name);
                for place in 0..table.chains.len() {
                    table.flush(place);
                }
                Ok(())
            }
            _ => self.table_or_new(name).command(&at),
        }
    }
}

/// Where a command stands, for what is said of it.
struct At<'t> {
    script: &'t Script<'t>,
    command: &'t Command<'t>,
}

impl At<'_> {
    fn span(&self) -> Span {
        let place = self.command.place;
        self.script.span(&(place..place + 1))
    }

    fn span_of(&self, token: &Token) -> Span {
        Span { source: self.script.source, start: token.start as usize, end: token.end as usize }
    }

    fn missing(&self, kind: &str, name: &str) -> Box<Diagnostic> {
        self.missing_at(kind, name, self.span())
    }

    fn missing_at(&self, kind: &str, name: &str, span: Span) -> Box<Diagnostic> {
        let table = self.command.table;
        let message = match kind {
            "table" => format!("there is no table `{} {name}`", table.family),
            _ => format!("there is no {kind} `{name}` in table `{} {}`", table.family, table.name),
        };
        Box::new(Diagnostic::error("RW6004", message).at(span, "names what is not there"))
    }

    fn exists(&self, kind: &str, name: &str) -> Box<Diagnostic> {
        let message = format!("{kind} `{name}` is there already");
        let why = match self.command.verb {
            Verb::Create => "makes it, so it must not be there",
            _ => "makes it another way",
        };
        Box::new(Diagnostic::error("RW6005", message).at(self.span(), why))
    }

    fn used(&self, kind: &str, name: &str) -> Box<Diagnostic> {
        let message = format!("{kind} `{name}` is still in use");
        Box::new(Diagnostic::error("RW6006", message).at(self.span(), "takes it away"))
    }

    fn refused(&self, message: String, span: Span, why: &str) -> Box<Diagnostic> {
        Box::new(Diagnostic::error("RW6010", message).at(span, why))
    }
}

impl Names for Table<'_> {
    fn set(&self, name: &str) -> Option<SetTypes<'_>> {
        self.sets.get(name).map(|set| SetTypes { key: &set.types, has_outcomes: set.has_outcomes })
    }
}

type Done = Result<(), Box<Diagnostic>>;

impl<'t> Table<'t> {
    fn chain_or_new(&mut self, name: &'t str) -> &mut Chain<'t> {
        let place = *self.chain_places.entry(name).or_insert_with(|| {
            let chain = Chain {
                name,
                base: None,
                policy: "accept",
                rules: Vec::new(),
                is_elsewhere: false,
                uses: 0,
                is_deleted: false,
            };
            self.chains.push(chain);
            self.chains.len() - 1
        });
        &mut self.chains[place]
    }

    pub fn chain(&self, name: &str) -> Option<usize> {
        self.chain_places.get(name).copied()
    }

    fn command(&mut self, at: &At<'t>) -> Done {
        let verb = at.command.verb;
        match &at.command.object {
            Object::Chain { name, base, policy } => self.chain_command(at, verb, name, base.as_ref(), *policy),
            Object::ChainName { name, new } => {
                let place = self.chain(name).ok_or_else(|| at.missing("chain", name))?;
                if self.chain(new).is_some() {
                    return Err(at.exists("chain", new));
                }
                if self.chains[place].uses > 0 {
                    let why = "is gone to by its old name, which is not followed here";
                    return Err(at.refused(format!("chain `{name}` gets another name"), at.span(), why));
                }
                self.chain_places.remove(name);
                self.chain_places.insert(new, place);
                self.chains[place].name = new;
                Ok(())
            }
            Object::Rule { chain, at: place, body } => {
                let index = self.chain(chain).ok_or_else(|| at.missing("chain", chain))?;
                match verb {
                    Verb::Add | Verb::Create | Verb::Insert => self.add_rule(at, index, *place, at.script.slice(body)),
                    _ => self.change_rule(at, index, *place, verb, at.script.slice(body)),
                }
            }
            Object::Set(set) => self.set_command(at, verb, set),
            Object::Elements { set, body } => self.element_command(at, verb, set, at.script.slice(body)),
            Object::Named { kind, name, body } => {
                let key = (*kind, *name);
                let known = self.objects.get(&key);
                match (verb, known) {
                    (Verb::Create, Some(_)) => Err(at.exists(kind, name)),
                    (Verb::Add | Verb::Create, None) => {
                        let text = canonical_lines(at.script.text, at.script.slice(body));
                        self.objects.insert(key, (text, 0));
                        Ok(())
                    }
                    (Verb::Delete, None) => Err(at.missing(kind, name)),
                    (Verb::Delete | Verb::Destroy, Some((_, uses))) if *uses > 0 => Err(at.used(kind, name)),
                    (Verb::Delete | Verb::Destroy, _) => {
                        self.objects.remove(&key);
                        Ok(())
                    }
                    // The kernel keeps what a second `add` finds.
                    _ => Ok(()),
                }
            }
            Object::Ruleset | Object::Table { .. } => Ok(()),
        }
    }

    fn chain_command(&mut self, at: &At<'t>, verb: Verb, name: &'t str, base: Option<&Base<'t>>, policy: Option<&'t str>) -> Done {
        let known = self.chain(name);
        match (verb, known) {
            (Verb::Create, Some(_)) => Err(at.exists("chain", name)),
            (Verb::Add | Verb::Create, known) => {
                let chain = self.chain_or_new(name);
                if let Some(base) = base {
                    let is_same = |old: &Base| (old.kind, old.hook, old.priority) == (base.kind, base.hook, base.priority);
                    let is_new = known.is_none() || chain.is_elsewhere;
                    match &chain.base {
                        Some(old) if is_same(old) => {}
                        None if is_new => chain.base = Some(base.clone()),
                        _ => return Err(at.exists("chain", name)),
                    }
                }
                chain.policy = policy.unwrap_or(chain.policy);
                Ok(())
            }
            (Verb::Destroy, None) => Ok(()),
            (_, None) => Err(at.missing("chain", name)),
            (Verb::Flush, Some(place)) => {
                self.flush(place);
                Ok(())
            }
            (Verb::Delete | Verb::Destroy, Some(place)) => {
                self.flush(place);
                if self.chains[place].uses > 0 {
                    return Err(at.used("chain", name));
                }
                self.chain_places.remove(name);
                self.chains[place].is_deleted = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn flush(&mut self, place: usize) {
        self.chains[place].is_elsewhere = false;
        for rule in std::mem::take(&mut self.chains[place].rules) {
            self.count(&rule.body.uses, false);
        }
    }

    fn count(&mut self, uses: &[Use<'t>], is_more: bool) {
        let change = |number: &mut usize| *number = if is_more { *number + 1 } else { number.saturating_sub(1) };
        for used in uses {
            match used {
                Use::Chain(name) => {
                    if let Some(place) = self.chain_places.get(name) {
                        change(&mut self.chains[*place].uses);
                    }
                }
                Use::Set(name) => {
                    if let Some(set) = self.sets.get_mut(name) {
                        change(&mut set.uses);
                    }
                }
                Use::Object(kind, name) => {
                    if let Some((_, uses)) = self.objects.get_mut(&(*kind, *name)) {
                        change(uses);
                    }
                }
            }
        }
    }

    fn rule(&self, at: &At<'t>, tokens: &'t [Token]) -> Result<Rule<'t>, Box<Diagnostic>> {
        let script = at.script;
        let line = tokens.first().map_or(0, |token| script.line(token.start));
        let body = body(script.text, tokens, line, self).map_err(|refusal| match refusal {
            Refusal::NoSet(token) => at.missing_at("set", script.text.name(&token), at.span_of(&token)),
            Refusal::Type(token, message) => at.refused(message, at.span_of(&token), "is compared with it here"),
            Refusal::Overlap(one, other) => Box::new(
                Diagnostic::error("RW6007", "two keys of a map overlap")
                    .at(at.span_of(&other), "overlaps")
                    .related(at.span_of(&one), "with this one"),
            ),
        })?;
        for used in &body.uses {
            let (kind, name, is_there) = match used {
                Use::Chain(name) => ("chain", *name, self.chain_places.contains_key(name)),
                Use::Set(name) => ("set", *name, self.sets.contains_key(name)),
                Use::Object(kind, name) => (*kind, *name, self.objects.contains_key(&(*kind, *name))),
            };
            if !is_there {
                let span = tokens.iter().find(|token| script.text.name(token) == name).map(|token| at.span_of(token));
                return Err(at.missing_at(kind, name, span.unwrap_or(at.span())));
            }
            if let Use::Chain(name) = used
                && self.chain(name).is_some_and(|place| self.chains[place].base.is_some())
            {
                let message = format!("chain `{name}` is a base chain");
                return Err(at.refused(message, at.span(), "no rule may go to it"));
            }
        }
        Ok(Rule { text: script.text, source: script.source, tokens, line, body })
    }

    fn add_rule(&mut self, at: &At<'t>, chain: usize, place: Place, tokens: &'t [Token]) -> Done {
        let rule = self.rule(at, tokens)?;
        let rules = self.chains[chain].rules.len();
        let index = match place {
            Place::End => rules,
            Place::Start => 0,
            Place::After(number) if number < rules => number + 1,
            Place::Before(number) if number < rules => number,
            _ if self.chains[chain].is_elsewhere => 0,
            _ => return Err(at.missing("rule of this number in chain", self.chains[chain].name)),
        };
        self.count(&rule.body.uses, true);
        self.chains[chain].rules.insert(index, rule);
        Ok(())
    }

    fn change_rule(&mut self, at: &At<'t>, chain: usize, place: Place, verb: Verb, tokens: &'t [Token]) -> Done {
        let index = match place {
            Place::After(number) | Place::Before(number) if number < self.chains[chain].rules.len() => number,
            Place::Handle => {
                let message = "a rule is named by its handle".to_owned();
                return Err(at.refused(message, at.span(), "which only the kernel knows"));
            }
            _ => return Err(at.missing("rule of this number in chain", self.chains[chain].name)),
        };
        let old = match verb {
            Verb::Replace => {
                let rule = self.rule(at, tokens)?;
                self.count(&rule.body.uses, true);
                std::mem::replace(&mut self.chains[chain].rules[index], rule)
            }
            _ => self.chains[chain].rules.remove(index),
        };
        self.count(&old.body.uses, false);
        Ok(())
    }

    fn set_command(&mut self, at: &At<'t>, verb: Verb, set: &'t SetDeclaration<'t>) -> Done {
        let known = self.sets.get_mut(set.name);
        match (verb, known) {
            (Verb::Create, Some(_)) => Err(at.exists("set", set.name)),
            (Verb::Add | Verb::Create, known) => {
                let new = Set::new(at, set)?;
                match known {
                    Some(known) if known.declaration.is_empty() => {
                        known.types = new.types;
                        known.has_outcomes = new.has_outcomes;
                        known.is_map = new.is_map;
                        known.declaration = new.declaration;
                        Ok(())
                    }
                    Some(known) if known.is_same(&new) => Ok(()),
                    Some(_) => Err(at.exists("set", set.name)),
                    None => {
                        self.sets.insert(set.name, new);
                        Ok(())
                    }
                }
            }
            (Verb::Destroy, None) => Ok(()),
            (_, None) => Err(at.missing("set", set.name)),
            (Verb::Flush, Some(known)) => {
                let outcomes = known.empty();
                self.uncount_targets(&outcomes);
                Ok(())
            }
            (Verb::Delete | Verb::Destroy, Some(known)) => {
                if known.uses > 0 {
                    return Err(at.used("set", set.name));
                }
                let outcomes = known.empty();
                self.sets.remove(set.name);
                self.uncount_targets(&outcomes);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn uncount_targets(&mut self, outcomes: &[Outcome<'t>]) {
        let uses: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.target()).map(Use::Chain).collect();
        self.count(&uses, false);
    }

    fn element_command(&mut self, at: &At<'t>, verb: Verb, name: &'t str, tokens: &'t [Token]) -> Done {
        let Some(set) = self.sets.get_mut(name) else { return Err(at.missing("set", name)) };
        let text = at.script.text;
        if set.types.is_empty() {
            // Known by name alone: that it is not as it was is all there is to say.
            set.texts.push((text, tokens));
            return Ok(());
        }
        let is_added = matches!(verb, Verb::Add | Verb::Create | Verb::Insert);
        let elements = match Elements::read(text, tokens, &set.types, is_added && set.has_outcomes) {
            Ok(elements) => elements,
            Err(why) => {
                set.unread = Some(why);
                return Ok(());
            }
        };
        let place = |index: usize| &tokens[elements.places[index].0 as usize];
        if is_added {
            let wide = (0..elements.len()).find(|index| elements.key(*index).iter().any(|range| !range.is_single()));
            if let Some(index) = wide.filter(|_| !set.is_interval) {
                let message = format!("set `{name}` has no ranges");
                return Err(at.refused(message, at.span_of(place(index)), "is one: the set needs `flags interval`"));
            }
            for target in elements.outcomes.iter().filter_map(|outcome| outcome.target()) {
                let Some(chain) = self.chain_places.get(target) else { return Err(at.missing("chain", target)) };
                self.chains[*chain].uses += 1;
            }
            let places: Vec<Token> = (0..elements.len()).map(|index| *place(index)).collect();
            let first_new = set.elements.len();
            set.texts.extend(elements.places.iter().map(|(from, to)| (text, &tokens[*from as usize..*to as usize])));
            set.add(elements);
            if (!set.auto_merge || set.has_outcomes)
                && let Some((one, other)) = set.elements.overlap()
            {
                let token = |index: usize| index.checked_sub(first_new).map(|index| at.span_of(&places[index]));
                let message = format!("two keys of `{name}` overlap");
                let diagnostic = Diagnostic::error("RW6007", message).at(token(other).unwrap_or(at.span()), "overlaps");
                return Err(Box::new(match token(one) {
                    Some(span) => diagnostic.related(span, "with this one"),
                    None => diagnostic.note("with an element from before"),
                }));
            }
            return Ok(());
        }
        let outcomes = set.take(&elements, verb == Verb::Delete).map_err(|index| {
            let token = place(index);
            at.missing_at("element", text.of(token), at.span_of(token))
        })?;
        self.uncount_targets(&outcomes);
        Ok(())
    }

    /// Chains that lead back to themselves, or too deep.
    fn too_deep(&self) -> Option<Diagnostic> {
        let edges: Vec<Vec<usize>> = self.chains.iter().map(|chain| self.targets(chain)).collect();
        // The longest way from each chain: `None` while it is looked at.
        let mut depths: HashMap<usize, Option<usize>> = HashMap::new();
        // The kernel looks only at what packets can get to.
        let is_base = |place: &usize| !self.chains[*place].is_deleted && self.chains[*place].base.is_some();
        for start in (0..self.chains.len()).filter(is_base) {
            let mut open = vec![(start, 0)];
            while let Some((place, next)) = open.pop() {
                if next == 0 && depths.contains_key(&place) {
                    continue;
                }
                match edges[place].get(next) {
                    Some(target) => {
                        depths.entry(place).or_insert(None);
                        open.push((place, next + 1));
                        match depths.get(target) {
                            Some(None) => return Some(self.loops(*target)),
                            Some(Some(_)) => {}
                            None => open.push((*target, 0)),
                        }
                    }
                    None => {
                        let below = edges[place].iter().filter_map(|target| depths.get(target).copied().flatten());
                        let depth = below.max().map_or(0, |depth| depth + 1);
                        depths.insert(place, Some(depth));
                        if depth >= DEPTH && self.chains[place].base.is_some() {
                            let message = format!("chains go {depth} deep from `{}`", self.chains[place].name);
                            return Some(self.about(place, message, "is where they begin").note(format!("the kernel takes {}", DEPTH - 1)));
                        }
                    }
                }
            }
        }
        None
    }

    pub fn targets(&self, chain: &Chain<'t>) -> Vec<usize> {
        let mut targets: Vec<usize> = Vec::new();
        for rule in &chain.rules {
            for used in &rule.body.uses {
                if let Use::Chain(name) = used {
                    targets.extend(self.chain(name));
                }
            }
            for step in &rule.body.steps {
                if let Step::NamedMap { map, .. } = step {
                    let set = self.sets.get(map);
                    let outcomes = set.into_iter().flat_map(|set| set.elements.outcomes.iter().chain(&set.elements.otherwise));
                    targets.extend(outcomes.filter_map(|outcome| self.chain(outcome.target()?)));
                }
            }
        }
        targets.sort_unstable();
        targets.dedup();
        targets
    }

    fn loops(&self, place: usize) -> Diagnostic {
        let message = format!("chain `{}` leads back to itself", self.chains[place].name);
        self.about(place, message, "is part of the loop")
    }

    fn about(&self, place: usize, message: String, why: &str) -> Diagnostic {
        let diagnostic = Diagnostic::error("RW6008", message);
        match self.chains[place].rules.first() {
            Some(rule) => diagnostic.at(rule.span(), why),
            None => diagnostic,
        }
    }
}

impl<'t> Set<'t> {
    fn new(at: &At<'t>, set: &SetDeclaration<'t>) -> Result<Self, Box<Diagnostic>> {
        let script = at.script;
        let types = |tokens: &'t [Token]| -> Option<Vec<Datatype>> {
            if !set.is_typeof {
                let words = tokens.iter().filter(|token| script.text.of(token) != ".");
                return words.map(|token| Datatype::named(script.text.of(token))).collect();
            }
            let mut cursor = Cursor::new(script.text, tokens);
            let mut types = Vec::new();
            while cursor.peek().is_some() {
                if !types.is_empty() {
                    cursor.take(super::token::Kind::Dot);
                }
                match cursor.word() {
                    Some("verdict") => {
                        cursor.advance();
                        types.push(Datatype::Verdict);
                    }
                    _ => types.push(expression(&mut cursor)?.values),
                }
            }
            Some(types)
        };
        let unknown = || {
            let message = format!("the type of `{}` is not known", set.name);
            at.refused(message, script.span(&set.key), "names no type")
        };
        let key = types(script.slice(&set.key)).filter(|types| !types.is_empty()).ok_or_else(unknown)?;
        let data = types(script.slice(&set.data)).unwrap_or_default();
        let is_unread = key.iter().any(|kind| matches!(kind, Datatype::Opaque | Datatype::Verdict));
        let mut properties = Vec::new();
        let word = if set.is_typeof { "typeof" } else { "type" };
        let mut kind = format!("{word} {}", canonical(script.text, script.slice(&set.key)));
        if !set.data.is_empty() {
            kind.push_str(&format!(" : {}", canonical(script.text, script.slice(&set.data))));
        }
        properties.push(kind);
        properties.extend(set.others.iter().map(|other| canonical(script.text, script.slice(other))));
        let mut flags = set.flags.clone();
        flags.sort_unstable();
        if !flags.is_empty() {
            properties.push(format!("flags {}", flags.join(",")));
        }
        if set.auto_merge {
            properties.push("auto-merge".into());
        }
        properties[1..].sort_unstable();
        Ok(Self {
            declaration: properties.join("; "),
            types: key,
            has_outcomes: data == [Datatype::Verdict],
            is_map: set.is_map,
            is_interval: set.flags.contains(&"interval"),
            auto_merge: set.auto_merge,
            elements: Elements::default(),
            texts: Vec::new(),
            unread: is_unread.then_some("its type is not read"),
            uses: 0,
        })
    }

    fn is_same(&self, other: &Self) -> bool {
        (&self.types, self.is_map, self.is_interval) == (&other.types, other.is_map, other.is_interval)
    }

    fn add(&mut self, elements: Elements<'t>) {
        let own = &mut self.elements;
        own.fields = elements.fields;
        own.keys.extend(elements.keys);
        own.outcomes.extend(elements.outcomes);
        own.places.extend(elements.places);
        own.otherwise = elements.otherwise.or(own.otherwise);
        own.has_otherwise |= elements.has_otherwise;
    }

    fn empty(&mut self) -> Vec<Outcome<'t>> {
        self.texts.clear();
        std::mem::take(&mut self.elements).outcomes
    }

    /// Takes elements away, and gives what they led to. The error is the first that is not there.
    fn take(&mut self, elements: &Elements<'t>, must_exist: bool) -> Result<Vec<Outcome<'t>>, usize> {
        let own = &mut self.elements;
        let places: HashMap<Vec<_>, usize> = (0..own.len()).map(|index| (own.key(index).to_vec(), index)).collect();
        let mut gone = vec![false; own.len()];
        for index in 0..elements.len() {
            match places.get(elements.key(index)) {
                Some(place) if !gone[*place] => gone[*place] = true,
                _ if must_exist && self.unread.is_none() => return Err(index),
                _ => {}
            }
        }
        let mut kept = Elements { fields: own.fields, otherwise: own.otherwise, has_otherwise: own.has_otherwise, ..Elements::default() };
        let mut outcomes = Vec::new();
        let mut texts = Vec::new();
        for (index, is_gone) in gone.iter().enumerate() {
            let outcome = own.outcomes.get(index).copied();
            if *is_gone {
                outcomes.extend(outcome);
            } else {
                kept.keys.extend_from_slice(own.key(index));
                kept.outcomes.extend(outcome);
                kept.places.push(own.places[index]);
                texts.push(self.texts[index]);
            }
        }
        self.elements = kept;
        self.texts = texts;
        Ok(outcomes)
    }
}

/// Lines of a block, with `; ` between them.
fn canonical_lines(text: Text, tokens: &[Token]) -> String {
    use super::token::Kind;
    let mut lines = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::Newline | Kind::Semicolon if depth == 0 => {
                lines.push(canonical(text, &tokens[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    lines.push(canonical(text, &tokens[start..]));
    lines.retain(|line| !line.is_empty());
    lines.join("; ")
}
