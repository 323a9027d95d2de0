//! HTML inside Markdown → blocks.
//!
//! In: where an HTML block begins. Out: the headings, texts, tabs and tables in it, cells that span
//! rows or columns repeated. Never: scripts, styles, or more than [`WIDTH`] columns.

use crate::MAX_ROWS;
use crate::document::{Block, Cell, GLUE, Row, Table, one_line};
use html5gum::{DefaultEmitter, StartTag, Token, Tokenizer};
use std::ops::Range;

/// Columns of a table, with `colspan` counted. Wider tables are data, not port tables.
const WIDTH: usize = 32;

/// Reads the block, and a table that begins in it to its end, which may lie behind blank lines.
/// Gives the place where it stopped. `is_closed` turns false where the search for an end takes all of the
/// document, so that it is not made again for each of many.
pub(crate) fn read(text: &str, span: Range<usize>, is_closed: &mut bool, blocks: &mut Vec<Block>) -> usize {
    let has_table = text[span.clone()].to_ascii_lowercase().contains("<table");
    let stop = if has_table && *is_closed { text.len() } else { span.end };
    let mut reader = Reader { base: span.start, ..Reader::default() };
    let mut is_exhausted = true;
    let emitter = DefaultEmitter::<usize>::new_with_span();
    for token in Tokenizer::new_with_emitter(&text[span.start..stop], emitter) {
        let Ok(token) = token;
        let place = match token {
            Token::StartTag(tag) => {
                let place = span.start + tag.span.start;
                if place >= span.end && reader.tables.is_empty() {
                    reader.flush(place);
                    blocks.append(&mut reader.blocks);
                    return place.min(stop);
                }
                reader.open(&tag);
                place
            }
            Token::EndTag(tag) => {
                let end = span.start + tag.span.end;
                reader.close(&String::from_utf8_lossy(&tag.name), end);
                end
            }
            Token::String(string) => {
                let place = span.start + string.span.start;
                if place < span.end || !reader.tables.is_empty() {
                    reader.push(&String::from_utf8_lossy(&string.value), place);
                }
                place
            }
            _ => continue,
        };
        if place >= span.end && reader.tables.is_empty() {
            is_exhausted = false;
            break;
        }
        reader.end = reader.end.max(place);
    }
    *is_closed &= !is_exhausted || stop == span.end;
    while !reader.tables.is_empty() {
        reader.close("table", stop);
    }
    reader.flush(stop);
    blocks.append(&mut reader.blocks);
    reader.end.min(stop)
}

/// `br` for `<br />`, `/sup` for `</sup>`.
pub(crate) fn tag_name(tag: &str) -> &str {
    let name = tag.trim_start_matches('<');
    name.split([' ', '>', '\n', '\t']).next().unwrap_or(name)
}

/// Whether the name is one of an element, and not a placeholder in pointed brackets.
pub(crate) fn is_known(name: &str) -> bool {
    const NAMES: [&str; 52] = [
        "a",
        "abbr",
        "b",
        "big",
        "blockquote",
        "br",
        "caption",
        "center",
        "cite",
        "code",
        "col",
        "colgroup",
        "dd",
        "del",
        "details",
        "div",
        "dl",
        "dt",
        "em",
        "font",
        "h1",
        "h2",
        "h3",
        "h4",
        "hr",
        "i",
        "img",
        "ins",
        "kbd",
        "label",
        "li",
        "mark",
        "nobr",
        "ol",
        "p",
        "pre",
        "s",
        "small",
        "span",
        "strike",
        "strong",
        "sub",
        "sup",
        "table",
        "tbody",
        "td",
        "th",
        "tr",
        "tt",
        "u",
        "ul",
        "wbr",
    ];
    let bare = name.trim_matches('/').to_ascii_lowercase();
    // Components are written with capitals inside or with a dash, as `TabItem`.
    NAMES.contains(&bare.as_str()) || bare.contains(['-', '!', ':']) || is_component(name)
}

fn is_component(name: &str) -> bool {
    let bare = name.trim_matches('/');
    bare.starts_with(|c: char| c.is_ascii_uppercase()) && bare.chars().any(|c| c.is_ascii_lowercase())
}

pub(crate) fn is_tab(tag: &str) -> bool {
    matches!(tag_name(tag).trim_start_matches('/').to_ascii_lowercase().as_str(), "tabitem" | "tab")
}

