//! `ringwall can --ruleset`: whether a machine's rules let flows pass, and by which of them.

use std::fmt::Write as _;
use std::path::PathBuf;

use ringwall_analysis::question::disjoint;
use ringwall_analysis::ruleset::can::{Answer, Can, Part, can};
use ringwall_analysis::ruleset::{Fate, filtered, for_itself};
use ringwall_analysis::words::{Line, Packets, Words};
use ringwall_packet::Exhausted;
use ringwall_policy::Question;
use ringwall_policy_file::{Form, Values, ask};
use ringwall_ruleset::{Path, Verdict};
use serde_json::{Value, json};

use super::{Given, Ruleset, States, no_policy, not_loopback, word, words};
use crate::Failure;
use crate::question::{BudgetArgs, asked, line, unknown};
use crate::terminal::{Exit, ListOutput, Terminal, count, print, print_csv, print_json, print_ndjson};

#[derive(clap::Args, Clone, Debug)]
pub struct RulesetArgs {
    /// Ask about the rules that one machine has now, in place of a policy: files that iptables-save,
    /// ip6tables-save, ipset save or nft list ruleset printed; `-` is stdin.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pub ruleset: Vec<PathBuf>,
    #[command(flatten)]
    given: Given,
    /// conntrack's state of the packets.
    #[arg(long, value_enum, default_value_t = States::New, requires = "ruleset")]
    state: States,
}

impl RulesetArgs {
    /// The question, and what it is about. One that stands behind the files was taken for one of them.
    pub fn question(&self, question: Option<&str>) -> Result<(String, Self), Failure> {
        let mut about = self.clone();
        let question = question.map(str::to_owned).or_else(|| {
            let last = about.ruleset.pop_if(|last| last.to_string_lossy().contains("->"))?;
            Some(last.to_string_lossy().into_owned())
        });
        match question {
            Some(question) if !about.ruleset.is_empty() => Ok((question, about)),
            _ => Err(Failure::new(Exit::Usage, "a question is wanted, and the files of a ruleset").help("such as `ringwall can '198.51.100.7 -> any ssh' --ruleset FILE`")),
        }
    }
}

pub fn run(args: &RulesetArgs, question: &str, budget: &BudgetArgs, output: ListOutput, terminal: &Terminal) -> Result<Exit, Failure> {
    let ruleset = Ruleset::read(&args.ruleset, terminal)?;
    let (files, policy) = no_policy();
    let asking = ask(question, Form::Flow, &files, &Values::default());
    let Some(question) = asking.question else {
        terminal.diagnostics(&asking.diagnostics, &asking.sources);
        return Err(Failure::new(Exit::Usage, format!("the question has {}", count(&asking.diagnostics))));
    };
    let packets = disjoint(&question.packets());
    let mut answers = Vec::new();
    for path in ways(args, &ruleset)? {
        let Some(given) = args.given.conditions(path, args.state, &not_loopback())? else { continue };
        match can(&ruleset.filter, path, &packets, &given, &mut budget.budget()) {
            Ok(answer) => answers.push(answer),
            Err(exhausted) => {
                if output == ListOutput::Json {
                    print_json(&not_known(&question, path, &exhausted));
                }
                return Err(unknown(&exhausted));
            }
        }
    }
    if answers.is_empty() {
        return Err(Failure::new(Exit::Usage, "no packet goes through a machine so").help("what it sends comes in by no interface, and what is for it leaves by none"));
    }
    let report = Report { args, ruleset: &ruleset, question: &question, packets: &packets, words: words(&policy), answers };
    match output {
        ListOutput::Table => print(&report.text(terminal)),
        ListOutput::Json => print_json(&report.json()),
        ListOutput::Ndjson => print_ndjson(&report.answers.iter().flat_map(|answer| report.parts(answer)).collect::<Vec<_>>()),
        ListOutput::Csv => print_csv(&CSV, &report.rows()),
    }
    let is_yes = report.answers.iter().all(|answer| answer.answer == Answer::Yes);
    Ok(if is_yes { Exit::Success } else { Exit::Failure })
}

/// The ways to answer for: the one that is asked for, else all on which something is filtered and that
/// packets with these interfaces may take.
fn ways(args: &RulesetArgs, ruleset: &Ruleset) -> Result<Vec<Path>, Failure> {
    if let Some(hook) = args.given.hook {
        return Ok(vec![hook.into()]);
    }
    let mut ways = filtered(&ruleset.filter);
    for path in std::mem::take(&mut ways) {
        if args.given.conditions(path, args.state, &not_loopback())?.is_some() {
            ways.push(path);
        }
    }
    Ok(if ways.is_empty() { Path::ALL.to_vec() } else { ways })
}

