//! Proof that a text to be loaded does what the policy says.
//!
//! In: the policy as resolved, a node, the text with what it is loaded onto. Out: nothing, or the first
//! thing that is not as it must be, with a packet that shows it. Never: the ruleset that the text was written from, or
//! anything of the writer: the text is read as anybody's would be, and the policy is looked at anew.
//!
//! Proved is, for each path through the node, every packet of both families, every conntrack state, every
//! content of the sets that change at run time, every time, and the dead-man switch armed and expired:
//! the verdict, the rule that is counted for it, the mark, the session timeout and what is logged. The
//! frame (tables, hooks, sets, block lists, the switch) must be exactly what it always is.

mod effects;
mod frame;
mod meaning;

use std::fmt;

use ringwall_diagnostic::Sources;
use ringwall_packet::{
    Address, Budget, Change, Cube, Exhausted, Matches, Protocol, Row, Table, UpperCube, Variable, Witness, truth,
};
use ringwall_policy::Policy;
use ringwall_ruleset::filter::{Decision, Filter, FilterVerdict, Hook};
use ringwall_ruleset::nftables::read::{self, Sets, State, filter, script};
use ringwall_ruleset::nftables::{Confirm, Generation, Loading, TABLE};
use ringwall_ruleset::{Path, Verdict};

use effects::Expected;
use meaning::{Meaning, Outcome};

/// Boxes that the comparison of one node may look at.
const STEPS: u64 = 200_000_000;

/// The text to be loaded does not do what the policy says, or it is not known: a fault of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unproved {
    /// The policy has no such node.
    NoNode(String),
    /// The text can't be read, or the kernel would refuse it.
    Text(String),
    /// Something of the fixed parts is missing, too much, or different.
    Frame { what: String },
    /// A match or statement that the proof does not know.
    Statement { line: usize, text: String },
    Packet(Box<Counterexample>),
    Unknown { path: Path, exhausted: Exhausted },
}

/// A packet that the text does not treat as the policy says.
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
            Self::NoNode(name) => write!(f, "the policy has no node `{name}`"),
            Self::Text(why) => write!(f, "the text that was written can't be loaded: {why}"),
            Self::Frame { what } => write!(f, "the text that was written is not complete: {what}"),
            Self::Statement { line, text } => write!(f, "line {line} of the text that was written has a statement that is not proved: `{text}`"),
            Self::Packet(found) => {
                let Counterexample { path, packet, must, does, line } = &**found;
                write!(f, "{} of `{packet}`: the policy says {must}, the text that was written {does}", path.short())?;
                line.map_or(Ok(()), |line| write!(f, " (line {line})"))
            }
            Self::Unknown { path, exhausted } => write!(f, "the proof of path {} did not end: {exhausted}", path.short()),
        }
    }
}

impl std::error::Error for Unproved {}

/// Proves that the text does what the policy says on the node.
pub fn prove(policy: &Policy, node: &str, loading: &Loading<'_>) -> Result<(), Unproved> {
    let node = policy.nodes.get(node).ok_or_else(|| Unproved::NoNode(node.to_owned()))?;
    let mut sources = Sources::new();
    let source = sources.add("nftables text", "");
    let (script, diagnostics) = script(loading.text, source);
    refuse(&diagnostics)?;
    let meaning = Meaning::new(policy, node, loading.generation, loading.installed.fallen.iter().copied().collect());
    let before = frame::before(loading);
    let (there, diagnostics) = read::script(&before, source);
    refuse(&diagnostics)?;
    let mut state = State::with_installed(frame::installed(loading));
    if !before.is_empty() {
        // Onto tables that an older text left, too.
        let mut state = state.clone();
        refuse(&state.apply(&there))?;
        refuse(&state.apply(&script))?;
        frame::check(&meaning, &state, loading)?;
    }
    refuse(&state.apply(&script))?;
    frame::check(&meaning, &state, loading)?;
    let proof = Proof { loading, meaning: &meaning };
    proof.enforced(&state)?;
    proof.audited(&state, source)
}

