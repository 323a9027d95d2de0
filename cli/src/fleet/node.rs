//! `ringwall nodes` of a fleet, and `ringwall node`: who is in, where it stands, who is late.
//!
//! In: names of nodes, or ids of their agents. Out: the fleet's inventory; nodes let in, placed, put out.
//! Never: a part of a place that was not named, changed.

use ringwall_api::{Agent, Node, Nodes, Reason, SetPlace, SetSetting, Setting, Settings, Standing};
use serde_json::{Value, json};

use super::client::Client;
use super::{ServerArgs, label, labels, segment, show};
use crate::Failure;
use crate::terminal::{Exit, ListOutput, Terminal, print};

pub fn nodes(server: &ServerArgs, site: Option<&str>, late: bool, output: ListOutput, terminal: &Terminal) -> Result<Exit, Failure> {
    let mut query = Vec::new();
    if let Some(site) = site {
        query.push(format!("site={}", segment("a site's name", site)?));
    }
    if late {
        query.push("late=true".to_owned());
    }
    let list: Nodes = server.client(terminal)?.get(&format!("nodes?{}", query.join("&")))?;
    let header = ["NODE", "SITE", "STATE", "REVISION", "LAST SEEN", "ADDRESSES", "LABELS", "LATE"];
    show(output, "nodes", &header, &list.nodes, |node| {
        let revision = node.enforces.as_ref().map_or_else(|| "-".to_owned(), |enforces| enforces.revision.to_string());
        let seen = node.last_seen.clone().unwrap_or_else(|| "-".to_owned());
        vec![
            node.name.clone(),
            node.place.site.clone().unwrap_or_default(),
            state(node).to_owned(),
            revision,
            seen,
            node.addresses.join(" "),
            labels(&node.place.labels),
            node.late.clone().unwrap_or_default(),
        ]
    })?;
    let late_count = list.nodes.iter().filter(|node| node.late.is_some()).count();
    if late_count > 0 && !late {
        terminal.say(&format!("{late_count} of {} nodes late; `ringwall nodes --late` shows them alone", list.nodes.len()));
    }
    Ok(Exit::Success)
}

fn state(node: &Node) -> &'static str {
    match (node.standing, node.is_connected) {
        (Standing::Pending, _) => "pending",
        (Standing::Revoked, _) => "revoked",
        (Standing::Approved, true) => "connected",
        (Standing::Approved, false) => "away",
    }
}

#[derive(clap::Args)]
pub struct NodeArgs {
    #[command(subcommand)]
    verb: Verb,
}

const PLACE_HELP: &str = "\
What is not named stays as it is; an empty --site or --location takes it away, and --no-labels and --no-prefixes all of those.

Examples:
  ringwall node place vault-1 --site hel --labels role=primary,env=prod
  ringwall node place vault-1 --prefix 192.0.2.0/24 --prefix 2001:db8::/48";

const HOSTS_HELP: &str = "\
It is a rule beside the policy's own, in force at once on all nodes that it is about. Without --services it says what is set.

Examples:
  ringwall node hosts edge-1 --services https,tcp/8443 --from users
  ringwall node hosts edge-1
  ringwall node hosts edge-1 --none";

#[derive(clap::Subcommand)]
enum Verb {
    /// Let a node in that enrolled and waits.
    #[command(after_help = "Examples:\n  ringwall node approve vault-1")]
    Approve {
        #[command(flatten)]
        server: ServerArgs,
        /// The node's name, or its agent's id.
        node: String,
    },
    /// Put a node out, for ever and at once; it enforces on what it has.
    #[command(after_help = "Examples:\n  ringwall node revoke vault-1 --reason 'the machine was sold'")]
    Revoke {
        #[command(flatten)]
        server: ServerArgs,
        /// The node's name, or its agent's id.
        node: String,
        /// For the audit log.
        #[arg(long)]
        reason: String,
    },
    /// Say where a node stands and what it is.
    #[command(after_help = PLACE_HELP)]
    Place {
        #[command(flatten)]
        server: ServerArgs,
        /// The node's name, or its agent's id.
        node: String,
        #[arg(long)]
        site: Option<String>,
        /// All its labels: KEY=VALUE, with commas or several times.
        #[arg(long, value_delimiter = ',', value_name = "KEY=VALUE", value_parser = label, conflicts_with = "no_labels")]
        labels: Vec<(String, String)>,
        #[arg(long)]
        no_labels: bool,
        #[arg(long)]
        location: Option<String>,
        /// All prefixes in which its addresses count.
        #[arg(long = "prefix", value_name = "PREFIX", conflicts_with = "no_prefixes")]
        prefixes: Vec<String>,
        #[arg(long)]
        no_prefixes: bool,
    },
    /// Say what a node hosts, such as an API, and who may reach it.
    #[command(after_help = HOSTS_HELP)]
    Hosts {
        #[command(flatten)]
        server: ServerArgs,
        /// The node's name.
        node: String,
        /// All services that it hosts, as the policy names them.
        #[arg(long, value_delimiter = ',', value_name = "SERVICE", requires = "from", conflicts_with = "none")]
        services: Vec<String>,
        /// Groups of the policy, or `internet`, `internal`, `any`.
        #[arg(long, value_delimiter = ',', value_name = "GROUP", requires = "services")]
        from: Vec<String>,
        /// It hosts nothing any longer.
        #[arg(long)]
        none: bool,
    },
}

