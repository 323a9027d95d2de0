//! What each match module asks, option by option (iptables-extensions(8)).
//!
//! In: the options of one `-m`. Out: sets for header fields and variables. Never: a module that is not
//! known; those are variables as a whole.

use ringwall_packet::{
    Cube, Family, Interval, IntervalSet, Matches, Protocol, State, UpperCube, Variable, truth,
};

use super::asks::{Asks, Free, TooMany, holds, states, when};
use super::ipset::Sets;
use super::marks::Marks;
use super::matches::{Asked, Module, Parser};
use super::tokens::Token;
use super::values::{self, Version};
use super::{icmp, protocols};

impl<'t, A: Version> Parser<'t, '_, A> {
    /// `--sport`, `--dport`, flags, of a protocol with ports.
    pub(super) fn ports(&mut self, module: &Module<'t>) -> Result<(), TooMany> {
        for asked in &module.options {
            match &*asked.name.text {
                "--sport" | "--source-port" => self.port(asked, false),
                "--dport" | "--destination-port" => self.port(asked, true),
                "--syn" => self.flags(asked, "FIN,SYN,RST,ACK", "SYN"),
                "--tcp-flags" => {
                    let [mask, set] = &asked.values[..] else {
                        self.wrong(&asked.name, "`--tcp-flags` has two lists", "which flags to look at, and which of them are set");
                        continue;
                    };
                    self.flags(asked, &mask.text, &set.text);
                }
                "--tcp-option" | "--chunk-types" | "--dccp-types" | "--dccp-option" => {
                    let values: Vec<_> = asked.values.iter().map(Token::typed).collect();
                    let text = format!("-m {} {} {}", module.name, asked.name.text, values.join(" "));
                    let why = "what this match asks is not modelled";
                    self.asks.free.push(Free { text, holds: !asked.is_not, changes: false, why });
                }
                _ => self.unknown_option(asked, module),
            }
        }
        Ok(())
    }

    /// The rule's protocol, when it has ports.
    fn ported(&mut self, asked: &Asked<'t>) -> Option<Protocol> {
        let protocol = self.protocol.filter(|protocol| protocol.has_ports());
        if protocol.is_none() {
            self.wrong(&asked.name, format!("`{}` without a protocol that has ports", asked.name.text), "needs `-p tcp`, or another before it");
        }
        protocol
    }

    fn port_set(&mut self, asked: &Asked<'t>) -> Option<IntervalSet<u16>> {
        let set = values::ports(asked.value());
        if set.is_none() {
            let at = asked.values.first().unwrap_or(&asked.name);
            self.wrong(at, format!("`{}` is no port", asked.value()), "expected a number or a range, as iptables-save prints them");
        }
        set.map(|set| if asked.is_not { set.complement() } else { set })
    }

    fn port(&mut self, asked: &Asked<'t>, is_destination: bool) {
        let (Some(protocol), Some(set)) = (self.ported(asked), self.port_set(asked)) else { return };
        self.asks.upper(of_ports(protocol, set, is_destination));
    }

    /// Among the flags of `mask`, those of `set` are set and no other.
    fn flags(&mut self, asked: &Asked<'t>, mask: &str, set: &str) {
        // By bit (RFC 9293 §3.1).
        const FLAGS: [&str; 6] = ["fin", "syn", "rst", "psh", "ack", "urg"];
        let flags = |list: &str| -> Option<u8> {
            let flag = |word: &str| match &word.to_ascii_lowercase()[..] {
                "all" => Some(0x3f),
                "none" => Some(0),
                word => FLAGS.iter().position(|flag| *flag == word).map(|bit| 1 << bit),
            };
            list.split(',').map(flag).try_fold(0, |all, flag| Some(all | flag?))
        };
        let (Some(mask), Some(set)) = (flags(mask), flags(set)) else {
            return self.wrong(&asked.name, "a TCP flag that is not known", "flags are FIN, SYN, RST, PSH, ACK, URG, ALL and NONE");
        };
        let values: IntervalSet<u8> = (0..=u8::MAX).filter(|value| (value & mask == set) != asked.is_not).collect();
        self.asks.variable(Variable::Field("tcp flags".into()), &values::of_variable(&values, u8::MAX, u128::from));
    }

    pub(super) fn multiport(&mut self, module: &Module<'t>) -> Result<(), TooMany> {
        for asked in &module.options {
            let (Some(protocol), Some(set)) = (self.ported(asked), self.port_set(asked)) else { continue };
            match &*asked.name.text {
                "--sports" | "--source-ports" => self.asks.upper(of_ports(protocol, set, false)),
                "--dports" | "--destination-ports" => self.asks.upper(of_ports(protocol, set, true)),
                "--ports" | "--port" if asked.is_not => {
                    self.asks.upper(of_ports(protocol, set.clone(), false));
                    self.asks.upper(of_ports(protocol, set, true));
                }
                "--ports" | "--port" => {
                    let either = [false, true].map(|is_destination| of_ports(protocol, set.clone(), is_destination));
                    let either = either.into_iter().filter(|upper| !upper.protocols().is_empty());
                    let cubes = either.map(|upper| Cube { upper, ..Cube::any() });
                    self.asks.and(&cubes.map(Into::into).collect::<Vec<_>>())?;
                }
                _ => self.unknown_option(asked, module),
            }
        }
        Ok(())
    }

    pub(super) fn icmp(&mut self, module: &Module<'t>) -> Result<(), TooMany> {
        let protocol = if A::FAMILY == Family::V4 { Protocol::ICMP } else { Protocol::ICMPV6 };
        let option = if A::FAMILY == Family::V4 { "--icmp-type" } else { "--icmpv6-type" };
        for asked in &module.options {
            if asked.name.text != option {
                self.unknown_option(asked, module);
                continue;
            }
            let Some(set) = icmp::types(asked.value(), A::FAMILY) else {
                let at = asked.values.first().unwrap_or(&asked.name);
                self.wrong(at, format!("`{}` is no ICMP type of {}", asked.value(), A::FAMILY), "expected a number, `type/code` or a name");
                continue;
            };
            let set = if asked.is_not { set.complement() } else { set };
            let upper = UpperCube::new(IntervalSet::single(protocol.0), set, IntervalSet::full());
            self.asks.upper(upper.expect("ICMP has types"));
        }
        Ok(())
    }

    pub(super) fn iprange(&mut self, module: &Module<'t>) -> Result<(), TooMany> {
        for asked in &module.options {
            let Some(set) = values::range::<A>(asked.value()) else {
                let at = asked.values.first().unwrap_or(&asked.name);
                self.wrong(at, format!("`{}` is no range of {} addresses", asked.value(), A::FAMILY), "expected FIRST-LAST");
                continue;
            };
            let set = if asked.is_not { set.complement() } else { set };
            match &*asked.name.text {
                "--src-range" => self.asks.source(set),
                "--dst-range" => self.asks.destination(set),
                _ => self.unknown_option(asked, module),
            }
        }
        Ok(())
    }

    /// `conntrack_mt` of Linux: a packet that no connection belongs to (invalid or untracked) is judged
    /// by `--ctstate` alone, and never matches without it.
    pub(super) fn conntrack(&mut self, module: &Module<'t>) -> Result<(), TooMany> {
        let tracked = states([State::New, State::Established, State::Related]);
        let mut with = Asks::<A>::any();
        with.variable(Variable::State, &tracked);
        let mut without: Vec<Matches<A>> = Vec::new();
        for asked in &module.options {
            let value = asked.value();
            let bad = match &*asked.name.text {
                "--ctstate" | "--state" => {
                    let Some((known, statuses)) = state_list(value) else {
                        self.wrong(asked.values.first().unwrap_or(&asked.name), format!("`{value}` is no list of states"), "NEW, ESTABLISHED, RELATED, INVALID, UNTRACKED, SNAT or DNAT");
                        continue;
                    };
                    let known = if asked.is_not { known.complement() } else { known };
                    without = when(Variable::State, &known.difference(&tracked)).into_iter().collect();
                    if asked.is_not {
                        with.variable(Variable::State, &known);
                        for status in statuses {
                            with.and(&[holds(status, false)])?;
                        }
                    } else {
                        let either = when(Variable::State, &known).into_iter();
                        with.and(&either.chain(statuses.into_iter().map(|status| holds(status, true))).collect::<Vec<_>>())?;
                    }
                    false
                }
                "--ctorigdst" => match values::addresses::<A>(value) {
                    Some(set) => {
                        with.variable(Variable::OriginalDestination, &of_addresses(&set, asked.is_not));
                        false
                    }
                    None => true,
                },
                "--ctorigdstport" => match values::ports(value) {
                    Some(set) => {
                        with.variable(Variable::OriginalPort, &of_port_values(&set, asked.is_not));
                        false
                    }
                    None => true,
                },
                "--ctorigsrc" | "--ctreplsrc" | "--ctrepldst" => match values::addresses::<A>(value) {
                    Some(set) => {
                        let ip = if A::FAMILY == Family::V4 { "ip" } else { "ip6" };
                        let (way, end) = way_and_end(&asked.name.text);
                        with.variable(Variable::Field(format!("ct {way} {ip} {end}addr").into()), &of_addresses(&set, asked.is_not));
                        false
                    }
                    None => true,
                },
                "--ctorigsrcport" | "--ctreplsrcport" | "--ctrepldstport" => match values::ports(value) {
                    Some(set) => {
                        let (way, end) = way_and_end(&asked.name.text);
                        let field = format!("ct {way} proto-{}", if end == 's' { "src" } else { "dst" });
                        with.variable(Variable::Field(field.into()), &of_port_values(&set, asked.is_not));
                        false
                    }
                    None => true,
                },
                "--ctproto" => match protocols::number(value) {
                    Some(number) => {
                        let set = IntervalSet::single(number);
                        let set = if asked.is_not { set.complement() } else { set };
                        with.variable(Variable::Field("ct protocol".into()), &values::of_variable(&set, u8::MAX, u128::from));
                        false
                    }
                    None => true,
                },
                "--ctdir" => match (value.to_ascii_uppercase().as_str(), asked.is_not) {
                    ("ORIGINAL", is_not) | ("REPLY", is_not) => {
                        let is_reply = value.eq_ignore_ascii_case("REPLY") != is_not;
                        with.variable(Variable::Field("ct direction".into()), &truth(is_reply));
                        false
                    }
                    _ => true,
                },
                "--ctstatus" => match statuses(value) {
                    Some(statuses) if asked.is_not => {
                        statuses.into_iter().try_for_each(|status| with.and(&[holds(&status, false)]))?;
                        false
                    }
                    Some(statuses) => {
                        with.and(&statuses.iter().map(|status| holds(status, true)).collect::<Vec<_>>())?;
                        false
                    }
                    None => true,
                },
                "--ctexpire" => {
                    let text = format!("-m conntrack --ctexpire {value}");
                    let why = "how long a connection may still be idle is not followed";
                    // It counts for packets of connections alone, and there is a variable for each.
                    self.asks.free.push(Free { text, holds: !asked.is_not, changes: true, why });
                    false
                }
                _ => {
                    self.unknown_option(asked, module);
                    false
                }
            };
            if bad {
                self.wrong(asked.values.first().unwrap_or(&asked.name), format!("`{value}` is nothing that `{}` can ask for", asked.name.text), "not understood");
            }
        }
        let either: Vec<_> = with.alternatives.into_iter().chain(without).collect();
        self.asks.and(&joined(either))
    }

    pub(super) fn mark(&mut self, module: &Module<'t>, marks: &Marks) -> Result<(), TooMany> {
        for asked in &module.options {
            let (value, mask) = asked.value().split_once('/').unwrap_or((asked.value(), "0xffffffff"));
            match (&*asked.name.text, values::number(value), values::number(mask)) {
                ("--mark", Some(_), Some(_)) if marks.change => {
                    let mut text = format!("-m {} --mark {}", module.name, asked.value());
                    let why = "the text sets marks on the way, which is not followed";
                    if module.options.len() > 1 {
                        text.push_str(&format!(" #{}", asked.name.start));
                    }
                    self.asks.free.push(Free { text, holds: !asked.is_not, changes: true, why });
                }
                ("--mark", Some(value), Some(mask)) => match marks.ask(value, mask, asked.is_not) {
                    Some(conditions) => {
                        for any_of in conditions {
                            let matches: Vec<_> = any_of.into_iter().filter_map(|(variable, values)| when(variable, &values)).collect();
                            self.asks.and(&matches)?;
                        }
                    }
                    None => self.asks.nothing(),
                },
                ("--mark", ..) => self.wrong(asked.values.first().unwrap_or(&asked.name), format!("`{}` is no mark", asked.value()), "expected VALUE or VALUE/MASK"),
                _ => self.unknown_option(asked, module),
            }
        }
        Ok(())
    }

    pub(super) fn hops(&mut self, module: &Module<'t>) -> Result<(), TooMany> {
        let field = if A::FAMILY == Family::V4 { "ip ttl" } else { "ip6 hoplimit" };
        for asked in &module.options {
            let Ok(number) = asked.value().parse::<u8>() else {
                self.wrong(asked.values.first().unwrap_or(&asked.name), format!("`{}` is no number of hops", asked.value()), "0 to 255");
                continue;
            };
            let single = IntervalSet::single(number);
            let interval = |first, last| Interval::new(first, last).map_or_else(IntervalSet::default, IntervalSet::from);
            let set = match asked.name.text.trim_start_matches("--ttl-").trim_start_matches("--hl-") {
                "eq" => single,
                "lt" => number.checked_sub(1).map_or_else(IntervalSet::default, |last| interval(0, last)),
                "gt" => number.checked_add(1).map_or_else(IntervalSet::default, |first| interval(first, u8::MAX)),
                _ => {
                    self.unknown_option(asked, module);
                    continue;
                }
            };
            let set = if asked.is_not { set.complement() } else { set };
            self.asks.variable(Variable::Field(field.into()), &values::of_variable(&set, u8::MAX, u128::from));
        }
        Ok(())
    }

    pub(super) fn address_type(&mut self, module: &Module<'t>) -> Result<(), TooMany> {
        let is_plain = |asked: &Asked<'_>| matches!(&*asked.name.text, "--src-type" | "--dst-type");
        let types = |asked: &Asked<'_>| -> Option<IntervalSet<u128>> {
            let number = |word: &str| u128::try_from(ADDRESS_TYPES.iter().position(|known| known.eq_ignore_ascii_case(word))?).ok();
            asked.value().split(',').map(number).collect()
        };
        if !module.options.iter().all(|asked| is_plain(asked) && types(asked).is_some()) {
            self.free(module, "what this match asks is not modelled");
            return Ok(());
        }
        for asked in &module.options {
            let set = types(asked).unwrap_or_default();
            let set = if asked.is_not { set.complement() } else { set };
            let end = if asked.name.text == "--src-type" { "saddr" } else { "daddr" };
            self.asks.variable(Variable::Field(format!("fib {end} type").into()), &set);
        }
        Ok(())
    }

    /// xt_time: from the first second to the last, in UTC; what it asks of the day itself is not followed.
    pub(super) fn time(&mut self, module: &Module<'t>) -> Result<(), TooMany> {
        let is_day = |asked: &&Asked<'_>| matches!(&*asked.name.text, "--datestart" | "--datestop");
        let is_plain = |asked: &Asked<'_>| !asked.is_not && !matches!(&*asked.name.text, "--kerneltz" | "--localtz" | "--contiguous");
        let days: Option<Vec<_>> = module.options.iter().filter(is_day).map(|asked| Some((asked, values::time(asked.value())?))).collect();
        let Some(days) = days.filter(|_| module.options.iter().all(is_plain)) else {
            self.free(module, "times of the day are not followed");
            return Ok(());
        };
        let (mut first, mut last) = (0, LAST_TIME);
        for (asked, time) in days {
            if asked.name.text == "--datestart" { first = time } else { last = time }
        }
        match Interval::new(u128::from(first), u128::from(last)) {
            Some(interval) => self.asks.variable(Variable::Clock, &interval.into()),
            None => self.asks.nothing(),
        }
        let rest = module.options.iter().filter(|asked| !is_day(asked) && asked.name.text != "--utc").cloned();
        let rest = Module { name: module.name.clone(), span: module.span, options: rest.collect() };
        if !rest.options.is_empty() {
            self.free(&rest, "times of the day are not followed");
        }
        Ok(())
    }

    pub(super) fn set(&mut self, module: &Module<'t>, sets: Option<&Sets>) -> Result<(), TooMany> {
        if let [asked] = &module.options[..]
            && let [name, flags] = &asked.values[..]
            && let Some(set) = sets.and_then(|sets| sets.find(&name.text))
            && let Some(matches) = set.matches::<A>(&flags.text, asked.is_not)
        {
            return self.asks.and(&matches);
        }
        let why = if sets.is_some() { "the set is not there, or of a kind that is not read" } else { "what is in the set is not in the text" };
        self.free(module, why);
        Ok(())
    }
}

