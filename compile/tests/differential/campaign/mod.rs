//! Random policies and random packets: what the kernel does with them against what the model says.
//!
//! In: a seed and a number of flows. Out: a tally, and a report of each disagreement. Never: a
//! verdict that was not seen in the kernel.

#[cfg(test)]
mod iptables;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod kinds;
mod oracle;
mod packets;
mod policies;
mod random;
mod run;
mod sequences;
mod testbed;
mod world;

#[cfg(test)]
pub use iptables::iptables;
#[cfg(test)]
pub use keys::overlaps;
#[cfg(test)]
pub use kinds::every_kind;
pub use run::campaign;
