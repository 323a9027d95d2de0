//! `ringwall-agent`: enforces on this node what the fleet's controller says.
//!
//! In: a token, once; then flags, RINGWALL_* variables, the state folder. Out: the reconciler's work, until it is told to
//! end. Never: an open port; rules taken out because it ends.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use ringwall_agent::identity::{Enrolment, Identity, IdentityError, Progress};
use ringwall_agent::doctor::{self, findings};
use ringwall_agent::machine::{boot, facts};
use ringwall_agent::{Settings, Shell, because, proof};
use ringwall_node::kernel::Nft;
use ringwall_node::reconciler::{Action, Event};
use ringwall_protocol::Invitation;
use tokio::sync::mpsc::{Receiver, Sender, channel};

#[derive(Debug, Parser)]
#[command(name = "ringwall-agent", version, about = "Enforces on this node what the fleet's controller says", after_help = EXAMPLES)]
struct Arguments {
    /// What is kept: the identity, and what was enforced.
    #[arg(long, value_name = "DIR", env = "RINGWALL_STATE_DIR", default_value = "/var/lib/ringwall", global = true)]
    state_dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes this node a member of a fleet.
    Enrol {
        /// What `ringwall token create` printed; `-` reads it from stdin.
        token: String,
        /// The name that the node would like; a token may bind another.
        #[arg(long, value_name = "NAME")]
        node: Option<String>,
    },
    /// Connects to the controller and enforces, until it is told to end. What it enforces stays.
    Run,
    /// Gives the membership up; the rules stay.
    Forget,
    /// Looks for what does not fit together here, and changes nothing.
    Doctor {
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// One document with a `schema`.
    Json,
}

const EXAMPLES: &str = "\
Examples:
  ringwall-agent enrol rwt1_…      with a token from `ringwall token create`
  ringwall-agent run               what the unit ringwall-agent.service does
  ringwall-agent doctor            ports without a rule, rules without a listener, what the kernel lacks
  ringwall status                  what is enforced here";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(is_terminal).with_max_level(tracing::Level::INFO).init();
    // One thread for what waits; those for the kernel and the disk are the shell's own.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into(), 3),
    };
    let done = runtime.block_on(async {
        match arguments.command {
            Command::Enrol { token, node } => enrol(&arguments.state_dir, &token, node).await,
            Command::Run => run(arguments.state_dir).await,
            Command::Forget => Ok(Identity::forget(&arguments.state_dir)?),
            Command::Doctor { output } => return doctor(&arguments.state_dir, output).await,
        }
        .map(|()| ExitCode::SUCCESS)
    });
    match done {
        Ok(code) => code,
        Err(error) if matches!(error.downcast_ref(), Some(IdentityError::Refused(_) | IdentityError::Already)) => failed(&error, 1),
        Err(error) => failed(&error, 3),
    }
}

fn failed(error: &Box<dyn std::error::Error + Send + Sync>, code: u8) -> ExitCode {
    eprintln!("ringwall-agent: {}", because(&**error));
    ExitCode::from(code)
}

async fn enrol(state: &Path, token: &str, node: Option<String>) -> Result<()> {
    let token = if token == "-" { std::io::read_to_string(std::io::stdin())? } else { token.to_owned() };
    let invitation: Invitation = token.trim().parse()?;
    let node = match node {
        Some(node) => node,
        None => nix::unistd::gethostname()?.to_string_lossy().into_owned(),
    };
    let enrolment = Enrolment::new(state, invitation)?;
    let mut is_told = false;
    loop {
        match enrolment.ask(&node, facts()).await? {
            Progress::Done(_) => {
                println!("this node is enrolled; `ringwall-agent run` connects it");
                return Ok(());
            }
            Progress::Pending { retry } => {
                if !is_told {
                    eprintln!("an operator must approve it: `ringwall node approve {node}`; waiting");
                    is_told = true;
                }
                tokio::time::sleep(Duration::from_secs(retry.clamp(1, 300).into())).await;
            }
        }
    }
}

