//! nftables text: the body of a generation, and the transactions that load, confirm and remove it.
//!
//! In: a [`Ruleset`](crate::Ruleset), generation numbers. Out: text for `nft -f -`; the text that is
//! shown is the text that is loaded. Never: a process, a socket, or another program's table.

pub mod blocks;
mod body;
mod chains;
mod claim;
pub mod frame;
mod layout;
mod linear;
mod proof;
pub mod read;
mod text;
mod transaction;

pub use body::{body, body_of_lists, name_set, name_sets, timeout_objects};
pub use blocks::BLOCKS_TABLE;
pub use proof::{Counterexample, Unproved, loaded, prove, prove_all, refuse};
pub use transaction::{
    Confirm, Generation, Installed, Loading, MARK_MASK, TABLE, confirm, learn, remove, rollback, transaction,
};

/// NFLOG group of our logged packets (`nfnetlink_log`; any free 16-bit number does).
pub const LOG_GROUP: u16 = 8677;
