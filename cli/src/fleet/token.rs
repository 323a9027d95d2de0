//! `ringwall token`: words that let nodes into the fleet.
//!
//! In: what the nodes become. Out: the word on stdout, once. Never: a word in a message.

use ringwall_api::{CreateToken, CreatedToken, Span, Tokens};

use super::{ServerArgs, document, label, labels, segment, show};
use crate::Failure;
use crate::terminal::{Exit, ListOutput, Output, Terminal, print, print_json};

#[derive(clap::Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    verb: Verb,
}

const CREATE_HELP: &str = "\
The word goes to stdout, and is shown this once.

Examples:
  ringwall token create --labels role=primary --site hel --for 15m --prefix 192.0.2.0/24
  ringwall token create --node vault-1 --prefix 192.0.2.10/32 > token";

#[derive(clap::Subcommand)]
enum Verb {
    /// Make a token; `ringwall-agent enrol` takes its word on a node.
    #[command(after_help = CREATE_HELP)]
    Create {
        #[command(flatten)]
        server: ServerArgs,
        /// Labels that the nodes get: KEY=VALUE, with commas or several times.
        #[arg(long, value_delimiter = ',', value_name = "KEY=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
        #[arg(long)]
        site: Option<String>,
        /// Where the machines stand, in your words.
        #[arg(long)]
        location: Option<String>,
        /// How many nodes may enrol with it.
        #[arg(long, default_value_t = 1)]
        uses: u32,
        /// How long it lasts: 90s, 15m, 4h, 7d.
        #[arg(long = "for", default_value = "15m", value_name = "TIME")]
        lasts: Span,
        /// The node's name, whatever it calls itself.
        #[arg(long)]
        node: Option<String>,
        /// Only addresses in these prefixes count as the node's; without any, none do.
        #[arg(long = "prefix", value_name = "PREFIX")]
        prefixes: Vec<String>,
        /// Who enrols gets nothing until `ringwall node approve`.
        #[arg(long)]
        needs_approval: bool,
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// List all tokens, without their words.
    #[command(after_help = "Examples:\n  ringwall token list\n  ringwall token list -o csv")]
    List {
        #[command(flatten)]
        server: ServerArgs,
        #[arg(short, long, value_enum, default_value_t = ListOutput::Table)]
        output: ListOutput,
    },
    /// No node enrols with it any more; those that did stay.
    #[command(after_help = "Examples:\n  ringwall token revoke 8c5d2c1e-6a57-4c4f-9a5c-1f2a3b4c5d6e")]
    Revoke {
        #[command(flatten)]
        server: ServerArgs,
        /// As `ringwall token list` shows it.
        id: String,
    },
}

pub fn token(args: TokenArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    match args.verb {
        Verb::Create { server, labels, site, location, uses, lasts, node, prefixes, needs_approval, output } => {
            let no_prefix = prefixes.is_empty();
            let labels = labels.into_iter().collect();
            let asked = CreateToken { uses, lasts, node, site, labels, location, prefixes, needs_approval };
            let created: CreatedToken = server.client(terminal)?.post("tokens", &asked)?;
            if no_prefix {
                terminal.warn("without --prefix no address of these nodes counts: rules about them will match nothing");
            }
            match output {
                Output::Table => {
                    terminal.say(&format!("token {}, until {}; on the node: `ringwall-agent enrol` with this word", created.token.id, created.token.expires));
                    print(&format!("{}\n", created.word));
                }
                Output::Json => print_json(&document("created_token", &created)?),
            }
        }
        Verb::List { server, output } => {
            let list: Tokens = server.client(terminal)?.get("tokens")?;
            let header = ["ID", "STATE", "USED", "EXPIRES", "NODE", "SITE", "LABELS", "PREFIXES"];
            show(output, "tokens", &header, &list.tokens, |token| {
                let state = match &token.revoked {
                    Some(_) => "revoked",
                    None if token.is_good => "good",
                    None if token.used >= token.uses => "used up",
                    None => "expired",
                };
                let (node, site) = (token.node.clone().unwrap_or_default(), token.site.clone().unwrap_or_default());
                let used = format!("{}/{}", token.used, token.uses);
                vec![token.id.clone(), state.to_owned(), used, token.expires.clone(), node, site, labels(&token.labels), token.prefixes.join(" ")]
            })?;
        }
        Verb::Revoke { server, id } => {
            let path = format!("tokens/{}/revoke", segment("a token's id", &id)?);
            server.client(terminal)?.command(&path, None::<&()>)?;
            terminal.say(&format!("token {id} lets nobody in any more"));
        }
    }
    Ok(Exit::Success)
}
