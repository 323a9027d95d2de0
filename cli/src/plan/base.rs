//! What a policy is compared with: what this machine enforces, other files, or a git revision.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ringwall_node::apply::{History, Record};
use ringwall_node::kernel::Netfilter;
use ringwall_policy::Policy;
use ringwall_policy_file::{Input, Values, folder};
use ringwall_ruleset::nftables::Generation;
use serde::{Deserialize, Serialize};

use super::file::digest;
use crate::Failure;
use crate::apply::{failure, has_drifted, read_enforced, recorded};
use crate::policy::{Loaded, PolicyArgs, load, now};
use crate::terminal::{Exit, Terminal, count};

/// The policy before.
pub struct Base {
    /// `generation`, `nothing`, `revision` or `files`.
    pub kind: &'static str,
    /// As the operator would call it: `g12`, `HEAD~1`, `old.yaml`.
    pub name: String,
    /// `None` when nothing is enforced.
    pub policy: Option<Policy>,
    /// Which node of it this machine was.
    pub node: Option<String>,
    /// `None` unless it is what this machine enforces.
    pub enforced: Option<Enforced>,
}

/// What a machine enforced when a plan was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforced {
    /// Such as `g12`.
    pub generation: Option<String>,
    /// The digest of the generation's record, which no two machines share.
    pub record: Option<String>,
    /// Whether somebody had changed its rules.
    pub drift: bool,
}

/// Reads what decides in the kernel at this moment, and where it came from.
pub fn enforced(netfilter: &mut Netfilter, history: &History) -> Result<(Enforced, Option<(Generation, Record)>), Failure> {
    let found = read_enforced(netfilter)?;
    let Some(generation) = found.deciding() else {
        return Ok((Enforced { generation: None, record: None, drift: false }, None));
    };
    let record = history.record(generation).map_err(|error| {
        failure(&error.into()).help(format!("{generation} is enforced, but not where it came from is known: compare with files, by --against"))
    })?;
    let text = serde_json::to_string(&record).expect("maps with text keys");
    let enforced = Enforced {
        generation: Some(generation.to_string()),
        record: Some(digest(text.as_bytes())),
        drift: found.is_disturbed || has_drifted(netfilter, generation, &record),
    };
    Ok((enforced, Some((generation, record))))
}

impl Base {
    /// What this machine enforces.
    pub fn of_machine(netfilter: &mut Netfilter, history: &History) -> Result<Self, Failure> {
        let (enforced, found) = enforced(netfilter, history)?;
        let Some((generation, record)) = found else {
            return Ok(Self { kind: "nothing", name: "nothing".into(), policy: None, node: None, enforced: Some(enforced) });
        };
        let policy = recorded(&record)?;
        Ok(Self {
            kind: "generation",
            name: generation.to_string(),
            policy: Some(policy),
            node: Some(record.node),
            enforced: Some(enforced),
        })
    }

    /// A file or a folder where there is one of this name, else a git revision of the policy's files.
    pub fn named(text: &str, args: &PolicyArgs, terminal: &Terminal) -> Result<Self, Failure> {
        let path = Path::new(text);
        if path.exists() {
            let folder = folder::read(path).map_err(|error| Failure::of(Exit::Environment, &error))?;
            return Self::of_files("files", text, folder.inputs, &args.bindings.values()?, terminal);
        }
        let repository = Repository::of(&args.policy)?;
        let commit = repository.commit(text)?;
        let inputs = repository.policy(&commit, text)?;
        let values = match &args.bindings.values {
            None => args.bindings.values()?,
            // What a name was bound to then, where git knows it.
            Some(path) => match Repository::of(path).and_then(|repository| repository.file(&commit, path)) {
                Ok(old) => args.bindings.values_over(Some(&Input { name: format!("{text}:{}", path.display()), text: old }))?,
                Err(_) => {
                    terminal.say(&format!("note: {} is not in {text}, so its present values count for both", path.display()));
                    args.bindings.values()?
                }
            },
        };
        Self::of_files("revision", text, inputs, &values, terminal)
    }

