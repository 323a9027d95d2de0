//! What must be refused before the kernel is touched, and how it is said.

use std::os::unix::fs::PermissionsExt;

use super::{open_to_users, policy, small};
use crate::acceptance::rig::{Ran, Rig, folder};

/// A rig whose node enforces something, and what its kernel holds.
fn enforced() -> (Rig, String) {
    let rig = small();
    rig.enforce(&["node"], &policy(&open_to_users("old", 80)), &[]);
    let rules = rig.rules("node");
    (rig, rules)
}

#[track_caller]
fn unchanged(rig: &Rig, rules: &str) {
    assert_eq!(rig.rules("node"), rules);
    assert_eq!(rig.status("node")["generation"], "g1");
    rig.open(&["user -> node: tcp/80"]);
}

const ALL: &str = "  - allow: users, admins -> node\n    services: [any]\n    id: all\n";

#[test]
fn a_denied_management_path_is_refused_with_the_rule() {
    let (rig, rules) = enforced();
    let deny = "  - deny: admins -> node\n    services: [ssh]\n    id: no-ssh\n";
    let path = rig.write("new.yaml", &policy(&(ALL.to_owned() + deny)));
    for way in ["198.51.100.9", "198.51.100.9:22", "2001:db8:2::9", "[2001:db8:2::9]:22"] {
        rig.ringwall("node", &["apply", &path, "--management", way])
            .failed(1, &["would cut the management path", "deny admins -> node: ssh", "new.yaml:11", "nothing was changed"]);
        unchanged(&rig, &rules);
    }
    // The connection that the command runs in is a way in too.
    let mut command = rig.command("node", &["apply", &path]);
    Ran::of(command.env("SSH_CONNECTION", "198.51.100.9 51234 192.0.2.10 22"))
        .failed(1, &["would cut the management path tcp 198.51.100.9:51234", "deny admins -> node: ssh"]);
    unchanged(&rig, &rules);
    // Another port of the same policy is open.
    rig.ringwall("node", &["apply", &path, "--management", "198.51.100.9:2222"]).done();
}

#[test]
fn a_management_path_that_no_rule_allows_is_refused() {
    let (rig, rules) = enforced();
    let path = rig.write("new.yaml", &policy(&open_to_users("web", 443)));
    rig.ringwall("node", &["apply", &path, "--management", "198.51.100.9"]).failed(1, &["no rule allows it"]);
    // Nor is a rule that may not match a way in.
    let expired = "  - allow: admins -> node\n    services: [ssh]\n    expires: 2020-01-01\n";
    let audited = "  - allow: admins -> node\n    services: [ssh]\n    stage: audit\n";
    for rule in [expired, audited] {
        let path = rig.write("new.yaml", &policy(rule));
        rig.ringwall("node", &["apply", &path, "--management", "198.51.100.9"]).failed(1, &["no rule allows it"]);
    }
    unchanged(&rig, &rules);
}

#[test]
fn where_no_management_path_is_known_one_is_demanded() {
    let (rig, rules) = enforced();
    let path = rig.write("new.yaml", &policy(ALL));
    rig.ringwall("node", &["apply", &path]).failed(1, &["no management path is known", "--management", "--no-management"]);
    unchanged(&rig, &rules);
}

