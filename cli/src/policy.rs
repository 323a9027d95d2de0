//! Reads the policy that a command is about.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use ringwall_diagnostic::{Diagnostic, Sources};
use ringwall_policy::Policy;
use ringwall_policy_file::{Input, Values, folder, parse};

use crate::Failure;
use crate::terminal::{Exit, Terminal, count};

/// Which policy, and what its `$VALUES` are bound to.
#[derive(clap::Args, Clone, Debug)]
pub struct PolicyArgs {
    /// The policy: a file, or a folder with its *.yaml files.
    #[arg(value_name = "POLICY", env = "RINGWALL_POLICY")]
    pub policy: PathBuf,
    #[command(flatten)]
    pub bindings: Bindings,
}

#[derive(clap::Args, Clone, Debug, Default)]
pub struct Bindings {
    /// Bind a $VALUE of the policy, over the environment's RINGWALL_VALUE_NAME and over --values.
    #[arg(long = "set", value_name = "NAME=ADDRESSES")]
    pub set: Vec<String>,
    /// A YAML file of values: `NAME: [addresses]`.
    #[arg(long, value_name = "FILE")]
    pub values: Option<PathBuf>,
}

/// A policy as read, right or wrong.
pub struct Loaded {
    pub files: Vec<Input>,
    /// The bindings as text, to be kept with the generation.
    pub bound: BTreeMap<String, String>,
    pub sources: Sources,
    pub policy: Option<Policy>,
    pub diagnostics: Vec<Diagnostic>,
}

impl PolicyArgs {
    pub fn load(&self, terminal: &Terminal) -> Result<Loaded, Failure> {
        let folder = folder::read(&self.policy).map_err(|error| Failure::of(Exit::Environment, &error))?;
        for note in &folder.notes {
            terminal.say(&format!("note: {note}"));
        }
        let values = self.bindings.values()?;
        for note in self.bindings.unused(&folder.inputs) {
            terminal.warn(&note);
        }
        Ok(load(folder.inputs, &values, now()))
    }

    /// The policy and its warnings; when there are errors, they are printed and this fails.
    pub fn resolved(&self, terminal: &Terminal) -> Result<(Loaded, Policy), Failure> {
        let mut loaded = self.load(terminal)?;
        match loaded.policy.take() {
            Some(policy) => Ok((loaded, policy)),
            None => {
                terminal.diagnostics(&loaded.diagnostics, &loaded.sources);
                let message = format!("{} has {}", self.policy.display(), count(&loaded.diagnostics));
                Err(Failure::new(Exit::Failure, message).help("nothing was changed; `ringwall explain CODE` says more"))
            }
        }
    }
}

pub fn load(files: Vec<Input>, values: &Values, now: u64) -> Loaded {
    let parsed = parse(&files, values, now);
    let bound = values.names().filter_map(|name| Some((name.to_owned(), values.get(name)?.text.clone()))).collect();
    Loaded { files, bound, sources: parsed.sources, policy: parsed.policy, diagnostics: parsed.diagnostics }
}

impl Bindings {
    /// A sentence for each `--set` that none of these files asks for: a slip of the pen, most likely.
    pub fn unused(&self, files: &[Input]) -> Vec<String> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let asks = |text: &str, name: &str| text.split('$').skip(1).any(|rest| rest.split(|c| !is_part(c)).next() == Some(name));
        let names = self.set.iter().filter_map(|binding| Some(binding.split_once('=')?.0));
        let unused = names.filter(|name| !files.iter().any(|file| asks(&file.text, name)));
        unused.map(|name| format!("`--set {name}=…` has no effect: the policy has no `${name}`")).collect()
    }

    /// `--set` over `RINGWALL_VALUE_X` over `--values FILE`.
    pub fn values(&self) -> Result<Values, Failure> {
        let Some(path) = &self.values else { return self.values_over(None) };
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::new(Exit::Environment, format!("can't read {}: {error}", path.display())))?;
        self.values_over(Some(&Input { name: path.display().to_string(), text }))
    }

    /// The same with another text of the file.
    pub fn values_over(&self, file: Option<&Input>) -> Result<Values, Failure> {
        let mut values = Values::default();
        if let Some(input) = file {
            let (sources, diagnostics) = values.bind_file(input);
            if diagnostics.iter().any(Diagnostic::is_error) {
                Terminal::new(crate::terminal::When::Auto).diagnostics(&diagnostics, &sources);
                return Err(Failure::new(Exit::Failure, format!("{} has mistakes", input.name)));
            }
        }
        let mut variables: Vec<_> = std::env::vars().collect();
        variables.sort();
        for (variable, text) in variables {
            if let Some(name) = variable.strip_prefix("RINGWALL_VALUE_") {
                values.bind(name, text, &variable);
            }
        }
        let mut set = BTreeSet::new();
        for binding in &self.set {
            let Some((name, text)) = binding.split_once('=') else {
                return Err(Failure::new(Exit::Usage, format!("`--set {binding}` is not NAME=ADDRESSES")));
            };
            if !set.insert(name) {
                return Err(Failure::new(Exit::Usage, format!("`--set {name}=…` is there twice")));
            }
            values.bind(name, text, format!("--set {name}"));
        }
        Ok(values)
    }
}

/// Seconds since the epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
