//! A table's chains as ordered rows: what the kernel does with a packet from a hook on, jump by jump.
//!
//! In: chains of rules, their words understood. Out: rows of which the first that matches decides, and
//! what packets meet on the way. Never: unbounded work; a packet that leaves a chain is out of the
//! rest of it exactly.
//!
//! A chain that is called is written in the place of the call, its rows cut down to the packets that
//! get there. What it decides is decided; what comes back is met by the rows that follow. A `RETURN`
//! or a `-g` takes its packets out of what is left of the chain: by difference where that leaves few
//! parts, else by writing at once what they meet after the chain.

use std::collections::{HashMap, HashSet};

use ringwall_packet::{Address, IntervalSet, Matches, Row, Variable, truth};

use super::asks::Asks;
use crate::filter::{Decision, Effects, FilterVerdict, NotMet, Unknown};
use crate::meaning::Verdict;

/// Rules evaluated, each time for each part of the packets that get there. With 100,000 rules, most
/// real rulesets need fewer than a million.
pub(super) const STEPS_MAX: u64 = 2_000_000;
/// Rows of all tables of a text.
pub(super) const ROWS_MAX: usize = 2_000_000;
/// Parts into which RETURNs may take apart what is left of a chain.
const PARTS_MAX: usize = 32;
/// Statements listed for one decision; what is more is named as not followed.
const EFFECTS_MAX: usize = 300;
/// Calls whose conditions are listed with a statement.
const CALLS_MAX: usize = 12;

pub(super) struct Chain<A> {
    pub rules: Vec<Step<A>>,
}

/// One rule.
pub(super) struct Step<A> {
    pub asks: Asks<A>,
    pub then: Then,
    /// Index into [`crate::filter::Filter::rules`].
    pub rule: usize,
    /// What stands before the target.
    pub condition: String,
    /// The target in the text's words, when it does something to the packet or because of it.
    pub effect: Option<String>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    Pass,
    Decide(Verdict),
    /// Why it is not known what comes of it.
    Elsewhere(&'static str),
    Return,
    Jump(usize),
    Goto(usize),
}

/// The hook has an input interface, an output interface.
#[derive(Clone, Copy)]
pub(super) struct Sides {
    pub input: bool,
    pub output: bool,
}

/// Shared by all walks of a text.
pub(super) struct Books<'a> {
    pub effects: &'a mut Vec<Effects>,
    pub unknown: &'a mut Vec<Unknown>,
    /// Texts of `unknown` that are there.
    pub named: &'a mut HashSet<String>,
    pub lines: &'a dyn Fn(usize) -> (usize, String),
    pub steps: &'a mut u64,
    pub rows: &'a mut usize,
    /// By rule.
    pub met: &'a mut HashMap<usize, Met>,
}

/// What became of a rule in all walks so far. The later ones say more than the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Met {
    Not(NotMet),
    ByPackets,
}

/// The work was too much; at this rule.
pub(super) struct TooMuch {
    pub rule: usize,
}

/// One call of a chain.
#[derive(Clone)]
struct Frame<A> {
    /// It is called by nobody: the hook's own chain, or a copy of it for packets that came back early.
    is_base: bool,
    chain: usize,
    next: usize,
    /// Packets that are in the chain still, but for those that rows before have decided.
    here: Vec<Matches<A>>,
    /// Whether some packets leave the chain undecided.
    leaves: bool,
    /// Index of the list of effects at the call; of a copy, of those that hold again after it.
    effects: usize,
    /// The rule that called it, in its caller.
    call: Option<(usize, usize)>,
}

/// The rows of the base chain `chain`, with its policy at the end. `place` tells tables apart in the
/// names of matches that may answer differently there.
pub(super) fn rows<A: Address>(
    chains: &[Chain<A>],
    chain: usize,
    policy: Verdict,
    sides: Sides,
    place: &str,
    books: &mut Books<'_>,
) -> Result<Vec<Row<A, Decision>>, TooMuch> {
    let mut walk = Walk { chains, policy, sides, place, books, rows: Vec::new(), seen: HashMap::new(), effects: 0, elsewhere: HashMap::new() };
    walk.all(chain)?;
    let decision = walk.policy();
    walk.rows.push(Row { matches: Matches::any(), decision });
    Ok(walk.rows)
}

struct Walk<'a, 'b, A> {
    chains: &'a [Chain<A>],
    policy: Verdict,
    sides: Sides,
    /// Said of what changes from one table to the next.
    place: &'a str,
    books: &'a mut Books<'b>,
    rows: Vec<Row<A, Decision>>,
    /// How often a match that changes was asked.
    seen: HashMap<String, usize>,
    /// The list of what packets have met so far.
    effects: usize,
    /// By rule, its place among what is not known.
    elsewhere: HashMap<usize, usize>,
}

