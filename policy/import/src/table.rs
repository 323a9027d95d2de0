//! A table of ports → flows.
//!
//! In: a table, its columns, and what stands around it. Out: flows, undecided rows, diagnostics. Never:
//! a row that is neither.

use crate::cell::{self, Entry};
use crate::column::{self, Columns, Role};
use crate::document::{Cell, Row, Table, one_line};
use crate::ends::RowEnds;
use crate::guide::{Action, Direction, Field, Ports, Transport};
use crate::header::role;
use crate::prose;
use crate::protocols;
use crate::reading::{Context, Draft, Reading, without_end, without_ends, without_protocol};
use crate::said;
use crate::shape;
use crate::transport::{carrier, ports_of, stated_in};
use crate::words::{self, Flowing};
use ringwall_diagnostic::{Diagnostic, SourceId};
use ringwall_packet::Protocol;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

/// Flows that one row may give. More is not a row that a person wrote.
const FLOWS_PER_ROW: usize = 1024;

/// `None` when it is not a table of ports.
pub(crate) fn read<'a>(
    text: &str,
    source: SourceId,
    context: &'a Context,
    table: &Table,
    budget: usize,
) -> Option<Reading<'a>> {
    let (straightened, by_custom) = shape::straighten(table).unzip();
    let table = straightened.as_ref().unwrap_or(table);
    let (columns, header_is_row) = column::columns(table)?;
    // A header that is a title, such as "Inbound:", heads all rows.
    let has_title = [Role::Inbound, Role::Outbound].into_iter().all(|role| !columns.has(role));
    let group = table
        .header
        .iter()
        .map(|cell| one_line(&cell.text))
        .find(|text| has_title && words::flowing_in_prose(text).is_some() && role(text) != Some(Role::Direction));
    let mut reading = Reading::new(source, context);
    reading.budget = budget;
    let mut reader = TableReader {
        text,
        reading: &mut reading,
        columns,
        table,
        previous: Vec::new(),
        grouped: grouped(table),
        group,
        endless: None,
        bare: None,
        incomplete: None,
    };
    if header_is_row {
        let span =
            table.header.first().map_or(0, |cell| cell.span.start)..table.header.last().map_or(0, |cell| cell.span.end);
        reader.row(&Row { cells: table.header.clone(), span, is_wider: false }, 0);
    }
    for (index, row) in table.rows.iter().enumerate() {
        reader.row(row, u32::try_from(index + 1).unwrap_or(u32::MAX));
    }
    let (endless, bare, incomplete) = (reader.endless.take(), reader.bare.take(), reader.incomplete.take());
    if by_custom == Some(true) {
        let place = table.header.first().map_or(0..0, |cell| cell.span.clone());
        let diagnostic = Diagnostic::warning("RW1010", "the matrix does not say which side opens the connections")
            .at(reading.span(place), "rows are taken as sources, columns as destinations")
            .help("write `From \\ To` into the corner, or correct the policy");
        reading.diagnostics.push(diagnostic);
    }
    if let Some((span, count)) = bare {
        reading.diagnostics.push(without_protocol(reading.span(span), count));
    }
    if let Some((span, count)) = endless {
        reading.diagnostics.push(without_ends(reading.span(span), count));
    }
    if let Some((span, missing)) = incomplete {
        reading.diagnostics.push(without_end(reading.span(span), missing.0, "table"));
    }
    Some(reading)
}

fn grouped(table: &Table) -> HashSet<usize> {
    let gaps = |column: usize| {
        table.rows.iter().filter(|row| row.cells.get(column).is_none_or(|cell| cell.text.is_empty())).count()
    };
    (0..table.header.len()).filter(|column| gaps(*column) * 10 >= table.rows.len()).collect()
}

