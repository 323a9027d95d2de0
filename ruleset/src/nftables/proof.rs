//! Proof that a text to be loaded does what the ruleset says, for whoever has no policy to ask.
//!
//! In: a ruleset, the text with what it is loaded onto. Out: nothing, or the first thing that is not as it must be, with a
//! packet that shows it. Never: anything of the writer: the text is read as anybody's would be.
//!
//! Proved is, for each path through the node, every packet of both families, every conntrack state, every content of the
//! sets that change at run time, every time, and the dead-man switch armed and expired: the verdict, and that a connection
//! which is accepted anew bears the generation's mark. Tables, hooks, sets, block lists and the switch must be exactly what
//! they always are. What is counted and logged is not looked at.

use std::collections::BTreeSet;
use std::fmt;

use ringwall_diagnostic::{Diagnostic, Sources};
use ringwall_packet::{Address, Budget, Change, Exhausted, Matches, Row, Table, Witness, truth};

use super::frame::{self, Declared, Slice};
use super::read::{Sets, State, filter, script};
use super::{Confirm, Generation, Loading, MARK_MASK, TABLE};
use crate::filter::{Decision, Filter, FilterVerdict};
use crate::meaning::{Path, Verdict};
use crate::model::{Effect, Forward, Ruleset};
use crate::tables::{Outcome, Target, table};

/// Boxes that the comparison of one ruleset may look at.
const STEPS: u64 = 200_000_000;

/// The text to be loaded does not do what the ruleset says, or it is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unproved {
    /// The text can't be read, or the kernel would refuse it.
    Text(String),
    /// Something of the fixed parts is missing, too much, or different.
    Frame(String),
    /// A match or statement that the reader does not know.
    Statement { line: usize, text: String },
    Packet(Box<Counterexample>),
    Unknown { path: Path, exhausted: Exhausted },
}

/// A packet that the text does not treat as the ruleset says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counterexample {
    pub path: Path,
    pub packet: Witness,
    pub must: String,
    pub does: String,
    /// Of the text, from 1; `None` for a chain's policy.
    pub line: Option<usize>,
}

impl fmt::Display for Unproved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(why) => write!(f, "the text can't be loaded: {why}"),
            Self::Frame(what) => write!(f, "the text is not complete: {what}"),
            Self::Statement { line, text } => write!(f, "line {line} of the text has a statement that is not proved: `{text}`"),
            Self::Packet(found) => {
                let Counterexample { path, packet, must, does, line } = &**found;
                write!(f, "{} of `{packet}`: wanted is {must}, the text says {does}", path.short())?;
                line.map_or(Ok(()), |line| write!(f, " (line {line})"))
            }
            Self::Unknown { path, exhausted } => write!(f, "the proof of path {} did not end: {exhausted}", path.short()),
        }
    }
}

impl std::error::Error for Unproved {}

/// Proves that the text does what the ruleset says.
pub fn prove(ruleset: &Ruleset, loading: &Loading<'_>) -> Result<(), Unproved> {
    prove_all(ruleset, std::slice::from_ref(loading))
}

