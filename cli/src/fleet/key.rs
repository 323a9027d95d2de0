//! `ringwall key`: keys to the controller's API.
//!
//! In: a name, scopes, a life. Out: the key on stdout, once. Never: a key in a message.

use std::collections::BTreeSet;

use clap::ValueEnum;
use ringwall_api::{AccessKeys, CreateAccessKey, CreatedAccessKey, Scope, Span};

use super::{ServerArgs, document, segment, show};
use crate::Failure;
use crate::terminal::{Exit, ListOutput, Output, Terminal, print, print_json};

#[derive(clap::Args)]
pub struct KeyArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ScopeArg {
    /// See everything but secrets.
    Read,
    /// Policy, rollouts, settings, lists.
    Write,
    /// Tokens, nodes, keys.
    Admin,
}

const CREATE_HELP: &str = "\
The key goes to stdout, and is shown this once. Each scope is asked for by itself: who changes the policy needs `read`, too.

Examples:
  (umask 077; ringwall key create ci --scopes read,write --for 90d > ci.key)
  ringwall key create prometheus --scopes read --for 365d > prometheus.key";

#[derive(clap::Subcommand)]
enum Verb {
    /// Make a key.
    #[command(after_help = CREATE_HELP)]
    Create {
        #[command(flatten)]
        server: ServerArgs,
        /// What it is for.
        name: String,
        #[arg(long, value_delimiter = ',', required = true, value_enum)]
        scopes: Vec<ScopeArg>,
        /// How long it lasts: 4h, 7d.
        #[arg(long = "for", default_value = "90d", value_name = "TIME")]
        lasts: Span,
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// List all keys, without their words.
    #[command(after_help = "Examples:\n  ringwall key list\n  ringwall key list -o csv")]
    List {
        #[command(flatten)]
        server: ServerArgs,
        #[arg(short, long, value_enum, default_value_t = ListOutput::Table)]
        output: ListOutput,
    },
    /// It opens nothing any more, at once.
    #[command(after_help = "Examples:\n  ringwall key revoke 8c5d2c1e-6a57-4c4f-9a5c-1f2a3b4c5d6e")]
    Revoke {
        #[command(flatten)]
        server: ServerArgs,
        /// As `ringwall key list` shows it.
        id: String,
    },
}

pub fn key(args: KeyArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    match args.verb {
        Verb::Create { server, name, scopes, lasts, output } => {
            let scopes: BTreeSet<Scope> = scopes.iter().map(|scope| match scope {
                ScopeArg::Read => Scope::Read,
                ScopeArg::Write => Scope::Write,
                ScopeArg::Admin => Scope::Admin,
            }).collect();
            let created: CreatedAccessKey = server.client(terminal)?.post("access-keys", &CreateAccessKey { name, scopes, lasts })?;
            match output {
                Output::Table => {
                    terminal.say(&format!("key {}, until {}; keep it in a file of mode 600", created.key.id, created.key.expires));
                    print(&format!("{}\n", created.word));
                }
                Output::Json => print_json(&document("created_key", &created)?),
            }
        }
        Verb::List { server, output } => {
            let list: AccessKeys = server.client(terminal)?.get("access-keys")?;
            show(output, "keys", &["ID", "NAME", "STATE", "SCOPES", "EXPIRES", "LAST USED"], &list.keys, |key| {
                let state = match &key.revoked {
                    Some(_) => "revoked",
                    None if key.is_good => "good",
                    None => "expired",
                };
                let word = |scope: &Scope| match scope {
                    Scope::Read => "read",
                    Scope::Write => "write",
                    Scope::Admin => "admin",
                };
                let scopes = key.scopes.iter().map(word).collect::<Vec<_>>().join(" ");
                vec![key.id.clone(), key.name.clone(), state.to_owned(), scopes, key.expires.clone(), key.last_used.clone().unwrap_or_default()]
            })?;
        }
        Verb::Revoke { server, id } => {
            let path = format!("access-keys/{}/revoke", segment("a key's id", &id)?);
            server.client(terminal)?.command(&path, None::<&()>)?;
            terminal.say(&format!("key {id} opens nothing any more"));
        }
    }
    Ok(Exit::Success)
}