/// `RTN_*` of linux/rtnetlink.h, by number.
const ADDRESS_TYPES: [&str; 12] = [
    "UNSPEC", "UNICAST", "LOCAL", "BROADCAST", "ANYCAST", "MULTICAST", "BLACKHOLE", "UNREACHABLE", "PROHIBIT", "THROW", "NAT",
    "XRESOLVE",
];

/// The last second of xt_time where no `--datestop` is given: the greatest signed number of 32 bits.
pub(super) const LAST_TIME: u64 = 0x7fff_ffff;

fn of_ports(protocol: Protocol, set: IntervalSet<u16>, is_destination: bool) -> UpperCube {
    let (destination, source) = if is_destination { (set, IntervalSet::full()) } else { (IntervalSet::full(), set) };
    UpperCube::new(IntervalSet::single(protocol.0), destination, source).expect("a protocol with ports")
}

fn of_addresses<A: Version>(set: &IntervalSet<A>, is_not: bool) -> IntervalSet<u128> {
    let set = if is_not { set.complement() } else { set.clone() };
    values::of_variable(&set, A::MAX, A::bits)
}

fn of_port_values(set: &IntervalSet<u16>, is_not: bool) -> IntervalSet<u128> {
    let set = if is_not { set.complement() } else { set.clone() };
    values::of_variable(&set, u16::MAX, u128::from)
}

