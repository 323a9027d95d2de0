//! The chains of one generation.
//!
//! ```text
//! gN_in   loopback, invalid, established, floor, untracked, audited rules, the diagram of each
//!         family -> gN_in_r_ID (one per rule: mark, count, log, verdict), then gN_in_default
//! gN_out  the same for what leaves
//! gN_fwd  the same between others, or for containers
//! ```
//!
//! A chain of a diagram (`gN_in4_7`) that decides nothing falls back to the line that jumped into
//! the diagram, and the line after it is next.
//!
//! Every name begins with the generation and nothing in a generation is ever edited.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ringwall_packet::Family;

use super::chains::Chains;
use super::claim::{Claim, View, answers, egress, requests};
use super::layout::{Field, Target};
use super::linear;
use super::transaction::{Generation, MARK_MASK};
use super::{LOG_GROUP, text};
use crate::meaning::Path;
use crate::model::{Effect, Entry, Forward, Ruleset};

/// The name sets that the ruleset looks into: DNS name, family.
pub fn name_sets(ruleset: &Ruleset) -> BTreeSet<(String, Family)> {
    let entries = Path::ALL.iter().flat_map(|path| ruleset.entries(*path));
    let names = entries.flat_map(|entry| &entry.names);
    names.flat_map(|name| Family::ALL.map(|family| (name.clone(), family))).collect()
}

/// The set that holds the addresses of a DNS name, one for each generation: what a trial was
/// answered goes with it.
pub fn name_set(generation: Generation, name: &str, family: Family) -> String {
    format!("{generation}_names{}_{name}", text::digit(family))
}

/// Seconds of every session timeout: one `ct timeout` object per value and family, shared by all
/// generations, since re-adding a name would keep its old value.
pub fn timeout_objects(ruleset: &Ruleset) -> BTreeSet<u32> {
    let entries = Path::ALL.iter().flat_map(|path| ruleset.entries(*path));
    entries
        .filter_map(|entry| match entry.effect {
            Effect::Accept { session_timeout } if !entry.audit => session_timeout,
            _ => None,
        })
        .collect()
}

/// The chains and counters of a generation, to stand inside `table inet ringwall { … }`.
pub fn body(ruleset: &Ruleset, generation: Generation) -> String {
    body_within(ruleset, generation, KEYS_MAX)
}

/// The same without maps, as for a ruleset that needs too many keys: one line per entry and box.
/// Slow, and there to be compared with.
pub fn body_of_lists(ruleset: &Ruleset, generation: Generation) -> String {
    body_within(ruleset, generation, 0)
}

/// More keys than this in one diagram make a transaction that takes the kernel over a second.
const KEYS_MAX: usize = 1_000_000;

fn body_within(ruleset: &Ruleset, generation: Generation, keys_max: usize) -> String {
    let mut writer = Writer {
        ruleset,
        generation,
        keys_max,
        text: String::new(),
        chains: BTreeMap::new(),
        judges: BTreeMap::new(),
    };
    for path in Path::ALL {
        writer.lay_out(path);
    }
    for path in Path::ALL {
        writer.path(path);
    }
    writer.text
}

struct Writer<'a> {
    ruleset: &'a Ruleset,
    generation: Generation,
    /// Of one diagram.
    keys_max: usize,
    text: String,
    /// By the path whose rules are gone to.
    chains: BTreeMap<(Path, Family), Chains>,
    /// What each stage of a path asks; none that decides nothing.
    judges: BTreeMap<(Path, Stage, Family), Judge>,
}

/// Who is asked on a path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Audited,
    Enforced,
    /// What the opposite path allows, turned round.
    Answers,
    /// The input's entries, for packets to a container.
    Published,
    /// The output's entries, for packets from a container.
    Egress,
}

enum Judge {
    Diagram { of: Path, root: Target },
    /// Too many keys for maps: one rule per entry decides the same, only slower.
    List(Vec<String>),
}

macro_rules! line {
    ($writer:expr, $($argument:tt)*) => {
        writeln!($writer.text, $($argument)*).expect("a string takes all text")
    };
}

