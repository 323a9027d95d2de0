//! What happens to a policy that is damaged: never a panic, and never more than it allowed before
//! without a word.

use proptest::prelude::*;
use ringwall_packet::FlowSet;
use ringwall_policy::Policy;
use ringwall_policy_file::{Input, Values, edit, parse};

/// 2026-07-01 00:00 UTC.
const NOW: u64 = 1_782_864_000;

const POLICY: &str = r#"
internal: [192.0.2.0/24, "2001:db8::/48"]
management: { from: admins, services: [ssh] }
protected: [admins]
nodes:
  vault-1: { addresses: [192.0.2.10, "2001:db8::10"], labels: { role: primary }, interfaces: { vpn: wg0 } }
  vault-2: { addresses: [192.0.2.11, "2001:db8::11"], labels: { role: member } }
floating:
  vip: { addresses: [192.0.2.100], on: cluster }
groups:
  primary: { labels: { role: primary } }
  members: { labels: { role: member }, includes_rules_of: [primary] }
  cluster: { groups: [primary, members] }
  admins:  { addresses: [192.0.2.200] }
  users:   { addresses: [198.51.100.0/24, "2001:db8:1::/64"], except: [198.51.100.66] }
  guests:  { addresses: [198.51.100.128/25] }
  partners: { addresses: $PARTNER_IPS }
services:
  galera: [tcp/4567-4568, udp/4567]
options: { cluster: true, email: false }
rules:
  - deny: guests -> cluster
    services: [ssh, tcp/4000-5000]
  - deny: members -> internet
    source_ports: [1024-2048]
    services: [udp]
  - allow: users -> cluster, vip
    services: [https, icmp/echo-request]
    session_timeout: 4h
  - allow: cluster -> partners
    services: [https]
    via: vpn
    when: cluster
  - allow: users -> primary
    services: [smtp]
    when: [email]
  - allow: cluster -> internet
    services: [smtp, udp/1000]
    expires: 2027-06-30
    stage: audit
"#;

fn values() -> Values {
    let mut values = Values::default();
    values.bind("PARTNER_IPS", "203.0.113.7", "--set PARTNER_IPS");
    values
}

fn read(text: &str) -> Option<Policy> {
    let input = Input { name: "policy.yaml".to_owned(), text: text.to_owned() };
    let parsed = parse(&[input], &values(), NOW);
    let has_errors = parsed.diagnostics.iter().any(|diagnostic| diagnostic.is_error());
    assert_eq!(parsed.policy.is_none(), has_errors);
    // Whatever is found can be shown.
    for diagnostic in &parsed.diagnostics {
        let colour = ringwall_diagnostic::Colour::Plain;
        assert!(!ringwall_diagnostic::render(diagnostic, &parsed.sources, colour).is_empty());
    }
    for id in parsed.sources.ids() {
        edit::fixed(&parsed.sources, id, &parsed.diagnostics);
    }
    parsed.policy
}

fn allowed(policy: &Policy) -> FlowSet {
    policy.allowed(NOW)
}

fn assert_not_wider(before: &FlowSet, text: &str, what: &str) {
    if let Some(policy) = read(text)
        && let Some(flow) = allowed(&policy).difference(before).witness()
    {
        panic!("{what} allows {flow} without a word");
    }
}

/// The words of the text, as ranges of bytes.
fn words(text: &str) -> Vec<std::ops::Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        let inside = c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '$' | '/' | ':') && start.is_some();
        match (start, inside) {
            (None, true) => start = Some(at),
            (Some(from), false) => {
                words.push(from..at);
                start = None;
            }
            _ => {}
        }
    }
    words
}

#[test]
fn the_policy_is_right_before_it_is_damaged() {
    assert!(read(POLICY).is_some());
    assert!(!allowed(&read(POLICY).expect("a policy")).is_empty());
}

#[test]
fn a_misspelt_word_never_widens() {
    let before = allowed(&read(POLICY).expect("a policy"));
    for word in words(POLICY) {
        let end = POLICY[..word.end].trim_end_matches(':').len();
        let text = format!("{}zq{}", &POLICY[..end], &POLICY[end..]);
        assert_not_wider(&before, &text, &format!("`{}zq`", &POLICY[word.start..end]));
    }
}

