//! `ringwall verify`, and `probe` and `respond`, its two ends.
//!
//! In: a policy, and a way to run `ringwall` on its nodes. Out: whether every declared flow is open
//! and the others are shut, seen from both ends. Never: a change to a ruleset; what the two ends put
//! into the kernel's sets times out by itself.
//!
//! Exit code: 0 all as declared; 1 something is not; 4 nothing is not, but something is unknown;
//! 3 nothing could be probed.

mod end;
mod machine;
mod matrix;
mod report;
mod run;
mod sample;
#[cfg(test)]
mod tests;

use std::io::{self, BufReader, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use ringwall_node::probe::{
    self, DESTINATION_SCHEMA, Finding, Line, Outcome, Plan, PlanError, ProbeError, RespondError, SOURCE_SCHEMA, Settings, Try, evidence,
};
use ringwall_policy::Policy;
use serde::Serialize;

use end::{Here, Runner, Template};
use machine::{Machine, Vantage, VantageError};
use matrix::{Case, Denied};
use report::Report;
use run::Reports;

/// Watches in the kernel end after this, whatever becomes of the processes.
const LIFE: Duration = Duration::from_secs(600);

#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = "Examples:
  ringwall verify policy.yaml                            this machine's part of the policy
  ringwall verify policy.yaml --run 'ssh {node} ringwall'  every node, through SSH
  ringwall verify policy.yaml --run 'ssh {node} ringwall' --vantage laptop=198.51.100.7 --denied all

Exit codes: 0 all as declared, 1 something is not, 4 something is unknown, 3 nothing could be probed.")]
pub struct Args {
    /// A policy file, or a folder of them
    pub policy: PathBuf,
    /// How to run `ringwall` on a machine; `{node}` stands for its name
    #[arg(long, value_name = "COMMAND", env = "RINGWALL_RUN")]
    run: Option<String>,
    /// A machine that is no node, from which and to which probes can be sent through --run
    #[arg(long, value_name = "NAME=ADDRESS[,ADDRESS...]")]
    vantage: Vec<Vantage>,
    /// How many flows that no rule allows to try, for each pair of machines and family: a number or `all`
    #[arg(long, value_name = "N", default_value = "8", value_parser = denied)]
    denied: Denied,
    /// Chooses which of them
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,
    /// A service that speaks TLS, beside the well-known ones: its name or `8443/tcp`
    #[arg(long, value_name = "SERVICE")]
    tls: Vec<String>,
    /// How long to wait for an answer, such as `500ms` or `2s`
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = timeout)]
    timeout: Duration,
    /// How often to send again when nothing comes back
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=10))]
    retries: u32,
    /// How many machines send at a time
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

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Vantage(#[from] VantageError),
    #[error("`--run` has no `{{node}}`, so that every machine would be the same one")]
    Template,
    #[error("`--vantage` needs `--run`, to run on the vantage")]
    VantageWithoutRun,
    #[error("this machine has no address of any node: name the others with `--run`")]
    NotANode,
    #[error("this machine's addresses could not be read")]
    Addresses(#[source] io::Error),
    #[error("nothing could be probed: {0}")]
    Nothing(String),
    #[error("the result could not be written")]
    Write(#[source] io::Error),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error(transparent)]
    Respond(#[from] RespondError),
}

impl Error {
    /// 2 for wrong usage, 3 when the environment is not there.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Vantage(_) | Self::Template | Self::VantageWithoutRun => 2,
            _ => 3,
        }
    }
}

/// `now` in seconds since the epoch; `nonce` differs from run to run.
pub fn run(args: &Args, policy: &Policy, now: u64, nonce: u64) -> Result<ExitCode, Error> {
    let machines = machine::machines(policy, &args.vantage)?;
    let (runner, reachable): (Box<dyn Runner>, Vec<bool>) = match &args.run {
        Some(run) if run.contains("{node}") => (Box::new(Template(run.clone())), vec![true; machines.len()]),
        Some(_) => return Err(Error::Template),
        None if !args.vantage.is_empty() => return Err(Error::VantageWithoutRun),
        None => {
            let here = probe::local_addresses().map_err(Error::Addresses)?;
            let is_here = |machine: &Machine| machine.addresses.iter().any(|address| here.contains(address));
            (Box::new(Here), machines.iter().map(is_here).collect())
        }
    };
    if !reachable.contains(&true) {
        return Err(Error::NotANode);
    }
    let options = matrix::Options { denied: args.denied, seed: args.seed, nonce, now, tls: args.tls.clone() };
    let matrix = matrix::matrix(policy, &machines, &options);
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
        return Err(Error::Nothing(reason));
    }
    let flows = cases.iter().map(|case| (case, judge(case, &reports))).collect();
    let report = Report { policy, machines: &machines, flows, not_probed: &matrix.not_probed };
    let out = io::BufWriter::new(io::stdout().lock());
    match args.output {
        Output::Table => report.table(out),
        Output::Json => report.json(out),
        Output::Ndjson => report.ndjson(out),
        Output::Csv => report.csv(out),
    }
    .map_err(Error::Write)?;
    let summary = report.summary();
    if args.output != Output::Table {
        eprintln!("{summary}");
    }
    Ok(match (summary.not_as_declared, summary.unknown) {
        (0, 0) => ExitCode::SUCCESS,
        (0, _) => ExitCode::from(4),
        _ => ExitCode::from(1),
    })
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

fn judge(case: &Case, reports: &Reports) -> Finding {
    let sources: Vec<_> = case.sources.iter().filter_map(|machine| reports.sources.get(machine)).collect();
    let said: Vec<_> = sources.iter().map(|(report, _)| report).collect();
    let destinations: Vec<_> = case.destinations.iter().filter_map(|machine| reports.destinations.get(machine)).collect();
    let seen: Vec<_> = destinations.iter().map(|report| report.as_ref().map_err(String::as_str)).collect();
    let mut evidence = evidence(&case.probe, &said, &seen);
    let failure = sources.iter().find_map(|(_, ended)| ended.as_ref().err().cloned());
    evidence.outcomes.entry(Try::Plain).or_insert_with(|| Outcome::Failed {
        reason: failure.unwrap_or_else(|| "no vantage: the source cannot be probed from".into()),
    });
    probe::judge(&case.probe, &case.expectation, &evidence)
}

/// Why no machine probed anything, if that is so.
fn nothing_probed(reports: &Reports) -> Option<String> {
    let mut failures = reports.sources.values().map(|(_, ended)| ended.as_ref().err());
    let first = failures.next()??;
    failures.all(|failure| failure.is_some()).then(|| first.clone())
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
pub fn probe_end() -> Result<ExitCode, Error> {
    let plan = Plan::read(BufReader::new(io::stdin()))?;
    let mut out = io::LineWriter::new(io::stdout().lock());
    probe::probe(&plan, |line| write_line(&mut out, SOURCE_SCHEMA, line))?;
    Ok(ExitCode::SUCCESS)
}

/// `ringwall respond`: a plan on standard input, evidence on standard output, until the input ends.
pub fn respond_end() -> Result<ExitCode, Error> {
    let plan = Plan::read(BufReader::new(io::stdin()))?;
    let mut out = io::LineWriter::new(io::stdout().lock());
    probe::respond(&plan, io::stdin(), |line| write_line(&mut out, DESTINATION_SCHEMA, line))?;
    Ok(ExitCode::SUCCESS)
}

fn write_line<T: Serialize>(mut to: impl Write, schema: &str, line: T) -> io::Result<()> {
    serde_json::to_writer(&mut to, &Line { schema: schema.to_owned(), line })?;
    to.write_all(b"\n")
}
