//! `ringwall import --ruleset`: a policy drafted from a machine's rules.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;

use ringwall_analysis::ruleset::chains;
use ringwall_analysis::ruleset::draft::{Draft, Host, Proof, draft, prove, text};
use ringwall_analysis::words::{Line, Packets};
use ringwall_diagnostic::Diagnostic;
use ringwall_packet::{AddressSet, Budget, Protocol};
use ringwall_policy::Name;
use ringwall_policy_file::{Input, Values};
use ringwall_ruleset::filter::FilterVerdict;
use ringwall_ruleset::{Path, Verdict};

use super::{Ruleset, no_policy, one_line, word, words};
use crate::Failure;
use crate::policy::now;
use crate::question::unknown;
use crate::terminal::{Exit, Terminal};

#[derive(clap::Args, Clone, Debug)]
pub struct DraftArgs {
    /// Draft a policy from the rules that one machine has now: files that iptables-save, ip6tables-save,
    /// ipset save or nft list ruleset printed; `-` is stdin.
    #[arg(long, num_args = 1.., value_name = "FILE", conflicts_with = "files", requires_all = ["node", "address"])]
    pub ruleset: Vec<PathBuf>,
    /// What the policy is to call the machine.
    #[arg(long, value_name = "NAME", requires = "ruleset")]
    node: Option<String>,
    /// An address of the machine; once for each.
    #[arg(long, value_name = "ADDRESS", requires = "ruleset")]
    address: Vec<IpAddr>,
    /// Where a rule refuses something only under a condition that a policy can't ask for (a rate, a mark,
    /// a match that is not known), draft as if it were not there; what that opens is said at the end.
    #[arg(long, requires = "ruleset")]
    loose: bool,
}

/// A policy file, and how it ended.
pub struct Drafted {
    pub text: String,
    pub summary: String,
    pub exit: Exit,
}

/// So many rules of a kind are listed in a comment.
const LISTED: usize = 60;
const FEW: usize = 6;
/// Some seconds' work.
const STEPS: u64 = 50_000_000;

pub fn run(args: &DraftArgs, terminal: &Terminal) -> Result<Drafted, Failure> {
    let name = args.node.as_deref().unwrap_or_default();
    let name = Name::new(name).ok_or_else(|| Failure::new(Exit::Usage, format!("`{name}` can't be a node's name")))?;
    let addresses: AddressSet = args.address.iter().map(|address| address.to_canonical()).collect();
    let host = Host { name, addresses };
    let ruleset = Ruleset::read(&args.ruleset, terminal)?;
    let drafted = draft(&ruleset.filter, &host, args.loose, &mut Budget::new(STEPS)).map_err(|exhausted| unknown(&exhausted))?;
    let place = |rule: usize| ruleset.place(rule);
    let exact = |ports: &[(Protocol, u16, u16)]| {
        ringwall_services::exact_name(ports).filter(|name| ringwall_services::canonical(name).is_some())
    };
    let written = text(&drafted, &ruleset.filter, &host, &place, &exact);
    let proof = proved(&ruleset, &host, &written.text, args.loose)?;
    let mut out = String::new();
    header(&mut out, &ruleset);
    out.push_str(&written.text);
    footer(&mut out, &ruleset, &drafted, &written.unsaid, &proof);
    let left_out = drafted.left_out.len() + written.unsaid.len();
    let closed: usize = proof.closed.iter().map(|(_, packets)| lines(packets).len()).sum();
    let mut summary = format!("import: {} rules", written.rules);
    summary.push_str(match proof.opened.is_empty() {
        true => "; they open nothing that the ruleset does not",
        false => "; they open what the ruleset refuses under conditions of its own, see the end",
    });
    match closed {
        0 => summary.push_str(", and nothing is missing of what comes in and goes out"),
        count => {
            let _ = write!(summary, "; {count} kinds of packets that the ruleset lets pass are not in it, see its end");
        }
    }
    if left_out > 0 {
        let _ = write!(summary, "; {left_out} things could not be said, see its end");
    }
    let exit = match (written.rules, closed + left_out) {
        (0, _) => Exit::Failure,
        (_, 0) => Exit::Success,
        _ => Exit::Partly,
    };
    Ok(Drafted { text: out, summary, exit })
}

/// Reads the draft back and holds it against the rules that it comes from.
fn proved(ruleset: &Ruleset, host: &Host, text: &str, is_loose: bool) -> Result<Proof, Failure> {
    let mistake = |message: String| Failure::new(Exit::Failure, message).help("nothing was written; this is a mistake of ours, please report it");
    let input = Input { name: "draft".into(), text: text.to_owned() };
    let parsed = ringwall_policy_file::parse(&[input], &Values::default(), now());
    let Some(policy) = parsed.policy else {
        let first = parsed.diagnostics.iter().find(|diagnostic| diagnostic.is_error()).map(|diagnostic: &Diagnostic| diagnostic.message.clone());
        return Err(mistake(format!("the draft is no policy: {}", first.unwrap_or_default())));
    };
    let proof = prove(&ruleset.filter, &policy, host, now(), &mut Budget::new(STEPS)).map_err(|exhausted| unknown(&exhausted))?;
    match proof.opened.first() {
        Some((path, _, witness)) if !is_loose => Err(mistake(format!("the draft would open, at {}, what the ruleset does not: {witness}", word(*path)))),
        _ => Ok(proof),
    }
}

