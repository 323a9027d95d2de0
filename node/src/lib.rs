//! A node: the kernel, what is applied to it, and probes.
//!
//! In: compiled rulesets and plans, as data. Out: what the kernel was made to enforce, and what was
//! observed. Never: the policy language, YAML, SQL, or a decision about what should be allowed.

pub mod apply;
pub mod kernel;
pub mod lists;
pub mod probe;
pub mod reconciler;
