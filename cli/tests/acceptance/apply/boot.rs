//! A machine that starts again: only the state folder is left of what it was.

use std::path::PathBuf;

use ringwall_node::kernel::{Digest, TableId};

use super::{open_to_users, policy, small};
use crate::acceptance::rig::{Ran, Rig, folder};

/// A machine and, after [`Machine::reboot`], the same one with an empty kernel.
struct Machine {
    rig: Rig,
    state: PathBuf,
}

impl Machine {
    fn start() -> Self {
        Self { rig: small(), state: folder() }
    }

    fn ringwall(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.rig.command("node", arguments).env("RINGWALL_STATE_DIR", &self.state))
    }

    fn apply(&self, policy: &str, more: &[&str]) -> Ran {
        let path = self.rig.write("policy.yaml", policy);
        self.ringwall(&[&["apply", &path, "--no-management"], more].concat()).done()
    }

    fn reboot(self) -> Self {
        Self { rig: small(), state: self.state }
    }

    /// Of the chains, sets and maps of a generation.
    fn digest(&self, generation: &str) -> Option<Digest> {
        let ours = |name: &str| name.starts_with(&format!("{generation}_"));
        self.rig.netfilter("node", |netfilter| netfilter.digest(&TableId::inet("ringwall"), ours).unwrap())
    }
}

#[test]
fn the_confirmed_generation_comes_back_with_the_same_digest() {
    let machine = Machine::start();
    let rules = "  - allow: users -> node\n    services: [mqtt, udp/53]\n    session_timeout: 14400s\n    id: devices\n";
    machine.apply(&policy(&open_to_users("old", 80)), &["--no-confirm"]);
    machine.apply(&policy(rules), &[]);
    machine.ringwall(&["confirm"]).done();
    let before = machine.digest("g2");
    assert!(before.is_some());

    let machine = machine.reboot();
    let status = machine.ringwall(&["status"]).failed(1, &[]);
    assert_eq!(status.out, "nothing is enforced\ng2 is confirmed but not loaded: `ringwall restore` loads it\n");
    let ran = machine.ringwall(&["restore"]).done();
    assert_eq!(ran.err, "g2 is enforced\n");
    assert_eq!(machine.digest("g2"), before);
    let status = machine.ringwall(&["status", "-o", "json"]).done().json();
    assert_eq!(status["generation"], "g2");
    assert_eq!(status["drift"], false);
    machine.rig.open(&["user -> node: tcp/1883 udp/53"]);
    machine.rig.shut(&["user -> node: tcp/80", "node -> user: tcp/80"]);
    // Again, where everything is there already.
    machine.ringwall(&["restore"]).done();
    assert_eq!(machine.digest("g2"), before);
}

#[test]
fn a_trial_does_not_survive_a_reboot() {
    let machine = Machine::start();
    machine.apply(&policy(&open_to_users("old", 80)), &["--no-confirm"]);
    machine.apply(&policy(&open_to_users("new", 81)), &[]);
    machine.rig.open(&["user -> node: tcp/81"]);
    let machine = machine.reboot();
    machine.ringwall(&["restore"]).done();
    machine.rig.open(&["user -> node: tcp/80"]);
    machine.rig.shut(&["user -> node: tcp/81"]);
    // The number of the lost trial is not given out again.
    machine.apply(&policy(&open_to_users("new", 81)), &["--no-confirm"]);
    assert_eq!(machine.ringwall(&["status", "-o", "json"]).json()["generation"], "g3");
}

#[test]
fn with_nothing_confirmed_nothing_is_loaded() {
    let machine = Machine::start();
    machine.apply(&policy(&open_to_users("new", 81)), &[]);
    let machine = machine.reboot();
    let ran = machine.ringwall(&["restore"]).done();
    assert_eq!(ran.err, "nothing was confirmed here, so nothing is enforced\n");
    machine.rig.open(&["user -> node: tcp/80"]);
}

#[test]
fn where_the_confirmed_rules_can_not_be_loaded_the_floor_alone_is_enforced() {
    for broken in ["table inet ringwall { nonsense", "", "add rule inet ringwall nowhere accept\n"] {
        let machine = Machine::start();
        let management = "management: { from: admins, services: [ssh] }\n";
        machine.apply(&format!("{management}{}", policy(&open_to_users("web", 80))), &["--no-confirm"]);
        std::fs::write(machine.state.join("g1/boot.nft"), broken).unwrap();
        let machine = machine.reboot();
        machine.ringwall(&["restore"]).failed(1, &["the floor alone is enforced", "apply the policy again"]);
        machine.rig.open(&["admin -> node: tcp/22"]);
        machine.rig.shut(&["user -> node: tcp/22 tcp/80", "admin -> node: tcp/80", "node -> user: tcp/80"]);
        // It says so, and the policy can be applied again.
        let status = machine.ringwall(&["status"]).failed(1, &[]);
        assert!(status.out.contains("drift"), "{}", status.out);
        machine.apply(&format!("{management}{}", policy(&open_to_users("web", 80))), &["--no-confirm"]);
        machine.rig.open(&["user -> node: tcp/80"]);
    }
}

