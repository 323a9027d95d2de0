//! `ringwall diff`: which packets one ruleset lets pass and another does not.

use std::path::PathBuf;

use clap::ValueEnum;
use ringwall_analysis::ruleset::diff::{Difference, Flows, diff};
use ringwall_analysis::ruleset::{Outcome, chains};
use ringwall_packet::{Exhausted, IntervalSet};
use ringwall_ruleset::Path;
use serde_json::{Value, json};

use crate::Failure;
use crate::question::{BudgetArgs, line, unknown};
use crate::ruleset::can::{fate_word, push, short};
use crate::ruleset::{Given, Ruleset, States, no_policy, one_line, word, words};
use crate::terminal::{Exit, Terminal, print, print_json};

#[derive(clap::Args)]
#[command(after_help = "\
Each side is what one machine has, or would have: the output of iptables-save, ip6tables-save, ipset save
or nft list ruleset, or a file for nft -f. Several files of one side have commas between them; `-` is
stdin. Nothing but what becomes of packets counts; order, names and comments do not.

The exit code is 0 when both let the same packets pass, else 1.

Examples:
  ringwall diff old.rules new.rules
  ringwall diff rules.v4,rules.v6 ruleset.nft        a migration from iptables to nftables
  iptables-save | ringwall diff /etc/iptables/rules.v4 -
  ringwall diff old.rules new.rules --hook input --state new -o markdown
  ringwall diff a.nft b.nft -o json | jq '.hooks[].only_b[].witness'")]
pub struct Args {
    /// One ruleset: a file, or several with commas between them.
    #[arg(value_name = "A")]
    before: String,
    /// The other one.
    #[arg(value_name = "B")]
    after: String,
    #[command(flatten)]
    given: Given,
    /// Only packets that conntrack says this of.
    #[arg(long, value_enum, default_value_t = States::Any)]
    state: States,
    #[command(flatten)]
    budget: BudgetArgs,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// One document with a `schema`.
    Json,
    /// For a comment of a code review: at most 65,000 characters.
    Markdown,
}

/// What GitHub and GitLab take for a comment, with some room.
const MARKDOWN_MAX: usize = 65_000;

pub fn run(args: &Args, terminal: &Terminal) -> Result<Exit, Failure> {
    let files = |side: &str| side.split(',').filter(|file| !file.is_empty()).map(PathBuf::from).collect::<Vec<_>>();
    let (one, other) = (files(&args.before), files(&args.after));
    if one.iter().chain(&other).filter(|file| file.as_os_str() == "-").count() > 1 {
        return Err(Failure::new(Exit::Usage, "stdin can be read once"));
    }
    let rulesets = (Ruleset::read(&one, terminal)?, Ruleset::read(&other, terminal)?);
    let (_, policy) = no_policy();
    let words = words(&policy);
    let mut found = Vec::new();
    let ways: Vec<Path> = match args.given.hook {
        Some(hook) => vec![hook.into()],
        None => Path::ALL.to_vec(),
    };
    for path in ways {
        if chains(&rulesets.0.filter, path).is_empty() && chains(&rulesets.1.filter, path).is_empty() {
            continue;
        }
        let Some(given) = args.given.conditions(path, args.state, &IntervalSet::full())? else { continue };
        let difference = diff(&rulesets.0.filter, &rulesets.1.filter, path, &given, &words, &mut args.budget.budget());
        match difference {
            Ok(difference) => found.push((path, difference)),
            Err(exhausted) => {
                if args.output == Output::Json {
                    print_json(&not_known(args, path, &exhausted));
                }
                return Err(unknown(&exhausted));
            }
        }
    }
    let is_same = found.iter().all(|(_, difference)| difference.is_empty());
    let report = Report { args, rulesets, found };
    match args.output {
        Output::Table => print(&report.text(terminal)),
        Output::Json => print_json(&report.json()),
        Output::Markdown => print(&report.markdown()),
    }
    Ok(if is_same { Exit::Success } else { Exit::Failure })
}

fn not_known(args: &Args, path: Path, exhausted: &Exhausted) -> Value {
    json!({ "schema": "ringwall.diff/1", "a": args.before, "b": args.after, "answer": "unknown", "hook": word(path), "budget": exhausted.steps })
}

struct Report<'a> {
    args: &'a Args,
    rulesets: (Ruleset, Ruleset),
    found: Vec<(Path, Difference)>,
}

/// So many differences of a kind are printed.
const MOST: usize = 40;
/// So many rules of one.
const RULES: usize = 4;

