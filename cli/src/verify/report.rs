//! What was found, for people and for programs.
//!
//! In: cases with their findings. Out: text. Never: a count in which an unknown passes for declared.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::IpAddr;

use ringwall_analysis::probes::{Case, NotProbed, decider, rule_place, rule_text};
use ringwall_node::probe::{Conclusion, Disposition, Finding, Packet, Place};
use ringwall_packet::Protocol;
use ringwall_policy::Policy;
use serde::Serialize;

use crate::terminal::table;


/// The `schema` of the JSON form.
const SCHEMA: &str = "ringwall.verify/1";
/// As many single flows are printed for people; programs get all.
const MOST_LISTED: usize = 50;

pub struct Report<'a> {
    pub policy: &'a Policy,
    pub flows: Vec<(&'a Case, Finding)>,
    pub not_probed: &'a [NotProbed],
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
struct Row<'a> {
    source_machine: &'a str,
    source: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_port: Option<u16>,
    destination_machine: &'a str,
    destination: IpAddr,
    protocol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    roles: &'a str,
    service: &'a str,
    /// Whether a rule names the flow; else it is of the sample of what no rule allows.
    declared: bool,
    expected: &'static str,
    /// What decides it by the policy's meaning.
    rule: String,
    found: Disposition,
    conclusion: Conclusion,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_at: Option<Place>,
    /// What decided it at the destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_by: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
}

impl Row<'_> {
    /// `443/tcp`, `icmp`.
    fn target(&self) -> String {
        match self.port {
            Some(port) => format!("{port}/{}", self.protocol),
            None => self.protocol.clone(),
        }
    }
}

#[derive(Serialize)]
struct NotProbedRow<'a> {
    roles: &'a str,
    service: &'a str,
    family: String,
    rule: String,
    conclusion: Conclusion,
    reason: &'a str,
}

impl<'a> Report<'a> {
    pub fn summary(&self) -> Summary {
        let count = |which: fn(&Case) -> bool, not_probed| {
            let of = |conclusion| {
                self.flows.iter().filter(|(case, finding)| which(case) && finding.conclusion == conclusion).count()
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
            declared: count(|case| case.declared, not_probed),
            undeclared: count(|case| !case.declared, 0),
        }
    }

    pub fn json(&self, mut to: impl Write) -> io::Result<()> {
        #[derive(Serialize)]
        struct Whole<'a> {
            schema: &'a str,
            summary: Summary,
            flows: Vec<Row<'a>>,
            not_probed: Vec<NotProbedRow<'a>>,
        }
        let whole = Whole {
            schema: SCHEMA,
            summary: self.summary(),
            flows: self.rows().collect(),
            not_probed: self.not_probed_rows().collect(),
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
        for row in self.rows() {
            line(serde_json::to_string(&Lined { schema: SCHEMA, row }))?;
        }
        for row in self.not_probed_rows() {
            line(serde_json::to_string(&Lined { schema: SCHEMA, row }))?;
        }
        line(serde_json::to_string(&Lined { schema: SCHEMA, row: self.summary() }))
    }

    pub fn csv(&self, mut to: impl Write) -> io::Result<()> {
        writeln!(
            to,
            "source_machine,source,destination_machine,destination,protocol,port,service,declared,expected,rule,found,conclusion,decided_by,reason"
        )?;
        for row in self.rows() {
            let port = row.port.map(|port| port.to_string()).unwrap_or_default();
            let fields: [&str; 14] = [
                row.source_machine,
                &row.source.to_string(),
                row.destination_machine,
                &row.destination.to_string(),
                &row.protocol,
                &port,
                row.service,
                if row.declared { "yes" } else { "no" },
                row.expected,
                &row.rule,
                &row.found.to_string(),
                conclusion(row.conclusion),
                row.decided_by.as_deref().unwrap_or_default(),
                row.reason,
            ];
            writeln!(to, "{}", fields.map(quoted).join(","))?;
        }
        for row in self.not_probed_rows() {
            let fields: [&str; 14] = ["", "", "", "", "", "", row.service, "yes", "open", &row.rule, "unknown", conclusion(row.conclusion), "", row.reason];
            writeln!(to, "{}", fields.map(quoted).join(","))?;
        }
        Ok(())
    }

    /// Grouped by rule and service; then each surprise and each unknown with its reason.
    pub fn table(&self, mut to: impl Write) -> io::Result<()> {
        let mut groups = BTreeMap::<(bool, &str, String, bool, String), BTreeMap<Disposition, usize>>::new();
        for (case, finding) in &self.flows {
            let (service, rule) = match case.declared {
                true => (case.service.clone(), rule_text(self.policy, &case.reason)),
                false => ("(not declared)".to_owned(), "default".to_owned()),
            };
            let key = (!case.declared, case.roles.as_str(), service, case.expectation.open, rule);
            *groups.entry(key).or_default().entry(finding.disposition).or_default() += 1;
        }
        let lines = groups.into_iter().map(|((_, roles, service, open, rule), found)| {
            let found: Vec<String> = found.into_iter().map(|(disposition, count)| format!("{count} {disposition}")).collect();
            vec![roles.to_owned(), service, expected(open).to_owned(), found.join(", "), rule]
        });
        let header = ["FLOW", "SERVICE", "EXPECTED", "FOUND", "RULE"];
        to.write_all(table(&header, &lines.collect::<Vec<_>>()).as_bytes())?;
        self.surprises(&mut to)?;
        self.unknown(&mut to)?;
        if !self.not_probed.is_empty() {
            writeln!(to, "\nnot probed:")?;
        }
        for row in self.not_probed_rows() {
            writeln!(to, "  {}, {}, {} ({}): {}", row.roles, row.service, row.family, row.rule, row.reason)?;
        }
        writeln!(to, "\n{}", self.summary())
    }

    fn of(&self, which: Conclusion) -> impl Iterator<Item = Row<'_>> {
        let found = self.flows.iter().filter(move |(_, finding)| finding.conclusion == which);
        found.map(|(case, finding)| self.row(case, finding))
    }

