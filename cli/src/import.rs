//! `ringwall import`: port tables of install guides, or a machine's rules, become a policy.

use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use ringwall_diagnostic::{Diagnostic, Sources};
use ringwall_import::{Guide, MAX_BYTES, Stamp, decode, to_csv, to_policy};

use crate::ruleset::import::DraftArgs;
use crate::{Failure, ruleset};
use crate::terminal::{Exit, Terminal, count, print};

#[derive(clap::Args)]
#[command(after_help = "\
The policy that is printed is in the audit stage: it watches and drops nothing until you take
`stage: audit` out. Rows that could not be decided, or that leave open what a rule needs, stand in it as
comments, with the reason, and make the exit code 4.

Examples:
  ringwall import guide.md > policy.yaml
  ringwall import guide.md -o csv         one line per flow, in the guide's own words
  ringwall import a.md b.csv --to policy.yaml
  iptables-save | ringwall import --ruleset - --node web-1 --address 192.0.2.10
  ringwall import --ruleset rules.v4 rules.v6 --node web-1 --address 192.0.2.10 --address 2001:db8::10")]
pub struct Args {
    /// Guides: Markdown (with pipe or HTML tables) or CSV, in UTF-8.
    #[arg(required_unless_present = "ruleset", value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    ruleset: DraftArgs,
    #[arg(short, long, value_enum, default_value_t = Format::Policy, conflicts_with = "ruleset")]
    output: Format,
    /// Write to a new file instead of stdout; one that is there already is left alone.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// The policy file.
    Policy,
    /// One line per flow.
    Csv,
}

pub fn run(args: &Args, terminal: &Terminal) -> Result<Exit, Failure> {
    if !args.ruleset.ruleset.is_empty() {
        let drafted = ruleset::import::run(&args.ruleset, terminal)?;
        write(args, &drafted.text)?;
        terminal.say(&drafted.summary);
        return Ok(drafted.exit);
    }
    let mut sources = Sources::new();
    let mut guides = Vec::new();
    let mut diagnostics = Vec::new();
    for path in &args.files {
        let (guide, found) = read_into(path, &mut sources)?;
        guides.extend(guide);
        diagnostics.extend(found);
    }
    terminal.diagnostics(&diagnostics, &sources);
    let mut left_out = 0;
    let text = match args.output {
        Format::Policy => {
            let stamp = Stamp { program: concat!("ringwall ", env!("CARGO_PKG_VERSION")).into(), date: String::new() };
            let policy = to_policy(&guides, &sources, &stamp);
            left_out = policy.left_out;
            policy.text
        }
        Format::Csv => {
            let mut lines = guides.iter().map(|guide| to_csv(guide, &sources));
            let mut text = lines.next().unwrap_or_default();
            for more in lines {
                text.extend(more.split_inclusive('\n').skip(1));
            }
            text
        }
    };
    write(args, &text)?;
    let flows: usize = guides.iter().map(|guide| guide.flows.len()).sum();
    let undecided: usize = guides.iter().map(|guide| guide.undecided.len()).sum();
    let comments = if left_out > 0 { format!(", {left_out} of them left as comments") } else { String::new() };
    let mut summary = format!("import: {flows} flows{comments}, {undecided} rows undecided");
    if !diagnostics.is_empty() {
        summary.push_str(&format!(", {}", count(&diagnostics)));
    }
    terminal.say(&summary);
    if std::io::stdout().is_terminal() || args.to.is_some() {
        terminal.say("next: bind its $VALUES, then `ringwall check`");
    }
    let failed = diagnostics.iter().any(Diagnostic::is_error);
    Ok(match flows {
        0 => Exit::Failure,
        _ if failed || undecided > 0 || left_out > 0 => Exit::Partly,
        _ => Exit::Success,
    })
}

fn write(args: &Args, text: &str) -> Result<(), Failure> {
    match &args.to {
        None => print(text),
        Some(path) => File::create_new(path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| Failure::new(Exit::Failure, format!("can't write {}: {error}", path.display())))?,
    }
    Ok(())
}

/// One guide and its diagnostics; no guide when it is no text at all.
pub fn read(path: &Path) -> Result<(Sources, Option<Guide>, Vec<Diagnostic>), Failure> {
    let mut sources = Sources::new();
    let (guide, diagnostics) = read_into(path, &mut sources)?;
    Ok((sources, guide, diagnostics))
}

fn read_into(path: &Path, sources: &mut Sources) -> Result<(Option<Guide>, Vec<Diagnostic>), Failure> {
    let failed = |error| Failure::new(Exit::Environment, format!("can't read {}: {error}", path.display()));
    let mut bytes = Vec::new();
    // One byte more than is taken, so that what is too large is seen without being read.
    let most = u64::try_from(MAX_BYTES).expect("a size in 64 bits") + 1;
    File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)).map_err(failed)?;
    let name = path.display().to_string();
    match decode(&name, bytes) {
        Err(diagnostic) => Ok((None, vec![diagnostic])),
        Ok(text) => {
            let id = sources.add(name, text);
            let (guide, diagnostics) = ringwall_import::read(sources, id);
            Ok((Some(guide), diagnostics))
        }
    }
}
