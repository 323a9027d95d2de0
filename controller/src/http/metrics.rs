//! What Prometheus reads (text format 0.0.4).
//!
//! In: rows, and how long requests took. Out: lines. Never: an address, a user or a path as a label; a label's value
//! that somebody outside chose.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode};
use axum::response::IntoResponse;
use ringwall_api as api;

use super::key::Reader;
use super::paths::counts;
use super::refused::Refused;
use super::{Api, nodes};
use crate::histogram::Histogram;
use crate::store::{Read as _, Store as _};

/// By route as it is described, method and status: all three are ours.
type Key = (String, &'static str, u16);

#[derive(Default)]
pub struct Requests(Mutex<BTreeMap<Key, Histogram>>);

impl Requests {
    pub fn count(&self, route: &str, method: &Method, status: StatusCode, took: Duration) {
        let method = match *method {
            Method::GET => "GET",
            Method::PUT => "PUT",
            Method::POST => "POST",
            Method::DELETE => "DELETE",
            Method::HEAD => "HEAD",
            _ => "other",
        };
        let mut requests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let histogram = requests.entry((route.to_owned(), method, status.as_u16())).or_default();
        histogram.count(took);
    }
}

/// Figures of the fleet and of the API, for Prometheus.
#[utoipa::path(get, path = "/metrics", responses((status = 200, content_type = "text/plain", body = String)), security(("key" = ["read"])))]
pub async fn metrics(Reader(_): Reader, State(inner): Api) -> Result<impl IntoResponse, Refused> {
    let nodes = nodes::nodes(&inner).await?;
    let (revision, seen) = {
        let mut read = inner.state.store.read().await?;
        let revision = read.revisions(None, 1).await?.first().map_or(0, |revision| revision.number.0);
        let agents: BTreeSet<String> = nodes.iter().map(|node| node.agent.clone()).collect();
        let seen: BTreeMap<_, _> = read.sightings().await?.into_iter().map(|sighting| (sighting.agent.to_string(), sighting.at)).collect();
        (revision, seen.into_iter().filter(|(agent, _)| agents.contains(agent)).collect::<BTreeMap<_, _>>())
    };
    let mut text = String::new();
    let head = |text: &mut String, name: &str, kind: &str, help: &str| {
        let _ = write!(text, "# HELP ringwall_{name} {help}\n# TYPE ringwall_{name} {kind}\n");
    };
    head(&mut text, "build_info", "gauge", "Always 1; which controller this is.");
    let _ = writeln!(text, "ringwall_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
    head(&mut text, "agents", "gauge", "Agents that are not revoked.");
    let count = |is: &dyn Fn(&api::Node) -> bool| nodes.iter().filter(|node| is(node)).count();
    let is_approved = |node: &api::Node| node.standing == api::Standing::Approved;
    for (state, number) in [
        ("connected", count(&|node| is_approved(node) && node.is_connected)),
        ("disconnected", count(&|node| is_approved(node) && !node.is_connected)),
        ("pending", count(&|node| node.standing == api::Standing::Pending)),
    ] {
        let _ = writeln!(text, "ringwall_agents{{state=\"{state}\"}} {number}");
    }
    head(&mut text, "agent_last_seen_timestamp_seconds", "gauge", "When a node's agent was last heard of.");
    for node in &nodes {
        if let Some(at) = seen.get(&node.agent) {
            let _ = writeln!(text, "ringwall_agent_last_seen_timestamp_seconds{{node=\"{}\"}} {}", node.name, at.as_second());
        }
    }
    head(&mut text, "policy_revision", "gauge", "The newest revision that was committed.");
    let _ = writeln!(text, "ringwall_policy_revision {revision}");
    head(&mut text, "node_policy_revision", "gauge", "The revision of which a node enforces its ruleset.");
    for node in &nodes {
        let revision = node.enforces.as_ref().map_or(0, |enforces| enforces.revision);
        let _ = writeln!(text, "ringwall_node_policy_revision{{node=\"{}\"}} {revision}", node.name);
    }
    head(&mut text, "node_late", "gauge", "1: the node does not enforce what it should, or is not connected.");
    for node in &nodes {
        let _ = writeln!(text, "ringwall_node_late{{node=\"{}\"}} {}", node.name, u8::from(node.late.is_some()));
    }
    let (tally, paths) = inner.state.control.look(|core| (core.tally().clone(), counts(core))).await?;
    head(&mut text, "applies_total", "counter", "Rulesets that nodes were given and that came to an end, since this controller was started.");
    for (result, count) in [("confirmed", tally.confirmed), ("fell", tally.fell), ("refused", tally.refused)] {
        let _ = writeln!(text, "ringwall_applies_total{{result=\"{result}\"}} {count}");
    }
    head(&mut text, "apply_duration_seconds", "histogram", "From when a ruleset was given to a node until the node confirmed it.");
    tally.took.write(&mut text, "ringwall_apply_duration_seconds", "");
    head(&mut text, "ruleset_drift_total", "counter", "Changes by others that a node's agent found, since this controller was started.");
    for (node, count) in &tally.drifts {
        let _ = writeln!(text, "ringwall_ruleset_drift_total{{node=\"{node}\"}} {count}");
    }
    head(&mut text, "paths", "gauge", "Declared paths between nodes, by what the last look at them showed.");
    for (state, count) in [("as_declared", paths.as_declared), ("not_as_declared", paths.not_as_declared), ("unknown", paths.unknown)] {
        let _ = writeln!(text, "ringwall_paths{{state=\"{state}\"}} {count}");
    }
    head(&mut text, "http_request_duration_seconds", "histogram", "Requests to this API, until their answer began.");
    let requests = inner.requests.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for ((route, method, status), histogram) in requests {
        let labels = format!("route=\"{route}\",method=\"{method}\",status=\"{status}\"");
        histogram.write(&mut text, "ringwall_http_request_duration_seconds", &labels);
    }
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}
