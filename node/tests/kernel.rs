//! The kernel module against the real kernel, each test in a network namespace of its own.
//! They need root (CAP_NET_ADMIN) and nft; without them they fail.

#[path = "kernel/changes.rs"]
mod changes;
#[path = "kernel/connections.rs"]
mod connections;
#[path = "kernel/drift.rs"]
mod drift;
#[path = "kernel/log.rs"]
mod log;
#[path = "kernel/monitor.rs"]
mod monitor;
#[path = "kernel/namespace.rs"]
mod namespace;
#[path = "kernel/program.rs"]
mod program;
#[path = "kernel/reads.rs"]
mod reads;
