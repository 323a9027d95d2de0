//! Flows against a truth that was written by hand: precision and recall.

#![allow(dead_code, reason = "each test uses a part")]

use ringwall_diagnostic::Sources;
use ringwall_import::{Action, Flow, Guide, read};
use std::path::Path;

#[derive(Clone, Debug)]
pub struct Expected {
    source: String,
    destination: String,
    protocol: String,
    port: String,
    direction: String,
    inferred: Vec<String>,
    pub is_optional: bool,
    pub note: String,
}

impl Expected {
    /// A row that must be reported and gives no flow.
    pub fn is_undecided(&self) -> bool {
        self.direction == "undecided"
    }
}

pub fn truth(path: &Path) -> Vec<Expected> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let record = |record: Result<csv::StringRecord, csv::Error>| {
        let record = record.unwrap();
        let field = |index: usize| record.get(index).unwrap_or("").to_lowercase();
        Expected {
            source: field(2),
            destination: field(4),
            protocol: field(5),
            port: field(6),
            direction: field(7),
            inferred: field(8).split(',').map(str::to_owned).collect(),
            is_optional: field(9).contains("optional"),
            note: field(9),
        }
    };
    reader.records().map(record).collect()
}

pub fn guide(name: &str, text: &str) -> Guide {
    let mut sources = Sources::new();
    let id = sources.add(name, text);
    read(&sources, id).0
}

/// Share of the flows that are right, and of the truth that is found.
fn measure(expected: &[Expected], flows: &[Flow], same: impl Fn(&Expected, &Flow) -> bool) -> (f64, f64) {
    let mut is_taken = vec![false; flows.len()];
    let (mut found, mut wanted) = (0_u32, 0_u32);
    for row in expected {
        let hit = (0..flows.len()).find(|index| !is_taken[*index] && same(row, &flows[*index]));
        if let Some(index) = hit {
            is_taken[index] = true;
        }
        if hit.is_some() || !row.is_optional {
            wanted += 1;
            found += u32::from(hit.is_some());
        }
    }
    let right = is_taken.iter().filter(|taken| **taken).count();
    (right as f64 / flows.len().max(1) as f64, f64::from(found) / f64::from(wanted.max(1)))
}

fn field(expected: &str, ours: &str, name: &str, inferred: &[String]) -> bool {
    ours.eq_ignore_ascii_case(expected) || ours.is_empty() && inferred.iter().any(|field| field == name)
}

fn service(row: &Expected, flow: &Flow) -> bool {
    field(&row.protocol, &flow.protocol.to_string(), "protocol", &row.inferred) && row.port == flow.port.to_string()
}

fn ends(row: &Expected, flow: &Flow) -> bool {
    field(&row.source, &flow.source, "source", &row.inferred)
        && field(&row.destination, &flow.destination, "destination", &row.inferred)
}

fn whole(row: &Expected, flow: &Flow) -> bool {
    let is_denied = flow.action == Action::Deny;
    service(row, flow)
        && ends(row, flow)
        && row.direction == flow.direction.to_string()
        && is_denied == row.note.starts_with("deny")
}

pub fn figures(name: &str, expected: &[Expected], flows: &[Flow]) -> [f64; 4] {
    let (p1, r1) = measure(expected, flows, service);
    let (p2, r2) = measure(expected, flows, whole);
    println!("{name}: {} flows; protocol and port {p1:.3}/{r1:.3}; whole rows {p2:.3}/{r2:.3}", flows.len());
    if std::env::var("SHOW").is_ok() {
        for row in expected.iter().filter(|row| !flows.iter().any(|flow| whole(row, flow))) {
            println!("  missed {} -> {} {} {} {}", row.source, row.destination, row.protocol, row.port, row.direction);
        }
        for flow in flows.iter().filter(|flow| !expected.iter().any(|row| whole(row, flow))) {
            println!(
                "  wrong  {} -> {} {} {} {} {:?}",
                flow.source, flow.destination, flow.protocol, flow.port, flow.direction, flow.inferred
            );
        }
    }
    [p1, r1, p2, r2]
}