fn refuse(diagnostics: &[ringwall_diagnostic::Diagnostic]) -> Result<(), Unproved> {
    match diagnostics.first() {
        None => Ok(()),
        Some(diagnostic) => Err(Unproved::Text(diagnostic.message.clone())),
    }
}

struct Proof<'a> {
    loading: &'a Loading<'a>,
    meaning: &'a Meaning<'a>,
}

/// Who decides while the generation is enforced, and after it has fallen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decider<'a> {
    /// How a reject is told depends on whether the packet is TCP.
    Ours { outcome: Outcome<'a>, is_tcp: bool },
    /// The generation before.
    Before(Generation),
    /// Nobody: there was none before.
    Nobody,
}

impl<'a> Proof<'a> {
    /// The enforced part: everything but rules that only watch.
    fn enforced(&self, state: &State<'_>) -> Result<(), Unproved> {
        self.compare(state, |path| self.meaning.table(path))
    }

    /// Rules that only watch: the same once more, each of them deciding.
    fn audited(&self, state: &State<'_>, source: ringwall_diagnostic::SourceId) -> Result<(), Unproved> {
        let chains = frame::audited_chains(self.meaning, state)?;
        if chains.is_empty() {
            return Ok(());
        }
        let text: String = chains.iter().map(|chain| {
            format!("flush chain inet {TABLE} {chain}\nadd rule inet {TABLE} {chain} counter name \"{chain}\" drop\n")
        }).collect();
        let (deciding, diagnostics) = script(&text, source);
        refuse(&diagnostics)?;
        let mut state = state.clone();
        refuse(&state.apply(&deciding))?;
        self.compare(&state, |path| self.meaning.watched(path))
    }

