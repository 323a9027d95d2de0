//! What chains do with packets: ordered rows.
//!
//! In: a [`State`]. Out: a [`Filter`]. Never: a packet sampled, or a chain entered without bound.
//!
//! A chain is entered with boxes of packets. Rows are first-match, so that what a rule decides is not
//! subtracted from what comes after it, unless that leaves one box. What returns, or leaves by the end of
//! a chain that it was sent to, is kept aside and subtracted from what comes after it in the same chain,
//! where the two meet.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::sync::Arc;

use ringwall_diagnostic::Diagnostic;
use ringwall_packet::{Family, IntervalSet, Matches, Row, State as Conntrack, Table as Rows, Variable, interface, truth};

use super::elements::Outcome;
use super::field::{Field, Writes};
use super::rule::{Branch, Step, branches, canonical_rule};
use super::script::TableName;
use super::state::{DEPTH, Rule, Set, State, Table};
use super::term::{Addressed, Term, Work, rest_of, subtract, those};
use crate::filter::{BaseChain, Decision, Filter, FilterVerdict, Hook, Idle, NotMet, RuleText, Unknown};
use crate::meaning::Verdict;

/// What named sets mean; what is written in a rule always counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sets {
    /// They hold what the text says: a listing of what the kernel has.
    Listed,
    /// They hold anything: each look into one is a free variable, `ip saddr @name`. Maps count as listed.
    Free,
}

/// Rows of one answer.
const ROWS: usize = 1_000_000;
/// Boxes looked at for one answer.
const STEPS: u64 = 30_000_000;

/// What all base chains do. The error says that it is too much.
pub fn filter<'s>(state: &'s State<'s>, sets: Sets) -> Result<Filter, Box<Diagnostic>> {
    of_all(state, sets, false)
}

/// The same, with rows for every rule wherever packets come to its chain, also where rows before take
/// all of them; and with the rules that ask what no packet is.
pub fn every_rule<'s>(state: &'s State<'s>, sets: Sets) -> Result<Filter, Box<Diagnostic>> {
    of_all(state, sets, true)
}

fn of_all<'s>(state: &'s State<'s>, sets: Sets, is_thorough: bool) -> Result<Filter, Box<Diagnostic>> {
    let mut roots = Vec::new();
    for table in state.tables().filter(|table| !table.is_dormant && is_covered(table.name.family)) {
        for (place, chain) in table.chains.iter().enumerate() {
            if let Some(base) = &chain.base
                && let Some(hook) = hook(base.hook)
                && chain.is_there()
            {
                roots.push((hook, base, table, place));
            }
        }
    }
    roots.sort_by_key(|(hook, base, ..)| (*hook, base.priority));
    let mut walk = Walk::new(state, sets);
    walk.is_thorough = is_thorough;
    let mut written: Vec<(Hook, Writes)> = Vec::new();
    for (hook, base, table, place) in roots {
        let chain = &table.chains[place];
        let end = if chain.policy == "drop" { Verdict::Drop } else { Verdict::Accept };
        let before = written.iter().filter(|(earlier, _)| is_before(*earlier, hook)).map(|(_, writes)| *writes);
        let variable = if hook == Hook::Egress { Variable::OutputInterface } else { Variable::InputInterface };
        let devices = base.devices.iter().filter_map(|name| interface(name));
        let root = Root {
            place,
            end,
            is_nat: base.kind == "nat",
            devices: (!base.devices.is_empty()).then(|| (variable, devices.collect())),
            written: before.fold(Writes::default(), Writes::and),
        };
        let (decisions, writes) = walk.root(table, root)?;
        written.push((hook, writes));
        let name = chain.name.to_owned();
        walk.filter.chains.push(BaseChain { hook, table: table_text(table.name), name, priority: base.priority, decisions });
    }
    Ok(walk.finish())
}

