//! A fleet of real agents in a laboratory: enrolled, told what to enforce, disturbed, killed, left alone.
//!
//! The controller's ports are sockets of its own host; everything else of it is this process. Root, nft.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringwall_controller::audit::{Actor, Audited};
use ringwall_controller::change::{Change, Write, Written};
use ringwall_controller::core::Waves;
use ringwall_controller::fleet::Fleet;
use ringwall_controller::id::{Digest, Epoch, FleetId, NodeName, RevisionNumber, TokenId};
use ringwall_controller::identity::{self, Authority, Invitation, Secret};
use ringwall_controller::revision::{Content, NewRevision, Source};
use ringwall_controller::rollout::State;
use ringwall_controller::server::{self, Agents, Control};
use ringwall_controller::store::{Keep, Read as _, Sqlite, Store as _};
use ringwall_controller::system::{fill, now, random};
use ringwall_controller::token::{Terms, Token};
use ringwall_lab::{Lab, Topology};

const AGENT: &str = env!("CARGO_BIN_EXE_ringwall-agent");
const CONTROLLER: &str = "192.0.2.1:7443";
const POLICY: &str = "\
groups:
  web: { labels: { role: web } }
  users: { addresses: [198.51.100.9] }
rules:
  - { allow: users -> web, services: [http] }
";

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A child that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The controller while it runs.
struct Serving {
    control: Control<Sqlite>,
    task: tokio::task::JoinHandle<std::io::Error>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Rig {
    lab: Lab,
    store: Arc<Sqlite>,
    authority: Arc<Authority>,
    _folder: Folder,
}

impl Rig {
    async fn new(name: &str) -> Self {
        let nodes = [
            ("controller", vec![address("192.0.2.1")]),
            ("web-1", vec![address("192.0.2.11")]),
            ("web-2", vec![address("192.0.2.12")]),
            ("user", vec![address("198.51.100.9")]),
        ];
        let lab = Lab::start(&Topology::star("router", [address("192.0.2.254")], nodes)).expect("a laboratory");
        let path = std::env::temp_dir().join(format!("ringwall-fleet-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder");
        let store = Arc::new(Sqlite::open(&path.join("store.db"), Keep::default()).await.expect("a store"));
        let authority = Arc::new(identity::open(&path, None, FleetId::new(random()), now()).expect("a CA"));
        let rig = Self { lab, store, authority, _folder: Folder(path) };
        let fleet = Fleet { id: rig.authority.fleet(), epoch: Epoch(1), ca: rig.authority.fingerprint(), created: now() };
        rig.change(Change::Found(fleet)).await;
        rig
    }

    async fn change(&self, change: Change) -> Written {
        let part = Write::Change(Audited { who: Actor::Local("root".into()), at: now(), change });
        self.store.write(vec![part]).await.expect("it is kept").remove(0)
    }

    async fn controller(&self) -> Serving {
        let control = server::drive(self.store.clone(), now, vec![CONTROLLER.parse().expect("an address")]).await.expect("the core");
        let name = "controller".parse().expect("a name");
        let own = self.authority.own(&name, &["192.0.2.1".to_owned()], now(), random()).expect("a certificate");
        let acceptor = server::acceptor(&self.authority, &own).expect("TLS");
        let listener = self.lab.host("controller").expect("a host").run(|| TcpListener::bind(CONTROLLER)).expect("a host");
        let listener = listener.expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
        let agents = Agents::new(self.store.clone(), self.authority.clone(), control.clone(), now, fill);
        let task = tokio::spawn(server::serve(listener, agents, move || acceptor.clone()));
        Serving { control, task }
    }

    async fn token(&self, uses: u32) -> String {
        let secret = Secret::new(random());
        let terms = Terms {
            uses: NonZeroU32::new(uses).expect("not 0"),
            expires: now().after(Duration::from_secs(600)),
            node: None,
            site: None,
            labels: [("role".parse().expect("a name"), "web".to_owned())].into(),
            location: None,
            prefixes: vec!["192.0.2.0/24".parse().expect("a prefix")],
            needs_approval: false,
        };
        let digest = Digest(secret.digest());
        let token = Token { id: TokenId::new(random()), secret: digest, terms, created: now(), used: 0, revoked: None };
        self.change(Change::CreateToken(token)).await;
        Invitation::new(secret, self.authority.fingerprint().0, vec![CONTROLLER.into()]).expect("a word").to_string()
    }

    /// Runs in a thread of its own, since it waits for a server that is in this process.
    async fn enrol(&self, node: &str, token: &str) {
        let mut command = self.lab.host(node).expect("a host").command(AGENT);
        command.args(["enrol", token, "--node", node]).stdout(Stdio::null());
        let status = tokio::task::spawn_blocking(move || command.status()).await.expect("a thread").expect("the agent runs");
        assert!(status.success(), "{node}: {status}");
    }

    fn start(&self, node: &str) -> Running {
        let mut command = self.lab.host(node).expect("a host").command(AGENT);
        Running(command.arg("run").stderr(Stdio::null()).spawn().expect("the agent runs"))
    }

    async fn commit(&self, policy: &str) -> RevisionNumber {
        let content = Content { files: [("policy.yaml".to_owned(), policy.to_owned())].into(), ..Content::default() };
        let new = NewRevision { content, author: "a test".into(), message: "a change".into(), source: Source::Cli };
        match self.change(Change::Commit(new)).await {
            Written::Revision(number) => number,
            other => panic!("a revision, not {other:?}"),
        }
    }

    async fn until(&self, what: &str, found: impl AsyncFn(&Sqlite) -> Option<()>) {
        let looking = async {
            while found(&self.store).await.is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), looking).await.is_err() {
            let mut read = self.store.read().await.expect("a snapshot");
            let (rollouts, assignments) = (read.rollouts(None, 2).await, read.assignments().await);
            panic!("not in time: {what}: {rollouts:#?} {assignments:#?}");
        }
    }

