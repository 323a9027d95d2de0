//! One node's rules: a neutral model, its meaning, and each target's text.
//!
//! In: entries that the compiler has clipped to the node. Out: nftables text, and the verdict for
//! any flow. In: anybody's text of rules. Out: what it does, as tables. Never: the policy language, node state, files or the kernel.

mod accepted;
pub mod detect;
pub mod filter;
pub mod iptables;
mod meaning;
mod model;
pub mod nftables;
pub mod others;
mod tables;
pub mod way;

pub use meaning::{Decider, Path, Verdict};
pub use model::{CLOCK_MIN, Effect, Entry, Floor, Forward, Ruleset};