/// What one chain does with all packets that are sent to it; those that leave by its end, or return, get
/// `end`. The rows are in the only chain of the result. `None`: the chain is not there.
pub fn chain<'s>(state: &'s State<'s>, table: TableName, name: &str, end: Verdict, sets: Sets) -> Option<Result<Filter, Box<Diagnostic>>> {
    let table = state.table(table).filter(|table| is_covered(table.name.family))?;
    let place = table.chain(name)?;
    let mut walk = Walk::new(state, sets);
    let root = Root { place, end, is_nat: false, devices: None, written: Writes::default() };
    let (decisions, _) = match walk.root(table, root) {
        Ok(rows) => rows,
        Err(diagnostic) => return Some(Err(diagnostic)),
    };
    let base = table.chains[place].base.as_ref();
    let hook = base.and_then(|base| hook(base.hook)).unwrap_or(Hook::Input);
    let priority = base.map_or(0, |base| base.priority);
    walk.filter.chains.push(BaseChain { hook, table: table_text(table.name), name: name.into(), priority, decisions });
    Some(Ok(walk.finish()))
}

/// Whether a packet that is at one hook may come to the other later.
fn is_before(earlier: Hook, later: Hook) -> bool {
    earlier == later
        || match later {
            Hook::Ingress => false,
            Hook::Prerouting => earlier == Hook::Ingress,
            Hook::Input | Hook::Forward => matches!(earlier, Hook::Ingress | Hook::Prerouting),
            Hook::Output => false,
            Hook::Postrouting => matches!(earlier, Hook::Ingress | Hook::Prerouting | Hook::Forward | Hook::Output),
            Hook::Egress => earlier != Hook::Input,
        }
}

pub(super) fn is_covered(family: &str) -> bool {
    matches!(family, "ip" | "ip6" | "inet")
}

fn hook(name: &str) -> Option<Hook> {
    Some(match name {
        "ingress" => Hook::Ingress,
        "prerouting" => Hook::Prerouting,
        "input" => Hook::Input,
        "forward" => Hook::Forward,
        "output" => Hook::Output,
        "postrouting" => Hook::Postrouting,
        "egress" => Hook::Egress,
        _ => return None,
    })
}

/// What is the same for both families.
struct Walk<'s> {
    sets: Sets,
    filter: Filter,
    /// By the rule's number: what is known of it, once it was met.
    rules: Vec<Option<Rc<Known<'s>>>>,
    /// The same: the whole rule as an effect.
    rule_texts: Vec<u32>,
    /// By table, what is known of its chains.
    chains: HashMap<String, Rc<Vec<About>>>,
    /// Lists of effects: the list before it, the text that was added, and what the whole list writes.
    lists: Vec<(u32, u32, Writes)>,
    list_places: HashMap<(u32, u32), u32>,
    texts: Vec<String>,
    text_places: HashMap<String, u32>,
    unknown_places: HashMap<(String, usize), usize>,
    reported: HashSet<usize>,
    /// What rows before take is asked about all the same.
    is_thorough: bool,
    /// Rules that some packets are what they ask, and those that none were.
    met: HashSet<usize>,
    unmet: HashSet<usize>,
    work: Work,
    rows: usize,
}

/// A rule that was looked at.
#[derive(Debug)]
struct Known<'s> {
    /// Its statements, each as an effect.
    statements: Vec<u32>,
    comment: Option<u32>,
    /// Statements that packets meet that don't meet all of its matches.
    early: Option<u32>,
    /// Named sets are in their place.
    branches: Cow<'s, [Branch<'s>]>,
}

/// An outcome with the chain in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChainOutcome {
    Verdict(Verdict),
    Elsewhere(&'static str),
    Continue,
    Return,
    Jump(usize),
    Goto(usize),
}

/// A chain, itself and those that it leads to.
#[derive(Clone, Copy, Debug, Default)]
struct About {
    first_rule: usize,
    /// A verdict can be reached from it.
    decides: bool,
    /// Something happens on the way.
    acts: bool,
    writes: Writes,
}

/// The answer would be too much.
struct TooMuch;

type Enough<T> = Result<T, TooMuch>;

