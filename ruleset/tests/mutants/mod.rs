//! Texts that are nearly right: what a proof must notice.
//!
//! Every token of a text is changed, every line is left out, said twice and swapped with its neighbour.

use std::collections::BTreeMap;

use ringwall_diagnostic::Sources;
use ringwall_packet::{Address, IntervalSet, Matches, Point, Row, Variable};
use ringwall_ruleset::filter::{Decision, Filter, FilterVerdict};
use ringwall_ruleset::nftables::Installed;
use ringwall_ruleset::nftables::read::{Installed as There, Sets, State, TableName, filter, script};

/// What stands in place of a token: all that the token may be confused with.
fn instead(token: &str, names: &BTreeMap<char, Vec<&str>>) -> Vec<String> {
    const PAIRS: &[(&str, &[&str])] = &[
        ("accept", &["drop", "return", "continue"]),
        ("drop", &["accept", "return"]),
        ("reject", &["accept"]),
        ("return", &["accept", "drop"]),
        ("goto", &["jump"]),
        ("jump", &["goto"]),
        ("saddr", &["daddr"]),
        ("daddr", &["saddr"]),
        ("sport", &["dport"]),
        ("dport", &["sport"]),
        ("ip", &["ip6"]),
        ("ip6", &["ip"]),
        ("ipv4", &["ipv6"]),
        ("ipv6", &["ipv4"]),
        ("tcp", &["udp", "icmp"]),
        ("udp", &["tcp"]),
        ("icmp", &["icmpv6"]),
        ("icmpv6", &["icmp"]),
        ("iif", &["oif"]),
        ("oif", &["iif"]),
        ("iifname", &["oifname"]),
        ("oifname", &["iifname"]),
        ("new", &["established"]),
        ("established", &["new", "related", "invalid"]),
        ("established,related", &["established", "related", "new,established,related", "invalid,related"]),
        ("invalid", &["new", "untracked"]),
        ("untracked", &["new", "invalid"]),
        ("reply", &["original"]),
        ("original", &["reply"]),
        (">=", &[">", "<=", "!="]),
        ("<", &["<=", ">", "!="]),
        ("input", &["output", "forward"]),
        ("output", &["input", "forward"]),
        ("forward", &["input"]),
        ("prerouting", &["postrouting"]),
        ("filter", &["nat"]),
        ("raw", &["filter"]),
        ("-", &["+"]),
        ("and", &["or", "xor"]),
        ("or", &["and", "xor"]),
        ("packets", &["bytes"]),
        ("timeout", &["interval", "expires"]),
        ("interval", &["constant"]),
        ("interval,timeout", &["interval", "timeout"]),
        ("dnat", &["snat"]),
        ("set", &["map"]),
        ("vmap", &["map"]),
        ("add", &["delete", "insert"]),
        ("flush", &["delete"]),
        ("delete", &["flush"]),
        ("type", &["code"]),
        ("hoplimit", &["length"]),
        ("time", &["hour"]),
        ("mark", &["id"]),
        ("proto-dst", &["proto-src"]),
        ("l4proto", &["protocol"]),
        ("inet", &["ip"]),
        ("{", &[""]),
        ("}", &[""]),
    ];
    let bare = token.trim_end_matches([',', ';', ':']);
    let tail = &token[bare.len()..];
    let mut all: Vec<String> = PAIRS.iter().filter(|(word, _)| *word == bare).flat_map(|(_, others)| others.iter().map(|other| (*other).to_owned())).collect();
    // Numbers: each run of digits one up, one down; and the mask of a prefix one longer, one shorter.
    let bytes = bare.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let is_name = bare.starts_with('g') || bare.starts_with('@') || bare.starts_with('"');
        if !bytes[at].is_ascii_digit() || is_name {
            at += 1;
            continue;
        }
        let end = at + bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if let Ok(number) = bare[at..end].parse::<u64>() {
            for changed in [Some(number + 1), number.checked_sub(1)].into_iter().flatten() {
                all.push(format!("{}{changed}{}", &bare[..at], &bare[end..]));
            }
        }
        at = end;
    }
    // A range without its end, a negated match, a name that stands for something else.
    if let Some((first, last)) = bare.split_once('-').filter(|(first, _)| first.starts_with(|c: char| c.is_ascii_digit())) {
        all.extend([first.to_owned(), last.to_owned()]);
    }
    if bare.starts_with(|c: char| c.is_ascii_digit() || c == '@') {
        all.push(format!("!= {bare}"));
    }
    let kind = bare.chars().next().unwrap_or(' ');
    if let Some(others) = names.get(&kind).filter(|_| matches!(kind, 'g' | '@' | '"')) {
        let place = others.iter().position(|name| *name == bare).unwrap_or(0);
        all.extend([1, others.len() / 2].map(|step| others[(place + step) % others.len()].to_owned()));
    }
    all.retain(|changed| changed != bare);
    all.iter().map(|changed| format!("{changed}{tail}")).collect()
}