    fn surprises(&self, to: &mut impl Write) -> io::Result<()> {
        let count = self.of(Conclusion::NotAsDeclared).count();
        if count > 0 {
            writeln!(to, "\nnot as declared:")?;
        }
        for row in self.of(Conclusion::NotAsDeclared).take(MOST_LISTED) {
            let Row { source_machine, source, destination_machine, destination, expected, found, .. } = &row;
            let from_to = format!("{source_machine} ({source}) -> {destination_machine} ({destination})");
            writeln!(to, "  {from_to}, {}: expected {expected}, found {found}", row.target())?;
            writeln!(to, "    {}", row.reason)?;
            writeln!(to, "    the policy's word: {}", row.rule)?;
            if let Some(decided_by) = row.decided_by {
                writeln!(to, "    the destination's word: {decided_by}")?;
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
        for row in self.of(Conclusion::Unknown) {
            groups.entry((row.source_machine, row.destination_machine, row.reason)).or_default().push(row.target());
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

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.flows.iter().map(|(case, finding)| self.row(case, finding))
    }

    fn row<'b>(&self, case: &'b Case, finding: &'b Finding) -> Row<'b> {
        let (protocol, source_port, port) = match case.probe.packet {
            Packet::Tcp { source_port, port, .. } => (Protocol::TCP, Some(source_port), Some(port)),
            Packet::Udp { source_port, port, .. } => (Protocol::UDP, Some(source_port), Some(port)),
            Packet::Echo { .. } if case.probe.source.is_ipv4() => (Protocol::ICMP, None, None),
            Packet::Echo { .. } => (Protocol::ICMPV6, None, None),
            Packet::Other { number } => (Protocol(number), None, None),
        };
        Row {
            source_machine: &case.source_name,
            source: case.probe.source,
            source_port,
            destination_machine: &case.destination_name,
            destination: case.probe.destination,
            protocol: protocol.to_string(),
            port,
            roles: &case.roles,
            service: &case.service,
            declared: case.declared,
            expected: expected(case.expectation.open),
            rule: rule_text(self.policy, &case.reason),
            found: finding.disposition,
            conclusion: finding.conclusion,
            closed_at: finding.closed_at,
            decided_by: finding.decided_by.as_ref().map(|trace| decider(trace, |id| rule_place(self.policy, id))),
            reason: &finding.reason,
        }
    }

    fn not_probed_rows(&self) -> impl Iterator<Item = NotProbedRow<'_>> {
        self.not_probed.iter().map(|entry| NotProbedRow {
            roles: &entry.roles,
            service: &entry.service,
            family: entry.family.to_string(),
            rule: entry.rule.as_ref().map_or("management".into(), |id| rule_place(self.policy, id)),
            conclusion: Conclusion::Unknown,
            reason: &entry.reason,
        })
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
