//! What the folders promise: which crate may use which, and how files are written.
//!
//! In: the repository's own files. Out: every breach at once, with the reason for the rule.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's folder").to_path_buf()
}

/// The repository's files, without what is built or hidden.
fn files() -> Vec<(String, PathBuf)> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<(String, PathBuf)>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(root).expect("below the root").to_str().expect("a path in UTF-8").to_owned();
            let is_hidden = name.split('/').any(|part| part.starts_with('.'));
            if is_hidden || name == "target" || path.is_symlink() {
                continue;
            }
            if path.is_dir() { walk(&path, root, found) } else { found.push((name, path)) }
        }
    }
    let (root, mut found) = (root(), Vec::new());
    walk(&root, &root, &mut found);
    found.sort();
    found
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).expect("a file")).into_owned()
}

fn is_source(name: &str) -> bool {
    name.ends_with(".rs") && name.contains("/src/") && !name.ends_with("/tests.rs")
}

fn assert_none(breaches: Vec<String>, reason: &str) {
    assert!(breaches.is_empty(), "{reason}:\n  {}", breaches.join("\n  "));
}

/// Of a crate of ours: which others it uses, outside its tests.
fn uses() -> BTreeMap<String, BTreeSet<String>> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).current_dir(root());
    let output = command.output().expect("cargo runs");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON of cargo's");
    let list = |value: &serde_json::Value| value.as_array().expect("a list").clone();
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let of_package = |package: serde_json::Value| {
        let is_used = |dependency: &serde_json::Value| dependency["kind"] != "dev";
        let dependencies = list(&package["dependencies"]).into_iter().filter(is_used);
        (text(&package["name"]), dependencies.map(|dependency| text(&dependency["name"])).collect())
    };
    list(&metadata["packages"]).into_iter().map(of_package).collect()
}

/// The same, and what those use, to the end.
fn reaches(uses: &BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
    let locked = locked();
    let of = |name: &str| uses.get(name).or_else(|| locked.get(name)).cloned().unwrap_or_default();
    let all = |name: &String| {
        let (mut found, mut open) = (BTreeSet::new(), vec![name.clone()]);
        while let Some(name) = open.pop() {
            open.extend(of(&name).into_iter().filter(|used| found.insert(used.clone())));
        }
        found
    };
    uses.keys().map(|name| (name.clone(), all(name))).collect()
}

/// Cargo.lock's packages and what each uses; one entry for all versions of a name.
fn locked() -> BTreeMap<String, BTreeSet<String>> {
    let text = read(&root().join("Cargo.lock"));
    let mut packages = BTreeMap::<String, BTreeSet<String>>::new();
    let mut name = String::new();
    for line in text.lines() {
        let quoted = line.split('"').nth(1).unwrap_or_default();
        if line.starts_with("name = ") {
            name = quoted.to_owned();
        } else if line.starts_with(" \"") {
            let used = quoted.split(' ').next().unwrap_or_default();
            packages.entry(name.clone()).or_default().insert(used.to_owned());
        }
    }
    packages
}

/// A crate, those of ours that it may use, and why no others.
const ARROWS: &[(&str, &[&str], &str)] = &[
    ("packet", &[], "sets of packets know nothing of who made them"),
    ("diagnostic", &[], "a problem's shape is the same for every kind of text"),
    ("services", &["packet"], "a registry is data about ports"),
    ("policy", &["packet", "diagnostic"], "the model knows no file format and no kernel"),
    ("lint", &["packet", "diagnostic", "services"], "a lint judges rows, wherever they come from"),
    ("policy-file", &["packet", "diagnostic", "policy", "services"], "YAML stays in one crate"),
    ("import", &["packet", "diagnostic", "services"], "guides become text, which is read like any other policy"),
    ("ruleset", &["packet", "diagnostic"], "what a node enforces can be judged without the policy that it came from"),
    ("compile", &["packet", "diagnostic", "policy", "ruleset"], "the one place where policy meets ruleset"),
    ("probe", &["packet"], "what two ends saw is judged without either end"),
    ("analysis", &["packet", "diagnostic", "policy", "ruleset", "services", "probe"], "questions about policies and rulesets, and what to probe of them"),
    (
        "controller",
        &["packet", "diagnostic", "policy", "policy-file", "ruleset", "compile", "analysis", "services", "probe", "protocol", "api"],
        "it compiles, proves and keeps, and reaches no kernel",
    ),
    ("node", &["packet", "ruleset", "probe"], "a machine enforces rulesets: it needs no YAML and no policy to do so"),
    ("protocol", &["packet", "ruleset"], "what is said over the wire is a ruleset, not the policy or the machine"),
    ("agent", &["packet", "ruleset", "protocol", "node"], "a thin shell around node: it takes rulesets, not policies"),
    ("api", &[], "shapes that a client needs, without the controller behind them"),
    ("lab", &["packet"], "a lab is a place for tests, of any part"),
];

