//! Revisions of the policy: what was committed, once and for ever.
//!
//! In: files and values, with author and message. Out: the same under a number, and the digest of
//! the content. Never: an edit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{Digest, RevisionNumber};
use crate::time::Time;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Path within the policy's folder -> text.
    pub files: BTreeMap<String, String>,
    /// Name without `$` -> what it is bound to.
    pub values: BTreeMap<String, String>,
}

/// Files of a revision, and values of one.
const NAMES_MAX: usize = 1_000;

impl Content {
    /// What it can't be, if it can't: the names alone, since what the texts say is the policy's to judge.
    pub fn check(&self) -> Result<(), String> {
        let Self { files, values } = self;
        if files.is_empty() {
            return Err("a revision has at least one file".into());
        }
        if files.len() > NAMES_MAX || values.len() > NAMES_MAX {
            return Err(format!("a revision has at most {NAMES_MAX} files and as many values"));
        }
        for name in files.keys() {
            let is_plain = name.len() <= 255 && !name.starts_with('.') && !name.chars().any(|c| c.is_control() || matches!(c, '/' | '\\'));
            if !is_plain || !name.ends_with(".yaml") {
                let shown: String = name.chars().take(80).collect();
                return Err(format!("`{shown}` is not the name of a policy's file: it ends in .yaml and stands in no folder"));
            }
        }
        let is_value = |name: &String| {
            (1..=100).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        match values.keys().find(|name| !is_value(name)) {
            Some(name) => Err(format!("`{}` is not the name of a value: letters, digits and `_`, without `$`", name.chars().take(80).collect::<String>())),
            None => Ok(()),
        }
    }

    /// Of all names and texts, each with its length before it, so that no two contents are one.
    pub fn digest(&self) -> Digest {
        let mut bytes = Vec::new();
        for map in [&self.files, &self.values] {
            bytes.extend((map.len() as u64).to_be_bytes());
            for text in map.iter().flat_map(|(name, text)| [name, text]) {
                bytes.extend((text.len() as u64).to_be_bytes());
                bytes.extend(text.as_bytes());
            }
        }
        Digest::of(&bytes)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    Cli,
    Api,
    /// The commit's id.
    Git(String),
}

/// What somebody commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRevision {
    pub content: Content,
    pub author: String,
    pub message: String,
    pub source: Source,
}

/// A revision without its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    pub number: RevisionNumber,
    pub content: Digest,
    pub author: String,
    pub message: String,
    pub source: Source,
    pub created: Time,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_content_has_its_digest() {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let contents = [
            Content::default(),
            Content { files: map(&[("a", "bc")]), values: map(&[]) },
            Content { files: map(&[("ab", "c")]), values: map(&[]) },
            Content { files: map(&[]), values: map(&[("a", "bc")]) },
            Content { files: map(&[("a", "b"), ("c", "d")]), values: map(&[]) },
            Content { files: map(&[("a", "b")]), values: map(&[("c", "d")]) },
        ];
        let digests: std::collections::BTreeSet<_> = contents.iter().map(Content::digest).collect();
        assert_eq!(digests.len(), contents.len());
    }
}
