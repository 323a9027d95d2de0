//! The probes' marks in this machine's ruleset: set elements that are exactly one probe's tuple.
//!
//! In: tuples and how long. Out: whether they are in place. Never: an element without a timeout.
//!
//! `probe_pass4` and `probe_pass6` let a probe out past the source's own output; `probe_watch4` and
//! `probe_watch6` make the destination's kernel tell what becomes of it. Their keys are source
//! address, destination address, protocol, source port, destination port.

use std::time::Duration;

use nix::errno::Errno;
use ringwall_packet::Protocol;

use crate::kernel::{ChangeError, Edit, Error, Key, Netfilter, TableId};

use ringwall_probe::Watching;
use ringwall_probe::Tuple;

/// The table of the policy, of family inet.
pub(super) const TABLE: &str = "ringwall";
const PASS: [&str; 2] = ["probe_pass4", "probe_pass6"];
const WATCH: [&str; 2] = ["probe_watch4", "probe_watch6"];

pub struct Marks {
    netfilter: Result<Netfilter, Error>,
}

impl Marks {
    pub fn open() -> Self {
        Self { netfilter: Netfilter::open() }
    }

    /// Lets these flows out for a while; the error says why that can't be done.
    pub fn let_past(&mut self, tuples: &[Tuple], life: Duration) -> Result<(), String> {
        match self.change(tuples.iter().map(|tuple| added(PASS, tuple, life))) {
            Watching::Yes => Ok(()),
            Watching::NoRuleset => Err("there is no ruleset on the source's machine".into()),
            Watching::Failed(reason) => Err(reason),
        }
    }

    pub fn watch(&mut self, tuples: &[Tuple], life: Duration) -> Watching {
        self.change(tuples.iter().map(|tuple| added(WATCH, tuple, life)))
    }

    pub fn forget_watched(&mut self, tuples: &[Tuple]) {
        // Those that can't be taken out now end by their timeout.
        self.change(tuples.iter().map(|tuple| Edit::Delete { set: of_family(WATCH, tuple), key: key(tuple) }));
    }

    fn change(&mut self, edits: impl Iterator<Item = Edit<'static>>) -> Watching {
        let netfilter = match &mut self.netfilter {
            Ok(netfilter) => netfilter,
            Err(error) => return Watching::Failed(chain(error)),
        };
        let mut edits: Vec<_> = edits.collect();
        // One message holds neighbours of one set.
        edits.sort_by_key(Edit::set);
        match netfilter.change_elements(&TableId::inet(TABLE), &edits) {
            Ok(()) => Watching::Yes,
            Err(ChangeError::Refused(refusals)) => match refusals.first() {
                Some(first) if first.errno != Errno::ENOENT => Watching::Failed(format!("the kernel refused the probes' marks: {}", first.errno)),
                _ => Watching::NoRuleset,
            },
            Err(ChangeError::Failed(failure)) if failure.errno() == Some(Errno::ENOENT) => Watching::NoRuleset,
            Err(error) => Watching::Failed(chain(&error)),
        }
    }
}

fn added(sets: [&'static str; 2], tuple: &Tuple, life: Duration) -> Edit<'static> {
    Edit::Add { set: of_family(sets, tuple), key: key(tuple), timeout: Some(life) }
}

fn of_family([v4, v6]: [&'static str; 2], (source, _, _): &Tuple) -> &'static str {
    if source.is_ipv4() { v4 } else { v6 }
}

fn key((source, destination, protocol): &Tuple) -> Key {
    let ends = Key::new().address(source.ip()).address(destination.ip());
    ends.protocol(Protocol(*protocol)).port(source.port()).port(destination.port())
}

/// An error with its causes, as one line of an observation.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
