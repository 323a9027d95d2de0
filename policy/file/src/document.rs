//! What the files say, before any name in them is looked up.

use std::collections::BTreeMap;

use ringwall_diagnostic::{Diagnostic, Span};
use ringwall_policy::{Floor, Name, OnDrift, OnTighten, Stage, TlsVersion};

use crate::address::{self, Item};
use crate::form::{self, Fields, Word, doubled};
use crate::keys;
use crate::report::Report;
use crate::rule::{Condition, RuleDef, conditions, ends, rule};
use crate::yaml::{Node, Value};

/// A key that may stand once in all files together.
pub type Single<T> = Option<(Span, T)>;

#[derive(Default)]
pub struct Document {
    pub internal: Single<Vec<(Word, Item)>>,
    pub min_tls: Single<Option<TlsVersion>>,
    pub management: Single<Option<ManagementDef>>,
    pub protected: Single<Vec<(Word, Item)>>,
    pub floor: Single<Floor>,
    pub on_tighten: Single<OnTighten>,
    pub on_drift: Single<OnDrift>,
    pub stage: Single<Stage>,
    pub nodes: Vec<NodeDef>,
    pub floating: Vec<FloatingDef>,
    pub groups: Vec<GroupDef>,
    pub services: Vec<(Word, Vec<Word>)>,
    pub options: Vec<(Word, bool)>,
    pub sections: Vec<SectionDef>,
    pub rules: Vec<RuleDef>,
    pub expectations: Vec<RuleDef>,
}

pub struct ManagementDef {
    pub span: Span,
    pub from: Vec<Word>,
    pub services: Vec<Word>,
}

pub struct NodeDef {
    pub name: Name,
    pub span: Span,
    pub addresses: Vec<(Word, Item)>,
    pub labels: Vec<(Name, String)>,
    pub site: Option<Name>,
    pub routes: Vec<(Word, Item)>,
    pub interfaces: Vec<(Name, String)>,
    pub unmanaged: Vec<String>,
    pub stage: Option<Stage>,
}

pub struct FloatingDef {
    pub name: Name,
    pub span: Span,
    pub addresses: Vec<(Word, Item)>,
    pub on: Vec<Word>,
}

pub struct GroupDef {
    pub name: Name,
    pub span: Span,
    pub addresses: Vec<(Word, Item)>,
    pub names: Vec<Word>,
    pub nodes: Vec<Word>,
    pub labels: Vec<(Name, Word)>,
    pub groups: Vec<Word>,
    pub except: Vec<(Word, Item)>,
    pub may_be_empty: bool,
    pub includes_rules_of: Vec<Word>,
    pub stage: Option<(Span, Stage)>,
    /// Some part of it was left out because of a mistake: it may look emptier than it is.
    pub broken: bool,
}

pub struct SectionDef {
    pub name: Option<String>,
    pub conditions: Vec<Condition>,
}

impl NodeDef {
    fn empty(name: Name, span: Span) -> Self {
        let (addresses, labels, routes, interfaces, unmanaged) = Default::default();
        Self { name, span, addresses, labels, site: None, routes, interfaces, unmanaged, stage: None }
    }
}

impl GroupDef {
    fn empty(name: Name, span: Span) -> Self {
        Self {
            name,
            span,
            addresses: Vec::new(),
            names: Vec::new(),
            nodes: Vec::new(),
            labels: Vec::new(),
            groups: Vec::new(),
            except: Vec::new(),
            may_be_empty: false,
            includes_rules_of: Vec::new(),
            stage: None,
            broken: false,
        }
    }
}

fn single<T>(slot: &mut Single<T>, what: &str, span: Span, value: Option<T>, report: &mut Report) {
    match (&slot, value) {
        (Some((first, _)), _) => report.push(doubled(&format!("the key `{what}`"), *first, span)),
        (None, Some(value)) => *slot = Some((span, value)),
        (None, None) => {}
    }
}