async fn run(state: PathBuf) -> Result<()> {
    // What is enforced is looked after in any case.
    let identity = match Identity::open(&state) {
        Err(error @ IdentityError::None) => return Err(error.into()),
        Err(error) => {
            let error = because(&error);
            tracing::error!(error, "the identity can't be used: there is no controller until `ringwall-agent forget` and another enrolment");
            None
        }
        Ok(identity) => Some(identity),
    };
    let (asked, asks) = channel::<Action>(4);
    let facts = facts();
    let settings = Settings {
        folder: state.clone(),
        nft: Nft::find(std::env::var_os("PATH").as_deref())?,
        floor: ringwall_node::apply::floor(&state),
        ways_in: Vec::new(),
        proof,
        boot: boot()?,
        facts,
    };
    let mut shell = Shell::start(settings, asked)?;
    let (controllers, mut controller) = channel(1);
    let holder = match identity {
        Some(identity) => {
            shell.use_controller(identity.controller()?);
            tokio::spawn(hold(state, identity, asks, shell.sender(), controllers))
        }
        None => tokio::spawn(without_identity(asks, shell.sender())),
    };
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    loop {
        tokio::select! {
            () = shell.turn() => {}
            Some(next) = controller.recv() => shell.use_controller(next),
            _ = tokio::signal::ctrl_c() => break,
            _ = terminate.recv() => break,
        }
    }
    holder.abort();
    Ok(())
}

/// 0: nothing was found; 1: something was.
async fn doctor(state: &Path, output: Output) -> Result<ExitCode> {
    let facts = doctor::read::facts(state).await?;
    let found = findings(&facts);
    let stdout = std::io::stdout();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_coloured = std::io::IsTerminal::is_terminal(&stdout) && !no_color;
    let text = match output {
        Output::Table => doctor::table(&facts, &found, is_coloured),
        Output::Json => format!("{:#}\n", doctor::json(&facts, &found)),
    };
    // A reader that went away read enough.
    let _ = std::io::Write::write_all(&mut stdout.lock(), text.as_bytes());
    Ok(if found.iter().all(|finding| finding.is_note) { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Answers for an identity that can't be used.
async fn without_identity(mut asks: Receiver<Action>, events: Sender<Event>) {
    while asks.recv().await.is_some() && events.send(Event::Pending { retry: 3_600_000 }).await.is_ok() {}
}

/// Who holds the identity: does what the reconciler asks of it.
async fn hold(state: PathBuf, mut identity: Identity, mut asks: Receiver<Action>, events: Sender<Event>, controllers: Sender<ringwall_agent::Controller>) {
    let enrolled = |identity: &Identity| Event::Enrolled { valid: u64::try_from(identity.valid().as_millis()).unwrap_or(u64::MAX) };
    if events.send(enrolled(&identity)).await.is_err() {
        return;
    }
    while let Some(ask) = asks.recv().await {
        let event = match ask {
            Action::Renew => match identity.renew().await {
                Ok(next) => {
                    identity = next;
                    match identity.controller() {
                        Ok(controller) => drop(controllers.send(controller).await),
                        Err(error) => tracing::error!(%error, "the new certificate can't be used"),
                    }
                    enrolled(&identity)
                }
                Err(IdentityError::Refused(status)) => {
                    tracing::error!(reason = status.message(), "the controller does not renew this node's certificate");
                    Event::Revoked { detail: status.message().to_owned() }
                }
                Err(error) => {
                    tracing::warn!(%error, "the certificate was not renewed");
                    Event::NotRenewed
                }
            },
            Action::ForgetIdentity => {
                if let Err(error) = Identity::forget(&state) {
                    tracing::error!(%error, "the identity could not be given up");
                }
                continue;
            }
            // There was an identity at the start; without one there is nothing to ask with.
            _ => Event::Pending { retry: 3_600_000 },
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}
