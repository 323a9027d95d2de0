//! What iptables' rules do, as `ruleset::iptables` reads them.

#[path = "iptables/packets.rs"]
mod packets;
#[path = "iptables/spec.rs"]
mod spec;
