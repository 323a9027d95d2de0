//! R002: a privileged-access vault: a cluster of appliances, its users, devices and servers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use ringwall_node::kernel::TableId;

use super::{Row, example, example_path, rows, seed, with};
use crate::acceptance::rig::{Rig, SOON, file, findings, folder, ringwall};

const VAULTS: [&str; 3] = ["vault-1", "vault-2", "vault-3"];
const SERVERS: [&str; 8] = ["ntp", "dns", "mail", "ldap", "radius", "tacacs", "log", "backup"];

fn hosts() -> Rig {
    Rig::star(&[
        ("vault-1", &["192.0.2.11", "2001:db8:2::11"]),
        ("vault-2", &["192.0.2.12", "2001:db8:2::12"]),
        ("vault-3", &["192.0.2.13", "2001:db8:2::13"]),
        ("ntp", &["192.0.2.21", "2001:db8:2::21"]),
        ("dns", &["192.0.2.22", "2001:db8:2::22"]),
        ("mail", &["192.0.2.23", "2001:db8:2::23"]),
        ("ldap", &["192.0.2.24", "2001:db8:2::24"]),
        ("radius", &["192.0.2.25", "2001:db8:2::25"]),
        ("tacacs", &["192.0.2.26", "2001:db8:2::26"]),
        ("log", &["192.0.2.27", "2001:db8:2::27"]),
        ("backup", &["192.0.2.28", "2001:db8:2::28"]),
        ("user", &["198.51.100.1", "2001:db8:51::1"]),
        ("device", &["198.51.100.129", "2001:db8:52::1"]),
        ("admin", &["192.0.2.200", "2001:db8:2::200"]),
        ("world", &["203.0.113.50", "2001:db8:f000::1"]),
    ])
}

fn values() -> String {
    example_path("vault/values.yaml")
}

fn guide() -> String {
    example_path("vault/guide.md")
}

fn policy(text: &str) -> String {
    file("policy.yaml", text)
}

fn enforce(rig: &Rig, nodes: &[&str], policy: &str) {
    rig.enforce_file(nodes, policy, &["--values", &values()]);
}

/// The guide as it is imported, enforced and on the example's machines; and its text to be changed.
fn imported(change: impl Fn(String) -> String) -> String {
    let text = ringwall(&["import", &guide()]).done().out;
    let text = with(&text, "\nstage: audit\n", "\n");
    let text = with(&text, "traffic-between-members-of-a-cluster: false", "traffic-between-members-of-a-cluster: true");
    let folder = folder();
    fs::write(folder.join("imported.yaml"), change(text)).unwrap();
    fs::write(
        folder.join("nodes.yaml"),
        "nodes:\n  vault-1: { addresses: $VAULT_1_IPS }\n  vault-2: { addresses: $VAULT_2_IPS }\n  vault-3: { addresses: $VAULT_3_IPS }\n",
    )
    .unwrap();
    folder.to_str().unwrap().to_owned()
}

/// Members take over the rules of the primary.
fn inherits(text: String) -> String {
    with(&text, "sec: { addresses: $SEC_IPS }", "sec: { addresses: $SEC_IPS, includes_rules_of: [pri] }")
}

fn guide_rows() -> Vec<Row> {
    rows(&ringwall(&["import", &guide(), "-o", "csv"]).done().out)
}

/// The hosts that a role of the guide stands for.
fn role(name: &str) -> Vec<&'static str> {
    match name {
        "PRI" => vec!["vault-1"],
        "SEC" => vec!["vault-2", "vault-3"],
        "WKS" => vec!["user"],
        "TGT" => vec!["device"],
        server => {
            let short = server.strip_suffix(" SERVER").unwrap().to_lowercase();
            vec![SERVERS.into_iter().find(|server| *server == short).unwrap()]
        }
    }
}

