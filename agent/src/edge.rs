//! Between the protocol's words and the reconciler's.
//!
//! In: checked messages; what the reconciler says. Out: the other's values. Never: a ruleset that was not
//! understood whole.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ringwall_node::reconciler::{self, Happening, Say, Stage};
use ringwall_protocol::{
    Ack, Assignment, DriftOutcome, Event, Happened, OnDrift, OnTighten, Place, Reason, Refusal, Refused, ToController, decode_ruleset,
};
use ringwall_ruleset::{Path, Ruleset};

/// The ruleset of an assignment's bytes.
pub fn ruleset(bytes: &[u8]) -> Result<Ruleset, String> {
    decode_ruleset(&bytes::Bytes::copy_from_slice(bytes)).map_err(|invalid| invalid.to_string())
}

/// What the reconciler is to think about; otherwise what the controller is told.
pub fn assignment(from: Assignment) -> Result<reconciler::Assignment, Refusal> {
    let refused = |detail| Refusal { what: Refused::Assignment(from.place), reason: Reason::Malformed, detail };
    let ruleset = decode_ruleset(&from.ruleset).map_err(|invalid| refused(invalid.to_string()))?;
    let entries = Path::ALL.iter().flat_map(|path| ruleset.entries(*path));
    let names: BTreeSet<String> = entries.flat_map(|entry| entry.names.iter().cloned()).collect();
    Ok(reconciler::Assignment {
        place: place(from.place),
        revision: from.revision,
        digest: from.digest,
        ruleset: (&*from.ruleset).into(),
        window: from.window,
        on_drift: match from.on_drift {
            OnDrift::Heal => reconciler::OnDrift::Heal,
            OnDrift::Report => reconciler::OnDrift::Report,
        },
        on_tighten: match from.on_tighten {
            OnTighten::Cut => reconciler::OnTighten::Cut,
            OnTighten::Drain => reconciler::OnTighten::Drain,
        },
        names: names.into_iter().collect(),
    })
}

pub fn place(from: Place) -> reconciler::Place {
    reconciler::Place { epoch: from.epoch, number: from.number }
}

pub fn wire_place(from: reconciler::Place) -> Place {
    Place { epoch: from.epoch, number: from.number }
}

/// What the controller is told.
pub fn said(say: Say) -> ToController {
    match say {
        Say::Ack { place, stage, generation } => {
            let stage = match stage {
                Stage::Received => ringwall_protocol::Stage::Received,
                Stage::Trial => ringwall_protocol::Stage::Trial,
                Stage::Confirmed => ringwall_protocol::Stage::Confirmed,
                Stage::Fell => ringwall_protocol::Stage::Fell,
            };
            ToController::Ack(Ack::Assignment { place: wire_place(place), stage, generation })
        }
        Say::Refused { place, reason: why, detail } => {
            let what = Refused::Assignment(wire_place(place));
            ToController::Refusal(Refusal { what, reason: reason(why), detail: bounded(detail) })
        }
        Say::OrderRefused { id, detail } => {
            ToController::Refusal(Refusal { what: Refused::Order(id), reason: Reason::Forbidden, detail: bounded(detail) })
        }
        Say::Happened { age, happening } => ToController::Event(Event { age, happened: happened(happening) }),
    }
}

fn reason(reason: reconciler::Reason) -> Reason {
    match reason {
        reconciler::Reason::Stale => Reason::Stale,
        reconciler::Reason::Epoch => Reason::Epoch,
        reconciler::Reason::Unproved => Reason::Unproved,
        reconciler::Reason::Lockout => Reason::Lockout,
        reconciler::Reason::Kernel | reconciler::Reason::Busy => Reason::Kernel,
        reconciler::Reason::Disk => Reason::Disk,
        reconciler::Reason::Forbidden => Reason::Forbidden,
    }
}

fn happened(happening: Happening) -> Happened {
    match happening {
        Happening::Drift { process, outcome } => Happened::Drift {
            process: process.map(|process| (bounded(process.name), process.id)),
            outcome: match outcome {
                reconciler::DriftOutcome::Reported => DriftOutcome::Reported,
                reconciler::DriftOutcome::Healed => DriftOutcome::Healed,
                reconciler::DriftOutcome::Flapping => DriftOutcome::Flapping,
                reconciler::DriftOutcome::Failed => DriftOutcome::Failed,
            },
        },
        Happening::Names { name, addresses } => {
            let addresses: Vec<IpAddr> = addresses.iter().take(ringwall_protocol::ADDRESSES_MAX).copied().collect();
            Happened::Names { name, addresses }
        }
        Happening::Trouble { kind, detail } => Happened::Trouble { kind: kind.into(), detail: bounded(detail) },
        Happening::Lost(count) => Happened::Lost(count),
    }
}

/// Text that the other side takes: what programs print may be long, and hold anything.
pub fn bounded(text: String) -> String {
    let mut text = text.replace(|c: char| c.is_control() && c != '\n' && c != '\t', "\u{fffd}");
    text.truncate(text.floor_char_boundary(ringwall_protocol::TEXT_MAX));
    text
}
