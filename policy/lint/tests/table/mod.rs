//! Rows from a CSV table, for the tests: the columns that a line lacks are unstated.

use ringwall_diagnostic::{Diagnostic, SourceId, Sources, Span};
use ringwall_lint::{Direction, Inferred, Ports, Row, Transport};
use ringwall_packet::{Interval, IntervalSet, Protocol};

/// The rows of a CSV text, each with its line as span. `label` picks the service's name out of a line.
pub fn rows(source: SourceId, text: &str, label: impl Fn(&dyn Fn(&str) -> String) -> Option<String>) -> Vec<Row> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
    let headers = reader.headers().expect("a header").clone();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.expect("a readable line");
        let cell = |name: &str| {
            let column = headers.iter().position(|header| header == name);
            column.and_then(|column| record.get(column)).unwrap_or_default().trim().to_owned()
        };
        let start = usize::try_from(record.position().expect("a place").byte()).expect("a small file");
        let end = start + text[start..].find('\n').unwrap_or(text.len() - start);
        let inferred = cell("inferred");
        let port = cell("port");
        rows.push(Row {
            section: cell("section"),
            source: cell("source"),
            destination: cell("destination"),
            protocol: match cell("protocol").as_str() {
                "" => Transport::Unstated,
                "any" => Transport::Any,
                name => Transport::Is(Protocol::named(name).unwrap_or_else(|| panic!("protocol `{name}`"))),
            },
            ports: ports(&port),
            label: label(&cell),
            direction: match cell("direction").as_str() {
                "both" => Direction::Both,
                "local" => Direction::Local,
                "unknown" => Direction::Unknown,
                _ => Direction::OneWay,
            },
            inferred: Inferred {
                source: inferred.contains("source"),
                destination: inferred.contains("destination"),
                protocol: inferred.contains("protocol"),
            },
            span: Span { source, start, end },
            port_span: text[start..end].find(&format!(",{port},")).map(|at| Span {
                source,
                start: start + at + 1,
                end: start + at + 1 + port.len(),
            }),
        });
    }
    rows
}

fn ports(text: &str) -> Ports {
    let number = |text: &str| text.trim().parse::<u16>().unwrap_or_else(|_| panic!("port `{text}`"));
    match text {
        "any" => Ports::Any,
        "" => Ports::Unstated,
        types if types.starts_with("type") => Ports::Unstated,
        list => Ports::Are(
            list.split([',', ' '])
                .map(|range| {
                    let (first, last) = range.split_once('-').unwrap_or((range, range));
                    Interval::new(number(first), number(last)).expect("a range the right way round")
                })
                .collect::<IntervalSet<u16>>(),
        ),
    }
}

/// `row 3` (lines from 1, below the header), or `text` for what stands elsewhere.
pub fn place(sources: &Sources, table: SourceId, span: Span) -> String {
    match span.source == table {
        true => format!("row {}", sources.position(span).0 - 1),
        false => "text".to_owned(),
    }
}

/// `row 3: error RW2001: message`.
pub fn line(sources: &Sources, table: SourceId, finding: &Diagnostic) -> String {
    let place = finding.primary.as_ref().map_or("whole".to_owned(), |label| place(sources, table, label.span));
    format!("{place}: {} {}: {}", finding.severity, finding.code, finding.message)
}
