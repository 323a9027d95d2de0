//! The agent: a thin shell around `ringwall-node`.
//!
//! In: what the controller says, what the kernel holds, the time. Out: what the reconciler decided, carried out.
//! Never: a decision of its own, a policy, or a port that is open to others.

mod connection;
pub mod doctor;
pub mod edge;
mod hands;
pub mod identity;
mod probes;
mod lists;
pub mod machine;
mod names;
mod session;
mod shell;

pub use connection::{ConnectError, Controller};
pub use shell::{ProofOf, Settings, Shell, because, proof};
