//! What failed, by operation; the source says why.

use super::{Failure, TableId};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open a netlink socket to netfilter")]
    Open(#[source] Failure),
    #[error("cannot read the ruleset's generation")]
    Generation(#[source] Failure),
    #[error("cannot read the tables")]
    Tables(#[source] Failure),
    #[error("cannot read the chains")]
    Chains(#[source] Failure),
    #[error("cannot read the rules of {table}")]
    Rules {
        table: TableId,
        #[source]
        source: Failure,
    },
    #[error("cannot read the counters of {table}")]
    Counters {
        table: TableId,
        #[source]
        source: Failure,
    },
    #[error("cannot read the sets of {table}")]
    Sets {
        table: TableId,
        #[source]
        source: Failure,
    },
    #[error("cannot read the elements of `{set}` in {table}")]
    Elements {
        table: TableId,
        set: String,
        #[source]
        source: Failure,
    },
    #[error("cannot make a digest of {table}")]
    Digest {
        table: TableId,
        #[source]
        source: Failure,
    },
    #[error("cannot read the tracked connections")]
    Connections(#[source] Failure),
    #[error("cannot look up a tracked connection")]
    FindConnection(#[source] Failure),
    #[error("cannot mark a tracked connection")]
    MarkConnection(#[source] Failure),
    #[error("cannot delete a tracked connection")]
    DeleteConnection(#[source] Failure),
    #[error("cannot count the tracked connections")]
    CountConnections(#[source] Failure),
    #[error("cannot listen to log group {group}")]
    BindLog {
        group: u16,
        #[source]
        source: Failure,
    },
    #[error("cannot read the log")]
    ReadLog(#[source] Failure),
    #[error("cannot listen to changes of nftables")]
    Listen(#[source] Failure),
}

impl Error {
    /// The reason, which is also the `source`.
    pub fn failure(&self) -> &Failure {
        match self {
            Self::Open(failure)
            | Self::Generation(failure)
            | Self::Tables(failure)
            | Self::Chains(failure)
            | Self::Rules { source: failure, .. }
            | Self::Counters { source: failure, .. }
            | Self::Sets { source: failure, .. }
            | Self::Elements { source: failure, .. }
            | Self::Digest { source: failure, .. }
            | Self::Connections(failure)
            | Self::FindConnection(failure)
            | Self::MarkConnection(failure)
            | Self::DeleteConnection(failure)
            | Self::CountConnections(failure)
            | Self::BindLog { source: failure, .. }
            | Self::ReadLog(failure)
            | Self::Listen(failure) => failure,
        }
    }
}
