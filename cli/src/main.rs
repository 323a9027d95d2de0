//! `ringwall`: the operator's command.
//!
//! In: arguments, files, the clock, the environment. Out: data on stdout, messages on stderr, an
//! exit code. Never: logic that another crate could have: this is the shell around them.

mod apply;
mod can;
mod check;
mod compile;
mod diff;
mod explain;
mod fleet;
mod import;
mod init;
mod lint;
mod matrix;
mod nodes;
mod plan;
mod policy;
mod question;
mod ruleset;
mod status;
mod terminal;
mod verify;
mod who;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use terminal::{Exit, Terminal};

/// One policy for the firewalls of a platform that runs on many machines.
#[derive(Parser)]
#[command(name = "ringwall", version, about, disable_help_subcommand = true, after_help = EXIT_CODES)]
struct Cli {
    /// When to colour messages and tables.
    #[arg(long, global = true, value_enum, default_value_t = terminal::When::Auto, value_name = "WHEN")]
    color: terminal::When,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 yes or done, 1 no or failed, 2 wrong usage, 3 something of the machine is missing, 4 partly done.

Examples:
  ringwall import guide.md > policy.yaml     make a policy of a vendor's port tables
  ringwall check policy.yaml                 what is wrong or doubtful in it
  ringwall plan policy.yaml                  what it would change here
  ringwall apply policy.yaml                 enforce it here, on trial for 60 seconds
  ringwall confirm                           keep it
  ringwall verify policy.yaml                probe every declared path";

const PLAN_HELP: &str = "\
The plan and what is observed are JSON lines. `ringwall verify` writes the one and reads the other.

Examples:
  ringwall verify policy.yaml --run 'ssh {node} ringwall'";

#[derive(Subcommand)]
enum Command {
    /// Start a policy folder from a preset.
    Init(init::Args),
    /// Read port tables of install guides, and make a policy of them.
    Import(import::Args),
    /// Find mistakes and doubtful rows in a policy or a guide.
    Check(check::Args),
    /// Say what a diagnostic's code means.
    Explain(explain::Args),
    /// Ask whether flows are allowed, by which rule, and what would open them.
    Can(can::Args),
    /// Ask who reaches an end of the policy, and by which rule.
    Who(who::WhoArgs),
    /// Ask what a node reaches, and by which rule.
    Reach(who::ReachArgs),
    /// Show which role reaches which, with what.
    Matrix(matrix::Args),
    /// Compare two rulesets: which packets one lets pass and the other does not.
    Diff(diff::Args),
    /// List the nodes of a policy, or of a fleet.
    Nodes(nodes::NodesArgs),
    /// List what the internet reaches on each node.
    Exposure(nodes::ExposureArgs),
    /// Print a node's ruleset as nftables text.
    Compile(compile::Args),
    /// Show what a policy would change: flows opened and closed, connections cut.
    Plan(plan::Args),
    /// Enforce the policy on this machine.
    Apply(apply::ApplyArgs),
    /// Keep the ruleset that is on trial.
    Confirm(apply::ConfirmArgs),
    /// End the trial, or go back to an earlier ruleset.
    Rollback(apply::RollbackArgs),
    /// Show what this machine enforces.
    Status(status::Args),
    /// Probe every declared path, and a sample of what is not declared.
    Verify(verify::Args),
    /// Send the probes of a plan that comes on stdin: the source's part of `verify`.
    #[command(after_help = PLAN_HELP)]
    Probe,
    /// Answer the probes of a plan that comes on stdin: the destination's part of `verify`.
    #[command(after_help = PLAN_HELP)]
    Respond,
    /// Take our tables out of the kernel, and nothing else.
    Remove(apply::RemoveArgs),
    /// Load the confirmed ruleset; the unit file runs this before the network is up.
    Restore(apply::RestoreArgs),
    /// Of a fleet: the words that let nodes in.
    #[command(after_help = "Examples:\n  ringwall token create --labels role=primary --prefix 192.0.2.0/24\n  ringwall token list")]
    Token(fleet::TokenArgs),
    /// Of a fleet: let a node in, say where it stands, put it out.
    #[command(after_help = "Examples:\n  ringwall node approve vault-1\n  ringwall node revoke vault-1 --reason 'the machine was sold'")]
    Node(fleet::NodeArgs),
    /// Of a fleet: commit a policy, and see what was committed.
    #[command(after_help = "Examples:\n  ringwall revision commit policy/\n  ringwall revision list")]
    Revision(fleet::RevisionArgs),
    /// Of a fleet: bring a revision to its nodes, in waves, and back.
    #[command(after_help = "Examples:\n  ringwall rollout start 7 --wait\n  ringwall rollout status")]
    Rollout(fleet::RolloutArgs),
    /// Of a fleet: what happened, and what happens.
    Events(fleet::EventsArgs),
    /// Of a fleet: keys to the controller's API.
    #[command(after_help = "Examples:\n  ringwall key create ci --scopes read,write --for 90d > ci.key\n  ringwall key list")]
    Key(fleet::KeyArgs),
    /// Of a fleet: who changed what.
    Audit(fleet::AuditArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let terminal = Terminal::new(cli.color);
    let result = match cli.command {
        Command::Init(args) => init::run(&args, &terminal),
        Command::Import(args) => import::run(&args, &terminal),
        Command::Check(args) => check::run(&args, &terminal),
        Command::Explain(args) => explain::run(&args),
        Command::Can(args) => can::run(&args, &terminal),
        Command::Who(args) => who::who(&args, &terminal),
        Command::Reach(args) => who::reach(&args, &terminal),
        Command::Matrix(args) => matrix::run(&args, &terminal),
        Command::Diff(args) => diff::run(&args, &terminal),
        Command::Nodes(args) => nodes::nodes(&args, &terminal),
        Command::Exposure(args) => nodes::exposure(&args, &terminal),
        Command::Compile(args) => compile::run(&args, &terminal),
        Command::Plan(args) => plan::run(&args, &terminal),
        Command::Apply(args) => apply::apply(&args, &terminal),
        Command::Confirm(args) => apply::confirm(&args, &terminal),
        Command::Rollback(args) => apply::rollback(&args, &terminal),
        Command::Status(args) => status::run(&args, &terminal),
        Command::Verify(args) => verify::run(&args, &terminal),
        Command::Probe => verify::probe(),
        Command::Respond => verify::respond(),
        Command::Remove(args) => apply::remove(&args, &terminal),
        Command::Restore(args) => apply::restore(&args, &terminal),
        Command::Token(args) => fleet::token(args, &terminal),
        Command::Node(args) => fleet::node(args, &terminal),
        Command::Revision(args) => fleet::revision(args, &terminal),
        Command::Rollout(args) => fleet::rollout(args, &terminal),
        Command::Events(args) => fleet::events(&args, &terminal),
        Command::Key(args) => fleet::key(args, &terminal),
        Command::Audit(args) => fleet::audit(&args, &terminal),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            terminal.failure(&failure);
            failure.exit.into()
        }
    }
}

/// What went wrong, in one sentence, with its causes, what to do next, and the exit code.
#[derive(Debug)]
pub struct Failure {
    message: String,
    causes: Vec<String>,
    help: Vec<String>,
    exit: Exit,
}

impl Failure {
    fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { message: message.into(), causes: Vec::new(), help: Vec::new(), exit }
    }

    /// With the whole chain of causes.
    fn of(exit: Exit, error: &dyn std::error::Error) -> Self {
        let mut failure = Self::new(exit, error.to_string());
        let mut cause = error.source();
        while let Some(error) = cause {
            failure.causes.push(error.to_string());
            cause = error.source();
        }
        failure
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }
}
