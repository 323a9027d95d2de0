//! A whole fleet in one process: the controller's core and its store, many reconcilers, the protocol's own bytes between
//! them; machines, network and clocks are models, with faults at any moment.
//!
//! A history is made from a seed alone. `RINGWALL_SEED=N` repeats one and tells it, `RINGWALL_SEEDS=N` runs so many.

#[path = "../../../node/tests/reconciler/checks.rs"]
mod checks;
mod controller;
mod faults;
mod judge;
#[path = "../../../node/tests/reconciler/machine.rs"]
mod machine;
mod network;
mod node;
mod policy;
#[path = "../../../node/tests/reconciler/random.rs"]
mod random;
mod shell;
mod world;

use world::{Lie, Tally, World};

/// In the ordinary test run: some seconds.
const SEEDS: u64 = 80;

fn variable(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().expect("a number"))
}

/// Most fleets are small, and one in a hundred has hundreds of nodes.
fn size(seed: u64) -> usize {
    let size = match seed % 100 {
        79 => 100 + seed / 100 % 3 * 100,
        _ => 2 + seed % 19,
    };
    usize::try_from(size).expect("a small number")
}

#[test]
fn no_history_of_a_fleet_breaks_what_must_always_hold() {
    if let Some(seed) = variable("RINGWALL_SEED") {
        let (trace, tally, took) = World::new(seed, size(seed), None).run();
        println!("{trace:x}, well after {} s: {tally:?}", took / 1000);
        return;
    }
    let (mut tally, mut slowest) = (Tally::default(), (0, 0));
    for seed in 0..variable("RINGWALL_SEEDS").unwrap_or(SEEDS) {
        let run = std::panic::catch_unwind(|| World::new(seed, size(seed), None).run());
        let (_, happened, took) = run.unwrap_or_else(|_| panic!("history {seed}: repeat it with RINGWALL_SEED={seed}"));
        tally.add(&happened);
        slowest = slowest.max((took, seed));
    }
    println!("well after {} s at most (seed {}): {tally:?}", slowest.0 / 1000, slowest.1);
    // A check that is never reached checks nothing.
    let all = [
        "broken", "clocks", "confirmed", "connected", "controller crashes", "crashes", "done", "enrolled", "fell", "full", "gone",
        "healed", "not kept", "partitions", "paused", "reboots", "refused", "reinstalled", "renewed", "revoked", "rolled back", "rollouts", "silent",
        "sleeps", "stopped",
    ];
    for what in all {
        assert!(tally.0.contains_key(what), "it never happened: {what}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1, 2, 3] {
        let run = || World::new(seed, size(seed), None).run().0;
        assert_eq!(run(), run(), "seed {seed}");
    }
    assert_ne!(World::new(1, 5, None).run().0, World::new(2, 5, None).run().0);
}

/// Each check fails for who gives it a reason.
#[test]
fn who_lies_is_found() {
    let lies = [
        (Lie::AnswersItself, "without an answer over a new connection"),
        (Lie::ConfirmsNothing, "is called confirmed, and was never enforced"),
        (Lie::ArmsNothing, "outlives its window"),
        (Lie::LoadsAnother, "enforces what it was never assigned"),
        (Lie::HealsWithTheFirst, "an older assignment than the confirmed one is enforced"),
        (Lie::OpensAtItsEnd, "once enforced, nothing is enforced"),
        (Lie::AlwaysYes, "and the controller has not said yes"),
        (Lie::Deaf, "does not become well"),
        (Lie::Boasts, "is called confirmed, and was never enforced"),
        (Lie::Forgets, "and None is durable"),
    ];
    for (lie, found) in lies {
        let said = (0..20).find_map(|seed| std::panic::catch_unwind(|| World::new(seed, 4, Some(lie)).run()).err());
        let said = said.unwrap_or_else(|| panic!("{lie:?} was not found"));
        let said = said.downcast_ref::<String>().map_or_else(|| said.downcast_ref::<&str>().copied().unwrap_or_default(), String::as_str);
        assert!(said.contains(found), "{lie:?} was found as: {said}");
    }
}
