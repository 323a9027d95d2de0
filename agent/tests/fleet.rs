//! A fleet of real agents: enrolled, told what to enforce, disturbed, killed, left alone.

use std::path::Path;
use std::time::Instant;

use ringwall_controller::audit::Actor;
use ringwall_controller::core::Waves;
use ringwall_controller::rollout::State;
use ringwall_controller::store::{Read as _, Store as _};

use crate::rig::{AGENT, Rig};

const POLICY: &str = "\
groups:
  web: { labels: { role: web } }
  users: { addresses: [198.51.100.9] }
rules:
  - { allow: users -> web, services: [http] }
";

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_enforces_heals_and_outlives_its_controller() {
    assert!(Path::new(AGENT).exists());
    let rig = Rig::new("whole").await;
    let running = rig.controller().await;
    let token = rig.token(2).await;
    for node in ["web-1", "web-2"] {
        rig.enrol(node, &token).await;
    }
    let (_first, mut second) = (rig.start("web-1"), rig.start("web-2"));
    rig.all_are_connected(&running).await;
    assert!(rig.is_open("web-1", 81).await, "nothing is enforced before there is a policy");
    let revision = rig.commit(POLICY).await;
    rig.roll(&running, revision).await;
    rig.is_as_declared(&[80]).await;

    // Somebody takes the rules out: they are back, and who it was is known.
    rig.nft("web-1", &["delete", "table", "inet", "ringwall"]);
    rig.until("the change is told", async |store| {
        let events = store.read().await.ok()?.events(Default::default(), 100).await.ok()?.events;
        let is_it = |body: &serde_json::Value| body["process"] == "nft" && body["outcome"] == "healed";
        events.iter().any(|event| event.kind == "drift" && is_it(&event.body)).then_some(())
    })
    .await;
    rig.is_as_declared(&[80]).await;

    // An agent that is killed leaves its rules, and comes back to them.
    second.0.kill().expect("it is killed");
    second.0.wait().expect("it ends");
    rig.is_as_declared(&[80]).await;
    let _second = rig.start("web-2");
    rig.all_are_connected(&running).await;

    // So does the controller.
    drop(running);
    rig.is_as_declared(&[80]).await;
    let running = rig.controller().await;
    rig.all_are_connected(&running).await;
    let revision = rig.commit(&POLICY.replace("[http]", "[http, tcp/81]")).await;
    let begun = Instant::now();
    rig.roll(&running, revision).await;
    eprintln!("a change was on both nodes after {} ms, in two waves", begun.elapsed().as_millis());
    rig.is_as_declared(&[80, 81]).await;
}

/// A policy may want changes of others told and left alone; that it no longer wants it is a change for every node.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_change_is_left_alone_where_the_policy_says_so() {
    let rig = Rig::new("manner").await;
    let running = rig.controller().await;
    let token = rig.token(2).await;
    for node in ["web-1", "web-2"] {
        rig.enrol(node, &token).await;
    }
    let _agents = (rig.start("web-1"), rig.start("web-2"));
    rig.all_are_connected(&running).await;
    let revision = rig.commit(&format!("on_drift: report\n{POLICY}")).await;
    rig.roll(&running, revision).await;
    rig.nft("web-1", &["delete", "table", "inet", "ringwall"]);
    let told = async |outcome: &str| {
        rig.until(&format!("the change is {outcome}"), async |store| {
            let events = store.read().await.ok()?.events(Default::default(), 100).await.ok()?.events;
            events.iter().any(|event| event.kind == "drift" && event.body["outcome"] == outcome).then_some(())
        })
        .await;
    };
    told("reported").await;
    assert!(rig.is_open("web-1", 81).await, "it is left alone");
    let revision = rig.commit(POLICY).await;
    rig.roll(&running, revision).await;
    rig.is_as_declared(&[80]).await;
    rig.nft("web-1", &["delete", "table", "inet", "ringwall"]);
    told("healed").await;
    rig.is_as_declared(&[80]).await;
}

/// A policy that cuts the nodes off from their controller.
const CUT_OFF: &str = "\
groups:
  web: { labels: { role: web } }
  users: { addresses: [198.51.100.9] }
rules:
  - { allow: users -> web, services: [http, tcp/81] }
  - { deny: web -> any }
";

fn by_hand() -> Actor {
    Actor::Local("root".into())
}

