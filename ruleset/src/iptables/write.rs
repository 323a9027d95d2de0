//! A [`Ruleset`] as texts for `iptables-restore` and `ip6tables-restore`.
//!
//! In: the neutral ruleset. Out: two texts, each the whole filter table of a family; the same ruleset gives
//! the same bytes. Never: a rule that is wider than its entry, or an entry left out without a word;
//! what the target can't express is refused by name, all of it at once.
//!
//! An entry that is a product of many addresses and ports becomes chains that jump to each other, one
//! for each side of the product, so that it takes as many rules as there are addresses and not the
//! product of them. A packet that one of them does not match comes back to the next entry.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Subnets, Ipv6Subnets};
use ringwall_packet::{Family, Interval, IntervalSet, Protocol, UpperCube, Witness};

use super::proof;
use super::refusals::{Refusal, refusals};
use super::values::Version;
use crate::meaning::Path;
use crate::model::{CLOCK_MIN, Effect, Entry, Forward, Ruleset};
use crate::nftables::LOG_GROUP;

/// The texts of one node, proved to do what its ruleset says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    // INVARIANT: only `write` makes one, after `proof::prove` found no difference.
    v4: String,
    v6: String,
}

impl Proved {
    /// For `iptables-restore`.
    pub fn v4(&self) -> &str {
        &self.v4
    }

    /// For `ip6tables-restore`.
    pub fn v6(&self) -> &str {
        &self.v6
    }
}

/// Why there is no text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unwritten {
    /// All that the target can't express.
    Refused(Vec<Refusal>),
    /// The text that was written does something else than the ruleset: our mistake.
    Different { path: Path, witness: Box<Witness> },
    /// The text could not be read back, or the proof took too long.
    Unproved(String),
}

/// Writes and proves. The ruleset's protected addresses need nothing: this target has no block lists.
pub fn write(ruleset: &Ruleset) -> Result<Proved, Unwritten> {
    let refusals = refusals(ruleset);
    if !refusals.is_empty() {
        return Err(Unwritten::Refused(refusals));
    }
    let proved = Proved { v4: text::<Ipv4Addr>(ruleset), v6: text::<Ipv6Addr>(ruleset) };
    proof::prove(ruleset, &proved.v4, &proved.v6)?;
    Ok(proved)
}

/// One family's text.
fn text<A: Version + Written>(ruleset: &Ruleset) -> String {
    let mut writer = Writer { ruleset, chains: Vec::new(), rules: String::new(), version: std::marker::PhantomData::<A> };
    for path in Path::ALL {
        writer.path(path);
    }
    writer.reject();
    let mut text = format!("# Ruleset of {} for {}-restore, which replaces the whole filter table\n", ruleset.node, A::PROGRAM);
    text.push_str("*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT DROP [0:0]\n");
    for chain in &writer.chains {
        writeln!(text, ":{chain} - [0:0]").expect("a string takes all text");
    }
    text.push_str(&writer.rules);
    text.push_str("COMMIT\n");
    text
}

/// What the two families write in their own way.
trait Written: Sized + std::fmt::Display {
    const PROGRAM: &str;
    const REJECT: &str;
    const ICMP: &str;
    /// The fewest prefixes.
    fn prefixes(interval: Interval<Self>) -> Vec<String>;
    fn sources(entry: &Entry) -> &IntervalSet<Self>;
    fn destinations(entry: &Entry) -> &IntervalSet<Self>;
}

impl Written for Ipv4Addr {
    const PROGRAM: &str = "iptables";
    const REJECT: &str = "icmp-admin-prohibited";
    const ICMP: &str = "-p icmp -m icmp --icmp-type";
    fn prefixes(interval: Interval<Self>) -> Vec<String> {
        Ipv4Subnets::new(interval.first(), interval.last(), 0).map(|prefix| prefix.to_string()).collect()
    }
    fn sources(entry: &Entry) -> &IntervalSet<Self> {
        &entry.source.v4
    }
    fn destinations(entry: &Entry) -> &IntervalSet<Self> {
        &entry.destination.v4
    }
}