    fn compare<'m>(&self, state: &State<'_>, table: impl Fn(Path) -> Table<Outcome<'m>>) -> Result<(), Unproved> {
        let does = filter(state, Sets::Free).map_err(|diagnostic| Unproved::Text(diagnostic.message))?;
        let is_dispatch = |text: &str| {
            let current = self.loading.installed.current;
            Path::ALL.into_iter().any(|path| current.is_some_and(|current| is_dispatch(current, path, text)))
        };
        if let Some(unknown) = does.unknown.iter().find(|unknown| !is_dispatch(&unknown.text)) {
            return Err(Unproved::Statement { line: unknown.line, text: unknown.text.clone() });
        }
        for path in Path::ALL {
            let chain = does.chains.iter().find(|chain| chain.hook == hook(path) && chain.table == format!("inet {TABLE}"));
            let chain = chain.ok_or_else(|| Unproved::Frame { what: format!("no base chain for {}", path.short()) })?;
            let expected = Expected::new(self.meaning, path);
            let must = self.switched(table(path), &expected);
            let same = |must: Option<&Decider<'_>>, does_: Option<&Decision>| match (must, does_) {
                (Some(must), Some(decision)) => self.agrees(&expected, must, decision, &does),
                _ => false,
            };
            let found = must
                .difference(&chain.decisions, same, &mut Budget::new(STEPS))
                .map_err(|exhausted| Unproved::Unknown { path, exhausted })?;
            if let Some(change) = found.v4.first() {
                return Err(self.counterexample(path, change, &must.v4, &chain.decisions.v4, &does, &expected));
            }
            if let Some(change) = found.v6.first() {
                return Err(self.counterexample(path, change, &must.v6, &chain.decisions.v6, &does, &expected));
            }
        }
        Ok(())
    }

    /// With the dead-man switch: armed, this generation decides, else what was there before.
    fn switched<'m>(&self, table: Table<Outcome<'m>>, expected: &Expected) -> Table<Decider<'m>> {
        let mut all = Table::default();
        if let Confirm::Within(_) = self.loading.confirm {
            let armed = Variable::Holds(format!("meta nfproto @{}_armed", self.loading.generation).into());
            let before = self.loading.installed.current.map_or(Decider::Nobody, Decider::Before);
            all.v4.extend(Matches::any().and(armed.clone(), &truth(false)).map(|matches| Row { matches, decision: before }));
            all.v6.extend(Matches::any().and(armed, &truth(false)).map(|matches| Row { matches, decision: before }));
        }
        all.v4.extend(table.v4.into_iter().flat_map(|row| ours(row, expected)));
        all.v6.extend(table.v6.into_iter().flat_map(|row| ours(row, expected)));
        all
    }

    fn agrees(&self, expected: &Expected, must: &Decider<'_>, does: &Decision, all: &Filter) -> bool {
        match (must, does.verdict) {
            (Decider::Before(generation), FilterVerdict::Elsewhere(unknown)) => {
                is_dispatch(*generation, expected.path, &all.unknown[unknown].text)
            }
            (Decider::Nobody, FilterVerdict::Decided(Verdict::Accept)) => does.rule.is_none(),
            (Decider::Ours { outcome, is_tcp }, FilterVerdict::Decided(verdict)) => {
                expected.verdict(outcome) == verdict && expected.has_effects(outcome, *is_tcp, &all.effects[does.effects])
            }
            _ => false,
        }
    }

    fn counterexample<A: Address>(
        &self,
        path: Path,
        change: &Change<A>,
        must: &[Row<A, Decider<'_>>],
        does: &[Row<A, Decision>],
        all: &Filter,
        expected: &Expected,
    ) -> Unproved {
        let must = match change.before.map(|row| &must[row].decision) {
            Some(Decider::Ours { outcome, is_tcp }) => expected.describe(outcome, *is_tcp),
            Some(Decider::Before(generation)) => format!("that {generation} decides"),
            Some(Decider::Nobody) => "that nothing is enforced".into(),
            None => "nothing".into(),
        };
        let decision = change.after.map(|row| &does[row].decision);
        let rule = decision.and_then(|decision| decision.rule).map(|rule| &all.rules[rule]);
        let does = match decision {
            None => "nothing".to_owned(),
            Some(decision) => {
                let verdict = match decision.verdict {
                    FilterVerdict::Decided(verdict) => format!("{verdict:?}").to_lowercase(),
                    FilterVerdict::Elsewhere(unknown) => format!("`{}`", all.unknown[unknown].text),
                };
                format!("{verdict} after {:?}", all.effects[decision.effects])
            }
        };
        let line = rule.map(|rule| rule.line);
        Unproved::Packet(Box::new(Counterexample { path, packet: change.matches.witness(), must, does, line }))
    }
}

/// A row of the policy's; one that rejects is two, TCP first.
fn ours<'m, A: Address>(row: Row<A, Outcome<'m>>, expected: &Expected) -> impl Iterator<Item = Row<A, Decider<'m>>> {
    let outcome = row.decision;
    let is_reject = expected.verdict(&outcome) == Verdict::Reject;
    let tcp = Matches::from(Cube { upper: UpperCube::protocol(Protocol::TCP), ..Cube::any() });
    let reset = is_reject.then(|| row.matches.intersection(&tcp)).flatten();
    let reset = reset.map(|matches| Row { matches, decision: Decider::Ours { outcome, is_tcp: true } });
    reset.into_iter().chain([Row { matches: row.matches, decision: Decider::Ours { outcome, is_tcp: false } }])
}

/// Whether the text sends packets of a path to what an older generation says of it.
fn is_dispatch(generation: Generation, path: Path, text: &str) -> bool {
    let target = format!("{generation}_{}", path.short());
    text == target || text == format!("goto {target}")
}

fn hook(path: Path) -> Hook {
    match path {
        Path::Input => Hook::Input,
        Path::Output => Hook::Output,
        Path::Forward => Hook::Forward,
    }
}
