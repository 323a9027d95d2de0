//! The machine's clock and its source of randomness: what everything else here takes as arguments.
//!
//! In: nothing. Out: the time, random bytes. Never: called but by a program or a test that hands them on.

use std::time::{SystemTime, UNIX_EPOCH};

use ring::rand::SecureRandom as _;

use crate::time::Time;

pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_millisecond(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Fills from the system's source.
///
/// # Panics
///
/// Only where the kernel has no random source at all.
pub fn fill(bytes: &mut [u8]) {
    ring::rand::SystemRandom::new().fill(bytes).expect("the system's random source");
}

pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}