#[derive(Default)]
struct Reader {
    base: usize,
    end: usize,
    blocks: Vec<Block>,
    prose: String,
    prose_start: usize,
    heading: u8,
    is_item: bool,
    superscript: u32,
    /// Text that isn't shown: script, style.
    hidden: u32,
    /// The tables that are open, innermost last; only the outermost gives rows.
    tables: Vec<Building>,
}

#[derive(Default)]
struct Building {
    table: Table,
    is_head: bool,
    header_rows: Vec<Vec<Cell>>,
    row: Vec<Cell>,
    row_start: usize,
    is_in_row: bool,
    /// All cells of the row so far are `th`.
    is_header_row: bool,
    cell: Option<(String, usize, usize, usize)>,
    caption: Option<String>,
    /// Cells that reach into later rows, by column: how many rows still.
    carried: Vec<Option<(Cell, usize)>>,
}

impl Reader {
    fn open(&mut self, tag: &StartTag<usize>) {
        let name = String::from_utf8_lossy(&tag.name).into_owned();
        let place = self.base + tag.span.start;
        let number = |key: &str| {
            let value = tag.attributes.get(key.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned());
            value.and_then(|value| value.trim().parse::<usize>().ok()).unwrap_or(1).max(1)
        };
        let attribute = |key: &str| {
            tag.attributes.get(key.as_bytes()).map(|value| String::from_utf8_lossy(value).trim().to_owned())
        };
        match name.as_str() {
            "script" | "style" => self.hidden += 1,
            "sup" => self.superscript += 1,
            "br" | "p" | "li" | "div" if !self.tables.is_empty() => self.push("\n", place),
            "br" => self.push("\n", place),
            "table" => {
                if self.tables.is_empty() {
                    self.flush(place);
                } else {
                    self.push("\n", place);
                }
                self.tables.push(Building::default());
            }
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" if self.tables.is_empty() => {
                self.flush(place);
                self.heading = name.as_bytes()[1] - b'0';
            }
            "p" | "div" | "ul" | "ol" | "summary" => self.flush(place),
            "li" => {
                self.flush(place);
                self.is_item = true;
            }
            "tabitem" | "tab" => {
                self.flush(place);
                let title = attribute("label").or_else(|| attribute("value")).or_else(|| attribute("title"));
                let span = place..self.base + tag.span.end;
                self.blocks.push(Block::Tab { title: title.unwrap_or_default(), span });
            }
            _ if self.tables.len() == 1 => {
                let building = &mut self.tables[0];
                match name.as_str() {
                    "caption" => building.caption = Some(String::new()),
                    "thead" => building.is_head = true,
                    "tbody" | "tfoot" => {
                        building.end_row(place);
                        building.is_head = false;
                    }
                    "tr" => {
                        building.end_row(place);
                        building.begin_row(place);
                    }
                    "td" | "th" => {
                        building.end_cell(place);
                        if !building.is_in_row {
                            building.begin_row(place);
                        }
                        building.is_header_row &= name == "th";
                        building.cell = Some((String::new(), place, number("colspan"), number("rowspan")));
                    }
                    _ => {}
                }
            }
            "td" | "th" | "tr" => self.push("\n", place),
            _ => {}
        }
    }

    fn close(&mut self, name: &str, end: usize) {
        match name {
            "script" | "style" => self.hidden = self.hidden.saturating_sub(1),
            "sup" => self.superscript = self.superscript.saturating_sub(1),
            "table" => {
                if let Some(mut building) = self.tables.pop()
                    && self.tables.is_empty()
                {
                    building.end_row(end);
                    self.blocks.push(Block::Table(building.finish()));
                    self.end = self.end.max(end);
                }
            }
            "tabitem" | "tab" => {
                self.flush(end);
                self.blocks.push(Block::TabEnd);
            }
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "p" | "li" | "div" if self.tables.is_empty() => self.flush(end),
            "p" | "li" | "div" => self.push("\n", end),
            "td" | "th" if self.tables.len() == 1 => self.tables[0].end_cell(end),
            "tr" if self.tables.len() == 1 => self.tables[0].end_row(end),
            "thead" if self.tables.len() == 1 => {
                self.tables[0].end_row(end);
                self.tables[0].is_head = false;
            }
            "caption" if self.tables.len() == 1 => {
                let caption = self.tables[0].caption.take().unwrap_or_default();
                self.tables[0].table.caption = one_line(&caption);
            }
            _ => {}
        }
    }

    fn push(&mut self, text: &str, place: usize) {
        if self.hidden > 0 || self.superscript > 0 {
            return;
        }
        let target = match self.tables.first_mut() {
            None => {
                if self.prose.is_empty() {
                    self.prose_start = place;
                }
                &mut self.prose
            }
            Some(Building { caption: Some(caption), .. }) => caption,
            Some(Building { cell: Some((cell, ..)), .. }) => cell,
            Some(_) => return,
        };
        let is_digit = |end: Option<char>| end.is_some_and(|end| end.is_ascii_digit());
        if is_digit(target.chars().next_back()) && is_digit(text.chars().next()) {
            target.push(GLUE);
        }
        // Line ends in the source mean no more than a space; those of tags are alone.
        match text {
            "\n" => target.push('\n'),
            text => target.push_str(&text.replace(['\n', '\r'], " ")),
        }
    }

    fn flush(&mut self, end: usize) {
        let text = tidy(&std::mem::take(&mut self.prose));
        let (level, is_item) = (std::mem::take(&mut self.heading), std::mem::take(&mut self.is_item));
        let span = self.prose_start..end.max(self.prose_start);
        if text.is_empty() {
            return;
        }
        self.blocks.push(match (level, is_item) {
            (0, true) => Block::Item { text, key: String::new(), depth: 1, span },
            (0, false) => Block::Paragraph { text, span },
            (level, _) => Block::Heading { level, text: one_line(&text), span },
        });
    }
}

