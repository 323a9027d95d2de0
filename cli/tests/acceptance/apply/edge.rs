//! What happens seldom: marks that come round, trials after trials, two commands at once, sudo.

use std::process::Stdio;

use super::{open_to_users, policy, small};
use crate::acceptance::rig::{Ran, Rig, SOON, Session, folder, until};

/// Says in the state folder that so many numbers were given out.
fn numbers_went_up_to(rig: &Rig, last: u32) {
    let edit = format!("sed -i 's/\"last\": [0-9]*/\"last\": {last}/' /var/lib/ringwall/state.json");
    rig.host("node").output("sh", &["-c", &edit], "").unwrap();
}

#[test]
fn sessions_live_on_when_marks_come_round() {
    let rig = small();
    let policy = policy(&open_to_users("web", 80));
    rig.enforce(&["node"], &policy, &[]);
    let mut oldest = rig.session("user", "node", 80);
    for before in [50, 160, 250, 300, 505] {
        numbers_went_up_to(&rig, before);
        rig.enforce(&["node"], &policy, &[]);
        let mut session = rig.session("user", "node", 80);
        for _ in 0..10 {
            rig.enforce(&["node"], &policy, &[]);
            session.lives();
            oldest.lives();
        }
    }
}

#[test]
fn a_session_lives_through_more_applies_than_there_are_marks() {
    let rig = small();
    let policy = policy(&open_to_users("web", 80));
    rig.enforce(&["node"], &policy, &[]);
    let mut session = rig.session("user", "node", 80);
    // Each step is fewer than a generation looks ahead, and all together go round.
    for last in [90, 150, 210, 254, 255, 300, 360, 400] {
        numbers_went_up_to(&rig, last);
        rig.enforce(&["node"], &policy, &[]);
        // The end that the rule is not about speaks first.
        std::mem::swap(&mut session.client, &mut session.server);
        session.lives();
        std::mem::swap(&mut session.client, &mut session.server);
    }
}

