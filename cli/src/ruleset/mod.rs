//! Rulesets that somebody wrote: reading their files, and the words of answers about them.

pub mod can;
pub mod import;
pub mod others;

use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use ringwall_analysis::ruleset::{By, Fate, Outcome};
use ringwall_analysis::words::Words;
use ringwall_diagnostic::Sources;
use ringwall_packet::{Conditions, IntervalSet, State, Variable, interface, interfaces_from};
use ringwall_policy::Policy;
use ringwall_policy_file::{Input, Values};
use ringwall_ruleset::Path as Way;
use ringwall_ruleset::detect::{self, Format};
use ringwall_ruleset::filter::{BaseChain, Filter, Reading};
use serde_json::{Value, json};

use crate::Failure;
use crate::question::name_of;
use crate::terminal::{Exit, Terminal, count};

/// Far more than any machine's rules take.
const MAX_BYTES: u64 = 256 << 20;

/// Of so many things that are not understood it is looked up what they are.
const UNKNOWN_MAX: usize = 1_000;

/// One machine's rules.
pub struct Ruleset {
    pub sources: Sources,
    pub filter: Filter,
    /// As they were named.
    pub files: Vec<String>,
}

impl Ruleset {
    /// Reads the files of one machine; `-` is stdin. What is wrong with them is printed, and an error ends it.
    pub fn read(paths: &[PathBuf], terminal: &Terminal) -> Result<Self, Failure> {
        let mut texts = Vec::new();
        for path in paths {
            texts.push((name(path), text(path)?));
        }
        Self::of_texts(texts, terminal)
    }

    /// What nft printed of this machine; the error is the first thing that is wrong with it. Warnings are
    /// about what is named where it matters, too.
    pub fn of_listing(name: &str, text: String) -> Result<Self, String> {
        let mut sources = Sources::new();
        let source = sources.add(name, text);
        let text = detect::Text { source, format: Some(Format::Nftables) };
        let Reading { filter, diagnostics } = detect::read(&sources, &[text]);
        let wrong = || {
            let first = diagnostics.iter().find(|diagnostic| diagnostic.is_error());
            first.map_or_else(|| "it can't be read".to_owned(), |first| first.message.clone())
        };
        Ok(Self { filter: filter.ok_or_else(wrong)?, sources, files: vec![name.to_owned()] })
    }

    fn of_texts(texts: Vec<(String, String)>, terminal: &Terminal) -> Result<Self, Failure> {
        let mut sources = Sources::new();
        let files: Vec<String> = texts.iter().map(|(name, _)| name.clone()).collect();
        let texts: Vec<detect::Text> =
            texts.into_iter().map(|(name, text)| detect::Text { source: sources.add(name, text), format: None::<Format> }).collect();
        let Reading { filter, diagnostics } = detect::read(&sources, &texts);
        terminal.diagnostics(&diagnostics, &sources);
        match filter {
            Some(filter) => Ok(Self { sources, filter, files }),
            None => Err(Failure::new(Exit::Failure, format!("{} can't be read: {}", files.join(", "), count(&diagnostics)))),
        }
    }

    /// `rules.v4:12`.
    pub fn place(&self, rule: usize) -> String {
        self.sources.place(self.filter.rules[rule].span)
    }

    pub fn chain(&self, chain: usize) -> &BaseChain {
        &self.filter.chains[chain]
    }

    /// `rules.v4:12: -A INPUT -p tcp -j DROP`, or which chain's policy it is.
    pub fn by(&self, by: By) -> String {
        match by.rule {
            Some(rule) => format!("{}: {}", self.place(rule), one_line(&self.filter.rules[rule].text)),
            None => {
                let chain = self.chain(by.chain);
                format!("the policy of chain {} in table {}", chain.name, chain.table)
            }
        }
    }

    /// What decides, each on a line of its own.
    pub fn reasons(&self, outcome: &Outcome) -> Vec<String> {
        if let Fate::Elsewhere(what) = outcome.fate {
            let unknown = &self.filter.unknown[what];
            return vec![format!("{}: {}", self.unknown_place(what), unknown.why)];
        }
        let told = outcome.told();
        if told.is_empty() { vec!["no rule is about it".into()] } else { told.into_iter().map(|by| self.by(by)).collect() }
    }

