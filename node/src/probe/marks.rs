//! The probes' marks in this machine's ruleset: set elements that are exactly one probe's tuple.
//!
//! In: tuples and how long. Out: whether they are in place. Never: an element without a timeout.
//!
//! `probe_pass4` and `probe_pass6` let a probe out past the source's own output; `probe_watch4` and
//! `probe_watch6` make the destination's kernel tell what becomes of it. Their keys are source
//! address, destination address, protocol, source port, destination port.

use std::time::Duration;

use crate::kernel::{Nft, NftError};

use super::observation::Watching;
use super::plan::Tuple;

/// The table of the policy, of family inet.
pub(super) const TABLE: &str = "ringwall";

pub struct Marks {
    nft: Result<Nft, String>,
}

impl Marks {
    pub fn open() -> Self {
        Self { nft: Nft::find(std::env::var_os("PATH").as_deref()).map_err(|error| error.to_string()) }
    }

    /// Lets these flows out for a while; the error says why that can't be done.
    pub fn let_past(&mut self, tuples: &[Tuple], life: Duration) -> Result<(), String> {
        match self.change("add", "probe_pass", tuples, Some(life)) {
            Watching::Yes => Ok(()),
            Watching::NoRuleset => Err("there is no ruleset on the source's machine".into()),
            Watching::Failed(reason) => Err(reason),
        }
    }

    pub fn watch(&mut self, tuples: &[Tuple], life: Duration) -> Watching {
        self.change("add", "probe_watch", tuples, Some(life))
    }

    pub fn forget_watched(&mut self, tuples: &[Tuple]) {
        // Those that can't be taken out now end by their timeout.
        self.change("delete", "probe_watch", tuples, None);
    }

    fn change(&mut self, verb: &str, set: &str, tuples: &[Tuple], life: Option<Duration>) -> Watching {
        let nft = match &self.nft {
            Ok(nft) => nft,
            Err(reason) => return Watching::Failed(reason.clone()),
        };
        let timeout = life.map_or(String::new(), |life| format!(" timeout {}s", life.as_secs() + 1));
        let mut text = String::new();
        for (suffix, is_ipv4) in [("4", true), ("6", false)] {
            let elements: Vec<_> = tuples
                .iter()
                .filter(|(source, _, _)| source.is_ipv4() == is_ipv4)
                .map(|(source, destination, protocol)| {
                    format!("{} . {} . {protocol} . {} . {}{timeout}", source.ip(), destination.ip(), source.port(), destination.port())
                })
                .collect();
            if !elements.is_empty() {
                text += &format!("{verb} element inet {TABLE} {set}{suffix} {{ {} }}\n", elements.join(", "));
            }
        }
        match nft.load(&text) {
            Ok(()) => Watching::Yes,
            Err(NftError::Refused { stderr, .. }) if stderr.contains("No such file or directory") => Watching::NoRuleset,
            Err(error) => Watching::Failed(error.to_string()),
        }
    }
}
