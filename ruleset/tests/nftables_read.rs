//! What nftables' rules do, as `ruleset::nftables::read` reads them: ours, others', and any text at all.

#[path = "nftables_read/kernel.rs"]
mod kernel;
#[path = "nftables_read/ours.rs"]
mod ours;
#[path = "iptables/packets.rs"]
mod packets;
#[path = "nftables_read/robust.rs"]
mod robust;
#[path = "iptables/rulesets.rs"]
mod rulesets;
#[path = "nftables_read/spec.rs"]
mod spec;
#[path = "nftables_read/words.rs"]
mod words;