    pub fn reason(&self, outcome: &Outcome) -> Vec<Value> {
        if let Fate::Elsewhere(what) = outcome.fate {
            let unknown = &self.filter.unknown[what];
            return vec![json!({ "kind": "elsewhere", "text": unknown.text, "line": unknown.line, "why": unknown.why })];
        }
        let of = |by: By| {
            let chain = self.chain(by.chain);
            let rule = by.rule.map(|rule| &self.filter.rules[rule]);
            json!({
                "kind": if by.rule.is_some() { "rule" } else { "policy" },
                "table": chain.table,
                "chain": rule.map_or_else(|| chain.name.clone(), |rule| rule.chain.clone()),
                "place": by.rule.map(|rule| self.place(rule)),
                "text": rule.map(|rule| rule.text.clone()),
                "comment": rule.and_then(|rule| rule.comment.clone()),
            })
        };
        outcome.told().into_iter().map(of).collect()
    }

    /// `rules.v4:12: -j NFQUEUE`; which of several files it is, the line does not tell.
    pub fn unknown_place(&self, what: usize) -> String {
        let unknown = &self.filter.unknown[what];
        let file = if self.files.len() == 1 { self.files[0].clone() } else { "line ".to_owned() };
        match (unknown.line, self.files.len()) {
            (0, _) => unknown.text.clone(),
            (line, 1) => format!("{file}:{line}: `{}`", one_line(&unknown.text)),
            (line, _) => format!("{file}{line}: `{}`", one_line(&unknown.text)),
        }
    }

    /// Statements that change what later rules see, which is not followed.
    pub fn not_followed(&self) -> Vec<String> {
        let filter = &self.filter;
        let rules: HashSet<&str> = filter.rules.iter().map(|rule| rule.text.as_str()).collect();
        // A match that is not understood stands among the conditions of a statement, not at its end.
        let is_statement = |text: &str| {
            let mut last = filter.effects.iter().filter_map(|list| list.last());
            rules.contains(text) || last.any(|effect| effect.ends_with(text))
        };
        let all = filter.unknown.iter().enumerate().take(UNKNOWN_MAX);
        let statements = all.filter(|(_, unknown)| unknown.line > 0 && is_statement(&unknown.text));
        statements.map(|(at, unknown)| format!("{}: {}", self.unknown_place(at), unknown.why)).collect()
    }

    /// A variable that an answer depends on: what it is, and where it stands.
    pub fn depends_on(&self, variable: &Variable) -> String {
        let name = ringwall_analysis::words::conditions::name(variable);
        match variable {
            Variable::InputInterface => format!("{name} (say it with `--in`)"),
            Variable::OutputInterface => format!("{name} (say it with `--out`)"),
            Variable::State => format!("{name} (say it with `--state`)"),
            Variable::Holds(text) => {
                let found = self.filter.unknown.iter().position(|unknown| *unknown.text == **text);
                found.map_or(name, |at| format!("{}: {}", self.unknown_place(at), self.filter.unknown[at].why))
            }
            _ => name,
        }
    }
}

fn name(path: &Path) -> String {
    if path.as_os_str() == "-" { "<stdin>".into() } else { path.display().to_string() }
}

fn text(path: &Path) -> Result<String, Failure> {
    let name = name(path);
    let failed = |error: std::io::Error| Failure::new(Exit::Environment, format!("can't read {name}: {error}"));
    let input: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => Box::new(std::fs::File::open(path).map_err(failed)?),
    };
    let mut bytes = Vec::new();
    // One byte more than is taken, so that what is too large is seen without being read.
    input.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Failure::new(Exit::Failure, format!("{name} is larger than {} MiB", MAX_BYTES >> 20)));
    }
    // Comments of rules may be in any encoding; what filters is ASCII.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// As much of a rule as one wants to read.
