//! Batches of packets through the kernel, compared with what is expected of each.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use ringwall_node::kernel::Counter;
use ringwall_packet::Family;
use ringwall_ruleset::Path;
use ringwall_ruleset::nftables::{
    BLOCKS_TABLE, Confirm, Generation, Installed, TABLE, body, body_of_lists, confirm, name_set, name_sets, remove,
    transaction,
};

use super::oracle::{Blocks, Expected, Loaded};
use super::packets::{Packet, Packets, Tuple};
use super::policies::{Case, case, describe};
use super::random::Random;
use super::sequences::Sequences;
use super::testbed::{Observed, Result, Testbed, elements, start};
use super::world::prefixes;

/// Fresh flows on each path of each node of each policy.
const BATCH: usize = 150;
/// After so many disagreements there is nothing to be learned from more.
const ENOUGH: usize = 5;

#[derive(Debug, Default)]
pub struct Tally {
    pub seed: u64,
    pub policies: usize,
    pub nodes: usize,
    pub flows: usize,
    pub accepted: usize,
    pub on_boundary: usize,
    pub of_ipv6: usize,
    pub in_trials: usize,
    /// Packets that belong to connections known before, or claim to.
    pub follow_ups: usize,
    pub replies: usize,
    pub icmp_errors: usize,
    pub disagreements: Vec<String>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |part: usize| part * 100 / self.flows.max(1);
        write!(
            f,
            "differential: {} flows, {} % accepted, {} % on boundaries, {} % IPv6, {} in trials; \
             {} follow-up packets, {} replies and {} ICMP errors among them; \
             {} policies, {} nodes, seed {}: {} disagreements",
            self.flows,
            share(self.accepted),
            share(self.on_boundary),
            share(self.of_ipv6),
            self.in_trials,
            self.follow_ups,
            self.replies,
            self.icmp_errors,
            self.policies,
            self.nodes,
            self.seed,
            self.disagreements.len(),
        )
    }
}

/// Runs random policies, the first from `seed` and each next from the number after, until there were
/// at least `flows` fresh flows. `now` is in seconds since the epoch.
pub fn campaign(flows: usize, seed: u64, now: u64) -> Result<Tally> {
    let lab = start()?;
    let mut testbeds = (0..3).map(|zone| Testbed::new(&lab, zone)).collect::<Result<Vec<_>>>()?;
    let mut tally = Tally { seed, ..Tally::default() };
    for seed in seed.. {
        if tally.flows >= flows || tally.disagreements.len() >= ENOUGH {
            break;
        }
        let mut random = Random::new(seed);
        let case = case(&mut random, now);
        tally.policies += 1;
        for (zone, testbed) in testbeds.iter_mut().enumerate() {
            if case.policy.nodes.contains_key(format!("n{zone}").as_str()) {
                tally.nodes += 1;
                Run { testbed, random: &mut random, tally: &mut tally, seed, now, blocks: Blocks::default(), taken: HashSet::new() }
                    .node(&case)
                    .map_err(|error| format!("seed {seed}, node n{zone}: {error}"))?;
            }
        }
    }
    Ok(tally)
}

/// One node of one policy.
pub struct Run<'a, 'lab> {
    pub testbed: &'a mut Testbed<'lab>,
    pub random: &'a mut Random,
    pub tally: &'a mut Tally,
    pub seed: u64,
    pub now: u64,
    pub blocks: Blocks,
    /// Tuples of connections that the kernel may know.
    pub taken: HashSet<Tuple>,
}

impl Run<'_, '_> {
    fn node(&mut self, first: &Case) -> Result<()> {
        self.testbed.load(&remove())?;
        // High numbers, too, so that marks begin anew somewhere in between.
        let generation = Generation(u32::try_from(self.random.within(1, 600))?);
        let older = self.loaded(first, generation, &[])?;
        self.load(&older, Confirm::Never)?;
        self.block()?;
        self.fresh(&older)?;
        self.follow_ups(&older)?;
        if self.random.chance(30) {
            self.trial(&older)?;
        }
        Ok(())
    }

