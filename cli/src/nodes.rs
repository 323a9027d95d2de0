//! `ringwall nodes` and `ringwall exposure`: the inventory, and what the internet reaches on it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ringwall_analysis::exposure::{self as internet, Exposure, Opens, Reached};
use ringwall_packet::Protocol;
use ringwall_policy::{Decider, Policy, Stage};
use serde_json::json;

use crate::Failure;
use crate::fleet::{self, ServerArgs};
use crate::policy::{Bindings, PolicyArgs, now};
use crate::terminal::{Exit, ListOutput, Output, Terminal, print, print_csv, print_json, print_ndjson, table};

#[derive(clap::Args)]
#[command(after_help = NODES_HELP)]
pub struct NodesArgs {
    /// The policy: a file, or a folder with its *.yaml files; otherwise RINGWALL_POLICY, or a fleet's controller.
    #[arg(value_name = "POLICY")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    bindings: Bindings,
    #[command(flatten)]
    server: ServerArgs,
    /// Only the nodes of this site.
    #[arg(long)]
    site: Option<String>,
    /// Of a fleet: only nodes that don't enforce what they should.
    #[arg(long)]
    late: bool,
    #[arg(short, long, value_enum, default_value_t = ListOutput::Table)]
    output: ListOutput,
}

const NODES_HELP: &str = "\
Examples:
  ringwall nodes policy.yaml                                    the nodes that the file names
  ringwall nodes policy.yaml --site hel -o json
  ringwall nodes --controller https://fw.example.net --late     nodes of a fleet that lag behind";

/// Of a policy, if one is named; else of a fleet.
pub fn nodes(args: &NodesArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let policy = args.policy.clone().or_else(|| {
        let is_fleet = args.late || args.server.controller.is_some();
        std::env::var_os("RINGWALL_POLICY").map(PathBuf::from).filter(|_| !is_fleet)
    });
    let Some(policy) = policy else {
        if args.server.controller.is_none() {
            let failure = Failure::new(Exit::Usage, "the nodes of which policy, or of which fleet?");
            return Err(failure.help("name a POLICY, or a controller by --controller URL or RINGWALL_CONTROLLER"));
        }
        return fleet::nodes(&args.server, args.site.as_deref(), args.late, args.output, terminal);
    };
    if args.late {
        return Err(Failure::new(Exit::Usage, "a policy's file does not know who is late").help("ask the fleet: `ringwall nodes --late --controller URL`"));
    }
    of_policy(args, PolicyArgs { policy, bindings: args.bindings.clone() }, terminal)
}

fn of_policy(args: &NodesArgs, policy: PolicyArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let (_, policy) = policy.resolved(terminal)?;
    let of_site = |site: Option<&str>| args.site.is_none() || args.site.as_deref() == site;
    let nodes = policy.nodes.values().filter(|node| of_site(node.site.as_ref().map(|site| site.as_str())));
    let mut rows = Vec::new();
    let mut list = Vec::new();
    for node in nodes {
        let addresses: Vec<String> = node.local().prefixes().iter().map(|prefix| plain(&prefix.to_string())).collect();
        let labels: Vec<String> = node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let groups: Vec<&str> = policy
            .groups
            .values()
            .filter(|group| group.nodes.contains(&node.name))
            .map(|group| group.name.as_str())
            .collect();
        let site = node.site.as_ref().map_or("", |site| site.as_str());
        let stage = if node.stage == Stage::Audit { "audit" } else { "enforce" };
        rows.push(vec![
            node.name.to_string(),
            site.to_owned(),
            stage.to_owned(),
            addresses.join(" "),
            labels.join(" "),
            groups.join(" "),
        ]);
        list.push(json!({ "name": node.name.as_str(), "site": site, "stage": stage, "addresses": addresses,
            "labels": node.labels.iter().map(|(key, value)| (key.to_string(), value.clone())).collect::<BTreeMap<_, _>>(),
            "groups": groups }));
    }
    match args.output {
        ListOutput::Table => print(&table(&["NODE", "SITE", "STAGE", "ADDRESSES", "LABELS", "GROUPS"], &rows)),
        ListOutput::Json => print_json(&json!({ "schema": "ringwall.nodes/1", "nodes": list })),
        ListOutput::Ndjson => print_ndjson(&list),
        ListOutput::Csv => print_csv(&["node", "site", "stage", "addresses", "labels", "groups"], &rows),
    }
    Ok(Exit::Success)
}

