//! Who is in the fleet, and with what, is in force on all nodes at once: labels, settings, addresses. Real agents.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringwall_controller::agent::{Agent, Place};
use ringwall_controller::audit::Actor;
use ringwall_controller::change::Change;
use ringwall_controller::core::Waves;
use ringwall_controller::rollout::State;
use ringwall_controller::store::{Read as _, Store as _};
use serde_json::json;

use crate::rig::{Rig, Running, Serving};

impl Rig {
    async fn agent(&self, node: &str) -> Agent {
        let node = node.parse().expect("a name");
        self.store.read().await.expect("a snapshot").agent_of(&node).await.expect("a row").expect("an agent")
    }

    /// What an operator does by the API.
    async fn label(&self, running: &Serving, node: &str, role: &str) {
        let agent = self.agent(node).await;
        let labels = BTreeMap::from([("role".parse().expect("a name"), role.to_owned())]);
        let place = Place { labels, ..agent.place };
        self.change(Change::Place { agent: agent.id, place }).await;
        running.control.agent_changed(agent.id).await.expect("it is known");
    }

    async fn set(&self, running: &Serving, node: &str, value: Option<serde_json::Value>) {
        self.change(Change::Set { node: node.parse().expect("a name"), name: "hosts".parse().expect("a name"), value }).await;
        running.control.refresh();
    }

    /// Whether a connection from one host to another's port comes about; somebody listens there.
    fn reaches(&self, from: &str, to: &str, port: u16) -> bool {
        let at = SocketAddr::new(self.addresses[to], port);
        let from = self.lab.host(from).expect("a host");
        from.run(|| TcpStream::connect_timeout(&at, Duration::from_millis(200)).is_ok()).expect("a host")
    }

    fn listen(&self, host: &'static str, ports: &[u16]) -> Vec<TcpListener> {
        let bind = |port: &u16| {
            let at = SocketAddr::new(self.addresses[host], *port);
            self.lab.host(host).expect("a host").run(|| TcpListener::bind(at)).expect("a host").expect("a port")
        };
        ports.iter().map(bind).collect()
    }

    async fn becomes(&self, what: &str, found: impl Fn() -> bool) {
        self.until(what, async |_| found().then_some(())).await;
    }