impl Document {
    /// Adds what one file says.
    pub fn read(&mut self, root: &Node, report: &mut Report) {
        if matches!(root.value, Value::Null) {
            return;
        }
        let Some(fields) = Fields::open(root, &keys::DOCUMENT, report) else { return };
        if let Some((key, node)) = fields.entry("internal") {
            let items = addresses(node, report);
            single(&mut self.internal, "internal", key.span, Some(items), report);
        }
        if let Some((key, node)) = fields.entry("min_tls") {
            let versions = [("1.2", Some(TlsVersion::V1_2)), ("1.3", Some(TlsVersion::V1_3))];
            let version = form::one_of(node, &versions, report);
            single(&mut self.min_tls, "min_tls", key.span, version, report);
        }
        if let Some((key, node)) = fields.entry("management") {
            let management = management(node, key.span, report);
            single(&mut self.management, "management", key.span, Some(management), report);
        }
        if let Some((key, node)) = fields.entry("protected") {
            let items = addresses(node, report);
            single(&mut self.protected, "protected", key.span, Some(items), report);
        }
        if let Some((key, node)) = fields.entry("floor") {
            let floor = floor(node, report);
            single(&mut self.floor, "floor", key.span, Some(floor), report);
        }
        if let Some((key, node)) = fields.entry("on_tighten") {
            let value = form::one_of(node, &[("cut", OnTighten::Cut), ("drain", OnTighten::Drain)], report);
            single(&mut self.on_tighten, "on_tighten", key.span, value, report);
        }
        if let Some((key, node)) = fields.entry("on_drift") {
            let value = form::one_of(node, &[("heal", OnDrift::Heal), ("report", OnDrift::Report)], report);
            single(&mut self.on_drift, "on_drift", key.span, value, report);
        }
        if let Some((key, _)) = fields.entry("stage") {
            let stage = fields.stage(report);
            single(&mut self.stage, "stage", key.span, stage, report);
        }
        for (name, span, node) in named(&fields, "nodes", report) {
            self.nodes.push(self::node(name, span, node, report));
        }
        for (name, span, node) in named(&fields, "floating", report) {
            self.floating.push(floating(name, span, node, report));
        }
        for (name, span, node) in named(&fields, "groups", report) {
            self.groups.push(group(name, span, node, report));
        }
        for (name, span, node) in named(&fields, "services", report) {
            let word = Word { text: name.as_str().to_owned(), span };
            self.services.push((word, services(node, report)));
        }
        for (name, span, node) in named(&fields, "options", report) {
            let word = Word { text: name.as_str().to_owned(), span };
            let value = form::flag(node, report);
            self.options.push((word, value.unwrap_or(false)));
        }
        for node in list(&fields, "rules", report) {
            self.rules.extend(rule(node, None, &keys::RULE, report));
        }
        for node in list(&fields, "sections", report) {
            self.section(node, report);
        }
        for node in list(&fields, "expect", report) {
            self.expectations.extend(rule(node, None, &keys::EXPECTATION, report));
        }
    }

    fn section(&mut self, node: &Node, report: &mut Report) {
        let Some(fields) = Fields::open(node, &keys::SECTION, report) else { return };
        let name = fields.text("name", report).map(|word| word.text);
        fields.text("description", report);
        fields.refuse_empty("when", report);
        let conditions = conditions(&fields.words("when", report)).collect();
        self.sections.push(SectionDef { name, conditions });
        for node in list(&fields, "rules", report) {
            self.rules.extend(rule(node, Some(self.sections.len() - 1), &keys::RULE, report));
        }
    }
}

fn named<'a>(fields: &Fields<'a>, key: &str, report: &mut Report) -> Vec<(Name, Span, &'a Node)> {
    fields.get(key).map(|node| form::named(node, report)).unwrap_or_default()
}

fn list<'a>(fields: &Fields<'a>, key: &str, report: &mut Report) -> &'a [Node] {
    fields.get(key).map(|node| form::items(node, report)).unwrap_or_default()
}

