//! What of this machine does not fit together: `ringwall-agent doctor`.
//!
//! In: facts about sockets, rules, the kernel and this agent's state. Out: findings, each with what to do next. Never: a
//! change of anything, or a finding that the facts do not show.

mod other_tables;
mod ports;
pub mod read;
mod show;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ringwall_node::kernel::{Listener, Missing};
use ringwall_node::reconciler::Place;
use ringwall_ruleset::nftables::Generation;
use ringwall_ruleset::{CLOCK_MIN, Ruleset};
use serde_json::{Value, json};

pub use show::{json, table};

/// All that the doctor looks at.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Seconds since the epoch.
    pub now: u64,
    /// As the fleet calls this machine, or it itself.
    pub node: String,
    /// Without loopback.
    pub addresses: BTreeSet<IpAddr>,
    pub listeners: Vec<Listener>,
    /// Ports that clients get.
    pub ephemeral: RangeInclusive<u16>,
    pub enforced: Enforced,
    /// nft's version, or why it can't be used.
    pub nft: Result<(u16, u16, u16), String>,
    /// `None`: it could not be tried.
    pub missing: Option<Vec<Missing>>,
    pub others: Others,
    pub state: State,
}

/// What decides about packets here.
#[derive(Clone, Debug)]
pub enum Enforced {
    Nothing,
    Ruleset { generation: Generation, ruleset: Box<Ruleset>, is_trial: bool },
    /// It was made by `ringwall apply`, or its record can't be used.
    Unknown { generation: Generation, why: String },
}

/// Other programs' rules.
#[derive(Clone, Debug, Default)]
pub struct Others {
    /// Names and texts of all tables that filter, as their programs print them; or why there are none to be read.
    pub texts: Vec<Result<(String, String), String>>,
    /// Programs that make such rules, with what shows them.
    pub programs: Vec<(Program, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Docker,
    Firewalld,
    Ufw,
    IptablesLegacy,
}

/// What the agent keeps, and whether it can work.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub identity: Identity,
    /// `None`: there is none to be asked.
    pub controller: Option<Result<Reached, String>>,
    /// What is wrong with the state folder.
    pub damaged: Vec<String>,
    pub taken: Option<(Place, String)>,
    pub confirmed: Option<Generation>,
    /// The place that the confirmed generation was made from.
    pub confirmed_place: Option<Place>,
    pub is_drift: bool,
    /// What in our table is not ours.
    pub strangers: Vec<String>,
    pub boot: Boot,
}

#[derive(Clone, Debug, Default)]
pub enum Identity {
    #[default]
    None,
    Damaged(String),
    Enrolled { fleet: String, agent: String, valid: Duration, controllers: Vec<String> },
}

/// A controller that answered.
#[derive(Clone, Copy, Debug)]
pub struct Reached {
    /// Seconds that its clock is before ours; `None` when it told no time.
    pub offset: Option<i64>,
}

/// Units of systemd that are enabled.
#[derive(Clone, Copy, Debug, Default)]
pub struct Boot {
    pub has_systemd: bool,
    pub restore: bool,
    pub agent: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// A word for programs.
    pub kind: &'static str,
    /// Worth knowing, and no fault.
    pub is_note: bool,
    pub text: String,
    /// What to do about it.
    pub next: Option<String>,
    /// The same for programs.
    pub about: Value,
}

impl Finding {
    fn new(kind: &'static str, text: impl Into<String>, about: Value) -> Self {
        Self { kind, is_note: false, text: text.into(), next: None, about }
    }

    fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    fn note(mut self) -> Self {
        self.is_note = true;
        self
    }
}

/// Clocks that are further apart make logs of two machines hard to read; certificates bear 300 s.
const CLOCK_MAX: i64 = 60;
/// A certificate renews itself at half of its 24 hours: with less left, that does not work.
const RENEWED: Duration = Duration::from_secs(6 * 3600);

/// In order: what is enforced by whom, ports, the machine.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut all = Vec::new();
    state(facts, &mut all);
    kernel(facts, &mut all);
    ports::findings(facts, &mut all);
    other_tables::findings(facts, &mut all);
    all
}

