//! Every protocol number and every ICMP type once, where the campaign meets them by chance.

use std::collections::HashSet;

use ringwall_packet::{Flow, Protocol, Upper};
use ringwall_ruleset::Path;
use ringwall_ruleset::nftables::{Confirm, Generation};

use super::oracle::Blocks;
use super::packets::{Packet, is_judged};
use super::policies::case;
use super::random::Random;
use super::run::{Run, Tally};
use super::testbed::{Result, Testbed, start};

/// Every type of ICMP and ICMPv6, every protocol: what conntrack takes each for.
pub fn every_kind(now: u64) -> Result<Tally> {
    let lab = start()?;
    let mut testbed = Testbed::new(&lab, 0)?;
    let mut random = Random::new(0);
    let mut case = case(&mut random, now);
    // Nothing is allowed, so that what is not invalid or untracked is the default's.
    case.policy.rules.clear();
    case.policy.management = None;
    let (mut tally, world) = (Tally::default(), testbed.world.clone());
    let mut run = Run {
        testbed: &mut testbed, random: &mut random, tally: &mut tally, seed: 0, now,
        blocks: Blocks::default(), taken: HashSet::new(),
    };
    let loaded = run.loaded(&case, Generation(1), &[])?;
    run.load(&loaded, Confirm::Never)?;
    let ends = [["198.51.100.1", "192.0.2.1"], ["2001:db8:1::1", "2001:db8::1"]];
    for [from, to] in ends {
        let flow = |upper| Flow::new(from.parse().ok()?, to.parse().ok()?, upper);
        let kinds = (0..=255).filter_map(|kind| flow(Upper::Icmp { kind, code: 0 }));
        let protocols = (0..=255).filter_map(|number| flow(Upper::other(Protocol(number))?));
        let packets: Vec<Packet> = kinds
            .chain(protocols)
            .filter(is_judged)
            .map(|flow| Packet { payload: vec![0; 8], ..Packet::new(Path::Input, flow, &world) })
            .collect();
        run.compare(&loaded, &packets)?;
    }
    Ok(tally)
}