/// Every mutant of a text: what was done, and the text.
pub fn mutants(text: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let tokens = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut names: BTreeMap<char, Vec<&str>> = BTreeMap::new();
    for token in text.split_whitespace().map(|token| token.trim_end_matches([',', ';', ':'])) {
        let kind = token.chars().next().unwrap_or(' ');
        let is_name = match kind {
            'g' => token[1..].starts_with(|c: char| c.is_ascii_digit()),
            '@' | '"' => true,
            _ => false,
        };
        if is_name {
            names.entry(kind).or_default().push(token);
        }
    }
    for names in names.values_mut() {
        names.sort_unstable();
        names.dedup();
    }
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let number = at + 1;
        let rest = &lines[at + 1..];
        let mut change = |what: String, new: &[&str], rest: &[&str]| {
            found.push((format!("line {number}: {what}"), [&lines[..at], new, rest].concat().join("\n") + "\n"));
        };
        change(format!("without `{}`", line.trim()), &[], rest);
        change(format!("twice `{}`", line.trim()), &[line, line], rest);
        if let Some((next, after)) = rest.split_first() {
            change(format!("`{}` after `{}`", line.trim(), next.trim()), &[next, line], after);
        }
        let words = tokens(line);
        for (place, token) in words.iter().enumerate() {
            for changed in instead(token, &names) {
                let mut words = words.clone();
                words[place] = changed.clone();
                change(format!("`{changed}` for `{token}` in `{}`", line.trim()), &[&words.join(" ")], rest);
            }
            let mut fewer = words.clone();
            fewer.remove(place);
            change(format!("no `{token}` in `{}`", line.trim()), &[&fewer.join(" ")], rest);
        }
    }
    found
}

/// A packet of one family, with a value for each variable.
struct Packet<A> {
    source: A,
    destination: A,
    upper: (u8, u16, u16),
    variables: BTreeMap<Variable, u128>,
}

fn takes<A: Address>(matches: &Matches<A>, packet: &Packet<A>) -> bool {
    let cube = &matches.cube;
    cube.source.contains(packet.source)
        && cube.destination.contains(packet.destination)
        && cube.upper.protocols().contains(packet.upper.0)
        && cube.upper.destination_ports().contains(packet.upper.1)
        && cube.upper.source_ports().contains(packet.upper.2)
        && matches.conditions.iter().all(|(variable, values)| values.contains(packet.variables.get(variable).copied().unwrap_or(0)))
}

/// One packet at an edge of each row: the first, the last, or one of each by turns.
fn edges<A: Address>(rows: &[Row<A, Decision>]) -> Vec<Packet<A>> {
    fn edge<P: Point>(set: &IntervalSet<P>, turn: usize) -> P {
        let interval = set.intervals()[turn / 2 % set.intervals().len()];
        if turn.is_multiple_of(2) { interval.first() } else { interval.last() }
    }
    let packet = |(row, turn): (&Row<A, Decision>, usize)| {
        let cube = &row.matches.cube;
        let of = |bit: usize| turn.wrapping_mul(7).wrapping_add(turn >> bit);
        Packet {
            source: edge(&cube.source, of(0)),
            destination: edge(&cube.destination, of(1)),
            upper: (
                edge(cube.upper.protocols(), of(2)),
                edge(cube.upper.destination_ports(), of(3)),
                edge(cube.upper.source_ports(), of(4)),
            ),
            variables: row.matches.conditions.iter().map(|(variable, values)| (variable.clone(), edge(values, of(5)))).collect(),
        }
    };
    rows.iter().flat_map(|row| (0..6).map(move |turn| (row, turn))).map(packet).collect()
}

fn same_rows<A: Address>(
    (a, of_a): (&[Row<A, Decision>], &Filter),
    (b, of_b): (&[Row<A, Decision>], &Filter),
    is_told: &impl Fn(&str) -> bool,
) -> bool {
    let decided = |rows: &[Row<A, Decision>], filter: &Filter, packet: &Packet<A>| {
        let decision = rows.iter().find(|row| takes(&row.matches, packet)).map(|row| row.decision);
        decision.map(|decision| {
            let verdict = match decision.verdict {
                FilterVerdict::Decided(verdict) => format!("{verdict:?}"),
                FilterVerdict::Elsewhere(unknown) => filter.unknown[unknown].text.clone(),
            };
            (verdict, filter.effects[decision.effects].iter().filter(|text| is_told(text)).cloned().collect::<Vec<_>>())
        })
    };
    edges(a).iter().chain(&edges(b)).all(|packet| decided(a, of_a, packet) == decided(b, of_b, packet))
}

/// Whether two texts end each packet in the same way, what `is_told` of the statements on the way included: asked of packets
/// on the boundaries of all values in both.
pub fn same(a: &Filter, b: &Filter, is_told: impl Fn(&str) -> bool) -> bool {
    a.chains.len() == b.chains.len()
        && a.chains.iter().zip(&b.chains).all(|(x, y)| {
            (x.hook, &x.table, &x.name, x.priority) == (y.hook, &y.table, &y.name, y.priority)
                && same_rows((&x.decisions.v4, a), (&y.decisions.v4, b), &is_told)
                && same_rows((&x.decisions.v6, a), (&y.decisions.v6, b), &is_told)
        })
}

/// What a text does, the generation before it being there by name.
pub fn filter_of(text: &str, installed: &Installed) -> Option<Filter> {
    let mut sources = Sources::new();
    let source = sources.add("text", "");
    let (script, diagnostics) = script(text, source);
    let table = TableName { family: "inet", name: "ringwall" };
    let chains = installed.chains.iter().map(|name| There::Chain(name));
    let objects = installed.counters.iter().map(|name| There::Counter(name)).chain(installed.sets.iter().map(|name| There::Set(name)));
    let mut state = State::with_installed(chains.chain(objects).map(|what| (table, what)));
    let refused = !diagnostics.is_empty() || !state.apply(&script).is_empty();
    if refused { None } else { filter(&state, Sets::Free).ok() }
}
