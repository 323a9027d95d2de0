//! One file for each rule.

use ringwall_diagnostic::Diagnostic;

use crate::View;

mod any;
mod attack_tool;
mod both_directions;
mod cleartext;
mod cluster;
mod columns;
mod disagreement;
mod everything;
mod inheritance;
mod management;
mod number;
mod obsolete;
mod promise;
mod protocol_number;
mod registered_name;
mod resolver;
mod sibling;
mod timeout;
mod transport;
mod unknown_name;
mod vendor_port;

pub(crate) const ALL: &[fn(&View) -> Vec<Diagnostic>] = &[
    any::lint,
    attack_tool::lint,
    both_directions::lint,
    cleartext::lint,
    cluster::lint,
    columns::lint,
    disagreement::lint,
    everything::lint,
    inheritance::lint,
    management::lint,
    number::lint,
    obsolete::lint,
    promise::lint,
    protocol_number::lint,
    registered_name::lint,
    resolver::lint,
    sibling::lint,
    timeout::lint,
    transport::lint,
    unknown_name::lint,
    vendor_port::lint,
];
