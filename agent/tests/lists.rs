//! Blocks on real nodes, from the controller's door to the kernel, and what stays when somebody is gone.

use std::time::Duration;

use ipnet::IpNet;
use ringwall_controller::core::Accepted;
use ringwall_controller::id::ListName;
use ringwall_controller::store::{Read as _, Store as _};

use crate::rig::{Rig, Running, Serving};

const POLICY: &str = "\
protected: [198.51.100.200]
groups:
  web: { labels: { role: web } }
  users: { addresses: [198.51.100.9] }
rules:
  - { allow: users -> web, services: [http] }
";
const USER: &str = "198.51.100.9/32";

fn blocks() -> ListName {
    "blocks".parse().expect("a name")
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

impl Rig {
    async fn fleet(&self, running: &Serving) -> Vec<Running> {
        let token = self.token(2).await;
        let mut all = Vec::new();
        for node in ["web-1", "web-2"] {
            self.enrol(node, &token).await;
            all.push(self.start(node));
        }
        self.all_are_connected(running).await;
        let revision = self.commit(POLICY).await;
        self.roll(running, revision).await;
        all
    }

    async fn block(&self, running: &Serving, added: &[(&str, Option<u64>)], removed: &[&str]) -> Accepted {
        let added = added.iter().map(|(text, seconds)| (net(text), seconds.map(Duration::from_secs))).collect();
        let removed = removed.iter().map(|text| net(text)).collect();
        running.control.change_list(blocks(), added, removed).await.expect("it is taken")
    }

    /// Waits until all nodes have said that their kernels have it.
    async fn covers(&self, running: &Serving, revision: u64) {
        self.until("all nodes have the list", async |_| {
            let coverage = running.control.coverage(blocks(), revision).await.ok()??;
            (coverage.on == 2 && coverage.of == 2).then_some(())
        })
        .await;
    }

    /// What a node's kernel has of a set, as nft lists it.
    fn has(&self, node: &str, element: &str) -> bool {
        let listed = self.nft(node, &["list", "set", "inet", "ringwall_blocks", "block4"]);
        listed.split([' ', ',', '\n', '\t']).any(|word| word == element)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_blocked_is_so_on_all_nodes_and_whoever_is_gone() {
    let rig = Rig::new("blocks").await;
    let running = rig.controller().await;
    let mut agents = rig.fleet(&running).await;
    rig.is_as_declared(&[80]).await;

    let accepted = rig.block(&running, &[(USER, Some(600)), ("203.0.113.1/32", None)], &[]).await;
    rig.covers(&running, accepted.revision).await;
    rig.is_as_declared(&[]).await;

    // Without a controller it stays, and its time goes on.
    drop(running);
    rig.is_as_declared(&[]).await;
    let listed = rig.nft("web-1", &["list", "set", "inet", "ringwall_blocks", "block4"]);
    assert!(listed.contains("198.51.100.9 timeout ") && listed.contains(" expires 9m"), "{listed}");

    // One that knows no lists takes none out; one that does counts for all of it, from its first word on.
    let running = rig.controller().await;
    rig.all_are_connected(&running).await;
    rig.is_as_declared(&[]).await;
    let accepted = rig.block(&running, &[(USER, None)], &[]).await;
    rig.covers(&running, accepted.revision).await;
    rig.is_as_declared(&[]).await;
    for node in ["web-1", "web-2"] {
        assert!(!rig.has(node, "203.0.113.1"), "{node} has what no list has any more");
    }

    // An agent is killed, and meanwhile one block is lifted and another comes.
    let accepted = rig.block(&running, &[("203.0.113.2/32", None), ("203.0.113.3/32", None)], &[]).await;
    rig.covers(&running, accepted.revision).await;
    let mut killed = agents.pop().expect("two of them");
    killed.0.kill().expect("it is killed");
    killed.0.wait().expect("it ends");
    let accepted = rig.block(&running, &[("203.0.113.4/32", None)], &["203.0.113.2/32"]).await;
    let coverage = running.control.coverage(blocks(), accepted.revision).await.expect("the core").expect("the list");
    assert!(coverage.late.contains(&"web-2".parse().expect("a name")), "{coverage:?}");
    assert!(rig.has("web-2", "203.0.113.2") && rig.has("web-2", "203.0.113.3"));
    agents.push(rig.start("web-2"));
    rig.covers(&running, accepted.revision).await;
    assert!(!rig.has("web-2", "203.0.113.2"), "a removal was missed");
    assert!(rig.has("web-2", "203.0.113.3") && rig.has("web-2", "203.0.113.4"));
    rig.is_as_declared(&[]).await;

    // Lifted, on all of them.
    let accepted = rig.block(&running, &[], &[USER]).await;
    rig.covers(&running, accepted.revision).await;
    rig.is_as_declared(&[80]).await;
}

/// While an agent that ran before is gone, elements are in the kernel that the list still has: at no time are they not.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_is_in_force_while_an_agent_begins_anew() {
    let rig = Rig::new("anew").await;
    let running = rig.controller().await;
    let mut agents = rig.fleet(&running).await;
    let many: Vec<(IpNet, Option<Duration>)> = (0..30_000u32).map(|last| (IpNet::from(std::net::IpAddr::from(std::net::Ipv4Addr::from_bits(0x0b00_0000 + last))), None)).collect();
    let accepted = running.control.change_list(blocks(), many, Vec::new()).await.expect("it is taken");
    rig.covers(&running, accepted.revision).await;
    let accepted = rig.block(&running, &[(USER, None)], &[]).await;
    rig.covers(&running, accepted.revision).await;
    let mut killed = agents.pop().expect("two of them");
    killed.0.kill().expect("it is killed");
    killed.0.wait().expect("it ends");
    let accepted = rig.block(&running, &[], &["11.0.0.7/32"]).await;
    assert!(rig.has("web-2", "11.0.0.7"));
    agents.push(rig.start("web-2"));
    let covered = rig.covers(&running, accepted.revision);
    let looking = async {
        loop {
            assert!(!rig.is_open("web-2", 80).await, "who is blocked came through while the agent began anew");
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = covered => {}
        () = looking => {}
    }
    assert!(!rig.has("web-2", "11.0.0.7"), "a removal was missed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_blocked_is_refused_and_the_rest_is_in_force() {
    let rig = Rig::new("refused").await;
    let running = rig.controller().await;
    let _agents = rig.fleet(&running).await;
    let wrong = ["0.0.0.0/0", "192.0.2.11/32", "192.0.2.0/24", "192.0.2.1/32", "198.51.100.200/32", "127.0.0.1/32"];
    for text in wrong {
        let refused = running.control.change_list(blocks(), vec![(net(text), None)], Vec::new()).await;
        assert!(refused.is_err_and(|error| error.to_string().contains(text)), "{text}");
    }
    let all: Vec<_> = wrong.iter().map(|text| (*text, None)).chain([(USER, None)]).collect();
    let accepted = rig.block(&running, &all, &[]).await;
    assert_eq!(accepted.refused, wrong.len());
    rig.covers(&running, accepted.revision).await;
    rig.is_as_declared(&[]).await;
    rig.all_are_connected(&running).await;
    // A node's own agent holds back what this controller could not know of.
    let own = running.control.change_list(blocks(), vec![(net("198.51.100.0/24"), None)], vec![net(USER)]).await;
    assert!(own.is_err() || own.is_ok_and(|accepted| accepted.refused == 1), "it covers a protected address");
    let events = rig.store.read().await.expect("a snapshot").events(Default::default(), 100).await.expect("rows").events;
    assert!(!events.iter().any(|event| event.kind == "list_refused"), "nodes refuse nothing that the door took");
}
