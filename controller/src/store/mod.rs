//! What the controller keeps, and how it is changed.
//!
//! In: parts to write, all in one transaction; questions. Out: numbers, rows of one moment. Never: a
//! change without its entry in the audit log, an acknowledgement of what a crash could still take.
//!
//! [`Sqlite`] keeps it in a file, [`Memory`] in memory alone. Both carry out the same steps
//! (`apply`), over the few operations that they differ in (`rows`), and pass the same tests.

mod apply;
mod error;
mod memory;
mod rows;
mod sqlite;

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

pub use error::{Error, Result};
pub use memory::Memory;
pub use sqlite::{Sqlite, backup, restore};

use tokio::sync::watch;

use crate::access::Access;
use crate::agent::{Agent, Sighting};
use crate::assignment::Assignment;
use crate::audit::Entry;
use crate::change::{Write, Written};
use crate::event::Page;
use crate::fleet::Fleet;
use crate::id::{
    AccessId, AgentId, AssignmentNumber, AuditNumber, Digest, EventNumber, NodeName, RevisionNumber, RolloutNumber, SettingName,
    SiteName, TokenId,
};
use crate::revision::{Content, Revision};
use crate::rollout::Rollout;
use crate::setting::Setting;
use crate::token::Token;

/// How much is kept of what would grow for ever. The policy's revisions and the audit log are kept whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// The newest events, at least 1.
    pub events: u64,
    /// Of each node, the newest assignments, at least 1; in any case also the newest confirmed one, and
    /// the newest confirmed one of a revision before that one's.
    pub assignments: u64,
}

impl Default for Keep {
    fn default() -> Self {
        Self { events: 100_000, assignments: 8 }
    }
}

pub trait Store: Send + Sync + 'static {
    type Snapshot: Read + Send;

    /// All that is asked of a snapshot is of one moment. Drop it soon: what it sees can't be tidied away.
    fn read(&self) -> impl Future<Output = Result<Self::Snapshot>> + Send;

    /// All parts or none. When it returns, a crash of the machine takes none of it. Writers wait for
    /// each other; readers wait for nobody. When the future is dropped, it is unknown which it was.
    fn write(&self, parts: Vec<Write>) -> impl Future<Output = Result<Vec<Written>>> + Send;

    /// Changes whenever an event was written, after it can be read.
    fn news(&self) -> watch::Receiver<()>;
}

fn has_event(written: &[Written]) -> bool {
    written.iter().any(|written| matches!(written, Written::Event(_)))
}

/// The rows of one moment. Lists are in the order of their keys unless they say otherwise.
pub trait Read: Send {
    /// `None`: this store has never been used.
    fn fleet(&mut self) -> impl Future<Output = Result<Option<Fleet>>> + Send;

    fn token(&mut self, id: TokenId) -> impl Future<Output = Result<Option<Token>>> + Send;
    fn token_of(&mut self, secret: Digest) -> impl Future<Output = Result<Option<Token>>> + Send;
    fn tokens(&mut self) -> impl Future<Output = Result<Vec<Token>>> + Send;

    fn agent(&mut self, id: AgentId) -> impl Future<Output = Result<Option<Agent>>> + Send;
    /// The one that is not revoked; there is at most one.
    fn agent_of(&mut self, node: &NodeName) -> impl Future<Output = Result<Option<Agent>>> + Send;
    /// Which agent that is not revoked has this address among those that count.
    fn holder(&mut self, site: Option<&SiteName>, address: IpAddr) -> impl Future<Output = Result<Option<AgentId>>> + Send;
    fn agents(&mut self) -> impl Future<Output = Result<Vec<Agent>>> + Send;
    fn sightings(&mut self) -> impl Future<Output = Result<Vec<Sighting>>> + Send;
    fn sighting(&mut self, agent: AgentId) -> impl Future<Output = Result<Option<Sighting>>> + Send;

    fn setting(&mut self, node: &NodeName, name: &SettingName) -> impl Future<Output = Result<Option<Setting>>> + Send;
    fn settings(&mut self) -> impl Future<Output = Result<Vec<Setting>>> + Send;

    fn revision(&mut self, number: RevisionNumber) -> impl Future<Output = Result<Option<Revision>>> + Send;
    /// Newest first, below `before` if there is one.
    fn revisions(&mut self, before: Option<RevisionNumber>, limit: u32) -> impl Future<Output = Result<Vec<Revision>>> + Send;
    fn content(&mut self, digest: Digest) -> impl Future<Output = Result<Option<Content>>> + Send;

    fn assignment(&mut self, node: &NodeName, number: AssignmentNumber) -> impl Future<Output = Result<Option<Assignment>>> + Send;
    /// All that are kept, by node and number.
    fn assignments(&mut self) -> impl Future<Output = Result<Vec<Assignment>>> + Send;
    fn ruleset(&mut self, node: &NodeName, number: AssignmentNumber) -> impl Future<Output = Result<Option<Arc<[u8]>>>> + Send;

    fn rollout(&mut self, number: RolloutNumber) -> impl Future<Output = Result<Option<Rollout>>> + Send;
    /// The one that is not over; there is at most one.
    fn active_rollout(&mut self) -> impl Future<Output = Result<Option<Rollout>>> + Send;
    /// Newest first, below `before` if there is one.
    fn rollouts(&mut self, before: Option<RolloutNumber>, limit: u32) -> impl Future<Output = Result<Vec<Rollout>>> + Send;

    fn events(&mut self, after: EventNumber, limit: u32) -> impl Future<Output = Result<Page>> + Send;
    fn audit(&mut self, after: AuditNumber, limit: u32) -> impl Future<Output = Result<Vec<Entry>>> + Send;

    fn access(&mut self, id: AccessId) -> impl Future<Output = Result<Option<Access>>> + Send;
    fn access_of(&mut self, secret: Digest) -> impl Future<Output = Result<Option<Access>>> + Send;
    fn accesses(&mut self) -> impl Future<Output = Result<Vec<Access>>> + Send;
}
