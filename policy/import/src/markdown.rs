//! Markdown → blocks.
//!
//! In: the text. Out: [`Block`]s in order. Never: a lost table row: pulldown-cmark says where the
//! blocks are, and tables are cut from their own lines, since guides miss pipes, and since rows that
//! are wider than their header would lose cells without a word.

use crate::document::{Block, Cell, GLUE, Row, Table, one_line};
use crate::{MAX_ROWS, drawn, html};
use pulldown_cmark::{BlockQuoteKind, CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
use std::ops::Range;

const OPTIONS: Options = Options::ENABLE_TABLES
    .union(Options::ENABLE_FOOTNOTES)
    .union(Options::ENABLE_GFM)
    .union(Options::ENABLE_HEADING_ATTRIBUTES)
    .union(Options::ENABLE_YAML_STYLE_METADATA_BLOCKS);

/// Hands out the blocks as they come; gives the title of the front matter.
pub(crate) fn read(text: &str, sink: &mut dyn FnMut(Block)) -> Option<String> {
    let mut reader = Reader { text, ..Reader::default() };
    let mut skip_until = 0;
    let mut html_is_closed = true;
    for (event, span) in Parser::new_ext(text, OPTIONS).into_offset_iter() {
        if span.start < skip_until {
            continue;
        }
        match event {
            Event::Start(Tag::HtmlBlock) => {
                reader.flush(span.start);
                let end = html::read(text, span.clone(), &mut html_is_closed, &mut reader.blocks);
                skip_until = end.max(span.end);
            }
            Event::Start(Tag::Table(_)) => {
                reader.flush(span.start);
                reader.end_indented_tab();
                reader.lines(span.clone());
                skip_until = span.end;
            }
            Event::Start(Tag::CodeBlock(kind)) => {
                reader.flush(span.start);
                skip_until = span.end;
                // An indented block may be the body of an admonition or a tab in other dialects.
                if kind == CodeBlockKind::Indented && has_delimiter(&text[span.clone()]) {
                    reader.lines(span);
                } else {
                    reader.blocks.push(Block::Break);
                }
            }
            event => reader.event(event, span),
        }
        reader.blocks.drain(..).for_each(&mut *sink);
    }
    reader.flush(text.len());
    reader.blocks.drain(..).for_each(sink);
    reader.title
}

#[derive(Default)]
struct Reader<'a> {
    text: &'a str,
    blocks: Vec<Block>,
    /// Of all tables so far.
    rows: usize,
    title: Option<String>,
    prose: Inline,
    start: usize,
    heading: u8,
    is_item: bool,
    /// Of the item at hand.
    depth: usize,
    is_metadata: bool,
    is_in_indented_tab: bool,
    /// How many lists are open.
    lists: usize,
    /// A table of reStructuredText, written as a list of lists.
    list_table: Option<Table>,
    list_row: Vec<Cell>,
    /// The admonitions that are open, innermost last.
    notes: Vec<String>,
    fence: Option<Fence>,
}

/// An admonition between `:::` lines.
struct Fence {
    kind: String,
    text: String,
    start: usize,
}

