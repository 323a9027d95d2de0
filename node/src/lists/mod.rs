//! Lists of addresses that are blocked.
//!
//! In: lists, whole or what changed in them, and what must never be blocked. Out: the kernel's sets as
//! all lists together want them, connections of who is blocked ended, and word of each update once
//! the kernel has it. Never: a reason to block anybody.
//!
//! [`Planner`] is pure: lists in, changes out. [`Lane`] makes the changes over one netlink socket,
//! small transactions at a time, so that an urgent one never waits for a long one.

mod entries;
mod lane;
mod packed;
mod planner;
mod word;
mod work;

pub use lane::{Abilities, Found, Lane, LaneError, Step};
pub use planner::{
    Bounded, Bounds, Change, Chunk, Enforced, Entry, Kind, Lane as Queue, MOST_LISTS, Operation, Planner, Prefix, Snapshot, Taken, TooManyLists,
};
