//! The registry of services: IANA's names, and the names that people use.
//!
//! In: a name as somebody wrote it, or a protocol and port. Out: the service. Never: a guess; an
//! unknown name is `None`.

use ringwall_packet::Protocol;

/// One registered name on one protocol and port range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Lower case, as IANA registers it or as people write it.
    pub name: &'static str,
    pub protocol: Protocol,
    pub first_port: u16,
    pub last_port: u16,
    pub origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// IANA, "Service Name and Transport Protocol Port Number Registry".
    Iana,
    /// In wide use for this service, whatever the registry says.
    Custom,
}

/// All entries that a name stands for, such as `dns` for 53/udp and 53/tcp; empty when it is unknown.
/// Upper and lower case, spaces, `-` and `_` make no difference.
pub fn named(_name: &str) -> Vec<Service> {
    Vec::new()
}

/// The name that a person would use for a port: our own first, then IANA's.
pub fn name_of(_protocol: Protocol, _port: u16) -> Option<&'static str> {
    None
}
