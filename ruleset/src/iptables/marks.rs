//! Marks of packets and of connections: 32 bits, asked for with masks.
//!
//! In: all masks of a text. Out: variables for groups of bits that no mask takes apart, so that two
//! questions about the same bits are about the same variable, whatever their masks.

use ringwall_packet::{Interval, IntervalSet, Variable};

use super::values::number;

#[derive(Debug)]
pub(super) struct Marks {
    /// `meta mark` or `ct mark`.
    field: &'static str,
    /// Disjoint, all bits together.
    groups: Vec<u32>,
    /// The text sets marks of this kind.
    pub change: bool,
}

/// All of these hold, each by one of its alternatives.
type Conditions = Vec<Vec<(Variable, IntervalSet<u128>)>>;

impl Marks {
    pub fn new(field: &'static str, masks: impl IntoIterator<Item = u32>, change: bool) -> Self {
        let mut groups = vec![u32::MAX];
        for mask in masks {
            groups = groups.into_iter().flat_map(|group| [group & mask, group & !mask]).filter(|group| *group != 0).collect();
        }
        Self { field, groups, change }
    }

    /// Masks of a rule's words, where they are marks.
    pub fn masks(body: &str) -> impl Iterator<Item = u32> {
        let values = body.split("--mark ").skip(1).filter_map(|rest| rest.split_ascii_whitespace().next());
        values.filter_map(|value| number(value.split_once('/')?.1))
    }

    /// `None` when it can't hold.
    pub fn ask(&self, value: u32, mask: u32, is_not: bool) -> Option<Conditions> {
        if value & !mask != 0 {
            // The kernel compares the masked mark with the whole value.
            return is_not.then(Vec::new);
        }
        let asked = self.groups.iter().filter(|group| *group & mask != 0);
        let single: Vec<_> = asked.map(|group| self.one(*group, value & group, is_not)).collect();
        match (is_not, single.is_empty()) {
            (true, true) => None,
            (true, false) => Some(vec![single]),
            (false, _) => Some(single.into_iter().map(|one| vec![one]).collect()),
        }
    }

    fn one(&self, group: u32, value: u32, is_not: bool) -> (Variable, IntervalSet<u128>) {
        let field = if group == u32::MAX { self.field.to_owned() } else { format!("{} & {group:#010x}", self.field) };
        let last = if value == group { u128::MAX } else { value.into() };
        let set = IntervalSet::from(Interval::new(value.into(), last).expect("an ordered pair"));
        (Variable::Field(field.into()), if is_not { set.complement() } else { set })
    }
}