/// Steps of the question: a second or two.
const EXPOSURE_BUDGET: u64 = 10_000_000;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  ringwall exposure policy.yaml\n  ringwall exposure policy.yaml -o json")]
pub struct ExposureArgs {
    #[command(flatten)]
    policy: PolicyArgs,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Ranges that are not wider are a list of services.
const WIDEST_LIST: u16 = 8;

/// What the internet reaches on a node: protocols with ports, and how many ports that is.
fn exposed(exposure: &Exposure) -> (Vec<String>, usize) {
    let reached = Reached::of(exposure);
    let mut text: Vec<String> = reached.protocols.iter().map(Protocol::to_string).collect();
    for (protocol, ports) in &reached.ports {
        for (first, last) in ports.intervals().iter().map(|interval| (interval.first(), interval.last())) {
            if last - first >= WIDEST_LIST {
                text.push(format!("{first}-{last}/{protocol}"));
                continue;
            }
            text.extend((first..=last).map(|port| match ringwall_services::name_of(*protocol, port) {
                Some(name) => format!("{port}/{protocol} ({name})"),
                None => format!("{port}/{protocol}"),
            }));
        }
    }
    text.sort();
    (text, reached.count())
}

/// How many ports the internet reaches, on one node or on all together.
pub fn exposed_ports(policy: &Policy, node: Option<&str>, now: u64) -> Result<usize, Failure> {
    let exposed_nodes = internet::exposure(policy, now, EXPOSURE_BUDGET).map_err(|exhausted| Failure::of(Exit::Failure, &exhausted))?;
    let wanted = exposed_nodes.iter().filter(|(name, _)| node.is_none_or(|node| node == name.as_str()));
    Ok(wanted.map(|(_, exposure)| exposed(exposure).1).sum())
}

pub fn exposure(args: &ExposureArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let (_, policy) = args.policy.resolved(terminal)?;
    let exposed_nodes = internet::exposure(&policy, now(), EXPOSURE_BUDGET).map_err(|exhausted| Failure::of(Exit::Failure, &exhausted))?;
    let mut rows = Vec::new();
    let mut list = Vec::new();
    let mut total = 0;
    for (node, exposure) in &exposed_nodes {
        let (services, ports) = exposed(exposure);
        let rules: Vec<String> = exposure.keys().map(|opens| opened_by(&policy, *opens)).collect();
        total += ports;
        list.push(json!({ "node": node.as_str(), "ports": ports, "services": services, "rules": rules }));
        rows.push(vec![node.to_string(), ports.to_string(), services.join(", ")]);
    }
    match args.output {
        Output::Table => {
            print(&table(&["NODE", "PORTS", "REACHED FROM THE INTERNET"], &rows));
            print(&format!("exposure: {total}\n"));
        }
        Output::Json => print_json(&json!({ "schema": "ringwall.exposure/1", "exposure": total, "nodes": list })),
    }
    Ok(Exit::Success)
}

/// What lets the internet in, as file and line.
fn opened_by(policy: &Policy, opens: Opens) -> String {
    let management = || policy.management.as_ref().map(|management| management.origin.place.clone());
    match opens {
        Opens::Stage => "stage: audit".to_owned(),
        Opens::By(Decider::Rule(index)) => policy.rules[index].origin.place.clone(),
        Opens::By(Decider::Management) => management().unwrap_or_default(),
        Opens::By(Decider::Default) => "default".to_owned(),
    }
}

/// A single address without its prefix length.
fn plain(prefix: &str) -> String {
    let single = prefix.strip_suffix("/32").or_else(|| prefix.strip_suffix("/128").filter(|_| prefix.contains(':')));
    single.unwrap_or(prefix).to_owned()
}
