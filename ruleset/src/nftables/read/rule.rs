//! One rule: its statements, in order.
//!
//! In: the rule's tokens. Out: what it asks, what it does on the way, how it ends, and what it refers to.
//! Never: a match left out. What is not understood is a free variable, or, where it may be a verdict, a
//! packet gone elsewhere.

use std::sync::Arc;

use ringwall_packet::{Family, IntervalSet, Protocol, State, UpperCube, Variable, truth};

use super::cursor::Cursor;
use super::datatype::{NO_VALUE, STATUS, Type, Why, number};
use super::elements::{Elements, Outcome, outcome, value};
use super::expression::{HISTORY, NOT_READ, expression, masked_variable, skip_operations, skip_value, writes_of};
use super::field::{BARE_META, Coordinate, Field, Writes};
use super::script::Text;
use super::term::Term;
use super::token::{Kind, Token, canonical};

/// What a rule's body says.
#[derive(Clone, Debug, Default)]
pub(super) struct Body<'t> {
    /// What becomes of packets, in order. For a rule that looks into named sets, only once these are known.
    pub branches: Vec<Branch<'t>>,
    /// Of a rule that looks into named sets.
    pub steps: Vec<Step<'t>>,
    /// Statements that neither ask nor decide, as canonical text.
    pub statements: Vec<Range>,
    pub comment: Option<&'t str>,
    pub uses: Vec<Use<'t>>,
    /// Free variables and what is not followed: its text, and why.
    pub unknown: Vec<(String, Why)>,
    pub reads: Writes,
    pub writes: Writes,
    /// Statements end before this token and matches follow: packets that don't meet these have met those.
    pub acts_before_last_test: usize,
}

/// Tokens of the rule, from and to.
pub(super) type Range = (usize, usize);

