//! The reconciler against a small model of kernel, disk, network and controller, with faults at any moment.
//!
//! A history is made from a seed alone. `RINGWALL_SEED=N` repeats one, `RINGWALL_HISTORIES=N` runs so many.

mod checks;
mod machine;
mod random;
mod stories;
mod world;

use world::{Tally, World};

/// In the ordinary test run: some seconds.
const HISTORIES: u64 = 2_000;

fn variable(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().expect("a number"))
}

#[test]
fn no_history_breaks_what_must_always_hold() {
    if let Some(seed) = variable("RINGWALL_SEED") {
        println!("{:?}", World::new(seed).run());
        return;
    }
    let mut tally = Tally::default();
    for seed in 0..variable("RINGWALL_HISTORIES").unwrap_or(HISTORIES) {
        tally += std::panic::catch_unwind(|| World::new(seed).run())
            .unwrap_or_else(|_| panic!("history {seed}: repeat it with RINGWALL_SEED={seed}"));
    }
    println!("{tally:?}");
    // A check that is never reached checks nothing.
    tally.assert_all_happened();
}
