//! Names, numbers and digests: one type for each, so that none is taken for another.
//!
//! In: random bytes, text, bytes. Out: a value that is well formed. Never: a source of randomness.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// A text that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}")]
pub struct Malformed {
    pub what: &'static str,
    pub text: String,
}

impl Malformed {
    /// What is shown of a text is bounded, since it comes from outside.
    pub(crate) fn new(what: &'static str, text: &str) -> Self {
        Self { what, text: text.chars().take(80).collect() }
    }
}

macro_rules! uuids {
    ($($(#[$doc:meta])* $name:ident, $what:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A version 4 UUID (RFC 9562, 5.4) of these random bytes.
            pub fn new(random: [u8; 16]) -> Self {
                Self(uuid::Builder::from_random_bytes(random).into_uuid())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = Malformed;

            /// Only the form that is written: lower case, with hyphens.
            fn from_str(text: &str) -> Result<Self, Malformed> {
                let id = Uuid::try_parse(text).map(Self).map_err(|_| Malformed::new($what, text))?;
                if id.to_string() == text { Ok(id) } else { Err(Malformed::new($what, text)) }
            }
        }
    )*};
}

uuids! {
    /// A fleet; the trust domain of its names.
    FleetId, "a fleet's id";
    /// An agent, for as long as its enrolment lasts.
    AgentId, "an agent's id";
    /// A token for enrolment; not its secret.
    TokenId, "a token's id";
    /// A key to the API; not its secret.
    AccessId, "an API token's id";
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $what:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(ringwall_policy::Name);

        impl $name {
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }

            /// The policy's word for it.
            pub fn name(&self) -> &ringwall_policy::Name {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = Malformed;

            fn from_str(text: &str) -> Result<Self, Malformed> {
                ringwall_policy::Name::new(text).map(Self).ok_or_else(|| Malformed::new($what, text))
            }
        }

        impl TryFrom<String> for $name {
            type Error = Malformed;

            fn try_from(text: String) -> Result<Self, Malformed> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }
    )*};
}

names! {
    /// A node, as the policy names it.
    NodeName, "a node's name";
    SiteName, "a site's name";
    LabelName, "a label's name";
    /// A list of addresses that all nodes share.
    ListName, "a list's name";
    /// A setting of a node.
    SettingName, "a setting's name";
}

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            pub fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

numbers! {
    /// A revision of the policy; the first is 1, and no number is used twice in an epoch.
    RevisionNumber;
    /// What one node was given; the first is 1, and it only rises within an epoch.
    AssignmentNumber;
    RolloutNumber;
    /// 0 is before the first event.
    EventNumber;
    /// 0 is before the first entry.
    AuditNumber;
    /// Of the store: rises with each restore from a backup, never falls.
    Epoch;
}

/// A SHA-256 digest (FIPS 180-4); written as 64 hexadecimal digits in lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let malformed = || Malformed::new("a SHA-256 digest", text);
        let lower = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !lower {
            return Err(malformed());
        }
        let mut digest = [0; 32];
        for (index, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| malformed())?;
        }
        Ok(Self(digest))
    }
}

impl TryFrom<String> for Digest {
    type Error = Malformed;

    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        let id = AgentId::new([0xab; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(id.to_string().to_uppercase().parse::<AgentId>().is_err());
        assert!("{abababab-abab-4bab-abab-abababababab}".parse::<AgentId>().is_err());
        let digest = Digest::of(b"");
        assert_eq!(digest.to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("é".repeat(32).parse::<Digest>().is_err());
        assert!("../../etc".parse::<NodeName>().is_err());
    }
}
