//! A duration as people write it: `90s`, `15m`, `4h`, `7d`.
//!
//! In: a number and its unit. Out: the same. Never: a fraction, a sum of units, more than a hundred years.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A duration: a whole number with `s`, `m`, `h` or `d` behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[0-9]+[smhd]$", example = "15m")]
pub struct Span(Duration);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration such as `90s`, `15m`, `4h` or `7d`, of at most 36500 days")]
pub struct NoSpan(String);

/// The longest first.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];
const SECONDS_MAX: u64 = 36_500 * 86_400;

impl Span {
    pub fn duration(self) -> Duration {
        self.0
    }

    /// Whole seconds; no more than the longest.
    pub fn of(duration: Duration) -> Self {
        Self(Duration::from_secs(duration.as_secs().min(SECONDS_MAX)))
    }
}

impl FromStr for Span {
    type Err = NoSpan;

    fn from_str(text: &str) -> Result<Self, NoSpan> {
        let no_span = || NoSpan(text.chars().take(80).collect());
        let (_, unit) = UNITS.iter().find(|(letter, _)| text.ends_with(*letter)).ok_or_else(no_span)?;
        let digits = &text[..text.len() - 1];
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(no_span());
        }
        let seconds = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(*unit));
        let seconds = seconds.filter(|seconds| *seconds <= SECONDS_MAX).ok_or_else(no_span)?;
        Ok(Self(Duration::from_secs(seconds)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let fits = |(_, unit): &&(char, u64)| seconds >= *unit && seconds.is_multiple_of(*unit);
        let (letter, unit) = UNITS.iter().find(fits).unwrap_or(&('s', 1));
        write!(f, "{}{letter}", seconds / unit)
    }
}

impl TryFrom<String> for Span {
    type Error = NoSpan;

    fn try_from(text: String) -> Result<Self, NoSpan> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        for text in ["0s", "90s", "15m", "4h", "7d", "36500d"] {
            assert_eq!(text.parse::<Span>().map(|span| span.to_string()).as_deref(), Ok(text));
        }
        assert_eq!("60s".parse::<Span>().expect("a span").to_string(), "1m");
        for text in ["", "s", "15", "-1m", "+1m", "1.5h", "1h30m", "36501d", "99999999999999999999d", "1é", "é", " 1s"] {
            text.parse::<Span>().expect_err(text);
        }
    }
}
