//! What a ruleset's entries accept, each on its own.
//!
//! In: a ruleset, a path, the time. Out: for each accepting entry the packets that it alone decides, denials before it
//! taken off. Never: the floor, connections that are there already, or the node's own stage.

use ringwall_packet::{
    Address, Budget, Conditions, Exhausted, IntervalSet, Matches, Packets, Row, Table, Variable, interface, taken, truth,
};

use crate::meaning::Path;
use crate::model::{Effect, Entry, Forward, Ruleset};

impl Ruleset {
    /// By the entry's place in [`Ruleset::entries`]; those that decide nothing are left out. A DNS name is a condition: which
    /// addresses are its answers is not known here.
    pub fn accepted(&self, path: Path, now: u64, budget: &mut Budget) -> Result<Vec<(usize, Packets)>, Exhausted> {
        let entries = self.entries(path);
        let mut rows = Table::default();
        for (at, entry) in entries.iter().enumerate().filter(|(_, entry)| !entry.audit && entry.is_alive(now)) {
            for conditions in conditions(entry, path) {
                rows.push(&entry.source, &entry.destination, &entry.upper, &conditions, at);
            }
        }
        let accepts = |at: usize| matches!(entries[at].effect, Effect::Accept { .. });
        let mut all: Vec<(usize, Packets)> = (0..entries.len()).map(|at| (at, Packets::default())).collect();
        for (at, packets) in of(&rows.v4, accepts, budget)? {
            all[at].1.v4.push(packets);
        }
        for (at, packets) in of(&rows.v6, accepts, budget)? {
            all[at].1.v6.push(packets);
        }
        all.retain(|(_, packets)| !packets.is_empty());
        Ok(all)
    }

    /// What a machine needs to live, and nothing else: for when nothing that was confirmed can be loaded. `ways_out` are
    /// entries that it can be helped by.
    pub fn bare_floor(ways_out: Vec<Entry>) -> Self {
        Self {
            node: "floor".into(),
            audit: false,
            local: Default::default(),
            protected: Default::default(),
            floor: crate::model::Floor { dhcp: true, neighbour_discovery: true, multicast_listener: true },
            input: Vec::new(),
            output: ways_out,
            forward: Forward::Containers { unmanaged: [].into(), uplinks: [].into() },
        }
    }
}

fn of<A: Address>(rows: &[Row<A, usize>], accepts: impl Fn(usize) -> bool, budget: &mut Budget) -> Result<Vec<(usize, Matches<A>)>, Exhausted> {
    taken(rows, &[Matches::any()], accepts, budget)
}

/// Interface and names: alternatives.
fn conditions(entry: &Entry, path: Path) -> Vec<Conditions> {
    let none = Conditions::default();
    let mut all = vec![none.clone()];
    if let Some(name) = &entry.interface {
        let both = [Variable::InputInterface, Variable::OutputInterface];
        let asked = match path {
            Path::Input => &both[..1],
            Path::Output => &both[1..],
            Path::Forward => &both[..],
        };
        let values = interface(name).map(IntervalSet::single).unwrap_or_default();
        all = asked.iter().filter_map(|variable| none.and(variable.clone(), &values)).collect();
    }
    if !entry.names.is_empty() {
        let asked = |name: &String| Variable::Holds(format!("the destination is an answer for {name}").into());
        let with = |conditions: &Conditions| entry.names.iter().filter_map(|name| conditions.and(asked(name), &truth(true))).collect::<Vec<_>>();
        all = all.iter().flat_map(with).collect();
    }
    all
}
