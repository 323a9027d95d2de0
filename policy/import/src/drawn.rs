//! Tables that are drawn with lines → tables.
//!
//! In: lines such as `+-----+-----+` with text between them, or columns under `===== =====`, as
//! reStructuredText and terminals write them. Out: a table. Never: a column that is cut where no line says so.

use crate::cell;
use crate::document::{Cell, Row, Table};
use crate::markdown::plain;
use std::ops::Range;

/// `None` when the lines are not such a table.
pub(crate) fn table(text: &str, span: Range<usize>) -> Option<Table> {
    let mut start = span.start;
    let lines: Vec<(Range<usize>, &str)> = text[span]
        .split_inclusive('\n')
        .map(|line| {
            let range = start..start + line.trim_end().len();
            start += line.len();
            (range, line.trim_end())
        })
        .filter(|(_, line)| !line.is_empty())
        .collect();
    let indent = lines.first().map(|(_, line)| line.len() - line.trim_start().len())?;
    let lines: Vec<_> = lines.into_iter().map(|(range, line)| (range, line.get(indent..).unwrap_or(""))).collect();
    grid(&lines).or_else(|| simple(&lines))
}

type Line<'a> = (Range<usize>, &'a str);

fn is_border(line: &str) -> bool {
    line.len() > 2 && line.starts_with('+') && line.bytes().all(|byte| matches!(byte, b'+' | b'-' | b'='))
}

fn grid(lines: &[Line<'_>]) -> Option<Table> {
    let borders: Vec<usize> = (0..lines.len()).filter(|index| is_border(lines[*index].1)).collect();
    if borders.first() != Some(&0) || borders.len() < 2 {
        return None;
    }
    // The finest of the borders has all corners.
    let finest = borders.iter().map(|index| lines[*index].1).max_by_key(|line| line.matches('+').count())?;
    let corners: Vec<usize> = finest.chars().enumerate().filter(|(_, c)| *c == '+').map(|(index, _)| index).collect();
    let columns: Vec<Range<usize>> = corners.windows(2).map(|pair| pair[0] + 1..pair[1]).collect();
    let mut building = Building::new(columns.len());
    for (range, line) in &lines[1..] {
        let chars: Vec<char> = line.chars().collect();
        let part = |range: &Range<usize>| chars.get(range.start..range.end.min(chars.len())).unwrap_or(&[]);
        let is_rule = |range: &Range<usize>| {
            let part = part(range);
            part.len() == range.len() && (part.iter().all(|c| *c == '-') || part.iter().all(|c| *c == '='))
        };
        if columns.iter().any(is_rule) {
            building.end_row(&columns.iter().map(|column| !is_rule(column)).collect::<Vec<_>>());
            continue;
        }
        if !line.starts_with('|') {
            return None;
        }
        let mut first = 0;
        for (index, column) in columns.iter().enumerate() {
            // A cell ends where a line stands, so that one over several columns is one.
            if chars.get(column.end).is_none_or(|c| *c == '|') {
                let text: String = part(&(columns[first].start..column.end)).iter().collect();
                building.add(first..index + 1, text.trim(), range);
                first = index + 1;
            }
        }
    }
    building.finish()
}

/// Columns under and over lines of `=`.
fn simple(lines: &[Line<'_>]) -> Option<Table> {
    let is_rule = |line: &str| {
        line.contains("= =") | line.contains("=  =") && line.bytes().all(|byte| matches!(byte, b'=' | b' '))
    };
    let rules = lines.iter().filter(|(_, line)| is_rule(line)).count();
    if rules < 2 || !is_rule(lines.first()?.1) {
        return None;
    }
    let rule: Vec<char> = lines[0].1.chars().collect();
    let starts: Vec<usize> =
        (0..rule.len()).filter(|index| rule[*index] == '=' && (*index == 0 || rule[*index - 1] == ' ')).collect();
    let mut building = Building::new(starts.len());
    for (range, line) in &lines[1..] {
        let chars: Vec<char> = line.chars().collect();
        let text = |index: usize| -> String {
            let end = starts.get(index + 1).copied().unwrap_or(chars.len()).min(chars.len());
            chars.get(starts[index]..end).unwrap_or(&[]).iter().collect::<String>().trim().to_owned()
        };
        // A line without its first column goes on with the row above.
        if is_rule(line) || !text(0).is_empty() {
            building.end_row(&[]);
        }
        if !is_rule(line) {
            (0..starts.len()).for_each(|index| building.add(index..index + 1, &text(index), range));
        }
    }
    building.end_row(&[]);
    building.finish()
}

struct Building {
    table: Table,
    /// The lines of each cell of the row at hand.
    texts: Vec<Vec<String>>,
    /// Cells that go on from the row above.
    carried: Vec<bool>,
    span: Option<Range<usize>>,
}

impl Building {
    fn new(width: usize) -> Self {
        Self { table: Table::default(), texts: vec![Vec::new(); width], carried: vec![false; width], span: None }
    }

    fn add(&mut self, columns: Range<usize>, text: &str, line: &Range<usize>) {
        let start = self.span.as_ref().map_or(line.start, |span| span.start);
        self.span = Some(start..line.end);
        for column in columns {
            if !text.is_empty() && !self.carried[column] {
                self.texts[column].push(text.to_owned());
            }
        }
    }

    /// `goes_on`: columns whose cell reaches below the line.
    fn end_row(&mut self, goes_on: &[bool]) {
        let Some(span) = self.span.take() else {
            return;
        };
        let cells: Vec<Cell> = (0..self.texts.len())
            .map(|column| {
                let mut cell = Cell::new(joined(&self.texts[column]), span.clone());
                cell.is_spanned = self.carried[column];
                cell
            })
            .collect();
        for column in 0..self.texts.len() {
            self.carried[column] = goes_on.get(column) == Some(&true);
            if !self.carried[column] {
                self.texts[column].clear();
            }
        }
        if self.table.header.is_empty() {
            self.table.header = cells;
        } else {
            self.table.rows.push(Row { cells, span, is_wider: false });
        }
    }

    fn finish(self) -> Option<Table> {
        (self.table.header.len() > 1 && !self.table.rows.is_empty()).then_some(self.table)
    }
}

/// Lines of ports stay lines; a name that was wrapped is one.
fn joined(lines: &[String]) -> String {
    let lines: Vec<String> = lines.iter().map(|line| plain(line)).collect();
    let are_ports = lines.iter().all(|line| cell::may_hold_ports(line));
    lines.join(if are_ports { "\n" } else { " " })
}