impl From<TooMuch> for Box<Diagnostic> {
    fn from(TooMuch: TooMuch) -> Self {
        let message = format!("what the rules do takes more than {ROWS} rows or {STEPS} steps to say");
        Box::new(Diagnostic::error("RW6009", message).help("ask about fewer chains, or join rules that differ in one field by a set"))
    }
}

/// Packets, and the list of what they met.
type Left<A> = Vec<(Matches<A>, u32)>;

impl<'s> Walk<'s> {
    fn new(state: &'s State<'s>, sets: Sets) -> Self {
        let mut walk = Self {
            sets,
            filter: Filter::default(),
            rules: Vec::new(),
            rule_texts: Vec::new(),
            chains: HashMap::new(),
            lists: vec![(0, 0, Writes::default())],
            list_places: HashMap::new(),
            texts: Vec::new(),
            text_places: HashMap::new(),
            unknown_places: HashMap::new(),
            reported: HashSet::new(),
            is_thorough: false,
            met: HashSet::new(),
            unmet: HashSet::new(),
            work: Work(STEPS),
            rows: 0,
        };
        for table in state.tables().filter(|table| is_covered(table.name.family)) {
            let mut chains = walk.number_rules(table);
            let mut is_done = vec![false; chains.len()];
            for place in 0..chains.len() {
                about(table, place, 0, &mut chains, &mut is_done);
            }
            walk.chains.insert(table_text(table.name), Rc::new(chains));
        }
        walk
    }

    fn number_rules(&mut self, table: &Table) -> Vec<About> {
        let mut chains = Vec::new();
        for chain in &table.chains {
            chains.push(About { first_rule: self.filter.rules.len(), ..About::default() });
            let name = format!("{} {} {}", table.name.family, table.name.name, chain.name);
            for rule in &chain.rules {
                let span = rule.span();
                let text = rule.text.0.get(span.start..span.end).unwrap_or_default();
                self.filter.rules.push(RuleText {
                    chain: name.clone(),
                    span,
                    line: rule.line,
                    text: text.into(),
                    comment: rule.body.comment.map(str::to_owned),
                });
            }
        }
        self.rules.resize(self.filter.rules.len(), None);
        self.rule_texts.resize(self.filter.rules.len(), u32::MAX);
        chains
    }

    fn text(&mut self, text: String) -> u32 {
        if let Some(place) = self.text_places.get(&text) {
            return *place;
        }
        let place = self.texts.len() as u32;
        self.texts.push(text.clone());
        self.text_places.insert(text, place);
        place
    }

    /// A list of effects with one more.
    fn with(&mut self, list: u32, text: u32, writes: Writes) -> u32 {
        let lists = &mut self.lists;
        *self.list_places.entry((list, text)).or_insert_with(|| {
            let writes = lists[list as usize].2.and(writes);
            lists.push((list, text, writes));
            (lists.len() - 1) as u32
        })
    }

    fn unknown(&mut self, text: String, line: usize, why: &'static str) -> usize {
        let key = (text, line);
        if let Some(place) = self.unknown_places.get(&key) {
            return *place;
        }
        let place = self.filter.unknown.len();
        self.filter.unknown.push(Unknown { text: key.0.clone(), line, why });
        self.unknown_places.insert(key, place);
        place
    }

    /// Rows of a chain with all packets in it, and what the statements on the way write.
    fn root(&mut self, table: &'s Table<'s>, root: Root) -> Result<(Rows<Decision>, Writes), Box<Diagnostic>> {
        let first_list = self.lists.len();
        let (v4, v6) = (self.rows_of::<Ipv4Addr>(table, root.clone())?, self.rows_of::<Ipv6Addr>(table, root)?);
        let writes = self.lists[first_list..].iter().fold(Writes::default(), |all, (.., writes)| all.and(*writes));
        Ok((Rows { v4, v6 }, writes))
    }

