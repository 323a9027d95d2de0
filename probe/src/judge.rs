//! Whether what both ends of a probe saw is what was declared.
//!
//! In: the expectation and the [`Evidence`]. Out: a [`Finding`]. Never: a socket, a clock, or the
//! benefit of the doubt: what the evidence does not show is unknown.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::observation::{Listener, Outcome, Refusal, Tls, TlsVersion, TraceVerdict, Watching};
use crate::plan::{Packet, Probe, Try};

/// The policy's table on the destination, of family inet.
const TABLE: &str = "ringwall";

/// What is declared of a flow, and who enforces that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expectation {
    pub open: bool,
    /// Whether the source's own output must close a flow that is to be closed.
    pub source_enforces: bool,
    /// Whether the destination's input must.
    pub destination_enforces: bool,
    /// Whether a node on the way may have closed it before it reached the destination.
    pub between_enforces: bool,
    /// The lowest TLS version that an open port may agree to; none: not asked.
    pub min_tls: Option<TlsVersion>,
}

/// What both ends saw of one probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    pub outcomes: BTreeMap<Try, Outcome>,
    pub destination: Destination,
    pub received: BTreeSet<Try>,
    /// In the order of the kernel's reports.
    pub traced: BTreeMap<Try, Vec<Trace>>,
}

/// The chain that ended a packet's way through one table at the destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trace {
    pub table: String,
    pub chain: String,
    pub verdict: TraceVerdict,
}

/// Who looked at the destination's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    Nobody { reason: String },
    There { listener: Listener, watching: Watching, lost: bool },
}

impl Default for Destination {
    fn default() -> Self {
        Self::Nobody { reason: "no vantage".into() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    AsDeclared,
    NotAsDeclared,
    Unknown,
}

/// What a probe learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    Open,
    Rejected,
    Dropped,
    Unreachable,
    Unknown,
}

impl std::fmt::Display for Disposition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Rejected => "rejected",
            Self::Dropped => "dropped",
            Self::Unreachable => "unreachable",
            Self::Unknown => "unknown",
        })
    }
}

/// Where a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    Source,
    /// It left its program and never reached the destination.
    BeforeDestination,
    Destination,
    /// Nobody saw where.
    Somewhere,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub conclusion: Conclusion,
    /// What became of the flow as any program would send it.
    pub disposition: Disposition,
    /// Where it ended, when it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Place>,
    /// The destination's chain that decided, of the try that reached it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<Trace>,
    /// One sentence for a person; empty when there is nothing to say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// What became of one try.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    /// It passed every rule on its way, and the answer did not come back.
    NoWayBack,
    Closed(Disposition, Place),
    Unreachable,
    Unknown(String),
}

/// The conclusion from both tries of a probe.
pub fn judge(probe: &Probe, expectation: &Expectation, evidence: &Evidence) -> Finding {
    let plain = fate(probe, Try::Plain, evidence);
    let past = evidence.outcomes.contains_key(&Try::PastSource).then(|| fate(probe, Try::PastSource, evidence));
    let (conclusion, reason) = if expectation.open {
        expect_open(expectation, evidence, &plain, past.as_ref())
    } else {
        expect_closed(expectation, &plain, past.as_ref())
    };
    let (disposition, closed_at) = match plain {
        Fate::Open => (Disposition::Open, None),
        Fate::NoWayBack if expectation.open => (Disposition::Dropped, Some(Place::Somewhere)),
        Fate::NoWayBack => (Disposition::Open, None),
        Fate::Closed(disposition, place) => (disposition, Some(place)),
        Fate::Unreachable => (Disposition::Unreachable, None),
        Fate::Unknown(_) => (Disposition::Unknown, None),
    };
    let decided_by = decisive(evidence, Try::Plain).or_else(|| decisive(evidence, Try::PastSource)).cloned();
    Finding { conclusion, disposition, closed_at, decided_by, reason }
}

