//! `ringwall plan`: what a policy would change, before anything is changed.

mod base;
mod file;
mod show;

use std::path::PathBuf;

use clap::ValueEnum;
use ringwall_analysis::plan::{Floor, Plan, floor, plan};
use ringwall_analysis::words::Words;
use ringwall_node::apply::Cut;
use ringwall_node::kernel::Netfilter;
use ringwall_packet::Budget;
use ringwall_policy::{OnTighten, Policy};
use ringwall_services::name_of;
use serde_json::json;

use crate::Failure;
use crate::apply::{StateArgs, answers, failure, this_node, would_cut};
use crate::compile::{compiled, no_node};
use crate::nodes::exposed_ports;
use crate::policy::{PolicyArgs, now};
use crate::terminal::{Exit, Terminal, print, print_json};

use base::Base;
use file::{SCHEMA, Source, cuts_json, differences, ruleset_digest};
use show::Facts;

pub use file::Reviewed;

#[derive(clap::Args)]
#[command(after_help = "\
Without --against, the policy is compared with what this machine enforces now, as far as it can pass
this machine, and live connections that it would cut are listed; that needs root.
The exit code is 0 whether there is a difference or not; with --exit-code it is 1 when there is one.

Examples:
  ringwall plan policy.yaml                        what applying it here would change
  ringwall plan policy.yaml --out plan.json        keep it; `ringwall apply plan.json` does just that
  ringwall plan policy/ --against HEAD~1           what the last commit changed
  ringwall plan policy.yaml --against main -o markdown
  ringwall plan new.yaml --against old.yaml --exit-code")]
pub struct Args {
    #[command(flatten)]
    policy: PolicyArgs,
    /// Compare with this file or folder, or with the policy's own files in this git revision.
    #[arg(long, value_name = "REVISION|FILE|FOLDER")]
    against: Option<String>,
    /// Which node of the policy this machine is, found by its addresses otherwise; with --against, leave out what can't pass it.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
    /// Write the plan to a file too, which `ringwall apply` takes.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// End with 1 when there is a difference.
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// One document with a `schema`.
    Json,
    /// For a comment in a code review: at most 65,000 characters.
    Markdown,
}

/// Boxes that a comparison may look at: seconds of work.
const STEPS: u64 = 200_000_000;

pub fn run(args: &Args, terminal: &Terminal) -> Result<Exit, Failure> {
    let (loaded, policy) = args.policy.resolved(terminal)?;
    terminal.diagnostics(&loaded.diagnostics, &loaded.sources);
    if let Some(name) = &args.node
        && !policy.nodes.contains_key(name.as_str())
    {
        return Err(no_node(&policy, name));
    }
    let made = now();
    let mut machine = None;
    let (base, node) = match &args.against {
        Some(text) => (Base::named(text, &args.policy, terminal)?, args.node.clone()),
        None => {
            let mut netfilter = Netfilter::open().map_err(|error| only_here(failure(&error.into())))?;
            let base = Base::of_machine(&mut netfilter, &args.state.look()?).map_err(only_here)?;
            let known = args.node.clone().or_else(|| base.node.clone().filter(|name| policy.nodes.contains_key(name.as_str())));
            let node = known.map_or_else(|| this_node(&policy).map_err(only_here), Ok)?;
            machine = Some(netfilter);
            (base, Some(node))
        }
    };
    let (plan, floor) = compare(&base, &policy, node.as_deref(), made)?;
    let mut notes = notes(&base, &plan, &policy, node.as_deref());
    let cuts = match (&mut machine, &node) {
        (Some(netfilter), Some(node)) => cuts(netfilter, &policy, node, &mut notes, terminal)?,
        _ => None,
    };
    let exposure = exposure(&base, &policy, node.as_deref(), made)?;
    let facts = Facts {
        base: &base,
        exposure,
        policy: args.policy.policy.display().to_string(),
        node: node.as_deref(),
        floor: &floor,
        cuts: cuts.as_deref(),
        notes: &notes,
    };
    let mut document = json!({
        "schema": SCHEMA,
        "before": { "kind": base.kind, "name": base.name },
        "after": { "name": facts.policy },
        "node": node,
        "differences": differences(&plan, &floor),
        "exposure": { "before": exposure.0, "after": exposure.1 },
        "cuts": cuts.as_deref().map(cuts_json),
        "notes": notes,
    });
    match args.output {
        Format::Table if plan.is_empty() && facts.cuts.is_none_or(<[Cut]>::is_empty) => {}
        Format::Table => print(&show::table(&plan, &facts, terminal)),
        Format::Json => print_json(&document),
        Format::Markdown => print(&show::markdown(&plan, &facts)),
    }
    let summary = show::count(&plan);
    terminal.say(&match (summary.is_empty(), plan.elsewhere) {
        (true, false) => "plan: no difference".into(),
        (true, true) => format!("plan: no difference on {}", node.as_deref().unwrap_or_default()),
        (false, _) => format!("plan: {summary}"),
    });
    if let Some(path) = &args.out {
        if let (Some(enforced), Some(node)) = (&base.enforced, &node) {
            let (ruleset, _) = compiled(&policy, node)?;
            let source = Source {
                node: node.clone(),
                made,
                files: loaded.files.iter().map(|file| (file.name.clone(), file.text.clone())).collect(),
                values: loaded.bound.clone(),
                base: enforced.clone(),
                ruleset: ruleset_digest(&ruleset),
            };
            document["apply"] = serde_json::to_value(source).expect("maps with text keys");
        }
        let digest = file::write(path, document)?;
        terminal.say(&format!("wrote {} ({digest})", path.display()));
        match base.enforced {
            Some(_) => terminal.say(&format!("next: have it reviewed, and run `ringwall apply {}` here", path.display())),
            None => terminal.say("note: it was made against files, so it can be read but not applied"),
        }
    }
    Ok(if args.exit_code && !plan.is_empty() { Exit::Failure } else { Exit::Success })
}

