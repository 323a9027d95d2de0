//! Turns IANA's registry, as IANA publishes it in CSV, into `data/iana.tsv`.
//!
//! In: the CSV on standard input. Out: the table on standard output. Never: a row that is only
//! reserved, or a name without a port.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{Read, Write, stdin, stdout};

const PROTOCOLS: [&str; 4] = ["tcp", "udp", "sctp", "dccp"];

/// First port, last port, place among the names of that port.
type Key = (u16, u16, usize);
/// A name, and which of [`PROTOCOLS`] it is registered for.
type Row = (String, [bool; 4]);

fn compact(registry: impl Read) -> Result<String, Box<dyn Error>> {
    let mut reader = csv::Reader::from_reader(registry);
    let headers = reader.headers()?.clone();
    let column =
        |wanted: &str| headers.iter().position(|header| header == wanted).ok_or(format!("no column `{wanted}`"));
    let columns = (column("Service Name")?, column("Port Number")?, column("Transport Protocol")?);
    let mut names: BTreeMap<(u16, u16), Vec<Row>> = BTreeMap::new();
    for record in reader.records() {
        let record = record?;
        let (name, ports, protocol) = (&record[columns.0], &record[columns.1], &record[columns.2]);
        let Some(protocol) = PROTOCOLS.iter().position(|known| *known == protocol) else {
            continue;
        };
        if name.is_empty() || ports.is_empty() {
            continue;
        }
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let here = names.entry((first.parse()?, last.parse()?)).or_default();
        let place = here.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            here.push((name.to_owned(), [false; 4]));
            here.len() - 1
        });
        here[place].1[protocol] = true;
    }
    let mut rows: BTreeMap<Key, Row> = BTreeMap::new();
    for ((first, last), here) in names {
        rows.extend(here.into_iter().enumerate().map(|(place, row)| ((first, last, place), row)));
    }
    let mut table = String::new();
    for ((first, last, _), (name, used)) in rows {
        let protocols: Vec<_> =
            PROTOCOLS.into_iter().zip(used).filter(|(_, used)| *used).map(|(name, _)| name).collect();
        let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
        table.push_str(&format!("{name}\t{}\t{ports}\n", protocols.join(",")));
    }
    Ok(table)
}

fn main() -> Result<(), Box<dyn Error>> {
    stdout().write_all(compact(stdin())?.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_protocols_and_ranges_survive() {
        let registry = "Service Name,Port Number,Transport Protocol,Description\n\
            http,80,tcp,\"one,\ntwo\"\nwww,80,tcp,\nhttp,80,udp,\n,81,tcp,Reserved\nx11,6000-6063,tcp,\nnoport,,tcp,\nodd,9,xyz,\n";
        let table = super::compact(registry.as_bytes()).expect("a readable registry");
        assert_eq!(table, "http\ttcp,udp\t80\nwww\ttcp\t80\nx11\ttcp\t6000-6063\n");
    }

    #[test]
    fn a_file_of_another_shape_is_refused() {
        let error = super::compact("name,port\nhttp,80\n".as_bytes()).expect_err("no such columns");
        assert_eq!(error.to_string(), "no column `Service Name`");
    }
}
