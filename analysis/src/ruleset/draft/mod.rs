//! A policy drafted from somebody's rules, for the machine that they come from: `import --ruleset`.
//!
//! In: a filter, and the machine's name and addresses. Out: rules of a policy that allow new connections
//! as the filter does, with the lines they come from; what a policy can't say is left out and told.
//! Never: more than the filter lets in or out. Where that depends on something, it is closed.
//!
//! A policy has no order, and a deny goes before every allow. So each accepting rule becomes an allow as
//! it stands, and what an earlier rule refuses of its packets becomes a deny: exactly the packets that
//! the earlier rule decides, none of which any rule accepts.

mod pieces;
mod proof;
mod steps;
mod text;

use std::collections::BTreeSet;

use ringwall_packet::{AddressSet, Budget, Exhausted, UpperCube};
use ringwall_policy::Name;
use ringwall_ruleset::Path;
use ringwall_ruleset::filter::Filter;

use super::way::Way;

pub use proof::{Proof, prove};
pub use text::{ExactName, Text, text};

/// The machine whose rules they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub name: Name,
    pub addresses: AddressSet,
}

/// Rules of a policy, not yet in its language.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    pub rules: Vec<Rule>,
    /// Rules of the filter that a policy has built in: indices into [`Filter::rules`].
    pub built_in: BTreeSet<usize>,
    /// What is not in the draft, or closed more than it was, and why; by its rule, `None` for a policy.
    pub left_out: BTreeSet<(Option<usize>, String)>,
}

/// All packets from some addresses to others, with some services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub allows: bool,
    pub path: Path,
    pub source: AddressSet,
    pub destination: AddressSet,
    /// All with the same source ports.
    pub uppers: Vec<UpperCube>,
    /// The kernel's name of the interface, where it must be one.
    pub via: Option<String>,
    /// The rules that it comes from: indices into [`Filter::rules`]; none for a chain's policy.
    pub from: BTreeSet<usize>,
}

/// Drafts what the machine's own traffic may do: in and out. What it passes on is no part of it.
///
/// A rule that refuses something under a condition that a policy can't ask for refuses it always in the
/// draft; if it `is_loose`, never.
pub fn draft(filter: &Filter, host: &Host, is_loose: bool, budget: &mut Budget) -> Result<Draft, Exhausted> {
    let mut draft = Draft::default();
    for scope in steps::Scope::all(filter, host) {
        let way = Way::new(filter, scope.path, budget)?;
        steps::rules::<std::net::Ipv4Addr>(&way, &scope, is_loose, &mut draft, budget)?;
        steps::rules::<std::net::Ipv6Addr>(&way, &scope, is_loose, &mut draft, budget)?;
    }
    draft.rules = pieces::merged(std::mem::take(&mut draft.rules));
    let used: BTreeSet<usize> = draft.rules.iter().flat_map(|rule| rule.from.iter().copied()).collect();
    // A rule may be built in for one family and drafted for the other.
    draft.built_in.retain(|rule| !used.contains(rule));
    Ok(draft)
}
