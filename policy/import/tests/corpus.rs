//! Precision and recall over the documents with a hand-made truth, where they are at hand; as they are,
//! and with rows and columns shuffled and headers renamed.

use crate::measure;

use measure::{figures, guide, truth};
use ringwall_import::Flow;
use std::path::{Path, PathBuf};

fn flows(text: &str) -> Vec<Flow> {
    guide("guide.md", text).flows
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