impl Reader<'_> {
    fn event(&mut self, event: Event<'_>, span: Range<usize>) {
        match event {
            Event::Start(Tag::Heading { level, .. }) => {
                self.flush(span.start);
                self.begin(span.start);
                self.heading = level as u8;
            }
            Event::Start(Tag::Paragraph) if self.prose.is_empty() => self.begin(span.start),
            Event::Start(Tag::Paragraph) => self.prose.push_break(),
            Event::Start(Tag::Item) => {
                self.flush(span.start);
                self.begin(span.start);
                self.is_item = true;
                self.depth = self.lists;
            }
            Event::Start(Tag::BlockQuote(kind)) => {
                self.flush(span.start);
                self.notes.push(kind.map_or("quote", note_kind).to_owned());
            }
            Event::End(TagEnd::BlockQuote(_)) => {
                self.flush(span.end);
                self.notes.pop();
            }
            Event::Start(Tag::MetadataBlock(_)) => self.is_metadata = true,
            Event::Text(text) if self.is_metadata => self.title = front_matter_title(&text),
            Event::End(TagEnd::MetadataBlock(_)) => self.is_metadata = false,
            Event::Start(Tag::List(_)) => {
                self.flush(span.start);
                self.lists += 1;
            }
            Event::End(TagEnd::List(_)) => {
                self.flush(span.end);
                self.lists = self.lists.saturating_sub(1);
                if self.lists == 0 {
                    self.blocks.extend(self.list_table.take().map(Block::Table));
                    self.blocks.push(Block::Break);
                }
            }
            Event::End(TagEnd::Item) if self.list_table.is_some() => self.list_table_item(span),
            Event::End(TagEnd::Heading(_) | TagEnd::Item) => self.flush(span.end),
            Event::End(TagEnd::Paragraph) if !self.is_item => self.flush(span.end),
            Event::Html(tag) | Event::InlineHtml(tag) if html::is_tab(&tag) => {
                self.flush(span.start);
                html::read(self.text, span, &mut true, &mut self.blocks);
            }
            event => self.prose.event(&event),
        }
    }

    /// A tab that begins with `=== "Title"` lasts as long as its text is indented.
    fn end_indented_tab(&mut self) {
        if std::mem::take(&mut self.is_in_indented_tab) {
            self.blocks.push(Block::TabEnd);
        }
    }

    /// The end of an item of a `list-table`, where items of items are cells.
    fn list_table_item(&mut self, span: Range<usize>) {
        let Some(table) = self.list_table.as_mut() else {
            return;
        };
        if self.lists > 1 {
            let text = std::mem::take(&mut self.prose).text.trim().to_owned();
            self.is_item = false;
            self.list_row.push(Cell::new(text, span));
        } else if table.header.is_empty() {
            table.header = std::mem::take(&mut self.list_row);
        } else if !self.list_row.is_empty() {
            let row = Row { cells: std::mem::take(&mut self.list_row), span, is_wider: false };
            table.rows.push(row.fit(table.header.len()));
        }
    }

    fn begin(&mut self, start: usize) {
        self.prose = Inline::default();
        self.start = start;
    }

    /// Ends the heading, item or paragraph at hand.
    fn flush(&mut self, end: usize) {
        let prose = std::mem::take(&mut self.prose);
        let (level, is_item) = (std::mem::take(&mut self.heading), std::mem::take(&mut self.is_item));
        let span = self.start..end;
        if prose.is_empty() {
            return;
        }
        let text = prose.text.trim().to_owned();
        if level > 0 {
            // reStructuredText may draw a line above a heading too.
            let text = one_line(text.trim_start_matches("==="));
            let text = text.trim_start_matches('=').trim().to_owned();
            self.blocks.push(Block::Heading { level, text, span });
        } else if has_delimiter(&self.text[span.clone()]) {
            self.lines(span);
        } else if let Some(table) = drawn::table(self.text, span.clone()).filter(|_| !is_item) {
            self.rows += table.rows.len();
            self.blocks.push(Block::Table(table));
        } else if let Some(kind) = self.notes.last() {
            let (kind, text) = quoted_note(kind, &text);
            self.blocks.push(Block::Note { kind, text, span });
        } else {
            self.fenced(&text, prose.key, is_item, span);
        }
    }

    /// Prose with `:::` lines in it, or within such.
    fn fenced(&mut self, text: &str, key: String, is_item: bool, span: Range<usize>) {
        let mut plain = Vec::new();
        for line in text.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix(":::") {
                let opened = rest.trim_start_matches(':').trim();
                self.close_fence(&mut plain, span.end);
                if !opened.is_empty() {
                    self.fence = Some(Fence { kind: fence_kind(opened), text: String::new(), start: span.start });
                }
            } else {
                plain.push(line);
            }
        }
        let text = plain.join("\n");
        if let Some(fence) = &mut self.fence {
            fence.text.push_str(&text);
            fence.text.push('\n');
        }
        if text.trim().is_empty() {
            return;
        }
        if let Some(directive) = text.strip_prefix(".. list-table::") {
            let caption = directive.lines().next().unwrap_or("").trim().to_owned();
            self.list_table = Some(Table { caption, ..Table::default() });
            return;
        }
        if self.lists == 0 {
            self.list_table = None;
        }
        if let Some(title) = text.strip_prefix("=== \"") {
            let title = title.split('"').next().unwrap_or(title).to_owned();
            self.is_in_indented_tab = true;
            return self.blocks.push(Block::Tab { title, span });
        }
        self.end_indented_tab();
        let depth = self.depth;
        match is_item {
            true => self.blocks.push(Block::Item { text, key, depth, span }),
            false if self.fence.is_none() => self.blocks.push(Block::Paragraph { text, span }),
            false => {}
        }
    }

    fn close_fence(&mut self, plain: &mut Vec<&str>, end: usize) {
        let Some(mut fence) = self.fence.take() else {
            return;
        };
        fence.text.push_str(&std::mem::take(plain).join("\n"));
        let text = one_line(&fence.text);
        self.blocks.push(Block::Note { kind: fence.kind, text, span: fence.start..end });
    }

    /// Lines with a table among them, and perhaps prose before and after it.
    fn lines(&mut self, span: Range<usize>) {
        let mut prose: Option<Range<usize>> = None;
        let mut table: Option<Table> = None;
        let lines: Vec<Range<usize>> = lines(self.text, span);
        let mut index = 0;
        while index < lines.len() {
            let line = lines[index].clone();
            let raw = &self.text[line.clone()];
            let next_is_delimiter = lines.get(index + 1).is_some_and(|next| is_delimiter(&self.text[next.clone()]));
            if next_is_delimiter && raw.contains('|') {
                self.blocks.extend(table.take().map(Block::Table));
                table = Some(Table { header: cells(self.text, line), ..Table::default() });
                index += 1;
            } else if let Some(table) = table.as_mut().filter(|_| raw.contains('|')) {
                if !is_delimiter(raw) && self.rows <= MAX_ROWS {
                    self.rows += 1;
                    let row = Row { cells: cells(self.text, line.clone()), span: line, is_wider: false };
                    table.rows.push(row.fit(table.header.len()));
                }
            } else if !raw.trim().is_empty() {
                let start = prose.as_ref().map_or(line.start, |prose| prose.start);
                prose = Some(start..line.end);
            }
            index += 1;
        }
        if let Some(span) = prose.filter(|span| !self.text[span.clone()].contains('|')) {
            let text = plain(&self.text[span.clone()]);
            self.blocks.push(Block::Paragraph { text, span });
        }
        self.blocks.extend(table.map(Block::Table));
    }
}

