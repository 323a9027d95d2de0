//! `cargo xtask test`: every test of the workspace.
//!
//! In: arguments for `cargo test`. Out: its output as it comes, then each runner's closing line.
//! Never: success when a runner failed, or when none ran.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::Result;

pub fn run(more: &[&str]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let (output, input) = std::io::pipe()?;
    let mut command = Command::new(cargo);
    command.args(["test", "--workspace", "--no-fail-fast"]).args(more).stdin(Stdio::null());
    // The same cases each time; `cargo test` alone draws new ones.
    if std::env::var_os("PROPTEST_RNG_SEED").is_none() {
        command.env("PROPTEST_RNG_SEED", "1");
    }
    command.stdout(input.try_clone()?).stderr(input);
    let mut child = command.spawn()?;
    // Its own ends of the pipe would keep the reader below waiting.
    drop(command);
    let mut closings = Closings::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        println!("{line}");
        closings.take(&line);
    }
    let status = child.wait()?;
    println!("\n{}", closings.table());
    match (status.success(), closings.0.is_empty()) {
        (true, false) => Ok(()),
        (true, true) => Err("no test was run".into()),
        (false, _) => Err("there are failures, see above".into()),
    }
}

/// What was run, and how that ended.
#[derive(Default)]
struct Closings(Vec<(String, String)>);

impl Closings {
    fn take(&mut self, line: &str) {
        let line = line.trim();
        if let Some(program) = line.strip_prefix("Running ").or_else(|| line.strip_prefix("Doc-tests ")) {
            self.0.push((program.to_owned(), "did not end".to_owned()));
        } else if let (Some(result), Some((_, closing))) = (line.strip_prefix("test result: "), self.0.last_mut()) {
            *closing = result.to_owned();
        }
    }

    /// Runners without a test are left out.
    fn table(&self) -> String {
        let ran = self.0.iter().filter(|(_, closing)| !closing.starts_with("ok. 0 passed; 0 failed; 0 ignored"));
        ran.map(|(program, closing)| format!("{program}: {closing}")).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_kept_with_their_runner() {
        let lines = [
            "     Running unittests src/lib.rs (target/debug/deps/packet-1)",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "     Running tests/lab.rs (target/debug/deps/lab-1)",
            "   Doc-tests ringwall_packet",
            "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        ];
        let mut closings = Closings::default();
        lines.into_iter().for_each(|line| closings.take(line));
        assert_eq!(
            closings.table(),
            "unittests src/lib.rs (target/debug/deps/packet-1): ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
             tests/lab.rs (target/debug/deps/lab-1): did not end"
        );
    }
}
