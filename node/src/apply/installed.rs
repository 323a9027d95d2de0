//! What of ours the kernel holds, read by netlink.

use std::fmt;
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
    /// Whether a base chain of our table is missing, is not ours, or holds other rules than ours.
    pub is_disturbed: bool,
    /// What somebody else put into our table: base chains, and rules of ours.
    pub strangers: Vec<Stranger>,
}

/// Something in our table that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stranger {
    Chain(String),
    /// The kernel's number of a rule, as `nft -a list` shows it.
    Rule { chain: String, handle: u64 },
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain(chain) => write!(f, "chain `{chain}`"),
            Self::Rule { chain, handle } => write!(f, "the rule with handle {handle} in chain `{chain}`"),
        }
    }
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

    /// Text that takes out base chains that are not ours. Rules go with their chains' contents, and a
    /// chain that no hook knows does nothing.
    pub(super) fn without_strangers(&self) -> String {
        let chains = self.strangers.iter().filter_map(|stranger| match stranger {
            Stranger::Chain(chain) => Some(chain),
            Stranger::Rule { .. } => None,
        });
        chains.map(|chain| format!("flush chain inet {TABLE} {chain}\ndelete chain inet {TABLE} {chain}\n")).collect()
    }

    /// What is there, base chains that are not ours among it.
    pub(super) fn with_strangers(&self) -> Installed {
        let mut installed = self.installed.clone();
        let chains = self.strangers.iter().filter_map(|stranger| match stranger {
            Stranger::Chain(chain) => Some(chain.clone()),
            Stranger::Rule { .. } => None,
        });
        installed.chains.extend(chains);
        installed
    }

    /// The highest number in any name.
    pub fn newest(&self) -> Option<Generation> {
        self.installed.chains.iter().filter_map(|name| Generation::of_name(name)).max()
    }
}

/// Our base chains, in order of their names.
const OURS: [&str; 3] = ["forward", "input", "output"];

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
    let mut is_disturbed = bases != OURS;
    let chains: Vec<String> = all_chains.iter().map(|chain| chain.name.clone()).filter(of_generation).collect();
    let sets: Vec<String> = netfilter.sets(&table)?.into_iter().map(|set| set.name).filter(of_generation).collect();
    let counters: Vec<String> = netfilter.counters(&table)?.into_keys().filter(of_generation).collect();
    let dispatch = netfilter.rules(&table, "input")?;
    let mut strangers = Vec::new();
    for base in bases {
        if !OURS.contains(&base) {
            strangers.push(Stranger::Chain(base.to_owned()));
            continue;
        }
        let rules = netfilter.rules(&table, base)?;
        let ours = rules.iter().map(|rule| rule.comment.as_deref().and_then(Generation::of_name));
        is_disturbed |= !ours.eq(dispatch.iter().map(|rule| Generation::of_name(rule.comment.as_ref()?)));
        let foreign = rules.iter().filter(|rule| rule.comment.as_deref().and_then(Generation::of_name).is_none());
        strangers.extend(foreign.map(|rule| Stranger::Rule { chain: base.to_owned(), handle: rule.handle }));
    }
    is_disturbed |= !strangers.is_empty();
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
    Ok(Enforced { installed, trial, has_table, is_disturbed, strangers })
}
