//! A whole platform of network namespaces on one machine, for the demo and for the tests.
//!
//! In: a [`Topology`] of hosts, networks and containers. Out: a running [`Lab`] whose hosts run
//! commands, closures and raw packets. Never: an uplink, or a change to the machine's own
//! interfaces, rules, sysctls and files.
//!
//! A lab is one process tree in its own net, mount and pid namespaces. Its first process lives as
//! long as a pipe from the program that started it is open; when it ends, however that came about,
//! the kernel kills every process in the lab and takes down every namespace and interface.
//! Labs share nothing, so any number run side by side, with the same names and addresses.

mod configure;
mod enter;
mod error;
pub mod frame;
mod host;
mod lab;
mod log;
mod relay;
mod topology;
mod wire;

pub use error::LabError;
pub use host::HostRef;
pub use lab::Lab;
pub use log::{LoggedPacket, PacketLog};
pub use topology::{Container, Host, Topology, TopologyError};
pub use wire::{RawSender, Sent, Wire};
