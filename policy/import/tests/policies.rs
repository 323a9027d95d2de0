//! The policies that come of guides are accepted by the reader of policies, whatever the guide says.

use crate::mixture;

use mixture::piece;
use proptest::prelude::*;
use ringwall_diagnostic::Sources;
use ringwall_import::{Stamp, decode, read, to_policy};
use ringwall_policy_file::{Input, Values, parse};

fn policy(name: &str, text: &str) -> String {
    let mut sources = Sources::new();
    let id = sources.add(name, text);
    to_policy(&[read(&sources, id).0], &sources, &Stamp::default()).text
}

/// What the reader of policies says of one, with every value bound.
fn complaints(policy: &str) -> Vec<String> {
    let mut values = Values::default();
    let names = policy.split('$').skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    });
    for (index, name) in names.filter(|name| !name.is_empty()).enumerate() {
        values.bind(name, format!("198.51.100.{0} 2001:db8::{0}", index % 250 + 1), "test");
    }
    let input = Input { name: "policy.yaml".to_owned(), text: policy.to_owned() };
    let parsed = parse(&[input], &values, 1_800_000_000);
    let errors = parsed.diagnostics.iter().filter(|diagnostic| diagnostic.is_error());
    let shared = shared_values(policy).into_iter().map(|value| format!("two groups have the value {value}"));
    errors
        .map(|diagnostic| {
            format!(
                "{} {} {:?}",
                diagnostic.code,
                diagnostic.message,
                diagnostic.primary.as_ref().map(|label| parsed.sources.snippet(label.span))
            )
        })
        .chain(shared)
        .collect()
}

/// Values that two groups have, so that one machine would be in both.
fn shared_values(policy: &str) -> Vec<&str> {
    let mut seen = std::collections::HashSet::new();
    let values = policy.lines().filter_map(|line| line.strip_prefix("  ")?.split_once(": { addresses: $"));
    values.filter_map(|(_, rest)| rest.split_once(" }")).map(|(value, _)| value).filter(|v| !seen.insert(*v)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_mixture_is_read_and_written(text in piece()) {
        for name in ["guide.md", "guide.csv"] {
            let policy = policy(name, &text);
            let complaints = complaints(&policy);
            prop_assert!(complaints.is_empty(), "{complaints:?}\n{policy}");
        }
    }
}

#[test]
fn policies_of_the_corpus_are_accepted() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    for folder in ["corpus", "seeds"] {
        let Ok(entries) = std::fs::read_dir(root.join(folder)) else {
            return;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            let text = decode("guide", std::fs::read(&path).unwrap()).unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let policy = policy(&name, &text);
            assert_eq!(complaints(&policy), Vec::<String>::new(), "{name}\n{policy}");
        }
    }
}

#[test]
fn policies_of_all_shapes_are_accepted() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shapes");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = decode("guide", std::fs::read(&path).unwrap()).unwrap();
        let policy = policy(&name, &text);
        assert_eq!(complaints(&policy), Vec::<String>::new(), "{name}\n{policy}");
    }
}

#[test]
fn policies_of_the_manual_are_accepted() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/import");
    let mut guides = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for (fence, name) in [("guide\n", "guide.md"), ("guide.csv\n", "guide.csv")] {
            for marks in ["```", "````"] {
                let start = format!("\n{marks}{fence}");
                for guide in text.split(&start).skip(1).filter_map(|rest| rest.split(&format!("\n{marks}\n")).next()) {
                    let policy = policy(name, guide);
                    assert_eq!(complaints(&policy), Vec::<String>::new(), "{guide}\n{policy}");
                    guides += 1;
                }
            }
        }
    }
    assert!(guides >= 20, "only {guides} guides");
}

/// Two names that are cut or written alike are two groups, and each has its own machines.
#[test]
fn groups_do_not_share_a_value() {
    let long = "Database server for the customer relation management";
    for [one, other] in [
        ["Web-server", "Web server"],
        ["3par", "n3par"],
        [&format!("{long} of the north"), &format!("{long} of the south")],
        ["web", "web-2"],
    ] {
        let text = format!("source,destination,port\n{one},store,443/tcp\n{other},store,80/tcp\nWeb!,store,22/tcp\n");
        let policy = policy("guide.csv", &text);
        assert_eq!(complaints(&policy), Vec::<String>::new(), "{policy}");
        let groups = policy.matches("{ addresses: $").count();
        assert!(groups >= 3 && policy.matches("allow: ").count() == 4, "{policy}");
    }
    assert_eq!(shared_values("groups:\n  a: { addresses: $A_IPS }\n  b: { addresses: $A_IPS }  # b\n"), ["A_IPS"]);
}

/// A policy that is read back has a rule for each row that is no comment.
#[test]
fn pairs_and_timeouts_of_a_guide_survive() {
    let text = "### Members (if applicable)\n\n| Source | Destination | Port |\n|---|---|---|\n| MN | SB | 22/tcp |\n\
                | SB | MN | 22/tcp |\n\nGive idle TCP sessions a timeout of 14.400 seconds.\n";
    let policy = policy("guide.md", text);
    assert!(policy.contains("allow: mn <-> sb") && policy.contains("session_timeout: 14400s"), "{policy}");
    assert!(policy.contains("members: false") && policy.contains("when: members"), "{policy}");
    assert_eq!(complaints(&policy), Vec::<String>::new(), "{policy}");
}

/// What is only a comment is counted, flow by flow, whatever stands around it.
#[test]
fn flows_that_are_comments_are_counted() {
    for (rows, left_out) in [
        ("a,b,443,tcp", 0),
        // The second row is in the rule of the first.
        ("a,b,443,tcp\na,b,443,tcp", 0),
        ("a,b,443,", 1),
        ("a,b,443,\na,b,80,tcp\n\"c, d\",b,22,", 3),
        (",,443,tcp\na,b,80,tcp", 1),
        ("*.example.net,b,443,tcp", 1),
    ] {
        let mut sources = Sources::new();
        let id = sources.add("guide.csv", format!("source,destination,port,protocol\n{rows}\n"));
        let policy = to_policy(&[read(&sources, id).0], &sources, &Stamp::default());
        assert_eq!(policy.left_out, left_out, "{rows}\n{}", policy.text);
        assert_eq!(policy.text.contains("# not imported"), left_out > 0, "{rows}\n{}", policy.text);
    }
    let mut sources = Sources::new();
    let id = sources.add("guide.md", "# Ports\n\nBetween nodes of the same type all traffic must be open.\n");
    let (guide, _) = read(&sources, id);
    let policy = to_policy(std::slice::from_ref(&guide), &sources, &Stamp::default());
    assert_eq!((guide.flows.len(), policy.left_out), (1, 1), "{}", policy.text);
}

/// A mixture that was found: ICMP beside a port number is no rule.
#[test]
fn icmp_with_a_port_is_left_as_a_comment() {
    let text = "from the web server to the internet (UDP/53)<table><tr><td>ICMP<table><tr><td>53 | ";
    let mut sources = Sources::new();
    let source = sources.add("guide.md", text);
    let (guide, _) = read(&sources, source);
    let policy = to_policy(&[guide], &sources, &Stamp::default());
    assert!(!policy.text.contains("icmp/53"), "{}", policy.text);
    assert!(policy.left_out > 0, "{}", policy.text);
}
