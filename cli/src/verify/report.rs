//! What was found, for people and for programs.
//!
//! In: cases with their findings. Out: text. Never: a count in which an unknown passes for declared.

use std::collections::BTreeMap;
use std::io::{self, Write};

use ringwall_analysis::probes::{Case, NotProbed, decider, rule_place, rule_text};
use ringwall_api as api;
use ringwall_node::probe::{Conclusion, Disposition, Finding, Packet, Place};
use ringwall_packet::Protocol;
use ringwall_policy::Policy;
use serde::Serialize;

use crate::terminal::table;


/// The `schema` of the JSON form.
const SCHEMA: &str = "ringwall.verify/1";
/// As many single flows are printed for people; programs get all.
const MOST_LISTED: usize = 50;

pub struct Report {
    rows: Vec<Row>,
    not_probed: Vec<NotProbedRow>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub as_declared: usize,
    pub not_as_declared: usize,
    pub unknown: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    #[serde(flatten)]
    pub all: Counts,
    /// Those of the policy's rules; what can't be probed is among its unknown ones.
    pub declared: Counts,
    /// Those of the sample of what no rule allows.
    pub undeclared: Counts,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Counts { as_declared, not_as_declared, unknown } = self.all;
        write!(f, "verify: {as_declared} flows as declared, {not_as_declared} not, {unknown} unknown")
    }
}

/// One flow, for programs.
#[derive(Serialize)]
struct Row {
    source_machine: String,
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_port: Option<u16>,
    destination_machine: String,
    destination: String,
    protocol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    roles: String,
    service: String,
    /// Whether a rule names the flow; else it is of the sample of what no rule allows.
    declared: bool,
    expected: &'static str,
    /// What decides it by the policy's meaning.
    rule: String,
    found: Disposition,
    conclusion: Conclusion,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_at: Option<String>,
    /// What decided it at the destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_by: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    /// Of a fleet: since when it is so, and when it was probed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    looked: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by_hand: Option<ByHand>,
}

/// What a person runs at the source to see the same.
#[derive(Serialize)]
struct ByHand {
    /// Of TCP it ends with 0 if it is open, 1 if somebody says no, 124 if nothing comes back (timeout(1)).
    linux: String,
    windows: String,
}

impl ByHand {
    /// Only of TCP and echo requests: nothing that is on every machine tells what became of the others.
    fn of(protocol: &str, destination: &str, port: Option<u16>) -> Option<Self> {
        match (protocol, port) {
            ("tcp", Some(port)) => Some(Self {
                linux: format!("timeout 2 bash -c '</dev/tcp/{destination}/{port}'"),
                windows: format!("Test-NetConnection -ComputerName {destination} -Port {port}"),
            }),
            ("icmp" | "icmpv6" | "ipv6-icmp", None) => Some(Self {
                linux: format!("ping -c 1 -W 2 {destination}"),
                windows: format!("Test-NetConnection -ComputerName {destination}"),
            }),
            _ => None,
        }
    }
}

impl Row {
    /// `443/tcp`, `icmp`.
    fn target(&self) -> String {
        match self.port {
            Some(port) => format!("{port}/{}", self.protocol),
            None => self.protocol.clone(),
        }
    }
}

#[derive(Serialize)]
struct NotProbedRow {
    roles: String,
    service: String,
    family: String,
    rule: String,
    conclusion: Conclusion,
    reason: String,
}

impl Report {
    /// What this program's own probes found.
    pub fn of(policy: &Policy, flows: &[(&Case, Finding)], not_probed: &[NotProbed]) -> Self {
        Self {
            rows: flows.iter().map(|(case, finding)| row(policy, case, finding)).collect(),
            not_probed: not_probed.iter().map(|entry| NotProbedRow {
                roles: entry.roles.clone(),
                service: entry.service.clone(),
                family: entry.family.to_string(),
                rule: entry.rule.as_ref().map_or("management".into(), |id| rule_place(policy, id)),
                conclusion: Conclusion::Unknown,
                reason: entry.reason.clone(),
            }).collect(),
        }
    }

    /// What a fleet's probes found.
    pub fn of_fleet(paths: Vec<api::Path>, not_probed: Vec<api::NotProbed>) -> Self {
        let not_probed = not_probed.into_iter().map(|api::NotProbed { roles, service, family, rule, reason }| NotProbedRow {
            roles, service, family, rule, conclusion: Conclusion::Unknown, reason,
        });
        Self { rows: paths.into_iter().map(row_of_fleet).collect(), not_probed: not_probed.collect() }
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.not_probed.is_empty()
    }