/// A crate, what must not come with it by any way, and why.
const NEVER: &[(&[&str], &[&str], &str)] = &[
    (
        &["packet", "diagnostic", "services", "policy", "lint", "policy-file", "import", "ruleset", "compile", "analysis", "probe"],
        &["tokio", "nix", "socket2", "netlink-sys", "rustls", "ringwall-node"],
        "these are pure: the same input gives the same output, on any machine",
    ),
    (
        &["node"],
        &[
            "ringwall-policy", "ringwall-policy-file", "ringwall-protocol", "granit-parser", "serde-saphyr", "pulldown-cmark", "sqlx",
            "prost", "tonic",
        ],
        "what runs as root on every machine is small, and parses nothing that an operator writes",
    ),
    (
        &["agent"],
        &["ringwall-policy", "ringwall-policy-file", "ringwall-compile", "ringwall-controller", "granit-parser", "serde-saphyr", "sqlx", "aws-lc-rs"],
        "what runs as root on every machine is small, and parses nothing that an operator writes",
    ),
    (&["api"], &["tokio", "axum", "sqlx", "rustls"], "shapes need no server"),
    (&["cli"], &["ringwall-controller", "sqlx", "axum", "aws-lc-rs", "native-tls"], "a client is small, and has one TLS"),
    (&["cli"], &["ringwall-lab", "xtask"], "nobody installs a test's tools"),
];

#[test]
fn arrows_point_one_way() {
    let (uses, mut breaches) = (uses(), Vec::new());
    for (name, allowed, reason) in ARROWS {
        let used = uses.get(&format!("ringwall-{name}")).unwrap_or_else(|| panic!("no crate {name}"));
        let ours = used.iter().filter_map(|used| used.strip_prefix("ringwall-"));
        breaches.extend(
            ours.filter(|used| !allowed.contains(used)).map(|used| format!("{name} uses {used}, but {reason}")),
        );
    }
    let ruled = |name: &&String| ARROWS.iter().any(|(ruled, ..)| name.strip_prefix("ringwall-") == Some(*ruled));
    let rest: Vec<_> = uses.keys().filter(|name| !ruled(name)).collect();
    assert_eq!(rest, ["ringwall-cli", "xtask"], "crates that no arrow is drawn for");
    assert_none(breaches, "dependencies point one way");
}

#[test]
fn what_must_stay_out_stays_out() {
    let (reached, mut breaches) = (reaches(&uses()), Vec::new());
    for (crates, never, reason) in NEVER {
        for name in *crates {
            let found = reached.get(&format!("ringwall-{name}")).unwrap_or_else(|| panic!("no crate {name}"));
            breaches.extend(
                never.iter().filter(|never| found.contains(**never)).map(|never| format!("{name} comes with {never}, but {reason}")),
            );
        }
    }
    assert_none(breaches, "what must stay out of a crate");
    assert!(reached["ringwall-cli"].contains("granit-parser"), "the closure is followed");
}

/// Clocks, files and sockets are for the shell: `folder.rs` is the policy file's. Work may be shared
/// out over scoped threads, which end before their caller does; none lives on, and none waits.
#[test]
fn pure_crates_are_pure() {
    const PURE: [&str; 12] = [
        "packet/src/", "diagnostic/src/", "policy/src/", "policy/lint/src/", "policy/import/src/", "policy/services/src/",
        "policy/file/src/", "ruleset/src/", "compile/src/", "analysis/src/", "protocol/src/", "node/src/reconciler/",
    ];
    const WORLD: [&str; 8] =
        ["std::fs", "std::process", "thread::spawn", "thread::sleep", "std::env", "SystemTime", "Instant::now", "TcpStream"];
    let mut breaches = Vec::new();
    for (name, path) in files() {
        if is_source(&name) && PURE.iter().any(|pure| name.starts_with(pure)) && name != "policy/file/src/folder.rs" {
            let text = read(&path);
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            breaches.extend(WORLD.iter().filter(|word| code.contains(**word)).map(|word| format!("{name}: {word}")));
        }
    }
    assert_none(breaches, "time, files and the like are arguments here");
}

