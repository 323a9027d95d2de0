//! Exact answers about lists of rules: rows that never decide, complete differences; beside them a
//! sequential binary decision diagram, as Batfish has it.
//!
//! In: files in ClassBench's format, those beside the repository when none is named; always lists of our
//! own. Out: one line a question. Never: a figure for an answer that was not found.

#[path = "../../../../packet/tests/bdd/mod.rs"]
mod bdd;
#[path = "../../../../packet/tests/classbench/mod.rs"]
mod classbench;
mod generate;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use generate::{ACCESS, CHAINS, FIREWALL, Random, Rows};
use oxidd::BooleanFunction;
use ringwall_packet::{Address, Budget, Difference, Exhausted, Matches, Row, Table, parts};

use super::{Result, median};

const ROUNDS: usize = 20;
/// Steps for one row, and for one difference.
const ROW: u64 = 10_000_000;
const DIFFERENCE: u64 = 1_000_000_000;
/// When the diagrams are stopped, by time and by nodes.
const LIMIT: Duration = Duration::from_secs(10);
const NODES: usize = 1 << 24;

/// The two families' tables, from rows of one.
trait OfRows: Address {
    fn table(rows: Rows<Self>) -> Table<u8>;
}

impl OfRows for Ipv4Addr {
    fn table(rows: Rows<Self>) -> Table<u8> {
        Table { v4: rows, v6: Vec::new() }
    }
}

impl OfRows for Ipv6Addr {
    fn table(rows: Rows<Self>) -> Table<u8> {
        Table { v4: Vec::new(), v6: rows }
    }
}

pub fn run(files: &[&str]) -> Result<()> {
    println!("median of {ROUNDS} rounds on {} cores; memory is the most that the process had so far", cores());
    println!("sequential BDD: stopped after {} s or {NODES} nodes", LIMIT.as_secs());
    let beside = classbench::folder();
    let mut paths: Vec<_> = files.iter().map(|file| Path::new(file).to_owned()).collect();
    if let (true, Some(folder)) = (paths.is_empty(), &beside) {
        paths = ["acl1_10k", "fw1_10k", "ipc1_10k"].map(|name| folder.join(name)).into();
    }
    for path in paths {
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let matches = classbench::rows(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut random = Random::new(1);
        let rows = matches.into_iter().map(|matches| Row { matches, decision: u8::from(random.below(2) == 0) }).collect();
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        all_of::<Ipv4Addr>(&name, rows);
    }
    for shape in [ACCESS, FIREWALL, CHAINS] {
        all_of::<Ipv4Addr>(&format!("{} IPv4", shape.name), shape.rows(10_000, 1));
        all_of::<Ipv6Addr>(&format!("{} IPv6", shape.name), shape.rows(10_000, 1));
    }
    large::<Ipv4Addr>("110k IPv4");
    large::<Ipv6Addr>("110k IPv6");
    nodes();
    println!("meant to hurt, {ROW} steps for a row");
    dead("64k single ports", &Ipv4Addr::table(generate::single_ports()), 1);
    dead("half-overlapping", &Ipv4Addr::table(generate::half_overlapping(10_000)), 1);
    dead("corners in five fields", &Ipv4Addr::table(generate::corners(2_000)), 1);
    dead("3-SAT of 150 unknown matches", &Ipv4Addr::table(generate::formula(150)), 1);
    let rows = generate::large_set::<Ipv4Addr>(1_000_000, 1_000);
    let table = Ipv4Addr::table(rows.clone());
    dead("1,000 rules, a quarter with a set of 10^6 prefixes", &table, 1);
    edits("  ten rules edited", &rows, 5);
    Ok(())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// The most memory that the process had so far, in MB; proc_pid_status(5).
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).map_or(0, |kb| kb / 1024)
}

fn all_of<A: OfRows>(name: &str, rows: Rows<A>) {
    dead(name, &A::table(rows.clone()), ROUNDS);
    println!("  sequential BDD: {}", sequential(&rows));
    edits("  ten rules edited", &rows, ROUNDS);
    rewrite(&rows);
}

fn dead(name: &str, table: &Table<u8>, rounds: usize) {
    let mut times = Vec::new();
    let mut found = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let begun = Instant::now();
        found = table.dead(ROW);
        times.push(milliseconds(begun));
    }
    let rules = table.v4.len() + table.v6.len();
    let unknown = if found.1.is_empty() { String::new() } else { format!(", {} unknown", found.1.len()) };
    println!("{name}: {rules} rules, {} dead{unknown}, {:.1} ms; {} MB", found.0.len(), median(times), memory());
}

