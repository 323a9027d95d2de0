//! The tests of this crate as one program: each one more would hold all libraries again.

mod core;
mod http;
mod identity;
mod repository;
mod server;
mod store;
