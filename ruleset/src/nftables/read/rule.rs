//! One rule: its statements, in order.
//!
//! In: the rule's tokens. Out: what it asks, what it does on the way, how it ends, and what it refers to.
//! Never: a match left out. What is not understood is a free variable, or, where it may be a verdict, a
//! packet gone elsewhere.

use std::sync::Arc;

use ringwall_packet::{Family, Protocol, UpperCube, Variable, truth};

use super::cursor::Cursor;
use super::datatype::{Datatype, Why, number};
use super::elements::{Outcome, outcome};
use super::expression::{HISTORY, NOT_READ, expression, skip_operations, skip_value};
use super::field::{BARE_META, Field, Writes};
use super::matching::operator;
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
    pub key: &'s [Datatype],
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

/// Reads a rule. Its matches are read in [`super::matching`].
pub(super) struct Reader<'n, 't> {
    pub cursor: Cursor<'t>,
    pub line: usize,
    pub names: &'n dyn Names,
    pub body: Body<'t>,
    /// No verdict has come yet.
    is_open: bool,
}

/// A match can't be read, or the kernel would refuse it.
pub(super) enum Trouble {
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
    pub fn skip_right_side(&mut self) -> Option<()> {
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
    pub fn free(&mut self, text: String, why: Why) {
        self.body.unknown.push((text.clone(), why));
        self.test(vec![Term::Is(Variable::Holds(Arc::from(text)), truth(true))]);
    }

    /// A free variable of its own at each place: what decides it changes with every packet.
    pub fn free_here(&mut self, start: usize, why: Why) {
        let text = format!("{} (line {})", self.cursor.since(start), self.line);
        self.free(text, why);
    }

    pub fn test(&mut self, terms: Vec<Term>) {
        self.push(Step::Test(terms));
    }

    pub fn push(&mut self, step: Step<'t>) {
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

    pub fn act(&mut self, start: usize, writes: Writes) {
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