impl Report<'_> {
    /// The three kinds, with a heading.
    fn kinds<'d>(&self, difference: &'d Difference) -> [(String, &'d [Flows]); 3] {
        [
            (format!("only {} accepts", self.args.before), &difference.before),
            (format!("only {} accepts", self.args.after), &difference.after),
            ("not known of one of them".into(), &difference.unknown),
        ]
    }

    fn reasons(&self, flows: &Flows) -> Vec<String> {
        let side = |ruleset: &Ruleset, outcomes: &[Outcome]| {
            let mut all: Vec<String> = outcomes
                .iter()
                .flat_map(|outcome| ruleset.reasons(outcome).into_iter().map(|reason| format!("{}: {reason}", fate_word(outcome.fate))))
                .collect();
            all.dedup();
            short(all, RULES)
        };
        let before = side(&self.rulesets.0, &flows.before).into_iter().map(|reason| format!("A {reason}"));
        before.chain(side(&self.rulesets.1, &flows.after).into_iter().map(|reason| format!("B {reason}"))).collect()
    }

    fn text(&self, terminal: &Terminal) -> String {
        let mut text = String::new();
        let is_same = self.found.iter().all(|(_, difference)| difference.is_empty());
        if is_same {
            let hooks: Vec<&str> = self.found.iter().map(|(path, _)| word(*path)).collect();
            let hooks = if hooks.is_empty() { "every hook".into() } else { hooks.join(", ") };
            push(&mut text, &format!("{}: both let the same packets pass, at {hooks}", terminal.paint_data("1;32", "equal")));
        }
        for (path, difference) in self.found.iter().filter(|(_, difference)| !difference.is_empty()) {
            for (heading, flows) in self.kinds(difference) {
                if flows.is_empty() {
                    continue;
                }
                push(&mut text, &format!("{}: {}", word(*path), terminal.paint_data("1", &heading)));
                for flows in flows.iter().take(MOST) {
                    push(&mut text, &format!("  {}", flows.line));
                    for reason in self.reasons(flows) {
                        push(&mut text, &format!("    {reason}"));
                    }
                    push(&mut text, &format!("    such as {}", flows.witness));
                }
                if flows.len() > MOST {
                    push(&mut text, &format!("  and {} more, all of them with `-o json`", flows.len() - MOST));
                }
                text.push('\n');
            }
        }
        for (ruleset, side) in [(&self.rulesets.0, &self.args.before), (&self.rulesets.1, &self.args.after)] {
            let not_followed = ruleset.not_followed();
            if !not_followed.is_empty() {
                push(&mut text, &format!("note: of {side}, not followed is what these do to packets before later rules see them:"));
                for one in short(not_followed, RULES) {
                    push(&mut text, &format!("  {one}"));
                }
            }
        }
        text
    }

    fn json(&self) -> Value {
        let is_same = self.found.iter().all(|(_, difference)| difference.is_empty());
        let hook = |(path, difference): &(Path, Difference)| {
            let all = |flows: &[Flows]| flows.iter().map(|flows| self.flows(flows)).collect::<Vec<_>>();
            json!({
                "hook": word(*path),
                "only_a": all(&difference.before),
                "only_b": all(&difference.after),
                "unknown": all(&difference.unknown),
            })
        };
        json!({
            "schema": "ringwall.diff/1",
            "a": self.args.before,
            "b": self.args.after,
            "answer": if is_same { "equal" } else { "different" },
            "hooks": self.found.iter().map(hook).collect::<Vec<_>>(),
            "not_followed": { "a": self.rulesets.0.not_followed(), "b": self.rulesets.1.not_followed() },
        })
    }

    fn flows(&self, flows: &Flows) -> Value {
        let side = |ruleset: &Ruleset, outcomes: &[Outcome]| {
            let one = |outcome: &Outcome| json!({ "verdict": fate_word(outcome.fate), "reasons": ruleset.reason(outcome) });
            outcomes.iter().map(one).collect::<Vec<_>>()
        };
        json!({
            "flows": line(&flows.line),
            "a": side(&self.rulesets.0, &flows.before),
            "b": side(&self.rulesets.1, &flows.after),
            "witness": flows.witness.to_string(),
        })
    }

    fn markdown(&self) -> String {
        let mut text = format!("### `{}` and `{}`\n\n", self.args.before, self.args.after);
        let total: usize = self.found.iter().flat_map(|(_, difference)| self.kinds(difference)).map(|(_, flows)| flows.len()).sum();
        if total == 0 {
            text.push_str("Both let the same packets pass.\n");
        }
        let mut left_out = 0;
        for (path, difference) in &self.found {
            for (heading, flows) in self.kinds(difference) {
                if flows.is_empty() {
                    continue;
                }
                let mut part = format!("**{}: {heading}**\n\n| from | to | what | by | such as |\n|---|---|---|---|---|\n", word(*path));
                for flows in flows {
                    let by: Vec<String> = self.reasons(flows).iter().map(|reason| code(reason)).collect();
                    let row = format!(
                        "| {} | {} | {} | {} | {} |\n",
                        cell(&flows.line.source.short(6)),
                        cell(&flows.line.destination.short(6)),
                        cell(&flows.line.asks()),
                        by.join("<br>"),
                        code(&flows.witness.to_string()),
                    );
                    // Room for the last line.
                    if text.chars().count() + part.chars().count() + row.chars().count() > MARKDOWN_MAX - 200 {
                        left_out += 1;
                    } else {
                        part.push_str(&row);
                    }
                }
                text.push_str(&part);
                text.push('\n');
            }
        }
        if left_out > 0 {
            push(&mut text, &format!("{left_out} more differences did not fit; `-o json` has all of them."));
        }
        text
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn code(text: &str) -> String {
    format!("`{}`", one_line(text).replace('`', "'").replace('|', "\\|"))
}
