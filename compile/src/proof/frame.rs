//! The fixed parts of what is loaded: tables, hooks, block lists, the dead-man switch, objects.
//!
//! In: what the kernel holds after the text. Out: the first thing that is missing, too much or different.
//! Never: a policy's rules; those are compared as meaning.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use ringwall_packet::{AddressSet, Family};
use ringwall_policy::{Action, Rule, Stage};
use ringwall_ruleset::Path;
use ringwall_ruleset::nftables::read::{Installed, State, TableName};
use ringwall_ruleset::nftables::{BLOCKS_TABLE, Confirm, Generation, LOG_GROUP, Loading, TABLE};

use super::effects::Expected;
use super::meaning::Meaning;
use super::Unproved;

const FILTERING: TableName<'static> = TableName { family: "inet", name: TABLE };
const HOOKS: [(Path, &str); 3] = [(Path::Input, "input"), (Path::Output, "output"), (Path::Forward, "forward")];

/// What is in the kernel before, by name.
pub fn installed<'t>(loading: &Loading<'t>) -> Vec<(TableName<'t>, Installed<'t>)> {
    let installed = loading.installed;
    let chains = installed.chains.iter().map(|name| Installed::Chain(name));
    let counters = installed.counters.iter().map(|name| Installed::Counter(name));
    let sets = installed.sets.iter().map(|name| Installed::Set(name));
    chains.chain(counters).chain(sets).map(|what| (FILTERING, what)).collect()
}

/// Our tables as an older text may have left them: nothing of it may count once the new one is loaded, whether
/// the older one decided other things or the same.
pub fn before(loading: &Loading<'_>) -> String {
    if loading.installed.chains.is_empty() {
        return String::new();
    }
    let base = |hook: &str, priority: &str, rule: &str| {
        format!("chain {hook} {{ type filter hook {hook} priority {priority}; policy accept; {rule} }}\n")
    };
    let filtering: String = HOOKS.iter().map(|(_, hook)| base(hook, "filter - 10", "accept")).collect();
    let blocks: String = ["prerouting", "output"].iter().map(|hook| base(hook, "raw", "accept")).collect();
    let sets: String = ["4", "6"].map(|digit| {
        format!("set protected{digit} {{ type ipv{digit}_addr; flags interval; }}\n")
    }).concat();
    let elements = match loading.confirm {
        // A trial leaves what is protected as it is.
        Confirm::Within(_) => String::new(),
        Confirm::Never => format!(
            "add element inet {BLOCKS_TABLE} protected4 {{ 203.0.113.0/24 }}\nadd element inet {BLOCKS_TABLE} protected6 {{ 3fff::/20 }}\n"
        ),
    };
    let inner = ["blocked", "saddr4", "daddr4", "saddr6", "daddr6", "saddr6_long", "daddr6_long"];
    let inner: String = inner.iter().map(|chain| format!("chain {chain} {{ accept }}\n")).collect();
    format!("table inet {TABLE} {{\n{filtering}}}\ntable inet {BLOCKS_TABLE} {{\n{sets}{inner}{blocks}}}\n{elements}")
}

/// Declarations by what they are: kind and name, and their texts in order.
type Declared = BTreeMap<(&'static str, String), Vec<String>>;

pub fn check(meaning: &Meaning<'_>, state: &State<'_>, loading: &Loading<'_>) -> Result<(), Unproved> {
    let (mut blocks, mut filtering) = (Declared::new(), Declared::new());
    for declaration in state.declarations() {
        let declared = match (declaration.table.family, declaration.table.name) {
            ("inet", BLOCKS_TABLE) => &mut blocks,
            ("inet", TABLE) => &mut filtering,
            (family, name) => return Err(frame(format!("table `{family} {name}` is none of ours"))),
        };
        declared.entry((declaration.kind, declaration.name.to_owned())).or_default().push(declaration.text);
    }
    equal(&expected_blocks(meaning, loading), &blocks)?;
    let name = loading.generation.to_string() + "_";
    // Chains and rules of the generation are compared as meaning; those of others are as they were.
    let others: BTreeSet<&String> = loading.installed.chains.iter().chain(&loading.installed.counters).chain(&loading.installed.sets).collect();
    let is_fixed = |(kind, of): &&(&'static str, String)| {
        !(matches!(*kind, "chain" | "rule") && of.starts_with(&name)) && !others.contains(of)
            && !(*kind == "element" && of.contains("_names"))
    };
    let deciding = Path::ALL.map(|path| (path, meaning.rules_on(path).into_values().collect()));
    let needed = expected_filtering(meaning, loading, &deciding, |path| meaning.is_managed_on(path));
    let (fixed, more): (Vec<_>, Vec<_>) = filtering.iter().filter(|(key, _)| is_fixed(key)).partition(|(key, _)| needed.contains_key(*key));
    equal(&needed, fixed)?;
    if !more.is_empty() {
        // A rule that no packet of this node's can match may have its objects, or none.
        let all = Path::ALL.map(|path| (path, meaning.policy.rules.iter().collect()));
        let possible = expected_filtering(meaning, loading, &all, |_| meaning.policy.management.is_some());
        if let Some(((kind, name), _)) = more.into_iter().find(|(key, texts)| possible.get(*key) != Some(*texts)) {
            return Err(frame(format!("{kind} `{name}` is none of ours")));
        }
    }
    // What the generation before needs is still there, all else is gone.
    let stays = |of: &String| matches!(loading.confirm, Confirm::Within(_)) && Generation::of_name(of).is_some() && Generation::of_name(of) == loading.installed.current;
    for of in others {
        let is_there = filtering.keys().any(|(_, name)| name == of);
        let stays = stays(of);
        if is_there != stays {
            let what = if stays { "is deleted, and decides when the trial falls" } else { "is left behind" };
            return Err(frame(format!("`{of}` {what}")));
        }
    }
    Ok(())
}

/// Chains of rules that only watch: what they say is exactly known.
pub fn audited_chains(meaning: &Meaning<'_>, state: &State<'_>) -> Result<Vec<String>, Unproved> {
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
        let expected = found.ok_or_else(|| frame(format!("chain `{name}` is of no audited rule")))?;
        if *texts != expected {
            return Err(frame(format!("chain `{name}` does not only count and log: {texts:?}")));
        }
    }
    Ok(rules.into_keys().collect())
}

