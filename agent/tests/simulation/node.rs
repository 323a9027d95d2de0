//! A node of the fleet: the real reconciler, with a model of its machine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ringwall_controller::id::{AgentId, Digest, NodeName};
use ringwall_node::reconciler::{Millis, Reconciler};
use ringwall_protocol::{Facts, Hello, VERSIONS};

use super::checks::Checks;
use super::machine::{DiskModel, KernelModel};
use super::world::Job;

/// What was loaded as one generation.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Of what is really in the kernel.
    pub digest: Digest,
    /// In the kernel's own time: when it falls unless it is confirmed.
    pub ends: Millis,
}

pub struct Node {
    pub name: NodeName,
    pub address: IpAddr,
    /// On its disk.
    pub identity: Option<AgentId>,
    pub reconciler: Reconciler,
    pub is_running: bool,
    /// Counts the starts of its agent: what was under way for an earlier one comes to nothing.
    pub life: u64,
    /// When its own clock was at zero; it runs on while the machine sleeps.
    pub booted: Millis,
    /// The kernel's timers were brought forward to then.
    pub seen: Millis,
    pub asleep_until: Millis,
    /// What would have happened there meanwhile.
    pub held: Vec<Job>,
    pub kernel: KernelModel,
    pub disk: DiskModel,
    pub checks: Checks,
    pub loaded: BTreeMap<u32, Loaded>,
    /// Places that were made the only ruleset in the kernel, with what they were.
    pub enforced: BTreeSet<(u64, u64, Digest)>,
    /// Places that the controller has said yes to.
    pub permitted: BTreeSet<(u64, u64)>,
    /// No packet goes to the controller or comes from it.
    pub is_cut: bool,
    /// Milliseconds that its calendar is ahead.
    pub clock: i64,
    /// Taken away for ever.
    pub is_gone: bool,
    /// Its agent knows that its identity is worth nothing.
    pub is_ended: bool,
    pub stream: Option<u64>,
    pub wakes: Option<Millis>,
    pub woke: Millis,
}

impl Node {
    pub fn new(name: NodeName, address: IpAddr) -> Self {
        Self {
            name,
            address,
            identity: None,
            reconciler: Reconciler::default(),
            is_running: false,
            life: 0,
            booted: 0,
            seen: 0,
            asleep_until: 0,
            held: Vec::new(),
            kernel: KernelModel::default(),
            disk: DiskModel::default(),
            checks: Checks::default(),
            loaded: BTreeMap::new(),
            enforced: BTreeSet::new(),
            permitted: BTreeSet::new(),
            is_cut: false,
            clock: 0,
            is_gone: false,
            is_ended: false,
            stream: None,
            wakes: None,
            woke: 0,
        }
    }

    /// A new machine, of which the agent does not run yet.
    pub fn begin_anew(&mut self, now: Millis) {
        (self.kernel, self.disk, self.checks) = (KernelModel::default(), DiskModel::default(), Checks::default());
        (self.booted, self.seen, self.woke) = (now, now, 0);
        self.loaded.clear();
        self.enforced.clear();
    }

    /// Its own clock.
    pub fn time(&self, now: Millis) -> Millis {
        now - self.booted
    }

    /// The kernel's timers run, unless the machine sleeps.
    pub fn let_time_pass(&mut self, now: Millis) {
        let from = self.seen.max(self.asleep_until.min(now));
        self.kernel.time += now - from;
        self.seen = now;
    }

    /// As the shell makes it.
    pub fn hello(&self) -> Hello {
        let place = |place: ringwall_node::reconciler::Place| ringwall_agent::edge::wire_place(place);
        let confirmed = self.reconciler.confirmed();
        Hello {
            versions: VERSIONS,
            features: Vec::new(),
            agent: "0.1.0".into(),
            boot: [0; 16],
            taken: self.reconciler.taken().map(place),
            confirmed: confirmed.and_then(|confirmed| confirmed.place).map(place),
            generation: confirmed.map_or(0, |confirmed| confirmed.generation.0),
            lists: Vec::new(),
            facts: Facts { addresses: vec![self.address], ..Facts::default() },
        }
    }

    /// What decides about its packets now.
    pub fn decides(&self) -> Option<&Loaded> {
        self.kernel.deciding().map(|generation| &self.loaded[&generation])
    }
}
