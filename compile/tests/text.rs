//! The text for nft: byte for byte for a policy that uses most of the language, and equal for equal
//! policies.
//!
//! `RINGWALL_BLESS=1` writes the golden file anew.

use ringwall_policy::Policy;
use ringwall_ruleset::nftables::{Confirm, Generation, Installed, transaction};

const POLICY: &str = r#"
internal: [192.0.2.0/24, "2001:db8::/48"]
management: { from: admins, services: [ssh] }
protected: [192.0.2.200]
nodes:
  web: { addresses: [192.0.2.10, "2001:db8::10"] }
  edge:
    addresses: [192.0.2.1, "2001:db8::1"]
    routes: [192.0.2.0/24, "2001:db8::/48"]
    interfaces: { wan: eth0 }
groups:
  admins: { addresses: [192.0.2.200] }
  users: { addresses: [198.51.100.0/24, "2001:db8:1::/48"], except: [198.51.100.66] }
  time: { names: [ntp.example.net] }
  resolver: { addresses: [192.0.2.53] }
rules:
"#;

const RULES: [&str; 9] = [
    "  - { id: https, allow: users -> web, services: [https, udp/443], session_timeout: 14400s }",
    "  - { id: no-ssh, deny: users -> web, services: [ssh] }",
    "  - { id: ping, allow: internet -> web, services: [icmp/echo-request], log: true }",
    "  - { id: cluster, allow: web <-> edge, services: [tcp/4567-4568], source_ports: [1024-65535] }",
    "  - { id: ntp, allow: web -> time, services: [ntp] }",
    "  - { id: dns, allow: web -> resolver, services: [dns] }",
    "  - { id: partners, allow: web -> internet, services: [https], via: wan }",
    "  - { id: watched, allow: internet -> web, services: [tcp/8443], stage: audit }",
    "  - { id: once, allow: users -> edge, services: [any], expires: 2037-06-30 }",
];

fn policy(rules: &[&str]) -> Policy {
    let text = format!("{POLICY}{}\n", rules.join("\n"));
    let input = ringwall_policy_file::Input { name: "policy.yaml".into(), text };
    let parsed = ringwall_policy_file::parse(&[input], &Default::default(), 0);
    parsed.policy.unwrap_or_else(|| panic!("{:?}", parsed.diagnostics))
}

fn text(policy: &Policy, node: &str) -> String {
    let (ruleset, _) = ringwall_compile::compile(policy, node).unwrap();
    transaction(&ruleset, Generation(1), &Installed::default(), Confirm::Within(60))
}

#[test]
fn the_text_is_as_it_was() {
    for node in ["web", "edge"] {
        let text = text(&policy(&RULES), node);
        let file = format!("{}/tests/golden/{node}.nft", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("RINGWALL_BLESS").is_some() {
            std::fs::write(&file, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&file).unwrap();
        for (line, (is, was)) in (1..).zip(text.lines().zip(golden.lines())) {
            assert_eq!(is, was, "{file}, line {line}");
        }
        assert_eq!(text.len(), golden.len(), "{file}");
    }
}

#[test]
fn order_in_the_file_means_nothing() {
    let mut rules = RULES;
    for node in ["web", "edge"] {
        let expected = text(&policy(&RULES), node);
        for _ in 0..rules.len() {
            rules.rotate_left(1);
            rules.swap(0, 4);
            assert_eq!(text(&policy(&rules), node), expected);
        }
    }
}

#[test]
fn a_rule_for_an_extension_header_is_warned_about() {
    let codes = |services: &str| {
        let rule = format!("  - {{ id: r, allow: users -> web, services: [{services}] }}");
        let (_, warnings) = ringwall_compile::compile(&policy(&[&rule]), "web").unwrap();
        warnings.iter().map(|warning| warning.code.0).collect::<Vec<_>>()
    };
    assert_eq!(codes("proto/60"), ["RW3002"]);
    assert_eq!(codes("proto/112"), [""; 0]);
    assert_eq!(codes("ah"), [""; 0]);
}

#[test]
fn both_directions_of_a_group_to_itself_are_one_entry() {
    let rule = "  - { id: all, allow: web <-> web, services: [any] }";
    let (ruleset, _) = ringwall_compile::compile(&policy(&[rule]), "web").unwrap();
    let named = ruleset.output.iter().filter(|entry| entry.id == "all").count();
    assert_eq!(named, 1);
}
