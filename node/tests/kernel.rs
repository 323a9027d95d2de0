//! The kernel module against the real kernel, each test in a network namespace of its own.
//! They need root (CAP_NET_ADMIN) and nft; without them they fail.

mod changes;
mod connections;
mod drift;
mod log;
mod monitor;
mod program;
mod reads;
