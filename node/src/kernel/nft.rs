//! The nft program: checks and loads rules as text.
//!
//! In: the text that the operator reviews. Out: nothing when the kernel took it as one transaction,
//! else what stands in the way. Never: reads of rules (those go over netlink), or text that it made
//! itself.
//!
//! nft acts in the network namespace of the thread that calls.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

/// The oldest nft whose parser knows all that our texts use.
pub const OLDEST: (u16, u16, u16) = (1, 0, 1);

/// nft repeats a line of the text for each error, so that what it says is bounded by us.
const MOST_OUTPUT: u64 = 1 << 20;

/// nft, found and new enough.
#[derive(Clone, Debug)]
pub struct Nft {
    program: PathBuf,
    version: (u16, u16, u16),
}

/// Why nft did not check or load a text. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    #[error("the program `nft` is not installed: install the package nftables")]
    Missing,
    #[error("nft {}.{}.{} is too old: install nftables {}.{}.{} or newer", .0.0, .0.1, .0.2, OLDEST.0, OLDEST.1, OLDEST.2)]
    TooOld((u16, u16, u16)),
    #[error("`nft --version` printed no version")]
    UnknownVersion,
    #[error("could not run `{}`", .program.display())]
    Run {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("no permission to change nftables: run as root (with CAP_NET_ADMIN)")]
    Permission,
    #[error("the kernel does not support `{feature}`: load or build its nftables module")]
    MissingFeature { feature: String, stderr: String },
    #[error("nft refused the text{}", reason(.complaints, .stderr))]
    Refused { complaints: Vec<Complaint>, stderr: String },
}

/// Where nft points at a place, that place; else what it says, such as `Message too long`.
fn reason(complaints: &[Complaint], stderr: &str) -> String {
    match (complaints.first(), stderr.lines().find(|line| !line.trim().is_empty())) {
        (Some(first), _) => format!(" at {first}"),
        (None, Some(line)) => format!(": {}", line.trim()),
        (None, None) => String::new(),
    }
}

/// One error that nft printed, with the place in the text that it points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// From 1.
    pub line: usize,
    /// First and last column, from 1, in bytes.
    pub columns: (usize, usize),
    pub message: String,
    /// The whole line.
    pub text: String,
    /// What of the line nft points at.
    pub excerpt: String,
}

impl std::fmt::Display for Complaint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}, `{}`: {}", self.line, self.excerpt, self.message)
    }
}

impl NftError {
    /// Whether a `delete element` failed because its element is not there: in a transaction that
    /// begins by deleting the elements of a timer, because the time is over.
    pub fn is_expired_element(&self) -> bool {
        let Self::Refused { complaints, .. } = self else { return false };
        complaints
            .iter()
            .any(|complaint| complaint.text.trim_start().starts_with("delete element") && complaint.is_absence())
    }
}

impl Complaint {
    fn is_absence(&self) -> bool {
        self.message.contains("No such file or directory")
    }

    /// What the kernel does not know, when that is what the complaint is about.
    fn missing_feature(&self) -> Option<&str> {
        // Expressions and statements that live in modules or behind options of their own, as nft
        // writes them (nft(8)). An absent table, chain, set or object is pointed at by its name.
        const OPTIONAL: &[&str] = &[
            "ct",
            "dup",
            "fib",
            "flow",
            "fwd",
            "ipsec",
            "jhash",
            "last",
            "limit",
            "log",
            "masquerade",
            "numgen",
            "osf",
            "queue",
            "quota",
            "redirect",
            "reject",
            "rt",
            "snat",
            "dnat",
            "socket",
            "symhash",
            "synproxy",
            "tproxy",
            "tunnel",
            "meta",
            "exthdr",
        ];
        const DECLARATIONS: &[&str] = &["ct timeout", "ct helper", "flowtable"];
        if self.message.contains("Operation not supported") || self.message.contains("Protocol not supported") {
            return Some(&self.excerpt);
        }
        let line = self.text.trim_start();
        let line = line.strip_prefix("add ").unwrap_or(line);
        let word = self.excerpt.split_whitespace().next().unwrap_or_default();
        if !self.is_absence() {
            None
        } else if let Some(declared) = DECLARATIONS.iter().find(|declared| line.starts_with(**declared)) {
            Some(declared)
        } else {
            OPTIONAL.iter().find(|optional| **optional == word).copied()
        }
    }
}

