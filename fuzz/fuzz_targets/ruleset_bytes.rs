//! Any bytes as a ruleset that came over the wire: refused, or the only way to write what they mean.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringwall_protocol::{decode_ruleset, encode_ruleset};

fuzz_target!(|bytes: &[u8]| {
    let bytes = bytes.to_vec().into();
    if let Ok(ruleset) = decode_ruleset(&bytes) {
        assert_eq!(encode_ruleset(&ruleset).0, bytes);
    }
});
