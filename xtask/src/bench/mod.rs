//! `cargo xtask bench NAME`: both sides in one run, and the ratio.
//!
//! In: the name of a benchmark. Out: one line per case on stdout. Never: a figure that stands alone,
//! or a test that fails because the machine is slow.

mod analysis;
mod apply;
mod compile;
mod fanout;
mod flows;
mod lists;

use std::time::{Duration, Instant};

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Name, what it measures, the program, which gets the files that were named.
type Benchmark = (&'static str, &'static str, fn(&[&str]) -> Result<()>);

const BENCHMARKS: &[Benchmark] = &[
    ("flows", "new flows per second through 10 against 10,000 rules, and established traffic", |_| flows::run()),
    ("compile", "parsing and compiling 100 nodes x 1,000 rules", |_| compile::run()),
    ("analysis", "exact answers about 10,000 rules and more, against a sequential BDD; [FILE...] in ClassBench's format", analysis::run),
    ("lists", "1,000,000 blocked addresses and prefixes into the kernel, against the bare messages, nft and ipset", lists::run),
    ("fanout", "a change of a list to the last of 1,000 and 5,000 connected agents, against bare TLS; memory; all coming back", fanout::run),
    ("apply", "applying 10,000 rules against `nft -f` of the same text", |_| apply::run()),
];

pub fn run(arguments: &[&str]) -> Result<()> {
    let [name, files @ ..] = arguments else {
        for (name, about, _) in BENCHMARKS {
            println!("{name:<10} {about}");
        }
        return Ok(());
    };
    let found = BENCHMARKS.iter().find(|(known, ..)| known == name);
    let (.., program) = found.ok_or_else(|| format!("there is no benchmark `{name}`; `cargo xtask bench` lists them"))?;
    program(files)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn time(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed())
}

/// A policy of `rules` rules for one node, as text: sources are shared by many rules, each rule has
/// a range of four ports of its own.
fn shared_sources(rules: usize, sources: usize) -> String {
    let sources = sources.min(rules);
    let mut text = String::from("nodes:\n  node: { addresses: [192.0.2.1, \"2001:db8::1\"] }\ngroups:\n");
    for source in 0..sources {
        let [third, fourth] = [source / 64, source % 64 * 4];
        let network = ["203.0.113", "198.51.100"][third];
        text.push_str(&format!("  s{source}: {{ addresses: [{network}.{fourth}/30] }}\n"));
    }
    text.push_str("rules:\n");
    for rule in 0..rules {
        let port = first_port(rule, sources);
        text.push_str(&format!("  - allow: s{} -> node\n    services: [tcp/{port}-{}]\n", rule % sources, port + 3));
    }
    text
}

fn first_port(rule: usize, sources: usize) -> u16 {
    u16::try_from(1024 + rule / sources * 8).expect("few enough rules for the ports")
}

fn policy(text: &str) -> Result<ringwall_policy::Policy> {
    let input = ringwall_policy_file::Input { name: "policy.yaml".into(), text: text.into() };
    let parsed = ringwall_policy_file::parse(&[input], &Default::default(), 0);
    parsed.policy.ok_or_else(|| {
        let first = parsed.diagnostics.iter().find(|diagnostic| diagnostic.is_error());
        first.map_or("no policy", |diagnostic| diagnostic.message.as_str()).to_owned().into()
    })
}

fn ruleset(policy: &ringwall_policy::Policy, node: &str) -> Result<ringwall_ruleset::Ruleset> {
    Ok(ringwall_compile::compile(policy, node)?.0.into_inner())
}
