//! Turns `data/*.tsv` into sorted tables. A line that can't be read stops the build.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

/// First and last port of `443` or `6000-6063`.
fn ports(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

fn protocol(name: &str) -> Option<u8> {
    Some(match name {
        "tcp" => 6,
        "udp" => 17,
        "dccp" => 33,
        "sctp" => 132,
        _ => return None,
    })
}

/// Must fold as `fold` in `src/lib.rs` does; a test compares them.
fn fold(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, ' ' | '-' | '_')).flat_map(char::to_lowercase).collect()
}

/// `tcp/443` or `~tcp/4444` -> protocol, first, last, whether the port leads to the name.
fn place(text: &str) -> Option<(u8, u16, u16, bool)> {
    let (text, leads) = text.strip_prefix('~').map_or((text, true), |text| (text, false));
    let (name, range) = text.split_once('/')?;
    let (first, last) = ports(range)?;
    Some((protocol(name)?, first, last, leads))
}

fn places(text: &str) -> Option<Vec<(u8, u16, u16, bool)>> {
    text.split(' ').map(place).collect()
}

/// The lines of a table that are not comments, with the place for a message.
fn lines(file: &str) -> Vec<(String, String)> {
    println!("cargo:rerun-if-changed=data/{file}");
    let text = fs::read_to_string(Path::new("data").join(file)).expect("the table");
    let numbered = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
    numbered.map(|(number, line)| (format!("data/{file}:{}", number + 1), line.to_owned())).collect()
}

/// Folded name, name, protocol, first, last, whether the port leads to the name.
type Row = (String, String, u8, u16, u16, bool);

fn iana() -> Vec<Row> {
    let mut rows = Vec::new();
    for (place, line) in lines("iana.tsv") {
        let cells: Vec<_> = line.split('\t').collect();
        let [name, protocols, range] = cells[..] else { panic!("{place}: not three cells") };
        let (first, last) = ports(range).unwrap_or_else(|| panic!("{place}: `{range}` is no port"));
        for text in protocols.split(',') {
            let protocol = protocol(text).unwrap_or_else(|| panic!("{place}: `{text}` is no protocol"));
            rows.push((fold(name), name.to_lowercase(), protocol, first, last, true));
        }
    }
    rows
}

/// Our own rows, and for each other name the main one.
fn custom() -> (Vec<Row>, Vec<(String, String)>) {
    let (mut rows, mut aliases) = (Vec::new(), Vec::new());
    for (place, line) in lines("custom.tsv") {
        let cells: Vec<_> = line.split('\t').collect();
        let [name, others, ports] = cells[..] else { panic!("{place}: not three cells") };
        for (protocol, first, last, leads) in places(ports).unwrap_or_else(|| panic!("{place}: `{ports}`")) {
            rows.push((fold(name), name.to_owned(), protocol, first, last, leads));
        }
        aliases.push((fold(name), name.to_owned()));
        for other in others.split(", ").filter(|other| !other.is_empty()) {
            aliases.push((fold(other), name.to_owned()));
        }
    }
    aliases.sort();
    aliases.dedup();
    for pair in aliases.windows(2) {
        assert_ne!(pair[0].0, pair[1].0, "data/custom.tsv: `{}` and `{}` share a name", pair[0].1, pair[1].1);
    }
    (rows, aliases)
}

fn main() {
    let mut output = String::new();
    let (custom, aliases) = custom();
    for (table, rows) in [("IANA", iana()), ("CUSTOM", custom)] {
        let origin = if table == "IANA" { "Iana" } else { "Custom" };
        let mut by_name = rows.clone();
        by_name.sort_by(|a, b| a.0.cmp(&b.0));
        writeln!(output, "static {table}: &[(&str, Service)] = &[").expect("a string");
        for (folded, name, protocol, first, last, _) in &by_name {
            writeln!(output, "({folded:?}, Service {{ name: {name:?}, protocol: Protocol({protocol}), first_port: {first}, last_port: {last}, origin: Origin::{origin} }}),").expect("a string");
        }
        writeln!(output, "];\nstatic {table}_PORTS: PortTable = (&[").expect("a string");
        let mut by_port: Vec<_> = rows.iter().filter(|row| row.5).collect();
        // Stable: of several names of a port the first in the file stays first.
        by_port.sort_by_key(|row| (row.2, row.3, row.4));
        for (_, name, protocol, first, last, _) in by_port {
            writeln!(output, "({protocol}, {first}, {last}, {name:?}),").expect("a string");
        }
        let widest = rows.iter().filter(|row| row.5).map(|row| row.4 - row.3).max().expect("a table with rows");
        writeln!(output, "], {widest});").expect("a string");
    }
    output.push_str("static NAMES: &[(&str, &str)] = &[\n");
    for (folded, name) in &aliases {
        writeln!(output, "({folded:?}, {name:?}),").expect("a string");
    }
    output.push_str("];\nstatic FACTS: &[(&str, Fact)] = &[\n");
    let mut facts = Vec::new();
    for (place, line) in lines("facts.tsv") {
        let cells: Vec<_> = line.split('\t').collect();
        let [name, fact, value, why] = cells[..] else { panic!("{place}: not four cells") };
        let kind = match (fact, value) {
            ("cleartext", "-") => "Cleartext { encrypted: None }".to_owned(),
            ("cleartext", encrypted) => format!("Cleartext {{ encrypted: Some({encrypted:?}) }}"),
            ("login", "-") => "Login".to_owned(),
            ("share", "-") => "Share".to_owned(),
            ("anywhere", "-") => "Anywhere".to_owned(),
            ("obsolete", text) => format!("Obsolete(Protocol({}))", protocol(text).expect("a protocol")),
            ("needs" | "often-needs" | "internet-needs" | "attack-tool" | "cluster" | "also", text) => {
                let ports = places(text).unwrap_or_else(|| panic!("{place}: `{text}`"));
                let ports =
                    ports.iter().map(|(protocol, first, last, _)| format!("(Protocol({protocol}), {first}, {last})"));
                let kind = match fact {
                    "needs" => "Needs",
                    "also" => "Also",
                    "often-needs" => "OftenNeeds",
                    "internet-needs" => "InternetNeeds",
                    "cluster" => "Cluster",
                    _ => "AttackTool",
                };
                format!("{kind}(&[{}])", ports.collect::<Vec<_>>().join(", "))
            }
            _ => panic!("{place}: `{fact}` with `{value}` is no fact"),
        };
        facts.push((fold(name), kind, why.to_owned()));
    }
    facts.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, kind, why) in facts {
        writeln!(output, "({name:?}, Fact {{ kind: FactKind::{kind}, why: {why:?} }}),").expect("a string");
    }
    output.push_str("];\n");
    let folder = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&folder).join("tables.rs"), output).expect("a writable build folder");
}