impl Writer<'_> {
    fn name(&self, path: Path) -> String {
        format!("{}_{}", self.generation, path.short())
    }

    /// Makes the diagrams of a path, all before the first is written: they share chains.
    fn lay_out(&mut self, path: Path) {
        let ruleset = self.ruleset;
        let (name, opposite) = (self.name(path), opposite(path));
        let [audited, enforced] = [true, false].map(|is_audited| requests(ruleset.entries(path), is_audited, &name));
        let answers = answers(ruleset.entries(opposite));
        for family in Family::ALL {
            self.add(path, Stage::Audited, family, &audited, View::Request(path), (path, orders(path)));
            self.add(path, Stage::Enforced, family, &enforced, View::Request(path), (path, orders(path)));
            self.add(path, Stage::Answers, family, &answers, View::Answer, (path, orders(opposite)));
        }
        if let (Path::Forward, Forward::Containers { .. }) = (path, &ruleset.forward) {
            let (input, output) = (self.name(Path::Input), self.name(Path::Output));
            let published = requests(&ruleset.input, false, &input);
            for family in Family::ALL {
                self.add(path, Stage::Published, family, &published, View::Published, (Path::Input, orders(Path::Input)));
                let claims = egress(&ruleset.output, family, &ruleset.local, &output);
                let view = View::Request(Path::Output);
                self.add(path, Stage::Egress, family, &claims, view, (Path::Output, orders(Path::Output)));
            }
        }
    }

    fn add(
        &mut self,
        path: Path,
        stage: Stage,
        family: Family,
        claims: &[Claim<'_>],
        view: View,
        (of, orders): (Path, &[[Field; 4]]),
    ) {
        let prefix = format!("{}{}", self.name(of), text::digit(family));
        let chains = self.chains.entry((of, family)).or_insert_with(|| Chains::new(prefix, family));
        let judge = match chains.diagrams.add(self.generation, claims, view, orders, self.keys_max) {
            Ok(Target::Nothing) => return,
            Ok(root) => Judge::Diagram { of, root },
            Err(_) => Judge::List(linear::lines(self.generation, claims, family, view)),
        };
        self.judges.insert((path, stage, family), judge);
    }

    /// The lines that ask a stage, of both families, with the tab before them: what it does not
    /// decide goes on after them.
    fn ask(&mut self, path: Path, stage: Stage) -> Vec<String> {
        let mut lines = Vec::new();
        for family in Family::ALL {
            let nfproto = text::nfproto(family);
            match self.judges.remove(&(path, stage, family)) {
                None => {}
                Some(Judge::Diagram { of, root }) => {
                    let chains = self.chains.get_mut(&(of, family)).expect("made with the diagram");
                    lines.extend(chains.root(root).iter().map(|line| format!("meta nfproto {nfproto} {line}")));
                    self.text.push_str(&std::mem::take(&mut chains.text));
                }
                // An audited rule returns to who jumped.
                Some(Judge::List(list)) if matches!(stage, Stage::Audited | Stage::Enforced) => {
                    let suffix = if stage == Stage::Audited { "_audit" } else { "" };
                    let chain = format!("{}{}{suffix}_list", self.name(path), text::digit(family));
                    self.chain(&chain, &list, None);
                    lines.push(format!("meta nfproto {nfproto} jump {chain}"));
                }
                Some(Judge::List(list)) => lines.extend(list),
            }
        }
        lines
    }

    fn path(&mut self, path: Path) {
        let mut judge = self.ask(path, Stage::Audited);
        judge.extend(self.ask(path, Stage::Enforced));
        self.rule_chains(path);
        self.default_chain(path);
        match (path, &self.ruleset.forward) {
            (Path::Forward, Forward::Containers { unmanaged, uplinks }) => self.containers(unmanaged, uplinks),
            _ => self.entry_chain(path, &judge),
        }
    }

    /// The chain that the base chain goes to. The order is the policy language's decision 3.
    fn entry_chain(&mut self, path: Path, judge: &[String]) {
        let name = self.name(path);
        let generation = self.generation;
        let (loopback, probe) = match path {
            Path::Input => ("\t\tiif \"lo\" accept\n", probe_watch()),
            Path::Output => ("\t\toif \"lo\" accept\n", probe_pass()),
            Path::Forward => ("", probe_watch()),
        };
        let answers = self.ask(path, Stage::Answers);
        if !answers.is_empty() {
            self.chain(&format!("{name}_answers"), &answers, None);
        }
        line!(self, "\tcounter {name}_invalid {{ }}");
        line!(self, "\tcounter {name}_untracked {{ }}");
        line!(self, "\tchain {name} {{");
        self.text.push_str(loopback);
        let verdict = if self.ruleset.audit { "accept" } else { "drop" };
        line!(self, "\t\tct state invalid counter name \"{name}_invalid\" {verdict}");
        line!(self, "\t\tct state established,related jump {generation}_established");
        if !answers.is_empty() {
            // What returns belongs to a generation that has fallen. If its request is allowed now, too,
            // the end that speaks first must not be cut off.
            line!(self, "\t\tct state established ct direction reply jump {name}_answers");
        }
        let floor = self.floor(path);
        self.text.push_str(&floor);
        // Packets that conntrack was told to leave alone are judged without state, in either direction:
        // as an answer to what the opposite path's entries allow, or as a request by this path's.
        let jump = if answers.is_empty() { String::new() } else { format!(" jump {name}_answers") };
        line!(self, "\t\tct state untracked counter name \"{name}_untracked\"{jump}");
        self.text.push_str(&probe);
        for text in judge {
            line!(self, "\t\t{text}");
        }
        line!(self, "\t\tgoto {name}_default");
        line!(self, "\t}}");
    }

    /// The parts of the floor that are more than addresses and ports.
    fn floor(&self, path: Path) -> String {
        let floor = self.ruleset.floor;
        let mut lines = String::new();
        if path == Path::Forward {
            return lines;
        }
        if floor.neighbour_discovery {
            // RFC 4861 §6.1, §7.1: types 133 to 136; a hop limit of 255 shows that no router forwarded it.
            // A redirect (137) is invalid to conntrack, unless it is about a connection: RFC 4890
            // §4.4.4 leaves it to the policy.
            lines.push_str("\t\ticmpv6 type 133-136 ip6 hoplimit 255 accept\n");
            // RFC 4890 §4.3.1: errors that must not be dropped reach connections as `related`.
        }
        if floor.multicast_listener {
            // RFC 2710, RFC 3810: MLD from link-local addresses (or the unspecified one while starting).
            lines.push_str("\t\ticmpv6 type { 130-132, 143 } ip6 saddr { ::, fe80::/10 } accept\n");
            lines.push_str("\t\tip protocol 2 accept\n");
        }
        if floor.dhcp {
            // RFC 2131 §4.1 and RFC 8415 §7.2: server and client ports.
            let ports = match path {
                Path::Input => [(67, 68), (547, 546)],
                Path::Output | Path::Forward => [(68, 67), (546, 547)],
            };
            let [(from4, to4), (from6, to6)] = ports;
            writeln!(lines, "\t\tmeta nfproto ipv4 udp sport {from4} udp dport {to4} accept").expect("a string");
            let link_local = if path == Path::Input { "ip6 daddr fe80::/10" } else { "ip6 saddr fe80::/10" };
            writeln!(lines, "\t\t{link_local} udp sport {from6} udp dport {to6} accept").expect("a string");
        }
        lines
    }

    /// Decision 2: on a node that routes for nobody, what it forwards is its containers' traffic.
    fn containers(&mut self, unmanaged: &BTreeSet<String>, uplinks: &BTreeSet<String>) {
        let name = self.name(Path::Forward);
        let input = self.name(Path::Input);
        let output = self.name(Path::Output);
        let generation = self.generation;
        let published = self.ask(Path::Forward, Stage::Published);
        let egress = self.ask(Path::Forward, Stage::Egress);
        self.chain(&format!("{name}_published"), &published, Some(format!("goto {input}_default")));
        self.chain(&format!("{name}_egress"), &egress, Some(format!("goto {output}_default")));
        line!(self, "\tcounter {name}_invalid {{ }}");
        line!(self, "\tchain {name} {{");
        for bridge in unmanaged {
            line!(self, "\t\tiifname \"{bridge}\" accept");
            line!(self, "\t\toifname \"{bridge}\" accept");
        }
        let verdict = if self.ruleset.audit { "accept" } else { "drop" };
        line!(self, "\t\tct state invalid counter name \"{name}_invalid\" {verdict}");
        line!(self, "\t\tct state established,related jump {generation}_established");
        line!(self, "\t\tct status dnat goto {name}_published");
        for uplink in uplinks {
            line!(self, "\t\tiifname \"{uplink}\" goto {name}_default");
        }
        // What comes in by another bridge is a container's own connection; anything else would make a
        // router of this node.
        line!(self, "\t\tmeta iifkind \"bridge\" goto {name}_egress");
        line!(self, "\t\tgoto {name}_default");
        line!(self, "\t}}");
    }

    /// One chain per rule of the path, in order of their ids.
    fn rule_chains(&mut self, path: Path) {
        let name = self.name(path);
        let ruleset = self.ruleset;
        let mut written = BTreeSet::new();
        for entry in ruleset.entries(path) {
            if !written.insert((&entry.id, entry.audit)) {
                continue;
            }
            let id = &entry.id;
            let audited = if entry.audit { "_audit" } else { "" };
            let counter = format!("{name}_r_{id}{audited}");
            line!(self, "\tcounter {counter} {{ }}");
            line!(self, "\tchain {counter} {{");
            if let (Effect::Accept { session_timeout: Some(seconds) }, false) = (entry.effect, entry.audit) {
                for family in Family::ALL {
                    let (nfproto, digit) = (text::nfproto(family), text::digit(family));
                    line!(self, "\t\tmeta nfproto {nfproto} meta l4proto tcp ct timeout set \"tcp{digit}_{seconds}\"");
                }
            }
            let verdict = self.verdict(entry);
            let word = match verdict {
                None => "audit",
                Some(Effect::Accept { .. }) => "accept",
                Some(Effect::Drop) => "drop",
                Some(Effect::Reject) => "reject",
            };
            if entry.log || entry.audit || !matches!(entry.effect, Effect::Accept { .. }) {
                let limit = if entry.log { "" } else { LOG_LIMIT };
                line!(self, "\t\t{limit}log prefix \"{}\" group {LOG_GROUP}", self.log_prefix(path, word, id));
            }
            let count = format!("counter name \"{counter}\"");
            match verdict {
                None => line!(self, "\t\t{count} return comment \"{id}\""),
                Some(Effect::Accept { .. }) => {
                    self.set_mark();
                    line!(self, "\t\t{count} accept comment \"{id}\"");
                }
                Some(Effect::Drop) => line!(self, "\t\t{count} drop comment \"{id}\""),
                Some(Effect::Reject) => {
                    line!(self, "\t\t{count}");
                    line!(self, "\t\tmeta l4proto tcp reject with tcp reset comment \"{id}\"");
                    line!(self, "\t\treject with icmpx type admin-prohibited comment \"{id}\"");
                }
            }
            line!(self, "\t}}");
        }
    }

    /// What the rule's chain does; `None` for a rule that only watches. On an audited node a deny
    /// is counted and logged as such, and accepted.
    fn verdict(&self, entry: &Entry) -> Option<Effect> {
        match entry.effect {
            _ if entry.audit => None,
            accept @ Effect::Accept { .. } => Some(accept),
            _ if self.ruleset.audit => Some(Effect::Accept { session_timeout: None }),
            other => Some(other),
        }
    }

    /// A line of its own: for an untracked packet there is no mark to read, and the rest of the line
    /// would not be run.
    fn set_mark(&mut self) {
        let (keep, mark) = (!MARK_MASK, self.generation.mark());
        line!(self, "\t\tct mark set ct mark and {keep:#010x} or {mark:#010x}");
    }

    fn default_chain(&mut self, path: Path) {
        let name = self.name(path);
        line!(self, "\tcounter {name}_default {{ }}");
        line!(self, "\tchain {name}_default {{");
        let word = match path {
            _ if self.ruleset.audit => "audit",
            Path::Output => "reject",
            Path::Input | Path::Forward => "drop",
        };
        line!(self, "\t\t{LOG_LIMIT}log prefix \"{}\" group {LOG_GROUP}", self.log_prefix(path, word, "default"));
        line!(self, "\t\tcounter name \"{name}_default\"");
        if self.ruleset.audit {
            self.set_mark();
            line!(self, "\t\taccept");
        } else if path == Path::Output {
            line!(self, "\t\tmeta l4proto tcp reject with tcp reset");
            line!(self, "\t\treject with icmpx type admin-prohibited");
        } else {
            line!(self, "\t\tdrop");
        }
        line!(self, "\t}}");
    }

    fn log_prefix(&self, path: Path, verdict: &str, id: &str) -> String {
        format!("ringwall {} {} {verdict} {id}", self.generation, path.short())
    }

    fn chain(&mut self, name: &str, lines: &[String], last: Option<String>) {
        line!(self, "\tchain {name} {{");
        for text in lines {
            line!(self, "\t\t{text}");
        }
        if let Some(text) = last {
            line!(self, "\t\t{text}");
        }
        line!(self, "\t}}");
    }
}

