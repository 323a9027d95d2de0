//! What an answer says that is not what was asked for (RFC 9457).
//!
//! In: a code, a sentence. Out: a problem. Never: why a key is not accepted.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why something was not done, as `application/problem+json` (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: `code` says which problem it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The status of the answer.
    pub status: u16,
    /// What is wrong with this request, for a person.
    pub detail: String,
    /// What is wrong, for a program.
    pub code: Code,
}

/// What is wrong, for a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request can't be read, or a part of it is not what it should be.
    Malformed,
    /// The body is larger than is taken.
    TooLarge,
    /// The body is not `application/json`.
    NotJson,
    /// No key, or one that is not accepted; the controller's log says why.
    NoKey,
    /// The key does not have the scope that this needs.
    NoScope,
    /// There is no such thing.
    Missing,
    /// This address takes no such method.
    Method,
    /// There is one of this name, address or number already.
    Taken,
    /// What is there is in a state that does not allow this.
    State,
    /// A rollout is under way.
    RolloutActive,
    /// All nodes have this revision already.
    Nothing,
    /// The internet would reach more than it does; who means that says so.
    Exposes,
    /// The policy of the revision is not right; the detail has all its diagnostics.
    Policy,
    /// Too many ask at once, or the store is busy.
    Busy,
    /// The disk is full, or the store can't be written.
    Store,
    /// It took too long; whether it was done is for the asker to see.
    TimedOut,
    /// A fault of the controller's; its log says more.
    Internal,
}

impl Code {
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::NoKey => 401,
            Self::NoScope => 403,
            Self::Missing => 404,
            Self::Method => 405,
            Self::Taken | Self::State | Self::RolloutActive | Self::Nothing | Self::Exposes => 409,
            Self::TooLarge => 413,
            Self::NotJson => 415,
            Self::Policy => 422,
            Self::Internal => 500,
            Self::Busy | Self::Store => 503,
            Self::TimedOut => 504,
        }
    }

    /// The status in words (RFC 9110, section 15).
    fn title(self) -> &'static str {
        match self.status() {
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            409 => "Conflict",
            413 => "Content Too Large",
            415 => "Unsupported Media Type",
            422 => "Unprocessable Content",
            503 => "Service Unavailable",
            504 => "Gateway Timeout",
            _ => "Internal Server Error",
        }
    }
}

impl Problem {
    pub const CONTENT_TYPE: &str = "application/problem+json";

    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let (title, status) = (code.title().to_owned(), code.status());
        Self { kind: "about:blank".to_owned(), title, status, detail: detail.into(), code }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Problem {}
