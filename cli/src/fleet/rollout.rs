//! `ringwall rollout`: a revision on its way to the nodes.
//!
//! In: a revision and its waves, or a word to the rollout that runs. Out: how far it came. Never: a rollout by itself.

use std::time::Duration;

use ringwall_api::{Reason, Rollout, RolloutState, Rollouts, Span, StartRollout};

use super::client::Client;
use super::{ServerArgs, document, plain};
use crate::Failure;
use crate::terminal::{Exit, Output, Terminal, print, print_json, table};

#[derive(clap::Args)]
pub struct RolloutArgs {
    #[command(subcommand)]
    verb: Verb,
}

const START_HELP: &str = "\
To go back to an earlier revision, roll that one out.

Examples:
  ringwall rollout start 7
  ringwall rollout start 7 --canary edge-1 --waves 10,50 --wait";

const STATUS_HELP: &str = "\
Exit codes with --wait: 0 done, 1 paused, 4 stopped.

Examples:
  ringwall rollout status
  ringwall rollout status 3 -o json
  ringwall rollout status --wait";

#[derive(clap::Subcommand)]
enum Verb {
    /// Bring a revision to all nodes that don't have it: one first, then in waves.
    #[command(after_help = START_HELP)]
    Start {
        #[command(flatten)]
        server: ServerArgs,
        revision: u64,
        /// The nodes of the first wave; otherwise the first by name that is connected.
        #[arg(long, value_delimiter = ',', value_name = "NODE")]
        canary: Vec<String>,
        /// Percent of the nodes in each wave after the first; the last has all others.
        #[arg(long, value_delimiter = ',', value_name = "PERCENT", default_value = "10", value_parser = clap::value_parser!(u8).range(1..=100))]
        waves: Vec<u8>,
        /// How long each node has the new rules on trial, at least 5s and at most 1h.
        #[arg(long, value_name = "DURATION", default_value = "60s")]
        window: Span,
        /// The internet may reach more with it than now.
        #[arg(long)]
        accept_exposure: bool,
        /// Until it is over.
        #[arg(long)]
        wait: bool,
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Show how far a rollout came: the newest, or the one of a number.
    #[command(after_help = STATUS_HELP)]
    Status {
        #[command(flatten)]
        server: ServerArgs,
        number: Option<u64>,
        /// Until it is over.
        #[arg(long)]
        wait: bool,
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Begin no further wave until it is resumed.
    #[command(after_help = "Examples:\n  ringwall rollout pause --reason 'wait for the night'")]
    Pause {
        #[command(flatten)]
        server: ServerArgs,
        #[arg(long, default_value = "by an operator")]
        reason: String,
    },
    /// Go on with the rollout that is paused.
    #[command(after_help = "Examples:\n  ringwall rollout resume")]
    Resume {
        #[command(flatten)]
        server: ServerArgs,
    },
    /// End the rollout; its nodes go back to what they had.
    #[command(after_help = "Examples:\n  ringwall rollout rollback --reason 'calls drop'")]
    Rollback {
        #[command(flatten)]
        server: ServerArgs,
        #[arg(long, default_value = "by an operator")]
        reason: String,
    },
}

/// Between two looks at a rollout that is waited for.
const LOOK: Duration = Duration::from_secs(1);

pub fn rollout(args: RolloutArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    match args.verb {
        Verb::Start { server, revision, canary, waves, window, accept_exposure, wait, output } => {
            let client = server.client(terminal)?;
            let rollout: Rollout = client.post("rollouts", &StartRollout { revision, canary, percents: waves, window, accept_exposure })?;
            let rollout = if wait { until_over(&client, rollout, terminal)? } else { rollout };
            print_rollout(&rollout, output)?;
            if !wait {
                terminal.say("`ringwall rollout status --wait` waits for its end; `ringwall rollout rollback` takes it back");
            }
            Ok(exit(&rollout, wait))
        }
        Verb::Status { server, number, wait, output } => {
            let client = server.client(terminal)?;
            let rollout = match number {
                Some(number) => client.get(&format!("rollouts/{number}"))?,
                None => newest(&client)?,
            };
            let rollout = if wait { until_over(&client, rollout, terminal)? } else { rollout };
            print_rollout(&rollout, output)?;
            Ok(exit(&rollout, wait))
        }
        Verb::Pause { server, reason } => command(&server, "pause", Some(&Reason { reason }), terminal),
        Verb::Resume { server } => command(&server, "resume", None, terminal),
        Verb::Rollback { server, reason } => command(&server, "rollback", Some(&Reason { reason }), terminal),
    }
}

/// One that is not over is the newest.
fn newest(client: &Client) -> Result<Rollout, Failure> {
    let list: Rollouts = client.get("rollouts?limit=1")?;
    list.rollouts.into_iter().next().ok_or_else(|| Failure::new(Exit::Failure, "there was no rollout yet").help("`ringwall rollout start REVISION` begins one"))
}

fn command(server: &ServerArgs, verb: &str, reason: Option<&Reason>, terminal: &Terminal) -> Result<Exit, Failure> {
    let client = server.client(terminal)?;
    let number = newest(&client)?.number;
    client.command(&format!("rollouts/{number}/{verb}"), reason)?;
    terminal.say(&format!("rollout {number}: {verb} is under way; `ringwall rollout status` shows it"));
    Ok(Exit::Success)
}

fn is_over(rollout: &Rollout) -> bool {
    matches!(rollout.state, RolloutState::Done | RolloutState::Stopped | RolloutState::Paused)
}

fn until_over(client: &Client, mut rollout: Rollout, terminal: &Terminal) -> Result<Rollout, Failure> {
    let mut said = String::new();
    while !is_over(&rollout) {
        let text = headline(&rollout);
        if text != said {
            terminal.say(&text);
            said = text;
        }
        std::thread::sleep(LOOK);
        rollout = client.get(&format!("rollouts/{}", rollout.number))?;
    }
    Ok(rollout)
}

fn exit(rollout: &Rollout, waited: bool) -> Exit {
    match rollout.state {
        RolloutState::Stopped if waited => Exit::Partly,
        RolloutState::Paused if waited => Exit::Failure,
        _ => Exit::Success,
    }
}

fn headline(rollout: &Rollout) -> String {
    let count = rollout.waves.len();
    let wave = rollout.wave.map(|wave| format!(" wave {} of {count}", wave + 1)).unwrap_or_default();
    let state = match rollout.state {
        RolloutState::Running => format!("running{wave}"),
        RolloutState::Paused => format!("paused before the end of{wave}"),
        RolloutState::RollingBack => "going back".to_owned(),
        RolloutState::Done => "done".to_owned(),
        RolloutState::Stopped if rollout.is_rolled_back == Some(true) => "stopped, and its nodes went back".to_owned(),
        RolloutState::Stopped => "stopped, and not all of its nodes went back".to_owned(),
    };
    let reason = rollout.reason.as_ref().map(|reason| format!(": {}", plain(reason))).unwrap_or_default();
    format!("rollout {} of revision {}: {state}{reason}", rollout.number, rollout.revision)
}

fn print_rollout(rollout: &Rollout, output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        print_json(&document("rollout", rollout)?);
        return Ok(());
    }
    let mut rows = Vec::new();
    for (index, wave) in rollout.waves.iter().enumerate() {
        for node in &wave.nodes {
            let (result, reason) = match wave.outcomes.get(node) {
                None => ("waits", String::new()),
                Some(outcome) if outcome.is_good => ("good", String::new()),
                Some(outcome) => ("failed", outcome.reason.clone().unwrap_or_default()),
            };
            rows.push(vec![(index + 1).to_string(), plain(node), result.to_owned(), plain(&reason)]);
        }
    }
    print(&format!("{}\n{}", headline(rollout), table(&["WAVE", "NODE", "RESULT", "REASON"], &rows)));
    Ok(())
}