/// Reads a list of address items; names in it are for the caller to look up.
fn addresses(node: &Node, report: &mut Report) -> Vec<(Word, Item)> {
    let words = form::words(node, report);
    let items = words.into_iter().map(|word| {
        let item = address::item(&word).unwrap_or_else(|diagnostic| {
            report.push(*diagnostic);
            Item::Bad
        });
        (word, item)
    });
    items.collect()
}

pub fn services(node: &Node, report: &mut Report) -> Vec<Word> {
    // `tcp/80,443` is one service with a comma in it.
    match &node.value {
        Value::Scalar(scalar) if scalar.text.contains('/') && !scalar.text.contains(", ") => {
            form::text(node, report).into_iter().collect()
        }
        _ => form::words(node, report),
    }
}

fn texts(fields: &Fields<'_>, key: &str, report: &mut Report) -> Vec<(Name, Word)> {
    let mut found: BTreeMap<Name, (Span, Word)> = BTreeMap::new();
    for (name, span, node) in named(fields, key, report) {
        if let Some((first, _)) = found.get(&name) {
            report.push(doubled(&format!("`{name}`"), *first, span));
        } else if let Some(word) = form::text(node, report) {
            found.insert(name, (span, word));
        }
    }
    found.into_iter().map(|(name, (_, word))| (name, word)).collect()
}

fn management(node: &Node, span: Span, report: &mut Report) -> Option<ManagementDef> {
    let fields = Fields::open(node, &keys::MANAGEMENT, report)?;
    fields.text("description", report);
    let from = fields.get("from").map(|node| ends(node, report)).unwrap_or_default();
    let services = fields.get("services").map(|node| self::services(node, report)).unwrap_or_default();
    if services.is_empty() || from.is_empty() {
        if fields.get("services").is_some() && fields.get("from").is_some() {
            report.push(Diagnostic::error("RW0106", "`management` names nobody or nothing").at(span, ""));
        }
        return None;
    }
    Some(ManagementDef { span, from, services })
}

fn floor(node: &Node, report: &mut Report) -> Floor {
    let mut floor = Floor::default();
    let Some(fields) = Fields::open(node, &keys::FLOOR_TABLE, report) else { return floor };
    fields.text("description", report);
    for word in fields.words("without", report) {
        match word.text.as_str() {
            "dhcp" => floor.without_dhcp = true,
            "neighbour-discovery" => floor.without_neighbour_discovery = true,
            "multicast-listener" => floor.without_multicast_listener = true,
            "management" => floor.without_management = true,
            other => {
                let message = format!("the floor has no item `{other}` that can be taken out");
                let diagnostic = Diagnostic::error("RW0109", message).at(word.span, "");
                let diagnostic = report.suggest(diagnostic, word.span, other, keys::FLOOR.iter().copied());
                report.push(diagnostic);
            }
        }
    }
    floor
}

fn bad_item(span: Span) -> Vec<(Word, Item)> {
    vec![(Word { text: String::new(), span }, Item::Bad)]
}

