//! The same for the other target: random policies, cut down to what iptables can express, through the
//! real iptables-restore, and what the kernel does with random packets then.

use std::collections::HashSet;

use ringwall_packet::Family;
use ringwall_policy::Stage;
use ringwall_ruleset::Path;
use ringwall_ruleset::iptables::{Unwritten, write};
use ringwall_ruleset::nftables::Generation;

use super::oracle::{Blocks, Loaded};
use super::packets::{Packet, Packets};
use super::policies::{Case, case};
use super::random::Random;
use super::run::Tally;
use super::testbed::{Result, Testbed, start};

/// Fresh flows on each path of each node.
const BATCH: usize = 150;

/// Runs random policies from `seed` on, until there were at least `flows` flows.
pub fn iptables(flows: usize, seed: u64, now: u64) -> Result<Tally> {
    let lab = start()?;
    let mut testbeds = (0..3).map(|zone| Testbed::new(&lab, zone)).collect::<Result<Vec<_>>>()?;
    let mut tally = Tally { seed, ..Tally::default() };
    for seed in seed.. {
        if tally.flows >= flows || tally.disagreements.len() >= 5 {
            break;
        }
        let mut random = Random::new(seed);
        let case = expressible(case(&mut random, now));
        tally.policies += 1;
        for (zone, testbed) in testbeds.iter_mut().enumerate() {
            let name = format!("n{zone}");
            let Some(node) = case.policy.nodes.get(name.as_str()).cloned() else { continue };
            let (ruleset, _) = ringwall_compile::compile(&case.policy, &name)?;
            let texts = match write(&ruleset) {
                Ok(texts) => texts,
                Err(Unwritten::Refused(_)) => continue,
                Err(other) => return Err(format!("seed {seed}, node {name}: {other:?}").into()),
            };
            tally.nodes += 1;
            testbed.restore(texts.v4(), texts.v6())?;
            let loaded = Loaded { case: case.clone(), node, ruleset: ruleset.into_inner(), generation: Generation(1), fallen: Vec::new() };
            compare(testbed, &mut random, &loaded, now, seed, &mut tally)?;
        }
    }
    Ok(tally)
}

/// Without what is refused by name wherever it stands.
fn expressible(mut case: Case) -> Case {
    for rule in &mut case.policy.rules {
        rule.stage = Stage::Enforce;
        rule.session_timeout = None;
    }
    case.policy.rules.retain(|rule| rule.source.names.is_empty() && rule.destination.names.is_empty());
    for node in case.policy.nodes.values_mut() {
        node.stage = Stage::Enforce;
    }
    case
}

fn compare(testbed: &mut Testbed<'_>, random: &mut Random, loaded: &Loaded, now: u64, seed: u64, tally: &mut Tally) -> Result<()> {
    let world = testbed.world.clone();
    let make = Packets { case: &loaded.case, world: &world, addresses: loaded.node.local(), routes: loaded.node.routes.clone() };
    for path in Path::ALL {
        let mut tuples = HashSet::new();
        let packets: Vec<Packet> =
            (0..BATCH).filter_map(|_| make.any(random, path)).filter(|packet| tuples.insert(packet.tuple())).collect();
        tally.flows += packets.len();
        tally.of_ipv6 += packets.iter().filter(|packet| packet.flow.family() == Family::V6).count();
        tally.on_boundary += packets.iter().filter(|packet| packet.on_boundary).count();
        let observed = testbed.observe(&packets)?;
        for (packet, number) in packets.iter().zip(1..) {
            let expected = loaded.expect(packet, packet.first_state().into(), &Blocks::default(), now);
            tally.accepted += usize::from(expected.is_accepted);
            let through = observed.through.contains(&number);
            if through != expected.is_accepted {
                let words = if through { "accepts" } else { "refuses" };
                tally.disagreements.push(format!("seed {seed} node {} {path:?}: the kernel {words} {} {packet:?}", loaded.node.name, packet.flow));
            }
        }
    }
    Ok(())
}
