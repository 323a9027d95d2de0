//! One side of the comparison, in this process and in a network namespace of its own.
//!
//! In: the side's name, and of what its list is. Out: its figures. Never: a figure of another side.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use ringwall_node::kernel::Netfilter;
use ringwall_node::lists::{Abilities, Change, Entry, Kind, Lane, Operation, Planner, Prefix};
use ringwall_packet::Family;
use ringwall_ruleset::nftables::blocks;

use super::bare::{Bare, Element, transaction};
use super::{ENTRIES, Figures, Result, SINGLES};

const LEFT: Duration = Duration::from_secs(3600);
/// How often a single address is asked for while the list is loaded: one each so often.
const PAUSE: Duration = Duration::from_micros(700);

pub fn run(side: &str, kind: &str) -> Result<Figures> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let entry: fn(u32) -> Entry = match kind {
        "addresses" => address,
        _ => prefix,
    };
    let mut figures = Figures::new();
    let before = kernel_memory()?;
    match side {
        "ours" => ours(entry, &mut figures)?,
        "during" => during(entry, &mut figures)?,
        "bare_400" => bare(entry, 400, &mut figures)?,
        "bare_2000" => bare(entry, 2_000, &mut figures)?,
        "bare_10000" => bare(entry, 10_000, &mut figures)?,
        "nft" => nft(entry, kind, &mut figures)?,
        "ipset" => ipset(entry, kind, &mut figures)?,
        _ => return Err(format!("there is no side `{side}`").into()),
    }
    figures.insert("kernel".into(), kernel_memory()? - before);
    Ok(figures)
}

/// All different, and spread over the whole space: an odd factor permutes the numbers. None is 0.0.0.0, which ipset
/// can't hold.
fn address(number: u32) -> Entry {
    entry((number + 1).wrapping_mul(2_654_435_761), 32)
}

/// Each within a /22 of its own; most of them a /24, some longer and some shorter.
fn prefix(number: u32) -> Entry {
    let length = [24, 24, 24, 24, 22, 23, 24, 27][number as usize % 8];
    entry(((number + 1).wrapping_mul(2_654_435_761) & 0x3f_ffff) << 10, length)
}

/// One that is in neither list: as long as an address, with an odd last bit in a part of a /22 that no prefix has.
fn single(number: u32) -> Entry {
    entry(0xc633_0000 ^ number.wrapping_mul(40_503) << 10 | 0x301, 32)
}

fn entry(first: u32, length: u8) -> Entry {
    Entry { prefix: Prefix { network: Ipv4Addr::from_bits(first).into(), length }, left: Some(LEFT) }
}

fn text(entry: &Entry) -> String {
    match entry.prefix.length {
        32 => entry.prefix.network.to_string(),
        length => format!("{}/{length}", entry.prefix.network),
    }
}