    fn rows_of<A: Addressed>(&mut self, table: &'s Table<'s>, root: Root) -> Enough<Vec<Row<A, Decision>>> {
        let is_of_family = match table.name.family {
            "ip" => A::FAMILY == Family::V4,
            "ip6" => A::FAMILY == Family::V6,
            _ => true,
        };
        let chains = self.chains[&table_text(table.name)].clone();
        let mut visit = Visit { walk: self, table, chains, rows: Vec::new(), written: root.written };
        if !is_of_family {
            visit.push(Matches::any(), FilterVerdict::Decided(Verdict::Accept), None, 0)?;
            return Ok(visit.rows);
        }
        if let Some((variable, devices)) = root.devices {
            let others = Matches::any().and(variable, &devices.complement()).expect("not every interface");
            visit.push(others, FilterVerdict::Decided(Verdict::Accept), None, 0)?;
        }
        if root.is_nat {
            // Only the first packet of a connection goes to such a chain.
            let states = [Conntrack::Established, Conntrack::Invalid, Conntrack::Untracked].into_iter().map(Conntrack::values);
            let later = Matches::any().and(Variable::State, &states.collect()).expect("three states");
            visit.push(later, FilterVerdict::Decided(Verdict::Accept), None, 0)?;
        }
        for (packets, effects) in visit.chain(root.place, vec![Matches::any()], 0, 0)? {
            visit.push(packets, FilterVerdict::Decided(root.end), None, effects)?;
        }
        Ok(visit.rows)
    }

    /// Effects that are used, in their place.
    fn finish(mut self) -> Filter {
        let mut numbers: HashMap<u32, usize> = HashMap::new();
        let mut all: Vec<Vec<String>> = Vec::new();
        let (lists, texts) = (&self.lists, &self.texts);
        let mut number = |list: u32| {
            *numbers.entry(list).or_insert_with(|| {
                let (mut effects, mut at) = (Vec::new(), list);
                while at != 0 {
                    let (before, text, _) = lists[at as usize];
                    effects.push(texts[text as usize].clone());
                    at = before;
                }
                effects.reverse();
                all.push(effects);
                all.len() - 1
            })
        };
        for chain in &mut self.filter.chains {
            let v4 = chain.decisions.v4.iter_mut().map(|row| &mut row.decision);
            let v6 = chain.decisions.v6.iter_mut().map(|row| &mut row.decision);
            for decision in v4.chain(v6) {
                decision.effects = number(decision.effects as u32);
            }
        }
        self.filter.effects = all;
        if self.is_thorough {
            let idle = self.unmet.difference(&self.met).map(|rule| Idle { rule: *rule, why: NotMet::Never });
            self.filter.idle = idle.collect();
            self.filter.idle.sort_by_key(|idle| idle.rule);
        }
        self.filter
    }

