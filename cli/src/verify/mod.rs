//! `ringwall verify`, and `probe` and `respond`, its two ends.
//!
//! In: a policy, and a way to run `ringwall` on its nodes. Out: whether every declared flow is open
//! and the others are shut, seen from both ends. Never: a change to a ruleset; what the two ends put
//! into the kernel's sets times out by itself.
//!
//! Exit code: 0 all as declared; 1 something is not; 4 nothing is not, but something is unknown;
//! 3 nothing could be probed.

mod end;
mod fleet;
mod report;
mod run;
#[cfg(test)]
mod tests;

use std::io::{self, BufReader, IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use ringwall_analysis::probes::{Case, Denied, Machine, Options, Reports, Vantage, machines, matrix};
use ringwall_node::probe::{self, DESTINATION_SCHEMA, Line, Plan, SOURCE_SCHEMA, Settings, Watching};
use serde::Serialize;

use crate::Failure;
use crate::fleet::ServerArgs;
use crate::policy::{Bindings, PolicyArgs, now};
use crate::terminal::{Exit, Terminal};

use end::{Here, Runner, Template};
use report::Report;

/// Watches in the kernel end after this, whatever becomes of the processes. Longer than any run: when a
/// watch ends too early, what arrives is not seen.
const LIFE: Duration = Duration::from_secs(3600);

#[derive(clap::Args)]
#[command(after_help = "\
Every enforced rule is tried between the machines of its two ends, and of what no rule allows a sample.
A flow that should be closed is tried once more past the source's own output, so that an open
destination can't hide behind a closed source. In a fleet the agents are both ends, and the controller
keeps looking: this has all paths looked at now, and waits for that.

Exit codes: 0 all as declared, 1 something is not, 4 something is unknown, 3 nothing could be probed.

Examples:
  ringwall verify --controller https://fw.example.net      every path of a fleet, from its nodes
  ringwall verify --known -o json                          what is known of them already
  ringwall verify policy.yaml                              this machine's part of the policy
  ringwall verify policy.yaml --run 'ssh {node} ringwall'  every node, through SSH
  ringwall verify policy.yaml --run 'ssh {node} ringwall' --vantage laptop=198.51.100.7 --denied all")]
pub struct Args {
    /// The policy: a file, or a folder with its *.yaml files; otherwise RINGWALL_POLICY, or a fleet's controller.
    #[arg(value_name = "POLICY")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    bindings: Bindings,
    #[command(flatten)]
    server: ServerArgs,
    /// Of a fleet: what its probes found last, without another look.
    #[arg(long, conflicts_with = "policy")]
    known: bool,
    /// How to run `ringwall` on a machine; `{node}` stands for its name.
    #[arg(long, value_name = "COMMAND", env = "RINGWALL_RUN")]
    run: Option<String>,
    /// A machine that is no node, from which and to which probes can be sent through --run.
    #[arg(long, value_name = "NAME=ADDRESS[,ADDRESS...]")]
    vantage: Vec<Vantage>,
    /// How many flows that no rule allows to try, for each pair of machines and family: a number or `all`.
    #[arg(long, value_name = "N", default_value = "8", value_parser = denied)]
    denied: Denied,
    /// Chooses which of them.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,
    /// A service that speaks TLS, beside the well-known ones: its name or `8443/tcp`.
    #[arg(long, value_name = "SERVICE")]
    tls: Vec<String>,
    /// How long to wait for an answer, such as `500ms` or `2s`.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = timeout)]
    timeout: Duration,
    /// How often to send again when nothing comes back.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=10))]
    retries: u32,
    /// How many machines send at a time.
    #[arg(long, value_name = "N", default_value_t = 16)]
    jobs: usize,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
    Ndjson,
    Csv,
}

fn denied(text: &str) -> Result<Denied, String> {
    match text {
        "all" => Ok(Denied::All),
        _ => text.parse().map(Denied::Some).map_err(|_| "write a number or `all`".into()),
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    let number = |digits: &str| digits.parse().map_err(|_| format!("`{text}` is not a time such as `500ms` or `2s`"));
    let milliseconds: u64 = match text.strip_suffix("ms") {
        Some(digits) => number(digits)?,
        None => number(text.strip_suffix('s').unwrap_or(text))?.saturating_mul(1000),
    };
    let fits = (10..=60_000).contains(&milliseconds);
    fits.then(|| Duration::from_millis(milliseconds)).ok_or_else(|| "the time must be from 10ms to 60s".into())
}

/// Of a policy, if one is named; else of a fleet.
pub fn run(args: &Args, terminal: &Terminal) -> Result<Exit, Failure> {
    let policy = args.policy.clone().or_else(|| {
        let is_fleet = args.known || args.server.controller.is_some();
        std::env::var_os("RINGWALL_POLICY").map(PathBuf::from).filter(|_| !is_fleet)
    });
    let Some(policy) = policy else {
        if args.server.controller.is_none() {
            let failure = Failure::new(Exit::Usage, "the paths of which policy, or of which fleet?");
            return Err(failure.help("name a POLICY, or a controller by --controller URL or RINGWALL_CONTROLLER"));
        }
        if args.run.is_some() || !args.vantage.is_empty() {
            return Err(Failure::new(Exit::Usage, "a fleet's probes are run by its agents: `--run` and `--vantage` are for a POLICY"));
        }
        return report(&fleet::paths(&args.server.client(terminal)?, args.known, terminal)?, args.output, terminal);
    };
    of_policy(args, &PolicyArgs { policy, bindings: args.bindings.clone() }, terminal)
}

fn of_policy(args: &Args, policy: &PolicyArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let (_, policy) = policy.resolved(terminal)?;
    let machines = machines(&policy, &args.vantage).map_err(|error| Failure::of(Exit::Usage, &error))?;
    let (runner, reachable) = reach(args, &machines)?;
    // The part of a second: source ports begin elsewhere in each run, so that no connection that the
    // kernel still remembers is met again.
    let nonce = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::from(time.subsec_nanos()));
    let options = Options { denied: args.denied, seed: args.seed, nonce, now: now(), tls: args.tls.clone(), most: usize::MAX };
    let matrix = matrix(&policy, &machines, &options);
    let settings = Settings {
        timeout_ms: args.timeout.as_millis() as u64,
        retries: args.retries,
        life_ms: LIFE.as_millis() as u64,
        ..Settings::default()
    };
    let cases = within_reach(matrix.cases, &reachable);
    let tries: usize = cases.iter().map(|case| case.sources.len()).sum();
    let bar = progress_bar(tries);
    let reports = run::run(&cases, &machines, &*runner, settings, args.jobs, || bar.inc(1));
    bar.finish_and_clear();
    if let Some(reason) = nothing_probed(&reports) {
        return Err(Failure::new(Exit::Environment, format!("nothing could be probed: {reason}")));
    }
    let flows: Vec<_> = cases.iter().map(|case| (case, reports.judge(case))).collect();
    for warning in unwatched(&machines, &reports) {
        terminal.warn(&warning);
    }
    report(&Report::of(&policy, &flows, &matrix.not_probed), args.output, terminal)
}

fn report(report: &Report, output: Output, terminal: &Terminal) -> Result<Exit, Failure> {
    let out = io::BufWriter::new(io::stdout().lock());
    match output {
        Output::Table => report.table(out),
        Output::Json => report.json(out),
        Output::Ndjson => report.ndjson(out),
        Output::Csv => report.csv(out),
    }
    .map_err(|error| Failure::of(Exit::Environment, &error))?;
    if report.is_empty() {
        terminal.warn("the policy enforces nothing that could be probed");
        return Ok(Exit::Partly);
    }
    let summary = report.summary();
    if output != Output::Table {
        terminal.say(&summary.to_string());
    }
    Ok(match (summary.all.not_as_declared, summary.all.unknown) {
        (0, 0) => Exit::Success,
        (0, _) => Exit::Partly,
        _ => Exit::Failure,
    })
}

/// How to run `ringwall` on the machines, and on which that is possible.
fn reach(args: &Args, machines: &[Machine]) -> Result<(Box<dyn Runner>, Vec<bool>), Failure> {
    let usage = |message| Err(Failure::new(Exit::Usage, message));
    match &args.run {
        Some(run) if run.contains("{node}") => Ok((Box::new(Template(run.clone())), vec![true; machines.len()])),
        Some(_) => usage("`--run` has no `{node}`, so that every machine would be the same one"),
        None if !args.vantage.is_empty() => usage("`--vantage` needs `--run`, to run on the vantage"),
        None => {
            let here = probe::local_addresses().map_err(|error| Failure::of(Exit::Environment, &error))?;
            let is_here = |machine: &Machine| machine.addresses.iter().any(|address| here.contains(address));
            let reachable: Vec<bool> = machines.iter().map(is_here).collect();
            if reachable.contains(&true) {
                return Ok((Box::new(Here), reachable));
            }
            let failure = Failure::new(Exit::Environment, "this machine has no address of any node");
            Err(failure.help("`--run 'ssh {node} ringwall'` probes from the nodes themselves"))
        }
    }
}

/// The cases with at least one end on a machine that can be reached, and only those ends.
fn within_reach(cases: Vec<Case>, reachable: &[bool]) -> Vec<Case> {
    let narrowed = cases.into_iter().map(|mut case| {
        case.sources.retain(|machine| reachable[*machine]);
        case.destinations.retain(|machine| reachable[*machine]);
        case
    });
    narrowed.filter(|case| !case.sources.is_empty() || !case.destinations.is_empty()).collect()
}

/// Why no machine probed anything, if that is so.
fn nothing_probed(reports: &Reports) -> Option<String> {
    let mut failures = reports.sources.values().map(|(_, ended)| ended.as_ref().err());
    let first = failures.next()??;
    failures.all(|failure| failure.is_some()).then(|| first.clone())
}

/// The nodes whose kernel could not be watched, though they should enforce.
fn unwatched(machines: &[Machine], reports: &Reports) -> Vec<String> {
    let enforcing = reports.destinations.iter().filter(|(index, _)| machines[**index].enforces);
    let warnings = enforcing.filter_map(|(index, report)| {
        let name = &machines[*index].name;
        match report.as_ref().map(|report| report.watching()) {
            Ok(Some(Watching::NoRuleset)) => Some(format!("{name} has no ruleset of ours, though the policy enforces there")),
            Ok(Some(Watching::Failed(reason))) => Some(format!("what arrives at {name} can't be watched: {reason}")),
            Ok(_) => None,
            Err(reason) => Some(reason.clone()),
        }
    });
    warnings.collect()
}

fn progress_bar(tries: usize) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(tries as u64);
    if let Ok(style) = ProgressStyle::with_template("probing {bar:40} {pos}/{len}") {
        bar.set_style(style);
    }
    bar
}

