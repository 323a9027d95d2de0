//! The controller has every declared path probed by the agents at its ends. Real agents, real packets.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::{Duration, Instant};

use ringwall_controller::audit::Actor;
use ringwall_controller::core::{Path, Waves, target};
use ringwall_controller::rollout::State;
use ringwall_controller::store::{Read as _, Store as _};
use ringwall_probe::{Conclusion, Disposition};
use serde_json::Value;

use crate::rig::{AGENT, Rig, Running, Serving};

const POLICY: &str = "\
groups:
  web: { labels: { role: web } }
  db: { labels: { role: db } }
  users: { addresses: [198.51.100.9] }
rules:
  - { allow: users -> web, services: [http] }
  - { id: storage, allow: web -> db, services: [tcp/5432, udp/5353] }
";

/// What another program's table does to a declared path.
const DROP: &str = "add table inet other; add chain inet other in { type filter hook input priority 10; }; add rule inet other in tcp dport 5432 drop";

/// Two of a role, one of another, all enrolled and connected.
struct Fleet {
    rig: Rig,
    running: Serving,
    agents: Vec<Running>,
}

impl Rig {
    /// With no more capabilities than packaging/systemd/ringwall-agent.service gives.
    fn start_as_its_unit_does(&self, node: &str) -> Running {
        let unit = include_str!("../../packaging/systemd/ringwall-agent.service");
        let granted = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).expect("the unit names them");
        let granted: String = granted.split_whitespace().map(|name| format!(",+{}", name.trim_start_matches("CAP_").to_lowercase())).collect();
        let mut command = self.lab.host(node).expect("a host").command("setpriv");
        command.args([&format!("--bounding-set=-all{granted}"), "--no-new-privs", AGENT, "run"]);
        Running(command.stderr(Stdio::null()).spawn().expect("the agent runs"))
    }
}

impl Fleet {
    async fn new(name: &str) -> Self {
        let hosts = [("web-1", "192.0.2.11"), ("web-2", "192.0.2.12"), ("db-1", "192.0.2.21"), ("user", "198.51.100.9")];
        let rig = Rig::with(name, &hosts).await;
        let running = rig.controller().await;
        let mut agents = Vec::new();
        for (node, role) in [("web-1", "web"), ("web-2", "web"), ("db-1", "db")] {
            let token = rig.token_of(role, 1).await;
            rig.enrol(node, &token).await;
            agents.push(rig.start_as_its_unit_does(node));
        }
        let fleet = Self { rig, running, agents };
        fleet.rig.until("all are connected", async |_| (fleet.running.control.connected().await.expect("an answer").len() == 3).then_some(())).await;
        fleet
    }

    /// `web-1 -> db-1 5432/tcp open`, with what was found, of all paths; and whether each one was looked at.
    async fn lines(&self) -> Option<Vec<(String, Path)>> {
        let found = self.running.control.paths(|declared, paths| {
            let line = |(case, path): (&ringwall_analysis::probes::Case, &Path)| {
                let expected = if path.is_expected_open { "open" } else { "closed" };
                (format!("{} -> {} {} {expected}", case.source_name, case.destination_name, target(case)), path.clone())
            };
            declared.matrix.cases.iter().zip(paths).map(line).collect()
        });
        found.await.expect("an answer")
    }

    async fn all_are_looked_at(&self) -> Vec<(String, Path)> {
        // From each node to each other one in the end, and of those from the user's machine none.
        let is_seen = |(line, path): &(String, Path)| line.starts_with("user") || line.starts_with("a stranger") || path.finding.as_ref().is_some_and(|finding| finding.conclusion == Conclusion::AsDeclared);
        let begun = Instant::now();
        self.rig.until("all paths are as declared", async |_| {
            let lines = self.lines().await?;
            let is_done = lines.iter().all(is_seen);
            if begun.elapsed() > Duration::from_secs(50) && !is_done {
                let odd: Vec<_> = lines.into_iter().filter(|line| !is_seen(line)).collect();
                panic!("{odd:#?}");
            }
            is_done.then_some(())
        })
        .await;
        self.lines().await.expect("paths")
    }

    fn listen(&self, host: &'static str, port: u16) -> TcpListener {
        let at = SocketAddr::new(self.rig.addresses[host], port);
        self.rig.lab.host(host).expect("a host").run(|| TcpListener::bind(at)).expect("a host").expect("a port")
    }