/// Row after row: is it all in what was before, then that is more. Batfish's way.
fn sequential<A: Address>(rows: &[Row<A, u8>]) -> String {
    let world = bdd::World::new::<A>(bdd::ADDRESSES_FIRST, NODES);
    let begun = Instant::now();
    let mut before = world.constant(false);
    let mut dead = 0;
    for (at, row) in rows.iter().enumerate() {
        if begun.elapsed() > LIMIT {
            return format!("stopped at rule {at} after {:.1} s, {} nodes", begun.elapsed().as_secs_f64(), world.nodes());
        }
        let own = world.of(&row.matches);
        let taken = own.imp(&before).and_then(|taken| Ok((taken.valid(), before.or(&own)?)));
        let Ok((is_dead, both)) = taken else { return format!("stopped at rule {at}: out of nodes") };
        dead += usize::from(is_dead);
        before = both;
    }
    format!("{dead} dead, {:.1} ms, {} nodes", milliseconds(begun), world.nodes())
}

fn difference(before: &Table<u8>, after: &Table<u8>) -> (f64, std::result::Result<Difference, Exhausted>) {
    let begun = Instant::now();
    let found = before.difference(after, |a, b| a.unwrap_or(&0) == b.unwrap_or(&0), &mut Budget::new(DIFFERENCE));
    (milliseconds(begun), found)
}

fn edits<A: OfRows>(name: &str, rows: &[Row<A, u8>], rounds: usize) {
    let mut random = Random::new(7);
    let before = A::table(rows.to_vec());
    let (mut times, mut changes, mut unknown) = (Vec::new(), 0, 0);
    for _ in 0..rounds {
        let (time, found) = difference(&before, &A::table(generate::edited(rows, &mut random)));
        times.push(time);
        match found {
            Ok(found) => changes += found.v4.len() + found.v6.len(),
            Err(Exhausted { .. }) => unknown += 1,
        }
    }
    let worst = times.iter().copied().fold(0.0, f64::max);
    println!("{name}: complete difference {:.1} ms, worst {worst:.1} ms, {} parts, {unknown} unknown", median(times), changes / rounds);
}

fn rewrite<A: OfRows>(rows: &[Row<A, u8>]) {
    let after = generate::cut(rows, &mut Random::new(11));
    let count = after.len();
    let (time, found) = difference(&A::table(rows.to_vec()), &A::table(after));
    let answer = match found {
        Ok(found) if found.is_empty() => "the same".to_owned(),
        Ok(found) => format!("{} parts differ", found.v4.len() + found.v6.len()),
        Err(exhausted) => exhausted.to_string(),
    };
    println!("  every rule cut in two ({count}): {answer}, {time:.1} ms; {} MB", memory());
}

fn large<A: OfRows>(name: &str) {
    let lists: Vec<Rows<A>> = (0..11).map(|seed| [ACCESS, FIREWALL, CHAINS][seed % 3].rows(10_000, seed as u64 + 20)).collect();
    let rows: Rows<A> = (0..10_000).flat_map(|at| lists.iter().map(move |list| list[at].clone())).collect();
    dead(name, &A::table(rows.clone()), 3);
    edits("  ten rules edited", &rows, 5);
}

/// What the proof of a compile asks: a policy's rows, against rows that are disjoint and mean the same.
fn nodes() {
    const NODES: usize = 100;
    const RULES: usize = 1_000;
    let tables: Vec<(Table<u8>, Table<u8>)> = (0..NODES as u64 / 10)
        .map(|seed| {
            let rows = generate::node::<Ipv4Addr>(RULES, seed + 1);
            let all = parts(&rows, &Matches::any(), &mut Budget::new(DIFFERENCE)).expect("small lists");
            let decided = |part: &ringwall_packet::Part<Ipv4Addr>| rows[part.row.expect("the last takes all")].decision;
            let mut disjoint: Rows<Ipv4Addr> =
                all.iter().filter(|part| decided(part) == 1).map(|part| Row { matches: part.matches.clone(), decision: 1 }).collect();
            disjoint.reverse();
            disjoint.push(Row { matches: Matches::any(), decision: 0 });
            (Ipv4Addr::table(rows), Ipv4Addr::table(disjoint))
        })
        .collect();
    let rows = tables.iter().map(|(_, disjoint)| disjoint.v4.len()).sum::<usize>() / tables.len();
    let one: Vec<f64> = tables.iter().map(|(policy, disjoint)| difference(policy, disjoint).0).collect();
    let begun = Instant::now();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let same = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..cores() {
            scope.spawn(|| {
                use std::sync::atomic::Ordering::Relaxed;
                loop {
                    let node = next.fetch_add(1, Relaxed);
                    let Some((policy, disjoint)) = (node < NODES).then(|| &tables[node % tables.len()]) else { break };
                    if difference(policy, disjoint).1.is_ok_and(|found| found.is_empty()) {
                        same.fetch_add(1, Relaxed);
                    }
                }
            });
        }
    });
    println!(
        "{NODES} nodes, {RULES} rules against {rows} disjoint rows: {} the same, {:.1} ms; one alone {:.2} ms",
        same.into_inner(),
        milliseconds(begun),
        median(one)
    );
}