    fn of_files(kind: &'static str, name: &str, inputs: Vec<Input>, values: &Values, terminal: &Terminal) -> Result<Self, Failure> {
        let Loaded { policy, diagnostics, sources, .. } = load(inputs, values, now());
        let Some(policy) = policy else {
            let errors: Vec<_> = diagnostics.into_iter().filter(|diagnostic| diagnostic.is_error()).collect();
            terminal.diagnostics(&errors, &sources);
            return Err(Failure::new(Exit::Failure, format!("{name}, to compare with, has {}", count(&errors))));
        };
        Ok(Self { kind, name: name.to_owned(), policy: Some(policy), node: None, enforced: None })
    }
}

/// The folder that git is asked in, and the policy's name in it.
struct Repository {
    folder: PathBuf,
    /// `None`: the policy is the folder.
    file: Option<std::ffi::OsString>,
}

impl Repository {
    fn of(policy: &Path) -> Result<Self, Failure> {
        if policy.is_dir() {
            return Ok(Self { folder: policy.to_owned(), file: None });
        }
        let folder = policy.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        match policy.file_name() {
            Some(file) => Ok(Self { folder: folder.to_owned(), file: Some(file.to_owned()) }),
            None => Err(Failure::new(Exit::Failure, format!("{} is no file", policy.display()))),
        }
    }

    fn git<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Output, Failure> {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.folder).args(arguments);
        command.output().map_err(|error| {
            Failure::new(Exit::Environment, format!("can't run git: {error}"))
                .help("--against takes a file or a folder, too")
        })
    }

    fn commit(&self, revision: &str) -> Result<String, Failure> {
        let unknown = |why: String| {
            let mut failure = Failure::new(Exit::Failure, format!("`{revision}` is neither a file or folder, nor a git revision"));
            failure.causes.extend(Some(why).filter(|why| !why.is_empty()));
            failure.help("such as `--against HEAD`, `--against main`, `--against old/policy.yaml`")
        };
        if revision.starts_with('-') || revision.is_empty() {
            return Err(unknown(String::new()));
        }
        let output = self.git(&["rev-parse", "--verify", "--quiet", &format!("{revision}^{{commit}}")])?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() { Ok(text) } else { Err(unknown(message(&output))) }
    }

    fn policy(&self, commit: &str, revision: &str) -> Result<Vec<Input>, Failure> {
        let name = |path: &Path| {
            let path = path.display().to_string();
            format!("{revision}:{}", path.strip_prefix("./").unwrap_or(&path))
        };
        if let Some(file) = &self.file {
            let path = self.folder.join(file);
            return Ok(vec![Input { name: name(&path), text: self.file(commit, &path)? }]);
        }
        // MODE TYPE HASH<tab>NAME, ended by NUL (git-ls-tree(1)); links have another mode.
        let output = self.git(&["ls-tree", "-z", commit])?;
        let listing = text(output.stdout, "the listing")?;
        let entries = listing.split('\0').filter_map(|entry| entry.split_once('\t'));
        let is_file = |kind: &str| kind.starts_with("100") && kind.contains(" blob ");
        let mut files: Vec<&str> = entries
            .filter(|(kind, file)| is_file(kind) && file.ends_with(".yaml") && !file.starts_with('.'))
            .map(|(_, file)| file)
            .collect();
        files.sort_unstable();
        if files.is_empty() {
            return Err(Failure::new(Exit::Failure, format!("{} has no *.yaml file in {revision}", self.folder.display())));
        }
        let input = |file: &str| {
            let path = self.folder.join(file);
            Ok(Input { name: name(&path), text: self.file(commit, &path)? })
        };
        files.into_iter().map(input).collect()
    }

    /// A file as it was.
    fn file(&self, commit: &str, path: &Path) -> Result<String, Failure> {
        let name = path.file_name().unwrap_or_default();
        let mut object = std::ffi::OsString::from(format!("{commit}:./"));
        object.push(name);
        let output = self.git(&[OsStr::new("cat-file"), OsStr::new("blob"), &object])?;
        if !output.status.success() {
            let mut failure = Failure::new(Exit::Failure, format!("git has no {} of that revision", path.display()));
            failure.causes.extend(Some(message(&output)).filter(|why| !why.is_empty()));
            return Err(failure);
        }
        text(output.stdout, &path.display().to_string())
    }
}

/// The first line of what git says is wrong.
fn message(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned()
}

fn text(bytes: Vec<u8>, what: &str) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|_| Failure::new(Exit::Failure, format!("{what} is not UTF-8 text in that revision")))
}
