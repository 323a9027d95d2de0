//! Precision and recall over the documents with a hand-made truth, where they are at hand; as they are,
//! and with rows and columns shuffled and headers renamed.

use ringwall_diagnostic::Sources;
use ringwall_import::{Flow, read};
use std::path::{Path, PathBuf};

#[derive(Clone, Debug)]
struct Expected {
    source: String,
    destination: String,
    protocol: String,
    port: String,
    direction: String,
    inferred: Vec<String>,
    is_optional: bool,
}

struct Case {
    document: &'static str,
    truth: &'static str,
}

const CASES: [Case; 5] = [
    Case { document: "seeds/001_41d93fd846f21906.txt", truth: "corpus/seed-001-cumulocity.expected.csv" },
    Case { document: "seeds/002_4cac2c08b1e8bd71.txt", truth: "corpus/seed-002-senhasegura.expected.csv" },
    Case { document: "corpus/rke2-requirements.md", truth: "corpus/rke2-requirements.expected.csv" },
    Case { document: "corpus/k0s-networking.md", truth: "corpus/k0s-networking.expected.csv" },
    Case { document: "corpus/ms-scom-firewall.md", truth: "corpus/ms-scom-firewall.expected.csv" },
];

fn shared() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    root.join("corpus").is_dir().then_some(root)
}

fn truth(path: &Path) -> Vec<Expected> {
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
        }
    };
    reader.records().map(record).collect()
}

fn flows(text: &str) -> Vec<Flow> {
    let mut sources = Sources::new();
    let id = sources.add("guide.md", text);
    read(&sources, id).0.flows
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
    service(row, flow) && ends(row, flow) && row.direction == flow.direction.to_string()
}

fn figures(name: &str, expected: &[Expected], flows: &[Flow]) -> [f64; 4] {
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

#[test]
fn documents_with_a_truth() {
    let Some(shared) = shared() else { return };
    for (index, case) in CASES.iter().enumerate() {
        let text = std::fs::read_to_string(shared.join(case.document)).unwrap();
        let expected = truth(&shared.join(case.truth));
        let flows = flows(&text);
        let [p1, r1, p2, r2] = figures(case.document, &expected, &flows);
        if index < 2 {
            assert_eq!([p1, r1, p2, r2], [1.0; 4], "{}", case.document);
            assert_eq!(flows.len(), expected.len(), "{}: the optional rows count too", case.document);
        } else {
            assert!(p1 >= 0.95 && r1 >= 0.95, "{}: protocol and port", case.document);
            assert!(p2 >= 0.9 && r2 >= 0.9, "{}: whole rows", case.document);
        }
    }
}

/// Headers that mean the same. The first of a line is what the documents write.
const SYNONYMS: [&[&str]; 17] = [
    &["source ip", "From", "Src", "Source host", "Client"],
    &["source", "From", "Source IP", "Origin", "Initiator"],
    &["destination ip", "To", "Dst", "Target", "Destination host"],
    &["destination", "To", "Target", "Destination IP", "Receiver"],
    &["source port", "Src port", "Source port(s)", "Source Ports", "Client port"],
    &["destination port", "Dst. port", "Port", "Target port", "Destination Port(s)"],
    &["port", "Ports", "Port number", "Port(s)", "Listening port"],
    &["protocol", "Proto", "Transport", "TCP/UDP", "IP protocol"],
    &["service", "Application", "Service name", "Process", "App"],
    &["description", "Purpose", "Comments", "Notes", "Used for"],
    &["direction", "Flow", "Traffic", "Connection", "Traffic direction"],
    &["permission", "Action", "Allow/Deny", "Access", "Action"],
    &["operations manager feature a", "Component A", "System 1", "Host A", "Side A"],
    &["operations manager feature b", "Component B", "System 2", "Host B", "Side B"],
    &["port number and direction", "Ports", "Port and direction", "Port numbers", "Ports (with direction)"],
    &["inbound", "Incoming", "Ingress", "Inbound ports", "Listens on"],
    &["outbound", "Outgoing", "Egress", "Outbound ports", "Connects to"],
];

/// SplitMix64, so that a failure comes again.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            items.swap(index, self.below(index + 1));
        }
    }
}

fn split(line: &str) -> Vec<String> {
    line.trim().trim_start_matches('|').trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// The same tables with other orders and headers.
fn disturb(text: &str, random: &mut Random) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let is_row = |line: &str| line.trim_start().starts_with('|');
    let mut out: Vec<String> = Vec::new();
    let mut index = 0;
    let pick = 1 + random.below(4);
    while index < lines.len() {
        if !is_row(lines[index]) {
            out.push(lines[index].to_owned());
            index += 1;
            continue;
        }
        let end = (index..lines.len()).find(|line| !is_row(lines[*line])).unwrap_or(lines.len());
        let mut header = split(lines[index]);
        for name in &mut header {
            if let Some(names) = SYNONYMS.iter().find(|names| names[0] == name.to_lowercase()) {
                *name = names[pick].to_owned();
            }
        }
        let mut rows: Vec<Vec<String>> = lines[index + 2..end].iter().map(|line| split(line)).collect();
        random.shuffle(&mut rows);
        let mut order: Vec<usize> = (0..header.len()).collect();
        random.shuffle(&mut order);
        let write = |row: &[String]| {
            let cells: Vec<_> = order.iter().map(|column| row.get(*column).map_or("", String::as_str)).collect();
            format!("| {} |", cells.join(" | "))
        };
        out.push(write(&header));
        out.push(write(&vec!["---".to_owned(); header.len()]));
        out.extend(rows.iter().map(|row| write(row)));
        index = end;
    }
    out.join("\n")
}

#[test]
fn order_and_headers_do_not_matter() {
    let Some(shared) = shared() else { return };
    for case in &CASES {
        let text = std::fs::read_to_string(shared.join(case.document)).unwrap();
        let expected = truth(&shared.join(case.truth));
        for seed in 0..24 {
            let disturbed = disturb(&text, &mut Random(seed));
            let flows = flows(&disturbed);
            let figures = figures(&format!("{} seed {seed}", case.document), &expected, &flows);
            let [p1, r1, p2, r2] = figures;
            let (services, rows) = if case.document.starts_with("seeds") { (1.0, 1.0) } else { (0.95, 0.9) };
            if p1 < services || r1 < services || p2 < rows || r2 < rows {
                let name = std::env::temp_dir().join("ringwall-import-disturbed.md");
                let _ = std::fs::write(&name, disturbed);
                panic!("{} with seed {seed}: {figures:?}; see {}", case.document, name.display());
            }
        }
    }
}