    /// A rule's statements and branches, made when it is first met.
    fn known(&mut self, table: &'s Table<'s>, rule: &'s Rule<'s>, number: usize) -> Rc<Known<'s>> {
        if let Some(known) = &self.rules[number] {
            return known.clone();
        }
        let mut statements: Vec<u32> = Vec::new();
        for (from, to) in &rule.body.statements {
            let text = canonical_rule(rule.text, &rule.tokens[*from..*to]);
            statements.push(self.text(text));
        }
        let early = match rule.body.acts_before_last_test {
            0 => None,
            number => {
                let text = canonical_rule(rule.text, &rule.tokens[..rule.body.statements[number - 1].1]);
                Some(self.text(text))
            }
        };
        let comment = rule.body.comment.map(|comment| self.text(format!("comment \"{comment}\"")));
        let branches = if rule.body.steps.is_empty() {
            Cow::Borrowed(&rule.body.branches[..])
        } else {
            let steps = rule.body.steps.iter().map(|step| match step {
                Step::Lookup { fields, set, is_negated, text } => {
                    Step::Test(self.lookup(fields, table.sets.get(set), *is_negated, text, rule.line))
                }
                Step::NamedMap { fields, map } => match table.sets.get(map) {
                    Some(set) if set.unread.is_none() => {
                        Step::Map { arms: set.elements.arms(fields), all: set.elements.terms(fields, false) }
                    }
                    _ => Step::Decide(Outcome::Elsewhere("a map that is not read here decides")),
                },
                other => other.clone(),
            });
            Cow::Owned(branches(steps.collect()))
        };
        let known = Rc::new(Known { statements, comment, early, branches });
        self.rules[number] = Some(known.clone());
        known
    }

    /// The whole rule as an effect.
    fn rule_text(&mut self, rule: &Rule, number: usize) -> u32 {
        if self.rule_texts[number] == u32::MAX {
            self.rule_texts[number] = self.text(rule.canonical());
        }
        self.rule_texts[number]
    }

    fn lookup(&mut self, fields: &[Field], set: Option<&Set>, is_negated: bool, text: &str, line: usize) -> Vec<Term> {
        let free = || {
            let mut terms: Vec<Term> = fields.iter().flat_map(Field::presence).collect();
            terms.push(Term::Is(Variable::Holds(Arc::from(text)), truth(!is_negated)));
            terms
        };
        match (self.sets, set.map(|set| (set, set.unread))) {
            (Sets::Free, _) | (_, None) => free(),
            (Sets::Listed, Some((_, Some(why)))) => {
                self.unknown(text.into(), line, why);
                free()
            }
            (Sets::Listed, Some((set, None))) => set.elements.terms(fields, is_negated),
        }
    }

    /// Names what of a rule is not known, once it decides something.
    fn report(&mut self, rule: &Rule, number: usize) {
        if !rule.body.unknown.is_empty() && self.reported.insert(number) {
            for (text, why) in &rule.body.unknown {
                self.unknown(text.clone(), rule.line, why);
            }
        }
    }
}

/// Fills in what is known of a chain. What is too deep, or part of a loop, is taken to do everything.
fn about(table: &Table, place: usize, depth: usize, chains: &mut [About], is_done: &mut [bool]) {
    if is_done[place] {
        return;
    }
    // A loop that no packet gets into is entered once.
    is_done[place] = true;
    let chain = &table.chains[place];
    let is_open = chain.is_elsewhere || depth > DEPTH;
    let mut all = About { decides: is_open, acts: is_open, ..chains[place] };
    chains[place] = About { decides: true, acts: true, ..all };
    if is_open {
        return;
    }
    for target in table.targets(chain) {
        about(table, target, depth + 1, chains, is_done);
        let below = chains[target];
        all.decides |= below.decides;
        all.acts |= below.acts;
        all.writes = all.writes.and(below.writes);
    }
    for rule in &chain.rules {
        all.decides |= rule.decides(table);
        all.acts |= rule.acts();
        all.writes = all.writes.and(rule.body.writes);
    }
    chains[place] = all;
}

fn table_text(table: TableName) -> String {
    format!("{} {}", table.family, table.name)
}

/// A chain that all packets of its hook are sent to.
#[derive(Clone)]
struct Root {
    place: usize,
    /// What packets get that leave it undecided.
    end: Verdict,
    is_nat: bool,
    /// It is for packets of some interfaces only.
    devices: Option<(Variable, IntervalSet<u128>)>,
    /// What may have been written before.
    written: Writes,
}

const NO_CHAIN: &str = "the chain is not in the text";
const ELSEWHERE: &str = "the chain was there before: what it does is not known";
const WRITTEN: &str = "a statement before it may have changed it";

/// One walk through the chains of a table, for one family.
struct Visit<'w, 's, A> {
    walk: &'w mut Walk<'s>,
    table: &'s Table<'s>,
    chains: Rc<Vec<About>>,
    rows: Vec<Row<A, Decision>>,
    /// What may have been written before.
    written: Writes,
}

/// Where a visit of a chain is.
struct Place<A> {
    /// Packets that are here, or decided by rows before, or in `left`.
    here: Vec<Matches<A>>,
    /// Those that have left the chain undecided, or decided by rows before.
    left: Left<A>,
    /// The same, that are not in `here` any more.
    gone: Left<A>,
    effects: u32,
    depth: usize,
    subtractions: usize,
}

