//! The examples do what their comments say: each policy reads without an error, meets its own
//! `expect:`, compiles for every node and is started by `ringwall init`; each guide holds its rows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const EXAMPLES: [&str; 4] = ["integration", "iot", "vault", "voip"];

fn example(name: &str, file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name).join(file);
    path.to_str().expect("a path in UTF-8").to_owned()
}

fn ringwall(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringwall"));
    command.args(arguments).output().expect("ringwall starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn done(arguments: &[&str]) -> String {
    let output = ringwall(arguments);
    assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn json(arguments: &[&str]) -> Value {
    let output = ringwall(arguments);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)))
}

/// How often each code is reported above a remark.
fn codes(arguments: &[&str]) -> BTreeMap<String, usize> {
    let found = json(&[&["check", "--output", "json"], arguments].concat());
    let mut codes = BTreeMap::new();
    for diagnostic in found["diagnostics"].as_array().expect("a list") {
        let word = |key: &str| diagnostic[key].as_str().expect("a word").to_owned();
        if word("severity") != "info" {
            *codes.entry(format!("{} {}", word("severity"), word("code"))).or_default() += 1;
        }
    }
    codes
}

fn counted(expected: &[(&str, usize)]) -> BTreeMap<String, usize> {
    expected.iter().map(|(code, count)| ((*code).to_owned(), *count)).collect()
}

fn nodes(name: &str) -> Vec<String> {
    let nodes = json(&["nodes", &example(name, "policy.yaml"), "--values", &example(name, "values.yaml"), "-o", "json"]);
    let nodes = nodes["nodes"].as_array().expect("a list").iter();
    nodes.map(|node| node["name"].as_str().expect("a name").to_owned()).collect()
}

/// What is reported is what the policy's comments admit: cleartext that these products need.
#[test]
fn the_policies_are_right() {
    let check = |name| codes(&[&example(name, "policy.yaml"), "--values", &example(name, "values.yaml")]);
    assert_eq!(check("vault"), counted(&[]));
    assert_eq!(check("iot"), counted(&[("warning RW2010", 3)]));
    assert_eq!(check("integration"), counted(&[]));
    assert_eq!(check("voip"), counted(&[("warning RW2010", 4)]));
}

#[test]
fn the_policies_compile_for_every_node() {
    for name in EXAMPLES {
        let nodes = nodes(name);
        assert!(!nodes.is_empty(), "{name}");
        for node in nodes {
            let (policy, values) = (example(name, "policy.yaml"), example(name, "values.yaml"));
            let compile = || done(&["compile", &policy, "--values", &values, "--node", &node]);
            assert!(compile().contains("table inet ringwall"), "{name} {node}");
            assert_eq!(compile(), compile(), "{name} {node}");
        }
    }
}

#[test]
fn every_value_must_be_bound() {
    for name in EXAMPLES {
        let codes = codes(&[&example(name, "policy.yaml")]);
        assert!(codes.contains_key("error RW0211"), "{name}: {codes:?}");
    }
}

/// The ports of each node that the internet reaches.
#[test]
fn the_policies_expose_no_more_than_they_must() {
    let exposed = |name: &str| {
        let found = json(&["exposure", &example(name, "policy.yaml"), "--values", &example(name, "values.yaml"), "-o", "json"]);
        let nodes = found["nodes"].as_array().expect("a list").clone();
        let nodes = nodes.into_iter().filter(|node| node["ports"] != 0);
        nodes.map(|node| (node["node"].as_str().expect("a name").to_owned(), node["services"].clone())).collect::<Vec<_>>()
    };
    let node = |name: &str, services: &[&str]| (name.to_owned(), Value::from(services.to_vec()));
    assert_eq!(exposed("vault"), []);
    let lb = ["1883/tcp (mqtt)", "443/tcp (https)", "80/tcp (http)", "8883/tcp (mqtts)"];
    assert_eq!(exposed("iot"), [node("lb-1", &lb)]);
    assert_eq!(exposed("integration"), [node("gateway-1", &["443/tcp (https)"])]);
    let sip = ["5060/tcp (sip)", "5060/udp (sip)", "5061/tcp (sips)", "icmp", "icmpv6"];
    let rtp = ["10000-20000/udp", "icmp", "icmpv6"];
    let panel = ["443/tcp (https)", "icmp", "icmpv6"];
    assert_eq!(
        exposed("voip"),
        [node("media-1", &rtp), node("media-2", &rtp), node("panel-1", &panel), node("sip-1", &sip), node("sip-2", &sip)]
    );
}