fn expect_open(expected: &Expectation, evidence: &Evidence, plain: &Fate, past: Option<&Fate>) -> (Conclusion, String) {
    use Conclusion::{AsDeclared, NotAsDeclared, Unknown};
    let text = match (plain, past) {
        (Fate::Open, _) => match too_old(expected, evidence) {
            Some(reason) => return (NotAsDeclared, reason),
            None => return (AsDeclared, String::new()),
        },
        (Fate::Unknown(reason), _) => return (Unknown, reason.clone()),
        (Fate::NoWayBack, _) => "it arrived, and the answer did not come back".to_owned(),
        (Fate::Unreachable, _) => "the network has no way there".to_owned(),
        (Fate::Closed(..), Some(Fate::Open)) => {
            "the source's output closes it; the destination lets it in".to_owned()
        }
        (Fate::Closed(_, Place::Source), Some(Fate::Closed(_, Place::Destination))) => {
            "the source's output closes it, and so does the destination's input".to_owned()
        }
        (Fate::Closed(_, place), _) => closed_text(*place).to_owned(),
    };
    (NotAsDeclared, text)
}

fn expect_closed(expected: &Expectation, plain: &Fate, past: Option<&Fate>) -> (Conclusion, String) {
    use Conclusion::{AsDeclared, NotAsDeclared, Unknown};
    let unknown = |text: &str| (Unknown, text.to_owned());
    if !expected.source_enforces && !expected.destination_enforces && !expected.between_enforces {
        return unknown("nobody on the way enforces");
    }
    let place = match plain {
        Fate::Open => return (NotAsDeclared, "nothing closes it".into()),
        Fate::NoWayBack => return (NotAsDeclared, "it arrived and was let in; only the answer did not come back".into()),
        Fate::Unknown(reason) => return (Unknown, reason.clone()),
        Fate::Unreachable => Place::BeforeDestination,
        Fate::Closed(_, place) => *place,
    };
    if matches!(past, Some(Fate::Open | Fate::NoWayBack)) && expected.destination_enforces {
        return (NotAsDeclared, "only the source closes it: past the source's output the destination lets it in".into());
    }
    if *plain == Fate::Unreachable {
        return unknown("the network has no way there, so that no rule was tried");
    }
    match (place, expected.source_enforces, expected.destination_enforces) {
        (Place::Destination, true, _) => {
            (NotAsDeclared, "only the destination closes it: the source's output lets it out".into())
        }
        (_, _, false) | (Place::Destination, false, true) => (AsDeclared, String::new()),
        (_, false, true) => match place {
            Place::BeforeDestination if !expected.between_enforces => {
                unknown("it never reached the destination, whose own rules were not tried")
            }
            _ => (AsDeclared, String::new()),
        },
        (_, true, true) => match past {
            Some(Fate::Closed(_, Place::Destination)) => (AsDeclared, String::new()),
            Some(Fate::Unknown(reason)) => (Unknown, format!("the destination was not tried: {reason}")),
            None => unknown("the source closes it; the destination was not tried, for want of a second try"),
            Some(_) if expected.between_enforces => (AsDeclared, "closed on the way".into()),
            Some(_) => unknown("the second try did not reach the destination, whose own rules were not tried"),
        },
    }
}

fn closed_text(place: Place) -> &'static str {
    match place {
        Place::Source => "the source's output closes it",
        Place::BeforeDestination => "it never reached the destination",
        Place::Destination => "the destination's input closes it",
        Place::Somewhere => "it is closed, and nobody saw where",
    }
}

/// Why an open port's TLS is not what the policy asks for.
fn too_old(expected: &Expectation, evidence: &Evidence) -> Option<String> {
    let least = expected.min_tls?;
    // A temporary listener of ours stands for no service: there is no version to ask for.
    if matches!(evidence.destination, Destination::There { listener: Listener::Ours, .. }) {
        return None;
    }
    let Some(Outcome::Answered { tls: Some(tls) }) = evidence.outcomes.get(&Try::Plain) else {
        return None;
    };
    match tls {
        Tls::Version(version) if *version >= least => None,
        Tls::Version(version) => Some(format!("the server agreed to TLS {version}, the policy asks for {least}")),
        Tls::TooOld => Some(format!("the server refused TLS 1.2 and 1.3, the policy asks for {least}")),
        Tls::None(reason) => Some(format!("the policy asks for TLS {least}: {reason}")),
    }
}

/// The trace that says what became of a try: a drop in any table is final, else our own table's
/// first word counts, since later packets of the flow are let in for being established.
fn decisive(evidence: &Evidence, which: Try) -> Option<&Trace> {
    let traces = evidence.traced.get(&which)?;
    let dropped = traces.iter().find(|trace| trace.verdict == TraceVerdict::Drop);
    dropped.or_else(|| traces.iter().find(|trace| trace.table == TABLE)).or(traces.first())
}