/// One rule in a visit.
#[derive(Clone, Copy)]
struct At<'a, 's> {
    rule: &'s Rule<'s>,
    known: &'a Known<'s>,
    number: usize,
    /// What packets have met before it.
    effects: u32,
}

impl<'s, A: Addressed> Visit<'_, 's, A> {
    fn push(&mut self, matches: Matches<A>, verdict: FilterVerdict, rule: Option<usize>, effects: u32) -> Enough<()> {
        self.walk.rows += 1;
        if self.walk.rows > ROWS {
            return Err(TooMuch);
        }
        self.rows.push(Row { matches, decision: Decision { verdict, rule, effects: effects as usize } });
        Ok(())
    }

    /// Those of `packets` that may leave the chain undecided, with what they met. Rows that are there
    /// already may have decided them.
    fn chain(&mut self, place: usize, packets: Vec<Matches<A>>, effects: u32, depth: usize) -> Enough<Left<A>> {
        let table = self.table;
        let chain = &table.chains[place];
        // Deeper than the kernel goes is only a state with errors.
        if depth > DEPTH || packets.is_empty() {
            return Ok(Vec::new());
        }
        if chain.is_elsewhere {
            let unknown = self.walk.unknown(chain.name.into(), 0, ELSEWHERE);
            for packets in packets {
                self.push(packets, FilterVerdict::Elsewhere(unknown), None, effects)?;
            }
            return Ok(Vec::new());
        }
        let first_rule = self.chains[place].first_rule;
        let mut place = Place { here: packets, left: Vec::new(), gone: Vec::new(), effects, depth, subtractions: 0 };
        for (index, rule) in chain.rules.iter().enumerate() {
            if place.here.is_empty() {
                break;
            }
            self.rule(rule, first_rule + index, &mut place)?;
        }
        let Place { here, mut left, gone, effects, .. } = place;
        left.extend(gone);
        left.extend(here.into_iter().map(|packets| (packets, effects)));
        Ok(left)
    }

    fn rule(&mut self, rule: &'s Rule<'s>, number: usize, place: &mut Place<A>) -> Enough<()> {
        let known = self.walk.known(self.table, rule, number);
        let written = self.written.and(self.walk.lists[place.effects as usize].2);
        if rule.body.reads.meets(written) {
            self.walk.unknown(rule.canonical(), rule.line, WRITTEN);
        }
        if known.branches.iter().all(|branch| matches!(branch, Branch::One(_, Outcome::Continue))) {
            // It decides nothing.
            if !rule.body.statements.is_empty() {
                let text = self.walk.rule_text(rule, number);
                place.effects = self.walk.with(place.effects, text, rule.body.writes);
                if rule.body.writes.meets(Writes::STATE.and(Writes::HEADER)) {
                    self.walk.report(rule, number);
                }
            }
            return Ok(());
        }
        let at = At { rule, known: &known, number, effects: place.effects };
        for branch in known.branches.iter() {
            match branch {
                Branch::One(terms, outcome) => {
                    let met = self.met(terms, *outcome, &at, place)?;
                    self.leave(place, met)?;
                }
                Branch::Map(arms, all) => {
                    let (mut goes_on, mut left) = (false, Vec::new());
                    for (terms, outcome) in arms {
                        let met = self.met(terms, *outcome, &at, place)?;
                        goes_on |= met.goes_on;
                        // The other arms are about other packets.
                        left.extend(met.left);
                    }
                    if goes_on {
                        place.left.extend(left);
                    } else {
                        let packets = self.those(&place.here, all)?;
                        self.leave(place, Met { packets, left, goes_on: false })?;
                    }
                }
            }
        }
        if let Some(early) = known.early
            && place.effects == at.effects
        {
            place.effects = self.walk.with(place.effects, early, rule.body.writes);
        }
        Ok(())
    }

    fn those(&mut self, packets: &[Matches<A>], terms: &[Term]) -> Enough<Vec<Matches<A>>> {
        those(packets, terms, &mut self.walk.work).ok_or(TooMuch)
    }

    fn resolved(&self, outcome: Outcome) -> ChainOutcome {
        match outcome {
            Outcome::Accept => ChainOutcome::Verdict(Verdict::Accept),
            Outcome::Drop => ChainOutcome::Verdict(Verdict::Drop),
            Outcome::Reject => ChainOutcome::Verdict(Verdict::Reject),
            Outcome::Continue => ChainOutcome::Continue,
            Outcome::Return => ChainOutcome::Return,
            Outcome::Elsewhere(why) => ChainOutcome::Elsewhere(why),
            Outcome::Jump(name) => self.table.chain(name).map_or(ChainOutcome::Elsewhere(NO_CHAIN), ChainOutcome::Jump),
            Outcome::Goto(name) => self.table.chain(name).map_or(ChainOutcome::Elsewhere(NO_CHAIN), ChainOutcome::Goto),
        }
    }

    /// What becomes of packets that meet `terms`.
    fn met(&mut self, terms: &[Term], outcome: Outcome, at: &At<'_, 's>, place: &mut Place<A>) -> Enough<Met<A>> {
        let nothing = Met { packets: Vec::new(), left: Vec::new(), goes_on: true };
        let writes = at.rule.body.writes;
        let outcome = self.resolved(outcome);
        match outcome {
            ChainOutcome::Continue => return Ok(nothing),
            ChainOutcome::Jump(target) => {
                let about = self.chains[target];
                if (about.acts || !at.known.statements.is_empty()) && place.effects == at.effects {
                    let text = self.walk.rule_text(at.rule, at.number);
                    place.effects = self.walk.with(at.effects, text, writes.and(about.writes));
                }
                if !about.decides {
                    return Ok(nothing);
                }
            }
            _ => {}
        }
        let packets = self.those(&place.here, terms)?;
        if packets.is_empty() {
            self.walk.unmet.insert(at.number);
            return Ok(Met { goes_on: false, ..nothing });
        }
        self.walk.met.insert(at.number);
        self.walk.report(at.rule, at.number);
        let mut now = packets.clone();
        for (gone, _) in &place.left {
            now = subtract(now, std::slice::from_ref(gone), &mut self.walk.work).ok_or(TooMuch)?;
        }
        let mut effects = at.known.statements.iter().fold(at.effects, |list, text| self.walk.with(list, *text, writes));
        let mut left = Vec::new();
        match outcome {
            ChainOutcome::Jump(target) => {
                let back = self.chain(target, now, effects, place.depth + 1)?;
                // What comes back goes on as if it had not been away: rows before decide the rest.
                return Ok(Met { packets, left, goes_on: !back.is_empty() });
            }
            ChainOutcome::Goto(target) => {
                left = self.chain(target, now, effects, place.depth + 1)?;
                return Ok(Met { packets, left, goes_on: false });
            }
            _ => {}
        }
        if let Some(comment) = at.known.comment {
            effects = self.walk.with(effects, comment, writes);
        }
        let verdict = match outcome {
            ChainOutcome::Verdict(verdict) => FilterVerdict::Decided(verdict),
            ChainOutcome::Elsewhere(why) => {
                FilterVerdict::Elsewhere(self.walk.unknown(at.rule.canonical(), at.rule.line, why))
            }
            _ => {
                left.extend(now.into_iter().map(|packets| (packets, effects)));
                return Ok(Met { packets, left, goes_on: false });
            }
        };
        for packets in now {
            self.push(packets, verdict, Some(at.number), effects)?;
        }
        Ok(Met { packets, left, goes_on: false })
    }

    /// Packets are done with in this chain.
    fn leave(&mut self, place: &mut Place<A>, met: Met<A>) -> Enough<()> {
        if met.goes_on {
            return Ok(());
        }
        if self.walk.is_thorough && met.left.is_empty() {
            return Ok(());
        }
        self.walk.work.step(place.here.len()).ok_or(TooMuch)?;
        if met.packets == place.here {
            place.here.clear();
            place.gone.extend(met.left);
            return Ok(());
        }
        // Where subtracting them leaves one box at most, and while it is cheap.
        if let [packets] = &met.packets[..]
            && let Some(at) = place.here.iter().position(|here| packets.is_subset(here))
            && (place.subtractions < MOST_SUBTRACTIONS || size(packets) + size(&place.here[at]) < SMALL)
            && let Some(rest) = rest_of(&place.here[at], packets)
        {
            place.subtractions += 1;
            match rest {
                Some(rest) => place.here[at] = rest,
                None => drop(place.here.remove(at)),
            }
            place.gone.extend(met.left);
        } else {
            place.left.extend(met.left);
        }
        Ok(())
    }
}