    async fn roll(&self, running: &Serving, revision: RevisionNumber) {
        running.control.start_rollout(Actor::Local("root".into()), revision, Waves::default()).await.expect("a rollout");
        self.until("the rollout is done", async |store| {
            let rollouts = store.read().await.ok()?.rollouts(None, 1).await.ok()?;
            assert!(!matches!(rollouts[0].state, State::Stopped { .. } | State::RollingBack { .. }), "{:#?}", rollouts[0]);
            (rollouts[0].revision == revision && rollouts[0].state == State::Done).then_some(())
        })
        .await;
    }

    async fn all_are_connected(&self, running: &Serving) {
        let all = ["web-1", "web-2"].map(|name| name.parse::<NodeName>().expect("a name")).into();
        self.until("all agents are connected", async |_| (running.control.connected().await.expect("an answer") == all).then_some(())).await;
    }

    /// Whether the user gets a connection to the node's port.
    async fn is_open(&self, node: &'static str, port: u16) -> bool {
        let to = SocketAddr::new(address(if node == "web-1" { "192.0.2.11" } else { "192.0.2.12" }), port);
        let listener = self.lab.host(node).expect("a host").run(|| TcpListener::bind(to)).expect("a host").expect("a port");
        let connected = self.lab.host("user").expect("a host").run(|| TcpStream::connect_timeout(&to, Duration::from_millis(300)).is_ok());
        drop(listener);
        connected.expect("a host")
    }

    async fn is_as_declared(&self, opened: &[u16]) {
        for node in ["web-1", "web-2"] {
            for port in [80, 81] {
                assert_eq!(self.is_open(node, port).await, opened.contains(&port), "{node}: {port}");
            }
        }
    }

    /// The newest rollout's state, once it is over.
    async fn over(&self) -> State {
        let mut state = None;
        let found = async {
            while state.is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
                let rollouts = self.store.read().await.expect("a snapshot").rollouts(None, 1).await.expect("rows");
                state = rollouts.into_iter().map(|rollout| rollout.state).find(State::is_final);
            }
        };
        tokio::time::timeout(Duration::from_secs(60), found).await.expect("it is over in time");
        state.expect("it is over")
    }

    /// The number of the revision that a node's newest confirmed assignment is of.
    async fn enforces(&self, node: &str) -> Option<RevisionNumber> {
        let name: NodeName = node.parse().expect("a name");
        let newest = self.store.read().await.ok()?.assignments().await.ok()?.into_iter().rfind(|newest| newest.node == name)?;
        (newest.state == ringwall_controller::assignment::State::Confirmed).then_some(newest.revision)
    }

    fn nft(&self, node: &str, command: &[&str]) -> String {
        self.lab.host(node).expect("a host").output("nft", command, "").expect("nft runs")
    }
}

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
    let rules = |node: &str| rig.nft(node, &["-s", "list", "table", "inet", "ringwall"]);
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
