//! A list written in a way that does not depend on how its writer put the same things.
//!
//! In: rows in order of precedence. Out: rows that decide every packet alike. Never: more work than pairs of
//! rows; lists that decide alike may still be written differently, which only a complete comparison tells.
//!
//! Three things are taken out of a list's form. A row loses what wider ones before it have taken of one of its
//! fields. Rows that have nothing in common, or decide the same, may stand in any order: they are put on steps
//! (Foata's normal form of words whose letters partly commute; Cartier and Foata, 1969), and sorted on each. Rows of
//! a step that decide the same and differ in one field are one.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use super::Row;
use super::mixer::{Mixer, Quick};
use crate::flow_set::{Cube, UpperCube};
use crate::interval::{Interval, IntervalSet, Point};
use crate::matches::{Address, Matches, Variable};

/// So many intervals of a field that was taken whole, and so many rows that take so, are looked at.
const INTERVALS_MAX: usize = 64;
const WIDE_MAX: usize = 64;
/// Rows of longer lists stay as they are: each pair is looked at.
const ROWS_MAX: usize = 4_096;

/// `key`: equal for decisions that are the same.
pub(super) fn of<A: Address, D: Clone, K: Copy + Eq + Hash>(rows: Vec<Row<A, D>>, key: impl Fn(&D) -> K) -> Vec<Row<A, D>> {
    // One after the other, rows that decide the same are in no order.
    let mut run = 0;
    let mut last = None;
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        let key = key(&row.decision);
        run += u32::from(last.replace(key).is_some_and(|last| last != key));
        all.push(Placed { step: run, key, row });
    }
    let mut all = without_taken(merged(all));
    if all.len() > ROWS_MAX {
        return all.into_iter().map(|placed| placed.row).collect();
    }
    for (step, placed) in steps(&all).into_iter().zip(&mut all) {
        placed.step = step;
    }
    let mut all = merged(all);
    all.sort_by(|a, b| (a.step, &a.row.matches).cmp(&(b.step, &b.row.matches)));
    all.into_iter().map(|placed| placed.row).collect()
}

/// A row, on its step.
struct Placed<A, D, K> {
    step: u32,
    key: K,
    row: Row<A, D>,
}

/// Each row without what rows before it have taken of one of its fields whole.
fn without_taken<A: Address, D, K>(mut rows: Vec<Placed<A, D, K>>) -> Vec<Placed<A, D, K>> {
    // Rows that ask for more leave parts of others that are not so simple.
    let mut wide: Vec<Matches<A>> = Vec::new();
    rows.retain_mut(|placed| {
        let own = &mut placed.row.matches;
        if !wide.iter().all(|taken| without(own, taken)) {
            return false;
        }
        if is_wide(&own.cube) {
            let is_alike = |known: &Matches<A>| {
                (&known.conditions, &known.cube.source, &known.cube.destination)
                    == (&own.conditions, &own.cube.source, &own.cube.destination)
            };
            if let Some(at) = wide.iter().position(is_alike) {
                let known = &mut wide[at].cube.upper;
                let protocols = known.protocols().union(own.cube.upper.protocols());
                *known = UpperCube::of_fields(protocols, IntervalSet::full(), IntervalSet::full());
            } else if wide.len() < WIDE_MAX {
                wide.push(own.clone());
            }
        }
        true
    });
    rows
}

fn is_wide<A: Address>(cube: &Cube<A>) -> bool {
    let Cube { source, destination, upper } = cube;
    let fields = [source.intervals().len(), destination.intervals().len(), upper.protocols().intervals().len()];
    let asked = [!source.is_full(), !destination.is_full(), !upper.protocols().is_full()];
    // Ports are asked for with their protocol: never they alone.
    let asks_ports = !upper.destination.is_full() || !upper.source.is_full();
    !asks_ports && asked.into_iter().filter(|asked| *asked).count() <= 1 && fields.into_iter().all(|intervals| intervals <= INTERVALS_MAX)
}

/// Takes `taken` out of `left` where that is less of one field; whether anything is left.
fn without<A: Address>(left: &mut Matches<A>, taken: &Matches<A>) -> bool {
    let Cube { source, destination, upper } = &taken.cube;
    let own = &left.cube;
    let outside = [!own.source.is_subset(source), !own.destination.is_subset(destination), !own.upper.protocols().is_subset(upper.protocols())];
    let mut conditions = taken.conditions.iter().filter(|(variable, values)| {
        left.conditions.values(variable).is_none_or(|own| !own.is_subset(values))
    });
    match (outside, conditions.next(), conditions.next()) {
        ([false, false, false], None, _) => return false,
        ([true, false, false], None, _) => left.cube.source = own.source.difference(source),
        ([false, true, false], None, _) => left.cube.destination = own.destination.difference(destination),
        ([false, false, true], None, _) => {
            let protocol = own.upper.protocols().difference(upper.protocols());
            left.cube.upper = UpperCube::of_fields(protocol, own.upper.destination.clone(), own.upper.source.clone());
        }
        ([false, false, false], Some((variable, values)), None) => {
            let Some(rest) = left.conditions.and(variable.clone(), &values.complement()) else { return false };
            left.conditions = rest;
        }
        _ => {}
    }
    true
}

/// For each row one more than the highest step of those before that meet it and do not decide the same.
fn steps<A: Address, D, K: Eq>(rows: &[Placed<A, D, K>]) -> Vec<u32> {
    let mut conflicts: Vec<(u32, u32)> = Vec::new();
    for_each_near(rows, |a, b| {
        let (before, at) = (a.min(b), a.max(b));
        let (first, second) = (&rows[before as usize], &rows[at as usize]);
        if first.key != second.key && !first.row.matches.is_disjoint(&second.row.matches) {
            conflicts.push((at, before));
        }
    });
    conflicts.sort_unstable();
    let mut steps = vec![0; rows.len()];
    for (at, before) in conflicts {
        steps[at as usize] = steps[at as usize].max(steps[before as usize] + 1);
    }
    steps
}