/// `pair -> services` as lines for a rig.
fn lines(flows: &BTreeSet<(&str, &str, String)>) -> Vec<String> {
    let mut lines = BTreeMap::<_, Vec<&str>>::new();
    for (from, to, service) in flows {
        lines.entry((from, to)).or_default().push(service);
    }
    lines.into_iter().map(|((from, to), services)| format!("{from} -> {to}: {}", services.join(" "))).collect()
}

fn check_matrix(rig: &Rig, open: &BTreeSet<(&str, &str, String)>, hosts: &[&'static str], managed: &[&str]) {
    let services: BTreeSet<&String> = open.iter().map(|(.., service)| service).collect();
    let mut shut = BTreeSet::new();
    for from in hosts {
        for to in hosts.iter().filter(|to| *to != from && (managed.contains(from) || managed.contains(to))) {
            shut.extend(services.iter().map(|service| (*from, *to, (*service).clone())));
        }
    }
    let shut = shut.difference(open).cloned().collect();
    let (open, shut) = (lines(open), lines(&shut));
    rig.open(&open.iter().map(String::as_str).collect::<Vec<_>>());
    rig.shut(&shut.iter().map(String::as_str).collect::<Vec<_>>());
}

fn messages(path: &str, code: &str) -> Vec<String> {
    findings(path, &[]).into_iter().filter(|(found, _)| found == code).map(|(_, message)| message).collect()
}

#[test]
fn r002_01_fifty_rows_with_six_fields() {
    let found = guide_rows();
    assert_eq!(found.len(), 50);
    assert!(found.iter().all(|row| row.source_port == "any"));
    let cells = |row: &Row| format!("| ALLOW | {} | {} | ANY | {} | {}/", row.protocol.to_uppercase(), row.source, row.destination, row.port);
    let guide = fs::read_to_string(guide()).unwrap();
    let table: Vec<&str> = guide.lines().filter(|line| line.starts_with("| ALLOW")).collect();
    assert_eq!(table.len(), found.len());
    for (line, row) in table.iter().zip(&found) {
        assert!(line.starts_with(&cells(row)), "{line} and {row:?}");
    }
    if let (Some(guide), Some(truth)) = (seed("seeds/002_4cac2c08b1e8bd71.txt"), seed("corpus/seed-002-senhasegura.expected.csv")) {
        let guide = file("guide.md", &fs::read_to_string(guide).unwrap());
        let lower = |csv: &str| {
            let lower = |row: Row| [row.source, row.source_port, row.destination, row.protocol, row.port].map(|cell| cell.to_lowercase());
            rows(csv).into_iter().map(lower).collect::<BTreeSet<_>>()
        };
        let csv = ringwall(&["import", &guide, "-o", "csv"]).done().out;
        assert_eq!(lower(&csv), lower(&fs::read_to_string(truth).unwrap()));
    }
}

#[test]
fn r002_02_roles_have_a_short_name_and_a_text() {
    let text = ringwall(&["import", &guide()]).done().out;
    let legend = [
        ("pri", "PRI: primary node"),
        ("sec", "SEC: secondary members of a cluster"),
        ("wks", "WKS: workstations of users"),
        ("tgt", "TGT: targets, the devices whose passwords the vault keeps"),
    ];
    for (role, meaning) in legend {
        let line = text.lines().find(|line| line.trim_start().starts_with(&format!("{role}: {{"))).unwrap();
        assert!(line.ends_with(meaning), "{line}");
    }
}

#[test]
fn r002_03_servers_are_roles_with_addresses() {
    let path = imported(inherits);
    let ran = ringwall(&["compile", &path, "--node", "vault-1"]).failed(1, &[]);
    for value in ["$PRI_IPS", "$SEC_IPS", "$NTP_SERVER_IPS", "$LOG_SERVER_IPS", "$BACKUP_SERVER_IPS", "$WKS_IPS", "$TGT_IPS"] {
        assert!(ran.err.contains(value), "{value} is not in {}", ran.err);
    }
    let rig = hosts();
    rig.enforce_file(&["vault-1"], &path, &["--values", &values(), "--set", "NTP_SERVER_IPS=192.0.2.21 192.0.2.22 2001:db8:2::21"]);
    rig.open(&["vault-1 -> ntp: udp/123"]);
    let mut rig = rig;
    rig.place("dns-v4", "dns", &["192.0.2.22"]);
    rig.open(&["vault-1 -> dns-v4: udp/123"]);
    rig.shut(&["vault-1 -> mail: udp/123"]);
}

#[test]
fn r002_04_members_inherit_the_rules_of_the_primary() {
    let rig = hosts();
    enforce(&rig, &VAULTS, &imported(inherits));
    rig.open(&[
        "vault-1 vault-2 vault-3 -> ntp: udp/123",
        "vault-1 vault-2 vault-3 -> dns: udp/53",
        "vault-1 vault-2 vault-3 -> ldap: tcp/389 tcp/636",
        "vault-1 vault-2 vault-3 -> device: tcp/22 tcp/3389",
        "user -> vault-1 vault-2 vault-3: tcp/443 tcp/3389",
        "backup -> vault-1 vault-2 vault-3: tcp/22 tcp/445",
    ]);
    // It can be switched off, and the guide without it is an error.
    enforce(&rig, &VAULTS, &imported(|text| text));
    rig.open(&["vault-1 -> dns: udp/53", "user -> vault-1: tcp/443", "vault-1 -> vault-2: tcp/3306"]);
    rig.shut(&["vault-2 vault-3 -> dns: udp/53", "user -> vault-2 vault-3: tcp/443"]);
    assert_eq!(messages(&guide(), "RW2024"), ["32 rows of `PRI` are not repeated for `SEC`"]);
}

#[test]
fn r002_05_a_section_is_switched_off_alone() {
    let users = "- name: Traffic between users and the vault\n";
    let off = |text: String| with(&with(&text, users, &format!("{users}    when: users\n")), "options:", "options:\n  users: false");
    let rig = hosts();
    enforce(&rig, &["vault-1"], &imported(|text| text));
    rig.open(&["user -> vault-1: tcp/443 tcp/80 tcp/22 tcp/3389"]);
    enforce(&rig, &["vault-1"], &imported(off));
    rig.shut(&["user -> vault-1: tcp/443 tcp/80 tcp/22 tcp/3389"]);
    rig.open(&["vault-1 -> device: tcp/443 tcp/22", "vault-1 -> dns: udp/53", "backup -> vault-1: tcp/22", "vault-2 -> vault-1: tcp/443"]);
}

#[test]
fn r002_06_without_members_the_cluster_has_no_rules_and_no_error() {
    let alone = example("vault/policy.yaml");
    let alone: String = alone.lines().filter(|line| !line.starts_with("  vault-2:") && !line.starts_with("  vault-3:")).map(|line| format!("{line}\n")).collect();
    let alone = policy(&alone);
    ringwall(&["check", &alone, "--values", &values()]).done();
    let text = ringwall(&["compile", &alone, "--node", "vault-1", "--values", &values()]).done().out;
    assert!(!text.contains("192.0.2.12") && !text.contains("192.0.2.13"));
    let rig = hosts();
    enforce(&rig, &["vault-1"], &alone);
    rig.open(&["user -> vault-1: tcp/443", "vault-1 -> dns: udp/53"]);
    rig.shut(&["vault-1 -> vault-2: tcp/3306", "vault-2 -> vault-1: tcp/3306 udp/4567"]);
}

#[test]
fn r002_07_fifty_rows_pass_and_all_else_fails() {
    let rig = hosts();
    enforce(&rig, &VAULTS, &imported(|text| text));
    let mut open = BTreeSet::new();
    let rows = guide_rows();
    assert_eq!(rows.len(), 50);
    for row in &rows {
        for from in role(&row.source) {
            open.extend(role(&row.destination).into_iter().map(|to| (from, to, format!("{}/{}", row.protocol, row.port))));
        }
    }
    let hosts = [&VAULTS[..], &SERVERS, &["user", "device"]].concat();
    check_matrix(&rig, &open, &hosts, &VAULTS);
}

#[test]
fn r002_08_a_source_port_is_part_of_the_rule() {
    let rule = "\n  - name: More\n    rules:\n      - allow: wks -> pri\n        services: [udp/4000]\n        source_ports: [40000-40010]\n";
    let rig = hosts();
    enforce(&rig, &["vault-1"], &imported(|text| text + rule));
    let server = rig.host("vault-1").run(|| UdpSocket::bind("192.0.2.11:4000").unwrap()).unwrap();
    server.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    for (port, passes) in [(40_000, true), (40_010, true), (40_011, false), (39_999, false)] {
        let client = rig.host("user").run(|| UdpSocket::bind(("198.51.100.1", port)).unwrap()).unwrap();
        client.send_to(b"?", "192.0.2.11:4000").unwrap();
        assert_eq!(server.recv_from(&mut [0; 8]).is_ok(), passes, "{port}");
    }
    // The guide's rows say ANY.
    assert!(guide_rows().iter().all(|row| row.source_port == "any"));
}

#[test]
fn r002_09_tcp_and_udp_of_one_port_are_two_rules() {
    let rig = hosts();
    enforce(&rig, &VAULTS, &imported(|text| text));
    rig.open(&["vault-1 -> vault-2: tcp/4567 udp/4567 tcp/4568", "vault-1 -> tacacs: tcp/49 udp/49"]);
    rig.shut(&["vault-1 -> vault-2: udp/4568 udp/4444", "vault-1 -> dns: tcp/53", "vault-1 -> log: udp/514 tcp/6514"]);
}

#[test]
fn r002_10_the_number_decides_and_a_name_that_differs_is_a_finding() {
    let found: BTreeSet<String> = findings(&guide(), &[]).into_iter().map(|(_, message)| message).collect();
    for message in [
        "`SMTP` stands beside 420/tcp, which is not its port",
        "`SMB` stands beside 5445/tcp, which is not its port",
        "`ORACLE` stands beside 7443/tcp, which is not its port",
        "`SYSLOG` on 514 is udp, not tcp",
        "`SYSLOG` on 6514 is tcp, not udp",
        "`METASPLOIT` is the name of an attack tool",
        "`RM` is no name of a service that is known here",
        "`dns` is open without 53/tcp",
        "`rpc` is open without 49152-65535/tcp",
        "`telnet` is cleartext",
    ] {
        assert!(found.contains(message), "`{message}` is not in {found:#?}");
    }
    let rig = hosts();
    enforce(&rig, &["vault-1"], &imported(|text| text));
    rig.open(&["vault-1 -> mail: tcp/420"]);
    rig.shut(&["vault-1 -> mail: tcp/25"]);
}

/// What can be checked so far: the guide's words about proxies are kept where the operator reads
/// them, and no proxy is let through that no rule names. A finding about a proxy on a path needs a
/// topology, which comes with a fleet.
#[test]
fn r002_11_proxies() {
    let text = ringwall(&["import", &guide()]).done().out;
    assert!(text.contains("There are two proxies that the vault works with: the package proxy"), "{text}");
    let rig = hosts();
    enforce(&rig, &["vault-1"], &policy(&example("vault/policy.yaml")));
    rig.shut(&["vault-1 -> world dns: tcp/3128 tcp/8080 tcp/443"]);
}

#[test]
fn r002_12_symmetric_pairs_are_one_line_and_a_missing_half_is_flagged() {
    let text = ringwall(&["import", &guide()]).done().out;
    assert_eq!(text.matches("- allow: pri <-> sec\n").count(), 9);
    let lost = "| ALLOW | TCP | SEC | ANY | PRI | 3306/MySQL |\n";
    let halved = file("guide.md", &with(&fs::read_to_string(guide()).unwrap(), lost, ""));
    let (before, after) = (findings(&guide(), &[]), findings(&halved, &[]));
    let one_way = ("RW2023".to_owned(), "tcp/3306 is open in one direction only".to_owned());
    assert!(!before.contains(&one_way) && after.contains(&one_way), "{after:#?}");
    // Halves are not shown as wholes.
    let text = ringwall(&["import", &halved]).done().out;
    assert_eq!([" pri <-> sec\n", " pri -> sec\n", " sec -> pri\n"].map(|pair| text.matches(pair).count()), [0, 9, 8]);
}

#[test]
fn r002_13_members_reach_each_other_once_the_mesh_is_whole() {
    assert_eq!(messages(&guide(), "RW2022"), ["9 rows are missing among the members of `SEC`"]);
    let mesh = "tcp/22 tcp/443 tcp/3306 tcp/9300 tcp/4567 tcp/4568 tcp/4444 udp/4567";
    let rig = hosts();
    enforce(&rig, &VAULTS, &imported(|text| text));
    rig.shut(&[&format!("vault-2 vault-3 -> vault-2 vault-3: {mesh}")]);
    // The example's policy has it mended.
    enforce(&rig, &VAULTS, &policy(&example("vault/policy.yaml")));
    rig.open(&[&format!("vault-1 vault-2 vault-3 -> vault-1 vault-2 vault-3: {mesh}")]);
    assert_eq!(messages(&policy(&example("vault/policy.yaml")), "RW2022"), Vec::<String>::new());
}

/// Roles that change by themselves need a fleet. Here the inventory is in the file: members have the
/// primary's rules already, so the swap is an edit of labels and an apply on each node.
#[test]
fn r002_14_roles_are_swapped_under_traffic() {
    let roles = |first: &str, second: &str| {
        let text = example("vault/policy.yaml");
        let text = with(&text, "$VAULT_1_IPS, labels: { role: primary }", &format!("$VAULT_1_IPS, labels: {{ role: {first} }}"));
        policy(&with(&text, "$VAULT_2_IPS, labels: { role: member }", &format!("$VAULT_2_IPS, labels: {{ role: {second} }}")))
    };
    let rig = hosts();
    enforce(&rig, &VAULTS, &roles("primary", "member"));
    let mut sessions = [
        rig.session("user", "vault-1", 443),
        rig.session("user", "vault-2", 443),
        rig.session("vault-1", "vault-2", 3306),
        rig.session("vault-3", "vault-1", 4567),
    ];
    let swapped = roles("member", "primary");
    let done = std::sync::atomic::AtomicBool::new(false);
    let reached = |to: &str, within| {
        let address = rig.at(to, 3389);
        rig.host("user").run(|| TcpStream::connect_timeout(&address, within).is_ok()).unwrap()
    };
    let forbidden = |to: &str| {
        let address = rig.at(to, 4444);
        rig.host("user").run(|| TcpStream::connect_timeout(&address, Duration::from_millis(100)).is_ok()).unwrap()
    };
    let _listeners = VAULTS.map(|vault| {
        let bind = |port| std::net::TcpListener::bind(rig.at(vault, port)).unwrap();
        rig.host(vault).run(|| [bind(3389), bind(4444)]).unwrap()
    });
    let longest = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                for vault in ["vault-1", "vault-2"] {
                    let begun = Instant::now();
                    assert!(reached(vault, SOON), "{vault}");
                    longest = longest.max(begun.elapsed());
                    assert!(!forbidden(vault), "{vault}");
                }
            }
            longest
        });
        for vault in VAULTS {
            enforce(&rig, &[vault], &swapped);
            sessions.iter_mut().for_each(crate::acceptance::rig::Session::lives);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        watch.join().unwrap()
    });
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    rig.open(&["user -> vault-1 vault-2: tcp/443", "vault-2 -> ldap: tcp/636", "vault-1 -> ldap: tcp/636"]);
}