/// Each line of the text as a comment.
fn comment(out: &mut String, text: &str) {
    text.split('\n').for_each(|line| comment_line(out, line));
}

fn comment_line(out: &mut String, line: &str) {
    let line: String = line.chars().map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') { ' ' } else { c }).collect();
    writeln!(out, "{}", format!("# {line}").trim_end()).expect("a string takes all text");
}

fn header(out: &mut String, ruleset: &Ruleset) {
    comment(out, &format!("Drafted from {} by ringwall {}.", ruleset.files.join(", "), env!("CARGO_PKG_VERSION")));
    comment(out, "");
    comment(out, "Nothing is enforced yet: `stage: audit` only counts what the rules would do.");
    comment(out, "It says which new connections the machine takes and makes.");
    comment(out, "Give the groups names that mean something, look through the comments at the end, run");
    comment(out, "`ringwall check`, then take the stage out.");
    out.push('\n');
}

fn footer(out: &mut String, ruleset: &Ruleset, drafted: &Draft, unsaid: &[String], proof: &Proof) {
    let list = |out: &mut String, heading: &str, lines: Vec<String>| list_of(out, heading, lines, LISTED);
    let rule = |rule: usize| format!("{}: {}", ruleset.place(rule), one_line(&ruleset.filter.rules[rule].text));
    list(
        out,
        "Built into every policy: the loopback, answers on connections that were let in, what conntrack finds\ninvalid, neighbour discovery and multicast listeners, the DHCP client:",
        drafted.built_in.iter().map(|built_in| rule(*built_in)).collect(),
    );
    let left_out = drafted.left_out.iter().map(|(from, why)| match from {
        Some(from) => format!("{}\n      {why}", rule(*from)),
        None => why.clone(),
    });
    list(out, "Not said by the rules above, or said narrower:", left_out.chain(unsaid.iter().cloned()).collect());
    list(out, "Not followed:", ruleset.not_followed());
    list(
        out,
        "What the machine passes on is not drafted; give the node its `routes:` and rules for these:",
        forwarded(ruleset).into_iter().map(rule).collect(),
    );
    for (path, packets, _) in &proof.opened {
        let lines = lines(packets).iter().map(Line::to_string).collect();
        list(out, &format!("Refused by the ruleset at {}, under the conditions here, and opened by the policy:", word(*path)), lines);
    }
    for (path, packets) in &proof.closed {
        let lines = lines(packets).iter().map(Line::to_string).collect();
        list(out, &format!("The whole of what the ruleset lets pass at {} and the policy does not:", word(*path)), lines);
    }
    let many = lines(&proof.closed_to_many).iter().map(Line::to_string).collect();
    list_of(out, "The same of what is sent to many, by multicast and broadcast; it takes groups of its own:", many, FEW);
    if !proof.floor.is_empty() {
        let names: Vec<&str> = proof.floor.iter().copied().collect();
        out.push('\n');
        comment(out, &format!("The floor of every policy opens more than the ruleset does: {}.", names.join(", ")));
        comment(out, "To go without, add:");
        comment(out, &format!("  floor: {{ without: [{}] }}", names.join(", ")));
    }
    if proof.closed.is_empty() && proof.opened.is_empty() {
        out.push('\n');
        comment(out, "For new connections between the machine and others, the policy and the ruleset are the same.");
    }
}

fn list_of(out: &mut String, heading: &str, lines: Vec<String>, most: usize) {
    if lines.is_empty() {
        return;
    }
    out.push('\n');
    comment(out, heading);
    let more = lines.len().saturating_sub(most);
    for line in lines.into_iter().take(most).chain((more > 0).then(|| format!("and {more} more"))) {
        comment(out, &format!("  {line}"));
    }
}

fn lines(packets: &Packets) -> Vec<Line> {
    let (_, policy) = no_policy();
    words(&policy).lines(packets, &Packets::default())
}

/// Rules that let something pass through the machine.
fn forwarded(ruleset: &Ruleset) -> std::collections::BTreeSet<usize> {
    let all = chains(&ruleset.filter, Path::Forward).into_iter().map(|at| ruleset.chain(at));
    let forward = all.filter(|chain| chain.hook == ringwall_ruleset::filter::Hook::Forward);
    let rows = forward.flat_map(|chain| {
        let v4 = chain.decisions.v4.iter().map(|row| row.decision);
        v4.chain(chain.decisions.v6.iter().map(|row| row.decision))
    });
    rows.filter(|decision| decision.verdict == FilterVerdict::Decided(Verdict::Accept)).filter_map(|decision| decision.rule).collect()
}
