//! Tables that don't have one flow a row → tables that have.
//!
//! In: a table. Out: the same facts with a header of columns, where it was a matrix of ends, had its
//! fields down the side, or its ports across the top. Never: a cell of ports that is left out.

use crate::cell;
use crate::column::Role;
use crate::document::{Cell, Row, Table};
use crate::header::role;
use crate::words::{self, Flowing};
use crate::{MAX_ROWS, column};

/// `None` where a row is a flow already. True: that rows are sources is the custom, and not said.
pub(crate) fn straighten(table: &Table) -> Option<(Table, bool)> {
    if table.header.len() < 2 || table.rows.is_empty() {
        return None;
    }
    matrix(table)
        .or_else(|| fields_down_the_side(table).map(|table| (table, false)))
        .or_else(|| ports_across_the_top(table).map(|table| (table, false)))
        .or_else(|| ways_across_the_top(table).map(|table| (table, false)))
}

/// A table under a line of its own that is only a title: the line is the caption.
pub(crate) fn without_title(table: &Table) -> Option<Table> {
    let first = table.rows.first().filter(|row| !row.is_wider)?;
    let is_title = !column::is_header(&table.header) && column::is_header(&first.cells);
    if !is_title || table.header.iter().any(|cell| cell::may_hold_ports(&cell.text)) {
        return None;
    }
    let mut words: Vec<&str> = Vec::new();
    for cell in table.header.iter().filter(|cell| !words::is_blank(&cell.text)) {
        if !words.contains(&&*cell.text) {
            words.push(&cell.text);
        }
    }
    let mut header = first.cells.clone();
    header.resize(table.header.len(), Cell::new("", first.span.clone()));
    Some(Table { caption: words.join(" "), header, rows: table.rows[1..].to_vec() })
}

fn header(names: &[&str], place: &Cell) -> Vec<Cell> {
    names.iter().map(|name| Cell::new(*name, place.span.clone())).collect()
}

/// Ends down and ends across, with ports where they meet.
fn matrix(table: &Table) -> Option<(Table, bool)> {
    let corner = table.header[0].text.to_lowercase();
    let words: Vec<&str> = corner.split(|c: char| !c.is_alphanumeric()).collect();
    let place = |list: &[&str]| words.iter().position(|word| list.contains(word));
    let from = place(&["from", "source", "src", "client"]);
    let to = place(&["to", "destination", "dest", "target", "server"]);
    let is_said = from.is_some() && to.is_some();
    let is_column = |cell: &Cell| matches!(role(&cell.text), Some(role) if column::PORTS.contains(&role) || matches!(role, Role::Protocol | Role::Direction));
    if table.header.len() < 3 || table.header[1..].iter().any(is_column) {
        return None;
    }
    let body =
        || table.rows.iter().flat_map(|row| row.cells.iter().skip(1)).filter(|cell| !words::is_blank(&cell.text));
    let readable = |cell: &&Cell| match is_said {
        true => cell::may_hold_ports(&cell.text),
        false => cell::is_explicit(&cell.text),
    };
    let count = body().filter(readable).count();
    let is_end = |row: &Row| {
        let name = row.cells.first().map_or("", |cell| &*cell.text);
        !name.is_empty() && table.header[1..].iter().any(|head| head.text.eq_ignore_ascii_case(name))
    };
    let is_matrix = count > 0 && count * 2 >= body().count() && (is_said || table.rows.iter().any(is_end));
    if !is_matrix {
        return None;
    }
    let heads = if from <= to { ["Source", "Destination", "Port"] } else { ["Destination", "Source", "Port"] };
    let mut straight =
        Table { caption: table.caption.clone(), header: header(&heads, &table.header[0]), ..Table::default() };
    for row in &table.rows {
        for (head, cell) in table.header.iter().zip(&row.cells).skip(1) {
            if !words::is_blank(&cell.text) && straight.rows.len() <= MAX_ROWS {
                let cells = vec![row.cells[0].clone(), head.clone(), cell.clone()];
                straight.rows.push(Row { cells, span: row.span.clone(), is_wider: false });
            }
        }
    }
    Some((straight, !is_said))
}