impl<A: Address> Walk<'_, '_, A> {
    fn all(&mut self, base: usize) -> Result<(), TooMuch> {
        let first =
            Frame { is_base: true, chain: base, next: 0, here: vec![Matches::any()], leaves: false, effects: 0, call: None };
        let mut frames = vec![first];
        while let Some(frame) = frames.last_mut() {
            let Some(step) = self.chains[frame.chain].rules.get(frame.next).filter(|_| !frame.here.is_empty()) else {
                self.end(&mut frames)?;
                continue;
            };
            frame.next += 1;
            if matches!(step.then, Then::Pass) && step.effect.is_none() {
                self.books.met.insert(step.rule, Met::ByPackets);
                continue;
            }
            self.count(step.asks.weight() * (1 + frame.here.len() as u64), step.rule)?;
            let asked = self.asked(step);
            let is_all = step.asks.is_any();
            let there: Vec<Matches<A>> = if is_all {
                frame.here.clone()
            } else {
                frame.here.iter().flat_map(|here| asked.iter().filter_map(move |asked| here.intersection(asked))).collect()
            };
            if there.is_empty() {
                self.books.met.entry(step.rule).or_insert(Met::Not(NotMet::Never));
                continue;
            }
            self.books.met.insert(step.rule, Met::ByPackets);
            if let Some(effect) = &step.effect {
                self.effects = self.with_effect(effect, &frames, step);
            }
            let frame = frames.last_mut().expect("it is there");
            match step.then {
                Then::Pass => {}
                Then::Decide(_) | Then::Elsewhere(_) => {
                    let verdict = match step.then {
                        Then::Elsewhere(why) => FilterVerdict::Elsewhere(self.elsewhere(step.rule, why)),
                        Then::Decide(verdict) => FilterVerdict::Decided(verdict),
                        _ => unreachable!("one of the two"),
                    };
                    let decision = Decision { verdict, rule: Some(step.rule), effects: self.effects };
                    self.decide(there, decision, step.rule)?;
                    if is_all {
                        frame.here.clear();
                    }
                }
                Then::Return => self.take_out(&mut frames, &asked, is_all, there, None, step.rule)?,
                Then::Jump(to) | Then::Goto(to) => {
                    let called = Some((frame.chain, frame.next - 1));
                    let call = Frame { is_base: false, chain: to, next: 0, here: there.clone(), leaves: false, effects: self.effects, call: called };
                    match step.then {
                        Then::Goto(_) => self.take_out(&mut frames, &asked, is_all, there, Some(call), step.rule)?,
                        _ => frames.push(call),
                    }
                }
            }
        }
        Ok(())
    }

    /// The last chain's rules are over.
    fn end(&mut self, frames: &mut Vec<Frame<A>>) -> Result<(), TooMuch> {
        let frame = frames.pop().expect("a chain is being read");
        self.too_late(&frame)?;
        if frame.is_base {
            // Of the hook's own chain itself, the last row of all takes what is left.
            if !frames.is_empty() {
                let decision = self.policy();
                self.decide(frame.here, decision, 0)?;
                self.effects = frame.effects;
            }
            return Ok(());
        }
        if !frame.leaves && frame.here.is_empty() {
            // Nobody who met what is in this chain meets what follows.
            self.effects = frame.effects;
            let caller = frames.last_mut().expect("somebody called");
            let call = caller.next.checked_sub(1).and_then(|call| self.chains[caller.chain].rules.get(call));
            if call.is_some_and(|call| call.asks.is_any()) {
                caller.here.clear();
            }
        }
        Ok(())
    }

    /// Nobody gets to what is left of a chain: the rule before took all.
    fn too_late(&mut self, frame: &Frame<A>) -> Result<(), TooMuch> {
        let rules = &self.chains[frame.chain].rules;
        let (Some(by), Some(left)) = (frame.next.checked_sub(1).and_then(|by| rules.get(by)), rules.get(frame.next..)) else { return Ok(()) };
        for step in left {
            let met = self.books.met.entry(step.rule).or_insert(Met::Not(NotMet::Never));
            *met = (*met).max(Met::Not(NotMet::After(by.rule)));
        }
        self.count(left.len() as u64 / 16, by.rule)
    }

    fn policy(&self) -> Decision {
        Decision { verdict: FilterVerdict::Decided(self.policy), rule: None, effects: self.effects }
    }

    fn decide(&mut self, packets: Vec<Matches<A>>, decision: Decision, rule: usize) -> Result<(), TooMuch> {
        *self.books.rows += packets.len();
        if *self.books.rows > ROWS_MAX {
            return Err(TooMuch { rule });
        }
        self.rows.extend(packets.into_iter().map(|matches| Row { matches, decision }));
        Ok(())
    }