/// `--ctreplsrc` -> `reply`, `s`.
fn way_and_end(option: &str) -> (&'static str, char) {
    (if option.contains("orig") { "original" } else { "reply" }, if option.contains("src") { 's' } else { 'd' })
}

/// The states of a list, and the statuses that iptables counts among them.
fn state_list(list: &str) -> Option<(IntervalSet<u128>, Vec<&'static str>)> {
    let (mut known, mut statuses) = (Vec::new(), Vec::new());
    for word in list.split(',').map(str::to_ascii_lowercase) {
        match &word[..] {
            "snat" => statuses.push("ct status snat"),
            "dnat" => statuses.push("ct status dnat"),
            word => known.push(State::ALL.into_iter().find(|state| state.word() == word)?),
        }
    }
    Some((states(known), statuses))
}

/// Variables of a list of `--ctstatus`, in nftables' words.
fn statuses(list: &str) -> Option<Vec<String>> {
    let word = |word: &str| match &word.to_ascii_lowercase()[..] {
        "none" => Some("ct status 0".into()),
        "seen_reply" => Some("ct status seen-reply".into()),
        word @ ("expected" | "assured" | "confirmed" | "snat" | "dnat" | "dying") => Some(format!("ct status {word}")),
        _ => None,
    };
    list.split(',').map(word).collect()
}

/// Alternatives that differ in the conntrack state alone are one.
fn joined<A: Version>(alternatives: Vec<Matches<A>>) -> Vec<Matches<A>> {
    let is_of_state = |matches: &Matches<A>| {
        matches.conditions.iter().all(|(variable, _)| *variable == Variable::State) && matches.cube == Cube::any()
    };
    if alternatives.is_empty() || !alternatives.iter().all(is_of_state) {
        return alternatives;
    }
    let full = IntervalSet::full();
    let values = alternatives.iter().flat_map(|one| one.conditions.values(&Variable::State).unwrap_or(&full).intervals().to_vec());
    when(Variable::State, &values.collect()).into_iter().collect()
}
