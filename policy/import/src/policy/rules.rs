//! Rows → rules under their headings.
//!
//! In: a guide's flows and undecided rows. Out: sections of rules and comments in the guide's order.
//! Never: two rules that say the same.

use super::groups::{End, Groups};
use super::naming::{are_assigned, plain_names, service_names};
use super::yaml;
use crate::guide::{Action, Direction, Field, Flow, Guide, Ports, Transport};
use crate::listing::Lines;
use ringwall_diagnostic::Sources;
use ringwall_packet::Protocol;
use std::collections::{BTreeMap, BTreeSet, HashMap};

pub(crate) struct Section {
    pub name: String,
    pub when: Vec<String>,
    pub entries: Vec<Entry>,
}

pub(crate) enum Entry {
    Rule(Rule),
    /// A row that is no rule; `rule` is what it could be.
    Comment {
        reason: String,
        /// Flows that are in no rule because of it.
        lost: usize,
        rule: Option<Rule>,
        text: String,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub action: Action,
    pub sources: Vec<String>,
    pub destinations: Vec<String>,
    pub is_both: bool,
    pub services: Vec<String>,
    /// The services by protocol and port, whatever they are called.
    pub meant: BTreeSet<String>,
    pub source_ports: Option<String>,
    pub session_timeout: Option<u64>,
    pub when: Vec<String>,
    /// `guide.md` and its lines.
    pub places: Vec<(String, usize)>,
    pub remark: String,
}

impl Rule {
    pub fn verb(&self) -> &'static str {
        match self.action {
            Action::Allow => "allow",
            Action::Deny => "deny",
        }
    }

    /// Where it comes from, and how the guide calls it.
    pub fn note(&self) -> String {
        let mut note = String::new();
        let mut last = None;
        for (file, line) in &self.places {
            match last == Some(file) {
                true => note.push_str(&format!(", {line}")),
                false if note.is_empty() => note.push_str(&format!("{file}:{line}")),
                false => note.push_str(&format!(", {file}:{line}")),
            }
            last = Some(file);
        }
        if !self.remark.is_empty() {
            note.push_str(&format!(", {}", self.remark));
        }
        note
    }

    /// What two rules share that say the same.
    fn meaning(&self) -> String {
        let set = |names: &[String]| -> BTreeSet<String> { names.iter().cloned().collect() };
        let ends = (set(&self.sources), set(&self.destinations), self.is_both);
        format!("{:?}", (self.action, ends, &self.meant, &self.source_ports, &self.when))
    }
}

pub(crate) fn sections(
    guide: &Guide,
    sources: &Sources,
    groups: &mut Groups,
    options: &mut BTreeMap<String, String>,
) -> Vec<Section> {
    let lines = Lines::new(sources, guide.source);
    let mut writer = Writer { guide, file: sources.name(guide.source), lines, groups, options };
    let mut places: Vec<Option<usize>> = Vec::new();
    let mut rows: HashMap<Option<usize>, Vec<(usize, Entry)>> = HashMap::new();
    let mut meshes = Vec::new();
    for row in rows_of(&guide.flows) {
        if !rows.contains_key(&row[0].section) {
            places.push(row[0].section);
        }
        let entries = rows.entry(row[0].section).or_default();
        if is_mesh(&row[0]) {
            meshes.push(row);
            continue;
        }
        for entry in writer.row(row) {
            entries.push((row[0].span.start, entry));
        }
    }
    for row in meshes {
        let entries = rows.entry(row[0].section).or_default();
        entries.extend(writer.mesh(&row[0]).into_iter().map(|entry| (row[0].span.start, entry)));
    }
    for undecided in &guide.undecided {
        if !rows.contains_key(&undecided.section) {
            places.push(undecided.section);
        }
        let line = writer.lines.of(undecided.span.start);
        let reason = format!("not imported ({}:{line}): {}", writer.file, undecided.reason);
        let entry = Entry::Comment { reason, lost: 0, rule: None, text: undecided.text.clone() };
        rows.entry(undecided.section).or_default().push((undecided.span.start, entry));
    }
    places.sort();
    let section = |place: Option<usize>| {
        let mut entries = rows.remove(&place).unwrap_or_default();
        entries.sort_by_key(|(start, _)| *start);
        let mut entries: Vec<Entry> = entries.into_iter().map(|(_, entry)| entry).collect();
        fold_pairs(&mut entries);
        let title = guide.section_title(place);
        let name = [title, guide.title.clone()]
            .into_iter()
            .find(|name| !name.is_empty())
            .unwrap_or_else(|| writer.file.to_owned());
        let when = writer.section_when(place);
        Section { name, when, entries }
    };
    places.into_iter().map(section).collect()
}

