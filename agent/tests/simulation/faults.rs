//! What goes wrong, and what an operator does meanwhile.

use ringwall_controller::id::RevisionNumber;

use super::policy::Policy;
use super::world::{Job, Mend, World};

const DAY: i64 = 86_400_000;

impl World {
    pub fn fault(&mut self) {
        if !self.has_faults {
            return;
        }
        // As many for each node, whatever the fleet's size; but never more than a few a second.
        let most = (60_000 / self.nodes.len() as u64).clamp(300, 6_000);
        let delay = 100 + self.random.below(most);
        self.later(delay, Job::Fault);
        let node = usize::try_from(self.random.below(self.nodes.len() as u64)).expect("few nodes");
        if self.nodes[node].is_gone {
            return;
        }
        match self.random.below(100) {
            0..18 => self.kill(node, 5_000),
            18..23 => {
                self.tally.count("reboots");
                self.reboot(node);
                let delay = self.random.below(40_000);
                self.later(delay, Job::Start { node });
            }
            23..36 => self.disturb(node),
            36..46 => self.cut(node),
            46..49 => {
                self.tally.count("partitions");
                for node in 0..self.nodes.len() {
                    if self.random.percent(50) {
                        self.cut(node);
                    }
                }
            }
            49..56 => {
                if let Some(id) = self.nodes[node].stream {
                    self.tally.count("broken");
                    self.hang_up(id);
                }
            }
            56..62 => {
                if let Some(stream) = self.nodes[node].stream.and_then(|id| self.streams.get_mut(&id)) {
                    stream.is_dead = true;
                }
            }
            62..70 => {
                self.nodes[node].disk.is_full = true;
                let delay = self.random.below(60_000);
                self.later(delay, Job::Mend { mend: Mend::Disk(node) });
            }
            70..75 => self.kill_controller(),
            75..79 => {
                self.tally.count("full");
                self.controller.is_full = true;
                let delay = self.random.below(20_000);
                self.later(delay, Job::Mend { mend: Mend::Store });
            }
            79..83 => {
                self.tally.count("clocks");
                let jumps = [DAY, -DAY, 60_000, -60_000, 3_600_000, -3_600_000];
                self.controller.clock += jumps[usize::try_from(self.random.below(6)).expect("6")];
                // So much of it may count.
                self.wave_began = self.wave_began.saturating_sub(15_000);
            }
            83..87 => {
                self.nodes[node].clock = if self.random.percent(50) { DAY } else { -DAY };
                let delay = self.random.below(120_000);
                self.later(delay, Job::Mend { mend: Mend::Clock(node) });
            }
            87..91 => {
                self.tally.count("sleeps");
                let now = self.now;
                let most = if self.random.percent(10) { 3_600_000 } else { 90_000 };
                let until = now + self.random.below(most);
                let own = &mut self.nodes[node];
                own.let_time_pass(now);
                own.asleep_until = own.asleep_until.max(until);
                let at = own.asleep_until;
                self.at(at, Job::Mend { mend: Mend::Sleep(node) });
            }
            91 => self.take_away(node),
            _ => {}
        }
    }

    fn kill(&mut self, node: usize, most: u64) {
        self.tally.count("crashes");
        self.crash(node);
        let delay = self.random.below(most);
        self.later(delay, Job::Start { node });
    }

    fn cut(&mut self, node: usize) {
        self.nodes[node].is_cut = true;
        let delay = self.random.below(90_000);
        self.later(delay, Job::Mend { mend: Mend::Link(node) });
    }

    /// One that never comes back. Few of them, so that there is a fleet.
    fn take_away(&mut self, node: usize) {
        let gone = self.nodes.iter().filter(|node| node.is_gone).count();
        if (gone + 1) * 5 > self.nodes.len() {
            return;
        }
        self.tally.count("gone");
        self.crash(node);
        (self.nodes[node].is_gone, self.nodes[node].is_cut) = (true, true);
    }

    pub fn mend(&mut self, mend: Mend) {
        match mend {
            Mend::Link(node) => self.nodes[node].is_cut = self.nodes[node].is_gone,
            Mend::Disk(node) => self.nodes[node].disk.is_full = false,
            Mend::Clock(node) => self.nodes[node].clock = 0,
            Mend::Sleep(node) if self.nodes[node].asleep_until > self.now => {}
            Mend::Sleep(node) => self.wake_up(node),
            Mend::Store => self.controller.is_full = false,
            Mend::Enrol(node) => self.enrol(node),
        }
    }

    fn wake_up(&mut self, node: usize) {
        for job in std::mem::take(&mut self.nodes[node].held) {
            self.later(0, job);
        }
    }

    pub fn make_peace(&mut self) {
        self.has_faults = false;
        let now = self.now;
        self.controller.is_full = false;
        for node in 0..self.nodes.len() {
            let own = &mut self.nodes[node];
            own.let_time_pass(now);
            (own.disk.is_full, own.clock, own.asleep_until) = (false, 0, now);
            own.is_cut = own.is_gone;
            self.wake_up(node);
            self.later(5_000, Job::Start { node });
        }
        // Or all get what is rolled out already.
        if self.random.percent(60) {
            self.controller.last_wish = Some(Policy { users: 200, is_mesh: self.random.percent(50), ..Policy::default() });
        }
    }

    // The operator.

    pub fn operate(&mut self) {
        let delay = if self.has_faults { 2_000 + self.random.below(40_000) } else { 10_000 };
        self.later(delay, Job::Operate);
        if self.controller.core.is_none() {
            return;
        }
        if !self.has_faults {
            return self.finish();
        }
        match self.random.below(100) {
            0..40 => {
                let refused = self.random.percent(15).then(|| self.random.below(self.nodes.len() as u64));
                let refused = refused.map(|node| self.nodes[usize::try_from(node).expect("few nodes")].name.to_string());
                let policy = Policy {
                    users: 1 + u8::try_from(self.random.below(6)).expect("6"),
                    is_mesh: self.random.percent(40),
                    cuts_off: self.random.percent(15),
                    refused_by: refused.into_iter().collect(),
                };
                if let Some(revision) = self.commit(policy) {
                    self.wish(revision);
                }
            }
            // Back to an earlier one, or again what was stopped.
            40..50 if !self.policies.is_empty() => {
                let revision = 1 + self.random.below(self.policies.len() as u64);
                self.wish(RevisionNumber(revision));
            }
            50..60 => self.order_pause(),
            60..75 => self.order_resume(),
            75..83 => self.order_back(),
            83..88 => {
                if self.nodes.len() < 350 {
                    self.join();
                }
            }
            88..93 => {
                let node = usize::try_from(self.random.below(self.nodes.len() as u64)).expect("few nodes");
                self.revoke(node);
            }
            93..96 => {
                let node = usize::try_from(self.random.below(self.nodes.len() as u64)).expect("few nodes");
                self.reinstall(node);
            }
            _ => {}
        }
    }
}
