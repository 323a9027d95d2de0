//! What a store does inside a transaction, besides reading: one row at a time.
//!
//! In: whole rows. Out: nothing. Never: a rule of what may become of what; that is `apply`'s.

use std::future::Future;
use std::sync::Arc;

use crate::access::Access;
use crate::agent::{Agent, Sighting};
use crate::assignment::Assignment;
use crate::audit::Entry;
use crate::event::Event;
use crate::fleet::Fleet;
use crate::id::{AssignmentNumber, AuditNumber, EventNumber, NodeName, SettingName};
use crate::revision::{Content, Revision};
use crate::rollout::Rollout;
use crate::setting::Setting;
use crate::store::{Read, Result};
use crate::token::Token;

/// `put` adds or replaces by key, `add` takes new keys only.
pub trait Rows: Read {
    fn put_fleet(&mut self, fleet: &Fleet) -> impl Future<Output = Result<()>> + Send;
    fn put_token(&mut self, token: &Token) -> impl Future<Output = Result<()>> + Send;
    /// With the addresses that count.
    fn put_agent(&mut self, agent: &Agent) -> impl Future<Output = Result<()>> + Send;
    fn put_sighting(&mut self, sighting: &Sighting) -> impl Future<Output = Result<()>> + Send;

    fn last_setting(&mut self) -> impl Future<Output = Result<u64>> + Send;
    /// Keeps the number of the last, though its setting may go.
    fn put_last_setting(&mut self, revision: u64) -> impl Future<Output = Result<()>> + Send;
    fn put_setting(&mut self, setting: &Setting) -> impl Future<Output = Result<()>> + Send;
    fn remove_setting(&mut self, node: &NodeName, name: &SettingName) -> impl Future<Output = Result<()>> + Send;

    /// Content that is there already is left as it is.
    fn add_revision(&mut self, revision: &Revision, content: &Content) -> impl Future<Output = Result<()>> + Send;

    fn latest_assignment(&mut self, node: &NodeName) -> impl Future<Output = Result<Option<Assignment>>> + Send;
    fn add_assignment(&mut self, assignment: &Assignment, ruleset: &Arc<[u8]>) -> impl Future<Output = Result<()>> + Send;
    fn put_assignment(&mut self, assignment: &Assignment) -> impl Future<Output = Result<()>> + Send;
    /// Those below the number go, but for the newest confirmed one, and the newest confirmed one of a
    /// revision before that one's: what a node has, and what it would go back to.
    fn prune_assignments(&mut self, node: &NodeName, below: AssignmentNumber) -> impl Future<Output = Result<()>> + Send;

    fn put_rollout(&mut self, rollout: &Rollout) -> impl Future<Output = Result<()>> + Send;

    fn last_event(&mut self) -> impl Future<Output = Result<EventNumber>> + Send;
    fn add_event(&mut self, event: &Event) -> impl Future<Output = Result<()>> + Send;
    fn prune_events(&mut self, below: EventNumber) -> impl Future<Output = Result<()>> + Send;

    fn last_audit(&mut self) -> impl Future<Output = Result<AuditNumber>> + Send;
    fn add_audit(&mut self, entry: &Entry) -> impl Future<Output = Result<()>> + Send;

    fn put_access(&mut self, access: &Access) -> impl Future<Output = Result<()>> + Send;
}
