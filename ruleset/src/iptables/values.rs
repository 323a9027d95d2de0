//! What stands behind options: addresses, ports, numbers, each as a set. `None` is no such value.

use std::net::{Ipv4Addr, Ipv6Addr};

use ringwall_packet::{Address, Interval, IntervalSet};

pub(super) use crate::tables::of_variable;

/// A family of addresses, by its bits.
pub(super) trait Version: Address + std::str::FromStr {
    /// Of an address.
    const BITS: u32;
    fn of_bits(bits: u128) -> Option<Self>;
}

impl Version for Ipv4Addr {
    const BITS: u32 = 32;
    fn of_bits(bits: u128) -> Option<Self> {
        u32::try_from(bits).ok().map(Self::from_bits)
    }
}

impl Version for Ipv6Addr {
    const BITS: u32 = 128;
    fn of_bits(bits: u128) -> Option<Self> {
        Some(Self::from_bits(bits))
    }
}

/// More holes in a mask than this are too many intervals.
const MASK_HOLES: u32 = 16;

/// `ADDRESS`, `ADDRESS/LENGTH` or `ADDRESS/MASK`; bits outside the mask count for nothing, as for the
/// kernel. Several with commas between are all of them.
pub(super) fn addresses<A: Version>(text: &str) -> Option<IntervalSet<A>> {
    if text.contains(',') {
        let sets: Option<Vec<_>> = text.split(',').map(prefix::<A>).collect();
        return Some(sets?.iter().flat_map(|set| set.intervals().iter().copied()).collect());
    }
    prefix(text)
}

fn prefix<A: Version>(text: &str) -> Option<IntervalSet<A>> {
    let all = u128::MAX >> (128 - A::BITS);
    let (address, mask) = text.split_once('/').unwrap_or((text, ""));
    let address = address.parse::<A>().ok()?.bits();
    let mask = match mask {
        "" if !text.contains('/') => all,
        mask => match mask.parse::<u32>() {
            Ok(length) if length <= A::BITS => all & !all.checked_shr(length).unwrap_or(0),
            Ok(_) => return None,
            Err(_) => mask.parse::<A>().ok()?.bits(),
        },
    };
    // The last bits that do not count make an interval, and each other one doubles the number of them.
    let width = (!mask & all).trailing_ones();
    let low = u128::MAX.checked_shr(128 - width).unwrap_or(0);
    let holes = all & !mask & !low;
    if holes.count_ones() > MASK_HOLES {
        return None;
    }
    let mut firsts = vec![address & mask];
    for bit in (0..A::BITS).map(|bit| 1u128 << bit).filter(|bit| holes & bit != 0) {
        firsts.extend(firsts.clone().into_iter().map(|first| first | bit));
    }
    let interval = |first: u128| Interval::new(A::of_bits(first)?, A::of_bits(first | low)?);
    firsts.into_iter().map(interval).collect()
}

/// `FIRST-LAST`, or one address.
pub(super) fn range<A: Version>(text: &str) -> Option<IntervalSet<A>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(Interval::new(first.parse().ok()?, last.parse().ok()?)?.into())
}

/// `80`, `80:90`, `:90`, `80:`; several with commas between.
pub(super) fn ports(text: &str) -> Option<IntervalSet<u16>> {
    text.split(',').map(port_range).collect()
}

fn port_range(text: &str) -> Option<Interval<u16>> {
    let (first, last) = match text.split_once(':') {
        None => (text.parse().ok()?, text.parse().ok()?),
        Some((first, last)) => {
            let first = if first.is_empty() { u16::MIN } else { first.parse().ok()? };
            (first, if last.is_empty() { u16::MAX } else { last.parse().ok()? })
        }
    };
    Interval::new(first, last)
}

/// `5`, `0x5`, `010`, as strtoul reads them.
pub(super) fn number(text: &str) -> Option<u32> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u32::from_str_radix(digits, 16).ok();
    }
    if text.len() > 1 && text.starts_with('0') {
        return u32::from_str_radix(text, 8).ok();
    }
    text.parse().ok()
}

/// `2027-06-30T23:59:59` or a part of it, in UTC: seconds since the epoch (xt_time; ISO 8601).
pub(super) fn time(text: &str) -> Option<u64> {
    let (date, time) = text.split_once('T').unwrap_or((text, "0"));
    let mut date = date.split('-');
    let mut part = |default: i64| date.next().map_or(Some(default), |part| part.parse::<i64>().ok());
    let (year, month, day) = (part(1970)?, part(1)?, part(1)?);
    if date.next().is_some() || !(1970..=2038).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let mut time = time.split(':');
    let mut part = |max: u64| time.next().map_or(Some(0), |part| part.parse::<u64>().ok().filter(|part| *part <= max));
    let seconds = part(23)? * 3600 + part(59)? * 60 + part(59)?;
    if time.next().is_some() {
        return None;
    }
    u64::try_from(days(year, month, day) * 86_400).ok()?.checked_add(seconds)
}

/// Days from 1970-01-01 to a day of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March have their leap day at the end.
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(text: &str) -> Vec<(String, String)> {
        let set = addresses::<Ipv4Addr>(text).unwrap_or_default();
        set.intervals().iter().map(|i| (i.first().to_string(), i.last().to_string())).collect()
    }

    #[test]
    fn masks_have_holes_and_prefixes_host_bits() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(v4("10.1.2.3/8"), [pair("10.0.0.0", "10.255.255.255")]);
        assert_eq!(v4("0.0.0.0/0"), [pair("0.0.0.0", "255.255.255.255")]);
        assert_eq!(v4("10.1.2.3/255.255.255.254"), [pair("10.1.2.2", "10.1.2.3")]);
        assert_eq!(v4("10.0.2.0/255.0.255.0").len(), 256);
        assert_eq!(v4("10.0.2.0/17.17.17.17"), [], "too many holes");
        assert_eq!(v4("10.0.0.0/33"), []);
        assert_eq!(v4("10.0.0.0/"), []);
        assert_eq!(addresses::<Ipv6Addr>("::/0").unwrap(), IntervalSet::full());
        assert_eq!(addresses::<Ipv6Addr>("2001:db8::1").unwrap().only(), "2001:db8::1".parse().ok());
    }

    #[test]
    fn times_are_in_utc() {
        assert_eq!(time("1970-01-01T00:00:01"), Some(1));
        assert_eq!(time("2026-11-01"), Some(crate::CLOCK_MIN));
        assert_eq!(time("2028-02-29T23:59:59"), Some(1_835_481_599));
        assert_eq!(time("2027-13-01"), None);
    }

    #[test]
    fn numbers_are_those_of_strtoul() {
        assert_eq!([number("16"), number("0x10"), number("020"), number("x")], [Some(16), Some(16), Some(16), None]);
    }
}
