//! The tests of this crate as one program: each one more would hold all libraries again.

mod diagrams;
mod iptables;
mod mutants;
mod nftables_proof;
mod nftables_read;
mod packets;
mod rulesets;
