//! What each column of a table holds.
//!
//! In: the header, and the cells where the header does not say. Out: [`Columns`]. Never: a position
//! that matters; columns may stand in any order.

use crate::cell;
use crate::document::{Cell, Row, Table};
use crate::header::role;
use crate::said;
use crate::words;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Source,
    SourceAddress,
    SourcePort,
    Destination,
    DestinationAddress,
    Port,
    /// Ports of one protocol, which the header names.
    TcpPort,
    UdpPort,
    PortStart,
    PortEnd,
    Protocol,
    Service,
    Note,
    Direction,
    /// The machine that the row is about; `Direction` says which end it is.
    Node,
    /// The other end of `Node`.
    Peer,
    Action,
    /// Ports that the node accepts, or opens connections to.
    Inbound,
    Outbound,
    /// A tick where either end opens connections.
    BothWays,
    Ignored,
}

pub(crate) const PORTS: [Role; 6] =
    [Role::Port, Role::TcpPort, Role::UdpPort, Role::PortStart, Role::Inbound, Role::Outbound];

/// Which column has which role, by index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Columns(Vec<Option<Role>>);

impl Columns {
    pub fn of(&self, role: Role) -> Option<usize> {
        self.0.iter().position(|candidate| *candidate == Some(role))
    }

    pub fn all(&self, role: Role) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().filter(move |(_, candidate)| **candidate == Some(role)).map(|(index, _)| index)
    }

    pub fn role(&self, column: usize) -> Option<Role> {
        self.0.get(column).copied().flatten()
    }

    pub fn has(&self, role: Role) -> bool {
        self.of(role).is_some()
    }

    pub fn has_ports(&self) -> bool {
        PORTS.into_iter().any(|role| self.has(role))
    }

    fn set(&mut self, column: usize, role: Role) {
        self.0[column] = Some(role);
    }
}

/// Rows that are looked at when a header says too little.
const SAMPLE: usize = 200;

/// `None` when it is not a table of ports. True: the header is a row itself.
pub(crate) fn columns(table: &Table) -> Option<(Columns, bool)> {
    let mut columns = by_header(&table.header);
    let sample = &table.rows[..table.rows.len().min(SAMPLE)];
    if !columns.has_ports() {
        by_content(&mut columns, sample)?;
        let is_row = !columns.has(Role::Source) && header_is_row(table, &columns);
        return Some((columns, is_row));
    }
    // A column that is named after ports may hold something else, such as serial ports.
    let is_readable = |role| {
        columns.all(role).any(|column| {
            sample.iter().any(|row| row.cells.get(column).is_some_and(|cell| cell::may_hold_ports(&cell.text)))
        })
    };
    let holds_ports = PORTS.into_iter().any(is_readable);
    let speaks_of_traffic = [Role::Protocol, Role::Source, Role::Destination, Role::Direction, Role::Peer]
        .iter()
        .any(|role| columns.has(*role));
    let is_named = columns.has(Role::Port) && speaks_of_traffic;
    if !speaks_of_traffic && table.header.iter().any(|cell| is_hardware(&cell.text)) {
        return None;
    }
    if !(holds_ports || is_named) {
        // "Inbound:" over a column of protocols is a title.
        let titles: Vec<usize> = columns.all(Role::Inbound).chain(columns.all(Role::Outbound)).collect();
        let mut columns = Columns(vec![None; table.header.len()]);
        by_content(&mut columns, sample).filter(|()| !titles.is_empty())?;
        return Some((columns, false));
    }
    refine(&mut columns, table, sample);
    Some((columns, false))
}

/// Columns beside which "ports" are sockets of a device.
fn is_hardware(header: &str) -> bool {
    const WORDS: [&str; 14] = [
        "speed",
        "model",
        "sku",
        "vlan",
        "connector",
        "throughput",
        "cable",
        "rack",
        "slot",
        "led",
        "bandwidth",
        "poe",
        "media",
        "uplink",
    ];
    header.to_lowercase().split(|c: char| !c.is_alphanumeric()).any(|word| WORDS.contains(&word))
}