fn frame(what: String) -> Unproved {
    Unproved::Frame { what }
}

fn equal<'a>(must: &Declared, does: impl IntoIterator<Item = (&'a (&'static str, String), &'a Vec<String>)>) -> Result<(), Unproved> {
    let mut found = BTreeSet::new();
    for (key @ (kind, name), texts) in does {
        match must.get(key) {
            None => return Err(frame(format!("{kind} `{name}` is none of ours"))),
            Some(must) if must != texts => {
                return Err(frame(format!("{kind} `{name}` is {texts:?}, and must be {must:?}")));
            }
            Some(_) => found.insert(key),
        };
    }
    match must.keys().find(|key| !found.contains(key)) {
        None => Ok(()),
        Some((kind, name)) => Err(frame(format!("{kind} `{name}` is missing"))),
    }
}

fn add(declared: &mut Declared, kind: &'static str, name: impl Into<String>, text: impl Into<String>) {
    declared.entry((kind, name.into())).or_default().push(text.into());
}

/// Block lists, before everything else: what is protected passes, what is blocked is dropped.
fn expected_blocks(meaning: &Meaning<'_>, loading: &Loading<'_>) -> Declared {
    let mut all = Declared::new();
    add(&mut all, "table", BLOCKS_TABLE, "");
    for digit in ['4', '6'] {
        let address = format!("type ipv{digit}_addr; flags");
        add(&mut all, "set", format!("protected{digit}"), format!("{address} interval"));
        add(&mut all, "set", format!("block{digit}"), format!("{address} timeout; size 2097152"));
        add(&mut all, "set", format!("block{digit}_prefixes"), format!("{address} timeout; size 2097152"));
        add(&mut all, "set", format!("block{digit}_covers"), format!("{address} timeout; size 1048576"));
    }
    add(&mut all, "counter", "blocked", "");
    add(&mut all, "chain", "blocked", "");
    add(&mut all, "rule", "blocked", format!("limit rate 100/second burst 200 packets log prefix \"ringwall blocked\" group {LOG_GROUP}"));
    add(&mut all, "rule", "blocked", "counter name \"blocked\" drop");
    for (chain, loopback, field) in [("prerouting", "iif", "saddr"), ("output", "oif", "daddr")] {
        add(&mut all, "chain", chain, format!("type filter hook {chain} priority raw; policy accept"));
        add(&mut all, "rule", chain, format!("{loopback} \"lo\" accept"));
        for (ip, digit) in [("ip", '4'), ("ip6", '6')] {
            add(&mut all, "rule", chain, format!("{ip} {field} @protected{digit} accept"));
            add(&mut all, "rule", chain, format!("{ip} {field} @block{digit} goto blocked"));
        }
        // A prefix's mark is the bit behind its last.
        let cut4 = |length: u32| {
            let mark = 1u32 << (31 - length);
            format!("ip {field} and {} or {}", Ipv4Addr::from(!(2 * mark - 1)), Ipv4Addr::from(mark))
        };
        let cut6 = |length: u32| {
            let mark = 1u128 << (127 - length);
            format!("ip6 {field} and {} or {}", Ipv6Addr::from(!(2 * mark - 1)), Ipv6Addr::from(mark))
        };
        let [short, middle, long] = [format!("{field}4"), format!("{field}6"), format!("{field}6_long")];
        for chain in [&short, &middle, &long] {
            add(&mut all, "chain", chain, "");
        }
        add(&mut all, "rule", chain, format!("{} @block4_covers jump {short}", cut4(16)));
        for length in (8..=30).step_by(2) {
            add(&mut all, "rule", &short, format!("{} @block4_prefixes goto blocked", cut4(length)));
        }
        add(&mut all, "rule", chain, format!("{} @block6_covers jump {middle}", cut6(32)));
        for length in (20..=64).step_by(4) {
            add(&mut all, "rule", &middle, format!("{} @block6_prefixes goto blocked", cut6(length)));
        }
        add(&mut all, "rule", &middle, format!("{} @block6_covers jump {long}", cut6(64)));
        for length in (68..=124).step_by(4) {
            add(&mut all, "rule", &long, format!("{} @block6_prefixes goto blocked", cut6(length)));
        }
    }
    // A trial leaves them as they are until it is confirmed.
    if loading.confirm == Confirm::Never {
        for family in Family::ALL {
            for element in elements(&meaning.policy.protected, family) {
                add(&mut all, "element", format!("protected{}", if family == Family::V4 { '4' } else { '6' }), element);
            }
        }
    }
    all
}

