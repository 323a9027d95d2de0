//! `ringwall can`: whether flows are allowed, by what, and what would open them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use ringwall_analysis::can::{Answer, Can, Part, Point, can};
use ringwall_analysis::question::disjoint;
use ringwall_analysis::words::{Line, Packets, Words};
use ringwall_packet::{AddressSet, Exhausted};
use ringwall_policy::{Decider, Question, Rule, Verdict};
use ringwall_policy_file::{Form, draft};
use ringwall_ruleset::Path;
use serde_json::{Value, json};

use crate::{Failure, ruleset};
use crate::policy::{Bindings, PolicyArgs};
use crate::question::{self, Asking, BudgetArgs, asked, described, name_of, unknown};
use crate::terminal::{Exit, ListOutput, Terminal, print, print_csv, print_json, print_ndjson};

#[derive(clap::Args)]
#[command(after_help = "\
The exit code is 0 when all flows of the question are allowed, else 1.

Examples:
  ringwall can 'users -> primary tcp/443' policy.yaml
  ringwall can 'users, 198.51.100.7 -> cluster https, ssh' policy/
  ringwall can 'internet -> any' policy.yaml             without services: about all of them
  ringwall can 'cluster <-> cluster icmp/echo-request' policy.yaml
  ringwall can 'web -> partners https via vpn' policy.yaml
  ringwall can 'users -> primary tcp/443' policy.yaml -o json | jq .answer
  ringwall can '198.51.100.7 -> any ssh' --ruleset v4.rules v6.rules     what a machine's rules do now
  nft list ruleset | ringwall can 'internet -> 192.0.2.10' --hook input --in eth0 --ruleset -")]
pub struct Args {
    /// `A -> B SERVICES`: ends and services as in a rule of the policy; addresses too. Of a ruleset, ends
    /// are addresses, prefixes, `any`, `internet` and `internal` (private prefixes).
    #[arg(value_name = "QUESTION", required_unless_present = "ruleset")]
    question: Option<String>,
    /// The policy: a file, or a folder with its *.yaml files.
    #[arg(value_name = "POLICY", env = "RINGWALL_POLICY", required_unless_present = "ruleset")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    bindings: Bindings,
    #[command(flatten)]
    ruleset: ruleset::can::RulesetArgs,
    #[command(flatten)]
    budget: BudgetArgs,
    #[arg(short, long, value_enum, default_value_t = ListOutput::Table)]
    output: ListOutput,
}

pub fn run(args: &Args, terminal: &Terminal) -> Result<Exit, Failure> {
    if !args.ruleset.ruleset.is_empty() {
        let (question, about) = args.ruleset.question(args.question.as_deref())?;
        return ruleset::can::run(&about, &question, &args.budget, args.output, terminal);
    }
    let (Some(question), Some(policy)) = (&args.question, &args.policy) else {
        return Err(Failure::new(Exit::Usage, "a question and a policy are wanted"));
    };
    let asking = Asking::new(&PolicyArgs { policy: policy.clone(), bindings: args.bindings.clone() }, terminal)?;
    let question = asking.question(question, Form::Flow, terminal)?;
    let answer = match can(&asking.policy, &asking.table, &question, asking.now, &mut args.budget.budget()) {
        Ok(answer) => answer,
        Err(exhausted) => {
            if args.output == ListOutput::Json {
                print_json(&not_known(&question, &exhausted));
            }
            return Err(unknown(&exhausted));
        }
    };
    let words = Words::new(&asking.policy, &name_of);
    let report = Report::new(&asking, &question, &answer, &words, args);
    match args.output {
        ListOutput::Table => print(&report.text(terminal)),
        ListOutput::Json => print_json(&report.json()),
        ListOutput::Ndjson => print_ndjson(&report.parts()),
        ListOutput::Csv => print_csv(&CSV, &report.rows()),
    }
    Ok(if answer.answer == Answer::Yes { Exit::Success } else { Exit::Failure })
}

