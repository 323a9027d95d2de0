//! The tests of this crate as one program: each one more would hold all libraries again.

mod messages;
mod random;
mod ruleset;
