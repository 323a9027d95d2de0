//! The tests of this crate as one program: each one more would hold all libraries again.

mod damage;
mod question;
mod replay;
mod requirements;
mod spec;