#[test]
fn mistakes_in_the_policy_are_all_named_and_nothing_is_applied() {
    let (rig, rules) = enforced();
    let cases: &[(&str, &[&str])] = &[
        ("  - allow: users -> node\n    services: [htps]\n", &["RW0202", "htps"]),
        ("  - allow: user -> node\n    services: [https]\n", &["RW0201", "`users`"]),
        ("  - allow: users -> node\n    service: [https]\n", &["RW0103", "service"]),
        ("  - allow: users -> node\n    services: [tcp/70000]\n", &["70000"]),
        ("  - allow: users -> node\n    services: [tcp/90-80]\n", &["90-80"]),
        ("  - allow: users -> node\n    services: [tpc/80]\n", &["tpc"]),
        ("  - allow: users -> node\n    services: [icmp/80-90]\n", &["icmp"]),
        ("  - allow: users -> node\n    services: []\n", &["without services"]),
        ("  - allow: partners -> node\n    services: [https]\n", &["partners"]),
    ];
    for (rule, words) in cases {
        let path = rig.write("new.yaml", &policy(rule));
        rig.ringwall("node", &["apply", &path, "--no-management"]).failed(1, words).failed(1, &["nothing was changed"]);
    }
    unchanged(&rig, &rules);
    let host_bits = policy(&open_to_users("web", 80)).replace("users: { addresses: [198.51.100.20,", "users: { addresses: [198.51.100.20/24,");
    let path = rig.write("new.yaml", &host_bits);
    rig.ringwall("node", &["apply", &path, "--no-management"]).failed(1, &["RW0206", "198.51.100.0/24"]);
    rig.ringwall("node", &["apply", "/no/such/file.yaml", "--no-management"]).failed(3, &["/no/such/file.yaml"]);
    unchanged(&rig, &rules);
}

#[test]
fn an_unbound_value_is_refused_and_a_bound_one_opens_what_it_says() {
    let (rig, rules) = enforced();
    let text = policy("  - allow: partners -> node\n    services: [https]\n")
        .replace("groups:\n", "groups:\n  partners: { addresses: $PARTNERS }\n");
    let path = rig.write("new.yaml", &text);
    let apply = ["apply", &path, "--no-management", "--no-confirm"];
    rig.ringwall("node", &apply).failed(1, &["$PARTNERS", "--set PARTNERS="]);
    rig.ringwall("node", &[&apply[..], &["--set", "PARTNERS="]].concat()).failed(1, &["PARTNERS"]);
    rig.ringwall("node", &[&apply[..], &["--set", "PARTNERS=198.51.100.0/33"]].concat()).failed(1, &["198.51.100.0/33"]);
    unchanged(&rig, &rules);
    // `--set` over the environment over the file.
    let values = rig.write("values.yaml", "PARTNERS: [198.51.100.99]\n");
    let mut command = rig.command("node", &[&apply[..], &["--values", &values]].concat());
    Ran::of(command.env("RINGWALL_VALUE_PARTNERS", "198.51.100.20, 2001:db8:2::20")).done();
    rig.open(&["user -> node: tcp/443"]);
    rig.shut(&["admin -> node: tcp/443"]);
}

#[test]
fn a_machine_without_nft_is_told_so_in_one_sentence() {
    let (rig, rules) = enforced();
    let path = rig.write("new.yaml", &policy(ALL));
    let program = env!("CARGO_BIN_EXE_ringwall");
    let script = format!("for nft in /usr/sbin/nft /sbin/nft; do mount --bind /dev/null $nft; done; PATH=/nowhere exec {program} \"$@\"");
    let without = |arguments: &[&str]| {
        let mut command = rig.host("node").command("unshare");
        Ran::of(command.args(["--mount", "sh", "-c", &script, "sh"]).args(arguments))
    };
    for arguments in [&["apply", &path, "--no-management"][..], &["confirm"], &["rollback"], &["restore"], &["remove", "--yes"]] {
        let ran = without(arguments).failed(3, &["nft", "install the package nftables"]);
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    }
    unchanged(&rig, &rules);
}

#[test]
fn an_nft_that_is_too_old_is_refused() {
    let (rig, rules) = enforced();
    let path = rig.write("new.yaml", &policy(ALL));
    let nft = fake_nft("echo 'nftables v0.9.8 (E.D.S.)'");
    let mut command = rig.command("node", &["apply", &path, "--no-management"]);
    let ran = Ran::of(command.env("PATH", nft)).failed(3, &["nft 0.9.8 is too old", "1.0.1"]);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    unchanged(&rig, &rules);
}

#[test]
fn a_kernel_that_lacks_a_feature_is_named() {
    let (rig, rules) = enforced();
    let path = rig.write("new.yaml", &policy(ALL));
    let refuse = "case $1 in --version) exec /usr/sbin/nft --version;; esac\n\
        text=$(cat); line=$(echo \"$text\" | grep -n 'ct mark set' | head -n 1 | cut -d: -f1)\n\
        echo \"/dev/stdin:$line:3-5: Error: Could not process rule: Operation not supported\" >&2; exit 1";
    let mut command = rig.command("node", &["apply", &path, "--no-management"]);
    Ran::of(command.env("PATH", format!("{}:/usr/bin:/bin", fake_nft(refuse)))).failed(3, &["the kernel does not support"]);
    unchanged(&rig, &rules);
}

