//! `ringwall check`: mistakes and doubtful rows, in policies and in guides, and what an analysis finds.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use ringwall_analysis::findings::{self, Ports};
use ringwall_diagnostic::{Diagnostic, Severity, Sources};
use ringwall_packet::{Family, Protocol};
use ringwall_policy_file::folder;
use ringwall_ruleset::detect::{self, Format};
use ringwall_ruleset::filter::Reading;
use ringwall_services::{FactKind, facts, name_of};

use crate::policy::{Bindings, load, now};
use crate::terminal::{Exit, Output, Terminal, count, print_json};
use crate::{Failure, lint};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  ringwall check policy.yaml
  ringwall check guide.md                 lint a vendor's port tables
  ringwall check policy/ --fail-on warning
  ringwall check policy/ -o json | jq '.diagnostics[].code'
  ringwall check --ruleset v4.rules v6.rules   one machine's rules, as iptables-save and ip6tables-save print them
  nft list ruleset | ringwall check --ruleset - --fail-on warning")]
pub struct Args {
    /// Policies (*.yaml or folders of them) and guides (Markdown, CSV).
    #[arg(required_unless_present = "ruleset", value_name = "FILE")]
    paths: Vec<PathBuf>,
    /// The rules that one machine has now, as the programs print them that list them; `-` is stdin.
    #[arg(long, num_args = 1.., value_name = "FILE", conflicts_with_all = ["paths", "set", "values"])]
    ruleset: Vec<PathBuf>,
    /// What printed the rules. [default: by what stands in them]
    #[arg(long, value_enum, requires = "ruleset")]
    format: Option<RulesetFormat>,
    #[command(flatten)]
    bindings: Bindings,
    /// The least severity that makes the exit code 1.
    #[arg(long, value_enum, default_value_t = FailOn::Error, value_name = "SEVERITY")]
    fail_on: FailOn,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum FailOn {
    Error,
    Warning,
    Info,
    Never,
}

impl FailOn {
    fn fails(self, severity: Severity) -> bool {
        match self {
            Self::Error => severity >= Severity::Error,
            Self::Warning => severity >= Severity::Warning,
            Self::Info => true,
            Self::Never => false,
        }
    }
}

pub fn run(args: &Args, terminal: &Terminal) -> Result<Exit, Failure> {
    let mut all = Vec::new();
    let (mut documents, mut notes) = (Vec::new(), Vec::new());
    let mut checks: Vec<Result<Checked, Failure>> = args.paths.iter().map(|path| check(path, &args.bindings)).collect();
    if !args.ruleset.is_empty() {
        checks.push(check_ruleset(&args.ruleset, args.format));
    }
    for checked in checks {
        let Checked { sources, notes: aside, diagnostics } = checked?;
        match args.output {
            Output::Table => {
                for note in &aside {
                    terminal.say(&format!("note: {note}"));
                }
                terminal.diagnostics(&diagnostics, &sources);
            }
            Output::Json => documents.extend(
                diagnostics
                    .iter()
                    .map(|diagnostic| serde_json::to_value(diagnostic.to_json(&sources)).expect("text keys only")),
            ),
        }
        notes.extend(aside);
        all.extend(diagnostics);
    }
    match args.output {
        Output::Json => print_json(
            &serde_json::json!({ "schema": "ringwall.check/1", "notes": notes, "diagnostics": documents }),
        ),
        Output::Table if all.is_empty() => terminal.say("check: nothing to say"),
        Output::Table => terminal.say(&format!("check: {}", count(&all))),
    }
    let fails = all.iter().any(|diagnostic| args.fail_on.fails(diagnostic.severity));
    Ok(if fails { Exit::Failure } else { Exit::Success })
}

/// Which program printed a ruleset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RulesetFormat {
    IptablesSave,
    Ip6tablesSave,
    /// What `ipset save` prints.
    Ipset,
    /// What `nft list ruleset` prints, or `nft -f` takes.
    Nft,
}

impl From<RulesetFormat> for Format {
    fn from(format: RulesetFormat) -> Self {
        match format {
            RulesetFormat::IptablesSave => Self::Iptables(Some(Family::V4)),
            RulesetFormat::Ip6tablesSave => Self::Iptables(Some(Family::V6)),
            RulesetFormat::Ipset => Self::Ipset,
            RulesetFormat::Nft => Self::Nftables,
        }
    }
}

fn check_ruleset(paths: &[PathBuf], format: Option<RulesetFormat>) -> Result<Checked, Failure> {
    let mut sources = Sources::new();
    let mut texts = Vec::new();
    for path in paths {
        let (name, text) = match path.as_os_str() == "-" {
            true => ("<stdin>".to_owned(), std::io::read_to_string(std::io::stdin())),
            false => (path.display().to_string(), std::fs::read_to_string(path)),
        };
        let text = text.map_err(|error| Failure::new(Exit::Environment, format!("can't read {name}: {error}")))?;
        texts.push(detect::Text { source: sources.add(name, text), format: format.map(Format::from) });
    }
    let Reading { filter, mut diagnostics } = detect::read_every_rule(&sources, &texts);
    let mut notes = Vec::new();
    if let Some(filter) = filter {
        diagnostics.extend(findings::of_ruleset(&filter, findings::BUDGET));
        notes.push(format!("read {} rules, {} of the chains that packets meet", filter.rules.len(), filter.chains.len()));
    }
    Ok(Checked { sources, notes, diagnostics })
}

struct Checked {
    sources: Sources,
    /// Files that were left aside, and values that are not asked for.
    notes: Vec<String>,
    diagnostics: Vec<Diagnostic>,
}

fn check(path: &Path, bindings: &Bindings) -> Result<Checked, Failure> {
    let is_policy = path.is_dir() || path.extension().is_some_and(|end| end == "yaml" || end == "yml");
    if is_policy {
        let mut folder = folder::read(path).map_err(|error| Failure::of(Exit::Environment, &error))?;
        folder.notes.extend(bindings.unused(&folder.inputs));
        let now = now();
        let mut loaded = load(folder.inputs, &bindings.values()?, now);
        if let Some(policy) = &loaded.policy {
            loaded.diagnostics.extend(lint::of_policy(policy));
            let ports = Ports { name_of: &name_of, risk_of: &risk_of };
            loaded.diagnostics.extend(findings::of_policy(policy, ports, now, findings::BUDGET));
            for compiled in ringwall_compile::compile_all(policy, policy.nodes.keys()).into_values() {
                let (_, warnings) = compiled.map_err(|error| crate::compile::unproved(&error))?;
                loaded.diagnostics.extend(warnings);
            }
        }
        return Ok(Checked { sources: loaded.sources, notes: folder.notes, diagnostics: loaded.diagnostics });
    }
    let (sources, guide, mut diagnostics) = crate::import::read(path)?;
    if let Some(guide) = guide {
        diagnostics.extend(lint::of_guide(&guide, &sources));
    }
    diagnostics.sort_by_key(|diagnostic| diagnostic.primary.as_ref().map(|label| label.span));
    Ok(Checked { sources, notes: Vec::new(), diagnostics })
}

/// Why a port is not for everybody.
fn risk_of(protocol: Protocol, port: u16) -> Option<&'static str> {
    let is_risk = |kind: FactKind| matches!(kind, FactKind::Login | FactKind::Share);
    facts(name_of(protocol, port)?).find(|fact| is_risk(fact.kind)).map(|fact| fact.why)
}
