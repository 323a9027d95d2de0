//! What decided a flow, in the policy's words.
//!
//! In: a policy, a reason or what the destination's kernel said. Out: a rule with its place, or whose chain it was.
//! Never: another's chain taken for a rule of ours.

use ringwall_policy::{Policy, Reason, RuleId};
use ringwall_probe::{Trace, TraceVerdict};

pub fn rule_text(policy: &Policy, reason: &Reason) -> String {
    match reason {
        Reason::Rule(id) => rule_place(policy, id),
        Reason::Management => "management".into(),
        Reason::Default => "default: no rule allows it".into(),
    }
}

/// The id, with file and line.
pub fn rule_place(policy: &Policy, id: &RuleId) -> String {
    match policy.rule(id) {
        Some(rule) => format!("{id} ({})", rule.origin.place),
        None => id.to_string(),
    }
}

/// A chain of ours in the policy's words, where `place` says those of a rule; another's by its name.
pub fn decider(trace: &Trace, place: impl Fn(&RuleId) -> String) -> String {
    let verdict = match trace.verdict {
        TraceVerdict::Accept => "accepted",
        TraceVerdict::Drop => "dropped",
    };
    match rule_of(&trace.chain).and_then(RuleId::new) {
        _ if trace.table != "ringwall" => format!("{verdict} by chain `{}` of the foreign table `{}`", trace.chain, trace.table),
        Some(id) => format!("{verdict} by rule {}", place(&id)),
        None if trace.chain.ends_with("_default") => format!("{verdict} by default"),
        None => format!("{verdict} by chain `{}`", trace.chain),
    }
}

/// The id in the name of a rule's chain: `gN_PATH_r_ID`.
fn rule_of(chain: &str) -> Option<&str> {
    let (before, id) = chain.split_once("_r_")?;
    let number = before.strip_prefix('g')?.split('_').next()?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rules_chain_gives_its_id() {
        let cases = [
            ("g12_in_r_1a2b3c4d", Some("1a2b3c4d")),
            ("g1_r_web", Some("web")),
            ("g1_out_r_a_r_b", Some("a_r_b")),
            ("g1_in_default", None),
            ("docker_r_x", None),
            ("g_r_x", None),
        ];
        for (chain, id) in cases {
            assert_eq!(rule_of(chain), id, "{chain}");
        }
    }
}
