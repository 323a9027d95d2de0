//! `ringwall audit` and `ringwall events`: who changed what, and what happened.
//!
//! In: numbers. Out: entries, events, as they happen if asked. Never: a gap that is not told of.

use std::io::{BufRead, BufReader, Read as _};
use std::time::Duration;

use ringwall_api::{Actor, AuditEntry, AuditPage, Event, EventPage};
use serde_json::Value;

use super::client::Client;
use super::{ServerArgs, plain, show, value};
use crate::Failure;
use crate::terminal::{Exit, ListOutput, Terminal, print, print_csv, print_ndjson};

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  ringwall audit\n  ringwall audit --after 0 --limit 1000 -o csv\n  ringwall audit -o json")]
pub struct AuditArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// From the entry after this number on; otherwise the newest.
    #[arg(long)]
    after: Option<u64>,
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[arg(short, long, value_enum, default_value_t = ListOutput::Table)]
    output: ListOutput,
}

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  ringwall events\n  ringwall events --follow\n  ringwall events --follow -o ndjson | jq .kind")]
pub struct EventsArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// From the event after this number on; otherwise the newest.
    #[arg(long)]
    after: Option<u64>,
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Go on with what happens, until it is interrupted.
    #[arg(short, long)]
    follow: bool,
    #[arg(short, long, value_enum, default_value_t = ListOutput::Table)]
    output: ListOutput,
}

fn path(what: &str, after: Option<u64>, limit: u32) -> String {
    let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
    format!("{what}?limit={limit}{after}")
}

pub fn audit(args: &AuditArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let page: AuditPage = args.server.client(terminal)?.get(&path("audit", args.after, args.limit))?;
    show(args.output, "audit", &["NUMBER", "AT", "WHO", "CHANGE", "WHAT", "FIELDS"], &page.entries, |entry| {
        vec![entry.number.to_string(), entry.at.clone(), who(&entry.who), entry.change.clone(), format!("{} {}", entry.kind, entry.key), fields(entry)]
    })?;
    if args.after.is_some() && page.entries.len() == args.limit as usize {
        terminal.say(&format!("there may be more: `ringwall audit --after {}`", page.next));
    }
    Ok(Exit::Success)
}

fn who(actor: &Actor) -> String {
    match actor {
        Actor::Access(id) => format!("key {id}"),
        Actor::Local(name) => format!("{name} at the controller"),
        Actor::Agent(id) => format!("agent {id}"),
        Actor::Enrolling => "a node that enrols".to_owned(),
        Actor::Controller => "the controller".to_owned(),
    }
}

/// Which fields are others than before.
fn fields(entry: &AuditEntry) -> String {
    match (&entry.before, &entry.after) {
        (None, _) => "new".to_owned(),
        (_, None) => "gone".to_owned(),
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let changed = after.iter().filter(|(name, value)| before.get(*name) != Some(*value));
            changed.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}

const HEADER: [&str; 5] = ["NUMBER", "AT", "KIND", "NODE", "BODY"];

fn row(event: &Event) -> Vec<String> {
    vec![event.number.to_string(), event.at.clone(), event.kind.clone(), event.node.clone().unwrap_or_default(), event.body.to_string()]
}

pub fn events(args: &EventsArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let client = args.server.client(terminal)?;
    let page: EventPage = client.get(&path("events", args.after, args.limit))?;
    if page.has_gap {
        terminal.warn("some events after that number are no longer kept");
    }
    if !args.follow {
        show(args.output, "events", &HEADER, &page.events, row)?;
        return Ok(Exit::Success);
    }
    for event in &page.events {
        print_event(event, args.output)?;
    }
    follow(&client, page.next, args.output, terminal)
}

/// One line for each: a table can't know its widths before its end.
fn print_event(event: &Event, output: ListOutput) -> Result<(), Failure> {
    match output {
        ListOutput::Table => print(&format!("{}\n", row(event).iter().map(|cell| plain(cell)).collect::<Vec<_>>().join("  "))),
        ListOutput::Json | ListOutput::Ndjson => print_ndjson(&[value(event)?]),
        ListOutput::Csv => {
            let row = row(event);
            print_csv(&row.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
        }
    }
    Ok(())
}

/// Bytes of a line of the stream.
const LINE_MAX: u64 = 1 << 20;
/// Between two attempts to reach the controller.
const PAUSES: [u64; 5] = [1, 2, 5, 10, 30];

/// Reaches the controller again, wherever it was cut off, and ends only when that is refused.
fn follow(client: &Client, mut after: u64, output: ListOutput, terminal: &Terminal) -> Result<Exit, Failure> {
    let mut attempts = 0;
    loop {
        match client.stream(after) {
            Ok(answer) => {
                let before = after;
                read(&mut BufReader::new(answer.into_body().into_reader()), &mut after, output, terminal)?;
                attempts = if after > before { 0 } else { attempts };
                terminal.say("the stream of events ended; it is asked for again");
            }
            // The controller is there and says no.
            Err(failure) if attempts == 0 || failure.exit != Exit::Environment => return Err(failure),
            Err(failure) => terminal.failure(&failure),
        }
        std::thread::sleep(Duration::from_secs(PAUSES[attempts.min(PAUSES.len() - 1)]));
        attempts += 1;
    }
}

/// Until the stream ends (WHATWG HTML, 9.2.6).
fn read(stream: &mut impl BufRead, after: &mut u64, output: ListOutput, terminal: &Terminal) -> Result<(), Failure> {
    let (mut kind, mut data) = (String::new(), String::new());
    loop {
        let mut line = Vec::new();
        let length = match stream.take(LINE_MAX).read_until(b'\n', &mut line) {
            Ok(length) => length,
            Err(_) => return Ok(()),
        };
        if length == 0 || !line.ends_with(b"\n") {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches(['\r', '\n']);
        if let Some(text) = line.strip_prefix("data:") {
            text.strip_prefix(' ').unwrap_or(text).clone_into(&mut data);
        } else if let Some(text) = line.strip_prefix("event:") {
            text.trim().clone_into(&mut kind);
        } else if line.is_empty() && !data.is_empty() {
            if kind == "gap" {
                terminal.warn("some events before the next one are no longer kept");
            } else if let Ok(event) = serde_json::from_str::<Event>(&data) {
                *after = event.number;
                print_event(&event, output)?;
            }
            kind.clear();
            data.clear();
        }
    }
}