/// From where to where a field reaches.
type Ends = (u128, u128);

/// Calls `near` once with each pair of rows that may meet, as told by where their fields begin and end.
fn for_each_near<A: Address, D, K>(rows: &[Placed<A, D, K>], mut near: impl FnMut(u32, u32)) {
    fn ends<P: Point>(set: &IntervalSet<P>, number: impl Fn(P) -> u128) -> Ends {
        let intervals = set.intervals();
        intervals.first().zip(intervals.last()).map_or((1, 0), |(first, last)| (number(first.first()), number(last.last())))
    }
    // A header's fields, then the variables.
    let mut axes: [Vec<Ends>; 5] = Default::default();
    let mut variables: Vec<(&Variable, Vec<Ends>)> = Vec::new();
    for (at, Row { matches, .. }) in rows.iter().map(|placed| &placed.row).enumerate() {
        let Cube { source, destination, upper } = &matches.cube;
        axes[0].push(ends(upper.destination_ports(), u128::from));
        axes[1].push(ends(upper.source_ports(), u128::from));
        axes[2].push(ends(source, A::bits));
        axes[3].push(ends(destination, A::bits));
        axes[4].push(ends(upper.protocols(), u128::from));
        for (variable, values) in matches.conditions.iter() {
            let known = variables.iter().position(|(known, _)| *known == variable).unwrap_or_else(|| {
                variables.push((variable, vec![(0, u128::MAX); rows.len()]));
                variables.len() - 1
            });
            variables[known].1[at] = ends(values, |value| value);
        }
    }
    let mut axes: Vec<Vec<Ends>> = axes.into_iter().chain(variables.into_iter().map(|(_, ends)| ends)).collect();
    axes.sort_by_cached_key(|ends| Reverse(ends.iter().filter(|(first, last)| first == last).count()));
    let Some((best, others)) = axes.split_first() else { return };
    let mut order: Vec<u32> = (0..).take(rows.len()).collect();
    order.sort_unstable_by_key(|row| best[*row as usize]);
    for (place, &a) in order.iter().enumerate() {
        let last = best[a as usize].1;
        for &b in order[place + 1..].iter().take_while(|b| best[**b as usize].0 <= last) {
            let touch = |ends: &Vec<Ends>| {
                let (a, b) = (ends[a as usize], ends[b as usize]);
                a.0 <= b.1 && b.0 <= a.1
            };
            if others.iter().all(touch) {
                near(a, b);
            }
        }
    }
}

/// Makes one of the rows of a step that decide the same and are equal but for one field.
fn merged<A: Address, D, K: Copy + Eq + Hash>(mut all: Vec<Placed<A, D, K>>) -> Vec<Placed<A, D, K>> {
    let mut sizes: HashMap<(u32, K), u32, Quick> = HashMap::default();
    for placed in &all {
        *sizes.entry((placed.step, placed.key)).or_default() += 1;
    }
    let is_alone = |placed: &Placed<A, D, K>| sizes[&(placed.step, placed.key)] == 1;
    if all.iter().all(is_alone) {
        return all;
    }
    // Sets of ports, of protocols that have them, stay such sets.
    merge(&mut all, is_alone, |cube| &mut cube.upper.destination);
    merge(&mut all, is_alone, |cube| &mut cube.upper.source);
    merge(&mut all, is_alone, |cube| &mut cube.destination);
    merge(&mut all, is_alone, |cube| &mut cube.source);
    all
}

fn merge<A: Address, D, K: Copy + Eq + Hash, P: Point>(
    all: &mut Vec<Placed<A, D, K>>,
    is_alone: impl Fn(&Placed<A, D, K>) -> bool,
    field: impl Fn(&mut Cube<A>) -> &mut IntervalSet<P>,
) {
    /// The field of a row that stays, and of those that it takes up.
    struct Fields<P> {
        row: usize,
        own: IntervalSet<P>,
        more: Vec<Interval<P>>,
    }
    let mut fields: Vec<Fields<P>> = Vec::new();
    let mut places: HashMap<u64, Vec<usize>, Quick> = HashMap::default();
    let mut gone = vec![false; all.len()];
    for row in 0..all.len() {
        if is_alone(&all[row]) {
            continue;
        }
        let own = std::mem::take(field(&mut all[row].row.matches.cube));
        let placed = &all[row];
        let mut mixer = Mixer::default();
        (placed.step, placed.key, &placed.row.matches).hash(&mut mixer);
        let places = places.entry(mixer.finish()).or_default();
        let is_alike = |at: &&usize| {
            let known = &all[fields[**at].row];
            (known.step, known.key) == (placed.step, placed.key) && known.row.matches == placed.row.matches
        };
        if let Some(at) = places.iter().find(is_alike) {
            fields[*at].more.extend(own.intervals());
            gone[row] = true;
        } else {
            places.push(fields.len());
            fields.push(Fields { row, own, more: Vec::new() });
        }
    }
    for Fields { row, own, more } in fields {
        let whole = if more.is_empty() { own } else { own.intervals().iter().copied().chain(more).collect() };
        *field(&mut all[row].row.matches.cube) = whole;
    }
    let mut gone = gone.into_iter();
    all.retain(|_| !gone.next().expect("one for each row"));
}
