//! Paths: what is declared between the nodes, and what probes found of it.
//!
//! In: a page, a conclusion. Out: rows as the core has them; a word that all are to be probed now. Never: a page without a
//! bound, a probe's result from a client.

use axum::extract::State;
use axum::http::StatusCode;
use ringwall_analysis::probes::{Case, NotProbed};
use ringwall_api as api;
use ringwall_probe::{Conclusion, Disposition, Packet};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Api;
use super::key::{Reader, Writer};
use super::part::{self, Json, Query};
use super::refused::Refused;
use crate::core::{Core, Path};
use crate::declared::Declared;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// Only what has a greater number.
    after: Option<u64>,
    /// At most so many, 1 to 1000; 100 when it is not there.
    limit: Option<u32>,
    /// Only those of this conclusion.
    conclusion: Option<api::Conclusion>,
}

/// Each path that the policy declares between the nodes, with a sample of what it does not, and what probes found.
#[utoipa::path(get, path = "/api/v1/paths", params(Which), responses((status = 200, body = api::Paths)), security(("key" = ["read"])))]
pub async fn list(Reader(_): Reader, State(inner): Api, Query(which): Query<Which>) -> Result<Json<api::Paths>, Refused> {
    let limit = part::limit(which.limit)? as usize;
    Ok(Json(inner.state.control.look(move |core| page(core, &which, limit)).await?))
}

/// Probe all paths now, and not only in their turn.
#[utoipa::path(
    post, path = "/api/v1/paths/look", responses((status = 202, description = "It is being done: `counts.waiting` of the paths falls to 0")),
    security(("key" = ["write"])),
)]
pub async fn look(Writer(_): Writer, State(inner): Api) -> Result<StatusCode, Refused> {
    inner.state.control.look_again(None).await?;
    Ok(StatusCode::ACCEPTED)
}

/// How many there are of each kind.
pub fn counts(core: &Core) -> api::PathCounts {
    page(core, &Which { after: None, limit: None, conclusion: None }, 0).counts
}

fn page(core: &Core, which: &Which, limit: usize) -> api::Paths {
    let mut page = api::Paths { revision: None, counts: api::PathCounts::default(), paths: Vec::new(), not_probed: Vec::new(), next: None };
    let Some((declared, paths)) = core.paths() else { return page };
    page.revision = Some(declared.revision.0);
    page.counts.left_out = declared.matrix.left_out as u64;
    let first = which.after.map_or(0, |after| after.saturating_add(1));
    for (number, (case, path)) in (0u64..).zip(declared.matrix.cases.iter().zip(paths)) {
        let away = if core.has_vantage(declared, case) { None } else { Some(away(declared, case)) };
        let conclusion = match (&away, &path.finding) {
            (None, Some(finding)) => shape(finding.conclusion),
            _ => api::Conclusion::Unknown,
        };
        match conclusion {
            api::Conclusion::AsDeclared => page.counts.as_declared += 1,
            api::Conclusion::NotAsDeclared => page.counts.not_as_declared += 1,
            api::Conclusion::Unknown => page.counts.unknown += 1,
        }
        page.counts.waiting += u64::from(away.is_none() && path.is_waiting());
        if number < first || which.conclusion.is_some_and(|only| only != conclusion) {
            continue;
        }
        if page.paths.len() == limit {
            page.next = page.next.or_else(|| page.paths.last().map(|last| last.number));
            continue;
        }
        page.paths.push(row(declared, number, case, path, conclusion, away));
    }
    page.counts.unknown += declared.matrix.not_probed.len() as u64;
    if which.after.is_none() && which.conclusion.is_none_or(|only| only == api::Conclusion::Unknown) {
        let shape = |entry: &NotProbed| api::NotProbed {
            roles: entry.roles.clone(),
            service: entry.service.clone(),
            family: entry.family.to_string(),
            rule: entry.rule.as_ref().map_or_else(|| "management".to_owned(), |id| declared.rule(id)),
            reason: entry.reason.clone(),
        };
        page.not_probed = declared.matrix.not_probed.iter().map(shape).collect();
    }
    page
}

/// Why nobody sends this case's probe.
fn away(declared: &Declared, case: &Case) -> String {
    let nodes: Vec<String> = case.sources.iter().filter_map(|machine| declared.nodes[*machine].as_ref()).map(ToString::to_string).collect();
    format!("no vantage: {} is not connected", nodes.join(" or "))
}

fn shape(conclusion: Conclusion) -> api::Conclusion {
    match conclusion {
        Conclusion::AsDeclared => api::Conclusion::AsDeclared,
        Conclusion::NotAsDeclared => api::Conclusion::NotAsDeclared,
        Conclusion::Unknown => api::Conclusion::Unknown,
    }
}

fn row(declared: &Declared, number: u64, case: &Case, path: &Path, conclusion: api::Conclusion, away: Option<String>) -> api::Path {
    let (protocol, port) = match case.probe.packet {
        Packet::Tcp { port, .. } => ("tcp".to_owned(), Some(port)),
        Packet::Udp { port, .. } => ("udp".to_owned(), Some(port)),
        Packet::Echo { .. } if case.probe.source.is_ipv4() => ("icmp".to_owned(), None),
        Packet::Echo { .. } => ("icmpv6".to_owned(), None),
        Packet::Other { number } => (number.to_string(), None),
    };
    let is_looked = path.looked.is_some();
    let expected = if is_looked { path.is_expected_open } else { case.expectation.open };
    let finding = path.finding.as_ref().filter(|_| away.is_none());
    let found = match finding.map_or(Disposition::Unknown, |finding| finding.disposition) {
        Disposition::Open => api::Disposition::Open,
        Disposition::Rejected => api::Disposition::Rejected,
        Disposition::Dropped => api::Disposition::Dropped,
        Disposition::Unreachable => api::Disposition::Unreachable,
        Disposition::Unknown => api::Disposition::Unknown,
    };
    let reason = away.or_else(|| finding.map(|finding| finding.reason.clone())).unwrap_or_else(|| "it was not probed yet".to_owned());
    let place = |place| serde_json::to_value(place).ok().and_then(|value| value.as_str().map(str::to_owned));
    api::Path {
        number,
        source_machine: case.source_name.clone(),
        source: case.probe.source.to_string(),
        destination_machine: case.destination_name.clone(),
        destination: case.probe.destination.to_string(),
        protocol,
        port,
        roles: case.roles.clone(),
        service: case.service.clone(),
        declared: case.declared,
        expected: if expected { api::Expected::Open } else { api::Expected::Closed },
        rule: declared.rules[usize::try_from(number).unwrap_or(0)].clone(),
        found,
        conclusion,
        is_served: finding.is_some() && path.known.is_some_and(|known| known.is_served),
        closed_at: finding.and_then(|finding| finding.closed_at).and_then(place),
        decided_by: finding.and_then(|finding| finding.decided_by.as_ref()).map(|trace| declared.decided_by(trace)),
        reason,
        since: path.since.map(|at| at.to_string()),
        looked: path.looked.map(|at| at.to_string()),
    }
}