fn fate(probe: &Probe, which: Try, evidence: &Evidence) -> Fate {
    let Some(outcome) = evidence.outcomes.get(&which) else {
        return Fate::Unknown("the source reported nothing".into());
    };
    match outcome {
        Outcome::Failed { reason } => return Fate::Unknown(reason.clone()),
        Outcome::Answered { .. } => return Fate::Open,
        _ => {}
    }
    if evidence.received.contains(&which) {
        // Only these have an answer that could be missed.
        return if matches!(probe.packet, Packet::Other { .. }) { Fate::Open } else { Fate::NoWayBack };
    }
    match decisive(evidence, which).map(|trace| trace.verdict) {
        Some(TraceVerdict::Drop) => Fate::Closed(closed_as(outcome), Place::Destination),
        Some(TraceVerdict::Accept) => accepted(probe, outcome, &evidence.destination),
        None => not_seen(probe, outcome, &evidence.destination),
    }
}

/// The destination's rules let it in, and no socket of ours received it.
fn accepted(probe: &Probe, outcome: &Outcome, destination: &Destination) -> Fate {
    let ours = matches!(destination, Destination::There { listener: Listener::Ours, .. });
    match outcome {
        Outcome::Refused { how: Refusal::Prohibited, .. } => Fate::Closed(Disposition::Rejected, Place::Destination),
        // Our listener refuses nobody, so that something behind the rules did.
        Outcome::Refused { .. } if ours => Fate::Closed(Disposition::Rejected, Place::Destination),
        // The machine itself says that nobody listens: the way is open.
        Outcome::Refused { .. } => Fate::Open,
        _ if ours && matches!(probe.packet, Packet::Udp { .. }) => {
            Fate::Closed(Disposition::Dropped, Place::Destination)
        }
        // A program that need not answer has it.
        _ if matches!(probe.packet, Packet::Udp { .. }) => Fate::Open,
        _ => Fate::NoWayBack,
    }
}

/// Neither a socket nor the kernel reported it.
fn not_seen(probe: &Probe, outcome: &Outcome, destination: &Destination) -> Fate {
    match outcome {
        Outcome::Blocked => return Fate::Closed(Disposition::Rejected, Place::Source),
        Outcome::Refused { by, .. } if *by == Some(probe.source) => {
            return Fate::Closed(Disposition::Rejected, Place::Source);
        }
        Outcome::Unreachable { .. } => return Fate::Unreachable,
        _ => {}
    }
    let (listener, watching, lost) = match destination {
        Destination::Nobody { reason } => {
            let seen = match outcome {
                Outcome::Refused { how, .. } => how.to_string(),
                _ => "silence".to_owned(),
            };
            return Fate::Unknown(format!("the source saw {seen}, and at the destination: {reason}"));
        }
        Destination::There { listener, watching, lost } => (listener, watching, *lost),
    };
    let disposition = closed_as(outcome);
    let has_ports = matches!(probe.packet, Packet::Tcp { .. } | Packet::Udp { .. });
    if has_ports && *watching == Watching::Yes {
        return if lost {
            Fate::Unknown("the destination's kernel lost reports".into())
        } else {
            Fate::Closed(disposition, Place::BeforeDestination)
        };
    }
    // Without the kernel's reports, silence proves something only where somebody would have spoken.
    let would_answer = match (probe.packet, listener) {
        (_, Listener::Elsewhere) => false,
        (Packet::Echo { .. }, _) | (_, Listener::Ours) => true,
        // TCP answers on every port, with a reset if nobody listens.
        (Packet::Tcp { .. }, Listener::Theirs) => true,
        (Packet::Tcp { .. }, Listener::Nobody(_)) => disposition == Disposition::Dropped,
        (Packet::Udp { .. }, Listener::Theirs) => disposition == Disposition::Rejected,
        _ => false,
    };
    match (would_answer, listener) {
        (true, _) => Fate::Closed(disposition, Place::Somewhere),
        (_, Listener::Theirs) => Fate::Unknown("another program has the port and did not answer".into()),
        (_, Listener::Elsewhere) => Fate::Unknown("the address is on none of the destination's machines".into()),
        (_, Listener::Nobody(reason)) => Fate::Unknown(format!("nobody listens at the destination: {reason}")),
        (_, Listener::Ours) => Fate::Unknown("nothing came back".into()),
    }
}

fn closed_as(outcome: &Outcome) -> Disposition {
    match outcome {
        Outcome::Refused { .. } | Outcome::Blocked => Disposition::Rejected,
        _ => Disposition::Dropped,
    }
}
