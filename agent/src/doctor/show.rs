//! The doctor's words, for people and for programs.
//!
//! In: facts, findings. Out: text, JSON. Never: a control character of somebody's process or rule.

use serde_json::{Value, json};

use super::{Enforced, Facts, Finding, Identity, Reached, time};

/// The command of an operator's that opens a service on a node, in the controller's own store.
pub(super) fn opens(node: &str, service: &str) -> String {
    format!("ringwall node hosts {node} --services {service} --from GROUP (all that it hosts in one command)")
}

/// What stands where, then what was found.
pub fn table(facts: &Facts, findings: &[Finding], is_coloured: bool) -> String {
    let paint = |style: &str, text: &str| if is_coloured { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() };
    let state = &facts.state;
    let mut text = match &facts.enforced {
        Enforced::Nothing => format!("{}: nothing is enforced here", facts.node),
        Enforced::Ruleset { generation, is_trial: true, .. } => format!("{}: {generation} is on trial", facts.node),
        Enforced::Ruleset { generation, .. } | Enforced::Unknown { generation, .. } => format!("{}: {generation} is enforced", facts.node),
    };
    if let Some((place, revision)) = &state.taken {
        text += &format!("; assignment {} of epoch {}, revision {revision}", place.number, place.epoch);
    }
    text.push('\n');
    if let Identity::Enrolled { fleet, agent, valid, controllers } = &state.identity {
        text += &format!("enrolled in fleet {fleet} as {agent}; the certificate ends in {}\n", time(*valid));
        if let Some(Ok(reached)) = &state.controller {
            let clock = reached.offset.map_or(String::new(), |offset| format!(", its clock is {offset} s from ours"));
            text += &format!("the controller at {} was reached{clock}\n", controllers.join(", "));
        }
    }
    let kinds = findings.iter().map(|finding| finding.kind.len()).max().unwrap_or(0);
    for finding in findings {
        let level = if finding.is_note { paint("36", "note   ") } else { paint("1;33", "finding") };
        text += &format!("{level}  {:kinds$}  {}\n", finding.kind, finding.text);
        if let Some(next) = &finding.next {
            text += &format!("         {:kinds$}  {} {next}\n", "", paint("2", "next:"));
        }
    }
    let notes = findings.iter().filter(|finding| finding.is_note).count();
    let found = findings.len() - notes;
    let many = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    text += &match (found, notes) {
        (0, 0) => paint("32", "nothing found"),
        (0, _) => paint("32", &format!("nothing found, {}", many(notes, "note"))),
        (_, 0) => paint("1;33", &many(found, "finding")),
        _ => paint("1;33", &format!("{}, {}", many(found, "finding"), many(notes, "note"))),
    };
    text.push('\n');
    // Processes name themselves, and rules have comments.
    text.chars().map(|c| if c.is_control() && c != '\n' && !(is_coloured && c == '\x1b') { '\u{fffd}' } else { c }).collect()
}

/// One document, `ringwall.doctor/1`.
pub fn json(facts: &Facts, findings: &[Finding]) -> Value {
    let state = &facts.state;
    let (generation, stage) = match &facts.enforced {
        Enforced::Nothing => (None, "none"),
        Enforced::Ruleset { generation, is_trial: true, .. } => (Some(generation), "trial"),
        Enforced::Ruleset { generation, .. } | Enforced::Unknown { generation, .. } => (Some(generation), "enforced"),
    };
    let identity = match &state.identity {
        Identity::Enrolled { fleet, agent, valid, controllers } => {
            json!({ "fleet": fleet, "agent": agent, "certificate_seconds": valid.as_secs(), "controllers": controllers })
        }
        Identity::None | Identity::Damaged(_) => Value::Null,
    };
    let finding = |finding: &Finding| {
        json!({ "kind": finding.kind, "level": if finding.is_note { "note" } else { "finding" }, "text": finding.text,
            "next": finding.next, "about": finding.about })
    };
    json!({
        "schema": "ringwall.doctor/1",
        "node": facts.node,
        "generation": generation.map(ToString::to_string),
        "stage": stage,
        "assignment": state.taken.as_ref().map(|(place, revision)| json!({ "epoch": place.epoch, "number": place.number, "revision": revision })),
        "identity": identity,
        "controller_reached": state.controller.as_ref().map(Result::is_ok),
        "clock_offset_seconds": state.controller.as_ref().and_then(|reached| reached.as_ref().ok()).and_then(|Reached { offset }| *offset),
        "drift": state.is_drift,
        "nft": facts.nft.as_ref().ok().map(|(major, minor, patch)| format!("{major}.{minor}.{patch}")),
        "listeners": facts.listeners.iter().map(|listener| json!({
            "protocol": listener.protocol.protocol().to_string(), "port": listener.port, "address": listener.address,
            "process": listener.process.as_ref().map(|(name, id)| json!({ "name": name, "pid": id })),
        })).collect::<Vec<_>>(),
        "findings": findings.iter().map(finding).collect::<Vec<_>>(),
    })
}
