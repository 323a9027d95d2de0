//! What people see: colours, tables, diagnostics, exit codes.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::ValueEnum;
use ringwall_diagnostic::{Colour, Diagnostic, Severity, Sources, render};

use crate::Failure;

/// The meaning of our exit codes; clap ends with 2 by itself on wrong usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Yes, or done.
    Success = 0,
    /// No, or failed.
    Failure = 1,
    Usage = 2,
    /// Something of the machine is missing.
    Environment = 3,
    /// Partly done.
    Partly = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    Always,
    Never,
}

/// How data is printed on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// One document with a `schema`.
    Json,
}

/// How a list is printed on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ListOutput {
    /// For people.
    Table,
    /// One document with a `schema`.
    Json,
    /// A document a line.
    Ndjson,
    /// A line with the names of the columns, then one for each row.
    Csv,
}

#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    messages: Colour,
    data: Colour,
}

impl Terminal {
    pub fn new(when: When) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colour = |is_terminal: bool| match when {
            When::Always => Colour::Ansi,
            When::Auto if is_terminal && !no_color => Colour::Ansi,
            When::Auto | When::Never => Colour::Plain,
        };
        Self { messages: colour(std::io::stderr().is_terminal()), data: colour(std::io::stdout().is_terminal()) }
    }

    fn paint(&self, style: &str, text: &str) -> String {
        paint(self.messages, style, text)
    }

    /// A piece of what goes to stdout, in a style of ANSI's, such as `32` for green.
    pub fn paint_data(&self, style: &str, text: &str) -> String {
        paint(self.data, style, text)
    }

    /// A sentence on stderr.
    pub fn say(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    pub fn warn(&self, text: &str) {
        self.say(&format!("{}: {text}", self.paint("1;33", "warning")));
    }

    pub fn failure(&self, failure: &Failure) {
        self.say(&format!("{}: {}", self.paint("1;31", "error"), failure.message));
        for cause in &failure.causes {
            self.say(&format!("  because: {cause}"));
        }
        for help in &failure.help {
            self.say(&format!("  {}: {help}", self.paint("1;36", "help")));
        }
    }

    /// All diagnostics, and how many there are.
    pub fn diagnostics(&self, diagnostics: &[Diagnostic], sources: &Sources) {
        let mut text = String::new();
        for diagnostic in diagnostics {
            text.push_str(&render(diagnostic, sources, self.messages));
            text.push('\n');
        }
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

fn paint(colour: Colour, style: &str, text: &str) -> String {
    match colour {
        Colour::Plain => text.to_owned(),
        Colour::Ansi => format!("\x1b[{style}m{text}\x1b[0m"),
    }
}

/// `2 errors, 1 warning`; empty when there are none.
pub fn count(diagnostics: &[Diagnostic]) -> String {
    let parts = [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Info, "remark")];
    let parts = parts.iter().filter_map(|(severity, word)| {
        let number = diagnostics.iter().filter(|diagnostic| diagnostic.severity == *severity).count();
        (number > 0).then(|| format!("{number} {word}{}", if number == 1 { "" } else { "s" }))
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// Text on stdout. A reader that went away is no failure of ours; a full disk ends the program.
pub fn print(text: &str) {
    let mut stdout = std::io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            let _ = writeln!(std::io::stderr(), "error: can't write the output: {error}");
            std::process::exit(Exit::Failure as i32);
        }
        _ => {}
    }
}

pub fn print_json(value: &serde_json::Value) {
    print(&format!("{value:#}\n"));
}

pub fn print_csv(header: &[&str], rows: &[Vec<String>]) {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let all = std::iter::once(header.iter().map(|cell| cell.to_string()).collect()).chain(rows.iter().cloned());
    for row in all {
        let row: Vec<String> = row;
        writer.write_record(&row).expect("rows of one length, in memory");
    }
    print(&String::from_utf8_lossy(&writer.into_inner().expect("memory takes all")));
}

/// One document a line.
pub fn print_ndjson(values: &[serde_json::Value]) {
    print(&values.iter().map(|value| format!("{value}\n")).collect::<String>());
}

/// Columns as wide as their widest cell; the last one is not padded.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let header: Vec<String> = header.iter().map(|cell| cell.to_string()).collect();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
