//! `ringwall matrix`: which role reaches which, with what.

use std::collections::BTreeSet;

use ringwall_analysis::matrix::{Cell, Role, matrix, roles};
use ringwall_analysis::words::{Line, Packets, Words};
use serde_json::{Value, json};

use crate::Failure;
use crate::policy::PolicyArgs;
use crate::question::{self, Asking, BudgetArgs, name_of, unknown};
use crate::terminal::{Exit, ListOutput, Terminal, print, print_csv, print_json, print_ndjson};

#[derive(clap::Args)]
#[command(after_help = "\
Rows send, columns receive. A service with a star holds for a part of the pair alone: `ringwall can` says for which.

Examples:
  ringwall matrix policy.yaml
  ringwall matrix policy.yaml -o csv > matrix.csv        the same as a sheet
  ringwall matrix policy.yaml -o json | jq '.cells[] | select(.destination == \"primary\")'")]
pub struct Args {
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    budget: BudgetArgs,
    /// Columns of text that a row of the table may take.
    #[arg(long, env = "COLUMNS", default_value_t = 120, hide_env = true)]
    width: usize,
    #[arg(short, long, value_enum, default_value_t = ListOutput::Table)]
    output: ListOutput,
}

pub fn run(args: &Args, terminal: &Terminal) -> Result<Exit, Failure> {
    let asking = Asking::new(&args.policy, terminal)?;
    let roles = roles(&asking.policy);
    let cells = match matrix(&asking.policy, &asking.table, &roles, args.budget.steps()) {
        Ok(cells) => cells,
        Err(exhausted) => {
            if args.output == ListOutput::Json {
                print_json(&json!({ "schema": "ringwall.matrix/1", "cells": null, "budget": exhausted.steps }));
            }
            return Err(unknown(&exhausted));
        }
    };
    let words = Words::new(&asking.policy, &name_of);
    let rows = Packets::of_rows(&asking.table, |_| true);
    let cells: Vec<Said> = cells.iter().map(|cell| Said::new(cell, &words, &rows)).collect();
    match args.output {
        ListOutput::Table if cells.is_empty() => print("nothing: nobody reaches anybody\n"),
        ListOutput::Table => print(&sheets(&roles, &cells, args.width, terminal)),
        ListOutput::Json => {
            let names: Vec<&str> = roles.iter().map(|role| role.name.as_str()).collect();
            let cells: Vec<Value> = cells.iter().map(|cell| cell.json(&roles)).collect();
            print_json(&json!({ "schema": "ringwall.matrix/1", "roles": names, "cells": cells }));
        }
        ListOutput::Ndjson => print_ndjson(&cells.iter().map(|cell| cell.json(&roles)).collect::<Vec<_>>()),
        ListOutput::Csv => {
            let header: Vec<&str> = std::iter::once("from \\ to").chain(roles.iter().map(|role| role.name.as_str())).collect();
            let row = |(source, role): (usize, &Role)| {
                let cell = |destination| cells.iter().find(|cell| (cell.source, cell.destination) == (source, destination));
                let texts = (0..roles.len()).map(|destination| cell(destination).map_or_else(String::new, |cell| cell.texts().join("; ")));
                std::iter::once(role.name.clone()).chain(texts).collect()
            };
            print_csv(&header, &roles.iter().enumerate().map(row).collect::<Vec<_>>());
        }
    }
    Ok(Exit::Success)
}

/// A cell in words.
struct Said {
    source: usize,
    destination: usize,
    /// Services of the whole pair.
    services: Vec<String>,
    part: Vec<Line>,
}