impl Written for Ipv6Addr {
    const PROGRAM: &str = "ip6tables";
    const REJECT: &str = "icmp6-adm-prohibited";
    const ICMP: &str = "-p ipv6-icmp -m icmp6 --icmpv6-type";
    fn prefixes(interval: Interval<Self>) -> Vec<String> {
        Ipv6Subnets::new(interval.first(), interval.last(), 0).map(|prefix| prefix.to_string()).collect()
    }
    fn sources(entry: &Entry) -> &IntervalSet<Self> {
        &entry.source.v6
    }
    fn destinations(entry: &Entry) -> &IntervalSet<Self> {
        &entry.destination.v6
    }
}

/// Which fields stand for an entry's ends.
#[derive(Clone, Copy, PartialEq)]
enum View {
    Request,
    Answer,
    /// The destination is the one before translation.
    Published,
}

struct Writer<'a, A> {
    ruleset: &'a Ruleset,
    /// In the order in which they are declared.
    chains: Vec<String>,
    rules: String,
    version: std::marker::PhantomData<A>,
}

macro_rules! rule {
    ($writer:expr, $($argument:tt)*) => {
        writeln!($writer.rules, "-A {}", format_args!($($argument)*)).expect("a string takes all text")
    };
}

/// More rules than this for one entry are written as chains instead of one by one.
const PRODUCT_MAX: usize = 12;