    async fn members(&self, nodes: &[(&'static str, &str)]) -> Vec<Running> {
        let mut all = Vec::new();
        for (node, role) in nodes {
            let token = self.token_of(role, 1).await;
            self.enrol(node, &token).await;
            all.push(self.start(node));
        }
        all
    }

    async fn connected(&self, running: &Serving, count: usize) {
        self.until("all agents are connected", async |_| {
            (running.control.connected().await.expect("an answer").len() == count).then_some(())
        })
        .await;
    }
}

const HOSTING: &str = "\
groups:
  agents: { labels: { role: agent } }
  users: { addresses: [198.51.100.9] }
  others: { addresses: [198.51.100.10] }
rules:
  - { allow: users -> agents, services: [ssh] }
";

#[tokio::test(flavor = "multi_thread")]
async fn r000_09_ports_of_a_hosted_api_are_open_while_the_setting_says_so() {
    let hosts = [("agent-1", "192.0.2.11"), ("agent-2", "192.0.2.12"), ("user", "198.51.100.9"), ("other", "198.51.100.10")];
    let rig = Rig::with("hosting", &hosts).await;
    let running = rig.controller().await;
    let _agents = rig.members(&[("agent-1", "agent"), ("agent-2", "agent")]).await;
    rig.connected(&running, 2).await;
    let revision = rig.commit(HOSTING).await;
    rig.roll(&running, revision).await;
    let _listeners = ["agent-1", "agent-2"].map(|node| rig.listen(node, &[22, 443, 8443]));
    assert!(rig.reaches("user", "agent-1", 22) && !rig.reaches("user", "agent-1", 443));

    let begun = Instant::now();
    rig.set(&running, "agent-1", Some(json!({ "services": ["tcp/443", "tcp/8443"], "from": ["users"] }))).await;
    rig.becomes("both ports are open", || rig.reaches("user", "agent-1", 443) && rig.reaches("user", "agent-1", 8443)).await;
    eprintln!("a setting was in force after {} ms", begun.elapsed().as_millis());
    assert!(!rig.reaches("other", "agent-1", 443), "the setting is for users");
    assert!(!rig.reaches("user", "agent-2", 443), "the setting is of the other node");

    // Changed centrally, the node follows.
    rig.set(&running, "agent-1", Some(json!({ "services": ["tcp/8443"], "from": ["users"] }))).await;
    rig.becomes("one port is closed", || !rig.reaches("user", "agent-1", 443)).await;
    assert!(rig.reaches("user", "agent-1", 8443));
    rig.set(&running, "agent-1", None).await;
    rig.becomes("both are closed", || !rig.reaches("user", "agent-1", 8443)).await;
    assert!(rig.reaches("user", "agent-1", 22), "the policy is as before");
}

const GROUP: &str = "\
groups:
  gateways: { labels: { role: gateway } }
  backend: { labels: { role: backend }, may_be_empty: true }
rules:
  - { allow: gateways -> backend, services: [https] }
";

#[tokio::test(flavor = "multi_thread")]
async fn r000_17_a_member_of_a_group_is_reached_while_it_is_one() {
    let hosts = [("gateway", "192.0.2.11"), ("agent-1", "192.0.2.12"), ("agent-2", "192.0.2.13"), ("other", "192.0.2.14")];
    let rig = Rig::with("group", &hosts).await;
    let running = rig.controller().await;
    let roles = [("gateway", "gateway"), ("agent-1", "backend"), ("agent-2", "spare"), ("other", "other")];
    let _agents = rig.members(&roles).await;
    rig.connected(&running, 4).await;
    let revision = rig.commit(GROUP).await;
    rig.roll(&running, revision).await;
    let _listeners = ["gateway", "agent-1", "agent-2", "other"].map(|node| rig.listen(node, &[443]));
    let is = |one: bool, two: bool| {
        let reached = [rig.reaches("gateway", "agent-1", 443), rig.reaches("gateway", "agent-2", 443)];
        // Nobody else ever reaches a member, and no member the gateway.
        for (from, to) in [("other", "agent-1"), ("other", "agent-2"), ("agent-1", "gateway"), ("agent-1", "agent-2"), ("gateway", "other")] {
            assert!(!rig.reaches(from, to, 443), "{from} -> {to}");
        }
        reached == [one, two]
    };
    assert!(is(true, false));
    rig.label(&running, "agent-2", "backend").await;
    rig.becomes("the new member is reached", || is(true, true)).await;
    rig.label(&running, "agent-1", "spare").await;
    rig.becomes("the former member is not", || is(false, true)).await;
    rig.label(&running, "agent-2", "spare").await;
    rig.becomes("nobody is", || is(false, false)).await;
}

/// One primary and two members; each reaches the directory only as the primary.
const ROLES: &str = "\
groups:
  primary: { labels: { role: primary } }
  members: { labels: { role: member } }
  cluster: { groups: [primary, members] }
  users: { addresses: [198.51.100.9] }
  directory: { addresses: [198.51.100.10] }
rules:
  - { allow: users -> cluster, services: [https] }
  - { allow: users -> primary, services: [tcp/3389] }
  - { allow: cluster <-> cluster, services: [tcp/4567] }
  - { allow: primary -> directory, services: [ldaps] }
";

#[tokio::test(flavor = "multi_thread")]
async fn r002_14_a_member_is_promoted_under_traffic() {
    let hosts = [("vault-1", "192.0.2.11"), ("vault-2", "192.0.2.12"), ("vault-3", "192.0.2.13"), ("user", "198.51.100.9"), ("directory", "198.51.100.10")];
    let rig = Rig::with("promotion", &hosts).await;
    let running = rig.controller().await;
    let _agents = rig.members(&[("vault-1", "primary"), ("vault-2", "member"), ("vault-3", "member")]).await;
    rig.connected(&running, 3).await;
    let revision = rig.commit(ROLES).await;
    rig.roll(&running, revision).await;
    let _vaults = ["vault-1", "vault-2", "vault-3"].map(|vault| rig.listen(vault, &[443, 3389, 4444, 4567]));
    let _directory = rig.listen("directory", &[636]);
    let is_promoted = |to: &str, from: &str| {
        rig.reaches("user", to, 3389) && rig.reaches(to, "directory", 636) && !rig.reaches("user", from, 3389) && !rig.reaches(from, "directory", 636)
    };
    assert!(is_promoted("vault-1", "vault-2"));
    let is_done = AtomicBool::new(false);
    let (longest, rounds) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let (mut longest, mut rounds) = (Duration::ZERO, 0);
            while !is_done.load(Ordering::Relaxed) {
                let begun = Instant::now();
                for vault in ["vault-1", "vault-2", "vault-3"] {
                    while !rig.reaches("user", vault, 443) {
                        assert!(begun.elapsed() < Duration::from_secs(10), "{vault} is lost");
                    }
                    assert!(!rig.reaches("user", vault, 4444), "{vault} opens what nobody declared");
                }
                while !rig.reaches("vault-1", "vault-2", 4567) || !rig.reaches("vault-2", "vault-1", 4567) {
                    assert!(begun.elapsed() < Duration::from_secs(10), "the cluster is parted");
                }
                assert!(rig.reaches("user", "vault-1", 3389) || rig.reaches("user", "vault-2", 3389), "nobody is the primary");
                longest = longest.max(begun.elapsed());
                rounds += 1;
            }
            (longest, rounds)
        });
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                // First there are two, so that there is one at each moment.
                rig.label(&running, "vault-2", "primary").await;
                rig.becomes("there are two", || rig.reaches("user", "vault-2", 3389) && rig.reaches("vault-2", "directory", 636)).await;
                rig.label(&running, "vault-1", "member").await;
                rig.becomes("the other is the primary", || is_promoted("vault-2", "vault-1")).await;
            });
        });
        is_done.store(true, Ordering::Relaxed);
        watch.join().expect("what is allowed stays so")
    });
    eprintln!("{rounds} rounds over all paths, the longest {} ms", longest.as_millis());
    assert!(rounds > 0);
}

