//! Live connections: the first apply, later ones, and how long they may be idle.

use std::time::Duration;

use super::{open_to_users, policy, small};
use crate::acceptance::rig::{SOON, until};

const LONG: &str = "  - allow: users -> node\n    services: [mqtt]\n    session_timeout: 14400s\n    id: devices\n";

/// Default and session timeout stand as far apart as two seconds and four hours.
#[test]
fn an_idle_session_keeps_its_entry_for_its_session_timeout_also_after_ten_applies() {
    let rig = small();
    rig.host("node").sysctl("net.netfilter.nf_conntrack_tcp_timeout_established", "2").unwrap();
    let policy = policy(&(LONG.to_owned() + &open_to_users("web", 80)));
    rig.enforce(&["node"], &policy, &[]);
    let (mut mqtt, mut web) = (rig.session("user", "node", 1883), rig.session("user", "node", 80));
    mqtt.lives();
    web.lives();

    let timeout = rig.tracked("node", &mqtt.client).unwrap().timeout.unwrap();
    assert!((14_390..=14_400).contains(&timeout.as_secs()), "{timeout:?}");
    let default = rig.tracked("node", &web.client).unwrap().timeout.unwrap();
    assert!(default.as_secs() <= 2, "{default:?}");
    assert!(until(SOON, || rig.tracked("node", &web.client).is_none()), "the default is not in force");
    assert!(rig.tracked("node", &mqtt.client).is_some());

    for _ in 0..10 {
        rig.enforce(&["node"], &policy, &[]);
    }
    let connection = rig.tracked("node", &mqtt.client).unwrap();
    assert!(connection.timeout.unwrap() > Duration::from_secs(14_000), "{connection:?}");
    mqtt.lives();
    let timeout = rig.tracked("node", &mqtt.client).unwrap().timeout.unwrap();
    assert!((14_390..=14_400).contains(&timeout.as_secs()), "{timeout:?}");
}

#[test]
fn an_idle_session_ends_with_its_session_timeout() {
    let rig = small();
    let short = LONG.replace("14400s", "1s");
    rig.enforce(&["node"], &policy(&(short + &open_to_users("web", 80))), &[]);
    let (mut mqtt, mut web) = (rig.session("user", "node", 1883), rig.session("user", "node", 80));
    mqtt.lives();
    web.lives();
    assert!(until(SOON, || rig.tracked("node", &mqtt.client).is_none()));
    // The kernel's own default, five days, holds for the other.
    assert!(rig.tracked("node", &web.client).unwrap().timeout.unwrap() > Duration::from_secs(86_400));
}

#[test]
fn a_changed_session_timeout_holds_for_new_sessions_and_leaves_old_ones_be() {
    let rig = small();
    rig.enforce(&["node"], &policy(LONG), &[]);
    let mut old = rig.session("user", "node", 1883);
    rig.enforce(&["node"], &policy(&LONG.replace("14400s", "600s")), &[]);
    let mut new = rig.session("user", "node", 1883);
    old.lives();
    new.lives();
    let seconds = |session: &crate::acceptance::rig::Session| rig.tracked("node", &session.client).unwrap().timeout.unwrap().as_secs();
    assert!((590..=600).contains(&seconds(&new)), "{}", seconds(&new));
    assert!((14_390..=14_400).contains(&seconds(&old)), "{}", seconds(&old));
}

#[test]
fn sessions_from_before_the_first_apply_live_on() {
    let rig = small();
    // Nothing tracks yet: no table, so no connection tracking either.
    let (mut incoming, mut outgoing) = (rig.session("user", "node", 80), rig.session("node", "user", 443));
    let mut forbidden = rig.session("user", "node", 25);
    for session in [&mut incoming, &mut outgoing, &mut forbidden] {
        session.lives();
        assert!(rig.tracked("node", &session.client).is_none());
    }
    let out = "  - allow: node -> users\n    services: [https]\n";
    let path = rig.write("policy.yaml", &policy(&(open_to_users("web", 80) + out)));
    // Live connections speak while they are learnt; idle ones are picked up by their next packet.
    let mut tool = rig.spawn("node", &["apply", &path, "--no-management", "--confirm", "60s", "--learn", "1s"]);
    assert!(until(SOON, || rig.our_tables("node") == ["inet ringwall_learn"]));
    incoming.lives();
    outgoing.lives();
    forbidden.lives();
    assert!(rig.tracked("node", &incoming.client).is_some());
    assert!(tool.wait().unwrap().success());
    incoming.lives();
    outgoing.lives();
    rig.ringwall("node", &["confirm"]).done();
    incoming.lives();
    outgoing.lives();
    forbidden.is_dead();
    assert_eq!(rig.our_tables("node"), ["inet ringwall_blocks", "inet ringwall"]);
    rig.shut(&["user -> node: tcp/443 tcp/25", "node -> user: tcp/80"]);
}

#[test]
fn the_first_apply_learns_by_itself_where_there_are_live_connections() {
    let rig = small();
    let path = rig.write("policy.yaml", &policy(&open_to_users("web", 80)));
    let mut session = rig.session("user", "node", 80);
    let mut tool = rig.spawn("node", &["apply", &path, "--no-management"]);
    assert!(until(SOON, || rig.our_tables("node") == ["inet ringwall_learn"]));
    session.lives();
    tool.kill().unwrap();
    tool.wait().unwrap();
    // Killed while it learns, it leaves nothing that filters.
    rig.open(&["user -> node: tcp/81"]);
    drop(session);
}

#[test]
fn ten_applies_carry_a_session_that_speaks_all_the_time() {
    let rig = small();
    let policy = policy(&open_to_users("web", 80));
    rig.enforce(&["node"], &policy, &[]);
    let mut session = rig.session("user", "node", 80);
    for _ in 0..10 {
        rig.enforce(&["node"], &policy, &[]);
        session.lives();
    }
    assert_eq!(rig.status("node")["generation"], "g11");
}
