//! The proof that the texts do what the ruleset says.
//!
//! In: a ruleset, both texts as they will be loaded. Out: nothing, or what differs. Never: the
//! structure that the texts were written from; they are read back as anybody's would be.

use ringwall_diagnostic::Sources;
use ringwall_packet::{Address, Budget, Change, Family, Table};

use super::read::{Text, read};
use super::write::Unwritten;
use crate::filter::{Decision, FilterVerdict, Hook};
use crate::meaning::Path;
use crate::model::Ruleset;
use crate::tables::{Outcome, Target, table};

/// Boxes looked at. A ruleset of a thousand entries takes far fewer.
const STEPS: u64 = 50_000_000;

pub(super) fn prove(ruleset: &Ruleset, v4: &str, v6: &str) -> Result<(), Unwritten> {
    let mut sources = Sources::new();
    let texts = [(v4, Family::V4), (v6, Family::V6)].map(|(text, family)| Text { source: sources.add(family.to_string(), text), family: Some(family) });
    let reading = read(&sources, &texts, None);
    let Some(filter) = reading.filter else {
        let messages: Vec<_> = reading.diagnostics.iter().map(|diagnostic| diagnostic.message.as_str()).collect();
        return Err(Unwritten::Unproved(messages.join("; ")));
    };
    for (path, hook) in [(Path::Input, Hook::Input), (Path::Output, Hook::Output), (Path::Forward, Hook::Forward)] {
        let mut at_hook = filter.chains.iter().filter(|chain| chain.hook == hook);
        let (Some(chain), None) = (at_hook.next(), at_hook.next()) else {
            return Err(Unwritten::Unproved(format!("the text has not one chain for {path:?}")));
        };
        compare(path, &table(ruleset, path, Target::Iptables), &chain.decisions)?;
    }
    Ok(())
}

fn compare(path: Path, expected: &Table<Outcome>, written: &Table<Decision>) -> Result<(), Unwritten> {
    let same = |expected: Option<&Outcome>, written: Option<&Decision>| {
        expected.map(|outcome| FilterVerdict::Decided(outcome.verdict())) == written.map(|decision| decision.verdict)
    };
    let difference = expected.difference(written, same, &mut Budget::new(STEPS));
    let difference = difference.map_err(|exhausted| Unwritten::Unproved(exhausted.to_string()))?;
    first(&difference.v4).or_else(|| first(&difference.v6)).map_or(Ok(()), |witness| {
        Err(Unwritten::Different { path, witness: Box::new(witness) })
    })
}

fn first<A: Address>(changes: &[Change<A>]) -> Option<ringwall_packet::Witness> {
    changes.first().map(|change| change.matches.witness())
}