    /// A newer generation on trial decides; when it has fallen the older one does, and when it is
    /// confirmed it goes on alone. Connections live across all of it.
    fn trial(&mut self, older: &Loaded) -> Result<()> {
        let mut begun_before = Sequences::new(self, older);
        begun_before.play(self, older, 2)?;

        let mut random = Random::new(self.random.number());
        let mut newer = case(&mut random, self.now);
        // The same node, under another policy.
        newer.policy.nodes.insert(older.node.name.clone(), older.node.clone());
        let newer = self.loaded(&newer, older.generation.next(), &[])?;
        self.load(&newer, Confirm::Within(3600))?;
        let flows = self.tally.flows;
        self.fresh(&newer)?;
        let mut begun_within = Sequences::new(self, &newer);
        begun_within.play(self, &newer, 2)?;
        begun_before.play(self, &newer, 2)?;

        let armed = format!("{}_armed", newer.generation);
        if self.random.chance(50) {
            let installed = self.testbed.enforced()?.installed;
            self.testbed.load(&confirm(&newer.ruleset, newer.generation, &installed))?;
            self.blocks.protected = newer.ruleset.protected.clone();
            self.fresh(&newer)?;
            begun_before.play(self, &newer, 3)?;
            begun_within.play(self, &newer, 3)?;
        } else {
            // What the kernel does by itself when the time is over.
            self.testbed.load(&format!("delete element inet {TABLE} {armed} {{ ipv4, ipv6 }}\n"))?;
            self.fresh(older)?;
            begun_before.play(self, older, 2)?;
            begun_within.play(self, older, 2)?;
            let mut random = Random::new(self.random.number());
            let mut newest = case(&mut random, self.now);
            newest.policy.nodes.insert(older.node.name.clone(), older.node.clone());
            let newest = self.loaded(&newest, newer.generation.next(), &[newer.generation])?;
            self.load(&newest, Confirm::Within(3600))?;
            begun_before.play(self, &newest, 2)?;
            begun_within.play(self, &newest, 2)?;
        }
        self.tally.in_trials += self.tally.flows - flows;
        self.forget_connections()
    }

    pub fn loaded(&mut self, case: &Case, generation: Generation, fallen: &[Generation]) -> Result<Loaded> {
        let name = format!("n{}", self.testbed.world.zone);
        let node = case.policy.nodes.get(name.as_str()).ok_or("no such node")?.clone();
        let (ruleset, _) = ringwall_compile::compile(&case.policy, &name)?;
        Ok(Loaded { case: case.clone(), node, ruleset: ruleset.into_inner(), generation, fallen: fallen.to_vec() })
    }

    pub fn load(&mut self, loaded: &Loaded, confirm: Confirm) -> Result<()> {
        let installed = match confirm {
            Confirm::Never => Installed::default(),
            Confirm::Within(_) => self.testbed.enforced()?.installed,
        };
        let mut text = transaction(&loaded.ruleset, loaded.generation, &installed, confirm);
        if self.random.chance(15) {
            let bodies = [body, body_of_lists].map(|write| write(&loaded.ruleset, loaded.generation));
            text = text.replace(&bodies[0], &bodies[1]);
        }
        for (name, family) in name_sets(&loaded.ruleset) {
            let answers = elements(&loaded.case.answers[&name], family);
            text.push_str(&format!("add element inet {TABLE} {} {{ {answers} }}\n", name_set(loaded.generation, &name, family)));
        }
        self.testbed.load(&text)?;
        if confirm == Confirm::Never {
            self.blocks.protected = loaded.ruleset.protected.clone();
        }
        Ok(())
    }

    fn forget_connections(&mut self) -> Result<()> {
        self.taken.clear();
        self.testbed.forget_connections()
    }