/// Whether a line of a CSV file names columns of ports.
pub(crate) fn is_header(cells: &[Cell]) -> bool {
    let columns = by_header(cells);
    let roles = columns.0.iter().flatten().filter(|role| **role != Role::Ignored).count();
    let holds_value = |cell: &Cell| words::is_any(&cell.text) || cell.text.starts_with(|c: char| c.is_ascii_digit());
    columns.has_ports() && roles >= 2 && !cells.iter().any(|cell| holds_value(cell) || cell::is_explicit(&cell.text))
}

fn by_header(header: &[Cell]) -> Columns {
    let mut columns = Columns(header.iter().map(|cell| role(&cell.text)).collect());
    // "Feature A" and "Feature B": the ends on the two sides of an arrow.
    for (first, second) in [(" a", " b"), (" 1", " 2")] {
        let find = |ending: &str| header.iter().position(|cell| cell.text.trim().to_lowercase().ends_with(ending));
        if let (Some(a), Some(b)) = (find(first), find(second)) {
            columns.set(a, Role::Source);
            columns.set(b, Role::Destination);
        }
    }
    columns
}

/// Settles what only the whole table can say.
fn refine(columns: &mut Columns, table: &Table, sample: &[Row]) {
    let share = |column: usize, test: &dyn Fn(&str) -> bool| {
        let texts = sample.iter().filter_map(|row| row.cells.get(column)).map(|cell| &*cell.text);
        let (mut yes, mut all) = (0_usize, 0_usize);
        for text in texts.filter(|text| !words::is_blank(text)) {
            all += 1;
            yes += usize::from(test(text));
        }
        all > 0 && yes * 2 > all
    };
    // Of two columns with protocols, the one with TCP and UDP is the transport and the other a service.
    let protocols: Vec<_> = columns.all(Role::Protocol).collect();
    if let [_, _, ..] = protocols[..] {
        let transport = protocols.iter().copied().find(|column| share(*column, &is_transport));
        for column in protocols {
            if Some(column) != transport.or(columns.of(Role::Protocol)) {
                columns.set(column, Role::Service);
            }
        }
    }
    // "Type" or "Service" may be the protocol's column.
    if !columns.has(Role::Protocol) {
        let candidates: Vec<_> = (0..table.header.len())
            .filter(|column| {
                matches!(columns.role(*column), None | Some(Role::Service | Role::Note | Role::Ignored | Role::Node))
            })
            .collect();
        let names_one = |text: &str| is_transport(text) && !words::is_any(text);
        let is_protocol = |column: &usize| {
            share(*column, &is_transport)
                && sample.iter().any(|row| row.cells.get(*column).is_some_and(|cell| names_one(&cell.text)))
        };
        if let Some(column) = candidates.into_iter().find(is_protocol) {
            columns.set(column, Role::Protocol);
        }
    }
    // Two columns of ports, each behind its end: "Source, Port, Destination, Port".
    let ports: Vec<_> = columns.all(Role::Port).collect();
    if let ([first, second], Some(source), Some(destination)) =
        (&ports[..], columns.of(Role::Source), columns.of(Role::Destination))
        && source < *first
        && *first < destination
        && destination < *second
    {
        columns.set(*first, Role::SourcePort);
    }
    // Two columns of ports: the second is a remark unless the first has none.
    let ports: Vec<_> = columns.all(Role::Port).collect();
    if let [first, rest @ ..] = &ports[..]
        && !rest.is_empty()
    {
        let best = ports.iter().copied().find(|column| share(*column, &cell::may_hold_ports)).unwrap_or(*first);
        for column in ports.iter().filter(|column| **column != best) {
            columns.set(*column, Role::Note);
        }
    }
    // A column of "web -> store", whatever its header.
    let joins = |text: &str| {
        cell::arrow(text).is_some_and(|(left, _, right)| !left.trim().is_empty() && !right.trim().is_empty())
    };
    if !columns.has(Role::Direction)
        && let Some(column) =
            (0..table.header.len()).find(|column| columns.role(*column) != Some(Role::Port) && share(*column, &joins))
    {
        columns.set(column, Role::Direction);
    }
    // A column of nothing but arrows.
    let is_arrow = |text: &str| {
        cell::arrow(text).is_some_and(|(left, _, right)| left.trim().is_empty() && right.trim().is_empty())
    };
    if !columns.has(Role::Direction)
        && let Some(column) = (0..table.header.len()).find(|column| share(*column, &is_arrow))
    {
        columns.set(column, Role::Direction);
    }
    // "Inbound" and "outbound", whatever the header.
    let is_flowing = |text: &str| words::flowing(text).is_some() && text.split_whitespace().count() == 1;
    if !columns.has(Role::Direction)
        && let Some(column) = (0..table.header.len()).find(|column| share(*column, &is_flowing))
    {
        columns.set(column, Role::Direction);
    }
    // "Console to server", whatever the header.
    let names_both = |text: &str| !said::heading_ends(text).is_empty();
    let ends = [Role::Source, Role::Destination, Role::Direction, Role::Peer];
    let may_name = |column: usize| !matches!(columns.role(column), Some(Role::Port | Role::Note));
    if !ends.into_iter().any(|role| columns.has(role))
        && let Some(column) = (0..table.header.len()).find(|column| may_name(*column) && share(*column, &names_both))
    {
        columns.set(column, Role::Direction);
    }
    // "From" and the like over "yes" and "no" asks a question.
    for column in 0..table.header.len() {
        let is_end = matches!(columns.role(column), Some(Role::Source | Role::Destination | Role::Peer | Role::Node));
        if is_end && share(column, &words::is_yes_or_no) {
            columns.set(column, Role::Note);
        }
    }
    // Columns "Inbound" and "Outbound" hold ports, or ticks beside a column of ports, or the other end.
    for (role, end) in [(Role::Inbound, Role::Source), (Role::Outbound, Role::Destination)] {
        let Some(column) = columns.of(role) else {
            continue;
        };
        if columns.has(Role::Port) && !share(column, &words::is_yes_or_no) {
            columns.set(column, if columns.has(end) { Role::Note } else { end });
        } else if !columns.has(Role::Port) && !share(column, &cell::may_hold_ports) {
            columns.set(column, Role::Note);
        }
    }
    for roles in [[Role::Source, Role::SourceAddress], [Role::Destination, Role::DestinationAddress]] {
        let all: Vec<_> = columns.all(roles[0]).collect();
        if let [_, rest @ ..] = &all[..] {
            for column in rest {
                columns.set(*column, roles[1]);
            }
        } else if all.is_empty()
            && let Some(column) = columns.of(roles[1])
        {
            columns.set(column, roles[0]);
        }
    }
}