/// `ringwall probe`: a plan on standard input, observations on standard output.
pub fn probe() -> Result<Exit, Failure> {
    let plan = Plan::read(BufReader::new(io::stdin())).map_err(|error| Failure::of(Exit::Usage, &error))?;
    let mut out = io::LineWriter::new(io::stdout().lock());
    let done = probe::probe(&plan, |line| write_line(&mut out, SOURCE_SCHEMA, line));
    done.map(|()| Exit::Success).map_err(|error| Failure::of(Exit::Environment, &error))
}

/// `ringwall respond`: a plan on standard input, evidence on standard output, until the input ends.
pub fn respond() -> Result<Exit, Failure> {
    let plan = Plan::read(BufReader::new(io::stdin())).map_err(|error| Failure::of(Exit::Usage, &error))?;
    let mut out = io::LineWriter::new(io::stdout().lock());
    let done = probe::respond(&plan, io::stdin(), |line| write_line(&mut out, DESTINATION_SCHEMA, line));
    done.map(|()| Exit::Success).map_err(|error| Failure::of(Exit::Environment, &error))
}

fn write_line<T: Serialize>(mut to: impl Write, schema: &str, line: T) -> io::Result<()> {
    serde_json::to_writer(&mut to, &Line { schema: schema.to_owned(), line })?;
    to.write_all(b"\n")
}