    pub fn summary(&self) -> Summary {
        let count = |which: fn(&Row) -> bool, not_probed| {
            let of = |conclusion| {
                self.rows.iter().filter(|row| which(row) && row.conclusion == conclusion).count()
            };
            Counts {
                as_declared: of(Conclusion::AsDeclared),
                not_as_declared: of(Conclusion::NotAsDeclared),
                unknown: of(Conclusion::Unknown) + not_probed,
            }
        };
        let not_probed = self.not_probed.len();
        Summary {
            all: count(|_| true, not_probed),
            declared: count(|row| row.declared, not_probed),
            undeclared: count(|row| !row.declared, 0),
        }
    }

    pub fn json(&self, mut to: impl Write) -> io::Result<()> {
        #[derive(Serialize)]
        struct Whole<'a> {
            schema: &'a str,
            summary: Summary,
            flows: &'a [Row],
            not_probed: &'a [NotProbedRow],
        }
        let whole = Whole {
            schema: SCHEMA,
            summary: self.summary(),
            flows: &self.rows,
            not_probed: &self.not_probed,
        };
        serde_json::to_writer_pretty(&mut to, &whole)?;
        writeln!(to)
    }

    /// One line for each flow, then one for each thing that can't be probed, then the summary.
    pub fn ndjson(&self, mut to: impl Write) -> io::Result<()> {
        #[derive(Serialize)]
        struct Lined<T> {
            schema: &'static str,
            #[serde(flatten)]
            row: T,
        }
        let mut line = |row: serde_json::Result<String>| writeln!(to, "{}", row?);
        for row in &self.rows {
            line(serde_json::to_string(&Lined { schema: SCHEMA, row }))?;
        }
        for row in &self.not_probed {
            line(serde_json::to_string(&Lined { schema: SCHEMA, row }))?;
        }
        line(serde_json::to_string(&Lined { schema: SCHEMA, row: self.summary() }))
    }

    pub fn csv(&self, mut to: impl Write) -> io::Result<()> {
        writeln!(
            to,
            "source_machine,source,destination_machine,destination,protocol,port,service,declared,expected,rule,found,conclusion,decided_by,reason"
        )?;
        for row in &self.rows {
            let port = row.port.map(|port| port.to_string()).unwrap_or_default();
            let fields: [&str; 14] = [
                &row.source_machine,
                &row.source,
                &row.destination_machine,
                &row.destination,
                &row.protocol,
                &port,
                &row.service,
                if row.declared { "yes" } else { "no" },
                row.expected,
                &row.rule,
                &row.found.to_string(),
                conclusion(row.conclusion),
                row.decided_by.as_deref().unwrap_or_default(),
                &row.reason,
            ];
            writeln!(to, "{}", fields.map(quoted).join(","))?;
        }
        for row in &self.not_probed {
            let fields: [&str; 14] = ["", "", "", "", "", "", &row.service, "yes", "open", &row.rule, "unknown", conclusion(row.conclusion), "", &row.reason];
            writeln!(to, "{}", fields.map(quoted).join(","))?;
        }
        Ok(())
    }

    /// Grouped by rule and service; then each surprise and each unknown with its reason.
    pub fn table(&self, mut to: impl Write) -> io::Result<()> {
        let mut groups = BTreeMap::<(bool, &str, &str, bool, &str), BTreeMap<Disposition, usize>>::new();
        for row in &self.rows {
            let (service, rule) = if row.declared { (&*row.service, &*row.rule) } else { ("(not declared)", "default") };
            let key = (!row.declared, &*row.roles, service, row.expected == expected(true), rule);
            *groups.entry(key).or_default().entry(row.found).or_default() += 1;
        }
        let lines = groups.into_iter().map(|((_, roles, service, open, rule), found)| {
            let found: Vec<String> = found.into_iter().map(|(disposition, count)| format!("{count} {disposition}")).collect();
            vec![roles.to_owned(), service.to_owned(), expected(open).to_owned(), found.join(", "), rule.to_owned()]
        });
        let header = ["FLOW", "SERVICE", "EXPECTED", "FOUND", "RULE"];
        to.write_all(table(&header, &lines.collect::<Vec<_>>()).as_bytes())?;
        self.surprises(&mut to)?;
        self.unknown(&mut to)?;
        if !self.not_probed.is_empty() {
            writeln!(to, "\nnot probed:")?;
        }
        for row in &self.not_probed {
            writeln!(to, "  {}, {}, {} ({}): {}", row.roles, row.service, row.family, row.rule, row.reason)?;
        }
        writeln!(to, "\n{}", self.summary())
    }

    fn which(&self, which: Conclusion) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.conclusion == which)
    }

    fn surprises(&self, to: &mut impl Write) -> io::Result<()> {
        let count = self.which(Conclusion::NotAsDeclared).count();
        if count > 0 {
            writeln!(to, "\nnot as declared:")?;
        }
        for row in self.which(Conclusion::NotAsDeclared).take(MOST_LISTED) {
            let Row { source_machine, source, destination_machine, destination, expected, found, .. } = row;
            let from_to = format!("{source_machine} ({source}) -> {destination_machine} ({destination})");
            writeln!(to, "  {from_to}, {}: expected {expected}, found {found}", row.target())?;
            writeln!(to, "    {}", row.reason)?;
            writeln!(to, "    the policy's word: {}", row.rule)?;
            if let Some(decided_by) = &row.decided_by {
                writeln!(to, "    the destination's word: {decided_by}")?;
            }
            if let Some(ByHand { linux, windows }) = &row.by_hand {
                writeln!(to, "    by hand from {source_machine}: {linux} (Linux), {windows} (Windows)")?;
            }
        }
        if count > MOST_LISTED {
            writeln!(to, "  and {} more: `-o json` has all", count - MOST_LISTED)?;
        }
        Ok(())
    }

    /// One line for each pair of machines and reason.
    fn unknown(&self, to: &mut impl Write) -> io::Result<()> {
        let mut groups = BTreeMap::<(&str, &str, &str), Vec<String>>::new();
        for row in self.which(Conclusion::Unknown) {
            groups.entry((&*row.source_machine, &*row.destination_machine, &*row.reason)).or_default().push(row.target());
        }
        if !groups.is_empty() {
            writeln!(to, "\nunknown:")?;
        }
        for ((source, destination, reason), targets) in groups {
            let (first, others) = (&targets[0], targets.len() - 1);
            let more = if others == 0 { String::new() } else { format!(" and {others} more") };
            writeln!(to, "  {source} -> {destination}, {first}{more}: {reason}")?;
        }
        Ok(())
    }
}

