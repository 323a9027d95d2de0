//! The matches of one rule: its options, module by module.
//!
//! In: a rule's words. Out: [`Asks`], and where the rule sends a packet. Never: a name that is looked
//! up; an option that is not known is a variable of its own, or a mistake where nothing could ask it.

use ringwall_diagnostic::{Diagnostic, SourceId, Span};
use ringwall_packet::{Family, Interval, IntervalSet, Protocol, State, UpperCube, Variable, interface, interfaces_from, truth};

use super::asks::{Asks, Free, TooMany, holds, states, when};
use super::blocks::Report;
use super::ipset::Sets;
use super::marks::Marks;
use super::tokens::Token;
use super::values::{self, Version};
use super::{icmp, protocols};

/// What does not depend on the rule.
pub(super) struct Context<'a> {
    pub sets: Option<&'a Sets>,
    pub packet_marks: &'a Marks,
    pub connection_marks: &'a Marks,
}

/// One rule, its words understood.
pub(super) struct Rule<'t, A> {
    pub asks: Asks<A>,
    pub target: Option<Target<'t>>,
    pub comment: Option<String>,
    /// What stands before the target.
    pub condition: String,
    /// Names of modules that are not known.
    pub strange: Vec<(String, Span)>,
}

/// `-j NAME OPTIONS` or `-g NAME`.
pub(super) struct Target<'t> {
    pub name: Token<'t>,
    pub is_goto: bool,
    pub options: Vec<Token<'t>>,
}

/// `-m NAME` and the options that follow it.
struct Module<'t> {
    name: String,
    span: Span,
    options: Vec<Asked<'t>>,
}

/// `! --dport 80`.
#[derive(Clone)]
struct Asked<'t> {
    is_not: bool,
    name: Token<'t>,
    values: Vec<Token<'t>>,
}

impl Asked<'_> {
    fn value(&self) -> &str {
        self.values.first().map_or("", |value| &value.text)
    }
}

const PROTOCOL_MODULES: [&str; 7] = ["tcp", "udp", "udplite", "sctp", "dccp", "icmp", "icmp6"];

/// Options that need no `-m`: those of the protocol's own module.
const PROTOCOL_OPTIONS: [&str; 12] = [
    "--sport", "--source-port", "--dport", "--destination-port", "--syn", "--tcp-flags", "--tcp-option", "--icmp-type",
    "--icmpv6-type", "--chunk-types", "--dccp-types", "--dccp-option",
];

/// Modules whose answer about a packet stays the same while it is judged, and which are not modelled.
const STABLE: &[&str] = &[
    "mac", "physdev", "policy", "owner", "rpfilter", "socket", "string", "u32", "bpf", "tos", "dscp", "ecn", "length",
    "pkttype", "ah", "esp", "helper", "realm", "devgroup", "cpu", "cgroup", "tcpmss", "ipv6header", "frag", "hbh", "dst",
    "rt", "mh", "eui64", "srh", "connlabel", "geoip", "cluster", "ipvs", "l2tp", "ipcomp", "time", "set", "conntrack",
    "tcp", "udp", "sctp", "dccp", "addrtype", "ipv4options",
];

/// Known modules that count, remember or draw lots.
const CHANGING: &[&str] = &[
    "limit", "hashlimit", "recent", "statistic", "quota", "connlimit", "connbytes", "rateest", "nfacct", "osf", "condition",
];

/// The rule's words. `None` when they are no rule; the report says why.
pub(super) fn rule<'t, A: Version>(words: Vec<Token<'t>>, source: SourceId, context: &Context<'_>, report: &mut Report) -> Option<Rule<'t, A>> {
    let errors = report.errors;
    let mut parser = Parser {
        source,
        report,
        asks: Asks::any(),
        protocol: None,
        modules: Vec::new(),
        target: None,
        comment: None,
        condition: Vec::new(),
        strange: Vec::new(),
    };
    parser.words(words);
    for module in std::mem::take(&mut parser.modules) {
        if parser.module(&module, context).is_err() {
            // Its alternatives are too many: as a whole, it is a variable.
            parser.free(&module, "too many alternatives");
        }
    }
    let Parser { asks, target, comment, condition, strange, report, .. } = parser;
    (report.errors == errors).then(|| Rule { asks, target, comment, condition: condition.join(" "), strange })
}