fn node(name: Name, span: Span, node: &Node, report: &mut Report) -> NodeDef {
    let Some(fields) = Fields::open(node, &keys::NODE, report) else {
        return NodeDef { addresses: bad_item(span), ..NodeDef::empty(name, span) };
    };
    fields.text("description", report);
    fields.text("location", report);
    let addresses = |key, report: &mut Report| fields.get(key).map(|node| addresses(node, report)).unwrap_or_default();
    let kernel_name = |word: &Word, report: &mut Report| {
        // IFNAMSIZ is 16 with its zero byte; dev_valid_name() in net/core/dev.c.
        let valid = !word.text.is_empty()
            && word.text.len() <= 15
            && word.text != "."
            && word.text != ".."
            && word.text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '"' | '\\' | '*'));
        if !valid {
            let message = format!("`{}` can't be the name of a network interface", word.text);
            report.push(Diagnostic::error("RW0107", message).at(word.span, ""));
        }
        valid
    };
    let site = fields.text("site", report).and_then(|word| form::name(&word, report));
    let mut interfaces = Vec::new();
    for (name, word) in texts(&fields, "interfaces", report) {
        if kernel_name(&word, report) {
            interfaces.push((name, word.text));
        }
    }
    let mut unmanaged = fields.words("unmanaged", report);
    unmanaged.retain(|word| kernel_name(word, report));
    let own = addresses("addresses", report);
    if own.is_empty() && fields.get("addresses").is_some() {
        report.push(Diagnostic::error("RW0106", format!("the node `{name}` has no address")).at(span, ""));
    }
    NodeDef {
        addresses: own,
        labels: texts(&fields, "labels", report).into_iter().map(|(name, word)| (name, word.text)).collect(),
        site,
        routes: addresses("routes", report),
        interfaces,
        unmanaged: unmanaged.into_iter().map(|word| word.text).collect(),
        stage: fields.stage(report),
        name,
        span,
    }
}

fn floating(name: Name, span: Span, node: &Node, report: &mut Report) -> FloatingDef {
    let Some(fields) = Fields::open(node, &keys::FLOATING, report) else {
        return FloatingDef { name, span, addresses: bad_item(span), on: Vec::new() };
    };
    fields.text("description", report);
    let addresses = fields.get("addresses").map(|node| addresses(node, report)).unwrap_or_default();
    fields.refuse_empty("on", report);
    FloatingDef { name, span, addresses, on: fields.words("on", report) }
}

fn group(name: Name, span: Span, node: &Node, report: &mut Report) -> GroupDef {
    let before = report.count();
    let Some(fields) = Fields::open(node, &keys::GROUP, report) else {
        return GroupDef { broken: true, ..GroupDef::empty(name, span) };
    };
    fields.text("description", report);
    let addresses = |key, report: &mut Report| fields.get(key).map(|node| addresses(node, report)).unwrap_or_default();
    let stage = fields.entry("stage").and_then(|(key, _)| fields.stage(report).map(|stage| (key.span, stage)));
    let mut names = fields.words("names", report);
    names.retain(|word| dns_name(word, report));
    fields.refuse_empty("except", report);
    let mut group = GroupDef {
        span,
        addresses: addresses("addresses", report),
        names,
        nodes: fields.words("nodes", report),
        labels: texts(&fields, "labels", report),
        groups: fields.words("groups", report),
        except: addresses("except", report),
        may_be_empty: fields.flag("may_be_empty", report),
        includes_rules_of: fields.words("includes_rules_of", report),
        stage,
        broken: false,
        name,
    };
    group.addresses.retain(|(word, item)| {
        let Item::Name(name) = item else { return true };
        let message = format!("`{}` is not an address", name.text);
        let help = "groups go under `groups:`, nodes under `nodes:`, DNS names under `names:`";
        report.push(Diagnostic::error("RW0205", message).at(word.span, "").help(help));
        false
    });
    group.broken = report.count() > before;
    group
}

/// RFC 1035 §2.3.1 and RFC 1123 §2.1, with `_` for what people have in their zones.
fn dns_name(word: &Word, report: &mut Report) -> bool {
    let name = word.text.strip_suffix('.').unwrap_or(&word.text);
    if name.contains('*') {
        let message = format!("`{}` stands for names that nobody can list", word.text);
        let help = "write each name, or the prefixes that the provider publishes";
        report.push(Diagnostic::error("RW0214", message).at(word.span, "a wildcard").help(help));
        return false;
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let valid = name.len() <= 253 && name.split('.').all(label) && !address::looks_like_address(name);
    if !valid {
        let diagnostic = Diagnostic::error("RW0214", format!("`{}` is not a DNS name", word.text)).at(word.span, "");
        report.push(match address::item(word) {
            Ok(Item::Addresses(_)) => diagnostic.help("addresses go under `addresses:`"),
            _ => diagnostic,
        });
    }
    valid
}
