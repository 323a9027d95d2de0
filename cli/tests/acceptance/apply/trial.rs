//! The dead-man switch: what a trial decides, and how it ends.

use std::time::{Duration, Instant};

use ringwall_node::apply::enforced;

use super::{open_to_users, policy, small};
use crate::acceptance::rig::{Ran, Rig, SOON, Session, until};

fn trial_is_on(rig: &Rig) -> bool {
    let found = rig.netfilter("node", |netfilter| enforced(netfilter).unwrap());
    found.trial.is_some_and(|trial| trial.is_alive())
}

/// How `ringwall` sees the SSH connection that it runs in.
fn ssh_connection(session: &Session) -> String {
    let (client, server) = (session.client.local_addr().unwrap(), session.client.peer_addr().unwrap());
    format!("{} {} {} {}", client.ip(), client.port(), server.ip(), server.port())
}

#[test]
fn with_the_tool_killed_the_kernel_puts_the_old_rules_back() {
    let rig = small();
    rig.enforce(&["node"], &policy(&open_to_users("old", 80)), &[]);
    let mut allowed_before = rig.session("user", "node", 80);

    let window = Duration::from_secs(2);
    let path = rig.write("new.yaml", &policy(&open_to_users("new", 81)));
    let mut tool = rig.spawn("node", &["apply", &path, "--no-management", "--confirm", "2s"]);
    assert!(until(SOON, || trial_is_on(&rig)));
    let armed = Instant::now();
    tool.kill().unwrap();
    tool.wait().unwrap();

    rig.open(&["user -> node: tcp/81"]);
    rig.shut(&["user -> node: tcp/80"]);
    let mut allowed_by_trial = rig.session("user", "node", 81);
    let mut of_both = rig.session("user", "node", 81);
    allowed_by_trial.lives();
    of_both.lives();
    allowed_before.lives();

    assert!(until(SOON, || !trial_is_on(&rig)));
    let fell = armed.elapsed();
    assert!(fell < window + Duration::from_millis(500), "{fell:?}");
    assert!(fell > window - Duration::from_millis(500), "{fell:?}");
    rig.open(&["user -> node: tcp/80"]);
    rig.shut(&["user -> node: tcp/81"]);
    allowed_before.lives();
    allowed_by_trial.is_dead();
    of_both.is_dead();

    let status = rig.ringwall("node", &["status"]).done();
    assert!(status.out.starts_with("g1 is enforced"), "{}", status.out);
    assert!(status.out.contains("g2 was on trial and has fallen"), "{}", status.out);
    rig.ringwall("node", &["confirm"]).failed(1, &["g2 has fallen", "`ringwall status`"]);
    rig.open(&["user -> node: tcp/80"]);
    rig.shut(&["user -> node: tcp/81"]);
}

#[test]
fn the_first_trial_falls_back_to_no_enforcement() {
    let rig = small();
    let path = rig.write("policy.yaml", &policy(&open_to_users("web", 80)));
    let ran = rig.ringwall("node", &["apply", &path, "--no-management", "--confirm", "1s"]).done();
    assert!(ran.err.contains("g1 is on trial on node for 1 s; then nothing is enforced"), "{}", ran.err);
    rig.shut(&["user -> node: tcp/81"]);
    assert!(until(SOON, || !trial_is_on(&rig)));
    rig.open(&["user -> node: tcp/80 tcp/81", "node -> user: tcp/80"]);
    let status = rig.ringwall("node", &["status"]).failed(1, &[]);
    assert_eq!(status.out, "nothing is enforced\ng1 was on trial and has fallen\n");
}

#[test]
fn a_confirmed_trial_stays() {
    let rig = small();
    rig.enforce(&["node"], &policy(&open_to_users("old", 80)), &[]);
    let path = rig.write("new.yaml", &policy(&open_to_users("new", 81)));
    rig.ringwall("node", &["apply", &path, "--no-management", "--confirm", "1s"]).done();
    // One trial at a time.
    rig.ringwall("node", &["apply", &path, "--no-management"]).failed(1, &["g2 is on trial"]);
    let mut session = rig.session("user", "node", 81);
    rig.ringwall("node", &["confirm"]).done();
    // Longer than the window.
    std::thread::sleep(Duration::from_millis(1300));
    rig.open(&["user -> node: tcp/81"]);
    rig.shut(&["user -> node: tcp/80"]);
    session.lives();
    let status = rig.status("node");
    assert_eq!(status["generation"], "g2");
    assert_eq!(status["confirmed"], "g2");
    assert!(status["trial"].is_null());
    rig.ringwall("node", &["confirm"]).failed(1, &["nothing is on trial: g2 is enforced"]);
}

