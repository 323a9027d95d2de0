//! Live connections under a new generation: ends those that it forbids, and takes over the others.
//! No rule can do this and no switch undo it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ringwall_packet::{Family, Flow};
use ringwall_ruleset::nftables::{Generation, MARK_MASK};
use ringwall_ruleset::{Decider, Forward, Path, Ruleset, Verdict};

use crate::kernel::{Connection, Error, Netfilter};

/// A connection that was, or would be, ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub flow: Flow,
    /// What forbids it.
    pub decider: Decider,
}

/// Whether the ruleset forbids a tracked connection; `None` when it may live.
///
/// A connection without a mark of ours was there before us, perhaps picked up in the middle, so that
/// nobody knows which end began it: it may live if either direction is allowed.
pub fn forbidden(
    ruleset: &Ruleset,
    connection: &Connection,
    now: u64,
    resolved: impl Fn(&str, IpAddr) -> bool,
) -> Option<Cut> {
    let flow = connection.original.flow()?;
    let judge = |flow: &Flow| judge(ruleset, flow, now, &resolved);
    let (verdict, decider) = judge(&flow)?;
    let either = connection.mark & MARK_MASK == 0;
    let reverse = || flow.reply().and_then(|reply| judge(&reply));
    let lives = verdict == Verdict::Accept || (either && reverse().is_some_and(|(verdict, _)| verdict == Verdict::Accept));
    (!lives).then_some(Cut { flow, decider })
}

/// `None` for what is no matter of policy.
fn judge(
    ruleset: &Ruleset,
    flow: &Flow,
    now: u64,
    resolved: impl Fn(&str, IpAddr) -> bool,
) -> Option<(Verdict, Decider)> {
    let (from, to) = (ruleset.local.contains(flow.source()), ruleset.local.contains(flow.destination()));
    if (from && to) || flow.source().is_loopback() || flow.destination().is_loopback() {
        return None;
    }
    // DHCP (RFC 2131, RFC 8415) is the floor's, and lives by broadcasts that no address tells.
    if let ringwall_packet::Upper::Ports { source, destination, .. } = flow.upper()
        && matches!((source, destination), (67, 68) | (68, 67) | (546, 547) | (547, 546))
    {
        return None;
    }
    // Which interface a connection uses is not known here: a rule for one counts as used.
    let on = |path, flow: &Flow| ruleset.judge(path, flow, |_| true, now, &resolved);
    if to {
        return Some(on(Path::Input, flow));
    }
    if from {
        return Some(on(Path::Output, flow));
    }
    match &ruleset.forward {
        Forward::Routed(_) => Some(on(Path::Forward, flow)),
        // A container's own connection is judged as the node's. What an unmanaged bridge forwards
        // can't be told from it, so with such bridges nothing forwarded is cut.
        Forward::Containers { unmanaged, .. } if !unmanaged.is_empty() => None,
        Forward::Containers { .. } => {
            let family = |address: &IpAddr| Family::of(*address) == flow.family();
            let local = ruleset.local.witnesses().find(family)?;
            Some(on(Path::Output, &Flow::new(local, flow.destination(), flow.upper())?))
        }
    }
}

/// Marks all connections as the generation's own, but those that a fallen one accepted. Marks come
/// round, so that one that is left alone would some day be taken for that of a generation to come.
pub fn take_over(
    netfilter: &mut Netfilter,
    generation: Generation,
    fallen: &BTreeSet<Generation>,
) -> Result<(), Error> {
    let fallen: BTreeSet<u32> = fallen.iter().map(|fallen| fallen.mark()).collect();
    for connection in netfilter.connections()? {
        let mark = connection.mark & MARK_MASK;
        // Without a mark, it was there before us.
        if mark != 0 && mark != generation.mark() && !fallen.contains(&mark) {
            netfilter.mark_connection(&connection, generation.mark(), MARK_MASK)?;
        }
    }
    Ok(())
}

/// Ends all connections that the ruleset forbids, and names them.
pub fn cut(
    netfilter: &mut Netfilter,
    ruleset: &Ruleset,
    now: u64,
    resolved: impl Fn(&str, IpAddr) -> bool,
) -> Result<Vec<Cut>, Error> {
    if ruleset.audit {
        return Ok(Vec::new());
    }
    let mut cuts = Vec::new();
    for connection in netfilter.connections()? {
        if let Some(found) = forbidden(ruleset, &connection, now, &resolved)
            && netfilter.delete_connection(&connection)?
        {
            cuts.push(found);
        }
    }
    Ok(cuts)
}