impl<A: Version + Written> Writer<'_, A> {
    fn path(&mut self, path: Path) {
        let chain = chain_of(path);
        let ruleset = self.ruleset;
        match (path, &ruleset.forward) {
            (Path::Input, _) => rule!(self, "{chain} -i lo -j ACCEPT"),
            (Path::Output, _) => rule!(self, "{chain} -o lo -j ACCEPT"),
            (Path::Forward, Forward::Containers { unmanaged, .. }) => {
                for bridge in unmanaged {
                    rule!(self, "{chain} -i {bridge} -j ACCEPT");
                    rule!(self, "{chain} -o {bridge} -j ACCEPT");
                }
            }
            (Path::Forward, Forward::Routed(_)) => {}
        }
        rule!(self, "{chain} -m conntrack --ctstate INVALID -j DROP");
        rule!(self, "{chain} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
        self.floor(path);
        if let (Path::Forward, Forward::Containers { .. }) = (path, &ruleset.forward) {
            let published = self.declare("published");
            rule!(self, "{chain} -m conntrack --ctstate DNAT -j {published}");
            for (index, entry) in ruleset.input.iter().enumerate() {
                self.entry(&published, &format!("{published}-{index}"), entry, View::Published, Path::Input);
            }
            rule!(self, "{chain} -j DROP");
            return;
        }
        let judge = self.declare(&format!("{}-judge", path.short()));
        self.answers(path, &judge);
        rule!(self, "{chain} -j {judge}");
        for (index, entry) in ruleset.entries(path).iter().enumerate() {
            self.entry(&judge, &format!("{}-{index}", path.short()), entry, View::Request, path);
        }
        // What goes out is rejected, so that a local program learns at once.
        rule!(self, "{judge} -j {}", if path == Path::Output { "reject" } else { "DROP" });
    }

    /// The chain of this name, declared; what is in it follows.
    fn declare(&mut self, name: &str) -> String {
        self.chains.push(name.to_owned());
        name.to_owned()
    }

    /// Where an entry sends its packets: a chain of its own where it logs before it decides.
    fn target(&mut self, below: &str, entry: &Entry, path: Path) -> String {
        let target = match entry.effect {
            Effect::Accept { .. } => "ACCEPT",
            Effect::Drop => "DROP",
            Effect::Reject => "reject",
        };
        if !entry.log {
            return target.into();
        }
        let chain = self.declare(&format!("{below}-log"));
        let prefix = format!("ringwall {} {} {}", path.short(), target.to_lowercase(), entry.id);
        rule!(self, "{chain} -j NFLOG --nflog-prefix \"{prefix}\" --nflog-group {LOG_GROUP}");
        rule!(self, "{chain} -j {target}");
        chain
    }

    /// As the nftables target rejects.
    fn reject(&mut self) {
        let chain = self.declare("reject");
        rule!(self, "{chain} -p tcp -j REJECT --reject-with tcp-reset");
        rule!(self, "{chain} -j REJECT --reject-with {}", A::REJECT);
    }

    /// The parts of the floor that are more than addresses and ports.
    fn floor(&mut self, path: Path) {
        let floor = self.ruleset.floor;
        let chain = chain_of(path);
        if path == Path::Forward {
            return;
        }
        let is_v6 = A::FAMILY == Family::V6;
        if floor.neighbour_discovery && is_v6 {
            // RFC 4861 §6.1, §7.1: no router forwarded it.
            for kind in 133..=136 {
                rule!(self, "{chain} {} {kind} -m hl --hl-eq 255 -j ACCEPT", A::ICMP);
            }
        }
        if floor.multicast_listener && is_v6 {
            // RFC 2710, RFC 3810: from link-local addresses, or the unspecified one while starting.
            for (kind, source) in [130, 131, 132, 143].into_iter().flat_map(|kind| ["::/128", "fe80::/10"].map(|source| (kind, source))) {
                rule!(self, "{chain} -s {source} {} {kind} -j ACCEPT", A::ICMP);
            }
        } else if floor.multicast_listener {
            rule!(self, "{chain} -p 2 -j ACCEPT");
        }
        if floor.dhcp {
            // RFC 2131 §4.1, RFC 8415 §7.2.
            let (server, client, near) = match (A::FAMILY, path) {
                (Family::V4, _) => (67, 68, ""),
                (Family::V6, Path::Input) => (547, 546, "-d fe80::/10 "),
                (Family::V6, _) => (547, 546, "-s fe80::/10 "),
            };
            let (from, to) = if path == Path::Input { (server, client) } else { (client, server) };
            rule!(self, "{chain} {near}-p udp -m udp --sport {from} --dport {to} -j ACCEPT");
        }
    }

    /// Packets that conntrack was told to leave alone: the answers to what the opposite path allows are
    /// accepted; one to what it denies is judged like any other packet.
    fn answers(&mut self, path: Path, judge: &str) {
        let opposite = match path {
            Path::Input => Path::Output,
            Path::Output => Path::Input,
            Path::Forward => Path::Forward,
        };
        let name = format!("{}-answers", path.short());
        let before = self.rules.len();
        for (index, entry) in self.ruleset.entries(opposite).iter().enumerate() {
            let target = if matches!(entry.effect, Effect::Accept { .. }) { "ACCEPT" } else { judge };
            let Some(sides) = self.sides(entry, View::Answer, path) else { continue };
            let last = format!("-m comment --comment \"{}\" -j {target}", entry.id);
            self.levels(&name, &format!("{name}-{index}"), String::new(), &sides, &last);
        }
        if self.rules.len() > before {
            self.declare(&name);
            rule!(self, "{} -m conntrack --ctstate UNTRACKED -j {name}", chain_of(path));
        }
    }

    /// The rules of one entry in `chain`; `below` begins the names of chains that it may need.
    fn entry(&mut self, chain: &str, below: &str, entry: &Entry, view: View, path: Path) {
        let Some(sides) = self.sides(entry, view, path) else { return };
        let target = self.target(below, entry, path);
        let last = format!("-m comment --comment \"{}\" -j {target}", entry.id);
        self.levels(chain, below, String::new(), &sides, &last);
    }

    fn levels(&mut self, chain: &str, below: &str, head: String, sides: &[Vec<String>], last: &str) {
        let size = sides.iter().fold(1, |size: usize, side| size.saturating_mul(side.len()));
        if size <= PRODUCT_MAX || sides.len() == 1 {
            for rule in product(sides) {
                rule!(self, "{chain} {head}{rule}{last}");
            }
            return;
        }
        if let [only] = &sides[0][..] {
            return self.levels(chain, below, head + only, &sides[1..], last);
        }
        let next = self.declare(&format!("{below}-{}", sides.len() - 1));
        for part in &sides[0] {
            rule!(self, "{chain} {head}{part}-j {next}");
        }
        self.levels(&next, below, String::new(), &sides[1..], last);
    }

    /// What an entry asks, side by side, each in alternatives with a space after it: addresses, then what
    /// needs `-p`. `None` when nothing of this family can match.
    fn sides(&self, entry: &Entry, view: View, path: Path) -> Option<Vec<Vec<String>>> {
        let (from, to) = (A::sources(entry), A::destinations(entry));
        let sides = match view {
            View::Request => [addresses(from, "-s", "--src-range"), addresses(to, "-d", "--dst-range")],
            View::Answer => [addresses(to, "-s", "--src-range"), addresses(from, "-d", "--dst-range")],
            View::Published => [addresses(from, "-s", "--src-range"), originals(to)],
        };
        let interfaces = match (&entry.interface, path) {
            (None, _) => vec![String::new()],
            (Some(name), Path::Input) => vec![format!("-i {name} ")],
            (Some(name), Path::Output) => vec![format!("-o {name} ")],
            (Some(name), Path::Forward) => vec![format!("-i {name} "), format!("-o {name} ")],
        };
        let time = time(entry)?;
        let mut uppers = Vec::new();
        for cube in entry.upper.of_family(A::FAMILY).cubes() {
            uppers.extend(upper::<A>(cube, view));
        }
        let uppers = uppers.into_iter().map(|upper| format!("{upper}{time}")).collect();
        let [first, second] = sides;
        let sides = vec![interfaces, first, second, uppers];
        sides.iter().all(|side| !side.is_empty()).then_some(sides)
    }
}

