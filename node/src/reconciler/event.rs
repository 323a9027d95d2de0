//! What can happen.

use std::net::IpAddr;
use std::sync::Arc;

use ringwall_ruleset::nftables::Generation;

use super::action::Reason;
use super::drift::Process;
use super::{Assignment, Millis, OnDrift, Place};

/// Something that happened, most often what an [`Action`](super::Action) came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The agent began, with what it found.
    Started { disk: Disk, kernel: Kernel },
    /// The time of [`Reconciler::wake_at`](super::Reconciler::wake_at) came.
    Tick,

    /// There is an identity for so many milliseconds more: it was found, given or renewed.
    Enrolled { valid: Millis },
    /// An operator must approve first, or enrolment did not work: it is asked again after so many milliseconds.
    Pending { retry: Millis },
    NotRenewed,
    /// The controller does not know the identity any more.
    Revoked { detail: String },

    /// The controller said Welcome.
    Connected,
    /// There is no connection, or none any more.
    Disconnected,
    /// An assignment whose ruleset could be read. One that could not is refused where it is read.
    Received(Assignment),
    Ordered { id: u64, order: Order },

    Persisted(Place),
    NotPersisted { place: Place, detail: String },

    Loaded { place: Place, generation: Generation },
    /// Nothing was changed. [`Reason::Busy`]: somebody else's trial is on.
    NotLoaded { place: Place, reason: Reason, detail: String },
    /// What a connection for confirming came to.
    Answered { attempt: u64, answer: Answer },
    /// Confirmed, in the kernel and on the disk.
    Settled(Generation),
    NotSettled(SettleFailure),
    RolledBack(Generation),
    NotRolledBack { detail: String },
    KernelRead(Kernel),
    KernelNotRead,
    Healed,
    NotHealed,
    Removed,
    NotRemoved { detail: String },

    /// Something that people must look after; a short word for programs, and a text.
    Trouble { kind: &'static str, detail: String },

    /// The kernel says that somebody else changed a table.
    ForeignChange(Option<Process>),

    /// The addresses of a DNS name, for so many seconds.
    Resolved { name: String, addresses: Arc<[IpAddr]>, seconds: u32 },
    NotResolved { name: String },
}

/// What an operator wants of this agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Ends the trial of this assignment now.
    Rollback(Place),
    /// Ends management; `remove` takes the rules out, too.
    Release { remove: bool },
    /// Connect again after so many milliseconds.
    Move(Millis),
}

/// What the confirming connection came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The controller was reached, and confirms.
    Yes,
    /// The controller was reached, and wants the trial to fall.
    No,
    /// It was not reached, or the connection ended before it answered.
    Unreachable,
}

/// Why a confirmation is not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettleFailure {
    /// The time was over: what was there before is enforced.
    Fallen,
    /// The kernel did not do it, or it is not known whether it did.
    Kernel(String),
    /// It is confirmed in the kernel and not yet on the disk.
    Disk(String),
}

/// What the state folder holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// The last that was persisted.
    pub taken: Option<Assignment>,
    pub confirmed: Option<Begun>,
    /// Generations with higher numbers than the confirmed one, loaded or not.
    pub begun: Vec<Begun>,
}

/// A generation, and what it was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    pub generation: Generation,
    /// `None`: from policy files, by a command on the machine.
    pub place: Option<Place>,
    pub digest: [u8; 32],
    pub on_drift: OnDrift,
    pub names: Arc<[String]>,
}

/// What the kernel enforces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// What decides when no trial is on.
    pub current: Option<Generation>,
    /// On trial, with the milliseconds left; `None` when it has fallen and its remains are still there.
    pub trial: Option<(Generation, Option<Millis>)>,
    /// Whether our tables are exactly as we left them.
    pub is_intact: bool,
}
