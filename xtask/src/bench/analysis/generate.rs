//! Lists of rules that are the same each time, in the shapes of ClassBench's three kinds and in shapes that
//! are meant to hurt.
//!
//! In: a shape, a number of rules, a seed. Out: rows of either family. Never: chance.

use ringwall_packet::{Address, Cube, Interval, IntervalSet, Matches, Point, Protocol, Row, UpperCube, Variable, truth};

pub type Rows<A> = Vec<Row<A, u8>>;

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // Seeds that differ little begin apart.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, end: usize) -> usize {
        // xorshift64* of Vigna, 2016.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).expect("31 bits") % end
    }

    fn percent(&mut self, share: usize) -> bool {
        self.below(100) < share
    }
}

/// In per cent of the rules.
pub struct Shape {
    pub name: &'static str,
    any_source: usize,
    any_destination: usize,
    hosts: usize,
    any_port: usize,
    port_ranges: usize,
    source_ports: usize,
}

/// Access lists: hosts to hosts, single ports.
pub const ACCESS: Shape = Shape { name: "access", any_source: 4, any_destination: 1, hosts: 75, any_port: 15, port_ranges: 10, source_ports: 0 };
/// Firewalls: much of it from or to anywhere.
pub const FIREWALL: Shape = Shape { name: "firewall", any_source: 25, any_destination: 12, hosts: 40, any_port: 20, port_ranges: 25, source_ports: 30 };
/// Packet filters of routers: in between.
pub const CHAINS: Shape = Shape { name: "chains", any_source: 8, any_destination: 8, hosts: 55, any_port: 30, port_ranges: 10, source_ports: 10 };

const SITES: usize = 2_000;

/// In bits, of all fields together.
fn wideness<A: Address>(matches: &Matches<A>) -> u32 {
    fn of<P: Point>(set: &IntervalSet<P>) -> u32 {
        set.intervals().iter().map(|interval| 128 - (interval.last().number() - interval.first().number()).leading_zeros()).max().unwrap_or(0)
    }
    let cube = &matches.cube;
    of(&cube.source) + of(&cube.destination) + of(cube.upper.destination_ports()) + of(cube.upper.source_ports())
}

impl Shape {
    /// Mostly the narrow ones first, as operators write them: else most would be dead.
    pub fn rows<A: Address>(&self, count: usize, seed: u64) -> Rows<A> {
        let mut random = Random::new(seed);
        let mut rows: Vec<(u32, Row<A, u8>)> = (0..count)
            .map(|_| {
                let row = self.row(&mut random);
                let late = if random.percent(1) { 0 } else { 1 };
                (late * wideness(&row.matches), row)
            })
            .collect();
        rows.sort_by_key(|(wideness, _)| *wideness);
        rows.into_iter().map(|(_, row)| row).collect()
    }

    pub fn row<A: Address>(&self, random: &mut Random) -> Row<A, u8> {
        let source = if random.percent(self.any_source) { IntervalSet::full() } else { self.prefix(random) };
        let destination = if random.percent(self.any_destination) { IntervalSet::full() } else { self.prefix(random) };
        let protocol = if random.percent(70) { Protocol::TCP } else { Protocol::UDP };
        let from = if random.percent(self.source_ports) { self.ports(random) } else { IntervalSet::full() };
        let upper = UpperCube::new(IntervalSet::single(protocol.0), self.ports(random), from).expect("they have ports");
        let decision = u8::from(random.percent(70));
        Row { matches: Cube { source, destination, upper }.into(), decision }
    }

    /// A part of one of the sites: whole networks, parts of them that nest, hosts.
    fn prefix<A: Address>(&self, random: &mut Random) -> IntervalSet<A> {
        let bits = width::<A>();
        let parts = [bits / 2, bits * 5 / 8, bits * 3 / 4, bits * 3 / 4, bits * 7 / 8, bits * 7 / 8, bits * 7 / 8];
        let length = if random.percent(self.hosts) { bits } else { parts[random.below(parts.len())] };
        let site = number(random.below(SITES)) * 0x0101 + 0x0a00;
        let host = number(random.below(1 << 12)) << (bits / 2 - 12);
        prefix((site << (bits / 2)) | host | number(random.below(16)), length)
    }

