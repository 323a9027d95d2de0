//! The tests of this crate as one program: each one more would hold all libraries again.

mod demo;
mod killing;
mod tidy;
