//! CSV → blocks.
//!
//! In: the text, with commas, semicolons or tabs. Out: its tables; a new one begins where a line reads
//! like a header. Never: a type for a value.

use crate::document::{Block, Cell, Row, Table};
use crate::{MAX_ROWS, column};
use csv::{ReaderBuilder, StringRecord};
use std::ops::Range;

pub(crate) fn read(text: &str, sink: &mut dyn FnMut(Block)) {
    let mut reader =
        ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter(text)).from_reader(text.as_bytes());
    let mut rows = 0;
    let mut table: Option<Table> = None;
    let mut record = StringRecord::new();
    let mut start = 0;
    loop {
        match reader.read_record(&mut record) {
            Ok(true) => {}
            Ok(false) => break,
            // Text is UTF-8 and any width is accepted; what else there is ends the file.
            Err(_) => break,
        }
        let begin = record.position().map_or(start, |position| usize::try_from(position.byte()).unwrap_or(start));
        start = usize::try_from(reader.position().byte()).unwrap_or(text.len());
        let span = trim(text, begin..start);
        let cells: Vec<_> = record.iter().map(|field| Cell::new(crate::markdown::plain(field), span.clone())).collect();
        if column::is_header(&cells) {
            table.take().map(without_empty_columns).map(Block::Table).into_iter().for_each(&mut *sink);
            table = Some(Table { header: cells, ..Table::default() });
        } else if let Some(table) = &mut table {
            let width = table.header.len();
            rows += 1;
            if rows > MAX_ROWS + 1 {
                break;
            }
            table.rows.push(Row { cells, span, is_wider: false }.fit(width));
        } else {
            let words: Vec<_> = cells.iter().map(|cell| &*cell.text).collect();
            sink(Block::Paragraph { text: words.join(" ").trim().to_owned(), span });
        }
    }
    table.map(without_empty_columns).map(Block::Table).into_iter().for_each(sink);
}

/// Spreadsheets leave columns beside the table.
fn without_empty_columns(mut table: Table) -> Table {
    let is_used = |column: usize| {
        std::iter::once(&table.header)
            .chain(table.rows.iter().map(|row| &row.cells))
            .any(|cells| cells.get(column).is_some_and(|cell| !cell.text.is_empty()))
    };
    let used: Vec<bool> = (0..table.header.len()).map(is_used).collect();
    let keep = |cells: &mut Vec<Cell>| {
        let mut column = 0;
        cells.retain(|_| {
            column += 1;
            used.get(column - 1) != Some(&false)
        });
    };
    keep(&mut table.header);
    table.rows.iter_mut().for_each(|row| keep(&mut row.cells));
    table
}

/// The one of `,`, `;` and tab that the first lines hold most of.
fn delimiter(text: &str) -> u8 {
    let head: String = text.lines().take(20).collect();
    let count = |byte: &u8| head.bytes().filter(|candidate| candidate == byte).count();
    [b',', b';', b'\t'].into_iter().max_by_key(|byte| (count(byte), *byte == b',')).unwrap_or(b',')
}

fn trim(text: &str, span: Range<usize>) -> Range<usize> {
    let raw = &text[span.clone()];
    let start = span.start + raw.len() - raw.trim_start().len();
    start..start + raw.trim().len()
}
