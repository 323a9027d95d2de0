//! `ringwall revision`: what was committed, and what a rollout of it would change.
//!
//! In: policy files and values. Out: a number; the revisions, or one's content. Never: an edit of a revision.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ringwall_api::{CommitRevision, Content, Outdated, Revision, Revisions, Source};
use ringwall_policy_file::folder;

use super::{ServerArgs, document, show};
use crate::Failure;
use crate::policy::Bindings;
use crate::terminal::{Exit, ListOutput, Output, Terminal, print, print_json};

#[derive(clap::Args)]
pub struct RevisionArgs {
    #[command(subcommand)]
    verb: Verb,
}

const COMMIT_HELP: &str = "\
Nothing is enforced by this: `ringwall rollout start NUMBER` does that. Exit code 4: it was committed, and can't be
rolled out as it is.

Examples:
  ringwall revision commit policy/ --message 'open mqtt for devices'
  ringwall revision commit policy.yaml --set PARTNER_IPS=203.0.113.7";

#[derive(clap::Subcommand)]
enum Verb {
    /// Send a policy to the controller, where it gets a number.
    #[command(after_help = COMMIT_HELP)]
    Commit {
        #[command(flatten)]
        server: ServerArgs,
        /// Files, or folders with their *.yaml files.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Why, in a line.
        #[arg(short, long, default_value = "")]
        message: String,
        #[command(flatten)]
        bindings: Bindings,
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// List the revisions, newest first.
    #[command(after_help = "Examples:\n  ringwall revision list\n  ringwall revision list --limit 5 -o json")]
    List {
        #[command(flatten)]
        server: ServerArgs,
        /// Only those below this number.
        #[arg(long)]
        before: Option<u64>,
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        #[arg(short, long, value_enum, default_value_t = ListOutput::Table)]
        output: ListOutput,
    },
    /// Print a revision's files, or write them to a folder.
    #[command(after_help = "Examples:\n  ringwall revision show 7\n  ringwall revision show 7 --to policy-7/")]
    Show {
        #[command(flatten)]
        server: ServerArgs,
        number: u64,
        /// A folder that is not there yet.
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
}

pub fn revision(args: RevisionArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    match args.verb {
        Verb::Commit { server, paths, message, bindings, output } => commit(&server, &paths, message, &bindings, output, terminal),
        Verb::List { server, before, limit, output } => {
            let before = before.map(|before| format!("&before={before}")).unwrap_or_default();
            let list: Revisions = server.client(terminal)?.get(&format!("revisions?limit={limit}{before}"))?;
            show(output, "revisions", &["NUMBER", "CREATED", "AUTHOR", "SOURCE", "MESSAGE"], &list.revisions, |revision| {
                let Revision { number, created, author, source, message, .. } = revision;
                vec![number.to_string(), created.clone(), author.clone(), source_text(source), message.clone()]
            })?;
            if let Some(next) = list.next {
                terminal.say(&format!("there are more: `ringwall revision list --before {next}`"));
            }
            Ok(Exit::Success)
        }
        Verb::Show { server, number, to, output } => {
            let content: Content = server.client(terminal)?.get(&format!("revisions/{number}/content"))?;
            match (to, output) {
                (Some(to), _) => write(&content, &to, terminal)?,
                (None, Output::Json) => print_json(&document("revision_content", &content)?),
                (None, Output::Table) => {
                    for (name, text) in &content.files {
                        print(&format!("# {name}\n{}", text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect::<String>()));
                    }
                    let values = content.values.iter().map(|(name, value)| format!("# ${name} is bound to {value}\n"));
                    print(&values.collect::<String>());
                }
            }
            Ok(Exit::Success)
        }
    }
}

fn source_text(source: &Source) -> String {
    match source {
        Source::Cli => "cli".to_owned(),
        Source::Api => "api".to_owned(),
        Source::Git(id) => format!("git {}", id.chars().take(12).collect::<String>()),
    }
}

fn commit(server: &ServerArgs, paths: &[PathBuf], message: String, bindings: &Bindings, output: Output, terminal: &Terminal) -> Result<Exit, Failure> {
    let mut inputs = Vec::new();
    for path in paths {
        let folder = folder::read(path).map_err(|error| Failure::of(Exit::Environment, &error))?;
        folder.notes.iter().for_each(|note| terminal.say(&format!("note: {note}")));
        inputs.extend(folder.inputs);
    }
    for note in bindings.unused(&inputs) {
        terminal.warn(&note);
    }
    let values = bindings.values()?;
    let mut files = BTreeMap::new();
    for input in inputs {
        let name = Path::new(&input.name).file_name().map_or_else(|| input.name.clone(), |name| name.to_string_lossy().into_owned());
        if files.insert(name.clone(), input.text).is_some() {
            return Err(Failure::new(Exit::Usage, format!("two of the files are called {name}")).help("a revision is one folder: rename one of them"));
        }
    }
    let values = values.names().filter_map(|name| Some((name.to_owned(), values.get(name)?.text.clone()))).collect();
    let client = server.client(terminal)?;
    let asked = CommitRevision { files, values, message, source: Source::Cli };
    let revision: Revision = client.post("revisions", &asked)?;
    match output {
        Output::Table => print(&format!("{}\n", revision.number)),
        Output::Json => print_json(&document("revision", &revision)?),
    }
    match client.get::<Outdated>(&format!("revisions/{}/outdated", revision.number)) {
        Ok(outdated) if outdated.nodes.is_empty() => {
            terminal.say(&format!("revision {}: all nodes of now have it already", revision.number));
            Ok(Exit::Success)
        }
        Ok(outdated) => {
            let count = outdated.nodes.len();
            let nodes = if count == 1 { "node" } else { "nodes" };
            terminal.say(&format!("revision {}: `ringwall rollout start {0}` would change {count} {nodes}: {}", revision.number, outdated.nodes.join(" ")));
            Ok(Exit::Success)
        }
        // A key that may only write is not told what would change.
        Err(failure) if failure.exit == Exit::Environment => {
            terminal.say(&format!("revision {} is committed; `ringwall rollout start {0}` brings it to the nodes", revision.number));
            Ok(Exit::Success)
        }
        Err(failure) => {
            terminal.failure(&failure);
            Ok(Exit::Partly)
        }
    }
}

fn write(content: &Content, to: &Path, terminal: &Terminal) -> Result<(), Failure> {
    let failed = |path: &Path, error: std::io::Error| Failure::new(Exit::Environment, format!("can't write {}: {error}", path.display()));
    std::fs::create_dir(to).map_err(|error| failed(to, error))?;
    for (name, text) in &content.files {
        // The controller takes no other names; that is not for this program to rely on.
        if name.contains(['/', '\0']) || name.starts_with('.') {
            return Err(Failure::new(Exit::Failure, format!("`{}` is not a file's name", super::plain(name))));
        }
        let path = to.join(name);
        std::fs::write(&path, text).map_err(|error| failed(&path, error))?;
    }
    for (name, value) in &content.values {
        terminal.say(&super::plain(&format!("${name} is bound to {value}")));
    }
    terminal.say(&format!("{} files in {}", content.files.len(), to.display()));
    Ok(())
}
