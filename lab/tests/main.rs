//! The tests of this crate as one program: each one more would hold all libraries again.

mod lab;
mod lifecycle;
mod packets;
