//! `ringwall explain`: the long text of a diagnostic.

use ringwall_diagnostic::Code;

use crate::Failure;
use crate::terminal::{Exit, print};

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  ringwall explain RW0201\n  ringwall explain          list all codes")]
pub struct Args {
    /// Such as RW0201; all codes are listed without one.
    code: Option<String>,
}

pub fn run(args: &Args) -> Result<Exit, Failure> {
    match &args.code {
        None => {
            for (code, text) in Code::all() {
                let title = text.lines().next().unwrap_or_default();
                let title = title.trim_start_matches(['#', ' ']).trim_start_matches(code).trim_start_matches([':', ' ']);
                print(&format!("{code}  {title}\n"));
            }
            Ok(Exit::Success)
        }
        Some(code) => match Code::explain(code) {
            Some(text) => {
                print(text);
                Ok(Exit::Success)
            }
            None => Err(Failure::new(Exit::Failure, format!("there is no diagnostic `{code}`"))
                .help("`ringwall explain` lists all codes")),
        },
    }
}
