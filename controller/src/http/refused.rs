//! Why something was not done, as an answer.
//!
//! In: the errors of the parts. Out: problems (RFC 9457). Never: what is wrong inside of the controller; its log says that.

use std::error::Error;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ringwall_api::{Code, Problem};

use crate::id::Malformed;
use crate::server::ControlError;
use crate::{rulesets, store};

#[derive(Debug)]
pub struct Refused(Problem);

impl Refused {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Problem::new(code, detail))
    }

    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(Code::Malformed, detail)
    }

    pub fn missing(kind: &str, key: impl std::fmt::Display) -> Self {
        Self::new(Code::Missing, format!("there is no {kind} `{key}`"))
    }

    pub fn internal(error: &dyn Error) -> Self {
        log(error);
        Self::new(Code::Internal, "a fault of the controller's; its log says more")
    }
}

/// Characters of all diagnostics of a policy: whoever wrote so many mistakes mends some of them first.
const DETAIL_MAX: usize = 200_000;

fn bounded(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(DETAIL_MAX) {
        text.truncate(at);
        text.push_str("\n… and more");
    }
    text
}

fn log(error: &dyn Error) {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    tracing::error!(error = text, "a request to the API was not done");
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_string(&self.0).unwrap_or_default();
        let mut answer = (status, [(header::CONTENT_TYPE, Problem::CONTENT_TYPE)], body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.0.code == Code::Busy {
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        answer
    }
}

impl From<Malformed> for Refused {
    fn from(malformed: Malformed) -> Self {
        Self::malformed(malformed.to_string())
    }
}

impl From<store::Error> for Refused {
    fn from(error: store::Error) -> Self {
        use store::Error;
        let code = match &error {
            Error::Missing { .. } => Code::Missing,
            Error::Taken { .. } | Error::NodeTaken { .. } | Error::AddressTaken { .. } => Code::Taken,
            Error::RolloutActive(_) => Code::RolloutActive,
            Error::Revoked(_) | Error::ForeignKey { .. } | Error::Token(_) | Error::Rollout(_) => Code::State,
            Error::Busy(_) => Code::Busy,
            Error::Full(_) | Error::ReadOnly(_) => Code::Store,
            _ => return Self::internal(&error),
        };
        if !error.is_refusal() {
            log(&error);
        }
        Self::new(code, error.to_string())
    }
}

impl From<ControlError> for Refused {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Policy(error @ rulesets::Error::Policy(_)) => Self::new(Code::Policy, bounded(error.to_string())),
            ControlError::Store(error) => error.into(),
            ControlError::Exposes { .. } => Self::new(Code::Exposes, bounded(error.to_string())),
            ControlError::NoRevision(_) => Self::new(Code::Missing, error.to_string()),
            ControlError::Nothing => Self::new(Code::Nothing, error.to_string()),
            ControlError::NoRollout => Self::new(Code::State, error.to_string()),
            ControlError::Ending => Self::new(Code::Busy, error.to_string()),
            error => Self::internal(&error),
        }
    }
}
