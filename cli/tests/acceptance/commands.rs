//! Commands that touch no kernel: what they print, and their exit codes.

use std::process::Stdio;

use crate::acceptance::apply::{open_to_users, policy, small};
use crate::acceptance::requirements::example_path;
use crate::acceptance::rig::{Ran, file, folder, ringwall};

#[test]
fn check_says_by_its_exit_code_what_it_found() {
    // Every group of it is used.
    let clean = file("policy.yaml", &policy(&(open_to_users("web", 443) + "  - allow: admins -> node\n    services: [ssh]\n")));
    let remark = example_path("vault/policy.yaml");
    let values = example_path("vault/values.yaml");
    let warned = file("policy.yaml", &policy("  - allow: users -> node\n    services: [telnet]\n"));
    let wrong = file("policy.yaml", &policy("  - allow: users -> nodes\n    services: [https]\n"));
    let code = |path: &str, more: &[&str]| ringwall(&[&["check", path], more].concat()).code.unwrap();
    let bound = &["--values", values.as_str()][..];
    assert_eq!(code(&clean, &[]), 0);
    assert_eq!(code(&clean, &["--fail-on", "info"]), 0);
    assert_eq!(code(&remark, bound), 0);
    assert_eq!(code(&remark, &[bound, &["--fail-on", "info"]].concat()), 1);
    assert_eq!(code(&remark, &[bound, &["--fail-on", "warning"]].concat()), 0);
    assert_eq!(code(&warned, &[]), 0);
    assert_eq!(code(&warned, &["--fail-on", "warning"]), 1);
    assert_eq!(code(&wrong, &[]), 1);
    assert_eq!(code(&wrong, &["--fail-on", "never"]), 0);
    assert_eq!(code("/no/such/policy.yaml", &[]), 3);
    assert_eq!(code("/no/such/guide.md", &[]), 3);
    assert_eq!(ringwall(&["check"]).code, Some(2));
    assert_eq!(ringwall(&["check", &clean, "--fail-on", "sometimes"]).code, Some(2));
}

#[test]
fn check_prints_one_document_with_codes_places_and_fixes() {
    let wrong = file("policy.yaml", &policy("  - allow: user -> node\n    services: [https]\n"));
    let document = ringwall(&["check", &wrong, "-o", "json"]).failed(1, &[]).json();
    assert_eq!(document["schema"], "ringwall.check/1");
    let found = document["diagnostics"].as_array().unwrap();
    assert_eq!(found.len(), 1, "{document:#}");
    assert_eq!(found[0]["code"], "RW0201");
    assert_eq!(found[0]["severity"], "error");
    assert_eq!(found[0]["message"], "there is no group or node `user`");
    let place = &found[0]["place"];
    assert_eq!((&place["file"], &place["line"], &place["column"]), (&wrong.clone().into(), &8.into(), &12.into()));
    assert_eq!(found[0]["fix"]["text"].as_str().or(found[0]["fix"]["replacement"].as_str()), Some("users"), "{document:#}");
    // Nothing to say is a document, too.
    let clean = file("policy.yaml", &policy(&(open_to_users("web", 443) + "  - allow: admins -> node\n    services: [ssh]\n")));
    let ran = ringwall(&["check", &clean, "-o", "json"]).done();
    assert_eq!(ran.json()["diagnostics"].as_array().unwrap().len(), 0);
}

#[test]
fn every_code_is_explained() {
    let list = ringwall(&["explain"]).done().out;
    let codes: Vec<&str> = list.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert!(codes.len() > 50 && codes.is_sorted(), "{codes:?}");
    for code in codes {
        let text = ringwall(&["explain", code]).done().out;
        assert!(text.starts_with(&format!("# {code}: ")), "{text}");
        for part in ["What it means", "Why it matters", "Example", "How to fix"] {
            assert!(text.contains(part), "{code} lacks `{part}`");
        }
    }
    ringwall(&["explain", "RW9999"]).failed(1, &["no diagnostic `RW9999`"]);
}