/// "Source", "Destination", "Port" in the first column, and a flow in each of the others.
fn fields_down_the_side(table: &Table) -> Option<Table> {
    const FEWEST: usize = 3;
    let side = || table.rows.iter().filter_map(|row| row.cells.first());
    let has = |wanted: &[Role]| side().any(|cell| role(&cell.text).is_some_and(|role| wanted.contains(&role)));
    let known = side().filter(|cell| role(&cell.text).is_some()).count();
    let is_turned = known >= FEWEST
        && known * 10 >= table.rows.len() * 8
        && has(&[Role::Port])
        && has(&[Role::Source, Role::Destination, Role::Protocol])
        && !table.header[1..].iter().any(|cell| role(&cell.text).is_some());
    if !is_turned {
        return None;
    }
    let mut straight = Table { caption: table.caption.clone(), ..Table::default() };
    let lines = || std::iter::once(&table.header).chain(table.rows.iter().map(|row| &row.cells));
    straight.header = lines().filter_map(|cells| cells.first().cloned()).collect();
    let port = side().position(|cell| role(&cell.text) == Some(Role::Port))?;
    for column in 1..table.header.len() {
        let empty = Cell::new("", table.header[column].span.clone());
        let cells: Vec<_> = lines().map(|cells| cells.get(column).cloned().unwrap_or_else(|| empty.clone())).collect();
        straight.rows.push(Row { span: cells[port + 1].span.clone(), cells, is_wider: false });
    }
    Some(straight)
}

/// `22/tcp`, `443/tcp` as headers, with a tick where a machine listens.
fn ports_across_the_top(table: &Table) -> Option<Table> {
    let ports: Vec<usize> =
        (0..table.header.len()).filter(|column| cell::is_explicit(&table.header[*column].text)).collect();
    let others: Vec<usize> = (0..table.header.len()).filter(|column| !ports.contains(column)).collect();
    let name = *others.first()?;
    let ticks = || table.rows.iter().flat_map(|row| ports.iter().filter_map(|port| row.cells.get(*port)));
    let are_ticks =
        ticks().any(|cell| words::is_yes(&cell.text)) && !ticks().any(|cell| cell::may_hold_ports(&cell.text));
    if ports.len() < 2 || !are_ticks {
        return None;
    }
    let mut straight = Table { caption: table.caption.clone(), ..Table::default() };
    straight.header = others.iter().map(|column| table.header[*column].clone()).collect();
    if !matches!(role(&table.header[name].text), Some(Role::Source | Role::Destination)) {
        let at = others.iter().position(|column| *column == name)?;
        straight.header[at] = header(&["Node"], &table.header[name]).remove(0);
    }
    straight.header.extend(header(&["Port", "Note"], &table.header[ports[0]]));
    for row in &table.rows {
        for port in &ports {
            let Some(cell) =
                row.cells.get(*port).filter(|cell| !words::is_blank(&cell.text) && !words::is_no(&cell.text))
            else {
                continue;
            };
            let empty = Cell::new("", cell.span.clone());
            let mut cells: Vec<_> =
                others.iter().map(|column| row.cells.get(*column).unwrap_or(&empty).clone()).collect();
            cells.push(table.header[*port].clone());
            cells.push(if words::is_yes(&cell.text) { empty } else { cell.clone() });
            if straight.rows.len() <= MAX_ROWS {
                straight.rows.push(Row { cells, span: row.span.clone(), is_wider: false });
            }
        }
    }
    Some(straight)
}

/// "Inbound TCP", "Inbound UDP", "Outbound TCP": a column for each way and protocol.
fn ways_across_the_top(table: &Table) -> Option<Table> {
    let way = |cell: &Cell| {
        let text = cell.text.to_lowercase();
        let flowing = words::flowing_in_prose(&text)?;
        let protocol = ["tcp", "udp"].into_iter().find(|name| text.contains(name))?;
        (text.split_whitespace().count() <= 3).then_some((flowing, protocol))
    };
    let ways: Vec<usize> = (0..table.header.len()).filter(|column| way(&table.header[*column]).is_some()).collect();
    if ways.len() < 2 {
        return None;
    }
    let others: Vec<usize> = (0..table.header.len()).filter(|column| !ways.contains(column)).collect();
    let mut straight = Table { caption: table.caption.clone(), ..Table::default() };
    straight.header = others.iter().map(|column| table.header[*column].clone()).collect();
    straight.header.extend(header(&["Direction", "Protocol", "Port"], &table.header[ways[0]]));
    for row in &table.rows {
        for column in &ways {
            let (Some(cell), Some((flowing, protocol))) = (row.cells.get(*column), way(&table.header[*column])) else {
                continue;
            };
            if words::is_blank(&cell.text) || straight.rows.len() > MAX_ROWS {
                continue;
            }
            let new = |text: &str| Cell::new(text, cell.span.clone());
            let mut cells: Vec<_> =
                others.iter().map(|column| row.cells.get(*column).cloned().unwrap_or_else(|| new(""))).collect();
            cells.extend([
                new(if flowing == Flowing::Inbound { "inbound" } else { "outbound" }),
                new(protocol),
                cell.clone(),
            ]);
            straight.rows.push(Row { cells, span: row.span.clone(), is_wider: false });
        }
    }
    Some(straight)
}