fn ours(entry: fn(u32) -> Entry, figures: &mut Figures) -> Result<()> {
    let mut lane = lane()?;
    let zero = Instant::now();
    let resident = resident()?;

    let (begun, cpu) = (Instant::now(), cpu(UsageWho::RUSAGE_SELF)?);
    replace(&mut lane, 1, entry, zero.elapsed())?;
    lane.settle(zero.elapsed())?;
    figures.insert("load".into(), begun.elapsed().as_secs_f64());
    figures.insert("cpu".into(), self::cpu(UsageWho::RUSAGE_SELF)? - cpu);

    let (mut added, mut removed) = (Vec::new(), Vec::new());
    for number in 0..SINGLES {
        let one = single(number);
        let begun = Instant::now();
        lane.planner_mut().change("blocks", u64::from(number), [one], [], zero.elapsed())?;
        lane.settle(zero.elapsed())?;
        added.push(begun.elapsed());
    }
    for number in 0..SINGLES {
        let one = single(number).prefix;
        let begun = Instant::now();
        lane.planner_mut().change("blocks", u64::from(number), [], [one], zero.elapsed())?;
        lane.settle(zero.elapsed())?;
        removed.push(begun.elapsed());
    }
    percentiles("one", added, figures);
    percentiles("out", removed, figures);

    // What the list costs, without this program's code and libraries.
    figures.insert("own".into(), peak()? - resident);
    figures.insert("resident".into(), peak()?);

    let begun = Instant::now();
    let now = zero.elapsed();
    replace(&mut lane, 2, entry, now + Duration::from_secs(60))?;
    lane.settle(now)?;
    figures.insert("refresh".into(), begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    replace(&mut lane, 3, entry, now + Duration::from_secs(60))?;
    lane.settle(now)?;
    figures.insert("same".into(), begun.elapsed().as_secs_f64());
    Ok(())
}

fn lane() -> Result<Lane> {
    load("nft", &["-f", "-"], &blocks::skeleton())?;
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(Lane::new(Netfilter::open()?, Planner::default(), Abilities::of_release(&release)))
}

/// The same load, and single addresses meanwhile. From when one is asked for, on another thread, until the kernel has it.
fn during(entry: fn(u32) -> Entry, figures: &mut Figures) -> Result<()> {
    let mut lane = lane()?;
    let zero = Instant::now();
    replace(&mut lane, 1, entry, zero.elapsed())?;
    let (ask, asked) = mpsc::channel::<(Entry, Instant)>();
    let (stop, stopped) = mpsc::channel::<()>();
    let asking = std::thread::spawn(move || {
        for number in 0.. {
            if stopped.recv_timeout(PAUSE) != Err(mpsc::RecvTimeoutError::Timeout) || ask.send((single(number), Instant::now())).is_err() {
                return;
            }
        }
    });
    let mut during = Vec::new();
    while lane.step(zero.elapsed())?.is_some() {
        let mut begun = Vec::new();
        for (number, (one, at)) in (1..).zip(asked.try_iter()) {
            lane.planner_mut().change("blocks", number, [one], [], zero.elapsed())?;
            begun.push(at);
        }
        for at in begun {
            let step = lane.step(zero.elapsed())?;
            if !step.is_some_and(|step| step.urgent && step.enforced.len() == 1) {
                return Err("an urgent address was not urgent".into());
            }
            during.push(at.elapsed());
        }
    }
    let _ = stop.send(());
    drop(asked);
    asking.join().map_err(|_| "the asking thread has panicked")?;
    figures.insert("load".into(), zero.elapsed().as_secs_f64());
    figures.insert("cpu".into(), cpu(UsageWho::RUSAGE_SELF)?);
    percentiles("one", during, figures);
    Ok(())
}

fn replace(lane: &mut Lane, revision: u64, entry: fn(u32) -> Entry, now: Duration) -> Result<()> {
    let planner = lane.planner_mut();
    let mut snapshot = planner.snapshot();
    planner.receive(&mut snapshot, (0..ENTRIES).map(entry), now);
    planner.replace("imported", revision, snapshot)?;
    Ok(())
}

/// The very elements that lists make of the entries, in the same order.
fn bare(entry: fn(u32) -> Entry, most: usize, figures: &mut Figures) -> Result<()> {
    let mut planner = Planner::default();
    let mut snapshot = planner.snapshot();
    planner.receive(&mut snapshot, (0..ENTRIES).map(entry), Duration::ZERO);
    planner.replace("imported", 1, snapshot)?;
    let mut elements = Vec::new();
    while let Some(chunk) = planner.next(400, Duration::ZERO) {
        elements.extend(chunk.operations.iter().filter_map(element));
        planner.done(chunk);
    }
    figures.insert("elements".into(), f64::from(u32::try_from(elements.len())?));
    load("nft", &["-f", "-"], &blocks::skeleton())?;
    let transactions: Vec<Vec<u8>> = elements.chunks(most).map(transaction).collect();
    let mut bare = Bare::open()?;
    let (begun, cpu) = (Instant::now(), cpu(UsageWho::RUSAGE_SELF)?);
    for transaction in &transactions {
        bare.send(transaction)?;
    }
    figures.insert("load".into(), begun.elapsed().as_secs_f64());
    figures.insert("cpu".into(), self::cpu(UsageWho::RUSAGE_SELF)? - cpu);
    let mut added = Vec::new();
    for number in 0..SINGLES {
        let std::net::IpAddr::V4(address) = single(number).prefix.network else { continue };
        let one = Element { set: blocks::addresses(Family::V4), key: address.octets().to_vec(), timeout: Some(3_600_000) };
        let one = transaction(&[one]);
        let begun = Instant::now();
        bare.send(&one)?;
        added.push(begun.elapsed());
    }
    percentiles("one", added, figures);
    Ok(())
}

fn element(operation: &Operation) -> Option<Element> {
    let Change::Add(timeout) = operation.change else { return None };
    let set = match operation.kind {
        Kind::Addresses => blocks::addresses(operation.family),
        Kind::Prefixes => blocks::prefixes(operation.family),
        Kind::Covers => blocks::covers(operation.family),
    };
    let key = operation.number.to_be_bytes()[12..].to_vec();
    Some(Element { set, key, timeout: timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)) })
}