fn is_transport(text: &str) -> bool {
    let text = text.to_lowercase();
    let mut words =
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty() && *word != "and" && *word != "or");
    let is_known = |word: &str| words::protocol(word).is_some() || word == "any" || word == "all";
    words.clone().next().is_some() && words.all(is_known)
}

/// Finds ports and protocols where the header names neither. Only cells that leave no doubt count:
/// `443/tcp`, or plain numbers beside a column of TCP and UDP.
fn by_content(columns: &mut Columns, sample: &[Row]) -> Option<()> {
    let width = columns.0.len();
    let share = |column: usize, test: &dyn Fn(&str) -> bool| {
        let all = sample.len();
        let yes = sample.iter().filter(|row| row.cells.get(column).is_some_and(|cell| test(&cell.text))).count();
        all > 0 && yes * 10 >= all * 6
    };
    if let Some(column) = (0..width).find(|column| share(*column, &|text| cell::is_explicit(text))) {
        columns.set(column, Role::Port);
    } else {
        let protocol =
            columns.of(Role::Protocol).or_else(|| (0..width).find(|column| share(*column, &is_transport)))?;
        let port =
            (0..width).find(|column| *column != protocol && share(*column, &|text| cell::may_hold_ports(text)))?;
        columns.set(protocol, Role::Protocol);
        columns.set(port, Role::Port);
    }
    if let Some(column) = (0..width).find(|column| columns.role(*column).is_none()) {
        columns.set(column, Role::Service);
    }
    Some(())
}

fn header_is_row(table: &Table, columns: &Columns) -> bool {
    let port = columns.of(Role::Port).and_then(|column| table.header.get(column));
    port.is_some_and(|cell| cell::may_hold_ports(&cell.text))
}
