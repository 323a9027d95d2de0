//! The fixed parts of what is loaded, said a second time: tables, hooks, block lists, the dead-man switch.
//!
//! In: what the kernel holds after the text. Out: the first thing that is missing, too much or different. Never:
//! anything of the writer, or a rule of a generation: those are compared as meaning.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use ringwall_packet::{Address, AddressSet, Family, Interval, IntervalSet, Matches, Point, Row, Table, Variable, truth};

use super::blocks::BLOCKS_TABLE;
use super::read::{Installed, State, TableName};
use super::{Confirm, Generation, LOG_GROUP, Loading, MARK_MASK, TABLE};
use crate::filter::Hook;
use crate::meaning::Path;

/// The table of the policy.
pub const FILTERING: TableName<'static> = TableName { family: "inet", name: TABLE };
/// Each path with the name of its base chain, which is its hook's.
pub const HOOKS: [(Path, &str); 3] = [(Path::Input, "input"), (Path::Output, "output"), (Path::Forward, "forward")];

/// Declarations by what they are: kind and name, and their texts in order.
pub type Declared = BTreeMap<(&'static str, String), Vec<String>>;

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
    let older: String = loading.installed.chains.iter().map(|chain| format!("chain {chain} {{ {OLDER} }}\n")).collect();
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
    format!("table inet {TABLE} {{\n{older}{filtering}}}\ntable inet {BLOCKS_TABLE} {{\n{sets}{inner}{blocks}}}\n{elements}")
}

/// What each chain of an older generation holds there.
const OLDER: &str = "accept";

/// Of the table of block lists and of that of the policy; an error for any other table.
pub fn declared(state: &State<'_>) -> Result<[Declared; 2], String> {
    let mut both = [Declared::new(), Declared::new()];
    for declaration in state.declarations() {
        let at = match (declaration.table.family, declaration.table.name) {
            ("inet", BLOCKS_TABLE) => 0,
            ("inet", TABLE) => 1,
            (family, name) => return Err(format!("table `{family} {name}` is none of ours")),
        };
        both[at].entry((declaration.kind, declaration.name.to_owned())).or_default().push(declaration.text);
    }
    Ok(both)
}

/// The first of all that must be there that is not, or is but must not.
pub fn equal<'a>(must: &Declared, does: impl IntoIterator<Item = (&'a (&'static str, String), &'a Vec<String>)>) -> Result<(), String> {
    let mut found = BTreeSet::new();
    for (key @ (kind, name), texts) in does {
        match must.get(key) {
            None => return Err(format!("{kind} `{name}` is none of ours")),
            Some(must) if must != texts => return Err(format!("{kind} `{name}` is {texts:?}, and must be {must:?}")),
            Some(_) => found.insert(key),
        };
    }
    match must.keys().find(|key| !found.contains(key)) {
        None => Ok(()),
        Some((kind, name)) => Err(format!("{kind} `{name}` is missing")),
    }
}

pub fn add(declared: &mut Declared, kind: &'static str, name: impl Into<String>, text: impl Into<String>) {
    declared.entry((kind, name.into())).or_default().push(text.into());
}

/// Names of what other generations left.
pub fn others<'a>(loading: &Loading<'a>) -> BTreeSet<&'a String> {
    let installed = loading.installed;
    installed.chains.iter().chain(&installed.counters).chain(&installed.sets).collect()
}

/// What the generation before needs is still there and as it was, all else is gone. `is_older`: the text was loaded onto
/// what [`before`] says.
pub fn rest(filtering: &Declared, loading: &Loading<'_>, is_older: bool) -> Result<(), String> {
    let is_trial = matches!(loading.confirm, Confirm::Within(_));
    let stays = |of: &String| is_trial && Generation::of_name(of).is_some() && Generation::of_name(of) == loading.installed.current;
    for of in others(loading) {
        let is_there = filtering.keys().any(|(_, name)| name == of);
        let stays = stays(of);
        if is_there != stays {
            let what = if stays { "is deleted, and decides when the trial falls" } else { "is left behind" };
            return Err(format!("`{of}` {what}"));
        }
        let rules = filtering.get(&("rule", of.clone())).map_or(&[][..], Vec::as_slice);
        let is_chain = loading.installed.chains.contains(of);
        let must: &[&str] = if stays && is_older && is_chain { &[OLDER] } else { &[] };
        if rules != must || filtering.contains_key(&("element", of.clone())) {
            return Err(format!("`{of}` is changed, and decides when the trial falls"));
        }
    }
    Ok(())
}

/// Block lists, before everything else: what is protected passes, what is blocked is dropped.
pub fn blocks(protected: &AddressSet, confirm: Confirm) -> Declared {
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
    if confirm == Confirm::Never {
        for family in Family::ALL {
            for element in elements(protected, family) {
                add(&mut all, "element", format!("protected{}", if family == Family::V4 { '4' } else { '6' }), element);
            }
        }
    }
    all
}

