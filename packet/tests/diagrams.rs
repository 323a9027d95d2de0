//! The engine against binary decision diagrams, over random lists and over ClassBench's where they are.

use crate::bdd;
use crate::classbench;

use std::net::{Ipv4Addr, Ipv6Addr};

use bdd::{PORTS_FIRST, Part, World};
use oxidd::BooleanFunction;
use ringwall_packet::{
    Address, Budget, Cover, Cube, FlowSet, Interval, IntervalSet, Matches, Protocol, Row, State, Table, UpperCube, Variable,
    cover, truth,
};

/// Numbers that are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        // xorshift64 of Marsaglia, 2003.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    /// Prefixes below a few others, so that they nest and meet.
    fn addresses<A: Address>(&mut self) -> IntervalSet<A> {
        let bits = 8 * size_of::<A>() as u32;
        let mut prefix = || {
            let length = [0, 1, 2, 3, 4, bits - 2, bits - 1, bits][self.below(8) as usize];
            let high = u128::from(self.below(16)) << (bits - 4);
            let host = if length == 0 { u128::MAX } else { u128::MAX >> (128 - bits) >> (length - 1) >> 1 } & (u128::MAX >> (128 - bits));
            let first = (high | u128::from(self.below(4))) & !host;
            Interval::new(A::of_number(first).unwrap(), A::of_number(first | host).unwrap()).unwrap()
        };
        let first = prefix();
        if self.below(3) == 0 { [first, self.addresses::<A>().intervals()[0]].into_iter().collect() } else { first.into() }
    }

    fn ports(&mut self) -> IntervalSet<u16> {
        let mut port = || [0, 22, 80, 443, 1023, 1024, 8080, u16::MAX][self.below(8) as usize];
        let (a, b) = (port(), port());
        let ports = Interval::new(a.min(b), a.max(b)).unwrap().into();
        if self.below(2) == 0 { IntervalSet::full() } else { ports }
    }

    fn row<A: Address>(&mut self) -> Row<A, u8> {
        let protocol = [Protocol::TCP, Protocol::UDP][self.below(2) as usize];
        let (destination, from) = (self.ports(), self.ports());
        let upper = match self.below(4) {
            0 => UpperCube::any(),
            _ => UpperCube::new(IntervalSet::single(protocol.0), destination, from).unwrap(),
        };
        let mut matches = Matches::from(Cube { source: self.addresses(), destination: self.addresses(), upper });
        if self.below(5) == 0 {
            let state = State::ALL[self.below(5) as usize].values();
            matches = matches.and(Variable::State, &state.into()).unwrap();
        }
        if self.below(5) == 0 {
            matches = matches.and(Variable::Holds("x".into()), &truth(self.below(2) == 0)).unwrap();
        }
        Row { matches, decision: self.below(2) as u8 }
    }

    fn rows<A: Address>(&mut self, count: u64) -> Vec<Row<A, u8>> {
        (0..count).map(|_| self.row()).collect()
    }
}

/// All that the engine says of two lists, as diagrams say it.
fn check<A: Address>(before: &[Row<A, u8>], after: &[Row<A, u8>], table: impl Fn(&[Row<A, u8>]) -> Table<u8>, changes: impl Fn(&Table<u8>, &Table<u8>) -> Vec<Matches<A>>, order: &[Part], nodes: usize) {
    let variables = [Variable::State, Variable::Holds("x".into())].map(Part::Variable);
    let world = World::new::<A>(order.iter().cloned().chain(variables), nodes);
    let (dead, unknown) = table(before).dead(10_000_000);
    assert!(unknown.is_empty());
    assert_eq!(dead.iter().map(|dead| dead.row).collect::<Vec<_>>(), world.dead(before));
    for dead in dead {
        let by: Vec<_> = dead.by.iter().map(|row| before[*row].matches.clone()).collect();
        let open = world.of(&before[dead.row].matches).and(&world.any_of(&by).not().unwrap()).unwrap();
        assert!(!open.satisfiable(), "row {} is not hidden by {:?}", dead.row, dead.by);
    }
    // What nothing decides is as what 0 decides.
    let of = |rows: &[Row<A, u8>]| world.decided(rows, &|decision| *decision == 1).1;
    let expected = of(before).xor(&of(after)).unwrap();
    let found = world.any_of(&changes(&table(before), &table(after)));
    assert!(found == expected, "the difference is another");
}

fn v4(rows: &[Row<Ipv4Addr, u8>]) -> Table<u8> {
    Table { v4: rows.to_vec(), v6: Vec::new() }
}

fn v6(rows: &[Row<Ipv6Addr, u8>]) -> Table<u8> {
    Table { v4: Vec::new(), v6: rows.to_vec() }
}

fn difference(before: &Table<u8>, after: &Table<u8>) -> ringwall_packet::Difference {
    let same = |a: Option<&u8>, b: Option<&u8>| a.copied().unwrap_or(0) == b.copied().unwrap_or(0);
    before.difference(after, same, &mut Budget::new(1_000_000_000)).unwrap()
}

fn changes_v4(before: &Table<u8>, after: &Table<u8>) -> Vec<Matches<Ipv4Addr>> {
    difference(before, after).v4.into_iter().map(|change| change.matches).collect()
}

