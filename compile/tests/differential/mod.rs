//! The compiler against the kernel: a slice of the campaign that `cargo run --release -p
//! ringwall-compile --example differential` runs at length.
//!
//! `RINGWALL_SEED=N` runs the policies from that seed on instead, to repeat what a report names.

mod campaign;

use std::time::{SystemTime, UNIX_EPOCH};

const SEEDS: [u64; 2] = [1, 1_000_001];
const FLOWS: usize = 10_000;

#[test]
fn every_protocol_and_every_icmp_type_is_tracked_as_the_model_says() {
    let tally = campaign::every_kind(0).unwrap();
    assert!(tally.disagreements.is_empty(), "{}", tally.disagreements.join("\n"));
    assert!(tally.flows > 900, "{tally}");
}

#[test]
fn keys_of_every_set_and_map_are_disjoint() {
    let (overlaps, looked_at) = campaign::overlaps(0..40, 2_000_000_000);
    assert!(overlaps.is_empty(), "{}", overlaps.join("\n"));
    assert!(looked_at > 1_000, "only {looked_at} sets and maps");
}

#[test]
fn model_and_kernel_agree_about_iptables() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let tally = campaign::iptables(FLOWS, 1, now).unwrap();
    println!("{tally}");
    assert!(tally.disagreements.is_empty(), "{}\n{tally}", tally.disagreements.join("\n"));
    assert!(tally.nodes > 15, "too few texts to mean much: {tally}");
    assert!(tally.accepted * 100 >= tally.flows * 25, "too few accepted to mean much: {tally}");
    assert!(tally.on_boundary * 100 >= tally.flows * 50, "too few on boundaries to mean much: {tally}");
}

#[test]
fn model_and_kernel_agree() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seeds = match std::env::var("RINGWALL_SEED") {
        Ok(seed) => vec![seed.parse().expect("RINGWALL_SEED is a number")],
        Err(_) => SEEDS.to_vec(),
    };
    for seed in seeds {
        let tally = campaign::campaign(FLOWS, seed, now).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        println!("{tally}");
        assert!(tally.disagreements.is_empty(), "{}\n{tally}", tally.disagreements.join("\n"));
        if std::env::var_os("RINGWALL_SEED").is_some() {
            continue;
        }
        assert!(tally.accepted * 100 >= tally.flows * 30, "too few accepted to mean much: {tally}");
        assert!(tally.on_boundary * 100 >= tally.flows * 50, "too few on boundaries to mean much: {tally}");
        assert!(tally.replies > 0 && tally.icmp_errors > 0, "no sequences of states: {tally}");
    }
}