/// As a set's elements: a single address, a prefix, or a range of neither.
fn elements(set: &AddressSet, family: Family) -> Vec<String> {
    fn of<A: Point + std::fmt::Display>(set: &IntervalSet<A>, prefixes: impl Fn(A, A) -> Option<String>) -> Vec<String> {
        let text = |interval: &Interval<A>| {
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

/// The policy's table: its base chains, the switch, probes' sets. `is_audited`: the node only watches.
pub fn filtering(loading: &Loading<'_>, is_audited: bool) -> Declared {
    let mut all = Declared::new();
    let generation = loading.generation;
    add(&mut all, "table", TABLE, "");
    for digit in ['4', '6'] {
        let key = format!("ipv{digit}_addr . ipv{digit}_addr . inet_proto . inet_service . inet_service");
        add(&mut all, "set", format!("probe_pass{digit}"), format!("type {key}; flags timeout; size 65536"));
        add(&mut all, "set", format!("probe_watch{digit}"), format!("type {key}; flags timeout; size 65536"));
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
        Confirm::Never => (if is_audited { "accept" } else { "drop" }, None),
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

/// The sets of a DNS name's addresses.
pub fn name_sets(all: &mut Declared, generation: Generation, name: &str) {
    for digit in ['4', '6'] {
        add(all, "set", format!("{generation}_names{digit}_{name}"), format!("type ipv{digit}_addr; flags timeout; size 1024"));
    }
}

/// The objects of a session timeout.
pub fn timeouts(all: &mut Declared, seconds: u32) {
    for (digit, ip) in [('4', "ip"), ('6', "ip6")] {
        let policy = format!("policy = {{ established : {seconds} }}");
        add(all, "ct timeout", format!("tcp{digit}_{seconds}"), format!("protocol tcp; l3proto {ip}; {policy}"));
    }
}

/// Marks of generations that came after this one, or have fallen: their connections are judged anew.
/// A mark has 255 values besides 0, one after the other and round again; the 100 after this one's are refused.
/// What lies between two marks that follow each other no connection has.
pub fn refused_marks<'a>(generation: Generation, fallen: impl IntoIterator<Item = &'a Generation>) -> IntervalSet<u128> {
    let mark = |generation: Generation| u128::from(generation.mark());
    let ahead = |steps| mark(Generation(generation.0.saturating_add(steps)));
    let greatest = u128::from(MARK_MASK);
    let up_to = |last| if last == greatest { u128::MAX } else { last };
    let (first, last) = (ahead(1), ahead(100));
    let mut refused: Vec<Interval<u128>> = if first <= last {
        Interval::new(first, up_to(last)).into_iter().collect()
    } else {
        let least = 1 << MARK_MASK.trailing_zeros();
        [Interval::new(first, u128::MAX), Interval::new(least, last)].into_iter().flatten().collect()
    };
    refused.extend(fallen.into_iter().filter_map(|fallen| Interval::new(mark(*fallen), up_to(mark(*fallen)))));
    refused.into_iter().collect()
}

/// What asks whether the dead-man switch is armed.
pub fn armed(generation: Generation) -> Variable {
    Variable::Holds(format!("meta nfproto @{generation}_armed").into())
}

/// A part of all packets.
pub type Slice = Vec<(Variable, IntervalSet<u128>)>;

/// All packets of a path in disjoint parts, of which each is a smaller question: by the dead-man switch, and
/// by whether a port was published for them.
pub fn slices(loading: &Loading<'_>, is_for_containers: bool) -> Vec<Slice> {
    let mut slices = Vec::new();
    let live = match loading.confirm {
        Confirm::Never => Vec::new(),
        Confirm::Within(_) => {
            let armed = armed(loading.generation);
            slices.push(vec![(armed.clone(), truth(false))]);
            vec![(armed, truth(true))]
        }
    };
    if is_for_containers {
        let translated = Variable::Holds("ct status dnat".into());
        let own = [false, true].map(|holds| (translated.clone(), truth(holds)));
        slices.extend(own.map(|own| live.iter().cloned().chain([own]).collect()));
    } else {
        slices.push(live);
    }
    slices
}

/// The rows of one part of all packets, without what they then need not ask; none after one that takes all of it.
pub fn sliced<D: Copy>(table: &Table<D>, slice: &Slice) -> Table<D> {
    fn rows<A: Address, D: Copy>(rows: &[Row<A, D>], slice: &Slice) -> Vec<Row<A, D>> {
        let any = Matches::any();
        let mut all = Vec::with_capacity(rows.len());
        for row in rows {
            let asked = |(variable, values): &(Variable, IntervalSet<u128>)| {
                row.matches.conditions.values(variable).is_none_or(|own| !own.is_disjoint(values))
            };
            if !slice.iter().all(asked) {
                continue;
            }
            let mut matches = row.matches.clone();
            for (variable, values) in slice {
                // A set that holds only a part of the slice is still asked for.
                if matches.conditions.values(variable).is_some_and(|own| values.is_subset(own)) {
                    matches.conditions = matches.conditions.without(variable);
                }
            }
            let is_last = matches == any;
            all.push(Row { matches, decision: row.decision });
            if is_last {
                break;
            }
        }
        all
    }
    Table { v4: rows(&table.v4, slice), v6: rows(&table.v6, slice) }
}

/// Whether the text sends packets of a path to what an older generation says of it.
pub fn is_dispatch(generation: Generation, path: Path, text: &str) -> bool {
    let target = format!("{generation}_{}", path.short());
    text == target || text == format!("goto {target}")
}

pub fn hook(path: Path) -> Hook {
    match path {
        Path::Input => Hook::Input,
        Path::Output => Hook::Output,
        Path::Forward => Hook::Forward,
    }
}