    fn ports(&self, random: &mut Random) -> IntervalSet<u16> {
        if random.percent(self.any_port) {
            return IntervalSet::full();
        }
        let first = u16::try_from([22, 25, 53, 80, 123, 443, 1433, 1521, 3306, 5060, 8080][random.below(11)] + random.below(40)).expect("a port");
        let last = if random.percent(self.port_ranges) { [first + 99, 1023.max(first), u16::MAX][random.below(3)] } else { first };
        interval(first, last)
    }
}

fn number(number: usize) -> u128 {
    number as u128
}

fn width<A>() -> u32 {
    8 * u32::try_from(size_of::<A>()).expect("a few bytes")
}

fn prefix<A: Address>(address: u128, length: u32) -> IntervalSet<A> {
    let host = A::MAX.number().checked_shr(length).unwrap_or(0);
    let address = address & A::MAX.number();
    let point = |number| A::of_number(number).expect("of the family");
    interval(point(address & !host), point(address | host))
}

fn interval<P: Point>(first: P, last: P) -> IntervalSet<P> {
    Interval::new(first, last).expect("an ordered pair").into()
}

/// A list with ten of its rules edited: four decide otherwise, three are gone, three are new.
pub fn edited<A: Address>(rows: &[Row<A, u8>], random: &mut Random) -> Rows<A> {
    let mut rows = rows.to_vec();
    for edit in 0..10 {
        let at = random.below(rows.len());
        match edit {
            0..4 => rows[at].decision ^= 1,
            4..7 => drop(rows.remove(at)),
            _ => {
                // As an operator adds one: another's service for one host.
                let mut row = rows[random.below(rows.len())].clone();
                row.matches.cube.source = prefix(number(random.below(1 << 30)), width::<A>());
                rows.insert(at, row);
            }
        }
    }
    rows
}

/// Each rule cut in two at a random place of a random field, where it has one that is more than a point.
pub fn cut<A: Address>(rows: &[Row<A, u8>], random: &mut Random) -> Rows<A> {
    rows.iter().flat_map(|row| halves(row, random)).collect()
}

fn halves<A: Address>(row: &Row<A, u8>, random: &mut Random) -> Rows<A> {
    let cube = &row.matches.cube;
    let upper = &cube.upper;
    for _ in 0..10 {
        let with = |cube| Row { matches: Matches { cube, conditions: row.matches.conditions.clone() }, decision: row.decision };
        let with_ports = |destination, source| {
            let upper = UpperCube::new(upper.protocols().clone(), destination, source)?;
            Some(with(Cube { upper, ..cube.clone() }))
        };
        let both = match random.below(4) {
            0 => in_two(&cube.source, random).map(|parts| parts.map(|source| Some(with(Cube { source, ..cube.clone() })))),
            1 => in_two(&cube.destination, random).map(|parts| parts.map(|destination| Some(with(Cube { destination, ..cube.clone() })))),
            2 => in_two(upper.destination_ports(), random).map(|parts| parts.map(|ports| with_ports(ports, upper.source_ports().clone()))),
            _ => in_two(upper.source_ports(), random).map(|parts| parts.map(|ports| with_ports(upper.destination_ports().clone(), ports))),
        };
        if let Some([Some(left), Some(right)]) = both {
            return vec![left, right];
        }
    }
    vec![row.clone()]
}

fn in_two<P: Point>(set: &IntervalSet<P>, random: &mut Random) -> Option<[IntervalSet<P>; 2]> {
    let [all] = set.intervals() else { return None };
    let (first, last) = (all.first().number(), all.last().number());
    let middle = first + (last - first) / 1000 * number(random.below(1000)) + number(random.below(1000));
    let (left, right) = (P::of_number(middle)?, P::of_number(middle.checked_add(1)?)?);
    Some([Interval::new(all.first(), left)?.into(), Interval::new(right, all.last())?.into()]).filter(|_| middle < last)
}

/// A service for all of a protocol's ports one by one, then for all of them.
pub fn single_ports<A: Address>() -> Rows<A> {
    let row = |ports| Row { matches: Cube { upper: tcp(ports), ..Cube::any() }.into(), decision: 1 };
    (0..=u16::MAX).map(|port| row(IntervalSet::single(port))).chain([row(IntervalSet::full())]).collect()
}

fn tcp(ports: IntervalSet<u16>) -> UpperCube {
    UpperCube::ports(Protocol::TCP, ports).expect("tcp has ports")
}

