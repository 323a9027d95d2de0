//! The tests of this crate as one program: each one more would hold all libraries again.

mod containers;
mod differential;
mod mutants;
mod proof;
mod rejects;
mod text;