fn chain_of(path: Path) -> &'static str {
    match path {
        Path::Input => "INPUT",
        Path::Output => "OUTPUT",
        Path::Forward => "FORWARD",
    }
}

/// One alternative of each side, in every way.
fn product(sides: &[Vec<String>]) -> Vec<String> {
    sides.iter().fold(vec![String::new()], |heads, side| {
        heads.iter().flat_map(|head| side.iter().map(move |part| format!("{head}{part}"))).collect()
    })
}

/// One rule for each interval: a prefix where it is one.
fn addresses<A: Version + Written>(set: &IntervalSet<A>, option: &str, range: &str) -> Vec<String> {
    if set.is_full() {
        return vec![String::new()];
    }
    let one = |interval: &Interval<A>| match &A::prefixes(*interval)[..] {
        [prefix] => format!("{option} {prefix} "),
        _ => format!("-m iprange {range} {}-{} ", interval.first(), interval.last()),
    };
    set.intervals().iter().map(one).collect()
}

/// The destination before translation: prefixes only.
fn originals<A: Version + Written>(set: &IntervalSet<A>) -> Vec<String> {
    if set.is_full() {
        return vec![String::new()];
    }
    set.intervals().iter().flat_map(|interval| A::prefixes(*interval)).map(|prefix| format!("-m conntrack --ctorigdst {prefix} ")).collect()
}

/// While the entry is alive, with a space after it. `None` when it never is.
fn time(entry: &Entry) -> Option<String> {
    let Some(expires) = entry.expires else { return Some(String::new()) };
    let last = expires.checked_sub(1)?;
    let first = if matches!(entry.effect, Effect::Accept { .. }) { CLOCK_MIN } else { 0 };
    (first <= last).then(|| format!("-m time --datestart {} --datestop {} ", date(first), date(last)))
}

/// RFC 3339 without a zone: xt_time counts in UTC.
fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // The Gregorian calendar in eras of 400 years that begin on 1 March.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = (era * 400 + year + u64::from(month >= 10), if month < 10 { month + 3 } else { month - 9 });
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Protocol and ports of a box, in alternatives, each with a space after it.
fn upper<A: Version + Written>(cube: &UpperCube, view: View) -> Vec<String> {
    if cube.protocols().is_full() {
        return vec![String::new()];
    }
    let numbers = cube.protocols().intervals().iter().flat_map(|interval| interval.first()..=interval.last());
    numbers.flat_map(|number| of_protocol::<A>(Protocol(number), cube, view)).collect()
}

