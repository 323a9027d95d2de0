//! The guard against locking the operator out.
//!
//! In: the ruleset that is about to be sent, the ways in that must stay. Out: [`Cleared`], which
//! nothing else can make, or the way that would be cut and the rule that cuts it. Never: a ruleset
//! in the kernel that was not looked at here.

use ringwall_packet::Flow;
use ringwall_ruleset::{Decider, Path, Ruleset, Verdict};

/// A ruleset that leaves all known ways in open.
#[derive(Debug)]
pub struct Cleared<'a> {
    ruleset: &'a Ruleset,
}

impl<'a> Cleared<'a> {
    pub fn ruleset(&self) -> &'a Ruleset {
        self.ruleset
    }
}

/// The ruleset would drop a way in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this policy would cut the management path {flow}")]
pub struct Lockout {
    pub flow: Flow,
    /// What would drop it.
    pub decider: Decider,
}

/// Judges each way in as a new connection, as the node's input. An audited node drops nothing.
pub fn clear<'a>(ruleset: &'a Ruleset, ways_in: &[Flow], now: u64) -> Result<Cleared<'a>, Lockout> {
    if ruleset.audit {
        return Ok(Cleared { ruleset });
    }
    for flow in ways_in {
        // Through whatever interface it comes, and with no DNS name to lean on: an entry that asks
        // for more than that is no safe way in.
        let (verdict, decider) = ruleset.judge(Path::Input, flow, |_| false, now, |_, _| false);
        if verdict != Verdict::Accept {
            return Err(Lockout { flow: *flow, decider });
        }
    }
    Ok(Cleared { ruleset })
}