/// What nft has for it: a set of addresses, or of intervals.
fn nft(entry: fn(u32) -> Entry, kind: &str, figures: &mut Figures) -> Result<()> {
    let flags = if kind == "addresses" { "timeout" } else { "interval,timeout" };
    let mut text = format!("table inet b {{ set b {{ type ipv4_addr; flags {flags}; }}; }}\nadd element inet b b {{ ");
    for number in 0..ENTRIES {
        write!(text, "{} timeout 1h, ", self::text(&entry(number)))?;
    }
    text.push_str("}\n");
    figures.insert("load".into(), load_file("nft", &["-f", "-"], text)?);
    children(figures)?;
    let mut added = Vec::new();
    // It reads the whole of a set of intervals each time.
    for number in 0..if kind == "addresses" { 200 } else { 3 } {
        let command = format!("add element inet b b {{ {} timeout 1h }}\n", self::text(&single(number)));
        let begun = Instant::now();
        load("nft", &["-f", "-"], &command)?;
        added.push(begun.elapsed());
    }
    percentiles("one", added, figures);
    Ok(())
}

fn ipset(entry: fn(u32) -> Entry, kind: &str, figures: &mut Figures) -> Result<()> {
    let of = if kind == "addresses" { "hash:ip" } else { "hash:net" };
    let mut text = format!("create b {of} family inet hashsize 1024 maxelem 2097152 timeout 3600\n");
    for number in 0..ENTRIES {
        writeln!(text, "add b {} timeout 3600", self::text(&entry(number)))?;
    }
    figures.insert("load".into(), load_file("ipset", &["-exist", "restore"], text)?);
    children(figures)?;
    let mut added = Vec::new();
    for number in 0..200 {
        let one = self::text(&single(number));
        let begun = Instant::now();
        load("ipset", &["-exist", "add", "b", &one], "")?;
        added.push(begun.elapsed());
    }
    percentiles("one", added, figures);
    Ok(())
}

fn load(program: &str, arguments: &[&str], input: &str) -> Result<()> {
    let mut child = Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or("no input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)).into()) }
}

/// The same from a file, so that the text is not in this process meanwhile: a child's memory begins with its parent's.
fn load_file(program: &str, arguments: &[&str], text: String) -> Result<f64> {
    let path = std::env::temp_dir().join(format!("ringwall-bench-{}", std::process::id()));
    std::fs::write(&path, text)?;
    let begun = Instant::now();
    let status = Command::new(program).args(arguments).stdin(std::fs::File::open(&path)?).stdout(Stdio::null()).status();
    let time = begun.elapsed().as_secs_f64();
    std::fs::remove_file(&path)?;
    if status?.success() { Ok(time) } else { Err(format!("{program} has failed").into()) }
}

fn percentiles(name: &str, mut times: Vec<Duration>, figures: &mut Figures) {
    times.sort_unstable();
    if let Some(last) = times.last() {
        figures.insert(format!("{name}_p50"), times[times.len() / 2].as_secs_f64());
        figures.insert(format!("{name}_p99"), times[times.len() * 99 / 100].as_secs_f64());
        figures.insert(format!("{name}_max"), last.as_secs_f64());
    }
}

/// The largest that the programs run so far were (getrusage(2): kilobytes).
fn children(figures: &mut Figures) -> Result<()> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    figures.insert("resident".into(), f64::from(i32::try_from(usage.max_rss())?) / 1024.0);
    figures.insert("cpu".into(), cpu(UsageWho::RUSAGE_CHILDREN)?);
    Ok(())
}

/// Processor time so far, in programs and in the kernel for them: what else runs on the machine is not in it.
fn cpu(who: UsageWho) -> Result<f64> {
    let usage = getrusage(who)?;
    let seconds = |time: nix::sys::time::TimeVal| Duration::from_micros(u64::try_from(time.num_microseconds()).unwrap_or(0)).as_secs_f64();
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

fn resident() -> Result<f64> {
    field("/proc/self/status", "VmRSS:")
}

fn peak() -> Result<f64> {
    field("/proc/self/status", "VmHWM:")
}

/// The kernel's objects, and its large tables.
pub fn kernel_memory() -> Result<f64> {
    Ok(field("/proc/meminfo", "Slab:")? + field("/proc/meminfo", "VmallocUsed:")?)
}

fn field(file: &str, name: &str) -> Result<f64> {
    let text = std::fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(|| format!("no {name} in {file}"))?;
    let kilobytes: f64 = line.split_whitespace().next().ok_or("no number")?.parse()?;
    Ok(kilobytes / 1024.0)
}
