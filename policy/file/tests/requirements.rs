//! The requirements that a policy file alone meets, each with its check.

use std::net::SocketAddr;

use ringwall_diagnostic::Diagnostic;
use ringwall_packet::{Flow, Upper};
use ringwall_policy::{Policy, Verdict};
use ringwall_policy_file::{Input, Parsed, Values, folder, parse};

/// 2026-07-01 00:00 UTC.
const NOW: u64 = 1_782_864_000;

fn read(text: &str, bound: &[(&str, &str)]) -> Parsed {
    let mut values = Values::default();
    for (name, text) in bound {
        values.bind(*name, *text, "a test");
    }
    parse(&[Input { name: "policy.yaml".to_owned(), text: text.to_owned() }], &values, NOW)
}

fn policy(text: &str, bound: &[(&str, &str)]) -> Policy {
    let parsed = read(text, bound);
    parsed.policy.unwrap_or_else(|| panic!("{:?}", parsed.diagnostics))
}

fn codes(parsed: &Parsed) -> Vec<&'static str> {
    parsed.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).map(|diagnostic| diagnostic.code.0).collect()
}

fn flow(protocol: &str, from: &str, to: &str) -> Flow {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse().expect("a source"), to.parse().expect("a destination"));
    let upper = match protocol {
        "tcp" => Upper::tcp(from.port(), to.port()),
        _ => Upper::udp(from.port(), to.port()),
    };
    Flow::new(from.ip(), to.ip(), upper).expect("one family")
}

fn is_open(policy: &Policy, protocol: &str, from: &str, to: &str) -> bool {
    policy.judge(&flow(protocol, from, to), None, NOW, |_, _| false).verdict == Verdict::Accept
}

/// The policy without its places.
fn meaning(mut policy: Policy) -> Policy {
    let mut origin = policy.nodes.values().next().expect("a node").origin.clone();
    origin.place.clear();
    policy.management.iter_mut().for_each(|management| management.origin = origin.clone());
    policy.rules.iter_mut().for_each(|rule| rule.origin = origin.clone());
    policy.nodes.values_mut().for_each(|node| node.origin = origin.clone());
    policy.groups.values_mut().for_each(|group| group.origin = origin.clone());
    policy
}

const IOT: &str = r"
internal: [192.0.2.0/24]
nodes:
  lb-1: { addresses: [192.0.2.10] }
floating:
  vips: { addresses: $LB_IPS, on: lb-1 }
rules:
  - allow: internet -> vips
    services: [http, https, mqtt, tcp/8883]
    session_timeout: 14400s
";

#[test]
fn r001_04_placeholders_are_bound_or_refused() {
    let unbound = read(IOT, &[]);
    assert!(codes(&unbound).contains(&"RW0211"));
    assert!(unbound.policy.is_none());

    let bound = policy(IOT, &[("LB_IPS", "192.0.2.100, 192.0.2.101 2001:db8::100")]);
    for vip in ["192.0.2.100", "192.0.2.101"] {
        assert!(is_open(&bound, "tcp", "203.0.113.7:50000", &format!("{vip}:443")));
        assert!(!is_open(&bound, "tcp", "203.0.113.7:50000", &format!("{vip}:22")));
    }
    assert!(is_open(&bound, "tcp", "[2001:db8:9::7]:50000", "[2001:db8::100]:8883"));
    assert!(!is_open(&bound, "tcp", "203.0.113.7:50000", "192.0.2.10:443"));
}

#[test]
fn r001_04_the_error_names_the_row() {
    let text = IOT.replace("  vips: { addresses: $LB_IPS, on: lb-1 }", "").replace("floating:", "groups:\n  vips: { addresses: $LB_IPS }");
    let parsed = read(&text, &[]);
    let unbound = parsed.diagnostics.iter().find(|diagnostic| diagnostic.code.0 == "RW0211").expect("unbound");
    let rows: Vec<_> = unbound.related.iter().map(|label| parsed.sources.snippet(label.span)).collect();
    assert_eq!(rows, ["internet -> vips"]);
}

#[test]
fn r001_05_a_pack_that_is_off_leaves_no_trace() {
    let without = IOT.to_owned();
    let pack = |on: bool| {
        let rules = "  - name: eMail\n    when: email\n    rules:\n      - allow: lb-1 -> internet\n        services: [smtp]\n";
        format!("{IOT}options: {{ email: {on} }}\nsections:\n{rules}")
    };
    let bound = [("LB_IPS", "192.0.2.100")];
    assert!(is_open(&policy(&pack(true), &bound), "tcp", "192.0.2.10:50000", "203.0.113.25:25"));
    assert_eq!(meaning(policy(&pack(false), &bound)), meaning(policy(&without, &bound)));
}

#[test]
fn r001_05_what_is_off_needs_no_values() {
    let text = format!(
        "{IOT}options: {{ email: false }}\ngroups:\n  relay: {{ addresses: $RELAY }}\nsections:\n  - when: email\n    rules:\n      - allow: lb-1 -> relay\n        services: [smtp]\n"
    );
    policy(&text, &[("LB_IPS", "192.0.2.100")]);
}