#[test]
fn a_generation_that_was_loaded_but_not_written_down_has_not_fallen() {
    let rig = small();
    let policy = policy(&open_to_users("web", 80));
    rig.enforce(&["node"], &policy, &[]);
    let path = rig.write("policy.yaml", &policy);
    let folder = folder();
    let nft = folder.join("nft");
    std::fs::write(&nft, "#!/bin/sh\n/usr/sbin/nft \"$@\" || exit\ncase $1 in --file) sleep 2;; esac\n").unwrap();
    std::fs::set_permissions(&nft, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = rig.command("node", &["apply", &path, "--no-management", "--no-confirm"]);
    command.env("PATH", format!("{}:/usr/bin:/bin", folder.display())).stderr(Stdio::null());
    let mut tool = command.spawn().unwrap();
    assert!(until(SOON, || rig.status("node")["generation"] == "g2"));
    tool.kill().unwrap();
    tool.wait().unwrap();
    assert_eq!(rig.status("node")["confirmed"], "g1");
    let mut session = rig.session("user", "node", 80);
    // Nobody comes between before nft has ended.
    let applied = || rig.ringwall("node", &["apply", &path, "--no-management", "--no-confirm"]);
    applied().failed(3, &["another ringwall command is changing this node"]);
    assert!(until(SOON, || applied().code == Some(0)));
    std::mem::swap(&mut session.client, &mut session.server);
    session.lives();
    assert_eq!(rig.status("node")["confirmed"], "g3");
}

#[test]
fn connections_of_a_fallen_trial_stay_dead_under_later_generations() {
    let rig = small();
    let old = open_to_users("old", 80);
    rig.enforce(&["node"], &policy(&old), &[]);
    let path = rig.write("new.yaml", &policy(&open_to_users("new", 81)));
    let mut of_trials = Vec::new();
    for _ in 0..2 {
        rig.ringwall("node", &["apply", &path, "--no-management"]).done();
        of_trials.push(rig.session("user", "node", 81));
        rig.ringwall("node", &["rollback"]).done();
    }
    rig.enforce(&["node"], &policy(&(old.clone() + &open_to_users("more", 82))), &[]);
    of_trials.iter_mut().for_each(Session::is_dead);
    // What is allowed after all is allowed, whoever accepted it first.
    let mut session = {
        rig.ringwall("node", &["apply", &path, "--no-management"]).done();
        let session = rig.session("user", "node", 81);
        rig.ringwall("node", &["rollback"]).done();
        session
    };
    rig.enforce(&["node"], &policy(&(old + &open_to_users("new", 81))), &[]);
    session.lives();
}

#[test]
fn two_commands_at_once_are_one_after_the_other() {
    let rig = small();
    let path = rig.write("policy.yaml", &policy(&open_to_users("web", 80)));
    let mut first = rig.spawn("node", &["apply", &path, "--no-management", "--learn", "2s"]);
    assert!(until(SOON, || rig.our_tables("node") == ["inet ringwall_learn"]));
    rig.ringwall("node", &["apply", &path, "--no-management"]).failed(3, &["another ringwall command is changing this node"]);
    // Looking is always allowed.
    rig.ringwall("node", &["status"]).failed(1, &[]);
    assert!(first.wait().unwrap().success());
    assert_eq!(rig.status("node")["generation"], "g1");
}

#[test]
fn confirm_killed_at_any_point_leaves_the_trial_or_the_confirmed_generation() {
    let rig = small();
    let files = [80, 81].map(|port| rig.write(&format!("{port}.yaml"), &policy(&open_to_users("web", port))));
    rig.enforce(&["node"], &policy(&open_to_users("web", 81)), &[]);
    let mut confirmed = 0;
    for turn in 0..12 {
        rig.ringwall("node", &["apply", &files[turn % 2], "--no-management"]).done();
        let trial = rig.status("node")["generation"].clone();
        let mut tool = rig.spawn("node", &["confirm"]);
        std::thread::sleep(std::time::Duration::from_millis(6 * turn as u64));
        tool.kill().unwrap();
        tool.wait().unwrap();
        let status = rig.status("node");
        assert_eq!(status["generation"], trial, "{status:#}");
        confirmed += usize::from(status["trial"].is_null());
        rig.open(&[&format!("user -> node: tcp/{}", 80 + turn % 2)]);
        // Whether it was confirmed in the kernel, on disk, in both or in none, confirming makes it good.
        assert!(until(SOON, || rig.ringwall("node", &["confirm"]).code != Some(3)));
        let status = rig.status("node");
        assert!(status["trial"].is_null(), "{status:#}");
        assert_eq!(status["confirmed"], trial);
        assert_eq!(status["drift"], false);
    }
    assert!(confirmed < 12, "no kill came in time");
}

/// sudo takes SSH_CONNECTION away; the shell that it was called from has it still.
#[test]
fn an_ssh_connection_is_known_behind_sudo() {
    let rig = small();
    let deny = "  - deny: admins -> node\n    services: [ssh]\n    id: no-ssh\n";
    let path = rig.write("policy.yaml", &policy(deny));
    let login = rig.session("admin", "node", 22);
    let (client, server) = (login.client.local_addr().unwrap(), login.client.peer_addr().unwrap());
    let behind_sudo = |connection: String| {
        let program = env!("CARGO_BIN_EXE_ringwall");
        let script = format!("env -u SSH_CONNECTION {program} apply {path} --no-management --no-confirm --learn 0; exit $?");
        let mut command = rig.host("node").command("sh");
        Ran::of(command.args(["-c", &script]).env("SSH_CONNECTION", connection))
    };
    behind_sudo(format!("{} {} {} {}", client.ip(), client.port(), server.ip(), server.port())).failed(1, &["would cut the management path"]);
    // A connection to another machine is no way in here.
    behind_sudo("198.51.100.9 51234 198.51.100.77 22".into()).done();
}

#[test]
fn a_node_in_audit_drops_nothing_and_counts_what_it_would() {
    let rig = small();
    let rules = open_to_users("web", 80) + "  - deny: users -> node\n    services: [telnet]\n    id: no-telnet\n";
    rig.enforce(&["node"], &format!("stage: audit\n{}", policy(&rules)), &[]);
    rig.open(&["user -> node: tcp/80 tcp/23 tcp/81", "node -> user: tcp/443"]);
    assert!(rig.packets("node", "in", "default") >= 2);
    assert!(rig.packets("node", "out", "default") >= 2);
    let status = rig.status("node");
    let telnet = status["rules"].as_array().unwrap().iter().find(|rule| rule["id"].as_str().unwrap().starts_with("no-telnet")).unwrap();
    assert!(telnet["packets"].as_u64().unwrap() >= 2, "{telnet}");
}

#[test]
fn a_rule_in_audit_decides_nothing() {
    let rig = small();
    let rules = "  - allow: users -> node\n    services: [http]\n    stage: audit\n    id: opens\n  - allow: users -> node\n    services: [tcp/81]\n  - deny: users -> node\n    services: [tcp/81]\n    stage: audit\n    id: shuts\n";
    rig.enforce(&["node"], &policy(rules), &[]);
    rig.shut(&["user -> node: tcp/80"]);
    rig.open(&["user -> node: tcp/81"]);
    assert!(rig.packets("node", "in", "opens_audit") >= 2);
    assert!(rig.packets("node", "in", "shuts_audit") >= 2);
}

#[test]
fn a_node_reaches_itself() {
    let rig = small();
    rig.enforce(&["node"], &policy(&open_to_users("web", 80)), &[]);
    let mut own = rig.session("node", "node", 4000);
    own.lives();
}

#[test]
fn a_dns_name_opens_what_it_was_answered_with() {
    let rig = small();
    let text = policy("  - allow: node -> updates\n    services: [https]\n  - allow: node -> resolver\n    services: [dns]\n")
        .replace("groups:\n", "groups:\n  updates: { names: [updates.example.net] }\n  resolver: { addresses: [203.0.113.53] }\n")
        .replace("198.51.100.0/24, ", "");
    let path = rig.write("policy.yaml", &text);
    let program = env!("CARGO_BIN_EXE_ringwall");
    let apply = |hosts: &str| {
        let hosts_file = folder().join("hosts");
        std::fs::write(&hosts_file, hosts).unwrap();
        let script = format!(
            "mount --bind {} /etc/hosts; exec {program} apply {path} --no-management --no-confirm --learn 0",
            hosts_file.display()
        );
        let mut command = rig.host("node").command("unshare");
        Ran::of(command.args(["--mount", "sh", "-c", &script]).stdin(Stdio::null()))
    };
    // One answer is an address of our own, which a name must not open.
    let ran = apply("198.51.100.20 updates.example.net\n192.0.2.77 updates.example.net\n").done();
    assert!(ran.err.contains("the answer 192.0.2.77 for `updates.example.net` is one of our own addresses"), "{}", ran.err);
    let mut rig2 = rig;
    rig2.place("user-v4", "user", &["198.51.100.20"]);
    rig2.place("admin-v4", "admin", &["198.51.100.9"]);
    rig2.open(&["node -> user-v4: tcp/443"]);
    rig2.shut(&["node -> admin-v4: tcp/443", "node -> user-v4: tcp/80"]);
    let status = rig2.status("node");
    assert_eq!(status["names"][0]["name"], "updates.example.net");
    assert_eq!(status["names"][0]["addresses"], serde_json::json!(["198.51.100.20"]));
    // At boot nobody can be asked: the answers come back with the rules.
    rig2.nft("node", "flush ruleset\n");
    rig2.ringwall("node", &["restore"]).done();
    rig2.open(&["node -> user-v4: tcp/443"]);
}

/// What names no connection might be the one that would be cut.
#[test]
fn an_ssh_connection_that_can_t_be_understood_is_refused() {
    let rig = small();
    let path = rig.write("policy.yaml", &policy(""));
    for nonsense in ["nonsense", "198.51.100.9 99999 192.0.2.1 22"] {
        let mut command = rig.host("node").command(env!("CARGO_BIN_EXE_ringwall"));
        command.args(["apply", &path, "--no-confirm", "--learn", "0"]).env("SSH_CONNECTION", nonsense);
        Ran::of(&mut command).failed(1, &["names no connection"]);
    }
    assert_eq!(rig.ringwall("node", &["status"]).code, Some(1));
}

/// Another machine's part of the policy would lock this one's operator out.
#[test]
fn another_machine_s_part_is_refused() {
    let rig = small();
    let path = rig.write("policy.yaml", &policy(""));
    let ran = rig.ringwall("user", &["apply", &path, "--node", "node", "--no-confirm", "--learn", "0"]);
    ran.failed(1, &["none of the addresses of `node`"]);
    assert_eq!(rig.ringwall("user", &["status"]).code, Some(1));
}
