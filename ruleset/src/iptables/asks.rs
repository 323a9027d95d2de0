//! What one rule asks of a packet.
//!
//! In: sets for header fields and variables, one option at a time. Out: alternatives, each a box with
//! conditions, and what is not understood. Never: an alternative too many, or one left out.

use ringwall_packet::{Address, Cube, IntervalSet, Matches, State, UpperCube, Variable, truth};

/// More alternatives than this in one rule are not followed.
pub(super) const ALTERNATIVES_MAX: usize = 4_096;

/// A match that is a variable of its own.
#[derive(Clone, Debug)]
pub(super) struct Free {
    /// As it stands in the text, without a `!` before the whole.
    pub text: String,
    pub holds: bool,
    /// Asked twice of the same packet, it may answer differently (a limit, a random number).
    pub changes: bool,
    pub why: &'static str,
}

/// All of it at once.
#[derive(Clone, Debug)]
pub(super) struct Asks<A> {
    /// Any of these; none when nothing can match.
    pub alternatives: Vec<Matches<A>>,
    /// Names of interfaces. Which of the two a packet has depends on the hook.
    pub input: IntervalSet<u128>,
    pub output: IntervalSet<u128>,
    pub free: Vec<Free>,
}

/// More alternatives than [`ALTERNATIVES_MAX`].
#[derive(Debug)]
pub(super) struct TooMany;

impl<A: Address> Asks<A> {
    pub fn any() -> Self {
        Self { alternatives: vec![Matches::any()], input: IntervalSet::full(), output: IntervalSet::full(), free: Vec::new() }
    }

    /// Whether every packet matches.
    pub fn is_any(&self) -> bool {
        self.free.is_empty() && self.input.is_full() && self.output.is_full() && self.alternatives == [Matches::any()]
    }

    /// Any of `others`, too.
    pub fn and(&mut self, others: &[Matches<A>]) -> Result<(), TooMany> {
        if self.alternatives.len().saturating_mul(others.len()) > ALTERNATIVES_MAX {
            return Err(TooMany);
        }
        let pairs = self.alternatives.iter().flat_map(|one| others.iter().map(move |other| (one, other)));
        self.alternatives = pairs.filter_map(|(one, other)| one.intersection(other)).collect();
        Ok(())
    }

    pub fn source(&mut self, source: IntervalSet<A>) {
        self.cube(Cube { source, ..Cube::any() });
    }

    pub fn destination(&mut self, destination: IntervalSet<A>) {
        self.cube(Cube { destination, ..Cube::any() });
    }

    fn cube(&mut self, cube: Cube<A>) {
        let is_nothing = cube.source.is_empty() || cube.destination.is_empty();
        self.keep((!is_nothing).then(|| Matches::from(cube)));
    }

    pub fn upper(&mut self, upper: UpperCube) {
        let is_nothing = upper.protocols().is_empty() || upper.destination_ports().is_empty() || upper.source_ports().is_empty();
        self.keep((!is_nothing).then(|| Matches::from(Cube { upper, ..Cube::any() })));
    }

    pub fn variable(&mut self, variable: Variable, values: &IntervalSet<u128>) {
        self.keep(Matches::any().and(variable, values));
    }

    pub fn nothing(&mut self) {
        self.alternatives.clear();
    }

    fn keep(&mut self, other: Option<Matches<A>>) {
        let Some(other) = other else { return self.nothing() };
        self.alternatives = self.alternatives.iter().filter_map(|one| one.intersection(&other)).collect();
    }
}

/// A match with one condition; `None` when it can't hold.
pub(super) fn when<A: Address>(variable: Variable, values: &IntervalSet<u128>) -> Option<Matches<A>> {
    Matches::any().and(variable, values)
}

pub(super) fn holds<A: Address>(text: &str, holds: bool) -> Matches<A> {
    when(Variable::Holds(text.into()), &truth(holds)).expect("neither is empty")
}

pub(super) fn states(states: impl IntoIterator<Item = State>) -> IntervalSet<u128> {
    states.into_iter().map(State::values).collect()
}
