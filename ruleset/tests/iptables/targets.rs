//! Both targets' texts of one ruleset, each through its own reader, decide the same.
//!
//! Out of scope is what nftables' text has beside the ruleset: connections of generations that have
//! fallen, probes under way, and containers' connections, which iptables can't tell from others.

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use ringwall_diagnostic::Sources;
use ringwall_packet::{Address, Budget, Family, IntervalSet, Matches, Row, Table, Variable, interface, truth};
use ringwall_ruleset::filter::{BaseChain, Decision, Filter, FilterVerdict, Hook};
use ringwall_ruleset::iptables::{Text, read, write};
use ringwall_ruleset::nftables::{self, Confirm, Generation, Installed, MARK_MASK, TABLE, transaction};

use crate::rulesets::ruleset;

/// `None`: out of scope.
type Scoped = Option<FilterVerdict>;

fn scope(table: &Table<Decision>, hook: Hook) -> Table<Scoped> {
    fn rows<A: Address>(rows: &[Row<A, Decision>], hook: Hook) -> Vec<Row<A, Scoped>> {
        let ip = if A::FAMILY == Family::V4 { "ip" } else { "ip6" };
        let digit = if A::FAMILY == Family::V4 { 4 } else { 6 };
        let probe = format!("{ip} saddr . {ip} daddr . meta l4proto . th sport . th dport @probe_pass{digit}");
        let out = [
            (Variable::Field(format!("ct mark & {MARK_MASK:#010x}").into()), IntervalSet::single(0).complement()),
            (Variable::Field("meta iifkind".into()), IntervalSet::single(interface("bridge").unwrap())),
            (Variable::Holds(probe.into()), truth(true)),
        ];
        // No packet has an interface that it does not have yet, or no longer.
        let missing = match hook {
            Hook::Input => Some(Variable::OutputInterface),
            Hook::Output => Some(Variable::InputInterface),
            _ => None,
        };
        let missing = missing.map(|variable| (variable, IntervalSet::single(0).complement()));
        let out = out.into_iter().chain(missing).map(|(variable, values)| Row { matches: Matches::any().and(variable, &values).unwrap(), decision: None });
        let own = rows.iter().map(|row| Row { matches: row.matches.clone(), decision: Some(row.decision.verdict) });
        out.chain(own).collect()
    }
    Table { v4: rows(&table.v4, hook), v6: rows(&table.v6, hook) }
}

fn chain<'f>(filter: &'f Filter, hook: Hook, table: &str) -> &'f BaseChain {
    filter.chains.iter().find(|chain| chain.hook == hook && chain.table == table).expect("a chain at the hook")
}

#[test]
fn nftables_and_iptables_text_are_equal() {
    let mut runner = TestRunner::deterministic();
    let mut accepted = 0;
    for _ in 0..40 {
        let ruleset = ruleset(7).new_tree(&mut runner).unwrap().current();
        let mut sources = Sources::new();
        let nft = transaction(&ruleset, Generation(1), &Installed::default(), Confirm::Never);
        let source = sources.add("nft", nft.as_str());
        let of_nft = nftables::read::read(&sources, source);
        let of_nft = of_nft.filter.unwrap_or_else(|| panic!("{:?}", of_nft.diagnostics));
        let texts = write(&ruleset).unwrap();
        let texts = [texts.v4(), texts.v6()].map(|text| Text { source: sources.add("iptables", text), family: None });
        let of_iptables = read(&sources, &texts, None).filter.unwrap();
        for hook in [Hook::Input, Hook::Output, Hook::Forward] {
            let one = scope(&chain(&of_nft, hook, &format!("inet {TABLE}")).decisions, hook);
            let other = scope(&chain(&of_iptables, hook, "filter").decisions, hook);
            let difference = one.difference(&other, |a, b| a == b, &mut Budget::new(50_000_000)).unwrap();
            let witnesses: Vec<_> = difference.v4.iter().map(|change| change.matches.witness()).chain(difference.v6.iter().map(|change| change.matches.witness())).collect();
            assert!(witnesses.is_empty(), "{hook:?}: {}\n{nft}\n{}", witnesses[0], sources.text(texts[0].source));
            accepted += one.v4.iter().filter(|row| row.decision == Some(FilterVerdict::Decided(ringwall_ruleset::Verdict::Accept))).count();
        }
    }
    assert!(accepted > 500, "too few accepted to mean much: {accepted}");
}
