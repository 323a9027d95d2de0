//! The fixed parts of what is loaded: those that every text has, and the objects of the policy's rules.
//!
//! In: what the kernel holds after the text. Out: the first thing that is missing, too much or different.
//! Never: a policy's rules; those are compared as meaning.

use std::collections::{BTreeMap, BTreeSet};

use ringwall_policy::{Action, Rule, Stage};
use ringwall_ruleset::Path;
use ringwall_ruleset::nftables::Loading;
use ringwall_ruleset::nftables::frame::{self, Declared, FILTERING, HOOKS, add};
use ringwall_ruleset::nftables::read::State;

use super::effects::Expected;
use super::meaning::Meaning;

/// `is_older`: the text was loaded onto what an older one left.
pub fn check(meaning: &Meaning<'_>, state: &State<'_>, loading: &Loading<'_>, is_older: bool) -> Result<(), String> {
    let [blocks, filtering] = frame::declared(state)?;
    frame::equal(&frame::blocks(&meaning.policy.protected, loading.confirm), &blocks)?;
    let name = loading.generation.to_string() + "_";
    // Chains and rules of the generation are compared as meaning; those of others are as they were.
    let others = frame::others(loading);
    let is_fixed = |(kind, of): &&(&'static str, String)| {
        let is_own = matches!(*kind, "chain" | "rule") && of.starts_with(&name);
        let is_answer = *kind == "element" && of.contains("_names");
        !is_own && !is_answer && !others.contains(of)
    };
    let deciding = Path::ALL.map(|path| (path, meaning.rules_on(path).into_values().collect()));
    let needed = expected(meaning, loading, &deciding, |path| meaning.is_managed_on(path));
    let (own, more): (Vec<_>, Vec<_>) = filtering.iter().filter(|(key, _)| is_fixed(key)).partition(|(key, _)| needed.contains_key(*key));
    frame::equal(&needed, own)?;
    if !more.is_empty() {
        // A rule that no packet of this node's can match may have its objects, or none.
        let all = Path::ALL.map(|path| (path, meaning.policy.rules.iter().collect()));
        let possible = expected(meaning, loading, &all, |_| meaning.policy.management.is_some());
        if let Some(((kind, name), _)) = more.into_iter().find(|(key, texts)| possible.get(*key) != Some(*texts)) {
            return Err(format!("{kind} `{name}` is none of ours"));
        }
    }
    frame::rest(&filtering, loading, is_older)
}

/// Chains of rules that only watch: what they say is exactly known.
pub fn audited_chains(meaning: &Meaning<'_>, state: &State<'_>) -> Result<Vec<String>, String> {
    let mut rules: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let is_watching = |name: &str| name.contains("_r_") && name.ends_with("_audit");
    for declaration in state.declarations() {
        if declaration.table == FILTERING && declaration.kind == "rule" && is_watching(declaration.name) {
            rules.entry(declaration.name.to_owned()).or_default().push(declaration.text);
        }
    }
    for (name, texts) in &rules {
        let found = Path::ALL.into_iter().find_map(|path| {
            let prefix = format!("{}_{}_r_", meaning.generation, path.short());
            let id = name.strip_prefix(&prefix)?.strip_suffix("_audit")?;
            let rule = meaning.policy.rules.iter().find(|rule| rule.id.as_str() == id && rule.stage == Stage::Audit)?;
            Some(Expected::new(meaning, path).watching(rule))
        });
        let expected = found.ok_or_else(|| format!("chain `{name}` is of no audited rule"))?;
        if *texts != expected {
            return Err(format!("chain `{name}` does not only count and log: {texts:?}"));
        }
    }
    Ok(rules.into_keys().collect())
}

/// The policy's table, with the objects of these rules.
fn expected(meaning: &Meaning<'_>, loading: &Loading<'_>, rules: &[(Path, Vec<&Rule>); 3], is_managed: impl Fn(Path) -> bool) -> Declared {
    let mut all = frame::filtering(loading, meaning.node.stage == Stage::Audit);
    let generation = loading.generation;
    let on_any = || rules.iter().flat_map(|(path, rules)| rules.iter().map(|rule| (*rule, *path)));
    for name in on_any().flat_map(|(rule, path)| meaning.names_of(rule, path)).collect::<BTreeSet<_>>() {
        frame::name_sets(&mut all, generation, name);
    }
    let timeouts = on_any().filter(|(rule, _)| rule.action == Action::Allow && rule.stage == Stage::Enforce);
    for seconds in timeouts.filter_map(|(rule, _)| rule.session_timeout).collect::<BTreeSet<_>>() {
        frame::timeouts(&mut all, seconds);
    }
    let mut counters = BTreeSet::from([format!("{generation}_established")]);
    for (path, _) in HOOKS {
        let own = format!("{generation}_{}", path.short());
        counters.extend([format!("{own}_default"), format!("{own}_invalid")]);
        if !meaning.is_for_containers(path) {
            counters.insert(format!("{own}_untracked"));
        }
        if is_managed(path) {
            counters.insert(format!("{own}_r_management"));
        }
        for (rule, _) in on_any().filter(|(_, on)| *on == path) {
            let watch = if rule.stage == Stage::Audit { "_audit" } else { "" };
            counters.insert(format!("{own}_r_{}{watch}", rule.id));
        }
    }
    for counter in counters {
        add(&mut all, "counter", counter, "");
    }
    all
}