#[test]
fn r001_06_session_timeouts_are_seconds() {
    let timeouts = |text: &str| policy(text, &[("LB_IPS", "192.0.2.100")]).rules[0].session_timeout;
    assert_eq!(timeouts(IOT), Some(14_400));
    assert_eq!(timeouts(&IOT.replace("14400s", "4h")), Some(14_400));
    assert_eq!(codes(&read(&IOT.replace("14400s", "14.400"), &[("LB_IPS", "192.0.2.100")])), ["RW0110"]);
}

#[test]
fn r001_09_a_parameter_chooses_the_resolver() {
    let text = |internal: bool| {
        format!(
            r#"
internal: [192.0.2.0/24]
options: {{ internal_dns: {internal} }}
nodes: {{ core: {{ addresses: [192.0.2.10] }}, mongo: {{ addresses: [192.0.2.11] }} }}
groups: {{ all: {{ nodes: [core, mongo] }}, dns: {{ addresses: [192.0.2.53] }} }}
sections:
  - when: internal_dns
    rules:
      - allow: all -> dns
        services: [udp/53]
  - when: "!internal_dns"
    rules:
      - allow: all -> internet
        services: [udp/53]
"#
        )
    };
    for node in ["192.0.2.10:50000", "192.0.2.11:50000"] {
        for internal in [true, false] {
            let policy = policy(&text(internal), &[]);
            assert_eq!(is_open(&policy, "udp", node, "203.0.113.53:53"), !internal);
            assert_eq!(is_open(&policy, "udp", node, "192.0.2.53:53"), internal);
        }
    }
}

const VAULT: &str = r"
internal: [192.0.2.0/24, 198.51.100.0/24]
management: { from: admins, services: [ssh] }
nodes:
  prd: { addresses: [192.0.2.10], labels: { role: primary } }
  m1:  { addresses: [192.0.2.11], labels: { role: member } }
  m2:  { addresses: [192.0.2.12], labels: { role: member } }
groups:
  admins:  { addresses: [192.0.2.200] }
  primary: { labels: { role: primary } }
  members: { labels: { role: member }, may_be_empty: true, includes_rules_of: [primary] }
  users:   { addresses: [198.51.100.0/24] }
  ldap:    { addresses: [192.0.2.30, 192.0.2.31] }
sections:
  - name: Users
    rules:
      - allow: users -> primary
        services: [https]
  - name: Services
    rules:
      - allow: primary -> ldap
        services: [ldap]
  - name: Cluster
    rules:
      - allow: primary <-> members
        services: [ssh, mysql]
";

#[test]
fn r001_13_only_the_management_set_reaches_ssh() {
    let policy = policy(VAULT, &[]);
    assert!(is_open(&policy, "tcp", "192.0.2.200:50000", "192.0.2.10:22"));
    assert!(is_open(&policy, "tcp", "192.0.2.200:50000", "192.0.2.12:22"));
    assert!(!is_open(&policy, "tcp", "198.51.100.7:50000", "192.0.2.10:22"));
}

#[test]
fn r002_03_a_role_has_several_addresses_or_is_refused() {
    let vault = policy(VAULT, &[]);
    assert!(is_open(&vault, "tcp", "192.0.2.10:50000", "192.0.2.30:389"));
    assert!(is_open(&vault, "tcp", "192.0.2.10:50000", "192.0.2.31:389"));
    let unbound = VAULT.replace("[192.0.2.30, 192.0.2.31]", "$LDAP_IPS");
    assert_eq!(codes(&read(&unbound, &[])), ["RW0211"]);
}

#[test]
fn r002_04_members_take_over_the_primary_s_rules() {
    let vault = policy(VAULT, &[]);
    for member in ["192.0.2.11", "192.0.2.12"] {
        assert!(is_open(&vault, "tcp", &format!("{member}:50000"), "192.0.2.30:389"));
        assert!(is_open(&vault, "tcp", "198.51.100.7:50000", &format!("{member}:443")));
    }
    let without = policy(&VAULT.replace(", includes_rules_of: [primary]", ""), &[]);
    assert!(!is_open(&without, "tcp", "192.0.2.11:50000", "192.0.2.30:389"));
    assert!(!is_open(&without, "tcp", "198.51.100.7:50000", "192.0.2.11:443"));
}

#[test]
fn r002_05_a_section_is_switched_by_itself() {
    let switched = |on: bool| {
        let text = VAULT.replace("  - name: Users\n", "  - name: Users\n    when: users\n");
        policy(&format!("{text}options: {{ users: {on} }}\n"), &[])
    };
    let (on, off) = (switched(true).allowed(NOW), switched(false).allowed(NOW));
    let closed = on.difference(&off);
    assert!(off.difference(&on).is_empty());
    let users = policy(VAULT, &[]).rules[0].flows();
    assert!(closed.difference(&users).is_empty() && users.difference(&closed).is_empty());
}

