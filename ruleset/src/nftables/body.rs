//! The chains of one generation.
//!
//! ```text
//! gN_in   loopback, invalid, established, floor, untracked, audited rules, the diagram of each
//!         family -> gN_in_r_ID (one per rule: mark, count, log, verdict) or gN_in_default
//! gN_out  the same for what leaves
//! gN_fwd  the same between others, or for containers
//! ```
//!
//! Every name begins with the generation and nothing in a generation is ever edited.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use ringwall_packet::Family;

use super::layout::{Candidate, Diagram, Field, Node, NodeIndex};
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
    let mut writer = Writer { ruleset, generation, keys_max, text: String::new() };
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
}

/// Which entries a diagram is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Enforced,
    Audited,
}

impl Stage {
    fn includes(self, entry: &Entry) -> bool {
        entry.audit == (self == Self::Audited)
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Enforced => "",
            Self::Audited => "_audit",
        }
    }
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

    fn path(&mut self, path: Path) {
        let name = self.name(path);
        let entries = self.ruleset.entries(path);
        let mut roots = String::new();
        let mut audits = String::new();
        for family in Family::ALL {
            let nfproto = text::nfproto(family);
            for stage in [Stage::Audited, Stage::Enforced] {
                let include = |entry: &Entry| stage.includes(entry);
                let Some(diagram) = Diagram::smallest(entries, include, family, orders(path), self.keys_max) else {
                    // Too many keys for maps: one rule per entry decides the same, only slower.
                    let chain = format!("{name}{}{}_list", text::digit(family), stage.suffix());
                    let lines = linear::plain(self.generation, entries, |entry| stage.includes(entry), family, path, &name, stage.suffix());
                    self.chain(&chain, &lines, (stage == Stage::Enforced).then(|| format!("goto {name}_default")));
                    match stage {
                        Stage::Enforced => writeln!(roots, "\t\tmeta nfproto {nfproto} goto {chain}"),
                        Stage::Audited => writeln!(audits, "\t\tmeta nfproto {nfproto} jump {chain}"),
                    }
                    .expect("a string takes all text");
                    continue;
                };
                if *diagram.node(diagram.root()) == Node::Leaf(Vec::new()) {
                    continue;
                }
                let mut chains = Chains { path, family, stage, diagram: &diagram, seen: BTreeSet::new() };
                let target = chains.write(self, diagram.root(), false);
                match stage {
                    Stage::Enforced => writeln!(roots, "\t\tmeta nfproto {nfproto} goto {target}"),
                    Stage::Audited => writeln!(audits, "\t\tmeta nfproto {nfproto} jump {target}"),
                }
                .expect("a string takes all text");
            }
        }
        self.rule_chains(path);
        self.default_chain(path);
        let judge = format!("{audits}{roots}\t\tgoto {name}_default");
        match (path, &self.ruleset.forward) {
            (Path::Forward, Forward::Containers { unmanaged, uplinks }) => self.containers(unmanaged, uplinks),
            _ => self.entry_chain(path, &judge),
        }
    }

    /// The chain that the base chain goes to. The order is the policy language's decision 3.
    fn entry_chain(&mut self, path: Path, judge: &str) {
        let name = self.name(path);
        let generation = self.generation;
        let (loopback, probe) = match path {
            Path::Input => ("\t\tiif \"lo\" accept\n", probe_watch()),
            Path::Output => ("\t\toif \"lo\" accept\n", probe_pass()),
            Path::Forward => ("", probe_watch()),
        };
        let has_answers = self.untracked(path, judge);
        line!(self, "\tcounter {name}_invalid {{ }}");
        line!(self, "\tchain {name} {{");
        self.text.push_str(loopback);
        let verdict = if self.ruleset.audit { "accept" } else { "drop" };
        line!(self, "\t\tct state invalid counter name \"{name}_invalid\" {verdict}");
        line!(self, "\t\tct state established,related jump {generation}_established");
        if has_answers {
            // What returns belongs to a generation that has fallen. If its request is allowed now, too,
            // the end that speaks first must not be cut off.
            line!(self, "\t\tct state established ct direction reply jump {name}_answers");
        }
        let floor = self.floor(path);
        self.text.push_str(&floor);
        line!(self, "\t\tct state untracked goto {name}_untracked");
        self.text.push_str(&probe);
        line!(self, "{judge}");
        line!(self, "\t}}");
    }

    /// Packets that conntrack was told to leave alone are judged without state, in either direction:
    /// as a request by this path's entries, or as an answer by the opposite path's. Whether there is
    /// anything to answer.
    fn untracked(&mut self, path: Path, judge: &str) -> bool {
        let name = self.name(path);
        let opposite = match path {
            Path::Input => Path::Output,
            Path::Output => Path::Input,
            Path::Forward => Path::Forward,
        };
        line!(self, "\tcounter {name}_untracked {{ }}");
        let mut lines = Vec::new();
        for family in Family::ALL {
            lines.extend(linear::answers(self.generation, self.ruleset.entries(opposite), family));
        }
        if !lines.is_empty() {
            self.chain(&format!("{name}_answers"), &lines, None);
        }
        line!(self, "\tchain {name}_untracked {{");
        line!(self, "\t\tcounter name \"{name}_untracked\"");
        if !lines.is_empty() {
            line!(self, "\t\tjump {name}_answers");
        }
        line!(self, "{judge}");
        line!(self, "\t}}");
        !lines.is_empty()
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
        let mut published = Vec::new();
        let mut egress = Vec::new();
        for family in Family::ALL {
            published.extend(linear::published(generation, &self.ruleset.input, family, &input));
            egress.extend(linear::egress(generation, &self.ruleset.output, family, &self.ruleset.local, &output));
        }
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

/// Writes the chains of one diagram.
struct Chains<'a> {
    path: Path,
    family: Family,
    stage: Stage,
    diagram: &'a Diagram,
    /// Names of chains that stand already.
    seen: BTreeSet<String>,
}

