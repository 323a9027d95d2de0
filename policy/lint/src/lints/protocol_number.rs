//! RW2008: the number of an IP protocol, written as a port.

use ringwall_diagnostic::Diagnostic;
use ringwall_packet::Protocol;

use crate::view::words;
use crate::{Row, Transport, View};

/// Words for programs and protocols that run beside TCP and UDP (IANA, "Protocol Numbers").
const PROTOCOLS: &[(&str, Protocol)] = &[
    ("vrrp", Protocol::VRRP),
    ("keepalived", Protocol::VRRP),
    ("gre", Protocol::GRE),
    ("esp", Protocol::ESP),
    ("ah", Protocol::AH),
    ("ospf", Protocol(89)),
    ("pim", Protocol(103)),
    ("igmp", Protocol::IGMP),
    ("ipip", Protocol(4)),
];

pub(super) fn lint(view: &View) -> Vec<Diagnostic> {
    view.rows.iter().filter_map(check).collect()
}

fn check(row: &Row) -> Option<Diagnostic> {
    let (label, Transport::Is(written), [port]) = (row.label.as_deref()?, row.protocol, &row.single_ports()[..]) else {
        return None;
    };
    let is_meant =
        |(word, protocol): &&(&str, Protocol)| u16::from(protocol.0) == *port && words(label).any(|own| own == *word);
    let (word, protocol) = PROTOCOLS.iter().find(is_meant).filter(|_| written.has_ports())?;
    Some(
        Diagnostic::error("RW2008", format!("`{word}` has no port: {port} is the number of its IP protocol"))
            .at(row.span, format!("{written} port {port} opens nothing for it"))
            .help(format!("write the protocol `{protocol}`, without a port")),
    )
}