fn row(policy: &Policy, case: &Case, finding: &Finding) -> Row {
    let (protocol, source_port, port) = match case.probe.packet {
        Packet::Tcp { source_port, port, .. } => (Protocol::TCP, Some(source_port), Some(port)),
        Packet::Udp { source_port, port, .. } => (Protocol::UDP, Some(source_port), Some(port)),
        Packet::Echo { .. } if case.probe.source.is_ipv4() => (Protocol::ICMP, None, None),
        Packet::Echo { .. } => (Protocol::ICMPV6, None, None),
        Packet::Other { number } => (Protocol(number), None, None),
    };
    Row {
        source_machine: case.source_name.clone(),
        source: case.probe.source.to_string(),
        source_port,
        destination_machine: case.destination_name.clone(),
        destination: case.probe.destination.to_string(),
        protocol: protocol.to_string(),
        port,
        roles: case.roles.clone(),
        service: case.service.clone(),
        declared: case.declared,
        expected: expected(case.expectation.open),
        rule: rule_text(policy, &case.reason),
        found: finding.disposition,
        conclusion: finding.conclusion,
        closed_at: finding.closed_at.map(|place| place_text(place).to_owned()),
        decided_by: finding.decided_by.as_ref().map(|trace| decider(trace, |id| rule_place(policy, id))),
        reason: finding.reason.clone(),
        since: None,
        looked: None,
        by_hand: ByHand::of(&protocol.to_string(), &case.probe.destination.to_string(), port),
    }
}

fn row_of_fleet(path: api::Path) -> Row {
    Row {
        by_hand: ByHand::of(&path.protocol, &path.destination, path.port),
        source_machine: path.source_machine,
        source: path.source,
        source_port: None,
        destination_machine: path.destination_machine,
        destination: path.destination,
        protocol: path.protocol,
        port: path.port,
        roles: path.roles,
        service: path.service,
        declared: path.declared,
        expected: expected(path.expected == api::Expected::Open),
        rule: path.rule,
        found: match path.found {
            api::Disposition::Open => Disposition::Open,
            api::Disposition::Rejected => Disposition::Rejected,
            api::Disposition::Dropped => Disposition::Dropped,
            api::Disposition::Unreachable => Disposition::Unreachable,
            api::Disposition::Unknown => Disposition::Unknown,
        },
        conclusion: match path.conclusion {
            api::Conclusion::AsDeclared => Conclusion::AsDeclared,
            api::Conclusion::NotAsDeclared => Conclusion::NotAsDeclared,
            api::Conclusion::Unknown => Conclusion::Unknown,
        },
        closed_at: path.closed_at,
        decided_by: path.decided_by,
        reason: path.reason,
        since: path.since,
        looked: path.looked,
    }
}

fn place_text(place: Place) -> &'static str {
    match place {
        Place::Source => "source",
        Place::BeforeDestination => "before_destination",
        Place::Destination => "destination",
        Place::Somewhere => "somewhere",
    }
}

fn expected(open: bool) -> &'static str {
    if open { "open" } else { "closed" }
}

fn conclusion(conclusion: Conclusion) -> &'static str {
    match conclusion {
        Conclusion::AsDeclared => "as_declared",
        Conclusion::NotAsDeclared => "not_as_declared",
        Conclusion::Unknown => "unknown",
    }
}

/// RFC 4180.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
}
