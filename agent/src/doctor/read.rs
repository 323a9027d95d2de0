//! The facts, as this machine has them.
//!
//! In: the state folder, the kernel, proc(5), the controller. Out: [`Facts`]. Never: a change; a second session with the
//! controller, which would end the agent's own.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringwall_node::apply::{ApplyError, History, damaged, enforced, foreign_chains, kernel};
use ringwall_node::kernel::{Limits, Netfilter, Nft, TableId, ephemeral_ports, listeners, missing};
use ringwall_node::reconciler::Assignment;
use tonic::codegen::http::{HeaderMap, Request, header};
use tower::Service as _;

use super::{Boot, Enforced, Facts, Identity, Others, Program, Reached, State};
use crate::identity::{Identity as Own, IdentityError};
use crate::{because, edge, machine};

/// Others' tables may hold large sets, of which nobody wants to wait.
const LIMITS: Limits = Limits { time: Duration::from_secs(5), bytes: 32 << 20 };
/// For the controller, all its addresses together.
const REACH: Duration = Duration::from_secs(15);

/// Nothing can be looked at.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    #[error("can't read what the kernel enforces: run as root (with CAP_NET_ADMIN)")]
    Kernel(#[from] ApplyError),
    #[error("can't read who listens")]
    Listeners(#[source] std::io::Error),
}

/// All that can be learned in a few seconds.
pub async fn facts(folder: &Path) -> Result<Facts, DoctorError> {
    let mut netfilter = Netfilter::open().map_err(ApplyError::from)?;
    let found = enforced(&mut netfilter).map_err(ApplyError::from)?;
    let is_intact = kernel(&mut netfilter, folder)?.is_intact;
    let nft = Nft::find(std::env::var_os("PATH").as_deref());
    let history = History::read(folder).ok();
    let enforced = match found.deciding() {
        None => Enforced::Nothing,
        Some(generation) => {
            let record = history.as_ref().ok_or_else(|| "state.json can't be used".to_owned()).and_then(|history| history.record(generation).map_err(|error| because(&error)));
            let assigned = record.and_then(|record| record.assignment.ok_or_else(|| "it was made by `ringwall apply`".to_owned()));
            match assigned.and_then(|assigned| edge::ruleset(&assigned.ruleset)) {
                Ok(ruleset) => Enforced::Ruleset { generation, ruleset: ruleset.into(), is_trial: found.trial.as_ref().is_some_and(|trial| trial.is_alive()) },
                Err(why) => Enforced::Unknown { generation, why },
            }
        }
    };
    let node = match &enforced {
        Enforced::Ruleset { ruleset, .. } => ruleset.node.clone(),
        _ => nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    let taken: Option<Assignment> = history.as_ref().and_then(|history| history.taken().ok().flatten()).map(Into::into);
    let disk = history.as_ref().and_then(|history| history.disk().ok()).unwrap_or_default();
    let (identity, controller) = identity(folder).await;
    Ok(Facts {
        now: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        node,
        addresses: machine::addresses(),
        listeners: listeners().map_err(DoctorError::Listeners)?,
        ephemeral: ephemeral_ports(),
        missing: nft.as_ref().ok().and_then(missing),
        others: others(&mut netfilter, nft.as_ref().ok())?,
        enforced,
        nft: nft.map(|nft| nft.version()).map_err(|error| because(&error)),
        state: State {
            identity,
            controller,
            damaged: damaged(folder).iter().map(|error| because(error)).collect(),
            taken: taken.map(|taken| (taken.place, taken.revision)),
            confirmed: disk.confirmed.as_ref().map(|confirmed| confirmed.generation),
            confirmed_place: disk.confirmed.and_then(|confirmed| confirmed.place),
            is_drift: found.has_table && !is_intact,
            strangers: found.strangers.iter().map(ToString::to_string).collect(),
            boot: boot(),
        },
    })
}

async fn identity(folder: &Path) -> (Identity, Option<Result<Reached, String>>) {
    let own = match Own::read(folder) {
        Ok(own) => own,
        Err(IdentityError::None) => return (Identity::None, None),
        Err(error) => return (Identity::Damaged(because(&error)), None),
    };
    let Some((fleet, agent)) = own.names() else { return (Identity::Damaged("the certificate names no agent".into()), None) };
    let reached = tokio::time::timeout(REACH, reach(&own)).await.unwrap_or_else(|_| Err(format!("no answer in {} s", REACH.as_secs())));
    (Identity::Enrolled { fleet, agent, valid: own.valid(), controllers: own.controllers().to_vec() }, Some(reached))
}

/// A connection with both certificates, and a question that no service answers: its headers tell the time.
async fn reach(own: &Own) -> Result<Reached, String> {
    let asked = SystemTime::now();
    let controller = own.controller().map_err(|error| because(&error))?;
    let mut channel = controller.channel().await.map_err(|error| because(&error))?;
    std::future::poll_fn(|context| channel.poll_ready(context)).await.map_err(|error| because(&error))?;
    let mut request = Request::new(tonic::body::Body::empty());
    *request.method_mut() = tonic::codegen::http::Method::POST;
    *request.uri_mut() = tonic::codegen::http::Uri::from_static("http://controller/ringwall.v1.Nothing/Nothing");
    request.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/grpc"));
    let answer = channel.call(request).await.map_err(|error| because(&error))?;
    Ok(Reached { offset: offset(answer.headers(), asked, SystemTime::now()) })
}

/// Whole seconds, as the header tells no more; what the way took is not counted.
fn offset(headers: &HeaderMap, asked: SystemTime, answered: SystemTime) -> Option<i64> {
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_secs()).ok());
    let theirs = seconds(httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()?)?;
    let (first, last) = (seconds(asked)?, seconds(answered)?);
    Some(if theirs < first { theirs - first } else { (theirs - last).max(0) })
}