#[test]
fn r002_06_without_members_there_is_no_rule_and_no_error() {
    let is_member = |line: &&str| line.contains("  m1:") || line.contains("  m2:");
    let alone: Vec<&str> = VAULT.lines().filter(|line| !is_member(line)).collect();
    let parsed = read(&alone.join("\n"), &[]);
    assert_eq!(codes(&parsed), Vec::<&str>::new());
    let policy = parsed.policy.expect("a policy");
    let cluster = policy.rules.iter().find(|rule| rule.both_ways).expect("the cluster's rule");
    assert!(cluster.flows().is_empty());
}

#[test]
fn r002_08_a_source_port_matches_only_itself() {
    let text = VAULT.replace("        services: [ldap]\n", "        services: [ldap]\n        source_ports: 1024\n");
    let policy = policy(&text, &[]);
    assert!(is_open(&policy, "tcp", "192.0.2.10:1024", "192.0.2.30:389"));
    assert!(!is_open(&policy, "tcp", "192.0.2.10:1025", "192.0.2.30:389"));
}

#[test]
fn r002_12_a_symmetric_pair_is_one_line_and_both_directions() {
    let vault = policy(VAULT, &[]);
    let lines = vault.rules.iter().filter(|rule| rule.origin.section.as_deref() == Some("Cluster")).count();
    assert_eq!(lines, 1);
    assert!(is_open(&vault, "tcp", "192.0.2.10:50000", "192.0.2.11:3306"));
    assert!(is_open(&vault, "tcp", "192.0.2.11:50000", "192.0.2.10:3306"));
    let one_way = policy(&VAULT.replace("primary <-> members", "primary -> members"), &[]);
    assert!(!is_open(&one_way, "tcp", "192.0.2.11:50000", "192.0.2.10:3306"));
}

#[test]
fn rx_14_order_means_nothing() {
    let sections: Vec<&str> = VAULT.split("  - name: ").collect();
    let (head, mut rest) = (sections[0], sections[1..].to_vec());
    rest.reverse();
    let reversed = format!("{head}  - name: {}", rest.join("  - name: "));
    let (one, other) = (policy(VAULT, &[]), policy(&reversed, &[]));
    let ids = |policy: &Policy| {
        let mut ids: Vec<_> = policy.rules.iter().map(|rule| rule.id.clone()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&one), ids(&other));
    assert!(one.allowed(NOW).difference(&other.allowed(NOW)).is_empty());
    assert!(other.allowed(NOW).difference(&one.allowed(NOW)).is_empty());
}

#[test]
fn rx_14_a_file_may_be_a_folder() {
    let (nodes, rest) = VAULT.split_at(VAULT.find("groups:").expect("groups"));
    let folder = std::env::temp_dir().join(format!("ringwall-policy-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("sub.yaml")).expect("a folder");
    std::fs::write(folder.join("1-nodes.yaml"), nodes).expect("a file");
    std::fs::write(folder.join("2-rules.yaml"), rest).expect("a file");
    std::fs::write(folder.join(".hidden.yaml"), "rules: 5").expect("a file");
    std::fs::write(folder.join("notes.txt"), "not a policy").expect("a file");
    std::os::unix::fs::symlink(folder.join("2-rules.yaml"), folder.join("3-link.yaml")).expect("a link");
    let read = folder::read(&folder).expect("a readable folder");
    let names: Vec<_> = read.inputs.iter().filter_map(|input| input.name.rsplit('/').next()).collect();
    assert_eq!(names, ["1-nodes.yaml", "2-rules.yaml"]);
    assert_eq!(read.notes.len(), 3, "hidden, a link, a folder");
    let parsed = parse(&read.inputs, &Values::default(), NOW);
    std::fs::remove_dir_all(&folder).expect("a folder to remove");
    assert!(meaning(parsed.policy.expect("a policy")) == meaning(policy(VAULT, &[])));
}

#[test]
fn a_value_stands_once_in_a_file_of_values() {
    let text = "LB_IPS: [192.0.2.100]\nLB_IPS: [0.0.0.0/0]\n".to_owned();
    let (_, report) = Values::default().bind_file(&Input { name: "values.yaml".to_owned(), text });
    assert_eq!(report.iter().map(|found| (found.code.0, found.is_error())).collect::<Vec<_>>(), [("RW0105", true)]);
}

#[test]
fn values_come_from_a_file_too() {
    let mut values = Values::default();
    let text = "LB_IPS: [192.0.2.100, 192.0.2.101]\nOTHER: 192.0.2.1\n";
    let (_, report) = values.bind_file(&Input { name: "values.yaml".to_owned(), text: text.to_owned() });
    assert_eq!(report, Vec::<Diagnostic>::new());
    values.bind("OTHER", "192.0.2.2", "--set OTHER");
    assert_eq!(values.get("LB_IPS").map(|value| value.origin.as_str()), Some("values.yaml:1"));
    assert_eq!(values.get("OTHER").map(|value| value.text.as_str()), Some("192.0.2.2"));
    let parsed = parse(&[Input { name: "policy.yaml".to_owned(), text: IOT.to_owned() }], &values, NOW);
    assert!(parsed.policy.is_some(), "{:?}", parsed.diagnostics);
}