const CSV: [&str; 8] = ["verdict", "source", "destination", "services", "conditions", "rule", "place", "witness"];

fn word(answer: Answer) -> &'static str {
    match answer {
        Answer::Yes => "yes",
        Answer::No => "no",
        Answer::Partly => "partly",
        Answer::Nothing => "nothing",
    }
}

fn not_known(question: &Question, exhausted: &Exhausted) -> Value {
    json!({ "schema": "ringwall.can/1", "question": asked(question), "answer": "unknown", "budget": exhausted.steps })
}

/// A rule that would open what is missing, and whether it really does.
struct Draft {
    text: String,
    /// What the policy would be wrong about with it.
    errors: Vec<String>,
}

struct Report<'a> {
    asking: &'a Asking,
    question: &'a Question,
    answer: &'a Can,
    words: &'a Words<'a>,
    /// For each part.
    lines: Vec<Vec<Line>>,
    draft: Option<Draft>,
}

impl<'a> Report<'a> {
    fn new(asking: &'a Asking, question: &'a Question, answer: &'a Can, words: &'a Words<'a>, args: &Args) -> Self {
        let packets = disjoint(&question.packets());
        let lines = answer.parts.iter().map(|part| asking.lines(words, part.decider, &part.packets, &packets)).collect();
        let opening = answer.opening.as_ref().filter(|opening| !opening.missing.is_empty());
        let draft = opening.map(|opening| {
            let text = draft(&opening.rest(question), &asking.policy);
            let errors = match asking.with(&text) {
                Err(errors) => errors,
                Ok(policy) => {
                    let found = can(&policy, &policy.table(asking.now), question, asking.now, &mut args.budget.budget());
                    let closed = |opened: Can| opened.opening.is_some_and(|opening| !opening.missing.is_empty());
                    match found.map(closed) {
                        Ok(false) => Vec::new(),
                        Ok(true) => vec!["it does not open all of it".into()],
                        Err(exhausted) => vec![exhausted.to_string()],
                    }
                }
            };
            Draft { text, errors }
        });
        Self { asking, question, answer, words, lines, draft }
    }

