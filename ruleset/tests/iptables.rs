//! What iptables' rules do, as `ruleset::iptables` reads and writes them.

mod kernel;
mod robust;
mod spec;
mod targets;
mod written;
