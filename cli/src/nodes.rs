//! `ringwall nodes` and `ringwall exposure`: the inventory, and what the internet reaches on it.

use ringwall_packet::{Cube, FlowSet, Point, Protocol, UpperSet};
use ringwall_policy::{Policy, Stage};
use serde_json::json;

use crate::Failure;
use crate::policy::{PolicyArgs, now};
use crate::terminal::{Exit, Output, Terminal, print, print_json, table};

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  ringwall nodes policy.yaml\n  ringwall nodes policy.yaml --site hel -o json")]
pub struct NodesArgs {
    #[command(flatten)]
    policy: PolicyArgs,
    /// Only the nodes of this site.
    #[arg(long)]
    site: Option<String>,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

pub fn nodes(args: &NodesArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let (_, policy) = args.policy.resolved(terminal)?;
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
            "labels": node.labels.iter().map(|(key, value)| (key.to_string(), value.clone())).collect::<std::collections::BTreeMap<_, _>>(),
            "groups": groups }));
    }
    match args.output {
        Output::Table => print(&table(&["NODE", "SITE", "STAGE", "ADDRESSES", "LABELS", "GROUPS"], &rows)),
        Output::Json => print_json(&json!({ "schema": "ringwall.nodes/1", "nodes": list })),
    }
    Ok(Exit::Success)
}

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  ringwall exposure policy.yaml\n  ringwall exposure policy.yaml -o json")]
pub struct ExposureArgs {
    #[command(flatten)]
    policy: PolicyArgs,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// What the internet reaches on a node: protocols with ports, and how many ports that is.
fn exposed(policy: &Policy, flows: &FlowSet) -> (Vec<String>, usize) {
    let internal = policy.internal.clone().unwrap_or_default();
    let internet = Policy::internet(&internal, &policy.node_addresses());
    let reached = flows.intersection(&FlowSet::product(&internet, &ringwall_packet::AddressSet::full(), &UpperSet::any()));
    let mut text = Vec::new();
    let mut ports = std::collections::BTreeSet::new();
    collect(reached.v4.cubes(), &mut text, &mut ports);
    collect(reached.v6.cubes(), &mut text, &mut ports);
    text.sort();
    text.dedup();
    (text, ports.len())
}

fn collect<A: Point>(
    cubes: &[Cube<A>],
    text: &mut Vec<String>,
    ports: &mut std::collections::BTreeSet<(u8, u16)>,
) {
    for cube in cubes {
        for protocols in cube.upper.protocols().intervals() {
            for number in protocols.first()..=protocols.last() {
                let protocol = Protocol(number);
                if !protocol.has_ports() {
                    if cube.upper.protocols().intervals().len() == 1 && protocols.is_single() {
                        text.push(protocol.to_string());
                    }
                    continue;
                }
                for interval in cube.upper.destination_ports().intervals() {
                    ports.extend((interval.first()..=interval.last()).map(|port| (number, port)));
                    text.push(if interval.is_single() {
                        match ringwall_services::name_of(protocol, interval.first()) {
                            Some(name) => format!("{}/{protocol} ({name})", interval.first()),
                            None => format!("{}/{protocol}", interval.first()),
                        }
                    } else {
                        format!("{}-{}/{protocol}", interval.first(), interval.last())
                    });
                }
            }
        }
    }
}

pub fn exposure(args: &ExposureArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let (_, policy) = args.policy.resolved(terminal)?;
    let allowed = policy.allowed(now());
    let mut rows = Vec::new();
    let mut list = Vec::new();
    let mut total = 0;
    for node in policy.nodes.values() {
        let to_node = FlowSet::product(&ringwall_packet::AddressSet::full(), &node.local(), &UpperSet::any());
        let flows = if node.stage == Stage::Audit { to_node } else { allowed.intersection(&to_node) };
        let (services, ports) = exposed(&policy, &flows);
        total += ports;
        list.push(json!({ "node": node.name.as_str(), "ports": ports, "services": services }));
        rows.push(vec![node.name.to_string(), ports.to_string(), services.join(", ")]);
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

/// A single address without its prefix length.
fn plain(prefix: &str) -> String {
    let single = prefix.strip_suffix("/32").or_else(|| prefix.strip_suffix("/128").filter(|_| prefix.contains(':')));
    single.unwrap_or(prefix).to_owned()
}