#[test]
fn init_starts_a_folder_from_each() {
    let listed = done(&["init"]);
    for name in EXAMPLES {
        assert!(listed.lines().any(|line| line.starts_with(name)), "{listed}");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("init-{name}-{}", std::process::id()));
        let path = folder.to_str().expect("a path in UTF-8");
        done(&["init", name, path]);
        done(&["check", path, "--values", &example(name, "values.yaml")]);
        let again = ringwall(&["init", name, path]);
        assert_eq!(again.status.code(), Some(1), "a file that is there is left alone");
        std::fs::remove_dir_all(folder).expect("the folder is ours");
    }
}

#[test]
fn the_guides_hold_their_rows() {
    let flows = |name| done(&["import", "-o", "csv", &example(name, "guide.md")]).lines().count() - 1;
    assert_eq!(flows("vault"), 50);
    assert_eq!(flows("iot"), 19);
}

/// The mistakes of the guides, which the policies mend.
#[test]
fn the_guides_mistakes_are_found() {
    let vault = [
        ("error RW2001", 2),   // 420/SMTP, 5445/SMB
        ("error RW2020", 1),   // 5445/SMB against 445/SMB
        ("error RW2022", 1),   // members that do not reach each other
        ("error RW2024", 1),   // the primary's rules on the members
        ("warning RW2001", 1), // 7443/ORACLE
        ("warning RW2002", 1), // 139/RM
        ("warning RW2003", 2), // syslog, protocols swapped
        ("warning RW2005", 2), // METASPLOIT
        ("warning RW2010", 3), // telnet, http, ldap
        ("warning RW2030", 2), // 53/tcp, the dynamic ports of 135
    ];
    assert_eq!(codes(&[&example("vault", "guide.md")]), counted(&vault));
    let iot = [
        ("error RW2040", 1),   // ssh from any to any
        ("error RW2041", 1),   // the internal network to any
        ("warning RW1006", 1), // who connects to the agents
        ("warning RW2010", 4), // http and mqtt from anywhere, the agents' http
        ("warning RW2030", 1), // 53/tcp
        ("warning RW2050", 1), // rows without a protocol
        ("warning RW2052", 1), // kinds of nodes that no row names
    ];
    assert_eq!(codes(&[&example("iot", "guide.md")]), counted(&iot));
}

/// What the README shows of the linter and the importer is what they say.
#[test]
fn the_readme_is_true() {
    let readme = std::fs::read_to_string(example("..", "README.md")).expect("the README");
    let folder = PathBuf::from(example("vault", ""));
    let shown = |command: &str| {
        let (_, after) = readme.split_once(&format!("    $ {command}\n")).unwrap_or_else(|| panic!("no `{command}`"));
        let lines = after.lines().take_while(|line| line.starts_with("    ") && !line.starts_with("    $"));
        lines.map(|line| line[4..].to_owned()).filter(|line| line != "...").collect::<Vec<_>>()
    };
    let says = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringwall"));
        let output = command.args(arguments).current_dir(&folder).output().expect("ringwall starts");
        format!("{}{}", text(&output.stdout), text(&output.stderr))
    };
    for (command, said) in [
        ("ringwall check guide.md", says(&["check", "guide.md"])),
        ("ringwall import guide.md --to policy/guide.yaml", says(&["import", "guide.md"])),
    ] {
        let lines = shown(command);
        assert!(!lines.is_empty(), "{command}");
        for line in lines {
            assert!(said.lines().any(|known| known == line), "`{command}` does not say `{line}`:\n{said}");
        }
    }
}
