//! The tests of this crate as one program: each one more would hold all libraries again.

mod hands;
mod judge;
mod kernel;
mod lists;
mod namespace;
mod probe;
mod reconciler;