pub fn one_line(text: &str) -> String {
    const MOST: usize = 160;
    match text.char_indices().nth(MOST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{} …", &text[..end]),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Hook {
    /// What comes in for the machine itself.
    Input,
    /// What it sends.
    Output,
    /// What it passes on.
    Forward,
}

impl From<Hook> for Way {
    fn from(hook: Hook) -> Self {
        match hook {
            Hook::Input => Self::Input,
            Hook::Output => Self::Output,
            Hook::Forward => Self::Forward,
        }
    }
}

pub fn word(path: Way) -> &'static str {
    match path {
        Way::Input => "input",
        Way::Output => "output",
        Way::Forward => "forward",
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum States {
    /// The first packet of a connection.
    New,
    Established,
    Related,
    Invalid,
    Untracked,
    Any,
}

impl States {
    pub fn values(self) -> IntervalSet<u128> {
        let state = match self {
            Self::New => State::New,
            Self::Established => State::Established,
            Self::Related => State::Related,
            Self::Invalid => State::Invalid,
            Self::Untracked => State::Untracked,
            Self::Any => return IntervalSet::full(),
        };
        state.values().into()
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Established => "established",
            Self::Related => "related",
            Self::Invalid => "invalid",
            Self::Untracked => "untracked",
            Self::Any => "of any state",
        }
    }
}

/// What is known of the packets beyond their headers.
#[derive(clap::Args, Clone, Debug)]
pub struct Given {
    /// Which way they go through the machine. [default: each on which something is filtered]
    #[arg(long, value_enum)]
    pub hook: Option<Hook>,
    /// The interface that they come in by; `any` for whichever.
    #[arg(long = "in", value_name = "INTERFACE")]
    pub in_by: Option<String>,
    /// The interface that they leave by; `any` for whichever.
    #[arg(long = "out", value_name = "INTERFACE")]
    pub out_by: Option<String>,
}

impl Given {
    /// What holds of all packets on a way; `None` where no packet has it, such as an interface that
    /// those of the host itself come in by. Where nothing is said, `otherwise` are the interfaces.
    pub fn conditions(&self, path: Way, states: States, otherwise: &IntervalSet<u128>) -> Result<Option<Conditions>, Failure> {
        let mut conditions = ringwall_analysis::ruleset::on_the_way(path).and(Variable::State, &states.values());
        for (asked, option, variable) in
            [(&self.in_by, "--in", Variable::InputInterface), (&self.out_by, "--out", Variable::OutputInterface)]
        {
            let names = match asked.as_deref() {
                None => otherwise.clone(),
                Some("any") => IntervalSet::full(),
                Some(name) => match name.strip_suffix(['*', '+']) {
                    Some(start) => interfaces_from(start),
                    None => interface(name).map(IntervalSet::single),
                }
                .filter(|_| !name.is_empty())
                .ok_or_else(|| Failure::new(Exit::Usage, format!("`{option} {name}` is no interface's name")))?,
            };
            conditions = conditions.and_then(|known| known.and(variable, &names));
        }
        Ok(conditions)
    }

    /// In words, such as `new, in by eth0`.
    pub fn words(&self, path: Way, states: States) -> String {
        let mut words = vec![states.word().to_owned()];
        let by = |asked: &Option<String>, way: &str| match asked.as_deref() {
            None => format!("not {way} lo"),
            Some("any") => format!("{way} whichever interface"),
            Some(name) => format!("{way} {name}"),
        };
        words.extend((path != Way::Output).then(|| by(&self.in_by, "in by")));
        words.extend((path != Way::Input).then(|| by(&self.out_by, "out by")));
        words.join(", ")
    }
}

/// All interfaces but the loopback: what others send comes in by one of these.
pub fn not_loopback() -> IntervalSet<u128> {
    IntervalSet::single(interface("lo").expect("a short name")).complement()
}

/// A policy that knows nothing but what is private, so that `internal` and `internet` mean something.
/// RFC 1918 §3 and RFC 4193 §3.
pub fn no_policy() -> (Vec<Input>, Policy) {
    let text = "internal: [10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, \"fc00::/7\"]\n";
    let files = vec![Input { name: "private prefixes".into(), text: text.into() }];
    let policy = ringwall_policy_file::parse(&files, &Values::default(), 0).policy.expect("prefixes alone are a policy");
    (files, policy)
}

pub fn words(policy: &Policy) -> Words<'_> {
    Words::new(policy, &name_of)
}