#[test]
fn r002_15_ten_thousand_devices_are_a_set_not_rules() {
    let rig = hosts();
    let rules = || {
        rig.netfilter("vault-1", |netfilter| {
            let chains = netfilter.chains_of(&TableId::inet("ringwall")).unwrap();
            chains.iter().map(|chain| netfilter.rules(&chain.table, &chain.name).unwrap().len()).sum::<usize>()
        })
    };
    let path = policy(&example("vault/policy.yaml"));
    let bind = |devices: &str| rig.enforce_file(&["vault-1"], &path, &["--values", &file("values.yaml", &devices_are(devices))]);
    let few: Vec<String> = (0..100).map(|n| format!("10.0.0.{}", n * 2)).collect();
    bind(&format!("198.51.100.129, {}", few.join(", ")));
    let few = rules();
    // Every other address, so that no two make a prefix.
    let many: Vec<String> = (0..10_000).map(|n| format!("10.{}.{}.{}", n / 32_768, n / 128 % 256, n % 128 * 2)).collect();
    let begun = Instant::now();
    bind(&format!("198.51.100.129, {}", many.join(", ")));
    let took = begun.elapsed();
    assert_eq!(rules(), few);
    // Without optimisation it takes some times longer.
    assert!(took < Duration::from_secs(if cfg!(debug_assertions) { 30 } else { 5 }), "{took:?}");
    let mut rig = rig;
    rig.place("device-v4", "device", &["198.51.100.129"]);
    rig.open(&["vault-1 -> device-v4: tcp/22 tcp/443"]);
    rig.shut(&["vault-1 -> device-v4: tcp/23"]);
}

