//! Questions about somebody's rules, whatever text they come from.
//!
//! In: a [`Filter`](ringwall_ruleset::filter::Filter), which a reader made. Out: what becomes of which
//! packets on their way through the host, by which rules, with a packet that shows it; what depends on
//! something that the reader does not understand is told apart. Never: a chain of the way left out, a
//! guess at what an unknown match does.

pub mod can;
pub mod diff;
pub mod draft;
pub mod others;

pub use ringwall_ruleset::way::{self, By, Fate, Outcome, Way, chains, filtered, for_itself, on_the_way, pass};