/// Comparing with the machine needs the machine; files do not.
fn only_here(failure: Failure) -> Failure {
    failure.help("to compare with files or a git revision instead, use --against")
}

/// The differences and the floor. A machine that was another node before is shown as a whole.
fn compare(base: &Base, policy: &Policy, node: Option<&str>, now: u64) -> Result<(Plan, Floor), Failure> {
    let scope = node.filter(|node| base.node.as_deref().is_none_or(|before| before == *node));
    let plan = plan(base.policy.as_ref(), policy, now, scope, &name_of, &mut Budget::new(STEPS))
        .map_err(|error| Failure::of(Exit::Failure, &error).help("what differs is not known; compare parts of the policy"))?;
    Ok((plan, floor(policy, node, &Words::new(policy, &name_of))))
}

/// How many ports the internet reaches; nobody counted where nothing is enforced.
fn exposure(base: &Base, policy: &Policy, node: Option<&str>, now: u64) -> Result<(Option<usize>, usize), Failure> {
    let before = base.policy.as_ref().map(|before| exposed_ports(before, base.node.as_deref().or(node), now)).transpose()?;
    Ok((before, exposed_ports(policy, node, now)?))
}

/// What is known only beside the two policies.
fn notes(base: &Base, plan: &Plan, policy: &Policy, node: Option<&str>) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(enforced) = &base.enforced {
        if enforced.generation.is_none() {
            notes.push("nothing is enforced here now: there is nothing to fall back to, so a trial that is not confirmed falls back to no enforcement".into());
        }
        if enforced.drift {
            notes.push(format!("the rules of {} were changed by somebody; that goes when this is applied", base.name));
        }
    }
    if let (Some(before), Some(node)) = (base.node.as_deref(), node)
        && before != node
    {
        notes.push(format!("this machine enforced the part of {before} until now"));
    }
    if plan.elsewhere {
        notes.push("flows that can't pass this node differ, too: `--against` without --node shows all".into());
    }
    if let Some(node) = node.and_then(|node| policy.nodes.get(node))
        && node.stage == ringwall_policy::Stage::Audit
    {
        notes.push(format!("{} is in the audit stage: nothing is dropped there; what would be is counted and logged", node.name));
    }
    notes
}

/// Live connections that applying would end; `None` when none would be.
fn cuts(
    netfilter: &mut Netfilter,
    policy: &Policy,
    node: &str,
    notes: &mut Vec<String>,
    terminal: &Terminal,
) -> Result<Option<Vec<Cut>>, Failure> {
    let (ruleset, _) = compiled(policy, node)?;
    let answers = answers(&ruleset, policy, terminal);
    let cuts = would_cut(netfilter, &ruleset, &answers)?;
    if policy.on_tighten == OnTighten::Drain {
        if !cuts.is_empty() {
            notes.push(format!("{} live connections that no rule allows are left to end by themselves (on_tighten: drain)", cuts.len()));
        }
        return Ok(None);
    }
    Ok(Some(cuts))
}
