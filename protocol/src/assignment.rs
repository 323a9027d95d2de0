//! What a node is to enforce, and how far that came.

use bytes::Bytes;

use crate::field::{Invalid, array, invalid, name, place, text, there};
use crate::generated as wire;
use crate::list::ListRevision;
use crate::{Place, ruleset};

/// What a node is to enforce. Its ruleset's digest is that of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub place: Place,
    /// Of the policy, for people.
    pub revision: String,
    pub digest: ruleset::Digest,
    /// What [`crate::decode_ruleset`] reads.
    pub ruleset: Bytes,
    /// Seconds that the trial lasts.
    pub window: u32,
    pub on_drift: OnDrift,
    pub on_tighten: OnTighten,
}

/// What becomes of a change that was not the agent's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDrift {
    Heal,
    Report,
}

/// What becomes of a live connection that the new ruleset forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTighten {
    Cut,
    Drain,
}

/// How far something came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ack {
    Assignment {
        place: Place,
        stage: Stage,
        /// The kernel's; 0 before one was loaded.
        generation: u32,
    },
    /// The kernel has the list at this revision.
    List(ListRevision),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Durable on the agent's disk.
    Received,
    /// In the kernel, with its switch armed.
    Trial,
    /// The only one in the kernel, and what is loaded at boot.
    Confirmed,
    /// What was there before is enforced.
    Fell,
}

/// What can't be done; what was enforced before still is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub what: Refused,
    pub reason: Reason,
    /// For people.
    pub detail: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    Assignment(Place),
    List(ListRevision),
    Order(u64),
    Probes(u64),
}

/// As `Reason` in `fleet.proto` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    Stale,
    Epoch,
    Malformed,
    Unproved,
    Lockout,
    Kernel,
    Disk,
    Protected,
    Gap,
    Full,
    Forbidden,
}

/// Asked over a new connection during a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirm {
    /// As [`crate::Welcome`] named it; `None` when there is no session.
    pub session: Option<[u8; 16]>,
    pub place: Place,
    pub digest: ruleset::Digest,
}

impl TryFrom<wire::Assignment> for Assignment {
    type Error = Invalid;

    /// The digest is compared here; the ruleset is not looked into.
    fn try_from(from: wire::Assignment) -> Result<Self, Invalid> {
        let digest = array("Assignment.digest", &from.digest)?;
        if from.ruleset.len() > crate::RULESET_MAX {
            return Err(invalid("Assignment.ruleset", "is too long"));
        }
        if ruleset::digest(&from.ruleset) != digest {
            return Err(invalid("Assignment.digest", "is not the SHA-256 of the ruleset"));
        }
        if !crate::WINDOW.contains(&from.window) {
            return Err(invalid("Assignment.window", format!("is {} s, not within {:?}", from.window, crate::WINDOW)));
        }
        Ok(Self {
            place: place("Assignment.place", there("Assignment.place", from.place)?)?,
            revision: name("Assignment.revision", from.revision)?,
            digest,
            ruleset: from.ruleset,
            window: from.window,
            on_drift: match wire::OnDrift::try_from(from.on_drift) {
                Ok(wire::OnDrift::Heal) => OnDrift::Heal,
                Ok(wire::OnDrift::Report) => OnDrift::Report,
                _ => return Err(invalid("Assignment.on_drift", "is unknown")),
            },
            on_tighten: match wire::OnTighten::try_from(from.on_tighten) {
                Ok(wire::OnTighten::Cut) => OnTighten::Cut,
                Ok(wire::OnTighten::Drain) => OnTighten::Drain,
                _ => return Err(invalid("Assignment.on_tighten", "is unknown")),
            },
        })
    }
}

impl From<Assignment> for wire::Assignment {
    fn from(from: Assignment) -> Self {
        let on_drift = match from.on_drift {
            OnDrift::Heal => wire::OnDrift::Heal,
            OnDrift::Report => wire::OnDrift::Report,
        };
        let on_tighten = match from.on_tighten {
            OnTighten::Cut => wire::OnTighten::Cut,
            OnTighten::Drain => wire::OnTighten::Drain,
        };
        Self {
            place: Some(from.place.into()),
            revision: from.revision,
            digest: Bytes::copy_from_slice(&from.digest),
            ruleset: from.ruleset,
            window: from.window,
            on_drift: on_drift.into(),
            on_tighten: on_tighten.into(),
        }
    }
}

impl TryFrom<wire::Ack> for Ack {
    type Error = Invalid;