/// Flows of one row that differ only in what a rule can hold side by side.
fn rows_of(flows: &[Flow]) -> Vec<&[Flow]> {
    let same = |a: &Flow, b: &Flow| {
        a.span == b.span
            && a.row == b.row
            && a.direction == b.direction
            && a.condition == b.condition
            && a.label == b.label
            && a.section == b.section
    };
    flows.chunk_by(same).collect()
}

fn is_mesh(flow: &Flow) -> bool {
    flow.direction == Direction::Both
        && flow.source == flow.destination
        && flow.inferred.contains(&Field::Source)
        && flow.source.starts_with("same ")
}

struct Writer<'a> {
    guide: &'a Guide,
    file: &'a str,
    lines: Lines,
    groups: &'a mut Groups,
    options: &'a mut BTreeMap<String, String>,
}

impl Writer<'_> {
    fn row(&mut self, row: &[Flow]) -> Vec<Entry> {
        let unique = |names: Vec<&str>| {
            names.into_iter().fold(Vec::<String>::new(), |mut list, name| {
                if !list.iter().any(|known| known == name) {
                    list.push(name.to_owned());
                }
                list
            })
        };
        let sources = unique(row.iter().map(|flow| &*flow.source).collect());
        let destinations = unique(row.iter().map(|flow| &*flow.destination).collect());
        let mut services: Vec<(Transport, &Ports)> = Vec::new();
        for flow in row {
            if !services.contains(&(flow.protocol, &flow.port)) {
                services.push((flow.protocol, &flow.port));
            }
        }
        if sources.len() * destinations.len() * services.len() != row.len() && row.len() > 1 {
            return row.iter().flat_map(|flow| self.row(std::slice::from_ref(flow))).collect();
        }
        let flow = &row[0];
        // A destination by name can't share a rule with an end that is unfit; they are told apart below.
        let line = self.lines.of(flow.span.start);
        let place = format!("{}:{line}", self.file);
        let text = || format!("{} -> {}: {} {}", flow.source, flow.destination, flow.protocol, flow.port);
        let comment = |reason: &str, rule: Option<Rule>| {
            let reason = format!("not imported ({place}): {reason}");
            vec![Entry::Comment { reason, lost: row.len(), rule, text: text() }]
        };
        if sources.iter().chain(&destinations).all(String::is_empty) {
            let names =
                services.iter().map(|(transport, ports)| format!("{transport} {ports}")).collect::<Vec<_>>().join(", ");
            let reason = format!("not imported ({place}): the guide names neither end");
            let text = [names.trim(), &flow.label, &flow.note].into_iter().filter(|text| !text.is_empty());
            let text = text.collect::<Vec<_>>().join(", ");
            return vec![Entry::Comment { reason, lost: row.len(), rule: None, text }];
        }
        if flow.direction == Direction::Local {
            let reason = format!("no rule ({place}): traffic within one host is not filtered");
            return vec![Entry::Comment { reason, lost: 0, rule: None, text: text() }];
        }
        if flow.direction == Direction::Unknown
            && (sources.iter().all(String::is_empty) || destinations.iter().all(String::is_empty))
        {
            return comment("the guide does not say who opens the connection", None);
        }
        let (sources, destinations) = match self.ends(&sources, &destinations, &place) {
            Ok(ends) => ends,
            Err(reason) => return comment(&reason, None),
        };
        let odd = services.iter().find(|(transport, ports)| !are_assigned(*transport, ports));
        if let Some((transport, ports)) = odd {
            return comment(&format!("{transport} has no {ports}"), None);
        }
        let unstated = services.iter().any(|(transport, _)| *transport == Transport::Unstated);
        let names = service_names(&services, &flow.label);
        let has_tcp =
            services.iter().any(|(transport, _)| matches!(transport, Transport::Is(Protocol::TCP) | Transport::Any));
        let timeout = self.guide.timeouts.iter().find(|timeout| timeout.section == flow.section && has_tcp);
        let source_ports = match &flow.source_port {
            Ports::List(_) => Some(flow.source_port.to_string()),
            _ => None,
        };
        let rule = Rule {
            action: flow.action,
            sources,
            destinations,
            is_both: flow.direction == Direction::Both,
            remark: remark(flow, &names),
            services: names,
            meant: plain_names(&services),
            source_ports,
            session_timeout: timeout.map(|timeout| timeout.seconds).filter(|_| flow.action == Action::Allow),
            when: flow.condition.as_deref().map(|condition| self.option(condition, flow)).into_iter().collect(),
            places: vec![(self.file.to_owned(), line)],
        };
        if flow.direction == Direction::Unknown {
            return comment("the guide does not say who opens the connection", Some(rule));
        }
        if unstated {
            return comment("the guide names no protocol; here is the row with TCP", Some(rule));
        }
        vec![Entry::Rule(rule)]
    }

    fn ends(
        &mut self,
        sources: &[String],
        destinations: &[String],
        place: &str,
    ) -> Result<(Vec<String>, Vec<String>), String> {
        let mut side = |names: &[String], is_source: bool| {
            let mut found = Vec::new();
            for name in names.iter().filter(|name| !name.is_empty()) {
                match self.groups.end(name, self.guide.meaning(name), is_source) {
                    End::Group(group) if !found.contains(&group) => found.push(group),
                    End::Group(_) => {}
                    End::Unfit(reason) => return Err(reason),
                }
            }
            Ok(found)
        };
        let (mut left, mut right) = (side(sources, true)?, side(destinations, false)?);
        if left.is_empty() {
            let name = right.first().cloned().unwrap_or_default();
            left.push(self.groups.open("clients-of", &name, format!("{place} does not say who connects to {name}")));
        }
        if right.is_empty() {
            let name = left.first().cloned().unwrap_or_default();
            right.push(self.groups.open("servers-of", &name, format!("{place} does not say what {name} connects to")));
        }
        Ok((left, right))
    }

    /// "Nodes of the same type": a rule for each kind of machine that the guide names.
    fn mesh(&mut self, flow: &Flow) -> Vec<Entry> {
        let line = self.lines.of(flow.span.start);
        let rule = |role: String| {
            Entry::Rule(Rule {
                action: flow.action,
                sources: vec![role.clone()],
                destinations: vec![role],
                is_both: true,
                services: vec!["any".to_owned()],
                meant: BTreeSet::from(["any".to_owned()]),
                source_ports: None,
                session_timeout: None,
                when: Vec::new(),
                places: vec![(self.file.to_owned(), line)],
                remark: format!("{}s", flow.source),
            })
        };
        let rules: Vec<Entry> = self.groups.roles().into_iter().map(rule).collect();
        if rules.is_empty() {
            let reason = format!("not imported ({}:{line}): the guide names no kind of machine", self.file);
            return vec![Entry::Comment { reason, lost: 1, rule: None, text: flow.note.to_string() }];
        }
        rules
    }

    fn section_when(&mut self, section: Option<usize>) -> Vec<String> {
        let mut when = Vec::new();
        let mut place = section;
        while let Some(index) = place {
            let section = &self.guide.sections[index];
            if let Some(condition) = &section.condition {
                let own = section.title.split('(').next().unwrap_or("");
                let name = option_name(condition, own);
                self.options.entry(name.clone()).or_insert_with(|| self.guide.section_title(Some(index)));
                when.push(name);
            }
            place = section.parent;
        }
        when
    }

    fn option(&mut self, condition: &str, flow: &Flow) -> String {
        let title = self.guide.section_title(flow.section);
        let own = if flow.label.is_empty() { title } else { flow.label.to_string() };
        let name = option_name(condition, &own);
        self.options.entry(name.clone()).or_insert_with(|| format!("{own} ({condition})"));
        name
    }
}

