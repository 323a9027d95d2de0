//! Compiling for a fleet and proving it, against copying the same texts in memory.

use super::{Result, median, time};
use ringwall_compile::{compile_all, prove};
use ringwall_ruleset::nftables::{Confirm, Generation, Installed, Loading, transaction};
use std::fmt::Write as _;
use std::hint::black_box;
use std::num::NonZeroUsize;

const NODES: usize = 100;
const RULES: usize = 1_000;
const ROUNDS: usize = 5;

pub fn run() -> Result<()> {
    let text = fleet();
    let (mut parsing, mut compiling, mut proving, mut copying) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut size = 0;
    for _ in 0..ROUNDS {
        let mut policy = None;
        parsing.push(time(|| {
            policy = Some(super::policy(&text)?);
            Ok(())
        })?.as_secs_f64());
        let policy = policy.ok_or("no policy")?;
        let mut compiled = Vec::new();
        compiling.push(time(|| {
            for (name, result) in compile_all(&policy, policy.nodes.keys()) {
                compiled.push((name, result?.0));
            }
            Ok(())
        })?.as_secs_f64());
        let installed = Installed::default();
        let texts: Vec<_> = compiled
            .iter()
            .map(|(name, ruleset)| (name, transaction(ruleset, Generation(1), &installed, Confirm::Never)))
            .collect();
        proving.push(time(|| {
            for (name, text) in &texts {
                let confirm = Confirm::Never;
                prove(&policy, name.as_str(), &Loading { text, generation: Generation(1), installed: &installed, confirm })?;
            }
            Ok(())
        })?.as_secs_f64());
        size = texts.iter().map(|(_, text)| text.len()).sum();
        copying.push(time(|| {
            black_box(texts.iter().map(|(_, text)| text.as_bytes().to_vec()).collect::<Vec<_>>());
            Ok(())
        })?.as_secs_f64());
    }
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let (parse, compile) = (median(parsing), median(compiling));
    println!("{NODES} nodes, {RULES} rules, {:.1} MB of nftables text; median of {ROUNDS} rounds", size as f64 / 1e6);
    println!("  parse the policy           {:>8.1} ms", parse * 1e3);
    println!("  compile and prove          {:>8.1} ms on {threads} threads", compile * 1e3);
    println!("  the proof alone            {:>8.1} ms on one thread", median(proving) * 1e3);
    println!("  copy the texts             {:>8.1} ms", median(copying) * 1e3);
    println!("  parse, compile and prove against the budget of 1 s: {:.2}", parse + compile);
    Ok(())
}

/// Roles of ten nodes each, every rule from one role to another on a port of its own.
fn fleet() -> String {
    let mut text = String::from("nodes:\n");
    for node in 0..NODES {
        let (role, host) = (node / 10, node + 1);
        writeln!(text, "  n{node}: {{ addresses: [192.0.2.{host}, \"2001:db8::{host:x}\"], labels: {{ role: r{role} }} }}").expect("a string");
    }
    text.push_str("groups:\n");
    for role in 0..NODES / 10 {
        writeln!(text, "  r{role}: {{ labels: {{ role: r{role} }} }}").expect("a string");
    }
    text.push_str("rules:\n");
    for rule in 0..RULES {
        let (from, to, port) = (rule % 10, rule / 10 % 10, 1024 + rule);
        writeln!(text, "  - allow: r{from} -> r{to}\n    services: [tcp/{port}]").expect("a string");
    }
    text
}