/// What would not compile leaves all as it is, and is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_membership_with_which_the_policy_is_wrong_changes_nothing_and_is_told() {
    let rig = Rig::with("wrong", &[("web-1", "192.0.2.11"), ("user", "198.51.100.9")]).await;
    let running = rig.controller().await;
    let _agents = rig.members(&[("web-1", "web")]).await;
    rig.connected(&running, 1).await;
    let policy = "groups:\n  web: { labels: { role: web } }\n  users: { addresses: [198.51.100.9] }\nrules:\n  - { allow: users -> web, services: [http] }\n";
    let revision = rig.commit(policy).await;
    rig.roll(&running, revision).await;
    let _listeners = rig.listen("web-1", &[80]);
    let before = rig.nft("web-1", &["list", "table", "inet", "ringwall"]).contains("g1_");
    rig.label(&running, "web-1", "spare").await;
    rig.until("it is told", async |store| {
        let events = store.read().await.ok()?.events(Default::default(), 100).await.ok()?.events;
        events.iter().any(|event| event.kind == "uncompiled" && event.body["why"].as_str().is_some_and(|why| why.contains("web"))).then_some(())
    })
    .await;
    assert!(rig.reaches("user", "web-1", 80));
    assert_eq!(rig.nft("web-1", &["list", "table", "inet", "ringwall"]).contains("g1_"), before);
    // Back as it was, and on: the next rollout compiles.
    rig.label(&running, "web-1", "web").await;
    let revision = rig.commit(&policy.replace("[http]", "[http, https]")).await;
    running.control.start_rollout(Actor::Local("root".into()), revision, Waves::default()).await.expect("it compiles");
    assert_eq!(rig.over().await, State::Done);
}
