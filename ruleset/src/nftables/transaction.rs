//! What is loaded at once: a generation on trial, its confirmation, its end.
//!
//! On trial both generations are in the kernel. Each base chain asks the set of the dead-man switch
//! first: while its two elements live the new generation decides, and when they expire the old one
//! does, with no program alive.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use ringwall_packet::{AddressSet, Family};

use super::blocks::{self, BLOCKS_TABLE};
use super::body::{body, name_set, name_sets, timeout_objects};
use super::text;
use crate::meaning::Path;
use crate::model::Ruleset;

/// The table of the policy.
pub const TABLE: &str = "ringwall";

/// The bits of the connection mark that are ours; all others are kept.
pub const MARK_MASK: u32 = 0xff00_0000;

/// The number of a node's ruleset, which only rises. Printed as `g42`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u32);

impl Generation {
    /// How many generations may follow before a mark means another generation again.
    const MARKS: u32 = 255;
    /// A generation refuses connections of this many that come after it.
    const LATER: u32 = 100;

    /// The mark of connections that this generation accepted; 0 is nobody's.
    pub fn mark(self) -> u32 {
        (self.0 % Self::MARKS + 1) << MARK_MASK.trailing_zeros()
    }

    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// `g42` or `g42_in_default` -> 42.
    pub fn of_name(name: &str) -> Option<Self> {
        let digits = name.strip_prefix('g')?.split('_').next()?;
        digits.parse().ok().map(Self)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}", self.0)
    }
}

/// What of ours the kernel holds, by the names of its objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    /// The generation that decides when no trial is on.
    pub current: Option<Generation>,
    /// Generations after `current` that were never confirmed, alive or not.
    pub fallen: BTreeSet<Generation>,
    /// Of table `ringwall`: all chains, counters and sets whose names begin with a generation.
    pub chains: Vec<String>,
    pub counters: Vec<String>,
    pub sets: Vec<String>,
}

/// Whether a generation falls by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// Unless it is confirmed within so many seconds.
    Within(u32),
    Never,
}

/// A text on its way into the kernel, and what it meets there.
#[derive(Clone, Copy, Debug)]
pub struct Loading<'a> {
    pub text: &'a str,
    pub generation: Generation,
    /// All chains, counters and sets of table `ringwall`, those that nobody of ours made among them.
    pub installed: &'a Installed,
    pub confirm: Confirm,
}

const HOOKS: [(Path, &str); 3] = [(Path::Input, "input"), (Path::Output, "output"), (Path::Forward, "forward")];

macro_rules! line {
    ($text:expr, $($argument:tt)*) => {
        writeln!($text, $($argument)*).expect("a string takes all text")
    };
}

/// Loads `ruleset` as `generation`, on trial or for good.
pub fn transaction(ruleset: &Ruleset, generation: Generation, installed: &Installed, confirm: Confirm) -> String {
    let mut text = blocks::skeleton();
    line!(text, "table inet {TABLE} {{");
    for family in Family::ALL {
        let digit = text::digit(family);
        let address = format!("ipv{digit}_addr");
        let key = format!("{address} . {address} . inet_proto . inet_service . inet_service");
        line!(text, "\tset probe_pass{digit} {{\n\t\ttype {key}\n\t\tsize 65536\n\t\tflags timeout\n\t}}");
        line!(text, "\tset probe_watch{digit} {{\n\t\ttype {key}\n\t\tsize 65536\n\t\tflags timeout\n\t}}");
    }
    for (name, family) in name_sets(ruleset) {
        let address = format!("ipv{}_addr", text::digit(family));
        line!(text, "\tset {} {{\n\t\ttype {address}\n\t\tsize 1024\n\t\tflags timeout\n\t}}", name_set(generation, &name, family));
    }
    for seconds in timeout_objects(ruleset) {
        for family in Family::ALL {
            let (ip, digit) = (text::ip(family), text::digit(family));
            line!(text, "\tct timeout tcp{digit}_{seconds} {{");
            line!(text, "\t\tprotocol tcp\n\t\tl3proto {ip}\n\t\tpolicy = {{ established : {seconds} }}\n\t}}");
        }
    }
    text.push_str(&body(ruleset, generation));
    text.push_str(&established_chain(generation, &installed.fallen));
    if let Confirm::Within(_) = confirm {
        line!(text, "\tset {generation}_armed {{\n\t\ttypeof meta nfproto\n\t\tflags timeout\n\t}}");
    }
    // A trial with nothing to fall back to falls to no enforcement.
    let accepts = match confirm {
        Confirm::Within(_) => installed.current.is_none(),
        Confirm::Never => ruleset.audit,
    };
    base_chains(&mut text, if accepts { "accept" } else { "drop" });
    line!(text, "}}");
    for (_, chain) in HOOKS {
        line!(text, "flush chain inet {TABLE} {chain}");
    }
    match confirm {
        Confirm::Within(seconds) => {
            let armed = format!("{generation}_armed");
            line!(text, "add element inet {TABLE} {armed} {{ ipv4 timeout {seconds}s, ipv6 timeout {seconds}s }}");
            for (path, chain) in HOOKS {
                let short = path.short();
                let rule = format!("add rule inet {TABLE} {chain}");
                line!(text, "{rule} meta nfproto @{armed} goto {generation}_{short} comment \"{generation}\"");
                if let Some(current) = installed.current {
                    line!(text, "{rule} goto {current}_{short} comment \"{current}\"");
                }
            }
            let stale = |name: &&String| {
                Generation::of_name(name).is_some_and(|of| Some(of) != installed.current)
            };
            delete(&mut text, installed, stale);
        }
        Confirm::Never => {
            settle(&mut text, ruleset, generation);
            delete(&mut text, installed, |_| true);
        }
    }
    text
}