/// A folder with an `nft` of these shell commands.
fn fake_nft(script: &str) -> String {
    let folder = folder();
    let path = folder.join("nft");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder.to_str().unwrap().to_owned()
}

#[test]
fn without_permission_nothing_is_changed_and_the_sentence_says_what_to_do() {
    let (rig, rules) = enforced();
    let path = rig.write("new.yaml", &policy(ALL));
    let program = env!("CARGO_BIN_EXE_ringwall");
    for arguments in [&["apply", &path, "--no-management"][..], &["remove", "--yes"], &["restore"], &["status"]] {
        let mut command = rig.host("node").command("setpriv");
        command.args(["--bounding-set=-net_admin", "--inh-caps=-net_admin", program]).args(arguments);
        let ran = Ran::of(&mut command).failed(3, &["run as root"]);
        assert_eq!(ran.err.lines().count(), 1, "{arguments:?}: {}", ran.err);
    }
    unchanged(&rig, &rules);
}

#[test]
fn a_text_that_the_kernel_refuses_leaves_the_old_rules() {
    let (rig, rules) = enforced();
    let path = rig.write("new.yaml", &policy(ALL));
    // The kernel passes the check and refuses the load.
    let refuse = "case $1 in --file) exec /usr/sbin/nft -f /dev/stdin <<END\nadd table inet broken\nadd rule inet broken nowhere accept\nEND\n;; esac\nexec /usr/sbin/nft \"$@\"";
    let mut command = rig.command("node", &["apply", &path, "--no-management"]);
    Ran::of(command.env("PATH", format!("{}:/usr/bin:/bin", fake_nft(refuse)))).failed(1, &["nft refused the text"]);
    unchanged(&rig, &rules);
    // The number is not given out again.
    rig.ringwall("node", &["apply", &path, "--no-management", "--no-confirm"]).done();
    assert_eq!(rig.status("node")["generation"], "g3");
}

#[test]
fn the_wrong_machine_is_noticed() {
    let (rig, rules) = enforced();
    let text = policy(ALL).replace("  node:", "  other:").replace("-> node", "-> other").replace("2.10", "2.77").replace("::10", "::77");
    let path = rig.write("new.yaml", &text);
    rig.ringwall("node", &["apply", &path, "--no-management"]).failed(1, &["no node of the policy has an address of this machine"]);
    rig.ringwall("node", &["apply", &path, "--no-management", "--node", "thing"]).failed(1, &["no node `thing`", "its nodes are other"]);
    unchanged(&rig, &rules);
}

#[test]
fn wrong_usage_is_exit_code_two() {
    let rig = small();
    for arguments in [
        &["apply"][..],
        &["apply", "x.yaml", "--confirm", "soon"],
        &["apply", "x.yaml", "--management", "nobody"],
        &["rollback", "--to", "41"],
        &["remove"],
        &["no-such-command"],
    ] {
        let ran = rig.ringwall("node", arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}: {}", ran.err);
    }
}

#[test]
fn on_a_node_of_a_fleet_the_controller_says_what_is_enforced() {
    let (rig, rules) = enforced();
    let path = rig.write("new.yaml", &policy(&open_to_users("new", 81)));
    rig.host("node").output("sh", &["-c", "mkdir /var/lib/ringwall/identity && touch /var/lib/ringwall/identity/certificate.pem"], "").unwrap();
    for command in [vec!["apply", &path, "--no-management"], vec!["confirm"], vec!["rollback"], vec!["remove", "--yes"]] {
        rig.ringwall("node", &command).failed(1, &["is a node of a fleet", "ringwall revision commit", "ringwall-agent forget"]);
        assert_eq!(rig.rules("node"), rules, "{command:?}");
    }
    // What changes nothing works as before.
    unchanged(&rig, &rules);
}