impl Nft {
    /// Finds nft in the directories of `path` (the variable PATH), then in /usr/sbin and /sbin, and
    /// asks for its version once.
    pub fn find(path: Option<&OsStr>) -> Result<Self, NftError> {
        let mut directories: Vec<PathBuf> = path.map(|path| std::env::split_paths(path).collect()).unwrap_or_default();
        directories.extend(["/usr/sbin".into(), "/sbin".into()]);
        Self::find_in(&directories)
    }

    /// Finds nft in these directories only.
    pub fn find_in(directories: &[PathBuf]) -> Result<Self, NftError> {
        let absolute = directories.iter().filter(|directory| directory.is_absolute());
        let program = absolute.map(|directory| directory.join("nft")).find(|file| file.is_file());
        let program = program.ok_or(NftError::Missing)?;
        let (_, output) = run(&program, &["--version"], "")?;
        let version = version(&output).ok_or(NftError::UnknownVersion)?;
        if version < OLDEST { Err(NftError::TooOld(version)) } else { Ok(Self { program, version }) }
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    pub fn version(&self) -> (u16, u16, u16) {
        self.version
    }

    /// Whether the kernel would take the text, as `nft --check` asks it: nothing is changed.
    pub fn check(&self, text: &str) -> Result<(), NftError> {
        self.pass(&["--check", "--file", "-"], text)
    }

    /// Loads the text as one transaction: all of it or, on an error, nothing.
    pub fn load(&self, text: &str) -> Result<(), NftError> {
        self.pass(&["--file", "-"], text)
    }

    fn pass(&self, arguments: &[&str], text: &str) -> Result<(), NftError> {
        match run(&self.program, arguments, text)? {
            (true, _) => Ok(()),
            (false, stderr) => Err(classify(stderr, text)),
        }
    }
}

/// Runs nft with `input`: whether it succeeded, and its output with its errors.
fn run(program: &Path, arguments: &[&str], input: &str) -> Result<(bool, String), NftError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => NftError::Missing,
        _ => NftError::Run { program: program.to_owned(), source },
    };
    let (mut output, writer) = io::pipe().map_err(failed)?;
    let mut command = Command::new(program);
    let errors = writer.try_clone().map_err(failed)?;
    // strerror(3) speaks the user's language otherwise.
    command.args(arguments).env("LC_ALL", "C").stdin(Stdio::piped()).stdout(writer).stderr(errors);
    let mut child = command.spawn().map_err(failed)?;
    // It holds the pipe's other end, without which the read below would not end.
    drop(command);
    let stdin = child.stdin.take();
    let mut bytes = Vec::new();
    let read = thread::scope(|scope| {
        scope.spawn(|| {
            // nft may give up before it has read everything; then its exit and words say why.
            stdin.map(|mut stdin| stdin.write_all(input.as_bytes()))
        });
        let read = (&mut output).take(MOST_OUTPUT).read_to_end(&mut bytes);
        read.and_then(|_| io::copy(&mut output, &mut io::sink()))
    });
    let status = child.wait().map_err(failed)?;
    read.map_err(failed)?;
    Ok((status.success(), String::from_utf8_lossy(&bytes).into_owned()))
}

/// `nftables v1.0.6 (Lester Gooch #5)`, or v1.1 without a third number.
fn version(output: &str) -> Option<(u16, u16, u16)> {
    let (_, rest) = output.split_once('v')?;
    let end = rest.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(rest.len());
    let mut numbers = rest[..end].split('.').map(str::parse);
    let mut number = || numbers.next().unwrap_or(Ok(0)).ok();
    Some((number()?, number()?, number()?))
}

