//! What other programs' rules would still drop of what ours accept.
//!
//! In: their texts, the ruleset that is enforced. Out: findings, each with the rule that drops. Never: a guess at what a text
//! does that can't be read.

use std::collections::BTreeSet;

use ringwall_packet::{AddressSet, Budget, Conditions, Exhausted, Packets, Table, UpperSet, of_many};
use ringwall_ruleset::filter::Filter;
use ringwall_ruleset::others::{Dropped, dropped};
use ringwall_ruleset::{Path, Ruleset, detect};
use serde_json::json;

use super::ports::STEPS;
use super::{Enforced, Facts, Finding, Program};

/// So many rules of others are told.
const TOLD: usize = 20;
/// So much of a rule.
const WIDTH: usize = 160;

pub(super) fn findings(facts: &Facts, all: &mut Vec<Finding>) {
    for (program, shown) in &facts.others.programs {
        let (kind, text, next) = match program {
            Program::Docker => ("docker", "Docker makes rules here", "ports that it publishes are judged as this node's own: each needs a rule of the policy"),
            Program::Firewalld => ("firewalld", "firewalld filters, too", "what it drops stays dropped: `systemctl disable --now firewalld` once the policy says all that it should"),
            Program::Ufw => ("ufw", "ufw filters, too", "what it drops stays dropped: `ufw disable` once the policy says all that it should"),
            Program::IptablesLegacy => ("iptables_legacy", "there are rules of iptables-legacy, which nft does not show", "iptables-legacy-save shows them"),
        };
        all.push(Finding::new(kind, format!("{text} ({shown})"), json!({ "shown_by": shown })).note().next(next));
    }
    let mut texts = Vec::new();
    for text in &facts.others.texts {
        match text {
            Ok((name, text)) => texts.push((name.as_str(), text.as_str())),
            Err(why) => all.push(not_known(why)),
        }
    }
    let Enforced::Ruleset { ruleset, .. } = &facts.enforced else { return };
    if texts.is_empty() {
        return;
    }
    let filter = match detect::filter_of(&texts) {
        Ok(filter) => filter,
        Err(why) => return all.push(not_known(&why)),
    };
    match all_dropped(&filter, ruleset, facts) {
        Ok(found) => all.extend(found.iter().take(TOLD).map(|dropped| finding(dropped, &filter, ruleset))),
        Err(exhausted) => all.push(not_known(&exhausted.to_string())),
    }
}

fn not_known(why: &str) -> Finding {
    Finding::new("other_tables", format!("what other tables would drop is not known: {why}"), json!({}))
}

fn all_dropped(filter: &Filter, ruleset: &Ruleset, facts: &Facts) -> Result<Vec<Dropped<usize>>, Exhausted> {
    let mut budget = Budget::new(STEPS);
    let mut all = Vec::new();
    for path in Path::ALL {
        let scope = scope(path, &facts.addresses.iter().copied().collect());
        let accepted = ruleset.accepted(path, facts.now, &mut budget)?;
        // Where a DNS name leads is not known here.
        let known = accepted.into_iter().filter(|(at, _)| ruleset.entries(path)[*at].names.is_empty());
        let known = known.map(|(at, packets)| (at, packets.within(&scope))).filter(|(_, packets)| !packets.is_empty());
        all.extend(dropped(filter, path, known, &mut budget)?);
    }
    Ok(all)
}

/// What goes a path through this machine.
fn scope(path: Path, own: &AddressSet) -> Table<()> {
    let mut rows = Table::default();
    let (foreign, full) = (own.complement(), AddressSet::full());
    let (source, destination) = match path {
        Path::Input => (&foreign, own.union(&of_many())),
        Path::Output => (own, foreign.clone()),
        Path::Forward => (&full, full.clone()),
    };
    rows.push(source, &destination, &UpperSet::any(), &Conditions::default(), ());
    rows
}

fn finding(dropped: &Dropped<usize>, filter: &Filter, ruleset: &Ruleset) -> Finding {
    let verb = match (dropped.is_sure, dropped.outcome.fate.refuses()) {
        (true, _) => "is dropped by",
        (false, true) => "may be dropped by",
        (false, false) => "goes where it is not known what becomes of it, in",
    };
    let by = dropped.outcome.told().first().copied();
    let place = by.map_or_else(|| "a table".to_owned(), |by| {
        let chain = &filter.chains[by.chain];
        match by.rule.map(|rule| &filter.rules[rule]) {
            None => format!("the policy of chain {} in table {}", chain.name, chain.table),
            Some(rule) => format!("`{}` of chain {} in table {}", short(&rule.text), rule.chain.strip_prefix(&chain.table).map_or(&*rule.chain, str::trim), chain.table),
        }
    });
    let ids: BTreeSet<&str> = dropped.allowed_by.iter().map(|at| ruleset.entries(dropped.path)[*at].id.as_str()).collect();
    let rules = ids.iter().copied().collect::<Vec<_>>().join(", ");
    let ports = ports(&dropped.packets);
    let text = format!("{}{ports}, which {} {rules} allow{}, {verb} {place}, such as {}", way(dropped.path),
        if ids.len() == 1 { "rule" } else { "rules" }, if ids.len() == 1 { "s" } else { "" }, dropped.witness);
    let about = json!({ "path": dropped.path.short(), "rules": ids, "by": place, "certain": dropped.is_sure, "witness": dropped.witness.to_string() });
    Finding::new("dropped_by_others", text, about).next("take that rule out, or the other program")
}

fn way(path: Path) -> &'static str {
    match path {
        Path::Input => "what comes in",
        Path::Output => "what goes out",
        Path::Forward => "what is forwarded",
    }
}

/// ` to 443/tcp, 8443/tcp`, where there are few.
fn ports(packets: &Packets) -> String {
    const MOST: usize = 6;
    let uppers = packets.v4.iter().map(|packets| &packets.cube.upper).chain(packets.v6.iter().map(|packets| &packets.cube.upper));
    let of = |upper: &ringwall_packet::UpperCube| {
        let protocol = upper.protocols().only().map(ringwall_packet::Protocol).filter(|protocol| protocol.has_ports());
        let word = |protocol: ringwall_packet::Protocol| upper.destination_ports().intervals().iter().map(move |ports| match ports.is_single() {
            true => format!("{}/{protocol}", ports.first()),
            false => format!("{}-{}/{protocol}", ports.first(), ports.last()),
        });
        protocol.into_iter().flat_map(word).collect::<Vec<_>>()
    };
    let words: BTreeSet<String> = uppers.flat_map(of).collect();
    let more = if words.len() > MOST { " and others" } else { "" };
    let words: Vec<String> = words.into_iter().take(MOST).collect();
    if words.is_empty() { String::new() } else { format!(" to {}{more}", words.join(", ")) }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(WIDTH) {
        None => text.to_owned(),
        Some((end, _)) => format!("{} …", &text[..end]),
    }
}
