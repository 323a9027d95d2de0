//! Does the proof notice? Every token of the text to be loaded is changed, every line is left out,
//! said twice and swapped with its neighbour; each such mutant must be refused by the proof, or do
//! the same as the original.
//!
//! "The same" is not the proof's word alone: what it lets pass is compared with the original packet
//! by packet, on the boundaries of all values in both texts.

#[path = "../../ruleset/tests/mutants/mod.rs"]
mod texts;

use ringwall_compile::{compile, prove};
use ringwall_policy::Policy;
use ringwall_ruleset::nftables::{Confirm, Generation, Installed, Loading, transaction};

use texts::{filter_of, mutants, same};

const POLICY: &str = include_str!("policy.yaml");

fn policy() -> Policy {
    let input = ringwall_policy_file::Input { name: "policy.yaml".into(), text: POLICY.into() };
    let parsed = ringwall_policy_file::parse(&[input], &Default::default(), 0);
    parsed.policy.unwrap_or_else(|| panic!("{:?}", parsed.diagnostics))
}

/// A jump that packets come back from does nothing to them, unless it counts them.
fn acts(text: &str) -> bool {
    text.contains("counter") || !["jump", "goto", "vmap"].iter().any(|word| text.split(' ').any(|of| of == *word))
}

#[test]
fn every_mutant_is_refused_or_the_same() {
    let policy = policy();
    let installed = Installed {
        current: Some(Generation(6)),
        fallen: [Generation(7)].into(),
        chains: ["g6_in", "g6_out", "g6_fwd"].map(String::from).to_vec(),
        ..Installed::default()
    };
    let generation = Generation(8);
    let (mut count, mut refused, mut equal) = (0, 0, Vec::new());
    for (node, confirm) in [("web", Confirm::Within(60)), ("edge", Confirm::Within(60)), ("watched", Confirm::Never)] {
        let (ruleset, _) = compile(&policy, node).unwrap();
        let text = transaction(&ruleset, generation, &installed, confirm);
        let prove = |text: &str| prove(&policy, node, &Loading { text, generation, installed: &installed, confirm });
        prove(&text).unwrap_or_else(|error| panic!("{node}: {error}"));
        let original = filter_of(&text, &installed).unwrap();
        let all = mutants(&text);
        // Each line's and token's turn comes; `RINGWALL_MUTANTS=1` takes them all, which takes minutes.
        let step = if std::env::var_os("RINGWALL_MUTANTS").is_some() { 1 } else { (all.len() / 700).max(1) };
        count += all.len();
        for (what, mutant) in all.into_iter().step_by(step) {
            match prove(&mutant) {
                Err(_) => refused += 1,
                Ok(()) => {
                    let does = filter_of(&mutant, &installed).unwrap_or_else(|| panic!("{node}, {what}: proved, and can't be read"));
                    assert!(same(&original, &does, acts), "{node}, {what}: proved, and does something else");
                    equal.push(format!("{node}, {what}"));
                }
            }
        }
    }
    println!("{} of {count} mutants: {refused} refused, {} do the same", refused + equal.len(), equal.len());
    for what in &equal {
        println!("  the same: {what}");
    }
    assert!(refused >= 500);
}