    /// Blocks an address and a prefix of each family, for some nodes.
    fn block(&mut self) -> Result<()> {
        if self.random.chance(70) {
            return Ok(());
        }
        let single = prefixes(["203.0.113.7/32", "198.51.100.9/32", "203.0.113.200/32", "2001:db8:2::7/128"]);
        let wide = prefixes(["203.0.113.192/27", "192.0.2.64/27", "2001:db8:2:c000::/50", "2001:db8:1:8000::/49"]);
        let mut text = String::new();
        for (family, digit) in [(Family::V4, 4), (Family::V6, 6)] {
            let elements = elements(&single, family);
            text.push_str(&format!("add element inet {BLOCKS_TABLE} block{digit} {{ {elements} }}\n"));
        }
        // Each as its first bits and a one, in IPv4 at an even length, in IPv6 at a multiple of four; and its covers.
        text.push_str(&format!(
            "add element inet {BLOCKS_TABLE} block4_prefixes {{ 203.0.113.200, 203.0.113.216, 192.0.2.72, 192.0.2.88 }}\n\
             add element inet {BLOCKS_TABLE} block4_covers {{ 203.0.128.0, 192.0.128.0 }}\n\
             add element inet {BLOCKS_TABLE} block6_prefixes {{ 2001:db8:2:c800::, 2001:db8:2:d800::, 2001:db8:2:e800::, 2001:db8:2:f800::, \
             2001:db8:1:8800::, 2001:db8:1:9800::, 2001:db8:1:a800::, 2001:db8:1:b800::, 2001:db8:1:c800::, 2001:db8:1:d800::, 2001:db8:1:e800::, 2001:db8:1:f800:: }}\n\
             add element inet {BLOCKS_TABLE} block6_covers {{ 2001:db8:8000:: }}\n"
        ));
        self.testbed.load(&text)?;
        self.blocks.blocked = single.union(&wide);
        Ok(())
    }

    /// Flows that nobody has seen before, on all paths.
    fn fresh(&mut self, loaded: &Loaded) -> Result<()> {
        let world = self.testbed.world.clone();
        let make = Packets {
            case: &loaded.case,
            world: &world,
            addresses: loaded.node.local(),
            routes: loaded.node.routes.clone(),
        };
        for path in Path::ALL {
            let mut tuples = self.taken.clone();
            let packets: Vec<Packet> = (0..BATCH)
                .filter_map(|_| make.any(self.random, path))
                .filter(|packet| tuples.insert(packet.tuple()))
                .collect();
            for packet in &packets {
                if let Some(words) = loaded.contradiction(packet, self.now) {
                    self.disagree(loaded, packet, &words)?;
                }
            }
            self.compare(loaded, &packets)?;
        }
        Ok(())
    }

    /// Sends packets that leave nothing behind, together, and each by itself where they differ from
    /// what is expected.
    pub fn compare(&mut self, loaded: &Loaded, packets: &[Packet]) -> Result<()> {
        let expected: Vec<Expected> = packets
            .iter()
            .map(|packet| loaded.expect(packet, packet.first_state().into(), &self.blocks, self.now))
            .collect();
        self.tally.flows += packets.len();
        self.tally.accepted += expected.iter().filter(|expected| expected.is_accepted).count();
        self.tally.on_boundary += packets.iter().filter(|packet| packet.on_boundary).count();
        self.tally.of_ipv6 += packets.iter().filter(|packet| packet.flow.family() == Family::V6).count();
        let observed = self.testbed.observe(packets)?;
        if difference(packets, &expected, &observed).is_none() {
            return Ok(());
        }
        // Each by itself: these packets leave nothing behind.
        let mut found = false;
        for (packet, expected) in packets.iter().zip(&expected) {
            let (packets, expected) = (std::slice::from_ref(packet), std::slice::from_ref(expected));
            let observed = self.testbed.observe(packets)?;
            if let Some(words) = difference(packets, expected, &observed) {
                found = true;
                self.disagree(loaded, packet, &words)?;
                if self.tally.disagreements.len() >= ENOUGH {
                    return Ok(());
                }
            }
        }
        if !found {
            let words = difference(packets, &expected, &observed).unwrap_or_default();
            self.disagree(loaded, &packets[0], &format!("only together with {} others: {words}", packets.len()))?;
        }
        Ok(())
    }

    fn follow_ups(&mut self, loaded: &Loaded) -> Result<()> {
        let mut sequences = Sequences::new(self, loaded);
        sequences.play(self, loaded, usize::MAX)?;
        self.forget_connections()
    }

