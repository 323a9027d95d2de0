//! `ringwall compile`: a node's ruleset as text.

use ringwall_policy::{Policy, Rule};
use ringwall_ruleset::nftables::{Confirm, Generation, Installed, transaction};

use crate::Failure;
use crate::policy::PolicyArgs;
use crate::terminal::{Exit, Terminal, print};

#[derive(clap::Args)]
#[command(after_help = "\
The text is what `ringwall apply` would load as generation 1 on a machine that has none, after a
list of its rules for the reader.

Examples:
  ringwall compile policy.yaml --node vault-1
  ringwall compile policy.yaml --node vault-1 | nft -c -f -")]
pub struct Args {
    #[command(flatten)]
    policy: PolicyArgs,
    #[arg(long, value_name = "NAME")]
    node: String,
}

pub fn run(args: &Args, terminal: &Terminal) -> Result<Exit, Failure> {
    let (loaded, policy) = args.policy.resolved(terminal)?;
    let (ruleset, warnings) = ringwall_compile::compile(&policy, &args.node).ok_or_else(|| no_node(&policy, &args.node))?;
    terminal.diagnostics(&warnings, &loaded.sources);
    let mut text = format!("# Ruleset of {}\n#\n", args.node);
    let mut ids: Vec<&str> = ringwall_ruleset::Path::ALL
        .iter()
        .flat_map(|path| ruleset.entries(*path))
        .map(|entry| entry.id.as_str())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        match policy.rules.iter().find(|rule| rule.id.as_str() == id) {
            Some(rule) => text.push_str(&format!("# {id}  {}  {}\n", rule.origin.place, words(rule))),
            None => text.push_str(&format!("# {id}  the floor's way in for operators\n")),
        }
    }
    text.push_str("\n# The table of a generation: chains gN_in, gN_out and gN_fwd judge what comes in, goes out and\n");
    text.push_str("# passes through; gN_in_r_ID is rule ID's chain; base chains at the end send packets there.\n\n");
    text.push_str(&transaction(&ruleset, Generation(1), &Installed::default(), Confirm::Never));
    print(&text);
    Ok(Exit::Success)
}

pub fn no_node(policy: &Policy, name: &str) -> Failure {
    let nodes: Vec<_> = policy.nodes.keys().map(|node| node.as_str()).collect();
    Failure::new(Exit::Failure, format!("the policy has no node `{name}`"))
        .help(format!("its nodes are {}; `ringwall nodes POLICY` lists them", nodes.join(", ")))
}

/// `allow users -> cluster: https, ssh`.
pub fn words(rule: &Rule) -> String {
    let arrow = if rule.both_ways { "<->" } else { "->" };
    let services: Vec<_> = rule.services.iter().map(|service| service.text.as_str()).collect();
    let services = if services.is_empty() { "any".into() } else { services.join(", ") };
    format!("{} {} {arrow} {}: {services}", rule.action, rule.source.text, rule.destination.text)
}
