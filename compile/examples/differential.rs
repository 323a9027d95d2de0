//! The compiler against the kernel, at length:
//! `cargo run --release -p ringwall-compile --example differential -- --flows 200000 --seed 1`.
//!
//! Policies have the seeds `--seed`, `--seed` + 1, …; a report names its own, which alone repeats it.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

#[allow(dead_code, reason = "the test has a part more")]
#[path = "../tests/differential/campaign/mod.rs"]
mod campaign;

fn main() -> ExitCode {
    let (mut flows, mut seed) = (200_000, 1);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse().ok());
        match (argument.as_str(), value) {
            ("--flows", Some(value)) => flows = value,
            ("--seed", Some(value)) => seed = value,
            _ => {
                eprintln!("usage: differential [--flows N] [--seed N]");
                return ExitCode::from(2);
            }
        }
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs();
    match campaign::campaign(usize::try_from(flows).unwrap_or(usize::MAX), seed, now) {
        Ok(tally) => {
            for disagreement in &tally.disagreements {
                println!("{disagreement}");
            }
            println!("{tally}");
            ExitCode::from(u8::from(!tally.disagreements.is_empty()))
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(3)
        }
    }
}
