//! What the commands that ask about a policy have in common: reading the question, and the answer's
//! words.

use ringwall_analysis::words::{Line, Packets, Words};
use ringwall_packet::{Budget, Exhausted, Protocol, Table};
use ringwall_policy::{Decider, Policy, Question, Rule, Verdict};
use ringwall_policy_file::{Form, Input, Values, ask};
use serde_json::{Value, json};

use crate::Failure;
use crate::policy::{Loaded, PolicyArgs, now};
use crate::terminal::{Exit, Terminal, count};

/// Far more than any question takes that somebody wants the whole answer of: some seconds' work.
const STEPS: u64 = 500_000_000;

#[derive(clap::Args)]
pub struct BudgetArgs {
    /// How much work may go into the answer, in boxes looked at; when it is not enough, the answer is
    /// `unknown` and the exit code 1.
    #[arg(long, value_name = "STEPS", default_value_t = STEPS, hide_default_value = true)]
    budget: u64,
}

impl BudgetArgs {
    pub fn budget(&self) -> Budget {
        Budget::new(self.budget)
    }

    pub fn steps(&self) -> u64 {
        self.budget
    }
}

/// A policy that questions can be asked of.
pub struct Asking {
    pub loaded: Loaded,
    pub policy: Policy,
    pub table: Table<Decider>,
    pub now: u64,
    values: Values,
}

impl Asking {
    pub fn new(args: &PolicyArgs, terminal: &Terminal) -> Result<Self, Failure> {
        let (loaded, policy) = args.resolved(terminal)?;
        let now = now();
        Ok(Self { table: policy.table(now), loaded, policy, now, values: args.bindings.values()? })
    }

    /// The question; when it has mistakes, they are printed and this fails.
    pub fn question(&self, text: &str, form: Form, terminal: &Terminal) -> Result<Question, Failure> {
        let asked = ask(text, form, &self.loaded.files, &self.values);
        asked.question.ok_or_else(|| {
            terminal.diagnostics(&asked.diagnostics, &asked.sources);
            Failure::new(Exit::Usage, format!("the question has {}", count(&asked.diagnostics)))
        })
    }

    /// The same policy with one more file. The error is what is wrong with it then.
    pub fn with(&self, draft: &str) -> Result<Policy, Vec<String>> {
        let mut files = self.loaded.files.clone();
        files.push(Input { name: "draft".into(), text: draft.to_owned() });
        let parsed = ringwall_policy_file::parse(&files, &self.values, self.now);
        let errors = parsed.diagnostics.iter().filter(|diagnostic| diagnostic.is_error());
        let errors = errors.map(|diagnostic| {
            let place = diagnostic.primary.as_ref().map(|label| format!(" ({})", parsed.sources.place(label.span)));
            format!("{}{}", diagnostic.message, place.unwrap_or_default())
        });
        let errors: Vec<String> = errors.collect();
        parsed.policy.ok_or(errors)
    }

    /// The lines of packets that one thing decides, within a question. What no rule decides is said
    /// in the question's own ends, where these fit.
    pub fn lines(&self, words: &Words<'_>, decider: Decider, packets: &Packets, question: &Packets) -> Vec<Line> {
        let rows = match decider {
            Decider::Default => question.clone(),
            _ => Packets::of_rows(&self.table, |other| *other == decider),
        };
        words.lines(packets, &rows)
    }

    pub fn decider(&self, decider: Decider) -> String {
        match decider {
            Decider::Default => "no rule allows it".into(),
            Decider::Management => {
                let place = self.policy.management.as_ref().map_or("", |management| management.origin.place.as_str());
                format!("management, a part of the floor ({place})")
            }
            Decider::Rule(index) => described(&self.policy.rules[index]),
        }
    }

    pub fn reason(&self, decider: Decider) -> Value {
        match decider {
            Decider::Default => json!({ "kind": "default" }),
            Decider::Management => {
                let place = self.policy.management.as_ref().map(|management| management.origin.place.as_str());
                json!({ "kind": "management", "place": place })
            }
            Decider::Rule(index) => rule(&self.policy.rules[index]),
        }
    }
}

pub fn name_of(protocol: Protocol, port: u16) -> Option<&'static str> {
    ringwall_services::name_of(protocol, port)
}

/// `rule 024b4444 (policy.yaml:12): allow users -> web`
pub fn described(rule: &Rule) -> String {
    format!("rule {} ({}): {}", rule.id, rule.origin.place, written(rule))
}

fn written(rule: &Rule) -> String {
    let arrow = if rule.both_ways { "<->" } else { "->" };
    format!("{} {} {arrow} {}", rule.action, rule.source.text, rule.destination.text)
}

pub fn rule(rule: &Rule) -> Value {
    json!({ "kind": "rule", "id": rule.id.as_str(), "place": rule.origin.place, "text": written(rule) })
}

pub fn line(line: &Line) -> Value {
    json!({
        "source": line.source.to_string(),
        "destination": line.destination.to_string(),
        "services": line.services,
        "conditions": line.conditions,
        "family": line.family.map(|family| family.to_string()),
    })
}

pub fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Accept => "accept",
        Verdict::Drop => "drop",
        Verdict::Reject => "reject",
    }
}

/// The question as it was understood.
pub fn asked(question: &Question) -> String {
    let arrow = if question.both_ways { "<->" } else { "->" };
    let services: Vec<&str> = question.services.iter().map(|service| service.text.as_str()).collect();
    let services = if services.is_empty() { "any".to_owned() } else { services.join(", ") };
    let via = question.via.as_ref().map_or(String::new(), |via| format!(" via {via}"));
    format!("{} {arrow} {}  {services}{via}", question.source.text, question.destination.text)
}

pub fn unknown(exhausted: &Exhausted) -> Failure {
    Failure::new(Exit::Failure, exhausted.to_string()).help("ask about less, or give it more with `--budget`")
}
