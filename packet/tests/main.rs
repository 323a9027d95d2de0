//! The tests of this crate as one program: each one more would hold all libraries again.

mod bdd;
mod classbench;
mod diagrams;
mod flows;
mod intervals;
mod plain;
mod tables;