/// Packets that met a rule.
struct Met<A> {
    packets: Vec<Matches<A>>,
    /// Those of them that leave the chain undecided.
    left: Left<A>,
    /// Some go on to the next rule.
    goes_on: bool,
}

/// Subtractions in one visit of a chain that may be of any size.
const MOST_SUBTRACTIONS: usize = 8;
/// Ranges that are always subtracted.
const SMALL: usize = 64;

fn size<A: Addressed>(matches: &Matches<A>) -> usize {
    let upper = &matches.cube.upper;
    matches.cube.source.intervals().len()
        + matches.cube.destination.intervals().len()
        + upper.destination_ports().intervals().len()
        + upper.source_ports().intervals().len()
        + matches.conditions.iter().map(|(_, values)| values.intervals().len()).sum::<usize>()
}

impl<'t> Rule<'t> {
    /// Something happens to packets that it does not decide.
    fn acts(&self) -> bool {
        let ends = |outcome: &Outcome| {
            matches!(outcome, Outcome::Accept | Outcome::Drop | Outcome::Reject | Outcome::Elsewhere(_))
        };
        let always_ends = match &self.body.branches[..] {
            [Branch::One(_, outcome)] => ends(outcome),
            [Branch::Map(arms, _)] => arms.iter().all(|(_, outcome)| ends(outcome)),
            _ => false,
        };
        self.body.acts_before_last_test > 0 || (!self.body.statements.is_empty() && !always_ends)
    }