/// Text without markup.
#[derive(Default)]
struct Inline {
    text: String,
    /// The bold or code text at the beginning.
    key: String,
    strong: u32,
    superscript: u32,
    /// Markup was closed or opened since the last character.
    at_boundary: bool,
}

impl Inline {
    fn is_empty(&self) -> bool {
        self.text.trim().is_empty()
    }

    fn push(&mut self, text: &str) {
        if self.superscript > 0 || text.is_empty() {
            return;
        }
        let touches = |end: Option<char>| end.is_some_and(|end| end.is_ascii_digit());
        if self.at_boundary && touches(self.text.chars().next_back()) && touches(text.chars().next()) {
            self.text.push(GLUE);
        }
        self.at_boundary = false;
        self.text.push_str(text);
    }

    fn push_break(&mut self) {
        self.text.push('\n');
    }

    fn push_key(&mut self, text: &str) {
        if self.key.len() == self.text.trim_start().len() {
            self.key.push_str(text);
        }
    }

    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Text(text) if matches!(&**text, "[" | "]") => {}
            Event::Text(text) => {
                if self.strong > 0 {
                    self.push_key(text);
                }
                self.push(text);
            }
            Event::Code(text) => {
                self.push_key(text);
                self.at_boundary = true;
                self.push(text);
                self.at_boundary = true;
            }
            Event::SoftBreak | Event::HardBreak => self.push_break(),
            Event::Html(tag) | Event::InlineHtml(tag) => match html::tag_name(tag) {
                "br" | "br/" | "/p" | "/li" | "/div" => self.push_break(),
                "sup" => self.superscript += 1,
                "/sup" => self.superscript = self.superscript.saturating_sub(1),
                // "36<NN>" is no markup.
                name if !html::is_known(name) => self.push(tag),
                _ => self.at_boundary = true,
            },
            Event::Start(tag) => {
                self.strong += u32::from(*tag == Tag::Strong);
                self.at_boundary = true;
            }
            Event::End(tag) => {
                self.strong -= u32::from(*tag == TagEnd::Strong && self.strong > 0);
                self.at_boundary = true;
            }
            _ => {}
        }
    }
}

/// A cell or a line without its markup.
pub(crate) fn plain(raw: &str) -> String {
    let raw = raw.trim();
    // Some sites write a line's end as `\n`.
    let unescaped = raw.contains(" \\n ").then(|| raw.replace(" \\n ", " "));
    let raw = unescaped.as_deref().unwrap_or(raw);
    if !raw.contains(['*', '_', '`', '[', '<', '&', '\\', '~']) {
        return raw.to_owned();
    }
    // A stop in front keeps "- ", "> 1024" or "1." from being read as a list or a quotation, and
    // lets emphasis begin right after it.
    let guarded = format!(".{}", without_footnotes(raw));
    let mut inline = Inline::default();
    for event in Parser::new(&guarded) {
        inline.event(&event);
    }
    let text = inline.text.strip_prefix('.').unwrap_or(&inline.text);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("\n")
}

