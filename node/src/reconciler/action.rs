//! What to do.

use std::net::IpAddr;
use std::sync::Arc;

use ringwall_ruleset::nftables::Generation;

use super::drift::{DriftOutcome, Process};
use super::{Assignment, Millis, Place};

/// Something to do. Those with a kernel operation in them are given one at a time: the next one comes when the
/// last one's event was taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask for an identity: `Enrolled`, `Pending` or `Revoked`.
    Enrol,
    /// Ask for the next certificate: `Enrolled`, `NotRenewed` or `Revoked`.
    Renew,
    /// Forget key and certificate.
    ForgetIdentity,

    /// Open the session: `Connected` or `Disconnected`, and `Disconnected` when it ends.
    Connect,
    /// End the session: `Disconnected`.
    Disconnect,
    Say(Say),

    /// Make the assignment durable as the newest that was taken: `Persisted` or `NotPersisted`.
    Persist(Assignment),

    /// Kernel operation: on trial for its window, recorded with its place: `Loaded` or `NotLoaded`.
    Load(Assignment),
    /// Open another connection now, resolve the controller's name anew for it, and ask: `Answered`.
    ConnectFreshAndConfirm { attempt: u64, place: Place, digest: [u8; 32] },
    /// Kernel operation: make the trial the enforced generation, and what is loaded at boot. Asked again after
    /// it was done, it only does what is left: `Settled` or `NotSettled`.
    ConfirmInKernel(Generation),
    /// Kernel operation: end the trial and take its remains away; without one it is done: `RolledBack` or `NotRolledBack`.
    Rollback(Generation),
    /// Kernel operation: `KernelRead` or `KernelNotRead`.
    ReadKernel,
    /// Kernel operation: load this generation's text anew, in one transaction: `Healed` or `NotHealed`.
    Heal(Generation),
    /// Kernel operation: take our tables out, and what would bring them back: `Removed` or `NotRemoved`.
    Remove,

    /// Ask the host's resolver: `Resolved` or `NotResolved`.
    Resolve(String),
    /// Fill the sets of this name in these generations, for so many seconds.
    Refresh { generations: Vec<Generation>, name: String, addresses: Arc<[IpAddr]>, seconds: u32 },
}

impl Action {
    /// Whether it reads or changes rules in the kernel: of these, one is under way at a time.
    pub fn is_kernel_operation(&self) -> bool {
        use Action::{ConfirmInKernel, Heal, Load, ReadKernel, Remove, Rollback};
        matches!(self, Load(_) | ConfirmInKernel(_) | Rollback(_) | ReadKernel | Heal(_) | Remove)
    }
}

/// What the controller is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Say {
    Ack { place: Place, stage: Stage, generation: u32 },
    Refused { place: Place, reason: Reason, detail: String },
    OrderRefused { id: u64, detail: String },
    Happened {
        /// Seconds since it happened.
        age: u32,
        happening: Happening,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Durable.
    Received,
    Trial,
    /// Enforced and durable.
    Confirmed,
    /// What was there before is enforced.
    Fell,
}

/// Why an assignment is not enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Older than what was taken over, or another one of the same place.
    Stale,
    /// Of a lower epoch.
    Epoch,
    Unproved,
    Lockout,
    Kernel,
    Disk,
    /// Somebody else's trial is on. Said of no assignment to the controller: the agent tries again.
    Busy,
    /// The agent's identity was revoked or given up.
    Forbidden,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    Drift { process: Option<Process>, outcome: DriftOutcome },
    Names { name: String, addresses: Arc<[IpAddr]> },
    /// A short word for programs, and a text.
    Trouble { kind: &'static str, detail: String },
    Lost(u64),
}

/// Whole seconds.
pub(super) fn seconds(millis: Millis) -> u32 {
    u32::try_from(millis / super::SECOND).unwrap_or(u32::MAX)
}
