//! A git repository that the policy is kept in: each commit of its branch that changes the policy becomes a revision.
//!
//! In: the repository, by git's own program. Out: the policy of the branch's head as a revision's content; what can't
//! be a revision, as an event that says why. Never: a fetch, which is the operator's to arrange; a revision that does
//! not compile with the fleet as it is; a rollout, unless it was asked for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ringwall_policy_file::{Input, Values};

use crate::audit::{Actor, Audited};
use crate::change::{Change, Observed, Write, Written};
use crate::core::Waves;
use crate::event::NewEvent;
use crate::id::RevisionNumber;
use crate::revision::{Content, NewRevision, Source};
use crate::server::{Control, ControlError};
use crate::store::{self, Read as _, Store};
use crate::time::Time;

/// Between two looks at a repository.
pub const EVERY: Duration = Duration::from_secs(5);
/// Bytes of one file.
const FILE_MAX: usize = 1 << 20;
/// Bytes of all files.
const ALL_MAX: usize = 8 << 20;

#[derive(Clone, Debug)]
pub struct Repository {
    /// Bare, or with a work tree.
    pub path: PathBuf,
    pub branch: String,
    /// In the repository, with the policy's files directly in it; empty: the top.
    pub folder: String,
    /// In the repository: a YAML file of what the policy's `$VALUE`s are bound to.
    pub values: Option<String>,
}

/// What the branch says now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The commit's id, as git writes it.
    pub id: String,
    pub author: String,
    /// The message's first line.
    pub message: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("can't run git")]
    Program(#[source] std::io::Error),
    #[error("`git {command}` in {}: {said}", path.display())]
    Git { path: PathBuf, command: String, said: String },
    #[error("{0}")]
    Content(String),
}

impl Repository {
    pub fn head(&self) -> Result<Head, Error> {
        let reference = format!("refs/heads/{}^{{commit}}", self.branch);
        let id = self.text(&["rev-parse", "--verify", "--quiet", &reference]).map_err(|error| match error {
            Error::Git { path, command, said } if said.is_empty() => Error::Git { path, command, said: format!("it has no branch `{}`", self.branch) },
            error => error,
        })?;
        let id = id.trim().to_owned();
        let about = self.text(&["log", "-1", "--format=%an%n%s", &id])?;
        let mut lines = about.lines().map(|line| line.chars().filter(|c| !c.is_control()).take(200).collect::<String>());
        Ok(Head { id, author: lines.next().unwrap_or_default(), message: lines.next().unwrap_or_default() })
    }

    pub fn content(&self, id: &str) -> Result<Content, Error> {
        let folder = self.folder.trim_matches('/');
        let tree = if folder.is_empty() { id.to_owned() } else { format!("{id}:{folder}") };
        // MODE TYPE HASH<tab>NAME, each ended by NUL (git-ls-tree(1)); links have another mode.
        let listed = self.text(&["ls-tree", "-z", &tree])?;
        let (mut files, mut left) = (BTreeMap::new(), ALL_MAX);
        for entry in listed.split_terminator('\0') {
            let Some((about, name)) = entry.split_once('\t') else { continue };
            let mut about = about.split(' ');
            let is_file = matches!(about.next(), Some("100644" | "100755"));
            let (Some("blob"), Some(hash)) = (about.next(), about.next()) else { continue };
            if is_file && name.ends_with(".yaml") && !name.starts_with('.') {
                files.insert(name.to_owned(), self.blob(name, hash, &mut left)?);
            }
        }
        let values = self.values.as_ref().map(|path| self.blob(path, &format!("{id}:{path}"), &mut left)).transpose()?;
        let values = values.map(|text| bound(self.values.as_deref().unwrap_or_default(), text)).transpose()?.unwrap_or_default();
        let content = Content { files, values };
        content.check().map_err(Error::Content)?;
        Ok(content)
    }

    fn blob(&self, name: &str, object: &str, left: &mut usize) -> Result<String, Error> {
        let size = self.text(&["cat-file", "-s", object])?;
        let size: usize = size.trim().parse().unwrap_or(usize::MAX);
        *left = left.checked_sub(size).filter(|_| size <= FILE_MAX).ok_or_else(|| Error::Content(format!("{name} is too large for a policy")))?;
        self.text(&["cat-file", "blob", object])
    }

    fn text(&self, arguments: &[&str]) -> Result<String, Error> {
        let mut command = Command::new("git");
        // The operator's repository, and nothing that the environment says of another.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GIT_")) {
            command.env_remove(name);
        }
        command.arg("-C").arg(&self.path).args(["--no-optional-locks", "--no-pager"]).args(arguments).stdin(Stdio::null());
        let Output { status, stdout, stderr } = command.output().map_err(Error::Program)?;
        if !status.success() {
            let said = String::from_utf8_lossy(&stderr).trim().chars().take(500).collect();
            return Err(Error::Git { path: self.path.clone(), command: arguments.join(" "), said });
        }
        String::from_utf8(stdout).map_err(|_| Error::Content(format!("what `git {}` gives is not UTF-8", arguments.join(" "))))
    }
}

