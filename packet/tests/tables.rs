//! Ordered lists of rows: the engine against the plain one, over random lists in small worlds where
//! everything overlaps with everything.

use crate::plain;

use std::fmt::Debug;
use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use ringwall_packet::{
    Address, Budget, Change, Cover, Cube, Family, Interval, IntervalSet, Matches, Point, Protocol, Row, State, Table, UpperCube,
    Variable, canonical, cover, parts, truth,
};

const BUDGET: u64 = 1_000_000;

fn set_of<P: Point + 'static>(points: &[P]) -> BoxedStrategy<IntervalSet<P>> {
    let points = points.to_vec();
    let count = points.len();
    let some = prop::collection::vec((0..count, 0..count), 1..4).prop_map({
        let points = points.clone();
        move |ends| ends.into_iter().map(|(a, b)| Interval::new(points[a.min(b)], points[a.max(b)]).unwrap()).collect()
    });
    let one = (0..count, 0..count).prop_map(move |(a, b)| Interval::new(points[a.min(b)], points[a.max(b)]).unwrap().into());
    prop_oneof![3 => one, 2 => some, 2 => Just(IntervalSet::full())].boxed()
}

fn upper() -> impl Strategy<Value = UpperCube> {
    let with_ports = prop_oneof![
        Just(IntervalSet::single(Protocol::TCP.0)),
        Just(IntervalSet::single(Protocol::UDP.0)),
        Just([Protocol::TCP.0, Protocol::UDP.0].into_iter().collect()),
    ];
    let ports = || set_of(&[0u16, 1, 22, 80, 81, 443, u16::MAX]);
    let all = set_of(&[0u8, 1, 2, 6, 17, 47, 255]);
    prop_oneof![
        3 => (with_ports, ports(), ports()).prop_map(|(protocol, destination, source)| UpperCube::new(protocol, destination, source).unwrap()),
        1 => all.prop_map(|protocol| UpperCube::new(protocol, IntervalSet::full(), IntervalSet::full()).unwrap()),
    ]
}

fn matches<A: Address + 'static>() -> impl Strategy<Value = Matches<A>> {
    let last = A::MAX.number();
    let points: Vec<A> = [0, 1, 2, 3, 4, 5, 6, last - 1, last].map(|number| A::of_number(number).unwrap()).into();
    let state = prop::sample::subsequence(State::ALL.to_vec(), 1..=5)
        .prop_map(|states| states.into_iter().map(State::values).collect::<IntervalSet<u128>>());
    let number = set_of(&[0u128, 1, 2, 3, u128::MAX]);
    (
        (set_of(&points), set_of(&points), upper()),
        (prop::option::weighted(0.3, state), prop::option::weighted(0.2, number), prop::option::weighted(0.2, any::<bool>())),
    )
        .prop_map(|((source, destination, upper), (state, number, holds))| {
            let mut matches = Matches::from(Cube { source, destination, upper });
            let conditions = [(Variable::State, state), (Variable::Field("number".into()), number), (Variable::Holds("x".into()), holds.map(truth))];
            for (variable, values) in conditions {
                if let Some(values) = values {
                    matches = matches.and(variable, &values).unwrap();
                }
            }
            matches
        })
}

fn rows<A: Address + 'static>(most: usize) -> impl Strategy<Value = Vec<Row<A, u8>>> {
    let row = (matches(), 0u8..3).prop_map(|(matches, decision)| Row { matches, decision });
    prop::collection::vec(row, 0..most)
}

type Rows<A> = Vec<Row<A, u8>>;