/// The same for several texts, such as the one on trial and the one for boot.
///
/// All that is not a generation's own is exactly known of each text, so that every packet that it decides ends in its own
/// chains. Where these are the same as in a text that is proved, with the same marks that are refused, they do the same.
pub fn prove_all(ruleset: &Ruleset, loadings: &[Loading<'_>]) -> Result<(), Unproved> {
    let mut proved: Vec<(Generation, &BTreeSet<Generation>, Declared)> = Vec::new();
    for loading in loadings {
        let Loading { generation, installed, .. } = *loading;
        let fixed = |state: &State<'_>, is_older: bool| check(ruleset, state, loading, is_older);
        loaded(loading, fixed, |state| {
            let own = own(state, generation).map_err(Unproved::Frame)?;
            // On trial it is also looked at what comes when the trial falls.
            let is_trial = matches!(loading.confirm, Confirm::Within(_));
            if is_trial || !proved.iter().any(|proved| (proved.0, proved.1, &proved.2) == (generation, &installed.fallen, &own)) {
                let does = filter(state, Sets::Free).map_err(|diagnostic| Unproved::Text(diagnostic.message))?;
                Proof::new(ruleset, loading, &does)?.compare()?;
                proved.push((generation, &installed.fallen, own));
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// All of a generation's own, but for the switch, which is what texts differ in.
fn own(state: &State<'_>, generation: Generation) -> Result<Declared, String> {
    let [_, mut filtering] = frame::declared(state)?;
    let (name, armed) = (format!("{generation}_"), format!("{generation}_armed"));
    filtering.retain(|(_, of), _| of.starts_with(&name) && *of != armed);
    Ok(filtering)
}

/// What every proof begins with: the text is read and loaded onto what is there, the fixed parts are as `check` says, also
/// when it is loaded onto tables that an older text left; what they then do is for `meaning` to say.
pub fn loaded(
    loading: &Loading<'_>,
    check: impl Fn(&State<'_>, bool) -> Result<(), String>,
    meaning: impl FnOnce(&State<'_>) -> Result<(), Unproved>,
) -> Result<(), Unproved> {
    let source = Sources::new().add("nftables text", "");
    let (text, diagnostics) = script(loading.text, source);
    refuse(&diagnostics)?;
    let before = frame::before(loading);
    let (there, diagnostics) = script(&before, source);
    refuse(&diagnostics)?;
    let mut state = State::with_installed(frame::installed(loading));
    if !before.is_empty() {
        let mut state = state.clone();
        refuse(&state.apply(&there))?;
        refuse(&state.apply(&text))?;
        check(&state, true).map_err(Unproved::Frame)?;
    }
    refuse(&state.apply(&text))?;
    check(&state, false).map_err(Unproved::Frame)?;
    meaning(&state)
}

/// The first problem is enough.
pub fn refuse(diagnostics: &[Diagnostic]) -> Result<(), Unproved> {
    diagnostics.first().map_or(Ok(()), |diagnostic| Err(Unproved::Text(diagnostic.message.clone())))
}

/// The fixed parts, and the objects that the ruleset needs.
fn check(ruleset: &Ruleset, state: &State<'_>, loading: &Loading<'_>, is_older: bool) -> Result<(), String> {
    let generation = loading.generation;
    let [blocks, filtering] = frame::declared(state)?;
    frame::equal(&frame::blocks(&ruleset.protected, loading.confirm), &blocks)?;
    let mut needed = frame::filtering(loading, ruleset.audit);
    let entries = || Path::ALL.into_iter().flat_map(|path| ruleset.entries(path));
    let names: BTreeSet<&String> = entries().flat_map(|entry| &entry.names).collect();
    names.iter().for_each(|name| frame::name_sets(&mut needed, generation, name));
    let timeouts: BTreeSet<u32> = entries().filter_map(|entry| match entry.effect {
        Effect::Accept { session_timeout } if !entry.audit => session_timeout,
        _ => None,
    }).collect();
    timeouts.iter().for_each(|seconds| frame::timeouts(&mut needed, *seconds));
    let (name, others) = (format!("{generation}_"), frame::others(loading));
    // Chains and rules of the generation are compared as meaning. What names stand for is known at run time.
    let is_fixed = |(kind, of): &(&'static str, String)| {
        let is_own = matches!(*kind, "chain" | "rule" | "counter") && of.starts_with(&name);
        let is_answer = *kind == "element" && of.starts_with(&format!("{generation}_names"));
        !is_own && !is_answer && !others.contains(of)
    };
    frame::equal(&needed, filtering.iter().filter(|(key, _)| is_fixed(key)))?;
    // A chain of the generation's that is at a hook would be none of the three.
    if let Some(((_, chain), texts)) = filtering.iter().find(|((kind, of), texts)| *kind == "chain" && of.starts_with(&name) && !texts[0].is_empty()) {
        return Err(format!("chain `{chain}` is `{}`", texts[0]));
    }
    frame::rest(&filtering, loading, is_older)
}

/// How a packet ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum End {
    /// By a rule of the generation.
    Own(Verdict, Mark),
    /// By the generation before.
    Before,
    /// By the base chain's policy.
    Policy(Verdict),
    /// By a chain or program that is not known.
    Elsewhere,
}

/// What becomes of the connection's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mark {
    Kept,
    Own,
    /// Another is set, or it is set twice.
    Other,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |verdict: &Verdict| format!("{verdict:?}").to_lowercase();
        match self {
            Self::Own(verdict, Mark::Kept) => write!(f, "{}", word(verdict)),
            Self::Own(verdict, Mark::Own) => write!(f, "{}, with the generation's mark", word(verdict)),
            Self::Own(verdict, Mark::Other) => write!(f, "{}, with a mark that is not the generation's", word(verdict)),
            Self::Before => write!(f, "the generation before decides"),
            Self::Policy(verdict) => write!(f, "{} by the base chain", word(verdict)),
            Self::Elsewhere => write!(f, "not known"),
        }
    }
}

struct Proof<'a> {
    ruleset: &'a Ruleset,
    loading: &'a Loading<'a>,
    does: &'a Filter,
    /// By the numbers of `does.effects`.
    marks: Vec<Mark>,
}

impl<'a> Proof<'a> {
    fn new(ruleset: &'a Ruleset, loading: &'a Loading<'a>, does: &'a Filter) -> Result<Self, Unproved> {
        let current = loading.installed.current;
        let is_dispatch = |text: &str| {
            Path::ALL.into_iter().any(|path| current.is_some_and(|current| frame::is_dispatch(current, path, text)))
        };
        if let Some(unknown) = does.unknown.iter().find(|unknown| !is_dispatch(&unknown.text)) {
            return Err(Unproved::Statement { line: unknown.line, text: unknown.text.clone() });
        }
        let own = format!("ct mark set ct mark and {:#010x} or {:#010x}", !MARK_MASK, loading.generation.mark());
        let mark = |texts: &Vec<String>| {
            let mut sets = texts.iter().filter(|text| text.contains("mark set "));
            match (sets.next(), sets.next()) {
                (None, _) => Mark::Kept,
                (Some(only), None) if *only == own => Mark::Own,
                _ => Mark::Other,
            }
        };
        let marks = does.effects.iter().map(mark).collect();
        Ok(Self { ruleset, loading, does, marks })
    }

    fn compare(&self) -> Result<(), Unproved> {
        Path::ALL.into_iter().try_for_each(|path| self.compare_on(path))
    }

    fn compare_on(&self, path: Path) -> Result<(), Unproved> {
        let Loading { generation, installed, .. } = *self.loading;
        let mut chains = self.does.chains.iter().filter(|chain| chain.hook == frame::hook(path) && chain.table == format!("inet {TABLE}"));
        let (Some(chain), None) = (chains.next(), chains.next()) else {
            return Err(Unproved::Frame(format!("there is not one base chain for {}", path.short())));
        };
        let must = self.switched(table(self.ruleset, path, Target::Nftables { generation, fallen: &installed.fallen }));
        let is_for_containers = path == Path::Forward && matches!(self.ruleset.forward, Forward::Containers { .. });
        for slice in frame::slices(self.loading, is_for_containers) {
            let must = frame::sliced(&must, &slice).into_normal(|end| *end);
            let does = frame::sliced(&chain.decisions, &slice).into_normal(|decision| self.end(path, decision));
            let same = |must: Option<&End>, decision: Option<&Decision>| must.copied() == decision.map(|decision| self.end(path, decision));
            let found = must.difference(&does, same, &mut Budget::new(STEPS));
            let found = found.map_err(|exhausted| Unproved::Unknown { path, exhausted })?;
            if let Some(change) = found.v4.first() {
                return Err(self.counterexample(path, change, &slice, &must.v4, &does.v4));
            }
            if let Some(change) = found.v6.first() {
                return Err(self.counterexample(path, change, &slice, &must.v6, &does.v6));
            }
        }
        Ok(())
    }

    fn end(&self, path: Path, decision: &Decision) -> End {
        match decision.verdict {
            FilterVerdict::Decided(verdict) if decision.rule.is_none() => End::Policy(verdict),
            FilterVerdict::Decided(verdict) => End::Own(verdict, self.marks[decision.effects]),
            FilterVerdict::Elsewhere(unknown) => {
                let text = &self.does.unknown[unknown].text;
                let is_before = |current: Generation| frame::is_dispatch(current, path, text);
                if self.loading.installed.current.is_some_and(is_before) { End::Before } else { End::Elsewhere }
            }
        }
    }

    /// With the dead-man switch: armed, this generation decides, else what was there before.
    fn switched(&self, table: Table<Outcome>) -> Table<End> {
        let mut all = Table::default();
        if let Confirm::Within(_) = self.loading.confirm {
            // Where there was nothing before, nothing is enforced.
            let end = self.loading.installed.current.map_or(End::Policy(Verdict::Accept), |_| End::Before);
            let armed = frame::armed(self.loading.generation);
            all.v4.extend(Matches::any().and(armed.clone(), &truth(false)).map(|matches| Row { matches, decision: end }));
            all.v6.extend(Matches::any().and(armed, &truth(false)).map(|matches| Row { matches, decision: end }));
        }
        all.v4.extend(table.v4.into_iter().map(|row| Row { matches: row.matches, decision: self.must(row.decision) }));
        all.v6.extend(table.v6.into_iter().map(|row| Row { matches: row.matches, decision: self.must(row.decision) }));
        all
    }

    /// On a node that only watches, everything is accepted.
    fn must(&self, outcome: Outcome) -> End {
        let verdict = if self.ruleset.audit { Verdict::Accept } else { outcome.verdict() };
        let is_new = verdict == Verdict::Accept && matches!(outcome, Outcome::Entry(_) | Outcome::Default(_));
        End::Own(verdict, if is_new { Mark::Own } else { Mark::Kept })
    }

    fn counterexample<A: Address>(&self, path: Path, change: &Change<A>, slice: &Slice, must: &[Row<A, End>], does: &[Row<A, Decision>]) -> Unproved {
        let must = change.before.map_or("nothing".to_owned(), |row| must[row].decision.to_string());
        let decision = change.after.map(|row| &does[row].decision);
        let line = decision.and_then(|decision| decision.rule).map(|rule| self.does.rules[rule].line);
        let does = decision.map_or("nothing".to_owned(), |decision| self.end(path, decision).to_string());
        let whole = slice.iter().fold(change.matches.clone(), |packets, (variable, values)| packets.and(variable.clone(), values).unwrap_or(packets));
        Unproved::Packet(Box::new(Counterexample { path, packet: whole.witness(), must, does, line }))
    }
}
