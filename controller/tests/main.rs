//! The tests of this crate as one program: each one more would hold all libraries again.

mod core;
mod http;
mod identity;
mod server;
mod store;