    pub fn disagree(&mut self, loaded: &Loaded, packet: &Packet, words: &str) -> Result<()> {
        if self.tally.disagreements.len() >= ENOUGH {
            return Ok(());
        }
        let policy = &loaded.case.policy;
        let mut text = format!(
            "seed {} node {} {} {:?}: {}\n  {} {} {:?}, TCP flags {}, {:?}, corrupt: {}\n  {words}\n",
            self.seed, loaded.node.name, loaded.generation, packet.path, packet.flow,
            packet.came_by, packet.leaves_by, packet.handling, packet.tcp_flags, packet.extension, packet.is_corrupt
        );
        text.push_str(&format!(
            "  local {:?}\n  routes {:?}\n  management {:?}\n",
            loaded.node.local().prefixes(), loaded.node.routes.prefixes(),
            policy.management.as_ref().map(|management| (&management.from.text, &management.services))
        ));
        for rule in &policy.rules {
            if rule.matches(&packet.flow, |name, address| loaded.case.resolved(name, address)) {
                text.push_str(&format!("  matches: {}\n", describe(rule)));
            }
        }
        if self.tally.disagreements.is_empty() {
            // Too long for a screen.
            let file = std::env::temp_dir().join(format!("ringwall-differential-{}.nft", self.seed));
            std::fs::write(&file, self.testbed.listing()?)?;
            text.push_str(&format!("  the table is in {}\n", file.display()));
        }
        self.tally.disagreements.push(text);
        Ok(())
    }
}

/// The counter that counts what is logged with this prefix.
fn counter_of(prefix: &str) -> Option<String> {
    match prefix.split(' ').collect::<Vec<_>>()[..] {
        ["ringwall", "blocked"] => Some("blocked".into()),
        ["ringwall", generation, path, _, "default"] => Some(format!("{generation}_{path}_default")),
        ["ringwall", generation, path, "audit", id] => Some(format!("{generation}_{path}_r_{id}_audit")),
        ["ringwall", generation, path, _, id] => Some(format!("{generation}_{path}_r_{id}")),
        _ => None,
    }
}

/// What differs between what is expected and what was seen; `None` when nothing does.
pub fn difference(packets: &[Packet], expected: &[Expected], observed: &Observed) -> Option<String> {
    let mut words = Vec::new();
    let mut counters: BTreeMap<&str, Counter> = BTreeMap::new();
    for ((packet, expected), number) in packets.iter().zip(expected).zip(1..) {
        let through = observed.through.contains(&number);
        if through != expected.is_accepted {
            let [is, should] = [through, expected.is_accepted].map(|accepted| if accepted { "accepted" } else { "refused" });
            words.push(format!("{}: the kernel {is} it, the model says {should}", packet.flow));
        }
        let bytes = u64::try_from(packet.bytes(number).len()).expect("a small packet");
        for name in &expected.counters {
            let counter = counters.entry(name).or_default();
            counter.packets += 1;
            counter.bytes += bytes;
        }
        if let Some(log) = &expected.log
            && !observed.logged.contains(&(log.clone(), number))
        {
            words.push(format!("{}: not logged as `{log}`", packet.flow));
        }
    }
    for (prefix, number) in &observed.logged {
        let at = usize::from(*number) - 1;
        let (Some(packet), Some(expected)) = (packets.get(at), expected.get(at)) else { continue };
        if !counter_of(prefix).is_some_and(|counter| expected.counters.contains(&counter)) {
            words.push(format!("{}: logged as `{prefix}`, the model counts it in {:?}", packet.flow, expected.counters));
        }
    }
    for (name, seen) in &observed.counters {
        let should = counters.get(name.as_str()).copied().unwrap_or_default();
        if should != *seen {
            words.push(format!("`{name}` counted {seen:?}, the model {should:?}"));
        }
    }
    for (name, should) in &counters {
        if !observed.counters.contains_key(*name) {
            words.push(format!("`{name}` counted nothing, the model {should:?}"));
        }
    }
    (!words.is_empty()).then(|| words.join("; "))
}
