//! What a row of a rule list asks of a packet: a box of headers, and conditions beyond the header.
//!
//! In: sets per header field, and per variable. Out: their intersection, difference and a witness.
//! Never: an opinion on what a variable means; a match that a reader does not understand is a
//! variable like any other, and whatever it may be is worked with.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::address::Family;
use crate::flow::{Flow, State};
use crate::flow_set::{Cube, Space};
use crate::interval::{Interval, IntervalSet, Point};

/// What a packet has beyond its header. Its values are numbers; each says which.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variable {
    /// conntrack's state: [`State`]'s place in its list; the last stands for all numbers from there.
    State,
    /// The name of the interface that it came in by: [`interface`].
    InputInterface,
    /// The name of the interface that it leaves by: [`interface`].
    OutputInterface,
    /// Seconds since the epoch.
    Clock,
    /// The destination that it had before translation, as conntrack remembers it: an address's bits.
    OriginalDestination,
    /// The same for the destination port.
    OriginalPort,
    /// A field by its expression in nftables' words, such as `ip6 hoplimit`; whatever it holds.
    Field(Arc<str>),
    /// Something that holds (from 1 on) or does not (0), by what stands in the text, such as
    /// `ip saddr @block4`.
    Holds(Arc<str>),
}

/// An interface's name as a value: its bytes from the first down, then zeros. At most 15 bytes are
/// a name (IFNAMSIZ of linux/if.h, 16 with the end); `None` for more. 0 is no interface.
pub fn interface(name: &str) -> Option<u128> {
    let mut bytes = [0; 16];
    (name.len() < bytes.len()).then(|| {
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        u128::from_be_bytes(bytes)
    })
}

/// All interfaces whose names begin so, the whole name included: what nftables writes `veth*`.
pub fn interfaces_from(prefix: &str) -> Option<IntervalSet<u128>> {
    let first = interface(prefix)?;
    let last = first | u128::MAX.checked_shr(8 * u32::try_from(prefix.len()).ok()?).unwrap_or(0);
    Some(Interval::new(first, last)?.into())
}

impl State {
    pub const ALL: [Self; 5] = [Self::New, Self::Established, Self::Related, Self::Invalid, Self::Untracked];

    /// As a value of [`Variable::State`]. The five together are the full set.
    pub fn values(self) -> Interval<u128> {
        match self {
            Self::New => Interval::single(0),
            Self::Established => Interval::single(1),
            Self::Related => Interval::single(2),
            Self::Invalid => Interval::single(3),
            Self::Untracked => Interval::new(4, u128::MAX).expect("an ordered pair"),
        }
    }

    pub fn of_value(value: u128) -> Self {
        Self::ALL.into_iter().find(|state| state.values().contains(value)).expect("the five are everything")
    }

    /// nftables' word.
    pub fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Established => "established",
            Self::Related => "related",
            Self::Invalid => "invalid",
            Self::Untracked => "untracked",
        }
    }
}

/// Values of [`Variable::Holds`].
pub fn truth(holds: bool) -> IntervalSet<u128> {
    let yes = IntervalSet::from(Interval::new(1, u128::MAX).expect("an ordered pair"));
    if holds { yes } else { yes.complement() }
}

/// All of these at once. A variable that is not there may have any value.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Conditions(
    // INVARIANT: sorted by variable, each once; no set is empty or full.
    Vec<(Variable, IntervalSet<u128>)>,
);

impl Conditions {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Variable, &IntervalSet<u128>)> {
        self.0.iter().map(|(variable, values)| (variable, values))
    }

    /// `None`: any value.
    pub fn values(&self, variable: &Variable) -> Option<&IntervalSet<u128>> {
        let found = self.0.binary_search_by(|(known, _)| known.cmp(variable)).ok()?;
        Some(&self.0[found].1)
    }

    /// `None` when nothing is left.
    pub fn and(&self, variable: Variable, values: &IntervalSet<u128>) -> Option<Self> {
        let mut all = self.clone();
        match all.0.binary_search_by(|(known, _)| known.cmp(&variable)) {
            Ok(at) => all.0[at].1 = all.0[at].1.intersection(values),
            Err(_) if values.is_full() => return Some(all),
            Err(at) => all.0.insert(at, (variable.clone(), values.clone())),
        }
        all.0.iter().all(|(_, values)| !values.is_empty()).then_some(all)
    }

    /// Without anything said of `variable`.
    #[must_use]
    pub fn without(&self, variable: &Variable) -> Self {
        Self(self.0.iter().filter(|(known, _)| known != variable).cloned().collect())
    }

    pub fn intersection(&self, other: &Self) -> Option<Self> {
        if other.is_empty() {
            return Some(self.clone());
        }
        other.0.iter().try_fold(self.clone(), |all, (variable, values)| all.and(variable.clone(), values))
    }

    pub fn is_subset(&self, other: &Self) -> bool {
        other.0.iter().all(|(variable, values)| self.values(variable).is_some_and(|own| own.is_subset(values)))
    }

    pub fn is_disjoint(&self, other: &Self) -> bool {
        other.0.iter().any(|(variable, values)| self.values(variable).is_some_and(|own| own.is_disjoint(values)))
    }
}

