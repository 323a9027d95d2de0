//! The demo leaves nothing behind, however it ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Its processes are known by a variable, which they all inherit.
fn alive(marker: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let marked = processes.filter(|entry| {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == marker.as_bytes())
    });
    marked.map(|entry| fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default().replace('\0', " ")).collect()
}

fn ends_with(signal: Signal) {
    let marker = format!("DEMO_OF={}-{signal}", std::process::id());
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let (name, value) = marker.split_once('=').expect("has one");
    command.arg("demo").env(name, value).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut demo = command.spawn().expect("the demo starts");
    let output = BufReader::new(demo.stdout.take().expect("piped above"));
    // In the middle of the story: machines are there, and some of them enforce.
    let reached = output.lines().map_while(Result::ok).any(|line| line.contains("ringwall confirm"));
    assert!(reached, "the demo ended early");
    assert!(alive(&marker).len() > 2, "its processes are not found by the variable");
    kill(Pid::from_raw(demo.id().try_into().expect("a pid")), signal).expect("it lives");
    demo.wait().expect("it ends");
    let begun = Instant::now();
    while !alive(&marker).is_empty() && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(alive(&marker), [""; 0], "left behind after {signal}");
}

#[test]
fn nothing_is_left_after_an_interrupt() {
    ends_with(Signal::SIGINT);
}

#[test]
fn nothing_is_left_after_a_kill() {
    ends_with(Signal::SIGKILL);
}
