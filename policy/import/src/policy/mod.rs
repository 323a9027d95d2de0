//! Flows → a policy file that a person would keep.
//!
//! In: guides. Out: YAML: a group for each role, a section for each heading, a rule for each row with
//! its place. Never: a rule that is wider than its row. What the guide leaves open becomes a value that
//! must be bound, what can't be decided becomes a comment, and the whole file is in the audit stage.

mod groups;
mod naming;
mod rules;
mod yaml;

use crate::guide::Guide;
use groups::Groups;
use ringwall_diagnostic::Sources;
use rules::{Entry, Rule};
use std::collections::BTreeMap;
use std::fmt::Write;

/// What wrote the file, and when; both only for its first line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Such as `ringwall 0.1.0`.
    pub program: String,
    /// Such as `2026-01-31`; empty to leave it out.
    pub date: String,
}

/// A policy as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyText {
    /// In the language of policy files.
    pub text: String,
    /// Flows that are in no rule, since the guide leaves open what one needs; comments stand for them.
    pub left_out: usize,
}

/// What the guides say, as a policy.
pub fn to_policy(guides: &[Guide], sources: &Sources, stamp: &Stamp) -> PolicyText {
    let mut groups = Groups::default();
    let mut options = BTreeMap::new();
    let mut sections = Vec::new();
    for guide in guides {
        sections.append(&mut rules::sections(guide, sources, &mut groups, &mut options));
    }
    rules::fold_equal(&mut sections);

    let mut out = String::new();
    header(&mut out, guides, sources, stamp);
    out.push_str("stage: audit\n");
    if groups.needs_internal() {
        out.push_str("\ninternal: $INTERNAL_NETWORKS  # our own prefixes; `internet` is every other global address\n");
    }
    if !options.is_empty() {
        out.push_str("\noptions:  # true where it applies to you\n");
        for (option, reason) in &options {
            let _ = writeln!(out, "  {option}: false  # {}", yaml::comment(reason));
        }
    }
    groups.write(&mut out);
    out.push_str("\nsections:\n");
    for section in &sections {
        write_section(&mut out, section);
    }
    out.push_str(ECHO);
    let lost = |entry: &Entry| match entry {
        Entry::Comment { lost, .. } => *lost,
        Entry::Rule(_) => 0,
    };
    let left_out = sections.iter().flat_map(|section| &section.entries).map(lost).sum();
    PolicyText { text: out, left_out }
}

const ECHO: &str = "  - name: Connectivity checks
    rules:
      - allow: any -> any
        services: [icmp/echo-request]
        note: not from the guide, so that ping finds what is down; delete this section if you don't want it
";

fn header(out: &mut String, guides: &[Guide], sources: &Sources, stamp: &Stamp) {
    let files: Vec<_> = guides.iter().map(|guide| yaml::comment(sources.name(guide.source))).collect();
    let _ = write!(out, "# Imported from {}", files.join(", "));
    if !stamp.program.is_empty() {
        let _ = write!(out, " by {}", yaml::comment(&stamp.program));
    }
    if !stamp.date.is_empty() {
        let _ = write!(out, " on {}", yaml::comment(&stamp.date));
    }
    out.push_str(".\n#\n");
    out.push_str("# Nothing is enforced yet: `stage: audit` only counts what the rules would do.\n");
    out.push_str(
        "# Bind the values (`$...`), look through the comments, run `ringwall check`, then take the stage out.\n",
    );
    for guide in guides {
        for note in &guide.notes {
            if matches!(note.kind.as_str(), "important" | "warning" | "caution" | "danger" | "error") {
                let _ = writeln!(out, "#\n# {} ({}):", sources.place(note.span), note.kind);
                for line in yaml::wrap(&note.text, 96) {
                    let _ = writeln!(out, "#   {line}");
                }
            }
        }
    }
    out.push('\n');
}

fn write_section(out: &mut String, section: &rules::Section) {
    let is_empty = !section.entries.iter().any(|entry| matches!(entry, Entry::Rule(_)));
    if is_empty {
        if !section.entries.is_empty() {
            let _ = writeln!(out, "  # {}", yaml::comment(&section.name));
        }
    } else {
        let _ = writeln!(out, "  - name: {}", yaml::scalar(&section.name));
        if !section.when.is_empty() {
            let _ = writeln!(out, "    when: {}", when(&section.when));
        }
        out.push_str("    rules:\n");
    }
    for entry in &section.entries {
        match entry {
            Entry::Rule(rule) => write_rule(out, rule, "      "),
            Entry::Comment { reason, rule, text, .. } => {
                let _ = writeln!(out, "      # {}", yaml::comment(reason));
                match rule {
                    Some(rule) => write_rule(out, rule, "      # "),
                    None if text.is_empty() => {}
                    None => {
                        let _ = writeln!(out, "      #   {}", yaml::comment(text));
                    }
                }
            }
        }
    }
}

fn write_rule(out: &mut String, rule: &Rule, indent: &str) {
    let arrow = if rule.is_both { "<->" } else { "->" };
    let (sources, destinations) = (rule.sources.join(", "), rule.destinations.join(", "));
    let _ = writeln!(out, "{indent}- {}: {sources} {arrow} {destinations}", rule.verb());
    let _ = writeln!(
        out,
        "{indent}  services: [{}]",
        rule.services.iter().map(|text| yaml::item(text)).collect::<Vec<_>>().join(", ")
    );
    if let Some(ports) = &rule.source_ports {
        let _ = writeln!(out, "{indent}  source_ports: [{}]", yaml::item(ports));
    }
    if let Some(seconds) = rule.session_timeout {
        let _ = writeln!(out, "{indent}  session_timeout: {seconds}s");
    }
    if !rule.when.is_empty() {
        let _ = writeln!(out, "{indent}  when: {}", when(&rule.when));
    }
    let _ = writeln!(out, "{indent}  note: {}", yaml::scalar(&rule.note()));
}

fn when(options: &[String]) -> String {
    match options {
        [only] => only.clone(),
        several => format!("[{}]", several.join(", ")),
    }
}
