//! `ringwall plan` between files and git revisions: everything that needs no machine.

use std::process::Command;

use crate::acceptance::apply::{open_to_users, policy};
use crate::acceptance::requirements::{example_path, seed};
use crate::acceptance::rig::{Ran, file, folder, ringwall};

fn lines(ran: &Ran, list: &str) -> Vec<String> {
    let document = ran.json();
    let all = document["differences"][list].as_array().unwrap_or_else(|| panic!("no {list}: {document}")).clone();
    all.iter().map(|one| one["text"].as_str().unwrap().to_owned()).collect()
}

fn between(before: &str, after: &str, more: &[&str]) -> Ran {
    ringwall(&[&["plan", after, "--against", before, "-o", "json"], more].concat())
}

#[test]
fn flows_are_told_by_groups_and_services() {
    let before = file("before.yaml", &policy(&(open_to_users("web", 80) + &open_to_users("old", 8080))));
    let after = file("after.yaml", &policy(&(open_to_users("web", 80) + "  - allow: admins -> node\n    services: [ssh]\n    id: login\n")));
    let ran = ringwall(&["plan", &after, "--against", &before]).done();
    let expected = format!(
        "\
{before} -> {after}

opened
  + admins -> node  22/tcp (ssh)  login ({after}:11)

closed
  - users -> node  8080/tcp (http-alt)  was old ({before}:11)

exposure: 0 ports reached from the internet, as before
always open: loopback; dhcp; neighbour-discovery; multicast-listener
"
    );
    assert_eq!(ran.out, expected);
    assert_eq!(ran.err, "plan: 1 opened, 1 closed\n");
    let document = between(&before, &after, &[]).done().json();
    assert_eq!(document["schema"], "ringwall.plan/1");
    let opened = &document["differences"]["opened"][0];
    assert_eq!(opened["source"]["words"], serde_json::json!(["admins"]));
    assert_eq!(opened["source"]["addresses"], serde_json::json!(["198.51.100.9", "2001:db8:2::9"]));
    assert_eq!(opened["services"], serde_json::json!(["22/tcp (ssh)"]));
    assert_eq!(opened["before"], serde_json::json!([{ "by": "default" }]));
    assert_eq!(opened["after"][0]["id"], "login");
    assert!(document["cuts"].is_null());
    // Colour where it is asked for, and nowhere else.
    assert!(!ran.out.contains('\x1b'));
    let coloured = ringwall(&["--color", "always", "plan", &after, "--against", &before]).done();
    assert!(coloured.out.contains("\x1b[32m  + admins"), "{}", coloured.out);
    assert!(coloured.out.contains("\x1b[31m  - users"), "{}", coloured.out);
}

#[test]
fn the_exit_code_tells_a_difference_when_asked() {
    let before = file("before.yaml", &policy(&open_to_users("web", 80)));
    let after = file("after.yaml", &policy(&open_to_users("web", 81)));
    between(&before, &after, &[]).done();
    between(&before, &after, &["--exit-code"]).failed(1, &["plan: 1 opened, 1 closed"]);
    let same = ringwall(&["plan", &before, "--against", &before, "--exit-code"]).done();
    assert_eq!((same.out.as_str(), same.err.as_str()), ("", "plan: no difference\n"));
}

#[test]
fn a_plan_for_review_is_markdown() {
    let before = file("before.yaml", &policy(&open_to_users("web_1", 80)));
    let after = file("after.yaml", &policy(&(open_to_users("web_1", 80) + &open_to_users("web_2", 81))));
    let text = ringwall(&["plan", &after, "--against", &before, "-o", "markdown"]).done().out;
    assert!(text.starts_with("### ringwall plan: "), "{text}");
    assert!(text.contains("\n1 opened.\n\n**Opened**\n\n| from | to | services | by |\n|---|---|---|---|\n| users | node | 81/tcp | web\\_2 ("), "{text}");
    let none = ringwall(&["plan", &after, "--against", &after, "-o", "markdown"]).done().out;
    assert!(none.contains("\nNo difference.\n"), "{none}");
    // A site takes 65,536 characters for a comment.
    let groups: String = (0..800).map(|n| format!("  somebody-with-a-long-name-{n}: {{ addresses: [203.0.{}.{}] }}\n", n / 250, n % 250)).collect();
    let rules: String = (0..800).map(|n| format!("  - allow: somebody-with-a-long-name-{n} -> node\n    services: [tcp/80]\n")).collect();
    let many = file("many.yaml", &policy(&rules).replace("rules:\n", &format!("{groups}rules:\n")));
    let text = ringwall(&["plan", &many, "--against", &before, "-o", "markdown"]).done().out;
    assert!(text.chars().count() <= 65_000);
    let shown = text.lines().filter(|line| line.starts_with("| somebody")).count();
    let (_, left) = text.trim_end().rsplit_once('\n').unwrap();
    let number: usize = left.split(' ').next().unwrap().parse().unwrap();
    assert!(left.ends_with("lines were left out: `ringwall plan -o table` shows all."), "{left}");
    assert!(shown > 300, "{shown} {left}");
    let whole = ringwall(&["plan", &many, "--against", &before]).done().out;
    assert_eq!(whole.lines().filter(|line| line.starts_with("  + somebody")).count(), 800);
    // What else is left out: the closed ones, and what is said at the end.
    assert!(number >= 800 - shown, "{shown} {left}");
}

