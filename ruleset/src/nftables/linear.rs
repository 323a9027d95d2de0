//! Claims as one rule each, in order of precedence: for what does not fit into a diagram.

use ringwall_packet::{Family, Protocol, UpperCube};

use super::claim::{Claim, View, conditions};
use super::layout::Lookup;
use super::transaction::Generation;
use super::text;

/// One line per claim, box and alternative, as the diagram would decide.
pub(super) fn lines(generation: Generation, claims: &[Claim<'_>], family: Family, view: View) -> Vec<String> {
    claims.iter().flat_map(|claim| lines_of(generation, claim, family, view)).collect()
}

fn lines_of(generation: Generation, claim: &Claim<'_>, family: Family, view: View) -> Vec<String> {
    let entry = claim.entry;
    if !entry.source.has(family) || !entry.destination.has(family) {
        return Vec::new();
    }
    let [source_field, destination_field, ..] = view.lookups();
    let mut head = format!("meta nfproto {} ", text::nfproto(family));
    if let Some(source) = text::addresses(&entry.source, family).filter(|_| !claim.any_source) {
        head.push_str(&format!("{} {source} ", text::expression(source_field, family)));
    }
    if let Some(destination) = text::addresses(&entry.destination, family) {
        head.push_str(&format!("{} {destination} ", text::expression(destination_field, family)));
    }
    let target = claim.verdict.text("goto");
    let upper = entry.upper.of_family(family);
    let cubes = upper.cubes().iter().filter(|cube| view.includes(cube));
    cubes
        .flat_map(|cube| {
            let matches = upper_match(cube, family, view);
            let conditions = conditions(generation, entry, None, family, view);
            let (head, target) = (&head, &target);
            conditions.into_iter().map(move |condition| format!("{head}{matches}{condition}{target}"))
        })
        .collect()
}

/// The protocol and port part of a line, with a space after it.
fn upper_match(cube: &UpperCube, family: Family, view: View) -> String {
    let mut text = String::new();
    let [.., destination_port] = view.lookups();
    let protocols = cube.protocols();
    if !protocols.is_full() {
        let keys: Vec<String> = protocols
            .intervals()
            .iter()
            .map(|i| text::key(Lookup::Protocol, family, i.first().into(), i.last().into()))
            .collect();
        text.push_str(&format!("meta l4proto {} ", text::set(&keys)));
    }
    if !cube.destination_ports().is_full() {
        let is_icmp = protocols.only().is_some_and(|number| Protocol(number).is_icmp());
        let field = if is_icmp { Lookup::Icmp } else { destination_port };
        text.push_str(&format!("{} {} ", text::expression(field, family), text::ports(cube.destination_ports())));
    }
    if !cube.source_ports().is_full() {
        let field = text::expression(view.source_port(), family);
        text.push_str(&format!("{field} {} ", text::ports(cube.source_ports())));
    }
    text
}
