//! Programs on other machines: `ringwall probe` and `ringwall respond`, with pipes to them.
//!
//! In: a machine and a verb. Out: an [`End`]. Never: a machine's name in a shell that means more
//! than itself (see `ringwall_policy::Name`).

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use ringwall_analysis::probes::Machine;

/// Runs a verb of `ringwall` on machines.
pub trait Runner: Sync {
    /// The error says in words why it could not be started.
    fn start(&self, machine: &Machine, verb: &str) -> Result<End, String>;
}

/// One running end.
pub struct End {
    /// A responder stops when this is dropped.
    pub input: Box<dyn Write + Send>,
    pub output: Box<dyn BufRead + Send>,
    /// Ends it at once.
    pub kill: Box<dyn Fn() + Send>,
    /// After its output has ended: what it complained of, or how it ended.
    pub finish: Box<dyn FnOnce() -> String + Send>,
}

/// A shell command in which `{node}` stands for the machine's name; the verb is put behind it.
pub struct Template(pub String);

impl Runner for Template {
    fn start(&self, machine: &Machine, verb: &str) -> Result<End, String> {
        let line = format!("exec {} {verb}", self.0.replace("{node}", &machine.name));
        let mut command = Command::new("sh");
        command.args(["-c", &line]);
        spawn(command)
    }
}

/// This program itself, on this machine.
pub struct Here;

impl Runner for Here {
    fn start(&self, _: &Machine, verb: &str) -> Result<End, String> {
        let program = std::env::current_exe().map_err(|error| format!("this program's file was not found: {error}"))?;
        let mut command = Command::new(program);
        command.arg(verb);
        spawn(command)
    }
}

fn spawn(mut command: Command) -> Result<End, String> {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().map_err(|error| format!("it could not be started: {error}"))?;
    let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
        return Err("it has no pipes".into());
    };
    let complaints = std::thread::spawn(move || last_line(errors));
    let child = Arc::new(Mutex::new(child));
    let other = child.clone();
    Ok(End {
        input: Box::new(input),
        output: Box::new(BufReader::new(output)),
        kill: Box::new(move || kill(&mut other.lock().unwrap_or_else(PoisonError::into_inner))),
        finish: Box::new(move || {
            let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
            // It has closed its output: whatever it is still doing, nobody will hear of it.
            kill(&mut child);
            let ending = match child.wait() {
                Ok(status) => format!("it ended with {status}"),
                Err(error) => format!("its end could not be seen: {error}"),
            };
            complaints.join().ok().flatten().unwrap_or(ending)
        }),
    })
}

fn kill(child: &mut Child) {
    // The only failure is that it has ended already.
    let _ = child.kill();
}

fn last_line(mut errors: impl Read) -> Option<String> {
    /// Enough for any error message; the rest is thrown away, lest the program wait for a reader.
    const MOST: u64 = 64 * 1024;
    let mut text = Vec::new();
    (&mut errors).take(MOST).read_to_end(&mut text).ok()?;
    io::copy(&mut errors, &mut io::sink()).ok()?;
    let text = String::from_utf8_lossy(&text);
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}
