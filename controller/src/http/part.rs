//! The parts of a request: its path, its query, its body.
//!
//! In: what somebody sent. Out: values of the domain's types. Never: an answer that is not a problem, more of a text
//! than fits in a line.

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use ipnet::IpNet;
use ringwall_api::{Code, PAGE, PAGE_MAX};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use super::refused::Refused;
use crate::id::{LabelName, Malformed, SiteName};

pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let refused = |rejection: JsonRejection| {
            let code = match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge,
                StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::NotJson,
                _ => Code::Malformed,
            };
            Refused::new(code, short(&rejection.body_text()))
        };
        axum::Json::from_request(request, state).await.map(|axum::Json(value)| Self(value)).map_err(refused)
    }
}

impl<T: serde::Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        query.map(|axum::extract::Query(value)| Self(value)).map_err(|rejection| Refused::malformed(short(&rejection.body_text())))
    }
}

/// Texts of the path; each is judged by the type of what it names.
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let path = axum::extract::Path::from_request_parts(parts, state).await;
        path.map(|axum::extract::Path(value)| Self(value)).map_err(|rejection| Refused::malformed(short(&rejection.body_text())))
    }
}

/// Newest first.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Before {
    /// Only what has a smaller number.
    pub before: Option<u64>,
    /// At most so many, 1 to 1000; 100 when it is not there.
    pub limit: Option<u32>,
}

/// Oldest first.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct After {
    /// Only what has a greater number, from 0 on; without it, the newest.
    pub after: Option<u64>,
    /// At most so many, 1 to 1000; 100 when it is not there.
    pub limit: Option<u32>,
}

pub fn limit(asked: Option<u32>) -> Result<u32, Refused> {
    let limit = asked.unwrap_or(PAGE);
    if (1..=PAGE_MAX).contains(&limit) { Ok(limit) } else { Err(Refused::malformed(format!("`limit` is from 1 to {PAGE_MAX}"))) }
}

/// A text that is kept and shown: of some length, and on one line.
pub fn text(what: &str, text: String, max: usize) -> Result<String, Refused> {
    let is_plain = !text.chars().any(char::is_control) && !text.trim().is_empty();
    if is_plain && text.chars().count() <= max {
        return Ok(text);
    }
    Err(Refused::malformed(format!("{what} has 1 to {max} characters, and is one line")))
}

pub fn site(text: Option<String>) -> Result<Option<SiteName>, Malformed> {
    text.map(|text| text.parse()).transpose()
}

/// Of one node.
const LABELS_MAX: usize = 64;
const LABEL_MAX: usize = 200;
const PREFIXES_MAX: usize = 256;

pub fn labels(labels: std::collections::BTreeMap<String, String>) -> Result<std::collections::BTreeMap<LabelName, String>, Refused> {
    if labels.len() > LABELS_MAX {
        return Err(Refused::malformed(format!("a node has at most {LABELS_MAX} labels")));
    }
    labels.into_iter().map(|(name, value)| Ok((name.parse()?, self::text(&format!("the label `{name}`"), value, LABEL_MAX)?))).collect()
}

pub fn location(location: Option<String>) -> Result<Option<String>, Refused> {
    location.map(|location| text("a location", location, LABEL_MAX)).transpose()
}

/// Host bits are a slip of the pen: what was meant is asked, not guessed.
pub fn prefixes(prefixes: Vec<String>) -> Result<Vec<IpNet>, Refused> {
    if prefixes.len() > PREFIXES_MAX {
        return Err(Refused::malformed(format!("a node has at most {PREFIXES_MAX} prefixes")));
    }
    let read = |text: &String| {
        let prefix: IpNet = text.parse().map_err(|_| Refused::malformed(format!("`{}` is not a prefix such as `192.0.2.0/24`", short(text))))?;
        if prefix.trunc() == prefix {
            return Ok(prefix);
        }
        Err(Refused::malformed(format!("`{prefix}` has host bits: the prefix is `{}`, the address alone `{}/{}`", prefix.trunc(), prefix.addr(), prefix.max_prefix_len())))
    };
    prefixes.iter().map(read).collect()
}

/// What is shown of a text from outside.
fn short(text: &str) -> String {
    text.chars().take(500).collect()
}
