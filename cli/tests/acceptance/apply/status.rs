//! `status`, `remove`, drift, and other programs' tables.

use super::{open_to_users, policy, small};
use crate::acceptance::rig::Rig;

const FOREIGN: &str = "\
table ip other {
	set friends {
		type ipv4_addr
		elements = { 198.51.100.20 }
	}
	chain incoming {
		type filter hook input priority 5; policy drop;
		ip saddr @friends accept
	}
}
table inet third {
	chain passing {
		type filter hook forward priority -200; policy accept;
	}
	chain nat {
		type nat hook postrouting priority 100; policy accept;
	}
}
";

fn foreign(rig: &Rig) -> String {
    let list = |table: [&str; 2]| rig.host("node").output("nft", &["list", "table", table[0], table[1]], "").unwrap();
    list(["ip", "other"]) + &list(["inet", "third"])
}

#[test]
fn other_programs_chains_are_named_and_left_alone() {
    let mut rig = small();
    rig.nft("node", FOREIGN);
    let before = foreign(&rig);
    let named = "table ip other also filters: chain incoming at input priority 5, policy drop";
    let path = rig.write("policy.yaml", &policy("  - allow: users, admins -> node\n    services: [http]\n"));
    let ran = rig.ringwall("node", &["apply", &path, "--no-management", "--no-confirm"]).done();
    assert!(ran.err.contains(named), "{}", ran.err);
    let status = rig.ringwall("node", &["status"]).done();
    assert!(status.out.contains(named), "{}", status.out);
    assert!(status.out.contains("table inet third also filters: chain passing at forward priority -200, policy accept"), "{}", status.out);
    let chains = &rig.status("node")["foreign_chains"];
    assert_eq!(
        *chains,
        serde_json::json!([
            { "table": "ip other", "chain": "incoming", "hook": "input", "priority": 5, "policy": "drop" },
            { "table": "inet third", "chain": "passing", "hook": "forward", "priority": -200, "policy": "accept" },
        ])
    );
    // What of it they would drop is said at once, by rule, with a packet; and of nothing else.
    let dropped = "allowed by the policy, but dropped by table ip other, the policy of chain incoming at input";
    for text in [&ran.err, &status.out] {
        assert!(text.contains(dropped) && text.contains("admins -> node  80/tcp (http) (IPv4 only)"), "{text}");
        assert!(!text.contains("users -> node  80/tcp"), "{text}");
        assert!(text.contains("such as tcp 198.51.100.9:50000 -> 192.0.2.10:80"), "{text}");
    }
    let told = &rig.status("node")["dropped_by_others"];
    assert_eq!(told.as_array().map(Vec::len), Some(1), "{told}");
    assert_eq!((&told[0]["certain"], &told[0]["hook"]), (&serde_json::json!(true), &serde_json::json!("input")), "{told}");
    // An accept of ours is not theirs.
    rig.place("node-v4", "node", &["192.0.2.10"]);
    rig.open(&["user -> node: tcp/80"]);
    rig.shut(&["admin -> node-v4: tcp/80"]);

    assert_eq!(foreign(&rig), before);
    rig.ringwall("node", &["remove", "--yes"]).done();
    assert_eq!(foreign(&rig), before);
    let tables = rig.host("node").output("nft", &["list", "tables"], "").unwrap();
    assert_eq!(tables, "table ip other\ntable inet third\n");
}

#[test]
fn remove_takes_out_our_tables_whether_they_are_there_or_not() {
    let rig = small();
    rig.ringwall("node", &["remove", "--yes"]).done();
    rig.enforce(&["node"], &policy(&open_to_users("web", 80)), &[]);
    rig.shut(&["user -> node: tcp/81"]);
    let mut session = rig.session("user", "node", 80);
    rig.ringwall("node", &["remove"]).failed(2, &["--yes"]);
    rig.shut(&["user -> node: tcp/81"]);
    rig.ringwall("node", &["remove", "--yes"]).done();
    session.lives();
    rig.open(&["user -> node: tcp/81", "node -> user: tcp/80"]);
    assert_eq!(rig.host("node").output("nft", &["list", "ruleset"], "").unwrap(), "");
    // Nothing comes back at boot, and numbers go on from where they were.
    rig.ringwall("node", &["restore"]).done();
    assert_eq!(rig.our_tables("node"), Vec::<String>::new());
    rig.enforce(&["node"], &policy(&open_to_users("web", 80)), &[]);
    assert_eq!(rig.status("node")["generation"], "g2");
}

