//! R001: an IoT platform behind an outer firewall. Traffic with the world passes `fw`, which enforces
//! the same policy on its forward path.

use std::collections::BTreeSet;
use std::fs;

use super::{Row, example, example_path, rows, seed, with};
use crate::acceptance::rig::{Rig, findings, folder, ip, ringwall, until, SOON};

const NODES: [&str; 8] = ["fw", "lb-1", "core-1", "core-2", "stream-1", "db-1", "opcua-1", "rules-1"];
const NODE_FW: &str = "\
nodes:
  fw: { addresses: [203.0.113.254, \"2001:db8:ff::fe\"], routes: [192.0.2.0/24, \"2001:db8:2::/48\"] }
";

/// The hosts, without rules.
fn hosts() -> Rig {
    let mut rig = Rig::star(&[
        ("lb-1", &["192.0.2.10", "192.0.2.100", "192.0.2.101", "2001:db8:2::10", "2001:db8:2::100"]),
        ("core-1", &["192.0.2.11", "2001:db8:2::11"]),
        ("core-2", &["192.0.2.12", "2001:db8:2::12"]),
        ("stream-1", &["192.0.2.13", "2001:db8:2::13"]),
        ("db-1", &["192.0.2.14", "2001:db8:2::14"]),
        ("opcua-1", &["192.0.2.15", "2001:db8:2::15"]),
        ("rules-1", &["192.0.2.16", "2001:db8:2::16"]),
        ("time", &["192.0.2.21", "2001:db8:2::21"]),
        ("dns", &["192.0.2.22", "2001:db8:2::22"]),
        ("relay", &["192.0.2.23", "2001:db8:2::23"]),
        ("admin", &["192.0.2.200", "2001:db8:2::200"]),
        ("world", &["198.51.100.1", "2001:db8:f000::1"]),
    ]);
    rig.place("public", "lb-1", &["192.0.2.100", "2001:db8:2::100"]);
    rig.place("public-2", "lb-1", &["192.0.2.101"]);
    rig.place("lb-1", "lb-1", &["192.0.2.10", "2001:db8:2::10"]);
    rig
}

fn values() -> String {
    example_path("iot/values.yaml")
}

/// A folder with these files, the outer firewall's node, and the example's policy as changed.
fn policy(change: impl Fn(String) -> String, more: &[(&str, &str)]) -> String {
    let folder = folder();
    let example = ("policy.yaml", change(example("iot/policy.yaml")));
    fs::write(folder.join(example.0), example.1).unwrap();
    for (name, text) in [&[("outer.yaml", NODE_FW)], more].concat() {
        fs::write(folder.join(name), text).unwrap();
    }
    folder.to_str().unwrap().to_owned()
}

fn option(name: &str, value: bool) -> impl Fn(String) -> String {
    let (from, to) = (format!("{name}: {}", !value), format!("{name}: {value}"));
    move |text| with(&text, &from, &to)
}

fn enforce(rig: &Rig, nodes: &[&str], policy: &str) {
    rig.enforce_file(nodes, policy, &["--values", &values()]);
}

/// The platform as the example has it, enforced on every node.
fn platform() -> Rig {
    let rig = hosts();
    enforce(&rig, &NODES, &policy(|text| text, &[]));
    rig
}

fn compiled(policy: &str, node: &str, more: &[&str]) -> String {
    ringwall(&[&["compile", policy, "--node", node, "--values", &values()], more].concat()).done().out
}

#[test]
fn r001_01_as_restrictive_as_it_can_be() {
    let rig = platform();
    rig.shut(&[
        "world -> lb-1 core-1 stream-1 db-1 opcua-1 rules-1 fw: tcp/22 tcp/80 tcp/443 tcp/1883 udp/53 udp/123 icmp",
        "world -> public: tcp/22 tcp/25 tcp/8080 udp/443 udp/1883",
        "lb-1 db-1 opcua-1 rules-1 -> world: tcp/80 tcp/443 tcp/25 udp/53 udp/123 icmp",
        "fw -> world: tcp/80 tcp/443 udp/53",
        "core-1 stream-1 -> world: tcp/22 tcp/8883 udp/443 icmp",
    ]);
    // Each `any` is pointed at.
    let found = findings(&example_path("iot/guide.md"), &[]);
    assert!(found.iter().any(|(_, message)| message.contains("`any` is the source of 5 rows and the destination of 2 rows")), "{found:?}");
}

#[test]
fn r001_02_exactly_four_ports_of_the_load_balancer_are_open() {
    let rig = platform();
    let refused = rig.packets("fw", "fwd", "default");
    assert_eq!(rig.answering("world", ip("192.0.2.100")), BTreeSet::from([80, 443, 1883, 8883]));
    assert_eq!(rig.answering("world", ip("192.0.2.11")), BTreeSet::new());
    // All the others came as far as the firewall.
    assert!(rig.packets("fw", "fwd", "default") >= refused + 2 * 65_535 - 4);
    rig.open(&["world -> public: tcp/80 tcp/443 tcp/1883 tcp/8883"]);
}

#[test]
fn r001_03_the_preset_enforces_the_matrix_as_it_comes() {
    let rig = hosts();
    let folder = folder().join("policy");
    let folder = folder.to_str().unwrap();
    ringwall(&["init", "iot", folder]).done();
    enforce(&rig, &["lb-1", "core-1", "opcua-1"], folder);
    rig.open(&["world -> public: tcp/80 tcp/443 tcp/1883 tcp/8883", "core-1 -> opcua-1: tcp/6670"]);
    rig.shut(&["world -> public core-1: tcp/22", "world -> core-1: tcp/443", "world -> opcua-1: tcp/6670"]);
}

#[test]
fn r001_04_a_placeholder_is_bound_or_an_error() {
    let path = policy(|text| text, &[]);
    let without = with(&fs::read_to_string(values()).unwrap(), "PUBLIC_LOAD_BALANCER_IPS:", "OTHER:");
    let unbound = crate::acceptance::rig::file("values.yaml", &without);
    ringwall(&["compile", &path, "--node", "lb-1", "--values", &unbound])
        .failed(1, &["$PUBLIC_LOAD_BALANCER_IPS", "public: { addresses: $PUBLIC_LOAD_BALANCER_IPS"]);
    let rig = hosts();
    rig.enforce_file(&["fw", "lb-1"], &path, &["--values", &unbound, "--set", "PUBLIC_LOAD_BALANCER_IPS=192.0.2.100 192.0.2.101"]);
    rig.open(&["world -> public-2: tcp/443 tcp/8883"]);
    assert_eq!(rig.answering("world", ip("192.0.2.100")), BTreeSet::from([80, 443, 1883, 8883]));
    assert_eq!(rig.answering("world", ip("192.0.2.101")), BTreeSet::from([80, 443, 1883, 8883]));
}

#[test]
fn r001_05_integrations_are_switched_on_and_off_without_trace() {
    let rig = hosts();
    let (off, on) = (policy(|text| text, &[]), policy(option("mail-relay", true), &[]));
    enforce(&rig, &["core-1"], &off);
    rig.shut(&["core-1 -> relay: tcp/587 tcp/465"]);
    enforce(&rig, &["core-1"], &on);
    rig.open(&["core-1 -> relay: tcp/587 tcp/465"]);
    enforce(&rig, &["core-1"], &off);
    rig.shut(&["core-1 -> relay: tcp/587 tcp/465"]);
    assert_ne!(compiled(&off, "core-1", &[]), compiled(&on, "core-1", &[]));
    // What an integration's own manual says is a file beside the policy.
    let manual = "| Source | Destination | Protocol | Port |\n|---|---|---|---|\n| core | mail-relay | TCP | 2525 |\n";
    let guide = crate::acceptance::rig::file("manual.md", manual);
    let pack = ringwall(&["import", &guide]).done().out;
    assert!(pack.contains("services: [tcp/2525]"), "{pack}");
    let pack = "sections:\n  - name: Mail\n    rules:\n      - allow: core -> mail-relay\n        services: [tcp/2525]\n";
    let (alone, beside) = (compiled(&off, "core-1", &[]), policy(|text| text, &[("mail.yaml", pack)]));
    enforce(&rig, &["core-1"], &beside);
    rig.open(&["core-1 -> relay: tcp/2525"]);
    fs::remove_file(format!("{beside}/mail.yaml")).unwrap();
    assert_eq!(compiled(&beside, "core-1", &[]).replace(&beside, ""), alone.replace(&off, ""));
    enforce(&rig, &["core-1"], &beside);
    rig.shut(&["core-1 -> relay: tcp/2525"]);
}

#[test]
fn r001_06_session_timeout() {
    let rig = platform();
    let mut session = rig.session("world", "public", 8883);
    session.lives();
    for host in ["fw", "lb-1"] {
        let left = rig.tracked(host, &session.client).unwrap().timeout.unwrap().as_secs();
        assert!((14_300..=14_400).contains(&left), "{host}: {left}");
    }
    // Scaled down: idle for less than the timeout it lives, for more it is gone.
    enforce(&rig, &["fw"], &policy(|text| with(&text, "14400s", "3s"), &[]));
    let mut session = rig.session("world", "public", 1883);
    session.lives();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    session.lives();
    assert!(until(SOON, || rig.tracked("fw", &session.client).is_none()));
    // The guide's thousands point is none of decimals.
    let imported = ringwall(&["import", &example_path("iot/guide.md")]).done().out;
    assert!(imported.contains("session_timeout: 14400s"), "{imported}");
}

#[test]
fn r001_07_applying_again_cuts_no_session() {
    let rig = platform();
    let (mut devices, mut inside) = (rig.session("world", "public", 8883), rig.session("core-1", "core-2", 7000));
    let path = policy(|text| text, &[]);
    for _ in 0..10 {
        enforce(&rig, &["fw", "lb-1", "core-1", "core-2"], &path);
        devices.lives();
        inside.lives();
    }
}

#[test]
fn r001_08_egress_is_by_role() {
    let rig = platform();
    rig.open(&["core-1 core-2 stream-1 -> world: tcp/80 tcp/443 tcp/25"]);
    rig.shut(&["db-1 lb-1 -> world: tcp/80 tcp/443 tcp/25 tcp/22", "core-1 stream-1 -> world: tcp/22 tcp/587"]);
}

#[test]
fn r001_09_dns_and_time_from_inside_or_from_the_internet() {
    let all = "lb-1 core-1 core-2 stream-1 db-1 opcua-1 rules-1";
    let rig = platform();
    rig.open(&[&format!("{all} -> dns: udp/53 tcp/53"), &format!("{all} -> time: udp/123")]);
    rig.shut(&[&format!("{all} -> world: udp/53 udp/123")]);
    enforce(&rig, &NODES, &policy(option("internet-resolvers", true), &[]));
    rig.open(&[&format!("{all} -> world: udp/53 udp/123")]);
    rig.shut(&[&format!("{all} -> dns: udp/53"), &format!("{all} -> time: udp/123"), "fw -> world: udp/53"]);
}

#[test]
fn r001_10_inbound_and_outbound_are_the_agent_s() {
    let rig = platform();
    rig.open(&[
        "core-1 -> opcua-1: tcp/6670",
        "core-1 -> rules-1: tcp/8334",
        "opcua-1 rules-1 -> lb-1 public: tcp/80",
    ]);
    rig.shut(&[
        "opcua-1 -> core-1 lb-1: tcp/6670",
        "rules-1 -> core-1 lb-1: tcp/8334",
        "core-1 lb-1 -> opcua-1 rules-1: tcp/80",
        "core-1 -> opcua-1: tcp/8334",
        "core-1 -> rules-1: tcp/6670",
        "world -> opcua-1: tcp/6670",
    ]);
}

#[test]
fn r001_11_timeouts_differ_by_pair() {
    let agents = "sections:\n  - name: Devices of the plant\n    rules:\n      - allow: admins -> opcua\n        services: [tcp/4840]\n        session_timeout: 600s\n";
    let path = policy(|text| text, &[("plant.yaml", agents)]);
    let rig = hosts();
    enforce(&rig, &["fw", "opcua-1"], &path);
    let rules = rig.rules("opcua-1");
    for object in ["ct timeout tcp4_600", "ct timeout tcp4_14400"] {
        assert!(rules.contains(object), "{object} is not in {rules}");
    }
    for (from, port, seconds) in [("admin", 4840, 600), ("core-1", 6670, 14_400)] {
        let mut session = rig.session(from, "opcua-1", port);
        session.lives();
        for host in ["fw", "opcua-1"] {
            let left = rig.tracked(host, &session.client).unwrap().timeout.unwrap().as_secs();
            assert!((seconds - 60..=seconds).contains(&left), "{host} {port}: {left}");
        }
    }
}

#[test]
fn r001_12_nodes_of_one_type_reach_each_other_at_every_port() {
    let apart = |text| option("all-inside", false)(text);
    let rig = hosts();
    enforce(&rig, &NODES, &policy(apart, &[]));
    rig.open(&["core-1 core-2 -> core-1 core-2: tcp/1 tcp/22 tcp/7000 tcp/65535 udp/1 udp/9999 icmp"]);
    rig.shut(&["core-1 -> db-1: tcp/27017 tcp/22 udp/53", "db-1 -> core-1: tcp/7000"]);
    // It follows the members.
    let joined = |text| with(&apart(text), "$DB_1_IPS, labels: { role: database }", "$DB_1_IPS, labels: { role: core }")
        .replace("database: { labels: { role: database } }", "database: { labels: { role: database }, may_be_empty: true }");
    let path = policy(joined, &[]);
    enforce(&rig, &["fw", "core-1", "core-2", "db-1"], &path);
    rig.open(&["core-1 core-2 db-1 -> core-1 core-2 db-1: tcp/27017 udp/9999"]);
    rig.shut(&["stream-1 -> db-1: tcp/27017"]);
}

#[test]
fn r001_13_management_is_narrowed_to_who_manages() {
    let found = findings(&example_path("iot/guide.md"), &[]);
    assert!(found.contains(&("RW2040".into(), "`ssh` is open from `any` to `any`".into())), "{found:?}");
    let rig = platform();
    let all = "lb-1 core-1 core-2 stream-1 db-1 opcua-1 rules-1 fw";
    rig.open(&[&format!("admin -> {all}: tcp/22")]);
    rig.shut(&[&format!("world relay -> {all}: tcp/22"), "admin -> core-1: tcp/23 tcp/443", "opcua-1 -> core-1: tcp/22"]);
}

#[test]
fn r001_14_everything_inside_and_nothing_outside() {
    let rig = platform();
    rig.open(&["lb-1 core-1 stream-1 db-1 -> lb-1 core-1 stream-1 db-1: tcp/1 tcp/27017 tcp/65000 udp/4000 icmp"]);
    rig.shut(&["db-1 lb-1 -> world: tcp/1 tcp/80 tcp/27017 udp/4000 icmp", "core-1 -> world: tcp/27017 udp/4000"]);
    let found = findings(&example_path("iot/guide.md"), &[]);
    assert!(found.contains(&("RW2041".into(), "`Internal network` may reach every address on every port".into())), "{found:?}");
}

#[test]
fn r001_15_what_the_text_promises_and_the_table_lacks_is_reported() {
    let promised = "the text announces connections between kinds of nodes, but no row names two of them";
    for guide in [Some(example_path("iot/guide.md")), seed("seeds/001_41d93fd846f21906.txt").map(copied)].into_iter().flatten() {
        let found = findings(&guide, &[]);
        assert!(found.contains(&("RW2052".into(), promised.into())), "{found:?}");
    }
}

/// A copy with a name that says what it is.
fn copied(path: String) -> String {
    crate::acceptance::rig::file("guide.md", &fs::read_to_string(path).unwrap())
}

#[test]
fn r001_16_all_three_tables_are_imported() {
    let csv = ringwall(&["import", &example_path("iot/guide.md"), "-o", "csv"]).done().out;
    let mut found: Vec<String> =
        rows(&csv).into_iter().map(|Row { source, destination, protocol, port, .. }| format!("{source} -> {destination}: {protocol}/{port}")).collect();
    found.sort();
    let mut expected = [
        "any -> public load balancer IP: tcp/80",
        "any -> public load balancer IP: tcp/443",
        "any -> public load balancer IP: tcp/1883",
        "any -> public load balancer IP: tcp/8883",
        "core node -> internet: tcp/80",
        "core node -> internet: tcp/443",
        "core node -> internet: tcp/25",
        "stream engine -> internet: tcp/80",
        "stream engine -> internet: tcp/443",
        "stream engine -> internet: tcp/25",
        "all hosts -> internet: udp/53",
        "all hosts -> internet: udp/123",
        " -> opcua: tcp/6670",
        "opcua -> platform: tcp/80",
        " -> Ruleset-engine: tcp/8334",
        "Ruleset-engine -> platform: tcp/80",
        "same node type -> same node type: any/any",
        "any -> any: tcp/22",
        "Internal network -> any: any/any",
    ];
    expected.sort_unstable();
    assert_eq!(found, expected);
    // What stands in no cell but in the words around the table is said to be inferred.
    let inferred = findings(&example_path("iot/guide.md"), &[]);
    assert!(inferred.iter().any(|(_, message)| message.contains("source or destination only in words around them")), "{inferred:?}");
    if let (Some(guide), Some(truth)) = (seed("seeds/001_41d93fd846f21906.txt"), seed("corpus/seed-001-cumulocity.expected.csv")) {
        let csv = ringwall(&["import", &copied(guide), "-o", "csv"]).done().out;
        let short = |csv: &str| {
            let mut rows: Vec<_> = rows(csv).into_iter().map(|row| (row.protocol.to_lowercase(), row.port.to_lowercase())).collect();
            rows.sort();
            rows
        };
        assert_eq!(short(&csv), short(&fs::read_to_string(truth).unwrap()));
    }
}
