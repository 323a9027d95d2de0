//! What iptables' rules do, as `ruleset::iptables` reads and writes them.

#[path = "iptables/kernel.rs"]
mod kernel;
#[path = "iptables/packets.rs"]
mod packets;
#[path = "iptables/robust.rs"]
mod robust;
#[path = "iptables/rulesets.rs"]
mod rulesets;
#[path = "iptables/spec.rs"]
mod spec;
#[path = "iptables/targets.rs"]
mod targets;
#[path = "iptables/written.rs"]
mod written;
