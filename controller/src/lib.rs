//! The controller of a fleet: who belongs to it, and what is kept.
//!
//! In: tokens, certificates, changes that somebody answers for. Out: certificates, and a store that
//! loses nothing that it acknowledged. Never: a decision about what a policy allows.

pub mod access;
pub mod agent;
pub mod assignment;
pub mod audit;
pub mod change;
pub mod core;
pub mod declared;
pub mod event;
pub mod fleet;
mod histogram;
pub mod http;
pub mod id;
pub mod identity;
mod narrowing;
pub mod repository;
pub mod revision;
pub mod rollout;
pub mod rulesets;
pub mod server;
pub mod setting;
pub mod store;
pub mod system;
pub mod time;
pub mod token;