    /// `there` are out of the rest of the last chain, and first go through `by`, if that is a chain.
    fn take_out(&mut self, frames: &mut Vec<Frame<A>>, asked: &[Matches<A>], is_all: bool, there: Vec<Matches<A>>, by: Option<Frame<A>>, rule: usize) -> Result<(), TooMuch> {
        let at = frames.len() - 1;
        let base = frames.iter().rposition(|frame| frame.is_base).expect("the hook's own chain");
        let is_over = |frame: &Frame<A>| frame.next >= self.chains[frame.chain].rules.len();
        // Where little follows the chain, or there are many parts already.
        let is_short = frames[base..at].iter().all(is_over);
        let left = if is_all {
            Some(Vec::new())
        } else if is_short {
            None
        } else {
            let mut left = frames[at].here.clone();
            for asked in asked {
                left = left.iter().flat_map(|here| here.difference(asked)).collect();
                self.count(1 + left.len() as u64 / 16, rule)?;
                if left.len() > PARTS_MAX {
                    break;
                }
            }
            (left.len() <= PARTS_MAX).then_some(left)
        };
        match left {
            Some(left) => {
                frames[at].here = left;
                frames[at].leaves = true;
                frames.extend(by);
            }
            None => {
                self.count((there.len() * (1 + at - base)) as u64, rule)?;
                let effects = self.effects;
                if at == base && by.is_none() {
                    let decision = self.policy();
                    return self.decide(there, decision, rule);
                }
                // What they meet after the chain, right here.
                let mut copies: Vec<_> = frames[base..at].to_vec();
                if at == base {
                    // All that follows is the policy.
                    copies.push(Frame { next: usize::MAX, ..frames[base].clone() });
                }
                for copy in &mut copies {
                    copy.here.clone_from(&there);
                }
                copies[0].effects = effects;
                frames.extend(copies);
                frames.extend(by);
            }
        }
        Ok(())
    }

    fn count(&mut self, steps: u64, rule: usize) -> Result<(), TooMuch> {
        *self.books.steps = self.books.steps.checked_sub(steps).ok_or(TooMuch { rule })?;
        Ok(())
    }

    /// What a rule asks at this hook, as alternatives.
    fn asked(&mut self, step: &Step<A>) -> Vec<Matches<A>> {
        let asks = &step.asks;
        let mut alternatives = asks.alternatives.clone();
        let mut keep = |variable: Variable, values: &IntervalSet<u128>| {
            alternatives = alternatives.iter().filter_map(|one| one.and(variable.clone(), values)).collect();
        };
        for (is_there, variable, names) in
            [(self.sides.input, Variable::InputInterface, &asks.input), (self.sides.output, Variable::OutputInterface, &asks.output)]
        {
            if is_there {
                keep(variable, names);
            } else if !names.contains(0) {
                // The packet has no interface here: its name is empty.
                return Vec::new();
            }
        }
        for free in &asks.free {
            let mut text = free.text.clone();
            if free.changes {
                text.push_str(self.place);
                let seen = self.seen.entry(text.clone()).or_default();
                *seen += 1;
                if *seen > 1 {
                    // Asked once more: another question.
                    text = format!("{text} #{seen}");
                }
            }
            keep(Variable::Holds(text.as_str().into()), &truth(free.holds));
            if self.books.named.insert(text.clone()) {
                let (line, _) = (self.books.lines)(step.rule);
                self.books.unknown.push(Unknown { text, line, why: free.why });
            }
        }
        alternatives
    }

    fn elsewhere(&mut self, rule: usize, why: &'static str) -> usize {
        if let Some(known) = self.elsewhere.get(&rule) {
            return *known;
        }
        let (line, text) = (self.books.lines)(rule);
        self.books.unknown.push(Unknown { text, line, why });
        self.elsewhere.insert(rule, self.books.unknown.len() - 1);
        self.books.unknown.len() - 1
    }

    /// The list of effects with one more, with the conditions of the way to it.
    fn with_effect(&mut self, effect: &str, frames: &[Frame<A>], step: &Step<A>) -> usize {
        let mut list = self.books.effects[self.effects].clone();
        if list.len() >= EFFECTS_MAX {
            let (line, text) = (self.books.lines)(step.rule);
            if self.books.named.insert(format!("effect {line}")) {
                self.books.unknown.push(Unknown { text, line, why: "more statements on the way than are listed" });
            }
            return self.effects;
        }
        let base = frames.iter().rposition(|frame| frame.is_base).unwrap_or(0);
        let calls: Vec<_> = frames[base..].iter().filter_map(|frame| frame.call).collect();
        let mut words = if calls.len() > CALLS_MAX { vec!["…"] } else { Vec::new() };
        let near = &calls[calls.len().saturating_sub(CALLS_MAX)..];
        words.extend(near.iter().map(|(chain, rule)| &*self.chains[*chain].rules[*rule].condition));
        words.extend([&*step.condition, effect]);
        words.retain(|word| !word.is_empty());
        list.push(words.join(" "));
        self.books.effects.push(list);
        self.books.effects.len() - 1
    }
}

impl<A: Address> Asks<A> {
    /// How much work one evaluation is, by the size of the sets.
    fn weight(&self) -> u64 {
        let size = |matches: &Matches<A>| {
            let cube = &matches.cube;
            1 + (cube.source.intervals().len() + cube.destination.intervals().len()) as u64 / 64
        };
        self.alternatives.iter().map(size).sum::<u64>().max(1)
    }
}