/// "If Tunnel is used" is `tunnel`; "if applicable" takes the name of what it is about.
fn option_name(condition: &str, own: &str) -> String {
    const EMPTY: [&str; 30] = [
        "if",
        "when",
        "only",
        "is",
        "are",
        "used",
        "enabled",
        "depending",
        "on",
        "the",
        "a",
        "an",
        "configured",
        "required",
        "applicable",
        "optional",
        "needed",
        "unless",
        "you",
        "use",
        "using",
        "of",
        "for",
        "in",
        "to",
        "be",
        "your",
        "it",
        "installed",
        "as",
    ];
    let words: Vec<&str> = condition
        .split_whitespace()
        .filter(|word| !EMPTY.contains(&word.to_lowercase().trim_matches(|c: char| !c.is_alphanumeric())))
        .collect();
    let name = yaml::kebab(&words.join(" "));
    let name = if name.is_empty() { yaml::kebab(own) } else { name };
    if name.is_empty() { "optional".to_owned() } else { name }
}

/// The guide's words where they add to the rule.
fn remark(flow: &Flow, services: &[String]) -> String {
    let fold =
        |text: &str| text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>();
    let says_service = services.iter().any(|service| fold(service) == fold(&flow.label));
    // "proto/50" tells little.
    let numbered = flow.protocol.protocol().and_then(crate::words::protocol_name);
    let numbered = numbered.filter(|_| services.iter().any(|service| service.starts_with("proto/")));
    let numbered = numbered.map(str::to_uppercase).filter(|_| flow.label.is_empty()).unwrap_or_default();
    let label = if says_service {
        ""
    } else if numbered.is_empty() {
        &*flow.label
    } else {
        &numbered
    };
    let note = yaml::shorten(&flow.note.replace(".; ", "; "), 120);
    [label, &note].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(", ")
}