#[test]
fn a_value_that_is_missing_never_widens() {
    let before = allowed(&read(POLICY).expect("a policy"));
    for (at, _) in POLICY.match_indices(": ") {
        let rest = &POLICY[at + 2..];
        let end = match rest.as_bytes()[0] {
            b'[' => rest.find(']').map_or(0, |end| end + 1),
            b'{' => continue,
            _ => rest.find([',', ' ', '}', '\n']).unwrap_or(rest.len()),
        };
        for instead in ["", "[]", "''", "~", "{}", "[[]]", "[~]"] {
            let text = format!("{}{instead}{}", &POLICY[..at + 2], &rest[end..]);
            let line = POLICY[..at].rfind('\n').map_or(0, |newline| newline + 1);
            assert_not_wider(&before, &text, &format!("`{}: {instead}`", &POLICY[line..at]));
        }
    }
}

#[test]
fn an_unbound_value_is_an_error() {
    let input = Input { name: "policy.yaml".to_owned(), text: POLICY.to_owned() };
    let parsed = parse(&[input], &Values::default(), NOW);
    let codes: Vec<_> = parsed.diagnostics.iter().map(|diagnostic| diagnostic.code.0).collect();
    assert!(codes.contains(&"RW0211"), "{codes:?}");
}

#[test]
fn a_fixed_text_that_is_damaged_reads_on() {
    let text = POLICY.replace("198.51.100.0/24", "198.51.100.5/24").replace("- allow: users -> primary", "- alow: users => primary");
    let input = Input { name: "policy.yaml".to_owned(), text };
    let mut parsed = parse(&[input], &values(), NOW);
    for _ in 0..4 {
        let inputs: Vec<Input> = parsed
            .sources
            .ids()
            .map(|id| Input {
                name: parsed.sources.name(id).to_owned(),
                text: edit::fixed(&parsed.sources, id, &parsed.diagnostics),
            })
            .collect();
        parsed = parse(&inputs, &values(), NOW);
    }
    assert_eq!(parsed.sources.text(parsed.sources.ids().next().expect("a file")), POLICY);
}

#[test]
fn what_is_far_too_large_is_refused_within_bounds() {
    let deep: String = (0..2_000).map(|at| format!("  g{at}: {{ groups: [g{}] }}\n", at + 1)).collect();
    assert!(read(&format!("groups:\n{deep}")).is_none());

    let wrong: String = (0..2_000).map(|at| format!("  - allow: unknwn{at} -> nobdy{at}\n    services: [htps{at}]\n")).collect();
    let input = Input { name: "policy.yaml".to_owned(), text: format!("rules:\n{wrong}") };
    let parsed = parse(&[input], &Values::default(), NOW);
    assert_eq!(parsed.diagnostics.len(), 1001);
    let last = parsed.diagnostics.last().expect("a diagnostic");
    assert_eq!(last.message, "5000 more problems are not shown");

    let nested = "[".repeat(100_000);
    assert!(read(&format!("groups: {nested}")).is_none());

    let huge = "#".repeat((16 << 20) + 1);
    assert!(read(&huge).is_none());
}

#[test]
fn groups_that_grow_without_end_are_refused() {
    let addresses: Vec<String> = (0..20_000).map(|at| format!("10.{}.{}.{}", at / 10_000, at / 100 % 100, at % 100 * 2)).collect();
    let groups: String = (0..2_000).map(|at| format!("  g{at}: {{ groups: [all] }}\n")).collect();
    let text = format!("groups:\n  all: {{ addresses: [{}] }}\n{groups}", addresses.join(", "));
    let input = Input { name: "policy.yaml".to_owned(), text };
    let parsed = parse(&[input], &Values::default(), NOW);
    assert!(parsed.diagnostics.iter().any(|diagnostic| diagnostic.code.0 == "RW0114"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC{0,200}") {
        read(&text);
    }

    #[test]
    fn any_yaml_like_text_is_read_without_a_panic(
        lines in prop::collection::vec("( {0,6})(- )?(rules|groups|nodes|allow|services|expect|a|when)?(: ?)?[-\\[\\]{}\"'!&*#|>,:$ a-z0-9./é\n]{0,24}", 0..24)
    ) {
        read(&lines.join("\n"));
    }

    #[test]
    fn a_damaged_policy_is_read_without_a_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, "[-\\[\\]{}\"'!&*#|>,:$ a-z0-9./é\n]{0,6}"), 1..5)
    ) {
        let mut text = POLICY.to_owned();
        for (at, length, instead) in edits {
            let start = text.floor_char_boundary(at.index(text.len() + 1));
            let end = text.floor_char_boundary((start + length).min(text.len()));
            text.replace_range(start..end.max(start), &instead);
        }
        read(&text);
    }
}