/// Logged packets go to one reader; beyond this rate they are counted only.
const LOG_LIMIT: &str = "limit rate 100/second burst 200 packets ";

/// A probe's exact flow may pass the source's own output for a moment, so that a closed source can't
/// hide an open destination.
fn probe_pass() -> String {
    probe_lines("pass", "accept")
}

/// A probe's exact flow is traced, so that the node can tell which rule decided it.
fn probe_watch() -> String {
    probe_lines("watch", "meta nftrace set 1")
}

fn probe_lines(set: &str, statement: &str) -> String {
    let line = |family| {
        let (ip, digit) = (text::ip(family), text::digit(family));
        format!("\t\t{ip} saddr . {ip} daddr . meta l4proto . th sport . th dport @probe_{set}{digit} {statement}\n")
    };
    Family::ALL.map(line).concat()
}

fn orders(path: Path) -> &'static [[Field; 4]] {
    use Field::{Destination, Port, Protocol, Source};
    match path {
        // The node's own addresses are few: they come first.
        Path::Input => &[[Destination, Source, Protocol, Port], [Destination, Protocol, Port, Source]],
        Path::Output => &[[Source, Destination, Protocol, Port], [Source, Protocol, Port, Destination]],
        Path::Forward => &[
            [Destination, Source, Protocol, Port],
            [Source, Destination, Protocol, Port],
            [Destination, Protocol, Port, Source],
            [Source, Protocol, Port, Destination],
        ],
    }
}

fn opposite(path: Path) -> Path {
    match path {
        Path::Input => Path::Output,
        Path::Output => Path::Input,
        Path::Forward => Path::Forward,
    }
}
