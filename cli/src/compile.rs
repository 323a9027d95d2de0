//! `ringwall compile`: a node's ruleset as text.

use ringwall_compile::{Compiled, Unproved};
use ringwall_diagnostic::Diagnostic;
use ringwall_policy::{Policy, Rule};
use ringwall_ruleset::iptables::{self, Unwritten};
use ringwall_ruleset::nftables::{Confirm, Generation, Installed, transaction};
use ringwall_ruleset::{Path, Ruleset};

use crate::Failure;
use crate::policy::{Loaded, PolicyArgs};
use crate::terminal::{Exit, Terminal, count, print};

#[derive(clap::Args)]
#[command(after_help = "\
The text is what `ringwall apply` would load as generation 1 on a machine that has none, after a
list of its rules for the reader.

For machines without nftables, `--target iptables` writes the same rules for iptables-restore and for
ip6tables-restore, each the whole filter table, proved equal by reading them back. What iptables can't
express is refused by name.

Examples:
  ringwall compile policy.yaml --node vault-1
  ringwall compile policy.yaml --node vault-1 | nft -c -f -
  ringwall compile policy.yaml --node vault-1 --target iptables
  ringwall compile policy.yaml --node vault-1 --target iptables --family ipv4 | iptables-restore --test
  ringwall compile policy.yaml --node vault-1 --target iptables --family ipv6 | ip6tables-restore --test")]
pub struct Args {
    #[command(flatten)]
    policy: PolicyArgs,
    #[arg(long, value_name = "NAME")]
    node: String,
    /// Which program's rules to write.
    #[arg(long, value_enum, default_value_t = Target::Nftables)]
    target: Target,
    /// Of `--target iptables`: the text of one family alone.
    #[arg(long, value_enum)]
    family: Option<Family>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Target {
    /// One text for both families, for `nft -f`.
    Nftables,
    /// A text for iptables-restore and one for ip6tables-restore.
    Iptables,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Family {
    Ipv4,
    Ipv6,
}

pub fn run(args: &Args, terminal: &Terminal) -> Result<Exit, Failure> {
    if args.target == Target::Nftables && args.family.is_some() {
        return Err(Failure::new(Exit::Usage, "nftables has one text for both families").help("leave `--family` out"));
    }
    let (loaded, policy) = args.policy.resolved(terminal)?;
    let (ruleset, warnings) = compiled(&policy, &args.node)?;
    terminal.diagnostics(&warnings, &loaded.sources);
    match args.target {
        Target::Nftables => {
            let mut text = header(&ruleset, &policy);
            text.push_str("\n# The table of a generation: chains gN_in, gN_out and gN_fwd judge what comes in, goes out and\n");
            text.push_str("# passes through; gN_in_r_ID is rule ID's chain; base chains at the end send packets there.\n\n");
            text.push_str(&transaction(&ruleset, Generation(1), &Installed::default(), Confirm::Never));
            print(&text);
        }
        Target::Iptables => print(&for_iptables(&ruleset, &policy, &loaded, args.family, terminal)?),
    }
    Ok(Exit::Success)
}

/// The rules of the text, for the reader.
fn header(ruleset: &Ruleset, policy: &Policy) -> String {
    let mut text = format!("# Ruleset of {}\n#\n", ruleset.node);
    let entries = Path::ALL.iter().flat_map(|path| ruleset.entries(*path));
    let mut ids: Vec<&str> = entries.map(|entry| entry.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        match policy.rules.iter().find(|rule| rule.id.as_str() == id) {
            Some(rule) => text.push_str(&format!("# {id}  {}  {}\n", rule.origin.place, words(rule))),
            None => text.push_str(&format!("# {id}  the floor's way in for operators\n")),
        }
    }
    text
}

/// Both texts, one after the other, or one of them; each with its header.
fn for_iptables(ruleset: &Ruleset, policy: &Policy, loaded: &Loaded, family: Option<Family>, terminal: &Terminal) -> Result<String, Failure> {
    terminal.diagnostics(&iptables::warnings(ruleset), &loaded.sources);
    let proved = match iptables::write(ruleset) {
        Ok(proved) => proved,
        Err(Unwritten::Refused(refusals)) => {
            let diagnostics: Vec<Diagnostic> = refusals
                .into_iter()
                .map(|refusal| {
                    let rule = policy.rules.iter().find(|rule| Some(rule.id.as_str()) == refusal.entry.as_deref());
                    rule.map_or(refusal.diagnostic.clone(), |rule| refusal.diagnostic.at(rule.origin.span, "asks for it"))
                })
                .collect();
            terminal.diagnostics(&diagnostics, &loaded.sources);
            let message = format!("iptables can't do what the policy says on {}: {}", ruleset.node, count(&diagnostics));
            return Err(Failure::new(Exit::Failure, message).help("`--target nftables`, the default, can"));
        }
        Err(Unwritten::Different { path, witness }) => {
            let problem = Diagnostic::error("RW6121", format!("the text that was written decides otherwise on the path {}", path.short()));
            terminal.diagnostics(&[problem.note(format!("for example {witness}"))], &loaded.sources);
            return Err(Failure::new(Exit::Failure, "nothing was written: this is a mistake of Ringwall"));
        }
        Err(Unwritten::Unproved(why)) => {
            let problem = Diagnostic::error("RW6121", "the text that was written could not be proved").note(why);
            terminal.diagnostics(&[problem], &loaded.sources);
            return Err(Failure::new(Exit::Failure, "nothing was written: what is not proved is not handed out"));
        }
    };
    let texts = [(Family::Ipv4, proved.v4()), (Family::Ipv6, proved.v6())];
    let wanted = texts.iter().filter(|(of, _)| family.is_none_or(|family| family == *of)).map(|(_, text)| *text);
    Ok(format!("{}\n{}", header(ruleset, policy), wanted.collect::<Vec<_>>().join("\n")))
}

/// The rules of a node, proved to be the policy.
pub fn compiled(policy: &Policy, name: &str) -> Result<Compiled, Failure> {
    ringwall_compile::compile(policy, name).map_err(|error| match error {
        Unproved::NoNode(name) => no_node(policy, &name),
        error => unproved(&error),
    })
}

/// A fault of ours; nothing goes on from here.
pub fn unproved(error: &Unproved) -> Failure {
    Failure::of(Exit::Failure, error).help("this is a mistake of ours, not of the policy: please report it; nothing was changed")
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
