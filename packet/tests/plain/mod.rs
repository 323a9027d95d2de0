//! The plainest engine there is: row after row, box after box, all of it by `Matches` alone. Slow and
//! easily seen to be right; what the fast one says is compared with it.

use ringwall_packet::{Address, Matches, Row};

/// Packets, and the row that decides them.
pub type Decided<A> = (Matches<A>, Option<usize>);

pub fn parts<A: Address, D>(rows: &[Row<A, D>], packets: &Matches<A>) -> Vec<Decided<A>> {
    let (mut open, mut parts) = (vec![packets.clone()], Vec::new());
    for (index, row) in rows.iter().enumerate() {
        let mut rest = Vec::new();
        for packets in open {
            match packets.intersection(&row.matches) {
                None => rest.push(packets),
                Some(matches) => {
                    parts.push((matches, Some(index)));
                    rest.extend(packets.difference(&row.matches));
                }
            }
        }
        open = rest;
    }
    parts.extend(open.into_iter().map(|matches| (matches, None)));
    parts
}

/// What is left of `packets` without those of `by`.
pub fn left<A: Address>(packets: Vec<Matches<A>>, by: &[&Matches<A>]) -> Vec<Matches<A>> {
    by.iter().fold(packets, |open, other| open.iter().flat_map(|packets| packets.difference(other)).collect())
}

pub fn dead<A: Address, D>(rows: &[Row<A, D>]) -> Vec<usize> {
    let matches: Vec<_> = rows.iter().map(|row| &row.matches).collect();
    (0..rows.len()).filter(|row| left(vec![matches[*row].clone()], &matches[..*row]).is_empty()).collect()
}

/// Packets that two lists decide differently, with the rows that do.
pub fn difference<A: Address, D, E>(
    before: &[Row<A, D>],
    after: &[Row<A, E>],
    same: impl Fn(Option<&D>, Option<&E>) -> bool,
) -> Vec<(Matches<A>, Option<usize>, Option<usize>)> {
    let mut changes = Vec::new();
    for (old, b) in parts(before, &Matches::any()) {
        for (new, a) in parts(after, &old) {
            if !same(b.map(|row| &before[row].decision), a.map(|row| &after[row].decision)) {
                changes.push((new, b, a));
            }
        }
    }
    changes
}
