//! What of ours the kernel holds, read by netlink.

use std::time::Duration;

use ringwall_ruleset::nftables::{Generation, Installed, TABLE};

use crate::kernel::{Error, Netfilter, TableId};

/// What decides about packets now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Enforced {
    pub installed: Installed,
    /// A generation that base chains ask the dead-man switch about.
    pub trial: Option<Trial>,
    /// Whether our table is there at all.
    pub has_table: bool,
    /// Whether a base chain of our table is missing, is not ours, or holds a rule that is not ours.
    pub is_disturbed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    pub generation: Generation,
    /// Until it falls; `None` when it has.
    pub left: Option<Duration>,
}

impl Trial {
    pub fn is_alive(&self) -> bool {
        self.left.is_some()
    }
}

impl Enforced {
    /// The generation that decides at this moment.
    pub fn deciding(&self) -> Option<Generation> {
        let trial = self.trial.as_ref().filter(|trial| trial.is_alive());
        trial.map(|trial| trial.generation).or(self.installed.current)
    }

    /// The highest number in any name.
    pub fn newest(&self) -> Option<Generation> {
        self.installed.chains.iter().filter_map(|name| Generation::of_name(name)).max()
    }
}

/// Reads the names of our objects and the dispatch rules of the input's base chain.
pub fn enforced(netfilter: &mut Netfilter) -> Result<Enforced, Error> {
    let table = TableId::inet(TABLE);
    let has_table = netfilter.tables()?.iter().any(|found| found.id == table);
    if !has_table {
        return Ok(Enforced::default());
    }
    let of_generation = |name: &String| Generation::of_name(name).is_some();
    let all_chains = netfilter.chains_of(&table)?;
    let mut bases: Vec<&str> =
        all_chains.iter().filter(|chain| chain.base.is_some()).map(|chain| chain.name.as_str()).collect();
    bases.sort_unstable();
    let mut is_disturbed = bases != ["forward", "input", "output"];
    let chains: Vec<String> = all_chains.iter().map(|chain| chain.name.clone()).filter(of_generation).collect();
    let sets: Vec<String> = netfilter.sets(&table)?.into_iter().map(|set| set.name).filter(of_generation).collect();
    let counters: Vec<String> = netfilter.counters(&table)?.into_keys().filter(of_generation).collect();
    let dispatch = netfilter.rules(&table, "input")?;
    for base in bases {
        let rules = netfilter.rules(&table, base)?;
        let ours = rules.iter().map(|rule| rule.comment.as_deref().and_then(Generation::of_name));
        is_disturbed |= !ours.eq(dispatch.iter().map(|rule| Generation::of_name(rule.comment.as_ref()?)));
        is_disturbed |= rules.iter().any(|rule| rule.comment.is_none());
    }
    let mut current = None;
    let mut trial = None;
    for generation in dispatch.iter().filter_map(|rule| Generation::of_name(rule.comment.as_ref()?)) {
        let armed = format!("{generation}_armed");
        if sets.contains(&armed) {
            let elements = netfilter.elements(&table, &armed)?;
            // Both families' elements were added with one timeout.
            let left = elements.iter().filter_map(|element| element.expires).min();
            trial = Some(Trial { generation, left });
        } else {
            current = Some(generation);
        }
    }
    let fallen = chains.iter().filter_map(|name| Generation::of_name(name)).filter(|of| Some(*of) > current).collect();
    let installed = Installed { current, fallen, chains, counters, sets };
    Ok(Enforced { installed, trial, has_table, is_disturbed })
}