/// As a set's elements: a single address, a prefix, or a range of neither.
fn elements(set: &AddressSet, family: Family) -> Vec<String> {
    fn of<A: ringwall_packet::Point + std::fmt::Display>(set: &ringwall_packet::IntervalSet<A>, prefixes: impl Fn(A, A) -> Option<String>) -> Vec<String> {
        let text = |interval: &ringwall_packet::Interval<A>| {
            if interval.is_single() {
                return interval.first().to_string();
            }
            let range = || format!("{}-{}", interval.first(), interval.last());
            prefixes(interval.first(), interval.last()).unwrap_or_else(range)
        };
        set.intervals().iter().map(text).collect()
    }
    match family {
        Family::V4 => of(&set.v4, |first, last| {
            let mut all = ipnet::Ipv4Subnets::new(first, last, 0);
            all.next().filter(|_| all.next().is_none()).map(|prefix| prefix.to_string())
        }),
        Family::V6 => of(&set.v6, |first, last| {
            let mut all = ipnet::Ipv6Subnets::new(first, last, 0);
            all.next().filter(|_| all.next().is_none()).map(|prefix| prefix.to_string())
        }),
    }
}

fn expected_filtering(meaning: &Meaning<'_>, loading: &Loading<'_>, rules: &[(Path, Vec<&Rule>); 3], is_managed: impl Fn(Path) -> bool) -> Declared {
    let mut all = Declared::new();
    let generation = loading.generation;
    add(&mut all, "table", TABLE, "");
    for digit in ['4', '6'] {
        let key = format!("ipv{digit}_addr . ipv{digit}_addr . inet_proto . inet_service . inet_service");
        add(&mut all, "set", format!("probe_pass{digit}"), format!("type {key}; flags timeout; size 65536"));
        add(&mut all, "set", format!("probe_watch{digit}"), format!("type {key}; flags timeout; size 65536"));
    }
    let on_any = || rules.iter().flat_map(|(path, rules)| rules.iter().map(|rule| (*rule, *path)));
    for name in on_any().flat_map(|(rule, path)| meaning.names_of(rule, path)).collect::<BTreeSet<_>>() {
        for digit in ['4', '6'] {
            add(&mut all, "set", format!("{generation}_names{digit}_{name}"), format!("type ipv{digit}_addr; flags timeout; size 1024"));
        }
    }
    let timeouts = on_any().filter(|(rule, _)| rule.action == Action::Allow && rule.stage == Stage::Enforce);
    for seconds in timeouts.filter_map(|(rule, _)| rule.session_timeout).collect::<BTreeSet<_>>() {
        for (digit, ip) in [('4', "ip"), ('6', "ip6")] {
            let policy = format!("policy = {{ established : {seconds} }}");
            add(&mut all, "ct timeout", format!("tcp{digit}_{seconds}"), format!("protocol tcp; l3proto {ip}; {policy}"));
        }
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
    let (policy, armed) = match loading.confirm {
        Confirm::Within(seconds) => {
            let armed = format!("{generation}_armed");
            add(&mut all, "set", &armed, "typeof meta nfproto; flags timeout");
            for nfproto in ["ipv4", "ipv6"] {
                add(&mut all, "element", &armed, format!("{nfproto} timeout {seconds}s"));
            }
            // A trial with nothing to fall back to falls to no enforcement.
            (if loading.installed.current.is_some() { "drop" } else { "accept" }, Some(armed))
        }
        Confirm::Never => (if meaning.node.stage == Stage::Audit { "accept" } else { "drop" }, None),
    };
    for (path, chain) in HOOKS {
        add(&mut all, "chain", chain, format!("type filter hook {chain} priority filter - 10; policy {policy}"));
        let short = path.short();
        match &armed {
            Some(armed) => {
                add(&mut all, "rule", chain, format!("meta nfproto @{armed} goto {generation}_{short} comment \"{generation}\""));
                if let Some(current) = loading.installed.current {
                    add(&mut all, "rule", chain, format!("goto {current}_{short} comment \"{current}\""));
                }
            }
            None => add(&mut all, "rule", chain, format!("goto {generation}_{short} comment \"{generation}\"")),
        }
    }
    all
}