    fn rule(&self, index: usize) -> &'a Rule {
        &self.asking.policy.rules[index]
    }

    fn text(&self, terminal: &Terminal) -> String {
        let style = |verdict| if verdict { "1;32" } else { "1;31" };
        let mut text = String::new();
        let head = match self.answer.answer {
            Answer::Yes => style(true),
            Answer::No => style(false),
            Answer::Partly | Answer::Nothing => "1;33",
        };
        line(&mut text, &format!("{}: {}", terminal.paint_data(head, word(self.answer.answer)), asked(self.question)));
        for (part, lines) in self.answer.parts.iter().zip(&self.lines) {
            text.push('\n');
            let is_accepted = part.verdict == Verdict::Accept;
            let word = terminal.paint_data(style(is_accepted), if is_accepted { "yes" } else { "no " });
            let rest = part.decider == Decider::Default && lines.len() > REST && self.answer.parts.len() > 1;
            let said = if rest { vec!["everything else of it".to_owned()] } else { short(lines.iter().map(Line::to_string).collect()) };
            for (at, one) in said.iter().enumerate() {
                line(&mut text, &format!("{}  {one}", if at == 0 { word.as_str() } else { "   " }));
            }
            line(&mut text, &format!("     {}", self.asking.decider(part.decider)));
            for point in points(part) {
                line(&mut text, &format!("     {point}"));
            }
            for (set, end) in [(&part.foreign_sources, "source"), (&part.foreign_destinations, "destination")] {
                if !set.is_empty() {
                    line(&mut text, &format!("     {end} {}: not managed", self.end(set)));
                }
            }
            for one in self.unenforced(part) {
                line(&mut text, &format!("     {}: {one}", terminal.paint_data("1;33", "enforced by no node")));
            }
            line(&mut text, &format!("     such as {}", part.witness));
        }
        self.notes(&mut text);
        self.opening(&mut text);
        text
    }

    fn end(&self, set: &AddressSet) -> String {
        self.words.end_of_any_family(set).short(4)
    }

    /// What of a part no node stops, though it is not allowed.
    fn unenforced(&self, part: &Part) -> Vec<String> {
        let lines = self.words.lines(&part.unenforced, &Packets::default());
        short(lines.iter().map(|line| format!("{} -> {}", line.source.short(4), line.destination.short(4))).collect())
    }

    fn notes(&self, text: &mut String) {
        let mut notes = Vec::new();
        let Can { answer, floor, to_themselves, .. } = self.answer;
        if *answer == Answer::Nothing && to_themselves.is_empty() {
            notes.push("no packet can go this way: an end is empty, or the two have no family in common".to_owned());
        }
        if !to_themselves.is_empty() {
            let names = to_themselves.iter().map(ToString::to_string).collect();
            notes.push(format!("what a node sends to itself is not a matter of policy: {}", some(names)));
        }
        if !floor.is_empty() && *answer != Answer::Nothing {
            let items: Vec<&str> = floor.iter().copied().collect();
            notes.push(format!("the floor of every node opens a part of it: {}", items.join(", ")));
        }
        let has_names = |lines: &Vec<Line>| lines.iter().any(|line| line.destination.words.iter().any(|word| self.is_dns_name(word)));
        if self.lines.iter().any(has_names) || !self.question.destination.names.is_empty() {
            notes.push("it depends on DNS: a name stands for the answers that a node gets for it".to_owned());
        }
        for (at, note) in notes.iter().enumerate() {
            line(text, &format!("{}note: {note}", if at == 0 { "\n" } else { "" }));
        }
    }

    fn is_dns_name(&self, word: &str) -> bool {
        self.asking.policy.rules.iter().any(|rule| rule.destination.names.contains(word))
    }

    fn opening(&self, text: &mut String) {
        let Some(opening) = &self.answer.opening else { return };
        line(text, "\nto open it:");
        for index in &opening.denies {
            let rule = described(self.rule(*index));
            line(text, &format!("- {rule}\n  stands in the way: take it out, or leave these flows out of it with `except:`"));
        }
        for index in &opening.expired {
            line(text, &format!("- {}\n  has expired: give it a later `expires:`", described(self.rule(*index))));
        }
        for index in &opening.audited {
            line(text, &format!("- {}\n  is only audited: take its `stage: audit` out", described(self.rule(*index))));
        }
        for index in &opening.by_interface {
            let rule = self.rule(*index);
            let via = rule.via.as_ref().map_or("", |via| via.as_str());
            line(text, &format!("- {}\n  opens it on the interface `{via}` alone: take `via:` out", described(rule)));
        }
        let Some(Draft { text: draft, errors }) = &self.draft else { return };
        line(text, "- add this to the policy:\n");
        for one in draft.lines() {
            line(text, &format!("    {one}"));
        }
        for error in errors {
            line(text, &format!("\nbut then the policy is wrong: {error}"));
        }
    }

    fn parts(&self) -> Vec<Value> {
        let parts = self.answer.parts.iter().zip(&self.lines).map(|(part, lines)| {
            json!({
                "verdict": question::verdict(part.verdict),
                "reason": self.asking.reason(part.decider),
                "flows": lines.iter().map(question::line).collect::<Vec<_>>(),
                "points": part.points.iter().map(point_json).collect::<Vec<_>>(),
                "not_managed": {
                    "sources": self.words.end_of_any_family(&part.foreign_sources).to_string(),
                    "destinations": self.words.end_of_any_family(&part.foreign_destinations).to_string(),
                },
                "enforced_by_no_node": self.words.lines(&part.unenforced, &Packets::default())
                    .iter().map(question::line).collect::<Vec<_>>(),
                "witness": part.witness.to_string(),
            })
        });
        parts.collect()
    }

    fn json(&self) -> Value {
        let rules = |indices: &[usize]| -> Vec<Value> { indices.iter().map(|index| question::rule(self.rule(*index))).collect() };
        let opening = self.answer.opening.as_ref().map(|opening| {
            json!({
                "denies": rules(&opening.denies),
                "expired": rules(&opening.expired),
                "audited": rules(&opening.audited),
                "by_interface": rules(&opening.by_interface),
                "draft": self.draft.as_ref().map(|draft| draft.text.as_str()),
                "draft_errors": self.draft.as_ref().map(|draft| draft.errors.as_slice()),
            })
        });
        json!({
            "schema": "ringwall.can/1",
            "question": asked(self.question),
            "answer": word(self.answer.answer),
            "parts": self.parts(),
            "floor": self.answer.floor,
            "to_themselves": self.answer.to_themselves.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "opening": opening,
        })
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        for (part, lines) in self.answer.parts.iter().zip(&self.lines) {
            let reason = self.asking.reason(part.decider);
            let cell = |key: &str| reason[key].as_str().unwrap_or_default().to_owned();
            let rule = if cell("id").is_empty() { cell("kind") } else { cell("id") };
            for line in lines {
                rows.push(vec![
                    question::verdict(part.verdict).to_owned(),
                    line.source.to_string(),
                    line.destination.to_string(),
                    line.services.join(" "),
                    line.conditions.iter().cloned().chain(line.family.map(|family| family.to_string())).collect::<Vec<_>>().join(" "),
                    rule.clone(),
                    cell("place"),
                    part.witness.to_string(),
                ]);
            }
        }
        rows
    }
}

