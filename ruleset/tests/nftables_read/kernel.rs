//! Texts through a kernel: loaded in a network namespace of their own, listed, read again.

use std::io::Write as _;
use std::process::{Command, Stdio};

use ringwall_diagnostic::Sources;
use std::collections::{BTreeMap, BTreeSet};

use ringwall_packet::{Address, Budget, Change, Conditions, Row, Table, Variable};
use ringwall_ruleset::filter::{Decision, Filter, FilterVerdict};
use ringwall_ruleset::nftables::read::read;

/// What `nft list ruleset` says after a text was loaded; the error is nft's.
pub fn listing(text: &str) -> Result<String, String> {
    let mut command = Command::new("unshare");
    command.args(["-n", "sh", "-c", "nft -f - && nft list ruleset"]).env("TZ", "UTC").env("LC_ALL", "C");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("unshare");
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("nft reads");
    let output = child.wait_with_output().expect("nft ends");
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).expect("UTF-8"))
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Limits are told apart by their lines, which are others in a listing: their order is the same. The
/// listing says how many packets may come at once where the text leaves it to nft.
fn numbered(filter: &Filter) -> BTreeMap<Variable, Variable> {
    let unknown = filter.unknown.iter().filter_map(|unknown| {
        let (text, line) = unknown.text.rsplit_once(" (line ")?;
        Some((text.to_owned(), line.trim_end_matches(')').parse::<usize>().ok()?))
    });
    let all: BTreeSet<(String, usize)> = unknown.collect();
    let short = |text: &str| text.replace(" burst 5 packets", "");
    let name = |text: &str, number: usize| Variable::Holds(format!("{text} (line {number})").into());
    let number = |text: &str, line: usize| all.iter().filter(|(other, before)| short(other) == short(text) && *before < line).count();
    all.iter().map(|(text, line)| (name(text, *line), name(&short(text), number(text, *line)))).collect()
}

fn renamed<A: Clone>(rows: &[Row<A, Decision>], names: &BTreeMap<Variable, Variable>) -> Vec<Row<A, Decision>> {
    let renamed = |row: &Row<A, Decision>| {
        let mut row = row.clone();
        let conditions = row.matches.conditions.iter().try_fold(Conditions::default(), |all, (variable, values)| {
            all.and(names.get(variable).unwrap_or(variable).clone(), values)
        });
        row.matches.conditions = conditions.expect("as many as before");
        row
    };
    rows.iter().map(renamed).collect()
}

/// Whether the listing does what the text did.
pub fn round_trip(text: &str, before: &Filter) -> Result<(), String> {
    let listing = listing(text)?;
    let mut sources = Sources::new();
    let source = sources.add("listing", listing.clone());
    let reading = read(&sources, source);
    let Some(after) = reading.filter else {
        return Err(format!("the listing can't be read: {:?}\n{listing}", reading.diagnostics));
    };
    if before.chains.len() != after.chains.len() {
        return Err(format!("{} base chains are {} in the listing", before.chains.len(), after.chains.len()));
    }
    let names = [numbered(before), numbered(&after)];
    for chain in &before.chains {
        let twin = after.chains.iter().find(|other| {
            (chain.hook, chain.priority, &chain.table, &chain.name) == (other.hook, other.priority, &other.table, &other.name)
        });
        let Some(twin) = twin else { return Err(format!("base chain {} is not in the listing", chain.name)) };
        let kind = |decision: &Decision| match decision.verdict {
            FilterVerdict::Decided(verdict) => Some(verdict),
            FilterVerdict::Elsewhere(_) => None,
        };
        // Both are total: a packet that nothing decides is a difference.
        let same = |a: Option<&Decision>, b: Option<&Decision>| a.zip(b).is_some_and(|(a, b)| kind(a) == kind(b));
        let [one, other] = [(&chain.decisions, &names[0]), (&twin.decisions, &names[1])]
            .map(|(table, names)| Table { v4: renamed(&table.v4, names), v6: renamed(&table.v6, names) });
        let difference = one.difference(&other, same, &mut Budget::new(10_000_000));
        let difference = difference.map_err(|exhausted| format!("{}: {exhausted}", chain.name))?;
        let shown = |line: String| format!("{}: the listing does something else: {line}\n{listing}", chain.name);
        if let Some(change) = difference.v4.first() {
            return Err(shown(told(change, &one.v4, &other.v4)));
        }
        if let Some(change) = difference.v6.first() {
            return Err(shown(told(change, &one.v6, &other.v6)));
        }
    }
    Ok(())
}

fn told<A: Address>(change: &Change<A>, before: &[Row<A, Decision>], after: &[Row<A, Decision>]) -> String {
    let verdict = |rows: &[Row<A, Decision>], row: Option<usize>| row.map(|row| rows[row].decision.verdict);
    format!("{}: {:?}, {:?}", change.matches.witness(), verdict(before, change.before), verdict(after, change.after))
}