fn of_protocol<A: Version + Written>(protocol: Protocol, cube: &UpperCube, view: View) -> Vec<String> {
    let (destination, source) = (cube.destination_ports(), cube.source_ports());
    if destination.is_full() && source.is_full() {
        // An answer to an ICMP message is another message.
        return if view == View::Answer && protocol.is_icmp() && cube.protocols().only().is_some() { Vec::new() } else { vec![format!("-p {} ", name_of(protocol))] };
    }
    if protocol.is_icmp() {
        return if view == View::Answer { Vec::new() } else { icmp(destination).map(|kind| format!("{} {kind} ", A::ICMP)).collect() };
    }
    let head = format!("-p {} ", name_of(protocol));
    let (to, from) = match view {
        View::Request => (ports("--dport", destination, protocol), ports("--sport", source, protocol)),
        View::Answer => (ports("--sport", destination, protocol), ports("--dport", source, protocol)),
        View::Published => (original_ports(destination), ports("--sport", source, protocol)),
    };
    product(&[vec![head], from, to])
}

/// By name where every machine knows it.
fn name_of(protocol: Protocol) -> String {
    match protocol {
        Protocol::TCP | Protocol::UDP | Protocol::ICMP => protocol.to_string(),
        Protocol::ICMPV6 => "ipv6-icmp".into(),
        other => other.0.to_string(),
    }
}

/// Types, and single codes where a type is not there as a whole.
fn icmp(kinds: &IntervalSet<u16>) -> impl Iterator<Item = String> {
    (0..=u8::MAX).flat_map(move |kind| {
        let of_kind = kinds.intersection(&types(kind, 0, u8::MAX));
        let is_whole = of_kind == types(kind, 0, u8::MAX);
        let codes = of_kind.intervals().iter().flat_map(|interval| interval.first()..=interval.last());
        let codes: Vec<String> = if is_whole { vec![kind.to_string()] } else { codes.map(|value| format!("{kind}/{}", value.to_be_bytes()[1])).collect() };
        codes
    })
}

fn types(kind: u8, first: u8, last: u8) -> IntervalSet<u16> {
    let at = |code| u16::from_be_bytes([kind, code]);
    Interval::new(at(first), at(last)).into_iter().collect()
}

/// Ports of one end; lists in portions of 15, in which a range counts twice (xt_multiport).
fn ports(option: &str, set: &IntervalSet<u16>, protocol: Protocol) -> Vec<String> {
    const PLACES: usize = 15;
    if set.is_full() {
        return vec![String::new()];
    }
    let range = |interval: &Interval<u16>| {
        if interval.is_single() { interval.first().to_string() } else { format!("{}:{}", interval.first(), interval.last()) }
    };
    let name = match protocol {
        Protocol::TCP => Some("tcp"),
        Protocol::UDP => Some("udp"),
        _ => None,
    };
    if let ([only], Some(name)) = (set.intervals(), name) {
        return vec![format!("-m {name} {option} {} ", range(only))];
    }
    let (mut lists, mut list, mut places) = (Vec::new(), Vec::new(), 0);
    for interval in set.intervals() {
        let needs = if interval.is_single() { 1 } else { 2 };
        if places + needs > PLACES {
            lists.push(std::mem::take(&mut list));
            places = 0;
        }
        places += needs;
        list.push(range(interval));
    }
    lists.push(list);
    lists.iter().map(|list| format!("-m multiport {option}s {} ", list.join(","))).collect()
}

fn original_ports(set: &IntervalSet<u16>) -> Vec<String> {
    if set.is_full() {
        return vec![String::new()];
    }
    set.intervals().iter().map(|interval| format!("-m conntrack --ctorigdstport {}:{} ", interval.first(), interval.last())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::modules::LAST_TIME;
    use super::*;

    #[test]
    fn dates_are_those_that_are_read() {
        assert_eq!(date(CLOCK_MIN), "2026-11-01T00:00:00");
        for seconds in (0..LAST_TIME).step_by(86_399 * 17).chain([LAST_TIME]) {
            assert_eq!(super::super::values::time(&date(seconds)), Some(seconds), "{}", date(seconds));
        }
    }
}