fn state(facts: &Facts, all: &mut Vec<Finding>) {
    let state = &facts.state;
    for text in &state.damaged {
        let damaged = Finding::new("damaged", text.clone(), json!({}));
        all.push(damaged.next("systemctl restart ringwall-agent: it keeps the file aside and asks the controller for what is missing"));
    }
    match &state.identity {
        Identity::None => {
            all.push(Finding::new("not_enrolled", "this node is in no fleet", json!({})).note().next("ringwall-agent enrol TOKEN, with one from `ringwall token create`"));
        }
        Identity::Damaged(why) => {
            let damaged = Finding::new("identity", format!("the identity can't be used: {why}"), json!({}));
            all.push(damaged.next("ringwall-agent forget, then ringwall-agent enrol TOKEN"));
        }
        Identity::Enrolled { valid, .. } if valid.is_zero() => {
            let ended = Finding::new("certificate", "the certificate has ended", json!({ "seconds": 0 }));
            all.push(ended.next("ringwall-agent run renews it when it reaches the controller; after 30 days, or once it is revoked, enrol anew"));
        }
        Identity::Enrolled { valid, .. } if *valid < RENEWED => {
            let text = format!("the certificate ends in {}, and was not renewed", time(*valid));
            all.push(Finding::new("certificate", text, json!({ "seconds": valid.as_secs() })).next("see that ringwall-agent runs and reaches the controller"));
        }
        Identity::Enrolled { .. } => {}
    }
    match &state.controller {
        Some(Err(why)) => {
            let text = format!("no controller can be reached: {why}");
            all.push(Finding::new("controller", text, json!({ "why": why })).next("what is enforced stays; see that this node may go out to it"));
        }
        Some(Ok(Reached { offset: Some(offset) })) if offset.abs() > CLOCK_MAX => {
            let text = format!("the clock is {} s {} the controller's", offset.abs(), if *offset > 0 { "behind" } else { "before" });
            all.push(Finding::new("clock", text, json!({ "offset_seconds": offset })).next("set the clock, and let it be set: `timedatectl set-ntp true`"));
        }
        _ => {}
    }
    if facts.now < CLOCK_MIN {
        all.push(Finding::new("clock", "the clock was never set: rules that expire count as expired", json!({})).next("set the clock: `timedatectl set-ntp true`"));
    }
    if state.is_drift {
        let strangers = state.strangers.iter().map(|stranger| format!("; {stranger} is not ours")).collect::<String>();
        let next = if matches!(state.identity, Identity::Enrolled { .. }) { "the agent heals or reports it, as the policy says" } else { "ringwall apply POLICY" };
        all.push(Finding::new("drift", format!("our table is not as it was loaded{strangers}"), json!({ "strangers": state.strangers })).next(next));
    }
    if let Some((place, revision)) = &state.taken
        && state.confirmed_place != Some(*place)
    {
        let text = format!("assignment {} of epoch {} (revision {revision}) was taken over and is not confirmed", place.number, place.epoch);
        all.push(Finding::new("not_confirmed", text, json!({ "epoch": place.epoch, "number": place.number })).note());
    }
    let Boot { has_systemd, restore, agent } = state.boot;
    if !has_systemd {
        return;
    }
    if state.confirmed.is_some() && !restore {
        let text = "ringwall-restore.service is not enabled: after a reboot nothing is enforced until somebody loads it";
        all.push(Finding::new("boot", text, json!({ "unit": "ringwall-restore.service" })).next("systemctl enable ringwall-restore"));
    }
    if matches!(state.identity, Identity::Enrolled { .. }) && !agent {
        let text = "ringwall-agent.service is not enabled: after a reboot the controller does not reach this node";
        all.push(Finding::new("boot", text, json!({ "unit": "ringwall-agent.service" })).next("systemctl enable --now ringwall-agent"));
    }
}

fn kernel(facts: &Facts, all: &mut Vec<Finding>) {
    if let Err(why) = &facts.nft {
        all.push(Finding::new("nft", why.clone(), json!({})).next("install the package nftables, 1.0.1 or newer"));
        return;
    }
    match &facts.missing {
        None => all.push(Finding::new("untried", "no network namespace can be made, so what the kernel can was not tried", json!({})).note()),
        Some(missing) => all.extend(missing.iter().map(|missing| {
            let text = format!("the kernel lacks {}: {}", missing.feature, missing.said);
            Finding::new("kernel", text, json!({ "feature": missing.feature, "by": missing.by })).next(format!("it comes with {}", missing.by))
        })),
    }
}

/// As operators write it.
fn time(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds @ 7200..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}
