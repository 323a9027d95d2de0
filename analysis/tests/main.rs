//! The tests of this crate as one program: each one more would hold all libraries again.

mod findings;
mod findings_hold;
mod findings_of_rulesets_hold;
mod plan;
mod questions;
mod read_back;
mod rulesets;
mod words;
