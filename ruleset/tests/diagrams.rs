//! Diagrams do exactly what one rule per entry and box does: for requests, answers, published ports
//! and what containers send, in every state.

use proptest::prelude::*;
use ringwall_diagnostic::Sources;
use ringwall_packet::Budget;
use ringwall_ruleset::filter::{Decision, Filter};
use ringwall_ruleset::nftables::read::read;
use ringwall_ruleset::nftables::{Confirm, Generation, Installed, body, body_of_lists, transaction};
use ringwall_ruleset::{Forward, Ruleset};

use crate::rulesets;

fn filter(text: &str) -> Filter {
    let mut sources = Sources::new();
    let source = sources.add("ours.nft", text);
    let reading = read(&sources, source);
    assert_eq!(reading.diagnostics, [], "{text}");
    reading.filter.expect("our own text is read whole")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn diagrams_do_what_lists_do(
        ruleset in rulesets::ruleset(8),
        audited in any::<[bool; 6]>(),
        watches in any::<bool>(),
        is_local in any::<bool>(),
    ) {
        let mut ruleset = Ruleset { audit: watches, ..ruleset };
        if let Some(entry) = ruleset.output.first().filter(|_| is_local) {
            // Some entries hold for all of the node's addresses then, and some do not.
            ruleset.local = entry.source.clone();
        }
        let mut paths = vec![&mut ruleset.input, &mut ruleset.output];
        if let Forward::Routed(entries) = &mut ruleset.forward {
            paths.push(entries);
        }
        for entries in paths {
            for (entry, is_audited) in entries.iter_mut().zip(audited) {
                // Few: each doubles the ways through the tables.
                entry.audit = is_audited && entry.interface.is_none() && entry.expires.is_none();
            }
        }
        let diagrams = transaction(&ruleset, Generation(1), &Installed::default(), Confirm::Never);
        let [one, other] = [body, body_of_lists].map(|write| write(&ruleset, Generation(1)));
        let lists = diagrams.replace(&one, &other);
        prop_assert!(one == other || lists != diagrams);
        let (before, after) = (filter(&lists), filter(&diagrams));
        prop_assert_eq!(before.chains.len(), after.chains.len());
        for (a, b) in before.chains.iter().zip(&after.chains) {
            let what = |filter: &Filter, decision: &Decision| {
                let rule = decision.rule.map(|rule| filter.rules[rule].comment.clone());
                // Ways differ; what happens on them must not.
                let effects = filter.effects[decision.effects].iter().filter(|effect| !effect.contains(" jump "));
                (decision.verdict, rule, effects.cloned().collect::<Vec<_>>())
            };
            let same = |a: Option<&Decision>, b: Option<&Decision>| a.map(|a| what(&before, a)) == b.map(|b| what(&after, b));
            let difference = a.decisions.difference(&b.decisions, same, &mut Budget::new(20_000_000));
            let Ok(difference) = difference else { return Err(TestCaseError::reject("too large to compare")) };
            prop_assert!(difference.is_empty(), "{} {}: {difference:?}\n{diagrams}\n{lists}", a.table, a.name);
        }
    }
}