pub fn node(args: NodeArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    match args.verb {
        Verb::Approve { server, node } => {
            let client = server.client(terminal)?;
            let agent: Agent = client.post(&format!("agents/{}/approve", agent(&client, &node)?), &())?;
            terminal.say(&format!("{} is in: it gets its ruleset", agent.node));
        }
        Verb::Revoke { server, node, reason } => {
            let client = server.client(terminal)?;
            let agent: Agent = client.post(&format!("agents/{}/revoke", agent(&client, &node)?), &Reason { reason })?;
            terminal.say(&format!("{} is out; to come back it enrols anew (`ringwall token create`)", agent.node));
        }
        Verb::Place { server, node, site, labels, no_labels, location, prefixes, no_prefixes } => {
            let client = server.client(terminal)?;
            let id = agent(&client, &node)?;
            let now: Agent = client.get(&format!("agents/{id}"))?;
            let named = |new: Option<String>, old: Option<String>| new.map_or(old, |new| Some(new).filter(|new| !new.is_empty()));
            let place = SetPlace {
                site: named(site, now.place.site),
                labels: if labels.is_empty() && !no_labels { now.place.labels } else { labels.into_iter().collect() },
                location: named(location, now.place.location),
                prefixes: if prefixes.is_empty() && !no_prefixes { now.place.prefixes } else { prefixes },
            };
            let agent: Agent = client.put(&format!("agents/{id}/place"), &place)?;
            let addresses = if agent.addresses.is_empty() { "none of its addresses counts".to_owned() } else { agent.addresses.join(" ") };
            terminal.say(&format!("{}: {addresses}", agent.node));
        }
        Verb::Hosts { server, node, services, from, none } => {
            let client = server.client(terminal)?;
            let node = segment("a node's name", &node)?.to_owned();
            let path = format!("nodes/{node}/settings/hosts");
            if none {
                client.delete(&path)?;
                terminal.say(&format!("{node} hosts nothing: what the setting opened closes now"));
            } else if services.is_empty() {
                let all: Settings = client.get(&format!("nodes/{node}/settings"))?;
                let of = |value: &Value, key: &str| value[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(",");
                match all.settings.iter().find(|setting| setting.name == "hosts") {
                    Some(setting) => print(&format!("{node} hosts {} for {}\n", of(&setting.value, "services"), of(&setting.value, "from"))),
                    None => print(&format!("{node} hosts nothing\n")),
                }
            } else {
                let value = json!({ "services": services, "from": from });
                let _: Setting = client.put(&path, &SetSetting { value })?;
                terminal.say(&format!("{node} hosts {} for {}; `ringwall nodes --late` says who lacks it", services.join(","), from.join(",")));
            }
        }
    }
    Ok(Exit::Success)
}

/// The agent's id of what an operator calls a node.
fn agent(client: &Client, node: &str) -> Result<String, Failure> {
    let node = segment("a node's name", node)?;
    let is_id = node.len() == 36 && node.bytes().enumerate().all(|(at, byte)| if matches!(at, 8 | 13 | 18 | 23) { byte == b'-' } else { byte.is_ascii_hexdigit() });
    if is_id {
        return Ok(node.to_owned());
    }
    let found: Node = client.get(&format!("nodes/{node}")).map_err(|failure| failure.help("`ringwall nodes --controller URL` lists them"))?;
    Ok(found.agent)
}