/// A list, and one made of it by editing some rows.
fn edited<A: Address + 'static>() -> impl Strategy<Value = (Rows<A>, Rows<A>)> {
    let edit = (any::<prop::sample::Index>(), 0..4, (matches(), 0u8..3).prop_map(|(matches, decision)| Row { matches, decision }));
    (rows(8), prop::collection::vec(edit, 0..4)).prop_map(|(before, edits)| {
        let mut after = before.clone();
        for (at, kind, row) in edits {
            let at = at.index(after.len() + 1);
            match kind {
                0 if at < after.len() => drop(after.remove(at)),
                1 if at < after.len() => after[at].decision = row.decision,
                2 if at < after.len() => after[at] = row,
                _ => after.insert(at, row),
            }
        }
        (before, after)
    })
}

/// That two lists of boxes are the same packets, each list in disjoint parts.
fn check_same<A: Address>(a: &[Matches<A>], b: &[Matches<A>]) -> Result<(), TestCaseError> {
    for list in [a, b] {
        for (at, part) in list.iter().enumerate() {
            prop_assert!(list[..at].iter().all(|other| part.is_disjoint(other)), "{part:?} is there twice");
        }
    }
    for (list, other) in [(a, b), (b, a)] {
        let left = plain::left(list.to_vec(), &other.iter().collect::<Vec<_>>());
        prop_assert!(left.is_empty(), "only in one: {left:?}");
    }
    Ok(())
}

fn check_upper<A: Address>(matches: &Matches<A>) -> Result<(), TestCaseError> {
    let upper = &matches.cube.upper;
    let again = UpperCube::new(upper.protocols().clone(), upper.destination_ports().clone(), upper.source_ports().clone());
    prop_assert!(again.is_some(), "ports of a protocol without: {upper:?}");
    Ok(())
}

/// What decides alike on both sides, in one list each.
fn by_key<A: Address, K: PartialEq>(all: impl IntoIterator<Item = (Matches<A>, K)>) -> Vec<(K, Vec<Matches<A>>)> {
    let mut found: Vec<(K, Vec<Matches<A>>)> = Vec::new();
    for (matches, key) in all {
        match found.iter_mut().find(|(known, _)| *known == key) {
            Some((_, own)) => own.push(matches),
            None => found.push((key, vec![matches])),
        }
    }
    found
}

fn check_by_key<A: Address, K: PartialEq + Debug + Clone>(
    fast: impl IntoIterator<Item = (Matches<A>, K)>,
    plain: impl IntoIterator<Item = (Matches<A>, K)>,
) -> Result<(), TestCaseError> {
    let (fast, plain) = (by_key(fast), by_key(plain));
    for (key, own) in &fast {
        for matches in own {
            check_upper(matches)?;
        }
        let other = plain.iter().find(|(known, _)| known == key);
        prop_assert!(other.is_some(), "{key:?} is not in the plain answer");
        check_same(own, &other.unwrap().1)?;
    }
    prop_assert_eq!(fast.len(), plain.len());
    Ok(())
}

fn check_parts<A: Address>(rows: &[Row<A, u8>], packets: &Matches<A>) -> Result<(), TestCaseError> {
    let fast = parts(rows, packets, &mut Budget::new(BUDGET)).unwrap();
    prop_assert!(fast.windows(2).all(|pair| pair[0].row.unwrap_or(usize::MAX) <= pair[1].row.unwrap_or(usize::MAX)));
    check_by_key(fast.into_iter().map(|part| (part.matches, part.row)), plain::parts(rows, packets))
}

fn check_dead<A: Address>(rows: Vec<Row<A, u8>>, table: &Table<u8>) -> Result<(), TestCaseError> {
    let (dead, unknown) = table.dead(BUDGET);
    prop_assert!(unknown.is_empty());
    prop_assert_eq!(dead.iter().map(|dead| dead.row).collect::<Vec<_>>(), plain::dead(&rows));
    for dead in dead {
        prop_assert_eq!(dead.family, A::FAMILY);
        let by: Vec<_> = dead.by.iter().map(|row| &rows[*row].matches).collect();
        let own = || vec![rows[dead.row].matches.clone()];
        prop_assert!(plain::left(own(), &by).is_empty());
        // And none of them can be spared.
        for at in 0..by.len() {
            let others: Vec<_> = by.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, matches)| *matches).collect();
            prop_assert!(!plain::left(own(), &others).is_empty());
        }
    }
    Ok(())
}

