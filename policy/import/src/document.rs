//! A document as a row of blocks, whatever format it was written in.
//!
//! In: what the readers of Markdown, HTML and CSV found. Out: headings, texts and tables in order,
//! each with its place. Never: an idea of what a table means.

use std::ops::Range;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Block {
    Heading {
        level: u8,
        text: String,
        span: Range<usize>,
    },
    /// Opens one tab of several under a heading.
    Tab {
        title: String,
        span: Range<usize>,
    },
    TabEnd,
    Paragraph {
        text: String,
        span: Range<usize>,
    },
    /// An item of a list, without the lists inside it. `key` is its bold or code beginning.
    Item {
        text: String,
        key: String,
        /// 1 for an item of an outermost list.
        depth: usize,
        span: Range<usize>,
    },
    /// Text of an admonition.
    Note {
        kind: String,
        text: String,
        span: Range<usize>,
    },
    Table(Table),
    /// Between two lists or after code: whatever a sentence announced has passed.
    Break,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub caption: String,
    pub header: Vec<Cell>,
    pub rows: Vec<Row>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    pub cells: Vec<Cell>,
    pub span: Range<usize>,
    /// More cells with text than the header has.
    pub is_wider: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    /// Without markup; `\n` where the cell breaks the line.
    pub text: Arc<str>,
    pub span: Range<usize>,
    /// Repeated from an earlier row or column by a span of the table.
    pub is_spanned: bool,
}

impl Cell {
    pub fn new(text: impl Into<Arc<str>>, span: Range<usize>) -> Self {
        Self { text: text.into(), span, is_spanned: false }
    }
}

impl Row {
    /// Takes cells beyond the header away; a row that had text there is marked.
    pub fn fit(mut self, width: usize) -> Self {
        self.is_wider = self.cells.iter().skip(width).any(|cell| !cell.text.is_empty());
        if !self.is_wider {
            self.cells.truncate(width);
        }
        self
    }
}

/// Stands where markup was between two digits, as in "510`00`", so that the digits don't run together.
pub(crate) const GLUE: char = '\u{fffc}';

/// One line, single spaces.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
