//! The guide's names → groups.
//!
//! In: names of ends as the guide writes them. Out: names of groups, and their definitions. Never: an
//! address that the guide does not give; a role gets a value that is an error until it is bound.

use super::yaml;
use crate::words;
use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::net::IpAddr;

#[derive(Debug, Default)]
pub(crate) struct Groups {
    defined: Vec<Group>,
    by_name: HashMap<String, usize>,
    values: HashSet<String>,
    uses_internet: bool,
}

#[derive(Debug)]
struct Group {
    name: String,
    definition: String,
    comment: String,
    /// It sends traffic of its own, so it is a machine of the operator.
    is_source: bool,
    is_role: bool,
}

/// What an end of a flow is in a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Group(String),
    /// Can't be written, and why.
    Unfit(String),
}

impl Groups {
    /// `internet` and `internal` are defined by the operator's own prefixes.
    pub fn needs_internal(&self) -> bool {
        self.uses_internet
    }

    /// The group for a name. `meaning` is the legend's text for it.
    pub fn end(&mut self, name: &str, meaning: Option<&str>, is_source: bool) -> End {
        let lower = name.to_lowercase();
        if words::is_any(name)
            || matches!(lower.as_str(), "0.0.0.0/0" | "::/0" | "anywhere" | "everywhere" | "any host" | "host *")
        {
            return End::Group("any".to_owned());
        }
        if matches!(lower.as_str(), "internet" | "public internet" | "the internet") {
            self.uses_internet = true;
            return End::Group("internet".to_owned());
        }
        if matches!(lower.as_str(), "internal" | "internal network" | "internal networks") {
            self.uses_internet = true;
            return End::Group("internal".to_owned());
        }
        let comment = |written: &str| match meaning {
            Some(meaning) => format!("{name}: {meaning}"),
            None if yaml::kebab(name) == name.to_lowercase() => String::new(),
            None => written.to_owned(),
        };
        if is_address(name) {
            let key = format!("net-{}", yaml::kebab(name));
            let definition = format!("{{ addresses: [\"{name}\"] }}");
            return End::Group(self.define(&lower, key, Some(definition), String::new(), is_source));
        }
        if is_dns_name(name) {
            if name.contains('*') {
                return End::Unfit(format!("`{name}` has a wildcard, which no resolver can answer"));
            }
            if is_source {
                return End::Unfit(format!("`{name}` is a DNS name, which can only be a destination"));
            }
            let key = yaml::kebab(name);
            let definition = format!("{{ names: [{lower}] }}");
            return End::Group(self.define(&lower, key, Some(definition), String::new(), is_source));
        }
        let role = without_address_words(name);
        let mut key = yaml::kebab(&role);
        if key.is_empty() {
            return End::Unfit(format!("`{name}` can't be a name"));
        }
        if matches!(key.as_str(), "any" | "internet" | "internal") {
            key.push_str("-hosts");
        }
        let key = brief(key);
        let comment = comment(name);
        // The whole name, since two long ones may begin alike.
        End::Group(self.define(&singular(&role.to_lowercase()), key, None, comment, is_source))
    }

    /// A group for an end that the guide leaves open.
    pub fn open(&mut self, prefix: &str, other: &str, comment: String) -> String {
        let key = format!("{prefix}-{other}");
        self.define(&key, yaml::kebab(&key), None, comment, prefix == "clients-of")
    }

    /// The roles that send traffic, for rules about machines of one kind.
    pub fn roles(&self) -> Vec<String> {
        let is_plural = |name: &str| {
            name.split('-').any(|word| matches!(word, "all" | "any" | "users" | "clients" | "network" | "networks"))
        };
        let roles = self.defined.iter().filter(|group| group.is_source && group.is_role && !is_plural(&group.name));
        roles.map(|group| group.name.clone()).collect()
    }

    /// Without a definition it is a role, which gets a value of its own.
    fn define(
        &mut self,
        identity: &str,
        key: String,
        definition: Option<String>,
        comment: String,
        is_source: bool,
    ) -> String {
        if let Some(known) = self.by_name.get(identity) {
            self.defined[*known].is_source |= is_source;
            return self.defined[*known].name.clone();
        }
        let mut name = key.clone();
        let mut number = 2;
        // Names with one value would be bound to the same machines.
        while !self.values.insert(value(&name)) {
            name = format!("{key}-{number}");
            number += 1;
        }
        let is_role = definition.is_none();
        let definition = definition.unwrap_or_else(|| format!("{{ addresses: ${} }}", value(&name)));
        self.by_name.insert(identity.to_owned(), self.defined.len());
        self.defined.push(Group { name: name.clone(), definition, comment, is_source, is_role });
        name
    }

    pub fn write(&self, out: &mut String) {
        if self.defined.is_empty() {
            return;
        }
        out.push_str("\ngroups:\n");
        let width =
            self.defined.iter().map(|group| group.name.len() + group.definition.len()).max().unwrap_or(0).min(72);
        for group in &self.defined {
            let line = format!("  {}: {}", group.name, group.definition);
            match group.comment.is_empty() {
                true => out.push_str(&line),
                false => {
                    let _ = write!(out, "{line:<0$}  # {1}", width + 4, yaml::comment(&group.comment));
                }
            }
            out.push('\n');
        }
    }
}

/// The value that says where the machines of a group are.
fn value(group: &str) -> String {
    let value = group.to_ascii_uppercase().replace('-', "_");
    let digit = if value.starts_with(|c: char| c.is_ascii_digit()) { "N" } else { "" };
    format!("{digit}{value}_IPS")
}

fn is_address(name: &str) -> bool {
    let (address, length) = name.split_once('/').map_or((name, None), |(address, length)| (address, Some(length)));
    address.parse::<IpAddr>().is_ok() && length.is_none_or(|length| length.parse::<u8>().is_ok())
}

fn is_dns_name(name: &str) -> bool {
    let labels: Vec<&str> = name.split('.').collect();
    labels.len() > 1
        && labels.iter().all(|label| {
            !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '*' | '_'))
        })
        && labels.last().is_some_and(|label| label.len() > 1 && label.chars().all(|c| c.is_ascii_alphabetic()))
}

/// Characters of a name that is still easy to write. The comment beside the group has the rest.
const BRIEF: usize = 40;

/// Whole words of a long key.
fn brief(key: String) -> String {
    if key.len() <= BRIEF {
        return key;
    }
    let start = &key[..key.floor_char_boundary(BRIEF)];
    start.rsplit_once('-').map_or(start, |(words, _)| words).to_owned()
}

/// A guide that speaks of "the agent" and of "agents" means one group.
fn singular(role: &str) -> String {
    let last = role.split_whitespace().next_back().unwrap_or("");
    match role.strip_suffix('s') {
        Some(stem) if words::is_machine(last) && !last.ends_with("ss") => stem.to_owned(),
        _ => role.to_owned(),
    }
}

/// "load balancer IP" is the load balancer.
fn without_address_words(name: &str) -> String {
    let mut words: Vec<&str> = name.split_whitespace().collect();
    while words.len() > 1
        && words.last().is_some_and(|word| {
            matches!(word.to_lowercase().as_str(), "ip" | "ips" | "address" | "addresses" | "ip(s)")
        })
    {
        words.pop();
    }
    words.join(" ")
}
