//! Groups and services that are defined and used by nothing (RW7005).
//!
//! In: the policy. Out: a remark for each. Never: what is only switched off.

use ringwall_diagnostic::Diagnostic;
use ringwall_policy::Policy;

pub(super) fn findings(policy: &Policy) -> Vec<Diagnostic> {
    let one = |unused: &ringwall_policy::Unused| {
        let message = format!("nothing uses the {} `{}`", unused.what, unused.name);
        Diagnostic::info("RW7005", message).at(unused.origin.span, "").help("take it out, or write the rule that it was meant for")
    };
    policy.unused.iter().map(one).collect()
}