/// Packets that meet the terms, and what becomes of them.
#[derive(Clone, Debug)]
pub(super) enum Branch<'t> {
    One(Vec<Term>, Outcome<'t>),
    /// A verdict map: what becomes of which, and all of its keys.
    Map(Vec<(Vec<Term>, Outcome<'t>)>, Vec<Term>),
}

#[derive(Clone, Debug)]
pub(super) enum Step<'t> {
    Test(Vec<Term>),
    /// Whether the fields are in a named set, of which the contents may change.
    Lookup { fields: Vec<Field>, set: &'t str, is_negated: bool, text: String },
    Map { arms: Vec<(Vec<Term>, Outcome<'t>)>, all: Vec<Term> },
    NamedMap { fields: Vec<Field>, map: &'t str },
    Decide(Outcome<'t>),
}

/// What a rule needs to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use<'t> {
    Chain(&'t str),
    Set(&'t str),
    Object(&'static str, &'t str),
}

/// A set as rules see it.
pub(super) struct SetTypes<'s> {
    pub key: &'s [Type],
    pub has_outcomes: bool,
}

/// Names of the rule's table.
pub(super) trait Names {
    fn set(&self, name: &str) -> Option<SetTypes<'_>>;
}

/// What makes the kernel refuse the rule.
pub(super) enum Refusal {
    /// Of a set that is not there, by its token.
    NoSet(Token),
    /// A key's type is not the set's.
    Type(Token, String),
    /// A map says two things of one key.
    Overlap(Token, Token),
}

pub(super) fn body<'t>(
    text: Text<'t>,
    tokens: &'t [Token],
    line: usize,
    names: &dyn Names,
) -> Result<Body<'t>, Refusal> {
    let cursor = Cursor::new(text, tokens);
    let mut reader = Reader { cursor, line, names, body: Body::default(), is_open: true };
    while reader.cursor.peek().is_some() {
        reader.statement()?;
    }
    let mut body = reader.body;
    let is_late = body.steps.iter().any(|step| matches!(step, Step::Lookup { .. } | Step::NamedMap { .. }));
    if !is_late {
        body.branches = branches(std::mem::take(&mut body.steps));
    }
    Ok(body)
}

/// Steps without named sets as branches.
pub(super) fn branches(steps: Vec<Step>) -> Vec<Branch> {
    let mut branches = Vec::new();
    let mut terms: Vec<Term> = Vec::new();
    for step in steps {
        match step {
            Step::Test(more) if terms.is_empty() => terms = more,
            Step::Test(more) => terms.extend(more),
            Step::Decide(outcome) => branches.push(Branch::One(std::mem::take(&mut terms), outcome)),
            Step::Map { arms, all } => {
                let join = |own: Vec<Term>| if terms.is_empty() { own } else { terms.iter().cloned().chain(own).collect() };
                let arms = arms.into_iter().map(|(own, outcome)| (join(own), outcome)).collect();
                let all = join(all);
                branches.push(Branch::Map(arms, all.clone()));
                terms = all;
            }
            Step::Lookup { .. } | Step::NamedMap { .. } => {}
        }
    }
    branches
}

struct Reader<'n, 't> {
    cursor: Cursor<'t>,
    line: usize,
    names: &'n dyn Names,
    body: Body<'t>,
    /// No verdict has come yet.
    is_open: bool,
}

/// A match can't be read, or the kernel would refuse it.
enum Trouble {
    Unread(Why),
    Refused(Refusal),
}

impl From<Why> for Trouble {
    fn from(why: Why) -> Self {
        Self::Unread(why)
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

const UNKNOWN_STATEMENT: Why = "is not understood: it may decide";

impl<'t> Reader<'_, 't> {
    fn statement(&mut self) -> Result<(), Refusal> {
        let start = self.cursor;
        let steps = self.body.steps.len();
        match self.known_statement() {
            Ok(()) => Ok(()),
            Err(Trouble::Refused(refusal)) => Err(refusal),
            Err(Trouble::Unread(why)) => {
                self.body.steps.truncate(steps);
                self.cursor = start;
                self.skip_unknown(why);
                Ok(())
            }
        }
    }

    /// A match that was not understood is a variable; anything else may be a verdict.
    fn skip_unknown(&mut self, why: Why) {
        let start = self.cursor.at;
        if expression(&mut self.cursor).is_some() && self.skip_right_side().is_some() {
            let text = self.cursor.since(start);
            return self.free(text, why);
        }
        self.skip_all();
        self.decide(Outcome::Elsewhere(UNKNOWN_STATEMENT));
    }

    fn skip_all(&mut self) {
        while self.cursor.peek().is_some() {
            self.cursor.advance();
        }
    }

    /// An operator and what follows it.
    fn skip_right_side(&mut self) -> Option<()> {
        while self.cursor.take(Kind::Dot) {
            expression(&mut self.cursor)?;
        }
        skip_operations(&mut self.cursor)?;
        if self.cursor.word() == Some("vmap") {
            return None;
        }
        if self.cursor.take_word("map") {
            skip_value(&mut self.cursor)?;
        }
        operator(&mut self.cursor);
        loop {
            match self.cursor.kind()? {
                Kind::Open => drop(self.cursor.braces()?),
                Kind::Word | Kind::Quoted | Kind::Reference => self.cursor.advance(),
                Kind::LeftParenthesis => skip_value(&mut self.cursor)?,
                _ => return None,
            }
            let goes_on = [Kind::Comma, Kind::Dot, Kind::Dash, Kind::Slash, Kind::Or, Kind::And, Kind::Xor];
            if !goes_on.into_iter().any(|kind| self.cursor.take(kind)) {
                return Some(());
            }
        }
    }

    /// A free variable.
    fn free(&mut self, text: String, why: Why) {
        self.body.unknown.push((text.clone(), why));
        self.test(vec![Term::Is(Variable::Holds(Arc::from(text)), truth(true))]);
    }

    /// A free variable of its own at each place: what decides it changes with every packet.
    fn free_here(&mut self, start: usize, why: Why) {
        let text = format!("{} (line {})", self.cursor.since(start), self.line);
        self.free(text, why);
    }

    fn test(&mut self, terms: Vec<Term>) {
        self.push(Step::Test(terms));
    }

    fn push(&mut self, step: Step<'t>) {
        if self.is_open {
            self.body.acts_before_last_test = self.body.statements.len();
            self.body.steps.push(step);
        }
    }

    fn decide(&mut self, outcome: Outcome<'t>) {
        if self.is_open {
            if let Some(target) = outcome.target() {
                self.body.uses.push(Use::Chain(target));
            }
            self.body.steps.push(Step::Decide(outcome));
            self.is_open = false;
        }
    }

    fn act(&mut self, start: usize, writes: Writes) {
        self.body.statements.push((start, self.cursor.at));
        self.body.writes = self.body.writes.and(writes);
    }

    fn unknown(&mut self, start: usize, why: Why) {
        let text = self.cursor.since(start);
        self.body.unknown.push((text, why));
    }

    fn known_statement(&mut self) -> Result<(), Trouble> {
        let start = self.cursor.at;
        let token = *self.cursor.peek().ok_or(NOT_READ)?;
        if token.kind == Kind::Hidden {
            self.skip_all();
            self.decide(Outcome::Elsewhere("nft can't write it as text"));
            return Ok(());
        }
        let Some(word) = self.cursor.word() else { return self.matching() };
        match word {
            "accept" | "drop" | "continue" | "return" | "jump" | "goto" => {
                let outcome = outcome(&mut self.cursor).ok_or("has no target")?;
                self.decide(outcome);
            }
            "reject" => self.reject(start)?,
            "queue" => {
                self.cursor.advance();
                self.words_until_statement(&["num", "to", "flags", "bypass", "fanout", "total"]);
                self.act(start, Writes::default());
                self.decide(Outcome::Elsewhere("a program decides"));
            }
            "counter" | "log" | "last" | "notrack" | "dup" | "flow" | "tproxy" | "comment" => self.effect(start, word)?,
            "limit" | "quota" => self.limit(start)?,
            "dnat" | "snat" | "masquerade" | "redirect" => self.translation(start)?,
            "fwd" | "synproxy" | "xt" => {
                self.cursor.advance();
                let is_match = word == "xt" && self.cursor.word() == Some("match");
                self.words_until_statement(&["to", "device", "name", "mss", "wscale", "timestamp", "sack-perm", "ip", "ip6", "match", "target"]);
                if is_match {
                    self.free_here(start, "it is iptables' own");
                } else {
                    self.act(start, Writes::default());
                    let why = if word == "xt" { "it is iptables' own" } else { "it goes past these rules" };
                    self.decide(Outcome::Elsewhere(why));
                }
            }
            "add" | "update" | "delete" | "set" | "meter" => self.set_statement(start, word)?,
            "reset" => {
                self.cursor.advance();
                expression(&mut self.cursor).ok_or(NOT_READ)?;
                self.act(start, Writes::OTHER);
            }
            "ct" if self.cursor.second_word() == Some("count") => {
                self.cursor.advance();
                self.cursor.advance();
                self.cursor.take_word("over");
                self.cursor.name().ok_or(NOT_READ)?;
                self.free_here(start, HISTORY);
            }
            "ct" | "meta" => {
                if !self.set_key(start)? {
                    self.matching()?;
                }
            }
            _ if BARE_META.contains(&word) || word == "priority" => {
                if !self.set_key(start)? {
                    self.matching()?;
                }
            }
            _ => self.matching()?,
        }
        Ok(())
    }

    /// `ct mark set …`, `meta mark set …`, `nftrace set 1`; whether it is one.
    fn set_key(&mut self, start: usize) -> Result<bool, Trouble> {
        let before = self.cursor;
        let mut words = Vec::new();
        while words.len() < 4 {
            match self.cursor.word() {
                Some("set") => break,
                Some(word) => words.push(word),
                None => break,
            }
            self.cursor.advance();
        }
        if words.is_empty() || !self.cursor.take_word("set") {
            self.cursor = before;
            return Ok(false);
        }
        let writes = match words[..] {
            ["ct", "timeout" | "helper" | "expectation" | "label" | "event" | "zone" | "secmark"] | ["ct", _, "zone"] => {
                let kind = [("timeout", "ct timeout"), ("helper", "ct helper"), ("expectation", "ct expectation")];
                let kind = kind.into_iter().find(|(word, _)| *word == words[1]);
                let token = self.cursor.peek().filter(|token| matches!(token.kind, Kind::Quoted | Kind::Word));
                if let (Some((_, kind)), Some(token)) = (kind, token) {
                    self.body.uses.push(Use::Object(kind, self.cursor.text.name(token)));
                }
                Writes::OTHER
            }
            ["ct", "mark"] => Writes::CT_MARK,
            ["meta", "mark"] | ["mark"] => Writes::MARK,
            ["meta", "priority" | "nftrace" | "pkttype" | "secmark" | "broute"] | ["nftrace" | "priority" | "pkttype"] => Writes::OTHER,
            _ => {
                self.cursor = before;
                return Ok(false);
            }
        };
        skip_value(&mut self.cursor).ok_or(NOT_READ)?;
        self.act(start, writes);
        Ok(true)
    }

    /// Goes past words that are in the list, each with what may follow it.
    fn words_until_statement(&mut self, words: &[&str]) {
        loop {
            match self.cursor.kind() {
                Some(Kind::Word) if self.cursor.word().is_some_and(|word| words.contains(&word)) => self.cursor.advance(),
                Some(Kind::Word) if !self.begins_statement() => self.cursor.advance(),
                Some(Kind::Quoted | Kind::Comma | Kind::Dash | Kind::Colon | Kind::Slash | Kind::Reference) => self.cursor.advance(),
                Some(Kind::LeftBracket | Kind::RightBracket) => self.cursor.advance(),
                _ => return,
            }
        }
    }

    fn begins_statement(&self) -> bool {
        self.cursor.word().is_some_and(|word| {
            matches!(
                word,
                "accept" | "drop" | "reject" | "return" | "continue" | "jump" | "goto" | "counter" | "log" | "limit" | "quota"
                    | "comment" | "meta" | "ct" | "ip" | "ip6" | "tcp" | "udp" | "queue" | "add" | "update" | "set" | "last"
                    | "mark" | "dnat" | "snat" | "masquerade" | "redirect"
            )
        })
    }

    fn reject(&mut self, start: usize) -> Result<(), Trouble> {
        self.cursor.advance();
        let mut terms = Vec::new();
        if self.cursor.take_word("with") {
            let kind = self.cursor.name().ok_or(NOT_READ)?;
            match kind {
                "tcp" => {
                    self.cursor.take_word("reset");
                    terms.push(Term::Upper(UpperCube::protocol(Protocol::TCP)));
                }
                "icmp" => terms.push(Term::Family(Family::V4)),
                "icmpv6" => terms.push(Term::Family(Family::V6)),
                "icmpx" => {}
                _ => return Err(NOT_READ.into()),
            }
            if kind != "tcp" {
                self.cursor.take_word("type");
                self.cursor.name().ok_or(NOT_READ)?;
            }
        }
        if !terms.is_empty() {
            self.test(terms);
        }
        self.act(start, Writes::default());
        self.decide(Outcome::Reject);
        Ok(())
    }

    fn effect(&mut self, start: usize, word: &str) -> Result<(), Trouble> {
        self.cursor.advance();
        match word {
            "counter" => {
                if self.cursor.take_word("name") {
                    let token = self.cursor.peek().ok_or(NOT_READ)?;
                    match expression(&mut self.cursor) {
                        Some(_) => {
                            while self.cursor.take(Kind::Dot) {
                                expression(&mut self.cursor).ok_or(NOT_READ)?;
                            }
                            if !self.cursor.take_word("map") {
                                return Err(NOT_READ.into());
                            }
                            skip_value(&mut self.cursor).ok_or(NOT_READ)?;
                        }
                        None => {
                            self.cursor.name().ok_or(NOT_READ)?;
                            self.body.uses.push(Use::Object("counter", self.cursor.text.name(token)));
                        }
                    }
                }
                while matches!(self.cursor.word(), Some("packets" | "bytes")) {
                    self.cursor.advance();
                    self.cursor.name();
                }
            }
            "log" => {
                while let Some(word) = self.cursor.word() {
                    if !matches!(word, "prefix" | "level" | "group" | "snaplen" | "queue-threshold" | "flags") {
                        break;
                    }
                    self.cursor.advance();
                    self.cursor.name().ok_or(NOT_READ)?;
                    if word == "flags" {
                        // `tcp sequence,options`, `ip options`
                        while matches!(self.cursor.word(), Some("sequence" | "options")) || self.cursor.kind() == Some(Kind::Comma) {
                            self.cursor.advance();
                        }
                    }
                }
            }
            "last" => {
                if self.cursor.take_word("used") {
                    self.cursor.name().ok_or(NOT_READ)?;
                }
            }
            "comment" => {
                let comment = self.cursor.name().ok_or(NOT_READ)?;
                self.body.comment = Some(comment);
                return Ok(());
            }
            "notrack" => {
                self.act(start, Writes::STATE);
                self.unknown(start, "what comes after sees the packet untracked");
                return Ok(());
            }
            "flow" => {
                self.words_until_statement(&["add", "offload"]);
                self.unknown(start, "later packets of the connection go past these rules");
            }
            // `dup`, `tproxy`
            _ => {
                self.words_until_statement(&["to", "device", "ip", "ip6"]);
                if word == "tproxy" {
                    self.unknown(start, "what comes after sees another destination");
                }
            }
        }
        self.act(start, Writes::default());
        Ok(())
    }

    /// Where the rule decides nothing, the limit is part of what it does.
    fn limit(&mut self, start: usize) -> Result<(), Trouble> {
        self.skip_limit().ok_or(NOT_READ)?;
        self.free_here(start, HISTORY);
        Ok(())
    }

    fn skip_limit(&mut self) -> Option<()> {
        let is_quota = self.cursor.word() == Some("quota");
        let kind = if is_quota { "quota" } else { "limit" };
        self.cursor.advance();
        if self.cursor.take_word("name") {
            let token = *self.cursor.peek()?;
            match expression(&mut self.cursor) {
                Some(_) => {
                    self.cursor.take_word("map");
                    skip_value(&mut self.cursor)?;
                }
                None => {
                    self.cursor.name()?;
                    self.body.uses.push(Use::Object(kind, self.cursor.text.name(&token)));
                }
            }
            return Some(());
        }
        self.cursor.take_word("rate");
        if matches!(self.cursor.word(), Some("over" | "until")) {
            self.cursor.advance();
        }
        // `10/second`, `10 mbytes/second`, `25 mbytes`
        let units = ["bytes", "kbytes", "mbytes", "packets", "second", "minute", "hour", "day", "week"];
        let is_unit = |word: &str| word.split('/').all(|unit| units.contains(&unit));
        for option in ["", "burst", "used"] {
            if !option.is_empty() && !self.cursor.take_word(option) {
                continue;
            }
            self.cursor.name()?;
            loop {
                if self.cursor.take(Kind::Slash) {
                    self.cursor.name()?;
                } else if self.cursor.word().is_some_and(is_unit) {
                    self.cursor.advance();
                } else {
                    break;
                }
            }
        }
        Some(())
    }

    /// It accepts, for this hook.
    fn translation(&mut self, start: usize) -> Result<(), Trouble> {
        self.cursor.advance();
        loop {
            match self.cursor.word() {
                Some("ip" | "ip6" | "prefix" | "interval" | "addr" | "port" | "to") => {
                    let is_expression = matches!(self.cursor.word(), Some("ip" | "ip6"))
                        && matches!(self.cursor.second_word(), Some("saddr" | "daddr"));
                    if is_expression {
                        skip_value(&mut self.cursor).ok_or(NOT_READ)?;
                    } else {
                        self.cursor.advance();
                    }
                }
                Some("random" | "persistent" | "fully-random") => self.cursor.advance(),
                Some("comment" | "counter" | "log") | None if self.cursor.kind().is_none_or(|kind| kind == Kind::Word) => break,
                _ => match self.cursor.kind() {
                    Some(Kind::LeftBracket | Kind::RightBracket | Kind::Colon | Kind::Comma | Kind::Dash) => self.cursor.advance(),
                    Some(Kind::Word | Kind::Quoted | Kind::Reference) => skip_value(&mut self.cursor).ok_or(NOT_READ)?,
                    _ => return Err(NOT_READ.into()),
                },
            }
        }
        self.act(start, Writes::HEADER);
        self.unknown(start, "what comes after sees other addresses or ports");
        self.decide(Outcome::Accept);
        Ok(())
    }

    /// `add @set { ip saddr timeout 1h }`, and the older `set add ip saddr @set`, `meter name { … }`.
    fn set_statement(&mut self, start: usize, word: &str) -> Result<(), Trouble> {
        self.cursor.advance();
        let tokens = match word {
            "set" => {
                self.cursor.name().ok_or(NOT_READ)?;
                skip_value(&mut self.cursor).ok_or(NOT_READ)?;
                &[]
            }
            "meter" => {
                self.cursor.name().ok_or(NOT_READ)?;
                if self.cursor.take_word("size") {
                    self.cursor.name().ok_or(NOT_READ)?;
                }
                self.cursor.braces().ok_or(NOT_READ)?
            }
            _ => {
                let token = *self.cursor.peek().filter(|token| token.kind == Kind::Reference).ok_or(NOT_READ)?;
                let name = self.cursor.text.name(&token);
                if self.names.set(name).is_none() {
                    return Err(Refusal::NoSet(token).into());
                }
                self.body.uses.push(Use::Set(name));
                self.cursor.advance();
                self.cursor.braces().ok_or(NOT_READ)?
            }
        };
        let stops = |token: &Token| matches!(self.cursor.text.of(token), "limit" | "quota" | "count");
        let why = if tokens.iter().any(stops) { HISTORY } else { "a set that is full ends the rule" };
        self.act(start, Writes::default());
        if self.cursor.peek().is_some() {
            self.free_here(start, why);
        }
        Ok(())
    }

    /// A match, a verdict map, or a field that is set.
    fn matching(&mut self) -> Result<(), Trouble> {
        let start = self.cursor.at;
        let mut fields = vec![expression(&mut self.cursor).ok_or(NOT_READ)?];
        while self.cursor.take(Kind::Dot) {
            fields.push(expression(&mut self.cursor).ok_or(NOT_READ)?);
        }
        for field in &fields {
            self.body.reads = self.body.reads.and(field.reads);
        }
        if self.cursor.word() == Some("set") {
            self.cursor.advance();
            skip_value(&mut self.cursor).ok_or(NOT_READ)?;
            self.act(start, writes_of(&fields[0]));
            return Ok(());
        }
        let left = canonical_left(&self.cursor, start, &fields);
        if self.cursor.take_word("vmap") {
            return self.verdict_map(&left, fields);
        }
        if fields.iter().any(Field::is_opaque) {
            self.skip_right_side().ok_or(NOT_READ)?;
            let why = fields.iter().find_map(|field| match field.coordinate {
                Coordinate::Opaque(why) => Some(why),
                _ => None,
            });
            let needs: Vec<Term> = fields.iter().flat_map(|field| field.needs.clone()).collect();
            self.test(needs);
            let why = why.unwrap_or(NOT_READ);
            if fields.iter().any(Field::is_chance) { self.free_here(start, why) } else { self.free(self.cursor.since(start), why) }
            return Ok(());
        }
        let mask = self.mask()?;
        let operator = operator(&mut self.cursor);
        let terms = match (self.cursor.peek().copied(), mask, &fields[..]) {
            (None, ..) => return Err(NOT_READ.into()),
            (Some(token), None, _) if token.kind == Kind::Reference => {
                let is_negated = operator.is_negated().ok_or(NO_VALUE)?;
                self.cursor.advance();
                let set = self.cursor.text.name(&token);
                self.check_set(token, &fields, false)?;
                let text = format!("{left} @{set}");
                self.push(Step::Lookup { fields, set, is_negated, text });
                return Ok(());
            }
            (Some(token), None, _) if token.kind == Kind::Open && !matches!(fields[0].coordinate, Coordinate::Status) => {
                let is_negated = operator.is_negated().ok_or(NO_VALUE)?;
                let elements = self.elements(&fields, false)?;
                elements.terms(&fields, is_negated)
            }
            (_, mask, [field]) => self.one_field(field, mask, operator)?,
            (_, None, _) => {
                let is_negated = operator.is_negated().ok_or(NO_VALUE)?;
                let mut elements = Elements { fields: fields.len(), ..Elements::default() };
                for (index, field) in fields.iter().enumerate() {
                    if index > 0 && !self.cursor.take(Kind::Dot) {
                        return Err(NO_VALUE.into());
                    }
                    elements.keys.push(value(&mut self.cursor, field.values)?);
                }
                elements.places.push((0, 0));
                elements.terms(&fields, is_negated)
            }
            _ => return Err(NOT_READ.into()),
        };
        self.test(terms);
        Ok(())
    }

    fn elements(&mut self, fields: &[Field], has_outcomes: bool) -> Result<Elements<'t>, Trouble> {
        let tokens = self.cursor.braces().ok_or(NOT_READ)?;
        let types: Vec<Type> = fields.iter().map(|field| field.values).collect();
        let elements = Elements::read(self.cursor.text, tokens, &types, has_outcomes)?;
        // nft merges overlapping keys of a set that is written in a rule, but not of a map.
        if has_outcomes && let Some((one, other)) = elements.overlap() {
            let token = |index: usize| tokens[elements.places[index].0 as usize];
            return Err(Refusal::Overlap(token(one), token(other)).into());
        }
        Ok(elements)
    }

    fn check_set(&mut self, token: Token, fields: &[Field], has_outcomes: bool) -> Result<(), Trouble> {
        let name = self.cursor.text.name(&token);
        let Some(set) = self.names.set(name) else { return Err(Refusal::NoSet(token).into()) };
        self.body.uses.push(Use::Set(name));
        let types: Vec<Type> = fields.iter().map(|field| field.values).collect();
        let fits = |(own, set): (&Type, &Type)| {
            own == set
                || matches!((own, set), (Type::Opaque, _) | (_, Type::Opaque))
                || matches!((own, set), (Type::Integer(_) | Type::Mark, Type::Integer(_) | Type::Mark))
        };
        if !set.key.is_empty() && (set.key.len() != types.len() || !types.iter().zip(set.key).all(fits)) {
            return Err(Refusal::Type(token, format!("keys of `{name}` are of another type")).into());
        }
        if has_outcomes != set.has_outcomes && !set.key.is_empty() {
            let what = if has_outcomes { "is no map to verdicts" } else { "is a map" };
            return Err(Refusal::Type(token, format!("`{name}` {what}")).into());
        }
        Ok(())
    }

    /// Each key of a field that is not read is a variable.
    fn free_map(&mut self, left: &str, fields: &[Field]) -> Result<(), Trouble> {
        let tokens = self.cursor.braces().ok_or(NOT_READ)?;
        let place = if fields.iter().any(Field::is_chance) { format!(" (line {})", self.line) } else { String::new() };
        let needs: Vec<Term> = fields.iter().flat_map(|field| field.needs.clone()).collect();
        let mut before = needs.clone();
        let mut arms = Vec::new();
        for (key, outcome) in Elements::texts(self.cursor.text, tokens).ok_or(NOT_READ)? {
            let text = format!("{left} {key}{place}");
            self.body.unknown.push((text.clone(), "which key it has is not known"));
            let variable = Variable::Holds(Arc::from(text));
            let mut terms = before.clone();
            terms.push(Term::Is(variable.clone(), truth(true)));
            before.push(Term::Is(variable, truth(false)));
            arms.push((terms, outcome));
        }
        self.body.uses.extend(arms.iter().filter_map(|(_, outcome)| outcome.target()).map(Use::Chain));
        let all = vec![Term::AnyOf(arms.iter().map(|(terms, _)| terms.clone()).collect())];
        self.push(Step::Map { arms, all });
        Ok(())
    }

    fn verdict_map(&mut self, left: &str, fields: Vec<Field>) -> Result<(), Trouble> {
        let is_readable = |field: &Field| !matches!(field.coordinate, Coordinate::Opaque(_) | Coordinate::Status);
        if let Some(token) = self.cursor.peek().filter(|token| token.kind == Kind::Reference) {
            let map = self.cursor.text.name(token);
            self.check_set(*token, &fields, true)?;
            self.cursor.advance();
            if !fields.iter().all(is_readable) {
                return Err(NOT_READ.into());
            }
            self.push(Step::NamedMap { fields, map });
            return Ok(());
        }
        if !fields.iter().all(is_readable) {
            return self.free_map(left, &fields);
        }
        let elements = self.elements(&fields, true)?;
        let arms = elements.arms(&fields);
        let targets = arms.iter().filter_map(|(_, outcome)| outcome.target());
        self.body.uses.extend(targets.map(Use::Chain));
        let all = elements.terms(&fields, false);
        self.push(Step::Map { arms, all });
        Ok(())
    }

    /// `& VALUE` after flags and coordinates; other masks are part of the expression.
    fn mask(&mut self) -> Result<Option<u128>, Trouble> {
        if self.cursor.kind() != Some(Kind::And) && self.cursor.word() != Some("and") {
            return Ok(None);
        }
        self.cursor.advance();
        Ok(Some(u128::MAX))
    }

    fn one_field(&mut self, field: &Field, mask: Option<u128>, operator: Operator) -> Result<Vec<Term>, Trouble> {
        let (mask, operator) = match mask {
            None => (None, operator),
            // The operator stands behind the mask.
            Some(_) => {
                let mask = self.bits(field.values)?;
                (Some(mask), self::operator(&mut self.cursor))
            }
        };
        let is_flags = matches!(field.values, Type::TcpFlags | Type::Status) || (field.values == Type::State && mask.is_some());
        if is_flags {
            return self.flags(field, mask, operator);
        }
        if let Some(mask) = mask {
            return self.masked(field, mask, operator);
        }
        if field.values == Type::State {
            return self.states(field, operator);
        }
        if let Some(terms) = self.prefix(field, operator) {
            return Ok(terms);
        }
        let range = value(&mut self.cursor, field.values)?;
        // Several with commas between them are bits, which this field does not have.
        if matches!(self.cursor.kind(), Some(Kind::Comma | Kind::Or | Kind::Slash)) {
            return Err(NO_VALUE.into());
        }
        let (first, last) = (range.first(), range.last());
        let interval = |first, last| ringwall_packet::Interval::new(first, last).map(IntervalSet::from).unwrap_or_default();
        // The kernel's clock counts nanoseconds: of the second that is named, only the first is not after it.
        let is_clock = field.values == Type::Time;
        let (set, is_negated) = match operator {
            Operator::None | Operator::Equal | Operator::NotEqual | Operator::Not if is_clock && first < last => {
                (interval(first, last - 1), operator == Operator::NotEqual)
            }
            Operator::None | Operator::Equal => (interval(first, last), false),
            Operator::NotEqual | Operator::Not => (interval(first, last), true),
            _ if first != last => return Err(NO_VALUE.into()),
            Operator::Less => (first.checked_sub(1).map(|last| interval(0, last)).unwrap_or_default(), false),
            Operator::LessOrEqual if is_clock => (first.checked_sub(1).map(|last| interval(0, last)).unwrap_or_default(), false),
            Operator::Greater if is_clock => (interval(first, field.last), false),
            Operator::LessOrEqual => (interval(0, first), false),
            Operator::Greater => (first.checked_add(1).map(|first| interval(first, field.last)).unwrap_or_default(), false),
            Operator::GreaterOrEqual => (interval(first, field.last), false),
        };
        Ok(field.terms(&set, is_negated))
    }

    /// `ct mark 0x02000000/8`, as nft lists what is masked by the first bits.
    fn prefix(&mut self, field: &Field, operator: Operator) -> Option<Vec<Term>> {
        let Coordinate::Variable(Variable::Field(name)) = &field.coordinate else { return None };
        let (bits, is_mark) = match field.values {
            Type::Mark => (32, true),
            Type::Integer(bits) => (u32::from(bits), false),
            _ => return None,
        };
        let (value, length) = self.cursor.word()?.split_once('/')?;
        let (value, length) = (number(value)?, length.parse::<u32>().ok().filter(|length| (1..=bits).contains(length))?);
        let mask = field.last & !((1_u128 << (bits - length)) - 1);
        let is_negated = operator.is_negated()?;
        self.cursor.advance();
        let masked = Field { coordinate: Coordinate::Variable(masked_variable(name, mask, is_mark)), last: mask, ..field.clone() };
        Some(masked.terms(&IntervalSet::single(value & mask), is_negated))
    }

    /// `established,related`: any of them.
    fn states(&mut self, field: &Field, operator: Operator) -> Result<Vec<Term>, Trouble> {
        let mut values = Vec::new();
        loop {
            values.push(value(&mut self.cursor, Type::State)?);
            if !self.cursor.take(Kind::Comma) {
                break;
            }
        }
        if self.cursor.kind() == Some(Kind::Or) {
            return Err("no packet has two states".into());
        }
        // nft compares with all of the bits at once.
        if operator == Operator::NotEqual && values.len() > 1 {
            return Err("versions of nft differ in what it means".into());
        }
        let is_negated = operator.is_negated().ok_or(NO_VALUE)?;
        Ok(field.terms(&values.into_iter().collect(), is_negated))
    }

    /// Bits of flags: `syn,ack`, `(syn | ack)`, `0x12`.
    fn bits(&mut self, kind: Type) -> Result<u128, Trouble> {
        let is_closed = self.cursor.take(Kind::LeftParenthesis);
        let mut bits = 0;
        loop {
            let token = self.cursor.peek().filter(|token| token.kind == Kind::Word).ok_or(NO_VALUE)?;
            let word = self.cursor.text.of(token);
            bits |= match (number(word), kind) {
                (Some(number), Type::State) if number != 0 => return Err(NO_VALUE.into()),
                (Some(number), _) => number,
                (None, Type::State) => {
                    let state = State::ALL.iter().position(|state| state.word() == word).ok_or(NO_VALUE)?;
                    1 << state
                }
                (None, _) => kind.values(word, false)?.first(),
            };
            self.cursor.advance();
            if !self.cursor.take(Kind::Comma) && !self.cursor.take(Kind::Or) {
                break;
            }
        }
        if is_closed && !self.cursor.take(Kind::RightParenthesis) {
            return Err(NO_VALUE.into());
        }
        Ok(bits)
    }

    fn flags(&mut self, field: &Field, mask: Option<u128>, operator: Operator) -> Result<Vec<Term>, Trouble> {
        let bits = self.bits(field.values)?;
        let (mask, wanted, is_negated) = match (mask, operator) {
            // `tcp flags syn / syn,ack`
            (None, Operator::None | Operator::Equal | Operator::NotEqual) if self.cursor.take(Kind::Slash) => {
                let mask = self.bits(field.values)?;
                (mask, Some(bits), operator == Operator::NotEqual)
            }
            (None, Operator::None) => (bits, None, false),
            (None, Operator::Not) => (bits, None, true),
            (None, Operator::Equal) => (u128::MAX, Some(bits), false),
            (None, Operator::NotEqual) => (u128::MAX, Some(bits), true),
            (Some(mask), Operator::None | Operator::Equal) => (mask, Some(bits), false),
            (Some(mask), Operator::NotEqual) => (mask, Some(bits), true),
            _ => return Err(NO_VALUE.into()),
        };
        // `wanted`: these bits of the mask and no others; otherwise any of the mask's.
        let meets = |value: u128| match wanted {
            Some(wanted) => (value & mask == wanted) != is_negated,
            None => (value & mask != 0) != is_negated,
        };
        Ok(match field.values {
            Type::Status => {
                // All other bits are free, which a comparison of all of them would have to know.
                if mask == u128::MAX {
                    return Err(NOT_READ.into());
                }
                let names: Vec<_> = STATUS.iter().filter(|(_, bit)| mask & bit != 0).collect();
                let choices = (0..1_u32 << names.len()).map(|choice| {
                    let is_set = |index: usize| choice >> index & 1 == 1;
                    let value = names.iter().enumerate().filter(|(index, _)| is_set(*index)).map(|(_, (_, bit))| bit).sum();
                    let terms = names.iter().enumerate().map(|(index, (name, _))| {
                        Term::Is(Variable::Holds(Arc::from(format!("ct status {name}"))), truth(is_set(index)))
                    });
                    (value, terms.collect::<Vec<Term>>())
                });
                let alternatives: Vec<_> = choices.filter(|(value, _)| meets(*value)).map(|(_, terms)| terms).collect();
                let mut terms = field.needs.clone();
                match &alternatives[..] {
                    [only] => terms.extend(only.iter().cloned()),
                    _ => terms.push(Term::AnyOf(alternatives)),
                }
                terms
            }
            Type::State => {
                let states = State::ALL.into_iter().enumerate().filter(|(bit, _)| meets(1 << bit));
                field.terms(&states.map(|(_, state)| state.values()).collect(), false)
            }
            _ => {
                let set: IntervalSet<u128> = (0..=field.last).filter(|value| meets(*value)).collect();
                field.terms(&set, false)
            }
        })
    }

    /// `ip saddr & 255.255.0.255 == 10.0.0.5`: the ranges, where they are few.
    fn masked(&mut self, field: &Field, mask: u128, operator: Operator) -> Result<Vec<Term>, Trouble> {
        const MOST_FREE_BITS: u32 = 12;
        let wanted = value(&mut self.cursor, field.values)?;
        let is_negated = operator.is_negated().ok_or(NO_VALUE)?;
        let mask = mask & field.last;
        let low = mask.trailing_zeros();
        let free = field.last & !mask;
        let above: Vec<u32> = (low..128).filter(|bit| free >> bit & 1 == 1).collect();
        if wanted.first() != wanted.last() || above.len() > MOST_FREE_BITS as usize {
            return Err("its ranges are too many".into());
        }
        let host = 1_u128.checked_shl(low).map_or(u128::MAX, |above| above - 1);
        let set: IntervalSet<u128> = if wanted.first() & !mask != 0 {
            IntervalSet::default()
        } else {
            let base = |choice: u32| above.iter().enumerate().filter(|(at, _)| choice >> at & 1 == 1).map(|(_, bit)| 1_u128 << bit).sum::<u128>();
            let ranges = (0..1_u32 << above.len()).filter_map(|choice| {
                let first = wanted.first() | base(choice);
                ringwall_packet::Interval::new(first, first | (host & field.last))
            });
            ranges.collect()
        };
        Ok(field.terms(&set, is_negated))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    /// None is written: equal, or any of the bits.
    None,
    Equal,
    NotEqual,
    /// `!`: none of the bits.
    Not,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Operator {
    /// `None` for those that compare sizes.
    fn is_negated(self) -> Option<bool> {
        match self {
            Self::None | Self::Equal => Some(false),
            Self::NotEqual | Self::Not => Some(true),
            _ => None,
        }
    }
}

fn operator(cursor: &mut Cursor) -> Operator {
    let operator = match (cursor.kind(), cursor.word()) {
        (Some(Kind::Equal), _) | (_, Some("eq")) => Operator::Equal,
        (Some(Kind::NotEqual), _) | (_, Some("ne")) => Operator::NotEqual,
        (Some(Kind::Not), _) => Operator::Not,
        (Some(Kind::Less), _) | (_, Some("lt")) => Operator::Less,
        (Some(Kind::LessOrEqual), _) | (_, Some("le")) => Operator::LessOrEqual,
        (Some(Kind::Greater), _) | (_, Some("gt")) => Operator::Greater,
        (Some(Kind::GreaterOrEqual), _) | (_, Some("ge")) => Operator::GreaterOrEqual,
        _ => return Operator::None,
    };
    cursor.advance();
    operator
}

/// The text of what stands on the left, the same however it is written.
fn canonical_left(cursor: &Cursor, start: usize, fields: &[Field]) -> String {
    match fields {
        [Field { coordinate: Coordinate::Variable(Variable::Field(name)), .. }] => name.to_string(),
        _ => cursor.since(start),
    }
}

/// A rule or a part of it, without what a counter has counted.
pub(super) fn canonical_rule(text: Text, tokens: &[Token]) -> String {
    let mut kept: Vec<Token> = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let word = text.of(token);
        let is_count = matches!(word, "packets" | "bytes" | "used") && token.kind == Kind::Word;
        let follows = kept.last().map(|last| text.of(last));
        let after = tokens.get(at + 1).map(|next| text.of(next));
        let is_number = after.is_some_and(|after| number(after).is_some());
        if is_count && is_number && (follows == Some("counter") || (word == "bytes" && at >= 2 && text.of(&tokens[at - 2]) == "packets")) {
            at += 2;
            continue;
        }
        kept.push(*token);
        at += 1;
    }
    canonical(text, &kept)
}
