//! The list of requirements, each by its number: its check, run for real on the examples' policies.

mod cross;
mod integration;
mod iot;
mod vault;

use std::path::Path;

/// A file of the examples, such as `iot/policy.yaml`.
pub fn example(name: &str) -> String {
    std::fs::read_to_string(example_path(name)).unwrap()
}

pub fn example_path(name: &str) -> String {
    format!("{}/../examples/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A file from real life that is not part of the project, where it happens to be at hand.
pub fn seed(name: &str) -> Option<String> {
    let path = format!("{}/../../shared/{name}", env!("CARGO_MANIFEST_DIR"));
    Path::new(&path).exists().then_some(path)
}

/// Takes a text for another, which must be there.
#[track_caller]
pub fn with(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "no `{from}` in: {text}");
    text.replace(from, to)
}

/// One line of `import -o csv`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub source: String,
    pub source_port: String,
    pub destination: String,
    pub protocol: String,
    pub port: String,
}

/// The rows of an import, or of a ground truth with the same columns (and perhaps others).
pub fn rows(csv: &str) -> Vec<Row> {
    let mut lines = csv.lines().map(cells);
    let header = lines.next().unwrap();
    let column = |name: &str| header.iter().position(|column| column == name).unwrap_or_else(|| panic!("no {name}"));
    let (source, source_port, destination) = (column("source"), column("source_port"), column("destination"));
    let (protocol, port) = (column("protocol"), column("port"));
    let row = |cells: Vec<String>| Row {
        source: cells[source].clone(),
        source_port: cells[source_port].clone(),
        destination: cells[destination].clone(),
        protocol: cells[protocol].clone(),
        port: cells[port].clone(),
    };
    lines.map(row).collect()
}

/// The cells of a line of CSV (RFC 4180); none of ours has a line break in a cell.
fn cells(line: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            other => cells.last_mut().expect("never empty").push(other),
        }
    }
    cells
}