fn check_cover<A: Address>(rows: &[Row<A, u8>], packets: &Matches<A>) -> Result<(), TestCaseError> {
    let by: Vec<_> = rows.iter().map(|row| &row.matches).collect();
    match cover(packets, &by, &mut Budget::new(BUDGET)).unwrap() {
        Cover::By(needed) => {
            prop_assert!(needed.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(plain::left(vec![packets.clone()], &needed.iter().map(|at| by[*at]).collect::<Vec<_>>()).is_empty());
        }
        Cover::Not(open) => {
            prop_assert!(open.is_subset(packets));
            prop_assert!(by.iter().all(|other| other.is_disjoint(&open)), "{open:?}");
            check_upper(&open)?;
        }
    }
    Ok(())
}

fn check_changes<A: Address>(before: &[Row<A, u8>], after: &[Row<A, u8>], changes: Vec<Change<A>>, same: impl Fn(Option<&u8>, Option<&u8>) -> bool) -> Result<(), TestCaseError> {
    let key = |b: Option<usize>, a: Option<usize>| (b.unwrap_or(usize::MAX), a.unwrap_or(usize::MAX));
    prop_assert!(changes.windows(2).all(|pair| key(pair[0].before, pair[0].after) <= key(pair[1].before, pair[1].after)));
    let fast = changes.into_iter().map(|change| (change.matches, (change.before, change.after)));
    let plain = plain::difference(before, after, same).into_iter().map(|(matches, b, a)| (matches, (b, a)));
    check_by_key(fast, plain)
}

fn v4(rows: &[Row<Ipv4Addr, u8>]) -> Table<u8> {
    Table { v4: rows.to_vec(), v6: Vec::new() }
}

fn v6(rows: &[Row<Ipv6Addr, u8>]) -> Table<u8> {
    Table { v4: Vec::new(), v6: rows.to_vec() }
}

fn equal(a: Option<&u8>, b: Option<&u8>) -> bool {
    a == b
}

/// Not an equivalence: what nothing decides is as good as 0, and 1 is as good as anything but 2.
fn lenient(a: Option<&u8>, b: Option<&u8>) -> bool {
    let (a, b) = (a.copied().unwrap_or(0), b.copied().unwrap_or(0));
    a == b || (a == 1 && b != 2)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn dead_rows_are_those_of_the_plain_engine(a in rows::<Ipv4Addr>(14), b in rows::<Ipv6Addr>(14)) {
        check_dead(a.clone(), &v4(&a))?;
        check_dead(b.clone(), &v6(&b))?;
    }

    #[test]
    fn parts_are_those_of_the_plain_engine(a in rows::<Ipv4Addr>(7), b in rows::<Ipv6Addr>(7), of_a in matches(), of_b in matches()) {
        for (a_packets, b_packets) in [(of_a, of_b), (Matches::any(), Matches::any())] {
            check_parts(&a, &a_packets)?;
            check_parts(&b, &b_packets)?;
            check_cover(&a, &a_packets)?;
            check_cover(&b, &b_packets)?;
        }
    }

    #[test]
    fn differences_are_those_of_the_plain_engine(a in rows::<Ipv4Addr>(6), b in rows::<Ipv4Addr>(6), c in rows::<Ipv6Addr>(6), d in rows::<Ipv6Addr>(6)) {
        for same in [equal, lenient] {
            let difference = v4(&a).difference(&v4(&b), same, &mut Budget::new(BUDGET)).unwrap();
            check_changes(&a, &b, difference.v4, same)?;
            let difference = v6(&c).difference(&v6(&d), same, &mut Budget::new(BUDGET)).unwrap();
            check_changes(&c, &d, difference.v6, same)?;
        }
    }

    #[test]
    fn differences_of_an_edit_are_those_of_the_plain_engine((a, b) in edited::<Ipv4Addr>(), (c, d) in edited::<Ipv6Addr>()) {
        for same in [equal, lenient] {
            let difference = v4(&a).difference(&v4(&b), same, &mut Budget::new(BUDGET)).unwrap();
            check_changes(&a, &b, difference.v4, same)?;
            let difference = v6(&c).difference(&v6(&d), same, &mut Budget::new(BUDGET)).unwrap();
            check_changes(&c, &d, difference.v6, same)?;
        }
    }
}

fn check_normal<A: Address>(rows: &[Row<A, u8>], normal: &[Row<A, u8>]) -> Result<(), TestCaseError> {
    for row in normal {
        check_upper(&row.matches)?;
    }
    prop_assert_eq!(plain::difference(rows, normal, equal), vec![]);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_normal_table_decides_as_before(a in rows::<Ipv4Addr>(8), b in rows::<Ipv6Addr>(8)) {
        check_normal(&a, &v4(&a).into_normal(|decision| *decision).v4)?;
        check_normal(&b, &v6(&b).into_normal(|decision| *decision).v6)?;
    }
}

#[test]
fn a_normal_table_does_not_tell_in_which_order_it_was_written() {
    let state = |state: State| Matches::<Ipv4Addr>::any().and(Variable::State, &state.values().into()).unwrap();
    let port = |from: u8, port: u16| {
        let upper = UpperCube::ports(Protocol::TCP, IntervalSet::single(port)).unwrap();
        Matches::from(Cube { source: IntervalSet::single(Ipv4Addr::new(192, 0, 2, from)), destination: IntervalSet::full(), upper })
    };
    let row = |matches: &Matches<Ipv4Addr>, decision: u8| Row { matches: matches.clone(), decision };
    let (invalid, first, second, third) = (state(State::Invalid), port(1, 22), port(2, 22), port(1, 80));
    let rest = Matches::any();
    let one = v4(&[row(&invalid, 0), row(&first, 1), row(&third, 2), row(&second, 1), row(&rest, 0)]);
    let valid = |matches: &Matches<Ipv4Addr>| matches.and(Variable::State, &IntervalSet::from(State::Invalid.values()).complement()).unwrap();
    let other = v4(&[row(&valid(&second), 1), row(&valid(&third), 2), row(&invalid, 0), row(&valid(&first), 1), row(&valid(&rest), 0)]);
    let (one, other) = (one.into_normal(|decision| *decision), other.into_normal(|decision| *decision));
    assert_eq!(one, other);
    assert_eq!(one.v4.len(), 4, "{one:#?}");
    // Where rows meet, their order counts.
    let (all, some) = (port(1, 22), Matches { cube: Cube { source: IntervalSet::full(), ..port(1, 22).cube }, ..port(1, 22) });
    let ordered = |rows: [(&Matches<Ipv4Addr>, u8); 2]| v4(&rows.map(|(matches, decision)| row(matches, decision))).into_normal(|decision| *decision);
    assert_ne!(ordered([(&all, 1), (&some, 2)]), ordered([(&some, 2), (&all, 1)]));
}

fn check_canonical<A: Address>(boxes: &[Matches<A>], others: &[Matches<A>]) -> Result<(), TestCaseError> {
    let of = |boxes: &[Matches<A>]| canonical(boxes, &mut Budget::new(BUDGET)).unwrap();
    let written = of(boxes);
    for matches in &written {
        check_upper(matches)?;
    }
    // The same packets, each once, cut up in another way; in disjoint parts, as the check wants them.
    let rows: Vec<_> = boxes.iter().map(|matches| Row { matches: matches.clone(), decision: 0 }).collect();
    let decided = plain::parts(&rows, &Matches::any()).into_iter().filter(|(_, row)| row.is_some());
    let mut cut: Vec<_> = decided.map(|(matches, _)| matches).collect();
    check_same(&written, &cut)?;
    cut.reverse();
    prop_assert_eq!(&of(&cut), &written);
    prop_assert_eq!(&of(&written), &written);
    // Equal lists are equal sets.
    let all = |boxes: &[Matches<A>], by: &[Matches<A>]| plain::left(boxes.to_vec(), &by.iter().collect::<Vec<_>>()).is_empty();
    prop_assert_eq!(of(others) == written, all(boxes, others) && all(others, boxes));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn equal_sets_are_written_alike(a in prop::collection::vec(matches::<Ipv4Addr>(), 0..4), b in prop::collection::vec(matches::<Ipv6Addr>(), 0..4), c in matches::<Ipv4Addr>(), d in matches::<Ipv6Addr>()) {
        check_canonical(&a, &[&a[..], &[c]].concat())?;
        check_canonical(&b, &[&b[..], &[d]].concat())?;
    }

    #[test]
    fn laws_of_boxes(a in matches::<Ipv6Addr>(), b in matches::<Ipv6Addr>(), c in matches::<Ipv6Addr>()) {
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        prop_assert_eq!(a.is_disjoint(&b), a.intersection(&b).is_none());
        prop_assert_eq!(a.is_subset(&b), a.difference(&b).is_empty());
        let of = |boxes: &[Matches<Ipv6Addr>]| canonical(boxes, &mut Budget::new(BUDGET)).unwrap();
        prop_assert_eq!(of(&[a.clone(), b.clone(), c.clone()]), of(&[c.clone(), a.clone(), b.clone()]));
        // De Morgan: without both is what is without one and without the other.
        let without_both = plain::left(vec![a.clone()], &[&b, &c]);
        let (one, other) = (a.difference(&b), a.difference(&c));
        let in_both: Vec<_> = one.iter().flat_map(|one| other.iter().filter_map(|other| one.intersection(other))).collect();
        prop_assert_eq!(of(&without_both), of(&in_both));
        // And what is cut off and what is left are all of it.
        prop_assert_eq!(of(&a.difference(&b).into_iter().chain(a.intersection(&b)).collect::<Vec<_>>()), of(std::slice::from_ref(&a)));
        let witness = a.witness();
        prop_assert!(witness.conditions.iter().all(|(variable, value)| a.conditions.values(variable).is_some_and(|values| values.contains(*value))));
    }
}

#[test]
fn a_list_without_rows_decides_nothing() {
    let empty = Table::<u8>::default();
    assert_eq!(empty.dead(BUDGET), (Vec::new(), Vec::new()));
    assert!(empty.difference(&empty, equal, &mut Budget::new(BUDGET)).unwrap().is_empty());
    let parts = parts::<Ipv4Addr, u8>(&[], &Matches::any(), &mut Budget::new(BUDGET)).unwrap();
    assert!(matches!(&parts[..], [part] if part.row.is_none() && part.matches == Matches::any()));
    // Not even nothing is the same as nothing: then all of it is different.
    let all = empty.difference(&empty, |_, _| false, &mut Budget::new(BUDGET)).unwrap();
    assert_eq!((all.v4.len(), all.v6.len()), (1, 1));
    assert_eq!(all.v4[0].matches, Matches::any());
}

#[test]
fn a_row_without_packets_is_dead_and_hides_nothing() {
    let nothing = Cube { source: IntervalSet::default(), ..Cube::any() };
    let rows = vec![Row { matches: Matches::from(nothing), decision: 0 }, Row { matches: Matches::any(), decision: 1 }];
    let (dead, unknown) = v4(&rows).dead(BUDGET);
    assert!(unknown.is_empty());
    assert!(matches!(&dead[..], [dead] if dead.row == 0 && dead.by.is_empty() && dead.family == Family::V4));
    let without = v4(&rows[1..]);
    assert!(v4(&rows).difference(&without, equal, &mut Budget::new(BUDGET)).unwrap().is_empty());
}