fn bound(name: &str, text: String) -> Result<BTreeMap<String, String>, Error> {
    let mut values = Values::default();
    let (sources, diagnostics) = values.bind_file(&Input { name: name.to_owned(), text });
    let errors: Vec<String> = diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.is_error())
        .map(|diagnostic| ringwall_diagnostic::render(diagnostic, &sources, ringwall_diagnostic::Colour::Plain))
        .collect();
    if !errors.is_empty() {
        return Err(Error::Content(errors.join("\n")));
    }
    Ok(values.names().filter_map(|name| Some((name.to_owned(), values.get(name)?.text.clone()))).collect())
}

/// Looks at the repository from time to time, for ever.
pub async fn watch<S: Store>(repository: Repository, store: Arc<S>, control: Control<S>, clock: fn() -> Time, rolls_out: bool, every: Duration) {
    let mut watch = Watch { repository: Arc::new(repository), store, control, clock, rolls_out, seen: None, due: None, said: None };
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let why = watch.look().await.err().map(|error| error.to_string());
        if let Some(why) = why.clone().filter(|why| watch.said.as_ref() != Some(why)) {
            watch.tell(why).await;
        }
        watch.said = why;
    }
}

struct Watch<S> {
    repository: Arc<Repository>,
    store: Arc<S>,
    control: Control<S>,
    clock: fn() -> Time,
    rolls_out: bool,
    /// The commit that was looked at last.
    seen: Option<String>,
    /// Is to be rolled out, once no other rollout is under way.
    due: Option<RevisionNumber>,
    /// The last fault that was told.
    said: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Repository(#[from] Error),
    #[error("commit {commit}: {source}")]
    Policy { commit: String, source: ControlError },
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl<S: Store> Watch<S> {
    async fn look(&mut self) -> Result<(), Fault> {
        let repository = self.repository.clone();
        let head = blocking(move || repository.head()).await?;
        if self.seen.as_ref() != Some(&head.id) {
            self.take(head).await?;
        }
        self.roll_out().await
    }

    async fn take(&mut self, head: Head) -> Result<(), Fault> {
        let (repository, id) = (self.repository.clone(), head.id.clone());
        let content = blocking(move || repository.content(&id)).await?;
        let newest = self.store.read().await?.revisions(None, 1).await?.into_iter().next();
        let number = match newest {
            // Not about the policy, or committed before a restart.
            Some(newest) if newest.content == content.digest() => newest.number,
            _ => {
                self.control.check(content.clone()).await.map_err(|source| match source {
                    ControlError::Policy(_) => Fault::Policy { commit: head.id.clone(), source },
                    source => source.into(),
                })?;
                let new = NewRevision { content, author: head.author, message: head.message, source: Source::Git(head.id.clone()) };
                let part = Write::Change(Audited { who: Actor::Controller, at: (self.clock)(), change: Change::Commit(new) });
                match self.store.write(vec![part]).await?[..] {
                    [Written::Revision(number)] => number,
                    _ => return Ok(()),
                }
            }
        };
        let is_new = !self.store.read().await?.rollouts(None, 1_000).await?.iter().any(|rollout| rollout.revision == number);
        self.due = Some(number).filter(|_| self.rolls_out && is_new);
        self.seen = Some(head.id);
        Ok(())
    }

    async fn roll_out(&mut self) -> Result<(), Fault> {
        let Some(revision) = self.due else { return Ok(()) };
        // Who means that says so, by hand.
        if let Err(error) = self.control.exposes_no_more(revision).await {
            self.due = None;
            return Err(error.into());
        }
        match self.control.start_rollout(Actor::Controller, revision, Waves::default()).await {
            Ok(_) | Err(ControlError::Nothing) => self.due = None,
            // It is over some day.
            Err(ControlError::Store(store::Error::RolloutActive(_))) => {}
            Err(error) => {
                self.due = None;
                return Err(error.into());
            }
        }
        Ok(())
    }

    async fn tell(&self, why: String) {
        tracing::warn!(why, "the policy's repository");
        let body = serde_json::json!({ "repository": self.repository.path, "branch": self.repository.branch, "why": why });
        let what = Observed::Event(NewEvent { kind: "repository".into(), node: None, body });
        if let Err(error) = self.store.write(vec![Write::Observed { at: (self.clock)(), what }]).await {
            tracing::error!(%error, "an event was not kept");
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ControlError::Ending)?.map_err(Fault::from)
}