#[test]
fn what_compile_prints_is_taken_by_nft_and_is_always_the_same() {
    let rig = small();
    let mut texts = 0;
    for (example, nodes) in [
        ("vault", &["vault-1", "vault-2", "vault-3"][..]),
        ("iot", &["lb-1", "core-1", "db-1", "opcua-1"]),
        ("integration", &["gateway-1", "agent-1", "agent-3"]),
        ("voip", &["sip-1", "media-1", "panel-1"]),
    ] {
        let (path, values) = (example_path(&format!("{example}/policy.yaml")), example_path(&format!("{example}/values.yaml")));
        for node in nodes {
            let compile = || ringwall(&["compile", &path, "--node", node, "--values", &values]).done().out;
            let text = compile();
            assert_eq!(text, compile());
            rig.host("node").output("nft", &["--check", "--file", "-"], &text).unwrap();
            // Loaded, it is what an apply would enforce, and then some for the reader.
            rig.host("node").output("nft", &["--file", "-"], &text).unwrap();
            assert!(text.starts_with(&format!("# Ruleset of {node}\n")), "{text}");
            assert!(text.contains("policy.yaml:"), "{text}");
            assert_eq!(rig.our_tables("node"), ["inet ringwall_blocks", "inet ringwall"]);
            rig.nft("node", "flush ruleset\n");
            texts += 1;
        }
    }
    assert_eq!(texts, 13);
    ringwall(&["compile", &example_path("vault/policy.yaml"), "--node", "vault-9", "--values", &example_path("vault/values.yaml")])
        .failed(1, &["no node `vault-9`", "vault-1, vault-2, vault-3"]);
}

#[test]
fn what_compile_prints_for_iptables_is_taken_by_its_programs() {
    let rig = small();
    let (path, values) = (example_path("vault/policy.yaml"), example_path("vault/values.yaml"));
    let compile = |more: &[&str]| ringwall(&[&["compile", &path, "--node", "vault-1", "--values", &values, "--target", "iptables"], more].concat());
    for (family, program, save) in [("ipv4", "iptables-restore", "iptables-save"), ("ipv6", "ip6tables-restore", "ip6tables-save")] {
        let text = compile(&["--family", family]).done().out;
        assert_eq!(text, compile(&["--family", family]).done().out);
        assert!(text.contains("policy.yaml:") && text.contains(&format!("for {program}")), "{text}");
        rig.host("node").output(program, &[], &text).unwrap();
        let saved = rig.host("node").output(save, &["-t", "filter"], "").unwrap();
        let rules = |text: &str| text.lines().filter(|line| line.starts_with("-A")).count();
        assert_eq!(rules(&text), rules(&saved), "{saved}");
    }
    let both = compile(&[]).done().out;
    assert_eq!(both.matches("COMMIT").count(), 2, "{both}");

    // What can't be expressed is named, all of it, and nothing is printed.
    let (path, values) = (example_path("iot/policy.yaml"), example_path("iot/values.yaml"));
    let ran = ringwall(&["compile", &path, "--node", "core-1", "--values", &values, "--target", "iptables"]);
    ran.failed(1, &["RW6120", "session_timeout", "policy.yaml:", "can't do what the policy says on core-1: 4 errors"]);
    ringwall(&["compile", &path, "--node", "core-1", "--values", &values, "--family", "ipv4"]).failed(2, &["one text for both families"]);
}

#[test]
fn the_order_of_a_file_changes_nothing() {
    let (one, two) = (open_to_users("one", 80), "  - deny: admins -> node\n    services: [ssh]\n");
    let forwards = file("policy.yaml", &policy(&(one.clone() + two)));
    let backwards = file("policy.yaml", &policy(&(two.to_owned() + &one)));
    let compiled = |path: &str| {
        let text = ringwall(&["compile", path, "--node", "node"]).done().out;
        text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect::<String>()
    };
    assert_eq!(compiled(&forwards), compiled(&backwards));
}

