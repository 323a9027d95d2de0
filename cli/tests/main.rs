//! The tests of this crate as one program: each one more would hold all libraries again.

mod acceptance;
mod check_ruleset;
mod examples;
mod fleet;
mod questions;
mod verify;
