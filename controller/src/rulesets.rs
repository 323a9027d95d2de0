//! A revision of the policy, with the fleet's nodes, as what each node is to enforce.
//!
//! In: a policy's files and values, the agents. Out: each node's ruleset as it crosses the wire, proved; or
//! everything that is wrong with the policy. Never: a ruleset that is not proved, a node of an agent that is not
//! approved.
//!
//! Each node may reach its controllers: without that it could confirm nothing. It is a rule beside the policy's own,
//! with the id `controller`.
//!
//! The fleet's nodes stand beside those that the policy's own files name. A node that both name is what the files
//! say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ringwall_diagnostic::{Colour, Diagnostic, Sources, render};
use ringwall_policy_file::{Input, Values, parse};
use ringwall_protocol::encode_ruleset;
use serde_json::{Map, Value, json};

use crate::agent::{Agent, Standing};
use crate::id::NodeName;
use crate::revision::Content;
use crate::time::Time;

/// By node, as [`encode_ruleset`] makes them.
pub type Rulesets = BTreeMap<NodeName, Arc<[u8]>>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// All of it, as a person reads it.
    #[error("the policy is not right\n{0}")]
    Policy(String),
    /// A fault of ours.
    #[error("the ruleset of `{node}` is not proved: {why}")]
    Unproved { node: String, why: String },
}

/// Where the fleet's nodes are said to stand, in diagnostics.
const INVENTORY: &str = "the fleet's nodes";
/// Groups that are there without the policy's words.
const NODES: &str = "fleet-nodes";
const CONTROLLERS: &str = "fleet-controllers";

pub fn rulesets(content: &Content, agents: &[Agent], controllers: &[SocketAddr], now: Time) -> Result<Rulesets, Error> {
    let mut values = Values::default();
    for (name, value) in &content.values {
        values.bind(name, value, "a value of the revision");
    }
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let files: Vec<Input> = content.files.iter().map(|(name, text)| Input { name: name.clone(), text: text.clone() }).collect();
    let own = own_nodes(&files, &values, seconds);
    let members: Vec<&Agent> = agents.iter().filter(|agent| agent.standing == Standing::Approved && !agent.addresses().is_empty()).collect();
    let joined = members.iter().copied().filter(|agent| !own.contains(agent.node.as_str()));
    let inventory = Input { name: INVENTORY.into(), text: inventory(joined, &members, controllers) };
    let parsed = parse(&files.into_iter().chain([inventory]).collect::<Vec<_>>(), &values, seconds);
    let Some(policy) = parsed.policy else {
        return Err(Error::Policy(errors(&parsed.diagnostics, &parsed.sources)));
    };
    let mut all = Rulesets::new();
    let mut compiled = ringwall_compile::compile_all(&policy);
    for agent in members {
        let Some((_, result)) = compiled.iter_mut().find(|(name, _)| name.as_str() == agent.node.as_str()) else { continue };
        match result {
            Ok((ruleset, _)) => {
                let (bytes, _) = encode_ruleset(ruleset);
                all.insert(agent.node.clone(), bytes.to_vec().into());
            }
            Err(why) => return Err(Error::Unproved { node: agent.node.to_string(), why: why.to_string() }),
        }
    }
    Ok(all)
}

/// Names of the nodes in the policy's own files. Where these are wrong without the fleet's, that is told with them.
fn own_nodes(files: &[Input], values: &Values, now: u64) -> BTreeSet<String> {
    let policy = parse(files, values, now).policy;
    policy.into_iter().flat_map(|policy| policy.nodes.into_keys()).map(|name| name.to_string()).collect()
}

/// The nodes in the policy's language, and their way to the controllers; JSON is YAML (YAML 1.2, section 1.3).
fn inventory<'a>(joined: impl Iterator<Item = &'a Agent>, members: &[&Agent], controllers: &[SocketAddr]) -> String {
    let node = |agent: &Agent| {
        let mut node = Map::new();
        node.insert("addresses".into(), json!(agent.addresses()));
        if !agent.place.labels.is_empty() {
            node.insert("labels".into(), json!(agent.place.labels));
        }
        if let Some(site) = &agent.place.site {
            node.insert("site".into(), json!(site));
        }
        (agent.node.to_string(), Value::Object(node))
    };
    let mut all = Map::new();
    let nodes: Map<String, Value> = joined.map(node).collect();
    if !nodes.is_empty() {
        all.insert("nodes".into(), Value::Object(nodes));
    }
    let own: BTreeSet<IpAddr> = members.iter().flat_map(|agent| agent.addresses()).collect();
    // A family that one of them lacks has no way between them.
    let both = |is_v4: bool| own.iter().any(|ip| ip.is_ipv4() == is_v4) && controllers.iter().any(|to| to.is_ipv4() == is_v4);
    let of: BTreeSet<IpAddr> = own.iter().copied().filter(|ip| both(ip.is_ipv4())).collect();
    let to: BTreeSet<IpAddr> = controllers.iter().map(SocketAddr::ip).filter(|ip| both(ip.is_ipv4())).collect();
    if !of.is_empty() && !to.is_empty() {
        let services: BTreeSet<String> = controllers.iter().map(|to| format!("tcp/{}", to.port())).collect();
        all.insert("groups".into(), json!({ NODES: { "addresses": of }, CONTROLLERS: { "addresses": to } }));
        all.insert("rules".into(), json!([{ "id": "controller", "allow": format!("{NODES} -> {CONTROLLERS}"), "services": services }]));
    }
    if all.is_empty() { String::new() } else { Value::Object(all).to_string() }
}

fn errors(diagnostics: &[Diagnostic], sources: &Sources) -> String {
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.is_error());
    errors.map(|diagnostic| render(diagnostic, sources, Colour::Plain)).collect::<Vec<_>>().join("\n")
}
