//! A point in time, as it is kept: whole milliseconds, UTC.
//!
//! In: a timestamp, or milliseconds. Out: RFC 3339 text, differences. Never: a clock.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Rounded down to a millisecond, so that what was written is what is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Timestamp", into = "Timestamp")]
pub struct Time(i64);

impl Time {
    /// Since 1970-01-01T00:00:00Z; what no calendar has becomes its first or last moment.
    pub fn from_millisecond(milliseconds: i64) -> Self {
        Self(milliseconds.clamp(Timestamp::MIN.as_millisecond(), Timestamp::MAX.as_millisecond()))
    }

    pub fn as_millisecond(self) -> i64 {
        self.0
    }

    /// Seconds, rounded down.
    pub fn as_second(self) -> i64 {
        self.0.div_euclid(1000)
    }

    pub fn after(self, duration: Duration) -> Self {
        Self::from_millisecond(self.0.saturating_add(milliseconds(duration)))
    }

    pub fn before(self, duration: Duration) -> Self {
        Self::from_millisecond(self.0.saturating_sub(milliseconds(duration)))
    }

    /// Zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl From<Timestamp> for Time {
    fn from(timestamp: Timestamp) -> Self {
        // `as_millisecond` rounds towards zero.
        let nanoseconds = timestamp.as_nanosecond().div_euclid(1_000_000);
        Self::from_millisecond(i64::try_from(nanoseconds).unwrap_or(0))
    }
}

impl From<Time> for Timestamp {
    fn from(time: Time) -> Self {
        Timestamp::from_millisecond(time.0).unwrap_or(Timestamp::MAX)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Timestamp::from(*self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        for text in ["2027-06-30T12:00:00.123Z", "1969-12-31T23:59:59.999Z", "-009999-01-02T01:59:59Z"] {
            let time = Time::from(text.parse::<Timestamp>().expect("a time"));
            assert_eq!(time.to_string(), text);
            let json = serde_json::to_string(&time).expect("JSON");
            assert_eq!(serde_json::from_str::<Time>(&json).expect("a time"), time);
        }
        let fine: Timestamp = "1969-12-31T23:59:59.9999Z".parse().expect("a time");
        assert_eq!(Time::from(fine).as_millisecond(), -1);
        assert_eq!(Time::from_millisecond(i64::MAX).after(Duration::MAX).to_string(), Time::from_millisecond(i64::MAX).to_string());
    }
}
