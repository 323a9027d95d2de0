//! Blocks → a guide.
//!
//! In: the blocks of a document in order. Out: its sections, flows, notes and the diagnostics. Never: a
//! block that is read out of its place: what a sentence says holds until the next heading or table.

use crate::document::{Block, one_line};
use crate::guide::{Abbreviation, Action, Direction, Field, Flow, Guide, Note, Ports, Section, Timeout, Transport};
use crate::item;
use crate::prose;
use crate::reading::{self, Context, Draft, Reading};
use crate::said;
use crate::shape;
use crate::table;
use crate::transport::{ports_of, stated_in};
use crate::words;
use crate::{MAX_FLOWS, MAX_ROWS, document};
use ringwall_diagnostic::{Diagnostic, SourceId, Span};
use std::ops::Range;

pub(crate) fn empty(source: SourceId) -> Guide {
    Guide {
        source,
        title: String::new(),
        sections: Vec::new(),
        flows: Vec::new(),
        legend: Vec::new(),
        notes: Vec::new(),
        timeouts: Vec::new(),
        undecided: Vec::new(),
    }
}

/// `read` hands out the blocks and gives the title that the document states beside them.
pub(crate) fn guide(
    text: &str,
    source: SourceId,
    read: impl FnOnce(&mut dyn FnMut(Block)) -> Option<String>,
) -> (Guide, Vec<Diagnostic>) {
    let mut assembly = Assembly {
        text,
        guide: empty(source),
        diagnostics: Vec::new(),
        said: String::new(),
        section: None,
        rows: 0,
        endless: None,
        bare: None,
        incomplete: None,
        item_context: None,
        parents: Vec::new(),
        in_preamble: true,
    };
    let title = read(&mut |block| assembly.block(block));
    assembly.end_list();
    assembly.diagnostics.sort_by_key(|diagnostic| diagnostic.primary.as_ref().map(|label| label.span));
    let Assembly { mut guide, mut diagnostics, .. } = assembly;
    if let Some(title) = title.filter(|title| !title.is_empty()) {
        guide.title = title;
    }
    if guide.title.is_empty() {
        guide.title = guide.sections.first().map(|section| section.title.clone()).unwrap_or_default();
    }
    let ends: std::collections::HashSet<String> =
        guide.flows.iter().flat_map(|flow| [flow.source.to_lowercase(), flow.destination.to_lowercase()]).collect();
    guide.legend.retain(|entry| ends.contains(&entry.short.to_lowercase()) || is_abbreviation(&entry.short));
    if guide.flows.is_empty() && guide.undecided.is_empty() && diagnostics.is_empty() {
        let diagnostic = Diagnostic::warning("RW1002", "no table of ports is found")
            .help("a table needs a column whose header says `port`; see `ringwall explain RW1002`");
        diagnostics.push(diagnostic);
    }
    (guide, diagnostics)
}

/// Bytes of prose that are kept for the next table.
const SAID: usize = 4096;

struct Assembly<'a> {
    text: &'a str,
    guide: Guide,
    diagnostics: Vec<Diagnostic>,
    /// The prose since the last heading, table or list.
    said: String,
    section: Option<usize>,
    rows: usize,
    /// The first item of a list that names neither end, and how many do.
    endless: Option<(Range<usize>, usize)>,
    /// The first item that names no protocol, and how many do.
    bare: Option<(Range<usize>, usize)>,
    /// The first item of which an end is not said, and whether it is the source.
    incomplete: Option<(Range<usize>, bool)>,
    /// What stands around the list at hand, for its next item.
    item_context: Option<Context>,
    /// The items that the item at hand is inside of, outermost first.
    parents: Vec<String>,
    /// Only lines of metadata so far.
    in_preamble: bool,
}