    fn try_from(from: wire::Ack) -> Result<Self, Invalid> {
        use wire::ack::What;
        let progress = match there("Ack.what", from.what)? {
            What::Assignment(progress) => progress,
            What::List(list) => return Ok(Self::List(list.try_into()?)),
        };
        let stage = match wire::Stage::try_from(progress.stage) {
            Ok(wire::Stage::Received) => Stage::Received,
            Ok(wire::Stage::Trial) => Stage::Trial,
            Ok(wire::Stage::Confirmed) => Stage::Confirmed,
            Ok(wire::Stage::Fell) => Stage::Fell,
            Ok(wire::Stage::Unspecified) | Err(_) => return Err(invalid("Progress.stage", "is unknown")),
        };
        let place = place("Progress.place", there("Progress.place", progress.place)?)?;
        Ok(Self::Assignment { place, stage, generation: progress.generation })
    }
}

impl From<Ack> for wire::Ack {
    fn from(from: Ack) -> Self {
        use wire::ack::What;
        let what = match from {
            Ack::List(list) => What::List(list.into()),
            Ack::Assignment { place, stage, generation } => {
                let stage = match stage {
                    Stage::Received => wire::Stage::Received,
                    Stage::Trial => wire::Stage::Trial,
                    Stage::Confirmed => wire::Stage::Confirmed,
                    Stage::Fell => wire::Stage::Fell,
                };
                What::Assignment(wire::Progress { place: Some(place.into()), stage: stage.into(), generation })
            }
        };
        Self { what: Some(what) }
    }
}

/// Both ways between a fieldless enum of ours and the generated one; the unspecified value and unknown ones are refused.
macro_rules! reasons {
    ($($reason:ident),*) => {
        impl TryFrom<wire::Reason> for Reason {
            type Error = Invalid;
            fn try_from(from: wire::Reason) -> Result<Self, Invalid> {
                match from {
                    $(wire::Reason::$reason => Ok(Self::$reason),)*
                    wire::Reason::Unspecified => Err(invalid("Refusal.reason", "is unknown")),
                }
            }
        }

        impl From<Reason> for wire::Reason {
            fn from(from: Reason) -> Self {
                match from { $(Reason::$reason => Self::$reason,)* }
            }
        }
    };
}
reasons!(Stale, Epoch, Malformed, Unproved, Lockout, Kernel, Disk, Protected, Gap, Full, Forbidden);

impl TryFrom<wire::Refusal> for Refusal {
    type Error = Invalid;

    fn try_from(from: wire::Refusal) -> Result<Self, Invalid> {
        use wire::refusal::What;
        let what = match there("Refusal.what", from.what)? {
            What::Place(found) => Refused::Assignment(place("Refusal.place", found)?),
            What::List(list) => Refused::List(list.try_into()?),
            What::Order(id) => Refused::Order(id),
            What::Probes(id) => Refused::Probes(id),
        };
        let reason = wire::Reason::try_from(from.reason).map_err(|_| invalid("Refusal.reason", "is unknown"))?;
        Ok(Self { what, reason: reason.try_into()?, detail: text("Refusal.detail", from.detail)? })
    }
}

impl From<Refusal> for wire::Refusal {
    fn from(from: Refusal) -> Self {
        use wire::refusal::What;
        let what = match from.what {
            Refused::Assignment(place) => What::Place(place.into()),
            Refused::List(list) => What::List(list.into()),
            Refused::Order(id) => What::Order(id),
            Refused::Probes(id) => What::Probes(id),
        };
        Self { what: Some(what), reason: wire::Reason::from(from.reason).into(), detail: from.detail }
    }
}

impl TryFrom<wire::ConfirmRequest> for Confirm {
    type Error = Invalid;

    fn try_from(from: wire::ConfirmRequest) -> Result<Self, Invalid> {
        let session = (!from.session.is_empty()).then(|| array("ConfirmRequest.session", &from.session));
        Ok(Self {
            session: session.transpose()?,
            place: place("ConfirmRequest.place", there("ConfirmRequest.place", from.place)?)?,
            digest: array("ConfirmRequest.digest", &from.digest)?,
        })
    }
}

impl From<Confirm> for wire::ConfirmRequest {
    fn from(from: Confirm) -> Self {
        Self {
            session: from.session.map(|session| Bytes::copy_from_slice(&session)).unwrap_or_default(),
            place: Some(from.place.into()),
            digest: Bytes::copy_from_slice(&from.digest),
        }
    }
}
