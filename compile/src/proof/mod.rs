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

use std::collections::HashMap;
use std::fmt;

use ringwall_diagnostic::Sources;
use ringwall_packet::{Address, Budget, Change, Cube, Matches, Protocol, Row, Table, UpperCube, truth};
use ringwall_policy::Policy;
use ringwall_ruleset::filter::{Decision, Filter, FilterVerdict};
use ringwall_ruleset::nftables::frame::{Slice, armed, hook, is_dispatch, sliced, slices};
use ringwall_ruleset::nftables::read::{Sets, State, filter, script};
use ringwall_ruleset::nftables::{self, Confirm, Counterexample, Generation, Loading, TABLE, loaded, refuse};
use ringwall_ruleset::{Path, Verdict};

use effects::{Expected, is_plain_jump, without_jump};
use meaning::{Meaning, Outcome};

/// Boxes that the comparison of one node may look at.
const STEPS: u64 = 200_000_000;

/// The text to be loaded does not do what the policy says, or it is not known: a fault of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unproved {
    /// The policy has no such node.
    NoNode(String),
    Text(nftables::Unproved),
}

impl From<nftables::Unproved> for Unproved {
    fn from(why: nftables::Unproved) -> Self {
        Self::Text(why)
    }
}

impl fmt::Display for Unproved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNode(name) => write!(f, "the policy has no node `{name}`"),
            Self::Text(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for Unproved {}

/// Proves that the text does what the policy says on the node.
pub fn prove(policy: &Policy, node: &str, loading: &Loading<'_>) -> Result<(), Unproved> {
    let node = policy.nodes.get(node).ok_or_else(|| Unproved::NoNode(node.to_owned()))?;
    let meaning = Meaning::new(policy, node, loading.generation, loading.installed.fallen.iter().copied().collect());
    let fixed = |state: &State<'_>, is_older: bool| frame::check(&meaning, state, loading, is_older);
    Ok(loaded(loading, fixed, |state| {
        let proof = Proof { loading, meaning: &meaning };
        proof.compare(state, false)?;
        proof.audited(state)
    })?)
}

struct Proof<'a> {
    loading: &'a Loading<'a>,
    meaning: &'a Meaning<'a>,
}

/// Who decides while the generation is enforced, and after it has fallen.
#[derive(Clone, Copy, Debug)]
enum Decider<'a> {
    Ours(Outcome<'a>),
    /// The generation before.
    Before(Generation),
    /// Nobody: there was none before.
    Nobody,
}

/// What must become of a packet.
#[derive(Clone, Copy, Debug)]
struct Must<'a> {
    decider: Decider<'a>,
    /// How a reject is told depends on it.
    is_tcp: bool,
    verdict: Verdict,
    /// The number of the statements that it meets.
    effects: usize,
}

impl Must<'_> {
    /// Equal for what must become of packets alike, whichever rule says so.
    fn key(&self) -> (Option<Option<Generation>>, Verdict, usize) {
        let before = match self.decider {
            Decider::Ours(_) => None,
            Decider::Before(generation) => Some(Some(generation)),
            Decider::Nobody => Some(None),
        };
        (before, self.verdict, self.effects)
    }
}

/// Equal lists of statements have equal numbers.
#[derive(Default)]
struct Numbers {
    /// By the lists' texts, each ended by a line's end, which no statement has.
    known: HashMap<String, usize>,
    list: String,
}

impl Numbers {
    fn of<T: AsRef<str>>(&mut self, texts: impl Iterator<Item = T>) -> usize {
        self.list.clear();
        for text in texts {
            self.list.push_str(text.as_ref());
            self.list.push('\n');
        }
        if let Some(number) = self.known.get(&self.list) {
            return *number;
        }
        let next = self.known.len();
        self.known.insert(self.list.clone(), next);
        next
    }
}

impl<'a> Proof<'a> {
    /// Rules that only watch: the same once more, each of them deciding.
    fn audited(&self, state: &State<'_>) -> Result<(), nftables::Unproved> {
        let chains = frame::audited_chains(self.meaning, state).map_err(nftables::Unproved::Frame)?;
        if chains.is_empty() {
            return Ok(());
        }
        let text: String = chains.iter().map(|chain| {
            format!("flush chain inet {TABLE} {chain}\nadd rule inet {TABLE} {chain} counter name \"{chain}\" drop\n")
        }).collect();
        let (deciding, diagnostics) = script(&text, Sources::new().add("nftables text", ""));
        refuse(&diagnostics)?;
        let mut state = state.clone();
        refuse(&state.apply(&deciding))?;
        self.compare(&state, true)
    }