impl Assembly<'_> {
    fn block(&mut self, block: Block) {
        if let Block::Heading { text, .. } = &block
            && self.in_preamble
            && self.is_metadata(text)
        {
            return;
        }
        self.in_preamble = false;
        if !matches!(block, Block::Item { .. }) {
            self.item_context = None;
        }
        match block {
            Block::Heading { level, text, span } => self.heading(level, text, span, false),
            Block::Tab { title, span } => {
                let heading = self.section.map(|section| self.heading_of(section));
                let level = heading.map_or(1, |section| self.guide.sections[section].level + 1);
                self.section = heading;
                self.heading(level, title, span, true);
            }
            Block::TabEnd => {
                self.section = self.section.map(|section| self.heading_of(section));
                self.said.clear();
            }
            Block::Paragraph { text, span } => self.paragraph(&text, span),
            Block::Note { kind, text, span } => {
                self.timeouts(&text, &span);
                let span = self.span(span);
                self.guide.notes.push(Note { kind, text: one_line(&text), span });
            }
            Block::Item { text, key, depth, span } => {
                self.parents.truncate(depth.saturating_sub(1));
                self.item(&text, &key, span);
                self.parents.resize(depth.saturating_sub(1), String::new());
                self.parents.push(text);
            }
            Block::Break => self.end_list(),
            Block::Table(table) => self.table(&table),
        }
    }

    fn end_list(&mut self) {
        self.parents.clear();
        if let Some((span, count)) = self.endless.take() {
            self.diagnostics.push(reading::without_ends(self.span(span), count));
        }
        if let Some((span, count)) = self.bare.take() {
            self.diagnostics.push(reading::without_protocol(self.span(span), count));
        }
        if let Some((span, is_source)) = self.incomplete.take() {
            self.diagnostics.push(reading::without_end(self.span(span), is_source, "list"));
        }
    }

    /// `## Metadata_Start`, `## slug: firewall-rules` before the document begins.
    fn is_metadata(&mut self, text: &str) -> bool {
        let lower = text.to_lowercase();
        if lower.starts_with("metadata") {
            return true;
        }
        let Some((key, value)) = text.split_once(':') else {
            return false;
        };
        let is_key = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
        if is_key && key.eq_ignore_ascii_case("title") {
            self.guide.title = value.trim().to_owned();
        }
        is_key
    }

    fn heading_of(&self, section: usize) -> usize {
        let found = &self.guide.sections[section];
        found.parent.filter(|_| found.is_tab).unwrap_or(section)
    }

    fn heading(&mut self, level: u8, title: String, span: Range<usize>, is_tab: bool) {
        let mut parent = self.section;
        while let Some(index) = parent.filter(|index| self.guide.sections[*index].level >= level) {
            parent = self.guide.sections[index].parent;
        }
        let condition = if is_tab { Some(title.clone()) } else { prose::condition(&title) };
        let span = self.span(span);
        self.section = Some(self.guide.sections.len());
        self.guide.sections.push(Section { title, level, is_tab, parent, condition, span });
        self.said.clear();
    }

    fn paragraph(&mut self, text: &str, span: Range<usize>) {
        if text.starts_with("{:") {
            return;
        }
        self.timeouts(text, &span);
        for sentence in prose::sentences(text) {
            let said = Context { section: self.section, ..Context::default() };
            let mut reading = Reading::new(self.guide.source, &said);
            let condition = prose::condition(&sentence);
            for stated in prose::stated(&sentence) {
                let draft = Draft {
                    action: Action::Allow,
                    sources: &[stated.source],
                    source_port: Ports::Unstated,
                    destinations: &[stated.destination],
                    services: vec![(stated.transport, Ports::List(stated.ports.into()))],
                    label: stated.label,
                    note: String::new(),
                    condition: condition.clone(),
                    direction: Direction::OneWay,
                    inferred: Vec::new(),
                };
                reading.emit(draft, span.clone(), 0);
            }
            if let Some(name) = prose::mesh(&sentence) {
                let draft = Draft {
                    action: Action::Allow,
                    sources: std::slice::from_ref(&name),
                    source_port: Ports::Unstated,
                    destinations: std::slice::from_ref(&name),
                    services: vec![(Transport::Any, Ports::Any)],
                    label: String::new(),
                    note: sentence.clone(),
                    condition: None,
                    direction: Direction::Both,
                    inferred: vec![Field::Source, Field::Destination, Field::Protocol],
                };
                reading.emit(draft, span.clone(), 0);
            }
            self.guide.flows.append(&mut reading.flows);
        }
        // "If X is used, it requires:" is about all of the section.
        if let Some(section) = self.section
            && let [sentence] = &prose::sentences(text)[..]
            && let Some(condition) = prose::condition(sentence)
            && text.trim_end().ends_with(':')
            && !self
                .guide
                .flows
                .iter()
                .rev()
                .take_while(|flow| flow.section >= self.section)
                .any(|flow| flow.section == self.section)
        {
            self.guide.sections[section].condition.get_or_insert(condition);
        }
        self.said.push_str(text.trim_end().trim_end_matches([':', '.']));
        self.said.push_str(".\n");
        if self.said.len() > SAID {
            let start = self.said.ceil_char_boundary(self.said.len() - SAID);
            self.said.drain(..start);
        }
    }

    fn timeouts(&mut self, text: &str, span: &Range<usize>) {
        for sentence in prose::sentences(text) {
            if let Some(seconds) = prose::session_timeout(&sentence) {
                let span = self.span(span.clone());
                self.guide.timeouts.push(Timeout { section: self.section, seconds, span });
            }
        }
    }

    fn context(&self, caption: &str) -> Context {
        // A short line above a table is its title: "**Worker nodes**", "Inbound:".
        let last = prose::sentences(&self.said).pop().filter(|sentence| sentence.split_whitespace().count() <= 6);
        let caption = if caption.is_empty() { last.as_deref().unwrap_or_default() } else { caption };
        let mut context =
            Context { section: self.section, flowing: words::flowing_in_prose(caption), ..Context::default() };
        context.node = said::heading_node(caption).filter(|_| !caption.is_empty());
        let mut titles = Vec::new();
        let mut section = self.section;
        while let Some(index) = section {
            titles.push(&self.guide.sections[index].title);
            section = self.guide.sections[index].parent;
        }
        for title in &titles {
            context.flowing = context.flowing.or_else(|| words::flowing_in_prose(title));
            context.node = context.node.or_else(|| said::heading_node(title));
        }
        let mut said = prose::sentences(&self.said)
            .iter()
            .map(|sentence| said::ends(sentence))
            .find(|ends| !ends.is_empty())
            .unwrap_or_default();
        let from_titles = [caption].into_iter().chain(titles.first().map(|title| title.as_str()));
        if let Some(ends) = from_titles.map(said::heading_ends).find(|ends| !ends.is_empty()) {
            said = ends;
        }
        context.is_denied = words::denies(caption) || titles.first().is_some_and(|title| words::denies(title));
        context.ends = said;
        // A direction of nothing in particular says nothing.
        if context.node.is_some() || !context.ends.is_empty() {
            let last = prose::sentences(&self.said).pop();
            context.flowing = context.flowing.or_else(|| last.as_deref().and_then(words::flowing_in_prose));
        }
        let sentences = prose::sentences(&self.said);
        let titles = [caption].into_iter().chain(titles.first().map(|title| title.as_str()));
        let rules = sentences.iter().rev().map(String::as_str).filter(|sentence| prose::is_about_all_ports(sentence));
        context.protocol = titles.chain(rules).find_map(|text| match &stated_in(text)?[..] {
            [only] if text.to_lowercase().contains("port") => Some(*only),
            _ => None,
        });
        context
    }

    fn table(&mut self, table: &document::Table) {
        self.rows += table.rows.len();
        if self.rows > MAX_ROWS {
            if self.rows - table.rows.len() <= MAX_ROWS {
                let message =
                    format!("the document has more than {MAX_ROWS} rows; this table and those after it are not read");
                let start = table.header.first().map_or(0, |cell| cell.span.start);
                let span = self.span(start..start);
                self.diagnostics
                    .push(Diagnostic::error("RW1008", message).at(span, "not read").help("split the document"));
            }
            return;
        }
        let titled = shape::without_title(table);
        let table = titled.as_ref().unwrap_or(table);
        let context = self.context(&table.caption);
        let budget = MAX_FLOWS.saturating_sub(self.guide.flows.len());
        if let Some(reading) = table::read(self.text, self.guide.source, &context, table, budget) {
            let Reading { mut flows, mut undecided, mut diagnostics, .. } = reading;
            self.guide.flows.append(&mut flows);
            self.guide.undecided.append(&mut undecided);
            self.diagnostics.append(&mut diagnostics);
            self.said.clear();
        }
    }

    fn item(&mut self, text: &str, key: &str, span: Range<usize>) {
        self.timeouts(text, &span);
        if let Some(meaning) = text.strip_prefix(key).filter(|_| !key.is_empty() && key.split_whitespace().count() <= 3)
        {
            let meaning = meaning.trim_start_matches([':', '-', '–', '—', '=', ' ']).trim_end_matches('.');
            if meaning.len() < text.len() - key.len()
                && !meaning.is_empty()
                && !key.contains(|c: char| c.is_ascii_digit())
            {
                let span = self.span(span.clone());
                let short = key.trim_end_matches(':').trim().to_owned();
                self.guide.legend.push(Abbreviation { short, meaning: one_line(meaning), span });
            }
        }
        let title = self.section.map(|section| self.guide.sections[section].title.to_lowercase()).unwrap_or_default();
        let said = self.said.to_lowercase();
        let is_announced = ["port", "firewall"].iter().any(|word| said.contains(word) || title.contains(word));
        let parent = self.parents.last().and_then(|text| item::heads_items(text));
        let is_announced = is_announced || parent.is_some();
        let Some(item::Item { entries, label, note }) = item::read(text, is_announced) else {
            return;
        };
        let (known, name) = parent.unwrap_or_default();
        let label = if label.is_empty() { name } else { label };
        let context = self.item_context.take().unwrap_or_else(|| self.context(""));
        let flowing = words::flowing_in_prose(text).or(context.flowing);
        let line = one_line(text);
        let named = said::heading_ends(&label);
        let label = if named.is_empty() { label } else { String::new() };
        let readings: [&dyn Fn() -> said::Ends; 4] = [
            &|| said::remarked_ends(&note),
            &|| said::ends(&note).of_machines(),
            &|| said::stated_ends(&line),
            &|| said::other_end(&line).of_machines(),
        ];
        let said = || readings.iter().map(|reading| reading()).find(|ends| !ends.is_empty());
        let own = if named.is_empty() { said().unwrap_or_default() } else { named };
        let pick = |own: Vec<String>, said: &[String]| if own.is_empty() { said.to_vec() } else { own };
        let node: Vec<String> = context.node.iter().cloned().collect();
        let is_outbound = flowing == Some(words::Flowing::Outbound);
        let mut sources = pick(own.sources, &context.ends.sources);
        let mut destinations = pick(own.destinations, &context.ends.destinations);
        if is_outbound && sources.is_empty() {
            sources.clone_from(&node);
        } else if !is_outbound && destinations.is_empty() {
            destinations.clone_from(&node);
        }
        let direction = match own.direction.or(context.ends.direction) {
            Some(direction) => direction,
            None if sources.is_empty() && destinations.is_empty() && flowing.is_none() => Direction::Unknown,
            None => Direction::OneWay,
        };
        let mut reading = Reading::new(self.guide.source, &context);
        for entry in entries {
            let transports = match (&entry.transports[..], stated_in(&note), words::carrier(&label)) {
                ([], ..) if !known.is_empty() => known.clone(),
                ([], Some(stated), _) => stated.into_iter().map(Transport::Is).collect(),
                ([], None, Some(protocol)) => vec![Transport::Is(protocol)],
                ([], None, None) => {
                    context.protocol.map_or(vec![Transport::Unstated], |known| vec![Transport::Is(known)])
                }
                (stated, ..) => stated.to_vec(),
            };
            let mut inferred = vec![Field::Source, Field::Destination];
            if entry.transports.is_empty() && transports != [Transport::Unstated] {
                inferred.push(Field::Protocol);
            }
            if transports == [Transport::Unstated] {
                self.bare.get_or_insert((span.clone(), 0)).1 += 1;
            }
            let draft = Draft {
                action: if context.is_denied { Action::Deny } else { Action::Allow },
                sources: &sources,
                source_port: Ports::Unstated,
                destinations: &destinations,
                services: transports.iter().map(|transport| (*transport, ports_of(*transport, &entry, text))).collect(),
                label: label.clone(),
                note: note.clone(),
                condition: prose::condition(&one_line(text)),
                direction,
                inferred,
            };
            reading.emit(draft, span.clone(), 0);
        }
        let mut flows: Vec<Flow> = reading.flows;
        self.item_context = Some(context);
        if direction == Direction::Unknown {
            self.endless.get_or_insert((span, 0)).1 += 1;
        } else if sources.is_empty() || destinations.is_empty() {
            self.incomplete.get_or_insert((span, sources.is_empty()));
        }
        self.guide.flows.append(&mut flows);
    }

    fn span(&self, range: Range<usize>) -> Span {
        Span { source: self.guide.source, start: range.start, end: range.end }
    }
}

fn is_abbreviation(short: &str) -> bool {
    (2..=8).contains(&short.len()) && short.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
}
