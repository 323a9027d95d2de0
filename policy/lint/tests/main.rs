//! The tests of this crate as one program: each one more would hold all libraries again.

mod any_rows;
mod corpus;
mod spec;
mod table;