/// Takes out `[^note]`, and `[1]` behind or in place of words.
fn without_footnotes(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once('[') {
        text.push_str(before);
        let inner = after.split_once(']').filter(|(inner, behind)| {
            let is_number = !inner.is_empty() && inner.len() < 3 && inner.chars().all(|c| c.is_ascii_digit());
            inner.starts_with('^') || is_number && !behind.starts_with('(')
        });
        match inner {
            Some((_, behind)) => rest = behind,
            None => {
                text.push('[');
                rest = after;
            }
        }
    }
    text + rest
}

fn lines(text: &str, span: Range<usize>) -> Vec<Range<usize>> {
    let mut start = span.start;
    let line = |line: &str| {
        let range = start..start + line.trim_end().len();
        start += line.len();
        range
    };
    text[span].split_inclusive('\n').map(line).collect()
}

fn has_delimiter(raw: &str) -> bool {
    raw.contains("--") && raw.contains('|') && raw.lines().skip(1).any(is_delimiter)
}

/// `|---|:---:|`.
fn is_delimiter(line: &str) -> bool {
    let line = line.trim_start_matches(['>', ' ', '\t']).trim_end();
    line.contains('-')
        && line.contains('|')
        && line.bytes().all(|byte| matches!(byte, b'-' | b':' | b'|' | b' ' | b'\t'))
}

/// Cells of a line such as `| a | b |`; the outer pipes may be missing.
fn cells(text: &str, line: Range<usize>) -> Vec<Cell> {
    let raw = &text[line.clone()];
    let indent = raw.len() - raw.trim_start_matches(['>', ' ', '\t']).len();
    let from = indent + usize::from(raw[indent..].starts_with('|'));
    let mut cells = Vec::new();
    let mut start = from;
    let mut is_escaped = false;
    for (offset, byte) in raw.bytes().enumerate().skip(from) {
        match byte {
            b'\\' => is_escaped = !is_escaped,
            b'|' if !is_escaped => {
                cells.push(cell(raw, start..offset, line.start));
                start = offset + 1;
            }
            _ => is_escaped = false,
        }
    }
    if !raw[start..].trim().is_empty() {
        cells.push(cell(raw, start..raw.len(), line.start));
    }
    cells
}

fn cell(raw: &str, range: Range<usize>, line: usize) -> Cell {
    let untrimmed = &raw[range.clone()];
    let start = range.start + untrimmed.len() - untrimmed.trim_start().len();
    let span = line + start..line + start + untrimmed.trim().len();
    match untrimmed.contains("\\|") {
        true => Cell::new(plain(&untrimmed.replace("\\|", "|")), span),
        false => Cell::new(plain(untrimmed), span),
    }
}

fn note_kind(kind: BlockQuoteKind) -> &'static str {
    match kind {
        BlockQuoteKind::Note => "note",
        BlockQuoteKind::Tip => "tip",
        BlockQuoteKind::Important => "important",
        BlockQuoteKind::Warning => "warning",
        BlockQuoteKind::Caution => "caution",
    }
}

const NOTE_KINDS: [&str; 10] =
    ["important", "info", "note", "warning", "tip", "caution", "danger", "attention", "hint", "error"];

/// `**Note:** text` in a quotation is a note of that kind.
fn quoted_note(kind: &str, text: &str) -> (String, String) {
    let text = one_line(text);
    if kind == "quote"
        && let Some((word, rest)) = text.split_once(':')
        && NOTE_KINDS.contains(&word.to_lowercase().as_str())
    {
        return (word.to_lowercase(), rest.trim().to_owned());
    }
    (kind.to_owned(), text)
}

/// The kind of `::: (error) (Important)`, `:::note Title`, `:::{.warning}`: the last word that names one.
fn fence_kind(opened: &str) -> String {
    let mut words = opened.rsplit(|c: char| !c.is_alphanumeric()).map(str::to_lowercase);
    words.find(|word| NOTE_KINDS.contains(&word.as_str())).unwrap_or_else(|| "note".to_owned())
}

fn front_matter_title(yaml: &str) -> Option<String> {
    let title = yaml.lines().find_map(|line| line.strip_prefix("title:"))?;
    Some(title.trim().trim_matches(['"', '\'']).to_owned())
}
