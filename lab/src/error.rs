//! What can go wrong while a lab is made or used.

use std::io;

use crate::topology::TopologyError;

#[derive(Debug, thiserror::Error)]
pub enum LabError {
    #[error("`{tool}` is not installed: on Debian, install the package `{package}`")]
    MissingTool { tool: &'static str, package: &'static str },
    #[error("the lab's topology is wrong")]
    Topology(#[from] TopologyError),
    #[error("cannot start the lab's first process")]
    Start(#[source] io::Error),
    #[error("cannot make the lab's namespaces (run as root, or allow user namespaces): {0}")]
    Namespaces(String),
    #[error("cannot open the namespaces of `{0}`")]
    Open(String, #[source] io::Error),
    #[error("cannot start the configuration of `{0}`")]
    Spawn(String, #[source] io::Error),
    #[error("cannot configure `{0}`: {1}")]
    Configure(String, String),
    #[error("the lab has no host `{0}`")]
    NoSuchHost(String),
    #[error(
        "cannot enter the network namespace of `{0}` from this process (a lab that was not started by root runs commands only)"
    )]
    Enter(String, #[source] io::Error),
    #[error("cannot open a packet socket on `{0}`")]
    PacketSocket(String, #[source] io::Error),
    #[error("cannot listen to packet log group {0}")]
    PacketLog(u16, #[source] io::Error),
    #[error("cannot set `{key}` on `{host}`: {reason}")]
    Sysctl { host: String, key: String, reason: String },
    #[error("`{program}` on `{host}` failed: {reason}")]
    Command { host: String, program: String, reason: String },
}