fn others(netfilter: &mut Netfilter, nft: Option<&Nft>) -> Result<Others, ApplyError> {
    let mut others = Others::default();
    let mut tables: Vec<TableId> = foreign_chains(netfilter)?.into_iter().map(|chain| chain.table).collect();
    tables.sort();
    tables.dedup();
    if let Some(nft) = nft.filter(|_| !tables.is_empty()) {
        let text = nft.list(&tables, LIMITS).map_err(|error| because(&error));
        others.texts.push(text.map(|text| ("nft list ruleset".to_owned(), text)));
    }
    let mut shown: BTreeMap<&str, (Program, String)> = BTreeMap::new();
    for chain in netfilter.chains()? {
        let (table, name) = (&chain.table.name, &chain.name);
        let found = match () {
            () if table.starts_with("docker") || name.starts_with("DOCKER") => ("docker", Program::Docker),
            () if table == "firewalld" => ("firewalld", Program::Firewalld),
            () if name.starts_with("ufw-") || name.starts_with("ufw6-") => ("ufw", Program::Ufw),
            () => continue,
        };
        shown.entry(found.0).or_insert_with(|| (found.1, format!("chain {name} in table {}", chain.table)));
    }
    for (file, program) in [("ip_tables_names", "iptables-legacy-save"), ("ip6_tables_names", "ip6tables-legacy-save")] {
        let names = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
        let names: Vec<&str> = names.split_whitespace().collect();
        if !names.is_empty() {
            shown.entry(program).or_insert_with(|| (Program::IptablesLegacy, format!("{program}: {}", names.join(", "))));
            others.texts.push(legacy(program).map(|text| (program.to_owned(), text)));
        }
    }
    others.programs = shown.into_values().collect();
    Ok(others)
}

/// What a program of iptables-legacy prints of its rules.
fn legacy(program: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{program}: {error}");
    let mut child = Command::new(program).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(failed)?;
    let mut bytes = Vec::new();
    let output = child.stdout.take().map(|output| output.take(LIMITS.bytes + 1).read_to_end(&mut bytes));
    let is_whole = bytes.len() as u64 <= LIMITS.bytes;
    if !is_whole {
        let _ = child.kill();
    }
    let status = child.wait().map_err(failed)?;
    output.transpose().map_err(failed)?;
    match is_whole && status.success() {
        true => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        false => Err(format!("{program} does not list its rules")),
    }
}

/// systemd.unit(5): what a target wants is a link in a folder of its name.
fn boot() -> Boot {
    let folders = ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
    let is_enabled = |unit: &str| {
        let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten().map(|entry| entry.path());
        entries.filter(|path| path.extension().is_some_and(|end| end == "wants" || end == "requires")).any(|path| path.join(unit).symlink_metadata().is_ok())
    };
    Boot {
        has_systemd: Path::new("/run/systemd/system").is_dir(),
        restore: is_enabled("ringwall-restore.service"),
        agent: is_enabled("ringwall-agent.service"),
    }
}