struct Parser<'t, 'r, A> {
    source: SourceId,
    report: &'r mut Report,
    asks: Asks<A>,
    /// `-p`, where it is one protocol.
    protocol: Option<Protocol>,
    modules: Vec<Module<'t>>,
    target: Option<Target<'t>>,
    comment: Option<String>,
    condition: Vec<String>,
    strange: Vec<(String, Span)>,
}

impl<'t, A: Version> Parser<'t, '_, A> {
    fn span(&self, token: &Token<'_>) -> Span {
        Span { source: self.source, start: token.start, end: token.end }
    }

    fn wrong(&mut self, token: &Token<'_>, message: impl Into<String>, label: &str) {
        let span = self.span(token);
        self.report.add(Diagnostic::error("RW6105", message).at(span, label));
    }

    /// Sorts the words into what every rule may ask, modules and the target.
    fn words(&mut self, words: Vec<Token<'t>>) {
        let mut words = words.into_iter().peekable();
        let (mut is_not, mut last_not) = (false, None);
        let mut in_target = false;
        while let Some(word) = words.next() {
            if !word.quoted && word.text == "!" {
                is_not = !is_not;
                last_not = Some(word);
                continue;
            }
            let is_core = word.is_option() && CORE.contains(&&*word.text);
            let is_target = matches!(&*word.text, "-j" | "--jump" | "-g" | "--goto");
            if is_core && !(is_target || matches!(&*word.text, "-c" | "--set-counters")) {
                self.condition.extend(is_not.then(|| "!".into()));
                self.condition.push(word.typed());
            }
            let name = if is_core { word.text.clone().into_owned() } else { String::new() };
            let negated = std::mem::take(&mut is_not);
            match &name[..] {
                "-f" | "--fragment" | "--fragments" => {
                    let why = "whether a packet is a fragment is not followed";
                    self.asks.free.push(Free { text: "-f".into(), holds: !negated, changes: false, why });
                    continue;
                }
                "-4" | "--ipv4" | "-6" | "--ipv6" => {
                    if (A::FAMILY == Family::V4) != matches!(&name[..], "-4" | "--ipv4") {
                        self.asks.nothing();
                    }
                    continue;
                }
                "-c" | "--set-counters" => {
                    words.next();
                    words.next();
                    continue;
                }
                "" if negated && !word.is_option() => self.wrong(&word, "`!` before what is no option", "expected an option after it"),
                _ => {}
            }
            if is_core {
                let Some(value) = words.next_if(|next| !next.is_option()) else {
                    self.wrong(&word, format!("`{name}` without a value"), "expected a value after it");
                    continue;
                };
                if !is_target {
                    self.condition.push(value.typed());
                }
                in_target = false;
                match &name[..] {
                    "-m" | "--match" => {
                        self.modules.push(Module { name: value.text.clone().into_owned(), span: self.span(&value), options: Vec::new() });
                    }
                    "-j" | "--jump" | "-g" | "--goto" => {
                        in_target = true;
                        self.target = Some(Target { is_goto: name.starts_with("-g") || name.starts_with("--g"), name: value, options: Vec::new() });
                    }
                    _ => self.core(&name, negated, &value),
                }
                continue;
            }
            if in_target && let Some(target) = &mut self.target {
                target.options.push(word);
                continue;
            }
            self.condition.extend((negated && word.is_option()).then(|| "!".into()));
            self.condition.push(word.typed());
            if word.is_option() {
                let Some(module) = self.module_of(&word) else {
                    self.wrong(&word, format!("`{}` belongs to no match of this rule", word.text), "no `-m` before it has such an option");
                    while words.next_if(|next| !next.is_option() && next.text != "!").is_some() {}
                    continue;
                };
                self.modules[module].options.push(Asked { is_not: negated, name: word, values: Vec::new() });
                // Values of an option of the protocol come to the last module in any case.
                let module = self.modules.remove(module);
                self.modules.push(module);
            } else if let Some(asked) = self.modules.last_mut().and_then(|module| module.options.last_mut()) {
                asked.values.push(word);
            } else {
                self.wrong(&word, format!("`{}` belongs to no option", word.text), "not understood");
            }
        }
        if let Some(word) = last_not.filter(|_| is_not) {
            self.wrong(&word, "`!` before nothing", "expected an option after it");
        }
    }

    /// The module that an option belongs to: the last one, but for options of the protocol itself.
    fn module_of(&mut self, option: &Token<'_>) -> Option<usize> {
        let last = self.modules.len().checked_sub(1);
        if !PROTOCOL_OPTIONS.contains(&&*option.text) {
            return last;
        }
        let found = self.modules.iter().rposition(|module| PROTOCOL_MODULES.contains(&&module.name[..]));
        if found.is_some() {
            return found;
        }
        let name = match self.protocol {
            Some(Protocol::ICMP) => "icmp".into(),
            Some(Protocol::ICMPV6) => "icmp6".into(),
            Some(protocol) if protocol.has_ports() => protocol.to_string(),
            _ => return last,
        };
        self.modules.push(Module { name, span: self.span(option), options: Vec::new() });
        Some(self.modules.len() - 1)
    }

    fn core(&mut self, name: &str, is_not: bool, value: &Token<'t>) {
        match name {
            "-p" | "--protocol" | "--proto" => {
                let text = value.text.to_ascii_lowercase();
                let Some(number) = (if text == "all" { Some(0) } else { protocols::number(&text) }) else {
                    return self.wrong(value, format!("`{}` is no protocol that is known", value.text), "expected a name or a number");
                };
                if number == 0 {
                    // "All", also where it is negated: the kernel asks for no protocol then.
                    return;
                }
                let set = IntervalSet::single(number);
                self.protocol = (!is_not).then_some(Protocol(number));
                let set = if is_not { set.complement() } else { set };
                self.asks.upper(UpperCube::new(set, IntervalSet::full(), IntervalSet::full()).expect("both port fields are full"));
            }
            "-s" | "--source" | "--src" | "-d" | "--destination" | "--dst" => {
                let Some(set) = values::addresses::<A>(&value.text) else {
                    let message = format!("`{}` is no {} address or prefix", value.text, A::FAMILY);
                    return self.wrong(value, message, "expected an address, a prefix or a mask of this family; names are not looked up");
                };
                let set = if is_not { set.complement() } else { set };
                if name == "-s" || name.starts_with("--s") { self.asks.source(set) } else { self.asks.destination(set) }
            }
            _ => {
                let set = match value.text.strip_suffix('+') {
                    Some(prefix) => interfaces_from(prefix),
                    None => interface(&value.text).map(IntervalSet::single),
                };
                let Some(set) = set.filter(|_| !value.text.is_empty()) else {
                    return self.wrong(value, format!("`{}` is no interface's name", value.text), "at most 15 bytes");
                };
                let set = if is_not { set.complement() } else { set };
                let side = if matches!(name, "-i" | "--in-interface") { &mut self.asks.input } else { &mut self.asks.output };
                *side = side.intersection(&set);
            }
        }
    }

    fn module(&mut self, module: &Module<'t>, context: &Context<'_>) -> Result<(), TooMany> {
        match &module.name[..] {
            "comment" => {
                self.comment = module.options.first().map(|asked| asked.value().to_owned());
                Ok(())
            }
            "tcp" | "udp" | "udplite" | "sctp" | "dccp" => self.ports(module),
            "multiport" => self.multiport(module),
            "icmp" | "icmp6" | "icmpv6" => self.icmp(module),
            "iprange" => self.iprange(module),
            "conntrack" | "state" => self.conntrack(module),
            "mark" | "connmark" => {
                let marks = if module.name == "mark" { context.packet_marks } else { context.connection_marks };
                self.mark(module, marks)
            }
            "ttl" | "hl" => self.hops(module),
            "addrtype" => self.address_type(module),
            "time" => self.time(module),
            "set" => self.set(module, context.sets),
            name if STABLE.contains(&name) => {
                self.free(module, "what this match asks is not modelled");
                Ok(())
            }
            name if CHANGING.contains(&name) => {
                self.free(module, "what this match counts or remembers is not followed");
                Ok(())
            }
            name => {
                self.strange.push((name.to_owned(), module.span));
                self.free(module, "a match that is not known");
                Ok(())
            }
        }
    }

    /// The whole of a module's options as one variable.
    fn free(&mut self, module: &Module<'t>, why: &'static str) {
        let mut text = format!("-m {}", module.name);
        let only_not = matches!(&module.options[..], [asked] if asked.is_not);
        for asked in &module.options {
            text.push_str(if asked.is_not && !only_not { " ! " } else { " " });
            text.push_str(&asked.name.text);
            for value in &asked.values {
                text.push(' ');
                text.push_str(&value.typed());
            }
        }
        let changes = !STABLE.contains(&&module.name[..]);
        self.asks.free.push(Free { text, holds: !only_not, changes, why });
    }

    fn unknown_option(&mut self, asked: &Asked<'t>, module: &Module<'t>) {
        let message = format!("`{}` is no option of `-m {}`", asked.name.text, module.name);
        self.wrong(&asked.name, message, "not understood");
    }

    /// `--sport`, `--dport`, flags, of a protocol with ports.
    fn ports(&mut self, module: &Module<'t>) -> Result<(), TooMany> {
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

    fn multiport(&mut self, module: &Module<'t>) -> Result<(), TooMany> {
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
                    let cubes = either.map(|upper| ringwall_packet::Cube { upper, ..ringwall_packet::Cube::any() });
                    self.asks.and(&cubes.map(Into::into).collect::<Vec<_>>())?;
                }
                _ => self.unknown_option(asked, module),
            }
        }
        Ok(())
    }

    fn icmp(&mut self, module: &Module<'t>) -> Result<(), TooMany> {
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

    fn iprange(&mut self, module: &Module<'t>) -> Result<(), TooMany> {
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
    fn conntrack(&mut self, module: &Module<'t>) -> Result<(), TooMany> {
        let tracked = states([State::New, State::Established, State::Related]);
        let mut with = Asks::<A>::any();
        with.variable(Variable::State, &tracked);
        let mut without: Vec<ringwall_packet::Matches<A>> = Vec::new();
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

    fn mark(&mut self, module: &Module<'t>, marks: &Marks) -> Result<(), TooMany> {
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

    fn hops(&mut self, module: &Module<'t>) -> Result<(), TooMany> {
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

    fn address_type(&mut self, module: &Module<'t>) -> Result<(), TooMany> {
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
    fn time(&mut self, module: &Module<'t>) -> Result<(), TooMany> {
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

    fn set(&mut self, module: &Module<'t>, sets: Option<&Sets>) -> Result<(), TooMany> {
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

const CORE: &[&str] = &[
    "-p", "--protocol", "--proto", "-s", "--source", "--src", "-d", "--destination", "--dst", "-i", "--in-interface", "-o",
    "--out-interface", "-f", "--fragment", "--fragments", "-m", "--match", "-j", "--jump", "-g", "--goto", "-c",
    "--set-counters", "-4", "--ipv4", "-6", "--ipv6",
];

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
fn joined<A: Version>(alternatives: Vec<ringwall_packet::Matches<A>>) -> Vec<ringwall_packet::Matches<A>> {
    let is_of_state = |matches: &ringwall_packet::Matches<A>| {
        matches.conditions.iter().all(|(variable, _)| *variable == Variable::State) && matches.cube == ringwall_packet::Cube::any()
    };
    if alternatives.is_empty() || !alternatives.iter().all(is_of_state) {
        return alternatives;
    }
    let full = IntervalSet::full();
    let values = alternatives.iter().flat_map(|one| one.conditions.values(&Variable::State).unwrap_or(&full).intervals().to_vec());
    when(Variable::State, &values.collect()).into_iter().collect()
}