/// Each overlaps half of the one before it, in both addresses.
pub fn half_overlapping<A: Address>(count: usize) -> Rows<A> {
    let step = A::MAX.number() / number(count + 2);
    let part = |at: usize| interval(A::of_number(step * number(at)).expect("below the last"), A::of_number(step * number(at + 2)).expect("below the last"));
    let row = |at: usize| {
        let cube = Cube { source: part(at), destination: part(at * 7919 % count), upper: UpperCube::any() };
        Row { matches: cube.into(), decision: u8::from(at % 2 == 0) }
    };
    (0..count).map(row).collect()
}

/// Large boxes in five fields, of which each leaves out a corner; then everything.
pub fn corners<A: Address>(count: usize) -> Rows<A> {
    let mut random = Random::new(5);
    fn most<P: Point>(random: &mut Random) -> IntervalSet<P> {
        let last = P::MAX.number();
        let cut = last / 100 * number(random.below(30)) + number(random.below(2));
        if random.percent(50) {
            interval(P::MIN, P::of_number(last - cut).expect("below the last"))
        } else {
            interval(P::of_number(cut).expect("below the last"), P::MAX)
        }
    }
    let mut rows: Rows<A> = (0..count)
        .map(|_| {
            let upper = tcp(most(&mut random)).with_source_ports(&most(&mut random)).expect("tcp has ports");
            Row { matches: Cube { source: most(&mut random), destination: most(&mut random), upper }.into(), decision: 1 }
        })
        .collect();
    rows.push(Row { matches: Cube { upper: tcp(IntervalSet::full()), ..Cube::any() }.into(), decision: 0 });
    rows
}

/// Each row asks for three of many unknown matches to hold or not; then everything. Whether the last row is
/// dead is whether a random formula of 3-SAT, near where these are hardest, has no solution.
pub fn formula<A: Address>(variables: usize) -> Rows<A> {
    let mut random = Random::new(3);
    let mut rows: Rows<A> = (0..variables * 43 / 10)
        .map(|_| {
            let mut matches = Matches::any();
            for _ in 0..3 {
                let variable = Variable::Holds(format!("x{}", random.below(variables)).into());
                matches = matches.and(variable, &truth(random.percent(50))).unwrap_or(matches);
            }
            Row { matches, decision: 1 }
        })
        .collect();
    rows.push(Row { matches: Matches::any(), decision: 0 });
    rows
}

/// Rules of which many look into one set of prefixes.
pub fn large_set<A: Address>(prefixes: usize, count: usize) -> Rows<A> {
    let step = A::MAX.number() / number(prefixes + 1);
    let bounds = |at: usize| {
        let first = step * number(at);
        Interval::new(A::of_number(first).expect("below the last"), A::of_number(first + step / 2).expect("below the last"))
    };
    let set: IntervalSet<A> = (0..prefixes).filter_map(bounds).collect();
    let outside = set.complement();
    let mut rows: Rows<A> = CHAINS.rows(count, 9);
    for (at, row) in rows.iter_mut().enumerate() {
        match at % 8 {
            0 => row.matches.cube.source = set.clone(),
            4 => row.matches.cube.destination = outside.clone(),
            _ => {}
        }
    }
    rows
}

/// A node's rules as a policy has them: groups of hosts to groups of hosts, some denied first, the rest
/// dropped by default.
pub fn node<A: Address>(rules: usize, seed: u64) -> Rows<A> {
    let mut random = Random::new(seed);
    let group = |random: &mut Random| -> IntervalSet<A> {
        let size = [1, 1, 2, 3, 10][random.below(5)];
        (0..size).map(|_| A::of_number((0xc000_0200 << (width::<A>() - 32)) | number(random.below(250))).expect("of the family")).collect()
    };
    let groups: Vec<IntervalSet<A>> = (0..20).map(|_| group(&mut random)).collect();
    let mut rows: Rows<A> = (0..rules)
        .map(|rule| {
            let ports = match random.below(4) {
                0 => [443, 22, 3306].map(|port| port + u16::try_from(random.below(3)).expect("few")).into_iter().collect(),
                1 => interval(u16::try_from(1024 + rule % 50_000).expect("a port"), u16::try_from(1024 + rule % 50_000 + 3).expect("a port")),
                _ => IntervalSet::single(u16::try_from(1024 + rule % 60_000).expect("a port")),
            };
            let [source, destination] = [0; 2].map(|_| groups[random.below(groups.len())].clone());
            Row { matches: Cube { source, destination, upper: tcp(ports) }.into(), decision: u8::from(rule >= rules / 20) }
        })
        .collect();
    rows.push(Row { matches: Matches::any(), decision: 0 });
    rows
}
