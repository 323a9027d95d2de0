//! Random policies and random packets: what the kernel does with them against what the model says.
//!
//! In: a seed and a number of flows. Out: a tally, and a report of each disagreement. Never: a
//! verdict that was not seen in the kernel.

mod oracle;
mod packets;
mod policies;
mod random;
mod run;
mod sequences;
mod testbed;
mod world;

pub use run::campaign;
#[cfg(test)]
pub use run::every_kind;