fn not_known(question: &Question, path: Path, exhausted: &Exhausted) -> Value {
    json!({ "schema": "ringwall.can/1", "question": asked(question), "answer": "unknown", "hook": word(path), "budget": exhausted.steps })
}

fn answer_word(answer: Answer) -> &'static str {
    match answer {
        Answer::Yes => "yes",
        Answer::No => "no",
        Answer::Partly => "partly",
        Answer::Depends => "depends",
        Answer::Nothing => "nothing",
    }
}

pub fn fate_word(fate: Fate) -> &'static str {
    match fate {
        Fate::Decided(Verdict::Accept) => "accept",
        Fate::Decided(Verdict::Drop) => "drop",
        Fate::Decided(Verdict::Reject) => "reject",
        Fate::Elsewhere(_) => "unknown",
    }
}

const CSV: [&str; 9] = ["hook", "verdict", "source", "destination", "services", "conditions", "place", "text", "witness"];
/// So many lines are printed of one part.
const LINES: usize = 12;
/// What is left over has odd shapes: more lines of it than this tell nobody anything.
const REST: usize = 4;

struct Report<'a> {
    args: &'a RulesetArgs,
    ruleset: &'a Ruleset,
    question: &'a Question,
    packets: &'a Packets,
    words: Words<'a>,
    answers: Vec<Can>,
}