#[test]
fn a_trial_is_shown_with_what_comes_after_it() {
    let rig = small();
    rig.enforce(&["node"], &policy(&open_to_users("old", 80)), &[]);
    let path = rig.write("new.yaml", &policy(&open_to_users("new", 81)));
    rig.ringwall("node", &["apply", &path, "--no-management"]).done();
    let status = rig.status("node");
    assert_eq!(status["generation"], "g2");
    assert_eq!(status["trial"]["then"], "g1");
    let left = status["trial"]["left_seconds"].as_f64().unwrap();
    assert!((50.0..=60.0).contains(&left), "{left}");
    assert_eq!(status["confirmed"], "g1");
}

#[test]
fn rollback_ends_a_trial_and_cuts_what_only_it_allowed() {
    let rig = small();
    rig.enforce(&["node"], &policy(&open_to_users("old", 80)), &[]);
    let mut before = rig.session("user", "node", 80);
    let path = rig.write("new.yaml", &policy(&open_to_users("new", 81)));
    rig.ringwall("node", &["apply", &path, "--no-management"]).done();
    let mut of_trial = rig.session("user", "node", 81);
    rig.ringwall("node", &["rollback"]).done();
    rig.open(&["user -> node: tcp/80"]);
    rig.shut(&["user -> node: tcp/81"]);
    before.lives();
    of_trial.is_dead();
    assert_eq!(rig.status("node")["generation"], "g1");
}

#[test]
fn rollback_goes_back_to_the_generation_before() {
    let rig = small();
    rig.enforce(&["node"], &policy(&open_to_users("old", 80)), &[]);
    rig.enforce(&["node"], &policy(&open_to_users("new", 81)), &[]);
    rig.open(&["user -> node: tcp/81"]);
    rig.ringwall("node", &["rollback"]).done();
    rig.ringwall("node", &["confirm"]).done();
    rig.open(&["user -> node: tcp/80"]);
    rig.shut(&["user -> node: tcp/81"]);
    // Numbers only rise.
    assert_eq!(rig.status("node")["generation"], "g3");
    rig.ringwall("node", &["rollback", "--to", "g9"]).failed(3, &["no record of g9"]);
}

#[test]
fn over_ssh_only_a_connection_that_the_trial_accepted_confirms() {
    let rig = small();
    let management = "management: { from: admins, services: [ssh] }\n";
    let old = policy(&open_to_users("old", 80));
    rig.enforce(&["node"], &format!("{management}{old}"), &[]);
    let old_login = rig.session("admin", "node", 22);
    let new = policy(&open_to_users("new", 81));
    let path = rig.write("new.yaml", &format!("{management}{new}"));
    let apply = |session: &Session| {
        Ran::of(rig.command("node", &["apply", &path]).env("SSH_CONNECTION", ssh_connection(session)))
    };
    let confirm = |session: &Session| {
        let mut command = rig.command("node", &["confirm"]);
        Ran::of(command.env("SSH_CONNECTION", ssh_connection(session)))
    };
    apply(&old_login).done();
    confirm(&old_login).failed(1, &["older than g2", "log in anew"]);
    assert!(rig.status("node")["trial"].is_object());
    let new_login = rig.session("admin", "node", 22);
    confirm(&new_login).done();
    assert_eq!(rig.status("node")["confirmed"], "g2");
    let mut old_login = old_login;
    old_login.lives();
}

#[test]
fn confirming_cuts_what_the_new_rules_forbid() {
    for (on_tighten, dies) in [("cut", true), ("drain", false)] {
        let rig = small();
        rig.enforce(&["node"], &policy(&(open_to_users("web", 80) + &open_to_users("mail", 25))), &[]);
        let (mut web, mut mail) = (rig.session("user", "node", 80), rig.session("user", "node", 25));
        let new = format!("on_tighten: {on_tighten}\n{}", policy(&open_to_users("web", 80)));
        let path = rig.write("new.yaml", &new);
        rig.ringwall("node", &["apply", &path, "--no-management"]).done();
        // What the kernel can't undo waits for the confirmation.
        web.lives();
        mail.lives();
        let ran = rig.ringwall("node", &["confirm"]).done();
        web.lives();
        if dies {
            mail.is_dead();
            assert!(ran.err.contains("cut tcp 198.51.100.20"), "{}", ran.err);
        } else {
            mail.lives();
        }
        rig.shut(&["user -> node: tcp/25"]);
    }
}