#[test]
fn without_its_boot_text_or_its_record_a_machine_is_not_open() {
    for (lost, admin_gets_in) in [("boot.nft", true), ("record.json", true), ("", false)] {
        let machine = Machine::start();
        let management = "management: { from: admins, services: [ssh] }\n";
        machine.apply(&format!("{management}{}", policy(&open_to_users("web", 80))), &["--no-confirm"]);
        let generation = machine.state.join("g1");
        if lost.is_empty() {
            std::fs::remove_dir_all(generation).unwrap();
        } else {
            std::fs::remove_file(generation.join(lost)).unwrap();
        }
        let machine = machine.reboot();
        machine.ringwall(&["restore"]);
        machine.rig.shut(&["user -> node: tcp/22 tcp/81", "node -> user: tcp/80"]);
        if admin_gets_in {
            machine.rig.open(&["admin -> node: tcp/22"]);
        }
    }
}

#[test]
fn a_damaged_state_file_is_an_error_that_changes_nothing() {
    let machine = Machine::start();
    machine.apply(&policy(&open_to_users("web", 80)), &["--no-confirm"]);
    std::fs::write(machine.state.join("state.json"), "{ half").unwrap();
    let rules = machine.rig.rules("node");
    let path = machine.rig.write("policy.yaml", &policy(&open_to_users("web", 81)));
    for arguments in [&["apply", &path, "--no-management"][..], &["restore"], &["confirm"], &["status"]] {
        machine.ringwall(arguments).failed(3, &["state.json is damaged"]);
    }
    assert_eq!(machine.rig.rules("node"), rules);
}

#[test]
fn with_its_state_file_damaged_a_machine_comes_up_with_the_floor_alone() {
    let machine = Machine::start();
    let management = "management: { from: admins, services: [ssh] }\n";
    machine.apply(&format!("{management}{}", policy(&open_to_users("web", 80))), &["--no-confirm"]);
    std::fs::write(machine.state.join("state.json"), "{ half").unwrap();
    let machine = machine.reboot();
    machine.ringwall(&["restore"]).failed(3, &["the floor alone is enforced", "state.json is damaged"]);
    machine.rig.open(&["admin -> node: tcp/22"]);
    machine.rig.shut(&["user -> node: tcp/22 tcp/80", "node -> user: tcp/80"]);
}

#[test]
fn with_its_state_file_gone_a_machine_comes_up_with_the_floor_alone() {
    let machine = Machine::start();
    let management = "management: { from: admins, services: [ssh] }\n";
    machine.apply(&format!("{management}{}", policy(&open_to_users("web", 80))), &["--no-confirm"]);
    std::fs::remove_file(machine.state.join("state.json")).unwrap();
    let machine = machine.reboot();
    machine.ringwall(&["restore"]).failed(1, &["the floor alone is enforced", "state.json is gone"]);
    machine.rig.open(&["admin -> node: tcp/22"]);
    machine.rig.shut(&["user -> node: tcp/22 tcp/80", "node -> user: tcp/80"]);
}

#[test]
fn a_trial_falls_back_to_what_was_confirmed_though_somebody_took_it_out() {
    let machine = Machine::start();
    machine.apply(&policy(&open_to_users("web", 80)), &["--no-confirm"]);
    let node = machine.rig.host("node");
    node.output("nft", &["flush", "ruleset"], "").unwrap();
    machine.rig.open(&["user -> node: tcp/81"]);
    machine.apply(&policy(&open_to_users("web", 82)), &["--confirm", "60s"]);
    machine.rig.open(&["user -> node: tcp/82"]);
    machine.ringwall(&["rollback"]).done();
    machine.rig.open(&["user -> node: tcp/80"]);
    machine.rig.shut(&["user -> node: tcp/81 tcp/82"]);
}

#[test]
fn an_expired_rule_stays_expired_after_a_reboot() {
    let machine = Machine::start();
    let rule = |day| format!("  - allow: users -> node\n    services: [tcp/80]\n    expires: {day}\n");
    machine.apply(&policy(&(rule("2020-01-01") + &rule("2099-12-31").replace("80", "81"))), &["--no-confirm"]);
    let expected = |rig: &Rig| {
        rig.shut(&["user -> node: tcp/80"]);
        rig.open(&["user -> node: tcp/81"]);
    };
    expected(&machine.rig);
    let machine = machine.reboot();
    machine.ringwall(&["restore"]).done();
    expected(&machine.rig);
}
