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
//! say. Settings of nodes are rules beside the policy's, too.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ringwall_diagnostic::{Colour, Diagnostic, Sources, render};
use ringwall_compile::compile_all;
use ringwall_policy::{Name, Policy};
use ringwall_policy_file::{Input, Values, parse};
use ringwall_protocol::{decode_ruleset, encode_ruleset};
use serde_json::{Map, Value, json};

use crate::agent::{Agent, Standing};
use crate::id::NodeName;
use crate::narrowing;
use crate::revision::Content;
use crate::setting::{Meaning, Setting};
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

/// What the fleet adds to a policy.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    pub agents: Vec<Agent>,
    pub settings: Vec<Setting>,
    /// Where nodes reach a controller.
    pub controllers: Arc<[SocketAddr]>,
}

/// Each node's ruleset, and the policy that all of them are of.
pub fn rulesets(content: &Content, inventory: &Inventory, now: Time) -> Result<(Rulesets, Policy), Error> {
    let members = inventory.members();
    let policy = policy(content, inventory, now)?;
    let of = |name: &Name| members.iter().find(|agent| agent.node.name() == name);
    let mut all = Rulesets::new();
    for (name, compiled) in compile_all(&policy, members.iter().map(|agent| agent.node.name())) {
        let Some(agent) = of(name) else { continue };
        let (ruleset, _) = compiled.map_err(|why| Error::Unproved { node: name.to_string(), why: why.to_string() })?;
        let (bytes, _) = encode_ruleset(&ruleset);
        all.insert(agent.node.clone(), bytes.to_vec().into());
    }
    Ok((all, policy))
}

impl Inventory {
    /// Agents whose nodes have a part in the policy.
    fn members(&self) -> Vec<&Agent> {
        let is_member = |agent: &&Agent| agent.standing == Standing::Approved && !agent.addresses().is_empty();
        self.agents.iter().filter(is_member).collect()
    }
}

/// The policy with the fleet in it.
pub fn policy(content: &Content, inventory: &Inventory, now: Time) -> Result<Policy, Error> {
    let mut values = Values::default();
    for (name, value) in &content.values {
        values.bind(name, value, "a value of the revision");
    }
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let files: Vec<Input> = content.files.iter().map(|(name, text)| Input { name: name.clone(), text: text.clone() }).collect();
    let own = own_nodes(&files, &values, seconds);
    let members = inventory.members();
    let added = Input { name: INVENTORY.into(), text: added(&own, &members, inventory) };
    let parsed = parse(&files.into_iter().chain([added]).collect::<Vec<_>>(), &values, seconds);
    parsed.policy.ok_or_else(|| Error::Policy(errors(&parsed.diagnostics, &parsed.sources)))
}

/// Names of the nodes in the policy's own files. Where these are wrong without the fleet's, that is told with them.
fn own_nodes(files: &[Input], values: &Values, now: u64) -> BTreeSet<String> {
    let policy = parse(files, values, now).policy;
    policy.into_iter().flat_map(|policy| policy.nodes.into_keys()).map(|name| name.to_string()).collect()
}

/// The nodes in the policy's language, their way to the controllers, and what they host; JSON is YAML (YAML 1.2,
/// section 1.3).
fn added(own: &BTreeSet<String>, members: &[&Agent], Inventory { settings, controllers, .. }: &Inventory) -> String {
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
    let joined = members.iter().filter(|agent| !own.contains(agent.node.as_str()));
    let nodes: Map<String, Value> = joined.map(|agent| node(agent)).collect();
    if !nodes.is_empty() {
        all.insert("nodes".into(), Value::Object(nodes));
    }
    let mut rules = Vec::new();
    let own: BTreeSet<IpAddr> = members.iter().flat_map(|agent| agent.addresses()).collect();
    // A family that one of them lacks has no way between them.
    let both = |is_v4: bool| own.iter().any(|ip| ip.is_ipv4() == is_v4) && controllers.iter().any(|to| to.is_ipv4() == is_v4);
    let of: BTreeSet<IpAddr> = own.iter().copied().filter(|ip| both(ip.is_ipv4())).collect();
    let to: BTreeSet<IpAddr> = controllers.iter().map(SocketAddr::ip).filter(|ip| both(ip.is_ipv4())).collect();
    if !of.is_empty() && !to.is_empty() {
        let services: BTreeSet<String> = controllers.iter().map(|to| format!("tcp/{}", to.port())).collect();
        all.insert("groups".into(), json!({ NODES: { "addresses": of }, CONTROLLERS: { "addresses": to } }));
        rules.push(json!({ "id": "controller", "allow": format!("{NODES} -> {CONTROLLERS}"), "services": services }));
    }
    for setting in settings.iter().filter(|setting| members.iter().any(|agent| agent.node == setting.node)) {
        // The API takes in what means something.
        let Ok(Meaning::Hosts(hosts)) = Meaning::of(&setting.name, &setting.value) else { continue };
        let rule = |from: &String| json!({ "allow": format!("{from} -> {}", setting.node), "services": hosts.services, "note": "a setting of the node" });
        rules.extend(hosts.from.iter().map(rule));
    }
    if !rules.is_empty() {
        all.insert("rules".into(), rules.into());
    }
    if all.is_empty() { String::new() } else { Value::Object(all).to_string() }
}

fn errors(diagnostics: &[Diagnostic], sources: &Sources) -> String {
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.is_error());
    errors.map(|diagnostic| render(diagnostic, sources, Colour::Plain)).collect::<Vec<_>>().join("\n")
}

/// Whether a node loses something when one ruleset takes the place of the other. Of bytes that are none, it does.
pub fn narrows(before: &[u8], after: &[u8]) -> bool {
    let decoded = |bytes: &[u8]| decode_ruleset(&bytes.to_vec().into()).ok();
    match (decoded(before), decoded(after)) {
        (Some(before), Some(after)) => narrowing::narrows(&before, &after),
        _ => true,
    }
}
