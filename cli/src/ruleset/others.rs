//! What other tables of this machine would still drop of what the policy allows: for `apply` and `status`.

use std::time::Duration;

use ringwall_analysis::ruleset::others::{Dropped, dropped};
use ringwall_analysis::words::{Line, Packets, Words};
use ringwall_node::apply::ForeignChain;
use ringwall_node::kernel::{Limits, Nft};
use ringwall_packet::Budget;
use ringwall_policy::{Decider, Policy};
use serde_json::{Value, json};

use super::can::{fate_word, short};
use super::{Ruleset, one_line, word};
use crate::policy::now;
use crate::question::{described, line, name_of};

/// Others' tables may hold large sets, of which nobody wants to wait.
const LIMITS: Limits = Limits { time: Duration::from_secs(5), bytes: 32 << 20 };
/// Some seconds' work.
const STEPS: u64 = 20_000_000;
/// So many rules of others are told, with so many lines each.
const RULES: usize = 20;
const LINES: usize = 4;

/// What they drop; the error is why that is not known.
pub struct Others<'a> {
    policy: &'a Policy,
    found: Result<(Ruleset, Vec<Dropped<Decider>>), String>,
}

impl<'a> Others<'a> {
    /// Reads the tables of these chains from the kernel, and asks about every flow that the policy allows
    /// on the node. `None` when there are no other tables, or the node is not of the policy.
    pub fn look(chains: &[ForeignChain], policy: &'a Policy, node: &str) -> Option<Self> {
        let mut tables: Vec<_> = chains.iter().map(|chain| chain.table.clone()).collect();
        tables.sort();
        tables.dedup();
        let node = policy.nodes.get(node).filter(|_| !tables.is_empty())?;
        let found = || {
            let nft = Nft::find(std::env::var_os("PATH").as_deref()).map_err(|error| error.to_string())?;
            let text = nft.list(&tables, LIMITS).map_err(|error| error.to_string())?;
            let ruleset = Ruleset::of_listing("nft list ruleset", text)?;
            let table = policy.table(now());
            let dropped = dropped(&ruleset.filter, policy, node, &table, &mut Budget::new(STEPS)).map_err(|exhausted| exhausted.to_string())?;
            Ok((ruleset, dropped))
        };
        Some(Self { policy, found: found() })
    }

    /// A warning for each rule, or why there are none to be told.
    pub fn texts(&self) -> Vec<String> {
        let (ruleset, dropped) = match &self.found {
            Ok(found) => found,
            Err(why) => return vec![format!("what other tables would drop is not known: {why}")],
        };
        let words = Words::new(self.policy, &name_of);
        let text = |dropped: &Dropped<Decider>| {
            let verb = match (dropped.is_sure, dropped.outcome.fate.refuses()) {
                (true, _) => "but dropped by",
                (false, true) => "but may be dropped by",
                (false, false) => "but it is not known what becomes of it in",
            };
            let mut text = format!("allowed by the policy, {verb} {} at {}", self.place(ruleset, dropped), word(dropped.path));
            for one in short(lines(&words, &dropped.packets).iter().map(Line::to_string).collect(), LINES) {
                text.push_str(&format!("\n  {one}"));
            }
            let by: Vec<String> = dropped.allowed_by.iter().map(|decider| self.decider(*decider)).collect();
            for one in short(by, LINES) {
                text.push_str(&format!("\n  allowed by {one}"));
            }
            text.push_str(&format!("\n  such as {}", dropped.witness));
            text
        };
        short(dropped.iter().map(text).collect(), RULES)
    }

    /// `table ip filter, chain INPUT: \`tcp dport 22 drop\``.
    fn place(&self, ruleset: &Ruleset, dropped: &Dropped<Decider>) -> String {
        let Some(by) = dropped.outcome.told().first().copied() else { return "a table".into() };
        let chain = ruleset.chain(by.chain);
        match by.rule {
            None => format!("table {}, the policy of chain {}", chain.table, chain.name),
            Some(rule) => {
                let rule = &ruleset.filter.rules[rule];
                let name = rule.chain.strip_prefix(&chain.table).map_or(rule.chain.as_str(), str::trim);
                format!("table {}, chain {name}: `{}`", chain.table, one_line(&rule.text))
            }
        }
    }

    fn decider(&self, decider: Decider) -> String {
        match decider {
            Decider::Rule(index) => described(&self.policy.rules[index]),
            Decider::Management | Decider::Default => "management, a part of the floor".into(),
        }
    }

    /// `null` when it is not known.
    pub fn json(&self) -> Value {
        let Ok((ruleset, dropped)) = &self.found else { return Value::Null };
        let words = Words::new(self.policy, &name_of);
        let one = |dropped: &Dropped<Decider>| {
            json!({
                "hook": word(dropped.path),
                "verdict": fate_word(dropped.outcome.fate),
                "reasons": ruleset.reason(&dropped.outcome),
                "certain": dropped.is_sure,
                "flows": lines(&words, &dropped.packets).iter().map(line).collect::<Vec<_>>(),
                "allowed_by": dropped.allowed_by.iter().map(|decider| self.decider(*decider)).collect::<Vec<_>>(),
                "witness": dropped.witness.to_string(),
            })
        };
        dropped.iter().map(one).collect()
    }
}

fn lines(words: &Words<'_>, packets: &Packets) -> Vec<Line> {
    words.lines(packets, &Packets::default())
}
