//! The proof holds for what the compiler writes, in every way of loading it.

use ringwall_compile::{compile, prove};
use ringwall_policy::Policy;
use ringwall_ruleset::nftables::{Confirm, Generation, Installed, Loading, transaction};

const POLICY: &str = include_str!("policy.yaml");

fn policy() -> Policy {
    let input = ringwall_policy_file::Input { name: "policy.yaml".into(), text: POLICY.into() };
    let parsed = ringwall_policy_file::parse(&[input], &Default::default(), 0);
    parsed.policy.unwrap_or_else(|| panic!("{:?}", parsed.diagnostics))
}

#[test]
fn what_is_written_is_proved() {
    let policy = policy();
    for node in policy.nodes.keys() {
        let (ruleset, _) = compile(&policy, node.as_str()).unwrap();
        let nothing = Installed::default();
        let something = Installed {
            current: Some(Generation(6)),
            fallen: [Generation(7), Generation(9)].into(),
            chains: ["g6_in", "g6_out", "g6_fwd", "g6_established", "g9_in"].map(String::from).to_vec(),
            counters: ["g6_in_default", "g9_in_default"].map(String::from).to_vec(),
            sets: ["g9_armed"].map(String::from).to_vec(),
        };
        for (generation, installed) in [(1, &nothing), (10, &something), (254, &nothing), (255, &nothing)] {
            for confirm in [Confirm::Within(60), Confirm::Never] {
                let generation = Generation(generation);
                let text = transaction(&ruleset, generation, installed, confirm);
                let loading = Loading { text: &text, generation, installed, confirm };
                if let Err(error) = prove(&policy, node.as_str(), &loading) {
                    panic!("{node} {generation} {confirm:?}: {error}");
                }
            }
        }
    }
}
