//! `cargo xtask NAME`: the developer's commands.
//!
//! In: a command. Out: what it prints, and an exit code. Never: a part of what users install.

mod bench;
mod demo;
mod protocol;
mod test;
mod tools;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask demo           the whole story on this machine: guides to policies to enforced, probed nodes
cargo xtask test           every test
cargo xtask protocol       the Rust code of protocol/proto, again
cargo xtask bench [NAME]   both sides of a comparison, and the ratio; without a name, what there is
cargo xtask bench analysis [FILE...]   the same with lists of rules in ClassBench's format";

/// What went wrong, in words for the person at the terminal.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["demo"] => tools::ensure().and_then(|()| demo::run()),
        ["protocol"] => protocol::run(),
        ["test", ref more @ ..] => tools::ensure().and_then(|()| test::run(more)),
        ["bench"] => bench::run(&[]),
        ["bench", ..] if cfg!(debug_assertions) => optimised(&arguments),
        ["bench", ref more @ ..] => tools::ensure().and_then(|()| bench::run(more)),
        ["help" | "--help" | "-h"] => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// This program again, as it is released: what is measured is what users run.
fn optimised(arguments: &[&str]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = std::process::Command::new(cargo);
    command.args(["run", "--quiet", "--release", "--package", "xtask", "--"]).args(arguments);
    if command.status()?.success() { Ok(()) } else { Err("the benchmark failed, see above".into()) }
}