/// What no rule decides has odd shapes: more lines of it than this tell nobody anything.
const REST: usize = 4;

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a string takes all text");
}

/// As many as one wants to read.
fn short(lines: Vec<String>) -> Vec<String> {
    const MOST: usize = 12;
    let count = lines.len();
    let more = (count > MOST).then(|| format!("and {} more, all of them with `-o json`", count - MOST));
    lines.into_iter().take(MOST).chain(more).collect()
}

fn some(names: Vec<String>) -> String {
    const MOST: usize = 6;
    match names.len().saturating_sub(MOST) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..MOST].join(", ")),
    }
}

/// In the order in which packets meet them, nodes that do the same together.
fn points(part: &Part) -> Vec<String> {
    let mut all = Vec::new();
    for path in [Path::Output, Path::Forward, Path::Input] {
        // Where a node lets it pass, it does not matter whether it only watches.
        let kind = |point: &Point| (point.verdict, point.watches && point.verdict != Verdict::Accept);
        let here: Vec<&Point> = part.points.iter().filter(|point| point.path == path).collect();
        let kinds: BTreeSet<(Verdict, bool)> = here.iter().map(|point| kind(point)).collect();
        for (verdict, watches) in kinds {
            let same = here.iter().filter(|point| kind(point) == (verdict, watches));
            let names = same.map(|point| point.node.to_string()).collect();
            let verdict = match (verdict, watches) {
                (Verdict::Accept, _) => "accept",
                (Verdict::Drop, false) => "drop",
                (Verdict::Reject, false) => "reject",
                (Verdict::Drop | Verdict::Reject, true) => "pass, since the stage is audit",
            };
            all.push(format!("{} of {}: {verdict}", path_word(path), some(names)));
        }
    }
    all
}

fn path_word(path: Path) -> &'static str {
    match path {
        Path::Input => "input",
        Path::Output => "output",
        Path::Forward => "forward",
    }
}

fn point_json(point: &Point) -> Value {
    json!({
        "path": path_word(point.path),
        "node": point.node.as_str(),
        "verdict": question::verdict(point.verdict),
        "stage": if point.watches { "audit" } else { "enforce" },
    })
}