fn changes_v6(before: &Table<u8>, after: &Table<u8>) -> Vec<Matches<Ipv6Addr>> {
    difference(before, after).v6.into_iter().map(|change| change.matches).collect()
}

#[test]
fn random_lists_are_as_diagrams_say() {
    for seed in 1..=20 {
        let mut random = Random(seed);
        let count = 2 + seed;
        check(&random.rows(count), &random.rows(count), v4, changes_v4, &PORTS_FIRST, 1 << 20);
        check(&random.rows(count), &random.rows(count), v6, changes_v6, &PORTS_FIRST, 1 << 20);
        // And one that is another's edit.
        let before = random.rows::<Ipv4Addr>(count);
        let mut after = before.clone();
        for _ in 0..3 {
            after[random.below(count) as usize] = random.row();
        }
        check(&before, &after, v4, changes_v4, &PORTS_FIRST, 1 << 20);
    }
}

/// What is known of ClassBench's lists; they are not part of this repository. Diagrams of all of fw1 or
/// ipc1 take minutes, so each answer is checked where it says something: a dead row against those that hide
/// it, a live one by a packet that none before it takes, an edit within the rows that were edited (outside
/// them both lists are the same rows).
#[test]
fn classbench_is_as_diagrams_say() {
    let Some(folder) = classbench::folder() else { return };
    for (name, known) in [("acl1_10k", 81), ("ipc1_10k", 18), ("fw1_10k", 91)] {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        let mut random = Random(1);
        let boxes = classbench::rows(&text).unwrap();
        let rows: Vec<Row<Ipv4Addr, u8>> =
            boxes.into_iter().map(|matches| Row { matches, decision: random.below(2) as u8 }).collect();
        check_dead(name, &rows, known);
        check_edit(name, &rows, &mut random);
    }
}

fn check_dead(name: &str, rows: &[Row<Ipv4Addr, u8>], known: usize) {
    let world = World::new::<Ipv4Addr>(PORTS_FIRST, 1 << 20);
    let (dead, unknown) = v4(rows).dead(10_000_000);
    assert!(unknown.is_empty());
    assert_eq!(dead.len(), known, "{name}");
    for dead in &dead {
        let by: Vec<_> = dead.by.iter().map(|row| rows[*row].matches.clone()).collect();
        assert!(dead.by.iter().all(|row| *row < dead.row));
        let open = world.of(&rows[dead.row].matches).and(&world.any_of(&by).not().unwrap()).unwrap();
        assert!(!open.satisfiable(), "{name}: row {} is not hidden by {:?}", dead.row, dead.by);
    }
    // Unoptimised, a part of them.
    let step = if cfg!(debug_assertions) { 23 } else { 1 };
    for at in (0..rows.len()).step_by(step).filter(|at| dead.iter().all(|dead| dead.row != *at)) {
        let earlier: Vec<_> = rows[..at].iter().map(|row| &row.matches).collect();
        let open = match cover(&rows[at].matches, &earlier, &mut Budget::new(10_000_000)).unwrap() {
            Cover::Not(open) => open,
            Cover::By(by) => panic!("{name}: row {at} is hidden by {by:?} after all"),
        };
        let packet = FlowSet { v4: open.cube.clone().into(), ..FlowSet::default() }.witness().unwrap();
        let takes = |matches: &Matches<Ipv4Addr>| FlowSet { v4: matches.cube.clone().into(), ..FlowSet::default() }.contains(&packet);
        assert!(takes(&rows[at].matches) && !earlier.iter().any(|row| takes(row)), "{name}: row {at}, {packet}");
    }
}

fn check_edit(name: &str, rows: &[Row<Ipv4Addr, u8>], random: &mut Random) {
    /// Rows that meet an edited one.
    const FEW: usize = 300;
    let mut after = rows.to_vec();
    let mut edited = Vec::new();
    while edited.len() < 30 {
        let at = random.below(after.len() as u64) as usize;
        let row = after[at].matches.clone();
        if rows.iter().filter(|other| !row.is_disjoint(&other.matches)).count() > FEW {
            continue;
        }
        match edited.len() % 3 {
            0 => drop(after.remove(at)),
            1 => after[at].decision ^= 1,
            _ => after.insert(at / 2, Row { matches: row.clone(), decision: after[at].decision ^ 1 }),
        }
        edited.push(row);
    }
    let changes = changes_v4(&v4(rows), &v4(&after));
    assert!(!changes.is_empty());
    assert!(changes.iter().all(|change| edited.iter().any(|row| !change.is_disjoint(row))));
    for row in edited {
        let world = World::new::<Ipv4Addr>(PORTS_FIRST, 1 << 20);
        let within = |rows: &[Row<Ipv4Addr, u8>]| {
            let clipped = rows.iter().filter_map(|other| Some(Row { matches: other.matches.intersection(&row)?, decision: other.decision }));
            world.decided(&clipped.collect::<Vec<_>>(), &|decision| *decision == 1).1
        };
        let expected = within(rows).xor(&within(&after)).unwrap();
        let found: Vec<_> = changes.iter().filter_map(|change| change.intersection(&row)).collect();
        assert!(world.any_of(&found) == expected, "{name}: the difference within {row:?} is another");
    }
}
