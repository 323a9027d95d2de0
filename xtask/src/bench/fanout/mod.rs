//! One change of a list, from the controller's door to the last of many connected agents; what an agent costs in
//! memory; all of them coming back at once. Beside it, the same bytes over bare TLS connections.
//!
//! In: nothing. Out: times, memory, ratios. Never: a figure of one process that is another's: the controller, the agents and the
//! bare side each run in their own.
//!
//! The controller is the real one: its store, its core, its server, its TLS. Agents are the protocol's client, one stream
//! each: they greet, take lists, acknowledge and send heartbeats, and have no kernel.

mod agents;
mod bare;
mod controller;
mod fleet;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_gettime};

use super::Result;

const COUNTS: [usize; 2] = [1_000, 5_000];
/// Changes, one after the other, each once the last agent has the one before. The first ones don't count.
const ROUNDS: usize = 300;
const WARM: usize = 30;

type Figures = BTreeMap<String, f64>;

pub fn run(arguments: &[&str]) -> Result<()> {
    more_descriptors()?;
    match arguments {
        [] => all(),
        ["controller", count] => print(&controller::run(count.parse()?)?),
        ["bare", count] => print(&bare::run(count.parse()?)?),
        ["agents", folder, port] => agents::run(Path::new(folder), port.parse()?),
        ["bare-agents", folder, port] => bare::agents(Path::new(folder), port.parse()?),
        _ => Err("`cargo xtask bench fanout` takes no arguments".into()),
    }
}

fn all() -> Result<()> {
    let cores = std::thread::available_parallelism()?;
    println!("one address more, from the call at the controller until the last agent has it; {ROUNDS} rounds, each timed by its last agent");
    println!("the agents share the {cores} cores of this machine with the controller: what they take is in these times");
    for count in COUNTS {
        let (ours, bare) = (measure("controller", count)?, measure("bare", count)?);
        let [p50, p99, max] = ["p50", "p99", "max"].map(|name| ours[name]);
        let budget = if count == COUNTS[0] { " (budget: p99 < 100 ms)" } else { "" };
        println!("{count} agents: p50 {p50:.1} ms, p99 {p99:.1} ms, max {max:.1} ms{budget}");
        println!("  bare TLS:  p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms; ours {:.1} x at p50, {:.1} x at p99", bare["p50"], bare["p99"], bare["max"], p50 / bare["p50"], p99 / bare["p99"]);
        println!("  first agent: p50 {:.1} ms; the call itself: p50 {:.2} ms", ours["first"], ours["call"]);
        println!("  the controller's processor time for a change: {:.1} ms, bare {:.1} ms", ours["cpu"], bare["cpu"]);
        let budget = if count == COUNTS[1] { " (budget 400 MB)" } else { "" };
        println!("  memory: {:.0} kB an agent, {:.0} MB in all{budget}; after the changes {:.0} MB; bare {:.0} kB", ours["each"], ours["resident"], ours["after"], bare["each"]);
        println!("  all connect: {:.1} s; all are back after the controller dropped them: {:.1} s, its processor time {:.1} s", ours["connect"], ours["reconnect"], ours["reconnect_cpu"]);
    }
    Ok(())
}

fn measure(side: &str, count: usize) -> Result<Figures> {
    let output = Command::new(std::env::current_exe()?).args(["bench", "fanout", side, &count.to_string()]).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{side} with {count} agents failed").into());
    }
    let figures = String::from_utf8(output.stdout)?;
    let figure = |line: &str| {
        let (name, figure) = line.split_once(' ').ok_or_else(|| format!("no figure: {line}"))?;
        Ok((name.to_owned(), figure.parse()?))
    };
    figures.lines().map(figure).collect()
}

fn print(figures: &Figures) -> Result<()> {
    figures.iter().for_each(|(name, figure)| println!("{name} {figure}"));
    Ok(())
}

/// As many as this process may have: a socket for each agent.
fn more_descriptors() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let wanted = COUNTS[1] as u64 + 100;
    if most < wanted { Err(format!("{wanted} descriptors are needed, and this process may have {most}").into()) } else { Ok(()) }
}

/// Nanoseconds of a clock that all processes of the machine share.
fn monotonic() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Processor time of this process, in seconds.
fn cpu() -> f64 {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(0.0, |time| Duration::from(time).as_secs_f64())
}

/// Resident memory of this process, in bytes: proc_pid_status(5).
fn resident() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? * 1024.0)
}

/// The process with the agents, and what it says: `all NANOSECONDS` whenever all are connected, `round FIRST LAST` for each
/// change.
struct Load {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Load {
    fn start(side: &str, folder: &Path, port: u16) -> Result<Self> {
        let folder = folder.to_str().ok_or("a path in UTF-8")?;
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.args(["bench", "fanout", side, folder, &port.to_string()]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("its output")?).lines();
        Ok(Self { child, lines })
    }

    /// The numbers of the next line, which begins with this word.
    fn next(&mut self, word: &str) -> Result<Vec<u64>> {
        let line = self.lines.next().ok_or("the agents ended")??;
        let mut words = line.split(' ');
        if words.next() != Some(word) {
            return Err(format!("`{word}` was to come, not `{line}`").into());
        }
        words.map(|number| Ok(number.parse()?)).collect()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the rounds were, each with its beginning, first and last receipt.
#[derive(Default)]
struct Rounds {
    first: Vec<f64>,
    last: Vec<f64>,
}

impl Rounds {
    fn add(&mut self, begun: u64, received: &[u64]) -> Result<()> {
        let [first, last] = received else { return Err("two times".into()) };
        let since = |at: u64| at.saturating_sub(begun) as f64 / 1e6;
        self.first.push(since(*first));
        self.last.push(since(*last));
        Ok(())
    }

    fn figures(mut self) -> Figures {
        let names = [("p50", 0.5), ("p99", 0.99), ("max", 1.0)];
        let mut figures: Figures = names.iter().map(|(name, part)| ((*name).to_owned(), percentile(&mut self.last, *part))).collect();
        figures.insert("first".into(), percentile(&mut self.first, 0.5));
        figures
    }
}

/// The nearest rank: of 300 figures, 1 % are the three largest.
fn percentile(figures: &mut [f64], part: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    let rank = (figures.len() as f64 * part).ceil() as usize;
    figures[rank.clamp(1, figures.len()) - 1]
}