/// What one row asks of a packet of one family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Matches<A> {
    pub cube: Cube<A>,
    pub conditions: Conditions,
}

/// An address of one of the two families.
pub trait Address: Point {
    const FAMILY: Family;
    fn bits(self) -> u128;
    fn flow(header: crate::flow::Header<Self>) -> Flow;
}

impl Address for Ipv4Addr {
    const FAMILY: Family = Family::V4;
    fn bits(self) -> u128 {
        self.to_bits().into()
    }
    fn flow(header: crate::flow::Header<Self>) -> Flow {
        Flow::V4(header)
    }
}

impl Address for Ipv6Addr {
    const FAMILY: Family = Family::V6;
    fn bits(self) -> u128 {
        self.to_bits()
    }
    fn flow(header: crate::flow::Header<Self>) -> Flow {
        Flow::V6(header)
    }
}

impl<A: Address> Matches<A> {
    pub fn any() -> Self {
        Self::from(Cube::any())
    }

    /// `None` when nothing is left.
    pub fn and(&self, variable: Variable, values: &IntervalSet<u128>) -> Option<Self> {
        Some(Self { cube: self.cube.clone(), conditions: self.conditions.and(variable, values)? })
    }

    pub fn intersection(&self, other: &Self) -> Option<Self> {
        Some(Self {
            cube: self.cube.intersection(&other.cube)?,
            conditions: self.conditions.intersection(&other.conditions)?,
        })
    }

    pub fn is_subset(&self, other: &Self) -> bool {
        self.cube.is_subset(&other.cube) && self.conditions.is_subset(&other.conditions)
    }

    pub fn is_disjoint(&self, other: &Self) -> bool {
        self.cube.is_disjoint(&other.cube) || self.conditions.is_disjoint(&other.conditions)
    }

    /// `self` without `other`, in disjoint parts.
    pub fn difference(&self, other: &Self) -> Vec<Self> {
        let Some(both) = self.intersection(other) else { return vec![self.clone()] };
        let mut parts: Vec<Self> = self
            .cube
            .difference(&other.cube)
            .into_iter()
            .map(|cube| Self { cube, conditions: self.conditions.clone() })
            .collect();
        let mut rest = self.conditions.clone();
        for (variable, values) in other.conditions.iter() {
            if let Some(outside) = rest.and(variable.clone(), &values.complement()) {
                parts.push(Self { cube: both.cube.clone(), conditions: outside });
            }
            rest = rest.and(variable.clone(), values).expect("the two intersect");
        }
        parts
    }

    pub fn witness(&self) -> Witness {
        let header = Space::from(self.cube.clone()).witness(A::FAMILY).expect("no cube is empty");
        let conditions = self.conditions.iter();
        let first = |values: &IntervalSet<u128>| values.first().expect("no condition is empty");
        Witness {
            flow: A::flow(header),
            conditions: conditions.map(|(variable, values)| (variable.clone(), first(values))).collect(),
        }
    }
}

impl<A> From<Cube<A>> for Matches<A> {
    fn from(cube: Cube<A>) -> Self {
        Self { cube, conditions: Conditions::default() }
    }
}

/// One packet that shows something, with what it has beyond its header where that matters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Witness {
    pub flow: Flow,
    pub conditions: Vec<(Variable, u128)>,
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.flow)?;
        for (variable, value) in &self.conditions {
            match variable {
                Variable::State => write!(f, ", state {}", State::of_value(*value).word())?,
                Variable::InputInterface => write!(f, ", in by {}", name_of(*value))?,
                Variable::OutputInterface => write!(f, ", out by {}", name_of(*value))?,
                Variable::Clock => write!(f, ", at {value} s since the epoch")?,
                Variable::OriginalDestination if self.flow.family() == Family::V4 => {
                    let bits = u32::try_from(*value).unwrap_or(u32::MAX);
                    write!(f, ", first sent to {}", Ipv4Addr::from_bits(bits))?;
                }
                Variable::OriginalDestination => write!(f, ", first sent to {}", Ipv6Addr::from_bits(*value))?,
                Variable::OriginalPort => write!(f, ", first sent to port {value}")?,
                Variable::Field(expression) => write!(f, ", {expression} {value}")?,
                Variable::Holds(text) if *value == 0 => write!(f, ", not `{text}`")?,
                Variable::Holds(text) => write!(f, ", `{text}`")?,
            }
        }
        Ok(())
    }
}

/// The reverse of [`interface`]; what is no name is said so.
fn name_of(value: u128) -> String {
    let bytes = value.to_be_bytes();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    match std::str::from_utf8(&bytes[..end]) {
        Ok("") => "no interface".into(),
        Ok(name) if name.chars().all(|c| c.is_ascii_graphic()) => format!("`{name}`"),
        _ => "another interface".into(),
    }
}