impl Said {
    fn new(cell: &Cell, words: &Words<'_>, rows: &Packets) -> Self {
        let mut services: Vec<String> = Vec::new();
        for line in words.lines(&cell.whole, &Packets::default()) {
            let beside = match line.family {
                // Without an address of the other family, the pair is whole.
                Some(family) if has_both(&cell.whole, &cell.part) => format!(" ({family} only)"),
                _ => String::new(),
            };
            let of_dns = line.conditions.iter().map(|condition| format!(", {condition}")).collect::<String>();
            services.extend(line.services.iter().map(|service| format!("{service}{of_dns}{beside}")));
        }
        let mut known = BTreeSet::new();
        services.retain(|service| known.insert(service.clone()));
        Self { source: cell.source, destination: cell.destination, services, part: words.lines(&cell.part, rows) }
    }

    /// Services, those of a part with a star.
    fn texts(&self) -> Vec<String> {
        let mut texts = self.services.clone();
        for service in self.part.iter().flat_map(|line| &line.services) {
            let starred = format!("{service} *");
            if !texts.contains(&starred) {
                texts.push(starred);
            }
        }
        texts
    }

    fn json(&self, roles: &[Role]) -> Value {
        json!({
            "source": roles[self.source].name,
            "destination": roles[self.destination].name,
            "services": self.services,
            "part": self.part.iter().map(question::line).collect::<Vec<_>>(),
        })
    }
}

fn has_both(whole: &Packets, part: &Packets) -> bool {
    (!whole.v4.is_empty() || !part.v4.is_empty()) && (!whole.v6.is_empty() || !part.v6.is_empty())
}

/// The matrix in sheets of as many columns as fit; roles that have no part in anything are left out.
fn sheets(roles: &[Role], cells: &[Said], width: usize, terminal: &Terminal) -> String {
    let rows: BTreeSet<usize> = cells.iter().map(|cell| cell.source).collect();
    let columns: BTreeSet<usize> = cells.iter().map(|cell| cell.destination).collect();
    let texts = |source, destination| {
        let cell = cells.iter().find(|cell| (cell.source, cell.destination) == (source, destination));
        cell.map_or_else(Vec::new, Said::texts)
    };
    let length = |text: &str| text.chars().count();
    let first = rows.iter().map(|row| length(&roles[*row].name)).max().unwrap_or_default().max(length("FROM \\ TO"));
    let wide = |column: usize| {
        let cells = rows.iter().flat_map(|row| texts(*row, column)).map(|text| length(&text));
        cells.max().unwrap_or_default().max(length(&roles[column].name))
    };
    let mut sheets: Vec<Vec<(usize, usize)>> = Vec::new();
    let mut left = 0;
    for column in columns {
        let needs = wide(column) + 2;
        if sheets.is_empty() || needs > left {
            sheets.push(Vec::new());
            left = width.saturating_sub(first + 2);
        }
        left = left.saturating_sub(needs);
        sheets.last_mut().expect("one was pushed").push((column, needs));
    }
    let mut text = String::new();
    for (at, sheet) in sheets.iter().enumerate() {
        if at > 0 {
            text.push('\n');
        }
        let header = sheet.iter().map(|(column, needs)| format!("{:<needs$}", roles[*column].name)).collect::<String>();
        text.push_str(terminal.paint_data("1", format!("{:<1$}  {header}", "FROM \\ TO", first).trim_end()).as_str());
        text.push('\n');
        for row in &rows {
            let cells: Vec<Vec<String>> = sheet.iter().map(|(column, _)| texts(*row, *column)).collect();
            let height = cells.iter().map(Vec::len).max().unwrap_or_default();
            for at in 0..height {
                let name = if at == 0 { roles[*row].name.as_str() } else { "" };
                let pad = |(cell, (_, needs)): (&Vec<String>, &(usize, usize))| format!("{:<needs$}", cell.get(at).map_or("", String::as_str));
                let line = format!("{name:<first$}  {}", cells.iter().zip(sheet).map(pad).collect::<String>());
                text.push_str(line.trim_end());
                text.push('\n');
            }
        }
    }
    if cells.iter().any(|cell| !cell.part.is_empty()) {
        text.push_str("\n* for a part of the pair alone\n");
    }
    text
}
