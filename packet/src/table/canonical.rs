//! One way to write a set of packets.
//!
//! In: boxes that may overlap. Out: disjoint boxes of the same packets; equal sets are equal lists. Never:
//! the fewest there could be, which is hard to find; points that nothing tells apart stay together.

use super::grid::{Grid, PROTOCOL, Region, Span};
use super::search::Field;
use super::{Budget, Exhausted};
use crate::matches::{Address, Matches};

/// Conditions first, then addresses, then what they say to each other: a box for each pair of groups with
/// the same services, as a person would write it.
pub fn canonical<A: Address>(boxes: &[Matches<A>], budget: &mut Budget) -> Result<Vec<Matches<A>>, Exhausted> {
    let grid = Grid::new(&boxes.iter().collect::<Vec<_>>());
    let whole = grid.whole();
    // Protocols before ports: ports are only where all protocols have them.
    let axes: Vec<usize> = (PROTOCOL + 3..grid.width()).chain([0, 1]).chain(PROTOCOL..PROTOCOL + 3).collect();
    let rows: Vec<u32> = (0..).zip(boxes).map(|(row, _)| row).filter(|row| !grid.is_void(*row as usize)).collect();
    let parts = parts(&grid, &whole, &axes, &rows, budget)?;
    let region = |fields: Fields| fields.into_iter().fold(whole.clone(), |region, (axis, field)| region.with_field(axis, field));
    Ok(parts.into_iter().map(|fields| grid.matches(&region(fields))).collect())
}

/// The fields of a box that are not full, the last first.
type Fields = Vec<(usize, Vec<Span>)>;

/// What `rows` take together, as far as these axes tell them apart.
fn parts(grid: &Grid, whole: &Region, axes: &[usize], rows: &[u32], budget: &mut Budget) -> Result<Vec<Fields>, Exhausted> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let Some((&axis, rest)) = axes.split_first() else { return Ok(vec![Vec::new()]) };
    budget.spend(rows.len() as u64)?;
    let field = Field::new(grid, axis, whole, rows, budget)?;
    // Classes of which the same is taken are one.
    let mut alike: Vec<(Vec<Fields>, Vec<Span>)> = Vec::new();
    for class in 0..field.classes {
        let own: Vec<u32> = field.rows_of(class).map(|at| rows[at]).collect();
        let taken = parts(grid, whole, rest, &own, budget)?;
        budget.spend((alike.len() + taken.len()) as u64)?;
        let spans = field.spans_of(class);
        match alike.iter_mut().find(|(known, _)| *known == taken) {
            Some((_, all)) => all.extend(spans),
            None => alike.push((taken, spans)),
        }
    }
    if let [(taken, _)] = &mut alike[..] {
        return Ok(std::mem::take(taken));
    }
    let mut found = Vec::new();
    for (taken, mut spans) in alike {
        spans.sort_unstable();
        spans.dedup_by(|next, previous| {
            let touches = previous[1] + 1 == next[0];
            if touches {
                previous[1] = next[1];
            }
            touches
        });
        found.extend(taken.into_iter().map(|mut fields| {
            fields.push((axis, spans.clone()));
            fields
        }));
    }
    Ok(found)
}