#[test]
fn every_code_is_explained_and_every_explanation_used() {
    let mut used = BTreeMap::<String, String>::new();
    let mut explained = BTreeSet::new();
    for (name, path) in files() {
        if let Some(code) = name.strip_prefix("diagnostic/explain/").and_then(|file| file.strip_suffix(".md")) {
            let text = read(&path);
            assert!(text.starts_with(&format!("# {code}: ")), "{name} does not begin with its code and title");
            explained.insert(code.to_owned());
        } else if is_source(&name) {
            for code in codes(&read(&path)) {
                used.insert(code, name.clone());
            }
        }
    }
    let unexplained = used.iter().filter(|(code, _)| !explained.contains(*code));
    let breaches = unexplained.map(|(code, name)| format!("{code} of {name} has no diagnostic/explain/{code}.md"));
    let unused = explained.iter().filter(|code| !used.contains_key(*code)).map(|code| format!("nothing reports {code}"));
    assert_none(breaches.chain(unused).collect(), "each diagnostic has one explanation");
    assert!(used.len() > 50, "the codes are found");
}

/// `"RW0123"`; the hundreds are areas, not codes.
fn codes(text: &str) -> Vec<String> {
    let quoted = text.split('"').filter(|part| part.len() == 6 && part.starts_with("RW"));
    let numbers = quoted.filter(|part| part[2..].bytes().all(|byte| byte.is_ascii_digit()) && !part.ends_with("00"));
    numbers.map(str::to_owned).collect()
}

#[test]
fn files_can_be_read_in_one_sitting() {
    const MOST_LINES: usize = 900;
    let mut breaches = Vec::new();
    let is_read = |name: &str| is_source(name) && !name.contains("/generated/");
    for (name, path) in files().into_iter().filter(|(name, _)| is_read(name)) {
        let lines = read(&path).lines().count();
        if lines > MOST_LINES {
            breaches.push(format!("{name} has {lines} lines"));
        }
    }
    assert_none(breaches, "a file has at most 900 lines");
}

#[test]
fn every_module_says_what_it_is_for() {
    let sources = files().into_iter().filter(|(name, _)| name.ends_with(".rs"));
    let silent = sources.filter(|(_, path)| !read(path).starts_with("//!")).map(|(name, _)| name);
    assert_none(silent.collect(), "a module begins with `//!`: what comes in, what goes out, what it never does");
}

#[test]
fn words_are_ours() {
    // Split, so that this file does not hold them.
    let words = [
        (concat!("white", "list"), "the word is allowlist"),
        (concat!("black", "list"), "the word is block list"),
        (concat!(" A", "CL "), "the words are policy, rule, ruleset"),
        (concat!("crates", ".io"), "no host of a package registry is named"),
        (concat!("npm", "js.org"), "no host of a package registry is named"),
        (concat!("py", "pi.org"), "no host of a package registry is named"),
        (concat!("/ho", "me/"), "no path of anybody's machine is named"),
        (concat!("/wo", "rk/"), "no path of anybody's machine is named"),
        (concat!("/tm", "p/rw"), "no path of anybody's machine is named"),
    ];
    // IANA's own names, and what cargo writes.
    let is_ours = |name: &str| !name.starts_with("policy/services/data/iana") && name != "Cargo.lock";
    let mut breaches = Vec::new();
    for (name, path) in files().into_iter().filter(|(name, _)| is_ours(name)) {
        for (number, line) in read(&path).lines().enumerate() {
            let lower = line.to_lowercase();
            let found = words.iter().filter(|(word, _)| lower.contains(&word.to_lowercase()));
            breaches.extend(found.map(|(word, reason)| format!("{name}:{}: `{word}`: {reason}", number + 1)));
        }
    }
    assert_none(breaches, "one concept, one word");
}
