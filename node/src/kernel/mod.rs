//! The only code that touches the kernel.
//!
//! In: nftables text to load, set elements to change, questions. Out: what the kernel holds, as
//! typed values, and what it refused. Never: a decision of its own, a read of our own tables through
//! `nft list`, or anything outside the network namespace of the thread that opened it.
//!
//! Rules go through the nft program ([`Nft`]), so that the text that is reviewed is the text that
//! is loaded. Everything that must be fast goes over netlink ([`Netfilter`], [`LogReader`]).
//! The messages are written by hand: rust-netlink's packet crate (0.4) has no objects, element
//! counts or batches, and reads rules into types that lose the bytes that a digest needs.

mod conntrack;
mod digest;
mod elements;
mod error;
mod features;
mod header;
mod listeners;
mod listing;
mod monitor;
mod nflog;
mod nft;
mod objects;
mod read;
mod socket;
mod uapi;
pub(crate) mod wire;

pub use conntrack::{Connection, ConnectionCount, Status, TcpState, Tuple, TupleUpper};
pub use digest::Digest;
pub use elements::{ChangeError, Edit, Key, Refusal};
pub use error::Error;
pub use features::{Missing, missing};
pub use listeners::{Listener, ephemeral_ports, listeners};
pub use listing::{Limits, ListError};
pub use monitor::{Change, Monitor};
pub use nflog::{LogReader, LogRecord, Losses};
pub use nft::{Complaint, Nft, NftError, OLDEST};
pub use objects::{BaseChain, Chain, Counter, Element, Hook, Policy, Rule, Set, SetFlags, Table, TableFamily, TableId};
pub use socket::Failure;
pub use wire::Malformed;

use socket::Socket;

/// netfilter of one network namespace, over netlink.
pub struct Netfilter {
    socket: Socket,
}

impl Netfilter {
    /// Opens the network namespace that the calling thread is in; it stays there wherever the
    /// thread goes later.
    pub fn open() -> Result<Self, Error> {
        Socket::open().map(|socket| Self { socket }).map_err(Error::Open)
    }
}
