//! Times of the kernel module, in a network namespace of its own: `cargo run --release -p
//! ringwall-node --example kernel_bench` as root. Prints one line a case, beside nft's own way.

use std::fmt::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use ringwall_node::kernel::{Edit, Key, Netfilter, Nft, TableId};

const RULES: u32 = 10_000;
const ELEMENTS: u32 = 1_000_000;
const BATCH: u32 = 2_000;
const SINGLE: u32 = 2_000;
const TIMEOUT: Option<Duration> = Some(Duration::from_secs(86_400));

fn main() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
    let nft = Nft::find(std::env::var_os("PATH").as_deref()).expect("nft is installed");
    let mut netfilter = Netfilter::open().expect("a netlink socket");
    let policy = TableId::inet("ringwall");
    nft.load(&rules()).expect("the rules load");

    let counters = time(|| netfilter.counters(&policy).expect("counters"));
    let listed = time(|| list(&nft, &["-j", "list", "counters"]));
    report("read 10,000 counters", counters, Some(("nft -j list counters", listed)));
    let read = time(|| netfilter.rules(&policy, "g1_in").expect("rules"));
    let listed = time(|| list(&nft, &["list", "chain", "inet", "ringwall", "g1_in"]));
    report("read 10,000 rules with their comments", read, Some(("nft list chain", listed)));
    let digest = time(|| netfilter.digest(&policy, |name| name.starts_with("g1_")).expect("a digest"));
    let listed = time(|| list(&nft, &["list", "table", "inet", "ringwall"]));
    report("digest of 10,000 rules and a map of 10,000", digest, Some(("nft list table", listed)));

    let blocks = TableId::inet("ringwall_blocks");
    nft.load("table inet ringwall_blocks { set blocked { type ipv4_addr; flags timeout; size 2000000; }; }\n")
        .expect("the set loads");
    let begin = Instant::now();
    for first in (0..ELEMENTS).step_by(BATCH as usize) {
        let edits: Vec<Edit<'_>> = (first..first + BATCH).map(add).collect();
        netfilter.change_elements(&blocks, &edits).expect("added");
    }
    report("add 1,000,000 elements in batches of 2,000", begin.elapsed(), None);
    let sets = netfilter.sets(&blocks).expect("sets");
    assert_eq!(sets[0].count, Some(ELEMENTS));

    let mut times: Vec<Duration> = (ELEMENTS..ELEMENTS + SINGLE)
        .map(|number| {
            let begin = Instant::now();
            netfilter.change_elements(&blocks, &[add(number)]).expect("added");
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    let singly = time(|| nft.load("add element inet ringwall_blocks blocked { 203.0.113.1 timeout 1h }\n"));
    report("add one element to 1,000,000, median", times[times.len() / 2], Some(("nft add element", singly)));
    report("add one element to 1,000,000, 99th percentile", times[times.len() * 99 / 100], None);
    let count = time(|| netfilter.sets(&blocks).expect("sets"));
    report("count the 1,000,000", count, None);
}

fn add(number: u32) -> Edit<'static> {
    // A permutation of the addresses, so that they are not added in order.
    let address = number.wrapping_mul(2_654_435_761);
    Edit::Add { set: "blocked", key: Key::new().raw(&address.to_be_bytes()), timeout: TIMEOUT }
}

/// Rules as a compiler would write them without maps, and a map as it would with them.
fn rules() -> String {
    let (mut counters, mut rules, mut elements) = (String::new(), String::new(), Vec::new());
    for number in 0..RULES {
        let (a, b) = (number / 250 % 250, number % 250);
        writeln!(counters, " counter g1_{number:08x} {{ }}").expect("memory");
        writeln!(
            rules,
            "  ip saddr 198.51.{a}.{b} tcp dport 443 counter name \"g1_{number:08x}\" accept comment \"{number:08x}\""
        )
        .expect("memory");
        elements.push(format!("198.51.{a}.{b} . 443 : accept"));
    }
    let elements = elements.join(", ");
    format!(
        "table inet ringwall {{\n{counters} map g1_map {{ type ipv4_addr . inet_service : verdict; elements = {{ {elements} }}\n }}\n chain g1_in {{\n{rules} }}\n}}\n"
    )
}

fn list(nft: &Nft, arguments: &[&str]) {
    let status = Command::new(nft.program()).args(arguments).stdout(Stdio::null()).status().expect("nft runs");
    assert!(status.success());
}

/// The best of five.
fn time<T>(mut work: impl FnMut() -> T) -> Duration {
    let once = |_| {
        let begin = Instant::now();
        let result = work();
        let elapsed = begin.elapsed();
        drop(result);
        elapsed
    };
    (0..5).map(once).min().expect("five")
}

fn report(name: &str, ours: Duration, theirs: Option<(&str, Duration)>) {
    print!("{name}: {:.3} ms", ours.as_secs_f64() * 1e3);
    if let Some((other, theirs)) = theirs {
        print!(
            "; {other}: {:.3} ms, {:.0} times",
            theirs.as_secs_f64() * 1e3,
            theirs.as_secs_f64() / ours.as_secs_f64()
        );
    }
    println!();
}
