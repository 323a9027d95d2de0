//! `ringwall who` and `ringwall reach`: who reaches an end, and what an end reaches.

use ringwall_analysis::question::{Piece, accepted, disjoint};
use ringwall_analysis::words::{Line, Words};
use ringwall_policy::{Question, Stage};
use ringwall_policy_file::Form;
use serde_json::{Value, json};

use crate::Failure;
use crate::policy::PolicyArgs;
use crate::question::{self, Asking, BudgetArgs, asked, name_of, unknown};
use crate::terminal::{Exit, ListOutput, Terminal, print, print_csv, print_json, print_ndjson, table};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ringwall who 'primary tcp/22' policy.yaml
  ringwall who 'vault-1' policy.yaml                 without services: by any of them
  ringwall who '192.0.2.10, 2001:db8::10 https' policy/ -o csv")]
pub struct WhoArgs {
    /// `B SERVICES`: an end and services as in a rule of the policy; addresses too.
    #[arg(value_name = "END")]
    end: String,
    #[command(flatten)]
    rest: Rest,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ringwall reach vault-1 policy.yaml
  ringwall reach 'users tcp/443' policy.yaml         with these services alone
  ringwall reach vault-1 policy.yaml -o json | jq '.flows[].destination'")]
pub struct ReachArgs {
    /// A node, or any other end as in a rule of the policy, and maybe services.
    #[arg(value_name = "NODE")]
    end: String,
    #[command(flatten)]
    rest: Rest,
}

#[derive(clap::Args)]
struct Rest {
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    budget: BudgetArgs,
    #[arg(short, long, value_enum, default_value_t = ListOutput::Table)]
    output: ListOutput,
}

pub fn who(args: &WhoArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    run("ringwall.who/1", &args.end, Form::Destination, &args.rest, terminal)
}

pub fn reach(args: &ReachArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    run("ringwall.reach/1", &args.end, Form::Source, &args.rest, terminal)
}

fn run(schema: &str, text: &str, form: Form, rest: &Rest, terminal: &Terminal) -> Result<Exit, Failure> {
    let asking = Asking::new(&rest.policy, terminal)?;
    let question = asking.question(text, form, terminal)?;
    let packets = disjoint(&question.packets());
    let pieces = accepted(&asking.policy, &asking.table, &packets, &mut rest.budget.budget());
    let pieces = match pieces {
        Ok(pieces) => pieces,
        Err(exhausted) => {
            if rest.output == ListOutput::Json {
                print_json(&json!({ "schema": schema, "question": asked(&question), "flows": null, "budget": exhausted.steps }));
            }
            return Err(unknown(&exhausted));
        }
    };
    let words = Words::new(&asking.policy, &name_of);
    let flows: Vec<(Line, &Piece)> = pieces
        .iter()
        .flat_map(|piece| asking.lines(&words, piece.decider, &piece.packets, &packets).into_iter().map(move |line| (line, piece)))
        .collect();
    let flow = |(line, piece): &(Line, &Piece)| {
        let mut value = question::line(line);
        value["reason"] = asking.reason(piece.decider);
        value
    };
    match rest.output {
        ListOutput::Table if flows.is_empty() => {
            print(&format!("nothing: {}\n", if form == Form::Destination { "nobody reaches it" } else { "it reaches nobody" }));
        }
        ListOutput::Table => {
            let rows: Vec<Vec<String>> = flows.iter().map(|(line, piece)| cells(&asking, line, piece, 8)).collect();
            print(&table(&["FROM", "TO", "SERVICES", "RULE", "PLACE"], &rows));
        }
        ListOutput::Json => {
            let flows: Vec<Value> = flows.iter().map(flow).collect();
            print_json(&json!({ "schema": schema, "question": asked(&question), "flows": flows, "audit": watching(&asking, &question) }));
        }
        ListOutput::Ndjson => print_ndjson(&flows.iter().map(flow).collect::<Vec<_>>()),
        ListOutput::Csv => {
            let rows: Vec<Vec<String>> = flows.iter().map(|(line, piece)| cells(&asking, line, piece, usize::MAX)).collect();
            print_csv(&["source", "destination", "services", "rule", "place"], &rows);
        }
    }
    let watching = watching(&asking, &question);
    if !watching.is_empty() {
        terminal.warn(&format!("nothing is dropped on {}: the stage is audit", watching.join(", ")));
    }
    Ok(Exit::Success)
}

fn cells(asking: &Asking, line: &Line, piece: &Piece, most: usize) -> Vec<String> {
    let reason = asking.reason(piece.decider);
    let text = |key: &str| reason[key].as_str().unwrap_or_default().to_owned();
    let rule = if text("id").is_empty() { text("kind") } else { text("id") };
    vec![line.source.short(most), line.destination.short(most), line.asks(), rule, text("place")]
}

/// Nodes of the end that is asked about which enforce nothing.
fn watching<'a>(asking: &'a Asking, question: &Question) -> Vec<&'a str> {
    let end = if question.source.addresses.is_full() { &question.destination } else { &question.source };
    let nodes = asking.policy.nodes.values().filter(|node| node.stage == Stage::Audit);
    nodes.filter(|node| !node.local().is_disjoint(&end.addresses)).map(|node| node.name.as_str()).collect()
}