fn classify(stderr: String, text: &str) -> NftError {
    let complaints = complaints(&stderr, text);
    // What says nothing about a line is about nft's own socket or cache.
    let said = |words: &str| match complaints.as_slice() {
        [] => stderr.contains(words),
        complaints => complaints.iter().any(|complaint| complaint.message.contains(words)),
    };
    if said("Operation not permitted") || said("you must be root") {
        return NftError::Permission;
    }
    if complaints.is_empty() && (said("Protocol not supported") || said("Unable to initialize Netlink socket")) {
        return NftError::MissingFeature { feature: "nf_tables".to_owned(), stderr };
    }
    if let Some(feature) = complaints.iter().find_map(Complaint::missing_feature) {
        return NftError::MissingFeature { feature: feature.to_owned(), stderr };
    }
    NftError::Refused { complaints, stderr }
}

/// Reads `/dev/stdin:1:31-36: Error: message` lines; columns count bytes.
fn complaints(stderr: &str, text: &str) -> Vec<Complaint> {
    let lines: Vec<&str> = text.lines().collect();
    let read = |line: &str| {
        let (place, message) = line.split_once(": Error: ")?;
        let mut fields = place.rsplitn(3, ':');
        let (first, last) = fields.next()?.split_once('-')?;
        let columns: (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        let number: usize = fields.next()?.parse().ok()?;
        let text = lines.get(number.checked_sub(1)?).copied().unwrap_or_default();
        // nft counts one column more than there is where it points past the end.
        let last = usize::min(columns.1, text.len());
        let excerpt = text.get(usize::min(columns.0.saturating_sub(1), last)..last).unwrap_or(text);
        Some(Complaint {
            line: number,
            columns,
            message: message.to_owned(),
            text: text.to_owned(),
            excerpt: excerpt.trim_end_matches([';', ' ']).to_owned(),
        })
    };
    stderr.lines().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_are_read() {
        let cases = [
            ("nftables v1.0.6 (Lester Gooch #5)\n", Some((1, 0, 6))),
            ("nftables v0.9.8 (E.D.S.)\n", Some((0, 9, 8))),
            ("nftables v1.1\n", Some((1, 1, 0))),
            ("nftables\n", None),
            ("", None),
        ];
        for (output, expected) in cases {
            assert_eq!(version(output), expected, "{output}");
        }
    }

    #[test]
    fn what_nft_says_is_told_apart() {
        let no_root = classify(
            "/dev/stdin:1:1-17: Error: Could not process rule: Operation not permitted\n".into(),
            "add table inet x\n",
        );
        assert!(matches!(no_root, NftError::Permission));
        let no_cache = classify("netlink: Error: cache initialization failed: Operation not permitted\n".into(), "");
        assert!(matches!(no_cache, NftError::Permission));
        let no_nftables = classify("Unable to initialize Netlink socket: Protocol not supported\n".into(), "");
        assert!(matches!(no_nftables, NftError::MissingFeature { feature, .. } if feature == "nf_tables"));
        let stderr = "/dev/stdin:2:1-70: Error: Could not process rule: No such file or directory\n";
        let no_flowtable =
            classify(stderr.into(), "add table inet x\nadd flowtable inet x y { hook ingress priority 0; }\n");
        assert!(matches!(no_flowtable, NftError::MissingFeature { feature, .. } if feature == "flowtable"));
        let stderr = "/dev/stdin:1:31-36: Error: Could not process rule: No such file or directory\n";
        let no_chain = classify(stderr.into(), "table inet x { chain y { goto nosuch; }; }\n");
        assert_eq!(
            no_chain.to_string(),
            "nft refused the text at line 1, `nosuch`: Could not process rule: No such file or directory"
        );
        assert!(!no_chain.is_expired_element());
    }

    proptest! {
        #[test]
        fn whatever_nft_prints_is_read(stderr in "(.{0,20}:)?[0-9]{0,4}:[0-9]{0,3}-[0-9]{0,20}: Error: .{0,20}\n.*", text in "(.{0,12}\n){0,5}") {
            let _ = classify(stderr, &text).to_string();
        }

        #[test]
        fn whatever_the_version_says_is_read(output in ".{0,40}") {
            let _ = version(&output);
        }
    }
}