#[test]
fn a_folder_is_all_its_files() {
    let folder = folder();
    let whole = policy(&open_to_users("web", 443));
    let (nodes, rules) = whole.split_once("groups:\n").unwrap();
    std::fs::write(folder.join("10-nodes.yaml"), nodes).unwrap();
    std::fs::write(folder.join("20-rules.yaml"), format!("groups:\n{rules}")).unwrap();
    std::fs::write(folder.join(".hidden.yaml"), "nonsense: [").unwrap();
    std::fs::write(folder.join("notes.txt"), "nonsense").unwrap();
    let path = folder.to_str().unwrap();
    let ran = ringwall(&["compile", path, "--node", "node"]).done();
    assert!(ran.out.contains("20-rules.yaml:"), "{}", ran.out);
    assert!(ran.err.contains("note:") && ran.err.contains(".hidden.yaml"), "{}", ran.err);
    std::fs::write(folder.join("25-more.YAML"), "nonsense: [").unwrap();
    let ran = ringwall(&["check", path]).done();
    assert!(ran.err.contains(".hidden.yaml is hidden") && ran.err.contains("25-more.YAML was left aside"), "{}", ran.err);
    assert!(!ran.err.contains("notes.txt"), "{}", ran.err);
    let notes = &ringwall(&["check", path, "-o", "json"]).done().json()["notes"];
    assert_eq!(notes.as_array().unwrap().len(), 2, "{notes}");
    std::fs::write(folder.join("30-more.yaml"), "nodes:\n  node: { addresses: [192.0.2.77] }\n").unwrap();
    ringwall(&["compile", path, "--node", "node"]).failed(1, &["10-nodes.yaml", "30-more.yaml", "`node`"]);
}

#[test]
fn a_value_is_set_once_and_used() {
    let path = file("policy.yaml", &policy(&open_to_users("web", 443)));
    ringwall(&["check", &path, "--set", "P=192.0.2.1", "--set", "P=0.0.0.0/0"]).failed(2, &["`--set P=…` is there twice"]);
    let ran = ringwall(&["check", &path, "--set", "P=192.0.2.1"]).done();
    assert!(ran.err.contains("no `$P`"), "{}", ran.err);
}

#[test]
fn import_counts_what_is_only_a_comment() {
    let guide = |rows: &str| file("guide.csv", &format!("source,destination,port,protocol\n{rows}"));
    let bare = guide(",,22,tcp\nweb,store,443,\nweb,store,80,tcp\n");
    ringwall(&["import", &bare]).failed(4, &["import: 3 flows, 2 of them left as comments, 0 rows undecided"]);
    // A listing has no comments, and all of the flows.
    ringwall(&["import", &bare, "-o", "csv"]).failed(0, &["import: 3 flows, 0 rows undecided"]);
    ringwall(&["import", &guide("web,store,443,tcp\n")]).failed(0, &["import: 1 flows, 0 rows undecided"]);
}

#[test]
fn messages_go_to_stderr_and_are_plain_where_nobody_looks() {
    let wrong = file("policy.yaml", &policy("  - allow: user -> node\n    services: [https]\n"));
    let ran = ringwall(&["check", &wrong]).failed(1, &["error[RW0201]"]);
    assert_eq!(ran.out, "");
    assert!(!ran.err.contains('\x1b'), "{}", ran.err);
    let ran = ringwall(&["--color", "always", "check", &wrong]).failed(1, &[]);
    assert!(ran.err.contains('\x1b'), "{}", ran.err);
    // A reader that goes away is no failure.
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_ringwall")).arg("explain").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stderr, b"", "{:?}", output.status);
}

#[test]
fn help_ends_with_examples() {
    let commands = ringwall(&["--help"]).done().out;
    let listed = commands.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names: Vec<&str> = listed.filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next()).collect();
    assert!(names.len() >= 14, "{names:?}");
    for name in names {
        let help = Ran::of(std::process::Command::new(env!("CARGO_BIN_EXE_ringwall")).args([name, "--help"])).done().out;
        let (_, examples) = help.rsplit_once("Examples:\n").unwrap_or_else(|| panic!("{name} has no examples: {help}"));
        assert!(examples.lines().all(|line| line.starts_with("  ") || line.is_empty()), "{name}: {examples}");
    }
}