#[tokio::test(flavor = "multi_thread")]
async fn rx_02_a_policy_that_cuts_the_controller_is_rolled_back_and_reported() {
    let rig = Rig::new("rx02").await;
    let running = rig.controller().await;
    let token = rig.token(2).await;
    for node in ["web-1", "web-2"] {
        rig.enrol(node, &token).await;
    }
    let _agents = (rig.start("web-1"), rig.start("web-2"));
    rig.all_are_connected(&running).await;
    let good = rig.commit(POLICY).await;
    rig.roll(&running, good).await;
    let bad = rig.commit(CUT_OFF).await;
    running.control.start_rollout(by_hand(), bad, Waves { window: 5, ..Waves::default() }).await.expect("a rollout");
    let State::Stopped { reason, rolled_back: true } = rig.over().await else { panic!("it is rolled back") };
    assert!(reason.starts_with("web-1: "), "{reason}");
    rig.all_are_connected(&running).await;
    rig.is_as_declared(&[80]).await;
    assert_eq!(rig.enforces("web-2").await, Some(good), "the second node never had it");
}

#[tokio::test(flavor = "multi_thread")]
async fn rx_03_a_node_that_was_away_comes_back_to_the_last_revision() {
    let rig = Rig::new("rx03").await;
    let running = rig.controller().await;
    let token = rig.token(2).await;
    for node in ["web-1", "web-2"] {
        rig.enrol(node, &token).await;
    }
    let (_first, second) = (rig.start("web-1"), rig.start("web-2"));
    rig.all_are_connected(&running).await;
    let revision = rig.commit(POLICY).await;
    rig.roll(&running, revision).await;
    drop(second);
    rig.until("it is missed", async |_| (running.control.connected().await.expect("an answer").len() == 1).then_some(())).await;
    // Five revisions; a rollout ends without the one that is away, once that had the time of a trial.
    let mut last = revision;
    for port in 82..87 {
        last = rig.commit(&POLICY.replace("[http]", &format!("[http, tcp/81, tcp/{port}]"))).await;
        running.control.start_rollout(by_hand(), last, Waves { window: 5, ..Waves::default() }).await.expect("a rollout");
        rig.until("the one that is there has it", async |_| (rig.enforces("web-1").await == Some(last)).then_some(())).await;
        if port < 86 {
            running.control.roll_back(by_hand(), "the next one follows".into()).await.expect("it is under way");
            rig.over().await;
            rig.until("it is back", async |_| (rig.enforces("web-1").await == Some(revision)).then_some(())).await;
        }
    }
    let _second = rig.start("web-2");
    rig.until("it has the last one", async |_| (rig.enforces("web-2").await == Some(last)).then_some(())).await;
    assert_eq!(rig.over().await, State::Done);
    rig.is_as_declared(&[80, 81]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rx_04_nodes_enforce_without_a_controller_and_rx_05_all_changes_are_in_the_audit_log() {
    let rig = Rig::new("rx04").await;
    let running = rig.controller().await;
    let token = rig.token(2).await;
    for node in ["web-1", "web-2"] {
        rig.enrol(node, &token).await;
    }
    let (first, second) = (rig.start("web-1"), rig.start("web-2"));
    rig.all_are_connected(&running).await;
    let revision = rig.commit(POLICY).await;
    rig.roll(&running, revision).await;
    // But for the marks of probes, which come and go.
    let rules = |node: &str| {
        let text = rig.nft(node, &["-s", "list", "table", "inet", "ringwall"]);
        let blocks = text.split("\n\n").filter(|block| !block.trim_start().starts_with("set probe_"));
        blocks.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = rules("web-1");
    drop(running);
    drop((first, second));
    let _agents = (rig.start("web-1"), rig.start("web-2"));
    rig.is_as_declared(&[80]).await;
    assert_eq!(rules("web-1"), before, "an agent that starts without a controller leaves what is there");
    // Also after a reboot: nothing of it is left in the kernel, and the agent finds it on its disk.
    rig.nft("web-1", &["delete", "table", "inet", "ringwall"]);
    rig.until("it is enforced again", async |_| (!rig.is_open("web-1", 81).await).then_some(())).await;
    rig.is_as_declared(&[80]).await;

    let log = rig.store.read().await.expect("a snapshot").audit(Default::default(), 1_000).await.expect("rows");
    let changes = |name: &str| log.iter().filter(|entry| entry.change == name).count();
    for (name, least) in [("found", 1), ("create_token", 1), ("enrol", 2), ("commit", 1), ("start_rollout", 1), ("assign", 2), ("step_rollout", 2)] {
        assert!(changes(name) >= least, "{name}: {}", changes(name));
    }
    let step = log.iter().find(|entry| entry.change == "step_rollout").expect("an entry");
    assert_eq!(step.who, Actor::Controller);
    assert!(step.before.is_some() && step.after.is_some() && step.before != step.after);
}