impl Building {
    fn begin_row(&mut self, place: usize) {
        self.row_start = place;
        self.is_in_row = true;
        self.is_header_row = true;
    }

    fn carry(&mut self) {
        while let Some(Some((cell, rows))) = self.carried.get_mut(self.row.len()) {
            let mut cell = cell.clone();
            cell.is_spanned = true;
            *rows -= 1;
            let is_done = *rows == 0;
            let column = self.row.len();
            self.row.push(cell);
            if is_done {
                self.carried[column] = None;
            }
        }
    }

    fn end_cell(&mut self, end: usize) {
        let Some((text, start, columns, rows)) = self.cell.take() else {
            return;
        };
        self.carry();
        let text = tidy(&text);
        let text = if text.contains(['*', '`']) { crate::markdown::plain(&text) } else { text };
        let mut cell = Cell::new(text, start..end);
        for _ in 0..columns {
            if self.row.len() >= WIDTH {
                return;
            }
            if rows > 1 {
                let column = self.row.len();
                self.carried.resize(self.carried.len().max(column + 1), None);
                self.carried[column] = Some((cell.clone(), rows - 1));
            }
            self.row.push(cell.clone());
            cell.is_spanned = true;
        }
    }

    fn end_row(&mut self, end: usize) {
        self.end_cell(end);
        if !std::mem::take(&mut self.is_in_row) {
            return;
        }
        self.carry();
        let cells = std::mem::take(&mut self.row);
        if cells.is_empty() {
            return;
        }
        if self.table.rows.is_empty() && (self.is_head || self.is_header_row) {
            self.header_rows.push(cells);
        } else if self.table.rows.len() <= MAX_ROWS {
            self.table.rows.push(Row { cells, span: self.row_start..end, is_wider: false });
        }
    }

    fn finish(mut self) -> Table {
        if self.header_rows.is_empty() && !self.table.rows.is_empty() {
            self.header_rows.push(self.table.rows.remove(0).cells);
        }
        let width = self.header_rows.iter().map(Vec::len).max().unwrap_or(0);
        for column in 0..width {
            let mut words: Vec<&str> = Vec::new();
            let cells: Vec<_> = self.header_rows.iter().filter_map(|row| row.get(column)).collect();
            for cell in &cells {
                if !words.contains(&&*cell.text) {
                    words.push(&cell.text);
                }
            }
            let span = cells.last().map_or(0..0, |cell| cell.span.clone());
            self.table.header.push(Cell::new(words.join(" "), span));
        }
        let rows = std::mem::take(&mut self.table.rows);
        self.table.rows = rows.into_iter().map(|row| row.fit(width)).collect();
        self.table
    }
}

/// Single spaces, no empty lines.
fn tidy(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(one_line).filter(|line| !line.is_empty()).collect();
    lines.join("\n")
}
