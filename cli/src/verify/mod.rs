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

use std::collections::BTreeSet;
use std::io::{self, BufReader, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use ringwall_node::probe::{
    self, DESTINATION_SCHEMA, Finding, Line, Plan, PlanError, ProbeError, RespondError, SOURCE_SCHEMA, Settings, evidence,
};
use ringwall_policy::Policy;
use serde::Serialize;

use end::{Here, Runner, Template};
use machine::{Machine, Vantage, VantageError};
use matrix::{Case, Denied, Matrix};
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
    /// How long to wait for an answer, in milliseconds
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    timeout: u64,
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
        None => (Box::new(Here), machines.iter().map(is_here).collect()),
    };
    if !reachable.contains(&true) {
        return Err(Error::NotANode);
    }
    let options = matrix::Options { denied: args.denied, seed: args.seed, nonce, now, tls: args.tls.clone() };
    let matrix = matrix::matrix(policy, &machines, &options);
    let settings = Settings {
        timeout_ms: args.timeout,
        retries: args.retries,
        life_ms: LIFE.as_millis() as u64,
        ..Settings::default()
    };
    let (own, strange): (Vec<Case>, Vec<Case>) = split(matrix.cases, &reachable);
    let bar = progress_bar(own.len());
    let reports = run::run(&own, &machines, &*runner, settings, args.jobs, || bar.inc(1));
    bar.finish_and_clear();
    if let Some(reason) = nothing_probed(&reports) {
        return Err(Error::Nothing(reason));
    }
    let cases: Vec<Case> = own.into_iter().chain(strange).collect();
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