impl Report<'_> {
    /// All hooks' answers together.
    fn answer(&self) -> Answer {
        let first = self.answers[0].answer;
        if self.answers.iter().all(|answer| answer.answer == first) { first } else { Answer::Partly }
    }

    /// What all packets of a way have, in words.
    fn given(&self, path: Path) -> String {
        let words = self.args.given.words(path, self.args.state);
        match path == Path::Input && !for_itself(&self.ruleset.filter).is_empty() {
            true => format!("{words}, for an address of its own"),
            false => words,
        }
    }

    fn lines(&self, packets: &Packets) -> Vec<Line> {
        self.words.lines(packets, self.packets)
    }

    fn text(&self, terminal: &Terminal) -> String {
        let mut text = String::new();
        let (good, bad, doubtful) = ("1;32", "1;31", "1;33");
        for (at, answer) in self.answers.iter().enumerate() {
            let style = match answer.answer {
                Answer::Yes => good,
                Answer::No => bad,
                Answer::Partly | Answer::Depends | Answer::Nothing => doubtful,
            };
            text.push_str(if at > 0 { "\n" } else { "" });
            push(&mut text, &format!(
                "{}: {}, at {}: {}",
                terminal.paint_data(style, answer_word(answer.answer)),
                asked(self.question),
                word(answer.path),
                self.given(answer.path),
            ));
            for part in &answer.parts {
                text.push('\n');
                let (style, word) = match part.outcome.fate {
                    fate if fate.accepts() => (good, "yes"),
                    fate if fate.refuses() => (bad, "no "),
                    _ => (doubtful, "?  "),
                };
                let is_rest = part.outcome.told().iter().all(|by| by.rule.is_none());
                let word = terminal.paint_data(style, word);
                for (at, one) in self.said(&part.packets, is_rest && answer.parts.len() > 1).iter().enumerate() {
                    push(&mut text, &format!("{}  {one}", if at == 0 { word.as_str() } else { "   " }));
                }
                for reason in self.ruleset.reasons(&part.outcome) {
                    push(&mut text, &format!("     {reason}"));
                }
                push(&mut text, &format!("     such as {}", part.witness));
            }
            self.depends(answer, &mut text);
        }
        self.notes(&mut text);
        text
    }

    fn said(&self, packets: &Packets, is_rest: bool) -> Vec<String> {
        let lines = self.lines(packets);
        if is_rest && lines.len() > REST {
            return vec!["everything else of it".into()];
        }
        short(lines.iter().map(Line::to_string).collect(), LINES)
    }

    /// What is open or closed whatever is not known, when that matters.
    fn depends(&self, answer: &Can, text: &mut String) {
        if answer.depending.is_empty() {
            return;
        }
        push(text, "\nit depends on");
        let mut on: Vec<String> = answer.on.iter().map(|variable| self.ruleset.depends_on(variable)).collect();
        on.extend(answer.elsewhere.iter().map(|what| format!("{}: {}", self.ruleset.unknown_place(*what), self.ruleset.filter.unknown[*what].why)));
        on.dedup();
        for one in short(on, LINES) {
            push(text, &format!("- {one}"));
        }
        if answer.answer != Answer::Depends {
            for (packets, words) in [(&answer.open, "open whatever that is"), (&answer.closed, "closed whatever that is")] {
                if !packets.is_empty() {
                    push(text, &format!("{words}:"));
                    for one in short(self.lines(packets).iter().map(Line::to_string).collect(), LINES) {
                        push(text, &format!("     {one}"));
                    }
                }
            }
        }
    }

    fn notes(&self, text: &mut String) {
        let mut notes = Vec::new();
        if self.answers.iter().all(|answer| answer.answer == Answer::Nothing) {
            notes.push("no packet can go this way: the two ends have no family in common".to_owned());
        }
        if self.args.given.hook.is_none() {
            let answered = |path: &Path| self.answers.iter().any(|answer| answer.path == *path);
            let silent: Vec<&str> = Path::ALL.into_iter().filter(|path| !answered(path) && !filtered(&self.ruleset.filter).contains(path)).map(word).collect();
            if !silent.is_empty() {
                notes.push(format!("nothing is filtered at {}", silent.join(" and ")));
            }
        }
        let not_followed = self.ruleset.not_followed();
        for (at, note) in notes.iter().enumerate() {
            push(text, &format!("{}note: {note}", if at == 0 { "\n" } else { "" }));
        }
        if !not_followed.is_empty() {
            push(text, &format!("{}note: not followed is what these do to packets before later rules see them:", if notes.is_empty() { "\n" } else { "" }));
            for one in short(not_followed, REST) {
                push(text, &format!("  {one}"));
            }
        }
    }

    fn parts(&self, answer: &Can) -> Vec<Value> {
        let part = |part: &Part| {
            json!({
                "hook": word(answer.path),
                "verdict": fate_word(part.outcome.fate),
                "reasons": self.ruleset.reason(&part.outcome),
                "flows": self.lines(&part.packets).iter().map(line).collect::<Vec<_>>(),
                "witness": part.witness.to_string(),
            })
        };
        answer.parts.iter().map(part).collect()
    }

    fn json(&self) -> Value {
        let hook = |answer: &Can| {
            let lines = |packets: &Packets| self.lines(packets).iter().map(line).collect::<Vec<_>>();
            let on = answer.on.iter().map(|variable| self.ruleset.depends_on(variable));
            let elsewhere = answer.elsewhere.iter().map(|what| self.ruleset.unknown_place(*what));
            json!({
                "hook": word(answer.path),
                "given": self.given(answer.path),
                "answer": answer_word(answer.answer),
                "parts": self.parts(answer),
                "open": lines(&answer.open),
                "closed": lines(&answer.closed),
                "depending": lines(&answer.depending),
                "depends_on": on.chain(elsewhere).collect::<Vec<_>>(),
            })
        };
        json!({
            "schema": "ringwall.can/1",
            "question": asked(self.question),
            "ruleset": self.ruleset.files,
            "answer": answer_word(self.answer()),
            "hooks": self.answers.iter().map(hook).collect::<Vec<_>>(),
            "not_followed": self.ruleset.not_followed(),
        })
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        for answer in &self.answers {
            for part in &answer.parts {
                let told = part.outcome.told();
                let by = told.iter().find_map(|by| by.rule);
                for line in self.lines(&part.packets) {
                    rows.push(vec![
                        word(answer.path).to_owned(),
                        fate_word(part.outcome.fate).to_owned(),
                        line.source.to_string(),
                        line.destination.to_string(),
                        line.services.join(" "),
                        line.conditions.iter().cloned().chain(line.family.map(|family| family.to_string())).collect::<Vec<_>>().join(" "),
                        by.map(|rule| self.ruleset.place(rule)).unwrap_or_default(),
                        by.map_or_else(|| self.ruleset.reasons(&part.outcome).join("; "), |rule| self.ruleset.filter.rules[rule].text.clone()),
                        part.witness.to_string(),
                    ]);
                }
            }
        }
        rows
    }
}

pub fn push(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a string takes all text");
}

/// As many as one wants to read.
pub fn short(lines: Vec<String>, most: usize) -> Vec<String> {
    let count = lines.len();
    let more = (count > most).then(|| format!("and {} more, all of them with `-o json`", count - most));
    lines.into_iter().take(most).chain(more).collect()
}
