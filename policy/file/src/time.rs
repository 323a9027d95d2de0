//! Durations and dates as operators write them.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use ringwall_diagnostic::Diagnostic;

use crate::form::Word;

/// Seconds of `90s`, `15m`, `4h` or `7d`.
pub fn duration(word: &Word) -> Result<u32, Box<Diagnostic>> {
    let text = word.text.as_str();
    let bad = || Diagnostic::error("RW0110", format!("`{text}` is not a duration")).at(word.span, "");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    if !number.is_empty() && unit.is_empty() {
        let message = format!("`{text}` has no unit");
        let diagnostic = Diagnostic::error("RW0110", message).at(word.span, "seconds?");
        return Err(Box::new(diagnostic.fix(word.span, format!("{text}s"))));
    }
    let seconds: u32 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(Box::new(bad().help("write a whole number and `s`, `m`, `h` or `d`, such as `14400s` or `4h`"))),
    };
    match number.parse::<u32>().ok().and_then(|number| number.checked_mul(seconds)) {
        None | Some(0) => Err(Box::new(bad().help("it is at least one second and at most some 136 years"))),
        Some(seconds) => Ok(seconds),
    }
}

/// The first second after a day `2027-06-30` in UTC, since the epoch.
pub fn end_of_day(word: &Word) -> Result<u64, Box<Diagnostic>> {
    let bad = || {
        let diagnostic = Diagnostic::error("RW0111", format!("`{}` is not a date", word.text)).at(word.span, "");
        Box::new(diagnostic.help("a date is year, month and day, such as `2027-06-30`"))
    };
    // Jiff also takes times and other calendars' notations, which would be read otherwise than meant.
    if word.text.len() != 10 || !word.text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return Err(bad());
    }
    let date: Date = word.text.parse().map_err(|_| bad())?;
    let next = date.tomorrow().ok().and_then(|next| next.to_zoned(TimeZone::UTC).ok()).ok_or_else(bad)?;
    Ok(u64::try_from(next.timestamp().as_second()).unwrap_or(0))
}