    async fn events(&self) -> Vec<Value> {
        let page = self.rig.store.read().await.expect("a snapshot").events(Default::default(), 1_000).await.expect("rows");
        page.events.into_iter().filter(|event| event.kind == "path").map(|event| event.body).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_matrix_of_three_nodes_is_right_and_a_path_that_changes_is_an_event() {
    let fleet = Fleet::new("matrix").await;
    let _service = fleet.listen("db-1", 5432);
    let revision = fleet.rig.commit(POLICY).await;
    fleet.rig.roll(&fleet.running, revision).await;
    let lines = fleet.all_are_looked_at().await;
    for (line, is_served) in [("web-1 -> db-1 5432/tcp open", true), ("web-2 -> db-1 5432/tcp open", true), ("web-1 -> db-1 5353/udp open", false)] {
        let (_, path) = lines.iter().find(|(found, _)| found == line).unwrap_or_else(|| panic!("{line} in {lines:#?}"));
        let known = path.known.expect("it is known");
        assert_eq!((known.disposition, known.is_served), (Disposition::Open, is_served), "{line}: {path:#?}");
    }
    let closed = lines.iter().filter(|(line, path)| line.ends_with("closed") && path.finding.is_some());
    let closed: Vec<_> = closed.map(|(line, path)| (line, path.known.expect("it is known").disposition)).collect();
    assert!(closed.len() >= 12 && closed.iter().all(|(_, found)| *found == Disposition::Rejected), "{closed:#?}");
    assert_eq!(fleet.events().await, [] as [Value; 0], "nothing has changed");

    // Somebody else's table closes a path: both ends, the rule and the table are named.
    fleet.rig.nft("db-1", &[DROP]);
    fleet.running.control.look_again(Some("db-1".parse().expect("a name"))).await.expect("an answer");
    fleet.rig.until("it is an event", async |_| (!fleet.events().await.is_empty()).then_some(())).await;
    let events = fleet.events().await;
    let event = &events[0];
    assert_eq!((&event["before"], &event["after"], &event["expected"]), (&"open".into(), &"dropped".into(), &"open".into()), "{event:#}");
    assert_eq!((&event["destination"], &event["flow"]), (&"db-1".into(), &"5432/tcp".into()), "{event:#}");
    assert_eq!(event["rule"], "storage (policy.yaml:7)", "{event:#}");
    assert!(event["decided_by"].as_str().is_some_and(|by| by.contains("foreign table `other`")), "{event:#}");
    assert!(events.iter().all(|event| event["flow"] == "5432/tcp"), "{events:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_breaks_a_working_path_goes_back_by_itself_and_names_it() {
    let fleet = Fleet::new("breaks").await;
    let _service = fleet.listen("db-1", 5432);
    let first = fleet.rig.commit(POLICY).await;
    fleet.rig.roll(&fleet.running, first).await;
    fleet.all_are_looked_at().await;

    let second = fleet.rig.commit(&POLICY.replace("[tcp/5432,", "[tcp/5433, tcp/5432,")).await;
    let waves = Waves { canary: ["db-1".parse().expect("a name")].into(), ..Waves::default() };
    let breaking = async {
        // Once it is on its way, before its nodes have confirmed it.
        fleet.rig.until("the wave is given out", async |store| {
            let assignments = store.read().await.ok()?.assignments().await.ok()?;
            assignments.iter().any(|assignment| assignment.revision == second).then_some(())
        }).await;
        fleet.rig.nft("db-1", &[DROP]);
    };
    let rollout = fleet.running.control.start_rollout(Actor::Local("root".into()), second, waves);
    let (rollout, ()) = tokio::join!(rollout, breaking);
    rollout.expect("it begins");
    let State::Stopped { reason, rolled_back: true } = fleet.rig.over().await else { panic!("it goes back") };
    assert!(reason.starts_with("a path that worked does not: web-1 (192.0.2.11) -> db-1 (192.0.2.21), 5432/tcp: dropped"), "{reason}");
    assert!(reason.contains("foreign table `other`"), "{reason}");
    assert_eq!(fleet.rig.enforces("web-2").await, Some(first), "the others never had it");
    fleet.rig.until("db-1 is back", async |_| (fleet.rig.enforces("db-1").await == Some(first)).then_some(())).await;

    let stopped = fleet.lines().await.expect("paths");
    let dropped = stopped.iter().filter(|(line, path)| line.ends_with("5432/tcp open") && path.known.is_some_and(|known| known.disposition == Disposition::Dropped));
    assert_eq!(dropped.count(), 2, "{stopped:#?}");

    // It is in the way still: what did not work before stops nobody.
    let third = fleet.rig.commit(&POLICY.replace("[tcp/5432,", "[tcp/5434, tcp/5432,")).await;
    fleet.rig.roll(&fleet.running, third).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_during_which_a_service_dies_goes_back_and_one_with_nobody_to_ask_goes_on() {
    let fleet = Fleet::new("dies").await;
    let service = fleet.listen("db-1", 5432);
    let first = fleet.rig.commit(POLICY).await;
    fleet.rig.roll(&fleet.running, first).await;
    fleet.all_are_looked_at().await;
    let second = fleet.rig.commit(&POLICY.replace("[tcp/5432,", "[tcp/5433, tcp/5432,")).await;
    let waves = Waves { canary: ["db-1".parse().expect("a name")].into(), ..Waves::default() };
    let dying = async {
        fleet.rig.until("the wave is given out", async |store| {
            let assignments = store.read().await.ok()?.assignments().await.ok()?;
            assignments.iter().any(|assignment| assignment.revision == second).then_some(())
        }).await;
        drop(service);
    };
    let (rollout, ()) = tokio::join!(fleet.running.control.start_rollout(Actor::Local("root".into()), second, waves), dying);
    rollout.expect("it begins");
    let State::Stopped { reason, rolled_back: true } = fleet.rig.over().await else { panic!("it goes back") };
    assert!(reason.contains("5432/tcp: nobody answers any more"), "{reason}");

    // Only one end of each path is a node.
    let alone = "\
groups:
  web: { labels: { role: web } }
  db: { labels: { role: db } }
  users: { addresses: [198.51.100.9] }
rules:
  - { allow: users -> web, services: [http] }
  - { allow: users -> db, services: [tcp/5432] }
";
    let third = fleet.rig.commit(alone).await;
    fleet.rig.roll(&fleet.running, third).await;
    assert!(!fleet.agents.is_empty());
}