/// Makes the generation on trial the only one. Fails, and changes nothing, when it has fallen.
/// `installed` is read after the trial was loaded.
pub fn confirm(ruleset: &Ruleset, generation: Generation, installed: &Installed) -> String {
    let mut text = format!("delete element inet {TABLE} {generation}_armed {{ ipv4, ipv6 }}\n");
    line!(text, "table inet {TABLE} {{");
    base_chains(&mut text, if ruleset.audit { "accept" } else { "drop" });
    line!(text, "}}");
    for (_, chain) in HOOKS {
        line!(text, "flush chain inet {TABLE} {chain}");
    }
    settle(&mut text, ruleset, generation);
    line!(text, "delete set inet {TABLE} {generation}_armed");
    let armed = format!("{generation}_armed");
    delete(&mut text, installed, |name| Generation::of_name(name) != Some(generation) && **name != armed);
    text
}

/// Ends a trial at once: what was there before it decides again.
pub fn rollback(trial: Generation, installed: &Installed) -> String {
    let mut text = String::new();
    for (path, chain) in HOOKS {
        line!(text, "flush chain inet {TABLE} {chain}");
        if let Some(current) = installed.current {
            line!(text, "add rule inet {TABLE} {chain} goto {current}_{} comment \"{current}\"", path.short());
        }
    }
    delete(&mut text, installed, |name| Generation::of_name(name) == Some(trial));
    text
}

/// Takes out our tables and nothing else, whether they are there or not.
pub fn remove() -> String {
    [TABLE, BLOCKS_TABLE, LEARN_TABLE]
        .map(|table| format!("add table inet {table}\ndelete table inet {table}\n"))
        .concat()
}

const LEARN_TABLE: &str = "ringwall_learn";

/// A table that tracks and accepts, so that live connections have entries before the first
/// enforcement. It goes with the first generation's confirmation.
pub fn learn() -> String {
    let mut text = format!("table inet {LEARN_TABLE} {{\n");
    for (_, hook) in HOOKS {
        line!(text, "\tchain {hook} {{");
        line!(text, "\t\ttype filter hook {hook} priority filter - 11; policy accept;");
        line!(text, "\t\tct state new accept\n\t}}");
    }
    line!(text, "}}");
    text
}

/// The generation decides alone.
fn settle(text: &mut String, ruleset: &Ruleset, generation: Generation) {
    for (path, chain) in HOOKS {
        line!(text, "add rule inet {TABLE} {chain} goto {generation}_{} comment \"{generation}\"", path.short());
    }
    for family in Family::ALL {
        let set = format!("inet {BLOCKS_TABLE} protected{}", text::digit(family));
        line!(text, "flush set {set}");
        let one_family = match family {
            Family::V4 => AddressSet { v4: ruleset.protected.v4.clone(), ..AddressSet::default() },
            Family::V6 => AddressSet { v6: ruleset.protected.v6.clone(), ..AddressSet::default() },
        };
        if one_family.has(family) {
            let elements = text::addresses(&one_family, family).unwrap_or_else(|| match family {
                Family::V4 => "0.0.0.0/0".into(),
                Family::V6 => "::/0".into(),
            });
            line!(text, "add element {set} {{ {} }}", elements.trim_matches(['{', '}', ' ']));
        }
    }
    line!(text, "add table inet {LEARN_TABLE}\ndelete table inet {LEARN_TABLE}");
}

/// Deletes objects of ours: chains are emptied first, since they refer to each other.
fn delete(text: &mut String, installed: &Installed, which: impl Fn(&&String) -> bool) {
    for chain in installed.chains.iter().filter(&which) {
        line!(text, "flush chain inet {TABLE} {chain}");
    }
    for chain in installed.chains.iter().filter(&which) {
        line!(text, "delete chain inet {TABLE} {chain}");
    }
    for counter in installed.counters.iter().filter(&which) {
        line!(text, "delete counter inet {TABLE} {counter}");
    }
    for set in installed.sets.iter().filter(&which) {
        line!(text, "delete set inet {TABLE} {set}");
    }
}

fn base_chains(text: &mut String, policy: &str) {
    for (_, hook) in HOOKS {
        // Before `filter`, where firewalld, Docker and others sit: what we drop they never see.
        line!(text, "\tchain {hook} {{");
        line!(text, "\t\ttype filter hook {hook} priority filter - 10; policy {policy};\n\t}}");
    }
}

/// Accepts established and related packets, but not those of connections that a generation accepted
/// which has fallen since: they are judged anew.
fn established_chain(generation: Generation, fallen: &BTreeSet<Generation>) -> String {
    let mut refused: Vec<String> = Vec::new();
    let marks = fallen.iter().map(|of| of.mark());
    refused.extend(marks.map(|mark| format!("{mark:#010x}")));
    let (first, last) = (Generation(generation.0.saturating_add(1)), Generation(generation.0.saturating_add(Generation::LATER)));
    if first.mark() <= last.mark() {
        refused.push(format!("{:#010x}-{:#010x}", first.mark(), last.mark()));
    } else {
        refused.push(format!("{:#010x}-{:#010x}", first.mark(), MARK_MASK));
        refused.push(format!("{:#010x}-{:#010x}", 1u32 << MARK_MASK.trailing_zeros(), last.mark()));
    }
    let mut text = format!("\tcounter {generation}_established {{ }}\n\tchain {generation}_established {{\n");
    for marks in refused {
        line!(text, "\t\tct mark and {MARK_MASK:#010x} {marks} return");
    }
    line!(text, "\t\tcounter name \"{generation}_established\" accept\n\t}}");
    text
}