    /// `is_watched`: rules that only watch decide, too.
    fn compare(&self, state: &State<'_>, is_watched: bool) -> Result<(), nftables::Unproved> {
        let does = filter(state, Sets::Free).map_err(|diagnostic| nftables::Unproved::Text(diagnostic.message))?;
        let is_any_dispatch = |text: &str| {
            let current = self.loading.installed.current;
            Path::ALL.into_iter().any(|path| current.is_some_and(|current| is_dispatch(current, path, text)))
        };
        if let Some(unknown) = does.unknown.iter().find(|unknown| !is_any_dispatch(&unknown.text)) {
            return Err(nftables::Unproved::Statement { line: unknown.line, text: unknown.text.clone() });
        }
        let mut effects = Numbers::default();
        let numbers: Vec<usize> = does.effects.iter().map(|texts| effects.of(texts.iter().filter(|text| !is_plain_jump(text)).map(|text| without_jump(text)))).collect();
        for path in Path::ALL {
            let chain = does.chains.iter().find(|chain| chain.hook == hook(path) && chain.table == format!("inet {TABLE}"));
            let chain = chain.ok_or_else(|| nftables::Unproved::Frame(format!("no base chain for {}", path.short())))?;
            let expected = Expected::new(self.meaning, path);
            let must = self.switched(self.meaning.table(path), is_watched, &expected, &mut effects);
            let same = |must: Option<&Must<'_>>, decision: Option<&Decision>| match (must, decision) {
                (Some(must), Some(decision)) => match (must.decider, decision.verdict) {
                    (Decider::Before(generation), FilterVerdict::Elsewhere(unknown)) => {
                        is_dispatch(generation, path, &does.unknown[unknown].text)
                    }
                    (Decider::Nobody, FilterVerdict::Decided(Verdict::Accept)) => decision.rule.is_none(),
                    (Decider::Ours(_), FilterVerdict::Decided(verdict)) => {
                        (must.verdict, must.effects) == (verdict, numbers[decision.effects])
                    }
                    _ => false,
                },
                // Both decide every packet: there is none that neither does.
                (None, None) => true,
                _ => false,
            };
            for slice in slices(self.loading, self.meaning.is_for_containers(path)) {
                let must = sliced(&must, &slice).into_normal(Must::key);
                let does_here = sliced(&chain.decisions, &slice)
                    .into_normal(|decision| (decision.verdict, numbers[decision.effects], decision.rule.is_some()));
                let found = must
                    .difference(&does_here, same, &mut Budget::new(STEPS))
                    .map_err(|exhausted| nftables::Unproved::Unknown { path, exhausted })?;
                if let Some(change) = found.v4.first() {
                    return Err(self.counterexample(change, &slice, &must.v4, &does_here.v4, &does, &expected));
                }
                if let Some(change) = found.v6.first() {
                    return Err(self.counterexample(change, &slice, &must.v6, &does_here.v6, &does, &expected));
                }
            }
        }
        Ok(())
    }

    /// With the dead-man switch: armed, this generation decides, else what was there before.
    fn switched<'m>(&self, table: &Table<Outcome<'m>>, is_watched: bool, expected: &Expected, effects: &mut Numbers) -> Table<Must<'m>> {
        let mut all = Table::default();
        if let Confirm::Within(_) = self.loading.confirm {
            let armed = armed(self.loading.generation);
            let decider = self.loading.installed.current.map_or(Decider::Nobody, Decider::Before);
            let before = Must { decider, is_tcp: false, verdict: Verdict::Accept, effects: 0 };
            all.v4.extend(Matches::any().and(armed.clone(), &truth(false)).map(|matches| Row { matches, decision: before }));
            all.v6.extend(Matches::any().and(armed, &truth(false)).map(|matches| Row { matches, decision: before }));
        }
        let mut known = HashMap::new();
        let mut must = |outcome: Outcome<'m>, is_tcp: bool| {
            let (verdict, effects) = *known.entry((outcome.key(), is_tcp)).or_insert_with(|| {
                (expected.verdict(&outcome), effects.of(expected.effects(&outcome, is_tcp).into_iter()))
            });
            Must { decider: Decider::Ours(outcome), is_tcp, verdict, effects }
        };
        extend(&mut all.v4, &table.v4, is_watched, &mut must);
        extend(&mut all.v6, &table.v6, is_watched, &mut must);
        all
    }

    fn counterexample<A: Address>(
        &self,
        change: &Change<A>,
        slice: &Slice,
        must: &[Row<A, Must<'_>>],
        does: &[Row<A, Decision>],
        all: &Filter,
        expected: &Expected,
    ) -> nftables::Unproved {
        let must = change.before.map(|row| &must[row].decision);
        let must = match must.map(|must| (must.decider, must.is_tcp)) {
            Some((Decider::Ours(outcome), is_tcp)) => expected.describe(&outcome, is_tcp),
            Some((Decider::Before(generation), _)) => format!("that {generation} decides"),
            Some((Decider::Nobody, _)) => "that nothing is enforced".into(),
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
        let whole = change.matches.clone();
        let whole = slice.iter().fold(whole, |packets, (variable, values)| packets.and(variable.clone(), values).unwrap_or(packets));
        let packet = whole.witness();
        nftables::Unproved::Packet(Box::new(Counterexample { path: expected.path, packet, must, does, line }))
    }
}

/// The policy's rows; one that rejects is two, TCP first.
fn extend<'m, A: Address>(
    all: &mut Vec<Row<A, Must<'m>>>,
    rows: &[Row<A, Outcome<'m>>],
    is_watched: bool,
    must: &mut impl FnMut(Outcome<'m>, bool) -> Must<'m>,
) {
    let tcp = Matches::from(Cube { upper: UpperCube::protocol(Protocol::TCP), ..Cube::any() });
    for row in rows.iter().filter(|row| is_watched || !row.decision.is_watched()) {
        let matches = row.matches.clone();
        let decision = must(row.decision, false);
        if decision.verdict == Verdict::Reject
            && let Some(matches) = matches.intersection(&tcp)
        {
            all.push(Row { matches, decision: must(row.decision, true) });
        }
        all.push(Row { matches, decision });
    }
}
