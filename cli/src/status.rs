//! `ringwall status`: what this machine enforces, as the kernel says it.

use ringwall_node::apply::foreign_chains;
use ringwall_node::kernel::{Netfilter, TableId};
use ringwall_policy::Policy;
use ringwall_ruleset::nftables::{Generation, TABLE};
use serde_json::json;

use crate::Failure;
use crate::apply::{StateArgs, failure, has_drifted, read_enforced, recorded};
use crate::compile::words;
use crate::policy::now;
use crate::ruleset::others::Others;
use crate::terminal::{Exit, Output, Terminal, print, print_json, table};

#[derive(clap::Args)]
#[command(after_help = "\
The exit code is 0 when a ruleset is enforced as it was loaded, and 1 otherwise.

Examples:
  ringwall status
  ringwall status -o json")]
pub struct Args {
    #[command(flatten)]
    state: StateArgs,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

struct Hits {
    id: String,
    path: String,
    packets: u64,
    rule: String,
    place: String,
}

pub fn run(args: &Args, terminal: &Terminal) -> Result<Exit, Failure> {
    let mut netfilter = Netfilter::open().map_err(|error| failure(&error.into()))?;
    let state = args.state.look()?;
    let enforced = read_enforced(&mut netfilter)?;
    let foreign = foreign_chains(&mut netfilter).map_err(|error| failure(&error))?;
    let Some(generation) = enforced.deciding() else {
        match args.output {
            Output::Table => {
                if enforced.has_table && enforced.trial.is_none() {
                    print("our table was changed: no generation decides in it; apply the policy again\n");
                } else {
                    print("nothing is enforced\n");
                }
                if let Some(trial) = &enforced.trial {
                    print(&format!("{} was on trial and has fallen\n", trial.generation));
                }
                if let Some(confirmed) = state.confirmed() {
                    print(&format!("{confirmed} is confirmed but not loaded: `ringwall restore` loads it\n"));
                }
            }
            Output::Json => print_json(&json!({ "schema": "ringwall.status/1", "generation": null })),
        }
        return Ok(Exit::Failure);
    };
    let record = state.record(generation).ok();
    let policy = record.as_ref().and_then(|record| recorded(record).ok());
    let node = record.as_ref().and_then(|record| policy.as_ref()?.nodes.get(record.node.as_str()));
    let stage = node.map(|node| if node.stage == ringwall_policy::Stage::Audit { "audit" } else { "enforce" });
    let audited = if stage == Some("audit") { ", in the audit stage: nothing is dropped" } else { "" };
    let hits = hits(&mut netfilter, generation, policy.as_ref())?;
    let drift = enforced.is_disturbed || record.as_ref().is_some_and(|record| has_drifted(&mut netfilter, generation, record));
    let trial = enforced.trial.as_ref().filter(|trial| trial.is_alive());
    let others = policy.as_ref().zip(record.as_ref()).and_then(|(policy, record)| Others::look(&foreign, policy, &record.node));
    let names = record.iter().flat_map(|record| &record.answers);
    match args.output {
        Output::Table => {
            match (trial, &record) {
                (Some(trial), _) => {
                    let left = trial.left.unwrap_or_default().as_secs();
                    let then = enforced.installed.current.map_or("nothing".into(), |current| current.to_string());
                    print(&format!("{generation} is on trial for {left} s more; then {then} is enforced\n"));
                }
                (None, Some(record)) => print(&format!("{generation} is enforced, as node {}{audited}\n", record.node)),
                (None, None) => print(&format!("{generation} is enforced; there is no record of where it came from\n")),
            }
            if let Some(fallen) = enforced.trial.as_ref().filter(|trial| !trial.is_alive()) {
                print(&format!("{} was on trial and has fallen\n", fallen.generation));
            }
            if state.confirmed() != enforced.installed.current {
                let confirmed = state.confirmed().map_or("nothing".into(), |confirmed| confirmed.to_string());
                print(&format!("at boot {confirmed} is loaded; `ringwall confirm` makes that good\n"));
            }
            if drift {
                print("drift: our table is not as it was loaded; apply the policy again\n");
            }
            for stranger in &enforced.strangers {
                print(&format!("drift: {stranger} is not ours\n"));
            }
            for (name, answer) in names {
                let addresses: Vec<_> = answer.addresses.iter().map(ToString::to_string).collect();
                let age = now().saturating_sub(answer.asked);
                print(&format!("name {name}: {} ({age} s old)\n", addresses.join(" ")));
            }
            for chain in &foreign {
                print(&format!(
                    "table {} also filters: chain {} at {} priority {}, policy {}\n",
                    chain.table, chain.name, chain.base.hook, chain.base.priority, chain.base.policy
                ));
            }
            for text in others.iter().flat_map(Others::texts) {
                print(&format!("{text}\n"));
            }
            let rows: Vec<Vec<String>> = hits
                .iter()
                .map(|hit| vec![hit.packets.to_string(), hit.path.clone(), hit.id.clone(), hit.rule.clone(), hit.place.clone()])
                .collect();
            print(&table(&["NEW FLOWS", "PATH", "RULE", "MEANING", "PLACE"], &rows));
        }
        Output::Json => print_json(&json!({
            "schema": "ringwall.status/1",
            "generation": generation.to_string(),
            "stage": stage,
            "node": record.as_ref().map(|record| record.node.clone()),
            "trial": trial.map(|trial| json!({ "generation": trial.generation.to_string(),
                "left_seconds": trial.left.unwrap_or_default().as_secs_f64(),
                "then": enforced.installed.current.map(|current| current.to_string()) })),
            "confirmed": state.confirmed().map(|confirmed| confirmed.to_string()),
            "drift": drift,
            "strangers": enforced.strangers.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "names": names.map(|(name, answer)| json!({ "name": name, "addresses": answer.addresses,
                "age_seconds": now().saturating_sub(answer.asked) })).collect::<Vec<_>>(),
            "foreign_chains": foreign.iter().map(|chain| json!({ "table": chain.table.to_string(), "chain": chain.name,
                "hook": chain.base.hook.to_string(), "priority": chain.base.priority,
                "policy": chain.base.policy.to_string() })).collect::<Vec<_>>(),
            "dropped_by_others": others.as_ref().map(Others::json),
            "rules": hits.iter().map(|hit| json!({ "id": hit.id, "path": hit.path, "packets": hit.packets,
                "meaning": hit.rule, "place": hit.place })).collect::<Vec<_>>(),
        })),
    }
    let _ = terminal;
    Ok(if drift { Exit::Failure } else { Exit::Success })
}

/// The counters of the generation's rules and defaults.
fn hits(netfilter: &mut Netfilter, generation: Generation, policy: Option<&Policy>) -> Result<Vec<Hits>, Failure> {
    let counters = netfilter.counters(&TableId::inet(TABLE)).map_err(|error| failure(&error.into()))?;
    let prefix = format!("{generation}_");
    let mut hits = Vec::new();
    for (name, counter) in counters {
        let Some((path, rest)) = name.strip_prefix(&prefix).and_then(|rest| rest.split_once('_')) else { continue };
        let id = rest.strip_prefix("r_").unwrap_or(rest);
        let rule = policy.and_then(|policy| policy.rules.iter().find(|rule| rule.id.as_str() == id.trim_end_matches("_audit")));
        let meaning = match (id, rule) {
            (_, Some(rule)) if id.ends_with("_audit") => format!("audit: {}", words(rule)),
            (_, Some(rule)) => words(rule),
            ("management", None) => "the floor: management".into(),
            ("default", None) => "no rule allows it".into(),
            ("invalid", None) => "no packet of any connection".into(),
            ("untracked", None) => "judged without state".into(),
            (_, None) => String::new(),
        };
        hits.push(Hits {
            id: id.to_owned(),
            path: path.to_owned(),
            packets: counter.packets,
            rule: meaning,
            place: rule.map(|rule| rule.origin.place.clone()).unwrap_or_default(),
        });
    }
    hits.sort_by(|a, b| b.packets.cmp(&a.packets).then_with(|| (&a.path, &a.id).cmp(&(&b.path, &b.id))));
    Ok(hits)
}
