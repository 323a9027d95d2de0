//! The matches of one rule: its options, module by module.
//!
//! In: a rule's words. Out: [`Asks`], and where the rule sends a packet. Never: a name that is looked
//! up; an option that is not known is a variable of its own, or a mistake where nothing could ask it.

use ringwall_diagnostic::{Diagnostic, SourceId, Span};
use ringwall_packet::{Family, IntervalSet, Protocol, UpperCube, interface, interfaces_from};

use super::asks::{Asks, Free, TooMany};
use super::blocks::Report;
use super::ipset::Sets;
use super::marks::Marks;
use super::tokens::Token;
use super::values::{self, Version};
use super::protocols;

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
pub(super) struct Module<'t> {
    pub name: String,
    pub span: Span,
    pub options: Vec<Asked<'t>>,
}

/// `! --dport 80`.
#[derive(Clone)]
pub(super) struct Asked<'t> {
    pub is_not: bool,
    pub name: Token<'t>,
    pub values: Vec<Token<'t>>,
}

impl Asked<'_> {
    pub fn value(&self) -> &str {
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

pub(super) struct Parser<'t, 'r, A> {
    source: SourceId,
    report: &'r mut Report,
    pub asks: Asks<A>,
    /// `-p`, where it is one protocol.
    pub protocol: Option<Protocol>,
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

    pub fn wrong(&mut self, token: &Token<'_>, message: impl Into<String>, label: &str) {
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
    pub fn free(&mut self, module: &Module<'t>, why: &'static str) {
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

    pub fn unknown_option(&mut self, asked: &Asked<'t>, module: &Module<'t>) {
        let message = format!("`{}` is no option of `-m {}`", asked.name.text, module.name);
        self.wrong(&asked.name, message, "not understood");
    }
}

const CORE: &[&str] = &[
    "-p", "--protocol", "--proto", "-s", "--source", "--src", "-d", "--destination", "--dst", "-i", "--in-interface", "-o",
    "--out-interface", "-f", "--fragment", "--fragments", "-m", "--match", "-j", "--jump", "-g", "--goto", "-c",
    "--set-counters", "-4", "--ipv4", "-6", "--ipv6",
];