    /// A verdict stands in it, or a chain that it goes to is not known.
    fn decides(&self, table: &Table<'t>) -> bool {
        let is_verdict = |outcome: &Outcome| match outcome {
            Outcome::Accept | Outcome::Drop | Outcome::Reject | Outcome::Elsewhere(_) => true,
            Outcome::Continue | Outcome::Return => false,
            Outcome::Jump(name) | Outcome::Goto(name) => table.chain(name).is_none_or(|place| table.chains[place].is_elsewhere),
        };
        let is_decisive = |branch: &Branch| match branch {
            Branch::One(_, outcome) => is_verdict(outcome),
            Branch::Map(arms, _) => arms.iter().any(|(_, outcome)| is_verdict(outcome)),
        };
        self.body.branches.iter().any(is_decisive)
            || self.body.steps.iter().any(|step| match step {
                Step::Decide(outcome) => is_verdict(outcome),
                Step::Map { arms, .. } => arms.iter().any(|(_, outcome)| is_verdict(outcome)),
                Step::NamedMap { map, .. } => table.sets.get(map).is_none_or(|set| {
                    set.unread.is_some() || set.elements.outcomes.iter().chain(&set.elements.otherwise).any(is_verdict)
                }),
                Step::Test(_) | Step::Lookup { .. } => false,
            })
    }
}

impl Field {
    /// What a packet must be for the field to be there.
    fn presence(&self) -> Vec<Term> {
        let all = self.terms(&IntervalSet::full(), false);
        all.into_iter().filter(|term| !matches!(term, Term::Is(_, values) if values.is_full())).collect()
    }
}
