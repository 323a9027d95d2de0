//! iptables: what its programs save and restore, for both families.
//!
//! In: `iptables-save` and `ip6tables-save` text, of anybody's rules, and `ipset save` text. Out: what
//! they do. Never: a process, a file, a name that is looked up, or a match left out.

mod asks;
mod blocks;
mod icmp;
mod ipset;
mod marks;
mod matches;
mod modules;
mod proof;
mod protocols;
mod read;
mod refusals;
mod tokens;
mod values;
mod walk;
mod write;

pub use read::{Text, is_iptables, read};
pub use refusals::{Refusal, warnings};
pub use write::{Proved, Unwritten, write};
