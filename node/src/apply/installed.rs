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
    let chains = netfilter.chains_of(&table)?.into_iter().map(|chain| chain.name).filter(of_generation);
    let chains: Vec<String> = chains.collect();
    let sets: Vec<String> = netfilter.sets(&table)?.into_iter().map(|set| set.name).filter(of_generation).collect();
    let counters: Vec<String> = netfilter.counters(&table)?.into_keys().filter(of_generation).collect();
    let dispatch = netfilter.rules(&table, "input")?;
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
    Ok(Enforced { installed: Installed { current, fallen, chains, counters, sets }, trial, has_table })
}
