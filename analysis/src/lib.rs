//! Questions about policies and rulesets, each answered exactly, with a packet that shows it.
//!
//! In: a resolved policy, or what a reader made of somebody's rules. Out: findings, verdicts with the
//! rule that decides, who reaches what, and complete differences; or "unknown", with the budget that
//! ran out. Never: a guess, a sample, a file, the kernel.

pub mod can;
pub mod exposure;
pub mod findings;
pub mod matrix;
mod parallel;
pub mod plan;
pub mod probes;
pub mod question;
pub mod ruleset;
pub mod words;
