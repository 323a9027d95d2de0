//! Who talks to whom in a row.
//!
//! In: the row's names, arrows and directions, and what stands around the table. Out: [`RowEnds`].
//! Never: an end taken from elsewhere that is not marked as inferred.

use crate::cell::{self, Arrow};
use crate::column::Role;
use crate::guide::{Direction, Field};
use crate::names;
use crate::said;
use crate::table::TableReader;
use crate::words::{self, Flowing};
use std::collections::HashSet;
use std::sync::Arc;

/// The ends of a row, and which of them stand elsewhere.
#[derive(Default)]
pub(crate) struct RowEnds {
    pub sources: Vec<String>,
    pub destinations: Vec<String>,
    pub direction: Option<Direction>,
    pub inferred: Vec<Field>,
}

impl TableReader<'_, '_, '_> {
    fn names(&self, role: Role, texts: &[Arc<str>]) -> Vec<String> {
        let column = self.columns.of(role);
        column
            .map(|column| &texts[column])
            .filter(|text| !words::is_blank(text))
            .map(|text| names::names(text))
            .unwrap_or_default()
    }

    pub(crate) fn ends(
        &self,
        texts: &[Arc<str>],
        inherited: &HashSet<usize>,
        arrow: Option<Arrow>,
        flowing: Option<Flowing>,
    ) -> RowEnds {
        let context = self.reading.context;
        let mut ends = RowEnds {
            sources: self.names(Role::Source, texts),
            destinations: self.names(Role::Destination, texts),
            ..RowEnds::default()
        };
        for (role, field) in [(Role::Source, Field::Source), (Role::Destination, Field::Destination)] {
            if self.columns.of(role).is_some_and(|column| inherited.contains(&column)) {
                ends.inferred.push(field);
            }
        }
        for names in [&mut ends.sources, &mut ends.destinations] {
            for name in names {
                if let Some(bare) = without_both_ways(name) {
                    *name = bare;
                    ends.direction = Some(Direction::Both);
                }
            }
        }
        if self.columns.of(Role::BothWays).is_some_and(|column| words::is_yes(&texts[column])) {
            ends.direction = Some(Direction::Both);
        }
        let direction_text = self.columns.of(Role::Direction).map(|column| texts[column].clone()).unwrap_or_default();
        let mut arrow = arrow;
        let mut is_stated = arrow.is_some();
        if let Some((left, found, right)) = cell::arrow(&direction_text) {
            is_stated = true;
            let (left, right) = (names::names(left), names::names(right));
            let is_half =
                left.is_empty() != right.is_empty() && ends.sources.is_empty() && ends.destinations.is_empty();
            if !left.is_empty() && !right.is_empty() || is_half {
                (ends.sources, ends.destinations) = (left, right);
            }
            arrow = Some(found);
        } else if ends.destinations.is_empty()
            && let [source] = &ends.sources[..]
            && let Some((left, found, right)) = cell::arrow(source)
            && !left.trim().is_empty()
            && !right.trim().is_empty()
        {
            // "relay ↔ relay" in the column of sources.
            is_stated = true;
            (ends.sources, ends.destinations) = (names::names(left), names::names(right));
            arrow = Some(found);
        }
        let group_flowing = self.group.as_deref().and_then(words::flowing_in_prose);
        let row_flowing = flowing.or_else(|| words::flowing(&direction_text)).filter(|_| arrow.is_none());
        is_stated |= row_flowing.is_some();
        let flowing = row_flowing.or(group_flowing).or(context.flowing);
        if direction_text.len() > 3 && !is_stated && ends.sources.is_empty() && ends.destinations.is_empty() {
            let found = said::heading_ends(&direction_text);
            is_stated |= !found.is_empty();
            (ends.sources, ends.destinations) = (found.sources, found.destinations);
        }
        if row_flowing.is_some() && ends.sources.is_empty() && ends.destinations.is_empty() {
            let found = said::other_end(&direction_text);
            (ends.sources, ends.destinations) = (found.sources, found.destinations);
        }

        // "every worker must reach the managers on these ports": what is in the column then are services.
        let is_said = !context.ends.sources.is_empty() && !context.ends.destinations.is_empty() && flowing.is_none();
        let column_node = if is_said { Vec::new() } else { self.names(Role::Node, texts) };
        let has_node_column = !column_node.is_empty();
        let group_node = self.group.as_deref().and_then(said::heading_node);
        let node = if has_node_column {
            column_node
        } else {
            group_node.or_else(|| context.node.clone()).into_iter().collect()
        };
        let peer = self.names(Role::Peer, texts);

        if self.columns.has(Role::Peer) {
            let (inferred, known) = if has_node_column { (None, true) } else { (Some(()), !node.is_empty()) };
            let field = match flowing {
                Some(Flowing::Inbound) => {
                    (ends.sources, ends.destinations) = (peer, node);
                    Field::Destination
                }
                _ => {
                    (ends.sources, ends.destinations) = (node, peer);
                    Field::Source
                }
            };
            if inferred.is_some() && known {
                ends.inferred.push(field);
            }
            ends.direction = Some(match flowing {
                Some(Flowing::Both) => Direction::Both,
                Some(_) => Direction::OneWay,
                None => Direction::Unknown,
            });
        } else if ends.sources.is_empty() || ends.destinations.is_empty() {
            let names_both = self.columns.has(Role::Source) && self.columns.has(Role::Destination);
            if names_both && !is_stated && !(ends.sources.is_empty() && ends.destinations.is_empty()) {
                ends.direction = Some(Direction::Unknown);
            } else {
                self.complete(&mut ends, &node, has_node_column, flowing);
            }
        }
        // "All hosts, bidirectional": between any two of them.
        if flowing == Some(Flowing::Both)
            && ends.sources.is_empty()
            && ends.destinations.iter().all(|name| is_every(name))
        {
            ends.sources.clone_from(&ends.destinations);
        }
        match arrow {
            Some(Arrow::Left) => {
                std::mem::swap(&mut ends.sources, &mut ends.destinations);
                ends.direction = Some(Direction::OneWay);
            }
            Some(Arrow::Both) => ends.direction = Some(Direction::Both),
            Some(Arrow::Right) => ends.direction = Some(Direction::OneWay),
            None if row_flowing == Some(Flowing::Both) => ends.direction = Some(Direction::Both),
            None => {}
        }
        ends
    }

    /// Takes an end that the row does not name from the node's column, the heading or the sentence before.
    fn complete(&self, ends: &mut RowEnds, node: &[String], has_node_column: bool, flowing: Option<Flowing>) {
        let said = &self.reading.context.ends;
        let is_outbound = flowing == Some(Flowing::Outbound);
        let neither = ends.sources.is_empty() && ends.destinations.is_empty();
        let fills_source = if neither { is_outbound } else { ends.sources.is_empty() };
        let mut infer = |names: &mut Vec<String>, from: &[String], field: Field, is_inferred: bool| {
            if names.is_empty() && !from.is_empty() {
                names.extend_from_slice(from);
                if is_inferred {
                    ends.inferred.push(field);
                }
            }
        };
        if neither && !has_node_column && !said.sources.is_empty() && !said.destinations.is_empty() {
            infer(&mut ends.sources, &said.sources, Field::Source, true);
            infer(&mut ends.destinations, &said.destinations, Field::Destination, true);
            ends.direction = ends.direction.or(said.direction);
        } else if fills_source {
            infer(
                &mut ends.sources,
                if has_node_column || said.sources.is_empty() { node } else { &said.sources },
                Field::Source,
                !has_node_column,
            );
            if is_outbound {
                let others =
                    said.destinations.iter().filter(|name| !node.iter().any(|node| node.eq_ignore_ascii_case(name)));
                infer(&mut ends.destinations, &others.cloned().collect::<Vec<_>>(), Field::Destination, true);
            }
        } else {
            // A heading "Client ports" is not about ports at which clients listen.
            let accepts =
                has_node_column || flowing == Some(Flowing::Inbound) || !node.iter().any(|name| words::is_client(name));
            let node = if accepts { node } else { &[] };
            infer(
                &mut ends.destinations,
                if has_node_column || said.destinations.is_empty() { node } else { &said.destinations },
                Field::Destination,
                !has_node_column,
            );
            if !has_node_column && ends.sources.is_empty() {
                infer(&mut ends.sources, &said.sources, Field::Source, true);
            }
        }
        if ends.sources.is_empty() && ends.destinations.is_empty() && flowing.is_none() {
            ends.direction = Some(Direction::Unknown);
        }
    }
}

fn is_every(name: &str) -> bool {
    let first = name.split_whitespace().next().unwrap_or("").to_lowercase();
    matches!(&*first, "all" | "every" | "each")
}

/// "controller (bi-directional)" names the controller.
fn without_both_ways(name: &str) -> Option<String> {
    let (bare, remark) = name.strip_suffix(')')?.split_once('(')?;
    (words::flowing(remark) == Some(Flowing::Both)).then(|| bare.trim().to_owned())
}

/// "Self", "localhost", "the node itself (local traffic)": the same host.
pub(crate) fn is_local(name: &str) -> bool {
    let name = name.to_lowercase();
    let is_named = [
        "self",
        "localhost",
        "local",
        "loopback",
        "same host",
        "127.0.0.1",
        "::1",
        "local host",
        "local only",
        "localhost only",
    ]
    .contains(&name.as_str());
    is_named
        || name.contains("itself")
        || name.contains("local traffic")
        || name.contains("loopback")
        || name.contains("localhost")
}