pub(crate) struct TableReader<'t, 'r, 'a> {
    text: &'t str,
    pub(crate) reading: &'r mut Reading<'a>,
    pub(crate) columns: Columns,
    table: &'t Table,
    /// The last text of each column, for cells that are left empty or say "ditto".
    previous: Vec<Arc<str>>,
    /// Columns that are empty so often that an empty cell there means the one above it. A gap among
    /// many filled cells is an omission.
    grouped: HashSet<usize>,
    /// The text of a row that heads the rows under it.
    pub(crate) group: Option<String>,
    /// The first row that names neither end, and how many do.
    endless: Option<(Range<usize>, usize)>,
    /// The first row that names no protocol, and how many do.
    bare: Option<(Range<usize>, usize)>,
    /// The first row of which an end is not said, and which: source, destination.
    incomplete: Option<(Range<usize>, (bool, bool))>,
}

impl TableReader<'_, '_, '_> {
    fn row(&mut self, row: &Row, number: u32) {
        if row.cells.iter().all(|cell| cell.text.is_empty()) || self.repeats_header(row) {
            return;
        }
        if row.is_wider {
            let reason = format!("it has {} cells, the header has {}", row.cells.len(), self.table.header.len());
            self.reading.undecided(self.text, row.span.clone(), row.span.clone(), "RW1005", &reason);
            return;
        }
        if let Some(group) = self.heads_rows(row) {
            self.group = Some(group);
            return;
        }
        let (texts, inherited) = self.texts(row);
        let mut ticked = None;
        for (role, flowing) in [(Role::Inbound, Flowing::Inbound), (Role::Outbound, Flowing::Outbound)] {
            let Some(column) = self.columns.of(role) else {
                continue;
            };
            if self.columns.has(Role::Port) {
                let both = ticked.map_or(flowing, |_| Flowing::Both);
                ticked = if words::is_yes(&texts[column]) { Some(both) } else { ticked };
            } else {
                if !words::is_blank(&texts[column]) {
                    self.services(row, number, &texts, &inherited, &texts[column].clone(), column, Some(flowing));
                }
            }
        }
        for (role, name) in [(Role::TcpPort, "TCP"), (Role::UdpPort, "UDP")] {
            let Some(column) = self.columns.of(role).filter(|_| !self.columns.has(Role::Port)) else {
                continue;
            };
            if !words::is_blank(&texts[column]) {
                let ports = if cell::is_explicit(&texts[column]) {
                    texts[column].to_string()
                } else {
                    format!("{name} {}", texts[column])
                };
                self.services(row, number, &texts, &inherited, &ports, column, ticked);
            }
        }
        if let Some(column) = self.columns.of(Role::Port) {
            self.services(row, number, &texts, &inherited, &texts[column].clone(), column, ticked);
        } else if let Some(start) = self.columns.of(Role::PortStart) {
            let end = self.columns.of(Role::PortEnd).map(|column| texts[column].to_string()).unwrap_or_default();
            let ports =
                if words::is_blank(&end) { texts[start].to_string() } else { format!("{}-{end}", texts[start]) };
            self.services(row, number, &texts, &inherited, &ports, start, None);
        }
        self.previous = texts;
    }

    fn repeats_header(&self, row: &Row) -> bool {
        let pairs = row.cells.iter().zip(&self.table.header);
        row.cells.len() == self.table.header.len()
            && pairs.clone().all(|(cell, header)| cell.text.eq_ignore_ascii_case(&header.text))
    }

    /// The text of a row that has nothing but a title.
    fn heads_rows(&self, row: &Row) -> Option<String> {
        if self.table.header.len() < 3 {
            return None;
        }
        let first = row.cells.first().filter(|cell| !cell.text.is_empty())?;
        let is_title =
            row.cells.iter().skip(1).all(|cell| cell.text.is_empty() || cell.is_spanned && cell.text == first.text);
        let is_of_ports = self.columns.role(0).is_some_and(|role| column::PORTS.contains(&role));
        (is_title && !(is_of_ports && cell::may_hold_ports(&first.text)) && !cell::is_explicit(&first.text))
            .then(|| one_line(&first.text))
    }

    /// The row's texts, one for each column of the header, and which columns are taken from above.
    fn texts(&self, row: &Row) -> (Vec<Arc<str>>, HashSet<usize>) {
        let mut texts: Vec<Arc<str>> = Vec::with_capacity(self.table.header.len());
        let mut inherited = HashSet::new();
        let mut is_leading = true;
        for column in 0..self.table.header.len() {
            let cell = row.cells.get(column);
            let text: Arc<str> = cell.map_or_else(|| "".into(), |cell| cell.text.clone());
            let role = self.columns.role(column);
            let may_head =
                matches!(role, Some(Role::Source | Role::Destination | Role::Node | Role::Peer | Role::Protocol));
            let is_grouped = is_leading && may_head && self.grouped.contains(&column);
            let takes = words::is_ditto(&text) && role.is_some() || text.is_empty() && is_grouped;
            is_leading &= text.is_empty() || role == Some(Role::Ignored);
            match self.previous.get(column).filter(|_| takes) {
                Some(previous) => {
                    inherited.insert(column);
                    texts.push(previous.clone());
                }
                None => texts.push(text),
            }
        }
        (texts, inherited)
    }

    #[allow(clippy::too_many_arguments)]
    fn services(
        &mut self,
        row: &Row,
        number: u32,
        texts: &[Arc<str>],
        inherited: &HashSet<usize>,
        ports: &str,
        column: usize,
        flowing: Option<Flowing>,
    ) {
        let place = row.cells.get(column).map_or(row.span.clone(), |cell: &Cell| cell.span.clone());
        let fail = |reader: &mut Self, place: Range<usize>, reason: &str| {
            reader.reading.undecided(reader.text, row.span.clone(), place, "RW1003", reason);
        };
        let protocol_text = self.columns.of(Role::Protocol).map(|column| texts[column].clone()).unwrap_or_default();
        let protocols = protocols::protocols(&protocol_text);
        let protocols =
            if protocols == protocols::Protocols::default() { self.ticked_protocols(texts) } else { protocols };
        let is_portless = !protocols.transports.is_empty()
            && protocols
                .transports
                .iter()
                .all(|transport| transport.protocol().is_some_and(|protocol| !protocol.has_ports()));
        let entries = match cell::read(ports) {
            Err(_) if is_portless => vec![Entry { label: one_line(ports), ..Entry::default() }],
            Err(reason) => return fail(self, place, &reason),
            Ok(entries) if entries.is_empty() && is_portless => vec![Entry::default()],
            Ok(entries) if entries.is_empty() && protocols.transports.contains(&Transport::Any) => {
                vec![Entry { is_any: true, ..Entry::default() }]
            }
            Ok(entries) if entries.is_empty() => return fail(self, place, "it names no port"),
            Ok(entries)
                if flowing.is_some()
                    && entries.iter().any(|entry| entry.is_any && entry.transports.is_empty())
                    && protocols.transports.is_empty() =>
            {
                return fail(self, place, "any port by any protocol is too wide to be meant");
            }
            Ok(entries) => entries,
        };
        if !protocols.unknown.is_empty() {
            let place = self.columns.of(Role::Protocol).and_then(|column| row.cells.get(column));
            let place = place.map_or(row.span.clone(), |cell| cell.span.clone());
            let words = protocols.unknown.join(" ");
            let rest = if protocols.transports.is_empty() {
                "the row's protocol is left open"
            } else {
                "the rest of the cell is imported"
            };
            let diagnostic = Diagnostic::warning("RW1007", format!("`{words}` is no protocol; {rest}"))
                .at(self.reading.span(place), "not understood")
                .help("write the protocol that is meant, such as `tcp`, into the rule");
            self.reading.diagnostics.push(diagnostic);
        }
        let action = match self.action(texts) {
            Ok(action) => action,
            Err(reason) => return fail(self, row.span.clone(), &reason),
        };
        let source_port = match self.columns.of(Role::SourcePort).map(|column| cell::read(&texts[column])) {
            None => Ports::Unstated,
            Some(Ok(entries)) => entries.first().map_or(Ports::Unstated, Entry::ports),
            // "dynamic", "ephemeral": any free port, which the kernel picks.
            Some(Err(_)) => Ports::Any,
        };
        let protocol_lines: Vec<&str> = protocol_text.lines().collect();
        let port_lines = ports.lines().filter(|line| !words::is_blank(line)).count();
        let is_zipped = protocol_lines.len() > 1 && protocol_lines.len() == port_lines && entries.len() == port_lines;
        for (index, entry) in entries.iter().enumerate() {
            let own = if is_zipped { protocols::protocols(protocol_lines[index]) } else { protocols.clone() };
            let ends = self.ends(texts, inherited, entry.arrow, flowing);
            let conflict = !entry.transports.is_empty()
                && !own.transports.is_empty()
                && !own.transports.contains(&Transport::Any)
                && own.label.is_empty()
                && !entry.transports.iter().any(|transport| own.transports.contains(transport));
            if conflict {
                return fail(
                    self,
                    place,
                    &format!("the port's protocol is not the `{}` of its column", one_line(&protocol_text)),
                );
            }
            if ends.sources.len().max(1) * ends.destinations.len().max(1) > FLOWS_PER_ROW {
                return fail(self, row.span.clone(), "it names too many ends");
            }
            self.emit(row, number, texts, action, &source_port, entry, &own, ends);
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn emit(
        &mut self,
        row: &Row,
        number: u32,
        texts: &[Arc<str>],
        action: Action,
        source_port: &Ports,
        entry: &Entry,
        protocols: &protocols::Protocols,
        mut ends: RowEnds,
    ) {
        let service =
            self.columns.all(Role::Service).map(|column| one_line(&texts[column])).find(|text| !words::is_blank(text));
        let label = service
            .or_else(|| {
                let is_end = |name: &str| ends.sources.iter().chain(&ends.destinations).any(|end| end == name);
                let has_ends = !ends.sources.is_empty() && !ends.destinations.is_empty();
                let node = self.columns.of(Role::Node).filter(|_| has_ends && !self.columns.has(Role::Source));
                node.map(|column| one_line(&texts[column])).filter(|name| !words::is_blank(name) && !is_end(name))
            })
            .filter(|service| !cell::is_explicit(service))
            .unwrap_or_else(|| if entry.label.is_empty() { one_line(&protocols.label) } else { entry.label.clone() });
        let mut notes: Vec<String> =
            self.columns.all(Role::Note).filter_map(|column| self.remark(column, &texts[column])).collect();
        for (column, text) in texts.iter().enumerate().filter(|(column, _)| self.columns.role(*column).is_none()) {
            if !words::is_blank(text) {
                let header = self.table.header.get(column).map_or("", |cell| &*cell.text);
                notes.push(if header.is_empty() {
                    one_line(text)
                } else {
                    format!("{}: {}", one_line(header), one_line(text))
                });
            }
        }
        notes.push(entry.remark.clone());
        notes.retain(|note| !words::is_blank(note));
        let note = notes.join("; ");
        let own = [Role::Source, Role::Destination, Role::Peer, Role::Node, Role::Direction];
        if !own.into_iter().any(|role| self.columns.has(role))
            || ends.sources.is_empty() && ends.destinations.is_empty()
        {
            let said = said::remarked_ends(&note);
            if !said.is_empty() {
                (ends.sources, ends.destinations) = (said.sources, said.destinations);
                ends.inferred.extend([Field::Source, Field::Destination]);
                ends.direction = Some(said.direction.unwrap_or(Direction::OneWay));
            }
        }

        let mut transports = entry.transports.clone();
        if transports.is_empty() {
            transports.clone_from(&protocols.transports);
        }
        if transports.is_empty() && entry.is_any && !self.columns.has(Role::Protocol) {
            transports.push(Transport::Any);
        }
        if transports.is_empty() {
            transports = carrier(&label)
                .map(|protocol| vec![protocol])
                .or_else(|| stated_in(&label))
                .or_else(|| stated_in(&note))
                .or_else(|| self.reading.context.protocol.map(|protocol| vec![protocol]))
                .unwrap_or_default()
                .into_iter()
                .map(Transport::Is)
                .collect();
            ends.inferred.extend((!transports.is_empty()).then_some(Field::Protocol));
        }
        if transports.is_empty() {
            transports.push(Transport::Unstated);
            self.bare.get_or_insert((row.span.clone(), 0)).1 += 1;
        }
        let port_text = self.columns.of(Role::Port).map_or("", |column| &*texts[column]);
        let services =
            transports.iter().map(|transport| (*transport, ports_of(*transport, entry, port_text))).collect();

        let conditions = texts
            .iter()
            .enumerate()
            .filter(|(column, _)| self.columns.role(*column) != Some(Role::Note) || texts[*column].len() < 24);
        let condition = conditions.filter_map(|(_, text)| prose::condition(text)).next();
        let direction = ends.direction.unwrap_or(Direction::OneWay);
        let names_neither = ends.sources.is_empty() && ends.destinations.is_empty();
        if direction == Direction::Unknown && names_neither {
            self.endless.get_or_insert((row.span.clone(), 0)).1 += 1;
        } else if direction == Direction::Unknown {
            let diagnostic = Diagnostic::warning("RW1004", "the row does not say who opens the connection")
                .at(self.reading.span(row.span.clone()), "no direction")
                .help("write the rule by hand; the row is kept as a comment in the policy");
            if self.reading.diagnostics.last() != Some(&diagnostic) {
                self.reading.diagnostics.push(diagnostic);
            }
        } else if ends.sources.is_empty() || ends.destinations.is_empty() {
            let missing = (ends.sources.is_empty(), ends.destinations.is_empty());
            self.incomplete.get_or_insert((row.span.clone(), missing));
        }
        let draft = Draft {
            action,
            sources: &ends.sources,
            source_port: source_port.clone(),
            destinations: &ends.destinations,
            services,
            label: without_condition(&label),
            note,
            condition,
            direction,
            inferred: ends.inferred,
        };
        self.reading.emit(draft, row.span.clone(), number);
    }

    /// "TCP" and "UDP" as columns of ticks beside a column of ports.
    fn ticked_protocols(&self, texts: &[Arc<str>]) -> protocols::Protocols {
        let is_ticked = |role| self.columns.of(role).is_some_and(|column| words::is_yes(&texts[column]));
        let mut found = protocols::Protocols::default();
        found.transports.extend(is_ticked(Role::TcpPort).then_some(Transport::Is(Protocol::TCP)));
        found.transports.extend(is_ticked(Role::UdpPort).then_some(Transport::Is(Protocol::UDP)));
        found
    }

    /// The text of a column of remarks. A bare "yes" means little without its header, a "no" nothing.
    fn remark(&self, column: usize, text: &str) -> Option<String> {
        let text = one_line(text);
        let header = self.table.header.get(column).map_or("", |cell| &*cell.text);
        match text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or("").to_lowercase().as_str() {
            "no" if text.len() <= 3 => None,
            "yes" | "x" | "true" if text.len() < 40 => Some(format!("{}: {text}", one_line(header))),
            _ => Some(text),
        }
    }

    fn action(&self, texts: &[Arc<str>]) -> Result<Action, String> {
        let Some(text) = self.columns.of(Role::Action).map(|column| texts[column].trim().to_lowercase()) else {
            let group = self.group.as_deref().is_some_and(words::denies);
            let says_so = self.columns.all(Role::Note).any(|column| words::is_denial(&texts[column]));
            let is_denied = self.reading.context.is_denied || group || says_so;
            return Ok(if is_denied { Action::Deny } else { Action::Allow });
        };
        let first = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or("");
        match first {
            "" | "allow" | "allowed" | "permit" | "permitted" | "accept" | "pass" | "open" | "yes" | "enable"
            | "allows" | "required" => Ok(Action::Allow),
            "deny" | "denied" | "block" | "blocked" | "drop" | "reject" | "forbid" | "forbidden" | "closed" => {
                Ok(Action::Deny)
            }
            _ => Err(format!("`{text}` is neither allow nor deny")),
        }
    }
}

fn without_condition(label: &str) -> String {
    match (prose::condition(label), label.split_once('(')) {
        (Some(_), Some((name, _))) => name.trim().to_owned(),
        _ => label.to_owned(),
    }
}