impl Chains<'_> {
    /// Where to go for a node; writes its chain, and those below it, when it needs one. `is_icmp`
    /// says that the protocol is known to be the family's ICMP, so that a port is a type.
    fn write(&mut self, writer: &mut Writer, index: NodeIndex, is_icmp: bool) -> String {
        let name = writer.name(self.path);
        let suffix = self.stage.suffix();
        let entries = writer.ruleset.entries(self.path);
        let rule_chain = |candidate: &Candidate| format!("{name}_r_{}{suffix}", entries[candidate.entry].id);
        let diagram = self.diagram;
        let node = diagram.node(index);
        if let Node::Leaf(candidates) = node
            && let [only] = &candidates[..]
            && entries[only.entry].is_unconditional()
            && only.source_ports.is_none()
        {
            return rule_chain(only);
        }
        let icmp = if is_icmp { "i" } else { "" };
        let chain = format!("{name}{}{suffix}_{}{icmp}", text::digit(self.family), index.number());
        if !self.seen.insert(chain.clone()) {
            return chain;
        }
        let (lines, is_total) = match node {
            Node::Leaf(candidates) => {
                let lines: Vec<String> = candidates
                    .iter()
                    .flat_map(|candidate| {
                        let target = rule_chain(candidate);
                        let entry = &entries[candidate.entry];
                        let ports = candidate.source_ports.as_ref();
                        linear::conditions(writer.generation, entry, ports, self.family, self.path)
                            .into_iter()
                            .map(move |condition| format!("{condition}goto {target}"))
                    })
                    .collect();
                let decides = candidates.last().is_some_and(|last| {
                    entries[last.entry].is_unconditional() && last.source_ports.is_none()
                });
                (lines, decides)
            }
            Node::Branch { field, arms } => {
                let mut targets = Vec::new();
                for (first, last, next) in arms {
                    let below_icmp = match field {
                        Field::Protocol => first == last && *first == icmp_number(self.family),
                        Field::Port => false,
                        Field::Source | Field::Destination => is_icmp,
                    };
                    targets.push((*first, *last, self.write(writer, *next, below_icmp)));
                }
                (self.branch(*field, is_icmp, &targets), false)
            }
        };
        let otherwise = (!is_total && self.stage == Stage::Enforced).then(|| format!("goto {name}_default"));
        writer.chain(&chain, &lines, otherwise);
        chain
    }

    /// One verdict map for the arms, or one set where all go to the same chain. Exact keys and
    /// ranges stand apart: exact keys are found by hash.
    fn branch(&self, field: Field, is_icmp: bool, arms: &[(u128, u128, String)]) -> Vec<String> {
        let (expression, scale) = self.expression(field, is_icmp, arms);
        let key = |(first, last, _): &(u128, u128, String)| text::key(field, self.family, first / scale, last / scale);
        let (exact, ranges): (Vec<_>, Vec<_>) = arms.iter().partition(|(first, last, _)| first / scale == last / scale);
        let parts = if exact.len() >= HASH_MIN && !ranges.is_empty() {
            vec![exact, ranges]
        } else {
            vec![arms.iter().collect()]
        };
        let lines = parts.into_iter().map(|part| {
            if part.iter().all(|(.., target)| *target == part[0].2) {
                let keys: Vec<String> = part.iter().map(|arm| key(arm)).collect();
                format!("{expression} {} goto {}", text::set(&keys), part[0].2)
            } else {
                let arms: Vec<String> = part.iter().map(|arm| format!("{} : goto {}", key(arm), arm.2)).collect();
                format!("{expression} vmap {{ {} }}", arms.join(", "))
            }
        });
        lines.collect()
    }

    /// The expression for a field, and by what its coordinates are divided to make keys.
    fn expression(&self, field: Field, is_icmp: bool, arms: &[(u128, u128, String)]) -> (String, u128) {
        let ip = text::ip(self.family);
        match field {
            Field::Source => (format!("{ip} saddr"), 1),
            Field::Destination => (format!("{ip} daddr"), 1),
            Field::Protocol => ("meta l4proto".into(), 1),
            Field::Port if !is_icmp => ("th dport".into(), 1),
            Field::Port => {
                let whole_types = arms.iter().all(|(first, last, _)| first % 256 == 0 && last % 256 == 255);
                let icmp = if self.family == Family::V4 { "icmp" } else { "icmpv6" };
                // Type and code are the first two bytes of both headers (RFC 792, RFC 4443 §2.1).
                if whole_types { (format!("{icmp} type"), 256) } else { ("@th,0,16".into(), 1) }
            }
        }
    }
}

/// From this many exact keys on, a map of their own is faster than sharing one with ranges.
const HASH_MIN: usize = 16;

fn icmp_number(family: Family) -> u128 {
    match family {
        Family::V4 => 1,
        Family::V6 => 58,
    }
}
