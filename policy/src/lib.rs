//! The policy: what the operator wants, resolved, and what it means.
//!
//! In: values that a reader (`policy/file`) has resolved. Out: rules as exact sets of flows, and the
//! verdict with its reason for any flow. Never: text formats, clocks, name lookups, or nftables.

mod expectation;
mod id;
mod meaning;
mod model;
mod question;
mod table;

pub use expectation::{Surprise, expectation_failures};
pub use id::{RuleId, rule_id, rule_meaning};
pub use meaning::{Judgement, Reason, Verdict, is_broadcast, receivable};
pub use model::{
    Action, Definition, End, Expectation, Floor, Group, Management, Name, Node, OnDrift, OnTighten, Origin, Policy, Rule,
    ServiceUse, Stage, TlsVersion, Unused,
};
pub use question::Question;
pub use table::{Decider, is_answer, merged, name_asked, uses_interface};