/// A repository with a policy that was changed once.
struct Git(std::path::PathBuf);

impl Git {
    fn new() -> Self {
        let git = Self(folder());
        git.run(&["init", "--quiet"]);
        git
    }

    fn run(&self, arguments: &[&str]) {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]).args(arguments).current_dir(&self.0);
        Ran::of(&mut command).done();
    }

    fn commit(&self, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = self.0.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        self.run(&["add", "--all"]);
        self.run(&["commit", "--quiet", "--message", "a change"]);
    }

    fn ringwall(&self, arguments: &[&str]) -> Ran {
        Ran::of(Command::new(env!("CARGO_BIN_EXE_ringwall")).args(arguments).current_dir(&self.0))
    }
}

#[test]
fn a_revision_is_the_files_as_they_were() {
    let git = Git::new();
    let bound = |text: &str| text.replace("[198.51.100.20, \"2001:db8:2::20\"]", "$USERS");
    let whole = bound(&policy(&open_to_users("web", 80)));
    let (nodes, rules) = whole.split_once("groups:\n").unwrap();
    let rules = format!("groups:\n{rules}");
    git.commit(&[
        ("site/policy/10-nodes.yaml", nodes),
        ("site/policy/20-rules.yaml", &rules),
        ("site/policy/.hidden.yaml", "nonsense: ["),
        ("site/policy/notes.txt", "nonsense"),
        ("site/values.yaml", "USERS: [198.51.100.20]\n"),
        ("one.yaml", &policy(&open_to_users("web", 80))),
    ]);
    git.commit(&[
        ("site/policy/20-rules.yaml", &(rules.clone() + &open_to_users("more", 81))),
        ("site/policy/30-options.yaml", "min_tls: \"1.3\"\n"),
        ("one.yaml", &policy(&open_to_users("web", 82))),
    ]);
    let plan = |more: &[&str]| git.ringwall(&[&["plan", "site/policy", "--values", "site/values.yaml", "-o", "json"], more].concat());
    let ran = plan(&["--against", "HEAD~1"]).done();
    assert_eq!(lines(&ran, "opened"), ["users -> node  81/tcp"]);
    assert_eq!(lines(&ran, "others"), ["setting min_tls: not said -> 1.3"]);
    assert_eq!(ran.json()["before"], serde_json::json!({ "kind": "revision", "name": "HEAD~1" }));
    assert!(plan(&["--against", "HEAD"]).done().err.contains("no difference"));
    // What is not committed counts; values count as they were.
    std::fs::write(git.0.join("site/values.yaml"), "USERS: [198.51.100.20, 198.51.100.21]\n").unwrap();
    assert_eq!(lines(&plan(&["--against", "HEAD"]).done(), "opened"), ["198.51.100.21 -> node  80/tcp (http), 81/tcp"]);
    // A file, from within its folder and from outside.
    let ran = git.ringwall(&["plan", "one.yaml", "--against", "HEAD~1"]).done();
    assert!(ran.out.contains("  - users -> node  80/tcp (http)  was web (HEAD~1:one.yaml:8)\n"), "{}", ran.out);
    let path = git.0.join("one.yaml").to_str().unwrap().to_owned();
    assert_eq!(lines(&ringwall(&["plan", &path, "--against", "HEAD~1", "-o", "json"]).done(), "opened"), ["users -> node  82/tcp (xfer)"]);
}

