//! What is said over the controller's HTTP API, under `/api/v1`.
//!
//! In: nothing. Out: the shapes of requests and answers; their comments are the API's description. Never: a
//! meaning: ids, names and numbers are text here, and the controller judges them.
//!
//! Fields are only ever added. What is asked with a field that is not known is refused; who reads an answer
//! passes over such fields. Times are RFC 3339 in UTC, durations as `15m`, addresses as RFC 5952 writes them.

mod access;
mod agent;
mod fleet;
mod log;
mod path;
mod problem;
mod revision;
mod rollout;
mod setting;
mod span;
mod token;

pub use access::{AccessKey, AccessKeys, CreateAccessKey, CreatedAccessKey, Scope};
pub use agent::{Agent, Agents, Assignment, AssignmentState, Node, Nodes, Place, SetPlace, Standing};
pub use fleet::{Fleet, Reason};
pub use log::{Actor, AuditEntry, AuditPage, Event, EventPage};
pub use path::{Conclusion, Disposition, Expected, NotProbed, Path, PathCounts, Paths};
pub use problem::{Code, Problem};
pub use revision::{CommitRevision, Content, Outdated, Revision, Revisions, Source};
pub use rollout::{Outcome, Rollout, RolloutState, Rollouts, StartRollout, Wave};
pub use setting::{SetSetting, Setting, Settings};
pub use span::{NoSpan, Span};
pub use token::{CreateToken, CreatedToken, Token, Tokens};

/// Bytes of a request's body.
pub const BODY_MAX: usize = 64 << 10;
/// Bytes of a revision as it is sent: its files and values as JSON.
pub const REVISION_MAX: usize = 8 << 20;
/// Rows of a page.
pub const PAGE_MAX: u32 = 1_000;
/// Rows of a page that nobody gave a limit for.
pub const PAGE: u32 = 100;