/// Where every row of a pair exists both ways, one rule says both.
fn fold_pairs(entries: &mut Vec<Entry>) {
    type Ways = BTreeMap<(String, String), BTreeSet<Vec<String>>>;
    let key = |rule: &Rule| -> Option<((String, String), Vec<String>)> {
        let is_plain = !rule.is_both
            && rule.action == Action::Allow
            && rule.source_ports.is_none()
            && rule.sources.len() == 1
            && rule.destinations.len() == 1;
        let mut services = rule.services.clone();
        services.sort();
        is_plain.then(|| ((rule.sources[0].clone(), rule.destinations[0].clone()), services))
    };
    let mut ways: Ways = BTreeMap::new();
    for entry in entries.iter() {
        if let Entry::Rule(rule) = entry
            && let Some((pair, services)) = key(rule)
        {
            ways.entry(pair).or_default().insert(services);
        }
    }
    let is_folded =
        |(a, b): &(String, String)| a != b && ways.get(&(a.clone(), b.clone())) == ways.get(&(b.clone(), a.clone()));
    let mut first: HashMap<(String, String, Vec<String>), usize> = HashMap::new();
    let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
    for entry in entries.drain(..) {
        let Entry::Rule(mut rule) = entry else {
            kept.push(entry);
            continue;
        };
        if let Some((pair, services)) = key(&rule).filter(|(pair, _)| is_folded(pair)) {
            let back = (pair.1.clone(), pair.0.clone(), services.clone());
            if let Some(Entry::Rule(other)) = first.get(&back).and_then(|index| kept.get_mut(*index)) {
                other.places.append(&mut rule.places);
                continue;
            }
            first.insert((pair.0, pair.1, services), kept.len());
            rule.is_both = true;
        }
        kept.push(Entry::Rule(rule));
    }
    *entries = kept;
}

/// Two rows that say the same become one rule with both places.
pub(crate) fn fold_equal(sections: &mut [Section]) {
    let mut seen: HashMap<String, (usize, usize)> = HashMap::new();
    for section in 0..sections.len() {
        let mut index = 0;
        while index < sections[section].entries.len() {
            let Entry::Rule(rule) = &sections[section].entries[index] else {
                index += 1;
                continue;
            };
            let meaning = format!("{} {:?}", rule.meaning(), sections[section].when);
            let places = rule.places.clone();
            match seen.get(&meaning).copied() {
                Some((first_section, first)) => {
                    let original = match &sections[first_section].entries[first] {
                        Entry::Rule(rule) => rule.places.first().map(|(file, line)| format!("{file}:{line}")),
                        Entry::Comment { .. } => None,
                    };
                    if let Entry::Rule(rule) = &mut sections[first_section].entries[first] {
                        rule.places.extend(places.clone());
                    }
                    let place =
                        places.iter().map(|(file, line)| format!("{file}:{line}")).collect::<Vec<_>>().join(", ");
                    sections[section].entries[index] = Entry::Comment {
                        reason: format!("{place} repeats the rule from {}", original.unwrap_or_default()),
                        lost: 0,
                        rule: None,
                        text: String::new(),
                    };
                }
                None => {
                    seen.insert(meaning, (section, index));
                }
            }
            index += 1;
        }
    }
}