#[test]
fn a_foreign_change_is_drift_until_the_policy_is_applied_again() {
    let changes = [
        "add rule inet ringwall input tcp dport 4444 accept",
        "insert rule inet ringwall input tcp dport 4444 accept",
        "insert rule inet ringwall g1_in tcp dport 4444 accept",
        "insert rule inet ringwall g1_in_r_web drop",
        "flush chain inet ringwall g1_in_default",
        "flush chain inet ringwall forward",
        "delete table inet ringwall_blocks",
        "flush chain inet ringwall_blocks prerouting",
        "insert rule inet ringwall_blocks prerouting accept",
        "add chain inet ringwall more { type filter hook input priority -20; }",
    ];
    let rig = small();
    let policy = policy(&open_to_users("web", 80));
    rig.nft("node", FOREIGN);
    let others = foreign(&rig);
    for (number, change) in changes.iter().enumerate() {
        rig.enforce(&["node"], &policy, &[]);
        let generation = format!("g{}", number + 1);
        assert_eq!(rig.status("node")["drift"], false);
        rig.nft("node", &format!("{}\n", change.replace("g1_", &format!("{generation}_"))));
        let status = rig.ringwall("node", &["status"]).failed(1, &[]);
        assert!(status.out.contains("drift: our table is not as it was loaded"), "{change}: {}", status.out);
        assert_eq!(rig.status("node")["drift"], true, "{change}");
    }
    let path = rig.write("policy.yaml", &policy);
    // What goes is said first.
    let ran = rig.ringwall("node", &["apply", &path, "--no-management"]).done();
    assert!(ran.err.contains("chain `more` of our table is not ours and will be taken out"), "{}", ran.err);
    assert_eq!(rig.status("node")["drift"], false);
    rig.ringwall("node", &["confirm"]).done();
    assert_eq!(rig.status("node")["drift"], false);
    rig.open(&["user -> node: tcp/80"]);
    rig.shut(&["user -> node: tcp/4444"]);
    assert_eq!(foreign(&rig), others);
}

#[test]
fn a_removed_table_is_seen() {
    let rig = small();
    rig.enforce(&["node"], &policy(&open_to_users("web", 80)), &[]);
    rig.nft("node", "flush ruleset\n");
    let status = rig.ringwall("node", &["status"]).failed(1, &[]);
    assert_eq!(status.out, "nothing is enforced\ng1 is confirmed but not loaded: `ringwall restore` loads it\n");
    rig.ringwall("node", &["restore"]).done();
    rig.shut(&["user -> node: tcp/81"]);
    rig.ringwall("node", &["status"]).done();
}

#[test]
fn status_counts_new_flows_by_rule_with_their_place() {
    let rig = small();
    rig.enforce(&["node"], &policy(&open_to_users("web", 80)), &[]);
    for _ in 0..3 {
        rig.session("user", "node", 80).lives();
    }
    rig.shut(&["user -> node: tcp/81"]);
    let status = rig.status("node");
    assert_eq!(status["schema"], "ringwall.status/1");
    assert_eq!(status["node"], "node");
    let rule = status["rules"].as_array().unwrap().iter().find(|rule| rule["id"] == "web").unwrap().clone();
    assert_eq!(rule["packets"], 3);
    assert_eq!(rule["path"], "in");
    assert_eq!(rule["meaning"], "allow users -> node: tcp/80");
    assert!(rule["place"].as_str().unwrap().ends_with("policy.yaml:8"), "{rule}");
    assert!(rig.packets("node", "in", "default") >= 2);
}

#[test]
fn status_before_anything_says_so() {
    let rig = small();
    let status = rig.ringwall("node", &["status"]).failed(1, &[]);
    assert_eq!(status.out, "nothing is enforced\n");
    assert!(rig.status("node")["generation"].is_null());
}
