//! Compiling for a fleet, against writing the same texts into memory.

use super::{Result, median, time};
use ringwall_policy::{Name, Policy};
use ringwall_ruleset::nftables::{Confirm, Generation, Installed, transaction};
use std::fmt::Write as _;
use std::hint::black_box;
use std::num::NonZeroUsize;

const NODES: usize = 100;
const RULES: usize = 1_000;
const ROUNDS: usize = 5;

pub fn run() -> Result<()> {
    let text = fleet();
    let mut parsing = Vec::new();
    let mut compiling = Vec::new();
    let mut alone = Vec::new();
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let mut copying = Vec::new();
    let mut size = 0;
    for _ in 0..ROUNDS {
        let mut policy = None;
        parsing.push(time(|| {
            policy = Some(super::policy(&text)?);
            Ok(())
        })?.as_secs_f64());
        let policy = policy.ok_or("no policy")?;
        alone.push(time(|| compile(&policy, 1).map(drop))?.as_secs_f64());
        let mut texts = Vec::new();
        compiling.push(time(|| {
            texts = compile(&policy, threads)?;
            Ok(())
        })?.as_secs_f64());
        size = texts.iter().map(String::len).sum();
        copying.push(time(|| {
            black_box(texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>());
            Ok(())
        })?.as_secs_f64());
    }
    println!("{NODES} nodes, {RULES} rules, {:.1} MB of nftables text; median of {ROUNDS} rounds", size as f64 / 1e6);
    println!("  parse the policy        {:>8.1} ms", median(parsing.clone()) * 1e3);
    println!("  compile for all nodes   {:>8.1} ms on {threads} threads, {:.1} ms on one",
        median(compiling.clone()) * 1e3, median(alone) * 1e3);
    println!("  copy the texts          {:>8.1} ms", median(copying.clone()) * 1e3);
    println!("  compile / copy: ratio {:.1}; both steps against the budget of 1 s: {:.2}",
        median(compiling.clone()) / median(copying), median(parsing) + median(compiling));
    Ok(())
}

/// The texts of all nodes, in their order.
fn compile(policy: &Policy, threads: usize) -> Result<Vec<String>> {
    let nodes: Vec<&Name> = policy.nodes.keys().collect();
    let compile = |nodes: &[&Name]| -> std::result::Result<Vec<String>, String> {
        let text = |node: &&Name| {
            let ruleset = super::ruleset(policy, node.as_str()).map_err(|error| error.to_string())?;
            Ok(transaction(&ruleset, Generation(1), &Installed::default(), Confirm::Never))
        };
        nodes.iter().map(text).collect()
    };
    std::thread::scope(|scope| {
        let chunks = nodes.chunks(nodes.len().div_ceil(threads).max(1));
        let threads: Vec<_> = chunks.map(|nodes| scope.spawn(|| compile(nodes))).collect();
        let texts = threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread has panicked")?.map_err(Into::into));
        Ok(texts.collect::<Result<Vec<_>>>()?.concat())
    })
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