fn devices_are(devices: &str) -> String {
    let values = fs::read_to_string(values()).unwrap();
    values.lines().map(|line| if line.starts_with("TGT_IPS:") { format!("TGT_IPS: [{devices}]\n") } else { format!("{line}\n") }).collect()
}

#[test]
fn r002_16_metadata_is_skipped_and_notes_are_kept() {
    let text = ringwall(&["import", &guide()]).done().out;
    assert_eq!(text.matches("(important):").count(), 2);
    assert!(text.contains("If the vault runs as a cluster"), "{text}");
    assert!(!text.to_lowercase().contains("metadata") && !text.contains("seoTitle"), "{text}");
    assert_eq!(["PRI: ", "SEC: ", "WKS: ", "TGT: "].iter().filter(|short| text.contains(&format!("# {short}"))).count(), 4);
    let sections: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("  - name: Traffic ")).collect();
    assert_eq!(sections.len(), 5, "{sections:?}");
}

#[test]
fn r002_17_other_ports_in_the_other_direction_are_a_finding() {
    let found = messages(&guide(), "RW2020");
    assert_eq!(found, ["`SMB` has other ports in the two directions between `PRI` and `BACKUP SERVER`"]);
}

#[test]
fn r002_18_applying_brings_a_node_back_to_the_declared_state() {
    let rig = hosts();
    let path = policy(&example("vault/policy.yaml"));
    enforce(&rig, &["vault-1"], &path);
    let other = "table ip other { chain c { type filter hook input priority 5; policy accept; tcp dport 4242 counter accept; }; }\n";
    rig.nft("vault-1", other);
    rig.nft("vault-1", "insert rule inet ringwall input tcp dport 9999 accept\ninsert rule inet ringwall g1_in tcp dport 9998 accept\n");
    rig.open(&["user -> vault-1: tcp/9999 tcp/9998"]);
    let foreign = || rig.host("vault-1").output("nft", &["--stateless", "list", "table", "ip", "other"], "").unwrap();
    let before = foreign();
    let ran = rig.ringwall("vault-1", &["apply", &path, "--values", &values(), "--no-confirm", "--learn", "0"]).done();
    for said in ["in chain `input` of our table is not ours and will be taken out", "the rules of g1 were changed by somebody"] {
        assert!(ran.err.contains(said), "{}", ran.err);
    }
    rig.shut(&["user -> vault-1: tcp/9999 tcp/9998"]);
    assert_eq!(foreign(), before);
    assert_eq!(rig.status("vault-1")["drift"], false);
}