#[test]
fn what_is_no_revision_is_said() {
    let git = Git::new();
    git.commit(&[("policy.yaml", &policy(&open_to_users("web", 80))), ("empty/notes.txt", "")]);
    let against = |policy: &str, revision: &str| git.ringwall(&["plan", policy, "--against", revision]);
    against("policy.yaml", "nowhere").failed(1, &["`nowhere` is neither a file or folder, nor a git revision"]);
    git.ringwall(&["plan", "policy.yaml", "--against=--help"]).failed(1, &["`--help` is neither"]);
    std::fs::write(git.0.join("new.yaml"), policy(&open_to_users("web", 80))).unwrap();
    against("new.yaml", "HEAD").failed(1, &["git has no ./new.yaml of that revision"]);
    std::fs::write(git.0.join("empty/policy.yaml"), policy(&open_to_users("web", 80))).unwrap();
    against("empty", "HEAD").failed(1, &["empty has no *.yaml file in HEAD"]);
    git.commit(&[("policy.yaml", "rules: [")]);
    git.commit(&[("policy.yaml", &policy(&open_to_users("web", 80)))]);
    against("policy.yaml", "HEAD~1").failed(1, &["HEAD~1:policy.yaml:1", "HEAD~1, to compare with, has 1 error"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringwall"));
    command.args(["plan", "policy.yaml", "--against", "HEAD"]).current_dir(&git.0).env("PATH", "");
    Ran::of(&mut command).failed(3, &["can't run git"]);
}

#[test]
fn a_plan_between_files_can_be_kept_but_not_applied() {
    let before = file("before.yaml", &policy(&open_to_users("web", 80)));
    let after = file("after.yaml", &policy(&open_to_users("web", 81)));
    let out = folder().join("plan.json");
    let out = out.to_str().unwrap();
    let ran = ringwall(&["plan", &after, "--against", &before, "--out", out]).done();
    assert!(ran.err.contains("it can be read but not applied"), "{}", ran.err);
    ringwall(&["apply", out]).failed(1, &["it was made against files"]);
    ringwall(&["apply", &file("other.json", "{ \"schema\": \"ringwall.check/1\" }")]).failed(1, &["its schema is `ringwall.check/1`"]);
    ringwall(&["apply", &file("half.json", "{ \"schema\": \"ringw")]).failed(1, &["it is not whole"]);
}

/// A guide as it is imported, on a router between everybody, with all options on.
fn imported(guide: &str) -> String {
    let text = ringwall(&["import", guide]).out.replace("\nstage: audit\n", "\n").replace(": false  #", ": true  #");
    let folder = folder();
    let mut names: Vec<&str> = text.split('$').skip(1).map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap()).collect();
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    names.dedup();
    let values: String = names.iter().enumerate().map(|(n, name)| format!("{name}: [10.0.{n}.1, \"2001:db8:{n}::1\"]\n")).collect();
    let internal = if text.contains("\ninternal:") { "" } else { "internal: [10.0.0.0/8, \"2001:db8::/32\"]\n" };
    let edge = "nodes:\n  edge: { addresses: [10.1.0.1, \"2001:db8:ff::1\"], routes: [10.0.0.0/16, \"2001:db8::/40\"] }\n";
    std::fs::write(folder.join("nodes.yaml"), format!("{internal}{edge}")).unwrap();
    std::fs::write(folder.join("values"), values).unwrap();
    std::fs::write(folder.join("imported.yaml"), text).unwrap();
    folder.to_str().unwrap().to_owned()
}

/// The guide with rows that it lacks, each after a line of it: exactly their flows are in the plan.
fn rows_are_flows(guide: &str, rows: &[(&str, &str)], expected: &[&str], altered: &[&str]) {
    let text = std::fs::read_to_string(guide).unwrap();
    let changed: String = text
        .lines()
        .map(|line| {
            let more = rows.iter().filter(|(after, _)| line.split_whitespace().eq(after.split_whitespace()));
            format!("{line}\n{}", more.map(|(_, row)| format!("{row}\n")).collect::<String>())
        })
        .collect();
    assert_eq!(changed.lines().count(), text.lines().count() + rows.len(), "a row has no place in {guide}");
    let name = std::path::Path::new(guide).file_name().unwrap().to_str().unwrap();
    let (before, after) = (imported(&file(name, &text)), imported(&file(name, &changed)));
    let plan = |policy: &str, against: &str| {
        let values = format!("{after}/values");
        ringwall(&["plan", policy, "--against", against, "-o", "json", "--values", &values]).done()
    };
    let ran = plan(&after, &before);
    assert_eq!(lines(&ran, "opened"), expected);
    assert_eq!(lines(&ran, "closed"), [""; 0]);
    let otherwise = ran.json()["differences"]["altered"].as_array().unwrap().clone();
    let otherwise: Vec<_> = otherwise.iter().map(|one| format!("{}: {}", one["how"][0].as_str().unwrap(), one["flows"][0]["text"].as_str().unwrap())).collect();
    assert_eq!(otherwise, altered);
    assert_eq!(ran.json()["differences"]["others"], serde_json::json!([]));
    let back = plan(&before, &after);
    assert_eq!((lines(&back, "opened"), lines(&back, "closed")), (vec![], lines(&ran, "opened")));
    // The same guide with its lines in other places: nothing, though each rule's note is another.
    let moved = imported(&file(name, &format!("# A guide\n\nRead it with care.\n\n{text}")));
    assert!(plan(&moved, &before).err.contains("plan: no difference\n"));
}

/// What the vendor's next edition of the page has more.
#[test]
fn missing_rows_of_a_guide_are_exactly_what_is_opened() {
    let rows = |primary: &str, member: &str, users: &str| {
        let row = |from: &str, to: &str, port: &str| format!("| ALLOW | TCP | {from} | ANY | {to} | {port} |");
        [
            (row(users, primary, "3389/RDP"), [row(users, primary, "1433/MS-SQL"), row(users, primary, "5432/POSTGRES"), row(users, primary, "2484/ORACLE")].join("\n")),
            (row(primary, member, "443/HTTPS"), [row(primary, member, "4248/SYNC"), row(primary, member, "59022/SSH")].join("\n")),
            (row(member, primary, "443/HTTPS"), [row(member, primary, "4248/SYNC"), row(member, primary, "59022/SSH")].join("\n")),
        ]
    };
    let expected = |primary: &str, member: &str, users: &str| {
        let both = "4248/tcp, 59022/tcp";
        let mut lines = [
            format!("{member} -> {primary}  {both}"),
            format!("{primary} -> {member}  {both}"),
            format!("{users} -> {primary}  1433/tcp (ms-sql), 2484/tcp (oracle-tls), 5432/tcp (postgresql)"),
        ];
        lines.sort();
        lines
    };
    let guides = [(Some(example_path("vault/guide.md")), ["PRI", "SEC", "WKS"]), (seed("seeds/002_4cac2c08b1e8bd71.txt"), ["PRD", "MBR", "USERW"])];
    for (guide, [primary, member, users]) in guides {
        let Some(guide) = guide else { continue };
        let rows = rows(primary, member, users);
        let rows: Vec<(&str, &str)> = rows.iter().map(|(after, row)| (after.as_str(), row.as_str())).collect();
        let rows: Vec<(&str, &str)> = rows.iter().flat_map(|(after, more)| more.lines().map(move |row| (*after, row))).collect();
        let lower = |name: &str| name.to_ascii_lowercase();
        let expected = expected(&lower(primary), &lower(member), &lower(users));
        rows_are_flows(&guide, &rows, &expected.each_ref().map(String::as_str), &[]);
    }
}

#[test]
fn a_missing_port_of_a_load_balancer_is_exactly_what_is_opened() {
    for guide in [Some(example_path("iot/guide.md")), seed("seeds/001_41d93fd846f21906.txt")].into_iter().flatten() {
        let text = std::fs::read_to_string(&guide).unwrap();
        let last = text.lines().find(|line| line.contains("TCP/8883")).unwrap();
        let row = last.replace("8883", "9443").replace("MQTT/TLS", "Console");
        let balancer = if last.contains("external") { "external-load-balancer" } else { "public-load-balancer" };
        // The internal network may do everything already, by the guide's own words, if with shorter sessions.
        let port = format!("-> {balancer}  9443/tcp (tungsten-https)");
        let altered = format!("session timeout the kernel's -> 14400s: internal {port}");
        let altered: Vec<&str> = last.contains("external").then_some(altered.as_str()).into_iter().collect();
        rows_are_flows(&guide, &[(last, &row)], &[&format!("any except internal {port}")], &altered);
    }
}
