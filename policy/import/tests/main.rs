//! The tests of this crate as one program: each one more would hold all libraries again.

mod corpus;
mod measure;
mod mixture;
mod policies;
mod replay;
mod robust;
mod shapes;
mod spec;
