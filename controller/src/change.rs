//! What can be changed, and what is only observed.
//!
//! In: decisions of operators, of the controller, and what agents may ask for. Out: data, which a
//! store carries out whole or not at all. Never: a change without somebody who answers for it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use crate::access::Access;
use crate::agent::Place;
use crate::assignment::{self, NewAssignment};
use crate::audit::Audited;
use crate::event::NewEvent;
use crate::fleet::Fleet;
use crate::id::{
    AccessId, AgentId, AssignmentNumber, Digest, EventNumber, NodeName, RevisionNumber, RolloutNumber, SettingName, TokenId,
};
use crate::revision::NewRevision;
use crate::rollout;
use crate::time::Time;
use crate::token::{Claim, Token};

/// A change of what is wanted or trusted.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The first of all, once.
    Found(Fleet),
    CreateToken(Token),
    RevokeToken(TokenId),
    /// A token is used and an agent is there, both or neither.
    Enrol(Enrol),
    Approve(AgentId),
    Revoke { agent: AgentId, reason: String },
    Renew(Renew),
    /// What an agent says its addresses are, all of them.
    Report { agent: AgentId, addresses: BTreeSet<IpAddr> },
    Place { agent: AgentId, place: Place },
    /// `None` takes the setting away.
    Set { node: NodeName, name: SettingName, value: Option<Value> },
    Commit(NewRevision),
    /// Each node gets the next number of its own.
    Assign(Vec<NewAssignment>),
    /// Refused while another rollout is not over.
    StartRollout { revision: RevisionNumber, waves: Vec<BTreeSet<NodeName>> },
    StepRollout { rollout: RolloutNumber, state: rollout::State, results: rollout::Results },
    CreateAccess(Access),
    RevokeAccess(AccessId),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Enrol {
    /// SHA-256 of the secret that was shown.
    pub secret: Digest,
    pub claim: Claim,
    /// Follows from secret and key, so that who asks again, since an answer was lost, is the same
    /// agent: see [`Enrol::agent_of`].
    pub agent: AgentId,
    pub key: Digest,
    pub certificate_expires: Time,
}

impl Enrol {
    /// Nobody can foresee it without the secret.
    pub fn agent_of(secret: &Digest, key: &Digest) -> AgentId {
        let digest = Digest::of(&[b"ringwall agent 1\0".as_slice(), &secret.0, &key.0].concat()).0;
        AgentId::new(std::array::from_fn(|index| digest[index]))
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Renew {
    pub agent: AgentId,
    /// The key that the agent proved to have.
    pub proved: Digest,
    /// The key that it gets a certificate for; may be the same.
    pub key: Digest,
    pub certificate_expires: Time,
}

impl Change {
    /// Its name in the audit log.
    pub fn name(&self) -> &'static str {
        match self {
            Change::Found(_) => "found",
            Change::CreateToken(_) => "create_token",
            Change::RevokeToken(_) => "revoke_token",
            Change::Enrol(_) => "enrol",
            Change::Approve(_) => "approve",
            Change::Revoke { .. } => "revoke",
            Change::Renew(_) => "renew",
            Change::Report { .. } => "report",
            Change::Place { .. } => "place",
            Change::Set { .. } => "set",
            Change::Commit(_) => "commit",
            Change::Assign(_) => "assign",
            Change::StartRollout { .. } => "start_rollout",
            Change::StepRollout { .. } => "step_rollout",
            Change::CreateAccess(_) => "create_access",
            Change::RevokeAccess(_) => "revoke_access",
        }
    }
}

/// What was seen: nobody's decision, so the audit log has nothing of it. What an agent says can't
/// refuse a transaction that others have a part in: what is of nothing that is kept is [`Written::Unknown`].
#[derive(Clone, Debug, PartialEq)]
pub enum Observed {
    /// An agent lives; `None` leaves the facts as they are known.
    Seen { agent: AgentId, facts: Option<Value> },
    /// Nothing when the assignment is as far already.
    Progress { node: NodeName, number: AssignmentNumber, state: assignment::State },
    Event(NewEvent),
    AccessUsed(AccessId),
}

/// One part of what is written in one transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    Change(Audited),
    Observed { at: Time, what: Observed },
}

/// What a part that was written got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    Nothing,
    /// An agent that enrolled or renewed: its certificate may go out.
    Agent(AgentId),
    /// An agent that enrolled and waits for an operator's [`Change::Approve`]: it asks again.
    Pending(AgentId),
    Revision(RevisionNumber),
    /// In the order of the asked.
    Assigned(Vec<(NodeName, AssignmentNumber)>),
    Rollout(RolloutNumber),
    Event(EventNumber),
    /// Observed of something that is not kept, or no longer: somebody is late, or lies.
    Unknown,
}
